//! Several factors: one subject, in order, nothing skipped, nothing remembered beyond the attempt.

use std::sync::{Arc, Mutex};

use countersign::testing::StillWorld;
use countersign::{
    Answers, BoxExchange, Carrier, CredentialKind, Denial, Fault, Identity, KindSet, LoginError,
    Peer, Portal, Question, Reason, Reply, Request, Round, Scene, Step, Verified, login_name,
};

use crate::stage::{Person, Stage, among, grant, ready};

/// A password checker in whose world everybody's password is their name.
fn password() -> Stage {
    let questions = [Question::username(), Question::password()];
    Stage::asking("passwords", "password", questions, |answers, _| {
        let (name, password) = (answers.text("username"), answers.text("password"));
        match name.filter(|name| password == Some(name)) {
            Some(name) => {
                let who = Identity::named(name).in_group("staff", false).with("mail", "first");
                Ok(Step::Grant(Verified::vouch(who)))
            }
            None => Ok(Step::deny(Reason::WrongCredential)),
        }
    })
}

/// Codes of whoever the scene says was proven. `other` proves somebody else; `away` is a fault.
fn otp() -> Stage {
    Stage::asking("codes", "otp", [Question::otp()], |answers, scene| {
        let name = login_name(answers, scene).unwrap_or("nobody").to_owned();
        match answers.text("otp") {
            Some("123456") => {
                let who = Identity::named(name).in_group("staff", true).with("mail", "second");
                Ok(Step::Grant(Verified::vouch(who)))
            }
            Some("other") => Ok(grant("mallory")),
            Some("away") => Err(Fault::unavailable("the code server is away")),
            _ => Ok(Step::deny(Reason::WrongCredential)),
        }
    })
}

fn portal() -> Portal<()> {
    Portal::new(()).checked_by(otp()).checked_by(password()).requiring(["password", "otp"])
}

type Login = Result<Verified<Identity>, LoginError>;

fn login(portal: &Portal<()>, mechanism: Option<&'static str>, answers: Answers) -> (Login, usize) {
    let world = StillWorld::default();
    let mut peer = Person::new(|round: &Round| Some(among(round, &answers)));
    let mut request = Request::to("test");
    request.mechanism = mechanism.map(Into::into);
    let login = ready(portal.authenticate(request, &mut peer, &world));
    (login, peer.rounds.len())
}

fn answers(name: &'static str, password: &'static str, code: &'static str) -> Answers {
    Answers::new().with("username", name).with("password", password).with("otp", code)
}

#[test]
fn both_let_in_and_their_knowledge_is_joined() {
    for mechanism in [None, Some("password"), Some("PassWord")] {
        let (login, rounds) = login(&portal(), mechanism, answers("ada", "ada", "123456"));
        let who = login.expect("both factors are right");
        assert_eq!(who.subject.name(), Some("ada"));
        assert_eq!(who.groups.get("staff"), Some(&true), "either checker's admin mark counts");
        assert_eq!(who.attribute("mail"), Some("first"));
        assert_eq!(who.checker(), Some("passwords"));
        assert_eq!(rounds, 2);
    }
}

#[test]
fn every_other_pair_is_refused() {
    for (name, password, code) in [
        ("ada", "wrong", "123456"),
        ("ada", "ada", "000000"),
        ("ada", "ada", "other"),
        ("ada", "wrong", "other"),
    ] {
        let (login, _) = login(&portal(), None, answers(name, password, code));
        assert!(matches!(login, Err(LoginError::Denied(_))), "{password} {code}: {login:?}");
    }
    let (login, _) = login(&portal(), None, answers("ada", "ada", "away"));
    assert!(matches!(login, Err(LoginError::Fault(_))), "{login:?}");
}

#[test]
fn another_subject_is_told_in_the_record() {
    let (login, _) = login(&portal(), None, answers("ada", "ada", "other"));
    let Err(LoginError::Denied(denial)) = login else { panic!("{login:?}") };
    assert_eq!(denial.reason, Reason::NotAllowed);
    assert_eq!(denial.detail, "one factor proved ada, another mallory");
}

/// `TOKEN` carries `otp` without changing it.
struct Clothed;

impl Carrier for Clothed {
    fn name(&self) -> &str {
        "CLOTHED"
    }

    fn carries(&self) -> &str {
        "otp"
    }

    fn carry(&self, inner: BoxExchange) -> BoxExchange {
        inner
    }
}

#[test]
fn naming_another_mechanism_skips_nothing() {
    let portal = portal().carried_by(Clothed);
    for mechanism in ["otp", "OTP", "CLOTHED", "clothed"] {
        let (login, rounds) = login(&portal, Some(mechanism), answers("ada", "", "123456"));
        let Err(LoginError::Denied(denial)) = login else { panic!("{mechanism}: {login:?}") };
        assert_eq!((denial.reason, rounds), (Reason::Unsupported, 0), "{mechanism}");
    }
    assert_eq!(portal.mechanisms(&KindSet::all()), ["password"]);
}

#[test]
fn a_required_mechanism_that_nobody_offers_lets_nobody_in() {
    for require in [vec!["smartcard"], vec!["password", "smartcard"], vec!["smartcard", "password"]]
    {
        let portal = Portal::new(()).checked_by(password()).requiring(require.clone());
        for mechanism in [None, Some("password"), Some("smartcard")] {
            let (login, rounds) = login(&portal, mechanism, answers("ada", "ada", "123456"));
            let refused = matches!(
                login,
                Err(LoginError::Denied(Denial { reason: Reason::Unsupported, .. }))
            );
            assert!(refused && rounds == 0, "{require:?} {mechanism:?}: {login:?}");
        }
    }
    // Said before the checkers are there, it is found when they come; and the order of words is no matter.
    let late = Portal::new(()).requiring(["PASSWORD", "Otp"]).checked_by(password());
    assert!(login(&late, None, answers("ada", "ada", "123456")).0.is_err());
    let late = late.checked_by(otp());
    assert!(login(&late, None, answers("ada", "ada", "123456")).0.is_ok());
}

#[test]
fn proofs_belong_to_the_attempt() {
    let portal = portal();
    let world = StillWorld::default();
    let peer = Arc::new(Peer::new("test", KindSet::all()));
    let begin = || ready(portal.begin(Request::from_peer(Arc::clone(&peer)), &world)).unwrap().0;
    let both = |name: &'static str| Answers::new().with("username", name).with("password", name);
    let (mut ada, mut eve) = (begin(), begin());
    let reply = ready(ada.answer(1, both("ada"), &world)).unwrap();
    assert!(matches!(reply, Reply::Ask(_)));
    // Ada's proven password is worth nothing in Eve's attempt, which is still in its first round.
    let misuse = ready(eve.answer(1, Answers::new().with("otp", "123456"), &world));
    assert!(misuse.is_err(), "{misuse:?}");
    assert!(ready(eve.answer(2, Answers::new().with("otp", "123456"), &world)).is_err());
    let reply = ready(eve.answer(1, both("eve"), &world)).unwrap();
    assert!(matches!(reply, Reply::Ask(_)));
    let code = || Answers::new().with("otp", "123456");
    let Reply::Granted(who) = ready(eve.answer(2, code(), &world)).unwrap() else { panic!() };
    assert_eq!(who.subject.name(), Some("eve"));
    let Reply::Granted(who) = ready(ada.answer(2, code(), &world)).unwrap() else { panic!() };
    assert_eq!(who.subject.name(), Some("ada"));
    assert!(matches!(begin().open(), Some(ask) if ask.round.question("password").is_some()));
}

#[test]
fn each_factor_sees_what_was_proven_before() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let factor = |name: &'static str, mechanism: &'static str| {
        let seen = Arc::clone(&seen);
        Stage::new(name, mechanism, [], move |_, _, scene: &Scene<'_>| {
            let proven: Vec<_> = scene.proven.iter().map(|who| who.subject.to_string()).collect();
            seen.lock().unwrap().push((mechanism, proven));
            Ok(grant("ada"))
        })
    };
    let portal = Portal::new(())
        .checked_by(factor("1", "one"))
        .checked_by(factor("2", "two"))
        .checked_by(factor("3", "three"))
        .requiring(["one", "two", "three"]);
    assert!(login(&portal, Some("one"), Answers::new()).0.is_ok());
    let ada = || "ada".to_owned();
    let expected = [("one", vec![]), ("two", vec![ada()]), ("three", vec![ada(), ada()])];
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[test]
fn a_peer_that_cannot_answer_the_second_factor_is_refused_there() {
    let world = StillWorld::default();
    let given = answers("ada", "ada", "123456");
    let mut peer = Person::new(|round: &Round| Some(among(round, &given)));
    peer.supports = KindSet::none().with(CredentialKind::AuthName).with(CredentialKind::Passphrase);
    let login = ready(portal().authenticate(Request::to("test"), &mut peer, &world));
    let Err(LoginError::Denied(denial)) = login else { panic!("{login:?}") };
    assert_eq!(denial.reason, Reason::Unsupported);
    assert_eq!(peer.rounds.len(), 1);
}
