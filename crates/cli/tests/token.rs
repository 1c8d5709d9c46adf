//! Tokens for OpenNebula's users and servers: made by the command, taken by its checkers.
#![cfg(all(feature = "one-ssh", feature = "one-cipher"))]

mod common;

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use common::{Folder, Person, run};

fn login(auth: &str, name: &str, password: &str) -> (Option<i32>, String) {
    let answers = serde_json::json!({"username": name, "password": password}).to_string();
    let ended = run(&["login", "--auth", auth, "--answers", "-"], &answers);
    (ended.code, ended.out + &ended.err)
}

fn keygen(folder: &Folder, name: &str, passphrase: &str) -> bool {
    let path = folder.path().join(name);
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", passphrase, "-C", "a key", "-f"]).arg(path);
    match command.status() {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("not run: ssh-keygen: {error}");
            false
        }
    }
}

#[test]
fn a_key_s_token_logs_its_user_in() {
    let folder = Folder::bare();
    if !keygen(&folder, "key", "") {
        return;
    }
    let path = |name: &str| folder.path().join(name).display().to_string();
    let stored = run(&["token", "ssh", "alice", "--key", &path("key"), "--stored"], "").out;
    folder.file("keys", &format!("alice {stored}bob {stored}"));
    let auth = format!("one-ssh:{}", path("keys"));
    let token = run(&["token", "ssh", "alice", "--key", &path("key"), "--expires", "12h"], "").out;
    assert_eq!(login(&auth, "alice", token.trim()).0, Some(0));
    for (name, password) in [("bob", token.trim()), ("alice", "x"), ("carol", token.trim())] {
        assert_eq!(login(&auth, name, password).0, Some(1), "{name}");
    }
    let long = run(&["token", "ssh", "alice", "--key", &path("key"), "--expires", "3d"], "").out;
    assert_eq!(login(&auth, "alice", long.trim()).0, Some(1));
    for (arguments, said) in [
        (["a b", "--expires", "1h"], "not a name"),
        (["alice", "--expires", "never"], "a token ends"),
        (["alice", "--expires", "2001-01-01"], "is over"),
    ] {
        let ended = run(&[&["token", "ssh", "--key", &path("key")], &arguments[..]].concat(), "");
        assert!(ended.code == Some(2) && ended.err.contains(said), "{ended:?}");
    }
}

#[test]
fn a_passphrase_is_asked_for_and_not_shown() {
    let folder = Folder::bare();
    if !keygen(&folder, "key", "tea time") {
        return;
    }
    let key = folder.path().join("key").display().to_string();
    let mut person = Person::at(&["token", "ssh", "alice", "--key", &key]);
    person.sees("Passphrase of").types("milk\n").sees("does not open the key");
    person.sees("Passphrase of").types("tea time\n").sees("countersign-ssh1.");
    let (code, rest) = person.leaves();
    assert!(code == Some(0) && !rest.contains("tea"), "{rest}");
}

#[test]
fn a_server_s_token_is_for_one_target() {
    let folder = Folder::bare();
    let path = |name: &str| folder.path().join(name).display().to_string();
    folder.file("auth", "serveradmin:opennebula\n");
    // printf opennebula | sha256sum
    let stored = "b065663b91df7176a5d6567fddde2eb91b3ea73a5055c1f0915909f764d92cc6";
    folder.file("secrets", &format!("serveradmin {stored}\n"));
    let arguments = ["token", "cipher", "alice", "--auth", &path("auth")];
    let mode =
        |name: &str, mode| set_permissions(path(name), Permissions::from_mode(mode)).unwrap();
    mode("auth", 0o644);
    let open = run(&arguments, "");
    assert!(open.code == Some(2) && open.err.contains("chmod 600"), "{open:?}");
    mode("auth", 0o600);
    mode("secrets", 0o600);
    let token = run(&arguments, "").out;
    let auth = format!("one-cipher:{}", path("secrets"));
    let (code, said) = login(&auth, "serveradmin", &format!("alice:{}", token.trim()));
    assert!(code == Some(0) && said.contains("one-target: alice"), "{said}");
    assert_eq!(login(&auth, "serveradmin", &format!("oneadmin:{}", token.trim())).0, Some(1));
    let legacy = run(&[&arguments[..], &["--legacy"]].concat(), "").out;
    let password = format!("alice:{}", legacy.trim());
    assert_eq!(login(&auth, "serveradmin", &password).0, Some(1));
    assert_eq!(login(&format!("{auth}?legacy=yes"), "serveradmin", &password).0, Some(0));
}
