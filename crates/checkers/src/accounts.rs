//! `[checker.accounts.NAME]`: the accounts in the store.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use countersign::{
    Answer, Answers, BoxExchange, Checker, CredentialKind, Denial, Directory, Exchange, Fault,
    FaultKind, Feedback, Identity, Level, Mechanism, PASSWORD, Question, Reason, Round, Scene,
    Secret, Step, Text, Verdict, Verified, World, login_name, not_offered, password_round,
};
use countersign_sasl::{Decoys, EXTERNAL, External};
use countersign_store::{Account, Credential, CredentialType, Store, StoreError};

mod keys;
mod otp;
#[cfg(feature = "passkeys")]
mod passkey;
mod uses;

pub use self::keys::KeptKeys;
use self::keys::ScramExchange;
pub use self::otp::OTP;
use self::otp::OtpExchange;
#[cfg(feature = "passkeys")]
pub use self::passkey::PASSKEY;
#[cfg(feature = "passkeys")]
use self::passkey::PasskeyExchange;
use self::uses::Uses;
#[cfg(feature = "passkeys")]
use crate::factors::Passkeys;
use crate::factors::{self, Factors};
use crate::hash::{self, Accept, Hash, HashError, Recipe};
use crate::pool::{HashPool, Match, PoolError};

/// How often a login begins anew because the account was changed while it hashed.
const LOOKS: usize = 3;
/// The service of the pages that people use in person: their account, and the administrator's API. A scope of
/// `*` leaves it out, for no program needs it.
pub const PEOPLE: &str = "web";
/// While more jobs than this wait for the pool, old hashes stay.
const LEISURE: usize = 16;

/// Checks passwords, one-time codes and passkeys of accounts in the store, and finds them for EXTERNAL.
///
/// An application password is answered to the same question as the password; it stands for every factor,
/// at the services that it is for.
///
/// A password that must be changed is changed in the conversation, where the peer can be asked for a new
/// one; elsewhere the login is refused with "change needed". A hash that is weaker than new ones would be
/// is replaced after a login, beside it.
pub struct Accounts {
    name: String,
    mechanisms: Vec<Mechanism>,
    shared: Arc<Shared>,
    #[cfg(feature = "passkeys")]
    passkeys: Option<Passkeys>,
}

struct Shared {
    store: Store,
    pool: Arc<HashPool>,
    world: Arc<dyn World>,
    recipe: Recipe,
    accept: Accept,
    /// What a password is compared with when there is none: it takes as long and never matches.
    decoy: String,
    /// Credentials whose hash is being replaced.
    rehashing: Mutex<BTreeSet<i64>>,
    factors: Factors,
    uses: Uses,
    kept_keys: KeptKeys,
    /// What users are shown that do not exist; made at the first login that needs it.
    decoys: tokio::sync::OnceCell<Arc<Decoys>>,
}

impl Accounts {
    /// A checker over a store. New passwords are hashed by `recipe`.
    ///
    /// # Errors
    ///
    /// A fault when the recipe is impossible, or costs more than a stored hash may: a password that it
    /// hashed could not be read again.
    pub fn new(
        name: impl Into<String>,
        store: Store,
        pool: Arc<HashPool>,
        world: Arc<dyn World>,
        recipe: Recipe,
    ) -> Result<Self, Fault> {
        let mut salt = [0; 16];
        world.fill(&mut salt);
        let accept = Accept::default();
        let decoy = Hash::decoy(&recipe, salt)
            .map(|decoy| decoy.expose_text())
            .and_then(|decoy| Hash::parse(&decoy, &accept).map(|_| decoy))
            .map_err(|error| Fault::internal("the recipe for new passwords").caused_by(error))?;
        let rehashing = Mutex::default();
        let factors = Factors::new(store.clone(), Arc::clone(&world));
        let uses = Uses::default();
        let shared = Shared {
            store,
            pool,
            world,
            recipe,
            accept,
            decoy,
            rehashing,
            factors,
            uses,
            kept_keys: KeptKeys::default(),
            decoys: tokio::sync::OnceCell::new(),
        };
        Ok(Self {
            name: name.into(),
            mechanisms: vec![PASSWORD.clone(), EXTERNAL.clone(), OTP.clone()],
            shared: Arc::new(shared),
            #[cfg(feature = "passkeys")]
            passkeys: None,
        })
    }

    /// The same, keeping keys of passwords for these SCRAM mechanisms, and offering them. To be said before any
    /// login.
    #[must_use]
    pub fn keeping(mut self, kept_keys: KeptKeys) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            for hash in &kept_keys.hashes {
                self.mechanisms.extend([hash.description(true), hash.description(false)]);
            }
            shared.kept_keys = kept_keys;
        }
        self
    }

    /// The same, asking for the passkeys of a site as well.
    #[cfg(feature = "passkeys")]
    #[must_use]
    pub fn with_passkeys(mut self, passkeys: Passkeys) -> Self {
        if self.passkeys.replace(passkeys).is_none() {
            self.mechanisms.push(PASSKEY.clone());
        }
        self
    }
}

impl Checker for Accounts {
    fn name(&self) -> &str {
        &self.name
    }

    fn mechanisms(&self) -> &[Mechanism] {
        &self.mechanisms
    }

    fn begin(&self, mechanism: &str, _: &Scene<'_>) -> Result<BoxExchange, Fault> {
        let shared = Arc::clone(&self.shared);
        if PASSWORD.is(mechanism) {
            return Ok(BoxExchange::new(PasswordExchange {
                shared,
                waits_for: WaitsFor::Beginning,
            }));
        }
        if OTP.is(mechanism) {
            return Ok(BoxExchange::new(OtpExchange::new(shared)));
        }
        #[cfg(feature = "passkeys")]
        if let Some(passkeys) = self.passkeys.as_ref().filter(|_| PASSKEY.is(mechanism)) {
            return Ok(BoxExchange::new(PasskeyExchange::new(shared, passkeys.clone())));
        }
        if EXTERNAL.is(mechanism) {
            return Ok(External::exchange(shared));
        }
        if let Some(exchange) = ScramExchange::begin(&shared, mechanism) {
            return Ok(exchange);
        }
        Err(not_offered(&self.name, mechanism))
    }
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accounts").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The rules for new passwords: length, and no more. Composition rules make passwords worse (NIST SP
/// 800-63B §3.1.1.2).
///
/// # Errors
///
/// What to do better.
pub fn password_rules(user: &str, password: &Secret) -> Result<(), Text> {
    const SHORTEST: usize = 8;
    const LONGEST: usize = 4096;
    let characters = password.to_str().map_or(password.len(), |text| text.chars().count());
    if characters < SHORTEST {
        return Err(Text::message("password.too-short", "a password has at least 8 characters"));
    }
    if password.len() > LONGEST {
        return Err(Text::message("password.too-long", "a password has at most 4096 bytes"));
    }
    if password.expose().eq_ignore_ascii_case(user.as_bytes()) {
        return Err(Text::message("password.user-name", "the password is the user name"));
    }
    Ok(())
}

struct PasswordExchange {
    shared: Arc<Shared>,
    waits_for: WaitsFor,
}

enum WaitsFor {
    Beginning,
    Password,
    NewPassword(Box<Proven>),
}

/// An account whose old password was right.
struct Proven {
    account: Arc<Account>,
    password: Secret,
}

impl Exchange for PasswordExchange {
    async fn step(&mut self, mut answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        match std::mem::replace(&mut self.waits_for, WaitsFor::Password) {
            WaitsFor::Beginning => Ok(Step::Ask(password_round(scene))),
            WaitsFor::Password => {
                let password = answers.take("password");
                let Some(login) = login_name(&answers, scene) else {
                    return Ok(Step::deny(Reason::Malformed));
                };
                let Some(Answer::Value(password)) = password else {
                    return Ok(Step::deny(Reason::Declined).claiming(login));
                };
                Ok(self.check(login, password, scene).await?.claiming(login))
            }
            WaitsFor::NewPassword(proven) => {
                let Some(Answer::Value(new)) = answers.take("new-password") else {
                    return Ok(Step::deny(Reason::Declined).claiming(&proven.account.name));
                };
                self.change(*proven, new, scene).await
            }
        }
    }
}

impl PasswordExchange {
    async fn check(
        &mut self,
        login: &str,
        password: Secret,
        scene: &Scene<'_>,
    ) -> Result<Step, Fault> {
        let shared = Arc::clone(&self.shared);
        let Some(mut account) = shared.store.account(login).await.map_err(store_fault)? else {
            shared.spend(login, &password, scene).await?;
            return Ok(Step::deny(Reason::UnknownUser));
        };
        if let Some(driver) = account.driven_by() {
            // Not known here, so that a checker that asks the driver is asked next.
            shared.spend(login, &password, scene).await?;
            let detail = format!("the driver `{driver}` vouches for this account");
            return Ok(Step::Deny(Denial::new(Reason::UnknownUser).because(detail)));
        }
        let app = factors::matching_app_password(&account, &password);
        if let Some(app) = app.filter(|app| counts(app, scene)) {
            return Ok(self.right_app_password(&account, app, scene));
        }
        let elsewhere = app.map(|app| format!("the application password `{}`", app.label));
        for look in 0..LOOKS {
            let Some((credential, found)) = shared.matching(&account, &password, scene).await?
            else {
                let denial = Denial::new(Reason::WrongCredential);
                // As slow as any wrong password: where else it is good for is nobody's to learn.
                return Ok(Step::Deny(match elsewhere {
                    Some(what) => denial.because(format!("{what} is not for here, or has expired")),
                    None => denial,
                }));
            };
            if look == 0 && found == Match::Remembered {
                // No time has passed since the account was looked up, and found to be checked here.
                return Ok(self.right(account, &credential, found, password, scene));
            }
            // Hashing took its time. What was verified must still be what counts.
            let current = shared.store.account(login).await.map_err(store_fault)?;
            let Some(current) = current else {
                let detail = "the account was removed during this login";
                return Ok(Step::Deny(Denial::new(Reason::WrongCredential).because(detail)));
            };
            let same = current.id == account.id && current.driven_by().is_none();
            let same = same
                && current.credentials.iter().any(|now| {
                    now.id == credential.id && now.data == credential.data && counts(now, scene)
                });
            account = current;
            if same {
                return Ok(self.right(account, &credential, found, password, scene));
            }
            // Often it is still right: another login of the same user has just replaced an old hash.
        }
        let detail = "the password was changed again and again during this login";
        Ok(Step::Deny(Denial::new(Reason::WrongCredential).because(detail)))
    }

    /// The password is right.
    fn right(
        &mut self,
        account: Arc<Account>,
        credential: &Credential,
        found: Match,
        password: Secret,
        scene: &Scene<'_>,
    ) -> Step {
        if let Some(denial) = unusable(&account, scene.now.unix) {
            return Step::Deny(denial);
        }
        if !account.must_change {
            if found != Match::Remembered {
                self.shared.renew(&account, credential, password);
            }
            let who = Verified::vouch(identity(&account));
            return Step::Grant(who.lacking(lacking(&account)));
        }
        if !scene.supports().contains(&CredentialKind::NewPassphrase) {
            let detail = "the password must be changed, which cannot be asked for here";
            return Step::Deny(Denial::new(Reason::ChangeNeeded).because(detail));
        }
        self.waits_for = WaitsFor::NewPassword(Box::new(Proven { account, password }));
        Step::ask(new_password_round(None))
    }

    /// The password is an application's, and good here. It was compared with what is stored now, in no
    /// time.
    fn right_app_password(&self, account: &Account, app: &Credential, scene: &Scene<'_>) -> Step {
        if let Some(denial) = unusable(account, scene.now.unix) {
            return Step::Deny(denial);
        }
        if account.must_change {
            let detail = "the password must be changed before application passwords count again";
            return Step::Deny(Denial::new(Reason::ChangeNeeded).because(detail));
        }
        self.shared.uses.note(&self.shared.store, app.id, scene.now.unix);
        Step::Grant(Verified::vouch(identity(account)).of_program())
    }

    async fn change(
        &mut self,
        proven: Proven,
        new: Secret,
        scene: &Scene<'_>,
    ) -> Result<Step, Fault> {
        let shared = Arc::clone(&self.shared);
        let name = &proven.account.name;
        let same = Text::message("password.same", "the new password is the old one");
        let wrong = match password_rules(name, &new) {
            Ok(()) if new == proven.password => Some(same),
            Ok(()) => None,
            Err(why) => Some(why),
        };
        if let Some(why) = wrong {
            return Ok(self.again(proven, why));
        }
        let mut salt = [0; 16];
        scene.world.fill(&mut salt);
        let hash = match shared.pool.create(shared.recipe, new.clone(), salt, name).await {
            Ok(hash) => Secret::from(hash.expose_text()),
            // Whoever chose the recipe chose its limits; the person can only choose another password.
            Err(PoolError::Hash(HashError::Password { reason, .. })) => {
                return Ok(self.again(proven, Text::verbatim(reason)));
            }
            Err(error) => return Err(error.fault("hashing a new password")),
        };
        if let Some(denial) = unusable(&proven.account, scene.now.unix) {
            return Ok(Step::Deny(denial).claiming(name));
        }
        // The person may have taken minutes. The account must be as it was when the old password was
        // right; otherwise an administrator has said something since, maybe in another process a moment
        // ago: so the store compares, in the transaction that changes.
        let revision = proven.account.revision;
        let changed = shared.store.change_password(name, revision, &hash, scene.now.unix).await;
        if !changed.map_err(store_fault)? {
            let denial = Denial::new(Reason::WrongCredential);
            let denial = denial.because("the account was changed during this login");
            return Ok(Step::Deny(denial).claiming(name));
        }
        shared.keep_keys(name, hash, new);
        Ok(Step::Grant(Verified::vouch(identity(&proven.account))))
    }

    /// Asks once more. How often is the conversation's to say.
    fn again(&mut self, proven: Proven, why: Text) -> Step {
        self.waits_for = WaitsFor::NewPassword(Box::new(proven));
        Step::ask(new_password_round(Some(why)))
    }
}

impl Shared {
    /// The credential that this password is right for.
    async fn matching(
        &self,
        account: &Account,
        password: &Secret,
        scene: &Scene<'_>,
    ) -> Result<Option<(Credential, Match)>, Fault> {
        let mut compared = false;
        let name = &account.name;
        for credential in account.credentials_of(&CredentialType::Password) {
            if !counts(credential, scene) {
                continue;
            }
            let text = readable(account, credential);
            compared = true;
            let found = self.pool.verify_text(name, &text, &self.accept, password).await;
            match found {
                Ok(Match::No) => {}
                Ok(found) => return Ok(Some((credential.clone(), found))),
                Err(PoolError::Stored(error)) => {
                    let context =
                        format!("the stored password of `{name}` cannot be read; set it anew");
                    return Err(Fault::internal(context).caused_by(error));
                }
                Err(error) => return Err(verifying(error)),
            }
        }
        if !compared {
            // An account without a password takes as long as one with another.
            self.decoy(&account.name, password).await?;
        }
        Ok(None)
    }

    fn rehashing(&self) -> MutexGuard<'_, BTreeSet<i64>> {
        self.rehashing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The work of a wrong password, for a user that nobody knows.
    async fn spend(&self, login: &str, password: &Secret, scene: &Scene<'_>) -> Result<(), Fault> {
        if scene.followed { Ok(()) } else { self.decoy(login, password).await }
    }

    async fn decoy(&self, login: &str, password: &Secret) -> Result<(), Fault> {
        // As it is for a stored hash, from the first look on.
        let compared = self.pool.verify_text(login, &self.decoy, &self.accept, password);
        compared.await.map_err(verifying)?;
        Ok(())
    }

    /// Makes anew, of a password that was right, what is weaker than it would be now, or is missing: its hash,
    /// or else keys. Beside the login, which need not wait.
    fn renew(self: &Arc<Self>, account: &Account, credential: &Credential, password: Secret) {
        // It can wait for the next login; those who log in cannot.
        if self.pool.waiting() > LEISURE {
            return;
        }
        let text = readable(account, credential);
        let Ok(hash) = Hash::parse(&text, &self.accept) else { return };
        if hash.outdated(&self.recipe) {
            return self.rehash(credential, password, &account.name);
        }
        // Keys are good everywhere and for ever, so the password must be.
        let everywhere = credential.scope.is_none() && credential.expires.is_none();
        if everywhere && self.kept_keys.lack(account) {
            self.keep_keys(&account.name, credential.data.clone(), password);
        }
    }

    fn rehash(self: &Arc<Self>, credential: &Credential, password: Secret, name: &str) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let Some(busy) = Rehashing::begin(self, credential.id) else { return };
        let mut salt = [0; 16];
        self.world.fill(&mut salt);
        let (credential, name) = (credential.clone(), name.to_owned());
        runtime.spawn(async move {
            let shared = &busy.shared;
            let new = match shared.pool.create(shared.recipe, password, salt, &name).await {
                Ok(new) => Secret::from(new.expose_text()),
                // It is tried again at the next login.
                Err(error) => return tracing::warn!(%error, "cannot hash a password anew"),
            };
            let replaced =
                shared.store.replace_credential_data(credential.id, &credential.data, &new);
            if let Err(error) = replaced.await {
                tracing::warn!(%error, "cannot replace an old password hash");
            }
        });
    }
}

/// A credential whose hash is being replaced: once, however many logins there are at a time.
struct Rehashing {
    shared: Arc<Shared>,
    credential: i64,
}

impl Rehashing {
    fn begin(shared: &Arc<Shared>, credential: i64) -> Option<Self> {
        let begun = shared.rehashing().insert(credential);
        begun.then(|| Self { shared: Arc::clone(shared), credential })
    }
}

impl Drop for Rehashing {
    fn drop(&mut self) {
        self.shared.rehashing().remove(&self.credential);
    }
}

impl Directory for Shared {
    async fn find(&self, login: &str) -> Result<Verdict, Fault> {
        let Some(account) = self.store.account(login).await.map_err(store_fault)? else {
            return Ok(Verdict::UNKNOWN);
        };
        Ok(match unusable(&account, self.world.now().unix) {
            Some(denial) => Verdict::Not(denial),
            None => Verdict::Is(Verified::vouch(identity(&account))),
        })
    }
}

/// The further factors that an account has none of, not even expired ones.
fn lacking(account: &Account) -> &'static [&'static str] {
    use CredentialType::{Hotp, Passkey, Recovery, Totp};
    const BOTH: &[&str] = &[Mechanism::OTP, Mechanism::PASSKEY];
    let mut kinds = account.credentials.iter().map(|credential| &credential.kind);
    let codes = kinds.clone().any(|kind| matches!(kind, Totp | Hotp | Recovery));
    match (codes, kinds.any(|kind| *kind == Passkey)) {
        (false, false) => BOTH,
        (false, true) => &[Mechanism::OTP],
        (true, false) => &[Mechanism::PASSKEY],
        (true, true) => &[],
    }
}

/// Whether a credential can prove anything now and here: its scope, where it has one, is the services that
/// it is for, with blanks between; `*` is all of them but [`PEOPLE`]'s.
fn counts(credential: &Credential, scene: &Scene<'_>) -> bool {
    let expired = credential.expires.is_some_and(|expires| expires <= scene.now.unix);
    let mut services = credential.scope.iter().flat_map(|scope| scope.split_ascii_whitespace());
    let here = credential.scope.is_none()
        || services.any(|name| match name {
            "*" => !scene.peer.service.eq_ignore_ascii_case(PEOPLE),
            name => *name == *scene.peer.service,
        });
    here && !expired
}

/// A stored hash as [`Hash::parse`] reads it. What OpenNebula stores names no scheme, so it counts only where the
/// account says that it came from there.
fn readable<'a>(account: &Account, credential: &'a Credential) -> Cow<'a, str> {
    let text = credential.data.to_str().unwrap_or_default();
    let bare = account.driver.as_deref() == Some(Account::CORE);
    bare.then(|| hash::of_opennebula(text)).flatten().map_or(Cow::Borrowed(text), Cow::Owned)
}

/// Why an account lets nobody in, if it does not.
pub fn unusable(account: &Account, now: i64) -> Option<Denial> {
    if !account.enabled {
        return Some(Denial::new(Reason::Disabled));
    }
    if account.expires.is_some_and(|expires| expires <= now) {
        return Some(Denial::new(Reason::Expired).because("the account has expired"));
    }
    None
}

/// The identity that an account stands for.
pub fn identity(account: &Account) -> Identity {
    let mut identity = Identity::named(account.name.as_str());
    let groups = account.groups.iter();
    identity.groups = groups.map(|member| (member.group.clone(), member.admin)).collect();
    identity.labels = account.labels.iter().cloned().collect();
    identity.attributes.clone_from(&account.attributes);
    identity
}

fn new_password_round(why: Option<Text>) -> Round {
    let notice = Text::message("notice.must-change", "Your password must be changed.");
    let mut round = Round::of([Question::new_password()]).notice(Level::Warning, notice);
    round.feedback =
        why.map(|text| Feedback { question: Some("new-password".into()), text, tries_left: None });
    round
}

pub(crate) fn store_fault(error: StoreError) -> Fault {
    let kind = if error.is_temporary() { FaultKind::Unavailable } else { FaultKind::Internal };
    Fault::new(kind, "the account store").caused_by(error)
}

fn verifying(error: PoolError) -> Fault {
    error.fault("verifying a password hash")
}

#[cfg(test)]
mod tests;
