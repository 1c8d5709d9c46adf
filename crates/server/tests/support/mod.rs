//! A server for tests: an engine over a store in a temporary folder, and users that need no hash.
#![allow(dead_code)] // each test file uses its part

pub(crate) mod browser;
pub(crate) mod http;
pub(crate) mod schema;
pub(crate) mod whole;

use std::sync::Arc;
use std::time::Duration;

use countersign::{
    Checker, CredentialKind, Decision, Denial, Fault, Feedback, Identity, KindSet, Mechanism,
    Password, PasswordStore, Pending, PendingLimits, Policy, Portal, Question, Reason, Round,
    Scene, Secret, Text, Verdict, Verified,
};
use countersign_checkers::accounts::Accounts;
use countersign_checkers::hash::Recipe;
use countersign_checkers::pool::{HashPool, PoolOptions};
use countersign_server::admin::Admin;
use countersign_server::audit::{Audit, OnFailure};
use countersign_server::engine::Engine;
use countersign_server::groups::{Groups, GroupsSection};
use countersign_server::metrics::Metrics;
use countersign_server::realm::ServerRealm;
use countersign_server::sessions::Sessions;
use countersign_server::throttle::{Throttle, ThrottleRules};
use countersign_server::world::SystemWorld;
use countersign_store::{Group, NewAccount, OpenOptions, Store};
use tokio::sync::Notify;

/// How long a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An engine, and the folder with its files.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) engine: Arc<Engine>,
    pub(crate) admin: Admin,
    pub(crate) gate: Arc<Gate>,
}

/// Where the user `slow` waits within the checker.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    pub(crate) reached: Notify,
    pub(crate) open: Notify,
}

/// What a test wants other than usual.
pub(crate) struct Wishes {
    pub(crate) audit: Option<Audit>,
    pub(crate) pending: PendingLimits,
    pub(crate) node: u16,
    /// Whether guesses are counted and slowed down.
    pub(crate) throttled: bool,
    /// The checkers; absent: users by password, and two steps for who names them.
    pub(crate) portal: Option<fn(Portal<ServerRealm>) -> Portal<ServerRealm>>,
    /// Whether the accounts of the store are the checker.
    pub(crate) accounts: bool,
    /// The policy of the portal; absent: what the checkers say.
    pub(crate) policy: Option<Policy>,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            audit: None,
            pending: PendingLimits::default(),
            node: 1,
            throttled: false,
            portal: None,
            accounts: false,
            policy: None,
        }
    }
}

type MakeChecker<'a> = Box<dyn FnOnce(&Store) -> Arc<dyn Checker> + 'a>;

impl Place {
    pub(crate) async fn new() -> Self {
        Self::with(Wishes::default()).await
    }

    /// Accounts: `ada`, and `root`, who is an administrator. Everybody's password is `countess`.
    pub(crate) async fn with(wishes: Wishes) -> Self {
        Self::made(wishes, None).await
    }

    /// The same, with one more checker over the store.
    pub(crate) async fn with_checker(
        wishes: Wishes,
        checker: impl FnOnce(&Store) -> Arc<dyn Checker>,
    ) -> Self {
        Self::made(wishes, Some(Box::new(checker))).await
    }

    async fn made(wishes: Wishes, more: Option<MakeChecker<'_>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("accounts.db"), OpenOptions::create());
        let store = store.await.unwrap();
        let group = |name: &str| Group { name: name.into(), gid: None, description: String::new() };
        store.add_group(&group("administrators")).await.unwrap();
        store.add_group(&group("staff")).await.unwrap();
        store.add_account(&NewAccount::new("ada"), 0).await.unwrap();
        let mut root = NewAccount::new("root");
        root.groups.push(("administrators".to_owned(), false));
        store.add_account(&root, 0).await.unwrap();

        let world = SystemWorld::new();
        let gate = Arc::new(Gate::default());
        let portal = Portal::new(ServerRealm::new(store.clone(), world, 3600));
        let hasher = Arc::new(HashPool::start(&PoolOptions::default()).unwrap());
        let recipe = Recipe::Argon2id { memory_kib: 8, passes: 1, lanes: 1 };
        let portal = match wishes.portal {
            Some(checkers) => checkers(portal),
            None if wishes.accounts => {
                let (store, pool) = (store.clone(), Arc::clone(&hasher));
                let name = "accounts.main";
                portal
                    .checked_by(Accounts::new(name, store, pool, Arc::new(world), recipe).unwrap())
            }
            None => portal
                .checked_by(Password::new("mem", Users(Arc::clone(&gate))))
                .checked_by(TwoSteps::default()),
        };
        let portal = match more {
            Some(more) => portal.checked_by_shared(more(&store)),
            None => portal,
        };
        let portal = match wishes.policy {
            Some(policy) => portal.under(policy),
            None => portal,
        };
        let throttle = Arc::new(Throttle::new(ThrottleRules::default()));
        let portal = match wishes.throttled {
            true => portal.guarded_by(throttle.clone()),
            false => portal,
        };
        let opened = || Audit::open(&folder.path().join("audit.jsonl"), OnFailure::Refuse).unwrap();
        let mut metrics = Metrics::default();
        metrics.enabled = true;
        let engine = Engine {
            throttle,
            portal: Arc::new(portal).into(),
            store: store.clone(),
            audit: wishes.audit.unwrap_or_else(opened),
            metrics,
            world,
            pending: Pending::new(wishes.node, wishes.pending),
            step_deadline: PATIENCE.into(),
            groups: Groups::new(store.clone(), &GroupsSection::default()),
            sessions: Sessions::new(store.clone()),
            minds: Arc::default(),
            pool: None,
            telemetry: Default::default(),
        };
        let mut admin = Admin::new(store, hasher, recipe, world);
        if wishes.accounts {
            admin = admin.recorded_in(engine.audit.clone());
        }
        Self { folder, engine: Arc::new(engine), admin, gate }
    }

    /// The audit file, a value a line.
    pub(crate) fn audit(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.folder.path().join("audit.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Everybody whose name is in the list, with the password `countess`.
pub(crate) struct Users(pub(crate) Arc<Gate>);

impl PasswordStore for Users {
    async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
        match login {
            "broken" => return Err(Fault::unavailable("the backend of this test is away")),
            "slow" => {
                self.0.reached.notify_one();
                self.0.open.notified().await;
            }
            "changer" => return Ok(Verdict::Not(Denial::new(Reason::ChangeNeeded))),
            "hasty" => {
                let denial = Denial::new(Reason::TooMany).retry_after(Duration::from_millis(1500));
                return Ok(Verdict::Not(denial));
            }
            "ada" | "root" => {}
            _ => return Ok(Verdict::UNKNOWN),
        }
        if *password != Secret::from("countess") {
            return Ok(Verdict::WRONG);
        }
        let mut identity = Identity::named(login).in_group("staff", false).labelled("test");
        if login == "root" {
            identity = identity.in_group("administrators", true);
        }
        Ok(Verdict::Is(Verified::vouch(identity)))
    }
}

/// Asks for a name, and then up to three times for the code `4711`.
struct TwoSteps([Mechanism; 1]);

impl Default for TwoSteps {
    fn default() -> Self {
        // With tokens among what it asks, it is offered to those only that name it.
        let asks = [CredentialKind::AuthName, CredentialKind::Otp, CredentialKind::Token];
        let asks = asks.into_iter().collect::<KindSet>();
        Self([Mechanism { name: "two-steps".into(), asks, needs: &[], plaintext: true }])
    }
}

impl Checker for TwoSteps {
    fn name(&self) -> &str {
        "two-steps"
    }

    fn mechanisms(&self) -> &[Mechanism] {
        &self.0
    }

    fn begin(&self, _: &str, _: &Scene<'_>) -> Result<countersign::BoxExchange, Fault> {
        let exchange = countersign::script(|peer| async move {
            let name = peer.ask(Round::of([Question::username()])).await;
            let name = name.text("username").unwrap_or_default().to_owned();
            let mut round = Round::of([Question::otp()]);
            round.instruction = Some(Text::verbatim("Look at your device"));
            loop {
                let code = peer.ask(round.clone()).await;
                if code.text("otp") == Some("4711") {
                    return Ok(Decision::Grant(Verified::vouch(Identity::named(name))));
                }
                let text = Text::message("feedback.otp", "That code is wrong");
                let question = Some("otp".into());
                round.feedback = Some(Feedback { question, text, tries_left: None });
            }
        });
        Ok(countersign::BoxExchange::new(exchange))
    }
}

/// Waits until something is so that nothing announces.
pub(crate) async fn eventually<F: Future<Output = bool>>(mut so: impl FnMut() -> F) {
    let waiting = async {
        while !so().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it never was so");
}
