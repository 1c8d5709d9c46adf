//! The Dovecot authentication client protocol. Contract: `docs/protocols/dovecot-auth.md`.
//!
//! One task a connection. Every complete line of a read is handled before anything is written: logins
//! that need no waiting (a cheap hash, a refusal) are answered in one batch, with one audit write and one
//! socket write; the others go on beside it, each under its own deadline.

mod connection;
pub mod handover;
pub mod master;
pub mod userdb;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use countersign::{CredentialKind, KindSet, Portal};
use countersign_wire::dovecot::{MechanismFlag, MechanismOffer};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use self::handover::Handovers;
use crate::engine::Engine;
use crate::front::socket::Socket;
use crate::front::{Gauge, Stop, next_connection};
use crate::realm::ServerRealm;

/// How a listener behaves.
#[derive(Clone, Debug)]
pub struct DovecotOptions {
    /// What the listener is called, as `dovecot.main`.
    pub listener: Option<&'static String>,
    /// What to do when a backend is away.
    pub on_fault: OnFault,
    /// Whether `cert_username` of this listener's clients is believed. Whoever can connect then decides
    /// who logs in by EXTERNAL.
    pub trust_client_certificates: bool,
    /// The mechanisms to announce, as far as a checker serves them.
    pub mechanisms: Vec<Announced>,
    /// Connections at a time; further ones wait to be accepted.
    pub connections: usize,
    /// Logins of a connection that run or wait at a time (D35).
    pub pending: usize,
    /// How long a client may take for its greeting, for the rest of a line, and to read the replies that
    /// are there.
    pub patience: Duration,
    /// Where logins wait that a client hands over (`nologin` not said); none: nobody could ask for them.
    pub handovers: Option<Handovers>,
    /// How many connections are open.
    pub open: Gauge,
}

impl Default for DovecotOptions {
    fn default() -> Self {
        Self {
            listener: None,
            on_fault: OnFault::Fail,
            trust_client_certificates: false,
            mechanisms: Announced::USUAL.to_vec(),
            connections: 4096,
            pending: 1024,
            patience: Duration::from_secs(60),
            handovers: None,
            open: Gauge::default(),
        }
    }
}

/// A mechanism that can be announced. Those with channel binding cannot: no client of this protocol tells of its
/// channel (D27).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced(usize);

/// Every one, and what clients are told of it.
const ANNOUNCED: [(&str, &[MechanismFlag]); 10] = [
    ("SCRAM-SHA-512", &[MechanismFlag::MutualAuth]),
    ("SCRAM-SHA-256", &[MechanismFlag::MutualAuth]),
    ("SCRAM-SHA-1", &[MechanismFlag::MutualAuth]),
    ("CRAM-MD5", &[MechanismFlag::Dictionary, MechanismFlag::Active]),
    ("PLAIN", &[MechanismFlag::Plaintext]),
    ("LOGIN", &[MechanismFlag::Plaintext]),
    ("EXTERNAL", &[]),
    ("ANONYMOUS", &[MechanismFlag::Anonymous]),
    ("OAUTHBEARER", &[MechanismFlag::Plaintext]),
    ("XOAUTH2", &[MechanismFlag::Plaintext]),
];

impl Announced {
    /// PLAIN, LOGIN, EXTERNAL, and OAUTHBEARER and XOAUTH2 where there is a checker of tokens. SCRAM is not among them, because many clients choose it where they can, and do
    /// not try another when it fails; and it fails for users of whom no keys are kept yet.
    pub const USUAL: [Self; 5] = [Self(4), Self(5), Self(6), Self(8), Self(9)];

    /// The mechanism of this name, if it can be announced.
    pub fn named(name: &str) -> Option<Self> {
        ANNOUNCED.iter().position(|(known, _)| *known == name).map(Self)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        ANNOUNCED[self.0].0
    }

    /// Whether a checker serves it to a listener's clients, who may be believed about certificates or not.
    pub(crate) fn served<R>(self, portal: &Portal<R>, trust_client_certificates: bool) -> bool {
        let name = self.name();
        match name {
            "EXTERNAL" => trust_client_certificates && portal.offers(name),
            _ => portal.offers(name) || portal.mechanisms(&supports()).iter().any(|it| it == name),
        }
    }

    fn flags(self) -> &'static [MechanismFlag] {
        ANNOUNCED[self.0].1
    }
}

impl<'de> serde::Deserialize<'de> for Announced {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        Self::named(&name).ok_or_else(|| {
            let known = ANNOUNCED.map(|(name, _)| name).join("`, `");
            serde::de::Error::custom(format!("`{name}` cannot be announced; `{known}` can"))
        })
    }
}

/// What to do when a backend is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFault {
    /// Say FAIL with `code=temp_fail`. Mail servers take it for a wrong password (D50).
    #[default]
    Fail,
    /// Close the connection, so that mail servers say "temporary" (D51).
    Close,
}

/// Serves a socket until it is told to stop, and then finishes the logins that have begun.
pub async fn serve(socket: Socket, engine: Arc<Engine>, options: DovecotOptions, mut stop: Stop) {
    let slots = Arc::new(Semaphore::new(options.connections));
    let mut portal = engine.portal.load_full();
    let mut shared = Arc::new(Shared::new(&portal, options));
    let mut serial: u32 = 0;
    loop {
        let accept = socket.listener.accept();
        let next = next_connection(&slots, socket.path(), &mut stop, accept).await;
        let Some(next) = next else { return };
        let Some((slot, (stream, _))) = next else { continue };
        serial = serial.wrapping_add(1);
        if !Arc::ptr_eq(&portal, &engine.portal.load()) {
            // The configuration was read anew, and may offer other mechanisms.
            portal = engine.portal.load_full();
            let options = shared.options.clone();
            shared = Arc::new(Shared::new(&portal, options));
        }
        let open = shared.options.open.enter();
        let (engine, shared, stop) = (Arc::clone(&engine), Arc::clone(&shared), stop.clone());
        tokio::spawn(async move {
            connection::serve(stream, serial, &engine, &shared, stop).await;
            drop((slot, open));
        });
    }
}

/// What all connections of a listener share.
#[derive(Debug)]
struct Shared {
    offers: Vec<MechanismOffer<'static>>,
    options: DovecotOptions,
    /// Connections whose lines are being worked on at this moment.
    at_work: AtomicI64,
    /// How many can be.
    cores: i64,
}

impl Shared {
    fn new(portal: &Portal<ServerRealm>, options: DovecotOptions) -> Self {
        let workers = Handle::current().metrics().num_workers();
        let cores = i64::try_from(workers).unwrap_or(i64::MAX);
        Self { offers: offers(portal, &options), options, at_work: AtomicI64::new(0), cores }
    }
}

/// What a mail server can answer: nothing but messages of a SASL mechanism.
fn supports() -> KindSet {
    KindSet::none().with(CredentialKind::Token)
}

/// The mechanisms to announce: those that the listener is to have and a checker here can serve.
fn offers(portal: &Portal<ServerRealm>, options: &DovecotOptions) -> Vec<MechanismOffer<'static>> {
    let served = |it: &&Announced| it.served(portal, options.trust_client_certificates);
    options
        .mechanisms
        .iter()
        .filter(served)
        .map(|it| MechanismOffer { name: it.name(), flags: it.flags() })
        .collect()
}

/// The announced mechanism of that name, without regard to case (D13).
fn announced(shared: &Shared, name: &[u8]) -> Option<Cow<'static, str>> {
    let offer = shared.offers.iter().find(|o| o.name.as_bytes().eq_ignore_ascii_case(name));
    offer.map(|offer| Cow::Borrowed(offer.name))
}
