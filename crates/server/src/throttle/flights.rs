//! Guesses that are under way: admitted, and not ended.
//!
//! A failure counts when it is known, and a slow hash takes its time: whoever sends many guesses at once would
//! have them all looked at before the first one counts. So those under way count as if they were wrong, until
//! they end. Equal ones are one guess.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A login that was dropped does not tell its end. After so many milliseconds it is over all the same: its
/// deadline was earlier.
const OVER_MS: u64 = 60_000;
/// So that logins on many threads seldom wait for each other.
const SHARDS: usize = 16;
/// Users from addresses with guesses under way, of each shard. Beyond it nothing more is held: there are never
/// so many logins at a time.
const KEYS: usize = 8_192;

/// Guesses under way.
#[derive(Default)]
pub(super) struct Flights([Mutex<Shard>; SHARDS]);

/// By user and source.
type Shard = HashMap<u64, Vec<Guess>>;

/// Equal guesses.
struct Guess {
    mark: u64,
    /// When the last of them began.
    since: u64,
    times: u32,
}

impl Flights {
    /// Begins a guess with this mark, unless more than `free` different ones are under way already. Alone it
    /// may always begin, and nobody is asked how many are free.
    pub(super) fn begin(
        &self,
        key: u64,
        mark: u64,
        now_ms: u64,
        free: impl FnOnce() -> usize,
    ) -> bool {
        let mut shard = self.shard(key);
        if shard.len() >= KEYS {
            shard.retain(|_, guesses| guesses.iter().any(|guess| guess.is_on(now_ms)));
            if shard.len() >= KEYS {
                return true;
            }
        }
        let guesses = shard.entry(key).or_default();
        guesses.retain(|guess| guess.is_on(now_ms));
        if let Some(equal) = guesses.iter_mut().find(|guess| guess.mark == mark) {
            (equal.since, equal.times) = (now_ms, equal.times.saturating_add(1));
            return true;
        }
        let begins = guesses.is_empty() || guesses.len() <= free();
        if begins {
            guesses.push(Guess { mark, since: now_ms, times: 1 });
        }
        begins
    }

    /// Ends a guess.
    pub(super) fn end(&self, key: u64, mark: u64) {
        let mut shard = self.shard(key);
        let Some(guesses) = shard.get_mut(&key) else { return };
        if let Some(at) = guesses.iter().position(|guess| guess.mark == mark) {
            guesses[at].times -= 1;
            if guesses[at].times == 0 {
                guesses.swap_remove(at);
            }
        }
        if guesses.is_empty() {
            shard.remove(&key);
        }
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, Shard> {
        let at = usize::try_from(key % SHARDS as u64).unwrap_or(0);
        self.0[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guess {
    fn is_on(&self, now_ms: u64) -> bool {
        self.since.saturating_add(OVER_MS) > now_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_guesses_count_and_equal_ones_do_not() {
        let flights = Flights::default();
        assert!((1..=3).all(|mark| flights.begin(7, mark, 0, || 2)));
        assert!(!flights.begin(7, 4, 0, || 2));
        assert!(flights.begin(7, 3, 0, || 2) && flights.begin(8, 4, 0, || 0));
        flights.end(7, 3);
        assert!(!flights.begin(7, 4, 0, || 2), "another equal one is under way");
        flights.end(7, 3);
        flights.end(7, 9);
        assert!(flights.begin(7, 4, 0, || 2));
        for mark in [1, 2, 4] {
            flights.end(7, mark);
        }
        flights.end(8, 4);
        assert!(flights.0.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }

    #[test]
    fn one_alone_always_begins_and_the_forgotten_end() {
        let flights = Flights::default();
        assert!(flights.begin(7, 1, 0, || 0));
        assert!(!flights.begin(7, 2, OVER_MS - 1, || 0));
        assert!(flights.begin(7, 2, OVER_MS, || 0));
    }

    #[test]
    fn there_is_a_bound() {
        let flights = Flights::default();
        assert!((0..1000).all(|_| flights.begin(7, 1, 0, || 0)));
        (0..1000).for_each(|_| flights.end(7, 1));
        let step = SHARDS as u64;
        for key in 0..(KEYS as u64 + 10) {
            assert!(flights.begin(key * step, 1, 0, || 0));
        }
        assert_eq!(flights.0[0].lock().unwrap().len(), KEYS);
        assert!(flights.begin(0, 1, OVER_MS, || 0));
        assert_eq!(flights.0[0].lock().unwrap().len(), 1);
    }
}
