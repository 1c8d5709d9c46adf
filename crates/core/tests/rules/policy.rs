//! A policy: which rule decides, which factors follow from who it is, and what is counted as a guess.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign::testing::StillWorld;
use countersign::{
    Answers, Bearer, BearerStore, BoxExchange, Checker, CredentialKind, Denial, Earlier, Factor,
    Fault, Guard, GuessEnd, Identity, KindSet, Known, LoginError, Mechanism, Order, Password,
    PasswordStore, Peer, Plaintext, Policy, Portal, Question, Reason, Request, Round, Rule, Scene,
    Secret, Step, Terms, Transport, Verdict, Verified, When,
};

use crate::stage::{Person, Stage, among, ready};

/// Everybody's password is their name. `boss-…` are in the group `bosses`, `temp-…` in `temps`; what begins
/// with `app-` is an application password.
fn passwords() -> Stage {
    let questions = [Question::username(), Question::password()];
    Stage::asking("passwords", "password", questions, |answers, _| {
        let (Some(name), Some(password)) = (answers.text("username"), answers.text("password"))
        else {
            return Ok(Step::deny(Reason::Malformed));
        };
        if password != name && password != "app-password" {
            return Ok(Step::deny(Reason::WrongCredential).claiming(name));
        }
        let mut who = Identity::named(name);
        for (prefix, group) in [("boss", "bosses"), ("temp", "temps")] {
            if name.starts_with(prefix) {
                who = who.in_group(group, false);
            }
        }
        let who = Verified::vouch(who);
        Ok(Step::Grant(if password == "app-password" { who.complete() } else { who }))
    })
}

/// One-time codes of everybody but `…-none`; `…-away` have theirs on a server that is away.
fn codes() -> Stage {
    second("codes", "otp", Question::otp(), "123456", "none")
}

/// Passkeys of everybody but those whose name has `none` in it.
fn passkeys() -> Stage {
    let prompt = countersign::Text::verbatim("Passkey");
    let question = Question::new("assertion", CredentialKind::Assertion, prompt);
    second("passkeys", "passkey", question, "signed", "keyless")
}

fn second(
    name: &'static str,
    mechanism: &'static str,
    question: Question,
    right: &'static str,
    without: &'static str,
) -> Stage {
    let (asked, kind) = (question.name.clone(), question.kind.clone());
    let round = Arc::new(Round::of([question]));
    Stage::new(name, mechanism, [kind], move |_, answers, scene| {
        let Some(who) = scene.proven.last() else { return Ok(Step::deny(Reason::NotAllowed)) };
        let user = who.subject.name().unwrap_or_default().to_owned();
        if user.ends_with("away") {
            return Err(Fault::unavailable("the code server is away"));
        }
        if user.ends_with("none") || user.ends_with(without) {
            return Ok(Step::deny(Reason::NotEnrolled));
        }
        Ok(match answers.text(&asked) {
            None => Step::Ask(Arc::clone(&round)),
            Some(code) if code == right => Step::Grant(Verified::vouch(Identity::named(user))),
            Some(_) => Step::deny(Reason::WrongCredential),
        })
    })
}

fn portal(policy: Policy) -> Portal<()> {
    Portal::new(()).checked_by(passwords()).checked_by(codes()).checked_by(passkeys()).under(policy)
}

fn required(factors: &[Factor]) -> Terms {
    Terms { require: Some(factors.to_vec()), ..Terms::default() }
}

fn second_of_the_enrolled() -> Factor {
    Factor { any_of: vec!["otp".into(), "passkey".into()], only_enrolled: true }
}

struct Told {
    login: Result<Verified<Identity>, LoginError>,
    rounds: usize,
}

impl Told {
    fn proofs(&self) -> Vec<String> {
        let who = self.login.as_ref().expect("let in");
        who.proofs().map(str::to_owned).collect()
    }

    fn reason(&self) -> Reason {
        match &self.login {
            Err(LoginError::Denied(denial)) => denial.reason,
            other => panic!("not refused: {other:?}"),
        }
    }
}

fn login_as(portal: &Portal<()>, peer: Peer, answers: Answers) -> Told {
    let world = StillWorld::default();
    let supports = peer.supports.clone();
    let mut person = Person::new(|round: &Round| Some(among(round, &answers)));
    person.supports = supports;
    let request = Request::from_peer(Arc::new(peer)).by("password");
    let login = ready(portal.authenticate(request, &mut person, &world));
    Told { login, rounds: person.rounds.len() }
}

fn login(portal: &Portal<()>, user: &'static str, answers: Answers) -> Told {
    let answers = match answers.text("password") {
        Some(_) => answers.with("username", user),
        None => answers.with("username", user).with("password", user),
    };
    login_as(portal, Peer::new("imap", KindSet::all()), answers)
}

fn code() -> Answers {
    Answers::new().with("otp", "123456")
}

#[test]
fn a_group_decides_about_the_factors_and_about_being_let_in() {
    let group = |name: &str| When { groups: vec![name.into()], ..When::default() };
    let rule = |name: &'static str, when, terms| Rule { name: name.into(), when, terms };
    let portal = portal(Policy {
        terms: required(&[Factor::ANY]),
        rules: vec![
            rule("rule `temps`", group("temps"), Terms { allow: Some(false), ..Terms::default() }),
            rule(
                "rule `bosses`",
                group("bosses"),
                required(&[Factor::of("password"), Factor::of("otp")]),
            ),
        ],
    });
    let plain = login(&portal, "ada", Answers::new());
    assert_eq!((plain.proofs(), plain.rounds), (vec!["password".to_owned()], 1));
    let boss = login(&portal, "boss-ada", code());
    assert_eq!((boss.proofs(), boss.rounds), (vec!["password".to_owned(), "otp".into()], 2));
    let wrong = login(&portal, "boss-ada", Answers::new().with("otp", "000000"));
    assert_eq!(wrong.reason(), Reason::WrongCredential);
    assert_eq!(login(&portal, "boss-none", code()).reason(), Reason::NotEnrolled);
    let temp = login(&portal, "temp-ada", code());
    let Err(LoginError::Denied(denial)) = &temp.login else { panic!("{:?}", temp.login) };
    assert_eq!(denial.reason, Reason::NotAllowed);
    assert!(denial.detail.contains("rule `temps`"), "{}", denial.detail);
    // A password that is wrong says nothing about rules.
    let guess = login(&portal, "temp-ada", Answers::new().with("password", "x"));
    assert_eq!(guess.reason(), Reason::WrongCredential);
}

/// One checker of passwords and of codes, which says of everybody that they have none of the latter, and would
/// ask for one all the same.
struct Both([Stage; 2], Vec<Mechanism>);

fn both() -> Both {
    let round = [Question::username(), Question::password()];
    let passwords = Stage::asking("both", "password", round, |answers, _| {
        let name = answers.text("username").unwrap_or_default();
        Ok(Step::Grant(Verified::vouch(Identity::named(name)).lacking(&[Mechanism::OTP])))
    });
    let codes = second("both", "otp", Question::otp(), "123456", "none");
    let mechanisms = [&passwords, &codes].map(|stage| stage.mechanisms()[0].clone());
    Both([passwords, codes], mechanisms.to_vec())
}

impl Checker for Both {
    fn name(&self) -> &str {
        "both"
    }

    fn mechanisms(&self) -> &[Mechanism] {
        &self.1
    }

    fn begin(&self, mechanism: &str, scene: &Scene<'_>) -> Result<BoxExchange, Fault> {
        self.0[usize::from(mechanism == "otp")].begin(mechanism, scene)
    }
}

#[test]
fn what_a_checker_says_that_somebody_lacks_is_not_begun() {
    let enrolled = |names: &[&'static str]| Factor {
        any_of: names.iter().map(|name| (*name).into()).collect(),
        only_enrolled: true,
    };
    let under = |portal: Portal<()>, second| {
        portal.under(Policy::of(required(&[Factor::of("password"), second])))
    };
    let alone = under(Portal::new(()).checked_by(both()), enrolled(&["otp"]));
    let told = login(&alone, "ada", Answers::new());
    assert_eq!((told.proofs(), told.rounds), (vec!["password".to_owned(), "otp?".into()], 1));

    // Where everybody must have one, it is asked for.
    let demanded = under(Portal::new(()).checked_by(both()), Factor::of("otp"));
    let told = login(&demanded, "ada", code());
    assert_eq!((told.proofs(), told.rounds), (vec!["password".to_owned(), "otp".into()], 2));
    // It says nothing of another factor, nor of another checker's codes.
    let keys = Portal::new(()).checked_by(both()).checked_by(passkeys());
    let told = login(&under(keys, enrolled(&["otp", "passkey"])), "ada", code());
    assert_eq!((told.proofs(), told.rounds), (vec!["password".to_owned(), "otp".into()], 2));
    let others = Portal::new(()).checked_by(both()).checked_by(codes());
    let told = login(&under(others, enrolled(&["otp"])), "ada", code());
    assert_eq!((told.proofs(), told.rounds), (vec!["password".to_owned(), "otp".into()], 2));
}

#[test]
fn only_who_has_none_is_excused() {
    let portal = portal(Policy::of(required(&[Factor::ANY, second_of_the_enrolled()])));
    let none = login(&portal, "ada-none", Answers::new());
    assert_eq!(none.proofs(), ["password", "otp?", "passkey?"]);
    assert_eq!(login(&portal, "ada", code()).proofs(), ["password", "otp"]);
    let by_key = login(&portal, "ada", Answers::new().with("assertion", "signed"));
    assert_eq!(by_key.proofs(), ["password", "passkey"]);
    assert_eq!(
        login(&portal, "ada", Answers::new().with("otp", "0")).reason(),
        Reason::WrongCredential
    );
    // A backend that is away excuses nobody.
    let away = login(&portal, "ada-away", code());
    assert!(matches!(away.login, Err(LoginError::Fault(_))), "{:?}", away.login);
}

/// Somebody without codes, whose passkey this client cannot use, is not somebody without factors.
#[test]
fn what_cannot_be_asked_here_excuses_nobody() {
    let portal = portal(Policy::of(required(&[Factor::ANY, second_of_the_enrolled()])));
    let kinds = [CredentialKind::AuthName, CredentialKind::Passphrase];
    for supports in [
        kinds.clone().into_iter().collect::<KindSet>(),
        kinds.into_iter().chain([CredentialKind::Otp]).collect(),
    ] {
        let peer = Peer::new("imap", supports);
        let answers = Answers::new().with("username", "none").with("password", "none");
        assert!(login_as(&portal, peer.clone(), answers).login.is_ok(), "has nothing at all");
        // `…-none` has no codes and no passkey; `ada` has both, and this one only a passkey.
        let user = "has-none-but-a-passkey";
        let only_passkeys = Portal::new(())
            .checked_by(passwords())
            .checked_by(second("codes", "otp", Question::otp(), "123456", "a-passkey"))
            .checked_by(passkeys())
            .under(Policy::of(required(&[Factor::ANY, second_of_the_enrolled()])));
        let answers = Answers::new().with("username", user).with("password", user);
        assert_eq!(login_as(&only_passkeys, peer, answers).reason(), Reason::Unsupported);
    }
}

#[test]
fn a_complete_proof_needs_no_other() {
    let portal = portal(Policy::of(required(&[Factor::of("password"), Factor::of("otp")])));
    let app = login(&portal, "ada", Answers::new().with("password", "app-password"));
    assert_eq!((app.proofs(), app.rounds), (vec!["password".to_owned()], 1));
    assert!(app.login.unwrap().is_complete());
}

#[test]
fn a_code_after_the_password_where_nothing_can_be_asked() {
    let terms = Terms {
        code_in_password: Some(true),
        ..required(&[Factor::of("password"), Factor::of("otp")])
    };
    let with = portal(Policy::of(terms.clone()));
    let without = portal(Policy::of(Terms { code_in_password: None, ..terms }));
    let supports: KindSet =
        [CredentialKind::AuthName, CredentialKind::Passphrase].into_iter().collect();
    let peer = || Peer::new("smtp", supports.clone());
    let both =
        |password: &'static str| Answers::new().with("username", "ada").with("password", password);
    let right = login_as(&with, peer(), both("ada,123456"));
    assert_eq!((right.proofs(), right.rounds), (vec!["password".to_owned(), "otp".into()], 1));
    for wrong in ["ada,000000", "bob,123456", "ada,12345", "ada", ",123456", "ada,123456,"] {
        assert!(login_as(&with, peer(), both(wrong)).login.is_err(), "{wrong}");
    }
    assert!(login_as(&without, peer(), both("ada,123456")).login.is_err());
    // Who can be asked is asked, and may have such a password.
    let asked = login(&with, "ada,123456", code());
    assert_eq!((asked.proofs().len(), asked.rounds), (2, 2));
}

#[test]
fn a_readable_secret_only_where_the_policy_says() {
    let portal = portal(Policy {
        terms: Terms { plaintext: Some(Plaintext::Secured), ..Terms::default() },
        rules: vec![Rule {
            name: "rule 1".into(),
            when: When { networks: vec!["10.0.0.0/8".parse().unwrap()], ..When::default() },
            terms: Terms { plaintext: Some(Plaintext::Always), ..Terms::default() },
        }],
    });
    for (remote, transport, let_in) in [
        ("192.0.2.1", Transport::Plain, false),
        ("192.0.2.1", Transport::Tls, true),
        ("192.0.2.1", Transport::Local, true),
        ("10.1.2.3", Transport::Plain, true),
        ("::ffff:10.1.2.3", Transport::Plain, true),
    ] {
        let mut peer = Peer::new("imap", KindSet::all());
        peer.remote = remote.parse().ok();
        peer.transport = transport;
        let answers = Answers::new().with("username", "ada").with("password", "ada");
        let told = login_as(&portal, peer, answers);
        assert_eq!(told.login.is_ok(), let_in, "{remote} {transport:?}");
        assert_eq!(told.rounds == 1, let_in, "the secret is not asked for: {remote}");
    }
}

#[test]
fn an_earlier_login_suffices_where_nothing_else_is_demanded() {
    let rule = Rule {
        name: "rule `wiki`".into(),
        when: When { services: vec!["wiki".into()], ..When::default() },
        terms: required(&[Factor::ANY, Factor::of("otp")]),
    };
    let deny = Rule {
        name: "rule `none`".into(),
        when: When {
            services: vec!["vault".into()],
            groups: vec!["temps".into()],
            ..When::default()
        },
        terms: Terms { allow: Some(false), ..Terms::default() },
    };
    let terms = required(&[Factor::ANY, second_of_the_enrolled()]);
    let named = |service: &str, terms| Rule {
        name: "rule".into(),
        when: When { services: vec![service.into()], ..When::default() },
        terms,
    };
    let keys = Terms { mechanisms: Some(vec!["passkey".into()]), ..required(&[Factor::ANY]) };
    let elsewhere = Terms {
        checkers: Some(vec![("codes".into(), Order::default().results())]),
        ..required(&[Factor::ANY])
    };
    let rules = vec![rule, deny, named("keys", keys), named("elsewhere", elsewhere)];
    let portal = portal(Policy { terms, rules });
    let who = Identity::named("ada");
    let peer = |service: &'static str| Peer::new(service, KindSet::none());
    let suffices = |service, proofs: &[&str], complete| {
        let proofs: Vec<_> = proofs.iter().map(|&proof| proof.to_owned()).collect();
        let login = Earlier { checker: Some("passwords"), proofs: &proofs, complete };
        portal.suffices(&peer(service), &who, login).is_ok()
    };
    assert!(suffices("WIKI", &["password", "otp"], false));
    assert!(!suffices("wiki", &["password"], false));
    assert!(!suffices("wiki", &["password", "otp?", "passkey?"], false), "excused elsewhere");
    assert!(suffices("wiki", &["password"], true));
    assert!(suffices("mail", &["password", "otp?", "passkey?"], false));
    assert!(!suffices("mail", &["password", "otp?"], false));
    assert!(!suffices("mail", &[], false), "no proof at all");
    // Neither is what the service does not take made good by a service that does.
    assert!(!suffices("keys", &["password"], false));
    assert!(!suffices("keys", &["password"], true));
    assert!(suffices("keys", &["password", "passkey"], false));
    assert!(!suffices("elsewhere", &["password", "otp"], false), "its checker is not asked there");
    let temp = Identity::named("temp").in_group("temps", false);
    let proofs = ["password".to_owned(), "otp".to_owned()];
    let login = Earlier { checker: None, proofs: &proofs, complete: true };
    let denial = portal.suffices(&peer("vault"), &temp, login).unwrap_err();
    assert_eq!(denial.reason, Reason::NotAllowed);
}

#[derive(Default)]
struct Counting {
    shut: Mutex<bool>,
    admitted: Mutex<u32>,
    heard: Mutex<Vec<(String, GuessEnd)>>,
    marks: Mutex<Vec<u64>>,
}

impl Guard for Counting {
    fn admit(&self, _: &Scene<'_>, _: &str, proof: Option<&[u8]>) -> Result<u64, Denial> {
        if *self.shut.lock().unwrap() {
            return Err(Denial::new(Reason::Throttled).retry_after(Duration::from_secs(3)));
        }
        *self.admitted.lock().unwrap() += 1;
        Ok(proof.map_or(0, |proof| proof.len() as u64))
    }

    fn ended(&self, _: &Scene<'_>, login: &str, mark: u64, end: GuessEnd) {
        self.heard.lock().unwrap().push((login.to_owned(), end));
        self.marks.lock().unwrap().push(mark);
    }
}

#[test]
fn a_guard_hears_of_every_guess_once() {
    use GuessEnd::{Granted, Proven, Wrong};
    let guard = Arc::new(Counting::default());
    let policy = Policy::of(required(&[Factor::ANY, second_of_the_enrolled()]));
    let portal = portal(policy).guarded_by(guard.clone());
    let heard = || std::mem::take(&mut *guard.heard.lock().unwrap());
    let of = |user: &str, ends: &[GuessEnd]| -> Vec<_> {
        ends.iter().map(|end| (user.to_owned(), *end)).collect()
    };
    assert!(login(&portal, "ada", code()).login.is_ok());
    assert_eq!(heard(), of("ada", &[Proven, Granted]));
    assert_eq!(*guard.marks.lock().unwrap(), [3, 6], "what was offered, each time");
    assert!(login(&portal, "ada", Answers::new().with("password", "x")).login.is_err());
    assert_eq!(heard(), of("ada", &[Wrong]));
    assert!(login(&portal, "ada", Answers::new().with("otp", "000000")).login.is_err());
    assert_eq!(heard(), of("ada", &[Proven, Wrong]));
    assert!(login(&portal, "ada-none", Answers::new()).login.is_ok());
    assert_eq!(heard().last().unwrap().0, "ada-none");
    assert!(login(&portal, "ada-away", code()).login.is_err());
    assert!(!heard().iter().any(|(_, end)| matches!(end, Granted | Wrong)));
    *guard.shut.lock().unwrap() = true;
    let refused = login(&portal, "ada", code());
    let Err(LoginError::Denied(denial)) = &refused.login else { panic!("{:?}", refused.login) };
    assert_eq!(denial.reason, Reason::Throttled);
    assert_eq!(denial.retry_after, Some(Duration::from_secs(3)));
    assert_eq!(denial.claimed.as_deref(), Some("ada"));
    assert!(heard().is_empty(), "nobody was asked");
}

/// Knows `ada`, by any password that is as long as hers; sometimes at once.
struct Lengths {
    at_once: bool,
}

impl PasswordStore for Lengths {
    fn check_at_once(
        &self,
        login: &str,
        password: &Secret,
        _: bool,
    ) -> Option<Result<Verdict, Fault>> {
        self.at_once.then(|| Self::verdict(login, password))
    }

    async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
        Self::verdict(login, password)
    }
}

impl Lengths {
    fn verdict(login: &str, password: &Secret) -> Result<Verdict, Fault> {
        match (login, password.len()) {
            ("ada", 8) => Ok(Verdict::Is(Verified::vouch(Identity::named("ada")))),
            ("ada", 0) => Err(Fault::unavailable("away")),
            ("ada", _) => Ok(Verdict::WRONG),
            _ => Ok(Verdict::UNKNOWN),
        }
    }
}

#[test]
fn a_guess_is_admitted_once_whether_it_is_judged_at_once_or_later() {
    use GuessEnd::{Granted, Undecided, Wrong};
    for at_once in [[false, false], [true, false], [false, true], [true, true]] {
        let guard = Arc::new(Counting::default());
        let [one, two] = at_once.map(|at_once| Lengths { at_once });
        let portal = Portal::new(())
            .checked_by(Password::new("one", one))
            .checked_by(Password::new("two", two))
            .guarded_by(guard.clone());
        for (user, password, end) in [
            ("ada", "countess", Granted),
            ("ada", "duchess", Wrong),
            ("ada", "", Undecided),
            ("bob", "countess", Wrong),
        ] {
            let answers = Answers::new().with("username", user).with("password", password);
            let request = Request::to("test").by("password");
            let mut known = Known::new(answers);
            let login = ready(portal.authenticate(request, &mut known, &StillWorld::default()));
            assert_eq!(login.is_ok(), end == Granted, "{user}, {at_once:?}");
            let heard = std::mem::take(&mut *guard.heard.lock().unwrap());
            assert_eq!(heard, [(user.to_owned(), end)], "{at_once:?}");
        }
        assert_eq!(*guard.admitted.lock().unwrap(), 4, "{at_once:?}");
        *guard.shut.lock().unwrap() = true;
        let answers = Answers::new().with("username", "ada").with("password", "countess");
        let request = Request::to("test").by("password");
        let mut known = Known::new(answers);
        let login = ready(portal.authenticate(request, &mut known, &StillWorld::default()));
        assert!(matches!(login, Err(LoginError::Denied(d)) if d.reason == Reason::Throttled));
    }
}

/// One token of ada's.
struct Tokens;

impl BearerStore for Tokens {
    async fn check_token(
        &self,
        token: &Secret,
        _: Option<&str>,
        _: &Scene<'_>,
    ) -> Result<Verdict, Fault> {
        Ok(match *token == Secret::from("hers") {
            true => Verdict::Is(Verified::vouch(Identity::named("ada"))),
            false => Verdict::UNKNOWN,
        })
    }
}

#[test]
fn a_token_that_comes_without_a_name_is_a_guess_all_the_same() {
    let guard = Arc::new(Counting::default());
    let portal = Portal::new(()).checked_by(Bearer::new("tokens", Tokens));
    let portal = portal.guarded_by(guard.clone());
    let show = |token: &'static str| {
        let mut peer = Peer::new("test", KindSet::none().with(CredentialKind::BEARER));
        peer.transport = Transport::Tls;
        let request = Request::from_peer(Arc::new(peer)).by("bearer");
        let mut known = Known::new(Answers::new().with("bearer", Secret::from(token)));
        ready(portal.authenticate(request, &mut known, &StillWorld::default()))
    };
    assert!(show("hers").is_ok() && show("another").is_err());
    let heard = std::mem::take(&mut *guard.heard.lock().unwrap());
    assert_eq!(heard, [("".into(), GuessEnd::Granted), ("".into(), GuessEnd::Wrong)]);
    assert_eq!(*guard.marks.lock().unwrap(), [4, 7], "what was shown");
    *guard.shut.lock().unwrap() = true;
    let Err(LoginError::Denied(denial)) = show("hers") else { panic!("it is shut") };
    assert_eq!((denial.reason, denial.claimed.clone()), (Reason::Throttled, None));
}

/// A mechanism whose messages only it can read.
#[test]
fn a_guess_that_names_its_user_late_is_counted_late() {
    let guard = Arc::new(Counting::default());
    let opaque = || {
        Stage::asking("opaque", "OPAQUE", [Question::token(None)], |answers, _| {
            Ok(match answers.text("token") {
                Some("right") => Step::Grant(Verified::vouch(Identity::named("ada"))),
                _ => Step::deny(Reason::WrongCredential).claiming("ada"),
            })
        })
    };
    let portal = Portal::new(()).checked_by(opaque()).guarded_by(guard.clone());
    let try_with = |token: &'static str| {
        let world = StillWorld::default();
        let mut person =
            Person::new(|round: &Round| Some(among(round, &Answers::new().with("token", token))));
        let request = Request::to("test").by("OPAQUE");
        ready(portal.authenticate(request, &mut person, &world)).is_ok()
    };
    assert!(try_with("right") && !try_with("wrong"));
    let heard = std::mem::take(&mut *guard.heard.lock().unwrap());
    assert_eq!(heard, [("ada".into(), GuessEnd::Granted), ("ada".into(), GuessEnd::Wrong)]);
    *guard.shut.lock().unwrap() = true;
    assert!(!try_with("right"), "throttled is throttled, right or wrong");
}
