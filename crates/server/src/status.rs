//! What a running server says of itself, for `countersign status` and for who watches it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use countersign::World;
use serde::{Deserialize, Serialize};

use crate::admin::When;
use crate::live::Live;
use crate::metrics::Metrics;

/// The state of a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// For how many seconds it has run.
    pub uptime_s: u64,
    /// What somebody should look at; empty: all is well.
    pub problems: Vec<String>,
    /// Where it listens.
    pub listeners: Vec<ListenerStatus>,
    /// Logins by how they ended, since the start.
    pub logins: BTreeMap<String, u64>,
    /// The same, of the last minute.
    pub last_minute: BTreeMap<String, u64>,
    /// Logins that wait between two HTTP requests.
    pub pending: usize,
    /// The slow hashes.
    pub hashing: HashingStatus,
    /// The accounts.
    pub store: StoreStatus,
    /// The record; none if it is off.
    pub audit: Option<AuditStatus>,
    /// The last time that the configuration was read anew.
    pub reload: Option<ReloadStatus>,
}

/// A listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// As `http.main`.
    pub name: String,
    /// Address, or path.
    pub address: String,
    /// Connections that are open.
    pub connections: usize,
    /// How many may be.
    pub limit: usize,
    /// What there is to say about its certificate.
    pub certificate: Option<String>,
}

/// The pool of threads that verify slow hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashingStatus {
    /// Threads that compute.
    #[serde(default)]
    pub threads: usize,
    /// Jobs that wait.
    pub waiting: usize,
    /// How many may wait; one more is told to come later.
    #[serde(default)]
    pub queue: usize,
    /// Hashes computed.
    pub computed: u64,
    /// Verifications answered from memory.
    pub remembered: u64,
    /// Answers in memory.
    pub entries: usize,
}

/// The store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// Where it is.
    pub location: String,
    /// Whether it could be read at the last look.
    pub up: bool,
    /// The revision of the copy in memory.
    pub revision: i64,
    /// How long the last look took, in microseconds.
    pub latency_us: u64,
}

/// The record of every attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditStatus {
    /// The file.
    pub path: PathBuf,
    /// Its bytes.
    pub size: u64,
    /// Whether it cannot be written, or not brought to disk.
    pub failing: bool,
}

/// How the configuration was read anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadStatus {
    /// When.
    pub at: When,
    /// What changed; or, after an error, nothing did.
    pub changed: Vec<String>,
    /// Why it was refused.
    pub error: Option<String>,
}

impl Status {
    /// The state at this moment.
    pub fn of(live: &Live) -> Self {
        let engine = &live.engine;
        let now = engine.world.now().unix;
        let (mut problems, mut listeners) = (Vec::new(), Vec::new());
        for listener in &*live.listeners() {
            let certificate = listener.tls().map(|tls| tls.validity(now));
            if let Some(Err(said)) = &certificate {
                problems.push(said.clone());
            }
            let certificate = certificate.map(|said| said.unwrap_or_else(|said| said));
            listeners.push(ListenerStatus { certificate, ..listener.status() });
        }
        let (pool, looked) = (live.pool.statistics(), &engine.metrics.store);
        let store = StoreStatus {
            location: live.store_location(),
            up: looked.is_up(),
            revision: engine.store.revision(),
            latency_us: looked.latency_us(),
        };
        if !store.up {
            problems.push(format!("the account store {} cannot be read", store.location));
        }
        let audit = engine.audit.health().map(|health| AuditStatus {
            path: health.path,
            size: health.size,
            failing: health.failing,
        });
        if let Some(audit) = audit.as_ref().filter(|audit| audit.failing) {
            problems.push(format!("the audit file {} cannot be written", audit.path.display()));
        }
        let reload = live.reloaded();
        if let Some(error) = reload.as_ref().and_then(|reload| reload.error.as_ref()) {
            let first = error.lines().next().unwrap_or_default();
            problems.push(format!("the configuration is not the file's: {first}"));
        }
        let uptime_s = engine.world.steady_ns() / 1_000_000_000;
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_s,
            problems,
            listeners,
            logins: by_end(&engine.metrics, Metrics::total),
            last_minute: by_end(&engine.metrics, Metrics::last_minute),
            pending: engine.pending.len(),
            hashing: HashingStatus {
                threads: pool.threads,
                waiting: pool.waiting,
                queue: pool.queue,
                computed: pool.computed,
                remembered: pool.remembered,
                entries: pool.entries,
            },
            store,
            audit,
            reload,
        }
    }
}

fn by_end(
    metrics: &Metrics,
    count: impl Fn(&Metrics, crate::metrics::Ended) -> u64,
) -> BTreeMap<String, u64> {
    Metrics::ends().map(|ended| (ended.word().to_owned(), count(metrics, ended))).collect()
}
