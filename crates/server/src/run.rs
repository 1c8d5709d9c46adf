//! Starting, running and stopping a server.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use countersign::{Fault, Pending, PendingLimits, Reason, World};
use countersign_checkers::pool::{HashPool, PoolOptions, Remember};
use countersign_store::{OpenOptions as StoreOptions, Store};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::Admin;
use crate::config::{Config, ConfigError, LogFormat, LogLevel, LogSection};
use crate::control;
use crate::engine::Engine;
use crate::front::dovecot::handover::Handovers;
use crate::front::dovecot::master::{self, MasterOptions};
use crate::front::http::HttpOptions;
use crate::front::socket::{Socket, SocketError, SocketOptions, user_id};
use crate::front::tls::{self, Tls};
use crate::front::{Stop, Stopper, dovecot, http, saslauthd};
use crate::groups::Groups;
use crate::housekeeping;
use crate::metrics::Metrics;
use crate::minds;
use crate::realm::ServerRealm;
use crate::registry::{Parts, Registry};
use crate::sessions::Sessions;
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
pub fn run(options: &ServeOptions, registry: &Registry) -> Result<(), StartError> {
    let config = options.configuration(registry)?;
    log_as(&config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("io")
        .build()
        .map_err(system("cannot start the runtime"))?;
    let ran = runtime.block_on(until_signalled(config));
    // A look at a file system that hangs must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ran
}

async fn until_signalled(config: Config) -> Result<(), StartError> {
    // Before anything is made: a signal during the start is a stop as well.
    let mut terminate =
        signal(SignalKind::terminate()).map_err(system("cannot listen for SIGTERM"))?;
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(system("cannot listen for SIGINT"))?;
    let mut rotated =
        signal(SignalKind::user_defined1()).map_err(system("cannot listen for SIGUSR1"))?;
    let server = Server::start(config).await?;
    let engine = Arc::clone(server.engine());
    let mut signalled = async || loop {
        tokio::select! {
            _ = terminate.recv() => break "SIGTERM",
            _ = interrupt.recv() => break "SIGINT",
            _ = rotated.recv() => housekeeping::reopen(&engine).await,
        }
    };
    tracing::info!("{}: stopping", signalled().await);
    tokio::select! {
        () = server.stop() => {}
        again = signalled() => tracing::warn!("{again} again: logins under way are given up"),
    }
    Ok(())
}

impl ServeOptions {
    /// The configuration that they stand for.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is wrong.
    pub fn configuration(&self, registry: &Registry) -> Result<Config, ConfigError> {
        let mut config = match &self.config {
            Some(path) => Config::load(path, &self.data, registry)?,
            None => Config::without_file(&self.data, registry),
        };
        if let Some(address) = self.http {
            config.listen_http(address);
        }
        Ok(config)
    }
}

/// A running server. [`Server::stop`] lets logins that are under way come to their end; dropping it does
/// not wait for them.
#[derive(Debug)]
pub struct Server {
    engine: Arc<Engine>,
    pool: Arc<HashPool>,
    http: Option<SocketAddr>,
    https: Option<SocketAddr>,
    certificates: Vec<Arc<Tls>>,
    keep: usize,
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
        let engine = Arc::new(engine(&config, &store, &pool)?);
        let admin = Admin::new(store.clone(), Arc::clone(&pool), config.recipe(), engine.world);
        let admin = admin.recorded_in(engine.audit.clone());
        let listeners = Listeners::bind(&config, &admin).await?;
        let first = housekeeping::first_administrator(&admin, &config.data).await?;

        let (stopper, stop) = Stopper::new();
        let (http, https) = (listeners.http_address(false), listeners.http_address(true));
        let certificates = listeners.certificates();
        let ready = Ready::write(&config.data, http, https)?;
        let keep = config.audit.keep;
        tokio::spawn(housekeeping::keep_records(Arc::clone(&engine), keep, stop.clone()));
        tokio::spawn(housekeeping::watch(Arc::clone(&engine), stop.clone()));
        tokio::spawn(minds::attend(Arc::clone(&engine), stop.clone()));
        tokio::spawn(tls::watch(certificates.clone(), engine.world, stop.clone()));
        for (name, _) in &config.checkers {
            tracing::info!(checker = name, "asks");
        }
        if let Some(told) = first {
            tracing::info!("{told}");
        }
        listeners.serve(&engine, &config, stop);
        Ok(Self { engine, pool, http, https, certificates, keep, stopper, ready, _lock: lock })
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
        for tls in &self.certificates {
            tls.tell(tls.reload(), self.engine.world.now().unix);
        }
    }

    /// What decides its logins.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Stops: nothing more is accepted, logins that are under way are answered (for ten seconds at most),
    /// and the record is on disk.
    pub async fn stop(self) {
        let Self { engine, pool, keep, stopper, ready, .. } = self;
        drop(ready);
        stopper.stop();
        if tokio::time::timeout(STOP_DEADLINE, stopper.stopped()).await.is_err() {
            tracing::warn!("some logins were still under way and are given up");
        }
        pool.close();
        engine.give_up(engine.pending.drain(), Reason::Cancelled);
        housekeeping::sync(&engine).await;
        housekeeping::flush(&engine, keep).await;
        engine.store.close().await;
        tracing::info!("stopped");
    }
}

/// Everything that decides logins, from a configuration.
fn engine(config: &Config, store: &Store, pool: &Arc<HashPool>) -> Result<Engine, StartError> {
    let world = SystemWorld::new();
    let lifetime = i64::try_from(config.sessions.lifetime.0.as_secs()).unwrap_or(i64::MAX);
    let parts = Parts {
        store: store.clone(),
        pool: Arc::clone(pool),
        world: Arc::new(world),
        recipe: config.recipe(),
        passkeys: config.passkeys.clone(),
        issuer: config.accounts.issuer.clone(),
    };
    let realm = ServerRealm::new(store.clone(), world, lifetime);
    let checkers = config.checkers.iter();
    let checkers = checkers.map(|(name, settings)| config.build(name, &**settings, &parts));
    let portal = config.portal(realm, checkers.collect::<Result<Vec<_>, _>>()?)?;
    let throttle = Arc::new(Throttle::new(config.throttle.rules()));
    let portal = portal.guarded_by(throttle.clone());
    let audit = config.open_audit()?;
    if !audit.is_on() {
        tracing::warn!("the audit record is off: no attempt is recorded");
    }
    let mut node = [0; 2];
    world.fill(&mut node);
    let conversations = config.limits.conversations;
    let per_source = conversations.div_ceil(4);
    let limits = PendingLimits { conversations, per_source, ..PendingLimits::default() };
    Ok(Engine {
        portal,
        throttle,
        store: store.clone(),
        audit,
        metrics: Metrics::new(config.metrics.enabled),
        world,
        pending: Pending::new(u16::from_ne_bytes(node), limits),
        step_deadline: config.limits.step_deadline.0,
        groups: Groups::new(store.clone(), &config.groups),
        sessions: Sessions::new(store.clone()),
        minds: Arc::default(),
        pool: Some(Arc::clone(pool)),
    })
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

/// Every socket, bound before anything is served: a server that cannot have one has none.
struct Listeners {
    http: Vec<(TcpListener, HttpOptions)>,
    dovecot: Vec<(Socket, dovecot::DovecotOptions)>,
    dovecot_master: Vec<(Socket, Arc<MasterOptions>)>,
    saslauthd: Vec<(Socket, saslauthd::SaslauthdOptions)>,
    control: Socket,
}

impl Listeners {
    async fn bind(config: &Config, admin: &Admin) -> Result<Self, StartError> {
        let socket = |path: &Path, mode, owner: &Option<String>, group: &Option<String>| {
            Socket::bind(&SocketOptions {
                path: config.data.join(path),
                mode,
                owner: owner.clone(),
                group: group.clone(),
            })
        };
        let control = socket(&control::path(&config.data), 0o600, &None, &None)?;
        let mut listeners = Self {
            http: vec![],
            dovecot: vec![],
            dovecot_master: vec![],
            saslauthd: vec![],
            control,
        };
        let handovers = (!config.dovecot_master.is_empty()).then(Handovers::default);
        for (name, section) in &config.http {
            let bound = TcpListener::bind(section.address).await;
            let listener = bound.map_err(system(&format!(
                "[listen.http.{name}] cannot listen on {} (another program may: give another \
                 address, or `--http 127.0.0.1:0`)",
                section.address
            )))?;
            let options = HttpOptions {
                connections: section.connections.max(1),
                admin: Some(admin.clone()),
                issuer: config.accounts.issuer.clone(),
                #[cfg(feature = "passkeys")]
                passkeys: config.site_passkeys()?,
                return_to: section.return_to.clone(),
                cookie_domain: section.cookie_domain.clone(),
                mail: config.mail(name, section)?,
                theme: config.theme(name, section)?,
                tls: config.tls(name, section)?.map(Arc::new),
                trusted_proxies: section.trusted_proxies.clone(),
                parts: section.parts(),
                basic: section.basic,
                login_page: section.login_page.clone(),
                ..HttpOptions::default()
            };
            listeners.http.push((listener, options));
        }
        for section in config.dovecot.values() {
            let bound = socket(&section.path, section.mode.0, &section.owner, &section.group)?;
            let options = dovecot::DovecotOptions {
                on_fault: section.on_fault,
                trust_client_certificates: section.trust_client_certificates,
                connections: section.connections.max(1),
                pending: section.pending.max(1),
                handovers: handovers.clone(),
                ..dovecot::DovecotOptions::default()
            };
            listeners.dovecot.push((bound, options));
        }
        for (name, section) in &config.dovecot_master {
            let owners = section.owners.iter().map(|owner| user_id(owner));
            let owners = owners.collect::<Result<_, _>>().map_err(|why| {
                Fault::unavailable(format!("[listen.dovecot-master.{name}] owners: {why}"))
            })?;
            let bound = socket(&section.path, section.mode.0, &section.owner, &section.group)?;
            let options = MasterOptions {
                userdb: section.fields.clone(),
                owners,
                handovers: handovers.clone().unwrap_or_default(),
                connections: section.connections.max(1),
                patience: Duration::from_secs(60),
            };
            listeners.dovecot_master.push((bound, Arc::new(options)));
        }
        for section in config.saslauthd.values() {
            let bound = socket(&section.path, section.mode.0, &section.owner, &section.group)?;
            let options = saslauthd::SaslauthdOptions {
                connections: section.connections.max(1),
                ..saslauthd::SaslauthdOptions::default()
            };
            listeners.saslauthd.push((bound, options));
        }
        Ok(listeners)
    }

    /// The first HTTP listener with TLS, or without.
    fn http_address(&self, tls: bool) -> Option<SocketAddr> {
        let first = self.http.iter().find(|(_, options)| options.tls.is_some() == tls);
        first.and_then(|(listener, _)| listener.local_addr().ok())
    }

    fn certificates(&self) -> Vec<Arc<Tls>> {
        self.http.iter().filter_map(|(_, options)| options.tls.clone()).collect()
    }

    fn serve(self, engine: &Arc<Engine>, config: &Config, stop: Stop) {
        tokio::spawn(control::serve(self.control, Arc::clone(engine), stop.clone()));
        for (listener, options) in self.http {
            if let Ok(address) = listener.local_addr() {
                let scheme = if options.tls.is_some() { "https" } else { "http" };
                tracing::info!("{scheme}://{address}");
                match options.tls.as_ref().map(|tls| tls.validity(engine.world.now().unix)) {
                    Some(Ok(said)) => tracing::info!("{said}"),
                    Some(Err(said)) => tracing::warn!("{said}"),
                    None => {}
                }
                if options.tls.is_none() && !address.ip().to_canonical().is_loopback() {
                    tracing::warn!(
                        "http://{address} has no TLS: passwords that come from other machines cross \
                         the network in clear text; give it `tls = {{ certificate, key }}`, or listen on loopback, \
                         behind a proxy with TLS"
                    );
                }
            }
            tokio::spawn(http::serve(listener, Arc::clone(engine), options, stop.clone()));
        }
        for (socket, options) in self.dovecot {
            tracing::info!(path = %socket.path().display(), "dovecot");
            tokio::spawn(dovecot::serve(socket, Arc::clone(engine), options, stop.clone()));
        }
        for (socket, options) in self.dovecot_master {
            tracing::info!(path = %socket.path().display(), "dovecot-master");
            tokio::spawn(master::serve(socket, Arc::clone(engine), options, stop.clone()));
        }
        for (socket, options) in self.saslauthd {
            tracing::info!(path = %socket.path().display(), "saslauthd");
            let (engine, stop) = (Arc::clone(engine), stop.clone());
            tokio::spawn(async move {
                if let Err(error) = saslauthd::serve(socket, engine, options, stop).await {
                    tracing::error!(%error, "a saslauthd socket is not served any more");
                }
            });
        }
        tracing::info!(data = %config.data.display(), "ready");
    }
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

fn log_as(log: &LogSection) {
    use tracing_subscriber::filter::LevelFilter;
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(ansi)
        .with_writer(std::io::stderr);
    // A second server in one process (a test) logs as the first does.
    let _ = match log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

fn system(what: &str) -> impl FnOnce(std::io::Error) -> StartError {
    let what = what.to_owned();
    move |error| StartError::System { what, error }
}
