//! D1 to D11, D40: lines and the greeting.

use countersign_server::front::dovecot::DovecotOptions;

use crate::peer::{HELLO, plain};
use crate::sockets::Place;

#[tokio::test]
async fn d7_d8_the_server_speaks_first_and_in_order() {
    let mut place = Place::new().await;
    place.serve_dovecot(DovecotOptions { trust_client_certificates: true, ..Default::default() });
    let first = place.silent_client().await.greeting().await;
    let pid = format!("SPID\t{}", std::process::id());
    let fixed =
        ["VERSION\t1\t2", "MECH\tPLAIN\tplaintext", "MECH\tLOGIN\tplaintext", "MECH\tEXTERNAL"];
    assert_eq!(first[..5], [&fixed[..], &[&pid]].concat());
    assert!(first[5].starts_with("CUID\t"));
    let cookie = first[6].strip_prefix("COOKIE\t").unwrap();
    assert!(cookie.len() == 32 && cookie.bytes().all(|byte| byte.is_ascii_hexdigit()), "{cookie}");
    assert_eq!((&*first[7], first.len()), ("DONE", 8));
    // The number and the cookie are each connection's own.
    let second = place.silent_client().await.greeting().await;
    assert_ne!(first[5], second[5]);
    assert_ne!(first[6], second[6]);
}

#[tokio::test]
async fn d8_what_a_listener_does_not_serve_is_left_out() {
    let place = Place::dovecot().await;
    let greeting = place.silent_client().await.greeting().await;
    assert!(!greeting.iter().any(|line| line.contains("EXTERNAL")), "{greeting:?}");
    let mut client = place.client().await;
    let answer = client
        .ask("AUTH\t1\tEXTERNAL\tservice=smtp\tvalid-client-cert\tcert_username=ada\tresp==")
        .await;
    assert_eq!(answer, "FAIL\t1\treason=Unsupported authentication mechanism");
}

#[tokio::test]
async fn d9_the_client_greets_before_it_reads_or_after() {
    let place = Place::dovecot().await;
    // As Postfix: at once, and its first login with it.
    let mut client = place.silent_client().await;
    client.send(format!("{HELLO}{}\n", plain(1, "ada", "countess"))).await;
    client.greeting().await;
    assert_eq!(client.line().await, "OK\t1\tuser=ada");
    // As Exim: VERSION after VERSION, the rest after DONE.
    let mut client = place.silent_client().await;
    assert_eq!(client.line().await, "VERSION\t1\t2");
    client.send("VERSION\t1\t0\n").await;
    client.greeting().await;
    client.send(format!("CPID\t1\n{}\n", plain(1, "ada", "countess"))).await;
    assert_eq!(client.line().await, "OK\t1\tuser=ada");
    // More fields, another minor version, lines typed by hand (D1).
    let mut client = place.silent_client().await;
    client.greeting().await;
    client.send("VERSION\t1\t99\tmore\r\nCPID\t1\tmore\r\n").await;
    assert_eq!(client.ask(&(plain(1, "ada", "countess") + "\r")).await, "OK\t1\tuser=ada");
}

#[tokio::test]
async fn d10_d40_a_wrong_greeting_ends_the_connection() {
    let place = Place::dovecot().await;
    let login = plain(1, "ada", "countess");
    for wrong in [
        "VERSION\t2\t0\nCPID\t1\n",
        "VERSION\t1\nCPID\t1\n",
        "VERSION\n",
        "VERSION\tx\ty\n",
        "VERSION\t1\t4294967296\n",
        "CPID\t1\nVERSION\t1\t0\n",
        "HELLO\nVERSION\t1\t0\nCPID\t1\n",
        "\nVERSION\t1\t0\nCPID\t1\n",
        "VERSION\t1\t0\nCPID\n",
        "VERSION\t1\t0\nCPID\t0\n",
        "VERSION\t1\t0\nCPID\t-1\n",
        "VERSION\t1\t0\nVERSION\t1\t0\nCPID\t1\n",
        // Neither may a login begin before both, right or malformed.
        "",
        "AUTH\t0\n",
        "VERSION\t1\t0\n",
        "VERSION\t1\t0\nAUTH\t7\n",
        "VERSION\t1\t0\nCONT\t7\t\n",
        "VERSION\t1\t0\nCANCEL\t7\n",
    ] {
        let mut client = place.silent_client().await;
        client.greeting().await;
        client.send(format!("{wrong}{login}\n")).await;
        assert_eq!(client.rest().await, "", "after {wrong:?}");
    }
    place.stop().await;
    // Nothing of that was an attempt.
    assert!(place.audit().is_empty());
}

#[tokio::test]
async fn d11_unknown_commands_are_ignored() {
    let place = Place::dovecot().await;
    let mut client = place.silent_client().await;
    client.greeting().await;
    client.send("VERSION\t1\t0\nFUTURE\t1\nCPID\t1\n\nFUTURE\t2\t3\nauth\t1\nCPID\t2\n").await;
    assert_eq!(client.ask(&plain(1, "ada", "countess")).await, "OK\t1\tuser=ada");
}

#[tokio::test]
async fn d2_a_line_has_16384_bytes_at_most() {
    let place = Place::dovecot().await;
    for (length, ended, fits) in [
        (16_383, true, true),
        (16_384, true, true),
        (16_385, true, false),
        (16_384, false, true),
        (16_385, false, false),
    ] {
        let mut client = place.client().await;
        let mut line = plain(1, "ada", "countess").replace("\tresp", "\tclient_id=\tresp");
        let padding = "x".repeat(length - line.len());
        line = line.replace("client_id=", &format!("client_id={padding}"));
        assert_eq!(line.len(), length);
        client.send(&line).await;
        if fits {
            client.send("\n").await;
            assert_eq!(client.line().await, "OK\t1\tuser=ada", "{length}");
        } else {
            if ended {
                client.send("\n").await;
            }
            assert_eq!(client.rest().await, "", "{length}, {ended}");
        }
    }
}

#[tokio::test]
async fn d1_however_the_bytes_are_cut() {
    let place = Place::dovecot().await;
    let dialogue = format!(
        "{HELLO}{}\nAUTH\t2\tLOGIN\tservice=smtp\nCONT\t2\tYWRh\nCONT\t2\tY291bnRlc3M=\nCANCEL\t3\n",
        plain(1, "ada", "countess")
    );
    let replies =
        ["OK\t1\tuser=ada", "CONT\t2\tVXNlcm5hbWU6", "CONT\t2\tUGFzc3dvcmQ6", "OK\t2\tuser=ada"];
    for cut in 1..dialogue.len() {
        let mut client = place.silent_client().await;
        client.send(&dialogue[..cut]).await;
        // The server reads what is there.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        client.send(&dialogue[cut..]).await;
        client.greeting().await;
        for reply in replies {
            assert_eq!(client.line().await, reply, "cut at {cut}");
        }
    }
    let mut client = place.silent_client().await;
    for byte in dialogue.as_bytes() {
        client.send([*byte]).await;
        tokio::task::yield_now().await;
    }
    client.greeting().await;
    for reply in replies {
        assert_eq!(client.line().await, reply);
    }
}
