//! What every test needs: a pool, a peer, and a conversation from its beginning to its end.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use countersign::{
    Answers, Ask, Bounds, BoxExchange, Checker, Conversation, Denial, Exchange, Fault, Halt,
    Identity, KindSet, Peer, Reason, Reply, Scene, Secret, Step, Verified, World,
};
use countersign_checkers::accounts::Accounts;
use countersign_checkers::hash::{Hash, Recipe};
use countersign_checkers::pool::{HashPool, PoolOptions};
use countersign_store::{CredentialType, NewAccount, NewCredential, OpenOptions, Store};
use countersign_testkit::OwnedWorld;

pub(crate) const NOW: i64 = 1_800_000_000;
/// Nothing here takes a second; a machine that is busy may.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// argon2id, and as good as free.
pub(crate) const RECIPE: Recipe = Recipe::Argon2id { memory_kib: 8, passes: 1, lanes: 1 };

pub(crate) fn hash(recipe: Recipe, password: &str) -> String {
    Hash::create(&recipe, &Secret::from(password), [7; 16]).unwrap().expose_text()
}

pub(crate) fn pool() -> Arc<HashPool> {
    pool_with_room_for(300)
}

/// With room for none, whatever needs a slow hash is told that the pool is full.
pub(crate) fn pool_with_room_for(queue: usize) -> Arc<HashPool> {
    let options = PoolOptions { threads: NonZeroUsize::MIN, queue, ..PoolOptions::default() };
    Arc::new(HashPool::start(&options).unwrap())
}

pub(crate) fn login(user: &str, password: &str) -> Answers {
    Answers::new().with("username", user.to_owned()).with("password", password.to_owned())
}

pub(crate) fn anybody() -> Peer {
    Peer::new("imap", KindSet::all())
}

/// A conversation under way.
pub(crate) struct Talk<'a> {
    conversation: Conversation,
    world: &'a OwnedWorld,
    pub(crate) reply: Reply,
}

impl<'a> Talk<'a> {
    pub(crate) async fn with(
        checker: &dyn Checker,
        mechanism: &str,
        peer: Peer,
        world: &'a OwnedWorld,
    ) -> Self {
        let exchange = {
            let scene = Scene::of(&peer, world);
            checker.begin(mechanism, &scene).unwrap()
        };
        Self::over(exchange, peer, world).await
    }

    /// A further factor, after one that has proven this name.
    pub(crate) async fn after(
        name: &str,
        checker: &dyn Checker,
        mechanism: &str,
        world: &'a OwnedWorld,
    ) -> Self {
        let exchange = {
            let peer = anybody();
            checker.begin(mechanism, &Scene::of(&peer, world)).unwrap()
        };
        let proven = vec![Verified::vouch(Identity::named(name))];
        Self::over(BoxExchange::new(After { exchange, proven }), anybody(), world).await
    }

    pub(crate) async fn over(exchange: BoxExchange, peer: Peer, world: &'a OwnedWorld) -> Self {
        let begun = Conversation::begin(exchange, Arc::new(peer), None, &Bounds::CONNECTION, world);
        let (conversation, reply) = begun.await.unwrap();
        Self { conversation, world, reply }
    }

    pub(crate) async fn say(&mut self, answers: Answers) -> Result<&Reply, Fault> {
        let number = self.conversation.open().expect("a round is open").number;
        let answering = self.conversation.answer(number, answers, self.world);
        let answered = tokio::time::timeout(DEADLINE, answering).await.expect("in time");
        self.reply = answered.map_err(|halt| match halt {
            Halt::Fault(fault) => fault,
            Halt::Misuse(misuse) => panic!("{misuse}"),
        })?;
        Ok(&self.reply)
    }
}

/// An exchange that begins with what others have proven.
pub(crate) struct After {
    pub(crate) exchange: BoxExchange,
    pub(crate) proven: Vec<Verified<Identity>>,
}

impl Exchange for After {
    async fn step(&mut self, answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        let scene = Scene { proven: &self.proven, ..*scene };
        self.exchange.step(answers, &scene).await
    }
}

/// The ends of a conversation, for tests that expect one.
pub(crate) trait End {
    fn granted(&self) -> &Verified<Identity>;
    fn denied(&self) -> &Denial;
    fn asked(&self) -> &Ask;
}

impl End for Reply {
    #[track_caller]
    fn granted(&self) -> &Verified<Identity> {
        let Self::Granted(who) = self else { panic!("{self:?}") };
        who
    }

    #[track_caller]
    fn denied(&self) -> &Denial {
        let Self::Denied(denial) = self else { panic!("{self:?}") };
        denial
    }

    #[track_caller]
    fn asked(&self) -> &Ask {
        let Self::Ask(ask) = self else { panic!("{self:?}") };
        ask
    }
}

/// A store with accounts, and the checker over it.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) pool: Arc<HashPool>,
    pub(crate) world: Arc<OwnedWorld>,
    pub(crate) accounts: Accounts,
}

impl Place {
    pub(crate) async fn new() -> Self {
        Self::with(pool(), RECIPE).await
    }

    pub(crate) async fn with(pool: Arc<HashPool>, recipe: Recipe) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = OpenOptions::create().deadline(DEADLINE);
        let store = Store::open(folder.path().join("accounts.db"), options).await.unwrap();
        let world = Arc::new(OwnedWorld::default());
        world.set_unix(NOW);
        let outside: Arc<dyn World> = world.clone();
        let accounts =
            Accounts::new("accounts", store.clone(), Arc::clone(&pool), outside, recipe).unwrap();
        Self { folder, store, pool, world, accounts }
    }

    /// Adds an account, changed as the test wants it.
    pub(crate) async fn add(
        &self,
        name: &str,
        hashes: &[&str],
        change: impl FnOnce(&mut NewAccount),
    ) {
        let mut new = NewAccount::new(name);
        new.credentials = hashes.iter().map(|hash| password(hash)).collect();
        change(&mut new);
        self.store.add_account(&new, NOW).await.unwrap();
    }

    /// The reply to a name and a password, and how many slow hashes it took.
    pub(crate) async fn login(&self, user: &str, password: &str) -> (Result<Reply, Fault>, u64) {
        let before = self.pool.computed();
        let mut talk = Talk::with(&self.accounts, "password", anybody(), &self.world).await;
        let said = talk.say(login(user, password)).await.cloned();
        (said, self.pool.computed() - before)
    }

    #[track_caller]
    pub(crate) fn expect_denied(&self, reply: &Reply, reason: Reason, user: &str) {
        let denial = reply.denied();
        assert_eq!((denial.reason, denial.claimed.as_deref()), (reason, Some(user)), "{denial}");
    }
}

pub(crate) fn password(hash: &str) -> NewCredential {
    NewCredential::new(CredentialType::Password, Secret::from(hash))
}
