//! One connection of a mail server.

mod logins;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use countersign::{Peer, World};
use countersign_wire::dovecot::master::Cookie;
use countersign_wire::dovecot::{
    ClientLine, Dialect, Handshake, LINE_LIMIT, LineError, Lines, MAJOR,
};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::time::Instant;
use zeroize::Zeroize;

use super::Shared;
use crate::audit::Ledger;
use crate::engine::{Engine, Login, Unsettled, malformed};
use crate::front::Stop;
use crate::realm::Decision;
use logins::unheard;

/// Logins of one read that are answered together, at first; then twice as many, and so on. A client that
/// sends few waits less for the first, and one that sends many costs few writes more. Not while every core
/// works on other lines: then an early word wakes a client that would have to wait for a core.
const FIRST_BATCH: usize = 4;
/// The least that there is room for when a read begins.
const READ: usize = 4096;
/// At least a line with its end; more lets a busy client send more in one write.
const READ_AHEAD: usize = 64 * 1024;
/// A turn that took so many bytes of input lets other connections go first, and so does one in so many
/// turns: a client that always has more to say must not keep the runtime from anybody.
const LONG_TURN: usize = 16 * 1024;
const TURNS: u8 = 64;
/// Buffers for replies that have grown beyond this are given back.
const KEPT: usize = 64 * 1024;

type Running<'e> = Pin<Box<dyn Future<Output = Finished> + Send + 'e>>;

struct Finished {
    id: u32,
    serial: u64,
    unsettled: Unsettled<Decision>,
    /// What goes with a success.
    last_word: Option<Vec<u8>>,
}

/// What a step came to, and what goes with it if that is a success.
type Stepped = (Unsettled<Decision>, Option<Vec<u8>>);

struct Connection<'e> {
    stream: UnixStream,
    engine: &'e Engine,
    shared: &'e Shared,
    dialect: Dialect,
    greeted: Greeted,
    input: Vec<u8>,
    output: Vec<u8>,
    ledger: Ledger,
    /// Those whose client takes a mechanism's last message together with OK.
    take_last_words: HashSet<u32>,
    /// Logins that wait for the client's CONT.
    waiting: HashMap<u32, Login>,
    /// Logins that a checker works on, by id, with the serial number of the one that counts.
    running: HashMap<u32, u64>,
    /// All that run: also those whose reply nobody waits for any more, which is why the limit counts these.
    tasks: FuturesUnordered<Running<'e>>,
    serial: u64,
    /// The last login's peer: the next is usually the same.
    peer: Option<Arc<Peer>>,
    uid: Option<u32>,
    cookie: Cookie,
    /// The client's process id, from its greeting.
    pid: u32,
    /// Mechanisms of logins that somebody will ask for on a master socket.
    to_hand_over: HashMap<u32, Cow<'static, str>>,
    /// Whether any was handed over.
    handed_over: bool,
    closing: bool,
    /// When what the client owes us (its greeting, the rest of a line) is overdue.
    overdue: Option<Instant>,
    turns: u8,
    long_turn: bool,
    /// The client is gone, or what was decided cannot be recorded.
    over: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Greeted {
    /// Waits for VERSION.
    No,
    /// Waits for CPID.
    Version,
    Yes,
}

/// Serves one connection to its end.
pub(super) async fn serve(
    stream: UnixStream,
    cuid: u32,
    engine: &Engine,
    shared: &Shared,
    mut stop: Stop,
) {
    let mut cookie = [0; 16];
    engine.world.fill(&mut cookie);
    let uid = stream.peer_cred().ok().map(|credentials| credentials.uid());
    let mut connection = Connection {
        stream,
        engine,
        shared,
        dialect: Dialect::default(),
        greeted: Greeted::No,
        input: Vec::new(),
        output: Vec::new(),
        ledger: Ledger::default(),
        take_last_words: HashSet::new(),
        waiting: HashMap::new(),
        running: HashMap::new(),
        tasks: FuturesUnordered::new(),
        serial: 0,
        peer: None,
        uid,
        cookie: Cookie(cookie),
        pid: 0,
        to_hand_over: HashMap::new(),
        handed_over: false,
        closing: false,
        overdue: None,
        turns: 0,
        long_turn: false,
        over: false,
    };
    let handshake =
        Handshake { mechanisms: &shared.offers, spid: std::process::id(), cuid, cookie };
    handshake.encode(&mut connection.output);
    let _counted = Counted::one_more(&engine.metrics.connections);
    connection.run(&mut stop).await;
    connection.end().await;
}

impl<'e> Connection<'e> {
    async fn run(&mut self, stop: &mut Stop) {
        loop {
            if self.over || !self.tell_so_far().await || (self.closing && self.running.is_empty()) {
                return;
            }
            self.note_what_is_owed();
            self.turns = (self.turns + 1) % TURNS;
            if std::mem::take(&mut self.long_turn) || self.turns == 0 {
                // What comes last below may never be looked at while there is more to read.
                self.closing |= stop.is_requested() || self.is_overdue();
                tokio::task::yield_now().await;
            }
            self.make_room();
            tokio::select! {
                biased;
                Some(finished) = self.tasks.next(), if !self.tasks.is_empty() => {
                    self.finished(finished);
                    // Those that are done by now share its write.
                    while let Some(Some(finished)) = self.tasks.next().now_or_never() {
                        self.finished(finished);
                    }
                }
                read = self.stream.read_buf(&mut self.input), if !self.closing => match read {
                    Ok(0) | Err(_) => return,
                    Ok(_) => self.handle_input().await,
                },
                () = stop.requested(), if !self.closing => self.closing = true,
                () = until(self.overdue), if self.overdue.is_some() && !self.closing => {
                    self.closing = true;
                }
            }
        }
    }

    /// A client that sends nothing has all the time in the world, unless it owes us the rest of something.
    fn note_what_is_owed(&mut self) {
        let owes = self.greeted != Greeted::Yes || !self.input.is_empty();
        self.overdue = match self.overdue {
            _ if !owes => None,
            None => Some(Instant::now() + self.shared.options.patience),
            since => since,
        };
    }

    fn is_overdue(&self) -> bool {
        self.overdue.is_some_and(|overdue| overdue <= Instant::now())
    }

    /// Makes room to read into. A line that is too long is found at `LINE_LIMIT`, so the input is never
    /// larger than a read beyond that.
    fn make_room(&mut self) {
        let (filled, capacity) = (self.input.len(), self.input.capacity());
        if capacity - filled >= READ {
            return;
        }
        let mut larger =
            Vec::with_capacity((capacity * 2).clamp(READ, READ_AHEAD).max(filled + READ));
        larger.extend_from_slice(&self.input);
        // It holds part of a password, perhaps.
        std::mem::replace(&mut self.input, larger).zeroize();
    }

    async fn handle_input(&mut self) {
        let shared = self.shared;
        let _counted = Counted::one_more(&shared.at_work);
        let mut input = std::mem::take(&mut self.input);
        let mut lines = Lines::new(&input, LINE_LIMIT);
        let (mut untold, mut patience) = (0, FIRST_BATCH);
        while !self.closing {
            match lines.next() {
                Some(Ok(line)) => {
                    self.handle_line(line).await;
                    untold += 1;
                    if untold >= patience
                        && shared.at_work.load(Ordering::Relaxed) < shared.cores
                        && input[lines.consumed()..].contains(&b'\n')
                    {
                        // While the client works on these, we work on the rest.
                        (untold, patience) = (0, patience * 2);
                        if !self.tell_so_far().await {
                            break;
                        }
                    }
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "a client of the dovecot socket is disconnected");
                    self.closing = true;
                }
                None => break,
            }
        }
        let consumed = lines.consumed();
        input.copy_within(consumed.., 0);
        let rest = input.len() - consumed;
        // The lines held passwords, and so does what is left where the rest was.
        input[rest..].zeroize();
        input.truncate(rest);
        self.input = input;
        self.long_turn = consumed >= LONG_TURN;
        if consumed > 0 && self.greeted == Greeted::Yes {
            // A client that is always in the middle of its next line is busy, not slow.
            self.overdue = None;
        }
    }

    /// Records and sends what is decided so far. `false`: the connection is over.
    async fn tell_so_far(&mut self) -> bool {
        if self.engine.commit(&mut self.ledger).is_err() {
            // Nothing that was decided may be told without a record. Mail servers take a closed connection
            // for a temporary failure, which it is.
            self.output.clear();
            self.over = true;
        } else if !self.flush().await {
            self.over = true;
        }
        !self.over
    }

    async fn handle_line(&mut self, line: &[u8]) {
        if self.greeted == Greeted::No && !line.starts_with(b"VERSION\t") {
            tracing::warn!("a client of the dovecot socket does not begin with VERSION");
            self.closing = true;
            return;
        }
        match ClientLine::parse(line, &self.dialect) {
            Ok(ClientLine::Version { major: MAJOR, minor }) if self.greeted == Greeted::No => {
                self.dialect.minor = minor;
                self.greeted = Greeted::Version;
            }
            Ok(ClientLine::Version { major, .. }) => {
                tracing::warn!(major, "a client of the dovecot socket says VERSION out of place");
                self.closing = true;
            }
            Ok(ClientLine::Cpid(pid)) => {
                self.pid = pid;
                self.greeted = Greeted::Yes;
            }
            Ok(ClientLine::Unknown(_)) => {}
            Ok(_) | Err(LineError::Rejected(_)) if self.greeted != Greeted::Yes => {
                tracing::warn!("a client of the dovecot socket logs somebody in before its CPID");
                self.closing = true;
            }
            Ok(ClientLine::Auth(request)) => self.auth(request).await,
            Ok(ClientLine::Cont { id, data }) => self.cont(id, data).await,
            Ok(ClientLine::Cancel { id }) => self.cancel(id),
            Ok(_) => {}
            Err(LineError::Rejected(rejected)) => {
                // A pending login of that id cannot go on: its client and we disagree about it.
                self.forget(rejected.id);
                let denial = malformed(rejected.to_string());
                self.engine.refuse(&self.client(), &denial, &mut self.ledger);
                rejected.fail(&mut self.output);
            }
            Err(LineError::Framing(error)) => {
                tracing::warn!(%error, "a client of the dovecot socket is disconnected");
                self.closing = true;
            }
        }
    }

    /// Closes, and sees to the record. What waited for the client is over. What a checker works on goes on
    /// to its end, which its deadline brings: who hangs up early must not guess without a record.
    async fn end(self) {
        let Self { stream, engine, mut ledger, waiting, mut tasks, mut input, .. } = self;
        if let (true, Some(handovers)) = (self.handed_over, &self.shared.options.handovers) {
            handovers.forget(self.cookie);
        }
        drop(stream);
        input.zeroize();
        for login in waiting.into_values() {
            engine.cancel(login, &mut ledger);
        }
        // Nobody is told anything any more, and a failure is logged and counted.
        let _ = engine.commit(&mut ledger);
        while let Some(finished) = tasks.next().await {
            unheard(engine, finished, &mut ledger);
            let _ = engine.commit(&mut ledger);
        }
    }

    /// Writes all of the output. `false`: the client is gone, or does not read.
    async fn flush(&mut self) -> bool {
        let mut written = 0;
        let mut deadline = None;
        while written < self.output.len() {
            match self.stream.try_write(&self.output[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    // For all of it: one byte now and then is no progress.
                    let patience = self.shared.options.patience;
                    let deadline = *deadline.get_or_insert_with(|| Instant::now() + patience);
                    match tokio::time::timeout_at(deadline, self.stream.writable()).await {
                        Ok(Ok(())) => {}
                        _ => return false,
                    }
                }
                Err(_) => return false,
            }
        }
        self.output.clear();
        self.output.shrink_to(KEPT);
        true
    }
}

/// One more of something, for as long as it lives.
struct Counted<'c>(&'c AtomicI64);

impl<'c> Counted<'c> {
    fn one_more(count: &'c AtomicI64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
