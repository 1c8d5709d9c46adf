//! One checker over one store, with the mechanisms that the store can serve.

use std::fmt;
use std::sync::Arc;

use countersign::{
    BoxExchange, Checker, DigestStore, Directory, Fault, Mechanism, PASSWORD, Password,
    PasswordStore, Scene, ScramStore, TextStore, not_offered,
};

use crate::digest::{DIGEST, DigestExchange};
use crate::{APOP, Apop, CRAM_MD5, CramMd5, Decoys, Derived, EXTERNAL, External, Scram, ScramHash};

type Begin = Box<dyn Fn() -> BoxExchange + Send + Sync>;

/// A checker over a store: what it offers is what it was told to, and that compiles only where the store can
/// serve it.
///
/// ```
/// # use countersign::{Directory, Fault, Identity, Secret, TextStore, Verdict, Verified};
/// # struct Users;
/// # impl Directory for Users {
/// #     async fn find(&self, login: &str) -> Result<Verdict, Fault> { Ok(Verdict::UNKNOWN) }
/// # }
/// # impl TextStore for Users {
/// #     async fn password_text(&self, _: &str) -> Result<Option<Secret>, Fault> { Ok(None) }
/// # }
/// use countersign::{Checker, Portal};
/// use countersign_sasl::{Decoys, ScramHash, Stored};
///
/// // The key is the deployment's: random bytes, kept, and the same at each start.
/// let decoys = Decoys::new(Secret::from("32 random bytes"));
/// let checker = Stored::new("users", Users, decoys).by_cram_md5().by_derived_scram([ScramHash::Sha256]);
/// assert!(checker.mechanisms().iter().any(|mechanism| mechanism.is("SCRAM-SHA-256-PLUS")));
/// let portal = Portal::new(()).checked_by(checker);
/// ```
pub struct Stored<S> {
    name: String,
    store: Arc<S>,
    decoys: Arc<Decoys>,
    mechanisms: Vec<Mechanism>,
    begin: Vec<Begin>,
}

impl<S: Send + Sync + 'static> Stored<S> {
    /// A checker of that name, which offers nothing yet.
    pub fn new(name: impl Into<String>, store: S, decoys: Decoys) -> Self {
        Self::shared(name, Arc::new(store), Arc::new(decoys))
    }

    /// The same, over what others hold too.
    pub fn shared(name: impl Into<String>, store: Arc<S>, decoys: Arc<Decoys>) -> Self {
        Self { name: name.into(), store, decoys, mechanisms: Vec::new(), begin: Vec::new() }
    }

    fn with(
        mut self,
        mechanism: Mechanism,
        begin: impl Fn() -> BoxExchange + Send + Sync + 'static,
    ) -> Self {
        if !self.mechanisms.iter().any(|known| known.is(&mechanism.name)) {
            self.mechanisms.push(mechanism);
            self.begin.push(Box::new(begin));
        }
        self
    }

    fn with_digest<T: DigestStore>(self, store: Arc<T>) -> Self {
        let decoys = Arc::clone(&self.decoys);
        self.with(DIGEST.clone(), move || {
            DigestExchange::exchange(Arc::clone(&store), Arc::clone(&decoys))
        })
    }

    fn with_scram<T: ScramStore>(
        mut self,
        store: &Arc<T>,
        hashes: impl IntoIterator<Item = ScramHash>,
    ) -> Self {
        for hash in hashes {
            for plus in [true, false] {
                let (store, decoys) = (Arc::clone(store), Arc::clone(&self.decoys));
                self = self.with(hash.description(plus), move || {
                    Scram::exchange(Arc::clone(&store), Arc::clone(&decoys), hash, plus)
                });
            }
        }
        self
    }
}

impl<S: Directory> Stored<S> {
    /// Offers EXTERNAL: what a lower layer proved.
    #[must_use]
    pub fn by_external(self) -> Self {
        let store = Arc::clone(&self.store);
        self.with(EXTERNAL.clone(), move || External::exchange(Arc::clone(&store)))
    }
}

impl<S: PasswordStore> Stored<S> {
    /// Offers `password`, and so what carries it: PLAIN and LOGIN.
    #[must_use]
    pub fn by_password(self) -> Self {
        let store = Arc::clone(&self.store);
        self.with(PASSWORD.clone(), move || Password::exchange(Arc::clone(&store)))
    }
}

impl<S: ScramStore> Stored<S> {
    /// Offers SCRAM with these hashes, with channel binding and without.
    #[must_use]
    pub fn by_scram(self, hashes: impl IntoIterator<Item = ScramHash>) -> Self {
        let store = Arc::clone(&self.store);
        self.with_scram(&store, hashes)
    }
}

impl<S: DigestStore> Stored<S> {
    /// Offers HTTP Digest.
    #[must_use]
    pub fn by_digest(self) -> Self {
        let store = Arc::clone(&self.store);
        self.with_digest(store)
    }
}

impl<S: TextStore> Stored<S> {
    /// Offers CRAM-MD5.
    #[must_use]
    pub fn by_cram_md5(self) -> Self {
        let (store, decoys) = (Arc::clone(&self.store), Arc::clone(&self.decoys));
        self.with(CRAM_MD5.clone(), move || {
            CramMd5::exchange(Arc::clone(&store), Arc::clone(&decoys))
        })
    }

    /// Offers APOP.
    #[must_use]
    pub fn by_apop(self) -> Self {
        let (store, decoys) = (Arc::clone(&self.store), Arc::clone(&self.decoys));
        self.with(APOP.clone(), move || Apop::exchange(Arc::clone(&store), Arc::clone(&decoys)))
    }

    /// Offers HTTP Digest with keys that are made of the password at each login.
    #[must_use]
    pub fn by_derived_digest(self) -> Self {
        let derived = Derived::new(Arc::clone(&self.store), Arc::clone(&self.decoys));
        self.with_digest(Arc::new(derived))
    }

    /// Offers SCRAM with keys that are made of the password at each login, and remembered for the next.
    #[must_use]
    pub fn by_derived_scram(self, hashes: impl IntoIterator<Item = ScramHash>) -> Self {
        let derived = Derived::new(Arc::clone(&self.store), Arc::clone(&self.decoys));
        self.with_scram(&Arc::new(derived), hashes)
    }
}

impl<S: Send + Sync + 'static> Checker for Stored<S> {
    fn name(&self) -> &str {
        &self.name
    }

    fn mechanisms(&self) -> &[Mechanism] {
        &self.mechanisms
    }

    fn begin(&self, mechanism: &str, _: &Scene<'_>) -> Result<BoxExchange, Fault> {
        let place = self.mechanisms.iter().position(|known| known.is(mechanism));
        let begin = place.and_then(|place| self.begin.get(place));
        begin.map(|begin| begin()).ok_or_else(|| not_offered(&self.name, mechanism))
    }
}

impl<S> fmt::Debug for Stored<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mechanisms = self.mechanisms.iter().map(|mechanism| &*mechanism.name);
        write!(f, "Stored({}: ", self.name)?;
        f.debug_list().entries(mechanisms).finish()?;
        f.write_str(")")
    }
}
