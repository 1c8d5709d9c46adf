//! Keys for SCRAM: made of passwords, kept beside their hashes, and what logins by them come to.

use std::sync::Arc;

use countersign::{
    Answers, BoxExchange, Denial, Directory, Exchange, Fault, Reason, Scene, ScramKeys, ScramStore,
    Secret, Step, Verdict, World,
};
use countersign_sasl::{Decoys, Scram, ScramHash, keys_from_text, keys_to_text};
use countersign_store::{Account, CredentialType, NewCredential, Store, StoreError};

use super::{Shared, store_fault};

/// The deployment's secret that challenges for unknown names are made of.
const DECOYS: &str = "scram-decoys";

/// Which keys are kept of passwords.
///
/// Who steals a store of keys can guess passwords by them, at the price of the iterations for each guess;
/// that is far less than a memory-hard hash costs. So they are kept for the mechanisms that are used, and no
/// others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptKeys {
    /// For which mechanisms.
    pub hashes: Vec<ScramHash>,
    /// With how many iterations.
    pub iterations: u32,
}

/// None; and where there are some, so many iterations as clients that know a limit still accept.
impl Default for KeptKeys {
    fn default() -> Self {
        Self { hashes: Vec::new(), iterations: 32_768 }
    }
}

impl KeptKeys {
    /// Makes keys of a password, away from the runtime.
    pub async fn make(&self, password: Secret, world: &dyn World) -> Vec<NewCredential> {
        let mut work = Vec::new();
        for hash in self.hashes.clone() {
            let mut salt = [0; Decoys::SALT];
            world.fill(&mut salt);
            work.push((hash, salt));
        }
        let iterations = self.iterations;
        let make = move || {
            let made = work.into_iter().map(|(hash, salt)| {
                let keys = hash.keys(&password, &salt, iterations);
                let label = hash.mechanism().to_owned();
                let data = keys_to_text(hash, &keys);
                NewCredential { label, ..NewCredential::new(CredentialType::Scram, data) }
            });
            made.collect()
        };
        match tokio::runtime::Handle::try_current() {
            // A thread that panicked has made none.
            Ok(runtime) => runtime.spawn_blocking(make).await.unwrap_or_default(),
            Err(_) => make(),
        }
    }

    /// Makes keys of a password and keeps them, if the account still has the password with this hash string.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub async fn keep(
        &self,
        store: &Store,
        user: &str,
        hash: &Secret,
        password: Secret,
        world: &dyn World,
    ) -> Result<(), StoreError> {
        if self.hashes.is_empty() {
            return Ok(());
        }
        let now = world.now().unix;
        let new = self.make(password, world).await;
        store.derive_credentials(user, hash, &CredentialType::Scram, &new, now).await?;
        Ok(())
    }

    /// Whether an account has other keys than would be made now.
    pub(super) fn lack(&self, account: &Account) -> bool {
        let kept = |hash: &ScramHash| {
            let start = format!("{}${}:", hash.mechanism(), self.iterations);
            account
                .credentials_of(&CredentialType::Scram)
                .any(|kept| kept.data.expose().starts_with(start.as_bytes()))
        };
        !self.hashes.iter().all(kept)
    }
}

impl Shared {
    /// Keeps keys of a password, beside the login that has brought it.
    pub(super) fn keep_keys(self: &Arc<Self>, user: &str, hash: Secret, password: Secret) {
        if self.kept_keys.hashes.is_empty() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (shared, user) = (Arc::clone(self), user.to_owned());
        runtime.spawn(async move {
            let Shared { store, world, kept_keys, .. } = &*shared;
            if let Err(error) = kept_keys.keep(store, &user, &hash, password, &**world).await {
                // It is tried again at the next login by password.
                tracing::warn!(%error, "cannot keep keys for SCRAM");
            }
        });
    }

    async fn decoys(&self) -> Result<Arc<Decoys>, Fault> {
        let made = self.decoys.get_or_try_init(|| async {
            let key = self.store.secret(DECOYS).await.map_err(store_fault)?;
            Ok(Arc::new(Decoys::new(key).with_iterations(self.kept_keys.iterations)))
        });
        made.await.cloned()
    }

    fn scram(self: &Arc<Self>, decoys: Arc<Decoys>, hash: ScramHash, plus: bool) -> BoxExchange {
        Scram::exchange(Arc::new(Keys(Arc::clone(self))), decoys, hash, plus)
    }
}

/// The accounts, for logins by their keys.
struct Keys(Arc<Shared>);

impl Directory for Keys {
    async fn find(&self, login: &str) -> Result<Verdict, Fault> {
        let found = self.0.store.account(login).await.map_err(store_fault)?;
        match found {
            Some(account) if account.driven_by().is_some() => Ok(Verdict::UNKNOWN),
            Some(account) if account.must_change => {
                let detail = "the password must be changed, which cannot be asked for here";
                Ok(Verdict::Not(Denial::new(Reason::ChangeNeeded).because(detail)))
            }
            _ => self.0.find(login).await,
        }
    }
}

impl ScramStore for Keys {
    async fn keys(&self, login: &str, hash: &str) -> Result<Option<ScramKeys>, Fault> {
        let found = self.0.store.account(login).await.map_err(store_fault)?;
        // They are worth no more than the password that they are made of.
        let has_password = |account: &Account| {
            let mut passwords = account.credentials_of(&CredentialType::Password);
            passwords.any(|password| password.scope.is_none() && password.expires.is_none())
        };
        let found = found.filter(|account| account.driven_by().is_none() && has_password(account));
        let Some(account) = found else { return Ok(None) };
        let wanted = ScramHash::from_name(hash);
        let kept = account.credentials_of(&CredentialType::Scram);
        let mut kept = kept.filter_map(|kept| keys_from_text(kept.data.to_str()?));
        Ok(kept.find(|(hash, _)| Some(*hash) == wanted).map(|(_, keys)| keys))
    }
}

/// SCRAM at the first login, when it is not known yet what unknown users are shown.
pub(super) struct ScramExchange {
    shared: Arc<Shared>,
    hash: ScramHash,
    plus: bool,
    begun: Option<BoxExchange>,
}

impl ScramExchange {
    /// The exchange of a mechanism that keys are kept for.
    pub(super) fn begin(shared: &Arc<Shared>, mechanism: &str) -> Option<BoxExchange> {
        let named = |hash: &ScramHash, plus| hash.description(plus).is(mechanism);
        let hashes = shared.kept_keys.hashes.iter();
        let hash = *hashes.clone().find(|hash| named(hash, false) || named(hash, true))?;
        let plus = named(&hash, true);
        Some(match shared.decoys.get() {
            Some(decoys) => shared.scram(Arc::clone(decoys), hash, plus),
            None => BoxExchange::new(Self { shared: Arc::clone(shared), hash, plus, begun: None }),
        })
    }
}

impl Exchange for ScramExchange {
    async fn step(&mut self, answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        let begun = match &mut self.begun {
            Some(begun) => begun,
            none => {
                let decoys = self.shared.decoys().await?;
                none.insert(self.shared.scram(decoys, self.hash, self.plus))
            }
        };
        begun.step(answers, scene).await
    }
}
