//! What the rules share: words for outcomes, realms that count, and checkers that do as told.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use countersign::testing::StillWorld;
use countersign::{
    Answers, BoxExchange, Checker, Denial, Exchange, Fault, Identity, Interface, KindSet, Known,
    LoginError, Logout, Mechanism, Password, PasswordStore, Peer, Portal, Public, Realm, Request,
    Scene, Secret, Session, Step, Verdict, Verified,
};
use countersign_testkit::block_on;

/// For futures that wait for nothing but a turn.
const PATIENCE: Duration = Duration::from_secs(20);

/// The output of a future that needs no runtime.
pub(crate) fn ready<F: Future>(future: F) -> F::Output {
    block_on(future, PATIENCE).expect("nothing here waits for anybody")
}

/// A future that is pending once.
pub(crate) async fn turn() {
    let mut waited = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut waited, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

/// What a protocol asks for. The avatar is the name of whoever is in.
pub(crate) struct Mailbox;

impl Interface for Mailbox {
    const NAME: &'static str = "mailbox";
    type Avatar = String;
    type Mind = ();
}

/// Gives every avatar, and counts them and their ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counting {
    avatars: Arc<AtomicUsize>,
    logouts: Arc<AtomicUsize>,
}

impl Counting {
    /// Avatars made, and logged out.
    pub(crate) fn counts(&self) -> [usize; 2] {
        [self.avatars.load(Ordering::SeqCst), self.logouts.load(Ordering::SeqCst)]
    }
}

impl Realm<Mailbox> for Counting {
    async fn admit(&self, who: &Verified<Identity>, _: ()) -> Result<Session<Mailbox>, Denial> {
        self.avatars.fetch_add(1, Ordering::SeqCst);
        let logouts = Arc::clone(&self.logouts);
        let logout = Logout::new(move || {
            logouts.fetch_add(1, Ordering::SeqCst);
        });
        Ok(Session::new(Box::new(who.subject.to_string())).at_logout(logout))
    }
}

/// Users in memory.
#[derive(Debug)]
pub(crate) struct Users(pub(crate) &'static [(&'static str, &'static str)]);

impl PasswordStore for Users {
    async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
        Ok(match self.0.iter().find(|(name, _)| *name == login) {
            None => Verdict::UNKNOWN,
            Some((_, word)) if *password != Secret::from(*word) => Verdict::WRONG,
            Some((name, _)) => Verdict::Is(Verified::vouch(Identity::named(*name))),
        })
    }
}

/// A checker of users in memory.
pub(crate) fn users(name: &str, users: &'static [(&'static str, &'static str)]) -> Password<Users> {
    Password::new(name, Users(users))
}

/// A checker that says yes to its own name without a question: what is asked of it is which one it is.
pub(crate) struct Says {
    name: &'static str,
    mechanism: Mechanism,
}

impl Says {
    pub(crate) fn new(name: &'static str, mechanism: &'static str) -> Self {
        let asks = KindSet::none();
        let mechanism = Mechanism { name: mechanism.into(), asks, needs: &[], plaintext: false };
        Self { name, mechanism }
    }
}

impl Checker for Says {
    fn name(&self) -> &str {
        self.name
    }

    fn mechanisms(&self) -> &[Mechanism] {
        std::slice::from_ref(&self.mechanism)
    }

    fn begin(&self, _: &str, _: &Scene<'_>) -> Result<BoxExchange, Fault> {
        Ok(BoxExchange::new(Saying(self.name)))
    }
}

struct Saying(&'static str);

impl Exchange for Saying {
    async fn step(&mut self, _: Answers, _: &Scene<'_>) -> Result<Step, Fault> {
        Ok(Step::Grant(Verified::vouch(Identity::named(self.0))))
    }
}

/// A user name and a password.
pub(crate) fn given(name: &str, word: &str) -> Known {
    Known::new(Answers::new().with("username", name.to_owned()).with("password", word.to_owned()))
}

/// A request of a peer that can be asked anything.
pub(crate) fn asked(service: &str) -> Request {
    Request::from_peer(Arc::new(Peer::new(service, KindSet::all())))
}

/// The outcome of a login with a password.
pub(crate) fn login<R: Realm<Mailbox>>(portal: &Portal<R>, name: &str, word: &str) -> String {
    word_of(enter(portal, name, word))
}

pub(crate) fn enter<R: Realm<Mailbox>>(
    portal: &Portal<R>,
    name: &str,
    word: &str,
) -> Result<Session<Mailbox>, LoginError> {
    let (mut peer, world) = (given(name, word), StillWorld::default());
    let request = Request::to("test").by(Mechanism::PASSWORD);
    ready(portal.login::<Mailbox>(request, &mut peer, (), &world))
}

/// The outcome of a login by a mechanism that asks nothing.
pub(crate) fn by<R: Realm<Mailbox>>(portal: &Portal<R>, mechanism: &'static str) -> String {
    let world = StillWorld::default();
    let request = Request::to("test").by(mechanism);
    word_of(ready(portal.login::<Mailbox>(request, &mut Known::default(), (), &world)))
}

/// An outcome in a word or two, as the driver of Twisted says it.
pub(crate) fn word_of(outcome: Result<Session<Mailbox>, LoginError>) -> String {
    match outcome {
        Ok(session) => format!("granted {}", session.avatar()),
        Err(LoginError::Fault(_)) => "broke".to_owned(),
        Err(LoginError::Denied(denial)) => said(&denial).to_owned(),
    }
}

/// What a peer hears of a refusal.
pub(crate) fn said(denial: &Denial) -> &'static str {
    match denial.public() {
        Public::Denied => "refused",
        Public::ChangeNeeded => "change needed",
        Public::TryLater => "try later",
        Public::Unsupported => "unsupported",
    }
}

/// Whether a type implements a trait, as a value: `false` is what would not compile.
#[macro_export]
macro_rules! compiles {
    ($type:ty: $($bound:tt)+) => {{
        // The method of the trait is only found where the inherent one, which needs the bound, does not apply.
        trait Otherwise {
            #[allow(dead_code, reason = "which of the two is called is the answer")]
            fn holds(&self) -> bool {
                false
            }
        }
        struct Asked<T: ?Sized>(std::marker::PhantomData<T>);
        impl<T: ?Sized> Otherwise for Asked<T> {}
        impl<T: ?Sized + $($bound)+> Asked<T> {
            #[allow(dead_code, reason = "which of the two is called is the answer")]
            fn holds(&self) -> bool {
                true
            }
        }
        if Asked::<$type>(std::marker::PhantomData).holds() { "compiles" } else { "does not compile" }
    }};
}
