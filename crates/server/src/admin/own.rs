//! What people change of their own account. Everything is in the record as the acts of an administrator are,
//! under the user's own name.

use std::sync::Arc;

use countersign::{Secret, Text};
use countersign_checkers::accounts::password_rules;
use countersign_checkers::factors::{
    Factor, FactorError, Factors, NewAppPassword, OtpSettings, PendingOtp,
};
#[cfg(feature = "passkeys")]
use countersign_checkers::factors::{Passkeys, PendingPasskey};
use countersign_store::{AccountChange, AccountUpdate, SessionRecord, StoreError};

use super::{Admin, AdminError};

/// A user at work on their own account. Whether they may is for who asks: a session, and a proof that is fresh
/// enough.
#[derive(Clone, Debug)]
pub struct Own {
    admin: Admin,
    name: String,
}

/// Why a user could not change something of their own.
#[derive(Debug)]
pub enum OwnError {
    /// The new password breaks a rule.
    Password(Text),
    /// It is about a factor.
    Factor(FactorError),
    /// Something else: the store, or the hash.
    Admin(AdminError),
}

impl Admin {
    /// A user's own acts.
    pub fn own(&self, name: &str) -> Own {
        Own { admin: self.by(format!("self {name}")), name: name.to_owned() }
    }
}

impl Own {
    /// Sets the password and ends every session but `by`, the one that asks for it: whoever changes it may be
    /// shutting a thief out. All of it or nothing, and nothing if that session was ended while the new
    /// password was hashed: then somebody else is shutting out its holder. Gives how many ended.
    ///
    /// # Errors
    ///
    /// A rule is broken, or there is no such account or session any more; the old password stays.
    pub async fn change_password(&self, new: Secret, by: &str) -> Result<u64, OwnError> {
        password_rules(&self.name, &new).map_err(OwnError::Password)?;
        let account = self.admin.store.read_account(&self.name).await?;
        if let Some(account) = &account {
            self.admin.may_change_password(account)?;
        }
        let hash = self.admin.hash(&self.name, new.clone()).await?;
        let wanted = AccountChange {
            fields: AccountUpdate { must_change: Some(false), ..AccountUpdate::default() },
            password: Some(hash.clone()),
            by_session: Some(by.to_owned()),
            ..AccountChange::default()
        };
        let done = self.admin.store.change_account(&self.name, &wanted, self.admin.now()).await?;
        self.admin.keep_keys(&self.name, &hash, new).await;
        self.admin.record(&self.name, "password-set", "").await;
        Ok(done.ended_sessions)
    }

    /// The sessions of the user, newest first.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub async fn sessions(&self) -> Result<Vec<SessionRecord>, OwnError> {
        Ok(self.admin.store.sessions_of(&self.name, self.admin.now()).await?)
    }

    /// Ends a session of the user. `false`: it is none of theirs, or has ended.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub async fn end_session(&self, hash: &str) -> Result<bool, OwnError> {
        let theirs = self.sessions().await?.iter().any(|session| session.hash == hash);
        let ended = theirs && self.admin.store.end_session(hash).await?;
        if ended {
            self.admin.record(&self.name, "session-end", "").await;
        }
        Ok(ended)
    }

    /// Ends every session but the one that asks for it; gives how many.
    ///
    /// # Errors
    ///
    /// That session has ended itself, or what the store says; then none has ended.
    pub async fn end_other_sessions(&self, by: &str) -> Result<u64, OwnError> {
        let store = &self.admin.store;
        let ended = store.end_other_sessions_of(&self.name, by, self.admin.now()).await?;
        if ended > 0 {
            let detail = format!("{ended} others");
            self.admin.record(&self.name, "session-end", &detail).await;
        }
        Ok(ended)
    }

    /// The factors of the user, oldest first.
    ///
    /// # Errors
    ///
    /// There is no such account, or the store is away.
    pub async fn list(&self) -> Result<Vec<Factor>, OwnError> {
        Ok(self.factors().list(&self.name).await?)
    }

    /// Makes a generator of one-time codes, which is enrolled by a code of it.
    ///
    /// # Errors
    ///
    /// As [`Factors::begin_otp`].
    pub fn begin_otp(&self, issuer: &str) -> Result<PendingOtp, OwnError> {
        Ok(self.factors().begin_otp(&self.name, issuer, OtpSettings::default())?)
    }

    /// Enrols a generator that shows this code now.
    ///
    /// # Errors
    ///
    /// As [`Factors::confirm_otp`].
    pub async fn confirm_otp(
        &self,
        pending: &PendingOtp,
        label: &str,
        code: &Secret,
    ) -> Result<(), OwnError> {
        let factor = self.factors().confirm_otp(pending, label, code).await?;
        self.told("factor-add", &factor).await;
        Ok(())
    }

    /// Makes a new set of recovery codes in the place of any older one.
    ///
    /// # Errors
    ///
    /// As [`Factors::new_recovery_codes`].
    pub async fn new_recovery_codes(&self) -> Result<Vec<Secret>, OwnError> {
        let codes = self.factors().new_recovery_codes(&self.name).await?;
        let detail = format!("recovery: {} codes", codes.len());
        self.admin.record(&self.name, "factor-add", &detail).await;
        Ok(codes)
    }

    /// Makes an application password, which is given here and nowhere again.
    ///
    /// # Errors
    ///
    /// As [`Factors::add_app_password`].
    pub async fn add_app_password(&self, wanted: &NewAppPassword) -> Result<Secret, OwnError> {
        let (secret, factor) = self.factors().add_app_password(&self.name, wanted).await?;
        self.told("factor-add", &factor).await;
        Ok(secret)
    }

    /// Removes a factor. The sessions stay.
    ///
    /// # Errors
    ///
    /// As [`Factors::remove`].
    pub async fn remove(&self, id: i64) -> Result<(), OwnError> {
        let factor = self.factors().remove(&self.name, id).await?;
        self.told("factor-remove", &factor).await;
        Ok(())
    }

    /// Begins to enrol a passkey: what to give to the browser, and what to keep until it answers.
    ///
    /// # Errors
    ///
    /// As [`Factors::begin_passkey`].
    #[cfg(feature = "passkeys")]
    pub async fn begin_passkey(
        &self,
        passkeys: &Passkeys,
    ) -> Result<(String, PendingPasskey), OwnError> {
        Ok(self.factors().begin_passkey(passkeys, &self.name).await?)
    }

    /// Enrols the passkey that answered.
    ///
    /// # Errors
    ///
    /// As [`Factors::finish_passkey`].
    #[cfg(feature = "passkeys")]
    pub async fn finish_passkey(
        &self,
        passkeys: &Passkeys,
        pending: PendingPasskey,
        label: &str,
        response: &str,
    ) -> Result<(), OwnError> {
        let factors = self.factors();
        let factor = factors.finish_passkey(passkeys, pending, label, response).await?;
        self.told("factor-add", &factor).await;
        Ok(())
    }

    fn factors(&self) -> Factors {
        Factors::new(self.admin.store.clone(), Arc::new(self.admin.world))
    }

    async fn told(&self, act: &str, factor: &Factor) {
        let Factor { kind, label, services, .. } = factor;
        let mut detail = match label.as_str() {
            "" => kind.to_string(),
            label => format!("{kind} {label}"),
        };
        if let Some(services) = services {
            detail += &format!(" for {}", services.join(" "));
        }
        self.admin.record(&self.name, act, &detail).await;
    }
}

impl From<FactorError> for OwnError {
    fn from(error: FactorError) -> Self {
        Self::Factor(error)
    }
}

impl From<AdminError> for OwnError {
    fn from(error: AdminError) -> Self {
        Self::Admin(error)
    }
}

impl From<StoreError> for OwnError {
    fn from(error: StoreError) -> Self {
        Self::Admin(error.into())
    }
}
