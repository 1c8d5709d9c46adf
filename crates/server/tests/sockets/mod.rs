//! A server for tests of the socket front ends: an engine over users that need no hash, a gate that holds a
//! login for as long as a test likes, and every socket in a temporary folder.
#![allow(dead_code)] // each test file uses its part

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use countersign::{
    Denial, Directory, Fault, Identity, Password, PasswordStore, Pending, PendingLimits, Portal,
    Reason, Secret, TextStore, Verdict, Verified,
};
use countersign_sasl::{Decoys, External, Login, Plain, ScramHash, Stored};
use countersign_server::audit::{Audit, OnFailure};
use countersign_server::engine::Engine;
use countersign_server::front::socket::{Socket, SocketOptions};
use countersign_server::front::{Stop, Stopper};
use countersign_server::groups::{Groups, GroupsSection};
use countersign_server::metrics::Metrics;
use countersign_server::realm::ServerRealm;
use countersign_server::sessions::Sessions;
use countersign_server::world::SystemWorld;
use countersign_store::{OpenOptions, Store};
use tokio::sync::Semaphore;

/// How long a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An engine, and the folder with its files.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) engine: Arc<Engine>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) stopper: Stopper,
    stop: Option<Stop>,
}

/// Where the user `slow` waits within the checker.
#[derive(Debug)]
pub(crate) struct Gate {
    reached: Semaphore,
    open: Semaphore,
}

impl Gate {
    /// Waits until so many logins are at the gate.
    pub(crate) async fn reached(&self, logins: u32) {
        let reached = tokio::time::timeout(PATIENCE, self.reached.acquire_many(logins)).await;
        reached.expect("nobody came to the gate").unwrap().forget();
    }

    /// Lets so many through, now or when they come.
    pub(crate) fn open(&self, logins: usize) {
        self.open.add_permits(logins);
    }
}

impl Place {
    pub(crate) async fn new() -> Self {
        Self::with(PATIENCE, None).await
    }

    /// With another deadline of steps, and another audit than the file of the folder.
    pub(crate) async fn with(step_deadline: Duration, audit: Option<Audit>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("accounts.db"), OpenOptions::create());
        let store = store.await.unwrap();
        let world = SystemWorld::new();
        let gate = Arc::new(Gate { reached: Semaphore::new(0), open: Semaphore::new(0) });
        let users = Arc::new(Users(Arc::clone(&gate)));
        let decoys = Decoys::new(Secret::from("a key"));
        let readable = Stored::shared("readable", Arc::clone(&users), Arc::new(decoys));
        let readable = readable.by_cram_md5().by_derived_scram(ScramHash::ALL);
        let portal = Portal::new(ServerRealm::new(store.clone(), world, 3600))
            .checked_by(Password::new("mem", Users(Arc::clone(&gate))))
            .checked_by(External::new("certificates", Arc::clone(&users)))
            .checked_by(readable)
            .carried_by(Plain)
            .carried_by(Login);
        let open = || Audit::open(&folder.path().join("audit.jsonl"), OnFailure::Refuse).unwrap();
        let engine = Engine {
            throttle: Arc::new(countersign_server::throttle::Throttle::new(Default::default())),
            portal: Arc::new(portal).into(),
            groups: Groups::new(store.clone(), &GroupsSection::default()),
            sessions: Sessions::new(store.clone()),
            minds: Arc::default(),
            pool: None,
            telemetry: Default::default(),
            store,
            audit: audit.unwrap_or_else(open),
            metrics: Metrics::new(true),
            world,
            pending: Pending::new(1, PendingLimits::default()),
            step_deadline: step_deadline.into(),
        };
        let (stopper, stop) = Stopper::new();
        Self { folder, engine: Arc::new(engine), gate, stopper, stop: Some(stop) }
    }

    pub(crate) fn socket(&self) -> Socket {
        let options = SocketOptions { path: self.path(), mode: 0o600, owner: None, group: None };
        Socket::bind(&options).unwrap()
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    /// For the one front end of the test, so that a stop waits for nothing else.
    pub(crate) fn take_stop(&mut self) -> Stop {
        self.stop.take().unwrap()
    }

    /// Asks for a stop, and waits until the front end and all its connections have ended.
    pub(crate) async fn stop(&self) {
        self.stopper.stop();
        tokio::time::timeout(PATIENCE, self.stopper.stopped()).await.expect("it does not stop");
    }

    /// The audit file, a value a line.
    pub(crate) fn audit(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.folder.path().join("audit.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits for the next records, beyond those known: so many, and not one more.
    pub(crate) async fn records(&self, count: usize) -> Vec<serde_json::Value> {
        eventually(|| self.audit().len() >= count).await;
        let records = self.audit();
        assert_eq!(records.len(), count, "{records:#?}");
        records
    }

    /// How many connections are open, by the server's own count.
    pub(crate) fn connections(&self) -> i64 {
        self.engine.metrics.connections.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// Whose password is `countess`.
struct Users(Arc<Gate>);

impl TextStore for Users {
    async fn password_text(&self, login: &str) -> Result<Option<Secret>, Fault> {
        Ok((login == "ada").then(|| Secret::from("countess")))
    }
}

impl PasswordStore for Users {
    async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
        let not = |reason| Ok(Verdict::Not(Denial::new(reason).because("not for the peer")));
        let mut name = login;
        match login {
            "broken" => return Err(Fault::unavailable("the backend of this test is away")),
            "panics" => panic!("this test wants it"),
            "never" => std::future::pending().await,
            "slow" => {
                self.0.reached.add_permits(1);
                self.0.open.acquire().await.unwrap().forget();
            }
            "changer" => return not(Reason::ChangeNeeded),
            "hasty" => return not(Reason::TooMany),
            "disabled" => return not(Reason::Disabled),
            "expired" => return not(Reason::Expired),
            "forbidden" => return not(Reason::NotAllowed),
            "renamed" => name = "ada\nOK\t9\tuser=root",
            "ada" | "ada@example.org" | "other" => {}
            _ => return Ok(Verdict::UNKNOWN),
        }
        if *password != Secret::from("countess") {
            return Ok(Verdict::WRONG);
        }
        Ok(Verdict::Is(Verified::vouch(Identity::named(name))))
    }
}

impl Directory for Users {
    async fn find(&self, login: &str) -> Result<Verdict, Fault> {
        Ok(match login {
            "ada" => Verdict::Is(Verified::vouch(Identity::named(login))),
            _ => Verdict::UNKNOWN,
        })
    }
}

/// Waits until something is so that nothing announces.
pub(crate) async fn eventually(mut so: impl FnMut() -> bool) {
    let waiting = async {
        while !so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it never was so");
}
