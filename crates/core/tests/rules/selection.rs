//! Which checker is asked, one rule a test: all are kept, the exact mechanism before a carrier, "not mine" is not
//! "wrong", factors are of one attempt, and nobody is anonymous unless that is said.

use std::sync::{Arc, Mutex};

use countersign::testing::StillWorld;
use countersign::{
    Answers, BoxExchange, Carrier, Conversation, CredentialKind, Denial, Identity, KindSet, Order,
    Peer, Policy, Portal, Question, Reason, Reply, Request, Step, Subject, Terms, Verified,
};
use proptest::prelude::*;

use crate::stage::{Stage, grant, ready};

type Asked = Arc<Mutex<Vec<&'static str>>>;

/// Knows one user, by a password, and notes that it was asked.
fn knows(
    name: &'static str,
    mechanism: &'static str,
    user: &'static str,
    password: &'static str,
    asked: &Asked,
) -> Stage {
    let asked = Arc::clone(asked);
    let questions = [Question::username(), Question::password()];
    Stage::asking(name, mechanism, questions, move |answers, _| {
        asked.lock().unwrap().push(name);
        Ok(match (answers.text("username"), answers.text("password")) {
            (Some(login), Some(given)) if login == user && given == password => grant(user),
            (Some(login), _) if login == user => Step::deny(Reason::WrongCredential),
            _ => Step::deny(Reason::UnknownUser),
        })
    })
}

fn login(user: &'static str, password: &'static str) -> Answers {
    Answers::new().with("username", user).with("password", password)
}

fn request(mechanism: &'static str) -> Request {
    Request::from_peer(Arc::new(Peer::new("imap", KindSet::all()))).by(mechanism)
}

/// One round, answered.
fn end<R>(
    portal: &Portal<R>,
    mechanism: &'static str,
    answers: Answers,
) -> Result<Subject, Reason> {
    let world = StillWorld::default();
    let (mut conversation, reply) = ready(portal.begin(request(mechanism), &world)).unwrap();
    let reply = match reply {
        // What a round forbids, such as an empty name, reaches no checker.
        Reply::Ask(ask) => match ready(conversation.answer(ask.number, answers, &world)) {
            Ok(reply) => reply,
            Err(_) => return Err(Reason::Malformed),
        },
        other => other,
    };
    match reply {
        Reply::Granted(who) => Ok(who.subject.clone()),
        Reply::Denied(denial) => Err(denial.reason),
        Reply::Ask(ask) => panic!("asks again: {ask:?}"),
    }
}

fn named(name: &str) -> Result<Subject, Reason> {
    Ok(Identity::named(name).subject)
}

#[test]
fn several_checkers_of_one_mechanism_are_all_kept_and_asked_in_their_order() {
    let asked = Asked::default();
    let portal = Portal::new(())
        .checked_by(knows("first", "password", "ada", "a", &asked))
        .checked_by(knows("second", "password", "bob", "b", &asked))
        .checked_by(knows("third", "password", "cleo", "c", &asked));
    assert_eq!(portal.checkers().collect::<Vec<_>>(), ["first", "second", "third"]);
    for (user, password, expected) in [
        ("ada", "a", &["first"][..]),
        ("bob", "b", &["first", "second"]),
        ("cleo", "c", &["first", "second", "third"]),
    ] {
        assert_eq!(end(&portal, "password", login(user, password)), named(user));
        assert_eq!(std::mem::take(&mut *asked.lock().unwrap()), expected);
    }
}

#[test]
fn not_mine_is_not_wrong() {
    let asked = Asked::default();
    let both = || {
        Portal::new(())
            .checked_by(knows("first", "password", "ada", "old", &asked))
            .checked_by(knows("second", "password", "ada", "new", &asked))
    };
    // The first knows her, and says that it is wrong: the second is not asked.
    assert_eq!(end(&both(), "password", login("ada", "new")), Err(Reason::WrongCredential));
    assert_eq!(std::mem::take(&mut *asked.lock().unwrap()), ["first"]);
    // Nobody knows him: everybody was asked.
    assert_eq!(end(&both(), "password", login("eve", "new")), Err(Reason::UnknownUser));
    assert_eq!(std::mem::take(&mut *asked.lock().unwrap()), ["first", "second"]);
    // Unless the policy says that a wrong password may be another's right one.
    let patient = both().in_order(Order::FirstSuccess);
    assert_eq!(end(&patient, "password", login("ada", "new")), named("ada"));
}

/// Carries `password` in other clothes, and notes that it did.
struct Clothes(&'static str, Asked);

impl Carrier for Clothes {
    fn name(&self) -> &str {
        self.0
    }

    fn carries(&self) -> &str {
        "password"
    }

    fn carry(&self, inner: BoxExchange) -> BoxExchange {
        self.1.lock().unwrap().push("carried");
        inner
    }
}

#[test]
fn a_checker_of_the_very_mechanism_goes_before_a_carrier() {
    for exact_first in [true, false] {
        let asked = Asked::default();
        let exact = knows("exact", "PLAIN", "ada", "exact", &asked);
        let general = knows("general", "password", "ada", "general", &asked);
        let portal = Portal::new(()).carried_by(Clothes("PLAIN", Arc::clone(&asked)));
        let portal = match exact_first {
            true => portal.checked_by(exact).checked_by(general),
            false => portal.checked_by(general).checked_by(exact),
        };
        // In whatever order they were given, and however a peer writes the name.
        for name in ["PLAIN", "plain"] {
            assert_eq!(end(&portal, name, login("ada", "exact")), named("ada"));
            assert_eq!(std::mem::take(&mut *asked.lock().unwrap()), ["exact"]);
        }
        // `password` itself is still the general one's.
        assert_eq!(end(&portal, "password", login("ada", "general")), named("ada"));
        assert_eq!(std::mem::take(&mut *asked.lock().unwrap()), ["general"]);
        // And a peer is offered each name once.
        let peer = Peer::new("imap", KindSet::all());
        for names in
            [portal.begins(&peer), portal.mechanisms(&KindSet::all()), portal.mechanism_names()]
        {
            let plain = names.iter().filter(|name| name.eq_ignore_ascii_case("PLAIN"));
            assert_eq!(plain.count(), 1, "{names:?}");
        }
    }
    // Without one, the carrier takes it to the general one.
    let asked = Asked::default();
    let portal = Portal::new(())
        .carried_by(Clothes("PLAIN", Arc::clone(&asked)))
        .checked_by(knows("general", "password", "ada", "general", &asked));
    assert_eq!(end(&portal, "PLAIN", login("ada", "general")), named("ada"));
    assert_eq!(*asked.lock().unwrap(), ["carried", "general"]);
}

/// A step that lets in holds whom a checker vouches for, and a verdict that does is one too: there is no value for
/// nothing, so what is left over is always a refusal.
#[test]
fn nothing_lets_in_by_saying_nothing() {
    // No checker, an empty name, a checker that knows nobody: all are refusals.
    let nobody = Portal::new(());
    assert_eq!(end(&nobody, "password", login("ada", "a")), Err(Reason::Unsupported));
    let asked = Asked::default();
    let portal = Portal::new(()).checked_by(knows("one", "password", "ada", "a", &asked));
    assert_eq!(end(&portal, "password", login("", "")), Err(Reason::Malformed));
    assert_eq!(end(&portal, "password", Answers::new()), Err(Reason::Malformed));
}

/// Lets in whoever asks, as nobody in particular.
fn anonymous() -> Stage {
    Stage::new("anonymous", "ANONYMOUS", [CredentialKind::Token], |_, _, _| {
        Ok(Step::Grant(Verified::vouch(Identity::anonymous())))
    })
}

#[test]
fn anonymous_is_a_policy_that_somebody_declared() {
    let asked = Asked::default();
    let closed = || Portal::new(()).checked_by(knows("one", "password", "ada", "a", &asked));
    // Nothing that a peer can say makes it so.
    for (user, password) in [("", ""), ("anonymous", ""), ("anonymous", "guest@example.org")] {
        assert!(end(&closed(), "password", login(user, password)).is_err());
    }
    assert_eq!(end(&closed(), "ANONYMOUS", Answers::new()), Err(Reason::Unsupported));
    let open = || closed().checked_by(anonymous());
    assert_eq!(end(&open(), "ANONYMOUS", Answers::new()), Ok(Subject::Anonymous));
    assert_eq!(end(&open(), "password", login("ada", "a")), named("ada"));
    // With the checker, and not among the policy's mechanisms.
    let terms = Terms { mechanisms: Some(vec!["password".into()]), ..Terms::default() };
    let only = open().under(Policy { terms, ..Policy::default() });
    assert_eq!(end(&only, "ANONYMOUS", Answers::new()), Err(Reason::Unsupported));
    assert!(!only.begins(&Peer::new("ftp", KindSet::all())).iter().any(|name| name == "ANONYMOUS"));
    // As the first of two factors it proves nobody, and nobody can prove the second.
    let strict = open().requiring(["ANONYMOUS", "password"]);
    let world = StillWorld::default();
    let (mut conversation, reply) = ready(strict.begin(request("ANONYMOUS"), &world)).unwrap();
    let reply = match reply {
        Reply::Ask(ask) => {
            ready(conversation.answer(ask.number, login("ada", "a"), &world)).unwrap()
        }
        other => other,
    };
    let Reply::Denied(Denial { reason, .. }) = reply else { panic!("let in: {reply:?}") };
    assert_eq!(reason, Reason::NotAllowed);
}

/// Two factors of everybody: a password, and then a key; each is the user's name.
fn two_factors() -> Portal<()> {
    let asked = Asked::default();
    let key = |name: &'static str| {
        let prompt = countersign::Text::verbatim("Key");
        let question = Question::new("key", CredentialKind::Otp, prompt);
        Stage::asking(name, "key", [question], |answers, scene| {
            let who = scene.proven.last().and_then(|who| who.subject.name());
            Ok(match (who, answers.text("key")) {
                (Some(who), Some(key)) if who == key => grant("ada"),
                _ => Step::deny(Reason::WrongCredential),
            })
        })
    };
    Portal::new(())
        .checked_by(knows("passwords", "password", "ada", "right", &asked))
        .checked_by(key("keys"))
        .requiring(["password", "key"])
}

/// What one connection does next.
#[derive(Clone, Copy, Debug)]
enum Move {
    Password(bool),
    Key(bool),
    Begin,
    BeginByKey,
}

/// A connection: its conversation, and what it has proven since that began.
#[derive(Default)]
struct Line {
    talk: Option<(Conversation, Reply)>,
    password: bool,
}

impl Line {
    fn does(&mut self, portal: &Portal<()>, what: Move, world: &StillWorld) -> bool {
        let (password, key) = match what {
            Move::Begin | Move::BeginByKey => {
                let by = if matches!(what, Move::Begin) { "password" } else { "key" };
                self.talk = Some(ready(portal.begin(request(by), world)).unwrap());
                self.password = false;
                return false;
            }
            Move::Password(right) => (Some(right), None),
            Move::Key(right) => (None, Some(right)),
        };
        let Some((conversation, Reply::Ask(ask))) = &mut self.talk else { return false };
        let mut answers = Answers::new();
        if let Some(right) = password {
            answers = login("ada", if right { "right" } else { "wrong" });
        }
        if let Some(right) = key {
            answers = answers.with("key", if right { "ada" } else { "eve" });
        }
        // Answers to another question are a mistake of the peer, and the round stays open.
        let Ok(reply) = ready(conversation.answer(ask.number, answers, world)) else {
            return false;
        };
        let granted = matches!(reply, Reply::Granted(_));
        if granted {
            assert!(self.password && key == Some(true), "let in by half of it");
        }
        self.password |= password == Some(true) && matches!(reply, Reply::Ask(_));
        if let Some((_, last)) = &mut self.talk {
            *last = reply;
        }
        granted
    }
}

fn moves() -> impl Strategy<Value = Vec<(bool, Move)>> {
    let one = prop_oneof![
        any::<bool>().prop_map(Move::Password),
        any::<bool>().prop_map(Move::Key),
        Just(Move::Begin),
        Just(Move::BeginByKey),
    ];
    proptest::collection::vec((any::<bool>(), one), 1..40)
}

proptest! {
    /// Two connections at one portal, in any order of moves: what was proven on one is nothing on the other, and
    /// nothing to a new attempt on the same.
    #[test]
    fn factors_are_of_one_attempt(moves in moves()) {
        let (portal, world) = (two_factors(), StillWorld::default());
        let mut lines = [Line::default(), Line::default()];
        for (second, what) in moves {
            lines[usize::from(second)].does(&portal, what, &world);
        }
    }
}

#[test]
fn a_password_here_and_a_key_there_log_nobody_in() {
    let (portal, world) = (two_factors(), StillWorld::default());
    let mut lines = [Line::default(), Line::default()];
    let [one, other] = &mut lines;
    one.does(&portal, Move::Begin, &world);
    other.does(&portal, Move::Begin, &world);
    assert!(!one.does(&portal, Move::Password(true), &world));
    assert!(!other.does(&portal, Move::Key(true), &world));
    other.does(&portal, Move::BeginByKey, &world);
    assert!(!other.does(&portal, Move::Key(true), &world));
    // Where both are, they count.
    assert!(one.does(&portal, Move::Key(true), &world));
}
