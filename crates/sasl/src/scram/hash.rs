//! The arithmetic of SCRAM (RFC 5802 §2.2 and §3) for its three hashes, and the text that keys are kept as.

use std::fmt::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::{ScramKeys, Secret};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::prep;

/// The hash of a SCRAM mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ScramHash {
    /// SCRAM-SHA-1 (RFC 5802).
    Sha1,
    /// SCRAM-SHA-256 (RFC 7677).
    Sha256,
    /// SCRAM-SHA-512 (draft-melnikov-scram-sha-512).
    Sha512,
}

impl ScramHash {
    /// All of them, strongest first.
    pub const ALL: [Self; 3] = [Self::Sha512, Self::Sha256, Self::Sha1];

    /// The fewest iterations that keys of ours are made with (RFC 7677 §4).
    pub const FEWEST_ITERATIONS: u32 = 4096;

    /// The name of the hash: `SHA-256`.
    pub fn name(self) -> &'static str {
        self.mechanism().strip_prefix("SCRAM-").unwrap_or_default()
    }

    /// The name of the mechanism: `SCRAM-SHA-256`.
    pub fn mechanism(self) -> &'static str {
        match self {
            Self::Sha1 => "SCRAM-SHA-1",
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }

    /// The name of the mechanism with channel binding: `SCRAM-SHA-256-PLUS`.
    pub fn plus(self) -> &'static str {
        match self {
            Self::Sha1 => "SCRAM-SHA-1-PLUS",
            Self::Sha256 => "SCRAM-SHA-256-PLUS",
            Self::Sha512 => "SCRAM-SHA-512-PLUS",
        }
    }

    /// The hash of that name, or of the mechanism of that name, without regard to case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| {
            [hash.name(), hash.mechanism()].iter().any(|own| own.eq_ignore_ascii_case(name))
        })
    }

    /// The bytes of a hash value, and so of each key.
    pub fn bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The keys of a password: `iterations` rounds of PBKDF2, so not for a thread that others wait for.
    pub fn keys(self, password: &Secret, salt: &[u8], iterations: u32) -> ScramKeys {
        let password = prep::password(password);
        let mut salted = Zeroizing::new(vec![0; self.bytes()]);
        match self {
            Self::Sha1 => pbkdf2::pbkdf2_hmac::<Sha1>(&password, salt, iterations, &mut salted),
            Self::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(&password, salt, iterations, &mut salted),
            Self::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>(&password, salt, iterations, &mut salted),
        }
        let client_key = Zeroizing::new(self.hmac(&salted, b"Client Key"));
        ScramKeys {
            salt: salt.to_vec(),
            iterations,
            stored_key: Secret::from(self.hash(&client_key)),
            server_key: Secret::from(self.hmac(&salted, b"Server Key")),
        }
    }

    /// Whether a proof shows the client key whose hash is the stored key. In constant time.
    pub(crate) fn proves(self, proof: &[u8], keys: &ScramKeys, auth_message: &[u8]) -> bool {
        let signature = self.hmac(keys.stored_key.expose(), auth_message);
        let client_key: Zeroizing<Vec<u8>> =
            Zeroizing::new(signature.iter().zip(proof).map(|(a, b)| a ^ b).collect());
        let right = self.hash(&client_key).ct_eq(keys.stored_key.expose());
        // The lengths are no secret.
        proof.len() == self.bytes() && bool::from(right)
    }

    pub(crate) fn hmac(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => mac::<Hmac<Sha1>>(key, message),
            Self::Sha256 => mac::<Hmac<Sha256>>(key, message),
            Self::Sha512 => mac::<Hmac<Sha512>>(key, message),
        }
    }

    fn hash(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => Sha1::digest(message).to_vec(),
            Self::Sha256 => Sha256::digest(message).to_vec(),
            Self::Sha512 => Sha512::digest(message).to_vec(),
        }
    }
}

/// HMAC takes keys of any length, so the empty value is never given.
pub(crate) fn mac<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
    <M as KeyInit>::new_from_slice(key)
        .map(|mac| mac.chain_update(message).finalize().into_bytes().to_vec())
        .unwrap_or_default()
}

/// Keys as a store keeps them: `SCRAM-SHA-256$4096:SALT$STORED:SERVER`, with base64 (RFC 5803 §2, and
/// PostgreSQL's `rolpassword`).
pub fn keys_to_text(hash: ScramHash, keys: &ScramKeys) -> Secret {
    let ScramKeys { salt, iterations, stored_key, server_key } = keys;
    let mut text = String::with_capacity(256);
    let encoded = |bytes: &[u8]| Zeroizing::new(STANDARD.encode(bytes));
    let (salt, stored, server) =
        (encoded(salt), encoded(stored_key.expose()), encoded(server_key.expose()));
    let name = hash.mechanism();
    // Writing to a string cannot fail.
    let _ = write!(text, "{name}${iterations}:{}${}:{}", *salt, *stored, *server);
    Secret::from(text)
}

/// The reverse of [`keys_to_text`]. `None`: it is none, or of a hash that is not known here, or its parts have
/// lengths or a count that no keys have.
pub fn keys_from_text(text: &str) -> Option<(ScramHash, ScramKeys)> {
    const MOST_ITERATIONS: u32 = 10_000_000;
    let mut parts = text.split('$');
    let (Some(name), Some(first), Some(last), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let hash = ScramHash::ALL.into_iter().find(|hash| hash.mechanism() == name)?;
    let (iterations, salt) = first.split_once(':')?;
    let (stored, server) = last.split_once(':')?;
    let iterations: u32 = iterations.parse().ok()?;
    let decoded = |text: &str| STANDARD.decode(text).ok();
    let (salt, stored_key) = (decoded(salt)?, Secret::from(decoded(stored)?));
    let server_key = Secret::from(decoded(server)?);
    let fits = (1..=MOST_ITERATIONS).contains(&iterations)
        && (1..=1024).contains(&salt.len())
        && stored_key.len() == hash.bytes()
        && server_key.len() == hash.bytes();
    fits.then_some((hash, ScramKeys { salt, iterations, stored_key, server_key }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5802 §5 and RFC 7677 §3.
    #[test]
    fn the_exchanges_of_the_rfcs() {
        let exchanges = [
            (
                ScramHash::Sha1,
                "fyko+d2lbbFgONRv9qkxdawL",
                "3rfcNHYJY1ZVvWVs7j",
                "QSXCR+Q6sek8bf92",
                "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
                "rmF9pqV8S7suAoZWja4dJRkFsKQ=",
            ),
            (
                ScramHash::Sha256,
                "rOprNGfwEbeRWgbNEkqO",
                "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
                "W22ZaJ0SNY7soEsUEjb6gQ==",
                "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
                "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            ),
        ];
        for (hash, theirs, ours, salt, proof, signature) in exchanges {
            let bytes = STANDARD.decode(salt).unwrap();
            let keys = hash.keys(&Secret::from("pencil"), &bytes, 4096);
            let message = format!(
                "n=user,r={theirs},r={theirs}{ours},s={salt},i=4096,c=biws,r={theirs}{ours}"
            );
            let proof = STANDARD.decode(proof).unwrap();
            assert!(hash.proves(&proof, &keys, message.as_bytes()));
            let told = hash.hmac(keys.server_key.expose(), message.as_bytes());
            assert_eq!(STANDARD.encode(told), signature);
            for at in 0..proof.len() {
                let mut wrong = proof.clone();
                wrong[at] ^= 1;
                assert!(!hash.proves(&wrong, &keys, message.as_bytes()));
            }
            assert!(!hash.proves(&proof[1..], &keys, message.as_bytes()));
            assert!(!hash.proves(&[&proof[..], &[0]].concat(), &keys, message.as_bytes()));
        }
    }

    #[test]
    fn keys_come_back_from_their_text() {
        for hash in ScramHash::ALL {
            let keys = hash.keys(&Secret::from("pencil"), b"0123456789abcdef", 5);
            let text = keys_to_text(hash, &keys);
            let (found, back) = keys_from_text(text.to_str().unwrap()).unwrap();
            assert_eq!((found, back.iterations, &back.salt), (hash, 5, &keys.salt));
            assert_eq!(back.stored_key, keys.stored_key);
            assert_eq!(back.server_key, keys.server_key);
            assert_eq!(ScramHash::from_name(hash.name()), Some(hash));
        }
    }

    /// What PostgreSQL 15 keeps in `pg_authid.rolpassword` for the user of RFC 7677's example, whose values
    /// it shares.
    #[test]
    fn what_another_server_keeps_is_understood() {
        let text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
                    WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
                    wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        let (hash, kept) = keys_from_text(text).unwrap();
        let made = hash.keys(&Secret::from("pencil"), &kept.salt, kept.iterations);
        assert_eq!(made.stored_key, kept.stored_key);
        assert_eq!(made.server_key, kept.server_key);
        assert_eq!(keys_to_text(hash, &kept), Secret::from(text));
    }

    #[test]
    fn what_is_no_keys_is_refused() {
        let good = keys_to_text(
            ScramHash::Sha256,
            &ScramHash::Sha256.keys(&Secret::from("x"), b"salt", 1),
        );
        let good = good.to_str().unwrap();
        for bad in [
            good.replacen("256", "1", 1),
            good.replacen("256", "384", 1),
            good.replacen("$1:", "$0:", 1),
            good.replacen("$1:", "$99999999999:", 1),
            good.replacen("c2FsdA==", "", 1),
            good.replacen(':', "", 1),
            format!("{good}$"),
            good.trim_end_matches('=').to_owned(),
            String::new(),
        ] {
            assert!(keys_from_text(&bad).is_none(), "{bad}");
        }
    }
}
