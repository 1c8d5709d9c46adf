//! Login tokens: random texts that stand for an account's password for a while, for all of its groups or one.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::{Denial, Reason, Secret, World};
use countersign_store::{Account, NewToken, Store, StoreError, TokenRecord};
use countersign_wire::one::conf::DriverRules;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::rules::token_end;

/// How every token begins. Whatever begins so is compared with tokens and never sent to a driver.
pub const TOKEN_PREFIX: &str = "cst_";
/// How many an account may have.
pub const TOKENS: usize = 10;
/// A use is written down when the last one that was is older.
const LAG: i64 = 15 * 60;

/// The login tokens of the accounts in a store. Cheap to clone.
#[derive(Clone)]
pub struct LoginTokens {
    store: Store,
    world: Arc<dyn World>,
}

/// A login token to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewLoginToken {
    /// The holder's own name for it.
    pub label: String,
    /// The one group whose rights it has, of those that the account is in. None: all of the account's.
    pub group: Option<String>,
    /// From this second on it proves nothing. None: as long as the driver's rule lets it.
    pub expires: Option<i64>,
}

/// Why a token could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The rule of the account's driver.
    #[error("there are no login tokens for accounts of this driver (max_token_time = 0)")]
    Disabled,
    /// It would never be good.
    #[error("the expiry has passed already")]
    Past,
    /// It is for people, in a table.
    #[error("the label has more than 64 characters, or control characters")]
    Label,
    /// It acts for others, by its driver alone.
    #[error("a server that acts for others has no login tokens")]
    Server,
    /// What the store says.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LoginTokens {
    /// The tokens of the accounts in this store.
    pub fn new(store: Store, world: Arc<dyn World>) -> Self {
        Self { store, world }
    }

    /// Makes a token of 256 random bits, given here and nowhere again, under the rules of the account's driver.
    ///
    /// # Errors
    ///
    /// [`TokenError`]: the rules have no tokens, the account has ten, is not there or not in the group.
    pub async fn add(
        &self,
        user: &str,
        wanted: &NewLoginToken,
        rules: &DriverRules,
    ) -> Result<(Secret, TokenRecord), TokenError> {
        let label = &wanted.label;
        if label.chars().count() > 64 || label.chars().any(char::is_control) {
            return Err(TokenError::Label);
        }
        let now = self.world.now().unix;
        let expires = token_end(rules, now, wanted.expires).ok_or(TokenError::Disabled)?;
        if expires.is_some_and(|expires| expires <= now) {
            return Err(TokenError::Past);
        }
        if let Some(account) = self.store.read_account(user).await?
            && account.driven_by().is_some_and(super::acts_for_others)
        {
            return Err(TokenError::Server);
        }
        let secret = drawn(&*self.world);
        let (hash, group) = (fingerprint(&secret), wanted.group.clone());
        let new = NewToken { hash, label: label.clone(), group, expires };
        let id = self.store.add_token(user, &new, TOKENS, now).await?;
        let NewToken { hash, label, group, expires } = new;
        let account = user.to_owned();
        let record =
            TokenRecord { id, account, hash, label, group, created: now, expires, last_used: None };
        Ok((secret, record))
    }

    /// The tokens of an account, oldest first, also those that have expired.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub async fn list(&self, user: &str) -> Result<Vec<TokenRecord>, StoreError> {
        self.store.tokens_of(user).await
    }

    /// Removes one.
    ///
    /// # Errors
    ///
    /// There is no such user, or no such token of theirs.
    pub async fn remove(&self, user: &str, id: i64) -> Result<(), StoreError> {
        self.store.remove_token(user, id).await.map(drop)
    }

    /// The token of the account that this is, if it is good now; its group, if it has one, is one of the account's.
    pub(super) async fn verify(
        &self,
        account: &Account,
        shown: &Secret,
        rules: &DriverRules,
    ) -> Result<Result<TokenRecord, Denial>, StoreError> {
        let shown = fingerprint(shown);
        let mut found = None;
        for token in self.store.tokens_of(&account.name).await? {
            if bool::from(token.hash.as_bytes().ct_eq(shown.as_bytes())) {
                found = Some(token);
            }
        }
        let refused = |reason, why: &'static str| Ok(Err(Denial::new(reason).because(why)));
        let Some(token) = found else {
            return refused(Reason::WrongCredential, "no login token of this account");
        };
        let now = self.world.now().unix;
        match token_end(rules, token.created, token.expires) {
            None => return refused(Reason::NotAllowed, "the driver's rules have no login tokens"),
            Some(Some(end)) if end <= now => {
                return refused(Reason::Expired, "the login token has expired");
            }
            Some(_) => {}
        }
        if let Some(group) = &token.group
            && !account.groups.iter().any(|member| member.group == *group)
        {
            return refused(Reason::NotAllowed, "the account has left the login token's group");
        }
        self.note_use(&token, now);
        Ok(Ok(token))
    }

    /// For people only, so no login waits for it.
    fn note_use(&self, token: &TokenRecord, now: i64) {
        if token.last_used.is_some_and(|at| (0..LAG).contains(&now.saturating_sub(at))) {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (store, id) = (self.store.clone(), token.id);
        runtime.spawn(async move {
            if let Err(error) = store.record_token_use(id, now).await {
                tracing::warn!(%error, "cannot record the use of a login token");
            }
        });
    }
}

impl fmt::Debug for LoginTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginTokens").finish_non_exhaustive()
    }
}

/// Whether this has the form of a login token, good or not.
pub fn is_login_token(secret: &Secret) -> bool {
    secret.expose().starts_with(TOKEN_PREFIX.as_bytes())
}

fn drawn(world: &dyn World) -> Secret {
    let mut bytes = Zeroizing::new([0; 32]);
    world.fill(&mut *bytes);
    // In one piece from the start: a text that grows leaves copies behind.
    let mut text = String::with_capacity(TOKEN_PREFIX.len() + 44);
    text.push_str(TOKEN_PREFIX);
    URL_SAFE_NO_PAD.encode_string(*bytes, &mut text);
    Secret::from(text)
}

/// What is stored: nobody can try 256 random bits, so a plain hash is as good as a slow one.
fn fingerprint(token: &Secret) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(token.expose()))
}
