//! Users, credentials, groups, labels and attributes.

mod common;

use common::*;
use countersign::Secret;
use countersign_store::*;

async fn an_account_comes_back_whole(place: Place) {
    let store = place.open().await;
    store.add_group(&group("staff", Some(100))).await.unwrap();
    store.add_group(&group("mail", None)).await.unwrap();
    let mut new = user("alice@example.org");
    new.enabled = false;
    new.expires = Some(NOW + 5);
    new.must_change = true;
    new.driver = Some("ldap".into());
    new.groups = vec![("staff".into(), true), ("mail".into(), false)];
    new.labels = vec!["secret".into(), "eu".into()];
    new.attributes.insert("home".into(), vec!["/z".into(), "/a".into()]);
    new.attributes.insert("uid".into(), vec!["1000".into()]);
    new.attributes.insert("empty".into(), vec![]);
    let key = NewCredential {
        kind: CredentialType::Other("yubikey".into()),
        label: "blue".into(),
        data: Secret::from(&[0, 255, 1][..]),
        scope: Some("imap smtp".into()),
        lookup: Some("fp:1".into()),
        expires: Some(9),
        counter: 7,
    };
    new.credentials.push(key);
    let revision = store.add_account(&new, NOW).await.unwrap();

    let got = store.account("alice@example.org").await.unwrap().unwrap();
    assert_eq!(Some(&*got), store.read_account("alice@example.org").await.unwrap().as_ref());
    assert_eq!((got.enabled, got.expires, got.must_change), (false, Some(NOW + 5), true));
    assert_eq!(got.driver.as_deref(), Some("ldap"));
    assert_eq!(got.revision, revision);
    let membership = |group: &str, gid, admin| Membership { group: group.into(), gid, admin };
    assert_eq!(got.groups, [membership("mail", None, false), membership("staff", Some(100), true)]);
    assert_eq!(got.labels, ["eu", "secret"]);
    assert_eq!(got.attributes["home"], ["/z", "/a"]);
    assert_eq!(got.attributes.keys().collect::<Vec<_>>(), ["home", "uid"]);
    let [first, second] = &got.credentials[..] else { panic!("{got:?}") };
    assert_eq!((first.kind.as_str(), &first.data), ("password", &Secret::from("$first$")));
    assert_eq!(first.created, NOW);
    assert_eq!(second.data.expose(), [0, 255, 1]);
    assert_eq!(second.kind, CredentialType::Other("yubikey".into()));
    assert_eq!(second.scope.as_deref(), Some("imap smtp"));
    assert_eq!((second.expires, second.counter), (Some(9), 7));
    assert_eq!(store.find_by_lookup(&second.kind, "fp:1").await.unwrap(), ["alice@example.org"]);
    assert!(store.find_by_lookup(&CredentialType::SshKey, "fp:1").await.unwrap().is_empty());
}

async fn names_are_exact_and_unique(place: Place) {
    let store = place.open().await;
    add(&store, &["alice", "Alice"]).await;
    let again = store.add_account(&user("alice"), NOW).await.unwrap_err();
    assert_eq!(again.to_string(), "there is already a user `alice`");
    assert!(store.account("ALICE").await.unwrap().is_none());
    assert!(matches!(store.add_account(&user("a\tb"), NOW).await, Err(StoreError::Invalid { .. })));
    assert!(store.account("a\tb").await.unwrap().is_none());
    assert!(store.account(&"x".repeat(10_000)).await.unwrap().is_none());
    let none = store.remove_account("bob", NOW).await.unwrap_err();
    assert_eq!(none.to_string(), "there is no user `bob`");
}

async fn many_or_none(place: Place) {
    let store = place.open().await;
    let before = store.revision();
    let refused = store.add_accounts(&[user("a"), user("b"), user("a")], NOW).await;
    assert!(matches!(refused, Err(StoreError::Exists { .. })));
    assert_eq!(store.count_accounts().await.unwrap(), 0);
    assert_eq!(store.revision(), before, "a refused change takes no revision");
    let many: Vec<_> = (0..100).map(|n| user(&format!("u{n}"))).collect();
    assert_eq!(store.add_accounts(&many, NOW).await.unwrap(), before + 1);
    assert_eq!(store.count_accounts().await.unwrap(), 100);
}

async fn fields_are_set_one_by_one(place: Place) {
    let store = place.open().await;
    add(&store, &["alice"]).await;
    let update =
        AccountUpdate { enabled: Some(false), expires: Some(Some(7)), ..Default::default() };
    let first = store.update_account("alice", &update).await.unwrap();
    let update = AccountUpdate {
        expires: Some(None),
        driver: Some(Some("x509".into())),
        ..Default::default()
    };
    let second = store.update_account("alice", &update).await.unwrap();
    assert_eq!(second, first + 1);
    let alice = store.account("alice").await.unwrap().unwrap();
    assert_eq!((alice.enabled, alice.expires, alice.must_change), (false, None, false));
    assert_eq!(alice.driver.as_deref(), Some("x509"));
    assert_eq!(alice.revision, second);
    let update = AccountUpdate { driver: Some(Some("a b\n".into())), ..Default::default() };
    assert!(store.update_account("alice", &update).await.is_err());
}

async fn rename_and_remove_take_everything_along(place: Place) {
    let store = place.open().await;
    add(&store, &["alice", "bob"]).await;
    store.add_group(&group("staff", None)).await.unwrap();
    store.add_member("staff", "alice", true).await.unwrap();
    assert!(store.account("carol").await.unwrap().is_none());
    let id = store.account("alice").await.unwrap().unwrap().id;
    assert!(store.rename_account("alice", "bob").await.is_err());
    store.rename_account("alice", "carol").await.unwrap();
    assert!(store.account("alice").await.unwrap().is_none());
    let carol = store.account("carol").await.unwrap().unwrap();
    assert_eq!((carol.id, carol.groups.len(), carol.credentials.len()), (id, 1, 1));

    store.remove_account("carol", NOW).await.unwrap();
    assert!(store.account("carol").await.unwrap().is_none());
    for table in ["credentials", "memberships"] {
        let sql = format!("SELECT COUNT(*) FROM {table} WHERE account = {id}");
        assert_eq!(place.number(&sql).await, 0, "{table}");
    }
    // The id of a removed account is never given again.
    add(&store, &["carol"]).await;
    assert!(store.account("carol").await.unwrap().unwrap().id > id);
}

async fn pages_by_prefix(place: Place) {
    let store = place.open().await;
    add(&store, &["b", "a1", "a10", "a2", "aé", "a\u{10ffff}\u{10ffff}", "A", "ab%_"]).await;
    let names = async |page: Page| -> Vec<String> {
        store.accounts(&page).await.unwrap().into_iter().map(|a| a.name).collect()
    };
    let all = ["A", "a1", "a10", "a2", "ab%_", "aé", "a\u{10ffff}\u{10ffff}", "b"];
    assert_eq!(names(Page::default()).await, all);
    let prefix = |prefix: &str| Page { prefix: prefix.into(), ..Page::default() };
    assert_eq!(names(prefix("a")).await, all[1..7]);
    assert_eq!(names(prefix("a1")).await, ["a1", "a10"]);
    assert_eq!(names(prefix("%")).await, Vec::<String>::new());
    let mut page = Page { limit: 3, ..prefix("a") };
    let first = names(page.clone()).await;
    page.after = first.last().cloned();
    let second = names(page).await;
    assert_eq!([first, second].concat(), all[1..7]);
}

async fn a_password_replaces_what_was_made_of_the_old_one(place: Place) {
    let store = place.open().await;
    add(&store, &["alice"]).await;
    for kind in [CredentialType::Scram, CredentialType::Totp] {
        let new = NewCredential::new(kind, Secret::from("k"));
        store.add_credential("alice", &new, NOW).await.unwrap();
    }
    store.set_password("alice", &Secret::from("$second$"), true, NOW + 1).await.unwrap();
    let alice = store.account("alice").await.unwrap().unwrap();
    let mut kinds: Vec<_> = alice.credentials.iter().map(|c| c.kind.as_str()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["password", "totp"]);
    let password = alice.credentials_of(&CredentialType::Password).next().unwrap();
    assert_eq!((&password.data, password.created), (&Secret::from("$second$"), NOW + 1));
    assert!(alice.must_change);
    assert!(store.set_password("alice", &Secret::from(""), false, NOW).await.is_err());
    // By the holder: only as long as nothing else about the account has changed.
    let seen = store.read_account("alice").await.unwrap().unwrap().revision;
    assert!(store.change_password("alice", seen, &Secret::from("$third$"), NOW).await.unwrap());
    assert!(!store.change_password("alice", seen, &Secret::from("$fourth$"), NOW).await.unwrap());
    assert!(!store.change_password("nobody", seen, &Secret::from("$fourth$"), NOW).await.unwrap());
    let alice = store.read_account("alice").await.unwrap().unwrap();
    let passwords: Vec<_> = alice.credentials_of(&CredentialType::Password).collect();
    assert!(matches!(passwords.as_slice(), [only] if only.data == Secret::from("$third$")));
    assert!(!alice.must_change);
    assert!(store.set_password("bob", &Secret::from("x"), false, NOW).await.is_err());
}

async fn what_is_made_of_a_password_is_kept_beside_that_very_one(place: Place) {
    let store = place.open().await;
    add(&store, &["alice"]).await;
    let (first, second) = (Secret::from("$first$"), Secret::from("$second$"));
    store.set_password("alice", &first, false, NOW).await.unwrap();
    let keys = |text: &str| [NewCredential::new(CredentialType::Scram, Secret::from(text))];
    let derive = async |of: &Secret, text: &str| {
        let kind = CredentialType::Scram;
        store.derive_credentials("alice", of, &kind, &keys(text), NOW).await.unwrap()
    };
    let kept = async || {
        let alice = store.read_account("alice").await.unwrap().unwrap();
        let kept = alice.credentials_of(&CredentialType::Scram);
        kept.map(|c| c.data.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(derive(&first, "a").await && derive(&first, "b").await);
    assert_eq!(kept().await, ["b"], "in the place of what was there");
    // Somebody has set another password while the keys were made.
    store.set_password("alice", &second, false, NOW).await.unwrap();
    assert!(!derive(&first, "c").await);
    assert_eq!(kept().await, Vec::<String>::new());
    assert!(derive(&second, "d").await);
    let kind = CredentialType::Scram;
    let nobody = store.derive_credentials("nobody", &second, &kind, &keys("e"), NOW).await;
    assert!(!nobody.unwrap());
}

async fn sets_of_one_kind(place: Place) {
    let store = place.open().await;
    add(&store, &["alice"]).await;
    let codes = |n: usize| -> Vec<_> {
        (0..n)
            .map(|n| NewCredential::new(CredentialType::Recovery, Secret::from(format!("c{n}"))))
            .collect()
    };
    store.set_credentials("alice", &CredentialType::Recovery, &codes(8), NOW).await.unwrap();
    store.set_credentials("alice", &CredentialType::Recovery, &codes(3), NOW).await.unwrap();
    let alice = store.account("alice").await.unwrap().unwrap();
    assert_eq!(alice.credentials.len(), 4);
    let mixed = [password("x")];
    assert!(store.set_credentials("alice", &CredentialType::Recovery, &mixed, NOW).await.is_err());
    let many = codes(limits::CREDENTIALS);
    let refused = store.set_credentials("alice", &CredentialType::Recovery, &many, NOW).await;
    assert!(matches!(refused, Err(StoreError::TooMany { .. })));
    let same = store.read_account("alice").await.unwrap().unwrap();
    assert_eq!(same, *alice, "a refused change changes nothing");

    // Two logins with one recovery code.
    let code = alice.credentials_of(&CredentialType::Recovery).next().unwrap().id;
    let (a, b) = tokio::join!(store.consume_credential(code), store.consume_credential(code));
    assert_ne!(a.unwrap(), b.unwrap());
    store.remove_credential("alice", alice.credentials[0].id).await.unwrap();
    assert!(store.remove_credential("alice", alice.credentials[0].id).await.is_err());
    assert_eq!(store.account("alice").await.unwrap().unwrap().credentials.len(), 2);
}

async fn nobody_removes_somebody_elses_credential(place: Place) {
    let store = place.open().await;
    add(&store, &["alice", "bob"]).await;
    let id = store.account("alice").await.unwrap().unwrap().credentials[0].id;
    assert!(matches!(
        store.remove_credential("bob", id).await,
        Err(StoreError::NotFound { what: "credential", .. })
    ));
}

async fn a_better_hash_never_undoes_a_new_password(place: Place) {
    let store = place.open().await;
    add(&store, &["alice"]).await;
    let old = store.account("alice").await.unwrap().unwrap().credentials[0].clone();
    let better = Secret::from("$better$");
    assert!(store.replace_credential_data(old.id, &old.data, &better).await.unwrap());
    assert_eq!(store.account("alice").await.unwrap().unwrap().credentials[0].data, better);
    assert!(!store.replace_credential_data(old.id, &old.data, &better).await.unwrap());
    assert!(!store.replace_credential_data(999, &better, &better).await.unwrap());
    let binary = Secret::from(&[0, 1, 255][..]);
    assert!(store.replace_credential_data(old.id, &better, &binary).await.unwrap());
    assert!(store.replace_credential_data(old.id, &binary, &better).await.unwrap());
}

async fn a_code_works_once_on_two_nodes(place: Place) {
    let (here, there) = (place.open().await, place.open().await);
    add(&here, &["alice"]).await;
    let new =
        NewCredential { counter: 100, ..NewCredential::new(CredentialType::Totp, "k".into()) };
    let id = here.add_credential("alice", &new, NOW).await.unwrap();
    assert!(!here.advance_counter(id, 100, NOW).await.unwrap());
    for step in 101..120 {
        let (a, b) =
            tokio::join!(here.advance_counter(id, step, NOW), there.advance_counter(id, step, NOW));
        assert_ne!(a.unwrap(), b.unwrap(), "step {step}");
        assert!(!there.advance_counter(id, step - 1, NOW).await.unwrap());
    }
    there.refresh().await.unwrap();
    let alice = there.account("alice").await.unwrap().unwrap();
    assert_eq!((alice.credentials[1].counter, alice.credentials[1].last_used), (119, Some(NOW)));
    assert!(!here.advance_counter(9999, 1, NOW).await.unwrap());
}

async fn uses_are_recorded_beside_the_copy(place: Place) {
    let store = place.open().await;
    add(&store, &["alice"]).await;
    let alice = store.account("alice").await.unwrap().unwrap();
    let revision = store.revision();
    let id = alice.credentials[0].id;
    store.record_use(&[(id, NOW + 9), (id, NOW + 3), (12345, NOW)]).await.unwrap();
    assert!(!store.watch().await.unwrap());
    assert_eq!(store.revision(), revision);
    let fresh = store.read_account("alice").await.unwrap().unwrap();
    assert_eq!(fresh.credentials[0].last_used, Some(NOW + 9));
}

async fn groups_have_numbers_members_and_administrators(place: Place) {
    let store = place.open().await;
    add(&store, &["alice", "bob"]).await;
    store.add_group(&group("staff", Some(100))).await.unwrap();
    let taken = store.add_group(&group("mail", Some(100))).await.unwrap_err();
    assert_eq!(taken.to_string(), "there is already a group with the number `100`");
    assert!(store.add_group(&group("staff", None)).await.is_err());
    assert!(store.add_group(&group("a,b", None)).await.is_err());
    store.add_group(&group("mail", Some(u32::MAX))).await.unwrap();

    store.add_member("staff", "alice", false).await.unwrap();
    store.add_member("staff", "bob", true).await.unwrap();
    store.add_member("staff", "alice", true).await.unwrap();
    let members = store.members("staff", &Page::default()).await.unwrap();
    assert_eq!(members, [("alice".to_owned(), true), ("bob".to_owned(), true)]);
    assert_eq!(store.group_by_gid(u32::MAX).await.unwrap().unwrap().name, "mail");
    assert_eq!(store.groups(&Page::default()).await.unwrap().len(), 2);

    // A group's number is part of its members' accounts.
    assert_eq!(store.account("alice").await.unwrap().unwrap().groups[0].gid, Some(100));
    store.update_group(&group("staff", Some(101))).await.unwrap();
    assert!(store.update_group(&group("staff", Some(u32::MAX))).await.is_err());
    let alice = store.account("alice").await.unwrap().unwrap();
    assert_eq!(alice.groups[0].gid, Some(101));
    assert_eq!(alice.revision, store.revision());

    store.remove_member("staff", "alice").await.unwrap();
    assert!(store.remove_member("staff", "alice").await.is_err());
    assert!(store.account("alice").await.unwrap().unwrap().groups.is_empty());
    store.remove_group("staff").await.unwrap();
    assert!(store.account("bob").await.unwrap().unwrap().groups.is_empty());
    assert!(store.group("staff").await.unwrap().is_none());
    assert!(store.add_member("staff", "bob", false).await.is_err());
}

async fn labels_and_attributes(place: Place) {
    let store = place.open().await;
    add(&store, &["alice"]).await;
    store.add_label("alice", "secret").await.unwrap();
    store.add_label("alice", "secret").await.unwrap();
    let values = ["2".to_owned(), "1".to_owned()];
    store.set_attribute("alice", "uid", &["0".to_owned()]).await.unwrap();
    store.set_attribute("alice", "uid", &values).await.unwrap();
    let alice = store.account("alice").await.unwrap().unwrap();
    assert_eq!(alice.labels, ["secret"]);
    assert_eq!(alice.attributes["uid"], values);
    store.remove_label("alice", "secret").await.unwrap();
    assert!(store.remove_label("alice", "secret").await.is_err());
    store.unset_attribute("alice", "uid").await.unwrap();
    let alice = store.account("alice").await.unwrap().unwrap();
    assert!(alice.labels.is_empty() && alice.attributes.is_empty());
    let many = vec![String::new(); limits::VALUES + 1];
    assert!(matches!(
        store.set_attribute("alice", "x", &many).await,
        Err(StoreError::TooMany { .. })
    ));
}

on_both![
    an_account_comes_back_whole,
    names_are_exact_and_unique,
    many_or_none,
    fields_are_set_one_by_one,
    rename_and_remove_take_everything_along,
    pages_by_prefix,
    a_password_replaces_what_was_made_of_the_old_one,
    what_is_made_of_a_password_is_kept_beside_that_very_one,
    sets_of_one_kind,
    nobody_removes_somebody_elses_credential,
    a_better_hash_never_undoes_a_new_password,
    a_code_works_once_on_two_nodes,
    uses_are_recorded_beside_the_copy,
    groups_have_numbers_members_and_administrators,
    labels_and_attributes,
];
