//! The socket of Cyrus `saslauthd`. Contract: `docs/protocols/saslauthd.md`.
//!
//! One request a connection. Most requests are there when the connection is, so the accepting task reads
//! and answers them itself, without registering the connection for events; what has to wait (for the rest
//! of a request, for a checker) goes to a task of its own, under a deadline.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream as BlockingStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use countersign::{
    Answers, CredentialKind, KindSet, Known, Limits, Mechanism, Peer, Public, Reason, Request,
    Transport,
};
use countersign_wire::saslauthd::{
    FIELD_LIMIT, Progress, Reply, Request as WireRequest, buffer_limit, parse_request,
};
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroize;

use crate::audit::Ledger;
use crate::engine::{Engine, Turn, Unsettled, malformed};
use crate::front::socket::Socket;
use crate::front::{Entered, Gauge, Stop, next_connection};
use crate::realm::Decision;

/// How a listener behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaslauthdOptions {
    /// What the listener is called, as `saslauthd.main`.
    pub listener: Option<&'static String>,
    /// Connections at a time; further ones wait to be accepted.
    pub connections: usize,
    /// How long a client may take for its request (S24).
    pub patience: Duration,
    /// How many connections are open.
    pub open: Gauge,
}

impl Default for SaslauthdOptions {
    fn default() -> Self {
        Self {
            listener: None,
            connections: 8192,
            patience: Duration::from_secs(30),
            open: Gauge::default(),
        }
    }
}

/// Serves a socket until it is told to stop.
pub async fn serve(
    socket: Socket,
    engine: Arc<Engine>,
    options: SaslauthdOptions,
    mut stop: Stop,
) -> std::io::Result<()> {
    let Socket { listener, .. } = &socket;
    #[expect(
        deprecated,
        reason = "its flaw concerns types whose descriptor changes; that of a std listener does not, \
                  and its successor needs `unsafe`"
    )]
    let listener = AsyncFd::new(std::os::unix::net::UnixListener::from(
        std::os::fd::AsFd::as_fd(listener).try_clone_to_owned()?,
    ))?;
    let slots = Arc::new(Semaphore::new(options.connections));
    let mut buffer = vec![0; buffer_limit(FIELD_LIMIT)];
    loop {
        let next = next_connection(&slots, socket.path(), &mut stop, accept(&listener)).await;
        let Some(next) = next else { return Ok(()) };
        let Some((slot, stream)) = next else { continue };
        let held = (slot, options.open.enter());
        let (engine, stop) = (Arc::clone(&engine), stop.clone());
        let serving = Serving { engine, listener: options.listener, stop, held };
        serving.at_once(stream, &mut buffer, options.patience);
    }
}

async fn accept(
    listener: &AsyncFd<std::os::unix::net::UnixListener>,
) -> std::io::Result<BlockingStream> {
    loop {
        let mut ready = listener.readable().await?;
        if let Ok(accepted) = ready.try_io(|listener| listener.get_ref().accept()) {
            let (stream, _) = accepted?;
            stream.set_nonblocking(true)?;
            // A client that connects in a loop must not keep the runtime from its other tasks.
            tokio::task::coop::consume_budget().await;
            return Ok(stream);
        }
    }
}

/// What one connection holds on to.
struct Serving {
    engine: Arc<Engine>,
    /// What its listener is called.
    listener: Option<&'static String>,
    /// Held so that a stop waits for this connection's login.
    stop: Stop,
    #[expect(dead_code, reason = "held so that connections are counted")]
    held: (OwnedSemaphorePermit, Entered),
}

type Running = Pin<Box<dyn Future<Output = Unsettled<Decision>> + Send>>;

impl Serving {
    /// Does now what can be done now.
    fn at_once(self, mut stream: BlockingStream, buffer: &mut [u8], patience: Duration) {
        let filled = match stream.read(buffer) {
            Ok(0) => return,
            Ok(filled) => filled,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => return,
        };
        let progress = parse_request(&buffer[..filled], FIELD_LIMIT);
        if let Ok(Progress::NeedMore(_)) = progress {
            let mut read = Vec::new();
            if filled > 0 {
                // All that can come, so that it need not grow, which would leave copies behind. A connection
                // that has sent nothing costs nothing yet.
                read.reserve_exact(buffer_limit(FIELD_LIMIT));
                read.extend_from_slice(&buffer[..filled]);
                buffer[..filled].zeroize();
            }
            tokio::spawn(self.in_time(stream, read, patience));
            return;
        }
        let begun = self.begin(progress);
        buffer[..filled].zeroize();
        let mut running = match begun {
            Begun::Reply(reply) => return send(&mut stream, &reply),
            Begun::Running(running) => running,
        };
        // Polled without a waker: a task that goes on with it polls again at once with its own.
        match running.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(unsettled) => self.end(&mut stream, unsettled),
            Poll::Pending => drop(tokio::spawn(async move {
                let unsettled = running.await;
                self.end(&mut stream, unsettled);
            })),
        }
    }

    /// Waits for the rest of a request, and then for the checkers.
    async fn in_time(mut self, stream: BlockingStream, mut read: Vec<u8>, patience: Duration) {
        let Ok(stream) = UnixStream::from_std(stream) else { return };
        let complete = tokio::select! {
            complete = tokio::time::timeout(patience, read_request(&stream, &mut read)) => complete,
            // What has not begun by now does not begin.
            () = self.stop.requested() => Ok(None),
        };
        let (Ok(Some(())), Ok(mut stream)) = (complete, stream.into_std()) else {
            read.zeroize();
            return;
        };
        let begun = self.begin(parse_request(&read, FIELD_LIMIT));
        read.zeroize();
        match begun {
            Begun::Reply(reply) => send(&mut stream, &reply),
            Begun::Running(running) => {
                let unsettled = running.await;
                self.end(&mut stream, unsettled);
            }
        }
    }

    fn begin(
        &self,
        progress: Result<Progress<'_>, countersign_wire::saslauthd::RequestError>,
    ) -> Begun {
        let request = match progress {
            Ok(Progress::Complete(request)) => request,
            // The client left in the middle of its request.
            Ok(Progress::NeedMore(_)) => return Begun::Reply(Vec::new()),
            Err(error) => {
                let why = error.to_string();
                return self.refuse(&stranger(), Reply::No(&why), why.clone());
            }
        };
        let peer = Peer { listener: self.listener, ..peer_of(&request) };
        if request.login.is_empty() || request.password.is_empty() {
            let why = "empty login or password";
            return self.refuse(&peer, Reply::No(why), why);
        }
        let Some(login) = login_name(&request) else {
            // In the same words as any other name that is nobody's (S23).
            return self.refuse(&peer, Reply::No(""), "a login that can be nobody's name");
        };
        let wanted = Request::from_peer(Arc::new(peer)).by(Mechanism::PASSWORD);
        let password = request.password;
        let engine = Arc::clone(&self.engine);
        Begun::Running(Box::pin(async move {
            let answers = Answers::new().with("username", login).with("password", password);
            let mut known = Known::new(answers);
            let mut turn = engine.begin::<Decision>(wanted, ()).await;
            loop {
                match turn.asked() {
                    Err(ended) => return ended,
                    Ok((ask, login)) => match known.pick(&ask.round) {
                        Some(answers) => turn = engine.answer(login, ask.number, answers, ()).await,
                        // Another round cannot be asked for here (S32).
                        None => return Unsettled::still_asked(ask, login),
                    },
                }
            }
        }))
    }

    fn refuse(
        &self,
        peer: &Peer,
        no: Reply<'_>,
        why: impl Into<std::borrow::Cow<'static, str>>,
    ) -> Begun {
        let mut ledger = Ledger::default();
        let mut reply = Vec::new();
        no.encode(&mut reply);
        self.engine.refuse(peer, &malformed(why), &mut ledger);
        if self.engine.commit(&mut ledger).is_err() {
            reply.clear();
        }
        Begun::Reply(reply)
    }

    fn end(&self, stream: &mut BlockingStream, unsettled: Unsettled<Decision>) {
        let mut ledger = Ledger::default();
        let mut reply = Vec::new();
        let turn = self.engine.settle(unsettled, &mut ledger);
        match &turn {
            Turn::Granted(..) => Reply::Ok.encode(&mut reply),
            Turn::Denied(denial) => no(denial.public(), &mut reply),
            // A close is what libsasl2 takes for a temporary failure (S13).
            Turn::Fault(_) => {}
            Turn::Ask(..) => no(Public::Unsupported, &mut reply),
            Turn::Misuse(..) => no(Public::Denied, &mut reply),
        }
        match turn {
            // Another round, which cannot be asked for here (S32).
            Turn::Ask(_, login) => self.engine.end(login, Reason::Unsupported, &mut ledger),
            // A name that can be nobody's, or too long a password.
            Turn::Misuse(_, login) => self.engine.end(login, Reason::Malformed, &mut ledger),
            _ => {}
        }
        if self.engine.commit(&mut ledger).is_ok() {
            send(stream, &reply);
        }
    }
}

enum Begun {
    Reply(Vec<u8>),
    Running(Running),
}

/// Reads until the request is whole. `None`: the client left, or sent what is no request's beginning.
async fn read_request(stream: &UnixStream, read: &mut Vec<u8>) -> Option<()> {
    let limit = buffer_limit(FIELD_LIMIT);
    let mut pieces = usize::from(!read.is_empty());
    loop {
        let whole = match parse_request(read, FIELD_LIMIT) {
            Ok(Progress::NeedMore(_)) => false,
            Ok(Progress::Complete(request)) if request.client.is_none() => true,
            // An error is whole, too: it is answered.
            _ => return Some(()),
        };
        if whole && pieces == 1 {
            return Some(());
        }
        // Who writes field by field may be about to write a fifth (S5).
        let wait = if whole { Duration::from_millis(1) } else { Duration::MAX };
        match tokio::time::timeout(wait, stream.readable()).await {
            Err(_) => return Some(()),
            Ok(readable) => readable.ok()?,
        }
        let filled = read.len();
        let room = limit.saturating_sub(filled);
        read.resize(filled + room, 0);
        let count = stream.try_read(&mut read[filled..]);
        read.truncate(filled + count.as_ref().copied().unwrap_or(0));
        match count {
            Ok(0) => return whole.then_some(()),
            Ok(_) => pieces += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
    }
}

/// One write, which a socket's buffer always has room for, and the end of the connection.
fn send(stream: &mut BlockingStream, reply: &[u8]) {
    if !reply.is_empty() {
        // A client that is gone has nothing to be told.
        let _ = stream.write(reply);
    }
}

/// The one function from the public word to this protocol's replies. None: the server closes.
fn no(public: Public, out: &mut Vec<u8>) {
    match public {
        Public::Denied => Reply::No(""),
        Public::ChangeNeeded => Reply::No("the password must be changed"),
        // `NO` would be a wrong password to the client's client (S13).
        Public::TryLater => return,
        Public::Unsupported => Reply::No("not possible in this way"),
    }
    .encode(out);
}

/// `login`, or `login@realm` (S30), if it can be a name.
fn login_name(request: &WireRequest<'_>) -> Option<String> {
    let mut name = std::str::from_utf8(request.login).ok()?.to_owned();
    if !request.realm.is_empty() {
        name.push('@');
        name.push_str(std::str::from_utf8(request.realm).ok()?);
    }
    Limits::NAME.violated_by(name.as_bytes()).is_none().then_some(name)
}

/// The peer in the record of what is no request.
fn stranger() -> Peer {
    let mut peer = Peer::new("", KindSet::none());
    peer.front_end = "saslauthd";
    peer
}

fn peer_of(request: &WireRequest<'_>) -> Peer {
    let supports = KindSet::none().with(CredentialKind::AuthName).with(CredentialKind::Passphrase);
    let mut peer = Peer::new(String::from_utf8_lossy(request.service), supports);
    peer.front_end = "saslauthd";
    // The server that asks is on this machine; how the user reached it is not said here, and is for it to
    // see to.
    peer.transport = Transport::Local;
    // `ip;port` (S31).
    let client = request.client.and_then(|client| std::str::from_utf8(client).ok());
    peer.remote = client.and_then(|client| client.split(';').next()?.parse().ok());
    peer
}
