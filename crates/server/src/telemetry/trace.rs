//! What is kept of a login for its trace, while it is under way.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use countersign::{
    Answers, BoxExchange, Checker, Exchange, Fault, FaultKind, Mechanism, Peer, Scene, Step,
    Transport, World,
};

use super::TraceCounts;
use super::export::Collector;
use crate::audit::{Outcome, Record};
use crate::config::TelemetryOptions;
use crate::world::SystemWorld;

/// Children of a login beyond so many are counted only.
const CHILDREN: usize = 64;

/// No name or word of a client's is longer in a trace, in bytes.
const WORD_BYTES: usize = 128;

/// Where traces go.
#[derive(Debug, Default)]
pub struct Telemetry(Option<Tracing>);

#[derive(Debug)]
struct Tracing {
    collector: Collector,
    world: SystemWorld,
    /// Of 63 bits: a trace whose lower half is below it is recorded, as `TraceIdRatioBased` does.
    sampled_below: u64,
    names: bool,
    addresses: bool,
}

/// The trace of one login, if it has one. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Trace(Option<Arc<Open>>);

/// The traces of logins that have ended and are not yet in the record.
#[derive(Debug, Default)]
pub(crate) struct Ended(Vec<Closed>);

/// A login under way. Nothing in it grows with what the peer says.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) trace: [u8; 16],
    pub(super) span: [u8; 8],
    /// The span of somebody else's that it is in.
    pub(super) parent: Option<[u8; 8]>,
    pub(super) began_unix_ns: u64,
    began: Instant,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    children: Vec<Child>,
    left_out: u32,
    rounds: u16,
    waits_since: Option<u64>,
    ended: bool,
}

/// Something that a login spent time on. Times are nanoseconds since it began.
#[derive(Clone, Debug)]
pub(super) struct Child {
    pub(super) what: What,
    pub(super) from: u64,
    pub(super) to: u64,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    /// A step of a checker, and what it came to.
    Check { checker: Arc<str>, mechanism: Arc<str>, result: Came },
    /// A wait for the answers to this round.
    Wait { round: u16 },
}

/// What a checker's step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    To(&'static str),
    Fault(&'static str),
}

/// A login that has ended.
#[derive(Debug)]
pub(super) struct Closed {
    pub(super) open: Arc<Open>,
    pub(super) children: Vec<Child>,
    pub(super) left_out: u32,
    pub(super) rounds: u16,
    pub(super) to: u64,
    pub(super) service: Arc<str>,
    pub(super) front_end: &'static str,
    pub(super) listener: Option<&'static String>,
    pub(super) transport: &'static str,
    pub(super) mechanism: Option<String>,
    pub(super) remote: Option<IpAddr>,
    pub(super) claimed: Option<String>,
    pub(super) end: End,
    /// Whether the record could be written, without which nobody gets in.
    pub(super) recorded: bool,
}

#[derive(Debug)]
pub(super) enum End {
    Granted { subject: Option<String>, checker: Option<String> },
    Denied { reason: &'static str, told: &'static str },
    Fault(&'static str),
}

impl Telemetry {
    /// Begins to send traces, if it is to. In a runtime, whose task sends them.
    ///
    /// # Errors
    ///
    /// What is wrong with the certificates of `ca`.
    pub fn start(options: Option<&TelemetryOptions>, world: SystemWorld) -> Result<Self, String> {
        let Some(options) = options else { return Ok(Self(None)) };
        let collector = Collector::start(options, &world)?;
        Ok(Self(Some(Tracing {
            collector,
            world,
            sampled_below: (options.sample * (1_u64 << 63) as f64) as u64,
            names: options.names,
            addresses: options.addresses,
        })))
    }

    /// Whether any login is traced.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// What has become of the traces; none: there are none.
    pub fn counts(&self) -> Option<TraceCounts> {
        Some(self.0.as_ref()?.collector.counts())
    }

    /// The checker, with its steps in the traces.
    pub fn watch(&self, checker: Arc<dyn Checker>) -> Arc<dyn Checker> {
        match self.is_on() {
            true => Arc::new(Watched { name: checker.name().into(), checker }),
            false => checker,
        }
    }

    /// Sends what is left, for as long as a stop may wait.
    pub async fn stop(&self) {
        if let Some(tracing) = &self.0 {
            tracing.collector.stop().await;
        }
    }

    pub(crate) fn begin(&self, peer: &Peer) -> Trace {
        let Some(tracing) = &self.0 else { return Trace(None) };
        let parent = peer.more.trace;
        let mut fresh = [0; 24];
        tracing.world.fill(&mut fresh);
        let mut ids = fresh.chunks_exact(8);
        let [high, low, span] =
            std::array::from_fn(|_| ids.next().and_then(|id| id.try_into().ok()).unwrap_or([1; 8]));
        let trace = parent.map_or_else(
            || std::array::from_fn(|index| if index < 8 { high[index] } else { low[index - 8] }),
            |parent| parent.trace,
        );
        let sampled = parent.map_or_else(
            || u64::from_be_bytes(low) >> 1 < tracing.sampled_below,
            |parent| parent.sampled,
        );
        if !sampled {
            return Trace(None);
        }
        Trace(Some(Arc::new(Open {
            trace,
            span,
            parent: parent.map(|parent| parent.span),
            began_unix_ns: tracing.world.unix_ns(),
            began: Instant::now(),
            kept: Mutex::default(),
        })))
    }

    /// Notes how a login ended, once, until that is in the record.
    pub(crate) fn end(&self, trace: &Trace, peer: &Peer, record: &Record<'_>, to: &mut Ended) {
        let (Some(tracing), Some(open)) = (&self.0, &trace.0) else { return };
        trace.answered();
        let Kept { children, left_out, rounds, ended, .. } =
            std::mem::replace(&mut *open.kept(), Kept { ended: true, ..Kept::default() });
        if ended {
            return;
        }
        let name = |name: Option<&str>| name.filter(|_| tracing.names).map(word);
        to.0.push(Closed {
            open: Arc::clone(open),
            children,
            left_out,
            rounds,
            to: open.now(),
            service: match peer.service.len() <= WORD_BYTES {
                true => Arc::clone(&peer.service),
                false => word(&peer.service).into(),
            },
            front_end: peer.front_end,
            listener: peer.listener,
            transport: match peer.transport {
                Transport::Plain => "plain",
                Transport::Local => "local",
                Transport::Tls => "tls",
            },
            mechanism: record.mechanism.map(word),
            remote: peer.remote.filter(|_| tracing.addresses),
            claimed: name(record.claimed),
            end: match record.outcome {
                Outcome::Granted { subject, checker } => {
                    End::Granted { subject: name(subject), checker: checker.map(word) }
                }
                Outcome::Denied(denial) => {
                    End::Denied { reason: denial.reason.word(), told: denial.public().word() }
                }
                Outcome::Fault(fault) => End::Fault(class(fault)),
            },
            recorded: true,
        });
    }

    /// Sends what has ended. `recorded`: whether that is in the record.
    pub(crate) fn send(&self, ended: &mut Ended, recorded: bool) {
        let Some(tracing) = &self.0 else { return };
        for closed in ended.0.drain(..) {
            tracing.collector.send(Closed { recorded, ..closed });
        }
    }
}

impl Trace {
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Runs a step of this login: checkers that begin in it are in this trace.
    pub(crate) async fn during<F: Future>(&self, mut step: Pin<&mut F>) -> F::Output {
        poll_fn(|context| {
            let _within = self.0.as_ref().map(|open| Within::enter(Arc::clone(open)));
            step.as_mut().poll(context)
        })
        .await
    }

    /// The peer has been asked.
    pub(crate) fn waits(&self) {
        let Some(open) = &self.0 else { return };
        let now = open.now();
        let mut kept = open.kept();
        kept.rounds = kept.rounds.saturating_add(1);
        kept.waits_since = Some(now);
    }

    /// The peer has answered, or there is nobody left to wait for.
    pub(crate) fn answered(&self) {
        let Some(open) = &self.0 else { return };
        let now = open.now();
        let mut kept = open.kept();
        let round = kept.rounds;
        if let Some(from) = kept.waits_since.take() {
            kept.add(Child { what: What::Wait { round }, from, to: now });
        }
    }
}

impl Open {
    /// Nanoseconds since it began.
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Nothing panics while it holds the lock.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn add(&mut self, child: Child) {
        match self.children.len() < CHILDREN && !self.ended {
            true => self.children.push(child),
            false => self.left_out = self.left_out.saturating_add(1),
        }
    }
}

thread_local! {
    /// The login whose step this thread is running.
    static CURRENT: RefCell<Option<Arc<Open>>> = const { RefCell::new(None) };
}

/// While it lives, this thread runs a login's step.
struct Within(Option<Arc<Open>>);

impl Within {
    fn enter(open: Arc<Open>) -> Self {
        Self(CURRENT.replace(Some(open)))
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// A checker whose steps are in the trace of the login, if that has one.
struct Watched {
    name: Arc<str>,
    checker: Arc<dyn Checker>,
}

impl Checker for Watched {
    fn name(&self) -> &str {
        self.checker.name()
    }

    fn mechanisms(&self) -> &[Mechanism] {
        self.checker.mechanisms()
    }

    fn begin(&self, mechanism: &str, scene: &Scene<'_>) -> Result<BoxExchange, Fault> {
        let Some(open) = CURRENT.with_borrow(Option::clone) else {
            return self.checker.begin(mechanism, scene);
        };
        let checked = Checked {
            open,
            checker: Arc::clone(&self.name),
            mechanism: self.known(mechanism).into(),
        };
        let inner = self.checker.begin(mechanism, scene).inspect_err(|fault| {
            checked.came(checked.open.now(), Came::Fault(class(fault)));
        })?;
        Ok(BoxExchange::new(WatchedExchange { inner, checked }))
    }
}

impl Watched {
    /// The mechanism as the checker writes it.
    fn known<'m>(&'m self, mechanism: &'m str) -> &'m str {
        let known = self.checker.mechanisms().iter().find(|known| known.is(mechanism));
        known.map_or(mechanism, |known| &known.name)
    }
}

struct WatchedExchange {
    inner: BoxExchange,
    checked: Checked,
}

struct Checked {
    open: Arc<Open>,
    checker: Arc<str>,
    mechanism: Arc<str>,
}

impl Checked {
    fn came(&self, from: u64, result: Came) {
        let to = self.open.now();
        let (checker, mechanism) = (Arc::clone(&self.checker), Arc::clone(&self.mechanism));
        self.open.kept().add(Child { what: What::Check { checker, mechanism, result }, from, to });
    }
}

/// A step that has begun. Dropped before it has come to anything, it was given up.
struct Begun<'c> {
    checked: &'c Checked,
    from: u64,
    came: Came,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.checked.came(self.from, self.came);
    }
}

impl Exchange for WatchedExchange {
    async fn step(&mut self, answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        let Self { inner, checked } = self;
        let mut begun = Begun { checked, from: checked.open.now(), came: Came::Fault("given-up") };
        let step = inner.step(answers, scene).await;
        begun.came = match &step {
            Ok(Step::Ask(_)) => Came::To("asked"),
            Ok(Step::Grant(_)) => Came::To("granted"),
            Ok(Step::Deny(denial)) => Came::To(denial.reason.word()),
            Ok(_) => Came::To("other"),
            Err(fault) => Came::Fault(class(fault)),
        };
        step
    }
}

/// What kind of fault: its words are for the log, and may name what a trace must not.
fn class(fault: &Fault) -> &'static str {
    match fault.kind() {
        FaultKind::Unavailable => "unavailable",
        FaultKind::Timeout => "timeout",
        FaultKind::Overloaded => "overloaded",
        FaultKind::Protocol => "protocol",
        _ => "internal",
    }
}

/// The beginning of a client's word.
fn word(text: &str) -> String {
    text[..text.floor_char_boundary(WORD_BYTES)].to_owned()
}
