//! The portal: a realm, and the checkers that guard it.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::chain::{Chain, Plan};
use crate::conversation::{Talk, Turn};
use crate::exchange::Running;
use crate::ways::{Way, Ways};
use crate::{
    Alternatives, Answers, Application, Bounds, BoxExchange, Cancelled, Checker, Conversation,
    CredentialKind, Denial, Exchange, Factor, Factors, Fault, Guard, Identity, Interface, KindSet,
    Mechanism, MissingInterface, Moment, Order, Peer, Policy, Realm, Reason, Reply, Responder,
    Scene, Secret, Serving, Session, Step, Verified, World,
};

/// The one thing that a protocol holds.
///
/// Every checker is kept: two for the same mechanism are asked in the order given, under the portal's
/// [`Order`]; none replaces another.
///
/// ```
/// use countersign::{Fault, Identity, KindSet, Password, PasswordStore, Portal, Secret, Verdict, Verified};
///
/// struct Only(&'static str);
/// impl PasswordStore for Only {
///     async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
///         if login != self.0 {
///             return Ok(Verdict::UNKNOWN);
///         }
///         match *password == Secret::from("open sesame") {
///             true => Ok(Verdict::Is(Verified::vouch(Identity::named(login)))),
///             false => Ok(Verdict::WRONG),
///         }
///     }
/// }
///
/// // Before a realm that is none: this one only authenticates.
/// let portal = Portal::new(())
///     .checked_by(Password::new("staff", Only("ada")))
///     .checked_by(Password::new("guests", Only("bob")));
/// assert_eq!(portal.checkers().collect::<Vec<_>>(), ["staff", "guests"]);
/// assert_eq!(portal.mechanisms(&KindSet::all()), ["password"]);
///
/// use countersign::{Answers, Known, Request, testing};
/// let world = testing::StillWorld::default();
/// let mut bob = Known::new(Answers::new().with("username", "bob").with("password", "open sesame"));
/// let who = testing::now_or_never(portal.authenticate(Request::to("shop"), &mut bob, &world));
/// let who = who.expect("no I/O").expect("bob is known to the second");
/// assert_eq!((who.subject.name(), who.checker()), (Some("bob"), Some("guests")));
/// ```
pub struct Portal<R> {
    realm: R,
    carriers: Vec<Arc<dyn Carrier>>,
    bounds: &'static Bounds,
    /// Made anew whenever anything in it changes, so that a login makes no plan.
    ways: Ways,
}

/// Another clothing for a mechanism: SASL `PLAIN` carries `password` in one message.
///
/// A carrier knows a protocol's bytes and nothing about who says yes, so every checker that offers the
/// inner mechanism is reached through it.
pub trait Carrier: Send + Sync + 'static {
    /// The outer name, such as `PLAIN`.
    fn name(&self) -> &str;
    /// The mechanism inside, such as `password`.
    fn carries(&self) -> &str;
    /// Dresses an exchange.
    fn carry(&self, inner: BoxExchange) -> BoxExchange;
    /// The user name in a message, for the record of a login that breaks before its exchange can tell; none
    /// where a message may be the secret itself.
    fn claimed<'a>(&self, _message: &'a Secret) -> Option<&'a str> {
        None
    }
}

/// What a protocol asks of a portal.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who is asking.
    pub peer: Arc<Peer>,
    /// The mechanism that the peer chose; none: whatever both sides can do, side by side.
    pub mechanism: Option<Cow<'static, str>>,
    /// The user name that the protocol gave before any question, unproven.
    pub claimed: Option<Box<str>>,
}

/// What is known of a login that has been.
#[derive(Clone, Copy, Debug, Default)]
pub struct Earlier<'a> {
    /// [`Verified::checker`].
    pub checker: Option<&'a str>,
    /// [`Verified::proofs`].
    pub proofs: &'a [String],
    /// [`Verified::is_complete`].
    pub complete: bool,
}

/// Why a login came to nothing.
#[derive(Clone, Debug)]
pub enum LoginError {
    /// Refused.
    Denied(Denial),
    /// Something broke.
    Fault(Fault),
}

impl Request {
    /// A login to a service, by a peer of which nothing else is known.
    pub fn to(service: impl Into<Arc<str>>) -> Self {
        Self::from_peer(Arc::new(Peer::new(service, KindSet::none())))
    }

    /// A login by this peer.
    pub fn from_peer(peer: Arc<Peer>) -> Self {
        Self { peer, mechanism: None, claimed: None }
    }

    /// The request for one mechanism.
    #[must_use]
    pub fn by(mut self, mechanism: impl Into<Cow<'static, str>>) -> Self {
        self.mechanism = Some(mechanism.into());
        self
    }
}

impl<R> Portal<R> {
    /// A portal to a realm. Without a checker it lets nobody in.
    pub fn new(realm: R) -> Self {
        let ways = Ways::new(Vec::new(), Order::default(), Policy::default(), None);
        Self { realm, carriers: Vec::new(), bounds: &Bounds::CONNECTION, ways }
    }

    /// The portal with one more checker, after those before it.
    #[must_use]
    pub fn checked_by(self, checker: impl Checker) -> Self {
        self.checked_by_shared(Arc::new(checker))
    }

    /// The portal with one more checker that others hold too.
    #[must_use]
    pub fn checked_by_shared(self, checker: Arc<dyn Checker>) -> Self {
        self.remade(|ways| ways.checkers.push((checker.name().into(), checker)))
    }

    /// The portal with one more carrier.
    #[must_use]
    pub fn carried_by(mut self, carrier: impl Carrier) -> Self {
        self.carriers.push(Arc::new(carrier));
        self
    }

    /// The portal with another order of checkers.
    #[must_use]
    pub fn in_order(self, order: Order) -> Self {
        self.remade(|ways| ways.order = order)
    }

    /// The portal, requiring these mechanisms one after the other of everybody.
    #[must_use]
    pub fn requiring(
        self,
        mechanisms: impl IntoIterator<Item = impl Into<Cow<'static, str>>>,
    ) -> Self {
        let factors = mechanisms.into_iter().map(Factor::of).collect();
        self.remade(|ways| ways.policy.terms.require = Some(factors))
    }

    /// The portal under a policy. What was said before about required mechanisms is forgotten.
    #[must_use]
    pub fn under(self, policy: Policy) -> Self {
        self.remade(|ways| ways.policy = policy)
    }

    /// The portal with a guard before its checkers.
    #[must_use]
    pub fn guarded_by(self, guard: Arc<dyn Guard>) -> Self {
        self.remade(|ways| ways.guard = Some(guard))
    }

    /// The same checkers under the same policy before another realm.
    pub fn before<S>(&self, realm: S) -> Portal<S> {
        let Ways { checkers, order, policy, guard, .. } = &self.ways;
        Portal {
            realm,
            carriers: self.carriers.clone(),
            bounds: self.bounds,
            ways: Ways::new(checkers.clone(), *order, policy.clone(), guard.clone()),
        }
    }

    fn remade(mut self, change: impl FnOnce(&mut Ways)) -> Self {
        change(&mut self.ways);
        let Ways { checkers, order, policy, guard, .. } = self.ways;
        Self { ways: Ways::new(checkers, order, policy, guard), ..self }
    }

    /// The portal with other bounds for its conversations.
    #[must_use]
    pub fn bounded_by(mut self, bounds: &'static Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// The bounds of its conversations, where a protocol has none of its own.
    pub fn bounds(&self) -> &'static Bounds {
        self.bounds
    }

    /// The realm.
    pub fn realm(&self) -> &R {
        &self.realm
    }

    /// The names of the checkers, in order.
    pub fn checkers(&self) -> impl Iterator<Item = &str> {
        self.ways.checkers.iter().map(|(name, _)| &**name)
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.ways.policy
    }

    /// The mechanisms that somebody could begin with who answers these kinds, carriers included: under the
    /// policy's usual terms, or those of one of its rules. What this peer can use, [`Portal::offers_to`] says.
    pub fn mechanisms(&self, supports: &KindSet) -> Vec<String> {
        let mut names = Vec::<String>::new();
        for way in self.ways.some() {
            let own = way.offered(supports).map(|mechanism| &*mechanism.name);
            let carried = self.carriers.iter().filter(|carrier| {
                supports.contains(&CredentialKind::Token) && way.begin(carrier.carries()).is_some()
            });
            let all = own.chain(carried.map(|carrier| carrier.name()));
            for name in all.filter(|name| way.permits(name)) {
                if !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                    names.push(name.to_owned());
                }
            }
        }
        names
    }

    /// The mechanisms that this peer can begin with, carriers included: what the policy lets it use. It is
    /// what a peer could be offered that answers everything.
    pub fn begins(&self, peer: &Peer) -> Vec<String> {
        self.begins_where(peer, |_| true)
    }

    /// Those of [`Portal::begins`] that speak one opaque token at a time, carriers included: what a protocol with
    /// SASL announces to this peer. A mechanism of tokens that is not SASL's (APOP) is known to the protocol
    /// that has it.
    pub fn begins_by_token(&self, peer: &Peer) -> Vec<String> {
        let tokens = KindSet::none().with(CredentialKind::Token);
        self.begins_where(peer, |own| own.asks == tokens)
    }

    fn begins_where(&self, peer: &Peer, wanted: impl Fn(&Mechanism) -> bool) -> Vec<String> {
        let way = self.ways.to(peer);
        if way.open().is_err() {
            return Vec::new();
        }
        let usable = |name: &str| {
            if !Mechanism::fits(name, peer) {
                return false;
            }
            let plan = way.begin(name);
            plan.is_some_and(|p| !p.plaintext || way.plaintext.allows(peer.transport))
        };
        let own = way.all().filter(|own| wanted(own)).map(|own| &*own.name);
        let own = own.filter(|name| usable(name));
        let carried = self.carriers.iter().filter(|carrier| usable(carrier.carries()));
        let all = own.chain(carried.map(|carrier| carrier.name()));
        let mut names = Vec::<String>::new();
        for name in all.filter(|name| way.permits(name)) {
            // A checker's own mechanism goes before a carrier of that name.
            if !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                names.push(name.to_owned());
            }
        }
        names
    }

    /// The user name in a message to a carrier, unproven.
    pub fn claimed<'a>(&self, mechanism: &str, message: &'a Secret) -> Option<&'a str> {
        let carrier = self.carriers.iter().find(|c| c.name().eq_ignore_ascii_case(mechanism));
        carrier?.claimed(message)
    }

    /// Every mechanism of every checker, and the carriers.
    pub fn mechanism_names(&self) -> Vec<String> {
        let own = self.ways.checkers.iter().flat_map(|(_, checker)| checker.mechanisms());
        let own = own.map(|mechanism| mechanism.name.to_string());
        let carriers = self.carriers.iter().map(|carrier| carrier.name().to_owned());
        let mut names = Vec::<String>::new();
        for name in own.chain(carriers) {
            if !names.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
                names.push(name);
            }
        }
        names
    }

    /// Whether a login of this peer can begin with a mechanism of a checker itself, not carried.
    pub fn offers_to(&self, peer: &Peer, mechanism: &str) -> bool {
        let way = self.ways.to(peer);
        way.permits(mechanism) && way.begin(mechanism).is_some()
    }

    /// Whether a login can begin with a mechanism of a checker itself, not carried, somewhere.
    pub fn offers(&self, mechanism: &str) -> bool {
        self.ways.some().any(|way| way.permits(mechanism) && way.begin(mechanism).is_some())
    }

    /// Whether an earlier login is enough for what this peer asks for now: the policy lets this identity in
    /// there, demands no other proof, and would have taken one of those that were given, by the checker that
    /// vouched.
    ///
    /// # Errors
    ///
    /// The refusal: [`Reason::NotAllowed`] if another login would not help, [`Reason::NotEnrolled`] if one
    /// with other factors would.
    pub fn suffices(&self, peer: &Peer, who: &Identity, login: Earlier<'_>) -> Result<(), Denial> {
        let Earlier { checker, proofs, complete } = login;
        let way = self.ways.to(peer);
        way.open()?;
        let demands = way.demands(who)?;
        let short = |detail: String| Err(Denial::new(Reason::NotEnrolled).because(detail));
        if !proofs.iter().any(|proof| way.permits(proof) && way.has(proof)) {
            return short("the policy takes none of the mechanisms of that login".to_owned());
        }
        if let Some(checker) = checker.filter(|checker| !way.asks(checker)) {
            return short(format!("the policy does not ask {checker}"));
        }
        let proofs = proofs.iter().map(String::as_str);
        match demands.iter().find(|plan| !complete && !plan.is_met(proofs.clone())) {
            None => Ok(()),
            Some(plan) => {
                short(format!("the policy requires {}, which was not proven", plan.factor))
            }
        }
    }

    /// The exchange for a mechanism, or for whatever the peer can answer.
    ///
    /// # Errors
    ///
    /// [`Reason::Unsupported`] when there is none; [`Reason::NotAllowed`] when the policy lets nobody in.
    pub fn exchange(&self, mechanism: Option<&str>, peer: &Peer) -> Result<BoxExchange, Denial> {
        let way = self.ways.lent_to(peer);
        self.running(&way, mechanism, peer).map(|running| running.kept().into())
    }

    fn running<'w>(
        &self,
        way: &'w Arc<Way>,
        mechanism: Option<&str>,
        peer: &Peer,
    ) -> Result<Running<&'w Arc<Plan>>, Denial> {
        way.open()?;
        let Some(name) = mechanism else { return any(way, peer) };
        if !way.permits(name) {
            let detail = format!("the policy does not allow the mechanism `{name}` here");
            return Err(Denial::new(Reason::Unsupported).because(detail));
        }
        if let Some(plan) = way.begin(name) {
            return bare(way, plan, peer);
        }
        let carrier = self.carriers.iter().find(|c| c.name().eq_ignore_ascii_case(name));
        match carrier.and_then(|c| Some((c, way.begin(c.carries())?))) {
            Some((carrier, plan)) => {
                let inner = BoxExchange::from(bare(way, plan, peer)?.kept());
                Ok(Running::Other(carrier.carry(inner)))
            }
            None => {
                let detail = format!("no checker offers the mechanism `{name}`");
                Err(Denial::new(Reason::Unsupported).because(detail))
            }
        }
    }

    /// Begins a conversation.
    ///
    /// # Errors
    ///
    /// A fault of a backend in the first step.
    pub async fn begin(
        &self,
        request: Request,
        world: &dyn World,
    ) -> Result<(Conversation, Reply), Fault> {
        self.begin_within(request, self.bounds, world).await
    }

    /// Begins a conversation with bounds of the protocol's own, such as [`Bounds::REQUESTS`] for a peer that
    /// may lose a reply and ask for it again.
    ///
    /// # Errors
    ///
    /// A fault of a backend in the first step.
    pub async fn begin_within(
        &self,
        request: Request,
        bounds: &'static Bounds,
        world: &dyn World,
    ) -> Result<(Conversation, Reply), Fault> {
        let now = world.now();
        let way = self.ways.lent_to(&request.peer);
        let exchange = self.exchange_for(&way, &request).kept();
        let Request { peer, claimed, .. } = request;
        let talk = Talk::new(exchange, peer, claimed, bounds, now);
        Conversation::started(talk, now, world).await
    }

    /// What answers a request: an exchange, be it one that refuses.
    #[inline]
    fn exchange_for<'w>(&self, way: &'w Arc<Way>, request: &Request) -> Running<&'w Arc<Plan>> {
        self.running(way, request.mechanism.as_deref(), &request.peer)
            .unwrap_or_else(|denial| Running::Other(BoxExchange::new(Refused(denial))))
    }

    /// Authenticates: drives the conversation with a responder that can be asked.
    pub async fn authenticate(
        &self,
        request: Request,
        responder: &mut impl Responder,
        world: &dyn World,
    ) -> Result<Verified<Identity>, LoginError> {
        let way = self.ways.lent_to(&request.peer);
        match self.at_once(&way, request, responder, world) {
            Begun::Over(end) => end,
            // In a box: who has nothing to wait for does not carry the room for it about.
            Begun::Waits(attempt) => Box::pin(attempt.finish(responder, world)).await,
        }
    }

    /// The same, as far as it comes before something or somebody must be waited for.
    #[inline]
    fn at_once<'w>(
        &self,
        way: &'w Arc<Way>,
        mut request: Request,
        responder: &mut impl Responder,
        world: &dyn World,
    ) -> Begun<'w> {
        let supports = responder.supports();
        if request.peer.supports != supports {
            Arc::make_mut(&mut request.peer).supports = supports;
        }
        let now = world.now();
        let exchange = self.exchange_for(way, &request);
        let Request { peer, claimed, .. } = request;
        let mut conversation = Talk::new(exchange, peer, claimed, self.bounds, now);
        match advance(&mut conversation, Answers::new(), responder, now, world) {
            Ok(end) => Begun::Over(end),
            Err(waits) => Begun::Waits(Attempt { conversation, waits }),
        }
    }

    /// Logs in: authenticates, then asks the realm for an avatar with the protocol's interface.
    pub async fn login<I: Interface>(
        &self,
        request: Request,
        responder: &mut impl Responder,
        mind: I::Mind,
        world: &dyn World,
    ) -> Result<Session<I>, LoginError>
    where
        R: Realm<I>,
    {
        let way = self.ways.lent_to(&request.peer);
        let who = match self.at_once(&way, request, responder, world) {
            Begun::Over(end) => end?,
            Begun::Waits(attempt) => Box::pin(attempt.finish(responder, world)).await?,
        };
        self.realm.admit(&who, mind).await.map_err(LoginError::Denied)
    }
}

impl Portal<Application> {
    /// The portal of a protocol that asks for the interface `I`: what a listener takes before it listens.
    ///
    /// # Errors
    ///
    /// When the application has no such interface.
    pub fn serving<I: Interface>(&self) -> Result<Portal<Serving<I>>, MissingInterface> {
        Ok(self.before(self.realm.realm()?))
    }
}

/// A login as far as it came in one call.
enum Begun<'w> {
    Over(Result<Verified<Identity>, LoginError>),
    Waits(Attempt<'w>),
}

/// A login that waits.
struct Attempt<'w> {
    conversation: Talk<&'w Arc<Plan>>,
    waits: Waits,
}

/// What for.
enum Waits {
    /// The answers to its open round.
    Answers,
    /// What these answers, which were taken at this moment, come to.
    Step(Answers, Moment),
}

impl Attempt<'_> {
    async fn finish(
        mut self,
        responder: &mut impl Responder,
        world: &dyn World,
    ) -> Result<Verified<Identity>, LoginError> {
        let conversation = &mut self.conversation;
        loop {
            let (next, now) = match self.waits {
                Waits::Step(answers, now) => {
                    let turn = conversation.waited(answers, now, world).await;
                    let now = world.now();
                    (go_on(conversation, turn, responder, now), now)
                }
                Waits::Answers => {
                    let Some(round) = conversation.round() else {
                        return Err(LoginError::Fault(Fault::internal("nothing is asked")));
                    };
                    let answered = responder.respond(round).await;
                    let now = world.now();
                    (given_to(conversation, answered.map(|answers| (answers, false)), now), now)
                }
            };
            let next = match next {
                Ok(answers) => advance(conversation, answers, responder, now, world),
                Err(next) => next,
            };
            self.waits = match next {
                Ok(end) => return end,
                Err(waits) => waits,
            };
        }
    }
}

/// Goes on with a conversation until it has ended, or something or somebody must be waited for. Nothing here
/// does, so one look at the clock is good for all of it.
#[inline]
fn advance(
    conversation: &mut Talk<&Arc<Plan>>,
    mut answers: Answers,
    responder: &mut impl Responder,
    now: Moment,
    world: &dyn World,
) -> Next {
    loop {
        answers = match conversation.step(&mut answers, now, world) {
            None => return Err(Waits::Step(answers, now)),
            Some(Ok(Turn::Granted(who))) => return Ok(Ok(who)),
            Some(turn) => match go_on(conversation, turn, responder, now) {
                Ok(answers) => answers,
                Err(next) => return next,
            },
        };
    }
}

/// The end, or what to wait for.
type Next = Result<Result<Verified<Identity>, LoginError>, Waits>;

/// The answers to step with after this turn.
#[inline]
fn go_on(
    conversation: &mut Talk<&Arc<Plan>>,
    turn: Result<Turn, Fault>,
    responder: &mut impl Responder,
    now: Moment,
) -> Result<Answers, Next> {
    match turn {
        Ok(Turn::Asks) => match conversation.asks(responder) {
            Some(given) => given_to(conversation, given, now),
            None => Err(Err(Waits::Answers)),
        },
        Ok(Turn::Granted(who)) => Err(Ok(Ok(who))),
        Ok(Turn::Denied(denial)) => Err(Ok(Err(LoginError::Denied(denial)))),
        Err(fault) => Err(Ok(Err(LoginError::Fault(fault)))),
    }
}

/// What a responder has given, as the conversation takes it.
#[inline]
fn given_to(
    conversation: &mut Talk<&Arc<Plan>>,
    given: Result<(Answers, bool), Cancelled>,
    now: Moment,
) -> Result<Answers, Next> {
    let denial = match given {
        Ok(given) => match conversation.given(given, now) {
            Ok(answers) => return Ok(answers),
            Err(Ok(denial)) => denial,
            // A responder that misunderstood is told by the audit record, not asked again: it would say the
            // same.
            Err(Err(misuse)) => Denial::new(Reason::Malformed).because(misuse.to_string()),
        },
        Err(cancelled) => conversation.cancel().because(cancelled.why),
    };
    Err(Ok(Err(LoginError::Denied(denial))))
}

/// The exchange of a mechanism that is not carried.
fn bare<'w>(
    way: &Arc<Way>,
    plan: &'w Arc<Plan>,
    peer: &Peer,
) -> Result<Running<&'w Arc<Plan>>, Denial> {
    if plan.plaintext && !way.plaintext.allows(peer.transport) {
        return Err(readable(&plan.mechanism));
    }
    Ok(match way.is_simple() {
        true => Running::One(Chain::new(plan)),
        false => {
            let factors = Factors::one(Arc::clone(way), Arc::clone(plan));
            Running::Other(BoxExchange::new(factors))
        }
    })
}

/// Whatever the peer can answer, side by side.
fn any<'w>(way: &'w Arc<Way>, peer: &Peer) -> Result<Running<&'w Arc<Plan>>, Denial> {
    let mut plans = Vec::new();
    let mut unreadable = None;
    for mechanism in way.offered(&peer.supports).filter(|mechanism| way.permits(&mechanism.name)) {
        // One that lets in without a question is only for who asks for it by name: otherwise a peer that
        // can answer nothing would be offered exactly that.
        if mechanism.asks == KindSet::none() {
            continue;
        }
        if mechanism.plaintext && !way.plaintext.allows(peer.transport) {
            unreadable.get_or_insert_with(|| readable(&mechanism.name));
            continue;
        }
        plans.extend(way.begin(&mechanism.name));
    }
    match plans.as_slice() {
        [] => Err(unreadable.unwrap_or_else(|| {
            let detail = "no checker offers a mechanism that this peer can answer";
            Denial::new(Reason::Unsupported).because(detail)
        })),
        &[only] => bare(way, only, peer),
        several => {
            let parts = several.iter().map(|plan| {
                let chain = BoxExchange::new(Chain::new(Arc::clone(plan)));
                (plan.mechanism.clone(), chain)
            });
            let alternatives = BoxExchange::new(Alternatives::new(parts));
            Ok(Running::Other(match way.is_simple() {
                true => alternatives,
                false => BoxExchange::new(Factors::other(Arc::clone(way), alternatives)),
            }))
        }
    }
}

fn readable(mechanism: &str) -> Denial {
    let detail = format!(
        "`{mechanism}` sends its secret readable, which the policy does not allow without TLS"
    );
    Denial::new(Reason::Unsupported).because(detail)
}

impl<R> fmt::Debug for Portal<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Portal")
            .field("checkers", &self.checkers().collect::<Vec<_>>())
            .field("order", &self.ways.order)
            .field("policy", &self.ways.policy)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for LoginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(denial) => denial.fmt(f),
            Self::Fault(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for LoginError {}

/// An exchange that is over before it began.
struct Refused(Denial);

impl Exchange for Refused {
    async fn step(&mut self, _: Answers, _: &Scene<'_>) -> Result<Step, Fault> {
        Ok(Step::Deny(self.0.clone()))
    }
}
