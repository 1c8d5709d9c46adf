//! A canary that no `Debug` and no `Display` may show.

use std::fmt::Debug;
use std::sync::Arc;

use countersign::testing::StillWorld;
use countersign::{
    Answers, Bounds, BoxExchange, Conversation, Decision, Fault, Halt, Identity, KindSet, Known,
    LoginError, Password, PasswordStore, Peer, Pending, PendingLimits, Portal, Question, Request,
    Round, ScramKeys, Secret, Verdict, Verified, script,
};

use crate::stage::ready;

const CANARY: &str = "canary-0b5e7a-do-not-print";

#[track_caller]
fn silent(value: &impl Debug) {
    for text in [format!("{value:?}"), format!("{value:#?}")] {
        assert!(!text.contains(CANARY) && !text.contains("canary"), "{text}");
        // Nor as a list of numbers.
        assert!(!text.contains("99, 97, 110, 97"), "{text}");
    }
}

struct Store;

impl PasswordStore for Store {
    async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
        silent(password);
        Ok(match login {
            "ada" => Verdict::Is(Verified::vouch(Identity::named("ada"))),
            _ => Verdict::WRONG,
        })
    }
}

fn answers(login: &'static str) -> Answers {
    Answers::new().with("username", login).with("password", CANARY)
}

#[test]
fn plain_values() {
    silent(&Secret::from(CANARY));
    silent(&answers("ada"));
    silent(&answers("ada").find("password"));
    silent(&Known::new(answers("ada")));
    let key = || Secret::from(CANARY);
    silent(&ScramKeys { salt: vec![1], iterations: 1, stored_key: key(), server_key: key() });
    let misfit = Round::of([Question::otp()]).accept(Answers::new().with("otp", CANARY));
    silent(&misfit);
    assert!(!misfit.unwrap_err().to_string().contains("canary"));
    let strange = Round::of([Question::username()]).accept(answers("ada"));
    silent(&strange);
}

#[test]
fn conversations() {
    let portal = Portal::new(()).checked_by(Password::new("store", Store));
    let portal = portal.bounded_by(&Bounds::REQUESTS);
    silent(&portal);
    let world = StillWorld::default();
    for login in ["ada", "eve"] {
        let peer = Arc::new(Peer::new("test", KindSet::all()));
        let (mut conversation, reply) =
            ready(portal.begin(Request::from_peer(peer), &world)).expect("no fault");
        silent(&reply);
        // A misfit first: it must leave nothing behind.
        let misuse = ready(conversation.answer(9, answers(login), &world));
        silent(&misuse);
        let reply = ready(conversation.answer(1, answers(login), &world));
        silent(&reply);
        silent(&conversation);
        let pending = Pending::new(0, PendingLimits::default());
        let id = pending.insert(conversation, CANARY, &world).expect("room");
        silent(&pending);
        silent(&pending.take(id, &world).map(|(conversation, _)| conversation));
    }
    let mut known = Known::new(answers("eve"));
    let denied = ready(portal.authenticate(Request::to("test"), &mut known, &world));
    silent(&denied);
    let Err(LoginError::Denied(denial)) = denied else { panic!("let in") };
    silent(&denial);
    assert!(!denial.to_string().contains("canary"));
}

#[test]
fn scripts() {
    let world = StillWorld::default();
    let exchange = script(|peer| async move {
        let answers = peer.ask(Round::of([Question::password()])).await;
        silent(&answers);
        silent(&peer);
        Err::<Decision, _>(Fault::internal("the end"))
    });
    let peer = Arc::new(Peer::new("test", KindSet::all()));
    let bounds = &Bounds::REQUESTS;
    let begun = Conversation::begin(BoxExchange::new(exchange), peer, None, bounds, &world);
    let (mut conversation, _) = ready(begun).expect("no fault");
    let given = Answers::new().with("password", CANARY);
    let end = ready(conversation.answer(1, given, &world));
    assert!(matches!(end, Err(Halt::Fault(_))), "{end:?}");
    silent(&end);
    silent(&conversation);
}
