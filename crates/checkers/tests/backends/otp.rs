//! The mechanism `otp`: a code works once, beside another proof, on whatever node.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use countersign::{
    Answers, BoxExchange, Checker, Denial, Fault, FaultKind, Identity, Mechanism, Public, Reason,
    Reply, Scene, Secret, Verified, World,
};
use countersign_checkers::accounts::Accounts;
use countersign_checkers::factors::{Factors, OtpSettings};
use countersign_store::{AccountUpdate, CredentialType, OpenOptions, Store};
use countersign_testkit::{Attempt, Fixture, OwnedWorld, Proof, conforms_async};
use totp_rs::{Builder, Totp};

use crate::stage::{After, DEADLINE, End, NOW, Place, RECIPE, Talk, hash, pool};

/// What an app does with what it was told.
struct App {
    totp: Totp,
    period: i64,
}

impl App {
    fn told(uri: &Secret) -> Self {
        let uri = uri.to_str().unwrap();
        let (_, query) = uri.split_once('?').unwrap();
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
        };
        let secret = totp_rs::Secret::try_from_base32(value("secret").unwrap()).unwrap();
        let period = value("period").map_or(1, |period| period.parse().unwrap());
        let totp = Builder::new()
            .with_secret(secret.as_bytes())
            .with_digits(value("digits").unwrap().parse().unwrap())
            .with_step_duration(u64::try_from(period).unwrap())
            .build()
            .unwrap();
        Self { totp, period }
    }

    fn at(&self, unix: i64) -> String {
        self.totp.generate(unix.try_into().unwrap()).to_string()
    }

    fn position(&self, at: i64) -> String {
        self.at(at * self.period)
    }
}

fn factors(place: &Place) -> Factors {
    let world: Arc<dyn World> = place.world.clone();
    Factors::new(place.store.clone(), world)
}

async fn enrolled(settings: OtpSettings) -> (Place, App) {
    let place = Place::new().await;
    place.add("ada", &[&hash(RECIPE, "countess")], |_| {}).await;
    let factors = factors(&place);
    let pending = factors.begin_otp("ada", "Example", settings).unwrap();
    factors.enrol_unconfirmed(&pending, "telephone").await.unwrap();
    let app = App::told(&pending.uri());
    (place, app)
}

fn otp(code: &str) -> Answers {
    Answers::new().with("otp", code.to_owned())
}

async fn try_code(place: &Place, code: &str) -> Reply {
    let mut talk = Talk::after("ada", &place.accounts, "otp", &place.world).await;
    talk.reply.asked();
    talk.say(otp(code)).await.unwrap().clone()
}

#[track_caller]
fn refused(reply: &Reply, reason: Reason, part: &str) {
    let denial = reply.denied();
    assert_eq!((denial.reason, denial.claimed.as_deref()), (reason, Some("ada")), "{denial}");
    assert_eq!(denial.public(), Public::Denied);
    assert!(denial.detail.contains(part), "{denial}");
}

#[tokio::test]
async fn conforms() {
    let (place, app) = enrolled(OtpSettings::default()).await;
    struct Second<'a>(&'a Accounts, Vec<Mechanism>);
    impl Checker for Second<'static> {
        fn name(&self) -> &str {
            self.0.name()
        }
        fn mechanisms(&self) -> &[Mechanism] {
            &self.1
        }
        fn begin(&self, mechanism: &str, scene: &Scene<'_>) -> Result<BoxExchange, Fault> {
            let exchange = self.0.begin(mechanism, scene)?;
            let proven = vec![Verified::vouch(Identity::named("ada"))];
            Ok(BoxExchange::new(After { exchange, proven }))
        }
    }
    // Each attempt comes a step later, when the app shows another code.
    let world = Arc::clone(&place.world);
    let next = Arc::new(AtomicI64::new(NOW));
    let good = Attempt::computed(move || {
        let unix = next.fetch_add(30, Relaxed);
        world.set_unix(unix);
        let answer = otp(&app.at(unix));
        move |_: &countersign::Round| answer.clone()
    });
    let fixture = Fixture::new()
        .with(Proof::of("otp", "ada", good).wrong(otp("000000")))
        .in_world(place.world.clone());
    let accounts: &'static Accounts = Box::leak(Box::new(place.accounts));
    let second = Second(accounts, vec![countersign_checkers::accounts::OTP.clone()]);
    let run = conforms_async(&second, &fixture);
    let report = tokio::time::timeout(DEADLINE, run).await.unwrap();
    assert!(report.is_clean(), "{report}");
}

/// A code alone, or a name and a code, proves nothing.
#[tokio::test]
async fn nothing_without_another_proof() {
    let (place, _) = enrolled(OtpSettings::default()).await;
    for claimed in [None, Some("ada")] {
        let peer = crate::stage::anybody();
        let scene = Scene { claimed, ..Scene::of(&peer, &*place.world) };
        let mut exchange = place.accounts.begin("otp", &scene).unwrap();
        let step = countersign::Exchange::step(&mut exchange, Answers::new(), &scene).await;
        let countersign::Step::Deny(denial) = step.unwrap() else { panic!("asked") };
        assert_eq!(denial.reason, Reason::NotAllowed);
    }
}

#[tokio::test]
async fn a_code_works_once_and_proves_a_name_and_no_more() {
    let (place, app) = enrolled(OtpSettings::default()).await;
    let code = app.at(NOW);
    let reply = try_code(&place, &code).await;
    let who = reply.granted();
    assert_eq!(who.subject.name(), Some("ada"));
    assert!(!who.is_complete() && who.groups.is_empty());
    refused(&try_code(&place, &code).await, Reason::WrongCredential, "used before");
    refused(&try_code(&place, "000000").await, Reason::WrongCredential, "");
    // The one before it is used up with it: who has looked over a shoulder has seen that one as well.
    let before = app.at(NOW - 30);
    refused(&try_code(&place, &before).await, Reason::WrongCredential, "used before");
    try_code(&place, &app.at(NOW + 30)).await.granted();
    let ada = place.store.read_account("ada").await.unwrap().unwrap();
    let used = ada.credentials_of(&CredentialType::Totp).next().unwrap().last_used;
    assert_eq!(used, Some(NOW));
}

#[tokio::test]
async fn one_step_early_or_late_and_no_more() {
    for (shift, right) in [(-60, false), (-30, true), (0, true), (30, true), (60, false)] {
        let (place, app) = enrolled(OtpSettings::default()).await;
        let reply = try_code(&place, &app.at(NOW + shift)).await;
        assert_eq!(matches!(reply, Reply::Granted(_)), right, "{shift}");
    }
    // The edges of a step of this clock.
    for (unix, right) in [(NOW - 31, false), (NOW - 30, true), (NOW + 59, true), (NOW + 60, false)]
    {
        let (place, app) = enrolled(OtpSettings::default()).await;
        assert_eq!(NOW % 30, 0);
        place.world.set_unix(unix);
        let reply = try_code(&place, &app.at(NOW)).await;
        assert_eq!(matches!(reply, Reply::Granted(_)), right, "{unix}");
    }
}

/// A clock that was set back shows old codes again.
#[tokio::test]
async fn a_clock_that_steps_back_brings_nothing_back() {
    let (place, app) = enrolled(OtpSettings::default()).await;
    try_code(&place, &app.at(NOW)).await.granted();
    place.world.set_unix(NOW - 300);
    refused(&try_code(&place, &app.at(NOW - 300)).await, Reason::WrongCredential, "used before");
    place.world.set_unix(NOW + 30);
    try_code(&place, &app.at(NOW + 30)).await.granted();
}

#[tokio::test]
async fn codes_are_read_as_they_are_shown() {
    let (place, app) = enrolled(OtpSettings::default()).await;
    let code = app.at(NOW);
    let (first, last) = code.split_at(3);
    try_code(&place, &format!("{first} {last}")).await.granted();
    let codes = factors(&place).new_recovery_codes("ada").await.unwrap();
    let text = codes[0].to_str().unwrap();
    try_code(&place, &text.to_uppercase().replace('-', " ")).await.granted();
}

/// Two connections with one code at the same moment: one is let in. On two nodes that share the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_at_once_one_is_let_in() {
    for settings in [OtpSettings::default(), OtpSettings::counted()] {
        let (place, app) = enrolled(settings).await;
        let recovery = factors(&place).new_recovery_codes("ada").await.unwrap();
        let path = place.folder.path().join("accounts.db");
        let options = OpenOptions::create().deadline(DEADLINE);
        let other = Store::open(&path, options).await.unwrap();
        let other = on(&place, other);
        let code = match settings.moving {
            countersign_checkers::factors::Moving::Counter => app.position(0),
            _ => app.at(NOW),
        };
        for code in [code, recovery[3].to_str().unwrap().to_owned()] {
            let nodes = [&place.accounts, &other, &place.accounts, &other];
            let mut talks = Vec::new();
            for node in nodes {
                talks.push(Talk::after("ada", node, "otp", &place.world).await);
            }
            let [a, b, c, d] = &mut talks[..] else { unreachable!() };
            let (a, b, c, d) = tokio::join!(
                a.say(otp(&code)),
                b.say(otp(&code)),
                c.say(otp(&code)),
                d.say(otp(&code))
            );
            let replies = [a, b, c, d].map(|reply| reply.unwrap().clone());
            let let_in = replies.iter().filter(|reply| matches!(reply, Reply::Granted(_)));
            assert_eq!(let_in.count(), 1, "{replies:?}");
        }
    }
}

fn on(place: &Place, store: Store) -> Accounts {
    let world: Arc<dyn World> = place.world.clone();
    Accounts::new("other", store, pool(), world, RECIPE).unwrap()
}

#[tokio::test]
async fn a_used_code_stays_used_after_a_restart() {
    let (place, app) = enrolled(OtpSettings::default()).await;
    let codes = factors(&place).new_recovery_codes("ada").await.unwrap();
    let recovery = codes[0].to_str().unwrap();
    for code in [&*app.at(NOW), recovery] {
        try_code(&place, code).await.granted();
    }
    let path = place.folder.path().join("accounts.db");
    place.store.close().await;
    let store = Store::open(&path, OpenOptions::default()).await.unwrap();
    let accounts = on(&place, store);
    for code in [&*app.at(NOW), recovery] {
        let mut talk = Talk::after("ada", &accounts, "otp", &place.world).await;
        let reply = talk.say(otp(code)).await.unwrap();
        assert_eq!(reply.denied().reason, Reason::WrongCredential);
    }
}

#[tokio::test]
async fn counted_codes_go_forward_and_are_found_again() {
    let (place, app) = enrolled(OtpSettings::counted()).await;
    try_code(&place, &app.position(0)).await.granted();
    refused(&try_code(&place, &app.position(0)).await, Reason::WrongCredential, "");
    // Ten were shown and not used.
    try_code(&place, &app.position(11)).await.granted();
    refused(&try_code(&place, &app.position(5)).await, Reason::WrongCredential, "");
    refused(&try_code(&place, &app.position(23)).await, Reason::WrongCredential, "");
    // Two in a row find it again, and are used up.
    let factors = factors(&place);
    let id = factors.list("ada").await.unwrap()[0].id;
    let two = |first, second| [Secret::from(app.position(first)), app.position(second).into()];
    for (first, second) in [(500, 502), (501, 500), (3, 4), (2000, 2001)] {
        let [a, b] = two(first, second);
        assert!(factors.resync_hotp("ada", id, [&a, &b]).await.is_err(), "{first} {second}");
    }
    let [a, b] = two(500, 501);
    factors.resync_hotp("ada", id, [&a, &b]).await.unwrap();
    refused(&try_code(&place, &app.position(501)).await, Reason::WrongCredential, "");
    try_code(&place, &app.position(502)).await.granted();
}

#[tokio::test]
async fn a_confirmed_generator_has_used_its_first_code() {
    let place = Place::new().await;
    place.add("ada", &[], |_| {}).await;
    let factors = factors(&place);
    let pending = factors.begin_otp("ada", "Example", OtpSettings::default()).unwrap();
    let app = App::told(&pending.uri());
    let wrong = Secret::from(app.at(NOW + 3000));
    assert!(factors.confirm_otp(&pending, "", &wrong).await.is_err());
    assert!(factors.list("ada").await.unwrap().is_empty());
    factors.confirm_otp(&pending, "", &Secret::from(app.at(NOW))).await.unwrap();
    refused(&try_code(&place, &app.at(NOW)).await, Reason::WrongCredential, "used before");
    place.world.advance_ms(30_000);
    try_code(&place, &app.at(NOW + 30)).await.granted();
}

#[tokio::test]
async fn recovery_codes_work_once_each() {
    let (place, _) = enrolled(OtpSettings::default()).await;
    let factors = factors(&place);
    let codes = factors.new_recovery_codes("ada").await.unwrap();
    for code in &codes {
        let code = code.to_str().unwrap();
        try_code(&place, code).await.granted();
        refused(&try_code(&place, code).await, Reason::WrongCredential, "");
    }
    assert_eq!(factors.list("ada").await.unwrap().len(), 1);
}

/// One wrong code ends the attempt, so that each one counts against whoever guesses.
#[tokio::test]
async fn one_wrong_code_ends_it_and_so_does_none() {
    let (place, _) = enrolled(OtpSettings::default()).await;
    refused(&try_code(&place, "000000").await, Reason::WrongCredential, "");
    let mut talk = Talk::after("ada", &place.accounts, "otp", &place.world).await;
    let declined = Answers::new().with("otp", countersign::Answer::Declined);
    refused(talk.say(declined).await.unwrap(), Reason::Declined, "");
}

#[tokio::test]
async fn who_has_none_and_who_is_not_let_in() {
    let place = Place::new().await;
    place.add("none", &[&hash(RECIPE, "one")], |_| {}).await;
    place.add("ldap", &[], |new| new.driver = Some("ldap".into())).await;
    place.add("off", &[], |_| {}).await;
    let factors = factors(&place);
    let mut codes = Vec::new();
    for user in ["ldap", "off"] {
        codes.push(factors.new_recovery_codes(user).await.unwrap().remove(0));
    }
    let off = AccountUpdate { enabled: Some(false), ..AccountUpdate::default() };
    let first = |name| Talk::after(name, &place.accounts, "otp", &place.world);
    for name in ["none", "nobody"] {
        let talk = first(name).await;
        let denial = talk.reply.denied();
        assert_eq!((denial.reason, denial.claimed.as_deref()), (Reason::NotEnrolled, Some(name)));
        assert_eq!(denial.public(), Public::Denied);
    }
    // Whom another checker has proven may have factors here.
    let mut talk = first("ldap").await;
    talk.say(otp(codes[0].to_str().unwrap())).await.unwrap().granted();
    // Disabled before it is asked, and while it is awaited: the code is used up all the same.
    let mut talk = first("off").await;
    place.store.update_account("off", &off).await.unwrap();
    let denial = talk.say(otp(codes[1].to_str().unwrap())).await.unwrap().denied().clone();
    assert_eq!(denial.reason, Reason::Disabled);
    assert_eq!(factors.list("off").await.unwrap()[0].left, Some(9));
    assert_eq!(first("off").await.reply.denied().reason, Reason::Disabled);
}

#[tokio::test]
async fn what_is_removed_while_it_is_awaited_proves_nothing() {
    let (place, app) = enrolled(OtpSettings::default()).await;
    let mut talk = Talk::after("ada", &place.accounts, "otp", &place.world).await;
    factors(&place).reset("ada", None).await.unwrap();
    refused(talk.say(otp(&app.at(NOW))).await.unwrap(), Reason::NotEnrolled, "");
    let mut removed = enrolled(OtpSettings::default()).await;
    let (place, app) = (&mut removed.0, &removed.1);
    let mut talk = Talk::after("ada", &place.accounts, "otp", &place.world).await;
    place.store.remove_account("ada", 0).await.unwrap();
    refused(talk.say(otp(&app.at(NOW))).await.unwrap(), Reason::NotEnrolled, "");
}

/// A store that is out of reach is a fault: never a yes, and not the user's fault either.
#[tokio::test]
async fn a_store_that_is_gone_is_a_fault() {
    let (place, app) = enrolled(OtpSettings::default()).await;
    let mut talk = Talk::after("ada", &place.accounts, "otp", &place.world).await;
    place.store.close().await;
    let fault = talk.say(otp(&app.at(NOW))).await.unwrap_err();
    assert_eq!(fault.kind(), FaultKind::Unavailable);
}

#[tokio::test]
async fn what_cannot_be_read_is_a_fault() {
    let place = Place::new().await;
    let broken = countersign_store::NewCredential::new(CredentialType::Totp, "x".into());
    place.add("ada", &[], |new| new.credentials.push(broken)).await;
    let mut talk = Talk::after("ada", &place.accounts, "otp", &place.world).await;
    let fault = talk.say(otp("123456")).await.unwrap_err();
    assert!(fault.to_string().contains("remove it and enrol anew"), "{fault}");
}

/// Beside the password, as the portal asks for both.
#[tokio::test]
async fn after_the_password() {
    let (place, app) = enrolled(OtpSettings::default()).await;
    let world: Arc<OwnedWorld> = Arc::clone(&place.world);
    let portal =
        countersign::Portal::new(()).checked_by(place.accounts).requiring(["password", "otp"]);
    let mut peer = countersign_testkit::ScriptedPeer::new(countersign::KindSet::all())
        .answers(crate::stage::login("ada", "countess"))
        .answers(otp(&app.at(NOW)));
    let request = countersign::Request::to("web");
    let who = portal.authenticate(request, &mut peer, &*world).await.unwrap();
    assert_eq!(who.subject.name(), Some("ada"));
    let mut again = countersign_testkit::ScriptedPeer::new(countersign::KindSet::all())
        .answers(crate::stage::login("ada", "countess"))
        .answers(otp(&app.at(NOW)));
    let request = countersign::Request::to("web");
    let error = portal.authenticate(request, &mut again, &*world).await.unwrap_err();
    let countersign::LoginError::Denied(Denial { reason, .. }) = error else { panic!("{error}") };
    assert_eq!(reason, Reason::WrongCredential);
    // Without a name of its own, `otp` is not where a login begins.
    assert_eq!(portal.mechanisms(&countersign::KindSet::all()), ["password"]);
}
