//! Avatars end when their session does: whatever the protocol forgets, and whenever the client leaves.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as Wakes, Poll, Waker};

use countersign::testing::StillWorld;
use countersign::{
    Fault, Identity, Interface, Password, PasswordStore, Portal, Request, Secret, Session, Verdict,
    Verified,
};
use countersign_interop::runner::{Case, case};
use countersign_interop::{Context, Outcome, Stage, ensure};
use serde_json::{Value, json};

use crate::beside::differs;
use crate::stage::{Counting, Mailbox, enter, given, users};

pub(crate) const CASES: &[Case] = &[
    case("avatars_of_clients_that_had_left", clients_that_had_left),
    case("avatars_of_an_interface_that_was_refused", refused_interface),
    case("avatars_of_clients_that_leave", clients_that_leave),
    case("avatars_of_a_protocol_that_panics", protocol_that_panics),
];

/// Twisted's protocols that were asked. Here it is one session for all.
const PROTOCOLS: [&str; 5] = ["pop3", "imap", "smtp", "ftp", "telnet"];

fn each(counts: impl Into<Value>) -> Value {
    let counts = counts.into();
    Value::Object(PROTOCOLS.iter().map(|name| ((*name).to_owned(), counts.clone())).collect())
}

/// A store that says yes when it is told to.
#[derive(Clone, Default)]
struct Late(Arc<AtomicBool>);

impl PasswordStore for Late {
    async fn check(&self, login: &str, _: &Secret) -> Result<Verdict, Fault> {
        std::future::poll_fn(|_| match self.0.load(Ordering::SeqCst) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
        Ok(Verdict::Is(Verified::vouch(Identity::named(login))))
    }
}

fn clients_that_had_left(_: &Stage) -> Outcome {
    let (realm, late) = (Counting::default(), Late::default());
    let portal = Portal::new(realm.clone()).checked_by(Password::new("late", late.clone()));
    let world = StillWorld::default();
    // The login lives where the connection does, and goes with it.
    let mut peer = given("ada", "countess");
    let mut login = Box::pin(portal.login::<Mailbox>(Request::to("pop3"), &mut peer, (), &world));
    let mut wakes = Wakes::from_waker(Waker::noop());
    ensure!(login.as_mut().poll(&mut wakes).is_pending(), "the store was to think");
    drop(login);
    late.0.store(true, Ordering::SeqCst);
    let gone = realm.counts();
    // A server that lets the login run on, in a task of its own, has a session that nobody takes.
    let mut peer = given("ada", "countess");
    let login = portal.login::<Mailbox>(Request::to("pop3"), &mut peer, (), &world);
    drop(crate::stage::ready(login).during("the late success")?);
    ensure!(realm.counts() == [1, 1], "a session that nobody took: {:?}", realm.counts());
    differs(
        "avatars_of_clients_that_had_left",
        &each(json!([1, 0])),
        &each(json!([0, 0])),
        &each(json!(gone)),
    )
}

/// What a protocol has that did not ask for mailboxes.
struct Files;

impl Interface for Files {
    const NAME: &'static str = "files";
    type Avatar = usize;
    type Mind = ();
}

fn refused_interface(_: &Stage) -> Outcome {
    let realm = Counting::default();
    let portal = Portal::new(realm.clone()).checked_by(users("a", &[("ada", "countess")]));
    let session = enter(&portal, "ada", "countess").during("the login")?;
    // What compiles at all: making another interface's session of it, and refusing that.
    let files: Session<Files> = session.map(|name| Box::new(name.len()));
    ensure!(*files.avatar() == 3 && realm.counts() == [1, 0], "it is in use");
    drop(files);
    let theirs = each(json!([1, 0]));
    let here = each(json!([1, 1]));
    differs(
        "avatars_of_an_interface_that_was_refused",
        &theirs,
        &here,
        &each(json!(realm.counts())),
    )
}

fn clients_that_leave(_: &Stage) -> Outcome {
    let realm = Counting::default();
    let portal = Portal::new(realm.clone()).checked_by(users("a", &[("ada", "countess")]));
    let session = enter(&portal, "ada", "countess").during("the login")?;
    ensure!(realm.counts() == [1, 0], "it is in use");
    drop(session);
    let mut theirs = each(json!([1, 1]));
    theirs["ftp"] = json!([1, 0]);
    let here = each(json!([1, 1]));
    differs("avatars_of_clients_that_leave", &theirs, &here, &each(json!(realm.counts())))
}

fn protocol_that_panics(_: &Stage) -> Outcome {
    let realm = Counting::default();
    let portal = Portal::new(realm.clone()).checked_by(users("a", &[("ada", "countess")]));
    let session = enter(&portal, "ada", "countess").during("the login")?;
    let broken = std::panic::catch_unwind(AssertUnwindSafe(move || {
        let _session = session;
        std::panic::resume_unwind(Box::new("in the protocol"));
    }));
    ensure!(broken.is_err() && realm.counts() == [1, 1], "{:?}", realm.counts());
    Ok(())
}
