//! HTTP Digest (RFC 7616), and what is safe of RFC 2617 and RFC 2069.
//!
//! [`Digest`] belongs to a front end: it makes challenges, and reads what clients answer with, as far as that
//! can be judged without knowing the user. What is left is a [`DigestClaim`], which a checker that offers the
//! mechanism [`DIGEST`] compares with its user's key.
//!
//! ```
//! use countersign::{Peer, Portal, KindSet};
//! use countersign::testing::StillWorld;
//! use countersign_sasl::digest::{Authorization, Digest, Asked};
//!
//! # let world = StillWorld::default();
//! # let header = b"";
//! # let portal = Portal::new(());
//! let digest = Digest::new("site", &world);
//! // Without an `Authorization`, or with one that does not help: 401, and one `WWW-Authenticate` for each.
//! let challenges = digest.challenges(false, &world);
//! assert!(challenges[0].starts_with("Digest realm=\"site\""));
//! // With one:
//! if let Ok(header) = Authorization::parse(header) {
//!     let asked = Asked { method: "GET", target: "/", body: None };
//!     match digest.read(&header, &asked, &world) {
//!         Ok(answered) => {
//!             let (request, answers) = answered.login(Peer::new("web", KindSet::none()));
//!             let _login = portal.begin(request, &world); // and then the answers
//!         }
//!         Err(refused) => drop(digest.challenges(refused.is_stale(), &world)),
//!     }
//! }
//! ```

mod exchange;
mod hash;
mod header;
mod nonce;

use std::fmt::Write;
use std::sync::{Arc, OnceLock};

use countersign::{
    Answers, CredentialKind, DigestAlgorithm, DigestClaim, Peer, Request, Secret, World,
};

pub use self::exchange::{DIGEST, DigestExchange};
pub use self::hash::{BodyHash, key, userhash};
pub use self::header::{Authorization, Malformed, Qop};
use self::nonce::Nonces;

/// An algorithm as a header names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The hash.
    pub algorithm: DigestAlgorithm,
    /// Whether the key is made anew for each nonce: `-sess`.
    pub session: bool,
}

/// The front end's half of HTTP Digest: whose challenges, and which of them have been answered.
///
/// Nonces are tagged by a key of this value, so they are good for this process alone and until it ends, and
/// nothing is kept of those that nobody answers. Elsewhere a nonce is stale, which costs a round trip; processes
/// that share a key take each other's ([`Digest::keyed`]).
#[derive(Debug)]
pub struct Digest {
    realm: String,
    offers: Vec<Variant>,
    integrity: bool,
    legacy: bool,
    userhash: bool,
    nonces: Nonces,
}

/// What is asked for, as the front end has received it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// `GET`.
    pub method: &'a str,
    /// The request target, as it stands in the request line.
    pub target: &'a str,
    /// The hash of the body ([`BodyHash`]), where the client has it in its response
    /// ([`Authorization::wants_body`]).
    pub body: Option<&'a str>,
}

/// A response that is worth comparing with a user's key.
#[derive(Debug)]
pub struct Answered {
    /// Who the client says it is, or the hash of it ([`DigestClaim::userhash`]).
    pub name: String,
    /// What the response was computed over.
    pub claim: Arc<DigestClaim>,
    /// The response.
    pub response: Secret,
    /// What the client is told once it is in.
    pub info: Info,
}

/// The reply to a client that has got in: that we know its key as well.
#[derive(Clone, Debug)]
pub struct Info {
    claim: Arc<DigestClaim>,
    nc: String,
    cnonce: String,
}

/// Why a header is not worth it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The nonce is not ours, or too old, or was used with this count before. The user need not be asked
    /// again: a challenge that says `stale` makes the client compute its response anew.
    Stale,
    /// For another realm than ours.
    OtherRealm,
    /// For another request than this.
    OtherTarget,
    /// An algorithm, or a protection, that we have not offered.
    NotOffered,
    /// The body's hash is in the response, and was not given.
    BodyNeeded,
}

impl Digest {
    /// Challenges for a realm, a name that is shown to people and is a part of every key. It is written in
    /// headers as it stands, so control characters in it are left out.
    ///
    /// SHA-256 is offered, for five minutes, for at most 65,536 nonces in use.
    pub fn new(realm: &str, world: &dyn World) -> Self {
        let offers = vec![Variant { algorithm: DigestAlgorithm::Sha256, session: false }];
        let realm = realm.chars().filter(|letter| !letter.is_control()).collect();
        Self {
            realm,
            offers,
            integrity: false,
            legacy: false,
            userhash: false,
            nonces: Nonces::new(world),
        }
    }

    /// The same, with other algorithms, the most wanted first: many clients take the first they know, and
    /// some fail at a first that they do not.
    #[must_use]
    pub fn offering(self, offers: impl IntoIterator<Item = Variant>) -> Self {
        Self { offers: offers.into_iter().collect(), ..self }
    }

    /// The same, with bodies protected too for clients that can (`auth-int`).
    #[must_use]
    pub fn with_integrity(self) -> Self {
        Self { integrity: true, ..self }
    }

    /// The same, for clients of RFC 2069 as well, which count nothing: each of their nonces is good for one
    /// request.
    #[must_use]
    pub fn with_legacy(self) -> Self {
        Self { legacy: true, ..self }
    }

    /// The same, for clients that hide the user's name (RFC 7616 §3.4.4). For stores that can look for it.
    #[must_use]
    pub fn with_userhash(self) -> Self {
        Self { userhash: true, ..self }
    }

    /// The same, with nonces that are good for so many milliseconds, and a memory for so many of them.
    #[must_use]
    pub fn with_nonces(self, lifetime_ms: u64, kept: usize) -> Self {
        Self { nonces: self.nonces.bounded(lifetime_ms, kept), ..self }
    }

    /// The same, with nonces that every process takes that has this key, a secret of the deployment. Their time is
    /// the wall clock's, and clocks may be a minute apart.
    ///
    /// Counts are each process's own: whoever has overheard a request can send exactly that one once more to each
    /// of the others while its nonce is good. A process takes none that is older than itself.
    #[must_use]
    pub fn keyed(self, key: Secret, world: &dyn World) -> Self {
        Self { nonces: self.nonces.shared(key, world), ..self }
    }

    /// The realm.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// Whether bodies are protected too.
    pub fn protects_bodies(&self) -> bool {
        self.integrity
    }

    /// What is offered, in order.
    pub fn offers(&self) -> &[Variant] {
        &self.offers
    }

    /// The values of `WWW-Authenticate` (or `Proxy-Authenticate`) headers, one for each algorithm. `stale`: the
    /// last response was refused for its nonce alone ([`Refused::is_stale`]).
    pub fn challenges(&self, stale: bool, world: &dyn World) -> Vec<String> {
        let nonce = self.nonces.fresh(world);
        let qop = if self.integrity { "auth, auth-int" } else { "auth" };
        let realm = header::quoted(&self.realm);
        let challenge = |variant: &Variant| {
            let algorithm = variant.name();
            let mut text = format!(
                "Digest realm={realm}, nonce=\"{nonce}\", qop=\"{qop}\", algorithm={algorithm}, charset=UTF-8"
            );
            let more = [(stale, ", stale=true"), (self.userhash, ", userhash=true")];
            for (_, word) in more.into_iter().filter(|(said, _)| *said) {
                // Writing to a string cannot fail.
                let _ = text.write_str(word);
            }
            text
        };
        self.offers.iter().map(challenge).collect()
    }

    /// Judges a header, and counts its nonce: the same is not taken twice, whatever becomes of the login.
    ///
    /// # Errors
    ///
    /// Why it is not to be compared with anybody's key.
    pub fn read(
        &self,
        header: &Authorization,
        asked: &Asked<'_>,
        world: &dyn World,
    ) -> Result<Answered, Refused> {
        let variant = header.variant;
        let offered = self.offers.contains(&variant)
            && header.response.len() == variant.algorithm.digits()
            && match header.qop {
                None => self.legacy && !variant.session,
                Some(Qop::Auth) => true,
                Some(Qop::AuthInt) => self.integrity,
            }
            && (self.userhash || !header.userhash);
        if !offered {
            return Err(Refused::NotOffered);
        }
        if header.realm != self.realm {
            return Err(Refused::OtherRealm);
        }
        if !same_target(&header.uri, asked.target) {
            return Err(Refused::OtherTarget);
        }
        let hash = |text: &str| hash::of(variant.algorithm, text.as_bytes());
        let (method, uri, nonce) = (asked.method, &header.uri, &header.nonce);
        let a2 = match header.qop {
            Some(Qop::AuthInt) => {
                let body = asked.body.ok_or(Refused::BodyNeeded)?;
                hash(&format!("{method}:{uri}:{body}"))
            }
            _ => hash(&format!("{method}:{uri}")),
        };
        if !self.nonces.count(nonce, header.count(), world) {
            return Err(Refused::Stale);
        }
        let cnonce = &header.cnonce;
        let over = |qop: Qop, a2: &str| {
            let Authorization { nc, .. } = header;
            format!("{nonce}:{nc}:{cnonce}:{}:{a2}", qop.name())
        };
        let (rest, reply) = match header.qop {
            None => (format!("{nonce}:{a2}"), String::new()),
            // Our own bodies are on their way before they could be hashed: what we prove is `auth`.
            Some(qop) => (over(qop, &a2), over(Qop::Auth, &hash(&format!(":{uri}")))),
        };
        let claim = DigestClaim {
            algorithm: variant.algorithm,
            realm: self.realm.clone(),
            session: variant.session.then(|| format!("{nonce}:{cnonce}")),
            rest,
            userhash: header.userhash,
            reply,
            rspauth: OnceLock::new(),
        };
        let response = Secret::from(header.response.to_ascii_lowercase());
        let claim = Arc::new(claim);
        let info = Info {
            claim: Arc::clone(&claim),
            nc: header.nc.clone(),
            cnonce: header.cnonce.clone(),
        };
        Ok(Answered { name: header.username.clone(), claim, response, info })
    }
}

impl Answered {
    /// The login to ask a portal for, and the answers to its one round.
    pub fn login(self, mut peer: Peer) -> (Request, Answers) {
        peer.more.digest = Some(self.claim);
        peer.supports = peer.supports.with(CredentialKind::Token);
        let mut request = Request::from_peer(Arc::new(peer)).by(&*DIGEST.name);
        request.claimed = Some(self.name.into());
        (request, Answers::new().with("token", self.response))
    }
}

impl Info {
    /// The value of `Authentication-Info` (RFC 7616 §3.5). None until a checker has let the client in, and for
    /// clients of RFC 2069.
    pub fn header(&self) -> Option<String> {
        let rspauth = self.claim.rspauth.get()?;
        let (cnonce, nc) = (header::quoted(&self.cnonce), &self.nc);
        Some(format!("qop=auth, rspauth=\"{rspauth}\", cnonce={cnonce}, nc={nc}"))
    }
}

impl Refused {
    /// Whether a client that knows the right password would get in with another nonce.
    pub fn is_stale(self) -> bool {
        self == Self::Stale
    }
}

impl Variant {
    /// The name in headers: `SHA-256-sess`.
    pub fn name(self) -> String {
        let session = if self.session { "-sess" } else { "" };
        format!("{}{session}", self.algorithm.name())
    }

    /// The variant of that name, without regard to case.
    pub fn from_name(name: &str) -> Option<Self> {
        let start = name.len().saturating_sub(5);
        let (hash, session) = match name.get(start..) {
            Some(end) if end.eq_ignore_ascii_case("-sess") => (&name[..start], true),
            _ => (name, false),
        };
        Some(Self { algorithm: DigestAlgorithm::from_name(hash)?, session })
    }
}

/// Whether both name the same resource: a proxy's client says the whole URL, the proxy perhaps not.
fn same_target(one: &str, other: &str) -> bool {
    fn path(target: &str) -> &str {
        let rest = ["http://", "https://"].iter().find_map(|scheme| target.strip_prefix(scheme));
        rest.map_or(target, |rest| rest.find('/').map_or("/", |start| &rest[start..]))
    }
    one == other || (one.contains("://") != other.contains("://") && path(one) == path(other))
}

#[cfg(test)]
mod tests;
