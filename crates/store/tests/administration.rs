//! What administrators do: several things at once, nobody locked out, nobody who slips through.

mod common;

use common::*;
use countersign::Secret;
use countersign_store::*;

fn session(hash: &str, subject: &str) -> SessionRecord {
    SessionRecord {
        hash: hash.into(),
        subject: subject.into(),
        service: "web".into(),
        peer: "192.0.2.1".into(),
        data: "{}".into(),
        created: NOW,
        last_seen: NOW,
        expires: NOW + 1000,
    }
}

async fn many_things_at_once_or_none(place: Place) {
    let store = place.open().await;
    add(&store, &["alice"]).await;
    store.add_group(&group("staff", None)).await.unwrap();
    store.add_member("staff", "alice", false).await.unwrap();
    for kind in [CredentialType::Recovery, CredentialType::Recovery, CredentialType::Totp] {
        let credential = NewCredential::new(kind, "x".into());
        store.add_credential("alice", &credential, NOW).await.unwrap();
    }
    store.create_session(&session("s1", "alice"), 9, store.revision()).await.unwrap();
    let mut wanted = AccountChange {
        fields: AccountUpdate { must_change: Some(true), ..Default::default() },
        password: Some(Secret::from("$second$")),
        remove_credentials: vec![CredentialType::Recovery, CredentialType::Passkey],
        groups: vec![("mail".into(), true), ("web".into(), false)],
        create_groups: true,
        remove_groups: vec!["staff".into()],
        labels: vec!["eu".into()],
        attributes: [("uid".to_owned(), vec!["7".to_owned()])].into(),
        remove_labels: vec!["none".into()],
        ..Default::default()
    };
    let before = (store.revision(), store.read_account("alice").await.unwrap());
    let refused = store.change_account("alice", &wanted, NOW).await.unwrap_err();
    assert!(matches!(refused, StoreError::NotFound { what: "label", .. }), "{refused}");
    assert!(!store.watch().await.unwrap());
    assert_eq!((store.revision(), store.read_account("alice").await.unwrap()), before);
    assert_eq!(store.groups(&Page::default()).await.unwrap().len(), 1);
    assert!(store.session("s1", NOW).await.unwrap().is_some());

    wanted.remove_labels.clear();
    let done = store.change_account("alice", &wanted, NOW).await.unwrap();
    assert_eq!(done.created_groups, ["mail", "web"]);
    assert_eq!((done.revision, done.ended_sessions), (before.0 + 1, 1));
    let alice = store.account("alice").await.unwrap().unwrap();
    assert!(alice.credentials.iter().any(|c| c.data == Secret::from("$second$")));
    let kinds: Vec<_> = alice.credentials.iter().map(|c| c.kind.clone()).collect();
    assert_eq!(kinds.len(), 2);
    assert!(kinds.contains(&CredentialType::Password) && kinds.contains(&CredentialType::Totp));
    let removed = [(CredentialType::Recovery, 2), (CredentialType::Passkey, 0)];
    assert_eq!(done.removed_credentials, removed);
    assert!(alice.must_change);
    let groups: Vec<_> = alice.groups.iter().map(|g| (g.group.as_str(), g.admin)).collect();
    assert_eq!(groups, [("mail", true), ("web", false)]);
    assert_eq!(
        (&alice.labels[..], &alice.attributes["uid"][..]),
        (&["eu".into()][..], &["7".into()][..])
    );
    assert_eq!(store.session("s1", NOW).await.unwrap(), None);
    let nobody = store.change_account("nobody", &wanted, NOW).await.unwrap_err();
    assert!(matches!(nobody, StoreError::NotFound { what: "user", .. }));
    let missing = AccountChange { groups: vec![("new".into(), false)], ..Default::default() };
    assert!(store.change_account("alice", &missing, NOW).await.is_err());
}

async fn a_login_that_a_reset_overtakes_gets_no_session(place: Place) {
    let (here, there) = (place.open().await, place.open().await);
    add(&here, &["alice"]).await;
    there.refresh().await.unwrap();
    let began = there.revision();
    // Things that happen to an account all day, and mean no login.
    let id = here.account("alice").await.unwrap().unwrap().credentials[0].id;
    here.replace_credential_data(id, &"$first$".into(), &"$better$".into()).await.unwrap();
    here.advance_counter(id, 5, NOW).await.unwrap();
    here.record_use(&[(id, NOW)]).await.unwrap();
    here.add_label("alice", "x").await.unwrap();
    there.create_session(&session("s1", "alice"), 9, began).await.unwrap();

    let reset = AccountChange { password: Some("$reset$".into()), ..Default::default() };
    let disable = AccountChange {
        fields: AccountUpdate { enabled: Some(false), ..Default::default() },
        ..Default::default()
    };
    let expire = AccountChange {
        fields: AccountUpdate { expires: Some(Some(NOW)), ..Default::default() },
        ..Default::default()
    };
    for (n, change) in [reset, disable, expire].into_iter().enumerate() {
        there.refresh().await.unwrap();
        let began = there.revision();
        here.change_account("alice", &change, NOW).await.unwrap();
        let hash = format!("r{n}");
        let late = there.create_session(&session(&hash, "alice"), 9, began).await.unwrap_err();
        assert!(matches!(late, StoreError::Overtaken { .. }), "{late}");
        assert_eq!(there.session(&hash, NOW).await.unwrap(), None);
        there.create_session(&session(&hash, "alice"), 9, here.revision()).await.unwrap();
    }
    // Also when the account is gone, or was never one of ours.
    for subject in ["alice", "uid=bob,dc=example"] {
        let began = here.revision();
        match subject {
            "alice" => drop(here.remove_account("alice", NOW).await.unwrap()),
            other => assert_eq!(here.end_sessions_of(other).await.unwrap(), 0),
        }
        let late = here.create_session(&session("late", subject), 9, began).await;
        assert!(matches!(late, Err(StoreError::Overtaken { .. })), "{subject}");
    }
}

/// The holder's own change: by a session that is there, which stays.
async fn a_change_by_a_session_keeps_it_and_needs_it(place: Place) {
    let store = place.open().await;
    add(&store, &["alice", "bob"]).await;
    let stays = async |hash: &str| store.session(hash, NOW).await.unwrap().is_some();
    for (hash, subject) in [("mine", "alice"), ("other", "alice"), ("bobs", "bob")] {
        store.create_session(&session(hash, subject), 9, i64::MAX).await.unwrap();
    }
    let began = store.revision();
    let change = |hash: &str| AccountChange {
        password: Some("$new$".into()),
        by_session: Some(hash.to_owned()),
        ..Default::default()
    };
    let done = store.change_account("alice", &change("mine"), NOW).await.unwrap();
    assert_eq!(done.ended_sessions, 1);
    assert!(stays("mine").await && !stays("other").await && stays("bobs").await);
    let late = store.create_session(&session("late", "alice"), 9, began).await;
    assert!(matches!(late, Err(StoreError::Overtaken { .. })), "{late:?}");

    // One that has ended, and somebody else's.
    let before = store.account("alice").await.unwrap().unwrap();
    for hash in ["other", "bobs", ""] {
        let refused = store.change_account("alice", &change(hash), NOW).await;
        assert!(matches!(refused, Err(StoreError::Overtaken { .. })), "{refused:?}");
        let refused = store.end_other_sessions_of("alice", hash, NOW).await;
        assert!(matches!(refused, Err(StoreError::Overtaken { .. })), "{refused:?}");
    }
    assert_eq!(store.account("alice").await.unwrap().unwrap(), before);
    assert!(stays("mine").await);
    store.create_session(&session("more", "alice"), 9, i64::MAX).await.unwrap();
    assert_eq!(store.end_other_sessions_of("alice", "mine", NOW).await.unwrap(), 1);
    assert!(stays("mine").await && !stays("more").await);
    // A password that had to be changed at a login ends all: that login's session is still to come.
    let seen = store.read_account("alice").await.unwrap().unwrap().revision;
    assert!(store.change_password("alice", seen, &"$third$".into(), NOW).await.unwrap());
    assert!(!stays("mine").await && stays("bobs").await);
}

/// Logins on two nodes, resets on two nodes: whatever the order, no session of before a reset outlives it.
async fn no_session_slips_past_a_reset(place: Place) {
    let nodes = [place.open().await, place.open().await];
    add(&nodes[0], &["alice"]).await;
    for round in 0..40 {
        let began = nodes[0].refresh().await.unwrap();
        let logins: Vec<_> = (0..4)
            .map(|n| {
                let store = nodes[n % 2].clone();
                let session = session(&format!("r{round}n{n}"), "alice");
                // A small limit, so that sessions end each other as well.
                tokio::spawn(async move { store.create_session(&session, 2, began).await })
            })
            .collect();
        nodes[round % 2].end_sessions_of("alice").await.unwrap();
        for login in logins {
            match login.await.unwrap() {
                Ok(()) | Err(StoreError::Overtaken { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        // Every one of them began before the end, whether it got its session before or none after.
        assert_eq!(nodes[0].sessions_of("alice", NOW).await.unwrap(), [], "{round}");
    }
}

async fn uses_of_sessions_are_recorded_together(place: Place) {
    let store = place.open().await;
    for hash in ["s1", "s2"] {
        store.create_session(&session(hash, "alice"), 9, 0).await.unwrap();
    }
    let used = |at| ["s2", "none", "s1"].map(|hash| (Box::from(hash), at));
    let seen = async || {
        let found = store.sessions_of("alice", NOW).await.unwrap();
        assert!(found.iter().all(|s| s.expires == NOW + 1000));
        found.iter().map(|s| s.last_seen - NOW).collect::<Vec<_>>()
    };
    store.note_session_uses(&[]).await.unwrap();
    store.note_session_uses(&used(NOW + 60)).await.unwrap();
    assert_eq!(seen().await, [60, 60]);
    store.note_session_uses(&used(NOW + 5)).await.unwrap();
    assert_eq!(seen().await, [60, 60], "not back");
}

async fn somebody_is_left_to_administer(place: Place) {
    let store = place.open().await;
    add(&store, &["root", "deputy", "old"]).await;
    store.add_group(&group(ADMINISTRATORS, None)).await.unwrap();
    // Nobody administers yet, so nothing is lost.
    store.remove_account("old", NOW).await.unwrap();
    for name in ["root", "deputy"] {
        store.add_member(ADMINISTRATORS, name, false).await.unwrap();
    }
    let fields = |fields| AccountChange { fields, ..Default::default() };
    let expired = fields(AccountUpdate { expires: Some(Some(NOW)), ..Default::default() });
    store.change_account("deputy", &expired, NOW).await.unwrap();
    let last = |done: Result<(), StoreError>| {
        let said = done.unwrap_err();
        assert!(matches!(said, StoreError::LastAdministrator), "{said}");
    };
    let disabled = AccountUpdate { enabled: Some(false), ..Default::default() };
    last(store.change_account("root", &fields(disabled.clone()), NOW).await.map(drop));
    last(store.change_account("root", &expired, NOW).await.map(drop));
    let leave = AccountChange { remove_groups: vec![ADMINISTRATORS.into()], ..Default::default() };
    last(store.change_account("root", &leave, NOW).await.map(drop));
    last(store.remove_account("root", NOW).await.map(drop));
    last(store.remove_group(ADMINISTRATORS).await.map(drop));
    let rename = GroupUpdate { name: Some("others".into()), ..Default::default() };
    assert!(store.change_group(ADMINISTRATORS, &rename).await.is_err());
    let root = store.read_account("root").await.unwrap().unwrap();
    assert!(root.enabled && root.expires.is_none() && root.groups.len() == 1);
    // Everything else about the last one can be changed, and so can everybody else.
    let label = AccountChange { labels: vec!["x".into()], ..Default::default() };
    store.change_account("root", &label, NOW).await.unwrap();
    store.remove_account("deputy", NOW).await.unwrap();
    add(&store, &["next"]).await;
    store.add_member(ADMINISTRATORS, "next", true).await.unwrap();
    store.remove_account("root", NOW).await.unwrap();
    last(store.remove_member(ADMINISTRATORS, "next").await.map(drop));
    last(store.update_account("next", &disabled).await.map(drop));
}

async fn two_administrators_cannot_remove_each_other(place: Place) {
    let nodes = [place.open().await, place.open().await];
    nodes[0].add_group(&group(ADMINISTRATORS, None)).await.unwrap();
    let mut left = "a0".to_owned();
    let mut first = user(&left);
    first.groups = vec![(ADMINISTRATORS.into(), false)];
    nodes[0].add_account(&first, NOW).await.unwrap();
    for round in 1..20 {
        let mut other = user(&format!("a{round}"));
        other.groups = first.groups.clone();
        nodes[0].add_account(&other, NOW).await.unwrap();
        let (a, b) = tokio::join!(
            nodes[0].remove_account(&left, NOW),
            nodes[1].remove_account(&other.name, NOW)
        );
        match (a, b) {
            (Ok(_), Err(StoreError::LastAdministrator)) => left = other.name,
            (Err(StoreError::LastAdministrator), Ok(_)) => {}
            both => panic!("{both:?}"),
        }
    }
    assert!(nodes[0].account(&left).await.unwrap().is_some());
}

async fn a_group_gets_another_name_and_number(place: Place) {
    let store = place.open().await;
    add(&store, &["alice"]).await;
    store.add_group(&group("staff", Some(100))).await.unwrap();
    store.add_group(&group("mail", Some(101))).await.unwrap();
    store.add_member("staff", "alice", true).await.unwrap();
    store.account("alice").await.unwrap();
    let taken = GroupUpdate { name: Some("mail".into()), ..Default::default() };
    assert!(store.change_group("staff", &taken).await.is_err());
    let taken = GroupUpdate { gid: Some(Some(101)), ..Default::default() };
    assert!(store.change_group("staff", &taken).await.is_err());
    let wanted = GroupUpdate {
        name: Some("crew".into()),
        gid: Some(None),
        description: Some("all hands".into()),
    };
    let mut heard = store.changes();
    store.change_group("staff", &wanted).await.unwrap();
    let told = heard.try_recv().unwrap();
    for what in [Changed::Group("staff".into()), Changed::Group("crew".into())] {
        assert!(told.contains(&what), "{told:?}");
    }
    let alice = store.account("alice").await.unwrap().unwrap();
    let crew = Membership { group: "crew".into(), gid: None, admin: true };
    assert_eq!(alice.groups, [crew]);
    assert_eq!(store.group("crew").await.unwrap().unwrap().description, "all hands");
    assert!(store.group("staff").await.unwrap().is_none());
}

async fn old_audit_goes(place: Place) {
    let store = place.open().await;
    let event = |at| AuditEvent { at, claimed: "alice".into(), ..AuditEvent::default() };
    let events: Vec<_> = (0..100).map(|n| event(NOW + n)).collect();
    store.record_audit(&events, 1000).await.unwrap();
    assert_eq!(store.sweep_audit(NOW).await.unwrap(), 0);
    assert_eq!(store.sweep_audit(NOW + 40).await.unwrap(), 40);
    assert_eq!(store.audit(&AuditFilter::default()).await.unwrap().len(), 60);
    assert_eq!(store.sweep_audit(NOW + 400).await.unwrap(), 60);
    store.record_audit(&events, 1000).await.unwrap();
    assert_eq!(store.audit(&AuditFilter::default()).await.unwrap().len(), 100);
}

async fn groups_are_made_with_their_first_members(place: Place) {
    let store = place.open().await;
    let many: Vec<_> = (0..300)
        .map(|n| {
            let mut new = user(&format!("u{n}"));
            new.groups = vec![(format!("g{}", n % 3), n % 2 == 0), ("all".into(), false)];
            new.labels = vec!["same".into(), "same".into()];
            new.attributes.insert("n".into(), vec![n.to_string(), "x".into()]);
            new
        })
        .collect();
    assert!(matches!(
        store.add_accounts(&many, NOW).await,
        Err(StoreError::NotFound { what: "group", .. })
    ));
    let done = store.add_accounts_and_groups(&many, NOW).await.unwrap();
    assert_eq!(done.created_groups, ["g0", "all", "g1", "g2"]);
    for n in [0, 63, 64, 299] {
        let account = store.account(&format!("u{n}")).await.unwrap().unwrap();
        assert_eq!(account.revision, done.revision);
        assert_eq!((account.credentials.len(), account.labels.len()), (1, 1));
        assert_eq!(account.attributes["n"], [n.to_string(), "x".into()]);
        let groups: Vec<_> = account.groups.iter().map(|g| (g.group.clone(), g.admin)).collect();
        assert_eq!(groups, [("all".into(), false), (format!("g{}", n % 3), n % 2 == 0)]);
    }
    let next = store.add_accounts_and_groups(&[user("new"), user("u7")], NOW).await.unwrap_err();
    assert_eq!(next.to_string(), "there is already a user `u7`");
    let twice = store.add_accounts(&[user("new"), user("new")], NOW).await.unwrap_err();
    assert_eq!(twice.to_string(), "there is already a user `new`");
    assert_eq!(store.count_accounts().await.unwrap(), 300);
    add(&store, &["new"]).await;
}

on_both![
    many_things_at_once_or_none,
    a_login_that_a_reset_overtakes_gets_no_session,
    a_change_by_a_session_keeps_it_and_needs_it,
    no_session_slips_past_a_reset,
    uses_of_sessions_are_recorded_together,
    somebody_is_left_to_administer,
    two_administrators_cannot_remove_each_other,
    a_group_gets_another_name_and_number,
    old_audit_goes,
    groups_are_made_with_their_first_members,
];
