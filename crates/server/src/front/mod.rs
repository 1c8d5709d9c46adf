//! Front ends: one module for each protocol that clients speak.

pub mod dovecot;
pub mod http;
pub mod saslauthd;
pub mod socket;

use tokio::sync::watch;

/// Tells every front end to stop, and waits until all have.
#[derive(Debug)]
pub struct Stopper {
    stop: watch::Sender<bool>,
}

/// A front end's side of [`Stopper`]. Held for as long as the front end has something to finish.
#[derive(Clone, Debug)]
pub struct Stop {
    stop: watch::Receiver<bool>,
}

impl Stopper {
    /// A pair.
    pub fn new() -> (Self, Stop) {
        let (sender, receiver) = watch::channel(false);
        (Self { stop: sender }, Stop { stop: receiver })
    }

    /// Asks everybody to stop.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until every [`Stop`] is dropped.
    pub async fn stopped(&self) {
        self.stop.closed().await;
    }
}

impl Stop {
    /// Waits until a stop is asked for.
    pub async fn requested(&mut self) {
        // An error means that the stopper is gone, which is a stop too.
        let _ = self.stop.wait_for(|stop| *stop).await;
    }

    /// Whether a stop is asked for.
    pub fn is_requested(&self) -> bool {
        *self.stop.borrow()
    }
}
