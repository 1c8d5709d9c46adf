//! `[checker.jwt.NAME]`: who an issuer says somebody is, in a signed token (JWT, RFC 7519 and RFC 8725).
//!
//! A token is believed when a key of the issuer has signed it by an algorithm of that key's type, and when it is
//! from this issuer, for this audience, and of now. No shared secret is a key here, so no public key can be
//! mistaken for one.

mod fetch;
mod key_set;
mod source;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::{
    Bearer, BearerStore, Denial, Fault, Identity, Question, Reason, Scene, Secret, Verdict,
    Verified,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::name::can_be_a_name;
pub use key_set::{ALGORITHMS, Algorithm, KeySet, algorithm};
use source::Source;

/// Nobody has more groups, labels or values of an attribute. Who has does not get in with some.
const MOST: usize = 1000;

/// What is believed of tokens.
#[derive(Clone, Debug)]
pub struct JwtOptions {
    /// Where the issuer's keys are.
    pub keys: KeysAt,
    /// The issuer, exactly as it writes itself (`iss`).
    pub issuer: String,
    /// For whom a token may be (`aud`): one of these.
    pub audience: Vec<String>,
    /// By which algorithms a token may be signed.
    pub algorithms: Vec<Algorithm>,
    /// How far the issuer's clock may be off.
    pub skew: Duration,
    /// Claims that must have this value, or have it among their values. The words of `scope` are such.
    pub require: BTreeMap<String, String>,
    /// The claim that is the user's name here.
    pub subject: String,
    /// The domain that an address in that claim must be of; the name is then what stands before the `@`.
    pub domain: Option<String>,
    /// The claim with groups.
    pub groups: Option<String>,
    /// The claim with labels.
    pub labels: Option<String>,
    /// Names of attributes, and the claims they are taken from.
    pub attributes: BTreeMap<String, String>,
    /// A file of certificates that vouch for the keys' address, in PEM; none: the system's.
    pub ca: Option<PathBuf>,
    /// How long one request for the keys may take.
    pub timeout: Duration,
}

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeysAt {
    /// In a file, as a JWK set (RFC 7517) or as public keys in PEM. It is read again when it changes.
    File(PathBuf),
    /// At an address, as a JWK set.
    Address(String),
}

/// A setting that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: {what}")]
pub struct JwtError {
    /// The setting's name.
    pub key: &'static str,
    /// What is wrong with it, and what to do.
    pub what: String,
}

/// Checks tokens.
pub struct Jwt {
    options: JwtOptions,
    source: Source,
}

impl Jwt {
    /// Tokens of an issuer. A file of keys is read; an address is not asked yet.
    ///
    /// # Errors
    ///
    /// Which of the options cannot be.
    pub fn new(options: JwtOptions) -> Result<Self, JwtError> {
        let wrong = |key, what: &str| Err(JwtError { key, what: what.to_owned() });
        if options.issuer.is_empty() {
            return wrong("issuer", "is empty; write it exactly as the issuer does");
        }
        if options.audience.is_empty() || options.audience.iter().any(String::is_empty) {
            // A token for somebody else's service would do.
            return wrong("audience", "is empty; write what tokens for this service have as `aud`");
        }
        if options.algorithms.is_empty() {
            return wrong("algorithms", "is empty; leave it out for all that are safe");
        }
        let source = Source::new(&options.keys, options.ca.as_deref(), options.timeout)?;
        Ok(Self { options, source })
    }

    /// A checker of that name, which offers `bearer`.
    pub fn checker(self, name: impl Into<String>) -> Bearer<Self> {
        Bearer::new(name, self)
    }

    /// Whose an intact token is, by its claims.
    fn identity(&self, claims: &Map<String, Value>) -> Result<Identity, Denial> {
        let options = &self.options;
        let deny = |why: String| Denial::new(Reason::NotAllowed).because(why);
        let claim = &options.subject;
        let value = claims.get(claim).and_then(Value::as_str);
        let value = value.ok_or_else(|| deny(format!("the token has no claim `{claim}`")))?;
        if claim == "email" && claims.get("email_verified") != Some(&Value::Bool(true)) {
            return Err(deny("the issuer has not verified the address".into()));
        }
        let name = match &options.domain {
            None => value,
            Some(domain) => match value.rsplit_once('@') {
                Some((name, at)) if at.eq_ignore_ascii_case(domain) => name,
                _ => return Err(deny(format!("`{claim}` is not of {domain}"))),
            },
        };
        if !can_be_a_name(name) {
            return Err(deny(format!("`{claim}` can be no user's name")));
        }
        let mut identity = Identity::named(name);
        let values = |claim: &str| match claims.get(claim) {
            None => Ok(Vec::new()),
            Some(value) => {
                texts(value).ok_or_else(|| deny(format!("`{claim}` is no list of texts")))
            }
        };
        for group in
            options.groups.iter().map(|claim| values(claim)).collect::<Result<Vec<_>, _>>()?
        {
            for group in group {
                if countersign_store::check_group_name(&group).is_err() {
                    return Err(deny("a group of the token can be no group's name".into()));
                }
                // An issuer makes nobody an administrator of a group here.
                identity.groups.insert(group, false);
            }
        }
        if let Some(claim) = &options.labels {
            identity.labels.extend(values(claim)?);
            if !identity.labels.iter().all(|label| can_be_a_name(label)) {
                return Err(deny("a label of the token cannot be shown".into()));
            }
        }
        for (attribute, claim) in &options.attributes {
            let values = values(claim)?;
            if !values.is_empty() {
                identity.attributes.insert(attribute.clone(), values);
            }
        }
        Ok(identity)
    }

    /// Whether the claims are those of a token for us, now.
    fn check(&self, claims: &Map<String, Value>, unix: i64) -> Result<(), Denial> {
        let deny = |reason, why: String| Err(Denial::new(reason).because(why));
        let options = &self.options;
        let skew = i64::try_from(options.skew.as_secs()).unwrap_or(i64::MAX);
        let time = |claim: &str| match claims.get(claim) {
            None => Ok(None),
            Some(value) => date(value).map(Some).ok_or_else(|| {
                let why = format!("`{claim}` is no time");
                Denial::new(Reason::WrongCredential).because(why)
            }),
        };
        let Some(expires) = time("exp")? else {
            return deny(Reason::WrongCredential, "the token has no `exp`".into());
        };
        if unix >= expires.saturating_add(skew) {
            return deny(Reason::Expired, "the token has expired".into());
        }
        for claim in ["nbf", "iat"] {
            if time(claim)?.is_some_and(|from| unix < from.saturating_sub(skew)) {
                let why = format!("the token is not valid yet (`{claim}`)");
                return deny(Reason::WrongCredential, why);
            }
        }
        if claims.get("iss").and_then(Value::as_str) != Some(&options.issuer) {
            return deny(Reason::WrongCredential, "the token is of another issuer".into());
        }
        let audience = claims.get("aud").and_then(texts).unwrap_or_default();
        if !audience.iter().any(|one| options.audience.contains(one)) {
            return deny(Reason::NotAllowed, "the token is for another audience".into());
        }
        for (claim, wanted) in &options.require {
            let has = claims.get(claim).is_some_and(|value| {
                let words = value.as_str().filter(|_| claim == "scope");
                let is_word = words.is_some_and(|s| s.split(' ').any(|word| word == wanted));
                is_word || texts(value).is_some_and(|values| values.contains(wanted))
            });
            if !has {
                let why = format!("the token's `{claim}` is not `{wanted}`, which is required");
                return deny(Reason::NotAllowed, why);
            }
        }
        Ok(())
    }
}

impl BearerStore for Jwt {
    async fn check_token(
        &self,
        token: &Secret,
        _: Option<&str>,
        scene: &Scene<'_>,
    ) -> Result<Verdict, Fault> {
        let Some(parts) = Parts::of(token) else {
            // Of some other kind, which another checker may know.
            return Ok(Verdict::UNKNOWN);
        };
        if parts.claims.get("iss").and_then(Value::as_str) != Some(&self.options.issuer) {
            let why = "the token is no token of this issuer";
            return Ok(Verdict::Not(Denial::new(Reason::UnknownUser).because(why)));
        }
        if let Err(denial) = self.believed(&parts, scene).await? {
            return Ok(Verdict::Not(denial));
        }
        let checked = self.check(&parts.claims, scene.now.unix);
        Ok(match checked.and_then(|()| self.identity(&parts.claims)) {
            Ok(identity) => Verdict::Is(Verified::vouch(identity)),
            Err(denial) => Verdict::Not(denial),
        })
    }

    /// Mail clients say the whole address.
    fn names(&self, who: &Identity, claimed: &str) -> bool {
        let Some(name) = who.subject.name() else { return false };
        let of_domain = self.options.domain.as_ref().is_some_and(|domain| {
            let parts = claimed.rsplit_once('@');
            parts.is_some_and(|(local, at)| local == name && at.eq_ignore_ascii_case(domain))
        });
        name == claimed || of_domain
    }
}

impl Jwt {
    /// Whether a key of the issuer has signed it.
    async fn believed(
        &self,
        parts: &Parts<'_>,
        scene: &Scene<'_>,
    ) -> Result<Result<(), Denial>, Fault> {
        let deny = |why: String| Ok(Err(Denial::new(Reason::WrongCredential).because(why)));
        let named = algorithm(&parts.header.alg);
        let Some(algorithm) = named.filter(|a| self.options.algorithms.contains(a)) else {
            // Not shown whole: it is the peer's text.
            let shown: String =
                parts.header.alg.chars().filter(char::is_ascii_alphanumeric).collect();
            return deny(format!("the algorithm `{shown:.16}` is not allowed"));
        };
        if parts.header.crit.is_some() {
            return deny("the token has extensions that must be understood".into());
        }
        let kid = parts.header.kid.as_deref();
        let now_ms = scene.now.steady_ms;
        let mut set = self.source.keys(now_ms).await?;
        if !set.knows(kid) {
            // A key that was added since the set was read.
            set = self.source.newer_keys(now_ms, set).await;
        }
        match set.verify(kid, algorithm, parts.message, &parts.signature) {
            true => Ok(Ok(())),
            false if !set.knows(kid) => deny("no key of the issuer has the token's `kid`".into()),
            false => deny("no key of the issuer has signed the token".into()),
        }
    }
}

impl std::fmt::Debug for Jwt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jwt").field("issuer", &self.options.issuer).finish_non_exhaustive()
    }
}

/// A token in compact form (RFC 7515 §7.1), taken apart.
struct Parts<'a> {
    header: Header,
    /// Unproven until the signature is verified.
    claims: Map<String, Value>,
    /// What is signed.
    message: &'a [u8],
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

impl<'a> Parts<'a> {
    fn of(token: &'a Secret) -> Option<Self> {
        let text = token.to_str()?;
        if token.len() > usize::try_from(Question::LONGEST_BEARER).unwrap_or(usize::MAX) {
            return None;
        }
        let (message, signature) = text.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let decoded = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        Some(Self {
            header: serde_json::from_slice(&decoded(header)?).ok()?,
            claims: serde_json::from_slice(&decoded(claims)?).ok()?,
            message: message.as_bytes(),
            signature: decoded(signature)?,
        })
    }
}

/// A time in seconds since 1970 (RFC 7519 §2): a whole number, or one with a fraction that is dropped.
fn date(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        let seconds = value.as_f64().filter(|seconds| seconds.abs() < 1e15)?;
        // Exact below 2^53, which the line above sees to.
        #[allow(clippy::cast_possible_truncation)]
        Some(seconds.floor() as i64)
    })
}

/// A text or a list of texts; numbers and yes or no are written as JSON writes them.
fn texts(value: &Value) -> Option<Vec<String>> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    };
    match value {
        Value::Array(values) if values.len() <= MOST => values.iter().map(text).collect(),
        one => text(one).map(|text| vec![text]),
    }
}

#[cfg(test)]
mod tests;
