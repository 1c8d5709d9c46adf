//! Second factors and application passwords of users, for administrators and for their holders.

use std::sync::Arc;

use countersign::Secret;
use countersign_checkers::factors::{
    Factor, FactorError, Factors, NewAppPassword, OtpSettings, PendingOtp,
};
use countersign_store::CredentialType;
use serde::{Deserialize, Serialize};

use super::{Admin, AdminError, When};

/// One factor of a user, without what it is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactorView {
    /// Never used again. Of recovery codes: the first that is left.
    pub id: i64,
    /// `totp`, `hotp`, `recovery`, `passkey` or `app-password`.
    pub kind: String,
    /// The holder's own name for it.
    pub label: String,
    /// Which services it is for; `null`: all.
    pub services: Option<Vec<String>>,
    /// When it was added.
    pub created: When,
    /// From when on it proves nothing.
    pub expires: Option<When>,
    /// The last use that was recorded.
    pub last_used: Option<When>,
    /// How many recovery codes are left.
    pub left: Option<usize>,
}

impl From<Factor> for FactorView {
    fn from(factor: Factor) -> Self {
        Self {
            id: factor.id,
            kind: factor.kind.to_string(),
            label: factor.label,
            services: factor.services,
            created: When(factor.created),
            expires: factor.expires.map(When),
            last_used: factor.last_used.map(When),
            left: factor.left,
        }
    }
}

/// What removing factors did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactorsRemoved {
    /// How many factors; a set of recovery codes is one.
    pub removed: usize,
    /// How many sessions ended.
    pub ended_sessions: u64,
}

impl Admin {
    /// The factors of the accounts, for whoever enrols one step by step.
    pub fn factors(&self) -> Factors {
        Factors::new(self.store.clone(), Arc::new(self.world))
    }

    /// A user's factors, oldest first.
    ///
    /// # Errors
    /// [`AdminError`]: there is no such user.
    pub async fn user_factors(&self, name: &str) -> Result<Vec<FactorView>, AdminError> {
        Ok(self.factors().list(name).await?.into_iter().map(FactorView::from).collect())
    }

    /// Removes one factor of a user and ends their sessions: whoever removes a factor for somebody may be
    /// shutting a thief out.
    ///
    /// # Errors
    /// [`AdminError`]: there is no such user, or no such factor of theirs.
    pub async fn remove_factor(&self, name: &str, id: i64) -> Result<FactorsRemoved, AdminError> {
        let factor = self.factors().remove(name, id).await?;
        let ended = self.store.end_sessions_of(name).await;
        // Whether or not sessions could be ended, the factor is gone.
        self.record(name, "factor-remove", &told(&factor)).await;
        Ok(FactorsRemoved { removed: 1, ended_sessions: ended? })
    }

    /// Removes all factors of a user, or all of one kind, and ends their sessions: they were lost. The
    /// password stays.
    ///
    /// # Errors
    /// [`AdminError`]: there is no such user, or no such kind.
    pub async fn reset_factors(
        &self,
        name: &str,
        kind: Option<&str>,
    ) -> Result<FactorsRemoved, AdminError> {
        let kind = kind.map(CredentialType::from);
        let reset = self.factors().reset(name, kind.as_ref()).await;
        let what = kind.as_ref().map_or("all", CredentialType::as_str);
        match &reset {
            Ok(done) => {
                let detail = format!("{what}: {} removed", done.removed);
                self.record(name, "factors-reset", &detail).await;
            }
            // A connection that dies at the end leaves open whether it was done: in the record as well.
            Err(FactorError::Store(error)) if error.is_temporary() => {
                self.record(name, "factors-reset", &format!("{what}; broke off: {error}")).await;
            }
            Err(_) => {}
        }
        let reset = reset?;
        Ok(FactorsRemoved { removed: reset.removed, ended_sessions: reset.ended_sessions })
    }

    /// Makes a generator of one-time codes for a user who is there.
    ///
    /// # Errors
    /// [`AdminError`]: there is no such user, or a rule is broken.
    pub async fn begin_otp(
        &self,
        name: &str,
        issuer: &str,
        settings: OtpSettings,
    ) -> Result<PendingOtp, AdminError> {
        let factors = self.factors();
        factors.list(name).await?;
        Ok(factors.begin_otp(name, issuer, settings)?)
    }

    /// Enrols a generator: one that shows this code now, or, without a code, one that nobody has seen work.
    ///
    /// # Errors
    /// [`AdminError`]: the code is not right, the user is gone, or a rule is broken.
    pub async fn enrol_otp(
        &self,
        pending: &PendingOtp,
        label: &str,
        code: Option<&Secret>,
    ) -> Result<FactorView, AdminError> {
        let factors = self.factors();
        let (factor, how) = match code {
            Some(code) => (factors.confirm_otp(pending, label, code).await?, ""),
            None => (factors.enrol_unconfirmed(pending, label).await?, ", unconfirmed"),
        };
        let detail = format!("{}{how}", told(&factor));
        self.record(pending.user(), "factor-add", &detail).await;
        Ok(factor.into())
    }

    /// Finds a counter again that has run away, by two codes in a row.
    ///
    /// # Errors
    /// [`AdminError`]: the codes are not right, or there is no such generator.
    pub async fn resync_hotp(
        &self,
        name: &str,
        id: i64,
        codes: [&Secret; 2],
    ) -> Result<(), AdminError> {
        self.factors().resync_hotp(name, id, codes).await?;
        self.record(name, "factor-set", &format!("hotp {id}: found again")).await;
        Ok(())
    }

    /// Makes a new set of recovery codes in the place of any older one.
    ///
    /// # Errors
    /// [`AdminError`]: there is no such user.
    pub async fn new_recovery_codes(&self, name: &str) -> Result<Vec<Secret>, AdminError> {
        let codes = self.factors().new_recovery_codes(name).await?;
        self.record(name, "factor-add", &format!("recovery: {} codes", codes.len())).await;
        Ok(codes)
    }

    /// Makes an application password, which is shown here and nowhere again.
    ///
    /// # Errors
    /// [`AdminError`]: there is no such user, or a rule is broken.
    pub async fn add_app_password(
        &self,
        name: &str,
        wanted: &NewAppPassword,
    ) -> Result<(Secret, FactorView), AdminError> {
        let (secret, factor) = self.factors().add_app_password(name, wanted).await?;
        self.record(name, "factor-add", &told(&factor)).await;
        Ok((secret, factor.into()))
    }

    /// Enters a factor that its holder has enrolled or removed without help into the record.
    pub async fn record_factor(&self, name: &str, act: FactorAct, factor: &Factor) {
        self.record(name, act.word(), &told(factor)).await;
    }
}

/// What a holder did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactorAct {
    /// Enrolled a factor.
    Added,
    /// Removed one.
    Removed,
}

impl FactorAct {
    fn word(self) -> &'static str {
        match self {
            Self::Added => "factor-add",
            Self::Removed => "factor-remove",
        }
    }
}

/// A factor, for the record.
fn told(factor: &Factor) -> String {
    let mut told = format!("{} {}", factor.kind, factor.id);
    if !factor.label.is_empty() {
        told.push_str(&format!(" `{}`", factor.label));
    }
    if let Some(services) = &factor.services {
        told.push_str(&format!(" for {}", services.join(" ")));
    }
    told
}

impl From<FactorError> for AdminError {
    fn from(error: FactorError) -> Self {
        match error {
            FactorError::Store(error) => Self::Store(error),
            FactorError::WrongCode => Self::invalid("code", error.to_string()),
            FactorError::Passkey(_) => Self::invalid("passkey", error.to_string()),
            other => Self::invalid("factor", other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{place, session};
    use super::super::{AdminErrorKind, AuditQuery, NewUser};
    use super::*;

    #[tokio::test]
    async fn what_is_done_to_factors_is_recorded_and_ends_sessions() {
        let place = place().await;
        let admin = &place.admin;
        admin.add_user(NewUser::named("ada")).await.unwrap();
        let pending = admin.begin_otp("ada", "Example", OtpSettings::default()).await.unwrap();
        let wrong = admin.enrol_otp(&pending, "", Some(&Secret::from("x"))).await.unwrap_err();
        assert_eq!(wrong.kind(), AdminErrorKind::Invalid);
        let totp = admin.enrol_otp(&pending, "telephone", None).await.unwrap();
        admin.new_recovery_codes("ada").await.unwrap();
        let wanted = NewAppPassword { services: vec!["imap".into()], ..NewAppPassword::default() };
        let (secret, app) = admin.add_app_password("ada", &wanted).await.unwrap();
        let listed = admin.user_factors("ada").await.unwrap();
        assert_eq!(listed.len(), 3);
        assert_eq!((listed[1].kind.as_str(), listed[1].left), ("recovery", Some(10)));
        let now = admin.now();
        session(&place.store, "ada", now).await;
        let removed = admin.remove_factor("ada", app.id).await.unwrap();
        assert_eq!(removed, FactorsRemoved { removed: 1, ended_sessions: 1 });
        session(&place.store, "ada", now).await;
        let removed = admin.reset_factors("ada", None).await.unwrap();
        assert_eq!(removed, FactorsRemoved { removed: 2, ended_sessions: 1 });
        let gone = admin.remove_factor("ada", totp.id).await.unwrap_err();
        assert_eq!(gone.kind(), AdminErrorKind::NotFound);
        for kind in ["password", "x"] {
            let error = admin.reset_factors("ada", Some(kind)).await.unwrap_err();
            assert_eq!(error.kind(), AdminErrorKind::Invalid);
        }
        assert!(admin.begin_otp("nobody", "Example", OtpSettings::default()).await.is_err());

        let query = AuditQuery { user: Some("ada".into()), ..AuditQuery::default() };
        let acts = admin.audit(query).await.unwrap();
        let acts: Vec<_> =
            acts.iter().rev().map(|act| format!("{}: {}", act.reason, act.detail)).collect();
        assert_eq!(acts.len(), 6);
        assert!(acts[1].starts_with("factor-add: totp") && acts[1].ends_with("unconfirmed"));
        assert_eq!(acts[2], "factor-add: recovery: 10 codes");
        assert!(acts[4].starts_with("factor-remove: app-password") && acts[4].contains("imap"));
        assert_eq!(acts[5], "factors-reset: all: 2 removed");
        let text = format!("{acts:?} {listed:?}");
        assert!(!text.contains(secret.to_str().unwrap()));
        assert!(!text.contains(pending.base32().to_str().unwrap()));
    }
}
