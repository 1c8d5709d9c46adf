//! Keys for SCRAM and HTTP Digest, made of passwords that a store has readable.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use countersign::{
    DigestAlgorithm, DigestStore, Directory, Fault, ScramKeys, ScramStore, Secret, TextStore,
    Verdict,
};

use crate::{Decoys, ScramHash, digest};

/// How many keys are remembered.
const KEPT: usize = 4096;

/// A store of passwords as a store of keys. Salts are those of [`Decoys`], so that a user's cannot be told from
/// those of a name that nobody has.
///
/// SCRAM keys cost thousands of hash computations in the thread that asks for them, a millisecond or few; those of
/// the last logins are remembered, decoys as well.
pub struct Derived<S> {
    store: Arc<S>,
    decoys: Arc<Decoys>,
    made: Mutex<HashMap<Vec<u8>, ScramKeys>>,
}

impl<S: TextStore> Derived<S> {
    /// The store of keys.
    pub fn new(store: Arc<S>, decoys: Arc<Decoys>) -> Self {
        Self { store, decoys, made: Mutex::default() }
    }

    fn made(&self, login: &str, hash: ScramHash, password: &Secret) -> ScramKeys {
        let parts = [b"made", hash.name().as_bytes(), login.as_bytes(), password.expose()];
        let tag = self.decoys.tag(&parts);
        let lock = || self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keys) = lock().get(&tag) {
            return keys.clone();
        }
        let salt = self.decoys.salt(login, hash);
        let keys = hash.keys(password, &salt, self.decoys.iterations());
        let mut made = lock();
        if made.len() >= KEPT {
            // Rare, and the next logins fill it again.
            made.clear();
        }
        made.insert(tag, keys.clone());
        keys
    }
}

impl<S: TextStore> Directory for Derived<S> {
    async fn find(&self, login: &str) -> Result<Verdict, Fault> {
        self.store.find(login).await
    }
}

impl<S: TextStore> ScramStore for Derived<S> {
    async fn keys(&self, login: &str, hash: &str) -> Result<Option<ScramKeys>, Fault> {
        let Some(hash) = ScramHash::from_name(hash) else { return Ok(None) };
        let found = self.store.password_text(login).await?;
        let password = found.clone().unwrap_or_else(|| self.decoys.text(login));
        let keys = self.made(login, hash, &password);
        Ok(found.is_some().then_some(keys))
    }
}

impl<S: TextStore> DigestStore for Derived<S> {
    async fn digest_key(
        &self,
        login: &str,
        realm: &str,
        algorithm: DigestAlgorithm,
    ) -> Result<Option<Secret>, Fault> {
        let password = self.store.password_text(login).await?;
        Ok(password.map(|password| digest::key(algorithm, login, realm, &password)))
    }
}

impl<S> std::fmt::Debug for Derived<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Derived")
    }
}
