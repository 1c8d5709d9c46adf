//! The command and a running server.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use common::{Folder, Follow, Person, Server, run};

const ALICE: &str = r#"{"username":"alice","password":"correct horse"}"#;

fn with_alice() -> (Folder, Server) {
    let folder = Folder::bare();
    let server = Server::on(&folder);
    let add = ["user", "add", "alice", "--password-stdin", "--group", "staff", "--label", "top"];
    folder.ok(&add, "correct horse\n");
    (folder, server)
}

fn login(server: &Server, more: &[&str], answers: &str) -> common::Ended {
    run(&[&["login", "--server", &server.url, "--answers", "-"], more].concat(), answers)
}

#[test]
fn a_change_by_the_command_counts_at_the_next_login() {
    let (folder, server) = &with_alice();
    let ended = login(server, &[], ALICE);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
    assert_eq!(ended.out, "you are alice\ngroups: staff\nlabels: top\n");

    let wrong = login(server, &[], r#"{"username":"alice","password":"wrong horse"}"#);
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.err.starts_with("error: refused") && wrong.out.is_empty(), "{wrong:?}");
    let unknown = login(server, &[], r#"{"username":"nobody","password":"wrong horse"}"#);
    assert_eq!((unknown.code, &unknown.err), (Some(1), &wrong.err));

    folder.ok(&["user", "set", "alice", "--disable"], "");
    assert_eq!(login(server, &[], ALICE).code, Some(1));
    folder.ok(&["user", "set", "alice", "--enable"], "");
    assert_eq!(login(server, &[], ALICE).code, Some(0));
    let out = folder.ok(&["user", "remove", "alice"], "");
    assert_eq!(out, "removed `alice`\n");
    assert_eq!(login(server, &[], ALICE).code, Some(1));
}

#[test]
fn a_session_is_kept_only_for_who_is_told_its_token() {
    let (folder, server) = &with_alice();
    assert_eq!(login(server, &[], ALICE).code, Some(0));
    let out = folder.ok(&["user", "set", "alice", "--disable"], "");
    assert_eq!(out, "changed `alice`\n");

    folder.ok(&["user", "set", "alice", "--enable"], "");
    let ended = login(server, &["--json", "--user", "alice"], r#"{"password":"correct horse"}"#);
    let reply: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(reply["identity"]["subject"], "alice");
    assert!(reply["session"]["token"].as_str().unwrap().len() > 40);
    let out = folder.ok(&["user", "set", "alice", "--disable"], "");
    assert_eq!(out, "ended 1 session\nchanged `alice`\n");
}

#[test]
fn a_password_that_must_be_changed_is_changed_in_the_conversation() {
    let (folder, server) = &with_alice();
    folder.ok(&["user", "set", "alice", "--must-change"], "");
    // What is known does not answer the second round: the login is given up, and nothing is changed.
    let ended = login(server, &[], ALICE);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("`new-password`"), "{}", ended.err);
    let both = r#"{"username":"alice","password":"correct horse","new-password":"staple battery"}"#;
    assert_eq!(login(server, &[], both).code, Some(0));
    assert_eq!(login(server, &[], ALICE).code, Some(1));
    let new = r#"{"username":"alice","password":"staple battery"}"#;
    assert_eq!(login(server, &[], new).code, Some(0));
}

#[test]
fn the_first_administrator_logs_in_at_a_terminal() {
    let folder = Folder::bare();
    let server = Server::on(&folder);
    let path = folder.path().join("admin-password");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let password = std::fs::read_to_string(&path).unwrap();
    let mut person = Person::at(&["login", "--server", &server.url]);
    person.sees("User name: ").types("admin\r").sees("Password: ").types(password.trim());
    person.types("\r").sees("New password: ").types("correct horse\r");
    person.sees("New password again: ").types("correct horse\r");
    let (code, shown) = person.leaves();
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("you are admin\r\ngroups: administrators (admin)\r\n"), "{shown:?}");
    assert!(!shown.contains("horse") && !shown.contains(password.trim()), "{shown:?}");

    let mut person = Person::at(&["login", "--server", &server.url, "--user", "admin"]);
    person.sees("Password: ").types("corr\u{3}");
    let (code, shown) = person.leaves();
    assert_eq!(code, Some(1));
    assert!(shown.contains("interrupted") && !shown.contains("corr"), "{shown:?}");
    // The server heard of it, and wrote it down; the store has it within a second.
    let deadline = Instant::now() + Duration::from_secs(30);
    let query = ["audit", "--json", "--outcome", "denied"];
    while !folder.ok(&query, "").contains(r#""reason":"cancelled""#) {
        assert!(Instant::now() < deadline, "the login was not cancelled at the server");
    }
}

#[test]
fn wrong_usage_and_no_server_have_codes_of_their_own() {
    let (folder, server) = &with_alice();
    for (code, arguments, stdin, part) in [
        (2, vec!["--answers", "-"], "", "there is nothing"),
        (2, vec!["--answers", "-"], r#"{"password":"correct horse"}"#, "`username`, `password`"),
        (2, vec!["--answers", "-", "--user", "alice"], ALICE, "given twice"),
        (2, vec!["--answers", "/nonexistent"], "", "/nonexistent"),
        (2, vec![], "", "no terminal to ask at: give --answers"),
        (2, vec!["--answers", "-", "--service", "a\nb"], ALICE, "service"),
        (1, vec!["--answers", "-", "--mechanism", "GSSAPI"], ALICE, "no way of logging in"),
    ] {
        let all = [&["login", "--server", &server.url], &*arguments].concat();
        let ended = run(&all, stdin);
        assert_eq!(ended.code, Some(code), "{arguments:?}: {ended:?}");
        assert!(ended.err.contains(part), "{arguments:?}: {}", ended.err);
        assert!(!ended.err.contains("horse"), "{}", ended.err);
    }
    let open = folder.file("answers.json", ALICE);
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    let ended = run(&["login", "--server", &server.url, "--answers", open.to_str().unwrap()], "");
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("chmod 600"), "{}", ended.err);

    for (url, code, part) in [
        // A port that is bound and not listened on refuses.
        ("http://127.0.0.1:1", 3, "countersign serve"),
        ("http://192.0.2.1", 2, "--insecure"),
        ("https://127.0.0.1", 2, "TLS"),
    ] {
        let ended = run(&["login", "--server", url, "--answers", "-"], ALICE);
        assert_eq!(ended.code, Some(code), "{url}: {ended:?}");
        assert!(ended.err.contains(part), "{url}: {}", ended.err);
    }
}

#[test]
fn a_server_that_does_not_answer_is_told_of() {
    let folder = Folder::with_store();
    std::fs::create_dir(folder.path().join("run")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(folder.path().join("run/control")).unwrap();
    // Somebody who hangs up at once: when asked for the audit file, and when told of the change.
    let rude = std::thread::spawn(move || (0..2).for_each(|_| drop(socket.accept())));
    let ended = folder.run(&["user", "add", "alice", "--no-password"], "");
    assert_eq!(ended.code, Some(0));
    assert!(ended.err.contains("warning: the running server could not be told"), "{}", ended.err);
    rude.join().unwrap();
}

#[test]
fn a_second_server_on_a_folder_is_refused() {
    let folder = Folder::bare();
    let _server = Server::on(&folder);
    let error = folder.fails(3, &["serve", "--http", "127.0.0.1:0"], "");
    assert!(error.contains("another server runs on the data folder"), "{error}");
}

#[test]
fn the_record_is_followed_over_a_rotation() {
    let (folder, server) = &with_alice();
    assert_eq!(login(server, &[], ALICE).code, Some(0));
    let mut follow = Follow::on(folder, &["--service", "http", "--json"]);
    follow.sees(r#""subject":"alice""#);
    let wrong = r#"{"username":"alice","password":"wrong horse"}"#;
    assert_eq!(login(server, &[], wrong).code, Some(1));
    follow.sees(r#""reason":"wrong-credential""#);
    let path = folder.path().join("audit.jsonl");
    std::fs::rename(&path, folder.path().join("audit.jsonl.1")).unwrap();
    // An act is recorded where the server writes from now on.
    folder.ok(&["user", "set", "alice", "--label", "x"], "");
    assert!(std::fs::read_to_string(&path).unwrap().contains(r#""act":"user-set""#));
    assert_eq!(login(server, &[], r#"{"username":"eve","password":"x"}"#).code, Some(1));
    follow.sees(r#""claimed":"eve""#);

    let query = |more: &[&str]| folder.ok(&[&["audit", "--file"], more].concat(), "");
    let all = query(&[]);
    assert!(all.contains("alice") && all.contains("eve") && all.contains("user-set"), "{all}");
    let some = query(&["--reason", "wrong-credential", "--front-end", "http", "--json"]);
    assert_eq!(some.lines().count(), 1, "{some}");
    assert!(some.contains("alice"), "{some}");
    assert!(query(&["--remote", "192.0.2.0/24", "--json"]).is_empty());
    assert!(query(&["--until", "2020-01-01", "--json"]).is_empty());
    let why = folder.fails(2, &["audit", "--front-end", "http"], "");
    assert!(why.contains("--file"), "{why}");
    // The store comes after, and knows the same.
    let deadline = Instant::now() + Duration::from_secs(30);
    let query = ["audit", "--json", "--reason", "unknown-user", "--remote", "127.0.0.1"];
    while !folder.ok(&query, "").contains(r#""claimed":"eve""#) {
        assert!(Instant::now() < deadline, "the login is not in the store");
    }
}

#[test]
fn how_it_does_and_what_it_reads_anew() {
    let (folder, server) = &with_alice();
    assert_eq!(login(server, &[], ALICE).code, Some(0));
    let told = folder.ok(&["status"], "");
    for part in ["accounts.db", "up, ", "granted", "http.main", " of 4096", "audit.jsonl"] {
        assert!(told.contains(part), "no {part:?} in\n{told}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&folder.ok(&["status", "--json"], "")).unwrap();
    assert_eq!(json["logins"]["granted"], 1);
    assert_eq!(folder.ok(&["reload"], ""), "nothing has changed\n");

    let nobody = Folder::with_store();
    assert!(nobody.fails(2, &["status"], "").contains("no server runs"));
    assert!(nobody.fails(2, &["reload"], "").contains("no server runs"));
}

#[test]
fn a_bad_configuration_is_told_and_not_used() {
    let folder = Folder::bare();
    let config = folder.file("countersign.toml", "[listen.http.main]\naddress = \"127.0.0.1:0\"\n");
    let server = Server::with(&folder, &["--config", config.to_str().unwrap()]);
    folder.file("countersign.toml", "[listen.http.main]\nadress = \"127.0.0.1:0\"\n");
    let why = folder.fails(1, &["reload"], "");
    assert!(why.contains("countersign.toml:2:1") && why.contains("`address`"), "{why}");
    let why = folder.fails(1, &["status"], "");
    assert!(why.contains("not the file's"), "{why}");
    let text = "[listen.http.main]\naddress = \"127.0.0.1:0\"\n[log]\nlevel = \"debug\"\n";
    folder.file("countersign.toml", text);
    // By the signal this time.
    server.signal(rustix::process::Signal::HUP);
    let deadline = Instant::now() + Duration::from_secs(30);
    while !folder.run(&["status"], "").out.contains("changed log.level") {
        assert!(Instant::now() < deadline, "it was not read anew");
    }
    assert_eq!(folder.run(&["status"], "").code, Some(0));
}

/// Strings in the place of a configuration: both checkers are asked, in their order, and nobody else.
#[test]
fn a_server_without_a_configuration_takes_strings() {
    let folder = Folder::bare();
    let users = folder.file("users", "ada:{SHA}CNuFNtqnUctq2NEQEiz9eAdUNS4=\n");
    let file = format!("htpasswd:{}", users.display());
    let more = ["--http", "127.0.0.1:0", "--auth", &file, "--auth", "memory:ada:other:bob:builder"];
    let server = Server::with(&folder, &more);
    folder.ok(&["user", "add", "alice", "--password-stdin"], "correct horse\n");
    for (user, password, code) in [
        ("ada", "countess", 0),
        ("bob", "builder", 0),
        // The first that knows her decides.
        ("ada", "other", 1),
        // The server's own accounts are not asked.
        ("alice", "correct horse", 1),
    ] {
        let answers = format!(r#"{{"username":"{user}","password":"{password}"}}"#);
        let ended = login(&server, &[], &answers);
        assert_eq!(ended.code, Some(code), "{user}: {ended:?}");
    }
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.contains("clear text"), "no warning: {log}");
    assert!(!log.contains("builder"), "{log}");
}

#[test]
fn strings_are_refused_before_anything_starts() {
    let folder = Folder::bare();
    let config = folder.file("countersign.toml", "");
    let config = config.to_str().unwrap();
    for (arguments, said) in [
        (&["--auth", "memory:ada:s3cret:bob"][..], "at character 12 of the argument"),
        (&["--auth", "oidc:https://id.example.org"], "`oidc` cannot be used here"),
        (&["--auth", "fiel:x"], "did you mean `file`?"),
        (&["--auth", "anonymous", "--config", config], "leave one out"),
    ] {
        let said_it = folder.fails(2, &[&["serve"], arguments].concat(), "");
        assert!(said_it.contains(said) && !said_it.contains("s3cret"), "{said_it}");
    }
    let table = folder.ok(&["serve", "--help-auth"], "");
    for kind in ["accounts", "anonymous", "file", "htpasswd", "memory", "oidc", "unix"] {
        assert!(table.contains(&format!("  {kind}  ")), "{table}");
    }
    let file = folder.ok(&["serve", "--help-auth-type", "file"], "");
    assert!(file.contains("case=insensitive"), "{file}");
}
