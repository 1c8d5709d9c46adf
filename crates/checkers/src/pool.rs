//! Threads for slow hashes, so that nobody else's login waits for them.
//!
//! A login that needs argon2 takes a thousand times as long as one that does not. Here the slow ones
//! wait in a line of their own: bounded, so that overload is an answer at once and not a delay; fair,
//! so that one user's thousand attempts cost another user one place; with an age limit, so that nothing
//! is computed for a peer that has given up.
//!
//! Equal attempts at the same time are one computation, and its answer is remembered for a while
//! ([`Remember`]): a mail program that logs in again with the same password costs a lookup.
//!
//! Memory is bounded by threads × the largest accepted `m`; between jobs a thread keeps at most 64 MiB.

use std::borrow::Cow;
use std::future::Future;
use std::hash::BuildHasher;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use countersign::{Fault, FaultKind, Secret};
use thiserror::Error;
use tokio::sync::oneshot;

use crate::hash::{Accept, Cost, Hash, HashError, Memory, Recipe};

mod flight;
mod queue;
mod verified;

pub use verified::Remember;

use flight::{Answer, Boarded, Flight, Flights};
use queue::{Abandoned, Popped, Queue};
use verified::{Attempt, Key, Verified};

/// How large a pool is, and whom it serves first.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// How many hashes are computed at a time. Default: what the system says can run in parallel.
    pub threads: NonZeroUsize,
    /// How many jobs may wait. Default 300: some two seconds of argon2id on two cores.
    pub queue: usize,
    /// How many of them may have the same key. Default 75, a quarter.
    pub per_key: usize,
    /// How long one may wait. Default 8 seconds, for Postfix hangs up after 10.
    pub max_age: Duration,
    /// How much the threads step back for others: 0 not at all, up to 19. Default 10, at which a busy
    /// thread of normal priority gets nine tenths of a contended core. Linux only; elsewhere without
    /// effect.
    pub niceness: u8,
    /// Which answers are remembered.
    pub remember: Remember,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            threads: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            queue: 300,
            per_key: 75,
            max_age: Duration::from_secs(8),
            niceness: 10,
            remember: Remember::default(),
        }
    }
}

/// Why a hash was not computed. None of them says anything about the password: all are "try later",
/// and none lets anybody in.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The line is full, or this key has its share of it.
    #[error("too many logins wait for a password hash; try later, or give the pool more threads")]
    Busy,
    /// It waited longer than the limit.
    #[error(
        "the login waited too long for a password hash; try later, or give the pool more threads"
    )]
    TooLate,
    /// The pool has been closed.
    #[error("the hashing pool has been closed")]
    Closed,
    /// The hash function panicked. The pool lives on.
    #[error("a password hash function panicked; this is a bug")]
    Panicked,
    /// The hash could not be made.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The stored text is no hash that can be verified. Only [`HashPool::verify_text`] reads texts.
    #[error("the stored hash cannot be read")]
    Stored(#[source] HashError),
}

/// Whether a password is the right one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// It is not.
    No,
    /// It is: that was computed for this login, or for an equal one at the same time.
    Yes,
    /// It is: that was computed a while ago. There is no need to look whether the stored hash is outdated;
    /// it was looked then.
    Remembered,
}

impl Match {
    /// Whether it is the password.
    pub fn is_right(self) -> bool {
        self != Self::No
    }
}

/// What a pool has done and holds. For metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Threads that compute.
    pub threads: usize,
    /// Jobs that may wait.
    pub queue: usize,
    /// Hashes that the threads have computed, failed ones too.
    pub computed: u64,
    /// Jobs that wait, those that run not counted.
    pub waiting: usize,
    /// Verifications that were answered from memory.
    pub remembered: u64,
    /// Verifications that had to be computed.
    pub missed: u64,
    /// Verifications that waited for the computation of an equal one.
    pub shared: u64,
    /// Answers in memory.
    pub entries: usize,
}

impl PoolError {
    /// The error for the operator, with what was being done. Whoever meets it must let nobody in.
    pub fn fault(self, context: impl Into<Cow<'static, str>>) -> Fault {
        let kind = match self {
            Self::Busy | Self::TooLate | Self::Hash(HashError::OutOfMemory { .. }) => {
                FaultKind::Overloaded
            }
            Self::Closed => FaultKind::Unavailable,
            Self::Panicked | Self::Hash(_) | Self::Stored(_) => FaultKind::Internal,
        };
        Fault::new(kind, context).caused_by(self)
    }
}

/// A bounded pool of threads that verify and create hashes. Dropping it closes it; running hashes
/// finish unheard.
pub struct HashPool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Jobs that may wait.
    queue: usize,
    /// Keys are kept as 64 bits under a secret of this pool: no name is stored, and nobody can choose
    /// names that meet.
    keys: std::hash::RandomState,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    key: Key,
    verified: Verified,
    computed: AtomicU64,
    remembered: AtomicU64,
    missed: AtomicU64,
    joined: AtomicU64,
}

struct State {
    queue: Queue<Job>,
    /// Under the lock of the queue, which drops jobs that nobody waits for: nobody boards one that is being
    /// dropped.
    flights: Flights,
    closed: bool,
}

struct Job {
    password: Secret,
    task: Task,
}

enum Task {
    Verify(Hash, Arc<Flight>),
    Create(Recipe, [u8; 16], Reply<Hash>),
}

type Reply<T> = oneshot::Sender<Result<T, PoolError>>;

impl HashPool {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system's, when it gives no thread or no randomness.
    pub fn start(options: &PoolOptions) -> std::io::Result<Self> {
        let queue = Queue::new(options.queue, options.per_key, options.max_age);
        let mut pool = Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    queue,
                    flights: Flights::new(options.queue.saturating_add(options.threads.get())),
                    closed: false,
                }),
                work: Condvar::new(),
                key: Key::draw()?,
                verified: Verified::new(&options.remember),
                computed: AtomicU64::new(0),
                remembered: AtomicU64::new(0),
                missed: AtomicU64::new(0),
                joined: AtomicU64::new(0),
            }),
            threads: Vec::with_capacity(options.threads.get()),
            queue: options.queue,
            keys: std::hash::RandomState::new(),
        };
        let niceness = options.niceness.min(19);
        for _ in 0..options.threads.get() {
            let shared = Arc::clone(&pool.shared);
            let thread = thread::Builder::new().name("hash".to_owned());
            // On an error `pool` is dropped, which ends the threads that did start.
            pool.threads.push(thread.spawn(move || {
                step_back(niceness);
                run(&shared);
            })?);
        }
        Ok(pool)
    }

    /// Whether this is the password of a stored hash, as it is stored. `login` is who logs in: whom to be
    /// fair to, and whose answer is remembered.
    ///
    /// What is remembered is looked up before the text is read. A cheap hash is verified at once, in the
    /// caller's thread. The job is queued when this is called, not when the future is first polled;
    /// dropping the future takes it out again.
    ///
    /// # Errors
    /// [`PoolError`]: nobody was let in, and the password may have been right. [`PoolError::Stored`] when
    /// the text cannot be read.
    pub fn verify_text(
        &self,
        login: &str,
        stored: &str,
        accept: &Accept,
        password: &Secret,
    ) -> impl Future<Output = Result<Match, PoolError>> + Send + use<> {
        let attempt = self.shared.key.of_text(login, stored, accept, password.expose());
        let read = || Hash::parse(stored, accept).map_err(PoolError::Stored);
        self.lookup(attempt, login, password, read).end()
    }

    /// Whether this is the password of a hash that has been read. Otherwise as [`HashPool::verify_text`].
    ///
    /// # Errors
    /// As [`HashPool::verify_text`], but for [`PoolError::Stored`].
    pub fn verify(
        &self,
        hash: &Hash,
        password: &Secret,
        login: &str,
    ) -> impl Future<Output = Result<Match, PoolError>> + Send + use<> {
        let verification = match hash.cost() {
            Cost::Cheap => Verification::known(Ok(hash.verify(password))),
            Cost::Expensive => {
                let attempt = self.shared.key.of_hash(login, hash, password.expose());
                self.lookup(attempt, login, password, || Ok(hash.clone()))
            }
        };
        verification.end()
    }

    fn lookup(
        &self,
        attempt: Attempt,
        login: &str,
        password: &Secret,
        hash: impl FnOnce() -> Result<Hash, PoolError>,
    ) -> Verification {
        let shared = &self.shared;
        if let Some(right) = shared.verified.answer(&attempt, Instant::now()) {
            shared.remembered.fetch_add(1, Relaxed);
            return Verification::Known(Ok(if right { Match::Remembered } else { Match::No }));
        }
        let hash = match hash() {
            Ok(hash) => hash,
            Err(error) => return Verification::known(Err(error)),
        };
        if hash.cost() == Cost::Cheap {
            return Verification::known(Ok(hash.verify(password)));
        }
        self.fly(attempt, hash, login, password)
            .unwrap_or_else(|error| Verification::known(Err(error)))
    }

    /// Boards the equal attempt that is under way, or begins one.
    fn fly(
        &self,
        attempt: Attempt,
        hash: Hash,
        login: &str,
        password: &Secret,
    ) -> Result<Verification, PoolError> {
        let shared = &self.shared;
        let key = self.keys.hash_one(login);
        // Copied before the lock, and if it was for nothing, wiped after it.
        let (flight, answer) = Flight::begin(attempt);
        let task = Task::Verify(hash, Arc::clone(&flight));
        let job = Job { password: password.clone(), task };
        let mut state = shared.lock();
        if state.closed {
            return Err(PoolError::Closed);
        }
        match state.flights.board(&attempt) {
            Boarded::Yes(answer) => {
                drop(state);
                shared.joined.fetch_add(1, Relaxed);
                return Ok(Verification::Waits(answer));
            }
            Boarded::Full => {
                drop(state);
                return Err(PoolError::Busy);
            }
            // It may have landed since we looked; what it found was remembered before that.
            Boarded::Gone => {
                if let Some(right) = shared.verified.answer(&attempt, Instant::now()) {
                    drop(state);
                    return Ok(Verification::known(Ok(right)));
                }
            }
        }
        let pushed = state.queue.push(key, job, Instant::now());
        if pushed.is_ok() {
            state.flights.add(&flight);
        }
        drop(state);
        pushed.map_err(|_| PoolError::Busy)?;
        shared.missed.fetch_add(1, Relaxed);
        shared.work.notify_one();
        Ok(Verification::Waits(answer))
    }

    /// Hashes a new password. `salt` is 16 fresh random bytes; `key` is whom to be fair to: the user's name.
    ///
    /// # Errors
    /// [`PoolError`], with [`PoolError::Hash`] when this recipe cannot hold this password.
    pub fn create(
        &self,
        recipe: Recipe,
        password: Secret,
        salt: [u8; 16],
        key: &str,
    ) -> impl Future<Output = Result<Hash, PoolError>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        let job = Job { password, task: Task::Create(recipe, salt, reply) };
        let submitted = self.submit(key, job);
        async move {
            submitted?;
            answer.await.unwrap_or(Err(PoolError::Closed))
        }
    }

    fn submit(&self, key: &str, job: Job) -> Result<(), PoolError> {
        let key = self.keys.hash_one(key);
        let mut state = self.shared.lock();
        if state.closed {
            return Err(PoolError::Closed);
        }
        let pushed = state.queue.push(key, job, Instant::now());
        drop(state);
        // A refused job is wiped here, outside of the lock.
        pushed.map_err(|_| PoolError::Busy)?;
        self.shared.work.notify_one();
        Ok(())
    }

    /// Forgets every answer. Those that are being computed are remembered still: they depend on nothing but
    /// the stored hash.
    pub fn clear(&self) {
        self.shared.verified.clear();
    }

    /// What it has done and holds.
    pub fn statistics(&self) -> Statistics {
        let shared = &self.shared;
        Statistics {
            threads: self.threads.len(),
            queue: self.queue,
            computed: self.computed(),
            waiting: self.waiting(),
            remembered: shared.remembered.load(Relaxed),
            missed: shared.missed.load(Relaxed),
            shared: shared.joined.load(Relaxed),
            entries: shared.verified.len(),
        }
    }

    /// How many jobs wait, those that run not counted. For metrics.
    pub fn waiting(&self) -> usize {
        self.shared.lock().queue.len()
    }

    /// How many hashes the threads have computed, failed ones too. For metrics.
    pub fn computed(&self) -> u64 {
        self.shared.computed.load(Relaxed)
    }

    /// Takes no more jobs and drops those that wait: their callers get [`PoolError::Closed`]. Running
    /// hashes finish and are answered. Does not block.
    pub fn close(&self) {
        let mut state = self.shared.lock();
        state.closed = true;
        state.queue.clear();
        drop(state);
        self.shared.work.notify_all();
    }

    /// [`HashPool::close`], then waits for the running hashes. Blocks: not for a runtime's thread.
    pub fn join(mut self) {
        self.close();
        for thread in self.threads.drain(..) {
            // Panics are caught inside, so there is no result to look at.
            let _ = thread.join();
        }
    }
}

impl Drop for HashPool {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for HashPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HashPool").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

impl Shared {
    /// Nothing panics while it holds the lock; if something did, the queue would still be one.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Remembers an answer, then tells it: in this order, nobody who comes now finds neither the flight nor
    /// the answer. An error is not remembered.
    fn land(&self, flight: &Arc<Flight>, answer: &Answer) {
        if let Ok(right) = *answer {
            self.verified.remember(flight.attempt, right, Instant::now());
        }
        self.lock().flights.remove(flight);
        flight.land(answer);
    }
}

/// A verification on its way.
enum Verification {
    Known(Result<Match, PoolError>),
    Waits(oneshot::Receiver<Answer>),
}

impl Verification {
    fn known(answer: Answer) -> Self {
        Self::Known(answer.map(computed))
    }

    async fn end(self) -> Result<Match, PoolError> {
        match self {
            Self::Known(answer) => answer,
            Self::Waits(answer) => answer.await.unwrap_or(Err(PoolError::Closed)).map(computed),
        }
    }
}

fn computed(right: bool) -> Match {
    if right { Match::Yes } else { Match::No }
}

impl Abandoned for Job {
    fn abandoned(&self) -> bool {
        match &self.task {
            Task::Verify(_, flight) => flight.empty(),
            Task::Create(_, _, reply) => reply.is_closed(),
        }
    }
}

/// The life of one thread.
fn run(shared: &Shared) {
    let mut memory = Memory::default();
    let mut state = shared.lock();
    let mut clean = true;
    loop {
        if state.closed {
            return;
        }
        let Some(popped) = state.queue.pop(Instant::now()) else {
            if clean {
                state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            } else {
                // Nobody waits for this: the answer has gone out already.
                drop(state);
                memory.wipe();
                clean = true;
                state = shared.lock();
            }
            continue;
        };
        drop(state);
        match popped {
            Popped::TooLate(job) => job.fail(PoolError::TooLate, shared),
            Popped::Job(job) => {
                clean = false;
                // Before the answer, so that whoever has it finds it counted.
                shared.computed.fetch_add(1, Relaxed);
                job.compute(&mut memory, shared);
            }
        }
        state = shared.lock();
    }
}

impl Job {
    fn fail(self, error: PoolError, shared: &Shared) {
        match self.task {
            Task::Verify(_, flight) => shared.land(&flight, &Err(error)),
            Task::Create(_, _, reply) => drop(reply.send(Err(error))),
        }
    }

    fn compute(self, memory: &mut Memory, shared: &Shared) {
        let Self { password, task } = self;
        match task {
            Task::Verify(hash, flight) => {
                let result = guarded(memory, |memory| hash.verify_in(&password, memory));
                // Before the answer: whoever has it may count on the password being gone.
                drop(password);
                shared.land(&flight, &result);
            }
            Task::Create(recipe, salt, reply) => {
                let create =
                    |memory: &mut Memory| Hash::create_in(&recipe, &password, salt, memory);
                let result = guarded(memory, create);
                drop(password);
                let _ = reply.send(result);
            }
        }
    }
}

/// A panic inside a hash is that hash's.
fn guarded<T>(
    memory: &mut Memory,
    work: impl FnOnce(&mut Memory) -> Result<T, HashError>,
) -> Result<T, PoolError> {
    match catch_unwind(AssertUnwindSafe(|| work(memory))) {
        Ok(result) => result.map_err(PoolError::from),
        Err(_) => {
            // Every block is overwritten before it is read, but a fresh start needs no argument.
            *memory = Memory::default();
            Err(PoolError::Panicked)
        }
    }
}

/// Lowers the priority of the calling thread.
fn step_back(niceness: u8) {
    // On Linux, and only there, "the calling process" of setpriority(2) is the calling thread.
    #[cfg(target_os = "linux")]
    if niceness > 0 {
        // Going down is always permitted; a refusal (by seccomp, say) costs only the courtesy.
        let _ = rustix::process::setpriority_process(None, niceness.into());
    }
    #[cfg(not(target_os = "linux"))]
    let _ = niceness;
}

#[cfg(test)]
pub(crate) mod tests;
