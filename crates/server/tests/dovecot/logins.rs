//! D12 to D28: logins and replies.

use std::time::Duration;

use countersign_server::front::dovecot::{Announced, DovecotOptions};

use crate::peer::{Client, b64, plain};
use crate::sockets::Place;

#[tokio::test]
async fn d12_d13_d23_mechanisms_without_regard_to_case() {
    let place = Place::dovecot().await;
    let mut client = place.client().await;
    let message = b64("\0ada\0countess");
    for (id, mechanism) in ["PLAIN", "plain", "Plain"].iter().enumerate() {
        let line = format!("AUTH\t{}\t{mechanism}\tservice=smtp\tresp={message}", id + 1);
        assert_eq!(client.ask(&line).await, format!("OK\t{}\tuser=ada", id + 1));
    }
    assert_eq!(client.ask("AUTH\t9\tlogin\tservice=smtp").await, "CONT\t9\tVXNlcm5hbWU6");
    // The last id there is.
    let line = plain(u32::MAX, "ada", "countess");
    assert_eq!(client.ask(&line).await, "OK\t4294967295\tuser=ada");
}

#[tokio::test]
async fn d14_d20_d21_parameters_in_the_record() {
    let place = Place::dovecot().await;
    let mut client = place.client().await;
    let message = b64("\0ada\0countess");
    for (id, (parameters, remote, transport)) in [
        ("rip=::ffff:192.0.2.7\tsecured=tls", Some("192.0.2.7"), Some("tls")),
        ("rip=192.0.2.7\trip=2001:db8::1\tsecured", Some("2001:db8::1"), Some("local")),
        ("rip=unknown\tunknown=\tunknown\t", None, None),
        ("rip=(null)\tlip=\tlport=x\trport=65536", None, None),
    ]
    .into_iter()
    .enumerate()
    {
        let line = format!(
            "AUTH\t{}\tPLAIN\tservice=smtp\t{parameters}\tsession=s\x01t{id}\tnologin\tresp={message}",
            id + 1
        );
        assert_eq!(client.ask(&line).await, format!("OK\t{}\tuser=ada", id + 1));
        let record = &place.records(id + 1).await[id];
        assert_eq!(record.get("remote").and_then(|r| r.as_str()), remote, "{parameters}");
        assert_eq!(record.get("transport").and_then(|t| t.as_str()), transport, "{parameters}");
        assert_eq!(record["session"], format!("s\t{id}"));
        assert_eq!((&record["service"], &record["mechanism"]), (&"smtp".into(), &"PLAIN".into()));
        assert_eq!((&record["subject"], &record["checker"]), (&"ada".into(), &"mem".into()));
    }
}

#[tokio::test]
async fn d16_d17_d18_absent_and_empty_responses() {
    let place = Place::dovecot().await;
    for (minor, end, absent) in [
        (0, "", true),
        (0, "\tresp=", true),
        (0, "\tresp", true),
        (1, "\tresp=", true),
        (0, "\tresp==", false),
        (2, "", true),
        (2, "\tresp=", false),
        (2, "\tresp", false),
        (2, "\tresp==", false),
    ] {
        let mut client = place.silent_client().await;
        client.send(format!("VERSION\t1\t{minor}\nCPID\t1\n")).await;
        client.greeting().await;
        let ask = |mechanism| format!("AUTH\t1\t{mechanism}\tservice=smtp{end}");
        // An empty message is no PLAIN message and no name.
        let plain = if absent { "CONT\t1\t" } else { "FAIL\t1" };
        assert_eq!(client.ask(&ask("PLAIN")).await, plain, "1.{minor} {end:?}");
        client.send("CANCEL\t1\n").await;
        let login = if absent { "CONT\t1\tVXNlcm5hbWU6" } else { "FAIL\t1" };
        assert_eq!(client.ask(&ask("LOGIN")).await, login, "1.{minor} {end:?}");
    }
    let mut client = place.client().await;
    // The password may be empty, and is then wrong; `=` is as good as nothing.
    for empty in ["", "="] {
        assert_eq!(client.ask("AUTH\t1\tLOGIN\tservice=smtp").await, "CONT\t1\tVXNlcm5hbWU6");
        assert_eq!(client.ask("CONT\t1\tYWRh").await, "CONT\t1\tUGFzc3dvcmQ6");
        assert_eq!(client.ask(&format!("CONT\t1\t{empty}")).await, "FAIL\t1\tuser=ada");
    }
    // LOGIN with the name at once.
    assert_eq!(
        client.ask("AUTH\t1\tLOGIN\tservice=smtp\tresp=YWRh").await,
        "CONT\t1\tUGFzc3dvcmQ6"
    );
    assert_eq!(client.ask("CONT\t1\tY291bnRlc3M=").await, "OK\t1\tuser=ada");
    // PLAIN in answer to an empty challenge.
    assert_eq!(client.ask("AUTH\t1\tPLAIN\tservice=smtp").await, "CONT\t1\t");
    let message = b64("\0ada\0countess");
    assert_eq!(client.ask(&format!("CONT\t1\t{message}")).await, "OK\t1\tuser=ada");
}

#[tokio::test]
async fn d19_cancel_has_no_reply() {
    let place = Place::dovecot().await;
    let mut client = place.client().await;
    assert_eq!(client.ask("AUTH\t1\tLOGIN\tservice=smtp").await, "CONT\t1\tVXNlcm5hbWU6");
    client.send("CANCEL\t1\nCANCEL\t2\nCANCEL\t0\nCANCEL\t3\textra\n").await;
    assert!(client.line().await.starts_with("FAIL\t0\t"));
    // It is over: there is nothing to go on with.
    let answer = client.ask("CONT\t1\tYWRh").await;
    assert_eq!(answer, "FAIL\t1\treason=No such request is waiting");
    let records = place.records(3).await;
    assert_eq!(records[0]["reason"], "cancelled");

    // One that runs comes to its end for the record, and its id can be used again meanwhile.
    client.send(plain(4, "slow", "countess") + "\n").await;
    place.gate.reached(1).await;
    client.send("CANCEL\t4\n").await;
    assert_eq!(client.ask(&plain(4, "ada", "countess")).await, "OK\t4\tuser=ada");
    place.gate.open(1);
    let records = place.records(5).await;
    assert_eq!(
        (&records[4]["reason"], &records[4]["claimed"]),
        (&"cancelled".into(), &"slow".into())
    );
    assert_eq!(client.ask(&plain(5, "ada", "countess")).await, "OK\t5\tuser=ada");
}

#[tokio::test]
async fn d22_external_takes_the_name_from_the_certificate() {
    let mut place = Place::new().await;
    place.serve_dovecot(DovecotOptions { trust_client_certificates: true, ..Default::default() });
    let mut client = place.client().await;
    for (parameters, message, answer) in [
        ("valid-client-cert\tcert_username=ada", "resp==", "OK\t1\tuser=ada"),
        ("valid-client-cert\tcert_username=ada", "resp=YWRh", "OK\t1\tuser=ada"),
        // May ask to act as somebody, and may not act as another.
        ("valid-client-cert\tcert_username=ada", "resp=b3RoZXI=", "FAIL\t1"),
        ("cert_username=ada", "resp==", "FAIL\t1"),
        ("cert_username=ada", "resp=YWRh", "FAIL\t1"),
        ("valid-client-cert", "resp=YWRh", "FAIL\t1"),
        ("valid-client-cert\tcert_username=", "resp==", "FAIL\t1"),
        ("valid-client-cert\tcert_username=ada\x010", "resp==", "FAIL\t1"),
        ("valid-client-cert\tcert_username=eve", "resp==", "FAIL\t1\tuser=eve"),
        ("valid-client-cert\tcert_username=\u{e9}ve", "resp==", "FAIL\t1\tuser=\u{e9}ve"),
    ] {
        let line = format!("AUTH\t1\tEXTERNAL\tservice=smtp\t{parameters}\t{message}");
        assert_eq!(client.ask(&line).await, answer, "{parameters} {message}");
    }
    let absent = "AUTH\t1\tEXTERNAL\tservice=smtp\tvalid-client-cert\tcert_username=ada";
    assert_eq!(client.ask(absent).await, "CONT\t1\t");
    assert_eq!(client.ask("CONT\t1\t").await, "OK\t1\tuser=ada");
    // A name that is not text is nobody's.
    client
        .send(b"AUTH\t1\tEXTERNAL\tservice=smtp\tvalid-client-cert\tcert_username=\xff\tresp==\n")
        .await;
    assert_eq!(client.line().await, "FAIL\t1");
}

#[tokio::test]
async fn d25_four_words_and_no_more() {
    let place = Place::dovecot().await;
    let mut client = place.client().await;
    let mut answer = async |user: &str, password: &str| {
        client.ask(&plain(1, user, password)).await.replace(&format!("user={user}"), "user=*")
    };
    let wrong = answer("ada", "wrong").await;
    assert_eq!(wrong, "FAIL\t1\tuser=*");
    // Unknown, disabled, expired, forbidden: to the byte as a wrong password.
    for user in ["nobody", "disabled", "expired", "forbidden"] {
        assert_eq!(answer(user, "countess").await, wrong, "{user}");
    }
    assert_eq!(
        answer("changer", "countess").await,
        "FAIL\t1\tuser=*\treason=Password must be changed\tcode=pass_expired\tpass_expired"
    );
    assert_eq!(
        answer("hasty", "countess").await,
        "FAIL\t1\tuser=*\treason=Try again later\tcode=temp_fail\ttemp"
    );
    let records = place.records(7).await;
    let reasons: Vec<_> = records.iter().map(|record| record["reason"].as_str().unwrap()).collect();
    assert_eq!(
        reasons,
        [
            "wrong-credential",
            "unknown-user",
            "disabled",
            "expired",
            "not-allowed",
            "change-needed",
            "too-many"
        ]
    );
    assert_eq!(records[6]["told"], "try-later");
}

async fn answer_to(client: &mut Client, message: &[u8]) -> String {
    client.ask(&format!("AUTH\t1\tPLAIN\tservice=smtp\tresp={}", b64(message))).await
}

#[tokio::test]
async fn d4_d28_names_that_are_no_names() {
    let place = Place::dovecot().await;
    let mut client = place.client().await;
    // Nothing of what cannot be a name is echoed.
    for message in [
        &b"\0\xff\xfe\0countess"[..],
        b"\0ada\n\0countess",
        b"\0a\tda\0countess",
        b"\0ada\x7f\0countess",
        b"\0ada\xc2\x85\0countess",
        b"\0\0countess",
        b"\0ada\0countess\0",
        b"ada\0countess",
        b"\xff\0ada\0countess",
    ] {
        assert_eq!(answer_to(&mut client, message).await, "FAIL\t1", "{message:?}");
    }
    // To act as another is one of the refusals that look the same.
    assert_eq!(answer_to(&mut client, b"other\0ada\0countess").await, "FAIL\t1\tuser=ada");
    assert_eq!(answer_to(&mut client, b"ada\0ada\0countess").await, "OK\t1\tuser=ada");
    // A checker that gives a name with a line in it.
    let answer = answer_to(&mut client, b"\0renamed\0countess").await;
    assert_eq!(answer, "FAIL\t1\tuser=renamed");
    let record = place.audit().pop().unwrap();
    assert_eq!((&record["outcome"], &record["reason"]), (&"denied".into(), &"not-allowed".into()));
}

#[tokio::test]
async fn d5_left_over_bits_are_ignored_and_lengths_limited() {
    let place = Place::dovecot().await;
    let mut client = place.client().await;
    // `ad` is YWQ=.
    let line = "AUTH\t1\tLOGIN\tservice=smtp\tresp=YWR=";
    assert_eq!(client.ask(line).await, "CONT\t1\tUGFzc3dvcmQ6");
    client.send("CANCEL\t1\n").await;
    for (bytes, answer) in
        [(9_216, "FAIL\t1"), (9_217, "FAIL\t1\treason=Response longer than 12288 characters")]
    {
        assert_eq!(answer_to(&mut client, &vec![b'x'; bytes]).await, answer, "{bytes}");
    }
}

#[tokio::test]
async fn d12_many_at_once_and_answers_in_any_order() {
    let place = Place::dovecot().await;
    let mut client = place.client().await;
    let mut lines = String::new();
    for id in 1..=500 {
        let user = if id % 2 == 0 { "ada" } else { "slow" };
        lines += &(plain(id, user, if id % 5 == 0 { "wrong" } else { "countess" }) + "\n");
    }
    client.send(&lines).await;
    for id in (2..=500).step_by(2) {
        let expected = if id % 5 == 0 { "FAIL" } else { "OK" };
        assert_eq!(client.line().await, format!("{expected}\t{id}\tuser=ada"));
    }
    place.gate.reached(250).await;
    place.gate.open(250);
    let mut slow = Vec::new();
    for _ in 0..250 {
        slow.push(client.line().await);
    }
    slow.sort();
    let mut expected: Vec<_> = (1..=500)
        .step_by(2)
        .map(|id| format!("{}\t{id}\tuser=slow", if id % 5 == 0 { "FAIL" } else { "OK" }))
        .collect();
    expected.sort();
    assert_eq!(slow, expected);
    let records = place.records(500).await;
    let granted = records.iter().filter(|record| record["outcome"] == "granted").count();
    assert_eq!(granted, 400);
}

#[tokio::test]
async fn d50_d52_a_checker_that_does_not_answer_is_a_fault_in_time() {
    let mut place = Place::with(Duration::from_millis(20), None).await;
    place.serve_dovecot(DovecotOptions::default());
    let mut client = place.client().await;
    let away = "FAIL\t1\treason=Try again later\tcode=temp_fail\ttemp";
    for user in ["never", "broken", "panics"] {
        assert_eq!(client.ask(&plain(1, user, "countess")).await, away, "{user}");
    }
    assert_eq!(client.ask(&plain(1, "ada", "countess")).await, "OK\t1\tuser=ada");
    let records = place.records(4).await;
    let details: Vec<_> = records.iter().filter_map(|record| record["detail"].as_str()).collect();
    assert_eq!(
        details,
        [
            "a checker did not answer within 20ms",
            "the backend of this test is away",
            "a checker panicked"
        ]
    );
    assert!(records[..3].iter().all(|record| record["outcome"] == "fault"));
    // Whose login it was, although the name came within the message.
    let claimed: Vec<_> = records[..3].iter().map(|record| record["claimed"].as_str()).collect();
    assert_eq!(claimed, [Some("never"), Some("broken"), Some("panics")]);
}

/// A place that announces SCRAM, and one line of a client's SCRAM by another hand.
async fn proofs() -> Place {
    let mut place = Place::new().await;
    let mechanisms =
        ["SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "ANONYMOUS", "SCRAM-SHA-1", "SCRAM-SHA-512"];
    let mechanisms = mechanisms.map(|name| Announced::named(name).unwrap()).to_vec();
    place.serve_dovecot(DovecotOptions { mechanisms, ..Default::default() });
    place
}

#[tokio::test]
async fn d8_what_is_announced_is_what_was_named_and_somebody_serves() {
    let place = proofs().await;
    let greeting = place.silent_client().await.greeting().await;
    let mechanisms = [
        "MECH\tSCRAM-SHA-256\tmutual-auth",
        "MECH\tCRAM-MD5\tdictionary\tactive",
        "MECH\tPLAIN\tplaintext",
        "MECH\tSCRAM-SHA-1\tmutual-auth",
        "MECH\tSCRAM-SHA-512\tmutual-auth",
    ];
    assert_eq!(greeting[1..6], mechanisms);
    assert!(greeting[6].starts_with("SPID"), "{greeting:?}");
    assert!(Announced::named("SCRAM-SHA-256-PLUS").is_none());
}

#[tokio::test]
async fn d26_the_last_message_goes_with_ok_or_is_one_more_cont() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use rsasl::prelude::{Mechname, SASLClient, SASLConfig};

    let place = proofs().await;
    for (mechanism, told, password) in [
        ("SCRAM-SHA-256", true, "countess"),
        ("SCRAM-SHA-256", false, "countess"),
        ("SCRAM-SHA-256", true, "wrong"),
        ("SCRAM-SHA-1", true, "countess"),
        ("SCRAM-SHA-512", false, "countess"),
    ] {
        let config = SASLConfig::with_credentials(None, "ada".into(), password.into()).unwrap();
        let name = Mechname::parse(mechanism.as_bytes()).unwrap();
        let mut sasl = SASLClient::new(config).start_suggested(&[name]).unwrap();
        let mut said = |heard: Option<&str>| {
            let heard = heard.map(|text| STANDARD.decode(text).unwrap());
            let mut message = Vec::new();
            sasl.step(heard.as_deref(), &mut message).unwrap();
            b64(message)
        };
        let mut client = place.client().await;
        let parameter = if told { "\tfinal-resp-ok" } else { "" };
        let first = said(None);
        let line = format!("AUTH\t7\t{mechanism}\tservice=smtp{parameter}\tresp={first}");
        let answer = client.ask(&line).await;
        let last = said(Some(answer.strip_prefix("CONT\t7\t").unwrap()));
        let answer = client.ask(&format!("CONT\t7\t{last}")).await;
        if password == "wrong" {
            assert_eq!(answer, "FAIL\t7\tuser=ada");
        } else if told {
            // What the server proves itself with.
            said(Some(answer.strip_prefix("OK\t7\tuser=ada\tresp=").expect(&answer)));
        } else {
            said(Some(answer.strip_prefix("CONT\t7\t").expect(&answer)));
            assert_eq!(client.ask("CONT\t7\t").await, "OK\t7\tuser=ada");
        }
    }
}

/// OAUTHBEARER whose message says no name: guesses are counted by where they come from, whoever they would be.
#[tokio::test]
async fn tokens_that_come_without_a_name_are_bounded_too() {
    use countersign::{Bearer, Portal};
    use countersign_sasl::OAuthBearer;
    use countersign_server::realm::ServerRealm;
    use countersign_testkit::OneToken;

    let mut place = Place::new().await;
    let engine = &place.engine;
    let portal = Portal::new(ServerRealm::new(engine.store.clone(), engine.world, 3600))
        .checked_by(Bearer::new("tokens", OneToken("hers")))
        .carried_by(OAuthBearer::new())
        .guarded_by(engine.throttle.clone());
    engine.portal.store(portal.into());
    let mechanisms = vec![Announced::named("OAUTHBEARER").unwrap()];
    place.serve_dovecot(DovecotOptions { mechanisms, ..Default::default() });
    let mut client = place.client().await;
    let mut id = 0;
    let mut show = async |token: &str, from: &str| {
        id += 1;
        let message = b64(format!("n,,\u{1}auth=Bearer {token}\u{1}\u{1}"));
        let line = format!(
            "AUTH\t{id}\tOAUTHBEARER\tservice=imap\tsecured=tls\trip={from}\tresp={message}"
        );
        let answer = client.ask(&line).await;
        // What is wrong with it is told, and whoever leaves then has guessed all the same.
        if answer.starts_with("CONT") {
            client.send(format!("CANCEL\t{id}\n")).await;
            return "wrong".to_owned();
        }
        answer
            .split('\t')
            .filter(|field| field.parse::<u32>().is_err())
            .collect::<Vec<_>>()
            .join(" ")
    };
    for guess in 0..21 {
        assert_eq!(show(&format!("guess{guess}"), "192.0.2.7").await, "wrong", "guess {guess}");
    }
    for token in ["another", "hers"] {
        let answer = show(token, "192.0.2.7").await;
        assert!(answer.starts_with("FAIL") && answer.contains("temp"), "{token}: {answer}");
    }
    assert_eq!(show("hers", "198.51.100.7").await, "OK user=ada", "from elsewhere");
}
