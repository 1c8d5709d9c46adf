//! Logins over POP3: connect, USER, PASS, QUIT; the page's sketch in Twisted, and `examples/mail`.

use std::io::{ErrorKind, Read, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use countersign_interop::{Context, Outcome, Peer, Stage, Trouble, Twisted, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

use super::{bare, built, core, driver, figure, load, pinned, word};
use crate::bench::latency::Latencies;
use crate::bench::{Effort, USERS, cpu, median};
use crate::figures::{Figures, Promise};
use crate::steps::root;

const READY: Duration = Duration::from_secs(30);
/// Not counted.
const WARM_UP: Duration = Duration::from_millis(300);
/// No reply within this: the server is stuck, and so is the measurement.
const STUCK: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };
/// Clients at a time.
const CLIENTS: [usize; 2] = [1, 50];

/// A server under load.
struct Server {
    peer: Peer,
    port: u16,
}

struct Sample {
    rate: f64,
    p50: f64,
    p99: f64,
    /// The server's CPU, in microseconds for each login.
    cpu: f64,
    /// The client's.
    own: f64,
}

pub(crate) fn measure(effort: &Effort) -> Outcome<Vec<Figures>> {
    let twisted = Twisted::provide()?;
    let stage = Stage::new()?;
    let ours = if effort.ours { Some(mail(&stage)?) } else { None };
    let theirs = sketch(&stage, &twisted)?;
    let least = least(&stage)?;

    let mut lines = Vec::new();
    for clients in CLIENTS {
        let (mut peer, mut mine, mut bare) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..effort.rounds {
            peer.push(driven(&theirs, clients, effort.time)?);
            bare.push(driven(&least, clients, effort.time)?);
            if let Some(server) = &ours {
                mine.push(driven(server, clients, effort.time)?);
            }
        }
        let middle = |samples: &[Sample], of: fn(&Sample) -> f64| {
            (!samples.is_empty()).then(|| median(samples.iter().map(of).collect()))
        };
        let full = clients > 1;
        let mut line = |name: &str, unit, of: fn(&Sample) -> f64, promise| {
            let name = format!("{clients} at a time: {name}");
            lines.push(figure(name, middle(&peer, of), middle(&mine, of), unit, promise));
        };
        // One client alone mostly waits for the network, on either side.
        line("logins", "1/s", |s| s.rate, full.then_some(Promise::AtLeast(4.0)));
        line("server CPU for each", "µs", |s| s.cpu, None);
        line("p50", "µs", |s| s.p50, None);
        line("p99", "µs", |s| s.p99, Some(Promise::AtMost(1.0)));
        let mut line = |name: &str, unit, of: fn(&Sample) -> f64| {
            let name = format!("{clients} at a time: a bare loop that answers `+OK`: {name}");
            lines.push(figure(name, None, middle(&bare, of), unit, None));
        };
        line("logins", "1/s", |s| s.rate);
        line("its CPU for each", "µs", |s| s.cpu);
        line("the client's CPU for each", "µs", |s| s.own);
        line("p99", "µs", |s| s.p99);
    }
    Ok(vec![Figures {
        title: "POP3 logins, beside the page's sketch in Twisted".into(),
        peer: "Twisted",
        lines,
        notes: vec![format!(
            "Connect, USER, PASS, QUIT over loopback, {USERS} users in memory; the server on one core, the client on \
             the others; medians of {} alternating measurements of {:?}, at a load of {}. Ours is \
             `examples/mail`, which gives each login a Maildir to itself; the sketch has no mail. The bare loop \
             is what the system takes for the same bytes when nobody is asked and nothing is kept: no server on \
             that core takes less, and no client on this one asks for more.",
            effort.rounds,
            effort.time,
            load(),
        )],
    }])
}

fn sketch(stage: &Stage, twisted: &Twisted) -> Outcome<Server> {
    let command = driver(twisted, &["pop3", &USERS.to_string()]);
    let mut peer = Peer::start(stage, "twisted-pop3", &mut pinned(&command))?;
    let log = stage.at("twisted-pop3.log");
    let port = peer.until("its port", READY, || said(&log)?.lines().next()?.trim().parse().ok())?;
    Ok(Server { peer, port })
}

/// This program, as the least that there can be.
fn least(stage: &Stage) -> Outcome<Server> {
    let mut command = Command::new(std::env::current_exe().during("this program")?);
    command.arg(bare::TASK);
    let mut peer = Peer::start(stage, "bare", &mut pinned(&command))?;
    let log = stage.at("bare.log");
    let port = peer.until("its port", READY, || said(&log)?.lines().next()?.trim().parse().ok())?;
    Ok(Server { peer, port })
}

fn mail(stage: &Stage) -> Outcome<Server> {
    if !root().join("examples/mail").is_dir() {
        return Err(Trouble::not_run("there is no `examples/mail`"));
    }
    let program = built(&["--package", "countersign-example-mail"], "countersign-example-mail")?;
    let users: String = (1..=USERS).map(|user| format!(":u{user}:secret{user}")).collect();
    let mut command = Command::new(program);
    command.args(["--pop3", "127.0.0.1:0", "--mail", &word(&stage.folder("mail")?)]);
    command.args(["--auth", &format!("memory{users}")]);
    let mut peer = Peer::start(stage, "mail", &mut pinned(&command))?;
    let log = stage.at("mail.log");
    let port = peer.until("its port", READY, || {
        said(&log)?.lines().find_map(|line| line.strip_prefix("pop3 on 127.0.0.1:")?.parse().ok())
    })?;
    Ok(Server { peer, port })
}

/// The CPU time of this thread.
fn own_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

fn said(log: &Path) -> Option<String> {
    std::fs::read_to_string(log).ok()
}

/// Clients for a time, in a thread that stays away from the server's core.
fn driven(server: &Server, clients: usize, time: Duration) -> Outcome<Sample> {
    std::thread::scope(|scope| {
        let driver = scope.spawn(|| {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            if cores > 1 {
                let mut others = CpuSet::new();
                (0..cores).filter(|core| *core != self::core()).for_each(|core| others.set(core));
                sched_setaffinity(None, &others).during("the client's cores")?;
            }
            drive(server, clients, time)
        });
        driver.join().map_err(|_| Trouble::failed("the client panicked"))?
    })
}

fn drive(server: &Server, clients: usize, time: Duration) -> Outcome<Sample> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).during("epoll")?;
    let mut talks = Vec::with_capacity(clients);
    for number in 0..clients {
        talks.push(Talk::begin(&epoll, server.port, number, number)?);
    }
    let (mut next, mut all) = (clients, Latencies::new());
    let (mut counting, mut until) = (None, Instant::now() + WARM_UP);
    let mut events = Vec::with_capacity(clients);
    loop {
        let now = Instant::now();
        if now >= until {
            match counting {
                None => {
                    counting = Some((now, cpu::used(server.peer.pid()), own_time()));
                    until = now + time;
                }
                Some((begun, before, own_before)) => {
                    let used = cpu::used(server.peer.pid()) - before;
                    let own = own_time() - own_before;
                    ensure!(all.count() > 0, "not one login was answered");
                    let count = all.count() as f64;
                    return Ok(Sample {
                        rate: count / (now - begun).as_secs_f64(),
                        p50: all.quantile(0.5),
                        p99: all.quantile(0.99),
                        cpu: used.as_secs_f64() * 1e6 / count,
                        own: own.as_secs_f64() * 1e6 / count,
                    });
                }
            }
        }
        epoll::wait(&epoll, spare_capacity(&mut events), Some(&STUCK)).during("waiting")?;
        ensure!(!events.is_empty(), "nothing came for 30 seconds");
        for event in events.drain(..) {
            let number = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            let talk = talks.get_mut(number).during("a client of that number")?;
            if talk.heard()? {
                if counting.is_some() {
                    all.add(talk.begun.elapsed());
                }
                *talk = Talk::begin(&epoll, server.port, number, next)?;
                next += 1;
            }
        }
    }
}

/// One login.
struct Talk {
    stream: TcpStream,
    user: usize,
    begun: Instant,
    /// Replies that came.
    replies: usize,
    line: Vec<u8>,
}

impl Talk {
    fn begin(epoll: &std::os::fd::OwnedFd, port: u16, number: usize, turn: usize) -> Outcome<Self> {
        let begun = Instant::now();
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None);
        let socket = socket.during("a socket")?;
        match connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(Trouble::failed(format!("connecting: {error}"))),
        }
        // The server speaks first, so that there is nothing to wait for but a line.
        let data = epoll::EventData::new_u64(number as u64);
        epoll::add(epoll, &socket, data, epoll::EventFlags::IN).during("epoll")?;
        let user = turn * 7919 % USERS + 1;
        Ok(Self { stream: TcpStream::from(socket), user, begun, replies: 0, line: Vec::new() })
    }

    /// Reads what came, and answers; true at the end.
    fn heard(&mut self) -> Outcome<bool> {
        let mut chunk = [0; 512];
        let count = match self.stream.read(&mut chunk) {
            Ok(0) => return Err(Trouble::failed(format!("closed after {} replies", self.replies))),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(Trouble::failed(format!("reading: {error}"))),
        };
        self.line.extend_from_slice(&chunk[..count]);
        if !self.line.ends_with(b"\n") {
            ensure!(self.line.len() < 512, "a reply without an end");
            return Ok(false);
        }
        let reply = String::from_utf8_lossy(&self.line);
        ensure!(reply.starts_with("+OK"), "after {} replies: {reply}", self.replies);
        self.line.clear();
        self.replies += 1;
        let command = match self.replies {
            1 => format!("USER u{}\r\n", self.user),
            2 => format!("PASS secret{}\r\n", self.user),
            3 => "QUIT\r\n".to_owned(),
            _ => return Ok(true),
        };
        self.stream.write_all(command.as_bytes()).during("a command")?;
        Ok(false)
    }
}
