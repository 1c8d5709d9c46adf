//! What is shown of users that do not exist: the same at every try, on every node, and after a restart.

use countersign::{DigestAlgorithm, ScramKeys, Secret, World};
use hmac::Hmac;
use sha2::Sha256;

use crate::scram::{ScramHash, mac};

/// Challenges for names that nobody has, made of a key of the deployment and the name.
///
/// Who does not have the key cannot tell them from those of users; that takes real keys of the same
/// shape: [`SALT`](Self::SALT) bytes of salt, and the same iteration count.
#[derive(Clone, Debug)]
pub struct Decoys {
    key: Secret,
    iterations: u32,
}

impl Decoys {
    /// How many bytes of salt keys have.
    pub const SALT: usize = 16;

    /// Decoys of this key: random bytes that every node of a deployment has alike, and nobody else. Without a
    /// word about [`Decoys::with_iterations`], they have as few as RFC 7677 allows.
    pub fn new(key: Secret) -> Self {
        Self { key, iterations: ScramHash::FEWEST_ITERATIONS }
    }

    /// Decoys of a key that nobody has, and that is gone with the process. For stores whose users' salts are
    /// made of it as well ([`Derived`](crate::Derived)): all of them change together.
    pub fn random(world: &dyn World) -> Self {
        let mut key = [0; 32];
        world.fill(&mut key);
        Self::new(Secret::from(&key[..]))
    }

    /// The same, with the iteration count that keys are made with here.
    #[must_use]
    pub fn with_iterations(self, iterations: u32) -> Self {
        Self { iterations, ..self }
    }

    /// The iteration count of keys that are made here.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// A salt for a name: what a store of keys would have drawn, and what keys that are made at each login are
    /// made with.
    pub fn salt(&self, login: &str, hash: ScramHash) -> Vec<u8> {
        let mut salt = self.bytes(&["salt", hash.name(), login]);
        salt.truncate(Self::SALT);
        salt
    }

    /// Keys that no password has.
    pub(crate) fn keys(&self, login: &str, hash: ScramHash) -> ScramKeys {
        let key = |what| {
            let half = |n| self.bytes(&[what, n, hash.name(), login]);
            let mut bytes = half("1");
            bytes.extend(half("2"));
            bytes.truncate(hash.bytes());
            Secret::from(bytes)
        };
        ScramKeys {
            salt: self.salt(login, hash),
            iterations: self.iterations,
            stored_key: key("stored"),
            server_key: key("server"),
        }
    }

    /// A password that nobody has.
    pub(crate) fn text(&self, login: &str) -> Secret {
        Secret::from(self.bytes(&["text", login]))
    }

    /// A key that no password has for HTTP Digest.
    pub(crate) fn digest(&self, login: &str, algorithm: DigestAlgorithm) -> Secret {
        let mut digits = crate::hex(&self.bytes(&["digest", algorithm.name(), login]));
        digits.truncate(algorithm.digits());
        Secret::from(digits)
    }

    /// A tag for values that are kept in memory.
    pub(crate) fn tag(&self, parts: &[&[u8]]) -> Vec<u8> {
        let mut message = Vec::new();
        for part in parts {
            message.extend((part.len() as u64).to_be_bytes());
            message.extend_from_slice(part);
        }
        mac::<Hmac<Sha256>>(self.key.expose(), &message)
    }

    fn bytes(&self, parts: &[&str]) -> Vec<u8> {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        self.tag(&parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_for_a_name_and_another_for_each() {
        let decoys = Decoys::new(Secret::from("a key")).with_iterations(5000);
        let again = Decoys::new(Secret::from("a key"));
        let other = Decoys::new(Secret::from("another"));
        for hash in ScramHash::ALL {
            let keys = decoys.keys("ada", hash);
            assert_eq!((keys.salt.len(), keys.iterations), (Decoys::SALT, 5000));
            assert_eq!(keys.stored_key.len(), hash.bytes());
            assert_ne!(keys.stored_key, keys.server_key);
            assert_eq!(keys.salt, again.salt("ada", hash));
            for different in [other.salt("ada", hash), again.salt("adb", hash)] {
                assert_ne!(keys.salt, different);
            }
        }
        assert_ne!(decoys.text("ada"), decoys.text("bob"));
        assert_eq!(decoys.digest("ada", DigestAlgorithm::Md5).len(), 32);
        assert_eq!(decoys.digest("ada", DigestAlgorithm::Sha512_256).len(), 64);
    }
}
