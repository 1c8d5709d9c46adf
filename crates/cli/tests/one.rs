//! OpenNebula starts this program: as a driver that asks a server.

mod common;

use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Ended, Folder, Server, run};

/// OpenNebula's folders, with the driver in its place, and its settings.
fn installed(folder: &Folder, settings: &str) {
    let remotes = folder.path().join("one/var/remotes/auth/countersign");
    std::fs::create_dir_all(&remotes).unwrap();
    symlink(env!("CARGO_BIN_EXE_countersign"), remotes.join("authenticate")).unwrap();
    std::fs::create_dir_all(folder.path().join("one/etc/auth")).unwrap();
    std::fs::write(folder.path().join("one/etc/auth/countersign.toml"), settings).unwrap();
}

/// As its driver manager does: no arguments, the document on standard input.
fn driver(folder: &Folder, document: &str) -> Ended {
    let one = folder.path().join("one");
    let mut command = Command::new(one.join("var/remotes/auth/countersign/authenticate"));
    command.env_clear().env("ONE_LOCATION", &one).current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(document.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn login(user: &str, secret: &str) -> String {
    format!(
        "<AUTHN>\n  <USERNAME>{user}</USERNAME>\n  <PASSWORD>-</PASSWORD>\n  <SECRET>{secret}</SECRET>\n</AUTHN>"
    )
}

#[test]
fn a_driver_that_asks_a_server() {
    let folder = Folder::bare();
    let server = Server::on(&folder);
    let add = ["user", "add", "ada", "--password-stdin", "--group", "staff", "--admin-of", "ops"];
    folder.ok(&add, "a<b>&c countess\n");
    installed(
        &folder,
        &format!("server = \"{}\"\n[groups]\nstaff = 100\nops = 7\nothers = 9\n", server.url),
    );
    let good = driver(&folder, &login("ada", "a&lt;b&gt;&amp;c countess"));
    assert_eq!((good.code, &*good.out, &*good.err), (Some(0), "countersign ada - *7 100\n", ""));

    let wrong = driver(&folder, &login("ada", "a countess"));
    assert_eq!((wrong.code, &*wrong.out), (Some(255), ""));
    assert!(wrong.err.starts_with("error: refused: the name or what proves it is wrong"));
    let unknown = driver(&folder, &login("nobody", "a countess"));
    assert_eq!((unknown.code, unknown.err), (Some(255), wrong.err));

    let empty = driver(&folder, &login("ada", ""));
    assert_eq!((empty.code, &*empty.err), (Some(255), "error: the secret is empty\n"));
    let none = driver(&folder, "ada:secret");
    assert_eq!((none.code, &*none.out), (Some(255), ""));
    assert!(none.err.starts_with("error: standard input holds no login: "), "{}", none.err);

    // The same by its command, with settings elsewhere.
    let settings = folder.file("cs.toml", &format!("server = \"{}\"", server.url));
    let arguments = ["one-authenticate", "--config", settings.to_str().unwrap()];
    let good = run(&arguments, &login("ada", "a&lt;b&gt;&amp;c countess"));
    assert_eq!((good.code, &*good.out), (Some(0), "countersign ada -\n"));

    // Its sessions were nobody's wish, and are gone.
    let out = folder.ok(&["user", "set", "ada", "--disable"], "");
    assert_eq!(out, "changed `ada`\n");
    assert_eq!(driver(&folder, &login("ada", "a&lt;b&gt;&amp;c countess")).code, Some(255));
    drop(server);
    let away = driver(&folder, &login("ada", "a&lt;b&gt;&amp;c countess"));
    assert_eq!((away.code, &*away.out), (Some(255), ""));
    assert!(away.err.starts_with("error: cannot reach the server at http://127.0.0.1:"));
}

#[test]
fn what_cannot_be_asked_for_there_refuses() {
    let folder = Folder::bare();
    let config = folder.file(
        "server.toml",
        "[[policy.rules]]\nname = \"cloud\"\nservice = [\"opennebula\"]\nrequire = [\"password\", \"otp\"]\n",
    );
    let server = Server::with(&folder, &["--http", "127.0.0.1:0", "--config", path(&config)]);
    folder.ok(&["user", "add", "ada", "--password-stdin"], "correct horse\n");
    installed(&folder, &format!("server = \"{}\"", server.url));
    let asked = driver(&folder, &login("ada", "correct horse"));
    assert_eq!((asked.code, &*asked.out), (Some(255), ""), "{}", asked.err);
    installed_settings(&folder, "serve = \"http://127.0.0.1:1\"");
    let wrong = driver(&folder, &login("ada", "correct horse"));
    assert_eq!(wrong.code, Some(255));
    assert!(wrong.err.contains("countersign.toml") && wrong.err.contains("unknown field `serve`"));
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn installed_settings(folder: &Folder, settings: &str) {
    std::fs::write(folder.path().join("one/etc/auth/countersign.toml"), settings).unwrap();
}
