//! The `accounts` checker: who gets in, and who does not.

use countersign::{Answers, Checker, FaultKind, Public, Reason, Reply, Scene, Secret};
use countersign_checkers::accounts::Accounts;
use countersign_checkers::hash::Recipe;
use countersign_store::{AccountUpdate, CredentialType, Group, NewCredential};
use countersign_testkit::{Fixture, Proof, conforms_async};

use crate::stage::{
    DEADLINE, End, NOW, Place, RECIPE, Talk, anybody, hash, login, password, pool_with_room_for,
};

#[tokio::test]
async fn conforms() {
    let place = Place::new().await;
    let right = hash(RECIPE, "countess");
    place.add("ada", &[&right], |_| {}).await;
    place.add("locked", &[&right], |new| new.enabled = false).await;
    let token = |text: &str| Answers::new().with("token", text.to_owned());
    let mut peer = anybody();
    peer.more.external = Some("ada".into());
    let fixture = Fixture::new()
        .with(
            Proof::of("password", "ada", login("ada", "countess"))
                .wrong(login("ada", "babbage"))
                .unknown(login("nobody", "countess"))
                .disabled(login("locked", "countess")),
        )
        .with(Proof::of("EXTERNAL", "ada", token("")).wrong(token("eve")))
        // Beside another proof only: see `otp.rs`.
        .leaving_out("otp")
        .from_peer(peer)
        .in_world(place.world.clone());
    let run = conforms_async(&place.accounts, &fixture);
    let report = tokio::time::timeout(DEADLINE, run).await.unwrap();
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn who_gets_in_and_what_it_costs() {
    let place = Place::new().await;
    let (one, two) = (hash(RECIPE, "one"), hash(RECIPE, "two"));
    let expired = |hash: &str| NewCredential { expires: Some(NOW), ..password(hash) };
    place.add("ada", &[&one], |_| {}).await;
    place.add("two", &[&one, &two], |_| {}).await;
    place.add("disabled", &[&one], |new| new.enabled = false).await;
    place.add("expired", &[&one], |new| new.expires = Some(NOW)).await;
    place.add("expires", &[&one], |new| new.expires = Some(NOW + 1)).await;
    place.add("none", &[], |_| {}).await;
    place.add("old", &[], |new| new.credentials.push(expired(&one))).await;
    let old_and_new = |new: &mut countersign_store::NewAccount| new.credentials.push(expired(&two));
    place.add("both", &[&one], old_and_new).await;
    let app = NewCredential::new(CredentialType::AppPassword, Secret::from(&*one));
    place.add("app", &[], |new| new.credentials.push(app)).await;
    place.add("ldap", &[&one], |new| new.driver = Some("ldap".into())).await;
    let scoped = |scope: &str| NewCredential { scope: Some(scope.to_owned()), ..password(&one) };
    place.add("here", &[], |new| new.credentials.push(scoped("smtp imap"))).await;
    place.add("there", &[], |new| new.credentials.push(scoped("smtp imaps"))).await;
    place.add("nowhere", &[], |new| new.credentials.push(scoped(""))).await;

    for (user, password, outcome, hashes) in [
        ("ada", "one", Ok(()), 1),
        ("ada", "two", Err(Reason::WrongCredential), 1),
        ("ada", "", Err(Reason::WrongCredential), 1),
        ("nobody", "one", Err(Reason::UnknownUser), 1),
        ("Ada", "one", Err(Reason::UnknownUser), 1),
        ("ada ", "one", Err(Reason::UnknownUser), 1),
        ("two", "one", Ok(()), 1),
        ("two", "two", Ok(()), 2),
        ("two", "three", Err(Reason::WrongCredential), 2),
        // Whether the password is right shows in the record, and in nothing else.
        ("disabled", "one", Err(Reason::Disabled), 1),
        ("disabled", "two", Err(Reason::WrongCredential), 1),
        ("expired", "one", Err(Reason::Expired), 1),
        ("expires", "one", Ok(()), 1),
        ("none", "", Err(Reason::WrongCredential), 1),
        ("old", "one", Err(Reason::WrongCredential), 1),
        ("both", "one", Ok(()), 1),
        ("both", "two", Err(Reason::WrongCredential), 1),
        ("app", "one", Err(Reason::WrongCredential), 1),
        // Unknown here, so that the driver is asked.
        ("ldap", "one", Err(Reason::UnknownUser), 1),
        ("here", "one", Ok(()), 1),
        ("there", "one", Err(Reason::WrongCredential), 1),
        ("nowhere", "one", Err(Reason::WrongCredential), 1),
    ] {
        let (said, computed) = place.login(user, password).await;
        let said = said.unwrap();
        match outcome {
            Ok(()) => assert_eq!(said.granted().subject.name(), Some(user)),
            Err(reason) => {
                place.expect_denied(&said, reason, user);
                assert_eq!(said.denied().public(), Public::Denied);
            }
        }
        assert_eq!(computed, hashes, "{user} {password}");
    }
    assert_eq!(place.pool.waiting(), 0);
}

#[tokio::test]
async fn the_identity_is_the_account() {
    let place = Place::new().await;
    let group = Group { name: "staff".into(), gid: Some(7), description: String::new() };
    place.store.add_group(&group).await.unwrap();
    place
        .add("ada", &[&hash(RECIPE, "one")], |new| {
            new.groups.push(("staff".into(), true));
            new.labels.push("secret".into());
            new.attributes.insert("mail".into(), vec!["a@x".into(), "b@x".into()]);
        })
        .await;
    let (said, _) = place.login("ada", "one").await;
    let said = said.unwrap();
    let who = said.granted();
    assert_eq!(who.groups.iter().collect::<Vec<_>>(), [(&"staff".to_owned(), &true)]);
    assert!(who.labels.contains("secret") && who.labels.len() == 1);
    assert_eq!(who.attributes["mail"], ["a@x", "b@x"]);
}

#[tokio::test]
async fn a_change_counts_at_the_next_login() {
    let place = Place::new().await;
    place.add("ada", &[&hash(RECIPE, "one")], |_| {}).await;
    place.login("ada", "one").await.0.unwrap().granted();
    let off = AccountUpdate { enabled: Some(false), ..AccountUpdate::default() };
    place.store.update_account("ada", &off).await.unwrap();
    let said = place.login("ada", "one").await.0.unwrap();
    place.expect_denied(&said, Reason::Disabled, "ada");
    place.store.remove_account("ada", NOW).await.unwrap();
    let said = place.login("ada", "one").await.0.unwrap();
    place.expect_denied(&said, Reason::UnknownUser, "ada");
}

#[tokio::test]
async fn a_stored_hash_that_cannot_be_read_is_a_fault() {
    let place = Place::new().await;
    let right = hash(RECIPE, "one");
    let clear = "{PLAIN}one";
    for (user, hashes) in [
        ("garbage", &["garbage"][..]),
        ("star", &["*"]),
        ("clear", &[clear]),
        ("costly", &["$2b$31$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"]),
        ("second", &["{SHA257}x", &right]),
    ] {
        place.add(user, hashes, |_| {}).await;
        let fault = place.login(user, "one").await.0.unwrap_err();
        assert_eq!((fault.kind(), fault.public()), (FaultKind::Internal, Public::TryLater));
        let text = fault.to_string();
        assert!(text.contains(&format!("of `{user}` cannot be read; set it anew")), "{text}");
        assert!(!text.contains("PLAIN}one"), "{text}");
    }
}

#[tokio::test]
async fn a_full_pool_is_no_pass_and_no_refusal() {
    let place = Place::with(pool_with_room_for(0), RECIPE).await;
    place.add("ada", &[&hash(RECIPE, "one")], |_| {}).await;
    place.add("none", &[], |_| {}).await;
    for (user, password) in [("ada", "one"), ("ada", "two"), ("nobody", "one"), ("none", "one")] {
        let fault = place.login(user, password).await.0.unwrap_err();
        assert_eq!((fault.kind(), fault.public()), (FaultKind::Overloaded, Public::TryLater));
    }
    place.pool.close();
    let fault = place.login("ada", "one").await.0.unwrap_err();
    assert_eq!(fault.kind(), FaultKind::Unavailable);
}

#[tokio::test]
async fn a_store_that_is_away_is_a_fault() {
    let place = Place::new().await;
    place.add("ada", &[&hash(RECIPE, "one")], |_| {}).await;
    place.store.close().await;
    for user in ["ada", "nobody"] {
        let fault = place.login(user, "one").await.0.unwrap_err();
        assert_eq!(fault.kind(), FaultKind::Unavailable, "{fault}");
    }
}

/// Also one whose hashes nobody would read again.
#[tokio::test]
async fn a_recipe_that_cannot_work_is_refused_at_once() {
    let place = Place::new().await;
    for (recipe, part) in [
        (Recipe::Argon2id { memory_kib: 1, passes: 1, lanes: 1 }, "at least 8"),
        (Recipe::Argon2id { memory_kib: 4 << 20, passes: 1, lanes: 1 }, "above the limit"),
        (Recipe::Bcrypt { cost: 3 }, "4 to 31"),
        (Recipe::Bcrypt { cost: 20 }, "above the limit"),
    ] {
        let (store, pool) = (place.store.clone(), place.pool.clone());
        let made = Accounts::new("accounts", store, pool, place.world.clone(), recipe);
        let fault = made.unwrap_err();
        assert_eq!(fault.kind(), FaultKind::Internal);
        assert!(fault.to_string().contains(part), "{fault}");
    }
}

#[tokio::test]
async fn external_finds_accounts_that_may_be_used() {
    let place = Place::new().await;
    place.add("ada", &[], |_| {}).await;
    // It is the password that must be changed, and none was used.
    place.add("change", &[], |new| new.must_change = true).await;
    place.add("disabled", &[], |new| new.enabled = false).await;
    place.add("expired", &[], |new| new.expires = Some(NOW)).await;
    for (external, token, outcome) in [
        (Some("ada"), "", Ok("ada")),
        (Some("ada"), "ada", Ok("ada")),
        (Some("change"), "", Ok("change")),
        (Some("ada"), "change", Err(Reason::NotAllowed)),
        (Some("disabled"), "", Err(Reason::Disabled)),
        (Some("expired"), "", Err(Reason::Expired)),
        (Some("nobody"), "", Err(Reason::UnknownUser)),
        (Some(""), "", Err(Reason::Malformed)),
        (None, "ada", Err(Reason::NotAllowed)),
        (None, "", Err(Reason::NotAllowed)),
    ] {
        let mut peer = anybody();
        peer.more.external = external.map(Into::into);
        let mut talk = Talk::with(&place.accounts, "external", peer, &place.world).await;
        let said = talk.say(Answers::new().with("token", token)).await.unwrap();
        match outcome {
            Ok(user) => assert_eq!(said.granted().subject.name(), Some(user)),
            Err(reason) => assert_eq!(said.denied().reason, reason, "{external:?} {token}"),
        }
    }
}

#[tokio::test]
async fn other_mechanisms_are_not_offered() {
    let place = Place::new().await;
    let (peer, world) = (anybody(), &*place.world);
    let scene = Scene::of(&peer, world);
    for mechanism in ["PLAIN", "", "passwor"] {
        assert!(place.accounts.begin(mechanism, &scene).is_err());
    }
    assert_eq!(format!("{:?}", place.accounts), r#"Accounts { name: "accounts", .. }"#);
}

/// An old hash is replaced beside the login, by one of today's recipe; a hash of today's stays.
#[tokio::test]
async fn an_old_hash_is_replaced_after_a_right_password() {
    let place = Place::new().await;
    let old = hash(Recipe::Sha512Crypt { rounds: 1000 }, "one");
    place.add("ada", &[&old], |_| {}).await;
    let mut changes = place.store.changes();
    let said = place.login("ada", "two").await.0.unwrap();
    place.expect_denied(&said, Reason::WrongCredential, "ada");
    assert!(changes.try_recv().is_err(), "a wrong password changes nothing");

    place.login("ada", "one").await.0.unwrap().granted();
    tokio::time::timeout(DEADLINE, changes.recv()).await.unwrap().unwrap();
    let ada = place.store.account("ada").await.unwrap().unwrap();
    let [credential] = &ada.credentials[..] else { panic!("{ada:?}") };
    assert!(credential.data.to_str().unwrap().starts_with("{ARGON2ID}$argon2id$v=19$m=8,t=1,p=1$"));
    assert!(!ada.must_change);
    let said = place.login("ada", "two").await.0.unwrap();
    place.expect_denied(&said, Reason::WrongCredential, "ada");
    let (said, computed) = place.login("ada", "one").await;
    said.unwrap().granted();
    assert_eq!(computed, 1, "nothing is left to replace");
    assert!(matches!(changes.try_recv(), Err(tokio::sync::broadcast::error::TryRecvError::Empty)));
}

/// Nobody answers for the person.
#[tokio::test]
async fn a_declined_password_is_none() {
    let place = Place::new().await;
    place.add("ada", &[&hash(RECIPE, "")], |_| {}).await;
    let mut talk = Talk::with(&place.accounts, "password", anybody(), &place.world).await;
    let declined =
        Answers::new().with("username", "ada").with("password", countersign::Answer::Declined);
    match talk.say(declined).await.unwrap() {
        Reply::Denied(denial) => assert_eq!(denial.reason, Reason::Declined),
        other => panic!("{other:?}"),
    }
}
