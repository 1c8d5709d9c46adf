//! `countersign user token|driver-data`, and logins at a server whose accounts have drivers.

mod common;

use common::{Folder, Server, run};
use serde_json::Value;

const CONFIG: &str = r#"
[listen.http.main]
address = "127.0.0.1:0"

[checker.accounts.main]
[checker.file.corp]
path = "corp.passwd"

[policy]
checkers = ["accounts.main", "file.corp"]

[pool]
checkers = ["accounts.main", "file.corp"]
default = "file.corp"
default_group = "staff"

[pool.drivers.corp]
max_token_time = 3600
"#;

/// Digests of `secret` and `theirs`.
const CORP: &str = "zoe:{SHA256}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=\n\
                    ada:{SHA256}TFWoVSoscmH2H3mMImXm8TNY8yauW5NAlv8WvRXmLDM=\n";

fn login(server: &Server, user: &str, password: &str) -> common::Ended {
    let answers = format!(r#"{{"username":"{user}","password":"{password}"}}"#);
    run(&["login", "--server", &server.url, "--json", "--answers", "-"], &answers)
}

#[test]
fn accounts_have_drivers_and_tokens() {
    let folder = Folder::with_store();
    folder.file("corp.passwd", CORP);
    let config = folder.file("countersign.toml", CONFIG);
    let config = ["--config", config.to_str().unwrap()];
    folder.ok(&["group", "add", "staff"], "");
    folder.ok(&["user", "add", "ada", "--password-stdin", "--group", "staff"], "correct horse\n");
    let server = Server::with(&folder, &config);

    // Ada's password is the store's, whoever else knows somebody of that name.
    assert_eq!(login(&server, "ada", "correct horse").code, Some(0));
    assert_eq!(login(&server, "ada", "theirs").code, Some(1));
    // Zoe gets an account of her first login.
    let ended = login(&server, "zoe", "secret");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let zoe = folder.ok(&["user", "show", "zoe", "--json"], "");
    let zoe: Value = serde_json::from_str(&zoe).unwrap();
    assert_eq!((&zoe["driver"], &zoe["groups"][0]["name"]), (&"corp".into(), &"staff".into()));

    let add = |more: &[&'static str]| [&["user", "token", "add"], more, &config[..]].concat();
    let token = folder.ok(&add(&["zoe", "--label", "backup", "--group", "staff"]), "");
    let token = token.trim();
    assert!(token.starts_with("cst_") && token.len() == 47, "{token}");
    assert_eq!(login(&server, "zoe", token).code, Some(0));
    assert_eq!(login(&server, "ada", token).code, Some(1));
    let listed = folder.ok(&["user", "token", "list", "zoe", "--json"], "");
    assert!(!listed.contains(&token[4..]), "{listed}");
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((&listed[0]["label"], &listed[0]["group"]), (&"backup".into(), &"staff".into()));
    let table = folder.ok(&["user", "token", "list", "zoe"], "");
    assert!(table.contains("backup"), "{table}");
    folder.fails(1, &["user", "token", "remove", "ada", &listed[0]["id"].to_string()], "");
    let removed = folder.ok(&["user", "token", "remove", "zoe", &listed[0]["id"].to_string()], "");
    assert!(removed.contains("removed the token"), "{removed}");
    // The server knows when the command is done.
    assert_eq!(login(&server, "zoe", token).code, Some(1));
    folder.ok(&["user", "set", "zoe", "--disable"], "");
    assert_eq!(login(&server, "zoe", "secret").code, Some(1));
}

#[test]
fn what_cannot_be_is_told() {
    let folder = Folder::with_store();
    folder.ok(&["user", "add", "ada", "--no-password"], "");
    let said = folder.fails(2, &["user", "token", "add", "ada"], "");
    assert!(said.contains("[pool]"), "{said}");
    let config = folder.file("countersign.toml", "[pool]\ncheckers = [\"accounts.main\"]\n");
    let config = ["--config", config.to_str().unwrap()];
    let add =
        |more: &[&'static str]| [&["user", "token", "add", "ada"], more, &config[..]].concat();
    let said = folder.fails(1, &add(&["--group", "staff"]), "");
    assert!(said.contains("staff"), "{said}");
    for _ in 0..10 {
        folder.ok(&add(&["--expires", "never"]), "");
    }
    let said = folder.fails(1, &add(&[]), "");
    assert!(said.contains("10"), "{said}");

    folder.ok(&["user", "driver-data", "ada"], "ssh-ed25519 AAAA ada@home\n");
    let shown = folder.ok(&["user", "show", "ada"], "");
    assert!(shown.contains("credential   driver") && !shown.contains("AAAA"), "{shown}");
    folder.fails(1, &["user", "driver-data", "ada"], "\n");
    folder.fails(1, &["user", "driver-data", "nobody"], "x\n");
}
