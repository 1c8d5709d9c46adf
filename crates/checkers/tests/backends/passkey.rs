//! The mechanism `passkey`, with an authenticator in software on the other side.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::{
    Alternatives, Answer, Answers, BoxExchange, Challenge, Checker as _, CredentialKind, Exchange,
    Identity, KindSet, Peer, Reason, Reply, Round, Scene, Step, Verified, World,
};
use countersign_checkers::accounts::Accounts;
use countersign_checkers::factors::{Factors, PasskeySettings, Passkeys};
use countersign_store::{AccountUpdate, CredentialType, OpenOptions, Store};
use countersign_testkit::{Attempt, Fixture, Proof, conforms_async};
use passkey::authenticator::{Authenticator, UiHint, UserCheck, UserValidationMethod};
use passkey::client::{Client, DefaultClientData};
use passkey::crypto::rust_crypto::RustCryptoBackend;
use passkey::types::Passkey;
use passkey::types::ctap2::{Aaguid, Ctap2Error};
use passkey::types::webauthn::{CredentialCreationOptions, CredentialRequestOptions};
use serde_json::{Value, json};
use webauthn_rs::prelude::Url;

use crate::stage::{After, DEADLINE, End, Place, RECIPE, Talk, anybody, hash, login, pool};

const ORIGIN: &str = "https://login.example.com";

/// Somebody who is there and shows a finger whenever that is wanted.
#[derive(Clone, Copy)]
struct Finger;

#[async_trait::async_trait]
impl UserValidationMethod for Finger {
    type PasskeyItem = Passkey;

    async fn check_user<'a>(
        &self,
        _: UiHint<'a, Passkey>,
        presence: bool,
        verification: bool,
    ) -> Result<UserCheck, Ctap2Error> {
        Ok(UserCheck { presence, verification })
    }

    fn is_presence_enabled(&self) -> bool {
        true
    }

    fn is_verification_enabled(&self) -> Option<bool> {
        Some(true)
    }
}

/// A browser with one passkey.
struct Device {
    passkey: Option<Passkey>,
    counts: bool,
}

impl Device {
    fn new() -> Self {
        Self { passkey: None, counts: false }
    }

    fn that_counts() -> Self {
        Self { passkey: None, counts: true }
    }

    fn authenticator(&self) -> Authenticator<Option<Passkey>, Finger, RustCryptoBackend> {
        let crypto = RustCryptoBackend;
        let mut authenticator =
            Authenticator::new(Aaguid::new_empty(), self.passkey.clone(), Finger, crypto);
        authenticator.set_make_credentials_with_signature_counter(self.counts);
        authenticator
    }

    async fn register(&mut self, origin: &str, options: &str) -> String {
        let options = json!({ "publicKey": serde_json::from_str::<Value>(options).unwrap() });
        let options: CredentialCreationOptions = serde_json::from_value(options).unwrap();
        let mut client = Client::new(self.authenticator());
        let origin = Url::parse(origin).unwrap();
        let made = client.register(&origin, options, DefaultClientData).await.unwrap();
        self.passkey.clone_from(client.authenticator().store());
        as_json(&made)
    }

    async fn sign(&mut self, origin: &str, challenge: &str) -> String {
        let options = json!({ "publicKey": serde_json::from_str::<Value>(challenge).unwrap() });
        let options: CredentialRequestOptions = serde_json::from_value(options).unwrap();
        let mut client = Client::new(self.authenticator());
        let origin = Url::parse(origin).unwrap();
        let signed = client.authenticate(&origin, options, DefaultClientData).await.unwrap();
        self.passkey.clone_from(client.authenticator().store());
        as_json(&signed)
    }
}

/// As a browser's `toJSON` has it: bytes in base64.
fn as_json(answer: &impl serde::Serialize) -> String {
    fn encode(value: &mut Value) {
        match value {
            Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_number) => {
                let bytes = items.iter().map(|item| u8::try_from(item.as_u64().unwrap()).unwrap());
                *value = URL_SAFE_NO_PAD.encode(bytes.collect::<Vec<_>>()).into();
            }
            Value::Array(items) => items.iter_mut().for_each(encode),
            Value::Object(members) => members.values_mut().for_each(encode),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(answer).unwrap();
    // This one is numbers by nature.
    if let Some(response) = value["response"].as_object_mut() {
        response.remove("publicKeyAlgorithm");
    }
    encode(&mut value);
    value.to_string()
}

fn site() -> Passkeys {
    let settings = PasskeySettings {
        rp_id: "example.com".into(),
        rp_name: "Example".into(),
        origins: vec![ORIGIN.into()],
    };
    Passkeys::new(&settings).unwrap()
}

fn factors(place: &Place) -> Factors {
    let world: Arc<dyn World> = place.world.clone();
    Factors::new(place.store.clone(), world)
}

async fn enrol(place: &Place, user: &str, mut device: Device) -> Device {
    let factors = factors(place);
    let (options, pending) = factors.begin_passkey(&site(), user).await.unwrap();
    let made = device.register(ORIGIN, &options).await;
    factors.finish_passkey(&site(), pending, "laptop", &made).await.unwrap();
    device
}

/// A store with `ada` and `bob`, and the checker that asks for passkeys.
async fn place() -> (Place, Accounts) {
    let place = Place::new().await;
    place.add("ada", &[&hash(RECIPE, "countess")], |new| new.labels.push("secret".into())).await;
    place.add("bob", &[&hash(RECIPE, "builder!")], |_| {}).await;
    let accounts = on(&place, place.store.clone());
    (place, accounts)
}

fn on(place: &Place, store: Store) -> Accounts {
    let world: Arc<dyn World> = place.world.clone();
    Accounts::new("accounts", store, pool(), world, RECIPE).unwrap().with_passkeys(site())
}

async fn alone<'a>(place: &'a Place, accounts: &Accounts) -> Talk<'a> {
    Talk::with(accounts, "passkey", anybody(), &place.world).await
}

fn challenge(reply: &Reply) -> String {
    let round = &reply.asked().round;
    let question = round.question("assertion").unwrap();
    assert_eq!(question.kind, CredentialKind::Assertion);
    let Some(Challenge::Json(text)) = &question.challenge else { panic!("{question:?}") };
    text.clone()
}

fn assertion(text: impl Into<String>) -> Answers {
    Answers::new().with("assertion", text.into())
}

#[track_caller]
fn wrong(reply: &Reply, part: &str) {
    let denial = reply.denied();
    assert_eq!(denial.reason, Reason::WrongCredential, "{denial}");
    assert!(denial.detail.contains(part), "{denial}");
}

#[tokio::test]
async fn alone_it_is_complete() {
    let (place, accounts) = place().await;
    let mut device = enrol(&place, "ada", Device::new()).await;
    let mut talk = alone(&place, &accounts).await;
    let asked = challenge(&talk.reply);
    let options: Value = serde_json::from_str(&asked).unwrap();
    assert_eq!(options["userVerification"], "required");
    assert_eq!(options["allowCredentials"], json!([]));
    let signed = device.sign(ORIGIN, &asked).await;
    let reply = talk.say(assertion(signed)).await.unwrap();
    let who = reply.granted();
    assert_eq!(who.subject.name(), Some("ada"));
    assert!(who.is_complete() && who.labels.contains("secret"));
}

#[tokio::test]
async fn beside_a_password_it_is_one_factor() {
    let (place, accounts) = place().await;
    let mut device = enrol(&place, "ada", Device::that_counts()).await;
    for _ in 0..3 {
        let mut talk = Talk::after("ada", &accounts, "passkey", &place.world).await;
        let asked = challenge(&talk.reply);
        let options: Value = serde_json::from_str(&asked).unwrap();
        assert_eq!(options["allowCredentials"].as_array().unwrap().len(), 1);
        let signed = device.sign(ORIGIN, &asked).await;
        let reply = talk.say(assertion(signed)).await.unwrap();
        let who = reply.granted();
        assert_eq!(who.subject.name(), Some("ada"));
        // What it proves is a name: the rest is the first factor's to say.
        assert!(!who.is_complete() && who.labels.is_empty());
    }
    let talk = Talk::after("bob", &accounts, "passkey", &place.world).await;
    assert_eq!(talk.reply.denied().reason, Reason::NotEnrolled);
    let talk = Talk::after("nobody", &accounts, "passkey", &place.world).await;
    assert_eq!(talk.reply.denied().reason, Reason::NotEnrolled);
}

#[tokio::test]
async fn what_is_asked_for_at_enrolment() {
    let (place, _) = place().await;
    let factors = factors(&place);
    let (options, _) = factors.begin_passkey(&site(), "ada").await.unwrap();
    let options: Value = serde_json::from_str(&options).unwrap();
    let selection = &options["authenticatorSelection"];
    assert_eq!(selection["residentKey"], "required");
    assert_eq!(selection["requireResidentKey"], true);
    assert_eq!(selection["userVerification"], "required");
    // The handle says nothing about its user, and is the same for the next passkey.
    let handle = options["user"]["id"].clone();
    let device = enrol(&place, "ada", Device::new()).await;
    let stored = device.passkey.unwrap();
    let (options, _) = factors.begin_passkey(&site(), "ada").await.unwrap();
    let options: Value = serde_json::from_str(&options).unwrap();
    assert_eq!(options["excludeCredentials"].as_array().unwrap().len(), 1);
    let again = options["user"]["id"].clone();
    assert_ne!(again, handle);
    let known = stored.user_handle.unwrap();
    let known = URL_SAFE_NO_PAD.encode(&known[..]);
    assert_eq!(again, Value::from(known));
}

#[tokio::test]
async fn enrolment_is_for_one_challenge_site_and_time() {
    let (place, _) = place().await;
    let factors = factors(&place);
    let site = site();
    let begin = || factors.begin_passkey(&site, "ada");
    let finish = async |pending, made: &str| {
        factors.finish_passkey(&site, pending, "", made).await.map_err(|e| e.to_string())
    };
    let (options, pending) = begin().await.unwrap();
    let made = Device::new().register("https://evil.example.com", &options).await;
    assert!(finish(pending, &made).await.is_err());
    let (options, _) = begin().await.unwrap();
    let made = Device::new().register(ORIGIN, &options).await;
    let (_, other) = begin().await.unwrap();
    assert!(finish(other, &made).await.is_err());
    let (options, pending) = begin().await.unwrap();
    let made = Device::new().register(ORIGIN, &options).await;
    place.world.advance_ms(5 * 60 * 1000 + 1);
    assert!(finish(pending, &made).await.unwrap_err().contains("too long"));
    let (options, pending) = begin().await.unwrap();
    let mut device = Device::new();
    let made = device.register(ORIGIN, &options).await;
    finish(pending, &made).await.unwrap();
    for garbage in ["", "{}", "null"] {
        let (_, pending) = begin().await.unwrap();
        assert!(finish(pending, garbage).await.is_err());
    }
    assert_eq!(factors.list("ada").await.unwrap().len(), 1);
}

/// A page elsewhere, at a name below the same one, that shows our challenge to our user.
#[tokio::test]
async fn another_origin_is_refused() {
    let (place, accounts) = place().await;
    let mut device = enrol(&place, "ada", Device::new()).await;
    for origin in ["https://evil.example.com", "https://login.example.com:8443"] {
        let mut talk = alone(&place, &accounts).await;
        let signed = device.sign(origin, &challenge(&talk.reply)).await;
        wrong(talk.say(assertion(signed)).await.unwrap(), "origin");
    }
}

#[tokio::test]
async fn an_answer_is_for_its_own_challenge() {
    let (place, accounts) = place().await;
    let mut device = enrol(&place, "ada", Device::new()).await;
    let mut talk = alone(&place, &accounts).await;
    let signed = device.sign(ORIGIN, &challenge(&talk.reply)).await;
    talk.say(assertion(signed.clone())).await.unwrap().granted();
    let mut again = alone(&place, &accounts).await;
    wrong(again.say(assertion(signed.clone())).await.unwrap(), "challenge");
    let mut second = Talk::after("ada", &accounts, "passkey", &place.world).await;
    wrong(second.say(assertion(signed)).await.unwrap(), "challenge");
}

/// The signature is over all of it.
#[tokio::test]
async fn a_changed_answer_is_refused() {
    let (place, accounts) = place().await;
    let mut device = enrol(&place, "ada", Device::new()).await;
    for field in ["signature", "authenticatorData", "clientDataJSON", "userHandle"] {
        let mut talk = alone(&place, &accounts).await;
        let signed = device.sign(ORIGIN, &challenge(&talk.reply)).await;
        let mut signed: Value = serde_json::from_str(&signed).unwrap();
        let text = signed["response"][field].as_str().unwrap();
        let last = text.len() - 3;
        let other = if text.as_bytes()[last] == b'A' { "B" } else { "A" };
        let changed = format!("{}{other}{}", &text[..last], &text[last + 1..]);
        signed["response"][field] = changed.into();
        let reply = talk.say(assertion(signed.to_string())).await.unwrap().clone();
        assert!(matches!(reply, Reply::Denied(_)), "{field}");
    }
}

#[tokio::test]
async fn without_user_verification_it_is_refused() {
    let (place, accounts) = place().await;
    let mut device = enrol(&place, "ada", Device::new()).await;
    for second in [false, true] {
        let mut talk = match second {
            false => alone(&place, &accounts).await,
            true => Talk::after("ada", &accounts, "passkey", &place.world).await,
        };
        // Whoever holds the key changes what it is asked.
        let mut options: Value = serde_json::from_str(&challenge(&talk.reply)).unwrap();
        options["userVerification"] = "discouraged".into();
        let signed = device.sign(ORIGIN, &options.to_string()).await;
        let reply = talk.say(assertion(signed)).await.unwrap().clone();
        assert_eq!(reply.denied().reason, Reason::WrongCredential, "{reply:?}");
    }
}

/// A counter that does not move on is a copy of the key, or a repetition.
#[tokio::test]
async fn a_counter_that_goes_back_is_refused() {
    let (place, accounts) = place().await;
    let mut device = enrol(&place, "ada", Device::that_counts()).await;
    let copied = device.passkey.clone();
    for _ in 0..2 {
        let mut talk = alone(&place, &accounts).await;
        let signed = device.sign(ORIGIN, &challenge(&talk.reply)).await;
        talk.say(assertion(signed)).await.unwrap().granted();
    }
    let mut copy = Device { passkey: copied, counts: true };
    let mut talk = alone(&place, &accounts).await;
    let signed = copy.sign(ORIGIN, &challenge(&talk.reply)).await;
    wrong(talk.say(assertion(signed)).await.unwrap(), "counter has not moved on");
    // One that no longer counts at all is no better.
    let mut silent = Device { passkey: device.passkey.clone(), counts: false };
    silent.passkey.as_mut().unwrap().counter = None;
    let mut talk = alone(&place, &accounts).await;
    let signed = silent.sign(ORIGIN, &challenge(&talk.reply)).await;
    wrong(talk.say(assertion(signed)).await.unwrap(), "counter has not moved on");
    let mut talk = alone(&place, &accounts).await;
    let signed = device.sign(ORIGIN, &challenge(&talk.reply)).await;
    talk.say(assertion(signed)).await.unwrap().granted();
}

/// On another node, and after a restart.
#[tokio::test]
async fn the_counter_is_shared() {
    let (place, accounts) = place().await;
    let mut device = enrol(&place, "ada", Device::that_counts()).await;
    let copied = device.passkey.clone();
    let path = place.folder.path().join("accounts.db");
    let other = Store::open(&path, OpenOptions::create().deadline(DEADLINE)).await.unwrap();
    let other = on(&place, other);
    let mut talk = alone(&place, &accounts).await;
    let signed = device.sign(ORIGIN, &challenge(&talk.reply)).await;
    talk.say(assertion(signed)).await.unwrap().granted();
    let mut copy = Device { passkey: copied, counts: true };
    let mut talk = alone(&place, &other).await;
    let signed = copy.sign(ORIGIN, &challenge(&talk.reply)).await;
    wrong(talk.say(assertion(signed)).await.unwrap(), "counter has not moved on");
}

#[tokio::test]
async fn another_users_passkey_is_refused() {
    let (place, accounts) = place().await;
    let mut ada = enrol(&place, "ada", Device::new()).await;
    let mut bob = enrol(&place, "bob", Device::new()).await;
    // After a name, only that user's; whatever the browser was told.
    let mut talk = Talk::after("ada", &accounts, "passkey", &place.world).await;
    let mut options: Value = serde_json::from_str(&challenge(&talk.reply)).unwrap();
    options["allowCredentials"] = json!([]);
    let signed = bob.sign(ORIGIN, &options.to_string()).await;
    wrong(talk.say(assertion(signed)).await.unwrap(), "another account");
    // Alone, what it says about itself is its own.
    let mut talk = alone(&place, &accounts).await;
    let asked = challenge(&talk.reply);
    let hers: Value = serde_json::from_str(&ada.sign(ORIGIN, &asked).await).unwrap();
    let mut his: Value = serde_json::from_str(&bob.sign(ORIGIN, &asked).await).unwrap();
    his["response"]["userHandle"] = hers["response"]["userHandle"].clone();
    wrong(talk.say(assertion(his.to_string())).await.unwrap(), "another user's");
    // Her id with his signature.
    let mut talk = alone(&place, &accounts).await;
    let asked = challenge(&talk.reply);
    let mut mixed: Value = serde_json::from_str(&ada.sign(ORIGIN, &asked).await).unwrap();
    let his: Value = serde_json::from_str(&bob.sign(ORIGIN, &asked).await).unwrap();
    mixed["response"]["signature"] = his["response"]["signature"].clone();
    wrong(talk.say(assertion(mixed.to_string())).await.unwrap(), "");
    // One that nobody has.
    let mut stranger = Device::new();
    let (options, _) = factors(&place).begin_passkey(&site(), "bob").await.unwrap();
    let mut options: Value = serde_json::from_str(&options).unwrap();
    options["excludeCredentials"] = json!([]);
    stranger.register(ORIGIN, &options.to_string()).await;
    let mut talk = alone(&place, &accounts).await;
    let signed = stranger.sign(ORIGIN, &challenge(&talk.reply)).await;
    let denial = talk.say(assertion(signed)).await.unwrap().denied().clone();
    assert_eq!(denial.reason, Reason::UnknownUser);
}

#[tokio::test]
async fn a_name_that_was_claimed_is_kept_to() {
    let (place, accounts) = place().await;
    let mut device = enrol(&place, "ada", Device::new()).await;
    for (claimed, right) in [("ada", true), ("bob", false)] {
        let peer = anybody();
        let scene = Scene { claimed: Some(claimed), ..Scene::of(&peer, &*place.world) };
        let mut exchange = accounts.begin("passkey", &scene).unwrap();
        let Step::Ask(round) = exchange.step(Answers::new(), &scene).await.unwrap() else {
            panic!("not asked");
        };
        let Some(Challenge::Json(asked)) = &round.questions[0].challenge else { panic!("none") };
        let signed = device.sign(ORIGIN, asked).await;
        let step = exchange.step(assertion(signed), &scene).await.unwrap();
        assert_eq!(matches!(step, Step::Grant(_)), right, "{step:?}");
    }
}

#[tokio::test]
async fn the_account_has_the_last_word() {
    let yes = Some(true);
    for (update, reason) in [
        (AccountUpdate { enabled: Some(false), ..AccountUpdate::default() }, Reason::Disabled),
        (AccountUpdate { must_change: yes, ..AccountUpdate::default() }, Reason::ChangeNeeded),
        (
            AccountUpdate { driver: Some(Some("ldap".into())), ..AccountUpdate::default() },
            Reason::NotAllowed,
        ),
    ] {
        let (place, accounts) = place().await;
        let mut device = enrol(&place, "ada", Device::new()).await;
        let mut talk = alone(&place, &accounts).await;
        place.store.update_account("ada", &update).await.unwrap();
        let signed = device.sign(ORIGIN, &challenge(&talk.reply)).await;
        let denial = talk.say(assertion(signed)).await.unwrap().denied().clone();
        assert_eq!((denial.reason, denial.claimed.as_deref()), (reason, Some("ada")));
    }
    let (place, accounts) = place().await;
    let mut device = enrol(&place, "ada", Device::new()).await;
    let mut talk = alone(&place, &accounts).await;
    factors(&place).reset("ada", Some(&CredentialType::Passkey)).await.unwrap();
    let signed = device.sign(ORIGIN, &challenge(&talk.reply)).await;
    let reply = talk.say(assertion(signed)).await.unwrap();
    assert_eq!(reply.denied().reason, Reason::UnknownUser);
}

#[tokio::test]
async fn garbage_is_malformed_and_a_store_that_is_gone_a_fault() {
    let (place, accounts) = place().await;
    let mut device = enrol(&place, "ada", Device::new()).await;
    for garbage in ["x", "{}", "null", "{\"id\":\"\"}"] {
        let mut talk = alone(&place, &accounts).await;
        let denial = talk.say(assertion(garbage)).await.unwrap().denied().clone();
        assert_eq!(denial.reason, Reason::Malformed, "{garbage}");
    }
    let mut talk = alone(&place, &accounts).await;
    let declined = Answers::new().with("assertion", Answer::Declined);
    assert_eq!(talk.say(declined).await.unwrap().denied().reason, Reason::Declined);
    let mut talk = alone(&place, &accounts).await;
    let signed = device.sign(ORIGIN, &challenge(&talk.reply)).await;
    place.store.close().await;
    assert!(talk.say(assertion(signed)).await.is_err());
}

/// One round in which either is answered; what a peer cannot answer is left out.
#[tokio::test]
async fn side_by_side_with_a_code() {
    let (place, accounts) = place().await;
    let mut device = enrol(&place, "ada", Device::new()).await;
    let codes = factors(&place).new_recovery_codes("ada").await.unwrap();
    let begin = |peer: &Peer| {
        let scene = Scene::of(peer, &*place.world);
        let parts =
            ["otp", "passkey"].map(|name| (name.into(), accounts.begin(name, &scene).unwrap()));
        let exchange = BoxExchange::new(Alternatives::new(parts));
        BoxExchange::new(After { exchange, proven: vec![Verified::vouch(Identity::named("ada"))] })
    };
    let mut talk = Talk::over(begin(&anybody()), anybody(), &place.world).await;
    let round = Arc::clone(&talk.reply.asked().round);
    let groups: Vec<_> = round.groups.iter().map(|group| &*group.id).collect();
    assert_eq!(groups, ["otp", "passkey"]);
    let code = codes[0].to_str().unwrap();
    let reply = talk.say(Answers::new().with("otp", code.to_owned())).await.unwrap();
    assert_eq!(reply.granted().subject.name(), Some("ada"));

    let mut talk = Talk::over(begin(&anybody()), anybody(), &place.world).await;
    let signed = device.sign(ORIGIN, &challenge(&talk.reply)).await;
    let reply = talk.say(assertion(signed)).await.unwrap();
    assert_eq!(reply.granted().subject.name(), Some("ada"));

    let only_codes = Peer::new("ssh", KindSet::none().with(CredentialKind::Otp));
    let talk = Talk::over(begin(&only_codes), only_codes.clone(), &place.world).await;
    assert!(talk.reply.asked().round.question("assertion").is_none());
}

/// A first round of a password or a passkey, as a login page shows it.
#[tokio::test]
async fn side_by_side_with_a_password() {
    let (place, accounts) = place().await;
    let mut device = enrol(&place, "ada", Device::new()).await;
    let portal = countersign::Portal::new(()).checked_by(accounts);
    let world = &*place.world;
    let begin = async || {
        let peer = Peer::new("web", KindSet::all());
        portal.begin(countersign::Request::from_peer(peer.into()), world).await.unwrap()
    };
    let (mut conversation, reply) = begin().await;
    // `otp` is no way to begin, and leaves no trace.
    assert!(reply.asked().round.question("otp").is_none());
    let signed = device.sign(ORIGIN, &challenge(&reply)).await;
    let reply = conversation.answer(1, assertion(signed), world).await.unwrap();
    assert!(reply.granted().is_complete());
    let (mut conversation, _) = begin().await;
    let reply = conversation.answer(1, login("ada", "countess"), world).await.unwrap();
    assert!(!reply.granted().is_complete());
}

#[tokio::test]
async fn conforms() {
    let (place, accounts) = place().await;
    let device = enrol(&place, "ada", Device::new()).await;
    let (passkey, locked) = (device.passkey, enrol(&place, "bob", Device::new()).await.passkey);
    let off = AccountUpdate { enabled: Some(false), ..AccountUpdate::default() };
    place.store.update_account("bob", &off).await.unwrap();
    let attempt = |passkey: Option<Passkey>, origin: &'static str| {
        Attempt::computed(move || {
            let mut device = Device { passkey: passkey.clone(), counts: false };
            move |round: &Round| {
                let question = round.question("assertion").unwrap();
                let Some(Challenge::Json(asked)) = &question.challenge else { panic!("none") };
                // The device waits for nothing.
                let signed = countersign::testing::now_or_never(device.sign(origin, asked));
                assertion(signed.unwrap())
            }
        })
    };
    let mut stranger = Device::new();
    let (options, _) = factors(&place).begin_passkey(&site(), "ada").await.unwrap();
    let mut options: Value = serde_json::from_str(&options).unwrap();
    options["excludeCredentials"] = json!([]);
    stranger.register(ORIGIN, &options.to_string()).await;
    let fixture = Fixture::new()
        .with(
            Proof::of("passkey", "ada", attempt(passkey.clone(), ORIGIN))
                .wrong(attempt(passkey, "https://evil.example.com"))
                .unknown(attempt(stranger.passkey, ORIGIN))
                .disabled(attempt(locked, ORIGIN)),
        )
        .leaving_out("password")
        .leaving_out("EXTERNAL")
        .leaving_out("otp")
        .in_world(place.world.clone());
    let run = conforms_async(&accounts, &fixture);
    let report = tokio::time::timeout(DEADLINE, run).await.unwrap();
    assert!(report.is_clean(), "{report}");
}
