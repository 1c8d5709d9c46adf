//! The pool as a whole; a hash is held by the test.

use super::*;
use crate::hash::tests::Family;
use std::sync::mpsc;

/// A hash that says when it begins and ends when it is told to: `true` is a match, a closed
/// channel a panic.
struct Gate {
    /// No two gates are the same hash.
    number: u64,
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
        self.number.to_string()
    }
    fn weaker_than(&self, _: &Recipe) -> bool {
        false
    }
}

pub(crate) fn gate() -> (Hash, mpsc::Receiver<()>, mpsc::Sender<bool>) {
    let (begun, has_begun) = mpsc::sync_channel(64);
    let (open, go) = mpsc::channel();
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let gate = Gate { number: NUMBER.fetch_add(1, Relaxed), begun, go: Mutex::new(go) };
    (Hash::of_family(Arc::new(gate)), has_begun, open)
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
        let verify = |text: &str| pool.verify(&hash, &Secret::from(text), "alice");
        assert_eq!(verify("secret").await, Ok(Match::Yes));
        assert_eq!(verify("secreT").await, Ok(Match::No));
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
    let first = pool.verify(&slow, &secret(), "a");
    has_begun.recv_timeout(DEADLINE).unwrap();
    let waiting = pool.verify(&slow, &Secret::from("other"), "a");
    let cheap = Hash::create(&Recipe::SaltedSha256, &secret(), [0; 16]).unwrap();
    assert_eq!(wait(pool.verify(&cheap, &secret(), "a")), Ok(Match::Yes));
    open.send(true).unwrap();
    open.send(false).unwrap();
    assert_eq!(wait(async { (first.await, waiting.await) }), (Ok(Match::Yes), Ok(Match::No)));
}

#[test]
fn a_full_queue_is_busy_at_once_and_one_key_cannot_fill_it() {
    let pool = pool(3, 2, DEADLINE);
    let (slow, has_begun, open) = gate();
    let verify = |login, password: &str| pool.verify(&slow, &Secret::from(password), login);
    let running = verify("a", "1");
    has_begun.recv_timeout(DEADLINE).unwrap();
    let waiting = [verify("a", "2"), verify("a", "3")];
    assert_eq!(wait(verify("a", "4")), Err(PoolError::Busy));
    let other = verify("b", "1");
    assert_eq!(wait(verify("c", "1")), Err(PoolError::Busy));
    assert_eq!(pool.waiting(), 3);
    // Who hangs up makes room.
    drop(waiting);
    let late = verify("c", "2");
    for _ in 0..3 {
        open.send(true).unwrap();
    }
    wait(async {
        assert_eq!(running.await, Ok(Match::Yes));
        assert_eq!(other.await, Ok(Match::Yes));
        assert_eq!(late.await, Ok(Match::Yes));
    });
    // Three ran: the two that nobody waited for were skipped.
    assert_eq!(has_begun.try_iter().count(), 2);
}

#[test]
fn what_waited_too_long_is_not_computed() {
    let pool = pool(3, 3, Duration::ZERO);
    let (slow, has_begun, open) = gate();
    let late = pool.verify(&slow, &secret(), "a");
    // With no patience at all, even the first may be too late: it is never both.
    match wait(async {
        open.send(true).unwrap();
        late.await
    }) {
        Ok(Match::Yes) => assert_eq!(has_begun.try_iter().count(), 1),
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
    assert_eq!(wait(pool.verify(&slow, &secret(), "a")), Err(PoolError::Panicked));
    let (slow, _has_begun, open) = gate();
    open.send(true).unwrap();
    assert_eq!(wait(pool.verify(&slow, &secret(), "a")), Ok(Match::Yes));
}

#[test]
fn closing_answers_everybody() {
    let pool = pool(3, 3, DEADLINE);
    let (slow, has_begun, open) = gate();
    let running = pool.verify(&slow, &secret(), "a");
    has_begun.recv_timeout(DEADLINE).unwrap();
    let waiting = pool.verify(&slow, &Secret::from("other"), "a");
    pool.close();
    let after = pool.verify(&slow, &secret(), "a");
    assert_eq!(wait(waiting), Err(PoolError::Closed));
    assert_eq!(wait(after), Err(PoolError::Closed));
    open.send(true).unwrap();
    assert_eq!(wait(running), Ok(Match::Yes));
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

/// With one thread that the test holds: what is asked meanwhile waits or boards.
fn held() -> (HashPool, Hash, mpsc::Receiver<()>, mpsc::Sender<bool>) {
    let pool = pool(300, 300, DEADLINE);
    let (slow, has_begun, open) = gate();
    (pool, slow, has_begun, open)
}

#[test]
fn equal_attempts_at_a_time_are_one_computation_and_different_ones_are_as_many() {
    let (pool, slow, has_begun, open) = held();
    let all: Vec<_> = (0..50).map(|_| pool.verify(&slow, &secret(), "a")).collect();
    has_begun.recv_timeout(DEADLINE).unwrap();
    open.send(true).unwrap();
    for one in all {
        assert_eq!(wait(one), Ok(Match::Yes));
    }
    let now = pool.statistics();
    assert_eq!((now.computed, now.missed, now.shared, now.entries), (1, 1, 49, 1));
    assert_eq!(wait(pool.verify(&slow, &secret(), "a")), Ok(Match::Remembered));

    // Another user, another password, another hash: each its own.
    let (other, other_begun, other_open) = gate();
    let different = [
        pool.verify(&slow, &secret(), "b"),
        pool.verify(&slow, &Secret::from("secret\0"), "a"),
        pool.verify(&other, &secret(), "a"),
    ];
    open.send(false).unwrap();
    open.send(false).unwrap();
    other_open.send(false).unwrap();
    for one in different {
        assert_eq!(wait(one), Ok(Match::No));
    }
    assert_eq!((pool.computed(), has_begun.try_iter().count()), (4, 2));
    assert_eq!(other_begun.try_iter().count(), 1);
}

#[test]
fn who_hangs_up_takes_nobody_along() {
    let (pool, slow, has_begun, open) = held();
    let (busy, busy_begun, busy_open) = gate();
    let holding = pool.verify(&busy, &secret(), "x");
    busy_begun.recv_timeout(DEADLINE).unwrap();
    // The first waits in the queue and hangs up; the second has boarded.
    let first = pool.verify(&slow, &secret(), "a");
    let second = pool.verify(&slow, &secret(), "a");
    drop(first);
    // Both hung up: a third does not wait for what nobody computes.
    let gone = pool.verify(&slow, &Secret::from("other"), "a");
    drop(gone);
    let third = pool.verify(&slow, &Secret::from("other"), "a");
    for open in [&busy_open, &open, &open] {
        open.send(true).unwrap();
    }
    wait(async {
        assert_eq!(holding.await, Ok(Match::Yes));
        assert_eq!(second.await, Ok(Match::Yes));
        assert_eq!(third.await, Ok(Match::Yes));
    });
    assert_eq!(has_begun.try_iter().count(), 2);
    // While it runs, nobody need wait for it: the answer is remembered all the same.
    let last = pool.verify(&slow, &secret(), "y");
    has_begun.recv_timeout(DEADLINE).unwrap();
    drop(last);
    let boarded = pool.verify(&slow, &secret(), "y");
    open.send(true).unwrap();
    assert_eq!(wait(boarded), Ok(Match::Yes));
}

/// A job that nobody waited for was dropped; the next equal attempt begins anew.
#[test]
fn a_flight_that_was_dropped_is_not_boarded() {
    let (pool, slow, has_begun, open) = held();
    let (busy, busy_begun, busy_open) = gate();
    let holding = pool.verify(&busy, &secret(), "x");
    busy_begun.recv_timeout(DEADLINE).unwrap();
    drop(pool.verify(&slow, &secret(), "a"));
    let behind = pool.verify(&slow, &secret(), "b");
    busy_open.send(true).unwrap();
    // `b` runs, so that `a` has been passed over.
    has_begun.recv_timeout(DEADLINE).unwrap();
    let again = pool.verify(&slow, &secret(), "a");
    open.send(true).unwrap();
    open.send(true).unwrap();
    wait(async {
        assert_eq!(holding.await, Ok(Match::Yes));
        assert_eq!((behind.await, again.await), (Ok(Match::Yes), Ok(Match::Yes)));
    });
    assert_eq!(pool.shared.lock().flights.len(), 0);
}

#[test]
fn errors_reach_everybody_and_are_not_remembered() {
    let (pool, slow, has_begun, open) = held();
    let both = [pool.verify(&slow, &secret(), "a"), pool.verify(&slow, &secret(), "a")];
    has_begun.recv_timeout(DEADLINE).unwrap();
    // The gate panics.
    drop(open);
    for one in both {
        assert_eq!(wait(one), Err(PoolError::Panicked));
    }
    assert_eq!(pool.statistics().entries, 0);
    let (slow, has_begun, open) = gate();
    let running = pool.verify(&slow, &secret(), "a");
    has_begun.recv_timeout(DEADLINE).unwrap();
    let queued = [0, 0].map(|_| pool.verify(&slow, &secret(), "b"));
    pool.close();
    for one in queued {
        assert_eq!(wait(one), Err(PoolError::Closed));
    }
    open.send(true).unwrap();
    assert_eq!(wait(running), Ok(Match::Yes));
}

#[test]
fn one_flight_takes_so_many_and_no_more() {
    let (pool, slow, has_begun, open) = held();
    let all: Vec<_> = (0..256).map(|_| pool.verify(&slow, &secret(), "a")).collect();
    has_begun.recv_timeout(DEADLINE).unwrap();
    assert_eq!(wait(pool.verify(&slow, &secret(), "a")), Err(PoolError::Busy));
    let mut all = all.into_iter();
    drop(all.next());
    let late = pool.verify(&slow, &secret(), "a");
    open.send(true).unwrap();
    assert_eq!(wait(late), Ok(Match::Yes));
    for one in all {
        assert_eq!(wait(one), Ok(Match::Yes));
    }
    assert_eq!(pool.computed(), 1);
}

#[test]
fn flights_that_nobody_took_leave_no_trace_for_ever() {
    let pool = pool(4, 4, DEADLINE);
    let (busy, has_begun, open) = gate();
    let holding = pool.verify(&busy, &secret(), "x");
    has_begun.recv_timeout(DEADLINE).unwrap();
    for n in 0..1000 {
        drop(pool.verify(&busy, &Secret::from(n.to_string()), "a"));
    }
    assert!(pool.shared.lock().flights.len() <= 16);
    open.send(true).unwrap();
    assert_eq!(wait(holding), Ok(Match::Yes));
}

#[test]
fn texts_are_looked_up_before_they_are_read() {
    let pool = pool(3, 3, DEADLINE);
    let accept = Accept::default();
    let stored = "$2b$04$abcdefghijklmnopqrstuudddpGeHcF9lru7.P1k2UXa2EAymSRK.";
    let verify = |login, stored: &str, password: &str| {
        wait(pool.verify_text(login, stored, &accept, &Secret::from(password)))
    };
    assert_eq!(verify("ada", stored, "countersign"), Ok(Match::Yes));
    assert_eq!(verify("ada", stored, "countersign"), Ok(Match::Remembered));
    assert_eq!(verify("ada", stored, "wrong"), Ok(Match::No));
    assert_eq!(verify("ada", stored, "wrong"), Ok(Match::No));
    let now = pool.statistics();
    assert_eq!((now.computed, now.remembered, now.entries), (2, 2, 2));
    // Of another user nothing is known, nor of what is stored now.
    assert_eq!(verify("bob", stored, "countersign"), Ok(Match::Yes));
    let changed = "$2b$04$abcdefghijklmnopqrstuubyCG3zY1GIXMyxfivm.ClDiInHzxjiq";
    assert_eq!(verify("ada", changed, "countersign"), Ok(Match::No));
    assert_eq!(pool.computed(), 4);
    pool.clear();
    assert_eq!(verify("ada", stored, "countersign"), Ok(Match::Yes));
    assert_eq!(pool.statistics().entries, 1);
    // What cannot be read says so each time.
    for _ in 0..2 {
        assert!(matches!(verify("ada", "{NONE}x", "x"), Err(PoolError::Stored(_))));
    }
    // Cheap ones are not remembered: they cost no more than looking.
    let cheap = "{SHA256}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=";
    assert_eq!(verify("ada", cheap, "secret"), Ok(Match::Yes));
    assert_eq!(verify("ada", cheap, "secret"), Ok(Match::Yes));
}
