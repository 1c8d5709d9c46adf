//! The data folder, the store in it, and whoever runs a server on it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use countersign_checkers::pool::{HashPool, PoolOptions};
use countersign_server::admin::Admin;
use countersign_server::config::Config;
use countersign_server::control::{self, Told};
use countersign_server::paths;
use countersign_server::world::SystemWorld;
use countersign_store::{OpenOptions, Store, StoreError};
use tokio::runtime::Runtime;

use crate::args::PlaceArgs;
use crate::failure::Failure;

/// A data folder, with the configuration that says what is where in it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) config: Config,
}

impl Place {
    pub(crate) fn of(args: &PlaceArgs) -> Result<Self, Failure> {
        let data = data(args.data.as_deref())?;
        let registry = crate::kinds();
        let config = match &args.config {
            Some(path) => Config::load(path, &data, &registry)?,
            None => Config::without_file(&data, &registry),
        };
        Ok(Self { config })
    }

    /// The store, which must be there.
    pub(crate) async fn store(&self) -> Result<Store, Failure> {
        // One look at a few accounts: no use for a copy in memory or many readers.
        let options = OpenOptions::default().cache_capacity(0).readers(1);
        Ok(Store::open(&self.config.store, options).await?)
    }

    /// The store, or nothing where no server has made one yet.
    pub(crate) async fn store_if_made(&self) -> Result<Option<Store>, Failure> {
        let options = OpenOptions::default().cache_capacity(0).readers(1);
        match Store::open(&self.config.store, options).await {
            Ok(store) => Ok(Some(store)),
            Err(StoreError::Missing { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// An administrator at work on the store, in the name of this process's user.
    pub(crate) async fn admin(&self) -> Result<Admin, Failure> {
        let store = self.store().await?;
        let actor = format!("command line, uid {}", rustix::process::getuid().as_raw());
        let mut audit = self.config.open_existing_audit()?;
        // Moved away a moment ago, perhaps, and the server has not looked yet.
        if !audit.is_on()
            && self.config.audit.enabled
            && let Told::Done(_) = control::reopen(&self.config.data)
        {
            audit = self.config.open_existing_audit()?;
        }
        let admin = Admin::new(store, hasher()?, self.config.recipe(), SystemWorld::new());
        let admin = admin.keeping(self.config.kept_keys()).under(self.config.pool_rules()?);
        Ok(admin.by(actor).recorded_in(audit))
    }

    /// Tells the server that runs on this folder, if one does, that something has changed.
    pub(crate) fn tell(&self) {
        match control::refresh(&self.config.data) {
            Told::Done(_) | Told::NoServer => {}
            Told::Refused(why) => {
                eprintln!("warning: the running server did not take the change in: {why}")
            }
            Told::Not(error) => eprintln!(
                "warning: the running server could not be told ({error}); it notices by itself within a \
                 second"
            ),
        }
    }
}

/// A thread for one password at a time.
pub(crate) fn hasher() -> Result<Arc<HashPool>, Failure> {
    let options = PoolOptions {
        threads: std::num::NonZeroUsize::MIN,
        // Somebody waits for this one, and for nothing else.
        niceness: 0,
        ..PoolOptions::default()
    };
    let pool = HashPool::start(&options);
    pool.map(Arc::new).map_err(|error| Failure::broken(format!("cannot start a thread: {error}")))
}

/// The data folder that was named, or the platform's.
pub(crate) fn data(named: Option<&Path>) -> Result<PathBuf, Failure> {
    match named {
        Some(folder) => Ok(folder.to_owned()),
        None => paths::default_data().ok_or_else(|| {
            Failure::usage("this user has no home folder: name the data folder with --data DIR")
        }),
    }
}

/// Runs an asynchronous part of a command. All parts are run by one runtime: a connection to a database
/// belongs to the runtime that made it, and dies with it.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = match RUNTIME.get() {
        Some(runtime) => runtime,
        None => {
            let made = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let broken = |error| Failure::broken(format!("cannot start: {error}"));
            let made = made.map_err(broken)?;
            RUNTIME.get_or_init(|| made)
        }
    };
    runtime.block_on(work)
}
