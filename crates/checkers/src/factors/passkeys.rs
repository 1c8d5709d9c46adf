//! Passkeys (WebAuthn), through `webauthn-rs`: as a second factor, and alone.
//!
//! They are made discoverable, so that one can be used without a name, and every use needs user
//! verification (a PIN, a finger, a face): whoever finds a key cannot use it.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::{Denial, Fault, Identity, Reason, Secret, Verdict, Verified};
use countersign_store::{Account, Credential, CredentialType, NewCredential, Store};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use webauthn_rs::prelude::{
    AuthenticationResult, DiscoverableAuthentication, Passkey, PasskeyAuthentication,
    PasskeyRegistration, PublicKeyCredential, RegisterPublicKeyCredential, Url, Uuid, Webauthn,
    WebauthnBuilder, WebauthnError,
};

use super::{Factor, FactorError, Factors, limits};
use crate::accounts::{identity, store_fault, unusable};

/// How long somebody may take to enrol a passkey.
const PATIENCE_MS: u64 = 5 * 60 * 1000;

/// Which site passkeys are for: the name that they are bound to for ever, and where pages may use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasskeySettings {
    /// The relying party's id: the domain of the login page, or one above it. Passkeys that were made for
    /// one are of no use under another.
    pub rp_id: String,
    /// What the browser shows as the site's name.
    pub rp_name: String,
    /// The pages' origins, such as `https://login.example.com`; each at the id or below it.
    pub origins: Vec<String>,
}

/// One site's passkeys. Cheap to clone.
#[derive(Clone)]
pub struct Passkeys {
    webauthn: Arc<Webauthn>,
}

impl Passkeys {
    /// The passkeys of a site.
    ///
    /// # Errors
    ///
    /// [`FactorError::Invalid`] with the setting that cannot be.
    pub fn new(settings: &PasskeySettings) -> Result<Self, FactorError> {
        let PasskeySettings { rp_id, rp_name, origins } = settings;
        let mut urls = Vec::new();
        for origin in origins {
            urls.push(checked_origin(rp_id, origin)?);
        }
        let Some((first, more)) = urls.split_first() else {
            return Err(FactorError::invalid("origins", "are none: name the login page's"));
        };
        let unfit = |_| FactorError::invalid("rp_id", "is no domain that the origins are in");
        let mut builder = WebauthnBuilder::new(rp_id, first).map_err(unfit)?.rp_name(rp_name);
        for origin in more {
            builder = builder.append_allowed_origin(origin);
        }
        Ok(Self { webauthn: Arc::new(builder.build().map_err(unfit)?) })
    }

    /// Asks for a passkey of this account: the challenge (the JSON of a
    /// `PublicKeyCredentialRequestOptions`) and what its answer is compared with. `None`: the account has
    /// none.
    ///
    /// # Errors
    ///
    /// A fault when a stored passkey cannot be read.
    pub(crate) fn ask_of(
        &self,
        account: &Account,
        now: i64,
    ) -> Result<Option<(String, PasskeyLogin)>, Fault> {
        let mut passkeys = Vec::new();
        for credential in lasting(account, now) {
            passkeys.push(read(account, credential)?.passkey);
        }
        if passkeys.is_empty() {
            return Ok(None);
        }
        let begun = self.webauthn.start_passkey_authentication(&passkeys).map_err(begin_fault)?;
        let name = account.name.clone();
        let login = PasskeyLogin(Awaited::Of { name, state: Box::new(begun.1) });
        Ok(Some((text(&begun.0.public_key)?, login)))
    }

    /// Asks for any passkey of this site.
    ///
    /// # Errors
    ///
    /// A fault when no challenge can be made.
    pub(crate) fn ask_anybody(&self) -> Result<(String, PasskeyLogin), Fault> {
        let begun = self.webauthn.start_discoverable_authentication().map_err(begin_fault)?;
        let login = PasskeyLogin(Awaited::Anybody { state: Box::new(begun.1) });
        Ok((text(&begun.0.public_key)?, login))
    }
}

/// A login that waits for a passkey's answer: one challenge, good for one answer.
pub(crate) struct PasskeyLogin(Awaited);

enum Awaited {
    /// From somebody whose name is proven already.
    Of { name: String, state: Box<PasskeyAuthentication> },
    /// From anybody, alone.
    Anybody { state: Box<DiscoverableAuthentication> },
}

/// Whose passkey answered, and whether it may.
pub(crate) struct Assertion {
    /// The account, as far as one was found.
    pub(crate) name: Option<String>,
    /// What to say. To somebody alone it is complete.
    pub(crate) verdict: Verdict,
    /// The credential whose use is still to be recorded.
    pub(crate) used: Option<i64>,
}

/// A passkey that is being enrolled: keep it on the server until the browser answers.
pub struct PendingPasskey {
    user: String,
    handle: Uuid,
    state: PasskeyRegistration,
    deadline_ms: u64,
}

impl PendingPasskey {
    /// Whose it will be.
    pub fn user(&self) -> &str {
        &self.user
    }
}

impl Factors {
    /// Begins to enrol a passkey: what to give to the browser (the JSON of a
    /// `PublicKeyCredentialCreationOptions`), and what to keep until it answers.
    ///
    /// # Errors
    ///
    /// [`FactorError::Invalid`] when the user has too many, [`FactorError::Store`] when there is no such
    /// user.
    pub async fn begin_passkey(
        &self,
        passkeys: &Passkeys,
        user: &str,
    ) -> Result<(String, PendingPasskey), FactorError> {
        let account = self.account(user).await?;
        let mut handle = None;
        let mut known = Vec::new();
        for credential in account.credentials_of(&CredentialType::Passkey) {
            // One that cannot be read is in nobody's way here.
            let Some(stored) = Stored::of(credential) else { continue };
            handle = handle.or(Uuid::parse_str(&stored.handle).ok());
            known.push(stored.passkey.cred_id().clone());
        }
        // The same for all passkeys of an account, and made of nothing that says whose: an authenticator
        // tells it to whoever asks for any passkey of this site.
        let handle = handle.unwrap_or_else(|| {
            let mut bytes = [0; 16];
            self.world.fill(&mut bytes);
            Uuid::from_bytes(bytes)
        });
        let begun = passkeys.webauthn.start_passkey_registration(handle, user, user, Some(known));
        let (challenge, state) = begun.map_err(refused)?;
        let mut options = serde_json::to_value(&challenge.public_key)
            .map_err(|error| FactorError::Passkey(error.to_string()))?;
        // To be used without a name, it must be found without one. The library only suggests it.
        options["authenticatorSelection"]["residentKey"] = Value::from("required");
        options["authenticatorSelection"]["requireResidentKey"] = json!(true);
        let deadline_ms = self.world.now().steady_ms.saturating_add(PATIENCE_MS);
        let pending = PendingPasskey { user: user.to_owned(), handle, state, deadline_ms };
        Ok((options.to_string(), pending))
    }

    /// Enrols the passkey that answered. `response` is the JSON of the browser's `PublicKeyCredential`.
    ///
    /// # Errors
    ///
    /// [`FactorError::Passkey`] when the answer is not one to this challenge, from these origins, with user
    /// verification, or is late; else as [`Factors::begin_passkey`].
    pub async fn finish_passkey(
        &self,
        passkeys: &Passkeys,
        pending: PendingPasskey,
        label: &str,
        response: &str,
    ) -> Result<Factor, FactorError> {
        if self.world.now().steady_ms > pending.deadline_ms {
            return Err(FactorError::Passkey("it took too long; begin again".into()));
        }
        let response: RegisterPublicKeyCredential =
            serde_json::from_str(response).map_err(|error| {
                FactorError::Passkey(format!("its answer is not readable: {error}"))
            })?;
        let finished = passkeys.webauthn.finish_passkey_registration(&response, &pending.state);
        let passkey = finished.map_err(refused)?;
        let lookup = URL_SAFE_NO_PAD.encode(passkey.cred_id().as_slice());
        if !self.store.find_by_lookup(&CredentialType::Passkey, &lookup).await?.is_empty() {
            return Err(FactorError::Passkey("it is enrolled already".into()));
        }
        let stored = Stored { handle: pending.handle.to_string(), passkey };
        let data =
            serde_json::to_vec(&stored).map_err(|error| FactorError::Passkey(error.to_string()))?;
        let mut new = NewCredential::new(CredentialType::Passkey, Secret::from(data));
        new.label = label.to_owned();
        new.lookup = Some(lookup);
        let kinds = [CredentialType::Passkey];
        self.add(&pending.user, &new, &kinds, limits::PASSKEYS).await
    }

    /// Whether a passkey's answer proves somebody. The challenge is used up by it.
    ///
    /// # Errors
    ///
    /// A fault of the store, or of what is stored in it.
    pub(crate) async fn check_passkey(
        &self,
        passkeys: &Passkeys,
        login: PasskeyLogin,
        answer: &Secret,
        unix: i64,
    ) -> Result<Assertion, Fault> {
        let known = match &login.0 {
            Awaited::Of { name, .. } => Some(name.clone()),
            Awaited::Anybody { .. } => None,
        };
        let not = |name: Option<String>, reason, why: String| {
            let verdict = Verdict::Not(Denial::new(reason).because(why));
            Ok(Assertion { name, verdict, used: None })
        };
        // One object and nothing around it: what else was sent along would be signed by nobody.
        if !(answer.expose().starts_with(b"{") && answer.expose().ends_with(b"}")) {
            return not(known, Reason::Malformed, "the assertion is no JSON object".into());
        }
        let answer: PublicKeyCredential = match serde_json::from_slice(answer.expose()) {
            Ok(answer) => answer,
            Err(error) => {
                // Where in the text, and not what: the answer is the peer's.
                let why = format!("the assertion is unreadable at column {}", error.column());
                return not(known, Reason::Malformed, why);
            }
        };
        let lookup = URL_SAFE_NO_PAD.encode(answer.get_credential_id());
        let holders = self.store.find_by_lookup(&CredentialType::Passkey, &lookup).await;
        let holder = match holders.map_err(store_fault)?.as_slice() {
            [one] if known.as_ref().is_none_or(|known| known == one) => one.clone(),
            [] if known.is_none() => {
                return not(None, Reason::UnknownUser, "no account has this passkey".into());
            }
            [] => return not(known, Reason::WrongCredential, "an unknown passkey".into()),
            [_] => {
                let why = "the passkey of another account".into();
                return not(known, Reason::WrongCredential, why);
            }
            _ => {
                let why = "several accounts have this passkey; remove it from all but one".into();
                return not(known, Reason::WrongCredential, why);
            }
        };
        let alone = known.is_none();
        let account = self.store.account(&holder).await.map_err(store_fault)?;
        let name = Some(holder);
        let Some(account) = account else {
            return not(name, Reason::WrongCredential, "the account has been removed".into());
        };
        let mut enrolled = lasting(&account, unix);
        let Some(credential) = enrolled.find(|c| c.lookup.as_deref() == Some(&*lookup)) else {
            return not(name, Reason::WrongCredential, "the passkey has been removed".into());
        };
        let stored = read(&account, credential)?;
        // Alone it must say whose it is; beside a name it may, and must not say another.
        let handle = answer.get_user_unique_id().and_then(|bytes| Uuid::from_slice(bytes).ok());
        let whose = answer.get_user_unique_id().is_some() || alone;
        if whose && handle.map(|handle| handle.to_string()) != Some(stored.handle.clone()) {
            let why = "the passkey says that it is another user's".into();
            return not(name, Reason::WrongCredential, why);
        }
        let finished =
            match login.0 {
                Awaited::Of { state, .. } => {
                    passkeys.webauthn.finish_passkey_authentication(&answer, &state)
                }
                Awaited::Anybody { state } => passkeys
                    .webauthn
                    .finish_discoverable_authentication_v2(&answer, *state, &stored.passkey),
            };
        let result = match finished {
            Ok(result) if result.user_verified() => result,
            Ok(_) => {
                let why = "the passkey has not verified its user".into();
                return not(name, Reason::WrongCredential, why);
            }
            Err(error) => return not(name, Reason::WrongCredential, error.to_string()),
        };
        let used = match counted(&self.store, credential, &result, unix).await? {
            Counted::On => None,
            Counted::Not => Some(credential.id),
            Counted::Back => {
                let why = "the passkey's counter has not moved on: it was copied, or this is a \
                           repetition";
                return not(name, Reason::WrongCredential, why.into());
            }
        };
        // What is said about the account since it was read counts.
        let Some(account) = self.store.account(&account.name).await.map_err(store_fault)? else {
            return not(name, Reason::WrongCredential, "the account has been removed".into());
        };
        if let Some(denial) = unusable(&account, unix) {
            return Ok(Assertion { name, verdict: Verdict::Not(denial), used });
        }
        let who = match alone {
            // A proof beside another one adds nothing to what that one proved.
            false => Verified::vouch(Identity::named(account.name.as_str())),
            true => {
                if let Some(denial) = needs_another(&account) {
                    return Ok(Assertion { name, verdict: Verdict::Not(denial), used });
                }
                Verified::vouch(identity(&account)).complete()
            }
        };
        Ok(Assertion { name, verdict: Verdict::Is(who), used })
    }
}

/// Why a proof of ours alone is not enough for this account.
fn needs_another(account: &Account) -> Option<Denial> {
    if let Some(driver) = account.driven_by() {
        let why = format!("the driver `{driver}` vouches for this account, and was not asked");
        return Some(Denial::new(Reason::NotAllowed).because(why));
    }
    let why = "the password must be changed, which a passkey cannot do";
    account.must_change.then(|| Denial::new(Reason::ChangeNeeded).because(why))
}

enum Counted {
    /// The counter moved on, in the store.
    On,
    /// This passkey counts nothing, as those that are kept on several devices.
    Not,
    Back,
}

/// The signature counter (WebAuthn §6.1.1). The store decides, so that one answer counts on one node.
async fn counted(
    store: &Store,
    credential: &Credential,
    result: &AuthenticationResult,
    unix: i64,
) -> Result<Counted, Fault> {
    let counter = i64::from(result.counter());
    if counter == 0 {
        return Ok(if credential.counter == 0 { Counted::Not } else { Counted::Back });
    }
    let moved = store.advance_counter(credential.id, counter, unix).await.map_err(store_fault)?;
    Ok(if moved { Counted::On } else { Counted::Back })
}

fn lasting(account: &Account, now: i64) -> impl Iterator<Item = &Credential> {
    let passkeys = account.credentials_of(&CredentialType::Passkey);
    passkeys.filter(move |c| c.expires.is_none_or(|expires| expires > now))
}

/// A passkey as it is stored, as JSON.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// What the authenticator knows the user as.
    handle: String,
    passkey: Passkey,
}

impl Stored {
    fn of(credential: &Credential) -> Option<Self> {
        serde_json::from_slice(credential.data.expose()).ok()
    }
}

fn read(account: &Account, credential: &Credential) -> Result<Stored, Fault> {
    Stored::of(credential).ok_or_else(|| {
        let name = &account.name;
        Fault::internal(format!("a stored passkey of `{name}` cannot be read; remove it"))
    })
}

fn checked_origin(rp_id: &str, origin: &str) -> Result<Url, FactorError> {
    let refused = |why: &str| Err(FactorError::invalid("origins", format!("`{origin}` {why}")));
    let Ok(url) = Url::parse(origin) else { return refused("is no address") };
    let Some(domain) = url.domain() else { return refused("has no domain: browsers need one") };
    // Browsers offer WebAuthn in secure contexts only, and localhost is one.
    if url.scheme() != "https" && !(url.scheme() == "http" && domain == "localhost") {
        return refused("is not https, which browsers need (except for localhost)");
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return refused("is more than an origin: leave out what follows the host and port");
    }
    let below =
        domain.strip_suffix(rp_id).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    if rp_id.is_empty() || !below {
        return refused(&format!("is not at rp_id `{rp_id}` or below it"));
    }
    Ok(url)
}

fn text(options: &impl Serialize) -> Result<String, Fault> {
    serde_json::to_string(options)
        .map_err(|error| Fault::internal("writing a passkey's challenge").caused_by(error))
}

fn begin_fault(error: WebauthnError) -> Fault {
    Fault::internal("making a passkey's challenge").caused_by(error)
}

fn refused(error: WebauthnError) -> FactorError {
    FactorError::Passkey(error.to_string())
}

impl fmt::Debug for Passkeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passkeys").field("origins", &self.webauthn.get_allowed_origins()).finish()
    }
}

impl fmt::Debug for PendingPasskey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingPasskey").field("user", &self.user).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(rp_id: &str, origins: &[&str]) -> Result<Passkeys, FactorError> {
        let origins = origins.iter().map(|&origin| origin.to_owned()).collect();
        Passkeys::new(&PasskeySettings { rp_id: rp_id.into(), rp_name: "Example".into(), origins })
    }

    #[test]
    fn every_origin_is_at_the_id_or_below_it() {
        assert!(site("example.com", &["https://example.com"]).is_ok());
        let two = ["https://login.example.com", "https://example.com:8443/"];
        assert!(site("example.com", &two).is_ok());
        assert!(site("localhost", &["http://localhost:8080"]).is_ok());
        for (rp_id, origins) in [
            ("example.com", &[][..]),
            ("example.com", &["https://example.org"]),
            ("example.com", &["https://example.com", "https://notexample.com"]),
            ("example.com", &["http://example.com"]),
            ("example.com", &["https://example.com/login"]),
            ("example.com", &["example.com"]),
            ("", &["https://example.com"]),
            ("127.0.0.1", &["https://127.0.0.1"]),
            ("login.example.com", &["https://example.com"]),
        ] {
            assert!(site(rp_id, origins).is_err(), "{rp_id} {origins:?}");
        }
    }
}
