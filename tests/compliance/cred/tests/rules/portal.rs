//! The portal: rules 1 to 11 of Cred.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use countersign::testing::{StillWorld, now_or_never};
use countersign::{
    Application, Denial, Fault, Identity, Interface, Password, PasswordStore, Portal, Realm,
    Reason, Request, Secret, Session, Verdict, Verified,
};
use countersign_interop::runner::{Case, case};
use countersign_interop::{Context, Outcome, Stage, ensure};
use countersign_sasl::Plain;
use serde_json::json;

use crate::beside::{differs, same};
use crate::compiles;
use crate::stage::{Counting, Mailbox, Says, by, enter, given, login, ready, turn, users, word_of};

pub(crate) const CASES: &[Case] = &[
    case("rule_1_two_checkers_of_one_kind", two_checkers),
    case("rule_2_what_is_listed", what_is_listed),
    case("rule_2_credentials_of_two_kinds", credentials_of_two_kinds),
    case("rule_3_a_general_checker_registered_first", general_first),
    case("rule_4_nobody_checks_this", nobody_checks_this),
    case("rule_5_how_a_checker_may_answer", how_a_checker_may_answer),
    case("rule_5_how_a_realm_may_answer", how_a_realm_may_answer),
    case("rule_6_a_checker_that_returns_nothing", checker_returns_nothing),
    case("rule_6_a_realm_that_returns_anything", realm_returns_anything),
    case("rule_6_a_login_for_no_interface", no_interface),
    case("rule_7_a_realm_that_refuses", realm_that_refuses),
    case("rule_7_an_interface_that_the_realm_lacks", lacking_interface),
    case("rule_8_a_login_that_is_given_up", given_up),
    case("rule_9_any_of_several_interfaces", any_of_several),
    case("rule_10_what_the_mind_is_told", mind_is_told),
    case("rule_11_a_logout_that_is_called_twice", logout_twice),
];

const ADA: &[(&str, &str)] = &[("ada", "countess")];
const EVE: &[(&str, &str)] = &[("eve", "apple")];

fn two_checkers(_: &Stage) -> Outcome {
    let portal =
        Portal::new(Counting::default()).checked_by(users("a", ADA)).checked_by(users("b", EVE));
    let ours = json!([login(&portal, "ada", "countess"), login(&portal, "eve", "apple")]);
    let theirs = json!(["refused", "granted eve"]);
    differs("two_checkers_of_one_kind", &theirs, &json!(["granted ada", "granted eve"]), &ours)
}

fn alpha_and_beta() -> Portal<Counting> {
    Portal::new(Counting::default())
        .checked_by(Says::new("alpha", "alpha"))
        .checked_by(Says::new("beta", "beta"))
        .checked_by(Says::new("again", "alpha"))
}

fn what_is_listed(_: &Stage) -> Outcome {
    same("what_is_listed", &json!(alpha_and_beta().mechanism_names()))
}

fn credentials_of_two_kinds(_: &Stage) -> Outcome {
    // Whoever can do both says which.
    let portal = alpha_and_beta();
    let ours = json!([by(&portal, "alpha"), by(&portal, "beta")]);
    let theirs = json!(["granted alpha", "granted alpha"]);
    differs("credentials_of_two_kinds", &theirs, &json!(["granted alpha", "granted beta"]), &ours)
}

fn general_first(_: &Stage) -> Outcome {
    let portal = Portal::new(Counting::default())
        .checked_by(users("general", ADA))
        .carried_by(Plain)
        .checked_by(Says::new("specific", "PLAIN"));
    let ours = json!(by(&portal, "PLAIN"));
    let (theirs, here) = (json!("granted general"), json!("granted specific"));
    differs("a_general_checker_registered_first", &theirs, &here, &ours)
}

fn nobody_checks_this(_: &Stage) -> Outcome {
    let portal = Portal::new(Counting::default()).checked_by(users("a", ADA));
    let world = StillWorld::default();
    // A peer that can answer nothing.
    let mut nobody = ();
    let nothing = portal.login::<Mailbox>(Request::to("test"), &mut nobody, (), &world);
    same("nobody_checks_this", &json!([by(&portal, "anonymous"), word_of(ready(nothing))]))
}

/// A store that answers in one of the ways in which functions answer.
enum Way {
    Returns,
    Waits,
    Breaks,
}

impl PasswordStore for Way {
    async fn check(&self, login: &str, _: &Secret) -> Result<Verdict, Fault> {
        match self {
            Self::Returns => {}
            Self::Waits => turn().await,
            Self::Breaks => return Err(Fault::unavailable("the database is away")),
        }
        Ok(Verdict::Is(Verified::vouch(Identity::named(login))))
    }
}

fn how_a_checker_may_answer(_: &Stage) -> Outcome {
    let outcome = |way| {
        let portal = Portal::new(Counting::default()).checked_by(Password::new("way", way));
        login(&portal, "ada", "countess")
    };
    let ours = [Way::Returns, Way::Waits, Way::Waits, Way::Breaks].map(outcome);
    same("how_a_checker_may_answer", &json!(ours))
}

/// A realm that is one function.
struct Does<F>(F);

impl<F, Fut> Realm<Mailbox> for Does<F>
where
    F: Fn(String) -> Fut + Send + Sync,
    Fut: Future<Output = Result<Session<Mailbox>, Denial>> + Send,
{
    async fn admit(&self, who: &Verified<Identity>, _: ()) -> Result<Session<Mailbox>, Denial> {
        (self.0)(who.subject.to_string()).await
    }
}

fn how_a_realm_may_answer(_: &Stage) -> Outcome {
    let at_once = Does(|name| std::future::ready(Ok(Session::new(Box::new(name)))));
    let waiting = Does(async |name| {
        turn().await;
        Ok(Session::new(Box::new(name)))
    });
    let at_once = login(&Portal::new(at_once).checked_by(users("a", ADA)), "ada", "countess");
    let waiting = login(&Portal::new(waiting).checked_by(users("a", ADA)), "ada", "countess");
    let ours = json!([at_once, waiting, waiting]);
    let theirs = json!(["granted ada", "granted ada", "a coroutine that nobody awaits"]);
    let here = json!(["granted ada", "granted ada", "granted ada"]);
    differs("how_a_realm_may_answer", &theirs, &here, &ours)
}

fn checker_returns_nothing(_: &Stage) -> Outcome {
    ensure!(compiles!(Verdict: Into<Verdict>) == "compiles", "the question is wrong");
    let ours = json!([
        compiles!(Option<Identity>: Into<Verdict>),
        compiles!(bool: Into<Verdict>),
        compiles!(&'static str: Into<Verdict>),
    ]);
    let theirs = json!(["granted None", "granted False", "granted "]);
    let no = "does not compile";
    differs("a_checker_that_returns_nothing", &theirs, &json!([no, no, no]), &ours)
}

struct Other;

impl Interface for Other {
    const NAME: &'static str = "other";
    type Avatar = String;
    type Mind = ();
}

fn realm_returns_anything(_: &Stage) -> Outcome {
    let right = compiles!(Session<Mailbox>: Into<Session<Mailbox>>);
    ensure!(right == "compiles", "the question is wrong");
    let ours = json!([
        compiles!(u8: Into<Session<Mailbox>>),
        compiles!(Session<Other>: Into<Session<Mailbox>>),
        compiles!((Mailbox, String): Into<Session<Mailbox>>),
    ]);
    let theirs = json!(["passed on", "passed on", "passed on"]);
    let no = "does not compile";
    differs("a_realm_that_returns_anything", &theirs, &json!([no, no, no]), &ours)
}

fn no_interface(_: &Stage) -> Outcome {
    // Who it is, without an avatar: `authenticate`.
    let portal = Portal::new(()).checked_by(users("a", ADA));
    let (mut peer, world) = (given("ada", "countess"), StillWorld::default());
    let who = ready(portal.authenticate(Request::to("test"), &mut peer, &world));
    let who = who.during("the login")?;
    same("a_login_for_no_interface", &json!(format!("granted {}", who.subject)))
}

fn realm_that_refuses(_: &Stage) -> Outcome {
    let full = Denial::new(Reason::Realm).because("quota exceeded");
    let realm = Does(move |_| std::future::ready(Err(full.clone())));
    let portal = Portal::new(realm).checked_by(users("a", ADA));
    same("a_realm_that_refuses", &json!(login(&portal, "ada", "countess")))
}

fn lacking_interface(_: &Stage) -> Outcome {
    let direct = compiles!(Counting: Realm<Other>);
    ensure!(direct == "does not compile", "a realm without the interface: {direct}");
    ensure!(compiles!(Counting: Realm<Mailbox>) == "compiles", "the question is wrong");
    // Put together by configuration: at the start, before anybody can log in.
    let application = Application::new().serving::<Mailbox>(Counting::default());
    let portal = Portal::new(application.during("an application")?);
    let ours = match portal.serving::<Other>() {
        Ok(_) => "starts".to_owned(),
        Err(missing) => missing.to_string(),
    };
    let here = json!("the application has no interface `other`; it has: mailbox");
    differs("an_interface_that_the_realm_lacks", &json!("broke"), &here, &json!(ours))
}

/// A store that never answers, and notes that it was dropped.
struct Slow(Arc<AtomicBool>);

impl PasswordStore for Slow {
    async fn check(&self, _: &str, _: &Secret) -> Result<Verdict, Fault> {
        struct Asked(Arc<AtomicBool>);
        impl Drop for Asked {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let _asked = Asked(Arc::clone(&self.0));
        std::future::pending().await
    }
}

fn given_up(_: &Stage) -> Outcome {
    let (told, realm) = (Arc::new(AtomicBool::new(false)), Counting::default());
    let portal =
        Portal::new(realm.clone()).checked_by(Password::new("slow", Slow(Arc::clone(&told))));
    let (mut peer, world) = (given("ada", "countess"), StillWorld::default());
    let request = Request::to("test");
    // One poll, and then it is dropped.
    let outcome = now_or_never(portal.login::<Mailbox>(request, &mut peer, (), &world));
    ensure!(outcome.is_none(), "it was to wait");
    let ours = json!({ "the checker was told": told.load(Ordering::SeqCst), "avatars": realm.counts()[0] });
    same("a_login_that_is_given_up", &ours)
}

/// What an SMTP server takes: either will do.
enum Route {
    Here,
    Relay,
}

struct Delivery;

impl Interface for Delivery {
    const NAME: &'static str = "delivery";
    type Avatar = Route;
    type Mind = ();
}

struct Post;

impl Realm<Delivery> for Post {
    async fn admit(&self, who: &Verified<Identity>, _: ()) -> Result<Session<Delivery>, Denial> {
        let route = if who.subject.name() == Some("ada") { Route::Relay } else { Route::Here };
        Ok(Session::new(Box::new(route)))
    }
}

fn any_of_several(_: &Stage) -> Outcome {
    let portal = Portal::new(Post).checked_by(users("a", &[("ada", "x"), ("bob", "x")]));
    let world = StillWorld::default();
    let mut ours = Vec::new();
    for name in ["ada", "bob"] {
        let mut peer = given(name, "x");
        let login = portal.login::<Delivery>(Request::to("smtp"), &mut peer, (), &world);
        ours.push(match ready(login).during("the login")?.avatar() {
            Route::Here => "here",
            Route::Relay => "relay",
        });
    }
    same("any_of_several_interfaces", &json!(ours))
}

/// A mind: a function that is called with what there is to say.
struct Notified;

impl Interface for Notified {
    const NAME: &'static str = "notified";
    type Avatar = ();
    type Mind = Box<dyn FnMut(&str) + Send>;
}

struct Announcing;

impl Realm<Notified> for Announcing {
    async fn admit(
        &self,
        _: &Verified<Identity>,
        mut mind: Box<dyn FnMut(&str) + Send>,
    ) -> Result<Session<Notified>, Denial> {
        mind("a letter");
        Ok(Session::new(Box::new(())))
    }
}

fn mind_is_told(_: &Stage) -> Outcome {
    let portal = Portal::new(Announcing).checked_by(users("a", ADA));
    let (mut peer, world) = (given("ada", "countess"), StillWorld::default());
    let (told, heard) = std::sync::mpsc::channel();
    let mind = Box::new(move |text: &str| drop(told.send(text.to_owned())));
    let login = portal.login::<Notified>(Request::to("test"), &mut peer, mind, &world);
    let _session = ready(login).during("the login")?;
    same("what_the_mind_is_told", &json!(heard.try_iter().collect::<Vec<_>>()))
}

fn logout_twice(_: &Stage) -> Outcome {
    let realm = Counting::default();
    let portal = Portal::new(realm.clone()).checked_by(users("a", ADA));
    let session = enter(&portal, "ada", "countess").during("the login")?;
    // It takes the session, so that there is nothing left to call it on; the end of the session comes with it.
    ready(session.logout());
    differs("a_logout_that_is_called_twice", &json!(2), &json!(1), &json!(realm.counts()[1]))
}
