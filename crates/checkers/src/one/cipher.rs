//! OpenNebula's driver `server_cipher`, built in: tokens of servers that act for somebody, by a secret that both
//! sides have.
//!
//! The original's are encrypted without being authenticated, with a fixed nonce, and good for any target: whoever
//! sees one can change it. They count only where that is said to be wanted. Ours are authenticated, and bound to the
//! server, the target and the moment. Contract: `docs/protocols/opennebula-tokens.md`, C1 to C8.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::cipher::{
    AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey,
    PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::iv::FixedLength;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::Secret;
use countersign_wire::one::UserName;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::validity::{judge, moment};
use super::{Attempt, Driver, Login};

/// How a token of ours begins. A session has no colon in its token.
const OURS: &str = "countersign-cipher1.";
/// The name of the key's use, for its derivation; and what begins the data that is bound.
const USE: &[u8] = b"countersign-cipher1";
/// How long the stored secret is: SHA-256 in hexadecimal digits.
const DIGITS: usize = 64;
/// What is sealed: the moment, in eight bytes.
const SEALED: usize = 8;
/// No token is longer: the original's has two names and a moment.
const LONGEST_TOKEN: usize = 1024;

/// Which tokens count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "kinds", derive(serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct CipherOptions {
    /// For how long a token may be good, from now on.
    #[cfg_attr(feature = "kinds", serde(deserialize_with = "crate::kinds::duration"))]
    pub longest: Duration,
    /// Dangerous: whether the original's tokens count, which anybody who sees one can change, also to another
    /// target where the caller does not know it. An unmodified oned and Sunstone need it.
    pub legacy: bool,
}

impl Default for CipherOptions {
    /// An hour, and ours alone.
    fn default() -> Self {
        Self { longest: Duration::from_secs(3600), legacy: false }
    }
}

/// Verifies tokens of servers.
#[derive(Clone, Copy, Debug)]
pub struct Cipher {
    options: CipherOptions,
}

/// No token could be made: what is stored is no secret of this kind, or the system has no randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no token can be made: {0}")]
pub struct CannotSeal(&'static str);

impl Cipher {
    /// A driver with these options.
    pub fn new(options: CipherOptions) -> Self {
        Self { options }
    }

    /// Whether the login's secret is a token of the server, for the target.
    ///
    /// # Errors
    ///
    /// Why not, for the operator.
    pub fn verify(&self, login: &Login<'_>) -> Result<(), String> {
        let stored = login.stored.ok_or("no secret is stored for the server")?;
        let stored = Stored::read(stored).ok_or("what is stored is no SHA-256 in 64 digits")?;
        let token = login.secret.to_str().filter(|token| token.len() <= LONGEST_TOKEN);
        let token = token.ok_or("the secret is no token")?;
        let expires = match token.strip_prefix(OURS) {
            Some(sealed) => {
                let target = login.target.ok_or(
                    "whoever asks does not say for whom the server acts, and the token is for one target",
                )?;
                stored.open(login.user, target, sealed)?
            }
            None if !self.options.legacy => {
                return Err(
                    "the secret is no token of ours, and the original's do not count".into()
                );
            }
            None => stored.decrypt(login.user, login.target, token)?,
        };
        judge(expires, login.now, self.options.longest)
    }
}

impl Driver for Cipher {
    fn authenticate<'a>(
        &'a self,
        login: Login<'a>,
    ) -> Pin<Box<dyn Future<Output = Attempt> + Send + 'a>> {
        Box::pin(std::future::ready(self.verify(&login).into()))
    }

    fn describe(&self) -> String {
        match self.options.legacy {
            false => "verifies tokens of servers (built in)".into(),
            true => {
                "verifies tokens of servers, also OpenNebula's, which can be changed (built in)"
                    .into()
            }
        }
    }
}

/// What is stored for a server with this password, as OpenNebula does: its SHA-256 in hexadecimal digits.
pub fn stored(password: &Secret) -> Secret {
    let digest = Zeroizing::new(<[u8; 32]>::from(Sha256::digest(password.expose())));
    let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    Secret::from(digits.map(|digit| b"0123456789abcdef"[usize::from(digit)]).collect::<Vec<_>>())
}

/// A token of ours: for that server, that target, until then (seconds since 1970). The nonce is random.
///
/// # Errors
///
/// When it cannot be made.
pub fn token(
    stored: &Secret,
    server: &UserName,
    target: &UserName,
    expires: i64,
) -> Result<Secret, CannotSeal> {
    let stored = Stored::read(stored).ok_or(CannotSeal("the secret is no SHA-256 in 64 digits"))?;
    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce).map_err(|_| CannotSeal("the system has no randomness"))?;
    let mut sealed = expires.to_be_bytes().to_vec();
    let key = stored.key().ok_or(CannotSeal("the secret makes no key"))?;
    key.seal_in_place_append_tag(
        Nonce::assume_unique_for_key(nonce),
        Aad::from(bound(server, target)),
        &mut sealed,
    )
    .map_err(|_| CannotSeal("it cannot be sealed"))?;
    let bytes = [&nonce[..], &sealed].concat();
    Ok(Secret::from(format!("{OURS}{}", STANDARD.encode(bytes))))
}

/// A token of the original's: see [`CipherOptions::legacy`].
///
/// # Errors
///
/// When it cannot be made.
pub fn legacy_token(
    stored: &Secret,
    server: &UserName,
    target: &UserName,
    expires: i64,
) -> Result<Secret, CannotSeal> {
    let stored = Stored::read(stored).ok_or(CannotSeal("the secret is no SHA-256 in 64 digits"))?;
    let failed = |_| CannotSeal("it cannot be encrypted");
    let key = UnboundCipherKey::new(&AES_256, stored.ascii_key()).map_err(failed)?;
    let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).map_err(failed)?;
    let mut text = format!("{server}:{target}:{expires}").into_bytes();
    let context = EncryptionContext::Iv128(FixedLength::from(stored.ascii_nonce()));
    key.less_safe_encrypt(&mut text, context).map_err(failed)?;
    Ok(Secret::from(STANDARD.encode(text)))
}

/// What the moment of a token of ours is bound to: each name with its length, so that no two pairs are alike.
fn bound(server: &UserName, target: &UserName) -> Vec<u8> {
    let mut bound = USE.to_vec();
    for name in [server.as_str(), target.as_str()] {
        // No name has more than 128 bytes.
        bound.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        bound.extend(name.as_bytes());
    }
    bound
}

/// The secret that a server and we have.
struct Stored {
    digits: Zeroizing<[u8; DIGITS]>,
    bytes: Zeroizing<[u8; DIGITS / 2]>,
}

impl Stored {
    fn read(stored: &Secret) -> Option<Self> {
        let digits = Zeroizing::new(<[u8; DIGITS]>::try_from(stored.expose()).ok()?);
        let mut bytes = Zeroizing::new([0; DIGITS / 2]);
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            for digit in pair {
                let value = match digit {
                    b'0'..=b'9' => digit - b'0',
                    b'a'..=b'f' => digit - b'a' + 10,
                    _ => return None,
                };
                *byte = *byte << 4 | value;
            }
        }
        Some(Self { digits, bytes })
    }

    /// The key of our tokens: not one that the original's tokens are made with.
    fn key(&self) -> Option<LessSafeKey> {
        let pseudorandom = Salt::new(HKDF_SHA256, USE).extract(&self.bytes[..]);
        let derived = pseudorandom.expand(&[b"token"], &AES_256_GCM_SIV).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(derived)))
    }

    /// The original takes the digits for bytes: 32 of them, which are 128 bits.
    fn ascii_key(&self) -> &[u8] {
        &self.digits[..32]
    }

    /// The same for every token.
    fn ascii_nonce(&self) -> [u8; 16] {
        let mut nonce = [0; 16];
        nonce.copy_from_slice(&self.digits[..16]);
        nonce
    }

    /// Until when a token of ours is good, when it is one of this server for this target.
    fn open(&self, server: &UserName, target: &UserName, token: &str) -> Result<i64, &'static str> {
        let bytes = STANDARD.decode(token).map_err(|_| "the token is no base64")?;
        let (nonce, sealed) = bytes.split_first_chunk().ok_or("the token is cut off")?;
        let key = self.key().ok_or("what is stored makes no key")?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = key.open_in_place(nonce, Aad::from(bound(server, target)), &mut sealed);
        let opened = opened.map_err(
            |_| "the token is another server's, for another target, of another secret, or changed",
        )?;
        let moment: [u8; SEALED] =
            (&*opened).try_into().map_err(|_| "the token holds no moment")?;
        Ok(i64::from_be_bytes(moment))
    }

    /// Until when a token of the original's is good, when it seems to be one of this server for this target.
    fn decrypt(
        &self,
        server: &UserName,
        target: Option<&UserName>,
        token: &str,
    ) -> Result<i64, &'static str> {
        // One word for whatever is wrong with what was decrypted: more would tell its text, bit by bit.
        const NOT_ONE: &str = "the token is none of this server";
        let mut bytes = STANDARD.decode(token).map_err(|_| "the token is no base64")?;
        let key = UnboundCipherKey::new(&AES_256, self.ascii_key()).map_err(|_| NOT_ONE)?;
        let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).map_err(|_| NOT_ONE)?;
        let context = DecryptionContext::Iv128(FixedLength::from(self.ascii_nonce()));
        let text = key.decrypt(&mut bytes, context).map_err(|_| NOT_ONE)?;
        let mut fields = text.split(|byte| *byte == b':');
        let (Some(name), Some(acting_for), Some(expires), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(NOT_ONE);
        };
        if name != server.as_str().as_bytes() || UserName::from_bytes(acting_for).is_err() {
            return Err(NOT_ONE);
        }
        if target.is_some_and(|target| target.as_str().as_bytes() != acting_for) {
            return Err("the token is for another target");
        }
        moment(expires).ok_or(NOT_ONE)
    }
}

/// For fuzzing: a token for `srv`, acting for `alice`. One that is accepted is nobody else's, and ends.
pub(crate) fn fuzz(data: &[u8]) {
    let user = |name: &str| name.parse::<UserName>();
    let (Ok(server), Ok(alice), Ok(bob)) = (user("srv"), user("alice"), user("bob")) else {
        return;
    };
    if data.is_empty() {
        return;
    }
    let (stored, secret) = (stored(&Secret::from("password")), Secret::from(data));
    let driver = |longest, legacy| Cipher::new(CipherOptions { longest, legacy });
    for legacy in [false, true] {
        let cipher = driver(Duration::MAX, legacy);
        let login = Login::new(&server, Some(&stored), &secret, 1).acting_for(&alice);
        if cipher.verify(&login).is_ok() {
            assert!(cipher.verify(&login.acting_for(&bob)).is_err());
            assert!(cipher.verify(&Login { user: &bob, ..login }).is_err());
            assert!(cipher.verify(&Login { now: i64::MAX, ..login }).is_err());
            assert!(driver(Duration::ZERO, legacy).verify(&login).is_err());
        }
    }
}

#[cfg(test)]
mod tests;
