//! Counters, kept in process: a login must not wait for its own statistics.

pub mod text;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use countersign::Public;

/// How a login ended, as far as counters are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Let in.
    Granted,
    /// Refused, in one of four ways.
    Denied(Public),
    /// Something broke.
    Fault,
}

impl Ended {
    const ALL: [Self; 6] = [
        Self::Granted,
        Self::Denied(Public::Denied),
        Self::Denied(Public::ChangeNeeded),
        Self::Denied(Public::TryLater),
        Self::Denied(Public::Unsupported),
        Self::Fault,
    ];

    fn index(self) -> usize {
        match self {
            Self::Granted => 0,
            Self::Denied(Public::Denied) => 1,
            Self::Denied(Public::ChangeNeeded) => 2,
            Self::Denied(Public::TryLater) => 3,
            Self::Denied(Public::Unsupported) => 4,
            Self::Fault => 5,
        }
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Denied(public) => public.word(),
            Self::Fault => "fault",
        }
    }
}

/// The front ends that are counted apart.
pub const FRONT_ENDS: [&str; 3] = ["http", "dovecot", "saslauthd"];

const BUCKETS: [u64; 12] =
    [10, 50, 100, 500, 1_000, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 10_000_000];

/// The server's counters.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Whether anything is counted.
    pub enabled: bool,
    logins: [[AtomicU64; 6]; FRONT_ENDS.len()],
    /// Logins by how many microseconds they took, in [`BUCKETS`] and above.
    took: [AtomicU64; BUCKETS.len() + 1],
    took_sum_us: AtomicU64,
    /// Connections open now.
    pub connections: AtomicI64,
    /// Audit records that could not be written.
    pub audit_failures: AtomicU64,
    /// How the store answers.
    pub store: StoreLooks,
    /// The totals of the last minute's seconds, oldest first.
    seconds: Mutex<VecDeque<[u64; 6]>>,
}

/// How the store answers when it is looked at, which a server does several times a second.
#[derive(Debug, Default)]
pub struct StoreLooks {
    /// When it last answered, be it with an error, on the steady clock.
    answered_ms: AtomicU64,
    latency_us: AtomicU64,
    down: AtomicBool,
}

impl StoreLooks {
    /// Notes an answer: when it came, how long it took, and whether it was a good one.
    pub fn answered(&self, now_ms: u64, latency_us: u64, up: bool) {
        self.answered_ms.store(now_ms, Ordering::Relaxed);
        self.latency_us.store(latency_us, Ordering::Relaxed);
        self.down.store(!up, Ordering::Relaxed);
    }

    /// When the last answer came, in milliseconds on the steady clock.
    pub fn answered_ms(&self) -> u64 {
        self.answered_ms.load(Ordering::Relaxed)
    }

    /// How long it took, in microseconds.
    pub fn latency_us(&self) -> u64 {
        self.latency_us.load(Ordering::Relaxed)
    }

    /// Whether it was a good one.
    pub fn is_up(&self) -> bool {
        !self.down.load(Ordering::Relaxed)
    }
}

/// Counts of one batch, added to the shared counters at once.
#[derive(Debug, Default)]
pub struct Counts {
    logins: [[u32; 6]; FRONT_ENDS.len()],
    took: [u32; BUCKETS.len() + 1],
    took_sum_us: u64,
    any: bool,
}

impl Counts {
    /// Counts one login.
    pub fn add(&mut self, front_end: &str, ended: Ended, took_us: u64) {
        let front_end = FRONT_ENDS.iter().position(|name| *name == front_end).unwrap_or(0);
        self.logins[front_end][ended.index()] += 1;
        let bucket = BUCKETS.iter().position(|limit| took_us <= *limit).unwrap_or(BUCKETS.len());
        self.took[bucket] += 1;
        self.took_sum_us += took_us;
        self.any = true;
    }
}

impl Metrics {
    /// Counters that count, or do not.
    pub fn new(enabled: bool) -> Self {
        Self { enabled, ..Self::default() }
    }

    /// Adds a batch and empties it.
    pub fn add(&self, counts: &mut Counts) {
        if !std::mem::replace(&mut counts.any, false) {
            return;
        }
        let add = |counter: &AtomicU64, count: &mut u32| {
            if *count != 0 {
                counter.fetch_add(u64::from(std::mem::take(count)), Ordering::Relaxed);
            }
        };
        for (counters, counts) in self.logins.iter().zip(&mut counts.logins) {
            counters.iter().zip(counts).for_each(|(counter, count)| add(counter, count));
        }
        self.took.iter().zip(&mut counts.took).for_each(|(counter, count)| add(counter, count));
        self.took_sum_us.fetch_add(std::mem::take(&mut counts.took_sum_us), Ordering::Relaxed);
    }

    /// How many logins of a front end ended so.
    pub fn logins(&self, front_end: &str, ended: Ended) -> u64 {
        let row = FRONT_ENDS.iter().position(|name| *name == front_end);
        row.map_or(0, |row| self.logins[row][ended.index()].load(Ordering::Relaxed))
    }

    /// How many logins ended so, over all front ends.
    pub fn total(&self, ended: Ended) -> u64 {
        FRONT_ENDS.iter().map(|front_end| self.logins(front_end, ended)).sum()
    }

    /// How many logins took how long, by [`BUCKETS`] and above, and how many microseconds all of them.
    fn durations(&self) -> ([u64; BUCKETS.len() + 1], u64) {
        let counts = std::array::from_fn(|index| self.took[index].load(Ordering::Relaxed));
        (counts, self.took_sum_us.load(Ordering::Relaxed))
    }

    /// Notes the totals; called once a second.
    pub fn tick(&self) {
        let now = Ended::ALL.map(|ended| self.total(ended));
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        if seconds.len() > 60 {
            seconds.pop_front();
        }
        seconds.push_back(now);
    }

    /// How many logins ended so in the last minute, to a second.
    pub fn last_minute(&self, ended: Ended) -> u64 {
        let seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        // Before there was a minute, all were in the last.
        let full = seconds.front().filter(|_| seconds.len() > 60);
        let before = full.map_or(0, |totals| totals[ended.index()]);
        self.total(ended).saturating_sub(before)
    }

    /// Every end that is counted.
    pub fn ends() -> impl Iterator<Item = Ended> {
        Ended::ALL.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_passes() {
        let metrics = Metrics::default();
        let login = || {
            let mut counts = Counts::default();
            counts.add("http", Ended::Granted, 1);
            metrics.add(&mut counts);
        };
        metrics.tick();
        for _ in 0..100 {
            login();
            metrics.tick();
        }
        assert_eq!(metrics.total(Ended::Granted), 100);
        assert_eq!(metrics.last_minute(Ended::Granted), 60);
    }

    #[test]
    fn a_batch_is_counted_once() {
        let metrics = Metrics::default();
        let mut counts = Counts::default();
        counts.add("dovecot", Ended::Granted, 7);
        counts.add("dovecot", Ended::Denied(Public::Denied), 70_000_000);
        metrics.add(&mut counts);
        metrics.add(&mut counts);
        assert_eq!(metrics.logins("dovecot", Ended::Granted), 1);
        assert_eq!(metrics.total(Ended::Denied(Public::Denied)), 1);
        assert_eq!(metrics.took_sum_us.load(Ordering::Relaxed), 70_000_007);
    }
}
