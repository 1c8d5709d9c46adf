//! `countersign throttle`, beside a server that counts.

mod common;

use std::time::{Duration, Instant};

use common::{Folder, Server, run};

fn login(server: &Server, password: &str) -> common::Ended {
    let answers = format!(r#"{{"username":"alice","password":"{password}"}}"#);
    run(&["login", "--server", &server.url, "--answers", "-"], &answers)
}

#[test]
fn who_has_to_wait_is_listed_and_let_go() {
    let folder = Folder::bare();
    let server = Server::on(&folder);
    folder.ok(&["user", "add", "alice", "--password-stdin"], "correct horse\n");
    assert_eq!(folder.ok(&["throttle", "list", "--json"], ""), "[]\n");
    for wrong in ["1", "2", "3", "4", "5", "6", "7", "8", "9"] {
        // After the fifth they are refused unseen, and count no more.
        assert_eq!(login(&server, wrong).code, Some(1));
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    let listed = loop {
        // A node tells the store some moments later.
        let listed = folder.ok(&["throttle", "list", "--user", "alice", "--json"], "");
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        if listed[0]["failures"].as_i64() >= Some(5) || Instant::now() > deadline {
            break listed;
        }
    };
    assert_eq!((&listed[0]["user"], &listed[0]["source"]), (&"alice".into(), &"127.0.0.1".into()));
    let table = folder.ok(&["throttle", "list"], "");
    let mut lines = table.lines();
    let head: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(head, ["USER", "SOURCE", "FAILURES", "DELAYED", "UNTIL", "LAST"]);
    assert!(lines.next().unwrap().starts_with("alice"), "{table}");
    assert_eq!(folder.ok(&["throttle", "list", "--user", "bob", "--json"], ""), "[]\n");

    assert_eq!(folder.ok(&["throttle", "clear", "--user", "bob"], ""), "cleared 0 throttles\n");
    let cleared = ["throttle", "clear", "--user", "alice", "--source", "127.0.0.1"];
    assert_eq!(folder.ok(&cleared, ""), "cleared 1 throttle\n");
    // The server knows when the command is done.
    let ended = login(&server, "correct horse");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let audit = folder.ok(&["audit", "--outcome", "changed", "--user", "alice"], "");
    assert!(audit.contains("throttles-clear: 127.0.0.1: 1 cleared"), "{audit}");
}

#[test]
fn nothing_is_cleared_by_oversight() {
    let folder = Folder::with_store();
    let said = folder.fails(2, &["throttle", "clear"], "");
    assert!(said.contains("--user") && said.contains("--all"), "{said}");
    folder.fails(2, &["throttle", "clear", "--all", "--user", "alice"], "");
    let said = folder.fails(1, &["throttle", "clear", "--source", "example.org"], "");
    assert!(said.contains("192.0.2.0/24"), "{said}");
    assert_eq!(folder.ok(&["throttle", "clear", "--all"], ""), "cleared 0 throttles\n");
}
