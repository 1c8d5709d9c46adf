//! A server's connection with one launcher process.

use std::collections::HashMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::Shutdown;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::timeout;

use crate::confinement::{Confinement, Program};
use crate::handle::Ended;
use crate::message::{Order, Report};
use crate::socket;

/// How long a launcher may take until it is confined. It is a program start and some system calls.
const READY: Duration = Duration::from_secs(5);

/// No report is longer.
const REPORT_LIMIT: usize = 4096;

#[derive(Debug)]
pub(crate) struct Connection {
    /// It keeps messages apart, which a stream does not: only `socket`'s functions read and write it. tokio has no
    /// type for it that could be used here.
    socket: UnixStream,
    jobs: Mutex<Option<HashMap<u64, Entry>>>,
    next: AtomicU64,
    runtime: Handle,
    pub(crate) since: Instant,
}

/// What is known of a process that was asked for. It stays until the process has really ended.
#[derive(Debug)]
struct Entry {
    ended: Option<oneshot::Sender<Ended>>,
    pid: Option<i32>,
    /// Its place among those that may run.
    _place: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// Starts a launcher and waits until it is confined.
    pub(crate) async fn open(
        program: &Program,
        confinement: &Confinement,
    ) -> Result<Arc<Self>, String> {
        let failed = |what: &'static str| move |error: io::Error| format!("cannot {what}: {error}");
        let (ours, theirs) = socket::pair().map_err(failed("make a pair of sockets"))?;
        let directory = &confinement.directory;
        // A relative one would be looked for below the launcher's own.
        if !directory.is_absolute() || !directory.is_dir() {
            return Err(format!("the working folder {} is none", directory.display()));
        }
        // No hook between fork and exec, so that this does not copy the page tables of a large server.
        let child = Command::new(&program.path)
            .args(&program.arguments)
            .env_clear()
            .envs(confinement.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(directory)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .process_group_of_its_own()
            .spawn();
        let child = child.map_err(|error| {
            format!("cannot start the launcher {}: {error}", program.path.display())
        })?;
        // Whatever was started, it is ended if it does not prove to be a launcher.
        let mut reaped = Reaped { child: Some(child), trusted: false };
        let socket = std::os::unix::net::UnixStream::from(ours);
        let socket = socket
            .set_nonblocking(true)
            .and_then(|()| UnixStream::from_std(socket))
            .map_err(failed("wait for the launcher"))?;
        let connection = Arc::new(Self {
            socket,
            jobs: Mutex::new(Some(HashMap::new())),
            next: AtomicU64::new(0),
            runtime: Handle::current(),
            since: Instant::now(),
        });
        match connection.send(&Order::confine(confinement), &[]).await {
            // What it says, or does not say, tells more.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            sent => sent.map_err(failed("tell the launcher what to be"))?,
        }
        let mut buffer = [0; REPORT_LIMIT];
        let first = timeout(READY, connection.receive(&mut buffer)).await;
        let length = match first {
            Err(_) => return Err(format!("the launcher took more than {} s", READY.as_secs())),
            // It may have ended before it read anything.
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            Ok(Err(error)) => return Err(format!("the launcher: {error}")),
            Ok(Ok(length)) => length,
        };
        match Report::read(&buffer[..length]) {
            Some(Report::Ready(lacking)) => {
                if !lacking.is_empty() {
                    tracing::warn!("drivers are confined in part: {lacking}");
                }
            }
            Some(Report::Unfit(why)) => return Err(why),
            _ => {
                let program = program.path.display();
                return Err(format!("{program} is no launcher: it has not answered as one"));
            }
        }
        reaped.trusted = true;
        let reader = Reader { connection: Arc::clone(&connection), _process: reaped };
        tokio::spawn(reader.run());
        Ok(connection)
    }

    /// Whether it can be asked for anything.
    pub(crate) fn is_open(&self) -> bool {
        self.jobs().is_some()
    }

    /// Asks for a process. Gives its number here, and what will say how it ended.
    pub(crate) async fn start(
        &self,
        command: &[std::ffi::OsString],
        fds: &[BorrowedFd<'_>; 3],
        place: Option<OwnedSemaphorePermit>,
    ) -> io::Result<(u64, oneshot::Receiver<Ended>)> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        let entry = Entry { ended: Some(sender), pid: None, _place: place };
        let gone = || io::Error::other("the launcher has ended");
        self.jobs().as_mut().ok_or_else(gone)?.insert(id, entry);
        let mut asked = Asked { connection: self, id: Some(id) };
        self.send(&Order::start(id, command), fds).await?;
        asked.id = None;
        Ok((id, receiver))
    }

    /// Has a process ended, with all of its group. Not waited for.
    pub(crate) fn kill(self: &Arc<Self>, id: u64) {
        let order = Order::kill(id);
        match socket::send(&self.socket, &order, &[], false) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let connection = Arc::clone(self);
                self.runtime.spawn(async move {
                    // An error is the launcher's end, which is everybody's.
                    let _ = connection.send(&order, &[]).await;
                });
            }
            _ => {}
        }
    }

    /// The kernel's number of a process, while it runs.
    pub(crate) fn pid(&self, id: u64) -> Option<i32> {
        self.jobs().as_ref()?.get(&id)?.pid
    }

    /// Lets the launcher go, which ends what it has started.
    pub(crate) fn close(&self) {
        // It is gone already, if this does not work.
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Both);
    }

    fn jobs(&self) -> MutexGuard<'_, Option<HashMap<u64, Entry>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.socket
            .async_io(Interest::WRITABLE, || socket::send(&self.socket, message, fds, false))
            .await
    }

    async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (length, _) = self
            .socket
            .async_io(Interest::READABLE, || socket::receive(&self.socket, buffer, false))
            .await?;
        Ok(length)
    }

    fn take(&self, report: Report) {
        let mut jobs = self.jobs();
        let Some(jobs) = jobs.as_mut() else { return };
        let (id, ended) = match report {
            Report::Started { id, pid } => {
                if let Some(entry) = jobs.get_mut(&id) {
                    entry.pid = Some(pid);
                }
                return;
            }
            Report::NotStarted { id, why } => (id, Ended::NotStarted(why)),
            Report::Exited { id, status } => (id, Ended::Exited(status)),
            Report::Signalled { id, signal } => (id, Ended::Signalled(signal)),
            Report::Ready(_) | Report::Unfit(_) => return,
        };
        if let Some(sender) = jobs.remove(&id).and_then(|mut entry| entry.ended.take()) {
            // Whoever asked may have left.
            let _ = sender.send(ended);
        }
    }
}

/// A request that may not have been sent: then nothing will say that it has ended.
struct Asked<'a> {
    connection: &'a Connection,
    id: Option<u64>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if let (Some(id), Some(jobs)) = (self.id, self.connection.jobs().as_mut()) {
            jobs.remove(&id);
        }
    }
}

/// Reads what the launcher says, until it ends; or until the runtime does, and this with it.
struct Reader {
    connection: Arc<Connection>,
    _process: Reaped,
}

impl Reader {
    async fn run(self) {
        let mut buffer = [0; REPORT_LIMIT];
        loop {
            match self.connection.receive(&mut buffer).await {
                Ok(length) if length > 0 => match Report::read(&buffer[..length]) {
                    Some(report) => self.connection.take(report),
                    None => return tracing::error!("a launcher said what nobody understands"),
                },
                _ => return,
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.connection.close();
        let lost = self.connection.jobs().take().unwrap_or_default();
        for mut entry in lost.into_values() {
            // If the launcher was killed, nobody else ends these. (One of which it had not said yet that it runs is
            // left: its pipes are closed, and that is all.)
            if let Some(pid) = entry.pid.and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
            }
            if let Some(sender) = entry.ended.take() {
                let _ = sender.send(Ended::Lost);
            }
        }
    }
}

/// A launcher's process. It ends when its socket is closed; somebody has to wait for that.
#[derive(Debug)]
struct Reaped {
    child: Option<Child>,
    trusted: bool,
}

impl Drop for Reaped {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        if !self.trusted {
            // It may have ended.
            let _ = child.kill();
        }
        let wait = move || {
            if let Err(error) = child.wait() {
                tracing::warn!("cannot wait for a launcher: {error}");
            }
        };
        if let Err(error) = std::thread::Builder::new().name("launcher-end".into()).spawn(wait) {
            tracing::warn!("no thread to wait for a launcher: {error}");
        }
    }
}

trait OwnGroup {
    fn process_group_of_its_own(&mut self) -> &mut Self;
}

impl OwnGroup for Command {
    /// Ctrl-C at a terminal is for the server, which lets logins end first.
    fn process_group_of_its_own(&mut self) -> &mut Self {
        std::os::unix::process::CommandExt::process_group(self, 0)
    }
}
