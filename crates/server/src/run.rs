//! Starting, running and stopping a server.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use countersign::{Fault, Pending, PendingLimits, Portal, Reason, World};
use countersign_checkers::pool::{HashPool, PoolOptions, Remember};
use countersign_store::{OpenOptions as StoreOptions, Store};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::admin::Admin;
use crate::config::{Config, ConfigError, LogFormat, LogLevel, LogSection};
use crate::control;
use crate::engine::Engine;
use crate::front::Stopper;
use crate::front::dovecot::handover::Handovers;
use crate::front::socket::{Socket, SocketError, SocketOptions};
use crate::groups::Groups;
use crate::housekeeping;
use crate::listeners::{self, Listener, Next};
use crate::live::{Asked, Live, Reloaded};
use crate::metrics::Metrics;
use crate::minds;
use crate::realm::ServerRealm;
use crate::registry::Kinds;
use crate::sessions::Sessions;
use crate::systemd::{self, Passed};
use crate::telemetry::Telemetry;
use crate::throttle::Throttle;
use crate::world::SystemWorld;

/// How long a stop waits for logins that are under way.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// What the command line says.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// The configuration file, if there is one.
    pub config: Option<PathBuf>,
    /// The data folder.
    pub data: PathBuf,
    /// The HTTP listener, in the place of the configured ones.
    pub http: Option<SocketAddr>,
    /// Who checks logins, as `TYPE[:ARGUMENT]`, in the place of the configured checkers.
    pub auth: Vec<String>,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// A socket cannot be made.
    #[error("{0}")]
    Socket(#[from] SocketError),
    /// The store cannot be opened.
    #[error("{0}")]
    Store(#[from] countersign_store::StoreError),
    /// Something else cannot be opened.
    #[error("{0}")]
    Fault(#[from] Fault),
    /// The operating system refuses something.
    #[error("{what}: {error}")]
    System {
        /// What was being done.
        what: String,
        /// What it said.
        error: std::io::Error,
    },
    /// A reload cannot change this.
    #[error("{what} cannot be changed while the server runs: restart for this")]
    Restart {
        /// What.
        what: &'static str,
    },
    /// Another server has the data folder.
    #[error(
        "another server runs on the data folder {data}; stop that one, or give this one another \
         folder (`--data`)"
    )]
    Running {
        /// The folder.
        data: PathBuf,
    },
}

/// Runs a server until it is told to stop (SIGTERM, SIGINT). Blocks.
///
/// # Errors
///
/// When it cannot start. Nothing is left listening then.
pub fn run(options: &ServeOptions, registry: &Kinds) -> Result<(), StartError> {
    let config = options.configuration(registry)?;
    log_as(&config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("io")
        .build()
        .map_err(system("cannot start the runtime"))?;
    let ran = runtime.block_on(until_signalled(config, || options.configuration(registry)));
    // A look at a file system that hangs must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ran
}

async fn until_signalled(
    config: Config,
    read: impl Fn() -> Result<Config, ConfigError>,
) -> Result<(), StartError> {
    // Before anything is made: a signal during the start is a stop as well.
    let mut terminate =
        signal(SignalKind::terminate()).map_err(system("cannot listen for SIGTERM"))?;
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(system("cannot listen for SIGINT"))?;
    let mut rotated =
        signal(SignalKind::user_defined1()).map_err(system("cannot listen for SIGUSR1"))?;
    let mut changed = signal(SignalKind::hangup()).map_err(system("cannot listen for SIGHUP"))?;
    let mut server = Server::start(config).await?;
    let live = Arc::clone(&server.live);
    systemd::ready("ready");
    let signal = loop {
        tokio::select! {
            _ = terminate.recv() => break "SIGTERM",
            _ = interrupt.recv() => break "SIGINT",
            _ = rotated.recv() => housekeeping::reopen(&live.engine).await,
            _ = changed.recv() => drop(reload(&live, &read).await),
            Some(reply) = server.asked.recv() => {
                // Who asked may have gone.
                let _ = reply.send(reload(&live, &read).await);
            }
        }
    };
    tracing::info!("{signal}: stopping");
    systemd::stopping();
    let again = async {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    tokio::select! {
        () = server.stop() => {}
        again = again => tracing::warn!("{again} again: logins under way are given up"),
    }
    Ok(())
}

async fn reload(live: &Live, read: impl Fn() -> Result<Config, ConfigError>) -> Reloaded {
    systemd::reloading();
    // By whoever rotates: it is the same signal for most.
    housekeeping::reopen(&live.engine).await;
    let reloaded = live.reload(read()).await;
    match &reloaded {
        Ok(_) => systemd::ready("ready"),
        Err(_) => systemd::ready("ready; the new configuration was refused, the old one goes on"),
    }
    reloaded
}

impl ServeOptions {
    /// The configuration that they stand for.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is wrong; what is wrong with a string.
    pub fn configuration(&self, registry: &Kinds) -> Result<Config, ConfigError> {
        let mut config = match &self.config {
            Some(path) => Config::load(path, &self.data, registry)?,
            None => Config::without_file(&self.data, registry),
        };
        if let Some(address) = self.http {
            config.listen_http(address);
        }
        if !self.auth.is_empty() {
            config.check_by(&self.auth, registry)?;
        }
        Ok(config)
    }
}

/// A running server. [`Server::stop`] lets logins that are under way come to their end; dropping it does
/// not wait for them.
#[derive(Debug)]
pub struct Server {
    live: Arc<Live>,
    asked: Asked,
    http: Option<SocketAddr>,
    https: Option<SocketAddr>,
    stopper: Stopper,
    ready: Ready,
    _lock: File,
}

impl Server {
    /// Starts a server: its folder is made and locked, the store and every socket opened, and then all is
    /// served, in tasks of the runtime that this is called in.
    ///
    /// # Errors
    ///
    /// When it cannot start. Nothing is left listening then.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_in(SystemWorld::new(), config).await
    }

    /// The same by the clocks of this world.
    ///
    /// # Errors
    ///
    /// As [`Server::start`].
    pub async fn start_in(world: SystemWorld, config: Config) -> Result<Self, StartError> {
        make_folder(&config.data)?;
        make_folder(&config.data.join("run"))?;
        let lock = lock(&config.data)?;
        // A server that was killed left it, and it says what is not so yet.
        let _ = std::fs::remove_file(config.data.join("run/ready"));
        let pool = Arc::new(start_pool(&config)?);
        // Beside the start: opening and trying them takes some milliseconds.
        tokio::task::spawn_blocking(|| {
            tracing::info!(libraries = countersign_checkers::hash::libraries(), "password hashes");
        });
        let store = StoreOptions::create()
            .cache_capacity(config.limits.cached_accounts)
            .stale_after(housekeeping::COPY_IS_TRUE_FOR);
        let store = Store::open(&config.store, store).await?;
        let engine = Arc::new(engine(&config, &store, &pool, world).await?);
        let admin = Admin::new(store.clone(), Arc::clone(&pool), config.recipe(), engine.world);
        let admin = admin.recorded_in(engine.audit.clone()).keeping(config.kept_keys());
        let admin = admin.under(config.pool_rules()?);
        let mut passed = Passed::take().map_err(system("cannot take systemd's sockets"))?;
        let control = SocketOptions {
            path: control::path(&config.data),
            mode: 0o600,
            owner: None,
            group: None,
        };
        let control = Socket::bind(&control)?;
        let handovers = Handovers::default();
        let mut listeners = Vec::new();
        for next in listeners::prepare(&config, &admin, &handovers, &[], &mut passed)? {
            if let Next::Begins(listener) = next {
                listeners.push(listener);
            }
        }
        let first = housekeeping::first_administrator(&admin, &config.data).await?;

        let (stopper, stop) = Stopper::new();
        let address = |tls| {
            let http = listeners.iter().filter(|listener| listener.tls().is_some() == tls);
            http.filter_map(Listener::address).next()
        };
        let (http, https) = (address(false), address(true));
        let ready = Ready::write(&config.data, http, https)?;
        for (name, _) in &config.checkers {
            tracing::info!(checker = name, "asks");
        }
        if let Some(told) = first {
            tracing::info!("{told}");
        }
        for listener in &mut listeners {
            listener.serve(&engine).map_err(system("cannot serve"))?;
        }
        let (live, asked) = Live::new(&config, &engine, &pool, handovers, listeners);
        let keep = Arc::clone(&live.keep);
        tokio::spawn(housekeeping::keep_records(Arc::clone(&engine), keep, stop.clone()));
        tokio::spawn(housekeeping::watch(Arc::clone(&engine), stop.clone()));
        tokio::spawn(minds::attend(Arc::clone(&engine), stop.clone()));
        tokio::spawn(systemd::watchdog(Arc::clone(&engine), stop.clone()));
        tokio::spawn(control::serve(control, Arc::clone(&live), stop));
        tracing::info!(data = %config.data.display(), "ready");
        Ok(Self { live, asked, http, https, stopper, ready, _lock: lock })
    }

    /// Where the first HTTP listener without TLS is, if there is one.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Where the first HTTP listener with TLS is, if there is one.
    pub fn https_address(&self) -> Option<SocketAddr> {
        self.https
    }

    /// Loads the certificates of all listeners anew. One that cannot be used is told in the log, and the old
    /// one goes on. Blocks for as long as the files take.
    pub fn reload_certificates(&self) {
        for tls in self.live.listeners().iter().filter_map(Listener::tls) {
            tls.tell(tls.reload(), self.live.engine.world.now().unix);
        }
    }

    /// What decides its logins.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.live.engine
    }

    /// What runs.
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Stops: nothing more is accepted, logins that are under way are answered (for ten seconds at most),
    /// and the record is on disk.
    pub async fn stop(self) {
        let Self { live, stopper, ready, .. } = self;
        let Live { engine, pool, keep, .. } = &*live;
        drop(ready);
        stopper.stop();
        let stopped = async {
            live.stop().await;
            stopper.stopped().await;
        };
        if tokio::time::timeout(STOP_DEADLINE, stopped).await.is_err() {
            tracing::warn!("some logins were still under way and are given up");
        }
        pool.close();
        engine.give_up(engine.pending.drain(), Reason::Cancelled);
        housekeeping::sync(engine).await;
        housekeeping::flush(engine, keep.load(Ordering::Relaxed)).await;
        engine.telemetry.stop().await;
        engine.store.close().await;
        tracing::info!("stopped");
    }
}

/// Everything that decides logins, from a configuration.
async fn engine(
    config: &Config,
    store: &Store,
    pool: &Arc<HashPool>,
    world: SystemWorld,
) -> Result<Engine, StartError> {
    let throttle = Arc::new(Throttle::new(config.throttle.rules()));
    let telemetry = Telemetry::start(config.telemetry.as_ref(), world);
    let telemetry = telemetry.map_err(ConfigError::general)?;
    let portal = portal_of(config, store, pool, &throttle, &telemetry, world).await?;
    let audit = config.open_audit()?.in_world(world);
    if !audit.is_on() {
        tracing::warn!("the audit record is off: no attempt is recorded");
    }
    let mut node = [0; 2];
    world.fill(&mut node);
    let conversations = config.limits.conversations;
    let per_source = conversations.div_ceil(4);
    let limits = PendingLimits { conversations, per_source, ..PendingLimits::default() };
    Ok(Engine {
        portal: Arc::new(portal).into(),
        throttle,
        store: store.clone(),
        audit,
        metrics: Metrics::new(config.metrics.enabled),
        world,
        pending: Pending::new(u16::from_ne_bytes(node), limits),
        step_deadline: config.limits.step_deadline.0.into(),
        groups: Groups::new(store.clone(), &config.groups),
        sessions: Sessions::new(store.clone()),
        minds: Arc::default(),
        pool: Some(Arc::clone(pool)),
        telemetry,
    })
}

/// The checkers and the realm of a configuration, for an engine that runs.
pub(crate) async fn portal(
    config: &Config,
    engine: &Engine,
    pool: &Arc<HashPool>,
) -> Result<Portal<ServerRealm>, StartError> {
    let Engine { store, throttle, telemetry, world, .. } = engine;
    portal_of(config, store, pool, throttle, telemetry, *world).await
}

async fn portal_of(
    config: &Config,
    store: &Store,
    pool: &Arc<HashPool>,
    throttle: &Arc<Throttle>,
    telemetry: &Telemetry,
    world: SystemWorld,
) -> Result<Portal<ServerRealm>, StartError> {
    let lifetime = i64::try_from(config.sessions.lifetime.0.as_secs()).unwrap_or(i64::MAX);
    let parts = config.parts(Some(store.clone()), Arc::clone(pool), Arc::new(world))?;
    let realm = ServerRealm::new(store.clone(), world, lifetime);
    for (name, why) in &config.dangers {
        tracing::warn!("{name}: {why}");
    }
    let mut checkers = Vec::with_capacity(config.checkers.len());
    for (name, settings) in &config.checkers {
        checkers.push(telemetry.watch(config.build(name, &**settings, &parts).await?));
    }
    let portal = config.portal(realm, checkers)?;
    Ok(portal.guarded_by(Arc::clone(throttle) as _))
}

fn start_pool(config: &Config) -> Result<HashPool, StartError> {
    let default = PoolOptions::default();
    let queue = config.limits.hash_queue.max(1);
    let right_for = config.limits.verified_for.0;
    let remember = Remember {
        entries: config.limits.verified_cache,
        right_for,
        wrong_for: default.remember.wrong_for.min(right_for),
    };
    let options = PoolOptions {
        threads: config.limits.hash_threads.unwrap_or(default.threads),
        queue,
        per_key: queue.div_ceil(4),
        max_age: config.limits.step_deadline.0.mul_f32(0.9),
        remember,
        ..default
    };
    HashPool::start(&options).map_err(system("cannot start the threads that verify hashes"))
}

/// `DIR/run/ready`: says where the server listens, for as long as it does.
#[derive(Debug)]
struct Ready(PathBuf);

impl Ready {
    fn write(
        data: &Path,
        http: Option<SocketAddr>,
        https: Option<SocketAddr>,
    ) -> Result<Self, StartError> {
        let path = data.join("run/ready");
        let [http, https] = [http, https].map(|a| a.map(|address| address.to_string()));
        let pid = std::process::id();
        let text = serde_json::json!({ "pid": pid, "http": http, "https": https });
        let new = data.join("run/ready~");
        let written = std::fs::write(&new, format!("{text}\n"));
        let moved = written.and_then(|()| std::fs::rename(&new, &path));
        moved.map_err(system(&format!("cannot write {}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn make_folder(path: &Path) -> Result<(), StartError> {
    let made = DirBuilder::new().recursive(true).mode(0o750).create(path);
    made.map_err(system(&format!(
        "cannot make the data folder {} (give another with `--data`)",
        path.display()
    )))
}

/// One server a folder. The lock goes with the process, however it ends.
///
/// # Errors
///
/// [`StartError::Running`] when a server has it.
pub fn lock(data: &Path) -> Result<File, StartError> {
    let path = data.join("run/lock");
    let opened =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let mut file = opened.map_err(system(&format!("cannot open {}", path.display())))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            return Err(StartError::Running { data: data.to_owned() });
        }
        Err(std::fs::TryLockError::Error(error)) => {
            return Err(system(&format!("cannot lock {}", path.display()))(error));
        }
    }
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

/// Changes the level of the log, once there is one.
static LEVEL: OnceLock<Box<dyn Fn(LevelFilter) + Send + Sync>> = OnceLock::new();

fn log_as(log: &LogSection) {
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let builder = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_target(false)
        .with_ansi(ansi)
        .with_writer(std::io::stderr);
    let level = level(log.level);
    match log.format {
        LogFormat::Text => log_to(builder.finish(), level),
        LogFormat::Json => log_to(builder.json().finish(), level),
    }
}

fn log_to<S>(subscriber: S, level: LevelFilter)
where
    S: tracing::Subscriber + for<'s> LookupSpan<'s> + Send + Sync + 'static,
{
    let (level, handle) = reload::Layer::new(level);
    // A second server in one process (a test) logs as the first does.
    if subscriber.with(level).try_init().is_ok() {
        let _ = LEVEL.set(Box::new(move |level| drop(handle.reload(level))));
    }
}

/// Logs at this level from now on.
pub(crate) fn log_at(wanted: LogLevel) {
    if let Some(change) = LEVEL.get() {
        change(level(wanted));
    }
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    }
}

pub(crate) fn system(what: &str) -> impl FnOnce(std::io::Error) -> StartError {
    let what = what.to_owned();
    move |error| StartError::System { what, error }
}
