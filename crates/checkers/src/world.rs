//! The machine's own clocks and entropy: the world of a running server.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use countersign::{Moment, World};

/// The machine's world.
#[derive(Debug, Clone, Copy)]
pub struct SystemWorld {
    started: Instant,
    /// The same on the coarse clock.
    began: Duration,
    /// For tests: how far the wall clock is off.
    off_s: Option<&'static AtomicI64>,
}

impl SystemWorld {
    /// Starts the steady clock.
    pub fn new() -> Self {
        Self { started: Instant::now(), began: coarse::steady(), off_s: None }
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
    /// To some milliseconds: a login reads both clocks at each of its steps, and nothing that is decided by a
    /// [`Moment`] is finer than its tick.
    fn now(&self) -> Moment {
        let steady = coarse::steady().saturating_sub(self.began);
        let off = self.off_s.map_or(0, |off| off.load(Ordering::Relaxed));
        Moment {
            steady_ms: u64::try_from(steady.as_millis()).unwrap_or(u64::MAX),
            unix: coarse::unix().saturating_add(off),
        }
    }

    fn fill(&self, bytes: &mut [u8]) {
        // Without entropy every token could be guessed: there is nothing sensible left to do.
        #[allow(clippy::panic)]
        if let Err(error) = getrandom::fill(bytes) {
            panic!("the operating system gives no entropy: {error}");
        }
    }
}

/// Clocks that cost a third of the usual ones, and tick every few milliseconds.
#[cfg(target_os = "linux")]
pub(crate) mod coarse {
    use std::time::Duration;

    use rustix::time::{ClockId, Timespec, clock_gettime};

    /// Since some moment before this.
    pub(crate) fn steady() -> Duration {
        let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::MonotonicCoarse);
        Duration::new(tv_sec.unsigned_abs(), u32::try_from(tv_nsec).unwrap_or(0))
    }

    /// Seconds since 1970.
    pub(super) fn unix() -> i64 {
        clock_gettime(ClockId::RealtimeCoarse).tv_sec
    }
}

/// The usual clocks, where there are no others.
#[cfg(not(target_os = "linux"))]
pub(crate) mod coarse {
    use std::sync::LazyLock;
    use std::time::{Duration, Instant};

    /// Since some moment before this.
    pub(crate) fn steady() -> Duration {
        static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
        FIRST.elapsed()
    }

    /// Seconds since 1970.
    pub(super) fn unix() -> i64 {
        super::unix_ms().0
    }
}
