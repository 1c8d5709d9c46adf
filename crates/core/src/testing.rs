//! What tests and examples need of a world: a clock that stands still, and a poll that needs no runtime.

use std::future::Future;
use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use crate::{Moment, World};

/// A world whose clocks move when told to, and whose entropy is a counter: never for production.
#[derive(Debug, Default)]
pub struct StillWorld {
    steady_ms: AtomicU64,
    unix: AtomicI64,
    entropy: Mutex<u64>,
}

impl StillWorld {
    /// Lets time pass on both clocks.
    pub fn advance_ms(&self, milliseconds: u64) {
        let before = self.steady_ms.fetch_add(milliseconds, Ordering::SeqCst);
        let seconds = (before + milliseconds) / 1000 - before / 1000;
        self.unix.fetch_add(i64::try_from(seconds).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// Steps the wall clock, as an administrator or a time daemon does.
    pub fn set_unix(&self, seconds: i64) {
        self.unix.store(seconds, Ordering::SeqCst);
    }
}

impl World for StillWorld {
    fn now(&self) -> Moment {
        Moment {
            steady_ms: self.steady_ms.load(Ordering::SeqCst),
            unix: self.unix.load(Ordering::SeqCst),
        }
    }

    fn fill(&self, bytes: &mut [u8]) {
        let mut counter = self.entropy.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for chunk in bytes.chunks_mut(8) {
            *counter =
                counter.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            chunk.copy_from_slice(&counter.to_be_bytes()[..chunk.len()]);
        }
    }
}

/// Polls once. `None` when the future waits for something.
pub fn now_or_never<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
