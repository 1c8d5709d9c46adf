//! What checkers are made of.

use std::sync::Arc;

#[cfg(feature = "one")]
use countersign::Checker;
use countersign::{Fault, World};
use countersign_store::Store;

use crate::accounts::KeptKeys;
#[cfg(feature = "passkeys")]
use crate::factors::Passkeys;
use crate::hash::Recipe;
#[cfg(feature = "one")]
use crate::one::Driver;
use crate::pool::{HashPool, PoolOptions};
#[cfg(feature = "one")]
use crate::userpool::UserPool;
use crate::world::SystemWorld;

/// What checkers are made of.
#[derive(Clone)]
#[non_exhaustive]
pub struct Parts {
    /// Accounts, where the program has some of its own.
    pub store: Option<Store>,
    /// Where slow hashes are verified.
    pub pool: Arc<HashPool>,
    /// Clocks and entropy.
    pub world: Arc<dyn World>,
    /// How new passwords are hashed.
    pub recipe: Recipe,
    /// Which keys for SCRAM are kept of passwords of accounts.
    pub kept_keys: KeptKeys,
    /// The rules for accounts, where the program has some.
    #[cfg(feature = "one")]
    pub user_pool: Option<Arc<UserPool>>,
    /// The site's passkeys, if it has some.
    #[cfg(feature = "passkeys")]
    pub passkeys: Option<Passkeys>,
}

impl Parts {
    /// These, without accounts and passkeys.
    pub fn new(pool: Arc<HashPool>, world: Arc<dyn World>) -> Self {
        Self {
            store: None,
            pool,
            world,
            recipe: Recipe::default(),
            kept_keys: KeptKeys::default(),
            #[cfg(feature = "one")]
            user_pool: None,
            #[cfg(feature = "passkeys")]
            passkeys: None,
        }
    }

    /// Whether the program has a user pool that names this checker. What is stored for users, and what becomes of
    /// an answer, is then the pool's.
    #[cfg(feature = "one")]
    pub fn pools(&self, checker: &str) -> bool {
        self.user_pool.as_ref().is_some_and(|pool| pool.rules().member(checker).is_some())
    }

    /// A driver as a checker of this name under the program's user pool, which names it.
    ///
    /// # Errors
    ///
    /// As [`UserPool::driven`]; and where there is no pool that names it.
    #[cfg(feature = "one")]
    pub fn under_pool(
        &self,
        checker: &str,
        driver: Arc<dyn Driver>,
    ) -> Result<Arc<dyn Checker>, Fault> {
        let pooled =
            self.user_pool.as_ref().map(|pool| pool.driven(checker, driver)).transpose()?;
        let missing = || {
            Fault::internal(format!(
                "`{checker}` has no file of what is stored, and `[pool]` does not name it"
            ))
        };
        pooled.flatten().ok_or_else(missing)
    }

    /// The parts of a program that is nothing but one server: threads for slow hashes, as many as the machine
    /// can run at a time, and the machine's clocks and entropy.
    ///
    /// # Errors
    ///
    /// A fault when no thread can be started.
    pub fn standalone() -> Result<Self, Fault> {
        let pool = HashPool::start(&PoolOptions::default());
        let pool = pool.map_err(|error| {
            Fault::internal("cannot start the threads that verify hashes").caused_by(error)
        })?;
        Ok(Self::new(Arc::new(pool), Arc::new(SystemWorld::new())))
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("store", &self.store.is_some()).finish_non_exhaustive()
    }
}
