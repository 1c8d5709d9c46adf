//! The smallest executor: the calling thread, with a deadline.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// The future was not ready in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOut {
    /// How long it was waited for.
    pub after: Duration,
}

impl std::fmt::Display for TimedOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "nothing came within {:?}", self.after)
    }
}

impl std::error::Error for TimedOut {}

/// Runs a future on the calling thread until it is ready, for at most `patience`.
///
/// It drives no I/O and no timers: whatever needs a runtime is tested inside of that runtime.
///
/// # Errors
///
/// [`TimedOut`]; the future has then been dropped.
pub fn block_on<F: Future>(future: F, patience: Duration) -> Result<F::Output, TimedOut> {
    let deadline = Instant::now() + patience;
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Ok(output);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(TimedOut { after: patience });
        }
        std::thread::park_timeout(left);
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wakes_from_another_thread() {
        let mut begun = false;
        let future = std::future::poll_fn(|context| {
            if std::mem::replace(&mut begun, true) {
                return Poll::Ready(7);
            }
            let waker = context.waker().clone();
            std::thread::spawn(move || waker.wake());
            Poll::Pending
        });
        assert_eq!(block_on(future, Duration::from_secs(10)), Ok(7));
    }

    #[test]
    fn gives_up_at_the_deadline() {
        let after = Duration::from_millis(1);
        assert_eq!(block_on(std::future::pending::<()>(), after), Err(TimedOut { after }));
    }
}
