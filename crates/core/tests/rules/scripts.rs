//! Straight-line code as an exchange.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use countersign::testing::StillWorld;
use countersign::{
    Answers, Bounds, BoxExchange, Conversation, Decision, Denial, Exchange, Fault, Halt, Identity,
    KindSet, Peer, Question, Reason, Reply, Round, Scene, Step, Verified, script,
};

use crate::stage::{ready, turn};

fn begin(exchange: impl Exchange, world: &StillWorld) -> (Conversation, Reply) {
    let peer = Arc::new(Peer::new("imap", KindSet::all()));
    let claimed = Some("ada".into());
    let exchange = BoxExchange::new(exchange);
    ready(Conversation::begin(exchange, peer, claimed, &Bounds::CONNECTION, world)).expect("begun")
}

fn password(text: &str) -> Answers {
    Answers::new().with("password", text)
}

#[test]
fn asks_in_the_middle_and_twice() {
    let world = StillWorld::default();
    let code = || {
        script(|peer| async move {
            let first = peer.ask(Round::of([Question::password()])).await;
            if first.text("password") != Some("right") {
                return Ok(Decision::Deny(Denial::new(Reason::WrongCredential)));
            }
            let second = peer.ask(Round::of([Question::otp()])).await;
            assert_eq!(peer.peer().service.as_ref(), "imap");
            let name = peer.claimed().unwrap_or_default();
            Ok(match second.text("otp") {
                Some("123456") => Decision::Grant(Verified::vouch(Identity::named(name))),
                _ => Decision::Deny(Denial::new(Reason::WrongCredential)),
            })
        })
    };
    let (mut login, _) = begin(code(), &world);
    let reply = ready(login.answer(1, password("right"), &world)).unwrap();
    assert!(matches!(&reply, Reply::Ask(ask) if ask.number == 2));
    let reply = ready(login.answer(2, Answers::new().with("otp", "123456"), &world)).unwrap();
    assert!(matches!(reply, Reply::Granted(who) if who.subject.name() == Some("ada")));
    let (mut login, _) = begin(code(), &world);
    let reply = ready(login.answer(1, password("wrong"), &world)).unwrap();
    assert!(matches!(reply, Reply::Denied(_)));
    assert!(login.is_over());
}

#[test]
fn a_script_may_await_a_backend_between_its_questions() {
    let world = StillWorld::default();
    let exchange = script(|peer| async move {
        turn().await;
        peer.ask(Round::of([Question::password()])).await;
        turn().await;
        Ok(Decision::Grant(Verified::vouch(Identity::named("ada"))))
    });
    let mut exchange = BoxExchange::new(exchange);
    let peer = Peer::new("imap", KindSet::all());
    let scene = Scene::of(&peer, &world);
    let waker = std::task::Waker::noop();
    let mut context = std::task::Context::from_waker(waker);
    for last in [false, true] {
        let answers = if last { password("x") } else { Answers::new() };
        let mut step = std::pin::pin!(exchange.step(answers, &scene));
        assert!(step.as_mut().poll(&mut context).is_pending(), "it awaits the backend");
        let std::task::Poll::Ready(Ok(step)) = step.as_mut().poll(&mut context) else { panic!() };
        assert_eq!(matches!(step, Step::Grant(_)), last);
    }
}

#[test]
fn a_script_that_ignores_its_answers_is_a_fault() {
    let world = StillWorld::default();
    let exchange = script(|peer| async move {
        let mut asking = Box::pin(peer.ask(Round::of([Question::password()])));
        std::future::poll_fn(|context| {
            assert!(asking.as_mut().poll(context).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        drop(asking);
        std::future::pending::<Result<Decision, Fault>>().await
    });
    let (mut login, reply) = begin(exchange, &world);
    assert!(matches!(reply, Reply::Ask(_)));
    let end = ready(login.answer(1, password("x"), &world));
    assert!(matches!(end, Err(Halt::Fault(_))), "{end:?}");
    assert!(login.is_over());
}

#[test]
fn answers_to_a_question_given_up_answer_no_other() {
    let world = StillWorld::default();
    let exchange = script(|peer| async move {
        // The first question is raced with something that is ready at the second poll.
        let mut asking = Box::pin(peer.ask(Round::of([Question::password()])));
        let mut polls = 0;
        std::future::poll_fn(|context| {
            polls += 1;
            if polls == 2 {
                return std::task::Poll::Ready(());
            }
            assert!(asking.as_mut().poll(context).is_pending());
            std::task::Poll::Pending
        })
        .await;
        drop(asking);
        let answers = peer.ask(Round::of([Question::new_password()])).await;
        assert!(answers.find("password").is_none(), "the answer of another question");
        assert_eq!(answers.text("new-password"), Some("new"));
        Ok(Decision::Grant(Verified::vouch(Identity::named("ada"))))
    });
    let (mut login, _) = begin(exchange, &world);
    let reply = ready(login.answer(1, password("old"), &world)).unwrap();
    assert!(matches!(&reply, Reply::Ask(ask) if ask.round.question("new-password").is_some()));
    let reply = ready(login.answer(2, Answers::new().with("new-password", "new"), &world)).unwrap();
    assert!(matches!(reply, Reply::Granted(_)));
}

#[test]
fn dropping_the_conversation_drops_what_the_script_holds() {
    struct Held(Arc<AtomicUsize>);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let held = Held(Arc::clone(&dropped));
    let world = StillWorld::default();
    let (login, _) = begin(
        script(move |peer| async move {
            peer.ask(Round::of([Question::password()])).await;
            drop(held);
            Ok(Decision::Grant(Verified::vouch(Identity::named("ada"))))
        }),
        &world,
    );
    assert_eq!(dropped.load(Ordering::SeqCst), 0);
    drop(login);
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
}
