//! D42, and the ends that are not in the client's hands: a stop, and an audit record that cannot be written.

use std::path::Path;

use countersign_server::audit::{Audit, OnFailure};
use countersign_server::front::dovecot::DovecotOptions;
use countersign_server::metrics::Ended;

use crate::peer::plain;
use crate::sockets::{PATIENCE, Place, eventually};

#[tokio::test]
async fn d42_who_leaves_is_not_logged_in_and_in_the_record() {
    let place = Place::dovecot().await;
    let mut client = place.client().await;
    assert_eq!(client.ask("AUTH\t1\tLOGIN\tservice=smtp").await, "CONT\t1\tVXNlcm5hbWU6");
    for (id, password) in [(2, "countess"), (3, "wrong")] {
        client.send(plain(id, "slow", password) + "\n").await;
    }
    place.gate.reached(2).await;
    drop(client);
    // What waited for the client is over at once.
    assert_eq!(place.records(1).await[0]["reason"], "cancelled");
    // What a checker works on comes to its end: who hangs up early does not guess without a record.
    place.gate.open(2);
    let records = place.records(3).await;
    let mut reasons: Vec<_> =
        records.iter().map(|record| record["reason"].as_str().unwrap()).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["cancelled", "cancelled", "wrong-credential"]);
    assert_eq!(place.engine.metrics.total(Ended::Granted), 0);
    eventually(|| place.connections() == 0).await;
}

#[tokio::test]
async fn d44_a_stop_answers_what_has_begun() {
    let place = Place::dovecot().await;
    let mut idle = place.client().await;
    let mut silent = place.silent_client().await;
    let mut waiting = place.client().await;
    assert_eq!(waiting.ask("AUTH\t1\tLOGIN\tservice=smtp").await, "CONT\t1\tVXNlcm5hbWU6");
    let mut client = place.client().await;
    client.send(plain(1, "slow", "countess") + "\n").await;
    place.gate.reached(1).await;
    place.stopper.stop();
    assert_eq!(idle.rest().await, "");
    assert_eq!(waiting.rest().await, "");
    assert!(silent.rest().await.ends_with("DONE\n"));
    place.gate.open(1);
    assert_eq!(client.rest().await, "OK\t1\tuser=slow\n");
    place.stop().await;
    assert!(!place.path().exists());
    assert_eq!(place.records(2).await[1]["outcome"], "granted");
}

#[tokio::test]
async fn d45_without_a_record_nobody_gets_in() {
    // The device that is always full.
    let full = || Audit::open(Path::new("/dev/full"), OnFailure::Refuse).unwrap();
    let mut place = Place::with(PATIENCE, Some(full())).await;
    place.serve_dovecot(DovecotOptions::default());
    for (user, password) in [("ada", "countess"), ("ada", "wrong"), ("nobody", "")] {
        let mut client = place.client().await;
        client.send(plain(1, user, password) + "\n").await;
        assert_eq!(client.rest().await, "", "{user}");
    }
    // Nor one whose checker took its time, and its neighbours with it.
    let mut client = place.client().await;
    client.send(plain(1, "slow", "countess") + "\n").await;
    place.gate.reached(1).await;
    place.gate.open(1);
    assert_eq!(client.rest().await, "");
    assert_eq!(place.engine.metrics.audit_failures.load(std::sync::atomic::Ordering::Relaxed), 4);
    // A question decides nothing, and needs no record.
    let mut client = place.client().await;
    assert_eq!(client.ask("AUTH\t1\tLOGIN\tservice=smtp").await, "CONT\t1\tVXNlcm5hbWU6");
    place.stop().await;
}

#[tokio::test]
async fn d45_where_logins_go_on_without_a_record_they_do() {
    let audit = Audit::open(Path::new("/dev/full"), OnFailure::Continue).unwrap();
    let mut place = Place::with(PATIENCE, Some(audit)).await;
    place.serve_dovecot(DovecotOptions::default());
    let mut client = place.client().await;
    assert_eq!(client.ask(&plain(1, "ada", "countess")).await, "OK\t1\tuser=ada");
    assert_eq!(client.ask(&plain(2, "ada", "wrong")).await, "FAIL\t2\tuser=ada");
    assert_eq!(place.engine.metrics.audit_failures.load(std::sync::atomic::Ordering::Relaxed), 2);
}

#[tokio::test]
async fn further_connections_wait_for_a_place_and_a_stop_does_not() {
    let mut place = Place::new().await;
    place.serve_dovecot(DovecotOptions { connections: 1, ..Default::default() });
    let first = place.client().await;
    let mut second = place.silent_client().await;
    drop(first);
    second.greeting().await;
    let mut third = place.silent_client().await;
    place.stop().await;
    assert_eq!(third.rest().await, "");
}
