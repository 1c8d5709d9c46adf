//! One computation for all who ask the same at the same time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::oneshot;

use super::PoolError;
use super::verified::Attempt;

/// More than so many who wait for one hash are no mail program that opens its connections.
const PASSENGERS: usize = 256;

pub(super) type Answer = Result<bool, PoolError>;

/// A verification that waits or runs, and everybody who waits for its answer.
pub(super) struct Flight {
    pub(super) attempt: Attempt,
    passengers: Mutex<Passengers>,
}

enum Passengers {
    Wait(Vec<oneshot::Sender<Answer>>),
    /// The answer has gone out. Who comes now looks it up, or begins anew.
    Gone,
}

/// Whether a flight took one more along.
pub(super) enum Boarded {
    Yes(oneshot::Receiver<Answer>),
    Full,
    /// It has landed.
    Gone,
}

impl Flight {
    pub(super) fn begin(attempt: Attempt) -> (Arc<Self>, oneshot::Receiver<Answer>) {
        let (sender, answer) = oneshot::channel();
        let passengers = Mutex::new(Passengers::Wait(vec![sender]));
        (Arc::new(Self { attempt, passengers }), answer)
    }

    fn board(&self) -> Boarded {
        let mut passengers = self.passengers();
        let Passengers::Wait(waiting) = &mut *passengers else { return Boarded::Gone };
        if waiting.len() >= PASSENGERS {
            // Those who hung up hold no place.
            waiting.retain(|sender| !sender.is_closed());
        }
        if waiting.len() >= PASSENGERS {
            return Boarded::Full;
        }
        let (sender, answer) = oneshot::channel();
        waiting.push(sender);
        Boarded::Yes(answer)
    }

    /// Whether everybody has hung up.
    pub(super) fn empty(&self) -> bool {
        match &*self.passengers() {
            Passengers::Wait(waiting) => waiting.iter().all(oneshot::Sender::is_closed),
            Passengers::Gone => true,
        }
    }

    /// Tells everybody.
    pub(super) fn land(&self, answer: &Answer) {
        let gone = std::mem::replace(&mut *self.passengers(), Passengers::Gone);
        let Passengers::Wait(waiting) = gone else { return };
        for sender in waiting {
            let _ = sender.send(answer.clone());
        }
    }

    /// Nothing panics while it holds the lock.
    fn passengers(&self) -> MutexGuard<'_, Passengers> {
        self.passengers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The flights of a pool. A job holds its flight: when the job is dropped, for nobody waited, the flight has
/// ended, and its entry here is swept out some time.
pub(super) struct Flights {
    known: HashMap<Attempt, Weak<Flight>>,
    /// Beyond so many entries some must have ended: twice the jobs that there can be.
    sweep_at: usize,
}

impl Flights {
    pub(super) fn new(jobs: usize) -> Self {
        Self { known: HashMap::new(), sweep_at: jobs.saturating_mul(2).max(16) }
    }

    /// Boards the flight of this attempt, if there is one.
    pub(super) fn board(&self, attempt: &Attempt) -> Boarded {
        match self.known.get(attempt).and_then(Weak::upgrade) {
            Some(flight) => flight.board(),
            None => Boarded::Gone,
        }
    }

    pub(super) fn add(&mut self, flight: &Arc<Flight>) {
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, flight| flight.strong_count() > 0);
        }
        self.known.insert(flight.attempt, Arc::downgrade(flight));
    }

    /// Takes out what has landed.
    pub(super) fn remove(&mut self, flight: &Arc<Flight>) {
        let same = |known: &Weak<Flight>| std::ptr::eq(known.as_ptr(), Arc::as_ptr(flight));
        if self.known.get(&flight.attempt).is_some_and(same) {
            self.known.remove(&flight.attempt);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}
