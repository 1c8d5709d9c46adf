//! D30 to D42: what is wrong with one login stays with it; what is wrong with the connection ends it.

use countersign_server::front::dovecot::{DovecotOptions, OnFault};

use crate::peer::plain;
use crate::sockets::Place;

/// A malformed line, and its whole reply.
const MALFORMED: [(&str, &str); 18] = [
    ("AUTH\t0\tPLAIN\tservice=smtp", "FAIL\t0\treason=Request id must not be 0"),
    ("CONT\t0\tAA==", "FAIL\t0\treason=Request id must not be 0"),
    ("AUTH\t7", "FAIL\t7\treason=Mechanism missing"),
    ("AUTH\t7\t\tservice=smtp", "FAIL\t7\treason=Mechanism missing"),
    ("AUTH\t7\tPLAIN", "FAIL\t7\treason=Parameter service missing"),
    ("AUTH\t7\tPLAIN\tservice=", "FAIL\t7\treason=Parameter service missing"),
    ("AUTH\t7\tCRAM-MD5\tservice=smtp", "FAIL\t7\treason=Unsupported authentication mechanism"),
    ("AUTH\t7\tPLAIN\x010\tservice=smtp", "FAIL\t7\treason=Unsupported authentication mechanism"),
    (
        "AUTH\t7\tPLAIN\tservice=smtp\tresp=!",
        "FAIL\t7\treason=Invalid base64 data\tcode=invalid_base64",
    ),
    (
        "AUTH\t7\tPLAIN\tservice=smtp\tresp=YWJ",
        "FAIL\t7\treason=Invalid base64 data\tcode=invalid_base64",
    ),
    (
        "AUTH\t7\tPLAIN\tservice=smtp\tresp=AA==\tnologin",
        "FAIL\t7\treason=Nothing may follow the response",
    ),
    (
        "AUTH\t7\tPLAIN\tservice=smtp\tresp=AA==\t",
        "FAIL\t7\treason=Nothing may follow the response",
    ),
    ("CONT\t7", "FAIL\t7\treason=Response missing"),
    ("CONT\t7\t!", "FAIL\t7\treason=Invalid base64 data\tcode=invalid_base64"),
    ("CONT\t7\tAA==\t", "FAIL\t7\treason=Nothing may follow the response"),
    ("CONT\t7\tAA==", "FAIL\t7\treason=No such request is waiting"),
    ("CONT\t4294967295\t", "FAIL\t4294967295\treason=No such request is waiting"),
    ("CANCEL\t0", "FAIL\t0\treason=Request id must not be 0"),
];

#[tokio::test]
async fn d30_to_d36_a_malformed_line_fails_its_own_id() {
    let place = Place::dovecot().await;
    let mut client = place.client().await;
    client.send(plain(1, "slow", "countess") + "\n").await;
    assert_eq!(client.ask("AUTH\t2\tLOGIN\tservice=smtp").await, "CONT\t2\tVXNlcm5hbWU6");
    place.gate.reached(1).await;
    for (line, reply) in MALFORMED {
        assert_eq!(client.ask(line).await, reply, "{line:?}");
    }
    place.gate.open(1);
    assert_eq!(client.line().await, "OK\t1\tuser=slow");
    assert_eq!(client.ask("CONT\t2\tYWRh").await, "CONT\t2\tUGFzc3dvcmQ6");
    assert_eq!(client.ask("CONT\t2\tY291bnRlc3M=").await, "OK\t2\tuser=ada");
    // Every attempt has a record, malformed ones too, and none with the peer of another.
    let records = place.records(MALFORMED.len() + 2).await;
    for record in &records[..MALFORMED.len()] {
        assert_eq!(
            (&record["outcome"], &record["front_end"]),
            (&"denied".into(), &"dovecot".into())
        );
        let reason = record["reason"].as_str().unwrap();
        assert!(["malformed", "unsupported"].contains(&reason), "{record}");
    }
}

#[tokio::test]
async fn d32_d33_a_malformed_cont_ends_its_own_login() {
    let place = Place::dovecot().await;
    let mut client = place.client().await;
    for (wrong, reply) in [
        ("CONT\t1", "FAIL\t1\treason=Response missing"),
        ("CONT\t1\t!", "FAIL\t1\treason=Invalid base64 data\tcode=invalid_base64"),
        ("CONT\t1\tAA==\tx", "FAIL\t1\treason=Nothing may follow the response"),
    ] {
        assert_eq!(client.ask("AUTH\t1\tLOGIN\tservice=smtp").await, "CONT\t1\tVXNlcm5hbWU6");
        assert_eq!(client.ask(wrong).await, reply);
        let answer = client.ask("CONT\t1\tYWRh").await;
        assert_eq!(answer, "FAIL\t1\treason=No such request is waiting", "{wrong}");
    }
    // CONT while a checker works: the login is over, and its result unheard.
    client.send(plain(2, "slow", "countess") + "\n").await;
    place.gate.reached(1).await;
    assert_eq!(client.ask("CONT\t2\tYWRh").await, "FAIL\t2\treason=No such request is waiting");
    place.gate.open(1);
    let records = place.records(11).await;
    assert_eq!(
        (&records[10]["claimed"], &records[10]["reason"]),
        (&"slow".into(), &"cancelled".into())
    );
    assert_eq!(client.ask(&plain(2, "ada", "countess")).await, "OK\t2\tuser=ada");
}

#[tokio::test]
async fn d34_an_id_that_is_pending_gets_one_fail_for_both() {
    let place = Place::dovecot().await;
    let mut client = place.client().await;
    let twice = "FAIL\t1\treason=Duplicate request id";
    // One that waits for its client,
    assert_eq!(client.ask("AUTH\t1\tLOGIN\tservice=smtp").await, "CONT\t1\tVXNlcm5hbWU6");
    assert_eq!(client.ask(&plain(1, "ada", "countess")).await, twice);
    // and one that a checker works on.
    client.send(plain(1, "slow", "countess") + "\n").await;
    place.gate.reached(1).await;
    assert_eq!(client.ask(&plain(1, "ada", "countess")).await, twice);
    // The id is free again, and the old login does not answer in the place of the new.
    client.send(plain(1, "slow", "wrong") + "\n").await;
    place.gate.reached(1).await;
    place.gate.open(2);
    assert_eq!(client.line().await, "FAIL\t1\tuser=slow");
    assert_eq!(client.ask(&plain(1, "ada", "countess")).await, "OK\t1\tuser=ada");
    let records = place.records(6).await;
    assert_eq!(records.iter().filter(|record| record["outcome"] == "granted").count(), 1);
}

#[tokio::test]
async fn d35_pending_logins_are_bounded_also_those_given_up() {
    let mut place = Place::new().await;
    place.serve_dovecot(DovecotOptions { pending: 3, ..Default::default() });
    let mut client = place.client().await;
    let full = |id| {
        let words = "reason=Too many requests at a time\tcode=temp_fail\ttemp";
        format!("FAIL\t{id}\t{words}")
    };
    // One waits, two run.
    assert_eq!(client.ask("AUTH\t1\tLOGIN\tservice=smtp").await, "CONT\t1\tVXNlcm5hbWU6");
    client.send(plain(2, "slow", "countess") + "\n" + &plain(3, "slow", "countess") + "\n").await;
    place.gate.reached(2).await;
    assert_eq!(client.ask(&plain(4, "ada", "countess")).await, full(4));
    // What is given up and still running counts: otherwise giving up would be a way around the limit.
    client.send("CANCEL\t2\nCANCEL\t3\n").await;
    assert_eq!(client.ask(&plain(5, "ada", "countess")).await, full(5));
    client.send("CANCEL\t1\n").await;
    assert_eq!(client.ask(&plain(6, "ada", "countess")).await, "OK\t6\tuser=ada");
    place.gate.open(2);
    place.records(6).await;
    for id in 7..10 {
        assert!(client.ask(&format!("AUTH\t{id}\tLOGIN\tservice=smtp")).await.starts_with("CONT"));
    }
    assert_eq!(client.ask("AUTH\t10\tLOGIN\tservice=smtp").await, full(10));
}

#[tokio::test]
async fn d40_d41_after_a_framing_error_what_has_begun_is_answered() {
    let place = Place::dovecot().await;
    for wrong in [
        "AUTH\n",
        "AUTH\tx\tPLAIN\tservice=smtp\n",
        "AUTH\t4294967296\tPLAIN\tservice=smtp\n",
        "AUTH\t-1\n",
        "AUTH\t+1\n",
        "AUTH\t\n",
        "AUTH\t00000000001\n",
        "CONT\n",
        "CONT\tx\tAA==\n",
        "CANCEL\n",
        "CANCEL\t1x\n",
        "CPID\t0\n",
        "VERSION\t1\t0\n",
    ] {
        let mut client = place.client().await;
        assert_eq!(client.ask("AUTH\t1\tLOGIN\tservice=smtp").await, "CONT\t1\tVXNlcm5hbWU6");
        let (before, after) = (plain(2, "slow", "countess"), plain(3, "ada", "countess"));
        client.send(format!("{before}\n{wrong}{after}\n")).await;
        place.gate.reached(1).await;
        place.gate.open(1);
        assert_eq!(client.rest().await, "OK\t2\tuser=slow\n", "{wrong:?}");
    }
}

#[tokio::test]
async fn d51_closing_makes_it_temporary() {
    let mut place = Place::new().await;
    place.serve_dovecot(DovecotOptions { on_fault: OnFault::Close, ..Default::default() });
    let mut client = place.client().await;
    let (first, slow) = (plain(1, "ada", "countess"), plain(2, "slow", "countess"));
    let (fault, last) = (plain(3, "broken", "countess"), plain(4, "ada", "countess"));
    client.send(format!("{first}\n{slow}\n{fault}\n{last}\n")).await;
    // What was decided before is told; the other logins end with the connection.
    assert_eq!(client.rest().await, "OK\t1\tuser=ada\n");
    place.gate.reached(1).await;
    place.gate.open(1);
    let records = place.records(3).await;
    let outcomes: Vec<_> =
        records.iter().map(|record| record["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["granted", "fault", "denied"]);
    // The next connection is served.
    let mut client = place.client().await;
    assert_eq!(client.ask(&plain(1, "ada", "countess")).await, "OK\t1\tuser=ada");
}
