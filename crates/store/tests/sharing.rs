//! The copy in memory, and several programs on one file.

mod common;

use std::sync::Arc;
use std::time::Instant;

use common::*;
use countersign::Secret;
use countersign_store::*;

async fn a_change_elsewhere_drops_just_what_changed(place: Place) {
    let (server, command) = (place.open().await, place.open().await);
    add(&command, &["alice", "bob"]).await;
    assert!(server.watch().await.unwrap());
    let bob = server.account("bob").await.unwrap().unwrap();
    server.account("alice").await.unwrap().unwrap();
    assert!(server.account("carol").await.unwrap().is_none());
    assert_eq!(server.cached("carol"), Some(None), "also who does not exist is remembered");

    let off = AccountUpdate { enabled: Some(false), ..Default::default() };
    let revision = command.update_account("alice", &off).await.unwrap();
    command.add_account(&user("carol"), NOW).await.unwrap();
    assert!(server.cached("alice").unwrap().unwrap().enabled, "not looked yet");
    assert_eq!(server.refresh().await.unwrap(), revision + 1);
    assert_eq!(server.revision(), revision + 1);
    assert_eq!(server.cached("alice"), None);
    assert_eq!(server.cached("carol"), None);
    assert!(Arc::ptr_eq(&bob, &server.cached("bob").unwrap().unwrap()), "bob stays");
    assert!(!server.account("alice").await.unwrap().unwrap().enabled);
    assert!(server.account("carol").await.unwrap().is_some());
    assert!(!server.watch().await.unwrap(), "nothing new");
}

async fn an_own_change_is_seen_at_once(place: Place) {
    let store = place.open().await;
    add(&store, &["alice"]).await;
    for n in 0..20 {
        store.account("alice").await.unwrap();
        let hash = Secret::from(format!("$h{n}$"));
        let revision = store.set_password("alice", &hash, false, NOW).await.unwrap();
        assert_eq!(store.cached("alice"), None);
        assert!(store.revision() >= revision);
        assert_eq!(store.account("alice").await.unwrap().unwrap().credentials[0].data, hash);
    }
}

async fn who_was_away_too_long_forgets_everything(place: Place) {
    let (server, command) = (place.open().await, place.open().await);
    add(&command, &["alice", "bob"]).await;
    server.refresh().await.unwrap();
    server.account("bob").await.unwrap();
    let mut heard = server.changes();
    command.add_label("alice", "a").await.unwrap();
    command.add_label("alice", "b").await.unwrap();
    let trim = "DELETE FROM changes WHERE revision < (SELECT MAX(revision) FROM changes)";
    place.raw(trim).await;
    server.refresh().await.unwrap();
    assert_eq!(server.cached("bob"), None);
    assert_eq!(*heard.try_recv().unwrap(), [Changed::Everything]);
}

async fn too_many_changes_are_one(place: Place) {
    let (server, command) = (place.open().await, place.open().await);
    add(&command, &["bob"]).await;
    server.refresh().await.unwrap();
    server.account("bob").await.unwrap();
    let many: Vec<_> = (0..5000).map(|n| NewAccount::new(format!("u{n}"))).collect();
    command.add_accounts(&many, NOW).await.unwrap();
    server.refresh().await.unwrap();
    assert_eq!(server.cached("bob"), None);
}

async fn listeners_hear_what_ended(place: Place) {
    let (server, command) = (place.open().await, place.open().await);
    let mut heard = server.changes();
    add(&command, &["alice"]).await;
    let session = SessionRecord {
        hash: "s1".into(),
        subject: "alice".into(),
        service: "web".into(),
        peer: "::1".into(),
        data: "{}".into(),
        created: NOW,
        last_seen: NOW,
        expires: NOW + 60,
    };
    command.create_session(&session, 10, i64::MAX).await.unwrap();
    server.refresh().await.unwrap();
    assert_eq!(*heard.try_recv().unwrap(), [Changed::Account("alice".into())]);
    command.remove_account("alice", NOW).await.unwrap();
    server.refresh().await.unwrap();
    let batch = heard.try_recv().unwrap();
    assert!(batch.contains(&Changed::Session("s1".into())), "{batch:?}");
    assert!(batch.contains(&Changed::Account("alice".into())), "{batch:?}");
}

/// Readers on two handles never see a revision go back, nor an old password after they were told of the
/// new one, while writers on both handles change it.
async fn concurrent_writers_and_readers_agree(place: Place) {
    let stores = [place.open().await, place.open().await];
    add(&stores[0], &["alice", "bob"]).await;
    let mut tasks = Vec::new();
    for (n, store) in stores.iter().enumerate() {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            for round in 0..50 {
                let hash = Secret::from(format!("$w{n}r{round}$"));
                let revision = store.set_password("alice", &hash, false, NOW).await.unwrap();
                let seen = store.account("alice").await.unwrap().unwrap();
                assert!(seen.revision >= revision, "{} < {revision}", seen.revision);
                if seen.revision == revision {
                    assert_eq!(seen.credentials[0].data, hash);
                }
            }
        }));
    }
    for store in &stores {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            let mut last = 0;
            for _ in 0..300 {
                let told = store.refresh().await.unwrap();
                let alice = store.account("alice").await.unwrap().unwrap();
                assert!(alice.revision >= last);
                last = alice.revision;
                assert!(store.revision() >= told);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    for store in &stores {
        store.refresh().await.unwrap();
        let cached = store.account("alice").await.unwrap().unwrap();
        assert_eq!(Some(&*cached), store.read_account("alice").await.unwrap().as_ref());
        assert_eq!(cached.revision, 102, "100 changes after the two that added");
        assert_eq!(cached.credentials.len(), 1);
    }
}

async fn several_programs_make_one_new_store(place: Place) {
    let place = Arc::new(place);
    let tasks: Vec<_> = (0..4)
        .map(|n| {
            let place = place.clone();
            tokio::spawn(async move {
                let store = place.open().await;
                add(&store, &[&format!("user{n}")]).await;
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(place.open().await.count_accounts().await.unwrap(), 4);
}

#[tokio::test]
async fn a_backup_is_a_store() {
    let place = Place::file();
    let store = place.open().await;
    add(&store, &["alice"]).await;
    let copy = place.folder.path().join("o'copy.db");
    store.backup(&copy).await.unwrap();
    add(&store, &["bob"]).await;
    assert!(store.backup(&copy).await.unwrap_err().to_string().contains("exists"));
    let restored = Store::open(&copy, OpenOptions::default()).await.unwrap();
    assert_eq!(restored.count_accounts().await.unwrap(), 1);
    assert_eq!(restored.account("alice").await.unwrap().unwrap().credentials.len(), 1);
    let nowhere = place.folder.path().join("no/such/folder/copy.db");
    assert!(store.backup(&nowhere).await.is_err());
}

/// Prints figures: `cargo test -p countersign-store --release -- --ignored --nocapture figures`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures"]
async fn figures() {
    let place = Place::file();
    let store = place.open().await;
    store.add_group(&group("staff", Some(100))).await.unwrap();
    let many: Vec<_> = (0..20_000)
        .map(|n| {
            let mut new = user(&format!("user{n:06}"));
            new.groups = vec![("staff".into(), false)];
            new.labels = vec!["eu".into()];
            new.attributes.insert("home".into(), vec!["/home/x".into()]);
            new
        })
        .collect();
    let start = Instant::now();
    store.add_accounts(&many, NOW).await.unwrap();
    println!("add 20,000 accounts in one change: {:?}", start.elapsed());

    store.account("user000001").await.unwrap();
    let rounds = 2_000_000_u32;
    let start = Instant::now();
    for _ in 0..rounds {
        assert!(std::hint::black_box(store.cached("user000001")).is_some());
    }
    println!("cached account: {:?}", start.elapsed() / rounds);
    store.account("nobody").await.unwrap();
    let start = Instant::now();
    for _ in 0..rounds {
        assert!(std::hint::black_box(store.cached("nobody")).is_some());
    }
    println!("cached unknown name: {:?}", start.elapsed() / rounds);

    let rounds = 20_000_u32;
    let start = Instant::now();
    for n in 0..rounds {
        store.read_account(&format!("user{n:06}")).await.unwrap().unwrap();
    }
    println!("uncached account, one task: {:?}", start.elapsed() / rounds);
    let start = Instant::now();
    let tasks: Vec<_> = (0..8)
        .map(|t| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..rounds / 8 {
                    let name = format!("user{:06}", t * (rounds / 8) + n);
                    store.read_account(&name).await.unwrap().unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    println!(
        "uncached accounts, eight tasks: {:.0}/s",
        f64::from(rounds) / start.elapsed().as_secs_f64()
    );

    let rounds = 300_u32;
    let start = Instant::now();
    for n in 0..rounds {
        store.set_password(&format!("user{n:06}"), &"$h$".into(), false, NOW).await.unwrap();
    }
    println!("change a password, on the disk: {:?}", start.elapsed() / rounds);
    let start = Instant::now();
    for _ in 0..10_000 {
        store.watch().await.unwrap();
    }
    println!("watch: {:?}", start.elapsed() / 10_000);
    let event =
        AuditEvent { claimed: "alice".into(), outcome: "denied".into(), ..Default::default() };
    let events = vec![event; 1024];
    let start = Instant::now();
    for _ in 0..20 {
        store.record_audit(&events, 10_000).await.unwrap();
    }
    println!("audit event in batches of 1024: {:?}", start.elapsed() / (20 * 1024));
}

/// Prints figures, on PostgreSQL too if it is there: `cargo test -p countersign-store --release --features
/// postgres -- --ignored --nocapture million`. `COUNTERSIGN_FIGURES` is how many accounts, 1,000,000 by default.
async fn million(place: Place) {
    let count = std::env::var("COUNTERSIGN_FIGURES").ok().and_then(|n| n.parse().ok());
    let count: u64 = count.unwrap_or(1_000_000);
    let store = place.open().await;
    let mut added = 0;
    for size in [1000, count] {
        let start = Instant::now();
        let before = added;
        while added < size {
            let many: Vec<_> =
                (added..size.min(added + 5000)).map(|n| user(&format!("user{n:07}"))).collect();
            added += many.len() as u64;
            store.add_accounts(&many, NOW).await.unwrap();
        }
        let rate = (size - before) as f64 / start.elapsed().as_secs_f64();
        println!("{}: {rate:.0} accounts/s added up to {size}", place.location);
        let rounds = 20_000;
        let start = Instant::now();
        let tasks: Vec<_> = (0..8_u64)
            .map(|task| {
                let store = store.clone();
                tokio::spawn(async move {
                    // Uniform enough, and the same each time.
                    let mut random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(task + 1);
                    for _ in 0..rounds / 8 {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        let name = format!("user{:07}", (random >> 33) % size);
                        store.read_account(&name).await.unwrap().unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let rate = rounds as f64 / start.elapsed().as_secs_f64();
        println!("{}: {rate:.0} uncached random accounts/s of {size}", place.location);
    }
}

#[test]
#[ignore = "prints figures"]
fn million_on_sqlite() {
    play(Place::file(), million);
}

#[cfg(feature = "postgres")]
#[test]
#[ignore = "prints figures"]
fn million_on_postgres() {
    on_postgres("million_on_postgres", million);
}

on_both![
    several_programs_make_one_new_store,
    a_change_elsewhere_drops_just_what_changed,
    an_own_change_is_seen_at_once,
    who_was_away_too_long_forgets_everything,
    too_many_changes_are_one,
    listeners_hear_what_ended,
    concurrent_writers_and_readers_agree,
];
