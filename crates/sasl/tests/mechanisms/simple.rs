//! CRAM-MD5, APOP, ANONYMOUS, and keys that are made of passwords.

use countersign::{Directory, Fault, Portal, Reason, Reply, Secret, TextStore, Verdict};
use countersign_sasl::{Anonymous, ScramHash, Stored};
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};

use crate::stage::{Talk, Users, checker, decoys, peer, portal};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn cram(portal: &Portal<()>, name: &str, password: &str) -> Talk {
    let mut talk = Talk::begin(portal, "CRAM-MD5", peer(&[]));
    let challenge = talk.challenge().unwrap();
    let mac = <Hmac<Md5> as KeyInit>::new_from_slice(password.as_bytes()).unwrap();
    let digest = hex(&mac.chain_update(&challenge).finalize().into_bytes());
    talk.say(format!("{name} {digest}").as_bytes());
    talk
}

#[test]
fn cram_md5() {
    let end = |name, password| cram(&portal(), name, password).end();
    assert_eq!(end("ada", "countess").as_deref(), Ok("ada"));
    assert_eq!(end("ada", "wrong").unwrap_err().0, Reason::WrongCredential);
    assert_eq!(end("nobody", "countess").unwrap_err().0, Reason::UnknownUser);
    let (reason, detail) = end("kim", "countess").unwrap_err();
    assert_eq!(reason, Reason::WrongCredential);
    assert!(detail.contains("no readable password"), "{detail}");
    assert_eq!(end("old", "countess").unwrap_err().0, Reason::Disabled);
    assert_eq!(end("old", "wrong").unwrap_err().0, Reason::WrongCredential);
    let mut talk = Talk::begin(&portal(), "CRAM-MD5", peer(&[]));
    talk.say(b"ada");
    assert_eq!(talk.reason(), Some(Reason::Malformed));
}

#[test]
fn a_challenge_has_the_form_that_clients_expect_and_is_never_the_same() {
    let world = countersign::testing::StillWorld::default();
    let peer = peer(&[]);
    let scene = countersign::Scene::of(&peer, &world);
    let one = countersign_sasl::challenge(&scene);
    assert!(one.starts_with('<') && one.ends_with("@localhost>") && one.len() < 256, "{one}");
    assert_ne!(one, countersign_sasl::challenge(&scene));
}

/// Knows nobody.
struct Nobody;

impl Directory for Nobody {
    async fn find(&self, _: &str) -> Result<Verdict, Fault> {
        Ok(Verdict::UNKNOWN)
    }
}

impl TextStore for Nobody {
    async fn password_text(&self, _: &str) -> Result<Option<Secret>, Fault> {
        Ok(None)
    }
}

#[test]
fn one_challenge_is_good_for_every_checker() {
    let first = Stored::new("nobody", Nobody, decoys()).by_cram_md5().by_apop();
    let portal = Portal::new(()).checked_by(first).checked_by(checker("users"));
    assert_eq!(cram(&portal, "ada", "countess").end().as_deref(), Ok("ada"));
    assert_eq!(cram(&portal, "ada", "wrong").reason(), Some(Reason::WrongCredential));
    assert_eq!(apop(&portal, "ada", "countess").end().as_deref(), Ok("ada"));
}

const GREETING: &str = "<1896.697170952@dbc.mtview.ca.us>";

fn apop(portal: &Portal<()>, name: &str, password: &str) -> Talk {
    let mut peer = peer(&[]);
    peer.more.greeting = Some(GREETING.into());
    let mut talk = Talk::begin_as(portal, "APOP", peer, Some(name));
    assert_eq!(talk.challenge().as_deref(), Some(GREETING.as_bytes()));
    talk.say(hex(&Md5::digest(format!("{GREETING}{password}"))).as_bytes());
    talk
}

#[test]
fn apop_answers_the_greeting() {
    let end = |name, password| apop(&portal(), name, password).end();
    assert_eq!(end("ada", "countess").as_deref(), Ok("ada"));
    assert_eq!(end("ada", "wrong").unwrap_err().0, Reason::WrongCredential);
    assert_eq!(end("nobody", "countess").unwrap_err().0, Reason::UnknownUser);
    assert_eq!(end("old", "countess").unwrap_err().0, Reason::Disabled);
    let mut talk = apop_begun(Some("ada"));
    talk.say(b"c4c9334bac560ecc979e58001b3e22f");
    assert_eq!(talk.reason(), Some(Reason::Malformed));
    let mut talk = apop_begun(None);
    talk.say(b"c4c9334bac560ecc979e58001b3e22fb");
    assert_eq!(talk.reason(), Some(Reason::Malformed), "nobody was named");
    let talk = Talk::begin_as(&portal(), "APOP", peer(&[]), Some("ada"));
    assert_eq!(talk.reason(), Some(Reason::Unsupported), "without a greeting");
}

fn apop_begun(name: Option<&str>) -> Talk {
    let mut peer = peer(&[]);
    peer.more.greeting = Some(GREETING.into());
    Talk::begin_as(&portal(), "APOP", peer, name)
}

#[test]
fn anonymous_is_nobody_with_a_trace() {
    let portal = Portal::new(()).checked_by(Anonymous::new("guests"));
    let with = |trace: &[u8]| {
        let mut talk = Talk::begin(&portal, "ANONYMOUS", peer(&[]));
        talk.say(trace);
        talk
    };
    let talk = with(b"jo@example.com");
    let Reply::Granted(who) = &talk.reply else { panic!("{:?}", talk.reply) };
    assert_eq!(who.subject.name(), None);
    assert_eq!(who.claimed(), Some("jo@example.com"));
    assert!(matches!(with(b"").reply, Reply::Granted(_)));
    assert_eq!(with(b"a\nb").reason(), Some(Reason::Malformed));
    // It is a declared checker's or nobody's.
    let talk = Talk::begin(&crate::stage::portal(), "ANONYMOUS", peer(&[]));
    assert_eq!(talk.reason(), Some(Reason::Unsupported));
}

/// What is made of passwords is the same as what is stored, and stays the same.
#[test]
fn keys_that_are_made_at_each_login() {
    let portal = || {
        let stored = Stored::new("users", Users, decoys());
        Portal::new(()).checked_by(stored.by_derived_scram(ScramHash::ALL))
    };
    let shown = |portal: &Portal<()>, name: &str| {
        let mut talk = Talk::begin(portal, "SCRAM-SHA-256", peer(&[]));
        talk.say(format!("n,,n={name},r=x").as_bytes());
        let text = String::from_utf8(talk.challenge().unwrap()).unwrap();
        text[text.find(",s=").unwrap()..].to_owned()
    };
    let one = portal();
    for name in ["ada", "nobody", "kim"] {
        assert_eq!(shown(&one, name), shown(&one, name));
        assert_eq!(shown(&one, name), shown(&portal(), name), "after a restart");
        assert_eq!(shown(&one, name).len(), shown(&one, "ada").len());
    }
    assert_ne!(shown(&one, "ada"), shown(&one, "nobody"));
}

#[test]
fn a_checker_says_what_it_needs() {
    use countersign::{Checker, Need};

    let checker = checker("users");
    let needs = |name: &str| {
        let found = checker.mechanisms().iter().find(|mechanism| mechanism.is(name));
        found.map(|mechanism| (mechanism.needs, mechanism.plaintext))
    };
    assert_eq!(needs("CRAM-MD5"), Some((&[Need::PasswordText][..], false)));
    assert_eq!(needs("SCRAM-SHA-512-PLUS"), Some((&[Need::ScramKeys][..], false)));
    assert_eq!(needs("EXTERNAL"), None);
    assert!(format!("{checker:?}").contains("APOP"));
}
