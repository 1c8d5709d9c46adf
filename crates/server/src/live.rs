//! What runs: the parts of a server that its control socket tells about, and that a reload changes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use countersign::World;
use countersign_checkers::pool::HashPool;
use tokio::sync::{mpsc, oneshot};

use crate::admin::{Admin, When};
use crate::audit::{Act, Audit};
use crate::config::{Config, ConfigError};
use crate::engine::Engine;
use crate::front::dovecot::handover::Handovers;
use crate::listeners::{self, Listener, Next};
use crate::run::{StartError, log_at, portal};
use crate::status::ReloadStatus;
use crate::systemd::Passed;

/// The parts of a running server.
#[derive(Debug)]
pub struct Live {
    /// What decides logins.
    pub engine: Arc<Engine>,
    /// Where slow hashes are verified.
    pub pool: Arc<HashPool>,
    /// What mail servers hand over, from one listener to another.
    handovers: Handovers,
    listeners: Mutex<Vec<Listener>>,
    /// The configuration that holds, a section a line.
    sections: Mutex<Sections>,
    location: String,
    reloaded: Mutex<Option<ReloadStatus>>,
    /// How many audit records the store keeps.
    pub(crate) keep: Arc<AtomicUsize>,
    asked: mpsc::Sender<oneshot::Sender<Reloaded>>,
    /// One reload at a time.
    changing: tokio::sync::Mutex<()>,
}

/// What became of a reload: what changed, or why nothing did.
pub type Reloaded = Result<Vec<String>, String>;

/// Who asked for the configuration to be read anew.
pub type Asked = mpsc::Receiver<oneshot::Sender<Reloaded>>;

/// The sections of a configuration by name, each as text that differs when it does.
type Sections = Vec<(&'static str, String, Change)>;

/// What it takes to change a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Reload,
    Restart,
}

impl Live {
    /// A server that is about to serve. Beside it comes who asks for a reload.
    pub(crate) fn new(
        config: &Config,
        engine: &Arc<Engine>,
        pool: &Arc<HashPool>,
        handovers: Handovers,
        listeners: Vec<Listener>,
    ) -> (Arc<Self>, Asked) {
        let (asked, asking) = mpsc::channel(4);
        let live = Self {
            engine: Arc::clone(engine),
            pool: Arc::clone(pool),
            handovers,
            listeners: Mutex::new(listeners),
            sections: Mutex::new(sections(config)),
            location: config.store.to_string(),
            reloaded: Mutex::new(None),
            keep: Arc::new(AtomicUsize::new(config.audit.keep)),
            asked,
            changing: tokio::sync::Mutex::new(()),
        };
        (Arc::new(live), asking)
    }

    pub(crate) fn listeners(&self) -> MutexGuard<'_, Vec<Listener>> {
        lock(&self.listeners)
    }

    pub(crate) fn store_location(&self) -> String {
        self.location.clone()
    }

    pub(crate) fn reloaded(&self) -> Option<ReloadStatus> {
        lock(&self.reloaded).clone()
    }

    /// Has the configuration read anew by whoever reads it, and says what became of that.
    pub(crate) async fn ask_for_reload(&self) -> Reloaded {
        let nobody = || "this server does not read its configuration anew".to_owned();
        let (reply, answer) = oneshot::channel();
        self.asked.send(reply).await.map_err(|_| nobody())?;
        answer.await.map_err(|_| nobody())?
    }

    /// Goes over to a configuration. Logins under way go on with what they began with, sessions stay, and a
    /// listener that is configured as before is not touched. `read`: the configuration, or why it cannot be.
    ///
    /// # Errors
    ///
    /// What is wrong. Everything is then as it was.
    pub async fn reload(&self, read: Result<Config, ConfigError>) -> Reloaded {
        let _one = self.changing.lock().await;
        let changed = match read {
            Ok(config) => self.go_over(&config).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let at = When(self.engine.world.now().unix);
        let (told, error) = match &changed {
            Ok(changed) => (changed.clone(), None),
            Err(error) => (Vec::new(), Some(error.clone())),
        };
        match &error {
            None => tracing::info!(changed = told.join(", "), "the configuration was read anew"),
            Some(error) => tracing::error!("the new configuration is not used: {error}"),
        }
        let detail = match &error {
            None => format!("changed: {}", told.join(", ")),
            Some(error) => format!("refused: {}", error.lines().next().unwrap_or_default()),
        };
        let act = Act { actor: "server", act: "reload", target: "", detail: &detail };
        if let Err(fault) = self.engine.audit.act(&act) {
            tracing::error!(%fault, "the reload is in no record");
        }
        *lock(&self.reloaded) = Some(ReloadStatus { at, changed: told, error });
        changed
    }

    async fn go_over(&self, config: &Config) -> Result<Vec<String>, StartError> {
        let engine = &self.engine;
        let new = sections(config);
        let differ = differing(&lock(&self.sections), &new)?;
        let portal = portal(config, engine, &self.pool).await?;
        let admin =
            Admin::new(engine.store.clone(), Arc::clone(&self.pool), config.recipe(), engine.world);
        let admin = admin.recorded_in(engine.audit.clone()).keeping(config.kept_keys());
        let admin = admin.under(config.pool_rules()?);
        // Nobody else takes listeners away meanwhile: one reload at a time.
        let held = std::mem::take(&mut *self.listeners());
        let next =
            listeners::prepare(config, &admin, &self.handovers, &held, &mut Passed::default());
        let prepared = match next {
            Ok(next) => self.open_audit(config).map(|()| next),
            Err(error) => Err(error),
        };
        let next = match prepared {
            Ok(next) => next,
            Err(error) => {
                *self.listeners() = held;
                return Err(error);
            }
        };
        // From here on nothing fails that could leave half of each.
        engine.throttle.follow(config.throttle.rules());
        engine.portal.store(Arc::new(portal));
        engine.step_deadline.set(config.limits.step_deadline.0);
        self.keep.store(config.audit.keep, Ordering::Relaxed);
        log_at(config.log.level);
        *lock(&self.sections) = new;
        let mut changed: Vec<String> = differ.into_iter().map(str::to_owned).collect();
        self.switch(held, next, &mut changed);
        Ok(changed)
    }

    fn open_audit(&self, config: &Config) -> Result<(), StartError> {
        let path = config.data.join(&config.audit.path);
        let health = self.engine.audit.health();
        let same = health.is_some_and(|health| health.path == path);
        if same && self.engine.audit.keeping() == Some(config.audit.keeping()) {
            return Ok(());
        }
        Ok(Audit::keep_as(&self.engine.audit, &path, config.audit.keeping())?)
    }

    fn switch(&self, held: Vec<Listener>, next: Vec<Next>, changed: &mut Vec<String>) {
        let mut held: Vec<Option<Listener>> = held.into_iter().map(Some).collect();
        let mut listeners = Vec::new();
        for next in next {
            match next {
                Next::Kept(position) => listeners.extend(held[position].take()),
                Next::Begins(mut listener) => {
                    changed.push(format!("listen.{}", listener.name()));
                    if let Err(error) = listener.serve(&self.engine) {
                        tracing::error!(%error, listener = listener.name(), "cannot serve");
                    }
                    listeners.push(listener);
                }
            }
        }
        for gone in held.into_iter().flatten() {
            let name = format!("listen.{}", gone.name());
            if !changed.contains(&name) {
                changed.push(name);
            }
            gone.stop();
            // Its logins end when they end.
            tokio::spawn(gone.stopped());
        }
        *self.listeners() = listeners;
    }

    /// Stops every listener, and waits until their logins have ended.
    pub(crate) async fn stop(&self) {
        let listeners = std::mem::take(&mut *self.listeners());
        listeners.iter().for_each(Listener::stop);
        for listener in listeners {
            listener.stopped().await;
        }
    }
}

/// The names of the sections that differ.
fn differing(old: &Sections, new: &Sections) -> Result<Vec<&'static str>, StartError> {
    let differ = old.iter().zip(new).filter(|(old, new)| old.1 != new.1).map(|(_, new)| new);
    let differ: Vec<_> = differ.collect();
    match differ.iter().find(|(.., change)| *change == Change::Restart) {
        Some((name, ..)) => Err(StartError::Restart { what: name }),
        None => Ok(differ.into_iter().map(|(name, ..)| *name).collect()),
    }
}

/// Listeners are not among them: they are compared one by one.
fn sections(config: &Config) -> Sections {
    let limits = &config.limits;
    let resources = {
        let mut rest = limits.clone();
        rest.step_deadline = crate::config::LimitsSection::default().step_deadline;
        format!("{rest:?}")
    };
    vec![
        ("the data folder", format!("{:?}", config.data), Change::Restart),
        ("[store]", format!("{:?}", config.store), Change::Restart),
        ("[audit] enabled", config.audit.enabled.to_string(), Change::Restart),
        ("[metrics]", format!("{:?}", config.metrics), Change::Restart),
        ("[groups]", format!("{:?}", config.groups), Change::Restart),
        ("[telemetry]", format!("{:?}", config.telemetry), Change::Restart),
        ("[log] format", format!("{:?}", config.log.format), Change::Restart),
        ("[limits], other than `step_deadline`,", resources, Change::Restart),
        ("audit", format!("{:?}", config.audit), Change::Reload),
        ("limits.step_deadline", format!("{:?}", limits.step_deadline), Change::Reload),
        ("sessions", format!("{:?}", config.sessions), Change::Reload),
        ("throttle", format!("{:?}", config.throttle), Change::Reload),
        ("accounts", format!("{:?}", config.accounts), Change::Reload),
        ("log.level", format!("{:?}", config.log.level), Change::Reload),
        ("checkers", format!("{:?}", config.checkers), Change::Reload),
        ("pool", format!("{:?}", config.pool), Change::Reload),
        ("policy", format!("{:?} {:?}", config.order, config.policy), Change::Reload),
    ]
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
