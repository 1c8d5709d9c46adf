//! The machine's own clocks and entropy: the world of a running server.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use countersign::{Moment, World};

/// The machine's world.
#[derive(Debug, Clone, Copy)]
pub struct SystemWorld {
    started: Instant,
    /// For tests: how far the wall clock is off.
    off_s: Option<&'static AtomicI64>,
}

impl SystemWorld {
    /// Starts the steady clock.
    pub fn new() -> Self {
        Self { started: Instant::now(), off_s: None }
    }

    /// The machine's world, except that its wall clock is so many seconds ahead of the machine's, or behind
    /// it: for tests of a clock that is stepped while a server runs. The steady clock is the machine's.
    #[must_use]
    pub fn off_by(seconds: &'static AtomicI64) -> Self {
        Self { off_s: Some(seconds), ..Self::new() }
    }

    /// Seconds since 1970 and the milliseconds beyond, on the wall clock.
    pub fn unix_ms(&self) -> (i64, u16) {
        let (unix, ms) = unix_ms();
        let off = self.off_s.map_or(0, |off| off.load(Ordering::Relaxed));
        (unix.saturating_add(off), ms)
    }

    /// Nanoseconds since 1970, on the wall clock: for traces, whose parts lie closer together than
    /// milliseconds.
    pub fn unix_ns(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let off = self.off_s.map_or(0, |off| off.load(Ordering::Relaxed));
        let ns = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        ns.saturating_add_signed(off.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds on the steady clock.
    pub fn steady_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Default for SystemWorld {
    fn default() -> Self {
        Self::new()
    }
}

/// Seconds since 1970 and the milliseconds beyond, on the machine's wall clock.
pub fn unix_ms() -> (i64, u16) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    (seconds, u16::try_from(since.subsec_millis()).unwrap_or(0))
}

impl World for SystemWorld {
    fn now(&self) -> Moment {
        Moment { steady_ms: self.steady_ns() / 1_000_000, unix: self.unix_ms().0 }
    }

    fn fill(&self, bytes: &mut [u8]) {
        // Without entropy every token could be guessed: there is nothing sensible left to do.
        #[allow(clippy::panic)]
        if let Err(error) = getrandom::fill(bytes) {
            panic!("the operating system gives no entropy: {error}");
        }
    }
}
