//! Logins that need a slow hash: how many, how much of a bare loop's, what they do to the others, and what is
//! left of them when they come again.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use countersign_hashlibs::{Argon2id, argon2id, has_argon2id};
use countersign_interop::{Config, DovecotAuth, Habits, Outcome, Stage, Trouble};

use super::dovecot::{Lines, Sample, Shape, lines_of, load_with};
use super::{Effort, cpu, median, ours};
use crate::figures::{Figure, Figures, Promise};

/// `secret`, as our own default and as htpasswd -B at cost 10 store it.
const ARGON2ID: &str = "{ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$Y291bnRlcnNpZ24tc2FsdA$Cka9CdPFYP5PD+kYDXQyr9r+dUuaPm4w0w0Xyojdruo";
const BCRYPT: &str = "{BLF-CRYPT}$2y$10$x0qgNhh0RD4U4G/B.9oK/.s3JP65Ocw.z/GR0kSxhOQuKKaeT8k6i";
const PLAIN: &str = "{PLAIN}secret";
/// KiB that one of the first takes.
const MEMORY: u32 = 19_456;

/// Users of each kind: far more than are in flight, so that no two of those are equal.
const EACH: usize = 500;
const SLOW: Shape = Shape { connections: 1, window: 16 };
/// At least this long for one measurement of slow ones: a server that computes sixteen at a time ends them in
/// bursts, and a burst more or less must not count.
const SLOW_TIME: Duration = Duration::from_secs(10);
const CHEAP: Shape = Shape { connections: 1, window: 1 };
const BUSY: Shape = Shape { connections: 4, window: 64 };

/// The same users for all servers.
struct Users {
    argon2id: Vec<Lines>,
    bcrypt: Vec<Lines>,
    plain: Vec<Lines>,
}

fn names(kind: &str) -> Vec<String> {
    (1..=EACH).map(|user| format!("{kind}{user}")).collect()
}

fn stored() -> Vec<(String, String)> {
    let kinds = [("argon", ARGON2ID), ("bcrypt", BCRYPT), ("plain", PLAIN)];
    let of = |(kind, hash): (&str, &str)| {
        names(kind).into_iter().map(|name| (name, hash.to_owned())).collect::<Vec<_>>()
    };
    kinds.into_iter().flat_map(of).collect()
}

impl Users {
    fn new() -> Self {
        let of = |kind| {
            lines_of(names(kind).into_iter().map(|name| (name, "secret".to_owned())).collect())
        };
        Self { argon2id: of("argon"), bcrypt: of("bcrypt"), plain: of("plain") }
    }
}

/// A server under load.
struct Server<'a> {
    socket: &'a Path,
    pid: u32,
}

impl Server<'_> {
    fn load(&self, lines: &[Lines], shape: Shape, time: Duration) -> Outcome<Sample> {
        load_with(lines, self.socket, self.pid, shape, time)
    }

    /// Cheap logins while sixteen slow ones are in flight.
    fn beside(&self, users: &Users, time: Duration) -> Outcome<Sample> {
        thread::scope(|scope| {
            let longer = time + Duration::from_secs(1);
            let slow = scope.spawn(move || self.load(&users.argon2id, SLOW, longer));
            let cheap = self.load(&users.plain, CHEAP, time);
            slow.join().map_err(|_| Trouble::failed("a client panicked"))??;
            cheap
        })
    }
}

pub(crate) fn measure(effort: &Effort) -> Outcome<Vec<Figures>> {
    let stage = Stage::new()?;
    let users = Users::new();
    let text: String = stored().iter().map(|(name, hash)| format!("{name}:{hash}\n")).collect();
    let passwd = stage.file("passwd", &text)?;
    let sql = DovecotAuth::start_sql(&stage, &stored(), Habits::Quiet)?;
    let file = DovecotAuth::start(&stage, &passwd, Habits::Quiet)?;
    let sql = Server { socket: &sql.socket, pid: sql.pid() };
    let file = Server { socket: &file.socket, pid: file.pid() };
    if !effort.ours {
        return Ok(vec![cold(&users, &sql, None, effort)?]);
    }
    // Two of ours one after the other: one hashes every login, the other remembers.
    let config = |more: &str| -> Outcome<(Config, PathBuf)> {
        let socket = stage.folder("sockets")?.join("auth");
        let config = Config {
            passwd: Some(passwd.clone()),
            dovecot: Some(socket.clone()),
            quiet: true,
            more: more.to_owned(),
            ..Config::default()
        };
        Ok((config, socket))
    };
    let (settings, socket) = config("[limits]\nverified_cache = 0\n")?;
    let server = ours(&stage, &settings)?;
    let own = Server { socket: &socket, pid: server.pid() };
    let mut all = vec![cold(&users, &sql, Some(&own), effort)?];
    if has_argon2id() {
        all.push(beside_a_bare_loop(&users, &own, effort)?);
    } else {
        println!("hash: a bare loop of the library: not run: this machine has no libsodium");
    }
    all.push(cheap(
        &users,
        [("Dovecot, SQL workers", &sql), ("Dovecot, passwd-file", &file)],
        &own,
        effort,
    )?);
    server.stop()?;
    let (settings, socket) = config("")?;
    let server = ours(&stage, &settings)?;
    all.push(again(&users, &Server { socket: &socket, pid: server.pid() }, effort)?);
    server.stop()?;
    Ok(all)
}

type Of = fn(&Sample) -> f64;

fn middle(samples: &[Sample], of: Of) -> Option<f64> {
    (!samples.is_empty()).then(|| median(samples.iter().map(of).collect()))
}

/// Each login hashed.
fn cold(
    users: &Users,
    peer: &Server<'_>,
    own: Option<&Server<'_>>,
    effort: &Effort,
) -> Outcome<Figures> {
    let mut lines = Vec::new();
    let time = effort.time.max(SLOW_TIME);
    for (name, logins) in
        [("argon2id, m=19456,t=2", &users.argon2id), ("bcrypt, cost 10", &users.bcrypt)]
    {
        let (mut theirs, mut mine) = (Vec::new(), Vec::new());
        for _ in 0..effort.rounds {
            theirs.push(peer.load(logins, SLOW, time)?);
            if let Some(own) = own {
                mine.push(own.load(logins, SLOW, time)?);
            }
        }
        // Ratios within a round: what else the machine does meets both.
        let ratios = theirs.iter().zip(&mine).map(|(one, two)| two.rate / one.rate).collect();
        lines.push(Figure {
            name: format!("{name}: logins"),
            peer: middle(&theirs, |s| s.rate),
            ours: middle(&mine, |s| s.rate),
            unit: "1/s",
            promise: Some(Promise::AtLeast(1.0)),
        });
        lines.push(Figure {
            name: format!("{name}: ratio, the middle of each round's"),
            peer: None,
            ours: own.map(|_| median(ratios)),
            unit: "",
            promise: Some(Promise::AtLeast(1.0)),
        });
        lines.push(Figure {
            name: format!("{name}: server CPU for each"),
            peer: middle(&theirs, |s| s.cpu / 1000.0),
            ours: middle(&mine, |s| s.cpu / 1000.0),
            unit: "ms",
            promise: None,
        });
    }
    Ok(Figures {
        title: "Slow hashes: every login hashed".into(),
        peer: "Dovecot, SQL workers",
        lines,
        notes: vec![format!(
            "Sixteen logins of different users in flight, medians of {} alternating measurements of \
             {time:?}; Dovecot looks its users up in SQLite and hashes in worker processes, ours has them \
             in a passwd-file and remembers nothing (`verified_cache = 0`).",
            effort.rounds,
        )],
    })
}

/// The same hashes by the same library, in as many threads as there are cores, and nothing else.
fn beside_a_bare_loop(users: &Users, own: &Server<'_>, effort: &Effort) -> Outcome<Figures> {
    let (mut bare, mut mine) = (Vec::new(), Vec::new());
    let time = effort.time.max(SLOW_TIME);
    for _ in 0..effort.rounds {
        bare.push(bare_rate(time)?);
        mine.push(own.load(&users.argon2id, SLOW, time)?);
    }
    let ratios = bare.iter().zip(&mine).map(|(one, two)| two.rate / one).collect();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let peak = cpu::peak(own.pid).map(|kib| kib as f64 / 1024.0);
    // What an idle server may have, and the memory of as many hashes as there are threads.
    let bound = 25.0 + threads as f64 * f64::from(MEMORY) / 1024.0;
    let lines = vec![
        Figure {
            name: "argon2id logins".into(),
            peer: Some(median(bare)),
            ours: middle(&mine, |s| s.rate),
            unit: "1/s",
            promise: Some(Promise::AtLeast(0.95)),
        },
        Figure {
            name: "ratio, the middle of each round's".into(),
            peer: None,
            ours: Some(median(ratios)),
            unit: "",
            promise: Some(Promise::AtLeast(0.95)),
        },
        Figure {
            name: "most memory resident so far".into(),
            peer: None,
            ours: peak,
            unit: "MiB",
            promise: Some(Promise::AtMost(bound)),
        },
    ];
    Ok(Figures {
        title: "Slow hashes: logins beside a bare loop of the library".into(),
        peer: "libsodium, a loop on each core",
        lines,
        notes: Vec::new(),
    })
}

fn bare_rate(time: Duration) -> Outcome<f64> {
    let (over, count, failed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicBool::new(false));
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let mut tag = [0; 32];
                let parameters =
                    Argon2id { memory_kib: MEMORY, passes: 2, salt: b"countersign-salt" };
                while !over.load(Ordering::Relaxed) {
                    if !argon2id(parameters, b"secret", &mut tag) {
                        return failed.store(true, Ordering::Relaxed);
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        thread::sleep(time);
        over.store(true, Ordering::Relaxed);
    });
    if failed.into_inner() {
        return Err(Trouble::failed("libsodium did not compute a hash"));
    }
    Ok(count.into_inner() as f64 / begun.elapsed().as_secs_f64())
}

/// Cheap logins alone, and beside slow ones.
fn cheap(
    users: &Users,
    peers: [(&str, &Server<'_>); 2],
    own: &Server<'_>,
    effort: &Effort,
) -> Outcome<Figures> {
    let (mut alone, mut beside) = ([vec![], vec![], vec![]], [vec![], vec![], vec![]]);
    for _ in 0..effort.rounds {
        for (at, server) in [peers[0].1, peers[1].1, own].into_iter().enumerate() {
            alone[at].push(server.load(&users.plain, CHEAP, effort.time)?);
            beside[at].push(server.beside(users, effort.time)?);
        }
    }
    let mut lines = Vec::new();
    let quantiles: [(&str, Of); 2] = [("p50", |s| s.p50), ("p99", |s| s.p99)];
    for (at, (name, _)) in peers.iter().enumerate() {
        for (when, samples) in [("alone", &alone), ("beside 16 argon2id", &beside)] {
            for (quantile, of) in quantiles {
                lines.push(Figure {
                    name: format!("{when}: {quantile}, against {name}"),
                    peer: middle(&samples[at], of),
                    ours: middle(&samples[2], of),
                    unit: "µs",
                    promise: None,
                });
            }
        }
    }
    lines.push(Figure {
        name: "beside 16 argon2id: p99".into(),
        peer: None,
        ours: middle(&beside[2], |s| s.p99),
        unit: "µs",
        promise: Some(Promise::AtMost(2000.0)),
    });
    Ok(Figures {
        title: "Cheap logins while slow ones are in flight".into(),
        peer: "Dovecot auth",
        lines,
        notes: vec![
            "{PLAIN} logins, one at a time, on a connection of their own; with a passwd-file Dovecot \
             hashes in the process that answers, with SQL in workers that cheap logins need too."
                .into(),
        ],
    })
}

/// Logins that were verified a moment ago, beside clear-text ones.
fn again(users: &Users, own: &Server<'_>, effort: &Effort) -> Outcome<Figures> {
    // Each once, so that it is remembered: as long as that takes.
    let hashing = Duration::from_millis(40) * EACH as u32;
    own.load(&users.argon2id, SLOW, hashing)?;
    let (mut plain, mut remembered) = (Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        plain.push(own.load(&users.plain, BUSY, effort.time)?);
        remembered.push(own.load(&users.argon2id, BUSY, effort.time)?);
    }
    let ratios = plain.iter().zip(&remembered).map(|(one, two)| two.rate / one.rate).collect();
    Ok(Figures {
        title: "Repeated logins: remembered argon2id beside {PLAIN}, both ours".into(),
        peer: "{PLAIN}",
        lines: vec![
            Figure {
                name: "logins".into(),
                peer: middle(&plain, |s| s.rate),
                ours: middle(&remembered, |s| s.rate),
                unit: "1/s",
                promise: Some(Promise::AtLeast(0.8)),
            },
            Figure {
                name: "ratio, the middle of each round's".into(),
                peer: None,
                ours: Some(median(ratios)),
                unit: "",
                promise: Some(Promise::AtLeast(0.8)),
            },
            Figure {
                name: "server CPU for each".into(),
                peer: middle(&plain, |s| s.cpu),
                ours: middle(&remembered, |s| s.cpu),
                unit: "µs",
                promise: None,
            },
        ],
        notes: vec!["Four connections with 64 logins in flight on each.".into()],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_are_those_of_all_three_servers() {
        let stored = stored();
        assert_eq!(stored.len(), 3 * EACH);
        assert_eq!(stored[0], ("argon1".into(), ARGON2ID.into()));
        let users = Users::new();
        assert_eq!(users.argon2id.len() + users.bcrypt.len() + users.plain.len(), stored.len());
    }

    #[test]
    fn the_bare_loop_computes_the_same_hash() {
        if !has_argon2id() {
            return eprintln!("not run: this machine has no libsodium");
        }
        let mut tag = [0; 32];
        let parameters = Argon2id { memory_kib: MEMORY, passes: 2, salt: b"countersign-salt" };
        assert!(argon2id(parameters, b"secret", &mut tag));
        use base64::Engine as _;
        let text = base64::prelude::BASE64_STANDARD_NO_PAD.encode(tag);
        assert!(ARGON2ID.ends_with(&format!("${text}")));
        assert!(ARGON2ID.contains(&format!("m={MEMORY},")));
    }
}
