//! Several mechanisms side by side in one round.

use std::collections::BTreeSet;

use countersign::testing::StillWorld;
use countersign::{
    Answer, Answers, CredentialKind, Fault, Group, KindSet, LoginError, Portal, Question, Reason,
    Request, Round, Step, Text,
};
use proptest::prelude::*;

use crate::stage::{Person, Stage, Told, grant, ready};

fn password() -> Stage {
    Stage::asking("passwords", "password", [Question::username(), Question::password()], |_, _| {
        Ok(grant("by password"))
    })
}

fn otp() -> Stage {
    Stage::asking("codes", "otp", [Question::username(), Question::otp()], |_, _| {
        Ok(grant("by code"))
    })
}

/// A card, whose PIN is asked under a name that the password mechanism uses for something else.
fn card() -> Stage {
    let questions = [
        Question::username(),
        Question::new("password", CredentialKind::Pin, Text::verbatim("PIN")),
        Question::new("slot", CredentialKind::EchoPrompt, Text::verbatim("Slot")).optional(),
    ];
    Stage::asking("cards", "card", questions, |_, _| Ok(grant("by card")))
}

fn told(told: &Told) -> Vec<Vec<(String, Answer)>> {
    let all = |answers: &Answers| answers.iter().map(|(n, a)| (n.to_owned(), a.clone())).collect();
    told.lock().unwrap().iter().map(all).collect()
}

#[test]
fn the_group_that_is_answered_is_the_mechanism_that_goes_on() {
    let stages = || [password(), otp(), card()];
    type Given = &'static [(&'static str, &'static str)];
    let cases: [(&str, Answers, Given, usize); 4] = [
        (
            "by password",
            Answers::new().with("username", "ada").with("password", "p"),
            &[("username", "ada"), ("password", "p")],
            0,
        ),
        (
            "by code",
            Answers::new().with("username", "ada").with("otp", "123456"),
            &[("username", "ada"), ("otp", "123456")],
            1,
        ),
        (
            "by card",
            Answers::new().with("username", "ada").with("card/password", "1234"),
            &[("username", "ada"), ("password", "1234")],
            2,
        ),
        (
            "by card",
            Answers::new().with("username", "ada").with("card/password", "1234").with("slot", "2"),
            &[("username", "ada"), ("password", "1234"), ("slot", "2")],
            2,
        ),
    ];
    for (subject, answers, given, index) in cases {
        let stages = stages();
        let logs = stages.each_ref().map(|stage| Told::clone(&stage.told));
        let portal = stages.into_iter().fold(Portal::new(()), Portal::checked_by);
        let mut peer = Person::new(|_: &Round| Some(answers.clone()));
        let world = StillWorld::default();
        let who = ready(portal.authenticate(Request::to("test"), &mut peer, &world)).expect("in");
        assert_eq!(who.subject.name(), Some(subject));
        assert_eq!(peer.rounds.len(), 1);
        let names: Vec<_> = peer.rounds[0].questions.iter().map(|q| &*q.name).collect();
        assert_eq!(names, ["username", "password", "otp", "card/password", "slot"]);
        // Only the chosen one is stepped, and its answers have their own names.
        for (other, log) in logs.iter().enumerate() {
            let own: Vec<(String, Answer)> =
                given.iter().map(|(name, value)| ((*name).into(), Answer::from(*value))).collect();
            let expected = if other == index { vec![own] } else { vec![] };
            assert_eq!(told(log), expected, "{subject}");
        }
    }
}

#[test]
fn half_an_alternative_is_none() {
    let portal = Portal::new(()).checked_by(password()).checked_by(otp());
    let world = StillWorld::default();
    for answers in [
        Answers::new(),
        Answers::new().with("username", "ada"),
        Answers::new().with("password", "p"),
        Answers::new().with("username", "ada").with("password", Answer::Declined),
    ] {
        let mut peer = Person::new(|_: &Round| Some(answers.clone()));
        let login = ready(portal.authenticate(Request::to("test"), &mut peer, &world));
        let Err(LoginError::Denied(denial)) = login else { panic!("{login:?}") };
        assert_eq!(denial.reason, Reason::Malformed);
    }
}

#[test]
fn what_the_peer_cannot_answer_is_not_offered() {
    let name = || KindSet::none().with(CredentialKind::AuthName);
    let portal = Portal::new(()).checked_by(password()).checked_by(otp());
    let world = StillWorld::default();
    for (supports, asked) in [
        (name().with(CredentialKind::Passphrase), vec!["username", "password"]),
        (name().with(CredentialKind::Otp), vec!["username", "otp"]),
        (name(), vec![]),
        (KindSet::none(), vec![]),
    ] {
        let mut peer = Person::new(|_: &Round| None);
        peer.supports = supports;
        let login = ready(portal.authenticate(Request::to("test"), &mut peer, &world));
        assert!(login.is_err());
        let questions = peer.rounds.iter().flat_map(|round| &round.questions);
        assert_eq!(questions.map(|q| &*q.name).collect::<Vec<_>>(), asked);
    }
}

#[test]
fn a_round_beyond_what_was_declared_is_not_offered() {
    // Declares that it asks a name, and asks a code as well.
    let more = Stage::new("more", "more", [CredentialKind::AuthName], |_, _, _| {
        Ok(Step::ask(Round::of([Question::username(), Question::otp()])))
    });
    let portal = Portal::new(()).checked_by(more).checked_by(password());
    let mut peer = Person::new(|_: &Round| None);
    peer.supports = KindSet::none().with(CredentialKind::AuthName).with(CredentialKind::Passphrase);
    let world = StillWorld::default();
    let login = ready(portal.authenticate(Request::to("test"), &mut peer, &world));
    assert!(login.is_err());
    let names: Vec<_> = peer.rounds[0].questions.iter().map(|q| &*q.name).collect();
    assert_eq!(names, ["username", "password"]);
}

#[test]
fn what_asks_nothing_is_only_for_who_names_it() {
    let nothing = || Stage::new("guests", "anonymous", [], |_, _, _| Ok(grant("guest")));
    let world = StillWorld::default();
    let alone = Portal::new(()).checked_by(nothing());
    let beside = Portal::new(()).checked_by(nothing()).checked_by(password());
    for portal in [alone, beside] {
        for supports in [KindSet::all(), KindSet::none()] {
            let mut peer = Person::new(|_: &Round| None);
            peer.supports = supports;
            let login = ready(portal.authenticate(Request::to("test"), &mut peer, &world));
            assert!(matches!(login, Err(LoginError::Denied(_))), "{login:?}");
            let named = Request::to("test").by("anonymous");
            assert!(ready(portal.authenticate(named, &mut peer, &world)).is_ok());
        }
    }
    // One that usually asks, but this time would let in at once, is not taken either.
    let trusting =
        Stage::new("trusting", "local", [CredentialKind::AuthName], |_, _, _| Ok(grant("root")));
    let portal = Portal::new(()).checked_by(trusting).checked_by(password());
    let mut peer = Person::new(|_: &Round| None);
    assert!(ready(portal.authenticate(Request::to("test"), &mut peer, &world)).is_err());
    assert_eq!(peer.rounds.len(), 1);
}

#[test]
fn a_fault_of_one_lets_nobody_in() {
    let broken = Stage::new("broken", "broken", [CredentialKind::AuthName], |_, _, _| {
        Err(Fault::unavailable("away"))
    });
    let portal = Portal::new(()).checked_by(password()).checked_by(broken);
    let mut peer = Person::new(|_: &Round| None);
    let world = StillWorld::default();
    let login = ready(portal.authenticate(Request::to("test"), &mut peer, &world));
    assert!(matches!(login, Err(LoginError::Fault(_))), "{login:?}");
}

#[test]
fn mechanisms_that_begin_alike_can_each_be_chosen() {
    // Both ask only the name at first: shared, neither would have a question to be chosen by.
    let stage =
        |name: &'static str, mechanism: &'static str| {
            Stage::new(name, mechanism, [CredentialKind::AuthName], move |step, answers, _| {
                match step {
                    0 => Ok(Step::ask(Round::of([Question::username()]))),
                    _ => Ok(grant(answers.text("username").unwrap_or("nobody"))),
                }
            })
        };
    let portal = Portal::new(()).checked_by(stage("1", "one")).checked_by(stage("2", "two"));
    let world = StillWorld::default();
    for name in ["username", "two/username"] {
        let mut peer = Person::new(|_: &Round| Some(Answers::new().with(name, "ada")));
        let who = ready(portal.authenticate(Request::to("test"), &mut peer, &world)).expect(name);
        assert_eq!(who.subject.name(), Some("ada"));
    }
}

#[test]
fn a_mechanism_with_alternatives_of_its_own_keeps_them() {
    let round = || {
        let mut round = Round::of([
            Question::username(),
            Question::otp().in_group("app"),
            Question::new("sms", CredentialKind::Otp, Text::default()).in_group("phone"),
        ]);
        for id in ["app", "phone"] {
            let title = Text::verbatim(id);
            round.groups.push(Group { id: id.into(), title, mechanism: "codes".into() });
        }
        round
    };
    let kinds = [CredentialKind::AuthName, CredentialKind::Otp];
    let codes = Stage::new("codes", "codes", kinds, move |step, _, _| match step {
        0 => Ok(Step::ask(round())),
        _ => Ok(grant("by code")),
    });
    let log = Told::clone(&codes.told);
    let portal = Portal::new(()).checked_by(password()).checked_by(codes);
    let mut peer =
        Person::new(|_: &Round| Some(Answers::new().with("username", "ada").with("sms", "123456")));
    let world = StillWorld::default();
    ready(portal.authenticate(Request::to("test"), &mut peer, &world)).expect("in");
    let groups: Vec<_> = peer.rounds[0].groups.iter().map(|group| &*group.id).collect();
    assert_eq!(groups, ["password", "codes/app", "codes/phone"]);
    let expected =
        vec![("username".to_owned(), Answer::from("ada")), ("sms".into(), Answer::from("123456"))];
    assert_eq!(told(&log), [expected]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    /// Whatever two to four mechanisms ask, the merged round has no name twice, and answering one
    /// mechanism's questions whole gives that mechanism exactly its own answers.
    #[test]
    fn names_are_unique_and_given_back(
        asked in prop::collection::vec(
            prop::sample::subsequence(vec!["username", "password", "otp", "one/otp", "pin"], 1..=5),
            2..=4,
        ),
        pick in any::<prop::sample::Index>(),
    ) {
        const MECHANISMS: [&str; 4] = ["one", "two", "three", "four"];
        let pick = pick.index(asked.len());
        let mut portal = Portal::new(());
        let mut logs = Vec::new();
        for (index, names) in asked.iter().enumerate() {
            let questions: Vec<_> = names.iter().map(|name| {
                Question::new(*name, CredentialKind::EchoPrompt, Text::default())
            }).collect();
            let mechanism = MECHANISMS[index];
            let stage = Stage::asking(mechanism, mechanism, questions, move |_, _| Ok(grant(mechanism)));
            logs.push(Told::clone(&stage.told));
            portal = portal.checked_by(stage);
        }
        let mut peer = Person::new(|round: &Round| {
            let group = &round.groups[pick];
            let mine = |q: &&Question| q.group.is_none() || q.group.as_ref() == Some(&group.id);
            let answers = round.questions.iter().filter(mine);
            Some(answers.map(|q| (q.name.clone(), Answer::from("x"))).collect())
        });
        let world = StillWorld::default();
        let login = ready(portal.authenticate(Request::to("test"), &mut peer, &world));
        let round = &peer.rounds[0];
        let names: BTreeSet<_> = round.questions.iter().map(|q| &*q.name).collect();
        prop_assert_eq!(names.len(), round.questions.len());
        prop_assert_eq!(round.groups.len(), asked.len());
        let who = login.map_err(|error| TestCaseError::fail(format!("{error}: {round:?}")))?;
        prop_assert_eq!(who.subject.name(), Some(MECHANISMS[pick]));
        for (index, log) in logs.iter().enumerate() {
            let told = told(log);
            if index != pick {
                prop_assert!(told.is_empty());
                continue;
            }
            let got: BTreeSet<_> = told[0].iter().map(|(name, _)| name.as_str()).collect();
            prop_assert_eq!(got, asked[pick].iter().copied().collect());
        }
    }
}
