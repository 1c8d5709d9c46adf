//! Passwords that must be changed.

use countersign::{
    Answers, Carrier, Checker, CredentialKind, FaultKind, KindSet, Peer, Public, Reason, Reply,
    Scene, Secret,
};
use countersign_checkers::accounts::password_rules;
use countersign_checkers::hash::Recipe;
use countersign_sasl::{Login, Plain};
use countersign_store::{AccountUpdate, CredentialType, NewCredential};

use crate::stage::{End, NOW, Place, RECIPE, Talk, anybody, hash, login, pool};

async fn place() -> Place {
    let place = Place::new().await;
    place.add("ada", &[&hash(RECIPE, "countess")], |new| new.must_change = true).await;
    place
}

/// At the round for the new password.
async fn asked(place: &Place) -> Talk<'_> {
    let mut talk = Talk::with(&place.accounts, "password", anybody(), &place.world).await;
    let ask = talk.say(login("ada", "countess")).await.unwrap().asked();
    let kinds: Vec<_> = ask.round.questions.iter().map(|q| q.kind.clone()).collect();
    assert_eq!(kinds, [CredentialKind::NewPassphrase]);
    assert!(ask.round.feedback.is_none() && !ask.round.notices.is_empty());
    talk
}

fn new(password: &str) -> Answers {
    Answers::new().with("new-password", password.to_owned())
}

fn feedback(reply: &Reply) -> String {
    let round = &reply.asked().round;
    let feedback = round.feedback.as_ref().expect("why it is asked again");
    assert_eq!(feedback.question.as_deref(), Some("new-password"));
    feedback.text.to_string()
}

#[tokio::test]
async fn a_good_one_is_set_and_lets_in() {
    let place = place().await;
    let spare = NewCredential::new(CredentialType::Password, Secret::from(&*hash(RECIPE, "spare")));
    place.store.add_credential("ada", &spare, NOW).await.unwrap();
    let keys = NewCredential::new(CredentialType::Scram, Secret::from("of the old one"));
    place.store.add_credential("ada", &keys, NOW).await.unwrap();

    let mut talk = asked(&place).await;
    let who = talk.say(new("lovelace!")).await.unwrap();
    assert_eq!(who.granted().subject.name(), Some("ada"));
    let ada = place.store.account("ada").await.unwrap().unwrap();
    assert!(!ada.must_change);
    let [credential] = &ada.credentials[..] else { panic!("{ada:?}") };
    assert!(credential.data.to_str().unwrap().starts_with("{ARGON2ID}"));
    for (password, right) in
        [("lovelace!", true), ("countess", false), ("spare", false), ("lovelace", false)]
    {
        let said = place.login("ada", password).await.0.unwrap();
        assert_eq!(matches!(said, Reply::Granted(_)), right, "{password}");
    }
}

#[tokio::test]
async fn weak_ones_are_told_why_and_not_for_ever() {
    let place = place().await;
    let mut talk = asked(&place).await;
    assert!(feedback(talk.say(new("short")).await.unwrap()).contains("at least 8"));
    assert!(feedback(talk.say(new("countess")).await.unwrap()).contains("the old one"));
    let end = talk.say(new("Short")).await.unwrap().denied();
    assert_eq!((end.reason, end.public()), (Reason::TooMany, Public::TryLater));
    let ada = place.store.account("ada").await.unwrap().unwrap();
    assert!(ada.must_change);
    // The second time is early enough.
    let mut talk = asked(&place).await;
    feedback(talk.say(new("")).await.unwrap());
    talk.say(new("lovelace!")).await.unwrap().granted();
}

#[test]
fn the_rules_are_length_and_no_more() {
    let rule = |user: &str, password: &str| {
        password_rules(user, &Secret::from(password))
            .err()
            .and_then(|text| text.id().map(str::to_owned))
    };
    assert_eq!(rule("ada", "1234567").as_deref(), Some("password.too-short"));
    assert_eq!(rule("ada", "12345678"), None);
    // Characters, not bytes.
    assert_eq!(rule("ada", "äöüäöüä").as_deref(), Some("password.too-short"));
    assert_eq!(rule("ada", "äöüäöüäö"), None);
    assert_eq!(rule("ada@example.org", "ADA@Example.org").as_deref(), Some("password.user-name"));
    assert_eq!(rule("ada", &"x".repeat(4096)), None);
    assert_eq!(rule("ada", &"x".repeat(4097)).as_deref(), Some("password.too-long"));
}

/// What the scheme cannot hold is the person's to change, not a fault at every try.
#[tokio::test]
async fn one_that_the_scheme_cannot_hold_is_told_so() {
    let bcrypt = Recipe::Bcrypt { cost: 4 };
    let place = Place::with(pool(), bcrypt).await;
    place.add("ada", &[&hash(bcrypt, "countess")], |new| new.must_change = true).await;
    let mut talk = asked(&place).await;
    assert!(feedback(talk.say(new(&"x".repeat(73))).await.unwrap()).contains("72"));
    talk.say(new(&"x".repeat(72))).await.unwrap().granted();
}

#[tokio::test]
async fn nothing_and_declined_set_nothing() {
    let place = place().await;
    let mut talk = asked(&place).await;
    let declined = Answers::new().with("new-password", countersign::Answer::Declined);
    let reason = talk.say(declined).await.unwrap().denied().reason;
    assert_eq!(reason, Reason::Declined);
    assert!(place.store.account("ada").await.unwrap().unwrap().must_change);
    place.login("ada", "countess").await.0.unwrap().asked();
}

/// Whatever is said about the account while a person thinks is newer than what the person proved.
#[tokio::test]
async fn a_change_while_it_is_awaited_refuses() {
    let off = AccountUpdate { enabled: Some(false), ..AccountUpdate::default() };
    let other = Secret::from(&*hash(RECIPE, "by an administrator"));
    for change in ["disabled", "password", "removed", "made anew", "label", "driver"] {
        let place = place().await;
        let mut talk = asked(&place).await;
        let store = &place.store;
        match change {
            "disabled" => drop(store.update_account("ada", &off).await.unwrap()),
            "password" => drop(store.set_password("ada", &other, true, NOW).await.unwrap()),
            "removed" => drop(store.remove_account("ada", NOW).await.unwrap()),
            "made anew" => {
                store.remove_account("ada", NOW).await.unwrap();
                place.add("ada", &[other.to_str().unwrap()], |_| {}).await;
            }
            "driver" => {
                let driver = Some(Some("ldap".to_owned()));
                let update = AccountUpdate { driver, ..AccountUpdate::default() };
                store.update_account("ada", &update).await.unwrap();
            }
            _ => drop(store.add_label("ada", "eu").await.unwrap()),
        }
        let before = store.read_account("ada").await.unwrap();
        let denial = talk.say(new("lovelace!")).await.unwrap().denied();
        assert_eq!(denial.reason, Reason::WrongCredential, "{change}");
        assert!(denial.detail.contains("was changed during this login"), "{denial}");
        assert_eq!(denial.claimed.as_deref(), Some("ada"));
        assert_eq!(store.read_account("ada").await.unwrap(), before, "{change}");
    }
}

#[tokio::test]
async fn an_account_that_expires_while_it_is_awaited_refuses() {
    let place = Place::new().await;
    let soon = |new: &mut countersign_store::NewAccount| {
        new.must_change = true;
        new.expires = Some(NOW + 60);
    };
    place.add("ada", &[&hash(RECIPE, "countess")], soon).await;
    let mut talk = asked(&place).await;
    place.world.advance_ms(60_000);
    assert_eq!(talk.say(new("lovelace!")).await.unwrap().denied().reason, Reason::Expired);
    assert!(place.store.account("ada").await.unwrap().unwrap().must_change);
}

#[tokio::test]
async fn a_pool_that_has_gone_sets_nothing() {
    let place = place().await;
    let mut talk = asked(&place).await;
    place.pool.close();
    let fault = talk.say(new("lovelace!")).await.unwrap_err();
    assert_eq!(fault.kind(), FaultKind::Unavailable);
    let ada = place.store.account("ada").await.unwrap().unwrap();
    assert!(ada.must_change);
}

#[tokio::test]
async fn who_cannot_be_asked_is_told_that_a_change_is_needed() {
    let place = place().await;
    let kinds = KindSet::none().with(CredentialKind::AuthName).with(CredentialKind::Passphrase);
    for (password, reason) in
        [("countess", Reason::ChangeNeeded), ("babbage", Reason::WrongCredential)]
    {
        let peer = Peer::new("imap", kinds.clone());
        let mut talk = Talk::with(&place.accounts, "password", peer, &place.world).await;
        let denial = talk.say(login("ada", password)).await.unwrap().denied();
        assert_eq!((denial.reason, denial.claimed.as_deref()), (reason, Some("ada")));
    }
}

/// PLAIN and LOGIN carry a name and a password and nothing else, whatever the peer could answer.
#[tokio::test]
async fn through_sasl_a_change_is_needed() {
    let place = place().await;
    place.add("bob", &[&hash(RECIPE, "builder!")], |_| {}).await;
    let token = |text: &str| Answers::new().with("token", text.to_owned());
    let only_tokens = KindSet::none().with(CredentialKind::Token);
    for supports in [only_tokens, KindSet::all()] {
        let peer = Peer::new("imap", supports);
        let inner = || {
            let world = &*place.world;
            let scene = Scene::of(&peer, world);
            place.accounts.begin("password", &scene).unwrap()
        };
        let begin = |exchange| Talk::over(exchange, peer.clone(), &place.world);
        let mut plain = begin(Plain.carry(inner())).await;
        let denial = plain.say(token("\0ada\0countess")).await.unwrap().denied();
        assert_eq!((denial.reason, denial.public()), (Reason::ChangeNeeded, Public::ChangeNeeded));
        assert_eq!(denial.claimed.as_deref(), Some("ada"));
        let mut wrong = begin(Plain.carry(inner())).await;
        let denial = wrong.say(token("\0ada\0babbage")).await.unwrap().denied();
        assert_eq!(denial.reason, Reason::WrongCredential);
        let mut right = begin(Plain.carry(inner())).await;
        right.say(token("\0bob\0builder!")).await.unwrap().granted();
        let mut steps = begin(Login.carry(inner())).await;
        steps.say(token("ada")).await.unwrap().asked();
        let denial = steps.say(token("countess")).await.unwrap().denied();
        assert_eq!(denial.reason, Reason::ChangeNeeded);
    }
    assert!(place.store.account("ada").await.unwrap().unwrap().must_change);
}
