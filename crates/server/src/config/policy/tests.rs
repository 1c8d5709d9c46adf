//! The words of the table, and every contradiction where it is shown.

use std::path::Path;

use super::*;
use crate::config::Config;
use crate::registry;

fn parse(text: &str) -> Result<Config, String> {
    let registry = registry::built_in();
    let path = Path::new("countersign.toml");
    Config::parse(text, Path::new("/etc"), Path::new("/data"), &registry)
        .map_err(|error| error.in_file(path, text).to_string())
}

#[test]
fn what_nobody_says_is_safe() {
    let terms = parse("").unwrap().policy.terms;
    assert_eq!(terms.plaintext, Some(Plaintext::Secured));
    let require: Vec<_> = terms.require.iter().flatten().map(Factor::to_string).collect();
    assert_eq!(require, ["any", "otp?|passkey?"]);
    assert_eq!(terms.code_in_password, None);
}

#[test]
fn the_words_of_a_table() {
    let text = r#"
        [checker.accounts.main]
        [checker.file.guests]
        path = "guests"
        [policy]
        checkers = ["accounts.main"]
        require = ["password", ["otp", "passkey"]]
        plaintext = "never"
        [[policy.rules]]
        name = "inside"
        service = ["IMAP", "pop3"]
        network = "10.1.2.3/8"
        transport = ["plain", "tls"]
        plaintext = "always"
        checkers = [{ checker = "accounts.main", fault = "next" }, "file.guests"]
        [[policy.rules]]
        group = "staff"
        require = ["password", "otp?"]
    "#;
    let policy = parse(text).unwrap().policy;
    let [inside, staff] = policy.rules.as_slice() else { panic!("{policy:?}") };
    assert_eq!(inside.name, "rule `inside`");
    assert_eq!(&*inside.when.services[0], "imap");
    assert_eq!(inside.when.networks[0].to_string(), "10.0.0.0/8");
    let checkers = inside.terms.checkers.as_ref().unwrap();
    assert_eq!(checkers[0].1.fault, Then::Next);
    assert_eq!(checkers[1].1, Order::FirstKnown.results());
    assert_eq!((&*staff.name, &*staff.when.groups), ("rule 2", &["staff".to_owned()][..]));
    let require = staff.terms.require.as_ref().unwrap();
    assert!(!require[0].only_enrolled && require[1].only_enrolled);
}

#[test]
fn a_group_s_number_is_its_name() {
    let rule = "[[policy.rules]]\ngroup = \"100\"\nallow = false\n";
    let config = parse(&format!("{rule}[groups]\nmap = {{ users = 100 }}")).unwrap();
    assert_eq!(config.policy.rules[0].when.groups, ["users"]);
    assert!(parse(rule).unwrap_err().contains("no name here"));
}

#[test]
fn contradictions_are_shown_where_they_are() {
    let rule = |text: &str| format!("[[policy.rules]]\n{text}");
    for (text, expected) in [
        (rule("group = \"staff\"\nplaintext = \"always\""), [":3", "before it is known who"]),
        (rule("service = \"imap\""), [":1", "says nothing"]),
        (rule("allow = false\nplaintext = \"never\""), [":1", "nothing else need be said"]),
        (rule("require = []"), [":2", "no factor"]),
        (rule("require = [\"otp\"]"), [":2", "does not say whose"]),
        (rule("require = [\"password?\"]"), [":2", "first factor"]),
        (rule("require = [\"password\", \"any\"]"), [":2", "put it first"]),
        (rule("require = [\"password\", [\"otp?\", \"passkey\"]]"), [":2", "question mark"]),
        (rule("mechanisms = []"), [":2", "no mechanism"]),
        (rule("checkers = []"), [":2", "asks no checker"]),
        (rule("checkers = [\"acounts.main\"]"), [":2", "`accounts.main`"]),
        (rule("service = []\nallow = true"), [":2", "matches nobody"]),
        (rule("network = \"10.0.0.0/33\"\nallow = true"), [":2", "no network"]),
        (rule("transport = \"tsl\"\nallow = true"), [":2", "tls"]),
        (rule("alow = true"), [":2", "`allow`"]),
        (
            rule("checkers = [{ checker = \"accounts.main\", granted = \"next\" }]"),
            [":2", "always counts"],
        ),
        (
            rule("checkers = [{ checker = \"accounts.main\", fault = \"count\" }]"),
            [":2", "cannot be asked"],
        ),
        (
            format!(
                "{}\n{}",
                rule("service = [\"imap\", \"pop3\"]\nallow = false"),
                rule("service = \"imap\"\nnetwork = \"10.0.0.0/8\"\nallow = true")
            ),
            [":4", "never decides"],
        ),
    ] {
        let error = parse(&text).unwrap_err();
        for part in expected {
            assert!(error.contains(part), "{text}\n{error}\n{part}");
        }
    }
    let many = rule("allow = true\n").repeat(2);
    assert!(parse(&many).unwrap_err().contains("never decides"));
    let many: String =
        (0..65).map(|i| rule(&format!("service = \"s{i}\"\nallow = true\n"))).collect();
    assert!(parse(&many).unwrap_err().contains("there may be 64"));
}

/// What shows only when it is known what the checkers offer.
#[test]
fn a_rule_under_which_nobody_could_log_in_is_refused() {
    use countersign::{Identity, Password, PasswordStore, Secret, Verdict, Verified};
    struct Anybody;
    impl PasswordStore for Anybody {
        async fn check(&self, login: &str, _: &Secret) -> Result<Verdict, countersign::Fault> {
            Ok(Verdict::Is(Verified::vouch(Identity::named(login))))
        }
    }
    let check = |text: &str| {
        let text = format!("[checker.accounts.main]\n{text}");
        let mut config = parse(&text).unwrap();
        config.file = Some(("countersign.toml".into(), text));
        let checker: Arc<dyn countersign::Checker> =
            Arc::new(Password::new("accounts.main", Anybody));
        config.portal((), [checker]).map(|portal| table(&portal)).map_err(|e| e.to_string())
    };
    assert!(check("[listen.dovecot.m]\nmechanisms = [\"LOGIN\", \"PLAIN\"]").is_ok());
    let rows = check("[[policy.rules]]\nservice = \"imap\"\nmechanisms = [\"plain\"]").unwrap();
    assert_eq!(rows[0].begins, ["PLAIN"]);
    assert_eq!(rows[1].begins, ["password", "PLAIN", "LOGIN"]);
    assert_eq!(rows[0].terms.plaintext, Some(Plaintext::Secured), "filled in");
    for (text, expected) in [
        ("[policy]\nrequire = [\"password\", \"otp\"]", "`otp`"),
        ("[policy]\nmechanisms = [\"PLIAN\"]", "`PLAIN`"),
        ("[policy]\nplaintext = \"never\"", "nobody could log in"),
        ("[policy]\ncode_in_password = true\nrequire = [\"password\"]", "no code is required"),
        (
            "[[policy.rules]]\ntransport = \"plain\"\nmechanisms = [\"LOGIN\"]",
            "nobody could log in",
        ),
        (
            "[listen.dovecot.m]\nmechanisms = [\"PLAIN\", \"SCRAM-SHA-256\"]",
            "[accounts] scram = [\"SCRAM-SHA-256\"]",
        ),
        ("[listen.dovecot.m]\nmechanisms = [\"EXTERNAL\"]", "trust_client_certificates"),
    ] {
        let error = check(text).unwrap_err();
        assert!(error.contains(expected), "{text}\n{error}");
    }
}
