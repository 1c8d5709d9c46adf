//! Sessions by their token, fast: a copy of the busy ones, true to the store.
//!
//! A session is looked at with every request of a site, so it is answered from memory. What makes that safe:
//! the store names every session that ends and every account that changes, whichever node did it, and a
//! lookup hears all of it before it answers; whoever lagged behind forgets everything; the account is looked
//! at every time, as of now; and when the store could not be asked for a while, the copy is not believed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::{Identity, Moment, Verified};
use countersign_checkers::accounts;
use countersign_store::{Account, Changed, SessionRecord, Store, StoreError};
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::TryRecvError;

use crate::front::http::IdentityHeaders;
use crate::identity::IdentityView;
use crate::realm::token_hash;

/// Sessions in the copy.
const CAPACITY: usize = 20_000;
/// A session with more data, in bytes, is read from the store each time.
const COPIED_DATA: usize = 16 * 1024;
/// For how long the copy is believed while nobody can say whether something changed, in milliseconds.
const BELIEVED_MS: u64 = 10_000;
/// How often a session's last use is noted, in seconds. It is for people only.
const USED_EVERY: i64 = 60;
/// Uses that wait to be written.
const USES: usize = 10_000;
/// How far in the future a session may have been made, in seconds: nodes' clocks differ a little. One from
/// beyond was made before the wall clock stepped back, and its end is as far away as the clock was wrong.
const CLOCKS_DIFFER_S: i64 = 300;
/// A token: 256 bits in URL-safe base64.
const TOKEN_LETTERS: usize = 43;

type Key = [u8; 32];

/// Sessions by their token.
pub struct Sessions {
    store: Store,
    copies: Cache<Key, Arc<LiveSession>>,
    hearing: Mutex<broadcast::Receiver<Arc<[Changed]>>>,
    /// The store's batches that were heard.
    heard: AtomicU64,
    /// Rises with everything heard: what was read before it is not put in after it. Written by who hears.
    epoch: AtomicU64,
    /// When the store last said whether something changed.
    confirmed_ms: AtomicU64,
    /// By hash: when it was last used.
    used: Mutex<HashMap<Box<str>, i64>>,
}

/// A session that was good when it was looked up.
#[derive(Debug)]
pub struct LiveSession {
    /// The record. Its `last_seen` is that of the first lookup.
    pub record: SessionRecord,
    /// What was proven at the login.
    pub login: LoginData,
    /// Who it is now: with the groups, labels and attributes that the account has by now, where an account of
    /// the store is what let them in; else as of the login.
    pub identity: IdentityView,
    /// The same, as the portal takes it.
    pub who: Identity,
    /// Which account it was looked up with: id and revision.
    account: Option<(i64, i64)>,
    noted: AtomicI64,
    /// Its end on the steady clock, in milliseconds, as of when it was read: a wall clock that steps back
    /// makes it no later.
    ends_ms: u64,
    headers: OnceLock<IdentityHeaders>,
}

/// What the record of a session says about its login.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginData {
    /// Who logged in, as of then.
    pub identity: IdentityView,
    /// Which checker vouched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checker: Option<String>,
    /// Whether the identity was the account's own, so that it changes when the account does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follows_account: bool,
    /// By which mechanisms it was proven, as [`Verified::proofs`] has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proofs: Vec<String>,
    /// Whether that stands for every factor.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub complete: bool,
    /// Whether a program proved it, by an application password: good for the session's own service alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub program: bool,
}

impl LoginData {
    /// The data of a login that ended in this proof, with the account of the same name, if there is one.
    pub fn of(who: &Verified<Identity>, account: Option<&Account>) -> Self {
        // Another checker may prove the same name of somebody else: then the account says nothing.
        let own = who.checker().is_some_and(|checker| checker.starts_with("accounts."));
        let same = account.is_some_and(|account| accounts::identity(account) == **who);
        Self {
            identity: IdentityView::of(who),
            checker: who.checker().map(str::to_owned),
            follows_account: own && same,
            proofs: who.proofs().map(str::to_owned).collect(),
            complete: who.is_complete(),
            program: who.is_of_program(),
        }
    }

    /// As JSON text.
    pub fn to_json(&self) -> String {
        // Strings, lists and maps with string keys always serialize.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// From the data of a record; that of a first version was the identity alone.
    fn read(data: &str) -> Option<Self> {
        serde_json::from_str(data).ok().or_else(|| {
            let identity = serde_json::from_str(data).ok()?;
            Some(Self { identity, ..Self::default() })
        })
    }
}

impl Sessions {
    /// The sessions of a store.
    pub fn new(store: Store) -> Self {
        let changes = store.changes();
        Self {
            store,
            copies: Cache::new(CAPACITY),
            hearing: Mutex::new(changes),
            heard: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            confirmed_ms: AtomicU64::new(0),
            used: Mutex::default(),
        }
    }

    /// The session of this token, if it is good now: not ended, not expired, and its subject, if that is an
    /// account of the store, enabled and not expired.
    ///
    /// # Errors
    ///
    /// When the store cannot say.
    pub async fn find(
        &self,
        token: &str,
        now: Moment,
    ) -> Result<Option<Arc<LiveSession>>, StoreError> {
        // Whoever guesses is not worth a look into the store.
        if !is_token(token) {
            return Ok(None);
        }
        let key = Key::from(Sha256::digest(token.as_bytes()));
        let epoch = self.hear();
        let since = now.steady_ms.saturating_sub(self.confirmed_ms.load(Ordering::Acquire));
        let copy = (since < BELIEVED_MS).then(|| self.copies.get(&key)).flatten();
        let found = match copy {
            Some(live) => self.as_of_now(key, live, epoch, now).await?,
            // What the store needs room for is not made room for where it is not asked.
            None => Box::pin(self.load(key, &token_hash(token), epoch, now)).await?,
        };
        if let Some(live) = &found {
            self.note_use(live, now.unix);
        }
        Ok(found)
    }

    /// The session of this hash, past the copy.
    ///
    /// # Errors
    ///
    /// When the store cannot say.
    pub async fn look_up(
        &self,
        hash: &str,
        now: Moment,
    ) -> Result<Option<Arc<LiveSession>>, StoreError> {
        let Some(key) = key_of(hash) else { return Ok(None) };
        let epoch = self.hear();
        self.load(key, hash, epoch, now).await
    }

    /// Says that the store has just told whether something changed.
    pub fn confirm(&self, now: Moment) {
        self.confirmed_ms.store(now.steady_ms, Ordering::Release);
    }

    /// How many are in the copy.
    pub fn copies(&self) -> usize {
        self.copies.len()
    }

    /// Writes when sessions were last used.
    ///
    /// # Errors
    ///
    /// What the store says; the uses are then forgotten, for they are for people only.
    pub async fn write_uses(&self) -> Result<(), StoreError> {
        let uses = std::mem::take(&mut *self.used());
        if uses.is_empty() {
            return Ok(());
        }
        let uses: Vec<_> = uses.into_iter().collect();
        self.store.note_session_uses(&uses).await
    }

    async fn load(
        &self,
        key: Key,
        hash: &str,
        epoch: u64,
        now: Moment,
    ) -> Result<Option<Arc<LiveSession>>, StoreError> {
        let Some(record) = self.store.session(hash, now.unix).await? else { return Ok(None) };
        let account = self.account(&record.subject).await?;
        let Some(login) = LoginData::read(&record.data) else {
            tracing::error!("the login of a session cannot be read from the store");
            return Ok(None);
        };
        let noted = AtomicI64::new(record.last_seen);
        let left_s = u64::try_from(record.expires.saturating_sub(now.unix)).unwrap_or(0);
        let ends_ms = now.steady_ms.saturating_add(left_s.saturating_mul(1000));
        let live = LiveSession::of(record, login, account.as_deref(), noted, ends_ms);
        let Some(live) = live.filter(|live| live.is_good(account.as_deref(), now)) else {
            return Ok(None);
        };
        let live = Arc::new(live);
        self.put(key, &live, epoch);
        Ok(Some(live))
    }

    /// A copy, with its account as of now.
    async fn as_of_now(
        &self,
        key: Key,
        live: Arc<LiveSession>,
        epoch: u64,
        now: Moment,
    ) -> Result<Option<Arc<LiveSession>>, StoreError> {
        let account = match self.store.cached(&live.record.subject) {
            Some(account) => account,
            None => Box::pin(self.account(&live.record.subject)).await?,
        };
        let account = account.as_deref();
        if !live.is_good(account, now) {
            self.copies.remove(&key);
            return Ok(None);
        }
        if live.account == account.map(|account| (account.id, account.revision)) {
            return Ok(Some(live));
        }
        let noted = AtomicI64::new(live.noted.load(Ordering::Relaxed));
        let next =
            LiveSession::of(live.record.clone(), live.login.clone(), account, noted, live.ends_ms);
        let next = next.map(Arc::new);
        match &next {
            Some(next) => self.put(key, next, epoch),
            None => drop(self.copies.remove(&key)),
        }
        Ok(next)
    }

    async fn account(&self, subject: &str) -> Result<Option<Arc<Account>>, StoreError> {
        self.store.account(subject).await
    }

    /// Puts in what was read since `epoch`, unless something was heard meanwhile.
    fn put(&self, key: Key, live: &Arc<LiveSession>, epoch: u64) {
        let mut hearing = self.hearing();
        self.hear_all(&mut hearing);
        let unheard = self.epoch.load(Ordering::Acquire) == epoch;
        if unheard && live.record.data.len() <= COPIED_DATA {
            self.copies.insert(key, Arc::clone(live));
        }
    }

    /// Hears what ended since the last time, and throws it out of the copy. Gives the epoch. Most of the time
    /// there is nothing to hear, and nobody waits for anybody.
    fn hear(&self) -> u64 {
        let batches = self.store.batches();
        if self.heard.load(Ordering::Acquire) != batches {
            self.hear_all(&mut self.hearing());
            self.heard.fetch_max(batches, Ordering::AcqRel);
        }
        self.epoch.load(Ordering::Acquire)
    }

    fn hear_all(&self, hearing: &mut broadcast::Receiver<Arc<[Changed]>>) {
        loop {
            match hearing.try_recv() {
                Ok(batch) => batch.iter().for_each(|change| self.forget(change)),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
                Err(TryRecvError::Lagged(_)) => self.copies.clear(),
            }
            self.epoch.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn hearing(&self) -> MutexGuard<'_, broadcast::Receiver<Arc<[Changed]>>> {
        self.hearing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, change: &Changed) {
        match change {
            Changed::Session(hash) => {
                if let Some(key) = key_of(hash) {
                    self.copies.remove(&key);
                }
            }
            Changed::Everything => self.copies.clear(),
            // The account is looked at in every lookup.
            _ => {}
        }
    }

    fn note_use(&self, live: &LiveSession, now: i64) {
        let noted = live.noted.load(Ordering::Relaxed);
        if now.saturating_sub(noted) < USED_EVERY {
            return;
        }
        live.noted.store(now, Ordering::Relaxed);
        let mut used = self.used();
        if used.len() < USES {
            used.insert(live.record.hash.as_str().into(), now);
        }
    }

    fn used(&self) -> MutexGuard<'_, HashMap<Box<str>, i64>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LiveSession {
    /// `None`: the account was replaced by another of the same name.
    fn of(
        record: SessionRecord,
        login: LoginData,
        account: Option<&Account>,
        noted: AtomicI64,
        ends_ms: u64,
    ) -> Option<Self> {
        let identity = match account {
            Some(account) if login.follows_account => {
                IdentityView::of(&accounts::identity(account))
            }
            // Removed: there is nobody any more that the session could be of.
            None if login.follows_account => return None,
            _ => login.identity.clone(),
        };
        let account = account.map(|account| (account.id, account.revision));
        let (who, headers) = (identity.to_identity(), OnceLock::new());
        Some(Self { record, login, identity, who, account, noted, ends_ms, headers })
    }

    fn is_good(&self, account: Option<&Account>, now: Moment) -> bool {
        let usable = match account {
            Some(account) => {
                let same = self.account.is_none_or(|(id, _)| id == account.id);
                same && account.enabled && account.expires.is_none_or(|end| end > now.unix)
            }
            // None: another checker's user, of whom the store knows nothing. One that it did know is gone.
            None => self.account.is_none(),
        };
        let begun = self.record.created <= now.unix.saturating_add(CLOCKS_DIFFER_S);
        usable && begun && self.record.expires > now.unix && self.ends_ms > now.steady_ms
    }

    /// The headers in which proxies are told who it is.
    pub fn headers(&self) -> &IdentityHeaders {
        self.headers.get_or_init(|| IdentityHeaders::of(&self.identity))
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sessions({} in the copy)", self.copies.len())
    }
}

/// Whether a text has the form of a session's token.
pub fn is_token(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.len() == TOKEN_LETTERS && text.bytes().all(letter)
}

fn key_of(hash: &str) -> Option<Key> {
    URL_SAFE_NO_PAD.decode(hash).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use countersign_store::{AccountUpdate, NewAccount, OpenOptions};

    use super::*;

    const TOKEN: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    struct Place {
        folder: tempfile::TempDir,
        store: Store,
        sessions: Sessions,
    }

    fn at(unix: i64) -> Moment {
        Moment { steady_ms: 1000, unix }
    }

    fn record(data: &LoginData) -> SessionRecord {
        SessionRecord {
            hash: token_hash(TOKEN),
            subject: "ada".into(),
            service: "web".into(),
            peer: String::new(),
            data: data.to_json(),
            created: 100,
            last_seen: 100,
            expires: 1000,
        }
    }

    /// A session of the account `ada`.
    async fn place(follows_account: bool) -> Place {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("a.db"), OpenOptions::create()).await.unwrap();
        store.add_account(&NewAccount::new("ada"), 0).await.unwrap();
        let identity = IdentityView::of(&Identity::named("ada"));
        let data = LoginData { identity, follows_account, ..LoginData::default() };
        store.create_session(&record(&data), 9, i64::MAX).await.unwrap();
        let sessions = Sessions::new(store.clone());
        sessions.confirm(at(0));
        Place { folder, store, sessions }
    }

    impl Place {
        async fn find(&self, unix: i64) -> Option<Arc<LiveSession>> {
            self.sessions.find(TOKEN, at(unix)).await.unwrap()
        }
    }

    fn labels(live: &LiveSession) -> Vec<&str> {
        live.identity.labels.iter().map(String::as_str).collect()
    }

    #[tokio::test]
    async fn the_second_lookup_needs_no_store() {
        let place = place(true).await;
        let first = place.find(200).await.unwrap();
        assert!(Arc::ptr_eq(&first, &place.find(200).await.unwrap()));
        place.store.close().await;
        assert!(Arc::ptr_eq(&first, &place.find(999).await.unwrap()));
        assert!(place.find(1000).await.is_none(), "expired");
    }

    #[tokio::test]
    async fn an_end_is_known_at_once_and_across_nodes() {
        let place = place(true).await;
        place.find(200).await.unwrap();
        place.store.end_session(&token_hash(TOKEN)).await.unwrap();
        assert!(place.find(200).await.is_none());

        let data = LoginData::read(&place_data()).unwrap();
        place.store.create_session(&record(&data), 9, i64::MAX).await.unwrap();
        place.find(200).await.unwrap();
        let path = place.folder.path().join("a.db");
        let elsewhere = Store::open(path, OpenOptions::default()).await.unwrap();
        elsewhere.end_sessions_of("ada").await.unwrap();
        assert!(place.store.watch().await.unwrap());
        assert!(place.find(200).await.is_none());
    }

    fn place_data() -> String {
        IdentityView::of(&Identity::named("ada")).to_json()
    }

    #[tokio::test]
    async fn the_identity_is_that_of_the_account_now_if_it_was_the_account_s() {
        for follows in [true, false] {
            let place = place(follows).await;
            assert!(labels(&place.find(200).await.unwrap()).is_empty());
            place.store.add_label("ada", "new").await.unwrap();
            let now = place.find(200).await.unwrap();
            assert_eq!(labels(&now).len(), usize::from(follows));
            assert!(now.login.identity.labels.is_empty());
            let update = AccountUpdate { enabled: Some(false), ..AccountUpdate::default() };
            place.store.update_account("ada", &update).await.unwrap();
            assert!(place.find(200).await.is_none(), "disabled");
            let update = AccountUpdate { enabled: Some(true), ..AccountUpdate::default() };
            place.store.update_account("ada", &update).await.unwrap();
        }
    }

    #[tokio::test]
    async fn another_account_of_the_same_name_is_somebody_else() {
        let place = place(false).await;
        place.find(200).await.unwrap();
        place.store.remove_account("ada", 0).await.unwrap();
        place.store.add_account(&NewAccount::new("ada"), 0).await.unwrap();
        assert!(place.find(200).await.is_none());
    }

    #[tokio::test]
    async fn the_copy_is_not_believed_when_the_store_is_away() {
        let place = place(true).await;
        place.find(200).await.unwrap();
        place.store.close().await;
        let late = Moment { steady_ms: 1000 + BELIEVED_MS, unix: 200 };
        assert!(place.sessions.find(TOKEN, late).await.is_err());
        place.sessions.confirm(late);
        assert!(place.sessions.find(TOKEN, late).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_wall_clock_that_steps_back_makes_no_session_longer() {
        let place = place(true).await;
        // 900 s are left.
        assert!(place.find(100).await.is_some());
        let at = |seconds: u64, unix| Moment { steady_ms: 1000 + seconds * 1000, unix };
        for (seconds, unix, good) in [(890, 50, true), (899, 50, true), (900, 50, false)] {
            let now = at(seconds, unix);
            place.sessions.confirm(now);
            assert_eq!(place.sessions.find(TOKEN, now).await.unwrap().is_some(), good, "{seconds}");
        }
    }

    #[tokio::test]
    async fn a_session_from_the_future_is_none_until_then() {
        let place = place(true).await;
        assert!(place.find(100 - CLOCKS_DIFFER_S - 1).await.is_none());
        assert!(place.find(100 - CLOCKS_DIFFER_S).await.is_some());
        assert!(place.find(-1000).await.is_none(), "nor is its copy");
        assert!(place.find(100).await.is_some());
    }

    #[tokio::test]
    async fn what_is_no_token_is_not_looked_for() {
        let place = place(true).await;
        place.store.close().await;
        for no in ["", "x", &"A".repeat(44), &"ä".repeat(43), &" ".repeat(43)] {
            assert!(place.sessions.find(no, at(200)).await.unwrap().is_none());
        }
        assert!(place.sessions.find(&"B".repeat(43), at(200)).await.is_err());
    }

    #[tokio::test]
    async fn uses_are_written_now_and_then() {
        let place = place(true).await;
        for unix in [110, 170, 171, 180] {
            place.find(unix).await.unwrap();
        }
        assert_eq!(place.sessions.used().len(), 1);
        place.sessions.write_uses().await.unwrap();
        let seen = place.store.session(&token_hash(TOKEN), 200).await.unwrap().unwrap().last_seen;
        assert_eq!(seen, 170);
        assert!(place.sessions.used().is_empty());
    }

    #[test]
    fn the_data_of_a_first_version_is_read() {
        let data = LoginData::read(&place_data()).unwrap();
        assert!(!data.follows_account && data.checker.is_none());
        assert_eq!(LoginData::read(&data.to_json()), Some(data));
        assert_eq!(LoginData::read("{}"), None);
    }
}
