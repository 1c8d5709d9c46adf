//! What is held against whom.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use ipnet::IpNet;

use super::{folded, millis, shown};

/// Distinct wrong proofs that are remembered of a user from an address, as keyed hashes.
pub(super) const MARKS: usize = 8;
/// What is held of users from addresses, and of addresses and networks: each at most so many. The longest
/// quiet go first.
pub(super) const ENTRIES: usize = 65_536;
/// The first delay, in milliseconds.
pub(super) const SHORTEST_MS: u64 = 1_000;

#[derive(Default)]
pub(super) struct Table {
    entries: RwLock<HashMap<u64, Entry>>,
    /// Looked at first: most of the time nobody guesses.
    pub(super) count: AtomicUsize,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Entry {
    pub(super) user: Box<str>,
    pub(super) source: Box<str>,
    pub(super) failures: i64,
    /// On the steady clock, in milliseconds.
    pub(super) until: u64,
    pub(super) last: u64,
    pub(super) marks: [u64; MARKS],
    /// What the store has not been told yet.
    pub(super) unsaid: i64,
    /// What the store has been told: it must be told of a reset too.
    pub(super) said: bool,
    /// Nothing is held against it any more, and the store does not know.
    pub(super) reset: bool,
    /// The times of the store's row that were heard last, in unix milliseconds: a row counts once. Of one that
    /// the wall clock has stepped back behind, each look would find a delay that is still to come.
    pub(super) heard: (i64, i64),
}

impl Table {
    pub(super) fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, HashMap<u64, Entry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, HashMap<u64, Entry>> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for a few more: what is forgotten anyway goes first, then the half that was quiet longest.
    pub(super) fn make_room(&self, entries: &mut HashMap<u64, Entry>, now: u64, window: u64) {
        if entries.len() + 2 <= ENTRIES {
            return;
        }
        let over = |entry: &Entry| entry.until <= now && entry.last.saturating_add(window) < now;
        entries.retain(|_, entry| !over(entry));
        if entries.len() * 2 > ENTRIES {
            let mut ages: Vec<u64> = entries.values().map(|entry| entry.last).collect();
            let middle = ages.len() / 2;
            let median = *ages.select_nth_unstable(middle).1;
            entries.retain(|_, entry| entry.last > median);
        }
    }
}

impl Entry {
    pub(super) fn of(user: &str, source: Option<&IpNet>) -> Self {
        let source = source.map(shown).unwrap_or_default();
        Self { user: folded(user).into(), source: source.into(), ..Self::default() }
    }

    /// Whether this proof is another than those of late.
    pub(super) fn remember(&mut self, mark: u64) -> bool {
        let is_new = mark == 0 || !self.marks.contains(&mark);
        if is_new {
            self.marks.rotate_right(1);
            self.marks[0] = mark;
        }
        is_new
    }

    /// Forgets what is long ago.
    pub(super) fn age(&mut self, now: u64, window: u64) {
        if self.failures > 0 && self.last.saturating_add(window) < now {
            self.failures = 0;
            self.marks = [0; MARKS];
        }
    }

    pub(super) fn fail(&mut self, now: u64, free: u32, longest: Duration) {
        self.failures = self.failures.saturating_add(1);
        self.unsaid += 1;
        self.last = now;
        let beyond = self.failures.saturating_sub(i64::from(free));
        if beyond > 0 {
            let doublings = u32::try_from(beyond - 1).unwrap_or(u32::MAX).min(16);
            self.until = now.saturating_add((SHORTEST_MS << doublings).min(millis(longest)));
        }
    }
}
