//! Clients that are slow, deaf, or never stop talking. They lose their own connection, or nothing.

use std::time::Duration;

use countersign_server::front::dovecot::DovecotOptions;
use tokio::io::AsyncWriteExt;

use crate::peer::{HELLO, plain};
use crate::sockets::{PATIENCE, Place, eventually};

/// Short for a server, and long for a busy machine.
const SHORT: Duration = Duration::from_millis(250);

async fn impatient() -> Place {
    let mut place = Place::new().await;
    place.serve_dovecot(DovecotOptions { patience: SHORT, ..Default::default() });
    place
}

#[tokio::test]
async fn d43_a_greeting_or_a_line_that_does_not_end() {
    let place = impatient().await;
    for begun in ["", "VERSION\t1\t0\n", "VERSION\t1\t0\nUNKNOWN\n", "VERS"] {
        let mut client = place.silent_client().await;
        client.send(begun).await;
        assert!(client.rest().await.ends_with("DONE\n"), "{begun:?}");
    }
    // What has begun is answered before the connection ends.
    let mut client = place.client().await;
    client.send(plain(1, "slow", "countess") + "\nAUTH\t2").await;
    place.gate.reached(1).await;
    tokio::time::sleep(SHORT * 2).await;
    place.gate.open(1);
    assert_eq!(client.rest().await, "OK\t1\tuser=slow\n");
}

#[tokio::test]
async fn d43_a_line_that_comes_in_drops_is_one_that_does_not_end() {
    let place = impatient().await;
    let client = place.client().await;
    let (mut reading, mut writing) = client.0.into_inner().into_split();
    let dripping = tokio::spawn(async move {
        while writing.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let mut rest = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut reading, &mut rest);
    let _ = tokio::time::timeout(PATIENCE, read).await.expect("it is not disconnected");
    dripping.await.unwrap();
}

#[tokio::test]
async fn d43_who_has_greeted_has_all_the_time_in_the_world() {
    let place = impatient().await;
    let mut client = place.client().await;
    tokio::time::sleep(SHORT * 2).await;
    assert_eq!(client.ask(&plain(1, "ada", "countess")).await, "OK\t1\tuser=ada");
    // Busy, and always in the middle of the next line.
    let line = plain(1, "ada", "countess") + "\n";
    let (head, tail) = line.split_at(9);
    client.send(head).await;
    for _ in 0..50 {
        tokio::time::sleep(SHORT / 25).await;
        client.send(format!("{tail}{head}")).await;
        assert_eq!(client.line().await, "OK\t1\tuser=ada");
    }
}

#[tokio::test]
async fn d43_who_does_not_read_is_disconnected_and_read_no_further() {
    let place = impatient().await;
    let client = place.client().await;
    let (_reading, mut writing) = client.0.into_inner().into_split();
    let lines = "CONT\t1\t\n".repeat(1000);
    let mut sent = 0;
    let flooding = async {
        while writing.write_all(lines.as_bytes()).await.is_ok() {
            sent += lines.len();
        }
    };
    tokio::time::timeout(PATIENCE, flooding).await.expect("it is read for ever");
    // Two socket buffers, and what is read at once.
    assert!(sent < 4 << 20, "{sent} bytes were taken from a client that reads nothing");
    eventually(|| place.connections() == 0).await;
}

/// A client that sends lines without end and reads all replies, until it is disconnected.
async fn flood(place: &Place, lines: String) -> tokio::task::JoinHandle<()> {
    let mut client = place.silent_client().await;
    client.send(HELLO).await;
    let (mut reading, mut writing) = client.0.into_inner().into_split();
    tokio::spawn(async move {
        let mut void = tokio::io::sink();
        let reads = tokio::io::copy(&mut reading, &mut void);
        let writes = async { while writing.write_all(lines.as_bytes()).await.is_ok() {} };
        let _ = tokio::join!(reads, writes);
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_starves_nobody_and_does_not_keep_a_stop() {
    let place = Place::dovecot().await;
    let mut floods = Vec::new();
    for lines in ["UNKNOWN\n".repeat(5000), "CANCEL\t1\n".repeat(5000), "\n".repeat(60_000)] {
        floods.push(flood(&place, lines).await);
    }
    let mut client = place.client().await;
    for id in 1..=50 {
        assert_eq!(client.ask(&plain(id, "ada", "countess")).await, format!("OK\t{id}\tuser=ada"));
    }
    place.stop().await;
    for flood in floods {
        tokio::time::timeout(PATIENCE, flood).await.expect("it is served for ever").unwrap();
    }
}

#[tokio::test]
async fn a_flood_does_not_starve_its_own_slow_logins() {
    let place = Place::dovecot().await;
    let mut client = place.silent_client().await;
    client.send(HELLO).await;
    client.send(plain(1, "slow", "countess") + "\n").await;
    client.greeting().await;
    place.gate.reached(1).await;
    let lines = "UNKNOWN\n".repeat(5000);
    let (reading, mut writing) = client.0.into_inner().into_split();
    let flooding =
        tokio::spawn(async move { while writing.write_all(lines.as_bytes()).await.is_ok() {} });
    place.gate.open(1);
    let mut reading = tokio::io::BufReader::new(reading);
    let mut line = String::new();
    let read = tokio::io::AsyncBufReadExt::read_line(&mut reading, &mut line);
    tokio::time::timeout(PATIENCE, read).await.expect("the login starves").unwrap();
    assert_eq!(line, "OK\t1\tuser=slow\n");
    flooding.abort();
}

#[tokio::test]
async fn any_bytes_at_all() {
    let place = Place::dovecot().await;
    for bytes in [
        &b"\0\0\0\0\n"[..],
        b"\xff\xfe\xfd\n\n\n",
        b"AUTH\t1\t\xff\tservice=\xff\tresp=AA==\n",
        b"AUTH\t1\tPLAIN\tservice=\xff\x01\tresp=AA==\n",
        b"CONT\t1\t\0\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let mut client = place.client().await;
        client.send(bytes).await;
        // Whatever it says to that, it goes on.
        client.send(plain(2, "ada", "countess") + "\n").await;
        while client.line().await != "OK\t2\tuser=ada" {}
    }
}
