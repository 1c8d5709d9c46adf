//! `countersign user …` on a store.

mod common;

use common::{Folder, Person, run};
use serde_json::{Value, json};

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_user_from_beginning_to_end() {
    let folder = Folder::with_store();
    let add = [
        "user",
        "add",
        "alice",
        "--password-stdin",
        "--group",
        "staff",
        "--admin-of",
        "ops",
        "--label",
        "secret",
        "--attribute",
        "mail=a@x",
        "--attribute",
        "mail=b=c",
        "--expires",
        "2030-01-01",
    ];
    let out = folder.ok(&add, "correct horse\nand nothing of this line\n");
    assert_eq!(out, "created the group `staff`\ncreated the group `ops`\nadded `alice`\n");

    let view = json_of(&folder.ok(&["user", "show", "alice", "--json"], ""));
    assert_eq!(view["attributes"]["mail"], json!(["a@x", "b=c"]));
    assert_eq!(view["groups"], json!([{"name": "ops", "admin": true}, {"name": "staff"}]));
    assert_eq!(view["expires"], "2030-01-01T00:00:00Z");
    assert_eq!(view["credentials"][0]["scheme"], "ARGON2ID");
    let shown = folder.ok(&["user", "show", "alice"], "");
    assert!(shown.contains("groups       ops (admin), staff\n"), "{shown}");
    assert!(shown.contains("credential   password ARGON2ID, added 20"), "{shown}");
    assert!(!shown.contains('$') && !view.to_string().contains('$'), "{shown}");

    let set = [
        "user",
        "set",
        "alice",
        "--disable",
        "--expires",
        "never",
        "--leave",
        "ops",
        "--group",
        "web",
        "--unlabel",
        "secret",
        "--label",
        "top",
        "--unset",
        "mail",
        "--must-change",
    ];
    assert_eq!(folder.ok(&set, ""), "created the group `web`\nchanged `alice`\n");
    let view = json_of(&folder.ok(&["user", "show", "alice", "--json"], ""));
    assert_eq!((&view["enabled"], &view["must_change"]), (&json!(false), &json!(true)));
    assert_eq!((&view["expires"], &view["attributes"]), (&Value::Null, &json!({})));
    assert_eq!(view["groups"], json!([{"name": "staff"}, {"name": "web"}]));
    assert_eq!(view["labels"], json!(["top"]));

    folder.ok(&["user", "add", "bob", "--no-password"], "");
    let table = folder.ok(&["user", "list"], "");
    let lines: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "STATE", "EXPIRES", "PASSWORD"]);
    assert_eq!(lines[1], ["alice", "disabled", "-", "must", "change"]);
    assert_eq!(lines[2], ["bob", "enabled", "-", "-"]);
    let list = json_of(&folder.ok(&["user", "list", "--json", "--prefix", "b"], ""));
    assert_eq!(list.as_array().unwrap().len(), 1);

    let set = ["user", "passwd", "bob", "--password-stdin"];
    assert_eq!(folder.ok(&set, "staple battery"), "set the password of `bob`\n");
    assert_eq!(folder.ok(&["user", "remove", "bob"], ""), "removed `bob`\n");
    assert!(folder.fails(1, &["user", "show", "bob"], "").contains("no user `bob`"));

    // Who did what is in the audit.
    let audit = folder.ok(&["audit", "--json", "--outcome", "changed"], "");
    let acts: Vec<Value> = audit.lines().map(json_of).collect();
    let acts: Vec<_> = acts.iter().map(|act| act["reason"].as_str().unwrap()).collect();
    assert_eq!(acts, ["user-remove", "password-set", "user-add", "user-set", "user-add"]);
    assert!(!audit.contains("horse") && !audit.contains("battery"));
    let table = folder.ok(&["audit", "--user", "bob", "--since", "1h", "--limit", "2"], "");
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.contains("command line, uid "), "{table}");
}

#[test]
fn mistakes_are_told_with_their_remedy() {
    let folder = Folder::with_store();
    folder.ok(&["user", "add", "alice", "--no-password"], "");
    for (code, arguments, stdin, part) in [
        (1, vec!["user", "add", "alice", "--no-password"], "", "already a user `alice`"),
        (
            1,
            vec!["user", "add", "a\tb", "--no-password"],
            "",
            "name: a user's name must not contain control",
        ),
        (1, vec!["user", "add", "", "--no-password"], "", "must not be empty"),
        (1, vec!["user", "add", "bob", "--password-stdin"], "short\n", "at least 8"),
        (1, vec!["user", "add", "barbaras", "--password-stdin"], "Barbaras\n", "user name"),
        (2, vec!["user", "add", "bob", "--password-stdin"], "", "standard input is empty"),
        (2, vec!["user", "add", "bob"], "x", "give --password-stdin or --no-password"),
        (2, vec!["user", "passwd", "alice"], "x", "give --password-stdin"),
        (
            1,
            vec!["user", "passwd", "nobody", "--password-stdin"],
            "correct horse",
            "no user `nobody`",
        ),
        (1, vec!["user", "remove", "nobody"], "", "no user `nobody`"),
        (2, vec!["user", "set", "alice"], "", "nothing to change"),
        (1, vec!["user", "set", "alice", "--leave", "ops"], "", "not in the group `ops`"),
        (1, vec!["user", "set", "alice", "--unlabel", "top"], "", "does not have the label `top`"),
        (2, vec!["user", "set", "alice", "--enable", "--disable"], "", "cannot be used with"),
        (2, vec!["user", "set", "alice", "--attribute", "mail"], "", "NAME=VALUE"),
        (
            2,
            vec!["user", "set", "alice", "--attribute", "m=x", "--unset", "m"],
            "",
            "both set and unset",
        ),
        (2, vec!["user", "set", "alice", "--expires", "soon"], "", "write 2026-11-22"),
        (2, vec!["user", "add", "bob", "--password", "x"], "", "unexpected argument"),
        (2, vec!["audit", "--outcome", "maybe"], "", "possible values"),
    ] {
        let error = folder.fails(code, &arguments, stdin);
        assert!(error.contains(part), "{arguments:?}: {error}");
        assert!(!error.contains("Barbaras") && !error.contains("horse"), "{error}");
    }
    assert_eq!(folder.ok(&["user", "list"], "").lines().count(), 2);
}

#[test]
fn a_password_that_is_too_long_is_refused_and_not_cut() {
    let folder = Folder::with_store();
    let add = ["user", "add", "alice", "--password-stdin"];
    let error = folder.fails(1, &add, &"x".repeat(10_000));
    assert!(error.contains("4096"), "{error}");
    folder.ok(&add, &"x".repeat(4096));
}

#[test]
fn a_store_that_is_not_there_is_not_made() {
    let folder = Folder::bare();
    for arguments in [
        vec!["user", "add", "alice", "--password-stdin"],
        vec!["user", "list"],
        vec!["audit"],
        vec!["explain", "alice", "--service", "imap"],
    ] {
        let error = folder.fails(3, &arguments, "correct horse\n");
        assert!(
            error.contains("no account store") && error.contains("start the server"),
            "{error}"
        );
    }
    assert!(!folder.path().join("accounts.db").exists());
    let nowhere = run(&["user", "list", "--config", "/nonexistent.toml"], "");
    assert_eq!(nowhere.code, Some(1));
    assert!(nowhere.err.contains("/nonexistent.toml"), "{}", nowhere.err);
}

#[test]
fn a_person_types_a_password_twice() {
    let folder = Folder::with_store();
    let data = folder.path().to_str().unwrap();
    let mut person = Person::at(&["user", "add", "alice", "--data", data]);
    person.sees("New password for alice: ").types("short\r");
    person.sees("New password for alice again: ").types("short\r").sees("at least 8");
    person.sees("New password for alice: ").types("correct horse\r");
    person.sees("again: ").types("correct horse\r");
    let (code, shown) = person.leaves();
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("added `alice`") && !shown.contains("horse"), "{shown:?}");

    let mut person = Person::at(&["user", "passwd", "alice", "--data", data]);
    person.sees("New password for alice: ").types("battery\u{3}");
    let (code, shown) = person.leaves();
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("interrupted") && !shown.contains("battery"), "{shown:?}");
}
