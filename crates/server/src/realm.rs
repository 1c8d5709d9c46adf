//! The server's own application: what a login through each kind of front end comes to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::{
    Ask, Denial, Identity, Interface, Logout, Peer, Realm, Reason, Session, Verified, World,
};
use countersign_store::{SessionRecord, Store, StoreError};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::engine::renews_password;
use crate::sessions::LoginData;
use crate::world::SystemWorld;

/// The realm of the server.
#[derive(Debug)]
pub struct ServerRealm {
    store: Store,
    world: SystemWorld,
    session_lifetime_s: i64,
}

/// A login that another server decides about: it wants to know who, and nothing lasts here.
#[derive(Debug)]
pub struct Decision;

impl Interface for Decision {
    const NAME: &'static str = "decision";
    type Avatar = ();
    type Mind = ();
}

/// A login that lasts: a session in the store, known by a token.
#[derive(Debug)]
pub struct Lasting;

impl Interface for Lasting {
    const NAME: &'static str = "lasting";
    type Avatar = LastingSession;
    type Mind = Begun;
}

/// Where a login that is to last came from, and when it began.
#[derive(Debug, Clone)]
pub struct Begun {
    /// Whose login it is, for the record of the session.
    pub peer: Arc<Peer>,
    /// The store's revision then. Whoever ended all of the user's sessions after it meant this one too.
    pub since: i64,
}

impl Begun {
    /// The same, for the answers to a round. The holder's own new password ends the other sessions, and
    /// not the one that begins with it; that it was set shows that nobody else changed the account.
    #[must_use]
    pub fn at(&self, ask: &Ask) -> Self {
        let since = if renews_password(ask) { i64::MAX } else { self.since };
        Self { since, ..self.clone() }
    }
}

/// A session in the store. Unless it is kept, it ends with its [`Session`]: a login whose reply could not
/// be sent leaves nothing behind.
pub struct LastingSession {
    /// What the client presents. 256 random bits, in URL-safe base64. Only its hash is stored.
    pub token: Zeroizing<String>,
    /// When it ends by itself, seconds since 1970.
    pub expires: i64,
    kept: Arc<AtomicBool>,
}

impl LastingSession {
    /// The client has been told: it lasts until it is ended or expires.
    pub fn keep(&self) {
        self.kept.store(true, Ordering::Release);
    }
}

/// How many sessions one user may have. The oldest ends when one more begins.
pub const SESSIONS_EACH: usize = 100;

/// The form in which a token is stored. A token has 256 random bits, so a plain hash is enough.
pub fn token_hash(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(token.as_bytes()))
}

impl std::fmt::Debug for LastingSession {
    /// Without the token, which is as good as a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LastingSession").field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl ServerRealm {
    /// A realm over a store.
    pub fn new(store: Store, world: SystemWorld, session_lifetime_s: i64) -> Self {
        Self { store, world, session_lifetime_s }
    }
}

impl Realm<Decision> for ServerRealm {
    async fn admit(&self, _: &Verified<Identity>, (): ()) -> Result<Session<Decision>, Denial> {
        Ok(Session::new(Box::new(())))
    }
}

impl Realm<Lasting> for ServerRealm {
    async fn admit(
        &self,
        who: &Verified<Identity>,
        begun: Begun,
    ) -> Result<Session<Lasting>, Denial> {
        let Some(subject) = who.subject.name() else {
            let detail = "an anonymous login has no session to last";
            return Err(Denial::new(Reason::Realm).because(detail));
        };
        // A store that is away does not keep the session either.
        let account = self.store.account(subject).await.ok().flatten();
        let mut bytes = Zeroizing::new([0; 32]);
        self.world.fill(&mut *bytes);
        let token = Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes));
        let now = self.world.now().unix;
        let expires = now.saturating_add(self.session_lifetime_s);
        let record = SessionRecord {
            hash: token_hash(&token),
            subject: subject.to_owned(),
            service: begun.peer.service.to_string(),
            peer: begun.peer.remote.map(|address| address.to_string()).unwrap_or_default(),
            data: LoginData::of(who, account.as_deref()).to_json(),
            created: now,
            last_seen: now,
            expires,
        };
        self.store.create_session(&record, SESSIONS_EACH, begun.since).await.map_err(|error| {
            let overtaken = matches!(error, StoreError::Overtaken { .. });
            let denial = Denial::new(Reason::Realm);
            let denial = denial.because(format!("the session cannot be stored: {error}"));
            if overtaken { denial } else { denial.broken() }
        })?;
        let kept = Arc::new(AtomicBool::new(false));
        let (store, hash, unless) = (self.store.clone(), token_hash(&token), Arc::clone(&kept));
        let avatar = LastingSession { token, expires, kept };
        let logout = Logout::lasting(
            move || async move {
                if unless.load(Ordering::Acquire) {
                    return;
                }
                if let Err(error) = store.end_session(&hash).await {
                    tracing::warn!(%error, "cannot end a session that nobody was told of");
                }
            },
            |rest| drop(tokio::spawn(rest)),
        );
        Ok(Session::new(Box::new(avatar)).at_logout(logout))
    }
}
