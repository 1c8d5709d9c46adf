//! Logging in: whatever is asked, and what a client hears when it is not let in.

use std::time::Duration;

use countersign::{
    Answer, BoxExchange, Challenge, Charset, Checker, CredentialKind, Decision, Denial, Fault,
    Feedback, Group, Identity, KindSet, Level, Limits as Of, Mechanism, Plaintext, Policy,
    Question, Reason, Round, Scene, Terms, Text, Transport, Verified, script,
};
use countersign_example_objects::objects_capnp::{self as schema, Refusal, question, step};
use countersign_example_objects::{Desks, Limits};
use tokio::task::LocalSet;

use crate::stage::{Got, LIMITS, Stage, give, list};

#[tokio::test(start_paused = true)]
async fn a_right_password_opens_the_desk_and_a_wrong_one_does_not() {
    Stage::play(async |stage| {
        let client = stage.client();
        let offers = client.login.offers_request().send().promise.await.unwrap();
        let offers = offers.get().unwrap().get_mechanisms().unwrap();
        assert_eq!(offers.get(0).unwrap(), "password");
        for (name, password) in [("ada", "wrong"), ("eve", "countess")] {
            let got = client.password(name, password).await.unwrap();
            assert!(matches!(got, Got::Refused(Refusal::Denied)), "{name}");
        }
        let session = client.enter("ada").await;
        let who = session.whoami_request().send().promise.await.unwrap();
        let who = who.get().unwrap().get_who().unwrap();
        assert_eq!((who.get_name().unwrap(), who.get_anonymous()), ("ada".into(), false));
        assert_eq!(who.get_groups().unwrap().get(0).unwrap(), "staff");
        assert_eq!(who.get_proofs().unwrap().get(0).unwrap(), "password");
        assert_eq!(list(&session).await.unwrap(), ["one", "two"]);
        // One at a time on one connection.
        let error = client.begin("password").await.err().unwrap();
        assert!(error.extra.contains("somebody is logged in"), "{error}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_hears_one_of_four_words() {
    Stage::play(async |stage| {
        let client = stage.client();
        let got = client.password("broken", "countess").await.unwrap();
        assert!(matches!(got, Got::Refused(Refusal::TryLater)), "a fault");
        let got = client.password("full", "countess").await.unwrap();
        assert!(matches!(got, Got::Refused(Refusal::TryLater)), "the realm's refusal");
        let got = client.begin("GSSAPI").await.unwrap();
        assert!(matches!(got, Got::Refused(Refusal::Unsupported)), "a mechanism that is not there");
        assert_eq!(stage.ended(), (0, 0));
        // The third refusal is the last.
        let got = client.begin("GSSAPI").await.unwrap();
        assert!(matches!(got, Got::Refused(_)));
        client.served.await.unwrap();
        assert!(client.login.offers_request().send().promise.await.is_err());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_password_does_not_cross_a_network_readable() {
    let terms = Terms { plaintext: Some(Plaintext::Secured), ..Terms::default() };
    let stage = Stage::with(LIMITS, |portal| portal.under(Policy::of(terms)));
    LocalSet::new()
        .run_until(async {
            let plain = stage.client_by(Transport::Plain);
            let offers = plain.login.offers_request().send().promise.await.unwrap();
            assert_eq!(offers.get().unwrap().get_mechanisms().unwrap().len(), 0);
            let got = plain.begin("password").await.unwrap();
            assert!(matches!(got, Got::Refused(_)));
            stage.client_by(Transport::Tls).enter("ada").await;
        })
        .await;
}

/// Everything that a round can have, then a round that tells what was wrong, then one that closes.
struct Quiz([Mechanism; 1]);

impl Quiz {
    fn new() -> Self {
        Self([Mechanism {
            name: "quiz".into(),
            asks: KindSet::none().with(CredentialKind::AuthName),
            needs: &[],
            plaintext: false,
        }])
    }

    fn round() -> Round {
        let text = |text: &'static str| Text::verbatim(text);
        let mut colour = Question::new("colour", CredentialKind::Choice, text("Colour"));
        colour.options = vec![text("red"), text("blue")];
        let mut sure = Question::new("sure", CredentialKind::Confirm, text("Sure?"));
        sure.default = Some("no".into());
        let mut code = Question::otp().in_group("code");
        code.limits = Of { min: 6, max: 8, charset: Charset::Decimal };
        code.challenge = Some(Challenge::Json("{\"n\":1}".into()));
        let mut key = Question::password().in_group("key").optional();
        key.challenge = Some(Challenge::Text("which?".into()));
        let group = |id: &'static str| Group {
            id: id.into(),
            title: Text::verbatim(id),
            mechanism: "quiz".into(),
        };
        Round {
            title: Some(Text::message("title", "A quiz")),
            instruction: Some(text("Answer")),
            groups: vec![group("code"), group("key")],
            ..Round::of([Question::username(), colour, sure, code, key])
        }
        .notice(Level::Warning, text("Beware"))
    }
}

impl Checker for Quiz {
    fn name(&self) -> &str {
        "quiz"
    }

    fn mechanisms(&self) -> &[Mechanism] {
        &self.0
    }

    fn begin(&self, _: &str, _: &Scene<'_>) -> Result<BoxExchange, Fault> {
        Ok(BoxExchange::new(script(|peer| async move {
            let first = peer.ask(Self::round()).await;
            let blue = first.find("colour") == Some(&Answer::Choice(1));
            let sure = first.find("sure") == Some(&Answer::Confirmed(true));
            if !(blue && sure && first.text("otp") == Some("123456")) {
                let detail = format!("{first:?}");
                return Ok(Decision::Deny(Denial::new(Reason::WrongCredential).because(detail)));
            }
            let feedback = Feedback {
                question: Some("otp".into()),
                text: Text::verbatim("once more"),
                tries_left: Some(1),
            };
            let again = Round { feedback: Some(feedback), ..Round::of([Question::otp()]) };
            if peer.ask(again).await.text("otp") != Some("654321") {
                return Ok(Decision::Deny(Denial::new(Reason::WrongCredential)));
            }
            peer.ask(Round::telling(b"farewell".to_vec(), "ada")).await;
            Ok(Decision::Grant(Verified::vouch(Identity::named("ada"))))
        })))
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_a_checker_asks_is_asked_and_what_it_says_last_comes_with_the_success() {
    let stage = Stage::with(LIMITS, |portal| portal.checked_by(Quiz::new()));
    LocalSet::new()
        .run_until(async {
            let client = stage.client();
            let mut call = client.login.begin_request();
            call.get().set_mechanism("quiz");
            let reply = call.send().promise.await.unwrap();
            let step = reply.get().unwrap().get_step().unwrap();
            let Ok(step::Ask(ask)) = step.which() else { panic!("no round") };
            let round = ask.get_round().unwrap();
            let words = |words: schema::words::Reader<'_>| {
                words.get_text().unwrap().to_str().unwrap().to_owned()
            };
            assert_eq!(round.get_title().unwrap().get_id().unwrap(), "title");
            assert_eq!(words(round.get_instruction().unwrap()), "Answer");
            let notice = round.get_notices().unwrap().get(0);
            assert_eq!(notice.get_level(), Ok(schema::Level::Warning));
            assert_eq!(words(notice.get_text().unwrap()), "Beware");
            assert_eq!(round.get_groups().unwrap().get(1).get_id().unwrap(), "key");
            assert!(!round.has_feedback());
            let questions = round.get_questions().unwrap();
            let [name, colour, sure, code, key] = [0, 1, 2, 3, 4].map(|at| questions.get(at));
            assert_eq!((name.get_kind().unwrap(), name.get_echo()), ("authname".into(), true));
            assert_eq!((name.get_max(), name.get_charset()), (255, Ok(schema::Charset::Name)));
            assert_eq!(words(colour.get_options().unwrap().get(1)), "blue");
            assert!(matches!(
                sure.get_default().which(),
                Ok(question::default::Present(Ok(no))) if no == "no"
            ));
            assert!(matches!(
                code.get_challenge().which(),
                Ok(question::challenge::Json(Ok(json))) if json == "{\"n\":1}"
            ));
            assert_eq!((code.get_min(), code.get_max(), code.get_echo()), (6, 8, false));
            assert_eq!((key.get_group().unwrap(), key.get_optional()), ("key".into(), true));
            let conversation = ask.get_conversation().unwrap();
            // What does not fit is said, and the round stays open.
            let answers = |code| {
                [("username", "ada"), ("colour", "<second>"), ("sure", "<yes>"), ("otp", code)]
            };
            let error = give(&conversation, 1, &answers("letters")).await.err().unwrap();
            assert!(error.extra.contains("otp") && error.extra.contains("digits"), "{error}");
            let error = give(&conversation, 2, &answers("123456")).await.err().unwrap();
            assert!(error.extra.contains('2'), "another round's number: {error}");
            let got = give(&conversation, 1, &answers("123456")).await.unwrap();
            let Got::Asked(2, names, conversation) = got else { panic!("no second round") };
            assert_eq!(names, ["otp"]);
            let got = give(&conversation, 2, &[("otp", "654321")]).await.unwrap();
            let Got::In(session, told) = got else { panic!("not in") };
            assert_eq!(told, b"farewell");
            assert_eq!(list(&session).await.unwrap().len(), 2);
            let error = give(&conversation, 2, &[("otp", "654321")]).await.err().unwrap();
            assert!(!error.extra.is_empty(), "it is over");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn several_factors_are_several_rounds_and_kinds_that_a_client_has_not_are_not_asked() {
    let stage = Stage::with(LIMITS, |portal| {
        portal.checked_by(Quiz::new()).requiring(["password", "quiz"])
    });
    LocalSet::new()
        .run_until(async {
            let client = stage.client();
            let got = client.password("ada", "countess").await.unwrap();
            let Got::Asked(2, names, conversation) = got else { panic!("one factor was enough") };
            assert_eq!(names, ["username", "colour", "sure", "otp", "password"]);
            conversation.cancel_request().send().promise.await.unwrap();
            let error = give(&conversation, 2, &[]).await.err().unwrap();
            assert!(!error.extra.is_empty(), "it is over");
            assert_eq!(stage.ended(), (0, 0));
            let mut call = client.login.begin_request();
            call.get().set_mechanism("quiz");
            call.get().init_supports(1).set(0, "authname");
            let reply = call.send().promise.await.unwrap();
            let step = reply.get().unwrap().get_step().unwrap();
            assert!(matches!(step.which(), Ok(step::Refused(Ok(Refusal::Unsupported)))));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn who_is_not_logged_in_has_so_much_time_so_many_logins_and_so_many_bytes() {
    let limits = Limits { logins: 2, before_login: 20_000, ..LIMITS };
    let stage = Stage::with(limits, |portal| portal);
    LocalSet::new()
        .run_until(async {
            let idle = stage.client();
            let started = tokio::time::Instant::now();
            idle.served.await.unwrap();
            assert_eq!(started.elapsed(), limits.login);

            let eager = stage.client();
            let _waiting = (eager.begin("password").await, eager.begin("password").await);
            let error = eager.begin("password").await.err().unwrap();
            assert_eq!(error.kind, capnp::ErrorKind::Overloaded);

            let large = stage.client();
            let error = large.password("ada", &"x".repeat(30_000)).await.err().unwrap();
            assert!(error.extra.contains("too much before a login"), "{error}");
            large.served.await.unwrap();
            let talks = stage.client();
            let mut calls = 0;
            while talks.login.offers_request().send().promise.await.is_ok() {
                calls += 1;
            }
            assert!((50..1000).contains(&calls), "{calls}");
            // Who is in, may.
            let inside = stage.client();
            let session = inside.enter("ada").await;
            for _ in 0..calls {
                list(&session).await.unwrap();
            }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_message_has_a_size_and_a_name_needs_the_office_to_know_it() {
    let portal = countersign::Portal::new(Desks::new()).checked_by(Quiz::new());
    let checker = countersign::Password::new("everybody", Everybody);
    let stage = Stage::over(portal.checked_by(checker), Limits { message: 16 * 1024, ..LIMITS });
    LocalSet::new()
        .run_until(async {
            let (ada, bob) = (stage.client(), stage.client());
            let (at_ada, at_bob) = (ada.enter("ada").await, bob.enter("bob").await);
            assert_eq!(ada.hears("notice").await, "notice: Willkommen, ada", "in her language");
            let desk = at_ada.desk_request().send().pipeline.get_desk();
            let put = |name: &str, text: &str| {
                let mut call = desk.put_request();
                call.get().set_name(name);
                call.get().set_text(text);
                call.send().promise
            };
            let note = put("one", "the first").await.unwrap().get().unwrap().get_note().unwrap();
            assert!(put("", "nothing").await.err().unwrap().extra.contains("empty"));
            let mut call = note.write_request();
            call.get().set_text("the first, mended");
            call.send().promise.await.unwrap();
            let read = note.read_request().send().promise.await.unwrap();
            assert_eq!(read.get().unwrap().get_text().unwrap(), "the first, mended");
            assert_eq!(list(&at_ada).await.unwrap(), ["one"]);
            assert_eq!(list(&at_bob).await.unwrap(), [""; 0], "everybody has their own");
            let leave = |to: &str| {
                let mut call = desk.leave_request();
                call.get().set_to(to);
                call.get().set_name("lunch");
                call.get().set_text("at noon?");
                call.send().promise
            };
            leave("bob").await.unwrap();
            assert_eq!(bob.hears("notice: ada").await, "notice: ada left you `lunch`");
            assert!(leave("bob").await.err().unwrap().extra.contains("already"));
            assert!(leave("zoe").await.err().unwrap().extra.contains("nobody"));
            let find = at_bob.desk_request().send().pipeline.get_desk().find_request();
            let _ = find;
            let mut find = at_bob.desk_request().send().pipeline.get_desk().find_request();
            find.get().set_name("lunch");
            let lunch = find.send().pipeline.get_note();
            let taken = lunch.take_request().send().promise.await.unwrap();
            assert_eq!(taken.get().unwrap().get_text().unwrap(), "at noon?");
            assert!(lunch.take_request().send().promise.await.is_err(), "it is gone");
            assert!(put("two", &"x".repeat(20_000)).await.is_err(), "a message too large");
            ada.served.await.unwrap();
            assert_eq!(stage.server.portal.realm().sessions(), 1, "bob");
            bob.vanish().await;
            assert_eq!(stage.server.portal.realm().sessions(), 0);
        })
        .await;
}

struct Everybody;

impl countersign::PasswordStore for Everybody {
    async fn check(
        &self,
        login: &str,
        _: &countersign::Secret,
    ) -> Result<countersign::Verdict, Fault> {
        Ok(countersign::Verdict::Is(Verified::vouch(Identity::named(login))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_conversation_does_not_wait_for_ever() {
    Stage::play(async |stage| {
        let client = stage.client();
        let Ok(Got::Asked(number, _, conversation)) = client.begin("password").await else {
            panic!("nothing was asked")
        };
        stage.world.advance_ms(Duration::from_secs(3600).as_millis() as u64);
        let answers = [("username", "ada"), ("password", "countess")];
        let got = give(&conversation, number, &answers).await.unwrap();
        assert!(matches!(got, Got::Refused(Refusal::TryLater)));
        assert_eq!(stage.ended(), (0, 0));
    })
    .await;
}
