//! No peer outlives the harness, however the harness ends.
//!
//! Dropping a [`Peer`](crate::Peer) kills it. That is not enough: a case that overruns its
//! deadline is stuck in some thread, and a harness that is itself killed drops nothing. So
//! the process groups that are alive are kept here, and told to a small shell whose standard
//! input ends when we do.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};

const GUARDIAN: &str = r#"
trap '' INT TERM HUP
live=" "
while read -r word group; do
    case $word in
    add) live="$live$group " ;;
    del) rest=" "
         for g in $live; do [ "$g" = "$group" ] || rest="$rest$g "; done
         live=$rest ;;
    esac
done
for g in $live; do kill -KILL -- "-$g" 2>/dev/null; done
"#;

struct Guard {
    groups: BTreeSet<i32>,
    guardian: Option<ChildStdin>,
}

fn guard() -> MutexGuard<'static, Guard> {
    static GUARD: OnceLock<Mutex<Guard>> = OnceLock::new();
    GUARD
        .get_or_init(|| {
            // Its own group, so that the Ctrl-C which ends us does not end it first.
            let guardian = Command::new("/bin/sh")
                .args(["-c", GUARDIAN])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .process_group(0)
                .spawn()
                .ok()
                .and_then(|mut child| child.stdin.take());
            Mutex::new(Guard { groups: BTreeSet::new(), guardian })
        })
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

impl Guard {
    fn tell(&mut self, word: &str, group: Pid) {
        if let Some(pipe) = &mut self.guardian {
            // Without a guardian the drop still kills; only a kill -9 of us would leave peers.
            let _ = writeln!(pipe, "{word} {}", group.as_raw_nonzero());
        }
    }
}

/// This process group is ours to kill.
pub fn add(group: Pid) {
    let mut guard = guard();
    guard.groups.insert(group.as_raw_nonzero().get());
    guard.tell("add", group);
}

/// This process group has ended; its number may be somebody else's tomorrow.
pub fn remove(group: Pid) {
    let mut guard = guard();
    guard.groups.remove(&group.as_raw_nonzero().get());
    guard.tell("del", group);
}

/// Kills every peer that is alive, as after a case that overran its deadline. Whoever waits
/// for one of them sees its end.
pub fn kill_all() {
    let groups: Vec<i32> = guard().groups.iter().copied().collect();
    for group in groups.into_iter().filter_map(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}
