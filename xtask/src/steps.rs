//! Runs programs: their output is shown as it comes and read on the way, and each has a
//! deadline.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use countersign_interop::guard;
use rustix::process::{Pid, Signal, kill_process_group};

/// For compilations; a clean build on two slow cores takes a quarter of this.
pub(crate) const LONG: Duration = Duration::from_secs(45 * 60);
/// For programs that compile nothing.
pub(crate) const SHORT: Duration = Duration::from_secs(5 * 60);

/// The workspace.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The target folder that we were built into, which later builds share.
pub(crate) fn target() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    let folder = exe.ancestors().nth(2).map(Path::to_path_buf);
    folder.unwrap_or_else(|| root().join("target"))
}

/// `cargo`, the one that runs us, in the workspace and with our target folder.
pub(crate) fn cargo(words: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(words).env("CARGO_TARGET_DIR", target());
    command
}

/// A cargo of another toolchain, by rustup; the variables that pin ours are taken away.
pub(crate) fn cargo_of(toolchain: &str, words: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root()).arg(format!("+{toolchain}")).args(words);
    for variable in ["CARGO", "RUSTUP_TOOLCHAIN", "RUSTC", "RUSTDOC"] {
        command.env_remove(variable);
    }
    command
}

/// Runs a program to its end and gives `heard` each line of its output, both streams in
/// their order; the lines are also printed.
///
/// # Errors
/// When it cannot be started or does not end within `limit`; its process group is then
/// killed.
pub(crate) fn watch(
    command: &mut Command,
    limit: Duration,
    mut heard: impl FnMut(&str),
) -> Result<ExitStatus, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let (from, to) = std::io::pipe().map_err(|e| format!("{name}: {e}"))?;
    let copy = to.try_clone().map_err(|e| format!("{name}: {e}"))?;
    let child = command.stdout(copy).stderr(to).process_group(0).spawn();
    // The command keeps its ends of the pipe until it is told to let go of them.
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut child = child.map_err(|e| format!("cannot run `{name}`: {e}"))?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let _alive = group.map(Alive::new);

    let (say, hear) = mpsc::channel::<String>();
    let reader = thread::spawn(move || read_lines(from, |line| say.send(line).is_ok()));
    let end = Instant::now() + limit;
    loop {
        match hear.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                println!("{line}");
                heard(&line);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let _ = group.map(|group| kill_process_group(group, Signal::KILL));
                let _ = child.wait();
                return Err(format!("`{name}` had not ended after {limit:?}"));
            }
        }
    }
    let _ = reader.join();
    // Its output has ended, so it has, or will at once.
    child.wait().map_err(|e| format!("{name}: {e}"))
}

/// Ties a process group's life to ours, however we end.
struct Alive(Pid);

impl Alive {
    fn new(group: Pid) -> Self {
        guard::add(group);
        Self(group)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        guard::remove(self.0);
    }
}

fn read_lines(from: impl Read, mut say: impl FnMut(String) -> bool) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while let Ok(n) = from.read_until(b'\n', &mut line) {
        if n == 0 || !say(String::from_utf8_lossy(&line).trim_end().to_owned()) {
            return;
        }
        line.clear();
    }
}

/// Runs a program that only has to end well.
///
/// # Errors
/// When it does not, with the last lines of what it said.
pub(crate) fn must(command: &mut Command, limit: Duration) -> Result<(), String> {
    let mut last = Vec::new();
    let status = watch(command, limit, |line| {
        if line.starts_with("error") || line.starts_with("Diff in") {
            last.push(line.to_owned());
        }
    })?;
    if status.success() {
        return Ok(());
    }
    last.truncate(3);
    let words: Vec<_> = command.get_args().map(|a| a.to_string_lossy()).collect();
    Err(format!("`{}` ended with {status} {}", words.join(" "), last.join("; ")).trim().to_owned())
}

/// Runs a program quietly and gives what it printed, or `None` when it did not end well.
pub(crate) fn ask(command: &mut Command) -> Option<String> {
    let finished = countersign_interop::run(command, "", SHORT).ok()?;
    (finished.code == Some(0)).then_some(finished.out)
}

/// Whether a program of this name can be found.
pub(crate) fn there(program: &str) -> bool {
    countersign_interop::need(program, "").is_ok()
}

/// Prints a heading.
pub(crate) fn heading(text: &str) {
    println!("\n=== {text} ===");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_streams_are_heard() {
        let mut lines = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; exit 4"]);
        let status = watch(&mut command, SHORT, |line| lines.push(line.to_owned())).unwrap();
        assert_eq!((status.code(), lines), (Some(4), vec!["one".into(), "two".into()]));
    }

    #[test]
    fn a_hanging_step_is_ended() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & sleep 1000"]);
        let error = watch(&mut command, Duration::from_millis(50), |_| {}).unwrap_err();
        assert!(error.contains("had not ended"), "{error}");
    }
}
