//! The waiting line in front of the hashing threads: bounded, fair between keys, with an age limit.
//! No threads and no clock here, so that tests own both.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// What waits: how to see that nobody wants it any more.
pub(super) trait Abandoned {
    fn abandoned(&self) -> bool;
}

pub(super) struct Queue<J> {
    /// Entries by key, each line in order of arrival. A key without entries is not in the map.
    lines: HashMap<u64, VecDeque<(Instant, J)>>,
    /// Whose turn it is: every key of `lines` once.
    turns: VecDeque<u64>,
    len: usize,
    capacity: usize,
    per_key: usize,
    max_age: Duration,
}

/// What [`Queue::pop`] found.
pub(super) enum Popped<J> {
    Job(J),
    /// Waited too long: not worth computing, the peer has gone or will be answered after its patience.
    TooLate(J),
}

impl<J: Abandoned> Queue<J> {
    pub(super) fn new(capacity: usize, per_key: usize, max_age: Duration) -> Self {
        Self { lines: HashMap::new(), turns: VecDeque::new(), len: 0, capacity, per_key, max_age }
    }

    /// Puts a job at the end of its key's line, or gives it back when there is no room, in the queue
    /// or for this key.
    pub(super) fn push(&mut self, key: u64, job: J, now: Instant) -> Result<(), J> {
        let held = |queue: &Self| queue.lines.get(&key).map_or(0, VecDeque::len);
        if self.len >= self.capacity || held(self) >= self.per_key {
            // Callers who hung up hold places until their turn comes; nobody is refused for them.
            self.sweep();
        }
        if self.len >= self.capacity || held(self) >= self.per_key {
            return Err(job);
        }
        let line = self.lines.entry(key).or_default();
        if line.is_empty() {
            self.turns.push_back(key);
        }
        line.push_back((now, job));
        self.len += 1;
        Ok(())
    }

    /// The oldest job of the key whose turn it is. Abandoned ones are dropped on the way.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Popped<J>> {
        loop {
            let key = self.turns.pop_front()?;
            let line = self.lines.get_mut(&key)?;
            let (since, job) = line.pop_front()?;
            self.len -= 1;
            let late = now.saturating_duration_since(since) > self.max_age;
            match line.is_empty() {
                true => drop(self.lines.remove(&key)),
                // What cost no work cost no turn either.
                false if late || job.abandoned() => self.turns.push_front(key),
                false => self.turns.push_back(key),
            }
            match (job.abandoned(), late) {
                (true, _) => continue,
                (false, true) => return Some(Popped::TooLate(job)),
                (false, false) => return Some(Popped::Job(job)),
            }
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Empties it.
    pub(super) fn clear(&mut self) {
        self.lines.clear();
        self.turns.clear();
        self.len = 0;
    }

    fn sweep(&mut self) {
        self.lines.retain(|_, line| {
            line.retain(|(_, job)| !job.abandoned());
            !line.is_empty()
        });
        self.turns.retain(|key| self.lines.contains_key(key));
        self.len = self.lines.values().map(VecDeque::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Abandoned for (u64, u32) {
        fn abandoned(&self) -> bool {
            self.1 >= 1000
        }
    }

    fn queue() -> Queue<(u64, u32)> {
        Queue::new(4, 3, Duration::from_secs(8))
    }

    fn order(queue: &mut Queue<(u64, u32)>, now: Instant) -> Vec<(u64, u32)> {
        std::iter::from_fn(|| match queue.pop(now) {
            Some(Popped::Job(job)) => Some(job),
            Some(Popped::TooLate(job)) => Some((job.0, job.1 + 100)),
            None => None,
        })
        .collect()
    }

    #[test]
    fn keys_take_turns_and_keep_their_order() {
        let (mut queue, now) = (queue(), Instant::now());
        for job in [(1, 1), (1, 2), (1, 3), (2, 1)] {
            queue.push(job.0, job, now).unwrap();
        }
        assert_eq!(order(&mut queue, now), [(1, 1), (2, 1), (1, 2), (1, 3)]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn one_key_may_not_fill_it_and_all_together_not_overfill_it() {
        let (mut queue, now) = (queue(), Instant::now());
        for n in 0..3 {
            queue.push(1, (1, n), now).unwrap();
        }
        assert_eq!(queue.push(1, (1, 3), now), Err((1, 3)));
        queue.push(2, (2, 0), now).unwrap();
        assert_eq!(queue.push(3, (3, 0), now), Err((3, 0)));
        assert_eq!(queue.len(), 4);
    }

    #[test]
    fn who_hung_up_holds_no_place() {
        let (mut queue, now) = (queue(), Instant::now());
        for n in [1000, 1001, 7] {
            queue.push(1, (1, n), now).unwrap();
        }
        queue.push(1, (1, 8), now).unwrap();
        assert_eq!(queue.len(), 2);
        queue.push(2, (2, 1000), now).unwrap();
        assert_eq!(order(&mut queue, now), [(1, 7), (1, 8)]);
    }

    #[test]
    fn what_waited_too_long_is_told_so() {
        let (mut queue, start) = (queue(), Instant::now());
        queue.push(1, (1, 1), start).unwrap();
        queue.push(1, (1, 2), start + Duration::from_secs(5)).unwrap();
        queue.push(2, (2, 3), start + Duration::from_secs(5)).unwrap();
        let now = start + Duration::from_secs(9);
        assert_eq!(order(&mut queue, now), [(1, 101), (1, 2), (2, 3)]);
    }

    proptest! {
        /// Whatever comes: no job is lost or invented, and the bounds hold.
        #[test]
        fn every_job_comes_out_once(ops in proptest::collection::vec((0..5u64, 0..3u8), 0..200)) {
            let (mut queue, now) = (Queue::new(10, 4, Duration::from_secs(8)), Instant::now());
            let (mut next, mut inside) = (0, Vec::new());
            for (key, op) in ops {
                if op < 2 {
                    let job = (key, next % 1000);
                    next += 1;
                    if queue.push(key, job, now).is_ok() {
                        inside.push(job);
                    } else {
                        let same = inside.iter().filter(|j| j.0 == key).count();
                        prop_assert!(inside.len() == 10 || same == 4);
                    }
                } else if let Some(Popped::Job(job)) = queue.pop(now) {
                    let at = inside.iter().position(|j| j.0 == job.0);
                    prop_assert_eq!(inside.remove(at.unwrap()), job);
                } else {
                    prop_assert!(inside.is_empty());
                }
                prop_assert_eq!(queue.len(), inside.len());
            }
        }
    }
}
