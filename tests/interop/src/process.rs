//! Processes with a deadline.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};

use crate::{Context, Outcome, Stage, Trouble, guard};

/// How long a peer gets to end by itself before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// A daemon that we started, with its children. Dropping it ends all of them.
#[derive(Debug)]
pub struct Peer {
    name: String,
    child: Child,
    group: Pid,
    log: PathBuf,
}

impl Peer {
    /// Starts a daemon that stays in the foreground; what it prints goes to `NAME.log` of
    /// the stage. It gets a process group of its own.
    pub fn start(stage: &Stage, name: &str, command: &mut Command) -> Outcome<Self> {
        let log = stage.at(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log).during(log.display())?;
        let err = out.try_clone().during(log.display())?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .during(format!("starting {name}"))?;
        let group = group_of(&child);
        guard::add(group);
        Ok(Self { name: name.to_owned(), child, group, log })
    }

    /// The process that we started: the daemon's first one.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until `ready` gives something, at most `limit`.
    ///
    /// # Errors
    /// With the end of its log, when the time is over or the daemon has ended.
    pub fn until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Outcome<T> {
        let child = &mut self.child;
        let mut ended = None;
        let found = wait_for(what, limit, || {
            if let Some(value) = ready() {
                return Some(Some(value));
            }
            ended = child.try_wait().ok().flatten();
            ended.map(|_| None)
        });
        match (found, ended) {
            (Ok(Some(value)), _) => Ok(value),
            (Ok(None), status) => Err(Trouble::failed(format!(
                "{} ended ({}) before {what}",
                self.name,
                status.map_or_else(String::new, |s| s.to_string()),
            ))),
            (Err(trouble), _) => Err(trouble),
        }
    }

    /// Asks the daemon to end (SIGTERM) and gives its status.
    ///
    /// # Errors
    /// When it has not ended after five seconds; it is then killed.
    pub fn stop(mut self) -> Outcome<ExitStatus> {
        let _ = kill_process(pid_of(&self.child), Signal::TERM);
        self.ended(GRACE)
    }

    /// Kills the daemon and its children at once, as a crash would.
    pub fn kill(mut self) -> Outcome<ExitStatus> {
        let _ = kill_process_group(self.group, Signal::KILL);
        self.ended(GRACE)
    }

    fn ended(&mut self, limit: Duration) -> Outcome<ExitStatus> {
        let child = &mut self.child;
        wait_for(&format!("the end of {}", self.name), limit, || child.try_wait().ok().flatten())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process_group(self.group, Signal::TERM);
            let _ = self.ended(GRACE);
        }
        // Children that stayed behind: the group lives as long as one of them does.
        let _ = kill_process_group(self.group, Signal::KILL);
        let _ = self.child.wait();
        let group = self.group;
        let _ = wait_for("the end of the group", GRACE, || {
            test_kill_process_group(group).is_err().then_some(())
        });
        guard::remove(self.group);
    }
}

fn pid_of(child: &Child) -> Pid {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a child has a process id")
}

fn group_of(child: &Child) -> Pid {
    // `process_group(0)`: the group has the number of its first process.
    pid_of(child)
}

/// What a program left behind.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its exit status; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub out: String,
    /// What it complained.
    pub err: String,
}

/// Runs a program to its end, at most `limit`, with `input` on its standard input.
///
/// # Errors
/// When it cannot be started, or has not ended in time (it is then killed).
pub fn run(command: &mut Command, input: &str, limit: Duration) -> Outcome<Finished> {
    let name = Path::new(command.get_program())
        .file_name()
        .map_or_else(|| "program".into(), |n| n.to_string_lossy().into_owned());
    let doing = format!("running {name}");
    // Files and not pipes: nobody has to read them while the program runs.
    let folder = tempfile::tempdir().during(&doing)?;
    let (out, err) = (folder.path().join("out"), folder.path().join("err"));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(File::create(&out).during(&doing)?)
        .stderr(File::create(&err).during(&doing)?)
        .process_group(0)
        .spawn()
        .during(&doing)?;
    let group = group_of(&child);
    guard::add(group);
    if let Some(mut stdin) = child.stdin.take() {
        // Inputs here are far smaller than a pipe's buffer, so this does not block; a program
        // that does not want its input is not an error.
        let _ = stdin.write_all(input.as_bytes());
    }
    let status = wait_for(&format!("the end of {name}"), limit, || child.try_wait().ok().flatten());
    let _ = kill_process_group(group, Signal::KILL);
    let _ = child.wait();
    guard::remove(group);
    let text =
        |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let (out, err) = (text(&out), text(&err));
    match status {
        Ok(status) => Ok(Finished { code: status.code(), out, err }),
        Err(trouble) => Err(Trouble::failed(format!("{trouble}\n{out}{err}"))),
    }
}

/// Looks again and again, at short and growing intervals, until there is something to see.
///
/// # Errors
/// After `limit`, naming what was waited for.
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> Outcome<T> {
    let end = Instant::now() + limit;
    let mut pause = Duration::from_micros(500);
    loop {
        if let Some(value) = look() {
            return Ok(value);
        }
        if Instant::now() >= end {
            return Err(Trouble::failed(format!("waited {limit:?} in vain for {what}")));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_heard_out() {
        let done =
            run(Command::new("sh").args(["-c", "cat; echo no >&2; exit 3"]), "yes", GRACE).unwrap();
        assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (Some(3), "yes", "no\n"));
    }

    #[test]
    fn a_program_that_hangs_is_killed() {
        let limit = Duration::from_millis(50);
        let trouble = run(Command::new("sleep").arg("1000"), "", limit).unwrap_err();
        assert!(trouble.to_string().contains("the end of sleep"), "{trouble}");
    }

    #[test]
    fn a_dropped_peer_takes_its_children_along() {
        let stage = Stage::new().unwrap();
        // Neither of the two listens to SIGTERM, so this also tries the harder way.
        let script = "trap '' TERM; (trap '' TERM; exec sleep 1000) & echo $!; wait; exit 1";
        let mut peer =
            Peer::start(&stage, "family", Command::new("sh").args(["-c", script])).unwrap();
        let log = stage.at("family.log");
        let child: u32 = peer
            .until("its child", GRACE, || fs::read_to_string(&log).ok()?.trim().parse().ok())
            .unwrap();
        drop(peer);
        wait_for("the child's end", GRACE, || {
            // A zombie that nobody has collected yet counts as ended.
            let stat = fs::read_to_string(format!("/proc/{child}/stat"));
            stat.map_or(true, |s| s.contains(") Z ")).then_some(())
        })
        .unwrap();
    }

    #[test]
    fn an_early_end_is_told_at_once() {
        let stage = Stage::new().unwrap();
        let mut peer = Peer::start(&stage, "short", Command::new("false").args(["x"])).unwrap();
        let trouble = peer.until("readiness", GRACE, || None::<()>).unwrap_err();
        assert!(trouble.to_string().contains("ended"), "{trouble}");
    }
}
