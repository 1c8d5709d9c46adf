//! What the protocol asks an application for: shells, and a way to say something on their terminals.

use std::pin::Pin;
use std::sync::Arc;

use countersign::{Interface, Told};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::broadcast;

/// The interface of the protocol.
#[derive(Debug)]
pub struct SshShell;

impl Interface for SshShell {
    const NAME: &'static str = "ssh-shell";
    type Avatar = dyn Shell;
    type Mind = Teller;
}

/// What somebody can do who is logged in.
pub trait Shell: Send {
    /// One more channel, in which one program runs.
    fn open(&mut self) -> Box<dyn Seat>;
}

/// Where one program runs.
pub trait Seat: Send {
    /// Whether the client may have a terminal here.
    fn permits_terminal(&self) -> bool;

    /// Runs what the client asks for, or what somebody else has decided for it. It ends with the client's channel,
    /// by being dropped; its value is the exit status.
    fn run(self: Box<Self>, asked: Asked, streams: Streams) -> Running;
}

/// A program under way.
pub type Running = Pin<Box<dyn Future<Output = u32> + Send>>;

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// A command; none: a shell.
    pub command: Option<String>,
    /// Whether there is a terminal: somebody types, and sees nothing that is not sent back.
    pub terminal: bool,
}

/// What a program reads and writes.
pub struct Streams {
    /// What the client sends.
    pub input: Box<dyn AsyncRead + Send + Unpin>,
    /// What the client is sent.
    pub output: Box<dyn AsyncWrite + Send + Unpin>,
    /// What the client is sent as errors.
    pub errors: Box<dyn AsyncWrite + Send + Unpin>,
}

/// How a client is told something: a short queue for each of its shells. Who has none open is told nothing.
#[derive(Clone, Debug)]
pub struct Teller(broadcast::Sender<Arc<str>>);

impl Teller {
    /// How much a shell may have waiting. What is more takes the place of the oldest.
    const WAITING: usize = 16;

    /// A teller without listeners.
    pub fn new() -> Self {
        Self(broadcast::Sender::new(Self::WAITING))
    }

    /// Tells, without waiting: a realm does this under the lock of its minds.
    pub fn tell(&self, what: &Arc<str>) -> Told {
        match self.0.send(Arc::clone(what)) {
            Ok(_) => Told::Heard,
            // No shell is open at the moment.
            Err(_) => Told::Passed,
        }
    }

    /// What is told from now on.
    pub fn listen(&self) -> broadcast::Receiver<Arc<str>> {
        self.0.subscribe()
    }
}

impl Default for Teller {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_is_told_and_nobody_is_waited_for() {
        let teller = Teller::new();
        let word = Arc::from("hello");
        assert_eq!(teller.tell(&word), Told::Passed);
        let mut heard = teller.listen();
        for _ in 0..2 * Teller::WAITING {
            assert_eq!(teller.tell(&word), Told::Heard);
        }
        assert!(matches!(heard.try_recv(), Err(broadcast::error::TryRecvError::Lagged(_))));
        assert_eq!(heard.try_recv().as_deref(), Ok("hello"));
    }
}
