//! `countersign user otp|recovery|app-password|factors`, on a store and at a terminal.

mod common;

use std::time::{SystemTime, UNIX_EPOCH};

use common::{Folder, Person, Server};
use serde_json::{Value, json};

/// RFC 6238, as an app computes it: with another program's code than the server's would prove nothing
/// more, since both are held to the RFC's vectors elsewhere.
fn app(secret: &str) -> totp_rs::Totp {
    let secret = totp_rs::Secret::try_from_base32(secret).unwrap();
    totp_rs::Builder::new().with_secret(secret.as_bytes()).build().unwrap()
}

fn code(secret: &str, steps: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    app(secret).generate(now + 30 * steps).to_string()
}

fn line<'a>(text: &'a str, name: &str) -> &'a str {
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{text}")).trim()
}

fn with_ada() -> Folder {
    let folder = Folder::with_store();
    folder.ok(&["user", "add", "ada", "--password-stdin"], "correct horse\n");
    folder
}

#[test]
fn a_person_enrols_codes_at_a_terminal() {
    let folder = with_ada();
    let data = folder.path().to_str().unwrap();
    let enrol = ["user", "otp", "ada", "--label", "telephone", "--data", data];
    let mut person = Person::at(&enrol);
    person.sees("\u{1b}[38;5;16;48;5;231m").sees("otpauth://totp/Countersign:ada?secret=");
    let secret = person.until("&");
    person.sees("The code that it shows now: ").types("000000\r").sees("is not right");
    person.sees("The code that it shows now: ").types(&format!("{}\r", code(&secret, 0)));
    let (ended, shown) = person.leaves();
    assert_eq!(ended, Some(0), "{shown}");
    assert!(shown.contains("enrolled one-time codes for `ada`"), "{shown}");

    let list = folder.ok(&["user", "factors", "list", "ada"], "");
    assert!(list.contains("totp") && list.contains("telephone"), "{list}");
    let shown = folder.ok(&["user", "show", "ada"], "");
    assert!(!format!("{list}{shown}").contains(&secret));

    // Whoever leaves has enrolled nothing.
    let mut person = Person::at(&enrol);
    person.sees("shows now: ").types("\u{3}");
    assert_eq!(person.leaves().0, Some(1));
    let list = folder.ok(&["user", "factors", "list", "ada", "--json"], "");
    assert_eq!(serde_json::from_str::<Value>(&list).unwrap().as_array().unwrap().len(), 1);
}

#[test]
fn without_a_terminal_there_is_the_address_and_no_picture() {
    let folder = with_ada();
    let said = folder.fails(2, &["user", "otp", "ada"], "");
    assert!(said.contains("--unconfirmed"), "{said}");
    let unconfirmed = ["user", "otp", "ada", "--unconfirmed", "--digits", "8", "--period", "60"];
    let out = folder.ok(&[&unconfirmed[..], &["--algorithm", "sha256"]].concat(), "");
    let address = line(&out, "address");
    assert!(address.ends_with("&algorithm=SHA256&digits=8&period=60"), "{out}");
    assert!(address.contains(line(&out, "secret")) && !out.contains('█'));
    let out = folder.ok(&["user", "otp", "ada", "--unconfirmed", "--hotp"], "");
    assert!(line(&out, "address").starts_with("otpauth://hotp/"), "{out}");
    for (wrong, part) in [
        (&["--digits", "5"][..], "6, 7 or 8"),
        (&["--period", "1"], "15 to 300"),
        (&["--algorithm", "MD5"], "SHA512"),
        (&["--hotp", "--period", "60"], "cannot be used with"),
    ] {
        let arguments = [&["user", "otp", "ada", "--unconfirmed"], wrong].concat();
        let said = folder.run(&arguments, "");
        assert!(said.code != Some(0) && said.err.contains(part), "{said:?}");
    }
    let said = folder.fails(1, &["user", "otp", "nobody", "--unconfirmed"], "");
    assert!(said.contains("no user `nobody`"), "{said}");
}

#[test]
fn an_application_password_gets_in_where_it_is_for() {
    let folder = with_ada();
    let server = Server::on(&folder);
    let add = ["user", "app-password", "add", "ada", "--service", "imap", "--label", "tablet"];
    let password = folder.ok(&add, "").trim().to_owned();
    assert_eq!(password.len(), 29);
    let login = |service: &str| {
        let answers = json!({"username": "ada", "password": password}).to_string();
        let arguments = ["login", "--server", &server.url, "--answers", "-", "--service", service];
        common::run(&arguments, &answers)
    };
    assert_eq!(login("imap").code, Some(0));
    assert_eq!(login("smtp").code, Some(1));
    let list = folder.ok(&["user", "app-password", "list", "ada", "--json"], "");
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!((&list[0]["services"], &list[0]["label"]), (&json!(["imap"]), &json!("tablet")));
    let id = list[0]["id"].to_string();
    let removed = folder.ok(&["user", "app-password", "remove", "ada", &id], "");
    assert!(removed.starts_with("removed 1 factor\n"), "{removed}");
    assert_eq!(login("imap").code, Some(1));
    let none = folder.run(&["user", "app-password", "add", "ada"], "");
    assert!(none.code == Some(2) && none.err.contains("--service"), "{none:?}");
}

#[test]
fn lost_factors_are_reset_and_recorded() {
    let folder = with_ada();
    folder.ok(&["user", "otp", "ada", "--unconfirmed"], "");
    let codes = folder.ok(&["user", "recovery", "ada"], "");
    assert_eq!(codes.lines().count(), 10);
    let list = folder.ok(&["user", "factors", "list", "ada"], "");
    assert!(list.contains("recovery (10 left)"), "{list}");
    let listed = folder.ok(&["user", "factors", "list", "ada", "--json"], "");
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let id = listed[0]["id"].to_string();
    // A number of another kind is not taken for one of this.
    let said = folder.fails(2, &["user", "app-password", "remove", "ada", &id], "");
    assert!(said.contains("totp"), "{said}");
    let reset = ["user", "factors", "reset", "ada", "--kind", "totp"];
    assert_eq!(folder.ok(&reset, ""), "removed 1 factor\n");
    assert_eq!(folder.ok(&["user", "factors", "reset", "ada"], ""), "removed 1 factor\n");
    let audit = folder.ok(&["audit", "--user", "ada"], "");
    assert!(audit.contains("factors-reset: totp: 1 removed"), "{audit}");
    assert!(audit.contains("factor-add: recovery: 10 codes"), "{audit}");
    let code = codes.lines().next().unwrap();
    assert!(!audit.contains(code));
    // The password is still there.
    let shown = folder.ok(&["user", "show", "ada"], "");
    assert!(shown.contains("ARGON2ID"), "{shown}");
}
