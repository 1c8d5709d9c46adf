//! What happens to an account while its password is being hashed: here the tests hold the hashing thread.

use std::sync::mpsc;
use std::time::Duration;

use countersign::testing::StillWorld;
use countersign::{KindSet, Peer};
use countersign_store::{AccountUpdate, NewAccount, NewCredential, OpenOptions};

use super::*;
use crate::pool::tests::{DEADLINE, gate, pool};

const NEW: Recipe = Recipe::Argon2id { memory_kib: 8, passes: 1, lanes: 1 };
const OLD: Recipe = Recipe::Sha512Crypt { rounds: 1000 };

struct Stage {
    _folder: tempfile::TempDir,
    accounts: Arc<Accounts>,
    shared: Arc<Shared>,
}

/// The one thread of the pool, kept busy until it is let go. Whatever is asked of it meanwhile waits.
struct Held {
    let_go: mpsc::Sender<bool>,
    verified: std::pin::Pin<Box<dyn Future<Output = Result<Match, PoolError>> + Send>>,
}

impl Held {
    async fn let_go(self) {
        self.let_go.send(true).unwrap();
        assert_eq!(self.verified.await, Ok(Match::Yes));
    }
}

impl Stage {
    /// One account, `ada`, whose password is `one`.
    async fn new(recipe: Recipe) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = OpenOptions::create().deadline(DEADLINE);
        let store = Store::open(folder.path().join("accounts.db"), options).await.unwrap();
        let mut ada = NewAccount::new("ada");
        let data = Secret::from(hashed(recipe, "one"));
        ada.credentials.push(NewCredential::new(CredentialType::Password, data));
        store.add_account(&ada, 0).await.unwrap();
        let pool = Arc::new(pool(300, 75, Duration::from_secs(600)));
        let world = Arc::new(StillWorld::default());
        let accounts = Arc::new(Accounts::new("accounts", store, pool, world, NEW).unwrap());
        let shared = Arc::clone(&accounts.shared);
        Self { _folder: folder, accounts, shared }
    }

    fn hold(&self) -> Held {
        let (slow, has_begun, let_go) = gate();
        let verified = Box::pin(self.shared.pool.verify(&slow, &Secret::default(), "the test"));
        has_begun.recv_timeout(DEADLINE).unwrap();
        Held { let_go, verified }
    }

    /// A login that has begun, once its password waits for the thread as the `nth`, all together.
    async fn login(&self, nth: usize) -> tokio::task::JoinHandle<Result<Step, Fault>> {
        let accounts = Arc::clone(&self.accounts);
        let login = tokio::spawn(async move {
            let (world, peer) = (StillWorld::default(), Peer::new("imap", KindSet::all()));
            let scene = Scene::of(&peer, &world);
            let mut exchange = accounts.begin("password", &scene)?;
            let _ = exchange.step(Answers::new(), &scene).await?;
            let answers = Answers::new().with("username", "ada").with("password", "one");
            exchange.step(answers, &scene).await
        });
        until(|| {
            let now = self.shared.pool.statistics();
            now.waiting + now.shared as usize == nth
        })
        .await;
        login
    }

    async fn stored(&self) -> Secret {
        let ada = self.shared.store.read_account("ada").await.unwrap().unwrap();
        let [credential] = &ada.credentials[..] else { panic!("{ada:?}") };
        credential.data.clone()
    }
}

fn hashed(recipe: Recipe, password: &str) -> String {
    Hash::create(&recipe, &Secret::from(password), [3; 16]).unwrap().expose_text()
}

/// Lets the others run until it is so.
async fn until(mut so: impl FnMut() -> bool) {
    let waiting = async {
        while !so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.expect("in time");
}

async fn end(login: tokio::task::JoinHandle<Result<Step, Fault>>) -> Step {
    tokio::time::timeout(DEADLINE, login).await.expect("in time").unwrap().unwrap()
}

#[track_caller]
fn refused(step: Step, reason: Reason, part: &str) {
    let Step::Deny(denial) = step else { panic!("{step:?}") };
    assert_eq!(denial.reason, reason, "{denial}");
    assert!(denial.detail.contains(part), "{denial}");
}

#[tokio::test]
async fn a_password_that_is_changed_meanwhile_no_longer_counts() {
    let stage = Stage::new(NEW).await;
    let held = stage.hold();
    let login = stage.login(1).await;
    let other = Secret::from(hashed(NEW, "two"));
    stage.shared.store.set_password("ada", &other, false, 0).await.unwrap();
    held.let_go().await;
    refused(end(login).await, Reason::WrongCredential, "");
}

#[tokio::test]
async fn an_account_that_is_disabled_or_removed_meanwhile_lets_nobody_in() {
    let off = AccountUpdate { enabled: Some(false), ..AccountUpdate::default() };
    let stage = Stage::new(NEW).await;
    let held = stage.hold();
    let login = stage.login(1).await;
    stage.shared.store.update_account("ada", &off).await.unwrap();
    held.let_go().await;
    refused(end(login).await, Reason::Disabled, "");

    // The password is known by now: another login would not wait.
    stage.shared.pool.clear();
    let held = stage.hold();
    let login = stage.login(1).await;
    stage.shared.store.remove_account("ada", 0).await.unwrap();
    held.let_go().await;
    refused(end(login).await, Reason::WrongCredential, "removed during this login");
}

#[tokio::test]
async fn an_account_that_a_driver_takes_over_meanwhile_lets_nobody_in() {
    let stage = Stage::new(NEW).await;
    let held = stage.hold();
    let login = stage.login(1).await;
    let update = AccountUpdate { driver: Some(Some("ldap".into())), ..AccountUpdate::default() };
    stage.shared.store.update_account("ada", &update).await.unwrap();
    held.let_go().await;
    refused(end(login).await, Reason::WrongCredential, "");
}

/// A mail program opens four connections at once, and the first of them gets the old hash replaced.
#[tokio::test]
async fn logins_at_the_same_time_as_a_rehash_get_in() {
    let stage = Stage::new(OLD).await;
    let before = stage.stored().await;
    let held = stage.hold();
    let mut logins = Vec::new();
    for nth in 1..=4 {
        logins.push(stage.login(nth).await);
    }
    // Another process has been quicker: the same password, a new hash.
    let new = Secret::from(hashed(NEW, "one"));
    let ada = stage.shared.store.read_account("ada").await.unwrap().unwrap();
    let id = ada.credentials[0].id;
    assert!(stage.shared.store.replace_credential_data(id, &before, &new).await.unwrap());
    held.let_go().await;
    for login in logins {
        assert!(matches!(end(login).await, Step::Grant(_)));
    }
    assert_eq!(stage.stored().await, new);
}

#[tokio::test]
async fn one_of_many_logins_replaces_an_old_hash() {
    let stage = Stage::new(OLD).await;
    let held = stage.hold();
    let mut logins = Vec::new();
    for nth in 1..=4 {
        logins.push(stage.login(nth).await);
    }
    held.let_go().await;
    for login in logins {
        assert!(matches!(end(login).await, Step::Grant(_)));
    }
    until(|| stage.shared.rehashing().is_empty()).await;
    let stored = stage.stored().await;
    let hash = Hash::parse(stored.to_str().unwrap(), &Accept::default()).unwrap();
    assert!(!hash.outdated(&NEW) && hash.verify(&Secret::from("one")));
}

#[tokio::test]
async fn a_rehash_never_undoes_a_change() {
    let stage = Stage::new(OLD).await;
    let held = stage.hold();
    let login = stage.login(1).await;
    held.let_go().await;
    // The login is through when it is polled next; its rehash waits behind this.
    let step = {
        until(|| stage.shared.pool.computed() == 2).await;
        let held = stage.hold();
        let step = end(login).await;
        until(|| stage.shared.pool.waiting() == 1).await;
        assert_eq!(stage.shared.rehashing().len(), 1);
        let other = Secret::from(hashed(OLD, "two"));
        stage.shared.store.set_password("ada", &other, false, 0).await.unwrap();
        held.let_go().await;
        until(|| stage.shared.rehashing().is_empty()).await;
        assert_eq!(stage.stored().await, other);
        step
    };
    assert!(matches!(step, Step::Grant(_)));
}

#[tokio::test]
async fn a_rehash_that_cannot_be_made_costs_nobody_the_login() {
    let stage = Stage::new(OLD).await;
    let held = stage.hold();
    let login = stage.login(1).await;
    held.let_go().await;
    until(|| stage.shared.pool.computed() == 2).await;
    stage.shared.pool.close();
    assert!(matches!(end(login).await, Step::Grant(_)));
    until(|| stage.shared.rehashing().is_empty()).await;
    assert!(stage.stored().await.to_str().unwrap().starts_with("{SHA512-CRYPT}"));
}

/// While others wait for the pool, old hashes stay: they can wait.
#[tokio::test]
async fn a_busy_pool_replaces_nothing() {
    let stage = Stage::new(OLD).await;
    let ada = stage.shared.store.account("ada").await.unwrap().unwrap();
    let held = stage.hold();
    let (decoy, accept) = (&stage.shared.decoy, &stage.shared.accept);
    let wait = |n: usize| {
        let password = Secret::from(n.to_string());
        stage.shared.pool.verify_text("others", decoy, accept, &password)
    };
    let waiting: Vec<_> = (0..=LEISURE).map(wait).collect();
    stage.shared.renew(&ada, &ada.credentials[0], Secret::from("one"));
    assert!(stage.shared.rehashing().is_empty());
    drop(waiting);
    held.let_go().await;
}

/// What was verified a moment ago says that the password is right, and nothing about the account.
#[tokio::test]
async fn what_is_remembered_never_outlives_what_was_said_since() {
    let stage = Stage::new(NEW).await;
    let (shared, accounts) = (&stage.shared, &stage.accounts);
    let login = |password: &'static str| async move {
        let (world, peer) = (StillWorld::default(), Peer::new("imap", KindSet::all()));
        let scene = Scene::of(&peer, &world);
        let mut exchange = accounts.begin("password", &scene).unwrap();
        let _ = exchange.step(Answers::new(), &scene).await.unwrap();
        let answers = Answers::new().with("username", "ada").with("password", password);
        exchange.step(answers, &scene).await.unwrap()
    };
    let computed = || shared.pool.computed();
    assert!(matches!(login("one").await, Step::Grant(_)));
    assert!(matches!(login("one").await, Step::Grant(_)));
    refused(login("two").await, Reason::WrongCredential, "");
    refused(login("two").await, Reason::WrongCredential, "");
    assert_eq!(computed(), 2);

    // The new password gets in at once, the old one never again.
    let two = Secret::from(hashed(NEW, "two"));
    shared.store.set_password("ada", &two, false, 0).await.unwrap();
    refused(login("one").await, Reason::WrongCredential, "");
    assert!(matches!(login("two").await, Step::Grant(_)));
    assert_eq!(computed(), 4);

    let update = |enabled| AccountUpdate { enabled: Some(enabled), ..AccountUpdate::default() };
    shared.store.update_account("ada", &update(false)).await.unwrap();
    refused(login("two").await, Reason::Disabled, "");
    shared.store.update_account("ada", &update(true)).await.unwrap();
    assert!(matches!(login("two").await, Step::Grant(_)));
    let past = AccountUpdate { expires: Some(Some(-1)), ..AccountUpdate::default() };
    shared.store.update_account("ada", &past).await.unwrap();
    refused(login("two").await, Reason::Expired, "");
    assert_eq!(computed(), 4);

    shared.store.remove_account("ada", 0).await.unwrap();
    refused(login("two").await, Reason::UnknownUser, "");
    refused(login("two").await, Reason::UnknownUser, "");
    // An unknown user takes the work of a wrong password, once.
    assert_eq!(computed(), 5);
}

/// A new hash of the same password, as a rehash stores it: it is hashed once more, and remembered then.
#[tokio::test]
async fn after_a_rehash_the_new_hash_is_verified_once() {
    let stage = Stage::new(OLD).await;
    let held = stage.hold();
    let login = stage.login(1).await;
    held.let_go().await;
    assert!(matches!(end(login).await, Step::Grant(_)));
    until(|| stage.shared.rehashing().is_empty()).await;
    let before = stage.shared.pool.computed();
    let held = stage.hold();
    let login = stage.login(1).await;
    held.let_go().await;
    assert!(matches!(end(login).await, Step::Grant(_)));
    // The held one and the login; none for a rehash.
    assert_eq!(stage.shared.pool.computed(), before + 2);
    assert!(stage.shared.rehashing().is_empty());
}

/// What OpenNebula stored counts where the account says that it is from there, and is replaced.
#[tokio::test]
async fn what_opennebula_stored_counts_once() {
    let stage = Stage::new(NEW).await;
    let (shared, accounts) = (&stage.shared, &stage.accounts);
    let login = |password: &'static str| async move {
        let (world, peer) = (StillWorld::default(), Peer::new("imap", KindSet::all()));
        let scene = Scene::of(&peer, &world);
        let mut exchange = accounts.begin("password", &scene).unwrap();
        let _ = exchange.step(Answers::new(), &scene).await.unwrap();
        let answers = Answers::new().with("username", "ada").with("password", password);
        exchange.step(answers, &scene).await
    };
    // sha256sum and sha1sum of `two`
    for stored in [
        "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3",
        "ad782ecdac770fc6eb9a62e44f90873fb97fb26b",
    ] {
        shared.store.set_password("ada", &Secret::from(stored), false, 0).await.unwrap();
        let driver = |name: Option<&str>| AccountUpdate {
            driver: Some(name.map(str::to_owned)),
            ..AccountUpdate::default()
        };
        shared.store.update_account("ada", &driver(None)).await.unwrap();
        assert!(login("two").await.is_err(), "no scheme, and no word of where it is from");
        shared.store.update_account("ada", &driver(Some("core"))).await.unwrap();
        refused(login("one").await.unwrap(), Reason::WrongCredential, "");
        refused(login(stored).await.unwrap(), Reason::WrongCredential, "");
        assert!(matches!(login("two").await.unwrap(), Step::Grant(_)));
        until(|| shared.rehashing().is_empty()).await;
        assert!(stage.stored().await.to_str().unwrap().starts_with("{ARGON2ID}"));
        assert!(matches!(login("two").await.unwrap(), Step::Grant(_)));
    }
}
