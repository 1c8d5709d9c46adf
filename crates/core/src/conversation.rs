//! A conversation: an exchange with every rule enforced, once, for all backends.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::chain::{Plan, Planned};
use crate::exchange::Running;
use crate::{
    Answer, Answers, BoxExchange, Cancelled, Denial, Fault, Identity, Misuse, Moment, Peer,
    ProvenKey, Reason, Responder, Round, Scene, Step, Verified, World,
};

/// An exchange under way, with the rules around it:
///
/// - it is fused: after a grant, a denial or a fault nothing goes on;
/// - answers are taken only to the open round, only to asked names, each once, of the right shape and
///   size, and only when every required one is there (otherwise [`Misuse`], and the round stays open);
/// - a round that this peer cannot answer is never begun;
/// - rounds, tries, mistakes, bytes and time are bounded;
/// - answering the last round again, word for word, gets the last reply again;
/// - a step whose future is dropped half-way ends the login.
///
/// ```
/// # use countersign::{Fault, Identity, Password, PasswordStore, Secret, Verdict, Verified};
/// # struct One;
/// # impl PasswordStore for One {
/// #     async fn check(&self, login: &str, _: &Secret) -> Result<Verdict, Fault> {
/// #         Ok(Verdict::Is(Verified::vouch(Identity::named(login))))
/// #     }
/// # }
/// use countersign::{Answers, Halt, KindSet, Misuse, Peer, Portal, Reply, Request, testing};
///
/// # let portal = Portal::new(()).checked_by(Password::new("one", One));
/// let world = testing::StillWorld::default();
/// let peer = Peer::new("imap", KindSet::all());
/// let begun = portal.begin(Request::from_peer(peer.into()).by("password"), &world);
/// let (mut conversation, reply) = testing::now_or_never(begun).expect("no I/O")?;
/// let Reply::Ask(ask) = reply else { panic!("a password is asked for") };
/// assert_eq!((ask.number, ask.round.questions.len()), (1, 2));
///
/// // What does not fit is not taken, and the round stays open.
/// let half = Answers::new().with("username", "ada");
/// let halted = testing::now_or_never(conversation.answer(1, half, &world)).expect("no I/O");
/// assert!(matches!(halted, Err(Halt::Misuse(Misuse::Missing { question })) if question == "password"));
///
/// let whole = Answers::new().with("username", "ada").with("password", "countess");
/// let reply = testing::now_or_never(conversation.answer(1, whole, &world)).expect("no I/O")?;
/// assert!(matches!(reply, Reply::Granted(who) if who.subject.name() == Some("ada")));
/// assert!(conversation.is_over());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Conversation(Talk<Arc<Plan>>);

/// All of a conversation. One that is not given away goes by a plan that is lent.
pub(crate) struct Talk<P: Planned> {
    /// Taken out while a step waits, so that a dropped step leaves none.
    exchange: Option<Running<P>>,
    open: Option<Arc<Round>>,
    last: Option<Box<Last>>,
    peer: Arc<Peer>,
    claimed: Option<Box<str>>,
    bounds: &'static Bounds,
    deadline_ms: u64,
    number: u16,
    tries: u8,
    mistakes: u8,
}

impl std::fmt::Debug for Conversation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Talk { exchange, number, peer, .. } = &self.0;
        f.debug_struct("Conversation")
            .field("exchange", exchange)
            .field("number", number)
            .field("peer", peer)
            .finish_non_exhaustive()
    }
}

/// The end of a conversation, or its open round: what a step comes to for the peer's protocol.
#[must_use]
#[derive(Clone, Debug)]
pub enum Reply {
    /// A round to be answered.
    Ask(Ask),
    /// The peer is let in.
    Granted(Verified<Identity>),
    /// The peer is refused.
    Denied(Denial),
}

/// A numbered round.
#[derive(Clone, Debug)]
pub struct Ask {
    /// To be given back with the answers. The first round is 1.
    pub number: u16,
    /// The questions.
    pub round: Arc<Round>,
}

/// How much a conversation may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Rounds in all.
    pub rounds: u16,
    /// Rounds that ask again (those with feedback).
    pub tries: u8,
    /// Answers that did not fit their round.
    pub mistakes: u8,
    /// Bytes of the answers to one round, names included.
    pub bytes: usize,
    /// Milliseconds from the beginning to the end.
    pub lifetime_ms: u64,
    /// Whether the last reply is kept for a peer that repeats itself because it heard nothing.
    pub replay: bool,
}

impl Bounds {
    /// For connections that keep order by themselves: nothing is replayed.
    pub const CONNECTION: Self = Self {
        rounds: 32,
        tries: 3,
        mistakes: 8,
        bytes: 128 * 1024,
        lifetime_ms: 5 * 60 * 1000,
        replay: false,
    };
    /// For requests that may be lost and sent again.
    pub const REQUESTS: Self = Self { replay: true, ..Self::CONNECTION };
}

/// Why a conversation did not go on.
#[derive(Debug, Clone)]
pub enum Halt {
    /// The peer's answers do not fit; the round is still open.
    Misuse(Misuse),
    /// Something broke; the conversation is over and nobody got in.
    Fault(Fault),
}

impl std::fmt::Display for Halt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Misuse(misuse) => misuse.fmt(f),
            Self::Fault(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for Halt {}

impl From<Misuse> for Halt {
    fn from(misuse: Misuse) -> Self {
        Self::Misuse(misuse)
    }
}

impl Conversation {
    /// Begins with the first step, which needs no answers. The reply is the first round, or already the
    /// end.
    pub async fn begin(
        exchange: BoxExchange,
        peer: Arc<Peer>,
        claimed: Option<Box<str>>,
        bounds: &'static Bounds,
        world: &dyn World,
    ) -> Result<(Self, Reply), Fault> {
        let now = world.now();
        let exchange = Running::Other(exchange);
        let talk = Talk::new(exchange, peer, claimed, bounds, now);
        Self::started(talk, now, world).await
    }

    /// One that is to be started: its first step, which needs no answers.
    pub(crate) async fn started(
        mut talk: Talk<Arc<Plan>>,
        now: Moment,
        world: &dyn World,
    ) -> Result<(Self, Reply), Fault> {
        let turn = talk.run(Answers::new(), now, world).await?;
        let reply = talk.reply(turn);
        Ok((Self(talk), reply))
    }

    /// Answers round `number`.
    ///
    /// # Errors
    ///
    /// [`Halt::Misuse`] leaves the round open for a better answer; [`Halt::Fault`] ends the
    /// conversation.
    pub async fn answer(
        &mut self,
        number: u16,
        answers: Answers,
        world: &dyn World,
    ) -> Result<Reply, Halt> {
        self.0.answer(number, answers, world).await
    }

    /// The open round, if the conversation waits for one to be answered.
    pub fn open(&self) -> Option<Ask> {
        let round = Arc::clone(self.0.open.as_ref()?);
        Some(Ask { number: self.0.number, round })
    }

    /// Whether it can go on no more.
    pub fn is_over(&self) -> bool {
        self.0.open.is_none()
    }

    /// When it must be over, on the steady clock.
    pub fn deadline_ms(&self) -> u64 {
        self.0.deadline_ms
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Arc<Peer> {
        &self.0.peer
    }

    /// The transport has seen a key proven since this began (RFC 4252 §7): whatever asks for a key from here on
    /// takes it, and asks for no signature. See `K2` in `docs/protocols/publickey.md`.
    pub fn proves(&mut self, key: ProvenKey) {
        Arc::make_mut(&mut self.0.peer).more.key = Some(key);
    }

    /// Ends it without a decision: the peer left, or said that it does not want to go on.
    pub fn cancel(&mut self) -> Denial {
        self.0.cancel()
    }
}

impl<P: Planned> Talk<P> {
    /// One that is to be started.
    #[inline]
    pub(crate) fn new(
        exchange: Running<P>,
        peer: Arc<Peer>,
        claimed: Option<Box<str>>,
        bounds: &'static Bounds,
        now: Moment,
    ) -> Self {
        Self {
            exchange: Some(exchange),
            open: None,
            last: None,
            peer,
            claimed,
            bounds,
            deadline_ms: now.steady_ms.saturating_add(bounds.lifetime_ms),
            number: 0,
            tries: 0,
            mistakes: 0,
        }
    }

    async fn answer(
        &mut self,
        number: u16,
        answers: Answers,
        world: &dyn World,
    ) -> Result<Reply, Halt> {
        if let Some(reply) = self.replayed(number, &answers) {
            return Ok(reply);
        }
        let now = world.now();
        let mark =
            (self.bounds.replay && self.open.is_some()).then(|| Mark::of(number, &answers, world));
        let answers = match self.take(number, (answers, false), now) {
            Ok(answers) => answers,
            Err(Taken::Unfit(misuse)) => return Err(misuse.into()),
            Err(Taken::Over(denial)) => return Ok(Reply::Denied(denial)),
        };
        let turn = self.run(answers, now, world).await.map_err(Halt::Fault)?;
        let reply = self.reply(turn);
        if let Some(mark) = mark {
            self.last = Some(Box::new(Last { mark, reply: reply.clone() }));
        }
        Ok(reply)
    }

    /// Takes answers to the open round, which is then closed; and whether it is known that they fit it.
    #[inline]
    fn take(
        &mut self,
        number: u16,
        (answers, fit): (Answers, bool),
        now: Moment,
    ) -> Result<Answers, Taken> {
        let Some(round) = &self.open else {
            self.forget_if_guessed_at();
            return Err(Taken::Unfit(Misuse::Closed));
        };
        if now.steady_ms > self.deadline_ms {
            return Err(self.over(Denial::new(Reason::TimedOut)));
        }
        let answers = match self.accept(round, number, answers, fit) {
            Ok(answers) => answers,
            Err(misuse) => {
                self.mistakes = self.mistakes.saturating_add(1);
                if self.mistakes > self.bounds.mistakes {
                    let denial = Denial::new(Reason::TooMany).because("too many unfit answers");
                    return Err(self.over(denial));
                }
                return Err(Taken::Unfit(misuse));
            }
        };
        self.open = None;
        self.last = None;
        Ok(answers)
    }

    pub(crate) fn cancel(&mut self) -> Denial {
        self.end();
        Denial::new(Reason::Cancelled)
    }

    fn accept(
        &self,
        round: &Round,
        number: u16,
        answers: Answers,
        fit: bool,
    ) -> Result<Answers, Misuse> {
        if number != self.number {
            return Err(Misuse::Stale { given: number, open: self.number });
        }
        if answers.size() > self.bounds.bytes {
            let question = answers.iter().max_by_key(|(_, answer)| match answer {
                Answer::Value(value) => value.len(),
                _ => 0,
            });
            let question = question.map(|(name, _)| name.to_owned()).unwrap_or_default();
            return Err(Misuse::Unfit { question, why: "the answers together are too long" });
        }
        if fit { Ok(answers) } else { round.accept(answers) }
    }

    /// What these answers come to at once, if that can be said; else they are left where they are, for
    /// [`Talk::waited`]. That no round is open keeps everybody away from the exchange if it panics.
    #[inline]
    pub(crate) fn step(
        &mut self,
        answers: &mut Answers,
        now: Moment,
        world: &dyn World,
    ) -> Option<Result<Turn, Fault>> {
        let scene = Scene { claimed: self.claimed.as_deref(), ..Scene::at(now, &self.peer, world) };
        let Some(exchange) = &mut self.exchange else {
            return Some(Err(Fault::internal("a conversation without an exchange")));
        };
        match exchange.said(answers, &scene) {
            None => None,
            Some(Ok(Step::Grant(who))) => {
                self.exchange = None;
                Some(Ok(Turn::Granted(who)))
            }
            Some(step) => Some(self.came(step)),
        }
    }

    /// What the exchange says to these answers, for which it must wait.
    async fn later(
        &mut self,
        answers: Answers,
        now: Moment,
        world: &dyn World,
    ) -> Result<Step, Fault> {
        // Taken out while it waits, so that a step that is dropped half-way leaves none.
        let Some(mut exchange) = self.exchange.take() else {
            return Err(Fault::internal("a conversation without an exchange"));
        };
        let scene = Scene { claimed: self.claimed.as_deref(), ..Scene::at(now, &self.peer, world) };
        let step = exchange.later(answers, &scene).await;
        self.exchange = Some(exchange);
        step
    }

    async fn run(
        &mut self,
        mut answers: Answers,
        now: Moment,
        world: &dyn World,
    ) -> Result<Turn, Fault> {
        match self.step(&mut answers, now, world) {
            Some(turn) => turn,
            None => self.waited(answers, now, world).await,
        }
    }

    /// What these answers come to, of which nothing could be said at once.
    pub(crate) async fn waited(
        &mut self,
        answers: Answers,
        now: Moment,
        world: &dyn World,
    ) -> Result<Turn, Fault> {
        let step = self.later(answers, now, world).await;
        self.came(step)
    }

    /// What a responder says to the open round: what it says at once, or nothing.
    #[inline]
    pub(crate) fn asks(
        &self,
        responder: &mut impl Responder,
    ) -> Option<Result<(Answers, bool), Cancelled>> {
        let round = self.open.as_ref()?;
        let given = responder.respond_at_once(round)?;
        Some(given.map(|given| given.to(round)))
    }

    /// The open round.
    pub(crate) fn round(&self) -> Option<&Round> {
        self.open.as_deref()
    }

    /// Takes answers to the open round, and whether it is known that they fit it, to step with.
    #[inline]
    pub(crate) fn given(
        &mut self,
        given: (Answers, bool),
        now: Moment,
    ) -> Result<Answers, Result<Denial, Misuse>> {
        self.take(self.number, given, now).map_err(|taken| match taken {
            Taken::Unfit(misuse) => Err(misuse),
            Taken::Over(denial) => Ok(denial),
        })
    }

    #[inline]
    fn came(&mut self, step: Result<Step, Fault>) -> Result<Turn, Fault> {
        let end = match step {
            Ok(Step::Ask(round)) => return Ok(self.ask(round)),
            Ok(Step::Grant(who)) => Ok(Turn::Granted(who)),
            Ok(Step::Deny(denial)) => Ok(Turn::Denied(denial)),
            Err(fault) => Err(fault),
        };
        self.exchange = None;
        end
    }

    fn reply(&self, turn: Turn) -> Reply {
        match (turn, &self.open) {
            (Turn::Asks, Some(round)) => {
                Reply::Ask(Ask { number: self.number, round: Arc::clone(round) })
            }
            // Not reached: it asks by opening a round.
            (Turn::Asks, None) => Reply::Denied(Denial::new(Reason::Unsupported)),
            (Turn::Granted(who), _) => Reply::Granted(who),
            (Turn::Denied(denial), _) => Reply::Denied(denial),
        }
    }

    fn ask(&mut self, round: Arc<Round>) -> Turn {
        if !round.answerable_by(&self.peer.supports) {
            let kinds = round.questions.iter().map(|q| q.kind.name()).collect::<Vec<_>>();
            let detail = format!("the peer cannot answer all of: {}", kinds.join(", "));
            return self.ends(Denial::new(Reason::Unsupported).because(detail));
        }
        if self.number >= self.bounds.rounds {
            return self.ends(Denial::new(Reason::TooMany).because("too many rounds"));
        }
        if round.feedback.is_some() {
            self.tries += 1;
            if self.tries >= self.bounds.tries {
                return self.ends(Denial::new(Reason::TooMany).because("too many tries"));
            }
        }
        self.number += 1;
        self.open = Some(round);
        Turn::Asks
    }

    fn ends(&mut self, denial: Denial) -> Turn {
        self.end();
        Turn::Denied(denial)
    }

    fn over(&mut self, denial: Denial) -> Taken {
        self.end();
        Taken::Over(denial)
    }

    fn end(&mut self) {
        self.exchange = None;
        self.open = None;
        self.last = None;
    }

    /// Whoever holds the id of an ended conversation may try answers until one earns the last reply.
    /// So many tries as it had for its rounds, and the reply is gone.
    fn forget_if_guessed_at(&mut self) {
        self.mistakes = self.mistakes.saturating_add(1);
        if self.mistakes > self.bounds.mistakes {
            self.last = None;
        }
    }

    fn replayed(&self, number: u16, answers: &Answers) -> Option<Reply> {
        let last = self.last.as_ref()?;
        last.mark.matches(number, answers).then(|| last.reply.clone())
    }
}

/// What a step came to.
pub(crate) enum Turn {
    /// The open round is to be answered.
    Asks,
    Granted(Verified<Identity>),
    Denied(Denial),
}

/// Why there is nothing to step with.
enum Taken {
    Unfit(Misuse),
    Over(Denial),
}

/// The last answered round and what was replied.
#[derive(Debug)]
struct Last {
    mark: Mark,
    reply: Reply,
}

/// Enough of the last answers to recognise them, and nothing that gives them away: who knows the
/// conversation's id but not the password must not be handed the reply that the password earned.
#[derive(Debug)]
struct Mark {
    number: u16,
    salt: [u8; 16],
    digest: [u8; 32],
}

impl Mark {
    fn of(number: u16, answers: &Answers, world: &dyn World) -> Self {
        let mut salt = [0; 16];
        world.fill(&mut salt);
        Self { number, salt, digest: Self::digest(&salt, answers) }
    }

    fn matches(&self, number: u16, answers: &Answers) -> bool {
        number == self.number && Self::digest(&self.salt, answers).ct_eq(&self.digest).into()
    }

    /// Over what the peer gave (before defaults are filled in), in the order of names, so that JSON
    /// objects compare as objects.
    fn digest(salt: &[u8; 16], answers: &Answers) -> [u8; 32] {
        let mut sorted: Vec<_> = answers.iter().collect();
        sorted.sort_by_key(|(name, _)| *name);
        let mut hash = Sha256::new_with_prefix(salt);
        let mut field = |tag: u8, bytes: &[u8]| {
            hash.update([tag]);
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        for (name, answer) in sorted {
            field(0, name.as_bytes());
            match answer {
                Answer::Value(value) => field(1, value.expose()),
                Answer::Choice(index) => field(2, &(*index as u64).to_le_bytes()),
                Answer::Confirmed(yes) => field(3, &[u8::from(*yes)]),
                Answer::Declined => field(4, &[]),
            }
        }
        hash.finalize().into()
    }
}
