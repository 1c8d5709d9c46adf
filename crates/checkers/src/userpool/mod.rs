//! The account rules of OpenNebula's user pool, for any checker: who is asked about whom, what becomes of the
//! answer, who acts for whom, and what stands for a password for a while. Reference: `docs/guide/user-pool.md`.
//!
//! A [`UserPool`] holds the rules and the accounts, and puts checkers under them: [`UserPool::over`] any checker
//! of passwords, [`UserPool::driven`] a driver of OpenNebula's kind. Each is asked about the accounts that name
//! it as their driver, and about nobody else; one of them about users who have no account.

mod answer;
mod pooled;
mod recent;
mod rules;
mod tokens;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use countersign::{Checker, Fault, World};
use countersign_store::{CredentialType, Store};

pub use answer::PRIMARY_GROUP;
use pooled::{Asked, Pooled};
use recent::Recent;
pub use rules::{Member, PoolRules, RulesError};
pub use tokens::{LoginTokens, NewLoginToken, TOKEN_PREFIX, TOKENS, TokenError, is_login_token};

use crate::one::Driver;

/// The attribute of an identity that a server acts for: the server's name.
pub const ACTING: &str = "acting-server";

/// The kind of the credential that holds what an account's driver compares with: a public key, a certificate's
/// subject, whatever a driver asked for. An account has one at most.
pub fn driver_credential() -> CredentialType {
    CredentialType::Other("driver".to_owned())
}

/// The accounts of a store under OpenNebula's rules.
pub struct UserPool {
    shared: Arc<Shared>,
    /// Checkers that are under the rules already, by name.
    driven: Mutex<BTreeSet<String>>,
}

pub(in crate::userpool) struct Shared {
    store: Store,
    rules: PoolRules,
    tokens: LoginTokens,
    recent: Recent,
}

impl UserPool {
    /// The accounts of this store, under these rules.
    ///
    /// # Errors
    ///
    /// What of the rules contradicts itself.
    pub fn new(store: Store, world: Arc<dyn World>, rules: PoolRules) -> Result<Self, RulesError> {
        rules.check()?;
        let recent = Recent::new(&*world, rules.session_expiration);
        let tokens = LoginTokens::new(store.clone(), world);
        let shared = Arc::new(Shared { store, rules, tokens, recent });
        Ok(Self { shared, driven: Mutex::default() })
    }

    /// The rules.
    pub fn rules(&self) -> &PoolRules {
        &self.shared.rules
    }

    /// A checker under the rules: itself where the rules do not name it, or where it is [`UserPool::driven`]
    /// already. It offers passwords; one of accounts' own credentials all that it has.
    ///
    /// # Errors
    ///
    /// A fault where it offers no passwords, or is to act for others, which only a driver can.
    pub fn over(&self, checker: Arc<dyn Checker>) -> Result<Arc<dyn Checker>, Fault> {
        let Some(member) = self.shared.rules.member(checker.name()) else { return Ok(checker) };
        if self.driven_names().contains(checker.name()) {
            return Ok(checker);
        }
        if acts_for_others(member.driver.as_str()) {
            let name = checker.name();
            return Err(Fault::internal(format!(
                "`{name}` is no driver, and cannot act for others"
            )));
        }
        let pooled = Pooled::new(Arc::clone(&self.shared), member.clone(), Asked::Checker(checker));
        Ok(Arc::new(pooled?))
    }

    /// A driver as a checker of this name, under the rules. Nothing where the rules do not name it.
    ///
    /// # Errors
    ///
    /// A fault where the rules say that it is `core`, which is no driver.
    pub fn driven(
        &self,
        checker: &str,
        driver: Arc<dyn Driver>,
    ) -> Result<Option<Arc<dyn Checker>>, Fault> {
        let Some(member) = self.shared.rules.member(checker) else { return Ok(None) };
        if member.is_core() {
            let why = format!("`{checker}` is a driver, and `core` are accounts without one");
            return Err(Fault::internal(why));
        }
        let asked = Asked::Driver(driver);
        let pooled = Pooled::new(Arc::clone(&self.shared), member.clone(), asked)?;
        self.driven_names().insert(checker.to_owned());
        Ok(Some(Arc::new(pooled)))
    }

    fn driven_names(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.driven.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for UserPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserPool").field("rules", &self.shared.rules).finish_non_exhaustive()
    }
}

/// Whether accounts of a driver act for others. As oned takes it, by the name.
fn acts_for_others(driver: &str) -> bool {
    driver.starts_with("server")
}

#[cfg(test)]
mod tests;
