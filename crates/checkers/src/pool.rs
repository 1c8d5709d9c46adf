//! Threads for slow hashes, so that nobody else's login waits for them.
//!
//! A login that needs argon2 takes a thousand times as long as one that does not. Here the slow ones
//! wait in a line of their own: bounded, so that overload is an answer at once and not a delay; fair,
//! so that one user's thousand attempts cost another user one place; with an age limit, so that nothing
//! is computed for a peer that has given up.
//!
//! Memory is bounded by threads × the largest accepted `m`; between jobs a thread keeps at most 64 MiB.

use std::borrow::Cow;
use std::future::Future;
use std::hash::BuildHasher;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use countersign::{Fault, FaultKind, Secret};
use thiserror::Error;
use tokio::sync::oneshot;

use crate::hash::{Cost, Hash, HashError, Memory, Recipe};

mod queue;

use queue::{Abandoned, Popped, Queue};

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
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            threads: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            queue: 300,
            per_key: 75,
            max_age: Duration::from_secs(8),
            niceness: 10,
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
}

impl PoolError {
    /// The error for the operator, with what was being done. Whoever meets it must let nobody in.
    pub fn fault(self, context: impl Into<Cow<'static, str>>) -> Fault {
        let kind = match self {
            Self::Busy | Self::TooLate | Self::Hash(HashError::OutOfMemory { .. }) => {
                FaultKind::Overloaded
            }
            Self::Closed => FaultKind::Unavailable,
            Self::Panicked | Self::Hash(_) => FaultKind::Internal,
        };
        Fault::new(kind, context).caused_by(self)
    }
}

/// A bounded pool of threads that verify and create hashes. Dropping it closes it; running hashes
/// finish unheard.
pub struct HashPool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Keys are kept as 64 bits under a secret of this pool: no name is stored, and nobody can choose
    /// names that meet.
    keys: std::hash::RandomState,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    computed: AtomicU64,
}

struct State {
    queue: Queue<Job>,
    closed: bool,
}

struct Job {
    password: Secret,
    task: Task,
}

enum Task {
    Verify(Hash, Reply<bool>),
    Create(Recipe, [u8; 16], Reply<Hash>),
}

type Reply<T> = oneshot::Sender<Result<T, PoolError>>;

impl HashPool {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system's, when it does not give a thread.
    pub fn start(options: &PoolOptions) -> std::io::Result<Self> {
        let queue = Queue::new(options.queue, options.per_key, options.max_age);
        let mut pool = Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State { queue, closed: false }),
                work: Condvar::new(),
                computed: AtomicU64::new(0),
            }),
            threads: Vec::with_capacity(options.threads.get()),
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

    /// Whether this is the password. `key` is whom to be fair to: the user's name, or the source.
    ///
    /// A cheap hash is verified at once, in the caller's thread. The job is queued when this is called,
    /// not when the future is first polled; dropping the future takes it out again.
    ///
    /// # Errors
    /// [`PoolError`]: nobody was let in, and the password may have been right.
    pub fn verify(
        &self,
        hash: &Hash,
        password: Secret,
        key: &str,
    ) -> impl Future<Output = Result<bool, PoolError>> + Send + use<> {
        let outcome = match hash.cost() {
            Cost::Cheap => Err(Ok(hash.verify(&password))),
            Cost::Expensive => {
                let task = |reply| Task::Verify(hash.clone(), reply);
                self.submit(key, password, task).map_err(Err)
            }
        };
        async move {
            match outcome {
                Ok(answer) => answer.await.unwrap_or(Err(PoolError::Closed)),
                Err(known) => known,
            }
        }
    }

    /// Hashes a new password. `salt` is 16 fresh random bytes; `key` as in [`HashPool::verify`].
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
        let task = |reply| Task::Create(recipe, salt, reply);
        let outcome = self.submit(key, password, task);
        async move { outcome?.await.unwrap_or(Err(PoolError::Closed)) }
    }

    fn submit<T>(
        &self,
        key: &str,
        password: Secret,
        task: impl FnOnce(Reply<T>) -> Task,
    ) -> Result<oneshot::Receiver<Result<T, PoolError>>, PoolError> {
        let (reply, answer) = oneshot::channel();
        let task = task(reply);
        let job = Job { password, task };
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
        Ok(answer)
    }

    /// How many jobs wait, those that run not counted. For metrics.
    pub fn waiting(&self) -> usize {
        self.shared.lock().queue.len()
    }

    /// How many hashes the threads have computed, failed ones too. For metrics.
    pub fn computed(&self) -> u64 {
        self.shared.computed.load(Ordering::Relaxed)
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

impl Abandoned for Job {
    fn abandoned(&self) -> bool {
        match &self.task {
            Task::Verify(_, reply) => reply.is_closed(),
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
            Popped::TooLate(job) => job.fail(PoolError::TooLate),
            Popped::Job(job) => {
                clean = false;
                // Before the answer, so that whoever has it finds it counted.
                shared.computed.fetch_add(1, Ordering::Relaxed);
                job.compute(&mut memory);
            }
        }
        state = shared.lock();
    }
}

impl Job {
    fn fail(self, error: PoolError) {
        match self.task {
            Task::Verify(_, reply) => drop(reply.send(Err(error))),
            Task::Create(_, _, reply) => drop(reply.send(Err(error))),
        }
    }

    fn compute(self, memory: &mut Memory) {
        let Self { password, task } = self;
        match task {
            Task::Verify(hash, reply) => {
                let result = guarded(memory, |memory| hash.verify_in(&password, memory));
                // Before the answer: whoever has it may count on the password being gone.
                drop(password);
                let _ = reply.send(result);
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
pub(crate) mod tests {
    use super::*;
    use crate::hash::tests::Family;
    use std::sync::mpsc;

    /// A hash that says when it begins and ends when it is told to: `true` is a match, a closed
    /// channel a panic.
    struct Gate {
        begun: mpsc::SyncSender<()>,
        go: Mutex<mpsc::Receiver<bool>>,
    }

    pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

    impl Family for Gate {
        fn scheme(&self) -> &'static str {
            "GATE"
        }
        fn cost(&self) -> Cost {
            Cost::Expensive
        }
        fn verify(&self, _: &[u8], _: &mut Memory) -> Result<bool, HashError> {
            self.begun.send(()).unwrap();
            let go = self.go.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(go.recv_timeout(DEADLINE).unwrap())
        }
        fn data(&self) -> String {
            String::new()
        }
        fn weaker_than(&self, _: &Recipe) -> bool {
            false
        }
    }

    pub(crate) fn gate() -> (Hash, mpsc::Receiver<()>, mpsc::Sender<bool>) {
        let (begun, has_begun) = mpsc::sync_channel(64);
        let (open, go) = mpsc::channel();
        let go = Mutex::new(go);
        (Hash::of_family(Arc::new(Gate { begun, go })), has_begun, open)
    }

    pub(crate) fn pool(queue: usize, per_key: usize, max_age: Duration) -> HashPool {
        HashPool::start(&PoolOptions {
            threads: NonZeroUsize::MIN,
            queue,
            per_key,
            max_age,
            ..PoolOptions::default()
        })
        .unwrap()
    }

    /// Waits on a runtime that has no other thread: a pool that blocked it would stop the test.
    fn wait<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.unwrap().block_on(async {
            tokio::time::timeout(DEADLINE, future).await.expect("the deadline passed")
        })
    }

    fn secret() -> Secret {
        Secret::from("secret")
    }

    #[test]
    fn creates_and_verifies() {
        let pool = HashPool::start(&PoolOptions::default()).unwrap();
        let recipe = Recipe::Argon2id { memory_kib: 64, passes: 1, lanes: 1 };
        wait(async {
            let hash = pool.create(recipe, secret(), [1; 16], "alice").await.unwrap();
            let verify = |text: &str| pool.verify(&hash, Secret::from(text), "alice");
            assert_eq!(verify("secret").await, Ok(true));
            assert_eq!(verify("secreT").await, Ok(false));
            let long = Secret::from("x".repeat(73));
            let error = pool.create(Recipe::Bcrypt { cost: 4 }, long, [1; 16], "alice").await;
            assert!(matches!(error, Err(PoolError::Hash(HashError::Password { .. }))));
        });
        // The cheap way is not counted, what a password does not fit is.
        assert_eq!(pool.computed(), 4);
        pool.join();
    }

    #[test]
    fn every_error_is_a_fault_and_says_what_was_done() {
        let hash = |error| PoolError::Hash(error);
        for (error, kind) in [
            (PoolError::Busy, FaultKind::Overloaded),
            (PoolError::TooLate, FaultKind::Overloaded),
            (hash(HashError::OutOfMemory { kib: 1 }), FaultKind::Overloaded),
            (PoolError::Closed, FaultKind::Unavailable),
            (PoolError::Panicked, FaultKind::Internal),
            (hash(HashError::PlainForbidden), FaultKind::Internal),
        ] {
            let text = format!("verifying: {error}");
            let fault = error.fault("verifying");
            assert_eq!((fault.kind(), fault.to_string()), (kind, text));
        }
    }

    #[test]
    fn cheap_hashes_do_not_queue() {
        let pool = pool(1, 1, DEADLINE);
        let (slow, has_begun, open) = gate();
        let first = pool.verify(&slow, secret(), "a");
        has_begun.recv_timeout(DEADLINE).unwrap();
        let waiting = pool.verify(&slow, secret(), "a");
        let cheap = Hash::create(&Recipe::SaltedSha256, &secret(), [0; 16]).unwrap();
        assert_eq!(wait(pool.verify(&cheap, secret(), "a")), Ok(true));
        open.send(true).unwrap();
        open.send(false).unwrap();
        assert_eq!(wait(async { (first.await, waiting.await) }), (Ok(true), Ok(false)));
    }

    #[test]
    fn a_full_queue_is_busy_at_once_and_one_key_cannot_fill_it() {
        let pool = pool(3, 2, DEADLINE);
        let (slow, has_begun, open) = gate();
        let running = pool.verify(&slow, secret(), "a");
        has_begun.recv_timeout(DEADLINE).unwrap();
        let waiting = [pool.verify(&slow, secret(), "a"), pool.verify(&slow, secret(), "a")];
        assert_eq!(wait(pool.verify(&slow, secret(), "a")), Err(PoolError::Busy));
        let other = pool.verify(&slow, secret(), "b");
        assert_eq!(wait(pool.verify(&slow, secret(), "c")), Err(PoolError::Busy));
        assert_eq!(pool.waiting(), 3);
        // Who hangs up makes room.
        drop(waiting);
        let late = pool.verify(&slow, secret(), "c");
        for _ in 0..3 {
            open.send(true).unwrap();
        }
        wait(async {
            assert_eq!(running.await, Ok(true));
            assert_eq!(other.await, Ok(true));
            assert_eq!(late.await, Ok(true));
        });
        // Three ran: the two that nobody waited for were skipped.
        assert_eq!(has_begun.try_iter().count(), 2);
    }

    #[test]
    fn what_waited_too_long_is_not_computed() {
        let pool = pool(3, 3, Duration::ZERO);
        let (slow, has_begun, open) = gate();
        let late = pool.verify(&slow, secret(), "a");
        // With no patience at all, even the first may be too late: it is never both.
        match wait(async {
            open.send(true).unwrap();
            late.await
        }) {
            Ok(true) => assert_eq!(has_begun.try_iter().count(), 1),
            Err(PoolError::TooLate) => assert_eq!(has_begun.try_iter().count(), 0),
            other => panic!("{other:?}"),
        }
        drop(open);
    }

    #[test]
    fn a_panic_is_one_answer() {
        let pool = pool(3, 3, DEADLINE);
        let (slow, _has_begun, open) = gate();
        drop(open);
        assert_eq!(wait(pool.verify(&slow, secret(), "a")), Err(PoolError::Panicked));
        let (slow, _has_begun, open) = gate();
        open.send(true).unwrap();
        assert_eq!(wait(pool.verify(&slow, secret(), "a")), Ok(true));
    }

    #[test]
    fn closing_answers_everybody() {
        let pool = pool(3, 3, DEADLINE);
        let (slow, has_begun, open) = gate();
        let running = pool.verify(&slow, secret(), "a");
        has_begun.recv_timeout(DEADLINE).unwrap();
        let waiting = pool.verify(&slow, secret(), "a");
        pool.close();
        let after = pool.verify(&slow, secret(), "a");
        assert_eq!(wait(waiting), Err(PoolError::Closed));
        assert_eq!(wait(after), Err(PoolError::Closed));
        open.send(true).unwrap();
        assert_eq!(wait(running), Ok(true));
        pool.join();
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn only_the_threads_of_the_pool_step_back() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let before = niceness();
        let inside = thread::spawn(move || {
            step_back(15);
            niceness()
        });
        assert_eq!(inside.join().unwrap(), 15);
        assert_eq!(niceness(), before);
    }
}
