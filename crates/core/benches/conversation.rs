//! What a login costs in the core: heap bytes while it waits, and time while it works.
//!
//! Prints lines `BENCH <name> <number> <unit> [<= <limit>]` and fails when a limit is missed. No harness:
//! a loop, a clock and a counting allocator are all it needs, so it builds as fast as the crate.

use std::alloc::{GlobalAlloc, Layout, System};
use std::future::Future;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use countersign::testing::{StillWorld, now_or_never};
use countersign::{
    Answers, Bounds, BoxExchange, Conversation, CredentialKind, Decision, Denial, Exchange, Fault,
    Identity, Interface, KindSet, Known, Password, PasswordStore, Peer, Pending, PendingLimits,
    Portal, Question, Realm, Reason, Reply, Request, Round, Scene, Secret, Session, Step, Verdict,
    Verified, script,
};

/// Counts the bytes that are alive. Large blocks, which here are only tables, are counted apart.
struct Counting;

static SMALL: AtomicUsize = AtomicUsize::new(0);
static LARGE: AtomicUsize = AtomicUsize::new(0);
static CALLS: AtomicUsize = AtomicUsize::new(0);

fn counter(layout: Layout) -> &'static AtomicUsize {
    if layout.size() > 4096 { &LARGE } else { &SMALL }
}

// SAFETY: every call is handed unchanged to the system's allocator, which upholds the contract; the
// counters do not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        counter(layout).fetch_add(layout.size(), Relaxed);
        CALLS.fetch_add(1, Relaxed);
        // SAFETY: the caller keeps `GlobalAlloc::alloc`'s contract, which is the system's too.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        counter(layout).fetch_sub(layout.size(), Relaxed);
        // SAFETY: `pointer` came from `System.alloc` with this layout, above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static HEAP: Counting = Counting;

struct Mailbox;

impl Interface for Mailbox {
    const NAME: &'static str = "mailbox";
    type Avatar = u32;
    type Mind = ();
}

struct Mail;

impl Realm<Mailbox> for Mail {
    async fn admit(&self, _: &Verified<Identity>, (): ()) -> Result<Session<Mailbox>, Denial> {
        Ok(Session::new(Box::new(7)))
    }
}

/// A trivial store: what is left is the core's share.
struct One;

impl One {
    fn verdict(login: &str, password: &Secret) -> Verdict {
        if login != "ada" {
            return Verdict::UNKNOWN;
        }
        if *password != Secret::from("countess") {
            return Verdict::WRONG;
        }
        Verdict::Is(Verified::vouch(Identity::named("ada")))
    }
}

impl PasswordStore for One {
    async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
        Ok(Self::verdict(login, password))
    }

    fn check_at_once(
        &self,
        login: &str,
        password: &Secret,
        _: bool,
    ) -> Option<Result<Verdict, Fault>> {
        Some(Ok(Self::verdict(login, password)))
    }
}

/// The same, as a store that might have to wait.
struct Another;

impl PasswordStore for Another {
    async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
        Ok(One::verdict(login, password))
    }
}

fn ready<F: Future>(future: F) -> F::Output {
    now_or_never(future).expect("nothing here waits")
}

fn portal(bounds: &'static Bounds) -> Portal<Mail> {
    Portal::new(Mail).checked_by(Password::new("one", One)).bounded_by(bounds)
}

fn terminal() -> KindSet {
    KindSet::none().with(CredentialKind::AuthName).with(CredentialKind::Passphrase)
}

fn peer() -> Arc<Peer> {
    Arc::new(Peer::new("imap", terminal()))
}

fn good() -> Answers {
    Answers::new().with("username", "ada").with("password", "countess")
}

/// Prints figures, and remembers whether one missed its limit.
struct Figures {
    missed: bool,
}

impl Figures {
    fn say(&mut self, name: &str, number: f64, unit: &str, limit: Option<f64>) {
        match limit {
            Some(limit) => println!("BENCH {name} {number:.1} {unit} <= {limit}"),
            None => println!("BENCH {name} {number:.1} {unit}"),
        }
        self.missed |= limit.is_some_and(|limit| number > limit);
    }
}

fn main() -> ExitCode {
    let mut figures = Figures { missed: false };
    bytes(&mut figures);
    logins(&mut figures);
    steps(&mut figures);
    if figures.missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

const PENDING: usize = 100_000;

/// Heap bytes of one waiting conversation: in blocks of its own, and in the table that finds it.
fn waiting(mut begin: impl FnMut(&StillWorld) -> Conversation) -> (f64, f64) {
    let world = StillWorld::default();
    let pending = Pending::new(0, PendingLimits::default());
    // What is made once and shared is not part of the price.
    drop(begin(&world));
    let (small, large) = (SMALL.load(Relaxed), LARGE.load(Relaxed));
    for _ in 0..PENDING {
        let conversation = begin(&world);
        pending.insert(conversation, (), &world).expect("there is room");
    }
    let each =
        |counter: &AtomicUsize, before| (counter.load(Relaxed) - before) as f64 / PENDING as f64;
    (each(&SMALL, small), each(&LARGE, large))
}

fn bytes(figures: &mut Figures) {
    let portal = portal(&Bounds::CONNECTION);
    let shared = peer();
    let (own, table) = waiting(|world| {
        let request = Request::from_peer(Arc::clone(&shared)).by("password");
        ready(portal.begin(request, world)).expect("no fault").0
    });
    figures.say("pending_password", own, "bytes", Some(150.0));
    figures.say("pending_password_table", table, "bytes", None);
    let (own, _) = waiting(|world| {
        let request = Request::from_peer(peer()).by("password");
        ready(portal.begin(request, world)).expect("no fault").0
    });
    figures.say("pending_password_with_a_peer_of_its_own", own, "bytes", None);
    let (own, _) = waiting(|world| {
        let exchange = BoxExchange::new(script(|peer| async move {
            let answers = peer.ask(Round::of([Question::username(), Question::password()])).await;
            drop(answers);
            Ok(Decision::Deny(Denial::new(Reason::WrongCredential)))
        }));
        let begun =
            Conversation::begin(exchange, Arc::clone(&shared), None, &Bounds::CONNECTION, world);
        ready(begun).expect("no fault").0
    });
    figures.say("pending_script_with_a_round_of_its_own", own, "bytes", None);
}

const BATCHES: usize = 1000;
const PER_BATCH: usize = 500;

/// Nanoseconds of one run when nobody else uses the core: batches are shorter than a turn of the
/// scheduler, and the quickest tenth of them decides.
fn nanoseconds(mut run: impl FnMut()) -> f64 {
    let mut batches: Vec<f64> = (0..BATCHES)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..PER_BATCH {
                run();
            }
            start.elapsed().as_nanos() as f64 / PER_BATCH as f64
        })
        .collect();
    batches.sort_by(f64::total_cmp);
    batches[BATCHES / 10]
}

/// Begin, first round, answers, check, realm: what a front end does for each login.
fn full_login(portal: &Portal<Mail>, peer: &Arc<Peer>, world: &StillWorld) {
    let request = Request::from_peer(Arc::clone(peer)).by("password");
    let (mut conversation, reply) = ready(portal.begin(request, world)).expect("no fault");
    let Reply::Ask(ask) = reply else { panic!("no round") };
    let reply = ready(conversation.answer(ask.number, good(), world)).expect("no fault");
    let Reply::Granted(who) = reply else { panic!("not let in") };
    let session = ready(Realm::<Mailbox>::admit(portal.realm(), &who, ())).expect("admitted");
    black_box(session.avatar());
}

fn logins(figures: &mut Figures) {
    let world = StillWorld::default();
    let peer = peer();
    let connection = portal(&Bounds::CONNECTION);
    let before = CALLS.load(Relaxed);
    full_login(&connection, &peer, &world);
    let calls = |before: usize| (CALLS.load(Relaxed) - before) as f64;
    figures.say("login_allocations", calls(before), "calls", None);
    let time = nanoseconds(|| full_login(&connection, &peer, &world));
    figures.say("login", time, "ns", Some(1000.0));
    let waits = Portal::new(Mail).checked_by(Password::new("another", Another));
    let before = CALLS.load(Relaxed);
    full_login(&waits, &peer, &world);
    figures.say("login_that_might_wait_allocations", calls(before), "calls", None);
    let time = nanoseconds(|| full_login(&waits, &peer, &world));
    figures.say("login_that_might_wait", time, "ns", None);
    let time = nanoseconds(|| {
        let request = Request::from_peer(Arc::clone(&peer)).by("password");
        let mut known = Known::new(good());
        let login = connection.login::<Mailbox>(request, &mut known, (), &world);
        black_box(ready(login).expect("let in"));
    });
    figures.say("login_by_known_answers", time, "ns", None);
    let requests = portal(&Bounds::REQUESTS);
    let time = nanoseconds(|| full_login(&requests, &peer, &world));
    figures.say("login_with_replay_kept", time, "ns", None);
}

/// An exchange that asks for ever, as explicit state.
struct Asking(Arc<Round>);

impl Exchange for Asking {
    async fn step(&mut self, answers: Answers, _: &Scene<'_>) -> Result<Step, Fault> {
        black_box(answers);
        Ok(Step::Ask(Arc::clone(&self.0)))
    }
}

fn steps(figures: &mut Figures) {
    let world = StillWorld::default();
    let peer = peer();
    let scene = Scene::of(&peer, &world);
    let round = Arc::new(Round::of([Question::password()]));
    let mut explicit = BoxExchange::new(Asking(Arc::clone(&round)));
    let time = nanoseconds(|| {
        let _ = black_box(ready(explicit.step(Answers::new(), &scene)));
    });
    figures.say("step_of_explicit_state", time, "ns", None);
    let mut straight = BoxExchange::new(script(move |peer| async move {
        loop {
            black_box(peer.ask(Arc::clone(&round)).await);
        }
    }));
    let time = nanoseconds(|| {
        let _ = black_box(ready(straight.step(Answers::new(), &scene)));
    });
    figures.say("step_of_a_script", time, "ns", None);
}
