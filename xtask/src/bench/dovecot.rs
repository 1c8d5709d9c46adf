//! Logins over Dovecot's client protocol, by Dovecot's own service and by ours.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use countersign_interop::{
    Config, Context, DovecotAuth, Habits, Outcome, Stage, Trouble, passwd_file,
};

use super::latency::Latencies;
use super::{Effort, USERS, cpu, median, ours};
use crate::figures::{Figure, Figures, Promise};

/// Not counted, and at least a fifth of the time that is: connections, caches and branch predictors settle, and
/// so does who of many slow logins ends when.
const WARM_UP: Duration = Duration::from_millis(300);
/// No answer within this: the server is stuck, and so is the measurement.
const STUCK: Duration = Duration::from_secs(30);

/// How the load comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) connections: usize,
    /// Logins in flight on each.
    pub(crate) window: usize,
}

/// One measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Logins in a second.
    pub(crate) rate: f64,
    /// Microseconds that half of them, and all but one in a hundred, took at most.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Server's CPU microseconds for each.
    pub(crate) cpu: f64,
    /// The load generator's own.
    pub(crate) client: f64,
}

pub(crate) fn measure(effort: &Effort) -> Outcome<Vec<Figures>> {
    let stage = Stage::new()?;
    let passwd = stage.file("passwd", &passwd_file(USERS))?;
    let quiet = compare(
        &stage,
        &passwd,
        effort,
        Habits::Quiet,
        "PLAIN, audit and metrics off on both sides",
        &[(1, 1), (1, 16), (1, 256), (4, 256)],
    )?;
    let default = compare(
        &stage,
        &passwd,
        effort,
        Habits::Default,
        "PLAIN, Dovecot's penalty and statistics on, our audit and metrics on",
        &[(4, 256)],
    )?;
    Ok(vec![quiet, default])
}

fn compare(
    stage: &Stage,
    passwd: &Path,
    effort: &Effort,
    habits: Habits,
    title: &str,
    shapes: &[(usize, usize)],
) -> Outcome<Figures> {
    let quiet = habits == Habits::Quiet;
    let peer = DovecotAuth::start(stage, passwd, habits)?;
    let config = Config {
        passwd: Some(passwd.to_path_buf()),
        dovecot: Some(stage.folder("sockets")?.join("auth")),
        quiet,
        ..Config::default()
    };
    let socket = config.dovecot.as_deref().during("the socket's path")?;
    let server = if effort.ours { Some(ours(stage, &config)?) } else { None };

    let mut lines = Vec::new();
    let mut client = Vec::new();
    for (connections, window) in shapes.iter().copied() {
        let shape = Shape { connections, window };
        let (mut theirs, mut mine) = (Vec::new(), Vec::new());
        for _ in 0..effort.rounds {
            theirs.push(load(&peer.socket, peer.pid(), shape, effort.time)?);
            if let Some(server) = &server {
                mine.push(load(socket, server.pid(), shape, effort.time)?);
            }
        }
        let middle = |samples: &[Sample], of: fn(&Sample) -> f64| {
            (!samples.is_empty()).then(|| median(samples.iter().map(of).collect()))
        };
        client.push(median(theirs.iter().chain(&mine).map(|s| s.client).collect()));
        let mut line = |name: &str, unit, of: fn(&Sample) -> f64, promise| {
            lines.push(Figure {
                name: format!("{connections} × {window}: {name}"),
                peer: middle(&theirs, of),
                ours: middle(&mine, of),
                unit,
                promise,
            });
        };
        // Item by item what is promised: rates and CPU under full load, latency on one
        // connection, where it is not a matter of queues alone.
        let full = connections == 4;
        let rate = if quiet { 1.1 } else { 1.8 };
        line("logins", "1/s", |s| s.rate, full.then_some(Promise::AtLeast(rate)));
        let cpu = (full && quiet).then_some(Promise::AtMost(0.9));
        line("server CPU for each", "µs", |s| s.cpu, cpu);
        let latency = (!full).then_some(Promise::AtMost(1.0));
        line("p50", "µs", |s| s.p50, latency);
        line("p99", "µs", |s| s.p99, latency);
    }
    let client: Vec<_> = client.iter().map(|micros| format!("{micros:.1}")).collect();
    Ok(Figures {
        title: format!("Dovecot's protocol: {title}"),
        peer: "Dovecot auth",
        lines,
        notes: vec![format!(
            "{USERS} users in a passwd-file with {{PLAIN}}, connections × logins in flight on \
                 each, medians of {} alternating measurements of {:?}. The load generator itself \
                 used {} µs of CPU for each login, on the same cores.",
            effort.rounds,
            effort.time,
            client.join(" / "),
        )],
    })
}

/// What does not change between two logins of a user.
pub(crate) struct Lines {
    /// Behind the request's id.
    request: Vec<u8>,
    /// Behind the answer's id.
    user: Vec<u8>,
}

fn lines() -> Vec<Lines> {
    let all = (1..=USERS).map(|user| (format!("u{user}"), format!("secret{user}")));
    lines_of(all.collect())
}

/// Logins of these users with these passwords.
pub(crate) fn lines_of(users: Vec<(String, String)>) -> Vec<Lines> {
    users
        .into_iter()
        .map(|(user, password)| {
            let resp = BASE64_STANDARD.encode(format!("\0{user}\0{password}"));
            Lines {
                request: format!(
                    "\tPLAIN\tservice=smtp\tnologin\tlip=127.0.0.1\trip=127.0.0.1\tsecured\t\
                     resp={resp}\n"
                )
                .into_bytes(),
                user: format!("\tuser={user}").into_bytes(),
            }
        })
        .collect()
}

/// Loads a server for a time. Every reply is checked: who was let in, under which id.
pub(crate) fn load(socket: &Path, pid: u32, shape: Shape, time: Duration) -> Outcome<Sample> {
    load_with(&lines(), socket, pid, shape, time)
}

/// The same with users of the caller's.
pub(crate) fn load_with(
    lines: &[Lines],
    socket: &Path,
    pid: u32,
    shape: Shape,
    time: Duration,
) -> Outcome<Sample> {
    let (counting, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let ready = Barrier::new(shape.connections + 1);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..shape.connections)
            .map(|number| {
                let (counting, over, ready) = (&counting, &over, &ready);
                scope.spawn(move || {
                    let client = Client::connect(socket);
                    // Also when it did not succeed: the others are waiting.
                    ready.wait();
                    client?.run(lines, number * 37, shape.window, counting, over)
                })
            })
            .collect();
        ready.wait();
        thread::sleep(WARM_UP.max(time / 5));
        let (server, own, start) = (cpu::used(pid), own_cpu(), Instant::now());
        counting.store(true, Ordering::Relaxed);
        thread::sleep(time);
        counting.store(false, Ordering::Relaxed);
        let elapsed = start.elapsed();
        let (server, own) = (cpu::used(pid) - server, own_cpu() - own);
        over.store(true, Ordering::Relaxed);

        let mut all = Latencies::new();
        for client in clients {
            all.merge(&client.join().map_err(|_| Trouble::failed("a client panicked"))??);
        }
        if all.count() == 0 {
            return Err(Trouble::failed("not one login was answered"));
        }
        let each = |time: Duration| time.as_secs_f64() * 1e6 / all.count() as f64;
        Ok(Sample {
            rate: all.count() as f64 / elapsed.as_secs_f64(),
            p50: all.quantile(0.5),
            p99: all.quantile(0.99),
            cpu: each(server),
            client: each(own),
        })
    })
}

/// Our own threads' CPU time; the peers are other processes, and not among our own here.
fn own_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit_once(") ").map_or("", |(_, f)| f).split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

/// A connection behind its handshake.
pub(crate) struct Client {
    stream: UnixStream,
}

impl Client {
    pub(crate) fn connect(socket: &Path) -> Outcome<Self> {
        let mut stream = UnixStream::connect(socket).during(socket.display())?;
        stream.set_read_timeout(Some(STUCK)).during("a read deadline")?;
        stream.set_write_timeout(Some(STUCK)).during("a write deadline")?;
        stream.write_all(b"VERSION\t1\t0\nCPID\t4711\n").during("the handshake")?;
        let mut heard = Vec::new();
        let mut chunk = [0; 1024];
        while !heard.ends_with(b"DONE\n") {
            let n = stream.read(&mut chunk).during("the handshake")?;
            heard.extend_from_slice(&chunk[..n]);
            if n == 0 || heard.len() > 64 * 1024 {
                return Err(Trouble::failed("the handshake did not come to DONE"));
            }
        }
        Ok(Self { stream })
    }

    /// One login of the first user, for whoever wants to know that the server is there.
    pub(crate) fn once(&mut self) -> Outcome {
        let lines = lines();
        let mut out = b"AUTH\t1".to_vec();
        out.extend_from_slice(&lines[0].request);
        self.stream.write_all(&out).during("a login")?;
        let mut heard = Vec::new();
        let mut chunk = [0; 1024];
        while !heard.ends_with(b"\n") {
            let n = self.stream.read(&mut chunk).during("a login")?;
            heard.extend_from_slice(&chunk[..n]);
            if n == 0 {
                return Err(Trouble::failed("the connection was closed on a login"));
            }
        }
        if heard.starts_with(b"OK\t1\t") {
            return Ok(());
        }
        Err(Trouble::failed(format!("not let in: {}", String::from_utf8_lossy(&heard))))
    }

    /// Keeps `window` logins in flight until it is `over`, then hears the rest out.
    fn run(
        mut self,
        lines: &[Lines],
        first: usize,
        window: usize,
        counting: &AtomicBool,
        over: &AtomicBool,
    ) -> Outcome<Latencies> {
        let mut all = Latencies::new();
        let mut flight = Flight::new(lines, first, window);
        let mut out = Vec::with_capacity(window * 160);
        let mut chunk = vec![0; 256 * 1024];
        let mut have = 0;
        flight.send(window, &mut out);
        while flight.open > 0 {
            if !out.is_empty() {
                self.stream.write_all(&out).during("sending logins")?;
                out.clear();
            }
            let n = self.stream.read(&mut chunk[have..]).during("waiting for replies")?;
            if n == 0 {
                return Err(Trouble::failed(format!(
                    "the connection was closed with {} logins open",
                    flight.open
                )));
            }
            let (now, end) = (Instant::now(), have + n);
            let count = counting.load(Ordering::Relaxed);
            let (mut from, mut answered) = (0, 0);
            for at in memchr::memchr_iter(b'\n', &chunk[..end]) {
                let sent = flight.reply(&chunk[from..at])?;
                if count {
                    all.add(now - sent);
                }
                answered += 1;
                from = at + 1;
            }
            chunk.copy_within(from..end, 0);
            have = end - from;
            if have == chunk.len() {
                return Err(Trouble::failed("a reply without an end"));
            }
            if !over.load(Ordering::Relaxed) {
                flight.send(answered, &mut out);
            }
        }
        Ok(all)
    }
}

/// The logins that have no reply yet.
struct Flight<'a> {
    lines: &'a [Lines],
    first: usize,
    next: u32,
    open: usize,
    /// By id modulo its length; replies may come in any order.
    slots: Vec<Option<(u32, Instant)>>,
}

impl<'a> Flight<'a> {
    fn new(lines: &'a [Lines], first: usize, window: usize) -> Self {
        // Far more than in flight, so that a slow login is not in the way of quick ones.
        let slots = vec![None; (window * 16).next_power_of_two()];
        Self { lines, first, next: 1, open: 0, slots }
    }

    fn of(&self, id: u32) -> &'a Lines {
        &self.lines[(self.first + id as usize) % self.lines.len()]
    }

    fn slot(&mut self, id: u32) -> &mut Option<(u32, Instant)> {
        let at = id as usize & (self.slots.len() - 1);
        &mut self.slots[at]
    }

    fn send(&mut self, count: usize, out: &mut Vec<u8>) {
        let now = Instant::now();
        for _ in 0..count {
            let id = self.next;
            if self.slot(id).is_some() {
                // Its reply is thousands of logins behind: go on with fewer.
                return;
            }
            *self.slot(id) = Some((id, now));
            out.extend_from_slice(b"AUTH\t");
            let mut digits = [0; 10];
            let mut at = digits.len();
            let mut rest = id;
            while rest > 0 {
                at -= 1;
                digits[at] = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
            out.extend_from_slice(&digits[at..]);
            out.extend_from_slice(&self.of(id).request);
            self.next = self.next.checked_add(1).unwrap_or(1);
            self.open += 1;
        }
    }

    /// Checks one line: `OK<TAB>id<TAB>user=…`, for a login that is open, with its user.
    fn reply(&mut self, line: &[u8]) -> Outcome<Instant> {
        let wrong = || Trouble::failed(format!("wrong reply: {}", String::from_utf8_lossy(line)));
        let rest = line.strip_prefix(b"OK\t").ok_or_else(wrong)?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let id = rest[..digits]
            .iter()
            .try_fold(0u32, |id, byte| id.checked_mul(10)?.checked_add(u32::from(byte - b'0')))
            .ok_or_else(wrong)?;
        let user = self.of(id).user.as_slice();
        let tail = rest[digits..].strip_prefix(user).ok_or_else(wrong)?;
        if !(tail.is_empty() || tail[0] == b'\t') {
            return Err(wrong());
        }
        match self.slot(id).take() {
            Some((open, sent)) if open == id => {
                self.open -= 1;
                Ok(sent)
            }
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_in_any_order_are_matched_and_checked() {
        let lines = lines();
        let mut flight = Flight::new(&lines, 0, 4);
        let mut out = Vec::new();
        flight.send(3, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("AUTH\t1\tPLAIN\tservice=smtp\t") && text.ends_with('\n'));
        assert_eq!(text.lines().count(), 3);
        flight.reply(b"OK\t3\tuser=u4").unwrap();
        flight.reply(b"OK\t1\tuser=u2\tgroup=x").unwrap();
        assert_eq!(flight.open, 1);
        for wrong in [
            &b"OK\t1\tuser=u2"[..],
            b"OK\t2\tuser=u33",
            b"OK\t2\tuser=u4",
            b"FAIL\t2\tuser=u3",
            b"OK\t99999999999\tuser=u3",
            b"",
        ] {
            assert!(flight.reply(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
        flight.reply(b"OK\t2\tuser=u3").unwrap();
    }
}
