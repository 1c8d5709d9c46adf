//! What a user proves themselves with besides the password: enrolled, listed, counted and removed.
//!
//! One implementation behind the command line, the administrator's API and the account page. The secrets
//! that it makes are given out once and never shown again; nothing that [`Factors::list`] gives holds one.
//!
//! Verifying is here as well, for the checkers of [`accounts`](crate::accounts): whatever works once is
//! used up in the store, for every node, before the answer is yes.

mod app_password;
mod otp;
#[cfg(feature = "passkeys")]
mod passkeys;
mod random;
mod recovery;
mod verify;

use std::sync::Arc;

use countersign::World;
use countersign_store::{
    Account, AccountChange, Credential, CredentialType, NewCredential, Store, StoreError,
};

pub use app_password::NewAppPassword;
pub(crate) use app_password::matching as matching_app_password;
pub use otp::{Algorithm, Moving, OtpSettings, PendingOtp};
#[cfg(feature = "passkeys")]
pub(crate) use passkeys::PasskeyLogin;
#[cfg(feature = "passkeys")]
pub use passkeys::{PasskeySettings, Passkeys, PendingPasskey};
pub(crate) use verify::has_code;

/// How many of a kind one user may have. All together are bounded by the store, too
/// ([`limits::CREDENTIALS`](countersign_store::limits::CREDENTIALS)).
pub mod limits {
    /// Generators of one-time codes, of time and of counter together.
    pub const OTP: usize = 8;
    /// Passkeys.
    pub const PASSKEYS: usize = 16;
    /// Application passwords.
    pub const APP_PASSWORDS: usize = 64;
    /// Recovery codes of one set.
    pub const RECOVERY_CODES: usize = 10;
}

/// The factors of the accounts in a store. Cheap to clone.
#[derive(Clone)]
pub struct Factors {
    store: Store,
    world: Arc<dyn World>,
}

/// One factor of a user, without what it is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Factor {
    /// Never used again. Of recovery codes: the first that is left.
    pub id: i64,
    /// What it is: [`CredentialType::Totp`], [`CredentialType::Hotp`], [`CredentialType::Recovery`],
    /// [`CredentialType::AppPassword`] or [`CredentialType::Passkey`].
    pub kind: CredentialType,
    /// The holder's own name for it.
    pub label: String,
    /// Which services it is for; everywhere if nowhere in particular.
    pub services: Option<Vec<String>>,
    /// When it was added, in unix seconds.
    pub created: i64,
    /// From this second on it proves nothing.
    pub expires: Option<i64>,
    /// The last use that was recorded; it may lag by a quarter of an hour.
    pub last_used: Option<i64>,
    /// How many recovery codes are left; they are one factor. `None` for everything else.
    pub left: Option<usize>,
}

/// Why a factor could not be enrolled, changed or removed. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FactorError {
    /// A rule is broken: which field, and what to do.
    #[error("{what} {why}")]
    Invalid {
        /// What is wrong.
        what: &'static str,
        /// What the rule is.
        why: String,
    },
    /// The code that should confirm is not the one that the generator shows now.
    #[error("the code is not right: type the one that is shown now, and see that the clock is set")]
    WrongCode,
    /// The passkey's answer was not accepted.
    #[error("the passkey was not accepted: {0}")]
    Passkey(String),
    /// What the store says.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl FactorError {
    pub(crate) fn invalid(what: &'static str, why: impl Into<String>) -> Self {
        Self::Invalid { what, why: why.into() }
    }
}

/// What [`Factors::reset`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reset {
    /// How many factors it removed; a set of recovery codes is one.
    pub removed: usize,
    /// How many sessions it ended.
    pub ended_sessions: u64,
}

/// The kinds of credentials that are factors. The password is none: it is what the others are beside.
pub const KINDS: [CredentialType; 5] = [
    CredentialType::Totp,
    CredentialType::Hotp,
    CredentialType::Recovery,
    CredentialType::Passkey,
    CredentialType::AppPassword,
];

impl Factors {
    /// The factors of the accounts in this store.
    pub fn new(store: Store, world: Arc<dyn World>) -> Self {
        Self { store, world }
    }

    /// A user's factors, oldest first, as the store has them at this moment.
    ///
    /// # Errors
    ///
    /// [`FactorError::Store`]: there is no such user, or the store is out of reach.
    pub async fn list(&self, user: &str) -> Result<Vec<Factor>, FactorError> {
        let account = self.account(user).await?;
        let mut factors = Vec::<Factor>::new();
        for credential in account.credentials.iter().filter(|c| KINDS.contains(&c.kind)) {
            let recovery = credential.kind == CredentialType::Recovery;
            let set = factors.iter_mut().find(|factor| recovery && factor.left.is_some());
            match set {
                Some(set) => {
                    set.left = set.left.map(|left| left + 1);
                    set.created = set.created.max(credential.created);
                }
                None => factors.push(Factor::from(credential)),
            }
        }
        Ok(factors)
    }

    /// Removes one factor of a user: what the holder does who has replaced it. Their sessions stay. The id
    /// of any recovery code removes them all.
    ///
    /// # Errors
    ///
    /// [`FactorError::Store`]: there is no such user, or no such factor of theirs.
    pub async fn remove(&self, user: &str, id: i64) -> Result<Factor, FactorError> {
        let account = self.account(user).await?;
        let found = account.credentials.iter().find(|c| c.id == id && KINDS.contains(&c.kind));
        let missing = || StoreError::NotFound { what: "factor", name: id.to_string() };
        let credential = found.ok_or_else(missing)?;
        if credential.kind == CredentialType::Recovery {
            let now = self.world.now().unix;
            self.store.set_credentials(user, &credential.kind, &[], now).await?;
        } else {
            self.store.remove_credential(user, id).await?;
        }
        Ok(Factor::from(credential))
    }

    /// Removes all factors of a user, or all of one kind, and ends their sessions, at once or not at all:
    /// they were lost, or stolen. The password stays.
    ///
    /// # Errors
    ///
    /// [`FactorError::Store`]: there is no such user, or the store is out of reach.
    /// [`FactorError::Invalid`]: the kind is none of [`KINDS`].
    pub async fn reset(
        &self,
        user: &str,
        kind: Option<&CredentialType>,
    ) -> Result<Reset, FactorError> {
        if let Some(kind) = kind.filter(|kind| !KINDS.contains(kind)) {
            let kinds: Vec<_> = KINDS.iter().map(CredentialType::as_str).collect();
            let why = format!("`{kind}` is none of {}", kinds.join(", "));
            return Err(FactorError::invalid("the kind", why));
        }
        let chosen = KINDS.into_iter().filter(|of| kind.is_none_or(|kind| kind == of));
        let wanted = AccountChange {
            remove_credentials: chosen.collect(),
            end_sessions: true,
            ..AccountChange::default()
        };
        let done = self.store.change_account(user, &wanted, self.world.now().unix).await?;
        let factors = |(kind, count): &(CredentialType, u64)| match kind {
            CredentialType::Recovery => (*count).min(1),
            _ => *count,
        };
        let removed = done.removed_credentials.iter().map(factors).sum::<u64>();
        let removed = usize::try_from(removed).unwrap_or(usize::MAX);
        Ok(Reset { removed, ended_sessions: done.ended_sessions })
    }

    async fn account(&self, user: &str) -> Result<Account, FactorError> {
        let missing = || StoreError::NotFound { what: "user", name: user.to_owned() };
        Ok(self.store.read_account(user).await?.ok_or_else(missing)?)
    }

    /// Adds a credential, while the user has fewer than `most` of these kinds.
    async fn add(
        &self,
        user: &str,
        new: &NewCredential,
        beside: &[CredentialType],
        most: usize,
    ) -> Result<Factor, FactorError> {
        check_label(&new.label)?;
        let account = self.account(user).await?;
        if account.credentials.iter().filter(|c| beside.contains(&c.kind)).count() >= most {
            let why = format!("has {most} of these already: remove one that is no longer used");
            return Err(FactorError::invalid("the user", why));
        }
        let created = self.world.now().unix;
        let id = self.store.add_credential(user, new, created).await?;
        Ok(Factor {
            id,
            kind: new.kind.clone(),
            label: new.label.clone(),
            services: new.scope.as_deref().map(services),
            created,
            expires: new.expires,
            last_used: None,
            left: None,
        })
    }
}

impl From<&Credential> for Factor {
    fn from(credential: &Credential) -> Self {
        Self {
            id: credential.id,
            kind: credential.kind.clone(),
            label: credential.label.clone(),
            services: credential.scope.as_deref().map(services),
            created: credential.created,
            expires: credential.expires,
            last_used: credential.last_used,
            left: (credential.kind == CredentialType::Recovery).then_some(1),
        }
    }
}

impl std::fmt::Debug for Factors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Factors").finish_non_exhaustive()
    }
}

/// A scope is the services that it is for, with blanks between.
fn services(scope: &str) -> Vec<String> {
    scope.split_ascii_whitespace().map(str::to_owned).collect()
}

/// A label is for people, in a table or a page: short, and without what would move a cursor.
fn check_label(label: &str) -> Result<(), FactorError> {
    const LONGEST: usize = 64;
    if label.chars().count() > LONGEST {
        return Err(FactorError::invalid(
            "the label",
            format!("has more than {LONGEST} characters"),
        ));
    }
    if label.chars().any(char::is_control) {
        return Err(FactorError::invalid("the label", "has control characters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
