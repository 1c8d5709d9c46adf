//! One process of a driver that stays: who reads and writes its pipes, and who waits for it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use countersign_wire::one::mad::Severity as LogSeverity;
use countersign_wire::one::{DriverErrors, ErrorLine, Profile};
use countersign_worker::{Ended, Job, Launcher, Running};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::super::judged::log;
use super::message::{LINE_LIMIT, Said, Severity, Told, VERSION};

/// Lines that wait for a driver to read them. It does not, if there are so many.
const UNREAD: usize = 1024;
/// How long a driver may take to end when it is let go (E2).
const FAREWELL: Duration = Duration::from_secs(2);
/// The most bytes of standard error in one piece.
const ERRORS: usize = 8 * 1024;

type Line = Zeroizing<Vec<u8>>;

/// A process that has said hello. Dropped, it is let go.
pub(super) struct Link {
    lines: mpsc::Sender<Line>,
    desk: Arc<Desk>,
    next: AtomicU64,
    runtime: Handle,
    pub(super) since: Instant,
}

/// What is shared with whoever reads.
struct Desk {
    name: String,
    /// `None`: the process has ended.
    waiting: Mutex<Option<HashMap<u64, Waiting>>>,
    asked: AtomicU64,
    kill: Notify,
    leave: Notify,
}

/// A login in flight. It stays until the driver has said its last word on it.
struct Waiting {
    answer: Option<oneshot::Sender<Said>>,
    cancelled: bool,
    _place: OwnedSemaphorePermit,
}

impl Link {
    /// Starts the program, and greets.
    pub(super) async fn open(
        launcher: &Launcher,
        command: &[OsString],
        name: &str,
        patience: Duration,
    ) -> Result<Arc<Self>, String> {
        let pipes = |error: rustix::io::Errno| format!("cannot make pipes: {error}");
        let (their_input, our_input) = pipe_with(PipeFlags::CLOEXEC).map_err(pipes)?;
        let (our_output, their_output) = pipe_with(PipeFlags::CLOEXEC).map_err(pipes)?;
        let (our_errors, their_errors) = pipe_with(PipeFlags::CLOEXEC).map_err(pipes)?;
        let waits = |error: std::io::Error| format!("cannot wait for it: {error}");
        let input = Sender::from_owned_fd(our_input).map_err(waits)?;
        let output = Receiver::from_owned_fd(our_output).map_err(waits)?;
        let errors = Receiver::from_owned_fd(our_errors).map_err(waits)?;
        let stdio = [their_input.as_fd(), their_output.as_fd(), their_errors.as_fd()];
        let running = launcher.start(Job { command, stdio, place: None }).await;
        let running = running.map_err(|error| error.to_string())?;
        let (lines, unwritten) = mpsc::channel(UNREAD);
        let desk = Arc::new(Desk {
            name: name.to_owned(),
            waiting: Mutex::new(Some(HashMap::new())),
            asked: AtomicU64::new(0),
            kill: Notify::new(),
            leave: Notify::new(),
        });
        let (greeted, hello) = oneshot::channel();
        tokio::spawn(write(input, unwritten));
        let reader = Reader {
            desk: Arc::clone(&desk),
            running,
            output,
            line: Zeroizing::default(),
            hello: Some(greeted),
        };
        tokio::spawn(reader.run(errors));
        let link = Arc::new(Self {
            lines,
            desk,
            next: AtomicU64::new(1),
            runtime: Handle::current(),
            since: Instant::now(),
        });
        link.tell(&Told::Hello { version: VERSION, driver: name })?;
        match timeout(patience, hello).await {
            Ok(Ok(Ok(()))) => Ok(link),
            Ok(Ok(Err(why))) => Err(why),
            Ok(Err(_)) => Err("it ended before it said hello".into()),
            Err(_) => {
                link.desk.kill.notify_one();
                Err(format!("no hello within {} ms", patience.as_millis()))
            }
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.desk.waiting().is_some()
    }

    /// A number for a login, and what will bring the driver's first word on it.
    pub(super) fn begin(
        &self,
        place: OwnedSemaphorePermit,
    ) -> Result<(u64, oneshot::Receiver<Said>), String> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.desk.asked.fetch_max(id, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        let waiting = Waiting { answer: Some(sender), cancelled: false, _place: place };
        self.desk.waiting().as_mut().ok_or("it has ended")?.insert(id, waiting);
        Ok((id, receiver))
    }

    /// What will bring the driver's next word.
    pub(super) fn wait_again(&self, id: u64) -> Result<oneshot::Receiver<Said>, String> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.desk.waiting();
        let waiting = waiting.as_mut().and_then(|all| all.get_mut(&id)).ok_or("it has ended")?;
        waiting.answer = Some(sender);
        Ok(receiver)
    }

    pub(super) fn tell(&self, told: &Told<'_>) -> Result<(), String> {
        self.lines.try_send(told.line()).map_err(|_| "it does not read what it is told".into())
    }

    /// Nobody waits any more. The driver has `patience` to say that it has understood (C2).
    pub(super) fn cancel(self: &Arc<Self>, id: u64, patience: Duration) {
        match self.desk.waiting().as_mut().and_then(|all| all.get_mut(&id)) {
            Some(waiting) => {
                waiting.cancelled = true;
                waiting.answer = None;
            }
            None => return,
        }
        if self.tell(&Told::Cancel { id }).is_err() {
            self.desk.kill.notify_one();
            return;
        }
        let desk = Arc::clone(&self.desk);
        self.runtime.spawn(async move {
            tokio::time::sleep(patience).await;
            let ignored = desk.waiting().as_ref().is_some_and(|all| all.contains_key(&id));
            if ignored {
                tracing::error!(driver = desk.name, "it goes on with a login that was cancelled");
                desk.kill.notify_one();
            }
        });
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.desk.leave.notify_one();
    }
}

impl Desk {
    fn waiting(&self) -> MutexGuard<'_, Option<HashMap<u64, Waiting>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The driver's last word on a login.
    fn settle(&self, id: u64, said: Said) -> Result<(), String> {
        let settled = self.waiting().as_mut().and_then(|all| all.remove(&id));
        match settled {
            Some(Waiting { answer: Some(answer), .. }) => {
                // Whoever asked may have left.
                let _ = answer.send(said);
                Ok(())
            }
            Some(Waiting { cancelled: true, .. }) => Ok(()),
            Some(_) => Err("it answers while its own question is open".into()),
            // Word and cancellation have crossed.
            None if id <= self.asked.load(Ordering::Relaxed) => Ok(()),
            None => Err(format!("it answers the login {id}, which there never was")),
        }
    }

    fn ask(&self, id: u64, said: Said) -> Result<(), String> {
        let mut all = self.waiting();
        match all.as_mut().and_then(|all| all.get_mut(&id)) {
            Some(Waiting { cancelled: true, .. }) => Ok(()),
            Some(waiting) => match waiting.answer.take() {
                Some(answer) => {
                    let _ = answer.send(said);
                    Ok(())
                }
                None => Err("it asks while its own question is open".into()),
            },
            None if id <= self.asked.load(Ordering::Relaxed) => Ok(()),
            None => Err(format!("it asks about the login {id}, which there never was")),
        }
    }
}

async fn write(mut input: Sender, mut unwritten: mpsc::Receiver<Line>) {
    while let Some(line) = unwritten.recv().await {
        if input.write_all(&line).await.is_err() {
            // It has closed its input. Whoever waits is told when it ends, or when the time is over.
            return;
        }
    }
}

/// Reads what a driver says, until it ends.
struct Reader {
    desk: Arc<Desk>,
    running: Running,
    output: Receiver,
    line: Line,
    hello: Option<oneshot::Sender<Result<(), String>>>,
}

impl Reader {
    async fn run(mut self, mut errors: Receiver) {
        let why = {
            let Self { desk, running, output, line, hello } = &mut self;
            let mut incoming = Incoming { desk, line, hello };
            let talk = async {
                let mut buffer = Zeroizing::new(vec![0; 16 * 1024]);
                loop {
                    match output.read(&mut buffer).await {
                        Ok(length) if length > 0 => incoming.take(&buffer[..length])?,
                        _ => break Err::<(), String>("it closed its output".to_owned()),
                    }
                }
            };
            let listen = async {
                let mut buffer = vec![0; ERRORS];
                while let Ok(length @ 1..) = errors.read(&mut buffer).await {
                    let said = DriverErrors::read(Profile::V7_3_80, &buffer[..length], b"");
                    said.lines.iter().for_each(|line| log(&desk.name, line));
                }
                std::future::pending::<String>().await
            };
            tokio::select! {
                biased;
                said = talk => said.err().unwrap_or_default(),
                ended = running.ended() => match ended {
                    Ended::Exited(status) => format!("it ended with status {status}"),
                    Ended::Signalled(signal) => format!("it was ended by signal {signal}"),
                    Ended::NotStarted(why) => format!("it cannot be executed: {why}"),
                    Ended::Lost => "its launcher ended, and it with it".into(),
                },
                why = listen => why,
                () = desk.kill.notified() => "it was ended".into(),
                () = desk.leave.notified() => String::new(),
            }
        };
        self.end(why).await;
    }

    async fn end(mut self, why: String) {
        // Nobody is waiting by now, or they are told here, by nothing being said.
        let left = self.desk.waiting().take();
        if why.is_empty() {
            drop(left);
            // Its input is closed, by which a driver sees that it may go.
            let _ = timeout(FAREWELL, self.running.ended()).await;
            return;
        }
        // Of one that closes its outputs and ends, the status says more.
        let why = match timeout(Duration::from_millis(100), self.running.ended()).await {
            Ok(Ended::Exited(status)) if !why.contains("status") => {
                format!("{why}: status {status}")
            }
            Ok(Ended::Signalled(signal)) if !why.contains("signal") => {
                format!("{why}: signal {signal}")
            }
            Ok(Ended::NotStarted(what)) if !why.contains("executed") => {
                format!("it cannot be executed: {what}")
            }
            _ => why,
        };
        tracing::error!(driver = self.desk.name, "{why}");
        if let Some(hello) = self.hello.take() {
            let _ = hello.send(Err(why));
        }
        drop(left);
    }
}

/// Lines as they come in.
struct Incoming<'a> {
    desk: &'a Desk,
    line: &'a mut Line,
    hello: &'a mut Option<oneshot::Sender<Result<(), String>>>,
}

impl Incoming<'_> {
    fn take(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            self.keep(&bytes[..end])?;
            bytes = &bytes[end + 1..];
            let line = std::mem::take(self.line);
            self.said(&line)?;
        }
        self.keep(bytes)
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.line.len() + bytes.len() > LINE_LIMIT {
            return Err(format!("a line of it is longer than {LINE_LIMIT} bytes"));
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn said(&mut self, line: &[u8]) -> Result<(), String> {
        // serde's message may repeat what stands there.
        let said = serde_json::from_slice(line)
            .map_err(|error| format!("a line of it is no message (column {})", error.column()))?;
        if let Some(hello) = self.hello.take_if(|_| !matches!(said, Said::Log { .. })) {
            return match said {
                Said::Hello { version: VERSION } => {
                    let _ = hello.send(Ok(()));
                    Ok(())
                }
                _ => {
                    let why = format!("it does not say hello in version {VERSION}");
                    let _ = hello.send(Err(why.clone()));
                    Err(why)
                }
            };
        }
        match said {
            Said::Hello { .. } => Err("it says hello twice".into()),
            Said::Accept { id, .. }
            | Said::Refuse { id, .. }
            | Said::Fail { id, .. }
            | Said::Cancelled { id } => self.desk.settle(id, said),
            Said::Ask { id, .. } => self.desk.ask(id, said),
            Said::Log { severity, about, text } => {
                let severity = Some(match severity {
                    Severity::Error => LogSeverity::Error,
                    Severity::Warn => LogSeverity::Warning,
                    Severity::Info => LogSeverity::Info,
                    Severity::Debug => LogSeverity::Debug,
                });
                let text = text.chars().map(|c| if c.is_control() { ' ' } else { c });
                let text = text.take(1000).collect();
                log(&self.desk.name, &ErrorLine { severity, about, text });
                Ok(())
            }
        }
    }
}
