//! `docs/protocols/audit.md`, statement by statement.

mod sockets;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use countersign::{KindSet, Known, Mechanism, Peer, Reason, Request, Transport};
use countersign_server::audit::{Act, Audit, Keeping, Ledger, OnFailure, Outcome, Record};
use countersign_server::engine::{Engine, Turn, Unsettled};
use countersign_server::housekeeping;
use countersign_server::metrics::Metrics;
use countersign_server::realm::Decision;
use sockets::{PATIENCE, Place};

/// A login with user name and password, to its end; nothing is committed.
async fn attempt(engine: &Engine, peer: Peer, user: &str, password: &str, ledger: &mut Ledger) {
    let request = Request::from_peer(Arc::new(peer)).by(Mechanism::PASSWORD);
    let answers = countersign::Answers::new().with("username", user.to_owned());
    let mut known = Known::new(answers.with("password", password.to_owned()));
    let mut turn = engine.begin::<Decision>(request, ()).await;
    loop {
        match turn.asked() {
            Ok((ask, login)) => {
                let answers = known.pick(&ask.round).unwrap();
                turn = engine.answer(login, ask.number, answers, ()).await;
            }
            Err(ended) => {
                let ended: Unsettled<Decision> = ended;
                assert!(!matches!(engine.settle(ended, ledger), Turn::Ask(..) | Turn::Misuse(..)));
                return;
            }
        }
    }
}

fn peer() -> Peer {
    let kinds = [countersign::CredentialKind::AuthName, countersign::CredentialKind::Passphrase];
    let mut peer = Peer::new("smtp", kinds.into_iter().collect::<KindSet>());
    peer.front_end = "dovecot";
    peer.remote = Some([192, 0, 2, 7].into());
    peer.transport = Transport::Tls;
    peer.more.details.insert("session", "x1".into());
    peer
}

/// A line with what no test can know put to fixed values.
fn fixed(line: &str) -> String {
    let json: serde_json::Value = serde_json::from_str(line).unwrap();
    let time = json["time"].as_str().unwrap();
    assert_eq!(time.len(), "2026-01-31T08:15:30.123Z".len(), "{time}");
    let mut line = line.replace(time, "T");
    if let Some(took) = json.get("took_us") {
        line = line.replace(&format!("\"took_us\":{}}}", took.as_u64().unwrap()), "\"took_us\":0}");
    }
    line
}

fn lines(place: &Place) -> Vec<String> {
    let text = std::fs::read_to_string(place.folder.path().join("audit.jsonl")).unwrap();
    text.lines().map(fixed).collect()
}

#[tokio::test]
async fn a10_keys_in_their_order() {
    let place = Place::new().await;
    let mut ledger = Ledger::default();
    attempt(&place.engine, peer(), "ada", "countess", &mut ledger).await;
    attempt(&place.engine, peer(), "ada", "wrong", &mut ledger).await;
    attempt(&place.engine, peer(), "broken", "countess", &mut ledger).await;
    let bare =
        Peer { more: Default::default(), remote: None, transport: Transport::Plain, ..peer() };
    attempt(&place.engine, bare.clone(), "disabled", "countess", &mut ledger).await;
    let denial = countersign::Denial::new(Reason::Unsupported);
    place.engine.refuse(&bare, &denial, &mut ledger);
    place.engine.commit(&mut ledger).unwrap();
    let start = r#"{"time":"T","outcome":"#;
    let whence = r#""remote":"192.0.2.7","transport":"tls","session":"x1","took_us":0}"#;
    let smtp = r#""front_end":"dovecot","service":"smtp""#;
    let by = r#""mechanism":"password""#;
    assert_eq!(
        lines(&place),
        [
            format!(r#"{start}"granted",{smtp},{by},"subject":"ada","checker":"mem",{whence}"#),
            format!(
                r#"{start}"denied",{smtp},{by},"claimed":"ada","reason":"wrong-credential","told":"denied","tried":{{"mem":"wrong-credential"}},{whence}"#
            ),
            format!(
                r#"{start}"fault",{smtp},{by},"claimed":"broken","detail":"the backend of this test is away",{whence}"#
            ),
            format!(
                r#"{start}"denied",{smtp},{by},"claimed":"disabled","reason":"disabled","told":"denied","detail":"not for the peer","tried":{{"mem":"disabled"}},"took_us":0}}"#
            ),
            format!(
                r#"{start}"denied",{smtp},"reason":"unsupported","told":"unsupported","took_us":0}}"#
            ),
        ]
    );
}

#[test]
fn a10_anonymous_and_a20_an_act() {
    let mut out = Vec::new();
    let record = Record {
        outcome: Outcome::Granted { subject: None, checker: Some("anyone") },
        front_end: "http",
        service: "",
        mechanism: None,
        claimed: Some("ada"),
        remote: None,
        transport: Transport::Local,
        took_us: 0,
        session: None,
    };
    record.write(&mut out);
    Act { actor: "http root", act: "user-add", target: "ada", detail: "" }.write(&mut out);
    Act { actor: "http root", act: "user-set", target: "ada", detail: "d" }.write(&mut out);
    let lines: Vec<_> = std::str::from_utf8(&out).unwrap().lines().map(fixed).collect();
    assert_eq!(
        lines,
        [
            r#"{"time":"T","outcome":"granted","front_end":"http","service":"","claimed":"ada","anonymous":true,"checker":"anyone","transport":"local","took_us":0}"#,
            r#"{"time":"T","outcome":"changed","actor":"http root","act":"user-add","target":"ada"}"#,
            r#"{"time":"T","outcome":"changed","actor":"http root","act":"user-set","target":"ada","detail":"d"}"#,
        ]
    );
}

#[tokio::test]
async fn a1_a8_hostile_names_stay_in_their_field_and_secrets_out() {
    let place = Place::new().await;
    let mut ledger = Ledger::default();
    let hostile = "x\"},{\"outcome\":\"granted\"\u{2028}\\";
    let peer = Peer { service: "s\n\"\u{7f}\0".into(), ..peer() };
    attempt(&place.engine, peer, hostile, "s3cret-pass", &mut ledger).await;
    place.engine.commit(&mut ledger).unwrap();
    let records = place.records(1).await;
    assert_eq!(
        (&records[0]["claimed"], &records[0]["outcome"]),
        (&hostile.into(), &"denied".into())
    );
    assert_eq!(records[0]["service"], "s\n\"\u{7f}\0");
    let text = std::fs::read_to_string(place.folder.path().join("audit.jsonl")).unwrap();
    assert!(!text.contains("s3cret"));
}

#[tokio::test]
async fn a2_a4_it_is_in_the_file_when_the_commit_returns() {
    let place = Place::new().await;
    let path = place.folder.path().join("audit.jsonl");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for known in 1..=3 {
        let mut ledger = Ledger::default();
        attempt(&place.engine, peer(), "ada", "countess", &mut ledger).await;
        assert_eq!(place.audit().len(), known - 1);
        place.engine.commit(&mut ledger).unwrap();
        assert_eq!(place.audit().len(), known);
    }
    // Rotated by copying and truncating.
    std::fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    let mut ledger = Ledger::default();
    attempt(&place.engine, peer(), "ada", "countess", &mut ledger).await;
    place.engine.commit(&mut ledger).unwrap();
    assert_eq!(place.audit().len(), 1);
    place.engine.audit.sync();
}

#[tokio::test]
async fn a6_what_cannot_be_written_is_refused_or_goes_on() {
    for (on_failure, goes_on) in [(OnFailure::Refuse, false), (OnFailure::Continue, true)] {
        let audit = Audit::open(Path::new("/dev/full"), on_failure).unwrap();
        let place = Place::with(PATIENCE, Some(audit)).await;
        for _ in 0..2 {
            let mut ledger = Ledger::default();
            attempt(&place.engine, peer(), "ada", "countess", &mut ledger).await;
            let committed = place.engine.commit(&mut ledger);
            assert_eq!(committed.is_ok(), goes_on);
            if let Err(fault) = committed {
                let said = fault.to_string();
                assert!(said.starts_with("cannot write the audit file /dev/full: "), "{said}");
            }
        }
        let failures = &place.engine.metrics.audit_failures;
        assert_eq!(failures.load(std::sync::atomic::Ordering::Relaxed), 2);
    }
    let nowhere = Audit::open(Path::new("/nonexistent/audit.jsonl"), OnFailure::Continue);
    let said = nowhere.unwrap_err().to_string();
    assert!(said.contains("/nonexistent/audit.jsonl") && said.contains("audit.path"), "{said}");
}

#[test]
fn a7_a_torn_line_is_left_and_the_next_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    std::fs::File::create(&path).unwrap().write_all(b"{\"time\":\"2026").unwrap();
    for _ in 0..2 {
        let audit = Audit::open(&path, OnFailure::Refuse).unwrap();
        audit.act(&Act { actor: "a", act: "b", target: "c", detail: "" }).unwrap();
        audit.commit(&mut Ledger::default(), &Metrics::default()).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let whole: Vec<_> =
        text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()).collect();
    assert_eq!(whole, [false, true, true]);
}

#[tokio::test]
async fn a30_the_newest_are_in_the_store() {
    let place = Place::new().await;
    let mut ledger = Ledger::default();
    for user in ["ada", "nobody", "broken"] {
        attempt(&place.engine, peer(), user, "countess", &mut ledger).await;
    }
    place.engine.commit(&mut ledger).unwrap();
    housekeeping::flush(&place.engine, 2).await;
    let events = place.engine.store.audit(&Default::default()).await.unwrap();
    let found: Vec<_> =
        events.iter().map(|event| (&*event.claimed, &*event.outcome, &*event.peer)).collect();
    assert_eq!(found, [("broken", "fault", "192.0.2.7"), ("nobody", "denied", "192.0.2.7")]);
}

#[test]
fn a9_nothing_is_lost_at_a_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let keeping = Keeping { rotate_size: Some(2000), ..Keeping::default() };
    let audit = Audit::kept(&path, keeping).unwrap();
    let enough = AtomicBool::new(false);
    // While another program rotates there is no file for a moment; while we do, there always is.
    let moving = std::sync::Mutex::new(());
    let write = |writer: usize| {
        let mut written = 0;
        while !enough.load(Ordering::Acquire) {
            let target = format!("{writer}-{written}");
            let act = Act { actor: "server", act: "write", target: &target, detail: "" };
            audit.act(&act).unwrap();
            written += 1;
            if written % 20 == 0 {
                let _still = moving.lock().unwrap();
                let other = Audit::open_existing(&path, OnFailure::Refuse).unwrap();
                assert!(other.is_on());
                other.act(&Act { actor: "command line", ..act }).unwrap();
            }
        }
        written + written / 20
    };
    let files = || std::fs::read_dir(folder.path()).unwrap().flatten();
    let written: usize = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|n| {
                scope.spawn({
                    let write = &write;
                    move || write(n)
                })
            })
            .collect();
        // Ours, and another program's.
        while files().count() < 30 {
            audit.tend(0);
            let moved = folder.path().join(format!("moved-{}", files().count()));
            if std::fs::metadata(&path).unwrap().len() > 1000 && !moved.exists() {
                let _moving = moving.lock().unwrap();
                std::fs::rename(&path, moved).unwrap();
                audit.reopen().unwrap();
            }
        }
        enough.store(true, Ordering::Release);
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    let mut found = Vec::new();
    for file in files() {
        let text = std::fs::read_to_string(file.path()).unwrap();
        // Who opens the file in the middle of another's write takes it for torn, and ends its line (A7).
        found.extend(text.lines().filter(|line| !line.is_empty()).map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            format!("{} {}", line["actor"], line["target"])
        }));
    }
    assert_eq!(found.len(), written);
    found.sort();
    found.dedup();
    assert_eq!(found.len(), written);
}

#[test]
fn a9_when_it_is_rotated_and_what_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let day = std::time::Duration::from_secs(86_400);
    let keeping = Keeping { rotate_after: Some(day), keep_files: Some(1), ..Keeping::default() };
    let audit = Audit::kept(&path, keeping).unwrap();
    let act = || audit.act(&Act { actor: "a", act: "b", target: "c", detail: "" }).unwrap();
    let now = countersign_server::world::unix_ms().0;
    let names = || {
        let entries = std::fs::read_dir(folder.path()).unwrap().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    // An empty one is not rotated, however old.
    audit.tend(now + 200_000);
    act();
    audit.tend(now + 86_000);
    // A clock that steps back rotates nothing.
    audit.tend(0);
    assert_eq!(names(), ["audit.jsonl"]);
    audit.tend(now + 86_402);
    assert_eq!(names(), ["audit.jsonl", "audit.jsonl.1"]);
    act();
    audit.tend(now);
    assert_eq!(names(), ["audit.jsonl", "audit.jsonl.1"]);
    let health = audit.health().unwrap();
    assert!(health.size > 0 && !health.failing && health.path == path);
}
