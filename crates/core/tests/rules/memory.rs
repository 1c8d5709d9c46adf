//! What ordered checkers may be told from memory: random rounds, and every value traced to its question.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use countersign::testing::StillWorld;
use countersign::{
    Answer, Answers, Challenge, CredentialKind, Level, LoginError, Order, Portal, Question, Reason,
    Request, Round, Shape, Step, Text,
};
use proptest::prelude::*;

use crate::stage::{Person, Stage, ready};

const NAMES: [&str; 3] = ["username", "password", "extra"];
const CHECKERS: [&str; 3] = ["first", "second", "third"];

fn question(name: &'static str) -> impl Strategy<Value = Question> {
    use CredentialKind as K;
    let kinds = vec![K::Passphrase, K::Passphrase, K::EchoPrompt, K::Trust, K::Choice];
    let flag = || prop::bool::weighted(0.15);
    (prop::sample::select(kinds), flag(), flag(), flag()).prop_map(
        move |(kind, challenged, defaulted, optional)| {
            let mut question = Question::new(name, kind, Text::default());
            question.challenge = challenged.then(|| Challenge::Text("once".into()));
            question.default = defaulted.then(|| "0".into());
            question.optional = optional;
            question.options = vec![Text::default(), Text::default()];
            question
        },
    )
}

fn round() -> impl Strategy<Value = Round> {
    let subset = prop::sample::subsequence(NAMES.to_vec(), 0..=NAMES.len());
    subset.prop_flat_map(|names| {
        names.into_iter().map(question).collect::<Vec<_>>().prop_map(Round::of)
    })
}

/// How a value came to be known.
#[derive(Clone, Debug)]
struct Origin {
    question: Question,
    /// Which of the peer's rounds it answered, counted from 0.
    round: usize,
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..Default::default() })]

    #[test]
    fn every_answer_comes_from_the_same_question(
        scripts in prop::collection::vec(prop::collection::vec(round(), 1..4), 1..4),
        order in prop::sample::select(vec![Order::FirstKnown, Order::FirstSuccess]),
    ) {
        // (checker, its round, answers), and how many rounds the peer had seen by then.
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shown = Arc::new(Mutex::new(0usize));
        let mut portal = Portal::new(()).in_order(order);
        for (index, rounds) in scripts.iter().enumerate() {
            let (rounds, seen, shown) = (rounds.clone(), Arc::clone(&seen), Arc::clone(&shown));
            let act = move |step: usize, answers: &Answers, _: &countersign::Scene<'_>| {
                if step > 0 {
                    let record = (index, rounds[step - 1].clone(), answers.clone(), *shown.lock().unwrap());
                    seen.lock().unwrap().push(record);
                }
                Ok(rounds.get(step).cloned().map_or(Step::deny(Reason::UnknownUser), Step::ask))
            };
            portal = portal.checked_by(Stage::new(CHECKERS[index], "m", [], act));
        }
        let mut origins: BTreeMap<Vec<u8>, Origin> = BTreeMap::new();
        let counter = Arc::clone(&shown);
        let mut peer = Person::new(|round: &Round| {
            let number = { let mut shown = counter.lock().unwrap(); *shown += 1; *shown - 1 };
            let answers = round.questions.iter().map(|question| {
                let answer = match question.kind.shape() {
                    Shape::YesNo => Answer::Confirmed(true),
                    Shape::Option => Answer::Choice(1),
                    Shape::Value => {
                        let value = format!("value {}", origins.len()).into_bytes();
                        let origin = Origin { question: question.clone(), round: number };
                        origins.insert(value.clone(), origin);
                        Answer::Value(value.into())
                    }
                };
                (question.name.clone(), answer)
            });
            Some(answers.collect())
        });
        let world = StillWorld::default();
        let login = portal.authenticate(Request::to("test").by("m"), &mut peer, &world);
        let Err(LoginError::Denied(denial)) = ready(login) else {
            return Err(TestCaseError::fail("checkers that know nobody let somebody in"));
        };
        prop_assert_eq!(denial.reason, Reason::UnknownUser);
        let asked = peer.rounds.len();
        drop(peer);
        let seen = seen.lock().unwrap();
        // Every round of every checker was answered, by the peer or from memory.
        prop_assert_eq!(seen.len(), scripts.iter().map(Vec::len).sum::<usize>());
        prop_assert!(asked <= seen.len());
        let mut reached = BTreeSet::new();
        let mut previous = 0;
        for (checker, round, answers, shown) in seen.iter() {
            let by_the_peer = *shown > previous;
            previous = *shown;
            let mut from_memory = 0;
            for (name, answer) in answers.iter() {
                let question = round.question(name).expect("asked");
                match answer {
                    // Never from memory: the peer always says yes, and always takes the second.
                    Answer::Confirmed(_) | Answer::Choice(_) | Answer::Declined => {
                        prop_assert!(by_the_peer, "{name} was answered from memory");
                    }
                    Answer::Value(value) => {
                        let origin = origins.get(value.expose());
                        let origin = origin.ok_or_else(|| TestCaseError::fail("from nowhere"))?;
                        prop_assert_eq!(&origin.question.name, &question.name);
                        prop_assert_eq!(&origin.question.kind, &question.kind);
                        if !by_the_peer {
                            from_memory += 1;
                            prop_assert!(origin.question.challenge.is_none());
                            prop_assert!(question.challenge.is_none());
                        } else {
                            prop_assert_eq!(origin.round + 1, *shown);
                        }
                        prop_assert!(
                            reached.insert((*checker, value.expose().to_vec())),
                            "one answer reached a checker twice"
                        );
                    }
                }
            }
            // A round from which nothing is remembered is the peer's to see.
            prop_assert!(by_the_peer || from_memory > 0);
            if !by_the_peer {
                let left_out = round.questions.iter().filter(|q| answers.find(&q.name).is_none());
                for question in left_out {
                    prop_assert!(question.optional && question.kind.shape() == Shape::Value);
                }
            }
        }
    }
}

#[test]
fn a_checker_that_only_tells_is_bounded() {
    // Notices need no answer. From memory, this would go round for ever.
    let unknown = Stage::asking("first", "m", [Question::username()], |_, _| {
        Ok(Step::deny(Reason::UnknownUser))
    });
    let telling = Stage::new("second", "m", [], |_, _, _| {
        let notice = Text::verbatim("the system goes down for maintenance");
        Ok(Step::ask(Round::default().notice(Level::Info, notice)))
    });
    let portal = Portal::new(()).checked_by(unknown).checked_by(telling);
    let mut peer = Person::new(|round: &Round| {
        let name = round.question("username").map(|_| Answers::new().with("username", "ada"));
        Some(name.unwrap_or_default())
    });
    let world = StillWorld::default();
    let login = portal.authenticate(Request::to("test").by("m"), &mut peer, &world);
    let Err(LoginError::Denied(denial)) = ready(login) else { panic!("let in") };
    assert_eq!(denial.reason, Reason::TooMany);
    assert_eq!(peer.rounds.len(), 32);
}
