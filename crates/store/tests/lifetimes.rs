//! Sessions, tokens and the audit.

mod common;

use common::*;
use countersign_store::*;

fn session(hash: &str, subject: &str, created: i64) -> SessionRecord {
    SessionRecord {
        hash: hash.into(),
        subject: subject.into(),
        service: "web".into(),
        peer: "192.0.2.1".into(),
        data: r#"{"groups":[]}"#.into(),
        created,
        last_seen: created,
        expires: created + 100,
    }
}

async fn a_session_lives_until_it_expires_or_ends(place: Place) {
    let store = place.open().await;
    // A subject of another checker, without an account here.
    let first = session("h1", "uid=bob,dc=example", NOW);
    store.create_session(&first, 10, i64::MAX).await.unwrap();
    assert!(store.create_session(&first, 10, i64::MAX).await.is_err());
    assert_eq!(store.session("h1", NOW + 99).await.unwrap().as_ref(), Some(&first));
    assert_eq!(store.session("h1", NOW + 100).await.unwrap(), None);
    assert_eq!(store.session("h2", NOW).await.unwrap(), None);
    assert_eq!(store.session("", NOW).await.unwrap(), None);

    assert!(store.touch_session("h1", NOW + 50, NOW + 150).await.unwrap());
    let touched = store.session("h1", NOW + 149).await.unwrap().unwrap();
    assert_eq!((touched.last_seen, touched.expires), (NOW + 50, NOW + 150));
    assert!(!store.touch_session("h1", NOW + 150, NOW + 500).await.unwrap(), "too late");

    assert!(store.end_session("h1").await.unwrap());
    assert!(!store.end_session("h1").await.unwrap());
    assert_eq!(store.session("h1", NOW).await.unwrap(), None);
}

async fn the_oldest_sessions_make_room(place: Place) {
    let store = place.open().await;
    for n in 0..5 {
        store
            .create_session(&session(&format!("h{n}"), "alice", NOW + n), 3, i64::MAX)
            .await
            .unwrap();
    }
    store.create_session(&session("b", "bob", NOW), 3, i64::MAX).await.unwrap();
    let hashes = async |subject| -> Vec<String> {
        store.sessions_of(subject, NOW).await.unwrap().into_iter().map(|s| s.hash).collect()
    };
    assert_eq!(hashes("alice").await, ["h4", "h3", "h2"]);
    // The new one stays, also when the clock went back.
    store.create_session(&session("h5", "alice", NOW - 50), 3, i64::MAX).await.unwrap();
    assert_eq!(hashes("alice").await, ["h4", "h3", "h5"]);
    assert_eq!(store.end_sessions_of("alice").await.unwrap(), 3);
    assert_eq!(store.end_sessions_of("alice").await.unwrap(), 0);
    assert_eq!(hashes("bob").await, ["b"]);
}

async fn sweeps_are_bounded(place: Place) {
    let store = place.open().await;
    for n in 0..5 {
        store
            .create_session(&session(&format!("h{n}"), "alice", NOW + n), 10, i64::MAX)
            .await
            .unwrap();
    }
    assert_eq!(store.sweep_sessions(NOW + 102, 2).await.unwrap(), 2);
    assert_eq!(store.sweep_sessions(NOW + 102, 2).await.unwrap(), 1);
    assert_eq!(store.sweep_sessions(NOW + 102, 2).await.unwrap(), 0);
    assert_eq!(store.sessions_of("alice", NOW).await.unwrap().len(), 2);
}

fn token(hash: &str, expires: Option<i64>) -> NewToken {
    NewToken { hash: hash.into(), label: format!("for {hash}"), group: None, expires }
}

async fn tokens_are_found_by_hash_and_bounded(place: Place) {
    let store = place.open().await;
    add(&store, &["alice", "bob"]).await;
    let id = store.add_token("alice", &token("t1", Some(NOW + 10)), 2, NOW).await.unwrap();
    store.add_token("alice", &token("t2", None), 2, NOW).await.unwrap();
    let refused = store.add_token("alice", &token("t3", None), 2, NOW).await.unwrap_err();
    assert_eq!(refused.to_string(), "`alice` would have more than 2 tokens: remove one first");
    let found = store.token("t1", NOW + 9).await.unwrap().unwrap();
    assert_eq!((found.id, found.account.as_str(), found.group), (id, "alice", None));
    assert_eq!(store.token("t1", NOW + 10).await.unwrap(), None);
    // What has expired makes room.
    store.add_token("alice", &token("t3", None), 2, NOW + 10).await.unwrap();
    assert!(store.add_token("bob", &token("t3", None), 2, NOW).await.is_err());

    let found = store.tokens_of("alice").await.unwrap();
    assert_eq!(found.iter().map(|t| t.hash.as_str()).collect::<Vec<_>>(), ["t2", "t3"]);
    assert!(store.remove_token("bob", found[0].id).await.is_err());
    store.record_token_use(found[0].id, NOW + 3).await.unwrap();
    assert_eq!(store.token("t2", NOW).await.unwrap().unwrap().last_used, Some(NOW + 3));
    store.remove_token("alice", found[0].id).await.unwrap();
    assert_eq!(store.token("t2", NOW).await.unwrap(), None);
    assert_eq!(store.remove_tokens_of("alice").await.unwrap(), 1);
    store.add_token("alice", &token("t4", Some(NOW + 1)), 2, NOW).await.unwrap();
    assert_eq!(store.sweep_tokens(NOW + 1, 10).await.unwrap(), 1);
}

async fn two_nodes_do_not_pass_the_limit_together(place: Place) {
    let stores = [place.open().await, place.open().await];
    add(&stores[0], &["alice"]).await;
    let tasks: Vec<_> = (0..20)
        .map(|n| {
            let store = stores[n % 2].clone();
            tokio::spawn(async move {
                store.add_token("alice", &token(&format!("t{n}"), None), 10, NOW).await.is_ok()
            })
        })
        .collect();
    let mut made = 0;
    for task in tasks {
        made += usize::from(task.await.unwrap());
    }
    assert_eq!(made, 10);
    assert_eq!(stores[1].tokens_of("alice").await.unwrap().len(), 10);
}

async fn a_token_for_a_group_dies_with_it(place: Place) {
    let store = place.open().await;
    add(&store, &["alice"]).await;
    let scoped =
        |hash: &str, group: &str| NewToken { group: Some(group.into()), ..token(hash, None) };
    for name in ["staff", "mail"] {
        store.add_group(&group(name, None)).await.unwrap();
    }
    assert!(store.add_token("alice", &scoped("t", "staff"), 9, NOW).await.is_err(), "not a member");
    for name in ["staff", "mail"] {
        store.add_member(name, "alice", false).await.unwrap();
        store.add_token("alice", &scoped(name, name), 9, NOW).await.unwrap();
    }
    let found = store.token("staff", NOW).await.unwrap().unwrap();
    assert_eq!(found.group.as_deref(), Some("staff"));
    store.remove_member("staff", "alice").await.unwrap();
    assert_eq!(store.token("staff", NOW).await.unwrap(), None);
    store.remove_group("mail").await.unwrap();
    assert_eq!(store.token("mail", NOW).await.unwrap(), None);
    store.add_token("alice", &token("all", None), 9, NOW).await.unwrap();
    store.remove_account("alice", NOW).await.unwrap();
    assert_eq!(store.token("all", NOW).await.unwrap(), None);
}

fn event(at: i64, claimed: &str, outcome: &str) -> AuditEvent {
    AuditEvent {
        at,
        claimed: claimed.into(),
        outcome: outcome.into(),
        reason: "because".into(),
        service: "imap".into(),
        ..AuditEvent::default()
    }
}

async fn audit_is_newest_first_filtered_and_bounded(place: Place) {
    let store = place.open().await;
    let events: Vec<_> = (0..150)
        .map(|n| {
            event(
                NOW + n,
                ["alice", "bob", "a\0b"][n as usize % 3],
                ["granted", "denied"][n as usize % 2],
            )
        })
        .collect();
    store.record_audit(&events, 1000).await.unwrap();
    let all = store.audit(&AuditFilter::default()).await.unwrap();
    assert_eq!(all.len(), 150);
    assert!(all.windows(2).all(|pair| pair[0].id == pair[1].id + 1 && pair[0].at > pair[1].at));
    assert_eq!(all[149], AuditEvent { id: all[149].id, ..events[0].clone() });

    let filter = AuditFilter {
        user: Some("alice".into()),
        since: Some(NOW + 100),
        outcome: Some("denied".into()),
        limit: Some(3),
        ..Default::default()
    };
    let some = store.audit(&filter).await.unwrap();
    assert_eq!(some.iter().map(|e| e.at - NOW).collect::<Vec<_>>(), [147, 141, 135]);
    let older = AuditFilter { before: Some(some[2].id), ..filter.clone() };
    assert_eq!(store.audit(&older).await.unwrap()[0].at, NOW + 129);
    let newer = AuditFilter { after: Some(some[0].id), ..filter };
    assert!(store.audit(&newer).await.unwrap().is_empty());
    let odd = AuditFilter { user: Some("a\0b".into()), ..Default::default() };
    assert_eq!(store.audit(&odd).await.unwrap().len(), 50);

    let proven = AuditEvent { subject: Some("carol".into()), ..event(NOW, "c", "granted") };
    store.record_audit(&[proven], 20).await.unwrap();
    let carol = AuditFilter { user: Some("carol".into()), ..Default::default() };
    assert_eq!(store.audit(&carol).await.unwrap().len(), 1);
    assert_eq!(store.audit(&AuditFilter::default()).await.unwrap().len(), 20);
    store.record_audit(&events, 5).await.unwrap();
    let kept = store.audit(&AuditFilter::default()).await.unwrap();
    assert_eq!(kept.iter().map(|e| e.at - NOW).collect::<Vec<_>>(), [149, 148, 147, 146, 145]);
    store.record_audit(&[], 5).await.unwrap();
}

fn failed(user: &str, source: &str, failures: i64, at: i64) -> ThrottleRow {
    let (user, source) = (user.into(), source.into());
    ThrottleRow { user, source, failures, until_ms: at + 100, last_ms: at }
}

async fn failures_add_up_within_the_window(place: Place) {
    let store = place.open().await;
    store.add_throttles(&[], 1000).await.unwrap();
    let (alice, net) =
        (failed("alice", "192.0.2.1", 2, 10_000), failed("", "192.0.2.0/24", 2, 9000));
    store.add_throttles(&[alice.clone(), net.clone()], 1000).await.unwrap();
    // Newest first, from the very millisecond.
    assert_eq!(store.throttles_since(9000).await.unwrap(), [alice.clone(), net.clone()]);
    assert_eq!(store.throttles_since(9001).await.unwrap(), [alice]);

    store.add_throttles(&[failed("alice", "192.0.2.1", 3, 11_000)], 1000).await.unwrap();
    assert_eq!(
        store.list_throttles(None, 9).await.unwrap(),
        [net.clone(), failed("alice", "192.0.2.1", 5, 11_000)]
    );
    // A node whose news come late, and whose delay is shorter.
    store.add_throttles(&[failed("alice", "192.0.2.1", 1, 10_500)], 1000).await.unwrap();
    let page = store.list_throttles(Some(("", "192.0.2.0/24")), 9).await.unwrap();
    assert_eq!(page, [failed("alice", "192.0.2.1", 6, 11_000)]);
    let other = failed("bob", "", 1, 10_000);
    store.add_throttles(std::slice::from_ref(&other), 1000).await.unwrap();
    assert_eq!(store.throttles_of("bob", None, 9).await.unwrap(), std::slice::from_ref(&other));
    assert_eq!(store.throttles_of("bob", Some(("bob", "")), 9).await.unwrap(), []);
    assert_eq!(store.throttles_of("alice", None, 0).await.unwrap(), []);
    assert_eq!(store.clear_throttles(Some("bob"), Some("")).await.unwrap(), 1);
    // After the window it begins again.
    store.add_throttles(&[failed("alice", "192.0.2.1", 1, 12_001)], 1000).await.unwrap();
    assert_eq!(
        store.throttles_since(12_000).await.unwrap(),
        [failed("alice", "192.0.2.1", 1, 12_001)]
    );
    // So it does when a clock was stepped back: what is in the future holds nobody until then.
    store.add_throttles(&[failed("carol", "", 9, 500_000)], 1000).await.unwrap();
    store.add_throttles(&[failed("carol", "", 1, 13_000)], 1000).await.unwrap();
    let carol = store.throttles_of("carol", None, 9).await.unwrap();
    assert_eq!(carol, [failed("carol", "", 1, 13_000)]);
    assert_eq!(store.clear_throttles(Some("carol"), None).await.unwrap(), 1);

    assert_eq!(store.trim_throttles(9100).await.unwrap(), 0, "its delay has not ended");
    assert_eq!(store.trim_throttles(9101).await.unwrap(), 1);
    assert_eq!(store.list_throttles(None, 9).await.unwrap().len(), 1);
}

async fn cleared_failures_are_cleared_everywhere(place: Place) {
    let (here, there) = (place.open().await, place.open().await);
    let rows: Vec<_> = [("alice", "a"), ("alice", "b"), ("alice", ""), ("bob", "a"), ("", "a")]
        .map(|(user, source)| failed(user, source, 1, 5))
        .into();
    here.add_throttles(&rows, 10).await.unwrap();
    let mut heard = there.changes();
    let mut cleared = async |user: Option<&str>, source: Option<&str>| {
        let gone = here.clear_throttles(user, source).await.unwrap();
        assert!(there.watch().await.unwrap());
        let told =
            Changed::Throttle { user: user.map(str::to_owned), source: source.map(str::to_owned) };
        assert_eq!(*heard.try_recv().unwrap(), [told]);
        gone
    };
    assert_eq!(cleared(Some("alice"), Some("")).await, 1);
    assert_eq!(cleared(Some("alice"), None).await, 2);
    assert_eq!(cleared(Some("alice"), None).await, 0);
    assert_eq!(cleared(None, Some("a")).await, 2);
    here.add_throttles(&rows, 10).await.unwrap();
    assert_eq!(cleared(None, None).await, 5);
}

async fn any_name_that_is_typed_can_be_counted(place: Place) {
    let store = place.open().await;
    let odd = [failed("a\0\tb", "::1", 1, 5), failed(&"ä".repeat(5000), "::1", 1, 5)];
    store.add_throttles(&odd, 10).await.unwrap();
    store.add_throttles(&odd, 10).await.unwrap();
    let found = store.list_throttles(None, 9).await.unwrap();
    assert_eq!(found.iter().map(|row| row.failures).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(store.clear_throttles(Some("a\0\tb"), None).await.unwrap(), 1);
}

async fn every_node_has_the_same_secret(place: Place) {
    let stores = [place.open().await, place.open().await];
    let tasks: Vec<_> = (0..8)
        .map(|n| {
            let store = stores[n % 2].clone();
            tokio::spawn(async move { store.secret("cookie").await.unwrap() })
        })
        .collect();
    let first = stores[0].secret("cookie").await.unwrap();
    assert_eq!(first.len(), 32);
    for task in tasks {
        assert_eq!(task.await.unwrap(), first);
    }
    assert_ne!(stores[1].secret("passkey").await.unwrap(), first);
    assert!(stores[0].secret("").await.is_err());
}

on_both![
    a_session_lives_until_it_expires_or_ends,
    the_oldest_sessions_make_room,
    sweeps_are_bounded,
    tokens_are_found_by_hash_and_bounded,
    two_nodes_do_not_pass_the_limit_together,
    a_token_for_a_group_dies_with_it,
    audit_is_newest_first_filtered_and_bounded,
    failures_add_up_within_the_window,
    cleared_failures_are_cleared_everywhere,
    any_name_that_is_typed_can_be_counted,
    every_node_has_the_same_secret,
];
