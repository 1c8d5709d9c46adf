//! OpenNebula's driver `ssh`, built in: tokens that users sign with their keys, until a moment.
//!
//! | key | what is stored | token |
//! |---|---|---|
//! | RSA | base64 of the SubjectPublicKeyInfo, or as the others | the original's, or ours |
//! | Ed25519, ECDSA, FIDO | base64 of the key in SSH's wire format, or a line as in `authorized_keys` | ours |
//!
//! Contract: `docs/protocols/opennebula-tokens.md`, S1 to S9.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::Secret;
use countersign_wire::one::UserName;
use ssh_encoding::{Decode, Encode};
use ssh_key::public::{KeyData, RsaPublicKey};
use ssh_key::{Mpint, PublicKey, SshSig};

use super::recover::RsaKey;
use super::signing::SigningKey;
use super::validity::{judge, moment};
use super::{Attempt, Driver, Login};
use crate::sshkey::{Shown, flags, verify};

/// What the signature of a token is for, so that no other signature of the same key is one.
pub const NAMESPACE: &str = "countersign-one";

/// How a token of ours begins.
const OURS: &str = "countersign-ssh1.";
/// No token is longer: that of an RSA key of 8192 bits has some 2,900 bytes.
const LONGEST_TOKEN: usize = 8192;
const LONGEST_STORED: usize = 16_384;

/// Which tokens count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "kinds", derive(serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct SshOptions {
    /// For how long a token may be good, from now on.
    #[cfg_attr(feature = "kinds", serde(deserialize_with = "crate::kinds::duration"))]
    pub longest: Duration,
    /// Whether the original's tokens count. They are signed without a hash, by RSA keys alone.
    pub original: bool,
}

impl Default for SshOptions {
    /// A day, and the original's too.
    fn default() -> Self {
        Self { longest: Duration::from_secs(86_400), original: true }
    }
}

/// Verifies tokens of SSH keys.
#[derive(Clone, Copy, Debug)]
pub struct Ssh {
    options: SshOptions,
}

/// A key that a user has.
struct Stored {
    /// For the original's tokens.
    rsa: Option<RsaKey>,
    key: PublicKey,
}

/// A key has no token of that kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key cannot make a token")]
pub struct CannotSign;

impl Ssh {
    /// A driver with these options.
    pub fn new(options: SshOptions) -> Self {
        Self { options }
    }

    /// Whether the login's secret is a token of the key that is stored.
    ///
    /// # Errors
    ///
    /// Why not, for the operator.
    pub fn verify(&self, login: &Login<'_>) -> Result<(), String> {
        let stored = login.stored.ok_or("no key is stored for the user")?;
        let stored = Stored::read(stored).map_err(|why| format!("what is stored: {why}"))?;
        let token = login.secret.to_str().filter(|token| token.len() <= LONGEST_TOKEN);
        let token = token.ok_or("the secret is no token")?;
        let expires = match token.strip_prefix(OURS) {
            Some(rest) => signed(&stored.key, login.user, rest)?,
            None if !self.options.original => {
                return Err(
                    "the secret is no token of ours, and the original's do not count".into()
                );
            }
            None => {
                let key = stored.rsa.as_ref();
                let key = key.ok_or("the secret is no token of ours, and the key no RSA key")?;
                raised(key, login.user, token)?
            }
        };
        judge(expires, login.now, self.options.longest)
    }
}

impl Driver for Ssh {
    fn authenticate<'a>(
        &'a self,
        login: Login<'a>,
    ) -> Pin<Box<dyn Future<Output = Attempt> + Send + 'a>> {
        Box::pin(std::future::ready(self.verify(&login).into()))
    }

    fn describe(&self) -> String {
        "verifies tokens of SSH keys (built in)".into()
    }
}

/// A token of the user, good until then (seconds since 1970): the original's for RSA keys, ours for others.
///
/// # Errors
///
/// When the key cannot sign.
pub fn token(key: &SigningKey, user: &UserName, expires: i64) -> Result<Secret, CannotSign> {
    let text = format!("{user}:{expires}");
    if let Some(raised) = key.raise(text.as_bytes()) {
        return Ok(Secret::from(STANDARD.encode(raised)));
    }
    let signature = key.sshsig(NAMESPACE, text.as_bytes()).ok_or(CannotSign)?;
    let mut bytes = Vec::new();
    signature.encode(&mut bytes).map_err(|_| CannotSign)?;
    Ok(Secret::from(format!("{OURS}{expires}.{}", STANDARD.encode(bytes))))
}

/// Until when the original's token is good, when it is one of this key and this user.
pub(super) fn raised(key: &RsaKey, user: &UserName, token: &str) -> Result<i64, String> {
    let signature = STANDARD.decode(token).map_err(|_| "the secret is no token: no base64")?;
    let text = key.recover(&signature).ok_or("the token is not signed with the stored key")?;
    let mut fields = text.split(|byte| *byte == b':');
    let (Some(name), Some(expires), None) = (fields.next(), fields.next(), fields.next()) else {
        return Err("the token does not say user:expires".into());
    };
    if name != user.as_str().as_bytes() {
        return Err("the token is another user's".into());
    }
    moment(expires).ok_or_else(|| "the token's end is no moment".into())
}

/// Until when a token of ours is good, when it is one of this key and this user.
fn signed(key: &PublicKey, user: &UserName, rest: &str) -> Result<i64, String> {
    let form = "the token has no moment and signature";
    let (expires, signature) = rest.split_once('.').ok_or(form)?;
    let expires = moment(expires.as_bytes()).ok_or("the token's end is no moment")?;
    let bytes = STANDARD.decode(signature).map_err(|_| "the token's signature is no base64")?;
    let none = "the token's signature is none of SSH";
    let signature = SshSig::decode(&mut &bytes[..]).map_err(|_| none)?;
    // One spelling, and nothing behind it.
    let mut again = Vec::with_capacity(bytes.len());
    signature.encode(&mut again).map_err(|_| none)?;
    if again != bytes || !signature.reserved().is_empty() {
        return Err(none.into());
    }
    if signature.namespace() != NAMESPACE {
        return Err(format!("the token's signature is not for `{NAMESPACE}`"));
    }
    if signature.public_key() != key.key_data() {
        return Err("the token is not signed with the stored key".into());
    }
    let text = format!("{user}:{expires}");
    let message = SshSig::signed_data(NAMESPACE, signature.hash_alg(), text.as_bytes());
    let message = message.map_err(|_| none)?;
    if !verify(key, &message, signature.signature()) {
        return Err("the token is another user's, or its signature is wrong".into());
    }
    let of_device =
        matches!(key.key_data(), KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_));
    if of_device && flags(signature.signature()) & 1 == 0 {
        return Err("the key has not been touched by its user".into());
    }
    Ok(expires)
}

impl Stored {
    /// Reads what is stored for a user.
    fn read(stored: &Secret) -> Result<Self, &'static str> {
        let text = stored.to_str().filter(|text| text.len() <= LONGEST_STORED);
        let text = text.ok_or("no key")?;
        // `ssh-ed25519 AAAA… comment`, or the second word alone.
        let (kind, base64) = match text.split_once(' ') {
            Some((kind, rest)) => (Some(kind), rest.split(' ').next().unwrap_or_default()),
            None => (None, text),
        };
        let bytes = STANDARD.decode(base64).map_err(|_| "no key: no base64")?;
        if kind.is_none() && bytes.first() == Some(&0x30) {
            let rsa = RsaKey::from_spki(&bytes)?;
            let (n, e) = rsa.parts();
            let mpint = |number: Vec<u8>| Mpint::from_positive_bytes(&number).map_err(|_| "no key");
            let key = RsaPublicKey { e: mpint(e)?, n: mpint(n)? };
            return Ok(Self { rsa: Some(rsa), key: KeyData::Rsa(key).into() });
        }
        let shown = Shown::read(&bytes)?;
        if shown.certificate.is_some() {
            return Err("a certificate; the key itself is stored");
        }
        if kind.is_some_and(|kind| kind != shown.key.algorithm().as_str()) {
            return Err("the line says another type than the key");
        }
        let rsa = match shown.key.key_data() {
            KeyData::Rsa(key) => {
                let n = key.n.as_positive_bytes().unwrap_or_default();
                let e = key.e.as_positive_bytes().unwrap_or_default();
                Some(RsaKey::from_parts(n, e)?)
            }
            _ => None,
        };
        Ok(Self { rsa, key: shown.key })
    }
}

/// For fuzzing: what is stored on the first line, a token behind it. A token that is accepted is nobody else's, and
/// ends.
pub(crate) fn fuzz(data: &[u8]) {
    let Some(cut) = data.iter().position(|byte| *byte == b'\n') else { return };
    let (stored, secret) = (Secret::from(&data[..cut]), Secret::from(&data[cut + 1..]));
    let user = |name: &str| name.parse::<UserName>();
    let (Ok(alice), Ok(bob)) = (user("alice"), user("bob")) else { return };
    let ssh = Ssh::new(SshOptions { longest: Duration::MAX, original: true });
    let login = Login::new(&alice, Some(&stored), &secret, 1);
    if ssh.verify(&login).is_ok() {
        assert!(ssh.verify(&Login { user: &bob, ..login }).is_err());
        assert!(ssh.verify(&Login { now: i64::MAX, ..login }).is_err());
        let short = Ssh::new(SshOptions { longest: Duration::ZERO, original: true });
        assert!(short.verify(&login).is_err());
    }
}

#[cfg(test)]
mod tests;
