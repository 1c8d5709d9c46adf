//! The schemes that are taken: their challenges, and the logins that credentials are.

use std::sync::Arc;

use countersign::{Answers, CredentialKind, KindSet, Mechanism, Peer, Request, World};
use countersign_sasl::digest::{self, Asked, Digest};
use http::{HeaderMap, HeaderValue};

use crate::{Credentials, Malformed, Scheme};

/// Which schemes are taken, each with its realm: the name that is shown to people, and in Digest a part of every
/// key.
#[derive(Clone, Debug, Default)]
pub struct Schemes {
    digest: Option<Arc<Digest>>,
    bearer: Option<Box<str>>,
    basic: Option<Box<str>>,
}

/// A login to be had of a portal, by known answers.
#[derive(Debug)]
pub struct Attempt {
    /// What to ask for.
    pub request: Request,
    /// What answers its round.
    pub answers: Answers,
    /// What the client is told in `Authentication-Info` once it is in.
    pub info: Option<digest::Info>,
}

/// What is said in the challenges to somebody who is not in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unproven {
    /// Nothing was proven, or not what is right.
    #[default]
    Nobody,
    /// A Digest response that was too late, or was there before: the client may try again by itself.
    Stale,
    /// A token that is not good (RFC 6750 §3.1).
    InvalidToken,
}

impl Schemes {
    /// None.
    pub const NONE: Self = Self { digest: None, bearer: None, basic: None };

    /// These, and Basic.
    #[must_use]
    pub fn and_basic(self, realm: &str) -> Self {
        Self { basic: Some(sayable(realm)), ..self }
    }

    /// These, and Digest.
    #[must_use]
    pub fn and_digest(self, digest: impl Into<Arc<Digest>>) -> Self {
        Self { digest: Some(digest.into()), ..self }
    }

    /// These, and tokens. An empty realm is not named in challenges.
    #[must_use]
    pub fn and_bearer(self, realm: &str) -> Self {
        Self { bearer: Some(sayable(realm)), ..self }
    }

    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.digest.is_none() && self.bearer.is_none() && self.basic.is_none()
    }

    /// Whether this one is taken.
    pub fn take(&self, scheme: Scheme) -> bool {
        match scheme {
            Scheme::Basic => self.basic.is_some(),
            Scheme::Digest => self.digest.is_some(),
            Scheme::Bearer => self.bearer.is_some(),
        }
    }

    /// Whether Digest offers to protect bodies (`auth-int`).
    pub fn protects_bodies(&self) -> bool {
        self.digest.as_ref().is_some_and(|digest| digest.protects_bodies())
    }

    /// The credentials of a request, if they are of a scheme that is taken.
    ///
    /// # Errors
    ///
    /// What is wrong with the header.
    pub fn read(&self, headers: &HeaderMap) -> Result<Option<Credentials>, Malformed> {
        match Credentials::scheme(headers) {
            Some(scheme) if self.take(scheme) => Credentials::read(headers),
            _ => Ok(None),
        }
    }

    /// The login that credentials are. `asked`: the request that they came with, of which a Digest response speaks.
    ///
    /// # Errors
    ///
    /// Why a Digest response is not worth comparing with anybody's key. It is counted already.
    pub fn begin(
        &self,
        credentials: Credentials,
        mut peer: Peer,
        asked: &Asked<'_>,
        world: &dyn World,
    ) -> Result<Attempt, digest::Refused> {
        let (mechanism, supports, answers) = match credentials {
            Credentials::Basic { name, password } => (
                Mechanism::PASSWORD,
                KindSet::none().with(CredentialKind::AuthName).with(CredentialKind::Passphrase),
                Answers::new().with("username", name).with("password", password),
            ),
            Credentials::Bearer(token) => (
                Mechanism::BEARER,
                KindSet::none().with(CredentialKind::BEARER),
                Answers::new().with("bearer", token),
            ),
            Credentials::Digest(header) => {
                let Some(digest) = &self.digest else { return Err(digest::Refused::NotOffered) };
                let answered = digest.read(&header, asked, world)?;
                let info = Some(answered.info.clone());
                peer.supports = KindSet::none();
                let (request, answers) = answered.login(peer);
                return Ok(Attempt { request, answers, info });
            }
        };
        peer.supports = supports;
        let request = Request::from_peer(Arc::new(peer)).by(mechanism);
        Ok(Attempt { request, answers, info: None })
    }

    /// The values of `WWW-Authenticate`, one for each challenge, what protects most before what protects least:
    /// many clients take the first that they know. `readable`: whether secrets may cross this connection as they
    /// are, without which only Digest is offered.
    pub fn challenges(
        &self,
        why: Unproven,
        readable: bool,
        world: &dyn World,
    ) -> impl Iterator<Item = HeaderValue> {
        let digest = self.digest.iter();
        let digest = digest.flat_map(move |d| d.challenges(why == Unproven::Stale, world));
        let bearer = self.bearer.iter().filter(move |_| readable).map(move |realm| {
            let realm = (!realm.is_empty()).then(|| format!("realm=\"{realm}\""));
            let error =
                (why == Unproven::InvalidToken).then(|| "error=\"invalid_token\"".to_owned());
            let words = realm.into_iter().chain(error).collect::<Vec<_>>().join(", ");
            if words.is_empty() { "Bearer".to_owned() } else { format!("Bearer {words}") }
        });
        let basic = self.basic.iter().filter(move |_| readable);
        let basic = basic.map(|realm| format!("Basic realm=\"{realm}\", charset=\"UTF-8\""));
        let all = digest.chain(bearer).chain(basic);
        // Nothing in them is a control character.
        all.filter_map(|text| HeaderValue::from_bytes(text.as_bytes()).ok())
    }
}

impl Scheme {
    /// The mechanism that a checker must offer for it.
    pub fn mechanism(self) -> &'static str {
        match self {
            Self::Basic => Mechanism::PASSWORD,
            Self::Digest => "DIGEST",
            Self::Bearer => Mechanism::BEARER,
        }
    }

    /// Whether it sends its secret readable.
    pub fn is_readable(self) -> bool {
        self != Self::Digest
    }
}

/// What may stand between quotes.
fn sayable(realm: &str) -> Box<str> {
    let mut said = String::with_capacity(realm.len());
    for letter in realm.chars().filter(|letter| !letter.is_control()) {
        if matches!(letter, '"' | '\\') {
            said.push('\\');
        }
        said.push(letter);
    }
    said.into()
}

#[cfg(test)]
mod tests {
    use countersign::testing::StillWorld;
    use countersign_sasl::digest::Variant;

    use super::*;

    fn all(world: &StillWorld) -> Schemes {
        let offers = ["SHA-256", "MD5"].map(|name| Variant::from_name(name).unwrap());
        Schemes::NONE
            .and_basic("a \"site\"\n")
            .and_digest(Digest::new("site", world).offering(offers))
            .and_bearer("site")
    }

    fn said(schemes: &Schemes, why: Unproven, readable: bool) -> Vec<String> {
        let world = StillWorld::default();
        let challenges = schemes.challenges(why, readable, &world);
        challenges.map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn what_protects_most_is_said_first() {
        let world = StillWorld::default();
        let schemes = all(&world);
        let said = |why, readable| said(&schemes, why, readable);
        let [sha, md5, bearer, basic] = &said(Unproven::Nobody, true)[..] else { panic!() };
        assert!(sha.starts_with("Digest realm=\"site\"") && sha.contains("algorithm=SHA-256"));
        assert!(md5.contains("algorithm=MD5") && !md5.contains("stale"));
        assert_eq!(bearer, "Bearer realm=\"site\"");
        assert_eq!(basic, "Basic realm=\"a \\\"site\\\"\", charset=\"UTF-8\"");
        assert_eq!(said(Unproven::Nobody, false).len(), 2, "only what is not readable");
        assert!(
            said(Unproven::Stale, true)[..2].iter().all(|digest| digest.contains("stale=true"))
        );
        let invalid = "Bearer realm=\"site\", error=\"invalid_token\"";
        assert_eq!(said(Unproven::InvalidToken, true)[2], invalid);
    }

    #[test]
    fn a_token_needs_no_realm() {
        let schemes = Schemes::NONE.and_bearer("");
        assert_eq!(said(&schemes, Unproven::Nobody, true), ["Bearer"]);
        assert_eq!(
            said(&schemes, Unproven::InvalidToken, true),
            ["Bearer error=\"invalid_token\""]
        );
        assert!(!schemes.is_none() && Schemes::NONE.is_none());
    }

    #[test]
    fn what_is_not_taken_is_looked_past() {
        let headers = |text: &str| {
            HeaderMap::from_iter([(
                http::header::AUTHORIZATION,
                HeaderValue::from_str(text).unwrap(),
            )])
        };
        let schemes = Schemes::NONE.and_bearer("");
        assert!(schemes.read(&headers("Basic !")).unwrap().is_none());
        assert!(schemes.read(&headers("Bearer x")).unwrap().is_some());
        assert!(Schemes::NONE.read(&headers("Bearer x")).unwrap().is_none());
    }

    #[test]
    fn each_asks_for_its_own_mechanism() {
        let world = StillWorld::default();
        let schemes = all(&world);
        let asked = Asked { method: "GET", target: "/", body: None };
        let peer = || Peer::new("web", KindSet::all());
        let basic = Credentials::Basic { name: "ada".into(), password: "x".into() };
        let attempt = schemes.begin(basic, peer(), &asked, &world).unwrap();
        assert_eq!(attempt.request.mechanism.as_deref(), Some("password"));
        assert!(!attempt.request.peer.supports.contains(&CredentialKind::Otp));
        let bearer = Credentials::Bearer("x".into());
        let attempt = schemes.begin(bearer, peer(), &asked, &world).unwrap();
        assert_eq!(attempt.request.mechanism.as_deref(), Some("bearer"));
    }
}
