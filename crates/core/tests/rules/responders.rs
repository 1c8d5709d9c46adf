//! Answers that are known beforehand: once each, and never a yes out of a text.

use countersign::testing::StillWorld;
use countersign::{
    Answer, Answers, Blocking, CredentialKind, KindSet, Known, LoginError, Portal, Question,
    Reason, Request, Responder, Round, Step, Text,
};
use proptest::prelude::*;

use crate::rounds::{answers, rounds};
use crate::stage::{Stage, ready};

#[test]
fn a_stale_password_costs_one_attempt() {
    // A checker that lets the peer try for ever.
    let questions = [Question::username(), Question::password()];
    let round = Round::of(questions);
    let kinds = [CredentialKind::AuthName, CredentialKind::Passphrase];
    let patient =
        Stage::new("patient", "password", kinds, move |_, _, _| Ok(Step::ask(round.clone())));
    let told = crate::stage::Told::clone(&patient.told);
    let portal = Portal::new(()).checked_by(patient);
    let world = StillWorld::default();
    let mut known = Known::new(Answers::new().with("username", "ada").with("password", "stale"));
    let login = ready(portal.authenticate(Request::to("test"), &mut known, &world));
    let Err(LoginError::Denied(denial)) = login else { panic!("{login:?}") };
    assert_eq!(denial.reason, Reason::Cancelled);
    assert_eq!(told.lock().unwrap().len(), 1);
    assert!(known.is_empty());
}

#[test]
fn text_says_yes_to_nothing() {
    for kind in [CredentialKind::Trust, CredentialKind::Confirm] {
        for text in ["yes", "true", "1", "y", ""] {
            let question = Question::new("host", kind.clone(), Text::default());
            let mut known = Known::new(Answers::new().with("host", text));
            let picked = known.pick(&Round::of([question]));
            let answer = picked.as_ref().and_then(|picked| picked.find("host"));
            assert!(
                !matches!(answer, Some(Answer::Confirmed(true) | Answer::Value(_))),
                "{answer:?}"
            );
            assert!(!known.is_empty(), "the text was used up for something else");
        }
    }
}

#[test]
fn a_password_answers_only_a_password_question() {
    for kind in [
        CredentialKind::EchoPrompt,
        CredentialKind::AuthName,
        CredentialKind::Language,
        CredentialKind::Otp,
        CredentialKind::Token,
        CredentialKind::Other("note".into()),
    ] {
        let round = Round::of([Question::new("password", kind.clone(), Text::default())]);
        let mut known = Known::new(Answers::new().with("password", "hunter2hunter2"));
        assert!(known.pick(&round).is_none(), "{kind}");
    }
}

#[test]
fn a_round_that_is_known_in_part_takes_nothing() {
    let round = Round::of([Question::username(), Question::password()]);
    let mut known = Known::new(Answers::new().with("username", "ada").with("otp", "123456"));
    assert!(known.pick(&round).is_none());
    assert!(known.pick(&Round::of([Question::username(), Question::otp()])).is_some());
}

#[test]
fn a_blocking_prompt_is_asked_and_may_cancel() {
    let mut asked = 0;
    let mut prompt = Blocking::new(KindSet::all(), |round: &Round| {
        asked += 1;
        assert_eq!(round.questions.len(), 1);
        if asked > 1 {
            return Err(countersign::Cancelled::because("^C"));
        }
        Ok(Answers::new().with("password", "x"))
    });
    let round = Round::of([Question::password()]);
    assert!(ready(prompt.respond(&round)).is_ok());
    assert_eq!(ready(prompt.respond(&round)).unwrap_err().why, "^C");
}

#[test]
fn nobody_answers_nothing_that_must_be_answered() {
    let must = Round::of([Question::password()]);
    assert!(ready(().respond(&must)).is_err());
    let may = Round::of([Question::authzid()]);
    let declined = ready(().respond(&may)).unwrap();
    assert_eq!(declined.find("authzid"), Some(&Answer::Declined));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1000, ..Default::default() })]

    /// Whatever is known and asked: what is picked fits, comes from what is known, is given once, and
    /// a refusal to pick takes nothing.
    #[test]
    fn what_is_known_is_given_once(known in answers(), round in rounds()) {
        let count = known.iter().count();
        let mut source = Known::new(known.clone());
        match source.pick(&round) {
            Some(picked) => {
                prop_assert!(round.accept(picked.clone()).is_ok());
                for (name, answer) in picked.iter() {
                    prop_assert!(known.iter().any(|(n, a)| n == name && a == answer));
                }
                let names: std::collections::BTreeSet<_> = known.iter().map(|(n, _)| n).collect();
                if names.len() == count && !picked.is_empty() {
                    let again = source.pick(&round).unwrap_or_default();
                    prop_assert!(again.iter().all(|(name, _)| picked.find(name).is_none()));
                }
            }
            None => prop_assert!(round.accept(known).is_err() || count > 0),
        }
    }
}
