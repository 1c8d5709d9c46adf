//! Front ends: one module for each protocol that clients speak.

pub mod dovecot;
pub mod http;
pub mod one_mad;
pub mod saslauthd;
pub mod socket;
pub mod tls;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Waits for a place and then for the next connection. `None`: a stop is asked for. `Some(None)`: there was
/// none this time; ask again.
pub(crate) async fn next_connection<S>(
    slots: &Arc<Semaphore>,
    path: &Path,
    stop: &mut Stop,
    accept: impl Future<Output = io::Result<S>>,
) -> Option<Option<(OwnedSemaphorePermit, S)>> {
    let accepted = async {
        // Never closed, so an error cannot be; and then it would be one of accepting.
        let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
        Ok::<_, io::Error>((slot, accept.await?))
    };
    let accepted = tokio::select! {
        biased;
        () = stop.requested() => return None,
        accepted = accepted => accepted,
    };
    if let Err(error) = &accepted {
        // Out of file descriptors, usually: accepting again at once would spin.
        tracing::warn!(%error, path = %path.display(), "cannot accept");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Some(accepted.ok())
}

/// How many connections of a listener are open. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicUsize>);

/// One connection of a [`Gauge`], for as long as it lives.
#[derive(Debug)]
pub struct Entered(Gauge);

impl Gauge {
    /// One more.
    pub fn enter(&self) -> Entered {
        self.0.fetch_add(1, Ordering::Relaxed);
        Entered(self.clone())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Two are equal if they count together.
impl PartialEq for Gauge {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Gauge {}

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
