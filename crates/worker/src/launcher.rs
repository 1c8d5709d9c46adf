//! The launcher's process: it confines itself, starts what it is told to, says what ends, and kills.

mod confine;
mod strays;

use std::ffi::OsString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};
use std::{fs, io};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, pidfd_open,
    waitid,
};
use zeroize::Zeroize as _;

use crate::message::{Order, Report};
use crate::socket::{self, MESSAGE_LIMIT};

/// Runs as a launcher until the server goes. Standard input is the socket that the server has made. Nothing may have
/// been started before in the process, no thread either.
pub fn main() -> ExitCode {
    match io::stdin().as_fd().try_clone_to_owned().and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        // The server went while it was told of an end.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("launcher: {error}; only a server can start it");
            ExitCode::FAILURE
        }
    }
}

fn run(socket: OwnedFd) -> io::Result<()> {
    let mut buffer = vec![0; MESSAGE_LIMIT];
    let (length, _) = socket::receive(&socket, &mut buffer, true)?;
    if length == 0 {
        // The server has thought better of it.
        return Ok(());
    }
    let Some(Order::Confine(confinement)) = Order::read(&buffer[..length]) else {
        return Err(io::Error::other("the first message is none"));
    };
    // Before the view of the file system changes.
    let children = fs::File::open(format!("/proc/self/task/{}/children", std::process::id())).ok();
    match confine::confine(&confinement) {
        Ok(lacking) => report(&socket, &Report::Ready(lacking))?,
        Err(why) => return report(&socket, &Report::Unfit(why)),
    }
    let mut launcher = Launcher { socket, running: Vec::new(), children };
    let served = launcher.serve(&mut buffer);
    launcher.end();
    served
}

fn report(socket: &OwnedFd, report: &Report) -> io::Result<()> {
    socket::send(socket, &report.encode(), &[], true)
}

struct Launcher {
    socket: OwnedFd,
    running: Vec<Child>,
    /// The kernel's list of our children.
    children: Option<fs::File>,
}

struct Child {
    pid: Pid,
    /// Readable when it has ended; and until then, and until it is waited for, its number is nobody else's.
    pidfd: OwnedFd,
    /// Whose it is; `None`: it left whoever started it, and came to us.
    id: Option<u64>,
}

impl Launcher {
    /// Until the server's end is closed.
    fn serve(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            let mut ended = Vec::new();
            let ordered = {
                let mut fds = Vec::with_capacity(1 + self.running.len());
                fds.push(PollFd::new(&self.socket, PollFlags::IN));
                fds.extend(
                    self.running.iter().map(|child| PollFd::new(&child.pidfd, PollFlags::IN)),
                );
                match poll(&mut fds, None) {
                    Err(rustix::io::Errno::INTR) => continue,
                    polled => polled?,
                };
                ended.extend((1..fds.len()).filter(|&at| !fds[at].revents().is_empty()));
                !fds[0].revents().is_empty()
            };
            // From the last: removing one moves those behind it.
            for &at in ended.iter().rev() {
                let child = self.running.swap_remove(at - 1);
                self.reap(&child)?;
            }
            if !ended.is_empty() {
                self.end_strays();
            }
            if ordered && !self.obey(buffer)? {
                return Ok(());
            }
        }
    }

    /// One order; false at the end of them.
    fn obey(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let (length, fds) = socket::receive(&self.socket, buffer, true)?;
        if length == 0 {
            return Ok(false);
        }
        let order = Order::read(&buffer[..length]);
        buffer[..length].zeroize();
        match order {
            Some(Order::Start { id, command }) => match start(command, fds) {
                Ok((pid, pidfd)) => {
                    self.running.push(Child { pid, pidfd, id: Some(id) });
                    report(&self.socket, &Report::Started { id, pid: pid.as_raw_nonzero().get() })?;
                }
                Err(error) => {
                    report(&self.socket, &Report::NotStarted { id, why: error.to_string() })?;
                }
            },
            Some(Order::Kill { id }) => {
                for child in self.running.iter().filter(|child| child.id == Some(id)) {
                    // It may have ended just now; then the group ends when it is reaped.
                    let _ = kill_process_group(child.pid, Signal::KILL);
                }
            }
            _ => return Err(io::Error::other("an order that is none")),
        }
        Ok(true)
    }

    /// Ends what is left of a process's group, and says how it ended.
    fn reap(&self, child: &Child) -> io::Result<()> {
        if child.id.is_some() {
            // Before it is waited for: afterwards its number may be somebody else's.
            let _ = kill_process_group(child.pid, Signal::KILL);
        }
        let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED)?;
        let (Some(id), Some(status)) = (child.id, status) else { return Ok(()) };
        let ended = match (status.exit_status(), status.terminating_signal()) {
            (Some(status), _) => Report::Exited { id, status },
            (None, signal) => Report::Signalled { id, signal: signal.unwrap_or_default() },
        };
        report(&self.socket, &ended)
    }

    /// Ends processes that left the group they were started in, and whose parents are gone: they came to us.
    fn end_strays(&mut self) {
        let Some(children) = &self.children else { return };
        for pid in strays::children(children) {
            if self.running.iter().any(|child| child.pid == pid) {
                continue;
            }
            let _ = kill_process(pid, Signal::KILL);
            if let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) {
                self.running.push(Child { pid, pidfd, id: None });
            }
        }
    }

    /// Ends everything. What a dying process leaves comes to us, so until nothing does.
    fn end(&mut self) {
        for child in self.running.iter().filter(|child| child.id.is_some()) {
            let _ = kill_process_group(child.pid, Signal::KILL);
        }
        while let Some(child) = self.running.pop() {
            let _ = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED);
            self.end_strays();
        }
    }
}

/// Starts a program in a process group of its own. Without anything to do between fork and exec, this is
/// `posix_spawn`, which copies no page tables.
fn start(command: Vec<OsString>, fds: Vec<OwnedFd>) -> io::Result<(Pid, OwnedFd)> {
    let [input, output, errors] = <[OwnedFd; 3]>::try_from(fds)
        .map_err(|_| io::Error::other("not three file descriptors"))?;
    let (program, arguments) =
        command.split_first().ok_or_else(|| io::Error::other("no program"))?;
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(output))
        .stderr(Stdio::from(errors))
        .process_group(0)
        .spawn();
    for word in command {
        std::os::unix::ffi::OsStringExt::into_vec(word).zeroize();
    }
    let pid = Pid::from_child(&child?);
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Ok((pid, pidfd)),
        Err(error) => {
            // No more than it may have open: it must not run unseen.
            let _ = kill_process_group(pid, Signal::KILL);
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
            Err(error.into())
        }
    }
}
