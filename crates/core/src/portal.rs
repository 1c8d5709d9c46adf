//! The portal: a realm, and the checkers that guard it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::chain::{Chain, Plan};
use crate::{
    Alternatives, Answers, Bounds, BoxExchange, Checker, Conversation, CredentialKind, Denial,
    Exchange, Factors, Fault, Halt, Identity, Interface, KindSet, Mechanism, Order, Peer, Realm,
    Reason, Reply, Responder, Scene, Session, Step, Verified, World,
};

/// The one thing that a protocol holds.
///
/// Every checker is kept: two for the same mechanism are asked in the order given, under the portal's
/// [`Order`]; none replaces another.
pub struct Portal<R> {
    realm: R,
    checkers: Vec<(Arc<str>, Arc<dyn Checker>)>,
    carriers: Vec<Arc<dyn Carrier>>,
    order: Order,
    require: Vec<Cow<'static, str>>,
    bounds: &'static Bounds,
    /// Made from the above whenever it changes, so that a login allocates no plan.
    plans: BTreeMap<String, Arc<Plan>>,
    factors: Option<Arc<[Arc<Plan>]>>,
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
        Self {
            realm,
            checkers: Vec::new(),
            carriers: Vec::new(),
            order: Order::default(),
            require: Vec::new(),
            bounds: &Bounds::CONNECTION,
            plans: BTreeMap::new(),
            factors: None,
        }
    }

    /// The portal with one more checker, after those before it.
    #[must_use]
    pub fn checked_by(self, checker: impl Checker) -> Self {
        self.checked_by_shared(Arc::new(checker))
    }

    /// The portal with one more checker that others hold too.
    #[must_use]
    pub fn checked_by_shared(mut self, checker: Arc<dyn Checker>) -> Self {
        self.checkers.push((checker.name().into(), checker));
        self.planned()
    }

    /// The portal with one more carrier.
    #[must_use]
    pub fn carried_by(mut self, carrier: impl Carrier) -> Self {
        self.carriers.push(Arc::new(carrier));
        self
    }

    /// The portal with another order of checkers.
    #[must_use]
    pub fn in_order(mut self, order: Order) -> Self {
        self.order = order;
        self.planned()
    }

    /// The portal, requiring these mechanisms one after the other of everybody.
    #[must_use]
    pub fn requiring(
        mut self,
        mechanisms: impl IntoIterator<Item = impl Into<Cow<'static, str>>>,
    ) -> Self {
        self.require = mechanisms.into_iter().map(Into::into).collect();
        self.planned()
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
        self.checkers.iter().map(|(name, _)| &**name)
    }

    /// The mechanisms a peer can be offered that answers these kinds, carriers included.
    pub fn mechanisms<'a>(&'a self, supports: &'a KindSet) -> impl Iterator<Item = &'a str> {
        let begins = |name: &str| self.plan(name).is_some_and(|plan| self.begins_with(plan));
        let own = self.offered(supports).filter(move |mechanism| begins(&mechanism.name));
        let carried = self.carriers.iter().filter(move |carrier| {
            supports.contains(&CredentialKind::Token) && begins(carrier.carries())
        });
        own.map(|mechanism| &*mechanism.name).chain(carried.map(|carrier| carrier.name()))
    }

    /// Whether a checker offers a mechanism by itself, not carried.
    pub fn offers(&self, mechanism: &str) -> bool {
        self.bare(mechanism).is_some()
    }

    /// The exchange for a mechanism, or for whatever the peer can answer.
    ///
    /// # Errors
    ///
    /// [`Reason::Unsupported`] when there is none.
    pub fn exchange(
        &self,
        mechanism: Option<&str>,
        supports: &KindSet,
    ) -> Result<BoxExchange, Denial> {
        let Some(name) = mechanism else { return self.any(supports) };
        if let Some(exchange) = self.bare(name) {
            return Ok(exchange);
        }
        let carrier = self.carriers.iter().find(|c| c.name().eq_ignore_ascii_case(name));
        let dressed = carrier.and_then(|c| Some(c.carry(self.bare(c.carries())?)));
        dressed.ok_or_else(|| {
            let detail = format!("no checker offers the mechanism `{name}`");
            Denial::new(Reason::Unsupported).because(detail)
        })
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
        let exchange = self
            .exchange(request.mechanism.as_deref(), &request.peer.supports)
            .unwrap_or_else(|denial| BoxExchange::new(Refused(denial)));
        Conversation::begin(exchange, request.peer, request.claimed, bounds, world).await
    }

    /// Authenticates: drives the conversation with a responder that can be asked.
    pub async fn authenticate(
        &self,
        mut request: Request,
        responder: &mut impl Responder,
        world: &dyn World,
    ) -> Result<Verified<Identity>, LoginError> {
        let supports = responder.supports();
        if request.peer.supports != supports {
            Arc::make_mut(&mut request.peer).supports = supports;
        }
        let (mut conversation, mut reply) =
            self.begin(request, world).await.map_err(LoginError::Fault)?;
        loop {
            let ask = match reply {
                Reply::Granted(who) => return Ok(who),
                Reply::Denied(denial) => return Err(LoginError::Denied(denial)),
                Reply::Ask(ask) => ask,
            };
            let answers = match responder.respond(&ask.round).await {
                Ok(answers) => answers,
                Err(cancelled) => {
                    let denial = conversation.cancel().because(cancelled.why);
                    return Err(LoginError::Denied(denial));
                }
            };
            // A responder that misunderstood is told by the audit record, not asked again: it would
            // say the same.
            reply = match conversation.answer(ask.number, answers, world).await {
                Ok(reply) => reply,
                Err(Halt::Fault(fault)) => return Err(LoginError::Fault(fault)),
                Err(Halt::Misuse(misuse)) => {
                    let denial = Denial::new(Reason::Malformed).because(misuse.to_string());
                    return Err(LoginError::Denied(denial));
                }
            };
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
        let who = self.authenticate(request, responder, world).await?;
        self.realm.admit(&who, mind).await.map_err(LoginError::Denied)
    }

    fn planned(mut self) -> Self {
        self.plans.clear();
        for (name, checker) in &self.checkers {
            for mechanism in checker.mechanisms() {
                let plan = self.plans.entry(mechanism.name.to_ascii_lowercase());
                let plan = plan.or_insert_with(|| {
                    Arc::new(Plan {
                        mechanism: mechanism.name.clone(),
                        order: self.order,
                        checkers: Vec::new(),
                    })
                });
                Arc::make_mut(plan).checkers.push((Arc::clone(name), Arc::clone(checker)));
            }
        }
        let factors: Option<Vec<_>> =
            self.require.iter().map(|mechanism| self.plan(mechanism).cloned()).collect();
        // A required mechanism that no checker offers leaves an empty list, which lets nobody in.
        self.factors = (!self.require.is_empty()).then(|| factors.unwrap_or_default().into());
        self
    }

    fn plan(&self, mechanism: &str) -> Option<&Arc<Plan>> {
        if let Some(plan) = self.plans.get(mechanism) {
            return Some(plan);
        }
        self.plans.get(&mechanism.to_ascii_lowercase())
    }

    /// The exchange of a mechanism that is not carried.
    fn bare(&self, mechanism: &str) -> Option<BoxExchange> {
        let plan = self.plan(mechanism)?;
        if !self.begins_with(plan) {
            return None;
        }
        match &self.factors {
            None => Some(BoxExchange::new(Chain::new(Arc::clone(plan)))),
            Some(factors) => Some(BoxExchange::new(Factors::new(Arc::clone(factors))?)),
        }
    }

    /// Several factors begin with the first. To ask for another is not to skip it.
    fn begins_with(&self, plan: &Arc<Plan>) -> bool {
        match &self.factors {
            None => true,
            Some(factors) => factors.first().is_some_and(|first| Arc::ptr_eq(first, plan)),
        }
    }

    fn any(&self, supports: &KindSet) -> Result<BoxExchange, Denial> {
        let mut parts = Vec::new();
        for mechanism in self.offered(supports) {
            // One that lets in without a question is only for who asks for it by name: otherwise a peer
            // that can answer nothing would be offered exactly that.
            if mechanism.asks == KindSet::none() {
                continue;
            }
            if let Some(exchange) = self.bare(&mechanism.name) {
                parts.push((mechanism.name.clone(), exchange));
            }
        }
        match parts.len() {
            0 => {
                let detail = "no checker offers a mechanism that this peer can answer";
                Err(Denial::new(Reason::Unsupported).because(detail))
            }
            1 => Ok(parts.remove(0).1),
            _ => Ok(BoxExchange::new(Alternatives::new(parts))),
        }
    }

    /// The checkers' own mechanisms that a peer can answer, each once. Those that speak in opaque
    /// tokens are for peers that name them.
    fn offered<'a>(&'a self, supports: &'a KindSet) -> impl Iterator<Item = &'a Mechanism> {
        let all = self.checkers.iter().flat_map(|(_, checker)| checker.mechanisms());
        let mut seen: Vec<&str> = Vec::new();
        all.filter(move |mechanism| {
            let new = !seen.iter().any(|name| mechanism.is(name));
            if new {
                seen.push(&mechanism.name);
            }
            new && supports.contains_all(&mechanism.asks)
                && !mechanism.asks.contains(&CredentialKind::Token)
        })
    }
}

impl<R> fmt::Debug for Portal<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Portal")
            .field("checkers", &self.checkers().collect::<Vec<_>>())
            .field("order", &self.order)
            .field("require", &self.require)
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
