//! SCRAM-SHA-256 over Dovecot's client protocol, with stored keys: by Dovecot's own service and by ours.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use countersign_interop::{
    Config, Context, Countersign, DovecotAuth, Outcome, Profile, Stage, Trouble, command_within,
    ensure,
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::{figure, load};
use crate::bench::latency::Latencies;
use crate::bench::{Effort, USERS, cpu, median, ours};
use crate::figures::{Figures, Promise};

const CONNECTIONS: usize = 4;
/// Logins in flight on each.
const WINDOW: usize = 16;
const ITERATIONS: u32 = 4096;
const WARM_UP: Duration = Duration::from_millis(300);
const STUCK: Duration = Duration::from_secs(30);
const IMPORT: Duration = Duration::from_secs(120);
const MECHANISM: &str = "SCRAM-SHA-256";

/// A user, with what a client that remembers keys knows, and what a server has.
struct User {
    name: String,
    salt: String,
    client_key: [u8; 32],
    stored_key: [u8; 32],
    server_key: [u8; 32],
}

struct Sample {
    rate: f64,
    cpu: f64,
    p50: f64,
    p99: f64,
}

pub(crate) fn measure(effort: &Effort) -> Outcome<Vec<Figures>> {
    let users: Vec<User> = (1..=USERS).map(|user| User::new(user, &salt(user))).collect();
    let stage = Stage::new()?;
    let text: String = users.iter().map(User::line).collect();
    let passwd = stage.file("passwd", &text)?;
    let peer = DovecotAuth::start_by(&stage, &passwd, MECHANISM)?;
    // Accounts keep keys; a password file of ours has none.
    let config = Config {
        dovecot: Some(stage.folder("sockets")?.join("auth")),
        mechanisms: &[MECHANISM, "PLAIN"],
        quiet: true,
        more: format!(
            "[accounts]\nscram = [{MECHANISM:?}]\nscram_iterations = {ITERATIONS}\n\
             argon2_memory_kib = 64\nargon2_passes = 1\n\n[throttle]\nenabled = false\n"
        ),
        ..Config::default()
    };
    let socket = config.dovecot.as_deref().during("the socket's path")?;
    let server = if effort.ours { Some(ours(&stage, &config)?) } else { None };
    let known = match &server {
        Some(server) => enrolled(&stage, server, socket)?,
        None => Vec::new(),
    };

    let (mut theirs, mut mine) = (Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        theirs.push(loaded(&users, &peer.socket, peer.pid(), effort.time)?);
        if let Some(server) = &server {
            mine.push(loaded(&known, socket, server.pid(), effort.time)?);
        }
    }
    let middle = |samples: &[Sample], of: fn(&Sample) -> f64| {
        (!samples.is_empty()).then(|| median(samples.iter().map(of).collect()))
    };
    let line = |name: &str, unit, of: fn(&Sample) -> f64, promise| {
        let name = format!("{CONNECTIONS} × {WINDOW}: {name}");
        figure(name, middle(&theirs, of), middle(&mine, of), unit, promise)
    };
    Ok(vec![Figures {
        title: format!("{MECHANISM} over Dovecot's protocol, with stored keys"),
        peer: "Dovecot auth",
        lines: vec![
            line("logins", "1/s", |s| s.rate, Some(Promise::AtLeast(1.5))),
            line("server CPU for each", "µs", |s| s.cpu, None),
            line("p50", "µs", |s| s.p50, None),
            line("p99", "µs", |s| s.p99, None),
        ],
        notes: vec![format!(
            "{USERS} users in a passwd-file there and in the store here, {ITERATIONS} iterations, which nobody computes at a login: the server has \
             the keys and the client remembers its own. Connections × logins in flight on each, medians of {} \
             alternating measurements of {:?}, audit, penalties and metrics off on both sides, at a load of {}. \
             Every signature of the server is checked.",
            effort.rounds,
            effort.time,
            load(),
        )],
    }])
}

impl User {
    fn new(number: usize, salt: &[u8]) -> Self {
        let salted =
            pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(secret(number).as_bytes(), salt, ITERATIONS);
        let client_key = hmac(&salted, b"Client Key");
        Self {
            name: format!("u{number}"),
            salt: BASE64_STANDARD.encode(salt),
            client_key,
            stored_key: Sha256::digest(client_key).into(),
            server_key: hmac(&salted, b"Server Key"),
        }
    }

    /// As Dovecot reads it.
    fn line(&self) -> String {
        let Self { name, salt, .. } = self;
        let [stored, server] =
            [&self.stored_key, &self.server_key].map(|key| BASE64_STANDARD.encode(key));
        format!("{name}:{{{MECHANISM}}}{ITERATIONS},{salt},{stored},{server}\n")
    }
}

fn secret(number: usize) -> String {
    format!("secret{number}")
}

fn salt(number: usize) -> Vec<u8> {
    Sha256::digest(format!("salt {number}"))[..16].to_vec()
}

/// Has our server import the users and make their keys, at a first login by password. Its salts are its own; a client
/// that remembers keys has seen them once.
fn enrolled(stage: &Stage, server: &Countersign, socket: &Path) -> Outcome<Vec<User>> {
    let line = |user| {
        format!("u{user}:{{SHA256}}{}\n", BASE64_STANDARD.encode(Sha256::digest(secret(user))))
    };
    let file = stage.file("import", &(1..=USERS).map(line).collect::<String>())?;
    let (file, data) = (file.display().to_string(), server.data.display().to_string());
    let words = ["import", "dovecot", &file, "--data", &data];
    command_within(Profile::Release, &words, "", IMPORT)?;
    let stream = connect(socket)?;
    let mut talk = BufReader::new(stream);
    let mut ask = |request: String| {
        talk.get_mut().write_all(request.as_bytes()).during("sending")?;
        let mut reply = String::new();
        talk.read_line(&mut reply).during("a reply")?;
        Outcome::Ok(reply)
    };
    let mut known = Vec::with_capacity(USERS);
    let mut id = 0;
    'users: for number in 1..=USERS {
        // Keys are kept beside the login that has brought the password, perhaps a moment later.
        let until = Instant::now() + STUCK;
        while Instant::now() < until {
            id += 2;
            let reply = ask(begin(id, "PLAIN", &format!("\0u{number}\0{}", secret(number))))?;
            ensure!(reply.starts_with("OK\t"), "u{number} by password: {reply}");
            let nonce = format!("learn{id}");
            let reply = ask(begin(id + 1, MECHANISM, &format!("n,,n=u{number},r={nonce}")))?;
            let first = reply.trim_end().rsplit('\t').next().unwrap_or_default();
            let first = BASE64_STANDARD.decode(first).during(&reply)?;
            let first = String::from_utf8(first).during(&reply)?;
            let salt = first.split(',').find_map(|field| field.strip_prefix("s="));
            let salt = BASE64_STANDARD.decode(salt.during(&first)?).during(&first)?;
            let user = User::new(number, &salt);
            let mut login = Login { begun: Instant::now(), user: 0, nonce, signature: None };
            let last = login.answer(&user, &first).during(&first)?;
            let last = BASE64_STANDARD.encode(last);
            if ask(format!("CONT\t{}\t{last}\n", id + 1))?.starts_with("OK\t") {
                known.push(user);
                continue 'users;
            }
            thread::sleep(Duration::from_millis(10));
        }
        return Err(Trouble::failed(format!("no keys are kept of u{number}")));
    }
    Ok(known)
}

/// The line that begins a login with the client's first message.
fn begin(id: usize, mechanism: &str, message: &str) -> String {
    let message = BASE64_STANDARD.encode(message);
    format!(
        "AUTH\t{id}\t{mechanism}\tservice=smtp\tnologin\tlip=127.0.0.1\trip=127.0.0.1\tsecured\t\
         final-resp-ok\tresp={message}\n"
    )
}

fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(text);
    mac.finalize().into_bytes().into()
}

fn loaded(users: &[User], socket: &Path, pid: u32, time: Duration) -> Outcome<Sample> {
    let (counting, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let ready = Barrier::new(CONNECTIONS + 1);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                let (counting, over, ready) = (&counting, &over, &ready);
                scope.spawn(move || {
                    let connected = connect(socket);
                    // Also when it did not succeed: the others are waiting.
                    ready.wait();
                    let stream = connected?;
                    Client { stream, users, next: 1, first: number * 37, open: HashMap::new() }
                        .run(counting, over)
                })
            })
            .collect();
        ready.wait();
        thread::sleep(WARM_UP);
        let (before, begun) = (cpu::used(pid), Instant::now());
        counting.store(true, Ordering::Relaxed);
        thread::sleep(time);
        counting.store(false, Ordering::Relaxed);
        let (took, used) = (begun.elapsed(), cpu::used(pid) - before);
        over.store(true, Ordering::Relaxed);
        let mut all = Latencies::new();
        for client in clients {
            all.merge(&client.join().map_err(|_| Trouble::failed("a client panicked"))??);
        }
        ensure!(all.count() > 0, "not one login was answered");
        let count = all.count() as f64;
        Ok(Sample {
            rate: count / took.as_secs_f64(),
            cpu: used.as_secs_f64() * 1e6 / count,
            p50: all.quantile(0.5),
            p99: all.quantile(0.99),
        })
    })
}

/// A connection behind its handshake.
fn connect(socket: &Path) -> Outcome<UnixStream> {
    let mut stream = UnixStream::connect(socket).during(socket.display())?;
    stream.set_read_timeout(Some(STUCK)).during("a read deadline")?;
    stream.set_write_timeout(Some(STUCK)).during("a write deadline")?;
    stream.write_all(b"VERSION\t1\t2\nCPID\t4711\n").during("the handshake")?;
    let (mut heard, mut chunk) = (Vec::new(), [0; 1024]);
    while !heard.ends_with(b"DONE\n") {
        let n = stream.read(&mut chunk).during("the handshake")?;
        heard.extend_from_slice(&chunk[..n]);
        ensure!(n > 0 && heard.len() < 64 * 1024, "the handshake did not come to DONE");
    }
    Ok(stream)
}

/// A connection with its logins.
struct Client<'a> {
    stream: UnixStream,
    users: &'a [User],
    first: usize,
    next: u32,
    open: HashMap<u32, Login>,
}

struct Login {
    begun: Instant,
    user: usize,
    nonce: String,
    /// What the server will say when it is the server.
    signature: Option<String>,
}

impl Client<'_> {
    fn run(mut self, counting: &AtomicBool, over: &AtomicBool) -> Outcome<Latencies> {
        let mut all = Latencies::new();
        let mut out = String::new();
        let (mut have, mut chunk) = (Vec::new(), vec![0; 64 * 1024]);
        (0..WINDOW).for_each(|_| self.begin(&mut out));
        while !self.open.is_empty() {
            if !out.is_empty() {
                self.stream.write_all(out.as_bytes()).during("sending")?;
                out.clear();
            }
            let n = self.stream.read(&mut chunk).during("waiting for replies")?;
            ensure!(n > 0, "closed with {} logins open", self.open.len());
            have.extend_from_slice(&chunk[..n]);
            let mut from = 0;
            for at in memchr::memchr_iter(b'\n', &have) {
                let line = std::str::from_utf8(&have[from..at]).during("a reply")?;
                from = at + 1;
                if let Some(begun) = self.reply(line, &mut out)? {
                    if counting.load(Ordering::Relaxed) {
                        all.add(begun.elapsed());
                    }
                    if !over.load(Ordering::Relaxed) {
                        self.begin(&mut out);
                    }
                }
            }
            have.drain(..from);
        }
        Ok(all)
    }

    fn begin(&mut self, out: &mut String) {
        let id = self.next;
        self.next = self.next.checked_add(1).unwrap_or(1);
        let user = (self.first + id as usize) % self.users.len();
        let nonce = format!("bench{}x{id}", self.first);
        let first = format!("n,,n={},r={nonce}", self.users[user].name);
        out.push_str(&begin(id as usize, MECHANISM, &first));
        self.open.insert(id, Login { begun: Instant::now(), user, nonce, signature: None });
    }

    /// One line; when the login began that ends with it.
    fn reply(&mut self, line: &str, out: &mut String) -> Outcome<Option<Instant>> {
        let wrong = || Trouble::failed(format!("wrong reply: {line}"));
        let mut words = line.split('\t');
        let (kind, id) = (words.next(), words.next().and_then(|id| id.parse::<u32>().ok()));
        let id = id.ok_or_else(wrong)?;
        let login = self.open.get_mut(&id).ok_or_else(wrong)?;
        let user = &self.users[login.user];
        let decoded = |text: &str| {
            BASE64_STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok())
        };
        match kind {
            Some("CONT") => {
                let first = words.next().and_then(decoded).ok_or_else(wrong)?;
                let last = login.answer(user, &first).ok_or_else(wrong)?;
                let _ = writeln!(out, "CONT\t{id}\t{}", BASE64_STANDARD.encode(last));
                Ok(None)
            }
            Some("OK") => {
                let mut name = None;
                let mut signature = None;
                for word in words {
                    match word.split_once('=') {
                        Some(("user", value)) => name = Some(value),
                        Some(("resp", value)) => signature = decoded(value),
                        _ => {}
                    }
                }
                let right = name == Some(&*user.name)
                    && signature.is_some()
                    && signature == login.signature;
                ensure!(right, "{line}, and the signature is {:?}", login.signature);
                Ok(self.open.remove(&id).map(|login| login.begun))
            }
            _ => Err(wrong()),
        }
    }
}

impl Login {
    /// The client's last message (RFC 5802 §3).
    fn answer(&mut self, user: &User, first: &str) -> Option<String> {
        let mut fields = first.split(',');
        let (nonce, salt) = (fields.next()?, fields.next()?);
        let both = nonce.strip_prefix("r=")?;
        // Its own nonce, with the server's behind it, and the salt that its keys were made with.
        if !both.starts_with(&self.nonce) || salt.strip_prefix("s=")? != user.salt {
            return None;
        }
        let bare = format!("n={},r={}", user.name, self.nonce);
        let without = format!("c=biws,{nonce}");
        let message = format!("{bare},{first},{without}");
        let signature = hmac(&user.stored_key, message.as_bytes());
        let mut proof = user.client_key;
        proof.iter_mut().zip(signature).for_each(|(byte, other)| *byte ^= other);
        let server = hmac(&user.server_key, message.as_bytes());
        self.signature = Some(format!("v={}", BASE64_STANDARD.encode(server)));
        Some(format!("{without},p={}", BASE64_STANDARD.encode(proof)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677 §3.
    #[test]
    fn the_example_of_the_rfc() {
        let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let salted = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(b"pencil", &salt, 4096);
        let client_key = hmac(&salted, b"Client Key");
        let user = User {
            name: "user".into(),
            salt: "W22ZaJ0SNY7soEsUEjb6gQ==".into(),
            client_key,
            stored_key: Sha256::digest(client_key).into(),
            server_key: hmac(&salted, b"Server Key"),
        };
        let nonce = "rOprNGfwEbeRWgbNEkqO".to_owned();
        let mut login = Login { begun: Instant::now(), user: 0, nonce, signature: None };
        let first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let last = login.answer(&user, first).unwrap();
        assert!(last.ends_with("p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="), "{last}");
        let signature = login.signature.unwrap();
        assert_eq!(signature, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }
}
