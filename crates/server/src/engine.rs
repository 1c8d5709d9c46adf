//! The engine: every login of every front end goes through it.
//!
//! A front end turns bytes into a [`Request`] and answers, and a [`Turn`] into bytes. In between, the
//! engine runs the conversation under a deadline, asks the realm, and sees to it that every end is in the
//! audit record before it can be said: [`Engine::begin`] and [`Engine::answer`] return an [`Unsettled`]
//! turn, which only [`Engine::settle`] opens, into a [`Ledger`] that must be committed before the front
//! end's replies go out.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use countersign::{
    Answers, Ask, Bounds, Conversation, CredentialKind, Denial, Fault, FaultKind, Halt, Identity,
    Interface, Misuse, Peer, Pending, Portal, Realm, Reason, Reply, Request, Session, Verified,
};
use countersign_checkers::pool::HashPool;
use countersign_store::Store;
use futures_util::FutureExt;

use crate::audit::{Audit, Ledger, Outcome, Record};
use crate::groups::Groups;
use crate::metrics::{Ended, Metrics};
use crate::minds::Minds;
use crate::realm::{Lasting, ServerRealm};
use crate::sessions::Sessions;
use crate::telemetry::{Telemetry, Trace};
use crate::throttle::Throttle;
use crate::world::SystemWorld;

/// Everything that decides logins.
#[derive(Debug)]
pub struct Engine {
    /// The realm and the checkers. A login goes on with those that it began with.
    pub portal: ArcSwap<Portal<ServerRealm>>,
    /// What slows guessing down; the portal's guard.
    pub throttle: Arc<Throttle>,
    /// Accounts, sessions, tokens.
    pub store: Store,
    /// The record of every attempt.
    pub audit: Audit,
    /// Counters.
    pub metrics: Metrics,
    /// Clocks and entropy.
    pub world: SystemWorld,
    /// Conversations that wait between HTTP requests.
    pub pending: Pending<Parked>,
    /// How long one step may take.
    pub step_deadline: Limit,
    /// Names and numbers of groups.
    pub groups: Groups,
    /// Sessions by their token.
    pub sessions: Sessions,
    /// Clients that can be told something.
    pub minds: Arc<Minds>,
    /// Where slow hashes are computed, for its counters.
    pub pool: Option<Arc<HashPool>>,
    /// Where traces go.
    pub telemetry: Telemetry,
}

/// A length of time that can be changed while it is used.
#[derive(Debug)]
pub struct Limit(AtomicU64);

impl Limit {
    /// What it is at this moment.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    /// Changes it, for what begins from now on.
    pub fn set(&self, limit: Duration) {
        self.0.store(u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl From<Duration> for Limit {
    fn from(limit: Duration) -> Self {
        let new = Self(AtomicU64::new(0));
        new.set(limit);
        new
    }
}

/// A login under way.
#[derive(Debug)]
pub struct Login {
    /// The conversation.
    pub conversation: Conversation,
    /// What the record needs besides.
    pub note: Note,
}

/// What the record needs besides the conversation.
#[derive(Debug, Clone)]
pub struct Note {
    started_ns: u64,
    since: i64,
    mechanism: Option<std::borrow::Cow<'static, str>>,
    claimed: Option<Box<str>>,
    trace: Trace,
}

impl Note {
    /// The store's revision when the login began.
    pub fn since(&self) -> i64 {
        self.since
    }
}

/// Whether the answer to a round sets a new password.
pub fn renews_password(ask: &Ask) -> bool {
    ask.round.questions.iter().any(|question| question.kind == CredentialKind::NewPassphrase)
}

/// What is kept beside a conversation that waits between requests.
#[derive(Debug)]
pub struct Parked {
    /// What the record needs.
    pub note: Note,
    /// What an ended login came to, for a peer that did not hear it and asks again: it is then given the
    /// same session, not another. One that nobody was told of ends when this is dropped.
    pub session: Option<Arc<Mutex<Session<Lasting>>>>,
}

/// What a step came to, for a front end.
#[derive(Debug)]
pub enum Turn<I: Interface> {
    /// A round for the peer. The login waits.
    Ask(Ask, Login),
    /// Let in.
    Granted(Verified<Identity>, Session<I>),
    /// Refused.
    Denied(Denial),
    /// Something broke; nobody got in.
    Fault(Fault),
    /// The answers do not fit the round, which is still open.
    Misuse(Misuse, Login),
}

/// A turn that is not yet in the record.
#[must_use = "an unsettled turn is in no record"]
#[derive(Debug)]
pub struct Unsettled<I: Interface> {
    turn: Turn<I>,
    peer: Arc<Peer>,
    note: Note,
    /// Repeated by request; it is in the record already.
    repeated: bool,
    /// The conversation, when it is over: it can repeat its last reply.
    ended: Option<Conversation>,
}

impl<I: Interface> Unsettled<I> {
    /// A turn that asks needs no record: opens it, and gives back what did end.
    #[expect(clippy::result_large_err, reason = "both ends are as common, and boxing costs more")]
    pub fn asked(self) -> Result<(Ask, Login), Self> {
        match self.turn {
            Turn::Ask(ask, login) => Ok((ask, login)),
            turn => Err(Self { turn, ..self }),
        }
    }

    /// A turn that asks, for who treats it like others.
    pub fn still_asked(ask: Ask, login: Login) -> Self {
        let peer = Arc::clone(login.conversation.peer());
        let note = login.note.clone();
        Self { turn: Turn::Ask(ask, login), peer, note, repeated: false, ended: None }
    }
}

impl<I: Interface> Unsettled<I> {
    /// Makes a grant a refusal, if the front end has a reason for one: the peer is gone, or could not be
    /// told who it is. The session ends.
    pub fn refuse_grant(&mut self, refuse: impl FnOnce(&Verified<Identity>) -> Option<Denial>) {
        let Turn::Granted(who, _) = &self.turn else { return };
        let Some(mut denial) = refuse(who) else { return };
        denial.claimed = who.claimed().or(who.subject.name()).map(Into::into);
        self.turn = Turn::Denied(denial);
        // It would repeat that the peer was let in.
        self.ended = None;
    }
}

impl Engine {
    /// Begins a login.
    pub async fn begin<I: Interface>(&self, request: Request, mind: I::Mind) -> Unsettled<I>
    where
        ServerRealm: Realm<I>,
    {
        self.begin_within(request, mind, None).await
    }

    /// Begins a login with bounds of the front end's own, such as [`Bounds::REQUESTS`] for a peer that may
    /// lose a reply and ask for it again.
    pub async fn begin_within<I: Interface>(
        &self,
        request: Request,
        mind: I::Mind,
        bounds: Option<&'static Bounds>,
    ) -> Unsettled<I>
    where
        ServerRealm: Realm<I>,
    {
        let peer = Arc::clone(&request.peer);
        let note = Note {
            started_ns: self.now_ns(),
            since: self.store.revision(),
            mechanism: request.mechanism.clone(),
            claimed: request.claimed.clone(),
            trace: self.telemetry.begin(&peer),
        };
        let portal = self.portal.load();
        let bounds = bounds.unwrap_or(portal.bounds());
        let step = async {
            let (conversation, reply) = portal.begin_within(request, bounds, &self.world).await?;
            Ok(self.turn(conversation, reply, note.clone(), mind).await)
        };
        let trace = note.trace.clone();
        let (turn, ended) = trace.during(pin!(self.in_time(step))).await;
        Unsettled { turn, peer, note, repeated: false, ended }
    }

    /// Answers the open round of a login.
    pub async fn answer<I: Interface>(
        &self,
        login: Login,
        number: u16,
        answers: Answers,
        mind: I::Mind,
    ) -> Unsettled<I>
    where
        ServerRealm: Realm<I>,
    {
        let Login { mut conversation, mut note } = login;
        // What was asked for and can be a name; the peer may say anything under this key.
        let asked = answers.find("username").and_then(|answer| {
            let ask = conversation.open()?;
            ask.round.question("username")?.check(answer).ok()
        });
        if let (Some(()), Some(name)) = (asked, answers.text("username")) {
            note.claimed = Some(name.into());
        }
        if let (Some(mechanism), Some(message)) = (&note.mechanism, answers.value("token"))
            && let Some(name) = self.portal.load().claimed(mechanism, message)
        {
            note.claimed = Some(name.into());
        }
        let peer = Arc::clone(conversation.peer());
        let repeated = conversation.is_over();
        let renews = conversation.open().is_some_and(|ask| renews_password(&ask));
        let trace = note.trace.clone();
        trace.answered();
        let step = async {
            let reply = conversation.answer(number, answers, &self.world).await;
            if renews {
                // The holder's own change ended the other sessions, and not this login. It was made only
                // because nobody else had changed the account since the login began.
                note.since = self.store.revision();
            }
            match reply {
                Ok(reply) => Ok(self.turn(conversation, reply, note.clone(), mind).await),
                Err(Halt::Fault(fault)) => Err(fault),
                Err(Halt::Misuse(misuse)) => {
                    Ok((Turn::Misuse(misuse, Login { conversation, note: note.clone() }), None))
                }
            }
        };
        let (turn, ended) = trace.during(pin!(self.in_time(step))).await;
        Unsettled { turn, peer, note, repeated, ended }
    }

    /// Ends a login that its peer gave up.
    pub fn cancel(&self, login: Login, ledger: &mut Ledger) {
        self.end(login, Reason::Cancelled, ledger);
    }

    /// Ends a login for a reason of the front end's.
    pub fn end(&self, mut login: Login, reason: Reason, ledger: &mut Ledger) {
        let mut denial = login.conversation.cancel();
        denial.reason = reason;
        let peer = Arc::clone(login.conversation.peer());
        let outcome = (Outcome::Denied(&denial), Ended::Denied(denial.public()));
        self.enter(&peer, &login.note, outcome, login.note.claimed.as_deref(), ledger);
    }

    /// Ends logins that waited between two requests and that nobody goes on with, for the record.
    pub fn give_up(&self, waiting: Vec<(Conversation, Parked)>, reason: Reason) {
        let mut ledger = Ledger::default();
        for (conversation, Parked { note, .. }) in waiting {
            self.end(Login { conversation, note }, reason, &mut ledger);
        }
        // Nobody waits to be told; that the record cannot be written has been logged.
        let _ = self.commit(&mut ledger);
    }

    /// Enters a turn into the ledger, which must be committed before the turn is told to anybody.
    pub fn settle<I: Interface>(&self, unsettled: Unsettled<I>, ledger: &mut Ledger) -> Turn<I> {
        self.settle_resumable(unsettled, ledger).0
    }

    /// As [`Engine::settle`]; beside a turn that is the end comes the login, which can repeat its last
    /// reply if its bounds say so.
    pub fn settle_resumable<I: Interface>(
        &self,
        unsettled: Unsettled<I>,
        ledger: &mut Ledger,
    ) -> (Turn<I>, Option<Login>) {
        let Unsettled { turn, peer, note, repeated, ended } = unsettled;
        let ended = |note| ended.map(|conversation| Login { conversation, note });
        if repeated {
            return (turn, ended(note));
        }
        match &turn {
            Turn::Ask(..) | Turn::Misuse(..) => note.trace.waits(),
            Turn::Granted(who, _) => {
                let subject = who.subject.name();
                let outcome = Outcome::Granted { subject, checker: who.checker() };
                let claimed = who.claimed().or(note.claimed.as_deref());
                let claimed = claimed.filter(|claimed| Some(*claimed) != subject);
                self.enter(&peer, &note, (outcome, Ended::Granted), claimed, ledger);
            }
            Turn::Denied(denial) => {
                let claimed = denial.claimed.as_deref().or(note.claimed.as_deref());
                let ended = Ended::Denied(denial.public());
                self.enter(&peer, &note, (Outcome::Denied(denial), ended), claimed, ledger);
            }
            Turn::Fault(fault) => {
                tracing::warn!(%fault, service = ?peer.service, "a login failed for a fault");
                let claimed = fault.claimed().or(note.claimed.as_deref());
                self.enter(&peer, &note, (Outcome::Fault(fault), Ended::Fault), claimed, ledger);
            }
        }
        (turn, ended(note))
    }

    /// Enters a refusal that never became a login: a request that breaks its protocol's rules.
    pub fn refuse(&self, peer: &Peer, denial: &Denial, ledger: &mut Ledger) {
        let note = Note {
            started_ns: self.now_ns(),
            since: self.store.revision(),
            mechanism: None,
            claimed: None,
            trace: Trace::none(),
        };
        let outcome = (Outcome::Denied(denial), Ended::Denied(denial.public()));
        self.enter(peer, &note, outcome, denial.claimed.as_deref(), ledger);
    }

    /// Writes what is in the ledger.
    ///
    /// # Errors
    ///
    /// When the record cannot be written and nobody may get in without one: then nothing of the batch
    /// may be told.
    pub fn commit(&self, ledger: &mut Ledger) -> Result<(), Fault> {
        let committed = self.audit.commit(ledger, &self.metrics);
        self.telemetry.send(&mut ledger.traces, committed.is_ok());
        committed
    }

    /// Runs a step under the deadline. One that takes too long, and one that panics, is a fault of its login
    /// alone.
    async fn in_time<I: Interface>(
        &self,
        step: impl Future<Output = Result<(Turn<I>, Option<Conversation>), Fault>>,
    ) -> (Turn<I>, Option<Conversation>) {
        AssertUnwindSafe(tokio::time::timeout(self.step_deadline.now(), step))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Ok(Err(panicked())))
            .unwrap_or_else(|_| Err(self.too_slow()))
            .unwrap_or_else(|fault| (Turn::Fault(fault), None))
    }

    async fn turn<I: Interface>(
        &self,
        conversation: Conversation,
        reply: Reply,
        note: Note,
        mind: I::Mind,
    ) -> (Turn<I>, Option<Conversation>)
    where
        ServerRealm: Realm<I>,
    {
        match reply {
            Reply::Ask(ask) => (Turn::Ask(ask, Login { conversation, note }), None),
            Reply::Denied(denial) => (Turn::Denied(denial), Some(conversation)),
            Reply::Granted(who) => match self.portal.load().realm().admit(&who, mind).await {
                Ok(session) => (Turn::Granted(who, session), Some(conversation)),
                Err(denial) if denial.broken => {
                    (Turn::Fault(Fault::unavailable(denial.detail)), None)
                }
                // What it would repeat is that the checkers let the peer in, and the realm did not.
                Err(mut denial) => {
                    denial.claimed = who.subject.name().map(Into::into);
                    (Turn::Denied(denial), None)
                }
            },
        }
    }

    fn enter(
        &self,
        peer: &Peer,
        note: &Note,
        (outcome, ended): (Outcome<'_>, Ended),
        claimed: Option<&str>,
        ledger: &mut Ledger,
    ) {
        if !self.metrics.enabled && !self.audit.is_on() && !self.telemetry.is_on() {
            return;
        }
        let took_us = self.world.steady_ns().saturating_sub(note.started_ns) / 1000;
        if self.metrics.enabled {
            ledger.counts.add(peer.front_end, ended, took_us);
        }
        let record = Record {
            outcome,
            front_end: peer.front_end,
            service: &peer.service,
            mechanism: note.mechanism.as_deref(),
            claimed,
            remote: peer.remote,
            transport: peer.transport,
            took_us,
            session: peer.more.details.get("session").map(String::as_str),
        };
        self.audit.record(ledger, &record);
        self.telemetry.end(&note.trace, peer, &record, &mut ledger.traces);
    }

    fn now_ns(&self) -> u64 {
        if self.metrics.enabled || self.audit.is_on() { self.world.steady_ns() } else { 0 }
    }

    fn too_slow(&self) -> Fault {
        let limit = self.step_deadline.now();
        Fault::new(FaultKind::Timeout, format!("a checker did not answer within {limit:?}"))
    }
}

/// A checker that panics ends its own login and nobody else's. What it was doing is dropped, and the panic's
/// message is in the server's log.
fn panicked() -> Fault {
    Fault::internal("a checker panicked")
}

/// A refusal for a request that breaks its protocol's rules.
pub fn malformed(detail: impl Into<std::borrow::Cow<'static, str>>) -> Denial {
    Denial::new(Reason::Malformed).because(detail)
}
