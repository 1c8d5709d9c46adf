//! The hashes of HTTP Digest, in hexadecimal digits as it wants them.

use countersign::{DigestAlgorithm, Secret};
use md5::{Digest, Md5};
use sha2::{Sha256, Sha512_256};
use zeroize::Zeroizing;

use crate::hex;

/// The hash of a body as it comes in, for clients that protect it (`auth-int`).
#[derive(Clone, Debug)]
pub struct BodyHash(State);

#[derive(Clone, Debug)]
enum State {
    Md5(Md5),
    Sha256(Sha256),
    Sha512_256(Sha512_256),
}

impl BodyHash {
    /// Of nothing yet.
    pub fn new(algorithm: DigestAlgorithm) -> Self {
        Self(match algorithm {
            DigestAlgorithm::Sha256 => State::Sha256(Sha256::new()),
            DigestAlgorithm::Sha512_256 => State::Sha512_256(Sha512_256::new()),
            _ => State::Md5(Md5::new()),
        })
    }

    /// One more piece of the body.
    pub fn update(&mut self, piece: &[u8]) {
        match &mut self.0 {
            State::Md5(hash) => hash.update(piece),
            State::Sha256(hash) => hash.update(piece),
            State::Sha512_256(hash) => hash.update(piece),
        }
    }

    /// The digits.
    pub fn finish(self) -> String {
        match self.0 {
            State::Md5(hash) => hex(&hash.finalize()),
            State::Sha256(hash) => hex(&hash.finalize()),
            State::Sha512_256(hash) => hex(&hash.finalize()),
        }
    }
}

/// `H(A1)` without its `-sess` part: what a [`DigestStore`](countersign::DigestStore) keeps.
pub fn key(algorithm: DigestAlgorithm, login: &str, realm: &str, password: &Secret) -> Secret {
    let mut text = Zeroizing::new(format!("{login}:{realm}:").into_bytes());
    text.reserve_exact(password.len());
    text.extend_from_slice(password.expose());
    Secret::from(of(algorithm, &text))
}

/// What a client shows in place of a name (RFC 7616 §3.4.4).
pub fn userhash(algorithm: DigestAlgorithm, login: &str, realm: &str) -> String {
    of(algorithm, format!("{login}:{realm}").as_bytes())
}

pub(super) fn of(algorithm: DigestAlgorithm, bytes: &[u8]) -> String {
    let mut hash = BodyHash::new(algorithm);
    hash.update(bytes);
    hash.finish()
}
