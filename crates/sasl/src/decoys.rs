//! What is shown of users that do not exist: the same at every try, on every node, and after a restart.

use std::fmt;

use countersign::{DigestAlgorithm, ScramKeys, Secret, World};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::scram::ScramHash;

/// Challenges for names that nobody has, made of a key of the deployment and the name.
///
/// Who does not have the key cannot tell them from those of users; that takes real keys of the same
/// shape: [`SALT`](Self::SALT) bytes of salt, and the same iteration count.
#[derive(Clone)]
pub struct Decoys {
    /// Ready with the deployment's key: it is asked at each login, also of users that exist.
    keyed: Hmac<Sha256>,
    /// A stored key and a server key that no password has. They are the same for every name, because nobody is
    /// shown anything that is made of them.
    nobodys: [Secret; 2],
    iterations: u32,
}

impl Decoys {
    /// How many bytes of salt keys have.
    pub const SALT: usize = 16;

    /// Decoys of this key: random bytes that every node of a deployment has alike, and nobody else. Without a
    /// word about [`Decoys::with_iterations`], they have as few as RFC 7677 allows.
    pub fn new(key: Secret) -> Self {
        let keyed = match Hmac::new_from_slice(key.expose()) {
            Ok(keyed) => keyed,
            // HMAC takes keys of any length.
            Err(_) => unreachable!("HMAC refuses a key"),
        };
        // As long as the longest hash.
        let nobodys = ["stored", "server"].map(|what| {
            let half = |n: &str| tag(&keyed, &[what.as_bytes(), n.as_bytes()]);
            Secret::from([half("1"), half("2")].concat())
        });
        Self { keyed, nobodys, iterations: ScramHash::FEWEST_ITERATIONS }
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
        let mut salt = self.bytes(["salt", hash.name(), login]);
        salt.truncate(Self::SALT);
        salt
    }

    /// Keys that no password has.
    pub(crate) fn keys(&self, login: &str, hash: ScramHash) -> ScramKeys {
        let [stored_key, server_key] =
            self.nobodys.each_ref().map(|key| Secret::from(&key.expose()[..hash.bytes()]));
        let salt = self.salt(login, hash);
        ScramKeys { salt, iterations: self.iterations, stored_key, server_key }
    }

    /// A password that nobody has.
    pub(crate) fn text(&self, login: &str) -> Secret {
        Secret::from(self.bytes(["text", login]))
    }

    /// A key that no password has for HTTP Digest.
    pub(crate) fn digest(&self, login: &str, algorithm: DigestAlgorithm) -> Secret {
        let mut digits = crate::hex(&self.bytes(["digest", algorithm.name(), login]));
        digits.truncate(algorithm.digits());
        Secret::from(digits)
    }

    /// A tag for values that are kept in memory.
    pub(crate) fn tag(&self, parts: &[&[u8]]) -> Vec<u8> {
        tag(&self.keyed, parts)
    }

    fn bytes<const N: usize>(&self, parts: [&str; N]) -> Vec<u8> {
        self.tag(&parts.map(str::as_bytes))
    }
}

fn tag(keyed: &Hmac<Sha256>, parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = keyed.clone();
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

impl fmt::Debug for Decoys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoys").field("iterations", &self.iterations).finish_non_exhaustive()
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
