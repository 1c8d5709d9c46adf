//! What each result of each checker comes to: every outcome of two and three checkers under every result.

use std::sync::{Arc, Mutex};

use countersign::testing::StillWorld;
use countersign::{
    Answers, Denial, Fault, Identity, LoginError, Password, PasswordStore, Policy, Portal, Reason,
    Request, Results, Secret, Terms, Then, Verdict, Verified,
};

use crate::stage::{Person, ready};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Is(&'static str),
    Refused(Reason),
    Fault,
}

const OUTCOMES: [Outcome; 6] = [
    Outcome::Is("a"),
    Outcome::Is("b"),
    Outcome::Refused(Reason::UnknownUser),
    Outcome::Refused(Reason::WrongCredential),
    Outcome::Refused(Reason::Disabled),
    Outcome::Fault,
];

const THEN: [Then; 3] = [Then::End, Then::Next, Then::Count];

/// A checker: what it says, and what that comes to.
type Case = (Outcome, Results);

struct Fixed {
    outcome: Outcome,
    /// The secrets that were given to it.
    given: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl PasswordStore for Fixed {
    async fn check(&self, _: &str, password: &Secret) -> Result<Verdict, Fault> {
        self.given.lock().unwrap().push(password.expose().to_vec());
        match self.outcome {
            Outcome::Is(name) => Ok(Verdict::Is(Verified::vouch(Identity::named(name)))),
            Outcome::Refused(Reason::UnknownUser) => Ok(Verdict::UNKNOWN),
            Outcome::Refused(Reason::WrongCredential) => Ok(Verdict::WRONG),
            Outcome::Refused(reason) => Ok(Verdict::Not(Denial::new(reason))),
            Outcome::Fault => Err(Fault::unavailable("away")),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Granted(String),
    Denied,
    Fault,
}

/// What the documentation says of the cases, one after the other: the end, and how many were asked.
fn meant(cases: &[Case]) -> (End, usize) {
    let (mut who, mut refused, mut away) = (None, false, false);
    for (asked, (outcome, results)) in (1..).zip(cases) {
        match outcome {
            Outcome::Is(name) => {
                // All that count must name the same subject.
                refused |= who.is_some_and(|before| before != *name);
                who.get_or_insert(*name);
                if results.granted == Then::End && !refused {
                    return (End::Granted((*name).to_owned()), asked);
                }
            }
            Outcome::Refused(reason) => match then(results, *reason) {
                Then::End => return (End::Denied, asked),
                Then::Count => refused = true,
                Then::Next => {}
            },
            Outcome::Fault if results.fault == Then::Next => away = true,
            Outcome::Fault => return (End::Fault, asked),
        }
    }
    let end = match who {
        _ if refused => End::Denied,
        Some(name) => End::Granted(name.to_owned()),
        None if away => End::Fault,
        None => End::Denied,
    };
    (end, cases.len())
}

fn then(results: &Results, reason: Reason) -> Then {
    match reason {
        Reason::UnknownUser => results.unknown,
        Reason::WrongCredential => results.wrong,
        _ => results.refused,
    }
}

/// Logs in, and gives the end and which checkers were asked, with what.
fn login(cases: &[Case]) -> (End, Vec<Vec<Vec<u8>>>) {
    const NAMES: [&str; 3] = ["first", "second", "third"];
    let given: Vec<_> = cases.iter().map(|_| Arc::default()).collect();
    let mut portal = Portal::new(());
    for ((name, (outcome, _)), given) in NAMES.iter().zip(cases).zip(&given) {
        let fixed = Fixed { outcome: *outcome, given: Arc::clone(given) };
        portal = portal.checked_by(Password::new(*name, fixed));
    }
    let asked = NAMES.iter().zip(cases).map(|(name, (_, results))| ((*name).into(), *results));
    let checkers = Some(asked.collect());
    let portal = portal.under(Policy::of(Terms { checkers, ..Terms::default() }));
    let mut peer = Person::new(|_: &_| {
        Some(Answers::new().with("username", "someone").with("password", "secret"))
    });
    let world = StillWorld::default();
    let request = Request::to("test").by("password");
    let end = match ready(portal.authenticate(request, &mut peer, &world)) {
        Ok(who) => End::Granted(who.subject.name().unwrap_or_default().to_owned()),
        Err(LoginError::Denied(_)) => End::Denied,
        Err(LoginError::Fault(_)) => End::Fault,
    };
    (end, given.iter().map(|given| given.lock().unwrap().clone()).collect())
}

fn check(cases: &[Case]) {
    let (end, given) = login(cases);
    let (expected, count) = meant(cases);
    assert_eq!(end, expected, "{cases:?}");
    // The password of this attempt reaches each that is asked once, in order, and nobody else.
    for (index, given) in given.iter().enumerate() {
        let wanted: &[&[u8]] = if index < count { &[b"secret"] } else { &[] };
        assert_eq!(given, wanted, "{cases:?}");
    }
    let asked = &cases[..count];
    if let End::Granted(name) = &end {
        // Let in is only who was verified, in this attempt, by somebody who was asked; nobody verified
        // another, and no refusal counts.
        let proven: Vec<_> = asked
            .iter()
            .filter_map(|(outcome, _)| match outcome {
                Outcome::Is(who) => Some(*who),
                _ => None,
            })
            .collect();
        assert!(!proven.is_empty() && proven.iter().all(|who| who == name), "{cases:?}");
        for (outcome, results) in asked {
            match outcome {
                Outcome::Refused(reason) => assert_eq!(then(results, *reason), Then::Next),
                Outcome::Fault => assert_eq!(results.fault, Then::Next, "{cases:?}"),
                Outcome::Is(_) => {}
            }
        }
    }
}

/// All results that there are, those included that configuration refuses.
fn all_results() -> Vec<Results> {
    let mut all = Vec::new();
    for granted in THEN {
        for wrong in THEN {
            for unknown in THEN {
                for refused in THEN {
                    let of = |fault| Results { granted, wrong, unknown, refused, fault };
                    all.extend(THEN.map(of));
                }
            }
        }
    }
    all
}

/// Of two checkers every outcome under all results: also those that the outcome is not about.
#[test]
fn two_checkers_under_every_result() {
    // What the first comes to is decided by all of its results, what the second does by those of both.
    let mut cases = 0;
    for first in OUTCOMES {
        for results in all_results() {
            for second in OUTCOMES {
                for then in THEN {
                    let of = Results {
                        granted: then,
                        wrong: then,
                        unknown: then,
                        refused: then,
                        fault: then,
                    };
                    check(&[(first, results), (second, of)]);
                    check(&[(second, of), (first, results)]);
                    cases += 2;
                }
            }
        }
    }
    assert_eq!(cases, 2 * 6 * 243 * 6 * 3);
}

/// Of three checkers every outcome, under everything that the outcome can come to.
#[test]
fn three_checkers_under_everything_an_outcome_comes_to() {
    let cases: Vec<Case> = OUTCOMES
        .iter()
        .flat_map(|outcome| {
            THEN.map(|then| {
                // The others would let everybody through, if they were asked about.
                let mut results = Results {
                    granted: Then::End,
                    wrong: Then::Next,
                    unknown: Then::Next,
                    refused: Then::Next,
                    fault: Then::Next,
                };
                match outcome {
                    Outcome::Is(_) => results.granted = then,
                    Outcome::Refused(Reason::UnknownUser) => results.unknown = then,
                    Outcome::Refused(Reason::WrongCredential) => results.wrong = then,
                    Outcome::Refused(_) => results.refused = then,
                    Outcome::Fault => results.fault = then,
                }
                (*outcome, results)
            })
        })
        .collect();
    for first in &cases {
        for second in &cases {
            for third in &cases {
                check(&[*first, *second, *third]);
            }
        }
    }
}

/// A checker that cannot be asked lets nobody in, whatever its results say and however many there are.
#[test]
fn faults_let_nobody_in() {
    for results in all_results() {
        for count in 1..=3 {
            let (end, _) = login(&vec![(Outcome::Fault, results); count]);
            assert_eq!(end, End::Fault, "{results:?}");
        }
        for reason in [Reason::UnknownUser, Reason::WrongCredential, Reason::Disabled] {
            let refused = (Outcome::Refused(reason), results);
            for cases in
                [[(Outcome::Fault, results), refused], [refused, (Outcome::Fault, results)]]
            {
                assert!(!matches!(login(&cases).0, End::Granted(_)), "{cases:?}");
            }
        }
    }
}
