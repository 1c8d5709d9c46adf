//! The logins of a connection: beginning them, going on with them, and telling their ends.

use std::sync::Arc;
use std::task::Poll;

use countersign::{
    Answers, Challenge, Denial, Fault, Identity, Peer, Public, Reason, Request, Secret, Transport,
    Verified,
};
use countersign_wire::dovecot::{
    AuthRequest, Fail, FailCode, InitialResponse, Secured, encode_cont, encode_ok,
};

use super::super::handover::{Handed, Origin};
use super::super::{OnFault, announced, supports};
use super::{Connection, Finished, Running, Stepped};
use crate::audit::Ledger;
use crate::engine::{Engine, Turn, Unsettled, malformed};
use crate::realm::Decision;

/// Goes on past a mechanism's last message, for a client that takes it together with OK (D26).
async fn closed(engine: &Engine, stepped: Unsettled<Decision>, takes_last_word: bool) -> Stepped {
    let (ask, login) = match stepped.asked() {
        Ok(asked) => asked,
        Err(ended) => return (ended, None),
    };
    if !takes_last_word || ask.round.closing.is_none() {
        return (Unsettled::still_asked(ask, login), None);
    }
    let last_word = match ask.round.questions.first().and_then(|q| q.challenge.as_ref()) {
        Some(Challenge::Bytes(bytes)) => bytes.clone(),
        _ => Vec::new(),
    };
    let answers = Answers::new().with("token", Secret::default());
    (engine.answer(login, ask.number, answers, ()).await, Some(last_word))
}

impl<'e> Connection<'e> {
    pub(super) async fn auth(&mut self, mut request: AuthRequest<'_>) {
        let id = request.id();
        let peer = self.peer_of(&request);
        if self.is_pending(id) {
            self.forget(id);
            let denial = malformed("the id of a login that is pending was used again");
            return self.refuse(id, &peer, &denial, "Duplicate request id");
        }
        if self.waiting.len() + self.tasks.len() >= self.shared.options.pending {
            let denial = Denial::new(Reason::TooMany).because("too many logins on one connection");
            return self.refuse(id, &peer, &denial, "Too many requests at a time");
        }
        let Some(mechanism) = announced(self.shared, &request.mechanism()) else {
            let denial =
                Denial::new(Reason::Unsupported).because("a mechanism that is not offered");
            return self.refuse(id, &peer, &denial, "Unsupported authentication mechanism");
        };
        if !request.nologin() && self.shared.options.handovers.is_some() {
            self.to_hand_over.insert(id, mechanism.clone());
        }
        let takes_last_word = request.final_resp_ok();
        if takes_last_word {
            self.take_last_words.insert(id);
        }
        let initial = match request.take_initial() {
            InitialResponse::Absent => None,
            InitialResponse::Empty => Some(Secret::default()),
            InitialResponse::Data(data) => Some(data),
        };
        let request = Request { peer, mechanism: Some(mechanism), claimed: None };
        let engine = self.engine;
        self.start(id, async move {
            let first = engine.begin::<Decision>(request, ()).await;
            let stepped = match (first.asked(), initial) {
                (Ok((ask, login)), Some(token)) => {
                    let answers = Answers::new().with("token", token);
                    engine.answer(login, ask.number, answers, ()).await
                }
                (Ok((ask, login)), None) => Unsettled::still_asked(ask, login),
                (Err(ended), _) => ended,
            };
            closed(engine, stepped, takes_last_word).await
        })
        .await;
    }

    pub(super) async fn cont(&mut self, id: u32, data: Secret) {
        let waiting = self.waiting.remove(&id);
        let open = waiting.and_then(|login| Some((login.conversation.open()?, login)));
        let Some((ask, login)) = open else {
            self.forget(id);
            let denial = malformed("CONT for a login that does not wait for one");
            return self.refuse(id, &self.client(), &denial, "No such request is waiting");
        };
        let engine = self.engine;
        let answers = Answers::new().with("token", data);
        let takes_last_word = self.take_last_words.contains(&id);
        self.start(id, async move {
            let stepped = engine.answer(login, ask.number, answers, ()).await;
            closed(engine, stepped, takes_last_word).await
        })
        .await;
    }

    pub(super) fn cancel(&mut self, id: u32) {
        if let Some(login) = self.waiting.remove(&id) {
            self.engine.cancel(login, &mut self.ledger);
        }
        // One that runs is let run to its end, for the record; its reply goes nowhere.
        self.running.remove(&id);
        self.disown(id);
    }

    /// Polls a login once. Most are done then; the others go on beside the connection.
    async fn start(&mut self, id: u32, login: impl Future<Output = Stepped> + Send + 'e) {
        self.serial += 1;
        let serial = self.serial;
        let mut running: Running<'e> = Box::pin(async move {
            let (unsettled, last_word) = login.await;
            Finished { id, serial, unsettled, last_word }
        });
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

    pub(super) fn finished(&mut self, finished: Finished) {
        if self.running.get(&finished.id) == Some(&finished.serial) {
            self.running.remove(&finished.id);
            self.tell(finished);
        } else {
            // Cancelled or disowned meanwhile.
            unheard(self.engine, finished, &mut self.ledger);
        }
    }

    fn tell(&mut self, finished: Finished) {
        let Finished { id, mut unsettled, last_word, .. } = finished;
        let takes_last_word = self.take_last_words.remove(&id);
        unsettled.refuse_grant(misread);
        let mechanism = self.to_hand_over.remove(&id);
        if let Some(mechanism) = &mechanism {
            unsettled.refuse_grant(|who| self.hand_over(id, who, mechanism));
        }
        match self.engine.settle(unsettled, &mut self.ledger) {
            Turn::Ask(ask, login) => {
                let challenge = match ask.round.questions.first().and_then(|q| q.challenge.as_ref())
                {
                    Some(Challenge::Bytes(bytes)) => bytes.as_slice(),
                    _ => &[],
                };
                encode_cont(&mut self.output, id, challenge);
                self.waiting.insert(id, login);
                if takes_last_word {
                    self.take_last_words.insert(id);
                }
                self.to_hand_over.extend(mechanism.map(|mechanism| (id, mechanism)));
            }
            Turn::Granted(who, _session) => {
                let user = who.subject.name().unwrap_or("anonymous");
                encode_ok(&mut self.output, id, user.as_bytes(), &[], last_word.as_deref());
            }
            Turn::Denied(denial) => {
                let user = denial.claimed.as_deref().map(str::as_bytes);
                fail(denial.public(), user).encode(&mut self.output, id);
            }
            Turn::Fault(fault) => self.fault(id, &fault),
            Turn::Misuse(misuse, login) => {
                // The peer's message does not fit its question (it is too long): this login is over.
                self.engine.end(login, Reason::Malformed, &mut self.ledger);
                tracing::debug!(%misuse, "a login broke its mechanism's rules");
                fail(Public::Denied, None).encode(&mut self.output, id);
            }
        }
    }

    /// Keeps a login for whoever asks for it on a master socket.
    fn hand_over(&mut self, id: u32, who: &Verified<Identity>, mechanism: &str) -> Option<Denial> {
        let handovers = self.shared.options.handovers.as_ref()?;
        let origin = Origin { pid: self.pid, id, cookie: self.cookie };
        let handed = Handed { who: Arc::new((**who).clone()), mechanism: mechanism.to_owned() };
        self.handed_over = true;
        let kept = handovers.keep(origin, handed, self.engine.world.steady_ns());
        let detail = "too many logins wait to be asked for on a master socket";
        (!kept).then(|| Denial::new(Reason::TooMany).because(detail))
    }

    /// Nobody will ask for this login any more.
    fn disown(&mut self, id: u32) {
        self.to_hand_over.remove(&id);
        self.take_last_words.remove(&id);
        if let (true, Some(handovers)) = (self.handed_over, &self.shared.options.handovers) {
            let origin = Origin { pid: self.pid, id, cookie: self.cookie };
            handovers.take(origin, self.engine.world.steady_ns());
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

    pub(super) fn refuse(&mut self, id: u32, peer: &Peer, denial: &Denial, reason: &'static str) {
        self.engine.refuse(peer, denial, &mut self.ledger);
        Fail { reason: Some(reason), ..fail(denial.public(), None) }.encode(&mut self.output, id);
    }

    fn is_pending(&self, id: u32) -> bool {
        self.waiting.contains_key(&id) || self.running.contains_key(&id)
    }

    /// Gives up whatever is pending under an id. One that runs ends unheard.
    pub(super) fn forget(&mut self, id: u32) {
        self.running.remove(&id);
        self.to_hand_over.remove(&id);
        self.take_last_words.remove(&id);
        if let Some(login) = self.waiting.remove(&id) {
            self.engine.cancel(login, &mut self.ledger);
        }
    }

    /// The peer in the record of a line that belongs to no login.
    pub(super) fn client(&self) -> Peer {
        let mut peer = Peer::new("", supports());
        peer.front_end = "dovecot";
        peer.uid = self.uid;
        peer
    }

    fn peer_of(&mut self, request: &AuthRequest<'_>) -> Arc<Peer> {
        let service = request.service();
        let transport = match request.secured() {
            // A client on the mail server's own machine: nothing crossed a network.
            Secured::No if same_machine(request) => Transport::Local,
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
                && peer.more.external.as_deref() == external
                && peer.more.details.get("session").map(String::as_str) == session.as_deref();
            if same {
                return Arc::clone(peer);
            }
        }
        let mut peer = Peer::new(String::from_utf8_lossy(&service), supports());
        peer.front_end = "dovecot";
        peer.listener = self.shared.options.listener;
        peer.remote = request.remote_ip();
        peer.local = request.local_ip();
        peer.transport = transport;
        peer.more.external = external.map(Into::into);
        peer.uid = self.uid;
        if let Some(session) = session {
            peer.more.details.insert("session", session.into_owned());
        }
        let peer = Arc::new(peer);
        self.peer = Some(Arc::clone(&peer));
        peer
    }
}

/// Into the record, and to nobody. What would have let somebody in did not.
pub(super) fn unheard(engine: &Engine, finished: Finished, ledger: &mut Ledger) {
    let Finished { mut unsettled, .. } = finished;
    unsettled.refuse_grant(|_| {
        let detail = "the proof was right, but the client had given the login up";
        Some(Denial::new(Reason::Cancelled).because(detail))
    });
    if let Turn::Ask(_, login) | Turn::Misuse(_, login) = engine.settle(unsettled, ledger) {
        engine.cancel(login, ledger);
    }
}

/// Why a name cannot be told: clients do not unescape, and would read another one (D28).
fn misread(who: &Verified<Identity>) -> Option<Denial> {
    let name = who.subject.name()?;
    let unfit = name.is_empty() || name.chars().any(char::is_control);
    unfit.then(|| Denial::new(Reason::NotAllowed).because("a name that mail servers misread"))
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

fn same_machine(request: &AuthRequest<'_>) -> bool {
    let remote = request.remote_ip().map(|address| address.to_canonical());
    remote.is_some_and(|remote| {
        let local = request.local_ip().map(|address| address.to_canonical());
        remote.is_loopback() || local == Some(remote)
    })
}
