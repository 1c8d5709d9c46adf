//! `explain`, `check-config`, `generate`.

mod common;

use common::{Folder, run};

const HASH: &str = "{SHA256}n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=";

#[test]
fn what_would_happen_and_why() {
    let folder = Folder::with_store();
    folder.ok(&["user", "add", "alice", "--password-stdin", "--group", "staff"], "correct horse\n");
    let explain =
        |more: &[&str]| folder.ok(&[&["explain", "alice", "--service", "imap"], more].concat(), "");
    let told = explain(&[]);
    for part in [
        "alice at imap\n",
        "credential   password ARGON2ID",
        "the first that knows the user decides",
        "1. accounts.main: accounts in the store",
        "offers password (also as PLAIN and LOGIN), EXTERNAL, otp",
        "would let in with the right password",
        "user-add: in staff",
    ] {
        assert!(told.contains(part), "no {part:?} in\n{told}");
    }
    assert!(!told.contains('$') && !told.contains("horse"), "{told}");
    assert!(explain(&["--mechanism", "plain"]).contains("1. accounts.main"));
    let none = explain(&["--mechanism", "GSSAPI"]);
    assert!(none.contains("accounts.main does not offer GSSAPI"), "{none}");
    assert!(none.contains("nobody: the login would be refused as unsupported"), "{none}");

    for (change, verdict) in [
        ("--must-change", "then ask for a new one"),
        ("--expires=2020-01-01", "would refuse: the account has expired"),
        ("--disable", "would refuse: the account is disabled"),
    ] {
        folder.ok(&["user", "set", "alice", change], "");
        let told = explain(&[]);
        assert!(told.contains(verdict), "no {verdict:?} in\n{told}");
    }
    folder.ok(&["user", "add", "bob", "--no-password"], "");
    let told = folder.ok(&["explain", "bob", "--service", "imap"], "");
    assert!(told.contains("would refuse: the account has no password"), "{told}");
    let told = folder.ok(&["explain", "eve", "--service", "imap"], "");
    assert!(told.contains("no account of this name") && told.contains("unknown user"), "{told}");
    assert!(told.contains("nothing is recorded about this name"), "{told}");
}

#[test]
fn a_configuration_is_checked_before_there_is_a_store() {
    let folder = Folder::bare();
    let told = folder.ok(&["check-config"], "");
    for part in
        ["http://127.0.0.1:8080", "run/dovecot-auth (mode 0660)", "1. accounts.main", "PLAIN"]
    {
        assert!(told.contains(part), "no {part:?} in\n{told}");
    }
    assert!(!folder.path().join("accounts.db").exists());

    folder.file("users", &format!("ada:{HASH}\n"));
    let text = "[policy]\ncheckers = [\"file.mail\", \"accounts.main\"]\n\
                [checker.accounts.main]\n[checker.file.mail]\npath = \"users\"\n\
                [listen.http.main]\naddress = \"[::1]:8443\"\n";
    let config = folder.file("countersign.toml", text);
    let config = config.to_str().unwrap();
    let told = folder.ok(&["check-config", "--config", config], "");
    assert!(told.contains("http main: http://[::1]:8443"), "{told}");
    let (mail, accounts) =
        (told.find("1. file.mail").unwrap(), told.find("2. accounts.main").unwrap());
    assert!(mail < accounts, "{told}");

    std::fs::remove_file(folder.path().join("users")).unwrap();
    let ended = folder.run(&["check-config", "--config", config], "");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.out.contains("cannot be asked") && ended.out.contains("users"), "{ended:?}");
}

#[test]
fn an_error_in_the_configuration_shows_the_place() {
    let folder = Folder::bare();
    let config = folder.file("countersign.toml", "[listen.http.main]\nadress = \"127.0.0.1:1\"\n");
    let error = folder.fails(1, &["check-config", "--config", config.to_str().unwrap()], "");
    for part in ["error", "countersign.toml:2", "adress = ", "^^^^^^", "did you mean `address`?"] {
        assert!(error.contains(part), "no {part:?} in\n{error}");
    }
    let same = folder.fails(1, &["serve", "--config", config.to_str().unwrap()], "");
    assert_eq!(same, error);
}

#[test]
fn man_pages_and_completions() {
    let folder = Folder::bare();
    let target = folder.path().join("out");
    for what in ["man", "completions"] {
        let ended = run(&["generate", what, target.to_str().unwrap()], "");
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    let page = std::fs::read_to_string(target.join("countersign-user-add.1")).unwrap();
    assert!(page.contains("password\\-stdin"), "{page}");
    for name in [
        "countersign.1",
        "countersign-login.1",
        "countersign.bash",
        "_countersign",
        "countersign.fish",
    ] {
        assert!(std::fs::metadata(target.join(name)).unwrap().len() > 500, "{name}");
    }
    assert!(!target.join("countersign-generate.1").exists());
}

/// `countersign … | head -0`: who has seen enough is told nothing, and nothing panics.
#[test]
fn a_reader_that_leaves_ends_the_command_quietly() {
    let folder = Folder::bare();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(["check-config", "--data"])
        .arg(folder.path())
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(141));
    assert_eq!(String::from_utf8_lossy(&done.stderr), "");
}
