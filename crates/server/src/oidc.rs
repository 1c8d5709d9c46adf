//! Login through an OpenID Connect provider: the checker of the kind `oidc` (OpenID Connect Core 1.0, the
//! authorization code flow with PKCE, RFC 7636).
//!
//! The one round of the mechanism is a question of the kind `external`, whose challenge is the address at the
//! provider. Whoever can send a browser there answers with the query string that the browser brings back. So a
//! provider is a checker as any other: policy, further factors, the record and the realm are the same.

mod http;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::{
    Answers, BoxExchange, Challenge, Checker, CredentialKind, Denial, Exchange, Fault, FaultKind,
    Group, Identity, KindSet, Mechanism, Question, Reason, Round, Scene, Secret, Step, Text,
    Verified, not_offered,
};
use countersign_checkers::accounts;
use countersign_store::Store;
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreClientAuthMethod,
    CoreErrorResponseType, CoreGenderClaim, CoreJsonWebKey, CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm, CoreProviderMetadata, CoreRevocableToken, CoreRevocationErrorResponse,
    CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AdditionalClaims, AuthType, AuthorizationCode, Client, ClientId, ClientSecret, CsrfToken,
    EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet, EndpointSet, IdTokenClaims,
    IdTokenFields, IssuerUrl, Nonce, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope,
    StandardErrorResponse, StandardTokenResponse, TokenResponse,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use countersign_checkers::outgoing::chain;

use http::Fetcher;
pub use http::OidcError;

/// For how long what a provider says about itself is believed, in milliseconds.
const METADATA_MS: u64 = 60 * 60 * 1000;
/// After a failure the provider is left alone for so long, in milliseconds.
const RETRY_MS: u64 = 10 * 1000;
/// How far a provider's clock may be off, in seconds.
const SKEW_S: i64 = 60;

/// What an operator says of a provider.
#[derive(Clone, Debug)]
pub struct OidcOptions {
    /// What people know it as; on a button.
    pub title: String,
    /// The issuer, exactly as the provider writes it.
    pub issuer: String,
    /// What the provider knows us as.
    pub client_id: String,
    /// The secret; none: a public client, which PKCE protects alone.
    pub client_secret: Option<Secret>,
    /// Where the provider sends browsers back: `/login/back` of the login page.
    pub redirect_uri: String,
    /// What is asked for beside `openid`.
    pub scopes: Vec<String>,
    /// The claim that is the user's name here.
    pub subject: String,
    /// The domain that an address in that claim must be of; the name is then what stands before the `@`.
    pub domain: Option<String>,
    /// Whose names count.
    pub accounts: Known,
    /// The claim with groups, which are added to the account's.
    pub groups: Option<String>,
    /// A file of certificates that vouch for the provider, in PEM; none: the system's.
    pub ca: Option<std::path::PathBuf>,
    /// How long one request to the provider may take.
    pub timeout: Duration,
}

/// Whose names count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Known {
    /// Those of accounts whose `driver` is this checker: an administrator has said who is whose.
    #[default]
    Driver,
    /// Those of any account of the store. Whoever the provider gives the name of an account gets it.
    Any,
    /// Every name. There need be no account.
    None,
}

/// A provider.
pub struct Oidc {
    name: String,
    mechanisms: [Mechanism; 1],
    shared: Arc<Shared>,
}

struct Shared {
    options: OidcOptions,
    checker: String,
    store: Store,
    fetcher: Fetcher,
    metadata: Mutex<Metadata>,
    /// One at a time asks the provider.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Metadata {
    known: Option<Arc<CoreProviderMetadata>>,
    /// When to ask again, on the steady clock.
    again_ms: u64,
}

/// Claims besides the standard ones.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Extra {
    #[serde(flatten)]
    all: BTreeMap<String, Value>,
}

impl AdditionalClaims for Extra {}

type Fields = IdTokenFields<
    Extra,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;

type Site = Client<
    Extra,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    StandardTokenResponse<Fields, CoreTokenType>,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

impl Oidc {
    /// A provider. Nothing is asked of it yet.
    ///
    /// # Errors
    ///
    /// Which of the options cannot be.
    pub fn new(
        name: impl Into<String>,
        options: OidcOptions,
        store: Store,
    ) -> Result<Self, OidcError> {
        let name = name.into();
        http::check_address("issuer", &options.issuer)?;
        http::check_address("redirect_uri", &options.redirect_uri)?;
        let fetcher = Fetcher::new(options.ca.as_deref(), options.timeout)?;
        let last = name.rsplit('.').next().unwrap_or(&name).to_owned();
        let mechanism = Mechanism {
            // Each provider is a way of its own: people choose one by name.
            name: format!("oidc-{last}").into(),
            asks: KindSet::none().with(CredentialKind::External),
            needs: &[],
            plaintext: false,
        };
        let shared = Shared {
            options,
            checker: name.clone(),
            store,
            fetcher,
            metadata: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        };
        Ok(Self { name, mechanisms: [mechanism], shared: Arc::new(shared) })
    }
}

impl Checker for Oidc {
    fn name(&self) -> &str {
        &self.name
    }

    fn mechanisms(&self) -> &[Mechanism] {
        &self.mechanisms
    }

    fn begin(&self, mechanism: &str, _: &Scene<'_>) -> Result<BoxExchange, Fault> {
        if !self.mechanisms[0].is(mechanism) {
            return Err(not_offered(&self.name, mechanism));
        }
        let shared = Arc::clone(&self.shared);
        Ok(BoxExchange::new(Trip { shared, waits_for: WaitsFor::Beginning }))
    }
}

/// One browser's way to the provider and back.
struct Trip {
    shared: Arc<Shared>,
    waits_for: WaitsFor,
}

enum WaitsFor {
    Beginning,
    Return(Box<Sent>),
}

/// What only the returning browser's provider can know.
struct Sent {
    state: Secret,
    nonce: Secret,
    verifier: Secret,
    metadata: Arc<CoreProviderMetadata>,
}

impl Exchange for Trip {
    async fn step(&mut self, answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        match std::mem::replace(&mut self.waits_for, WaitsFor::Beginning) {
            WaitsFor::Beginning => self.send(scene).await,
            WaitsFor::Return(sent) => self.shared.returned(*sent, &answers, scene).await,
        }
    }
}

impl Trip {
    async fn send(&mut self, scene: &Scene<'_>) -> Result<Step, Fault> {
        let shared = &self.shared;
        let metadata = match shared.metadata(scene.now.steady_ms).await {
            Ok(metadata) => metadata,
            // Other ways stand beside this one; they do not fall with it.
            Err(fault) => {
                tracing::warn!(%fault, checker = shared.checker, "the identity provider is not offered");
                let denial = Denial::new(Reason::Realm).because(fault.to_string());
                return Ok(Step::Deny(denial));
            }
        };
        let [state, nonce, verifier] = [(); 3].map(|()| random(scene));
        let text = |secret: &Secret| secret.to_str().unwrap_or_default().to_owned();
        let pkce = PkceCodeVerifier::new(text(&verifier));
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&pkce);
        let site = shared.site(&metadata)?;
        let (given_state, given_nonce) = (text(&state), text(&nonce));
        let mut request = site.authorize_url(
            CoreAuthenticationFlow::AuthorizationCode,
            || CsrfToken::new(given_state),
            || Nonce::new(given_nonce),
        );
        for scope in &shared.options.scopes {
            request = request.add_scope(Scope::new(scope.clone()));
        }
        let (address, ..) = request.set_pkce_challenge(challenge).url();
        let title = Text::verbatim(shared.options.title.clone());
        let mechanism = format!("oidc-{}", shared.short());
        let mut question = Question::new("oidc", CredentialKind::External, title.clone());
        question.challenge = Some(Challenge::Text(address.into()));
        let id: Cow<'static, str> = shared.short().to_owned().into();
        let mut round = Round::of([question.in_group(id.clone())]);
        round.groups.push(Group { id, title, mechanism: mechanism.into() });
        self.waits_for = WaitsFor::Return(Box::new(Sent { state, nonce, verifier, metadata }));
        Ok(Step::ask(round))
    }
}

impl Shared {
    /// The last part of the checker's name.
    fn short(&self) -> &str {
        self.checker.rsplit('.').next().unwrap_or(&self.checker)
    }

    fn site(&self, metadata: &CoreProviderMetadata) -> Result<Site, Fault> {
        let secret = self.options.client_secret.as_ref();
        let secret = secret.and_then(Secret::to_str).map(|s| ClientSecret::new(s.to_owned()));
        let id = ClientId::new(self.options.client_id.clone());
        let back = RedirectUrl::new(self.options.redirect_uri.clone())
            .map_err(|error| Fault::internal("redirect_uri").caused_by(error))?;
        let site = Site::from_provider_metadata(metadata.clone(), id, secret);
        let site = site.set_redirect_uri(back);
        let ways = metadata.token_endpoint_auth_methods_supported();
        let basic = ways.is_none_or(|ways| ways.contains(&CoreClientAuthMethod::ClientSecretBasic));
        Ok(if basic { site } else { site.set_auth_type(AuthType::RequestBody) })
    }

    /// What the provider says of itself, and its keys.
    async fn metadata(&self, now_ms: u64) -> Result<Arc<CoreProviderMetadata>, Fault> {
        if let Some(answer) = self.remembered(now_ms) {
            return answer;
        }
        let _one = self.asking.lock().await;
        // Somebody else may have asked meanwhile.
        if let Some(answer) = self.remembered(now_ms) {
            return answer;
        }
        let issuer = IssuerUrl::new(self.options.issuer.clone())
            .map_err(|error| Fault::internal("issuer").caused_by(error))?;
        let fetch = self.fetcher.requests();
        let asked = CoreProviderMetadata::discover_async(issuer, &fetch).await;
        let mut metadata = self.metadata.lock().unwrap_or_else(PoisonError::into_inner);
        match asked {
            Ok(found) => {
                let found = Arc::new(found);
                metadata.known = Some(Arc::clone(&found));
                metadata.again_ms = now_ms.saturating_add(METADATA_MS);
                Ok(found)
            }
            Err(error) => {
                metadata.again_ms = now_ms.saturating_add(RETRY_MS);
                let issuer = &self.options.issuer;
                let fault = Fault::unavailable(format!(
                    "asking the provider {issuer} about itself: {}",
                    chain(&error)
                ));
                // What it said before is better than nothing: its keys are rarely changed.
                metadata.known.clone().ok_or(fault)
            }
        }
    }

    fn remembered(&self, now_ms: u64) -> Option<Result<Arc<CoreProviderMetadata>, Fault>> {
        let metadata = self.metadata.lock().unwrap_or_else(PoisonError::into_inner);
        if now_ms >= metadata.again_ms {
            return None;
        }
        let failed = || {
            let text = format!("the provider {} did not answer a moment ago", self.options.issuer);
            Fault::unavailable(text)
        };
        Some(metadata.known.clone().ok_or_else(failed))
    }

    /// The keys may have changed since they were read.
    fn forget_keys(&self) {
        let mut metadata = self.metadata.lock().unwrap_or_else(PoisonError::into_inner);
        metadata.again_ms = 0;
    }

    async fn returned(
        &self,
        sent: Sent,
        answers: &Answers,
        scene: &Scene<'_>,
    ) -> Result<Step, Fault> {
        let Some(query) = answers.text("oidc") else { return Ok(Step::deny(Reason::Declined)) };
        let fields: BTreeMap<String, String> = fields(query);
        let field = |name: &str| fields.get(name).map(String::as_str);
        let deny = |reason, why: String| Ok(Step::Deny(Denial::new(reason).because(why)));
        if field("state").map(Secret::from) != Some(sent.state.clone()) {
            return deny(Reason::Malformed, "the browser came back with another state".into());
        }
        // RFC 9207: who answered is who was asked.
        if field("iss").is_some_and(|issuer| issuer != self.options.issuer) {
            return deny(Reason::Malformed, "another provider has answered".into());
        }
        if let Some(error) = field("error") {
            let why: String = error.chars().filter(|c| !c.is_control()).take(100).collect();
            return deny(Reason::Declined, format!("the provider says `{why}`"));
        }
        let Some(code) = field("code") else {
            return deny(Reason::Malformed, "the browser came back without a code".into());
        };
        let site = self.site(&sent.metadata)?;
        let verifier = sent.verifier.to_str().unwrap_or_default().to_owned();
        let request = site
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .map_err(|error| {
                Fault::new(FaultKind::Protocol, "the provider has no token endpoint")
                    .caused_by(error)
            })?
            .set_pkce_verifier(PkceCodeVerifier::new(verifier));
        let fetch = self.fetcher.requests();
        let reply = match request.request_async(&fetch).await {
            Ok(reply) => reply,
            Err(openidconnect::RequestTokenError::ServerResponse(error)) => {
                return deny(
                    Reason::WrongCredential,
                    format!("the provider refuses the code: {error}"),
                );
            }
            Err(error) => {
                let text =
                    format!("exchanging a code at {}: {}", self.options.issuer, chain(&error));
                return Err(Fault::unavailable(text));
            }
        };
        let Some(token) = reply.id_token() else {
            return deny(Reason::WrongCredential, "the provider gave no id token".into());
        };
        let unix = scene.now.unix;
        let now = move || chrono::DateTime::from_timestamp(unix - SKEW_S, 0).unwrap_or_default();
        let tokens = site
            .id_token_verifier()
            .set_allowed_algs(SIGNATURES)
            // Expiry, with room for a clock that is off.
            .set_time_fn(now)
            .set_issue_time_verifier_fn(move |issued| match issued.timestamp() <= unix + SKEW_S {
                true => Ok(()),
                false => Err("it was issued in the future".to_owned()),
            });
        let nonce = Nonce::new(sent.nonce.to_str().unwrap_or_default().to_owned());
        let claims = match token.claims(&tokens, &nonce) {
            Ok(claims) => claims,
            Err(error) => {
                self.forget_keys();
                return deny(Reason::WrongCredential, format!("the id token: {}", chain(&error)));
            }
        };
        match self.identity(claims, scene).await? {
            Ok(identity) => Ok(Step::Grant(Verified::vouch(identity))),
            Err(denial) => Ok(Step::Deny(denial)),
        }
    }

    /// Who that is here.
    async fn identity(
        &self,
        claims: &IdTokenClaims<Extra, CoreGenderClaim>,
        scene: &Scene<'_>,
    ) -> Result<Result<Identity, Denial>, Fault> {
        let subject = claims.subject().as_str();
        let deny = |reason, why: String| {
            Ok(Err(Denial::new(reason).because(format!("{why} (the provider's `{subject}`)"))))
        };
        let claim = &self.options.subject;
        let value = match claim.as_str() {
            "sub" => Some(subject),
            "preferred_username" => claims.preferred_username().map(|name| name.as_str()),
            "email" if claims.email_verified() != Some(true) => {
                return deny(
                    Reason::NotAllowed,
                    "the provider has not verified the address".into(),
                );
            }
            "email" => claims.email().map(|address| address.as_str()),
            other => claims.additional_claims().all.get(other).and_then(Value::as_str),
        };
        let Some(value) = value else {
            return deny(Reason::NotAllowed, format!("the id token has no claim `{claim}`"));
        };
        let name = match &self.options.domain {
            None => value,
            Some(domain) => match value.rsplit_once('@') {
                Some((name, at)) if at.eq_ignore_ascii_case(domain) => name,
                _ => return deny(Reason::NotAllowed, format!("`{claim}` is not of {domain}")),
            },
        };
        if countersign_store::check_user_name(name).is_err() {
            return deny(Reason::NotAllowed, format!("`{claim}` can be no user's name"));
        }
        let denied = |mut denial: Denial| {
            denial.claimed = Some(name.into());
            Ok(Err(denial))
        };
        let account = self.store.account(name).await.map_err(|error| {
            Fault::unavailable("looking for the account of a provider's user").caused_by(error)
        })?;
        let account = match (self.options.accounts, account) {
            (Known::None, None) => None,
            (Known::Driver, Some(account)) if account.driver.as_deref() != Some(&*self.checker) => {
                let why = format!("the account's driver is not `{}`", self.checker);
                return denied(Denial::new(Reason::NotAllowed).because(why));
            }
            (_, Some(account)) => Some(account),
            (Known::Driver | Known::Any, None) => {
                return denied(
                    Denial::new(Reason::UnknownUser).because("there is no such account"),
                );
            }
        };
        let mut identity = match &account {
            Some(account) => match accounts::unusable(account, scene.now.unix) {
                Some(denial) => return denied(denial),
                None => accounts::identity(account),
            },
            None => Identity::named(name),
        };
        if let Some(claim) = &self.options.groups {
            let groups = claims.additional_claims().all.get(claim).and_then(Value::as_array);
            let groups = groups.into_iter().flatten().filter_map(Value::as_str);
            for group in groups.filter(|group| countersign_store::check_group_name(group).is_ok()) {
                // A provider makes nobody an administrator of a group here.
                identity.groups.entry(group.to_owned()).or_insert(false);
            }
        }
        Ok(Ok(identity))
    }
}

/// Signatures by keys that only the provider has.
const SIGNATURES: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// 256 random bits as text.
fn random(scene: &Scene<'_>) -> Secret {
    let mut bytes = zeroize::Zeroizing::new([0; 32]);
    scene.world.fill(&mut *bytes);
    Secret::from(URL_SAFE_NO_PAD.encode(*bytes))
}

/// The fields of a query string; the first of a name counts.
fn fields(query: &str) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        let value = value.replace('+', " ");
        let value = percent_encoding::percent_decode_str(&value).decode_utf8_lossy().into_owned();
        fields.entry(name.to_owned()).or_insert(value);
    }
    fields
}

impl std::fmt::Debug for Oidc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Oidc").field("name", &self.name).finish_non_exhaustive()
    }
}
