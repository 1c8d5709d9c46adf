//! Ordered checkers: every outcome of one to three of them, in every order.

use std::sync::{Arc, Mutex};

use countersign::testing::StillWorld;
use countersign::{
    Answers, Denial, Fault, Identity, LoginError, Order, Password, PasswordStore, Portal, Reason,
    Request, Secret, Verdict, Verified,
};

use crate::stage::{Person, ready};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    GrantA,
    GrantB,
    Unknown,
    Wrong,
    Disabled,
    Fault,
}

use Outcome::{Disabled, GrantA, GrantB, Unknown, Wrong};

const OUTCOMES: [Outcome; 6] = [GrantA, GrantB, Unknown, Wrong, Disabled, Outcome::Fault];

/// Which store was asked, and with what password.
type Log = Arc<Mutex<Vec<(usize, Vec<u8>)>>>;

struct Fixed {
    outcome: Outcome,
    index: usize,
    log: Log,
}

impl PasswordStore for Fixed {
    /// Every other one has nothing to wait for.
    fn check_at_once(&self, _: &str, password: &Secret, _: bool) -> Option<Result<Verdict, Fault>> {
        (self.index % 2 == 1).then(|| self.verdict(password))
    }

    async fn check(&self, _: &str, password: &Secret) -> Result<Verdict, Fault> {
        assert_eq!(self.index % 2, 0, "it has said so at once");
        self.verdict(password)
    }
}

impl Fixed {
    fn verdict(&self, password: &Secret) -> Result<Verdict, Fault> {
        self.log.lock().unwrap().push((self.index, password.expose().to_vec()));
        let is = |name: &str| {
            let who = Identity::named(name).in_group(format!("of-{}", self.index), false);
            Ok(Verdict::Is(Verified::vouch(who)))
        };
        match self.outcome {
            GrantA => is("a"),
            GrantB => is("b"),
            Unknown => Ok(Verdict::UNKNOWN),
            Wrong => Ok(Verdict::WRONG),
            Disabled => Ok(Verdict::Not(Denial::new(Reason::Disabled))),
            Outcome::Fault => Err(Fault::unavailable("away")),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Granted(&'static str),
    Denied,
    Fault,
}

fn granted(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        GrantA => Some("a"),
        GrantB => Some("b"),
        _ => None,
    }
}

/// The rule of each order as one sentence about all outcomes: the end, and how many were asked.
fn rule(order: Order, outcomes: &[Outcome]) -> (End, usize) {
    let decides = |outcome: &Outcome| match order {
        Order::FirstKnown => *outcome != Unknown,
        Order::FirstSuccess => !matches!(outcome, Unknown | Wrong),
        // Whoever refuses, the others are asked as well, so that nobody can tell who did.
        _ => *outcome == Outcome::Fault,
    };
    let decider = outcomes.iter().position(decides);
    let end = match (decider.map(|index| outcomes[index]), order) {
        (Some(Outcome::Fault), _) => End::Fault,
        (Some(outcome), Order::FirstKnown | Order::FirstSuccess) => {
            granted(outcome).map_or(End::Denied, End::Granted)
        }
        (None, Order::All) if outcomes.iter().all(|o| granted(*o) == granted(outcomes[0])) => {
            granted(outcomes[0]).map_or(End::Denied, End::Granted)
        }
        _ => End::Denied,
    };
    (end, decider.map_or(outcomes.len(), |index| index + 1))
}

fn sequences() -> Vec<Vec<Outcome>> {
    let mut all: Vec<Vec<Outcome>> = vec![vec![]];
    let mut sequences = Vec::new();
    for _ in 0..3 {
        all = all
            .iter()
            .flat_map(|before| OUTCOMES.map(|next| [before.as_slice(), &[next]].concat()))
            .collect();
        sequences.extend(all.iter().cloned());
    }
    sequences
}

#[test]
fn every_outcome_in_every_order() {
    let names = ["first", "second", "third"];
    let sequences = sequences();
    assert_eq!(sequences.len(), 6 + 36 + 216);
    for outcomes in sequences {
        for order in [Order::FirstKnown, Order::FirstSuccess, Order::All] {
            let log = Log::default();
            let mut portal = Portal::new(()).in_order(order);
            for (index, outcome) in outcomes.iter().enumerate() {
                let fixed = Fixed { outcome: *outcome, index, log: Arc::clone(&log) };
                portal = portal.checked_by(Password::new(names[index], fixed));
            }
            let world = StillWorld::default();
            let mut peer = Person::new(|_: &_| {
                Some(Answers::new().with("username", "someone").with("password", "secret"))
            });
            let login = portal.authenticate(Request::to("test").by("password"), &mut peer, &world);
            let got = ready(login);
            let case = format!("{order:?} {outcomes:?}");
            let (expected, asked) = rule(order, &outcomes);
            match &got {
                Ok(who) => {
                    let name = who.subject.name().unwrap_or_default();
                    assert_eq!(
                        End::Granted(if name == "a" { "a" } else { "b" }),
                        expected,
                        "{case}"
                    );
                    // Who vouched, and from whom the groups are.
                    let voucher = match order {
                        Order::All => 0,
                        _ => asked - 1,
                    };
                    assert_eq!(who.checker(), Some(names[voucher]), "{case}");
                    let groups = if order == Order::All { outcomes.len() } else { 1 };
                    assert_eq!(who.groups.len(), groups, "{case}");
                }
                Err(LoginError::Denied(denial)) => {
                    assert_eq!(End::Denied, expected, "{case}");
                    // Nobody is called unknown whom some checker knows.
                    let known = outcomes[..asked].iter().any(|o| *o != Unknown);
                    assert_eq!(denial.reason == Reason::UnknownUser, !known, "{case}");
                }
                Err(LoginError::Fault(_)) => assert_eq!(End::Fault, expected, "{case}"),
            }
            // The peer is asked once; the same password reaches each checker at most once, in order.
            assert_eq!(peer.rounds.len(), 1, "{case}");
            let log: Vec<_> = log.lock().unwrap().clone();
            let once: Vec<_> = (0..asked).map(|index| (index, b"secret".to_vec())).collect();
            assert_eq!(log, once, "{case}");
        }
    }
}

/// Knows one user, and writes down what it was asked to do.
struct Frugal {
    knows: &'static str,
    at_once: bool,
    work: Arc<Mutex<Vec<&'static str>>>,
}

impl PasswordStore for Frugal {
    fn check_at_once(
        &self,
        login: &str,
        _: &Secret,
        spends: bool,
    ) -> Option<Result<Verdict, Fault>> {
        let knows = login == self.knows;
        let work = if knows { "check" } else { "spend" };
        self.at_once.then(|| {
            if knows || spends {
                self.work.lock().unwrap().push(work);
            }
            Ok(if knows { Verdict::WRONG } else { Verdict::UNKNOWN })
        })
    }

    async fn check(&self, login: &str, _: &Secret) -> Result<Verdict, Fault> {
        if login != self.knows {
            return Ok(Verdict::UNKNOWN);
        }
        self.work.lock().unwrap().push("check");
        Ok(Verdict::WRONG)
    }

    async fn spend(&self, _: &str, _: &Secret) -> Result<(), Fault> {
        self.work.lock().unwrap().push("spend");
        Ok(())
    }
}

#[test]
fn an_unknown_user_takes_the_work_of_a_wrong_password() {
    for (order, work_of_each) in [(Order::FirstKnown, 1), (Order::FirstSuccess, 2), (Order::All, 2)]
    {
        let users = ["first", "second", "nobody"];
        let at_once = [[false, false], [true, false], [false, true], [true, true]];
        for (user, at_once) in users.iter().flat_map(|user| at_once.map(|which| (*user, which))) {
            let work = Arc::new(Mutex::new(Vec::new()));
            let store = |knows, at_once| Frugal { knows, at_once, work: Arc::clone(&work) };
            let portal = Portal::new(())
                .checked_by(Password::new("one", store("first", at_once[0])))
                .checked_by(Password::new("two", store("second", at_once[1])))
                .in_order(order);
            let answers = Answers::new().with("username", user).with("password", "x");
            let mut peer = countersign::Known::new(answers);
            let world = StillWorld::default();
            let login = portal.authenticate(Request::to("test").by("password"), &mut peer, &world);
            assert!(matches!(ready(login), Err(LoginError::Denied(_))));
            let work = work.lock().unwrap().len();
            assert_eq!(work, work_of_each, "{order:?}, {user}, {at_once:?}");
        }
    }
}

#[test]
fn the_record_names_everybody_who_refused() {
    let log = Log::default();
    let store = |outcome, index| Fixed { outcome, index, log: Arc::clone(&log) };
    let portal = Portal::new(())
        .checked_by(Password::new("first", store(Unknown, 0)))
        .checked_by(Password::new("second", store(Wrong, 1)))
        .checked_by(Password::new("third", store(Unknown, 2)))
        .in_order(Order::FirstSuccess);
    let mut peer = Person::new(|_: &_| {
        Some(Answers::new().with("username", "someone").with("password", "secret"))
    });
    let world = StillWorld::default();
    let login = portal.authenticate(Request::to("test").by("PASSWORD"), &mut peer, &world);
    let Err(LoginError::Denied(denial)) = ready(login) else { panic!("let in") };
    let tried: Vec<_> = denial.tried.iter().map(|(name, reason)| (&**name, *reason)).collect();
    let expected = [
        ("first", Reason::UnknownUser),
        ("second", Reason::WrongCredential),
        ("third", Reason::UnknownUser),
    ];
    assert_eq!(tried, expected);
    assert_eq!(denial.reason, Reason::WrongCredential);
}

#[test]
fn a_portal_without_checkers_lets_nobody_in() {
    let world = StillWorld::default();
    for request in [Request::to("test"), Request::to("test").by("password")] {
        let mut peer = Person::new(|_: &_| Some(Answers::new()));
        let login = ready(Portal::new(()).authenticate(request, &mut peer, &world));
        let Err(LoginError::Denied(denial)) = login else { panic!("{login:?}") };
        assert_eq!(denial.reason, Reason::Unsupported);
        assert!(peer.rounds.is_empty());
    }
}
