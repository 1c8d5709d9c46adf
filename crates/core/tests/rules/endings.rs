//! Logout happens exactly once, however a login or a session ends.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Waker};

use countersign::testing::{StillWorld, now_or_never};
use countersign::{
    Answers, Denial, Fault, Identity, Interface, Known, Logout, Password, PasswordStore, Portal,
    Realm, Reason, Request, Secret, Session, Verdict, Verified,
};

use crate::stage::{ready, turn};

struct Shell;

impl Interface for Shell {
    const NAME: &'static str = "shell";
    type Avatar = Counted;
    type Mind = Counted;
}

/// Something of which it is known how many there are.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[derive(Default)]
struct Counts {
    avatars: Arc<AtomicUsize>,
    minds: Arc<AtomicUsize>,
    admitted: Arc<AtomicUsize>,
    logouts: Arc<AtomicUsize>,
    checks: Arc<AtomicUsize>,
}

/// Where the realm waits for something: not at all, before or after it has made the avatar.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Waits {
    Never,
    Before,
    After,
}

struct Host {
    counts: Arc<Counts>,
    waits: Waits,
    full: bool,
}

impl Realm<Shell> for Host {
    async fn admit(&self, _: &Verified<Identity>, _: Counted) -> Result<Session<Shell>, Denial> {
        if self.waits == Waits::Before {
            turn().await;
        }
        let avatar = Box::new(Counted::new(&self.counts.avatars));
        self.counts.admitted.fetch_add(1, SeqCst);
        let (logouts, avatars) =
            (Arc::clone(&self.counts.logouts), Arc::clone(&self.counts.avatars));
        let session = Session::new(avatar).at_logout(Logout::new(move || {
            assert_eq!(avatars.load(SeqCst), 1, "logout runs while the avatar is alive");
            logouts.fetch_add(1, SeqCst);
        }));
        if self.waits == Waits::After {
            turn().await;
        }
        if self.full {
            return Err(Denial::new(Reason::Realm).because("no more shells"));
        }
        Ok(session)
    }
}

struct Slow(Arc<Counts>, bool);

impl PasswordStore for Slow {
    async fn check(&self, login: &str, _: &Secret) -> Result<Verdict, Fault> {
        self.0.checks.fetch_add(1, SeqCst);
        if self.1 {
            turn().await;
        }
        Ok(Verdict::Is(Verified::vouch(Identity::named(login))))
    }
}

/// Polls a login so many times, then drops it: the peer has left. Gives the session if there is one.
fn login(
    waits: Waits,
    slow: bool,
    full: bool,
    polls: usize,
) -> (Arc<Counts>, Option<Session<Shell>>) {
    let counts = Arc::new(Counts::default());
    let portal = Portal::new(Host { counts: Arc::clone(&counts), waits, full })
        .checked_by(Password::new("slow", Slow(Arc::clone(&counts), slow)));
    let world = StillWorld::default();
    let mut known = Known::new(Answers::new().with("username", "ada").with("password", "x"));
    let mind = Counted::new(&counts.minds);
    let mut session = None;
    {
        let mut login = pin!(portal.login::<Shell>(Request::to("ssh"), &mut known, mind, &world));
        for _ in 0..polls {
            let mut context = Context::from_waker(Waker::noop());
            if let std::task::Poll::Ready(end) = login.as_mut().poll(&mut context) {
                session = end.ok();
                break;
            }
        }
    }
    (counts, session)
}

fn now(counts: &Counts) -> (usize, usize, usize) {
    let load = |counter: &AtomicUsize| counter.load(SeqCst);
    (load(&counts.admitted), load(&counts.logouts), load(&counts.avatars))
}

#[test]
fn whatever_was_admitted_is_logged_out_once() {
    for waits in [Waits::Never, Waits::Before, Waits::After] {
        for slow in [false, true] {
            for full in [false, true] {
                for polls in 0..5 {
                    let case = format!("{waits:?} slow {slow} full {full} polls {polls}");
                    let (counts, session) = login(waits, slow, full, polls);
                    let ready = polls > usize::from(slow) + usize::from(waits != Waits::Never);
                    assert_eq!(session.is_some(), ready && !full, "{case}");
                    match session {
                        Some(session) => {
                            assert_eq!(now(&counts), (1, 0, 1), "{case}");
                            drop(session);
                            assert_eq!(now(&counts), (1, 1, 0), "{case}");
                        }
                        None => {
                            let (admitted, logouts, avatars) = now(&counts);
                            assert_eq!((logouts, avatars), (admitted, 0), "{case}");
                        }
                    }
                    assert_eq!(counts.minds.load(SeqCst), 0, "a mind is left: {case}");
                }
            }
        }
    }
}

#[test]
fn a_peer_that_leaves_while_the_checker_works_leaves_no_avatar() {
    let (counts, session) = login(Waits::Never, true, false, 1);
    assert!(session.is_none());
    assert_eq!(counts.checks.load(SeqCst), 1, "the checker had begun");
    assert_eq!(now(&counts), (0, 0, 0));
}

fn session(counts: &Arc<Counts>) -> Session<Shell> {
    let logouts = Arc::clone(&counts.logouts);
    Session::new(Box::new(Counted::new(&counts.avatars))).at_logout(Logout::new(move || {
        logouts.fetch_add(1, SeqCst);
    }))
}

#[test]
fn every_ending_of_a_session_is_one_logout() {
    type End = fn(Session<Shell>);
    let endings: [(&str, End); 5] = [
        ("dropped", drop),
        ("asked", |session| ready(session.logout())),
        ("asked and dropped before it began", |session| drop(session.logout())),
        ("panicked", |session| {
            let end = catch_unwind(AssertUnwindSafe(move || {
                let _session = session;
                panic!("in the protocol");
            }));
            assert!(end.is_err());
        }),
        ("in another thread", |session| std::thread::spawn(move || drop(session)).join().unwrap()),
    ];
    for (name, end) in endings {
        let counts = Arc::new(Counts::default());
        end(session(&counts));
        assert_eq!(counts.logouts.load(SeqCst), 1, "{name}");
        assert_eq!(counts.avatars.load(SeqCst), 0, "{name}");
    }
}

#[test]
fn two_things_to_do_are_both_done_the_outer_first() {
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let note = |name: &'static str| {
        let order = Arc::clone(&order);
        move || order.lock().unwrap().push(name)
    };
    let counts = Arc::new(Counts::default());
    let session = Session::<Shell>::new(Box::new(Counted::new(&counts.avatars)))
        .at_logout(Logout::new(note("application")))
        .at_logout(Logout::new(note("record")));
    assert!(order.lock().unwrap().is_empty(), "a logout ran while the session was alive");
    drop(session);
    assert_eq!(*order.lock().unwrap(), ["record", "application"]);
}

/// A lasting logout that is pending once, counting its end and whether it was spawned.
fn lasting(ended: &Arc<AtomicUsize>, spawned: &Arc<AtomicUsize>) -> Logout {
    let (ended, spawned) = (Arc::clone(ended), Arc::clone(spawned));
    Logout::lasting(
        move || async move {
            turn().await;
            ended.fetch_add(1, SeqCst);
        },
        move |rest| {
            spawned.fetch_add(1, SeqCst);
            let mut rest = rest;
            let mut context = Context::from_waker(Waker::noop());
            while rest.as_mut().poll(&mut context).is_pending() {}
        },
    )
}

#[test]
fn a_lasting_logout_ends_once_wherever_it_is_dropped() {
    for count in 1..=2 {
        for polls in 0..5 {
            let counters: Vec<_> = (0..count).map(|_| (Arc::default(), Arc::default())).collect();
            let counts = Arc::new(Counts::default());
            let session = Session::<Shell>::new(Box::new(Counted::new(&counts.avatars)));
            let session = counters.iter().fold(session, |session, (ended, spawned)| {
                session.at_logout(lasting(ended, spawned))
            });
            {
                let mut logout = pin!(session.logout());
                let mut context = Context::from_waker(Waker::noop());
                for _ in 0..polls {
                    if logout.as_mut().poll(&mut context).is_ready() {
                        break;
                    }
                }
            }
            for (ended, spawned) in &counters {
                assert_eq!(ended.load(SeqCst), 1, "{count} after {polls} polls");
                assert!(spawned.load(SeqCst) <= 1);
            }
        }
    }
}

#[test]
fn a_logout_that_panics_is_not_run_again() {
    let polled = Arc::new(AtomicUsize::new(0));
    let inner = Arc::clone(&polled);
    let logout = Logout::lasting(
        move || async move {
            inner.fetch_add(1, SeqCst);
            panic!("in the logout");
        },
        |rest| assert!(now_or_never(rest).is_none(), "it was handed on"),
    );
    let counts = Arc::new(Counts::default());
    let session = Session::<Shell>::new(Box::new(Counted::new(&counts.avatars))).at_logout(logout);
    let end = catch_unwind(AssertUnwindSafe(|| now_or_never(session.logout())));
    assert!(end.is_err());
    assert_eq!(polled.load(SeqCst), 1);
    assert_eq!(counts.avatars.load(SeqCst), 0);
}
