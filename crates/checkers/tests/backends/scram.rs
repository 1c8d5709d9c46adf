//! Keys of passwords of accounts, and logins by them.

use std::time::Instant;

use countersign::{Answers, Challenge, Checker, CredentialKind, KindSet, Peer, Reason, Reply};
use countersign_checkers::accounts::KeptKeys;
use countersign_sasl::ScramHash;
use countersign_store::{AccountUpdate, CredentialType};

use crate::stage::{DEADLINE, End, NOW, Place, RECIPE, Talk, hash, login};

const KEPT: u32 = 4096;

async fn place() -> Place {
    let mut place = Place::new().await;
    let kept = KeptKeys { hashes: vec![ScramHash::Sha256], iterations: KEPT };
    place.accounts = place.accounts.keeping(kept);
    place.add("ada", &[&hash(RECIPE, "countess")], |_| {}).await;
    place
}

async fn keys(place: &Place, user: &str) -> Vec<String> {
    // As a login sees them.
    let account = place.store.account(user).await.unwrap().unwrap();
    let keys = account.credentials_of(&CredentialType::Scram);
    keys.map(|keys| keys.data.to_str().unwrap().to_owned()).collect()
}

/// Waits for what happens beside a login.
async fn until_kept(place: &Place, user: &str, before: &[String]) -> Vec<String> {
    let begun = Instant::now();
    loop {
        let now = keys(place, user).await;
        if now != before {
            return now;
        }
        assert!(begun.elapsed() < DEADLINE, "no keys are kept");
        tokio::task::yield_now().await;
    }
}

fn token(message: impl AsRef<[u8]>) -> Answers {
    Answers::new().with("token", countersign::Secret::from(message.as_ref()))
}

/// What a client is told after its first message, and the end of it with that password.
async fn scram(place: &Place, user: &str, password: &str) -> (String, Reply) {
    use rsasl::prelude::{Mechname, SASLClient, SASLConfig, State};
    let peer = Peer::new("imap", KindSet::none().with(CredentialKind::Token));
    let mut talk = Talk::with(&place.accounts, "SCRAM-SHA-256", peer, &place.world).await;
    let config = SASLConfig::with_credentials(None, user.into(), password.into()).unwrap();
    let name = Mechname::parse(b"SCRAM-SHA-256").unwrap();
    let mut client = SASLClient::new(config).start_suggested(&[name]).unwrap();
    let (mut input, mut told) = (None, String::new());
    loop {
        let mut message = Vec::new();
        let state = client.step(input.as_deref(), &mut message).unwrap();
        let reply = talk.say(token(&message)).await.unwrap().clone();
        let Reply::Ask(ask) = &reply else { return (told, reply) };
        let Some(Challenge::Bytes(challenge)) = &ask.round.questions[0].challenge else {
            panic!("{ask:?}")
        };
        assert!(matches!(state, State::Running));
        if told.is_empty() {
            let text = String::from_utf8(challenge.clone()).unwrap();
            told = text[text.find(",s=").unwrap()..].to_owned();
        }
        input = Some(challenge.clone());
    }
}

#[tokio::test]
async fn a_login_by_password_makes_keys_and_then_they_are_good() {
    let place = place().await;
    let (_, reply) = scram(&place, "ada", "countess").await;
    let denial = reply.denied();
    assert_eq!(denial.reason, Reason::WrongCredential);
    assert!(denial.detail.contains("no keys"), "{denial}");

    place.login("ada", "countess").await.0.unwrap().granted();
    let kept = until_kept(&place, "ada", &[]).await;
    assert!(matches!(&kept[..], [one] if one.starts_with("SCRAM-SHA-256$4096:")), "{kept:?}");
    let (told, reply) = scram(&place, "ada", "countess").await;
    assert_eq!(reply.granted().subject.name(), Some("ada"));
    assert!(told.ends_with(",i=4096"));
    let (again, reply) = scram(&place, "ada", "wrong").await;
    assert_eq!(reply.denied().reason, Reason::WrongCredential);
    assert_eq!(told, again);
    // What is there already is left alone.
    place.login("ada", "countess").await.0.unwrap().granted();
    assert_eq!(keys(&place, "ada").await, kept);
}

#[tokio::test]
async fn who_does_not_exist_looks_the_same() {
    let place = place().await;
    place.login("ada", "countess").await.0.unwrap().granted();
    until_kept(&place, "ada", &[]).await;
    let (real, _) = scram(&place, "ada", "x").await;
    let (one, reply) = scram(&place, "nobody", "countess").await;
    assert_eq!(reply.denied().reason, Reason::UnknownUser);
    assert_eq!(one, scram(&place, "nobody", "countess").await.0);
    assert_eq!((one.len(), &one[one.len() - 7..]), (real.len(), ",i=4096"));
    assert_ne!(one, scram(&place, "nobody2", "x").await.0);
}

#[tokio::test]
async fn keys_are_worth_what_their_password_is() {
    let place = place().await;
    place.login("ada", "countess").await.0.unwrap().granted();
    let kept = until_kept(&place, "ada", &[]).await;
    let reason = |reply: Reply| reply.denied().reason;

    let disabled = AccountUpdate { enabled: Some(false), ..AccountUpdate::default() };
    place.store.update_account("ada", &disabled).await.unwrap();
    assert_eq!(reason(scram(&place, "ada", "countess").await.1), Reason::Disabled);
    assert_eq!(reason(scram(&place, "ada", "x").await.1), Reason::WrongCredential);
    let change =
        AccountUpdate { enabled: Some(true), must_change: Some(true), ..AccountUpdate::default() };
    place.store.update_account("ada", &change).await.unwrap();
    assert_eq!(reason(scram(&place, "ada", "countess").await.1), Reason::ChangeNeeded);

    // The change of a password takes the keys of the old one away, and makes others.
    let mut talk =
        Talk::with(&place.accounts, "password", crate::stage::anybody(), &place.world).await;
    talk.say(login("ada", "countess")).await.unwrap().asked();
    talk.say(Answers::new().with("new-password", "lovelace!")).await.unwrap().granted();
    let account = place.store.read_account("ada").await.unwrap().unwrap();
    assert!(
        !account
            .credentials
            .iter()
            .any(|c| kept.iter().any(|k| c.data == countersign::Secret::from(&**k)))
    );
    until_kept(&place, "ada", &[]).await;
    scram(&place, "ada", "lovelace!").await.1.granted();
    assert_eq!(reason(scram(&place, "ada", "countess").await.1), Reason::WrongCredential);

    // Without the password they are nothing.
    let none = CredentialType::Password;
    place.store.set_credentials("ada", &none, &[], NOW).await.unwrap();
    assert_eq!(reason(scram(&place, "ada", "lovelace!").await.1), Reason::WrongCredential);
}

#[tokio::test]
async fn what_is_not_kept_is_not_offered() {
    let place = Place::new().await;
    assert!(!place.accounts.mechanisms().iter().any(|m| m.name.starts_with("SCRAM")));
    let place = self::place().await;
    let names: Vec<_> = place.accounts.mechanisms().iter().map(|m| &*m.name).collect();
    assert!(names.contains(&"SCRAM-SHA-256-PLUS") && !names.contains(&"SCRAM-SHA-1"), "{names:?}");
}
