//! The server's side of a launcher.

use std::ffi::OsString;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::backoff::Backoff;
use crate::confinement::{Confinement, Program};
use crate::connection::Connection;

/// Starts processes, all with the same [`Confinement`]. Its own process is started when it is first needed, and
/// anew, with pauses, when it dies; that refuses whatever it ran. Dropped, it ends all of them.
///
/// It needs a tokio runtime with I/O and time. One that ends takes the processes with it.
pub struct Launcher {
    program: Program,
    confinement: Confinement,
    life: Mutex<Life>,
    /// Held by whoever starts it.
    starting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Life {
    connection: Option<Arc<Connection>>,
    backoff: Backoff,
}

/// Launchers of a program, one for each confinement that somebody uses.
#[derive(Debug)]
pub struct Launchers {
    program: Program,
    used: Mutex<Vec<Weak<Launcher>>>,
}

impl Launchers {
    /// None yet.
    pub fn new(program: Program) -> Self {
        Self { program, used: Mutex::default() }
    }

    /// The launcher of processes that may do this. Nothing is started.
    pub fn confined(&self, confinement: &Confinement) -> Arc<Launcher> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|launcher| launcher.strong_count() > 0);
        let same = |launcher: &Arc<Launcher>| launcher.confinement == *confinement;
        if let Some(launcher) = used.iter().filter_map(Weak::upgrade).find(same) {
            return launcher;
        }
        let launcher = Arc::new(Launcher::new(self.program.clone(), confinement.clone()));
        used.push(Arc::downgrade(&launcher));
        launcher
    }
}

/// What is to be started.
#[derive(Debug)]
pub struct Job<'a> {
    /// The program's absolute path, and its arguments.
    pub command: &'a [OsString],
    /// Standard input, output and error output.
    pub stdio: [BorrowedFd<'a>; 3],
    /// Its place among those that may run at a time: given back when the process has really ended, and not
    /// when somebody only wished so.
    pub place: Option<OwnedSemaphorePermit>,
}

/// A process that was asked for. Dropped, it is killed, with its group.
#[derive(Debug)]
#[must_use]
pub struct Running {
    connection: Arc<Connection>,
    id: u64,
    ended: Option<oneshot::Receiver<Ended>>,
}

/// How a process ended. Whatever it left in its process group is killed by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with a status.
    Exited(i32),
    /// By a signal.
    Signalled(i32),
    /// It was never there.
    NotStarted(String),
    /// The launcher is gone.
    Lost,
}

/// Nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The launcher cannot be started, or confined.
    #[error("{0}")]
    Launcher(String),
    /// It has failed a moment ago.
    #[error("the launcher is tried again in {} ms; before: {why}", .pause.as_millis())]
    Paused {
        /// For how long.
        pause: Duration,
        /// Why it failed.
        why: String,
    },
    /// It could not be asked.
    #[error("cannot ask the launcher: {0}")]
    Asking(String),
}

impl Launcher {
    /// A launcher. Nothing is started.
    pub fn new(program: Program, confinement: Confinement) -> Self {
        Self {
            program,
            confinement,
            life: Mutex::default(),
            starting: tokio::sync::Mutex::default(),
        }
    }

    /// What its processes may do.
    pub fn confinement(&self) -> &Confinement {
        &self.confinement
    }

    /// Starts the launcher's own process, if there is none: at a server's start, while it is small.
    ///
    /// # Errors
    /// What cannot be, with the remedy: a user that the server may not become, a folder that is not there.
    pub async fn ready(&self) -> Result<(), StartError> {
        self.connection().await.map(drop)
    }

    /// Starts a process.
    ///
    /// # Errors
    /// When there is no launcher. That the program cannot be executed is said by [`Running::ended`].
    pub async fn start(&self, job: Job<'_>) -> Result<Running, StartError> {
        let connection = self.connection().await?;
        let asked = connection.start(job.command, &job.stdio, job.place).await;
        let (id, ended) = asked.map_err(|error| StartError::Asking(error.to_string()))?;
        Ok(Running { connection, id, ended: Some(ended) })
    }

    async fn connection(&self) -> Result<Arc<Connection>, StartError> {
        if let Some(open) = self.open() {
            return Ok(open);
        }
        let _starting = self.starting.lock().await;
        if let Some(open) = self.open() {
            return Ok(open);
        }
        self.pause()?;
        let opened = Connection::open(&self.program, &self.confinement).await;
        let mut life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        match opened {
            Ok(connection) => {
                life.connection = Some(Arc::clone(&connection));
                Ok(connection)
            }
            Err(why) => {
                life.backoff.failed(&why);
                tracing::error!("no launcher: {why}");
                Err(StartError::Launcher(why))
            }
        }
    }

    fn open(&self) -> Option<Arc<Connection>> {
        let mut life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = life.connection.as_ref()?;
        if connection.is_open() {
            return Some(Arc::clone(connection));
        }
        let ran = connection.since.elapsed();
        life.backoff.ended(ran);
        tracing::error!("a launcher has ended; it is started anew");
        life.connection = None;
        None
    }

    fn pause(&self) -> Result<(), StartError> {
        let life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        match life.backoff.pause() {
            Some((pause, why)) => Err(StartError::Paused { pause, why: why.to_owned() }),
            None => Ok(()),
        }
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        let life = self.life.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = life.connection.take() {
            connection.close();
        }
    }
}

impl fmt::Debug for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launcher").field("program", &self.program).finish_non_exhaustive()
    }
}

impl Running {
    /// Waits until it has ended. Dropped, this may be called again.
    pub async fn ended(&mut self) -> Ended {
        let Some(receiver) = &mut self.ended else { return Ended::Lost };
        let ended = receiver.await.unwrap_or(Ended::Lost);
        self.ended = None;
        ended
    }

    /// Kills it and its process group. It has ended when [`Running::ended`] says so.
    pub fn kill(&self) {
        self.connection.kill(self.id);
    }

    /// The kernel's number of the process, where the launcher has said it yet and it runs.
    pub fn pid(&self) -> Option<i32> {
        self.connection.pid(self.id)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended.as_mut().is_some_and(|ended| ended.try_recv().is_err()) {
            self.kill();
        }
    }
}
