//! SCRAM with a client of our own that can be made to do wrong.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::{
    Denial, Directory, Fault, Guard, GuessEnd, Portal, Reason, Reply, Scene, ScramKeys, ScramStore,
    Secret, Verdict,
};
use countersign_sasl::{ScramHash, Stored};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::stage::{Talk, Users, checker, decoys, peer, portal};

const SHA: ScramHash = ScramHash::Sha256;

/// What a client does, step by step.
struct Client {
    header: &'static str,
    binding: Vec<u8>,
    name: &'static str,
    password: &'static str,
    /// What it does to its last message.
    spoil: fn(String) -> String,
}

impl Client {
    fn new(name: &'static str, password: &'static str) -> Self {
        Self { header: "n,,", binding: Vec::new(), name, password, spoil: |message| message }
    }

    fn binding(header: &'static str, data: &[u8]) -> Self {
        Self { header, binding: data.to_vec(), ..Self::new("ada", "countess") }
    }

    /// Goes as far as its last message, and gives what the server must prove itself with.
    fn talk(&self, talk: &mut Talk) -> Option<String> {
        let bare = format!("n={},r=its-nonce", self.name);
        talk.say(format!("{}{bare}", self.header).as_bytes());
        let ours = String::from_utf8(talk.challenge()?).unwrap();
        let mut parts = ours.split(',').map(|part| &part[2..]);
        let (nonce, salt, count) = (parts.next()?, parts.next()?, parts.next()?);
        let (salt, count) = (STANDARD.decode(salt).unwrap(), count.parse().unwrap());
        let mut salted = [0; 32];
        pbkdf2::pbkdf2_hmac::<Sha256>(self.password.as_bytes(), &salt, count, &mut salted);
        let binding = STANDARD.encode([self.header.as_bytes(), &self.binding].concat());
        let without = format!("c={binding},r={nonce}");
        let message = format!("{bare},{ours},{without}");
        let client = hmac(&salted, b"Client Key");
        let signature = hmac(&Sha256::digest(&client), message.as_bytes());
        let proof: Vec<u8> = client.iter().zip(signature).map(|(a, b)| a ^ b).collect();
        let server = hmac(&hmac(&salted, b"Server Key"), message.as_bytes());
        let last = format!("{without},p={}", STANDARD.encode(proof));
        talk.say((self.spoil)(last).as_bytes());
        Some(format!("v={}", STANDARD.encode(server)))
    }

    fn login(&self, portal: &Portal<()>, mechanism: &str) -> Talk {
        let mut talk = Talk::begin(portal, mechanism, peer(&[("tls-exporter", b"channel")]));
        if let Some(server) = self.talk(&mut talk)
            && let Some(told) = talk.challenge()
        {
            assert_eq!(String::from_utf8(told).unwrap(), server);
            assert!(talk.closing());
            talk.say(b"");
        }
        talk
    }
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).unwrap();
    mac.chain_update(message).finalize().into_bytes().to_vec()
}

#[test]
fn both_sides_are_proven() {
    let talk = Client::new("ada", "countess").login(&portal(), "SCRAM-SHA-256");
    assert_eq!(talk.end().as_deref(), Ok("ada"));
    let talk = Client::new("a=2Cb=3Dc", "pencil").login(&portal(), "scram-sha-256");
    assert_eq!(talk.end().as_deref(), Ok("a,b=c"));
}

#[test]
fn every_other_last_message_is_refused() {
    let end = |spoil| {
        Client { spoil, ..Client::new("ada", "countess") }.login(&portal(), SHA.mechanism())
    };
    type Spoil = fn(String) -> String;
    let spoiled: [(Spoil, _, _); 8] = [
        (|m| m.replace("its-nonce", "its-nonsense"), Reason::Malformed, "other-error"),
        (|m| m.replace("c=biws", "c=eSws"), Reason::NotAllowed, "channel-bindings-dont-match"),
        (|m| format!("{m}!"), Reason::Malformed, "invalid-encoding"),
        (|m| format!("{}AAAA", &m[..m.len() - 4]), Reason::WrongCredential, ""),
        (|m| format!("{}AA=", &m[..m.len() - 3]), Reason::WrongCredential, ""),
        (|m| m[..m.rfind(",p=").unwrap()].into(), Reason::Malformed, "invalid-encoding"),
        (|m| format!("{},p=", &m[..m.rfind(",p=").unwrap()]), Reason::WrongCredential, ""),
        (|m| m.replace(",p=", ",m=x,p="), Reason::Malformed, "extensions-not-supported"),
    ];
    for (spoil, reason, error) in spoiled {
        let (found, detail) = end(spoil).end().unwrap_err();
        assert_eq!(found, reason, "{detail}");
        assert!(detail.starts_with(error), "{detail}");
    }
    assert_eq!(end(|_| String::new()).reason(), Some(Reason::Malformed));
}

#[test]
fn nobody_acts_as_another() {
    let header = |header| Client { header, ..Client::new("ada", "countess") };
    assert_eq!(header("n,a=ada,").login(&portal(), SHA.mechanism()).end().as_deref(), Ok("ada"));
    let refused = header("n,a=root,").login(&portal(), SHA.mechanism());
    assert_eq!(refused.reason(), Some(Reason::NotAllowed));
}

#[test]
fn channel_binding_is_enforced() {
    let end = |client: Client, mechanism| client.login(&portal(), mechanism).end();
    let plus = SHA.plus();
    let bound = Client::binding("p=tls-exporter,,", b"channel");
    assert_eq!(end(bound, plus).as_deref(), Ok("ada"));
    for (client, mechanism, error) in [
        (Client::binding("p=tls-exporter,,", b"another"), plus, "channel-bindings-dont-match"),
        (Client::binding("p=tls-exporter,,", b""), plus, "channel-bindings-dont-match"),
        (Client::binding("p=tls-unique,,", b"channel"), plus, "unsupported-channel-binding-type"),
        (Client::binding("n,,", b""), plus, "channel-bindings-dont-match"),
        (Client::binding("y,,", b""), plus, "channel-bindings-dont-match"),
        (
            Client::binding("p=tls-exporter,,", b"channel"),
            SHA.mechanism(),
            "channel-binding-not-supported",
        ),
        (Client::binding("y,,", b""), SHA.mechanism(), "server-does-support-channel-binding"),
    ] {
        let (reason, detail) = end(client, mechanism).unwrap_err();
        assert_eq!(reason, Reason::NotAllowed);
        assert!(detail.starts_with(error), "{detail}");
    }
    // Where there is nothing to bind to, a client that could have is let in.
    let mut talk = Talk::begin(&portal(), SHA.mechanism(), peer(&[]));
    Client::binding("y,,", b"").talk(&mut talk);
    talk.say(b"");
    assert_eq!(talk.end().as_deref(), Ok("ada"));
}

#[test]
fn a_connection_without_bindings_is_not_offered_to_bind() {
    let offers = |bindings: &[(&'static str, &[u8])]| {
        let names = portal().begins(&peer(bindings));
        assert_eq!(
            names,
            portal().begins_by_token(&peer(bindings)),
            "all of these speak in tokens"
        );
        names.iter().any(|name| name == "SCRAM-SHA-256-PLUS")
    };
    assert!(!offers(&[]));
    let names = portal().begins(&peer(&[]));
    assert!(!names.iter().any(|name| name == "APOP"), "there was no greeting: {names:?}");
    assert!(offers(&[("tls-server-end-point", b"cert")]));
}

/// The salt and the count that a name is shown.
fn shown(name: &'static str) -> String {
    let mut talk = Talk::begin(&portal(), SHA.mechanism(), peer(&[]));
    Client::new(name, "x").talk(&mut talk);
    assert!(matches!(talk.reply, Reply::Denied(_)));
    let mut talk = Talk::begin(&portal(), SHA.mechanism(), peer(&[]));
    talk.say(format!("n,,n={name},r=x").as_bytes());
    let text = String::from_utf8(talk.challenge().unwrap()).unwrap();
    text[text.find(",s=").unwrap()..].to_owned()
}

#[test]
fn who_does_not_exist_is_shown_a_salt_as_well() {
    assert_eq!(shown("nobody"), shown("nobody"), "the same at every try");
    assert_ne!(shown("nobody"), shown("somebody"));
    assert_eq!(shown("nobody").len(), shown("ada").len());
    let end = |name| Client::new(name, "countess").login(&portal(), SHA.mechanism()).end();
    assert_eq!(end("nobody"), Err((Reason::UnknownUser, String::new())));
    let (reason, detail) = end("kim").unwrap_err();
    assert_eq!(reason, Reason::WrongCredential, "known, and not a word to the peer");
    assert!(detail.contains("no keys"), "{detail}");
    assert_eq!(end("old").unwrap_err().0, Reason::Disabled);
    for name in ["=", "a=2c", "\u{7}", "\u{627}1"] {
        assert_eq!(end(name).unwrap_err().0, Reason::Malformed, "{name:?}");
    }
}

/// Knows nobody.
struct Nobody(Arc<AtomicUsize>);

impl Directory for Nobody {
    async fn find(&self, _: &str) -> Result<Verdict, Fault> {
        Ok(Verdict::UNKNOWN)
    }
}

impl ScramStore for Nobody {
    async fn keys(&self, _: &str, _: &str) -> Result<Option<ScramKeys>, Fault> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(None)
    }
}

#[test]
fn the_next_checker_is_shown_the_same_message() {
    let asked = Arc::new(AtomicUsize::new(0));
    let first = Stored::new("nobody", Nobody(Arc::clone(&asked)), decoys()).by_scram([SHA]);
    let portal = Portal::new(()).checked_by(first).checked_by(checker("users"));
    let end = Client::new("ada", "countess").login(&portal, SHA.mechanism()).end();
    assert_eq!(end.as_deref(), Ok("ada"));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let end = Client::new("nobody", "x").login(&portal, SHA.mechanism());
    assert_eq!(end.reason(), Some(Reason::UnknownUser));
}

/// A store whose password is changed while somebody logs in.
struct Changing(Mutex<&'static str>);

impl Directory for Changing {
    async fn find(&self, login: &str) -> Result<Verdict, Fault> {
        Users.find(login).await
    }
}

impl ScramStore for Changing {
    async fn keys(&self, _: &str, _: &str) -> Result<Option<ScramKeys>, Fault> {
        let password = Secret::from(std::mem::replace(&mut *self.0.lock().unwrap(), "changed"));
        Ok(Some(SHA.keys(&password, b"0123456789abcdef", 64)))
    }
}

#[test]
fn a_password_that_is_changed_meanwhile_counts() {
    let store = Changing(Mutex::new("countess"));
    let portal = Portal::new(()).checked_by(Stored::new("users", store, decoys()).by_scram([SHA]));
    let talk = Client::new("ada", "countess").login(&portal, SHA.mechanism());
    let (reason, detail) = talk.end().unwrap_err();
    assert_eq!(reason, Reason::WrongCredential);
    assert!(detail.contains("changed"), "{detail}");
}

/// Refuses everybody.
#[derive(Default)]
struct Closed(Mutex<Vec<String>>);

impl Guard for Closed {
    fn admit(&self, _: &Scene<'_>, login: &str, _: Option<&[u8]>) -> Result<u64, Denial> {
        self.0.lock().unwrap().push(login.to_owned());
        Err(Denial::new(Reason::Throttled))
    }

    fn ended(&self, _: &Scene<'_>, _: &str, _: u64, _: GuessEnd) {}
}

#[test]
fn a_guard_is_asked_before_the_server_says_that_the_proof_was_right() {
    let guard = Arc::new(Closed::default());
    let portal = portal().guarded_by(Arc::clone(&guard) as Arc<dyn Guard>);
    for password in ["countess", "wrong"] {
        let mut talk = Talk::begin(&portal, SHA.mechanism(), peer(&[]));
        Client::new("ada", password).talk(&mut talk);
        assert_eq!(talk.reason(), Some(Reason::Throttled), "{password}: and no signature");
    }
    assert_eq!(*guard.0.lock().unwrap(), ["ada", "ada"]);
}

#[test]
fn nothing_is_said_after_the_last_message() {
    let mut talk = Talk::begin(&portal(), SHA.mechanism(), peer(&[]));
    Client::new("ada", "countess").talk(&mut talk);
    assert!(talk.closing());
    talk.say(b"x");
    assert_eq!(talk.reason(), Some(Reason::Malformed));
}
