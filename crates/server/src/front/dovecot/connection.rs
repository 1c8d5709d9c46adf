//! One connection of a mail server.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use countersign::{
    Answers, Challenge, Denial, Fault, Peer, Public, Reason, Request, Secret, Transport, World,
};
use countersign_wire::dovecot::{
    AuthRequest, ClientLine, Dialect, Fail, FailCode, Handshake, InitialResponse, LINE_LIMIT,
    LineError, Lines, MAJOR, Secured, encode_cont, encode_ok,
};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::UnixStream;
use tokio::time::Instant;
use zeroize::Zeroize;

use super::{OnFault, Shared, announced, supports};
use crate::audit::Ledger;
use crate::engine::{Engine, Login, Turn, Unsettled, malformed};
use crate::front::Stop;
use crate::realm::Decision;

const READ: usize = 4096;
/// At least a line with its end; more lets a busy client send more in one write.
const READ_AHEAD: usize = 64 * 1024;

type Running<'e> = Pin<Box<dyn Future<Output = Finished> + Send + 'e>>;

struct Finished {
    id: u32,
    serial: u64,
    unsettled: Unsettled<Decision>,
}

struct Connection<'e> {
    stream: UnixStream,
    engine: &'e Engine,
    shared: &'e Shared,
    dialect: Dialect,
    greeted: Greeted,
    input: Vec<u8>,
    output: Vec<u8>,
    ledger: Ledger,
    /// Logins that wait for the client's CONT.
    waiting: HashMap<u32, Login>,
    /// Logins that a checker works on, by id, with the serial number of the one that counts.
    running: HashMap<u32, u64>,
    tasks: FuturesUnordered<Running<'e>>,
    serial: u64,
    /// The last login's peer: the next is usually the same.
    peer: Option<Arc<Peer>>,
    uid: Option<u32>,
    closing: bool,
    /// When what the client owes us (its greeting, the rest of a line) is overdue.
    overdue: Option<Instant>,
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
        waiting: HashMap::new(),
        running: HashMap::new(),
        tasks: FuturesUnordered::new(),
        serial: 0,
        peer: None,
        uid,
        closing: false,
        overdue: None,
    };
    let handshake =
        Handshake { mechanisms: &shared.offers, spid: std::process::id(), cuid, cookie };
    handshake.encode(&mut connection.output);
    engine.metrics.connections.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    connection.run(&mut stop).await;
    connection.abandon();
    engine.metrics.connections.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
}

impl<'e> Connection<'e> {
    async fn run(&mut self, stop: &mut Stop) {
        loop {
            if self.engine.commit(&mut self.ledger).is_err() {
                // Nothing that was decided may be told without a record. Mail servers take a closed
                // connection for a temporary failure, which it is.
                return;
            }
            if !self.flush().await || (self.closing && self.running.is_empty()) {
                return;
            }
            // A client that sends nothing has all the time in the world, unless it owes us the rest of
            // something.
            let owes = self.greeted != Greeted::Yes || !self.input.is_empty();
            let overdue = match self.overdue {
                _ if !owes => None,
                None => Some(Instant::now() + self.shared.options.patience),
                since => since,
            };
            self.overdue = overdue;
            let reads = !self.closing && self.running.len() < self.shared.options.pending;
            tokio::select! {
                biased;
                Some(finished) = self.tasks.next(), if !self.tasks.is_empty() => {
                    self.finished(finished);
                }
                readable = self.stream.readable(), if reads => {
                    if readable.is_err() || !self.read() {
                        return;
                    }
                    self.handle_input().await;
                }
                () = stop.requested(), if !self.closing => self.closing = true,
                () = until(overdue), if overdue.is_some() && !self.closing => return,
            }
        }
    }

    /// Reads once. `false`: the client is gone.
    fn read(&mut self) -> bool {
        let filled = self.input.len();
        let room = if filled + READ > self.input.capacity() {
            (self.input.capacity() * 2).clamp(READ, READ_AHEAD)
        } else {
            self.input.capacity()
        };
        // A line that is too long is found at LINE_LIMIT, so there is always room for more here.
        self.input.resize(room.max(filled + READ), 0);
        let read = self.stream.try_read(&mut self.input[filled..]);
        self.input.truncate(filled + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(0) => false,
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }

    async fn handle_input(&mut self) {
        let mut input = std::mem::take(&mut self.input);
        let mut lines = Lines::new(&input, LINE_LIMIT);
        while !self.closing {
            match lines.next() {
                Some(Ok(line)) => self.handle_line(line).await,
                Some(Err(error)) => {
                    tracing::warn!(%error, "a client of the dovecot socket is disconnected");
                    self.closing = true;
                }
                None => break,
            }
        }
        let consumed = lines.consumed();
        // The lines held passwords.
        input[..consumed].zeroize();
        input.copy_within(consumed.., 0);
        let rest = input.len() - consumed;
        input.truncate(rest);
        self.input = input;
    }

    async fn handle_line(&mut self, line: &[u8]) {
        match ClientLine::parse(line, &self.dialect) {
            Ok(ClientLine::Version { major: MAJOR, minor }) if self.greeted == Greeted::No => {
                self.dialect.minor = minor;
                self.greeted = Greeted::Version;
            }
            Ok(ClientLine::Version { major, .. }) => {
                tracing::warn!(major, "a client of the dovecot socket says VERSION out of place");
                self.closing = true;
            }
            Ok(_) if self.greeted == Greeted::No => {
                tracing::warn!("a client of the dovecot socket does not begin with VERSION");
                self.closing = true;
            }
            Ok(ClientLine::Cpid(_)) => self.greeted = Greeted::Yes,
            Ok(ClientLine::Auth(request)) => self.auth(request).await,
            Ok(ClientLine::Cont { id, data }) => self.cont(id, data).await,
            Ok(ClientLine::Cancel { id }) => self.cancel(id),
            Ok(_) => {}
            Err(LineError::Rejected(rejected)) => {
                // A pending login of that id cannot go on: its client and we disagree about it.
                self.forget(rejected.id);
                let peer = Arc::clone(self.peer.get_or_insert_default());
                self.engine.refuse(&peer, &malformed(rejected.to_string()), &mut self.ledger);
                rejected.fail(&mut self.output);
            }
            Err(LineError::Framing(error)) => {
                tracing::warn!(%error, "a client of the dovecot socket is disconnected");
                self.closing = true;
            }
        }
    }

    async fn auth(&mut self, mut request: AuthRequest<'_>) {
        let id = request.id();
        let peer = self.peer_of(&request);
        if self.is_pending(id) {
            self.forget(id);
            let denial = malformed("the id of a login that is pending was used again");
            return self.refuse(id, &peer, &denial, "Duplicate request id");
        }
        if self.waiting.len() + self.running.len() >= self.shared.options.pending {
            let denial = Denial::new(Reason::TooMany).because("too many logins on one connection");
            return self.refuse(id, &peer, &denial, "Too many requests at a time");
        }
        let Some(mechanism) = announced(self.shared, &request.mechanism()) else {
            let denial =
                Denial::new(Reason::Unsupported).because("a mechanism that is not offered");
            return self.refuse(id, &peer, &denial, "Unsupported authentication mechanism");
        };
        let initial = match request.take_initial() {
            InitialResponse::Absent => None,
            InitialResponse::Empty => Some(Secret::default()),
            InitialResponse::Data(data) => Some(data),
        };
        let request = Request { peer, mechanism: Some(mechanism), claimed: None };
        let engine = self.engine;
        self.start(id, async move {
            let first = engine.begin::<Decision>(request, ()).await;
            match (first.asked(), initial) {
                (Ok((ask, login)), Some(token)) => {
                    let answers = Answers::new().with("token", token);
                    engine.answer(login, ask.number, answers, ()).await
                }
                (Ok((ask, login)), None) => Unsettled::still_asked(ask, login),
                (Err(ended), _) => ended,
            }
        })
        .await;
    }

    async fn cont(&mut self, id: u32, data: Secret) {
        let Some(login) = self.waiting.remove(&id) else {
            self.forget(id);
            let peer = Arc::clone(self.peer.get_or_insert_default());
            let denial = malformed("CONT for a login that does not wait for one");
            return self.refuse(id, &peer, &denial, "No such request is waiting");
        };
        let Some(ask) = login.conversation.open() else { return };
        let engine = self.engine;
        let answers = Answers::new().with("token", data);
        self.start(id, engine.answer(login, ask.number, answers, ())).await;
    }

    fn cancel(&mut self, id: u32) {
        if let Some(login) = self.waiting.remove(&id) {
            self.engine.cancel(login, &mut self.ledger);
        }
        // One that runs is let run to its end, for the record; its reply goes nowhere.
        self.running.remove(&id);
    }

    /// Polls a login once. Most are done then; the others go on beside the connection.
    async fn start(
        &mut self,
        id: u32,
        login: impl Future<Output = Unsettled<Decision>> + Send + 'e,
    ) {
        self.serial += 1;
        let serial = self.serial;
        let mut running: Running<'e> =
            Box::pin(async move { Finished { id, serial, unsettled: login.await } });
        let polled =
            std::future::poll_fn(|context| Poll::Ready(running.as_mut().poll(context))).await;
        match polled {
            Poll::Ready(finished) => self.tell(finished),
            Poll::Pending => {
                self.running.insert(id, serial);
                self.tasks.push(running);
            }
        }
    }

    fn finished(&mut self, finished: Finished) {
        if self.running.get(&finished.id) == Some(&finished.serial) {
            self.running.remove(&finished.id);
            self.tell(finished);
        } else {
            // Cancelled or disowned meanwhile. It is in the record, and nobody is told.
            let _ = self.engine.settle(finished.unsettled, &mut self.ledger);
        }
    }

    fn tell(&mut self, finished: Finished) {
        let id = finished.id;
        match self.engine.settle(finished.unsettled, &mut self.ledger) {
            Turn::Ask(ask, login) => {
                let challenge = match ask.round.questions.first().and_then(|q| q.challenge.as_ref())
                {
                    Some(Challenge::Bytes(bytes)) => bytes.as_slice(),
                    _ => &[],
                };
                encode_cont(&mut self.output, id, challenge);
                self.waiting.insert(id, login);
            }
            Turn::Granted(who, _session) => {
                let user = who.subject.name().unwrap_or("anonymous");
                encode_ok(&mut self.output, id, user.as_bytes(), &[], None);
            }
            Turn::Denied(denial) => {
                let user = denial.claimed.as_deref().map(str::as_bytes);
                fail(denial.public(), user).encode(&mut self.output, id);
            }
            Turn::Fault(fault) => self.fault(id, &fault),
            Turn::Misuse(misuse, login) => {
                // The peer's message does not fit its question (it is too long): this login is over.
                self.engine.cancel(login, &mut self.ledger);
                tracing::debug!(%misuse, "a login broke its mechanism's rules");
                fail(Public::Denied, None).encode(&mut self.output, id);
            }
        }
    }

    fn fault(&mut self, id: u32, fault: &Fault) {
        match self.shared.options.on_fault {
            OnFault::Fail => fail(fault.public(), None).encode(&mut self.output, id),
            // What else is running on this connection ends with it, and is tried again by its client.
            OnFault::Close => {
                self.closing = true;
                self.running.clear();
            }
        }
    }

    fn refuse(&mut self, id: u32, peer: &Peer, denial: &Denial, reason: &'static str) {
        self.engine.refuse(peer, denial, &mut self.ledger);
        Fail { reason: Some(reason), ..fail(denial.public(), None) }.encode(&mut self.output, id);
    }

    fn is_pending(&self, id: u32) -> bool {
        self.waiting.contains_key(&id) || self.running.contains_key(&id)
    }

    /// Gives up whatever is pending under an id. One that runs ends unheard.
    fn forget(&mut self, id: u32) {
        self.running.remove(&id);
        if let Some(login) = self.waiting.remove(&id) {
            self.engine.cancel(login, &mut self.ledger);
        }
    }

    /// The client is gone: what waited for it is over, and in the record.
    fn abandon(&mut self) {
        for (_, login) in std::mem::take(&mut self.waiting) {
            self.engine.cancel(login, &mut self.ledger);
        }
        let _ = self.engine.commit(&mut self.ledger);
        self.input.zeroize();
    }

    /// Writes all of the output. `false`: the client is gone, or does not read.
    async fn flush(&mut self) -> bool {
        let mut written = 0;
        while written < self.output.len() {
            match self.stream.try_write(&self.output[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    let patience = self.shared.options.patience.min(Duration::from_secs(30));
                    match tokio::time::timeout(patience, self.stream.writable()).await {
                        Ok(Ok(())) => {}
                        _ => return false,
                    }
                }
                Err(_) => return false,
            }
        }
        self.output.clear();
        true
    }

    fn peer_of(&mut self, request: &AuthRequest<'_>) -> Arc<Peer> {
        let service = request.service();
        let transport = match request.secured() {
            Secured::No => Transport::Plain,
            Secured::Yes => Transport::Local,
            Secured::Tls => Transport::Tls,
        };
        let trusted = self.shared.options.trust_client_certificates && request.valid_client_cert();
        let external = if trusted { request.cert_username() } else { None };
        let external = external.as_deref().and_then(|name| std::str::from_utf8(name).ok());
        let external = external.filter(|name| !name.is_empty());
        let session = request.session();
        let session = session.as_deref().map(String::from_utf8_lossy);
        if let Some(peer) = &self.peer {
            let same = peer.service.as_bytes() == &*service
                && peer.remote == request.remote_ip()
                && peer.local == request.local_ip()
                && peer.transport == transport
                && peer.external.as_deref() == external
                && peer.details.get("session").map(String::as_str) == session.as_deref();
            if same {
                return Arc::clone(peer);
            }
        }
        let mut peer = Peer::new(String::from_utf8_lossy(&service), supports());
        peer.front_end = "dovecot";
        peer.remote = request.remote_ip();
        peer.local = request.local_ip();
        peer.transport = transport;
        peer.external = external.map(Into::into);
        peer.uid = self.uid;
        if let Some(session) = session {
            peer.details.insert("session", session.into_owned());
        }
        let peer = Arc::new(peer);
        self.peer = Some(Arc::clone(&peer));
        peer
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The one function from the public word to this protocol's codes (D25).
fn fail(public: Public, user: Option<&[u8]>) -> Fail<'_> {
    let (reason, code) = match public {
        Public::Denied => (None, None),
        Public::ChangeNeeded => (Some("Password must be changed"), Some(FailCode::PassExpired)),
        Public::TryLater => (Some("Try again later"), Some(FailCode::TempFail)),
        Public::Unsupported => (Some("Not possible in this way"), None),
    };
    Fail { user, reason, code }
}
