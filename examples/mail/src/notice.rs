//! What the application tells a client by itself: the mind of both protocols.

use std::sync::Arc;

use countersign::Told;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Something that a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The mailbox has changed: something came, or another session did something.
    Changed,
    /// A sentence for the person.
    Say(Arc<str>),
}

/// How a client is told something: the end of a short queue. The other end is the client's connection.
#[derive(Clone, Debug)]
pub struct Teller(Sender<Notice>);

impl Teller {
    /// How much a client may have waiting.
    const WAITING: usize = 16;

    /// A queue.
    pub fn new() -> (Self, Receiver<Notice>) {
        let (sender, receiver) = channel(Self::WAITING);
        (Self(sender), receiver)
    }

    /// Tells, without waiting: a realm does this under the lock of its minds.
    pub fn tell(&self, notice: &Notice) -> Told {
        match self.0.try_send(notice.clone()) {
            Ok(()) => Told::Heard,
            // Something waits already that makes it look; and a sentence that nobody reads is no reason to be
            // taken for gone.
            Err(TrySendError::Full(_)) => Told::Passed,
            Err(TrySendError::Closed(_)) => Told::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_waits_for_nobody_and_a_closed_one_is_gone() {
        let (teller, receiver) = Teller::new();
        for _ in 0..Teller::WAITING {
            assert_eq!(teller.tell(&Notice::Changed), Told::Heard);
        }
        assert_eq!(teller.tell(&Notice::Say("hello".into())), Told::Passed);
        drop(receiver);
        assert_eq!(teller.tell(&Notice::Changed), Told::Gone);
    }
}
