//! Login tokens of users, and what is stored for the drivers that check them.

use std::sync::Arc;

use countersign::Secret;
use countersign_checkers::userpool::{
    LoginTokens, NewLoginToken, PoolRules, TokenError, driver_credential,
};
use countersign_store::{NewCredential, TokenRecord};
use serde::{Deserialize, Serialize};

use super::{Admin, AdminError, When, no_user};

/// One login token of a user, without what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// Never used again.
    pub id: i64,
    /// The holder's own name for it.
    pub label: String,
    /// The one group whose rights it has; `null`: all of the account's.
    pub group: Option<String>,
    /// When it was made.
    pub created: When,
    /// From when on it proves nothing.
    pub expires: Option<When>,
    /// The last use that was recorded; it may lag by a quarter of an hour.
    pub last_used: Option<When>,
}

impl From<TokenRecord> for TokenView {
    fn from(token: TokenRecord) -> Self {
        let TokenRecord { id, label, group, created, expires, last_used, .. } = token;
        let (expires, last_used) = (expires.map(When), last_used.map(When));
        Self { id, label, group, created: When(created), expires, last_used }
    }
}

impl Admin {
    /// Makes a login token, which is shown here and nowhere again, as the rules of the user's driver allow.
    ///
    /// # Errors
    /// [`AdminError`]: there is no such user, they have ten or are not in the group, the rules have none.
    pub async fn add_login_token(
        &self,
        name: &str,
        wanted: &NewLoginToken,
        rules: &PoolRules,
    ) -> Result<(Secret, TokenView), AdminError> {
        let account = self.store.read_account(name).await?.ok_or_else(|| no_user(name))?;
        let rules = rules.of(account.driver.as_deref());
        let (secret, token) = self.login_tokens().add(name, wanted, &rules).await?;
        let view = TokenView::from(token);
        self.record(name, "token-add", &told(&view)).await;
        Ok((secret, view))
    }

    /// A user's login tokens, oldest first, also those that have expired.
    ///
    /// # Errors
    /// [`AdminError`]: there is no such user.
    pub async fn login_tokens_of(&self, name: &str) -> Result<Vec<TokenView>, AdminError> {
        self.store.read_account(name).await?.ok_or_else(|| no_user(name))?;
        let tokens = self.login_tokens().list(name).await?;
        Ok(tokens.into_iter().map(TokenView::from).collect())
    }

    /// Removes a login token of a user and ends their sessions: whoever removes one may be shutting a thief out.
    /// Gives how many ended.
    ///
    /// # Errors
    /// [`AdminError`]: there is no such user, or no such token of theirs.
    pub async fn remove_login_token(&self, name: &str, id: i64) -> Result<u64, AdminError> {
        self.login_tokens().remove(name, id).await?;
        let ended = self.store.end_sessions_of(name).await;
        // Whether or not sessions could be ended, the token is gone.
        self.record(name, "token-remove", &format!("token {id}")).await;
        Ok(ended?)
    }

    /// Stores what the driver of a user compares with, in the place of what was there: a public key, a
    /// certificate's subject, the hash of a server's password.
    ///
    /// # Errors
    /// [`AdminError`]: there is no such user, or it is empty or too long.
    pub async fn store_for_driver(&self, name: &str, stored: Secret) -> Result<(), AdminError> {
        let new = [NewCredential::new(driver_credential(), stored)];
        self.store.set_credentials(name, &driver_credential(), &new, self.now()).await?;
        self.store.end_sessions_of(name).await?;
        self.record(name, "driver-set", "").await;
        Ok(())
    }

    fn login_tokens(&self) -> LoginTokens {
        LoginTokens::new(self.store.clone(), Arc::new(self.world))
    }
}

/// A token, for the record.
fn told(token: &TokenView) -> String {
    let mut told = format!("token {}", token.id);
    if !token.label.is_empty() {
        told.push_str(&format!(" `{}`", token.label));
    }
    if let Some(group) = &token.group {
        told.push_str(&format!(" for the group {group}"));
    }
    told
}

impl From<TokenError> for AdminError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Store(error) => Self::Store(error),
            TokenError::Label => Self::invalid("label", error.to_string()),
            TokenError::Past => Self::invalid("expires", error.to_string()),
            other => Self::invalid("token", other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{place, session};
    use super::super::{AdminErrorKind, AuditQuery, NewUser};
    use super::*;

    #[tokio::test]
    async fn what_is_done_to_tokens_is_recorded_and_ends_sessions() {
        let place = place().await;
        let admin = &place.admin;
        admin.add_user(NewUser::named("ada")).await.unwrap();
        let rules = PoolRules::default();
        let wanted = NewLoginToken { label: "backup".into(), ..NewLoginToken::default() };
        let (secret, token) = admin.add_login_token("ada", &wanted, &rules).await.unwrap();
        assert_eq!(admin.login_tokens_of("ada").await.unwrap().first(), Some(&token));
        let nobody = admin.add_login_token("nobody", &wanted, &rules).await.unwrap_err();
        assert_eq!(nobody.kind(), AdminErrorKind::NotFound);
        let past = NewLoginToken { expires: Some(1), ..NewLoginToken::default() };
        let past = admin.add_login_token("ada", &past, &rules).await.unwrap_err();
        assert_eq!(past.kind(), AdminErrorKind::Invalid);
        session(&place.store, "ada", admin.now()).await;
        assert_eq!(admin.remove_login_token("ada", token.id).await.unwrap(), 1);
        assert!(admin.remove_login_token("ada", token.id).await.is_err());
        admin.store_for_driver("ada", Secret::from("a key")).await.unwrap();
        admin.store_for_driver("ada", Secret::from("another")).await.unwrap();
        let ada = place.store.read_account("ada").await.unwrap().unwrap();
        assert_eq!(ada.credentials.len(), 1);
        assert!(admin.store_for_driver("ada", Secret::default()).await.is_err());

        let query = AuditQuery { user: Some("ada".into()), ..AuditQuery::default() };
        let acts = admin.audit(query).await.unwrap();
        let acts: Vec<_> =
            acts.iter().rev().map(|act| format!("{}: {}", act.reason, act.detail)).collect();
        assert!(
            acts[1].starts_with("token-add: token") && acts[1].ends_with("`backup`"),
            "{acts:?}"
        );
        assert!(
            acts[2].starts_with("token-remove: token") && acts[3] == "driver-set: ",
            "{acts:?}"
        );
        let text = format!("{acts:?} {token:?}");
        assert!(!text.contains(secret.to_str().unwrap()) && !text.contains("another"));
    }
}
