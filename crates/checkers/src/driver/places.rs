//! Who may run, and who waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::DriverLimits;
use crate::one::Failure;

/// Places for processes of one driver, given out in the order of asking.
#[derive(Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    queue: usize,
    queue_time: Duration,
}

impl Places {
    pub(super) fn new(limits: &DriverLimits) -> Self {
        let processes = limits.processes.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            free: Arc::new(Semaphore::new(processes)),
            waiting: AtomicUsize::new(0),
            queue: limits.queue,
            queue_time: limits.queue_time,
        }
    }

    /// A place, which is free again when it is dropped.
    pub(super) async fn enter(&self) -> Result<OwnedSemaphorePermit, Failure> {
        // It fails while others wait, too: nobody overtakes them.
        if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
            return Ok(place);
        }
        let Some(_waiting) = self.wait() else { return Err(Failure::Full(self.queue)) };
        match timeout(self.queue_time, Arc::clone(&self.free).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            // Nobody closes it.
            Ok(Err(_)) => Err(Failure::Broken("it takes no more logins".into())),
            Err(_) => Err(Failure::Waited(milliseconds(self.queue_time))),
        }
    }

    fn wait(&self) -> Option<Waiting<'_>> {
        let room = |waiting| (waiting < self.queue).then_some(waiting + 1);
        self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).ok()?;
        Some(Waiting(&self.waiting))
    }
}

/// One that waits. Whoever gives up waits no more.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) fn milliseconds(span: Duration) -> u64 {
    span.as_millis().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign::testing::now_or_never;

    #[test]
    fn so_many_run_and_so_many_wait() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _entered = runtime.enter();
        let limits = DriverLimits { processes: 1, queue: 1, ..DriverLimits::default() };
        let places = Places::new(&limits);
        let first = now_or_never(places.enter()).unwrap().unwrap();
        let mut second = Box::pin(places.enter());
        assert!(now_or_never(&mut second).is_none());
        assert_eq!(now_or_never(places.enter()).unwrap().unwrap_err(), Failure::Full(1));
        drop(first);
        let place = now_or_never(&mut second).unwrap().unwrap();
        drop(second);
        // Who gives up makes room.
        let third = now_or_never(Box::pin(places.enter()));
        assert!(third.is_none());
        let mut fourth = Box::pin(places.enter());
        assert!(now_or_never(&mut fourth).is_none());
        drop(place);
        assert!(now_or_never(fourth).unwrap().is_ok());
    }

    #[test]
    fn nobody_waits_for_ever() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let queue_time = Duration::from_millis(1);
        let limits = DriverLimits { processes: 0, queue: 5, queue_time, ..DriverLimits::default() };
        let places = Places::new(&limits);
        runtime.block_on(async {
            let _one = places.enter().await.unwrap();
            assert_eq!(places.enter().await.unwrap_err(), Failure::Waited(1));
        });
    }
}
