//! What a round accepts, against the rules said another way.

use countersign::{
    Answer, Answers, Charset, CredentialKind, Group, KindSet, Limits, Question, Round, Shape, Text,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const GROUPS: [&str; 2] = ["one", "two"];

fn kinds() -> impl Strategy<Value = CredentialKind> {
    use CredentialKind as K;
    prop::sample::select(vec![
        K::AuthName,
        K::Passphrase,
        K::Otp,
        K::Trust,
        K::Confirm,
        K::Choice,
        K::Token,
        K::Other("strange".into()),
    ])
}

fn texts() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "0", "12", "zz", "zz\n", "a longer text"])
}

fn limits() -> impl Strategy<Value = Limits> {
    let charsets = vec![Charset::Bytes, Charset::Name, Charset::Decimal, Charset::Hex];
    (0u32..3, 0u32..14, prop::sample::select(charsets)).prop_map(|(min, max, charset)| Limits {
        min,
        max,
        charset,
    })
}

fn question(name: &'static str, grouped: bool) -> impl Strategy<Value = Question> {
    let group = prop::sample::select(vec![None, Some(GROUPS[0]), Some(GROUPS[1])]);
    (kinds(), limits(), any::<bool>(), prop::option::weighted(0.3, texts()), group).prop_map(
        move |(kind, limits, optional, default, group)| {
            let mut question = Question::new(name, kind, Text::default());
            question.limits = limits;
            question.optional = optional;
            question.default = default.map(Into::into);
            question.group = group.filter(|_| grouped).map(Into::into);
            question.options = vec![Text::verbatim("zero"), Text::verbatim("one")];
            question
        },
    )
}

pub(crate) fn rounds() -> impl Strategy<Value = Round> {
    (any::<bool>(), 0usize..4).prop_flat_map(|(grouped, count)| {
        let questions: Vec<_> = NAMES[..count].iter().map(|n| question(n, grouped)).collect();
        questions.prop_map(move |questions| {
            let mut round = Round::of(questions);
            for id in GROUPS.iter().filter(|_| grouped) {
                let title = Text::default();
                round.groups.push(Group { id: (*id).into(), title, mechanism: (*id).into() });
            }
            round
        })
    })
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        4 => texts().prop_map(Answer::from),
        1 => (0usize..3).prop_map(Answer::Choice),
        1 => any::<bool>().prop_map(Answer::Confirmed),
        1 => Just(Answer::Declined),
    ]
}

pub(crate) fn answers() -> impl Strategy<Value = Answers> {
    let name = prop::sample::select(NAMES.to_vec());
    prop::collection::vec((name.prop_map(Into::into), answer()), 0..5)
        .prop_map(|answers| answers.into_iter().collect())
}

/// Answers made for a round, so that many fit.
pub(crate) fn fitting(round: &Round, seed: u64) -> Answers {
    let mut answers = Answers::new();
    for (index, question) in round.questions.iter().enumerate() {
        let pick = (seed >> (index * 4)) & 15;
        let answer = match question.kind.shape() {
            _ if pick == 0 => continue,
            _ if pick == 1 => Answer::Declined,
            Shape::Option => Answer::Choice(usize::from(pick > 8)),
            Shape::YesNo => Answer::Confirmed(pick > 8),
            Shape::Value => {
                let candidates = ["12", "0", "zz", "a longer text", "", "123", "zzz"];
                let fits = |text: &&&str| question.check(&Answer::from(**text)).is_ok();
                candidates.iter().find(fits).map_or(Answer::Declined, |text| (**text).into())
            }
        };
        answers.push(question.name.clone(), answer);
    }
    answers
}

fn text_fits(limits: &Limits, value: &[u8]) -> bool {
    let length = value.len() as u32;
    (limits.min..=limits.max).contains(&length)
        && match limits.charset {
            Charset::Bytes => true,
            Charset::Name => String::from_utf8(value.to_vec())
                .is_ok_and(|text| text.chars().all(|c| !c.is_control())),
            Charset::Decimal => value.iter().all(u8::is_ascii_digit),
            Charset::Alphanumeric => value.iter().all(u8::is_ascii_alphanumeric),
            Charset::Hex => value.iter().all(u8::is_ascii_hexdigit),
        }
}

fn one_fits(question: &Question, answer: &Answer) -> bool {
    use CredentialKind as K;
    match (&question.kind, answer) {
        (_, Answer::Declined) => true,
        (K::Trust | K::Confirm, answer) => matches!(answer, Answer::Confirmed(_)),
        (K::Choice, answer) => matches!(answer, Answer::Choice(0 | 1)),
        (_, Answer::Value(value)) => text_fits(&question.limits, value.expose()),
        _ => false,
    }
}

/// Whether leaving a question out is all right before a default is looked at.
fn may_be_left_out(question: &Question) -> bool {
    question.optional || question.kind == CredentialKind::Trust
}

fn default_fits(question: &Question) -> bool {
    use CredentialKind as K;
    question.default.as_deref().is_some_and(|default| match question.kind {
        K::Trust | K::Confirm => true,
        K::Choice => default == "0",
        _ => text_fits(&question.limits, default.as_bytes()),
    })
}

/// The group that was answered whole, by the peer and not by defaults.
fn chosen<'a>(round: &'a Round, answers: &Answers) -> Option<&'a str> {
    round.groups.iter().map(|group| &*group.id).find(|id| {
        let inside: Vec<_> =
            round.questions.iter().filter(|q| q.group.as_deref() == Some(id)).collect();
        let given = |q: &&&Question| answers.find(&q.name).is_some();
        inside.iter().any(|q| given(&q))
            && inside.iter().all(|q| answers.find(&q.name) != Some(&Answer::Declined))
            && inside.iter().all(|q| given(&q) || may_be_left_out(q) || q.default.is_some())
    })
}

/// The rules, said another way: `None`, or what an exchange is to be given.
fn model(round: &Round, answers: &Answers) -> Option<Vec<(String, Answer)>> {
    let given: Vec<(String, Answer)> =
        answers.iter().map(|(name, answer)| (name.to_owned(), answer.clone())).collect();
    let names: std::collections::BTreeSet<&String> = given.iter().map(|(name, _)| name).collect();
    let all_fit = given
        .iter()
        .all(|(name, answer)| round.question(name).is_some_and(|q| one_fits(q, answer)));
    if names.len() != given.len() || !all_fit {
        return None;
    }
    let choice = chosen(round, answers);
    if !round.groups.is_empty() && choice.is_none() {
        return None;
    }
    let mut taken = given.clone();
    for question in round.questions.iter() {
        let concerns = question.group.is_none() || question.group.as_deref() == choice;
        if !concerns || answers.find(&question.name).is_some() {
            continue;
        }
        if default_fits(question) {
            let default = question.default.as_deref().unwrap_or_default();
            let answer = match question.kind.shape() {
                Shape::YesNo => Answer::Confirmed(false),
                Shape::Option => Answer::Choice(0),
                Shape::Value => Answer::from(default),
            };
            taken.push((question.name.to_string(), answer));
        } else if !may_be_left_out(question) {
            return None;
        }
    }
    taken.sort_by(|one, other| one.0.cmp(&other.0));
    Some(taken)
}

fn agrees(round: &Round, answers: &Answers) -> Result<bool, TestCaseError> {
    let accepted = round.accept(answers.clone()).ok().map(|accepted| {
        let mut taken: Vec<(String, Answer)> =
            accepted.iter().map(|(name, answer)| (name.to_owned(), answer.clone())).collect();
        taken.sort_by(|one, other| one.0.cmp(&other.0));
        taken
    });
    prop_assert_eq!(&accepted, &model(round, answers));
    Ok(accepted.is_some())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..Default::default() })]

    #[test]
    fn accept_is_the_model(round in rounds(), answers in answers(), seed in any::<u64>()) {
        agrees(&round, &answers)?;
        agrees(&round, &fitting(&round, seed))?;
    }

    /// What an exchange is given always fits, defaults included, and never says yes by itself.
    #[test]
    fn what_is_accepted_fits(round in rounds(), seed in any::<u64>()) {
        let given = fitting(&round, seed);
        if let Ok(accepted) = round.accept(given.clone()) {
            for (name, answer) in accepted.iter() {
                let question = round.question(name).expect("asked");
                prop_assert!(question.check(answer).is_ok());
                if *answer == Answer::Confirmed(true) {
                    prop_assert_eq!(given.find(name), Some(answer));
                }
            }
        }
    }

    /// A peer that can answer every kind of a round is able to answer it; one that can answer nothing is
    /// able only where nothing must be answered.
    #[test]
    fn who_can_answer(round in rounds()) {
        prop_assert!(round.answerable_by(&KindSet::all()));
        if round.groups.is_empty() && round.answerable_by(&KindSet::none()) {
            prop_assert!(round.questions.iter().all(|q| !q.must_be_answered()));
        }
    }
}

#[test]
fn many_random_answers_fit() {
    // Otherwise the model would agree about refusals only.
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut fit = 0;
    for seed in 0..500u64 {
        let round = rounds().new_tree(&mut runner).unwrap().current();
        let mixed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        fit += usize::from(round.accept(fitting(&round, mixed)).is_ok());
    }
    assert!((100..450).contains(&fit), "{fit} of 500");
}

#[test]
fn a_default_chooses_no_alternative() {
    let mut round = Round::of([
        Question::new("realm", CredentialKind::Realm, Text::default())
            .with_default("EXAMPLE")
            .in_group("one"),
        Question::otp().in_group("two"),
    ]);
    for id in GROUPS {
        round.groups.push(Group { id: id.into(), title: Text::default(), mechanism: id.into() });
    }
    let code = round.accept(Answers::new().with("otp", "123456")).expect("a whole group");
    assert_eq!(round.chosen(&code).map(|group| &*group.id), Some("two"));
    assert!(code.find("realm").is_none());
    assert!(round.accept(Answers::new()).is_err());
    let realm = round.accept(Answers::new().with("realm", "OTHER")).expect("a whole group");
    assert_eq!(round.chosen(&realm).map(|group| &*group.id), Some("one"));
}
