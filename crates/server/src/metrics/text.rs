//! The counters in Prometheus' text format 0.0.4. Every label has few values, none of which a client
//! chooses.

use std::fmt::{Display, Write};
use std::sync::atomic::Ordering;

use countersign::World as _;

use super::{BUCKETS, FRONT_ENDS, Metrics};
use crate::engine::Engine;

/// Everything there is to tell about a server. `store_is_up`: what the store answered just now.
pub fn exposition(engine: &Engine, store_is_up: bool) -> String {
    let mut page = Page(String::with_capacity(8 * 1024));
    page.family("countersign_build_info", "gauge", "Always 1; the version is a label.");
    page.value("countersign_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.logins(&engine.metrics);
    let connections = engine.metrics.connections.load(Ordering::Relaxed);
    page.gauge("countersign_connections", "Connections open now, of all front ends.", connections);
    page.gauge(
        "countersign_pending_conversations",
        "Logins that wait between two HTTP requests.",
        engine.pending.len(),
    );
    page.gauge("countersign_cached_sessions", "Sessions kept in memory.", engine.sessions.copies());
    page.gauge(
        "countersign_listening_clients",
        "Clients that listen to the events of their session.",
        engine.minds.len(),
    );
    page.gauge("countersign_store_up", "Whether the account store answers.", u8::from(store_is_up));
    page.counter(
        "countersign_audit_failures_total",
        "Audit records that could not be written.",
        engine.metrics.audit_failures.load(Ordering::Relaxed),
    );
    page.throttle(engine);
    page.traces(engine);
    page.pool(engine);
    page.process();
    page.0
}

struct Page(String);

impl Page {
    fn logins(&mut self, metrics: &Metrics) {
        let name = "countersign_logins_total";
        self.family(name, "counter", "Logins by front end and by how they ended.");
        for front_end in FRONT_ENDS {
            for ended in Metrics::ends() {
                let labels = [("front_end", front_end), ("outcome", ended.word())];
                self.value(name, &labels, metrics.logins(front_end, ended));
            }
        }
        let name = "countersign_login_duration_seconds";
        self.family(name, "histogram", "How long logins took, waiting for their peers included.");
        let (buckets, sum_us) = metrics.durations();
        let mut below = 0;
        let bucket = format!("{name}_bucket");
        for (index, count) in buckets.iter().enumerate() {
            below += count;
            let limit = BUCKETS.get(index).map(|micros| (*micros as f64 / 1e6).to_string());
            self.value(&bucket, &[("le", limit.as_deref().unwrap_or("+Inf"))], below);
        }
        self.value(&format!("{name}_sum"), &[], sum_us as f64 / 1e6);
        self.value(&format!("{name}_count"), &[], below);
    }

    fn throttle(&mut self, engine: &Engine) {
        let throttle = engine.throttle.stats(engine.world.now());
        let name = "countersign_throttle_guesses_total";
        self.family(name, "counter", "Guesses that the throttle let through, and refused unseen.");
        for (end, count) in [("admitted", throttle.admitted), ("refused", throttle.refused)] {
            self.value(name, &[("end", end)], count);
        }
        let name = "countersign_throttle_wrong_total";
        self.family(name, "counter", "Wrong guesses: new ones, and the same once more.");
        let new = throttle.wrong.saturating_sub(throttle.repeated);
        for (guess, count) in [("new", new), ("repeated", throttle.repeated)] {
            self.value(name, &[("guess", guess)], count);
        }
        let name = "countersign_throttle_entries";
        self.gauge(name, "Users and sources that failures are held against.", throttle.entries);
        let name = "countersign_throttle_delayed";
        self.gauge(name, "Of these, those that have to wait now.", throttle.delayed);
    }

    fn traces(&mut self, engine: &Engine) {
        let Some(traces) = engine.telemetry.counts() else { return };
        let name = "countersign_traces_total";
        self.family(
            name,
            "counter",
            "Traces of logins that the collector took, and that were lost.",
        );
        for (end, count) in [("sent", traces.sent), ("lost", traces.lost)] {
            self.value(name, &[("end", end)], count);
        }
    }

    fn pool(&mut self, engine: &Engine) {
        let Some(pool) = &engine.pool else { return };
        let pool = pool.statistics();
        self.gauge("countersign_hash_queue", "Slow hashes that wait for a thread.", pool.waiting);
        let name = "countersign_hashes_total";
        self.counter(name, "Slow hashes that were computed.", pool.computed);
        let name = "countersign_verified_logins";
        self.gauge(name, "Verified logins that are remembered.", pool.entries);
        let name = "countersign_verifications_total";
        self.family(name, "counter", "Verifications of passwords by where the answer came from.");
        for (from, count) in
            [("memory", pool.remembered), ("computed", pool.missed), ("shared", pool.shared)]
        {
            self.value(name, &[("from", from)], count);
        }
    }

    /// What every process tells under these names.
    fn process(&mut self) {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        if let Some(kib) = resident {
            let kib: u64 = kib;
            self.gauge("process_resident_memory_bytes", "Memory in use.", kib * 1024);
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            self.gauge("process_open_fds", "Open file descriptors.", open.count());
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.value(name, &[], value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "counter", help);
        self.value(name, &[], value);
    }

    // Writing to a text cannot fail.

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"{text}\"", if index == 0 { '{' } else { ',' });
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }
}
