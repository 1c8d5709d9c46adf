//! A million accounts, of which no two logins want the same, beside a thousand without any cache.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use countersign_interop::{Context, Countersign, Outcome, Profile, Stage, Trouble, command_within};

use super::dovecot::{Lines, Sample, Shape, lines_of, load_with};
use super::{Effort, USERS, cpu, median};
use crate::figures::{Figure, Figures, Promise};

const MANY: usize = 1_000_000;
/// Everybody's. The hash is as cheap as the server makes one, so that looking up is what is measured, and
/// the recipe of new ones is the same, so that none is replaced.
const PASSWORD: &str = "a long password";
const HASH: &str = "{ARGON2ID}$argon2id$v=19$m=8,t=1,p=1$IedAXdR3/H+QiCNdyWbGXQ$qc3FsMg6eCqzLPTrBoaK6JxkG72wPdnmoehjhvRjfvY";
/// One connection, so that no login follows another one's pages.
const SHAPE: Shape = Shape { connections: 1, window: 64 };
/// Far more than are asked for in one measurement.
const SAMPLE: usize = 200_000;
const IMPORT: Duration = Duration::from_secs(20 * 60);
/// The settings of the server whose memory is measured, and what they may come to: 12,500 names and accounts
/// of about a KiB, 20,000 verified passwords, five connections to SQLite with 2 MiB each, and what lies
/// between.
const CACHES: &str = "cached_accounts = 10000\nverified_cache = 20000\n";
const CACHES_MIB: f64 = 32.0;
const NO_CACHES: &str = "cached_accounts = 0\nverified_cache = 0\n";

pub(crate) fn measure(effort: &Effort) -> Outcome<Vec<Figures>> {
    if !effort.ours {
        return Err(Trouble::not_run("this part is about ours only"));
    }
    let stage = Stage::new()?;
    let (few, _) = Site::with(&stage, "few", USERS)?;
    let (many, took) = Site::with(&stage, "many", MANY)?;

    let mut random = Random::new();
    let (mut fews, mut manys): (Vec<Sample>, Vec<Sample>) = (Vec::new(), Vec::new());
    {
        let (few, many) = (few.start(NO_CACHES)?, many.start(NO_CACHES)?);
        for _ in 0..effort.rounds {
            fews.push(few.load(&mut random, effort.time)?);
            manys.push(many.load(&mut random, effort.time)?);
        }
    }
    let cached = many.start(CACHES)?;
    let idle = resident(&cached)?;
    let mut cachings = Vec::new();
    for _ in 0..effort.rounds {
        cachings.push(cached.load(&mut random, effort.time)?);
    }
    let full = resident(&cached)?;

    let middle =
        |samples: &[Sample], of: fn(&Sample) -> f64| Some(median(samples.iter().map(of).collect()));
    let line = |name: &str, unit, of: fn(&Sample) -> f64, promise| Figure {
        name: name.to_owned(),
        peer: middle(&fews, of),
        ours: middle(&manys, of),
        unit,
        promise,
    };
    let own = |name: &str, unit, ours, promise| Figure {
        name: name.to_owned(),
        peer: None,
        ours,
        unit,
        promise,
    };
    Ok(vec![Figures {
        title: format!("{MANY} accounts in SQLite, uniformly random logins"),
        peer: "1,000 accounts",
        lines: vec![
            line("logins", "1/s", |s| s.rate, Some(Promise::AtLeast(0.75))),
            line("server CPU for each", "µs", |s| s.cpu, None),
            line("p50", "µs", |s| s.p50, None),
            line("p99", "µs", |s| s.p99, None),
            own("logins with the usual caches", "1/s", middle(&cachings, |s| s.rate), None),
            own(
                "resident above idle with the usual caches",
                "MiB",
                Some(full - idle),
                Some(Promise::AtMost(CACHES_MIB)),
            ),
            own("resident", "MiB", Some(full), None),
            own("import", "accounts/s", Some(MANY as f64 / took.as_secs_f64()), None),
        ],
        notes: vec![format!(
            "Both without caches of accounts and of verified passwords, over Dovecot's protocol, {} logins in \
             flight, argon2id with 8 KiB and one pass; medians of {} alternating measurements of {:?}. The \
             usual caches hold 10,000 accounts and 20,000 verified passwords. The file is in the system's \
             page cache.",
            SHAPE.window, effort.rounds, effort.time
        )],
    }])
}

/// A data folder with users.
struct Site<'a> {
    stage: &'a Stage,
    name: &'static str,
    users: usize,
}

/// A server on it.
struct Running<'a> {
    site: &'a Site<'a>,
    server: Countersign,
}

impl<'a> Site<'a> {
    /// Imports the users; tells how long that took.
    fn with(stage: &'a Stage, name: &'static str, users: usize) -> Outcome<(Self, Duration)> {
        let mut text = String::new();
        for user in 1..=users {
            let _ = writeln!(text, "u{user}:{HASH}");
        }
        let file = stage.file(&format!("{name}.passwd"), &text)?;
        drop(text);
        let site = Self { stage, name, users };
        // It makes the store.
        site.start(NO_CACHES)?.server.stop()?;
        let (config, data) = (stage.at(format!("{name}.toml")), stage.at(format!("{name}.data")));
        let [file, config, data] =
            [&file, &config, &data].map(|path: &PathBuf| path.display().to_string());
        let words = ["import", "dovecot", &file, "--config", &config, "--data", &data];
        let begun = Instant::now();
        command_within(Profile::Release, &words, "", IMPORT)?;
        Ok((site, begun.elapsed()))
    }

    fn socket(&self) -> PathBuf {
        self.stage.at(format!("{}.auth", self.name))
    }

    fn start(&'a self, caches: &str) -> Outcome<Running<'a>> {
        let config = format!(
            "[listen.http.main]\naddress = \"127.0.0.1:0\"\n\n[listen.dovecot.mail]\npath = {:?}\n\n\
             [accounts]\nargon2_memory_kib = 8\nargon2_passes = 1\n\n[audit]\nenabled = false\n\n\
             [metrics]\nenabled = false\n\n[limits]\n{caches}",
            self.socket()
        );
        let server = Countersign::node(self.stage, self.name, Profile::Release, &config)?;
        Ok(Running { site: self, server })
    }
}

impl Running<'_> {
    fn load(&self, random: &mut Random, time: Duration) -> Outcome<Sample> {
        let users = (0..SAMPLE)
            .map(|_| (format!("u{}", random.below(self.site.users) + 1), PASSWORD.into()));
        let lines: Vec<Lines> = lines_of(users.collect());
        load_with(&lines, &self.site.socket(), self.server.pid(), SHAPE, time)
    }
}

fn resident(running: &Running<'_>) -> Outcome<f64> {
    Ok(cpu::resident(running.server.pid()).during("its memory")? as f64 / 1024.0)
}

/// SplitMix64: who comes next is nobody's secret here.
struct Random(u64);

impl Random {
    /// Another order each time.
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(now.as_nanos() as u64)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_asked_for() {
        let mut random = Random(1);
        let mut seen = [false; 100];
        (0..2000).for_each(|_| seen[random.below(100)] = true);
        assert!(seen.iter().all(|seen| *seen));
    }
}
