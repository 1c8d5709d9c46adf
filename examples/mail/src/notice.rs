//! What the application tells a client by itself: the mind of both protocols.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use countersign::Told;
use tokio::sync::Notify;

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
pub struct Teller(Arc<Queue>);

/// The connection's end.
#[derive(Debug)]
pub struct Notices(Arc<Queue>);

/// Most connections end before anybody has told them anything: until then, this has no room for it.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    come: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    notices: VecDeque<Notice>,
    /// Nobody will read them.
    gone: bool,
}

impl Teller {
    /// How much a client may have waiting.
    const WAITING: usize = 16;

    /// A queue.
    pub fn new() -> (Self, Notices) {
        let queue = Arc::<Queue>::default();
        (Self(Arc::clone(&queue)), Notices(queue))
    }

    /// Tells, without waiting: a realm does this under the lock of its minds.
    pub fn tell(&self, notice: &Notice) -> Told {
        let mut waiting = self.0.lock();
        if waiting.gone {
            return Told::Gone;
        }
        // Something waits already that makes it look; and a sentence that nobody reads is no reason to be taken for
        // gone.
        if waiting.notices.len() >= Self::WAITING {
            return Told::Passed;
        }
        waiting.notices.push_back(notice.clone());
        self.0.come.notify_one();
        Told::Heard
    }
}

impl Notices {
    /// What waits, if anything does.
    pub fn waiting(&mut self) -> Option<Notice> {
        self.0.lock().notices.pop_front()
    }

    /// Waits for the next. It can be dropped and asked again at any time.
    pub async fn next(&mut self) -> Notice {
        loop {
            if let Some(notice) = self.waiting() {
                return notice;
            }
            self.0.come.notified().await;
        }
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        (waiting.gone, waiting.notices) = (true, VecDeque::new());
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_waits_for_nobody_and_a_closed_one_is_gone() {
        let (teller, mut notices) = Teller::new();
        for _ in 0..Teller::WAITING {
            assert_eq!(teller.tell(&Notice::Changed), Told::Heard);
        }
        assert_eq!(teller.tell(&Notice::Say("hello".into())), Told::Passed);
        for _ in 0..Teller::WAITING {
            assert_eq!(notices.next().await, Notice::Changed);
        }
        assert_eq!(notices.waiting(), None);
        let (heard, told) =
            tokio::join!(notices.next(), async { teller.tell(&Notice::Say("again".into())) });
        assert_eq!((heard, told), (Notice::Say("again".into()), Told::Heard));
        drop(notices);
        assert_eq!(teller.tell(&Notice::Changed), Told::Gone);
    }
}
