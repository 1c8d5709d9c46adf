//! Logins over saslauthd's socket, by Cyrus's own daemon and by ours: connect, one request,
//! one reply, close.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use countersign_interop::{Config, Context, Outcome, Saslauthd, Stage, Trouble, passwd_file};

use super::latency::Latencies;
use super::{Effort, USERS, cpu, median, ours};
use crate::figures::{Figure, Figures, Promise};

const WARM_UP: Duration = Duration::from_millis(300);
const STUCK: Duration = Duration::from_secs(30);
/// Threads, and connections that each has open.
const SHAPES: [(usize, usize); 2] = [(1, 1), (4, 4)];

/// One measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) rate: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) cpu: f64,
}

pub(crate) fn measure(effort: &Effort) -> Outcome<Vec<Figures>> {
    let stage = Stage::new()?;
    let peer = Saslauthd::start(&stage, USERS)?;
    let config = Config {
        passwd: Some(stage.file("passwd", &passwd_file(USERS))?),
        saslauthd: Some(stage.folder("sockets")?.join("mux")),
        quiet: true,
        ..Config::default()
    };
    let socket = config.saslauthd.as_deref().during("the socket's path")?;
    let server = if effort.ours { Some(ours(&stage, &config)?) } else { None };
    let bare = Bare::start(&stage.at("bare"))?;

    let mut lines = Vec::new();
    let mut floor = Vec::new();
    let theirs_asked = requests(Saslauthd::REALM);
    // Ours has the users of a passwd-file, which belong to no realm.
    let ours_asked = plain_requests();
    for (threads, window) in SHAPES {
        let (mut theirs, mut mine, mut bottom) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..effort.rounds {
            let shape = (threads, window);
            theirs.push(load(&peer.socket, peer.pid(), &theirs_asked, shape, effort.time)?);
            if let Some(server) = &server {
                mine.push(load(socket, server.pid(), &ours_asked, shape, effort.time)?);
            }
            let this = std::process::id();
            bottom.push(load(&bare.socket, this, &ours_asked, shape, effort.time)?.rate);
        }
        floor.push(format!("{threads} × {window}: {:.1} k/s", median(bottom) / 1e3));
        let middle = |samples: &[Sample], of: fn(&Sample) -> f64| {
            (!samples.is_empty()).then(|| median(samples.iter().map(of).collect()))
        };
        let mut line = |name: &str, unit, of: fn(&Sample) -> f64, promise| {
            lines.push(Figure {
                name: format!("{threads} × {window}: {name}"),
                peer: middle(&theirs, of),
                ours: middle(&mine, of),
                unit,
                promise,
            });
        };
        let rate = (threads == 4).then_some(Promise::AtLeast(1.5));
        line("logins", "1/s", |s| s.rate, rate);
        line("server CPU for each", "µs", |s| s.cpu, None);
        line("p50", "µs", |s| s.p50, None);
        line("p99", "µs", |s| s.p99, None);
    }
    Ok(vec![Figures {
        title: "saslauthd's socket".into(),
        peer: "saslauthd -a sasldb",
        lines,
        notes: vec![format!(
            "{USERS} users, threads × connections that each keeps open, medians of {} alternating \
             measurements of {:?}. A bare loop in the same program that accepts, reads, replies \
             and closes: {}.",
            effort.rounds,
            effort.time,
            floor.join(", "),
        )],
    }])
}

/// The request of each user: counted strings of login, password, service, realm.
fn requests(realm: &str) -> Vec<Vec<u8>> {
    (1..=USERS)
        .map(|user| request(&[&format!("u{user}"), &format!("secret{user}"), "imap", realm]))
        .collect()
}

fn request(fields: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in fields {
        bytes.extend_from_slice(&(field.len() as u16).to_be_bytes());
        bytes.extend_from_slice(field.as_bytes());
    }
    bytes
}

/// Requests of users that belong to no realm.
pub(crate) fn plain_requests() -> Vec<Vec<u8>> {
    requests("")
}

/// One login of the first user.
pub(crate) fn once(socket: &Path) -> Outcome {
    let mut stream = begin(socket, &request(&["u1", "secret1", "imap", ""]))?;
    finish(&mut stream)
}

fn begin(socket: &Path, request: &[u8]) -> Outcome<UnixStream> {
    let mut stream = UnixStream::connect(socket).during("connecting")?;
    stream.set_read_timeout(Some(STUCK)).during("a read deadline")?;
    stream.write_all(request).during("a request")?;
    Ok(stream)
}

/// The reply must be OK, which is known when its count is complete.
fn finish(stream: &mut UnixStream) -> Outcome {
    let mut reply = [0; 1026];
    let mut have = 0;
    loop {
        let n = stream.read(&mut reply[have..]).during("a reply")?;
        have += n;
        if have >= 2 {
            let count = usize::from(u16::from_be_bytes([reply[0], reply[1]]));
            if have >= 2 + count {
                let text = &reply[2..2 + count];
                if text.starts_with(b"OK") {
                    return Ok(());
                }
                let text = String::from_utf8_lossy(text);
                return Err(Trouble::failed(format!("wrong reply: {text}")));
            }
        }
        if n == 0 {
            return Err(Trouble::failed("closed before the reply was complete"));
        }
    }
}

/// Loads a server for a time, with `threads` × connections each.
pub(crate) fn load(
    socket: &Path,
    pid: u32,
    requests: &[Vec<u8>],
    (threads, window): (usize, usize),
    time: Duration,
) -> Outcome<Sample> {
    let (counting, over) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..threads)
            .map(|number| {
                let (counting, over) = (&counting, &over);
                scope.spawn(move || client(socket, requests, number * 37, window, counting, over))
            })
            .collect();
        thread::sleep(WARM_UP);
        let (used, start) = (cpu::used(pid), Instant::now());
        counting.store(true, Ordering::Relaxed);
        thread::sleep(time);
        counting.store(false, Ordering::Relaxed);
        let (elapsed, used) = (start.elapsed(), cpu::used(pid) - used);
        over.store(true, Ordering::Relaxed);
        let mut all = Latencies::new();
        for client in clients {
            all.merge(&client.join().map_err(|_| Trouble::failed("a client panicked"))??);
        }
        if all.count() == 0 {
            return Err(Trouble::failed("not one login was answered"));
        }
        Ok(Sample {
            rate: all.count() as f64 / elapsed.as_secs_f64(),
            p50: all.quantile(0.5),
            p99: all.quantile(0.99),
            cpu: used.as_secs_f64() * 1e6 / all.count() as f64,
        })
    })
}

fn client(
    socket: &Path,
    requests: &[Vec<u8>],
    first: usize,
    window: usize,
    counting: &AtomicBool,
    over: &AtomicBool,
) -> Outcome<Latencies> {
    let mut all = Latencies::new();
    let mut open: Vec<Option<(UnixStream, Instant)>> = (0..window).map(|_| None).collect();
    let mut next = first;
    loop {
        let ending = over.load(Ordering::Relaxed);
        for slot in &mut open {
            if let Some((mut stream, begun)) = slot.take() {
                finish(&mut stream)?;
                if counting.load(Ordering::Relaxed) {
                    all.add(begun.elapsed());
                }
            }
            if !ending {
                let begun = Instant::now();
                let stream = begin(socket, &requests[next % requests.len()])?;
                *slot = Some((stream, begun));
                next += 1;
            }
        }
        if ending {
            return Ok(all);
        }
    }
}

/// The least that any server of this protocol has to do.
struct Bare {
    socket: std::path::PathBuf,
}

impl Bare {
    fn start(socket: &Path) -> Outcome<Self> {
        let listener = UnixListener::bind(socket).during(socket.display())?;
        // They end with the program: nothing is worth waiting for.
        for _ in 0..2 {
            let listener = listener.try_clone().during("the bare loop")?;
            thread::spawn(move || {
                let mut bytes = [0; 1024];
                while let Ok((mut stream, _)) = listener.accept() {
                    let _ = stream.set_read_timeout(Some(STUCK));
                    if stream.read(&mut bytes).is_ok_and(|n| n > 0) {
                        let _ = stream.write_all(b"\0\x02OK");
                    }
                }
            });
        }
        Ok(Self { socket: socket.to_path_buf() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_answered_and_counted() {
        let stage = Stage::new().unwrap();
        let bare = Bare::start(&stage.at("bare")).unwrap();
        once(&bare.socket).unwrap();
        let time = Duration::from_millis(50);
        let sample = load(&bare.socket, std::process::id(), &requests(""), (2, 2), time).unwrap();
        assert!(sample.rate > 100.0 && sample.p50 <= sample.p99, "{sample:?}");
    }

    #[test]
    fn requests_are_counted_strings() {
        assert_eq!(request(&["u1", ""]), b"\0\x02u1\0\0");
    }
}
