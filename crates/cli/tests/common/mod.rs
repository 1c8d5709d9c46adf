//! The command on data folders of its own, with and without a server, with and without a terminal.
#![allow(dead_code)] // each test file uses its part

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use countersign_store::{OpenOptions as StoreOptions, Store};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// How long anything may take on a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_secs(60);

/// A data folder that goes away at the end.
pub(crate) struct Folder {
    folder: tempfile::TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Folder {
    /// Without a store.
    pub(crate) fn bare() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// With an empty store, as a server would make it.
    pub(crate) fn with_store() -> Self {
        let folder = Self::bare();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let store = Store::open(folder.path().join("accounts.db"), StoreOptions::create());
        runtime.block_on(async { store.await.unwrap().close().await });
        folder
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A file in it that only its owner can read.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
        file.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
        path
    }

    /// Runs a command on the folder.
    pub(crate) fn run(&self, arguments: &[&str], stdin: &str) -> Ended {
        let data = self.path().to_str().unwrap();
        run(&[arguments, &["--data", data]].concat(), stdin)
    }

    /// The same, which must succeed; gives its output.
    pub(crate) fn ok(&self, arguments: &[&str], stdin: &str) -> String {
        let ended = self.run(arguments, stdin);
        assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}");
        ended.out
    }

    /// The same, which must fail with this code; gives what it said.
    pub(crate) fn fails(&self, code: i32, arguments: &[&str], stdin: &str) -> String {
        let ended = self.run(arguments, stdin);
        assert_eq!(ended.code, Some(code), "{arguments:?}: {ended:?}");
        ended.err
    }
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    // What the machine says of itself must not matter.
    command.env_remove("STATE_DIRECTORY").env_remove("XDG_DATA_HOME");
    command
}

/// Runs a command without a terminal.
pub(crate) fn run(arguments: &[&str], stdin: &str) -> Ended {
    let mut command = setsid(&[]);
    command.args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that does not read its input closes it, which is no failure.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: status.code(), out: text(stdout), err: text(stderr) }
}

/// In a session of its own, so that no terminal of whoever runs the tests is asked.
fn setsid(options: &[&str]) -> Command {
    let mut command = Command::new("setsid");
    command.arg("--wait").args(options).arg(command_path());
    command.env_remove("STATE_DIRECTORY").env_remove("XDG_DATA_HOME");
    command
}

fn command_path() -> &'static str {
    env!("CARGO_BIN_EXE_countersign")
}

/// A server on a folder. It is stopped at the end.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
}

impl Server {
    pub(crate) fn on(folder: &Folder) -> Self {
        Self::with(folder, &["--http", "127.0.0.1:0"])
    }

    pub(crate) fn with(folder: &Folder, more: &[&str]) -> Self {
        let mut command = command();
        command.args(["serve", "--data"]).arg(folder.path()).args(more).stdin(Stdio::null());
        Self::by(command, folder)
    }

    /// By a command that becomes a server on this folder.
    pub(crate) fn by(mut command: Command, folder: &Folder) -> Self {
        let log = File::create(folder.path().join("log")).unwrap();
        let ready = folder.path().join("run/ready");
        // One that was killed before left it.
        let _ = std::fs::remove_file(&ready);
        command.stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().unwrap();
        let deadline = Instant::now() + DEADLINE;
        let url = loop {
            if let Ok(text) = std::fs::read_to_string(&ready) {
                let ready: serde_json::Value = serde_json::from_str(&text).unwrap();
                break format!("http://{}", ready["http"].as_str().unwrap());
            }
            let log = || std::fs::read_to_string(folder.path().join("log")).unwrap();
            assert!(child.try_wait().unwrap().is_none(), "the server ended: {}", log());
            assert!(Instant::now() < deadline, "the server is not ready: {}", log());
            std::thread::yield_now();
        };
        Self { child, url }
    }
}

impl Server {
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Sends a signal, and waits for the end that it brings.
    pub(crate) fn ends(mut self, signal: rustix::process::Signal) {
        self.signal(signal);
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `countersign audit --follow`, read a line at a time.
pub(crate) struct Follow {
    child: Child,
    lines: Receiver<String>,
}

impl Follow {
    pub(crate) fn on(folder: &Folder, more: &[&str]) -> Self {
        let mut command = command();
        command.args(["audit", "--follow", "--data"]).arg(folder.path()).args(more);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            out.lines().map_while(Result::ok).try_for_each(|l| sender.send(l))
        });
        Self { child, lines }
    }

    /// Waits for a line with this in it.
    pub(crate) fn sees(&mut self, what: &str) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("no {what:?}"));
            if line.contains(what) {
                return;
            }
        }
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command at a terminal, and the person there.
pub(crate) struct Person {
    master: File,
    child: Child,
    seen: String,
}

impl Person {
    pub(crate) fn at(arguments: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let flags = i32::try_from(OFlags::NOCTTY.bits()).unwrap();
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).custom_flags(flags).open(&name).unwrap()
        };
        let mut command = setsid(&["--ctty"]);
        command.args(arguments).stdin(open()).stdout(open()).stderr(open());
        Self { master: master.into(), child: command.spawn().unwrap(), seen: String::new() }
    }

    /// Waits until this is on the screen, after what was waited for before.
    pub(crate) fn sees(&mut self, what: &str) -> &mut Self {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(at) = self.seen.find(what) {
                self.seen.drain(..at + what.len());
                return self;
            }
            assert!(self.read(deadline), "no {what:?} in {:?}", self.seen);
        }
    }

    /// What is on the screen up to this, which stays there to be waited for.
    pub(crate) fn until(&mut self, what: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(at) = self.seen.find(what) {
                return self.seen.drain(..at).collect();
            }
            assert!(self.read(deadline), "no {what:?} in {:?}", self.seen);
        }
    }

    pub(crate) fn types(&mut self, keys: &str) -> &mut Self {
        self.master.write_all(keys.as_bytes()).unwrap();
        self
    }

    /// The exit code, and everything shown since the last look.
    pub(crate) fn leaves(&mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + DEADLINE;
        while self.read(deadline) {}
        (self.child.wait().unwrap().code(), std::mem::take(&mut self.seen))
    }

    /// `false`: the other side is gone, or the time is over.
    fn read(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
        if poll(&mut fds, Some(&Timespec::try_from(left).unwrap())).unwrap() == 0 {
            return false;
        }
        let mut buffer = [0; 4096];
        let count = self.master.read(&mut buffer).unwrap_or(0);
        self.seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        count > 0
    }
}
