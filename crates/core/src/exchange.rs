//! One authentication under way, advanced a round at a time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::chain::{Chain, Plan, Planned};
use crate::{Answers, Denial, Fault, Identity, Reason, Round, Scene, Verified};

/// One authentication under way.
///
/// The first step is given no answers; each later one the answers to the round that the step before
/// returned. A step may await a backend. It never awaits the peer: to wait for the peer is to return
/// [`Step::Ask`]. So waiting for a person costs the size of `Self` and neither a thread nor a task.
///
/// Write an exchange by hand where its size counts, or as straight-line code with
/// [`script`](crate::script()). Run it in a [`Conversation`](crate::Conversation), which enforces every
/// rule that an exchange may then rely on.
///
/// ```
/// use countersign::{
///     Answers, Exchange, Fault, Identity, Question, Reason, Round, Scene, Step, Verified,
/// };
///
/// /// Asks for a name, and believes it.
/// struct Trusting {
///     asked: bool,
/// }
///
/// impl Exchange for Trusting {
///     async fn step(&mut self, answers: Answers, _: &Scene<'_>) -> Result<Step, Fault> {
///         if !std::mem::replace(&mut self.asked, true) {
///             return Ok(Step::ask(Round::of([Question::username()])));
///         }
///         Ok(match answers.text("username") {
///             Some(name) => Step::Grant(Verified::vouch(Identity::named(name))),
///             None => Step::deny(Reason::Declined),
///         })
///     }
/// }
///
/// use countersign::{KindSet, Peer, testing};
/// let (peer, world) = (Peer::new("club", KindSet::all()), testing::StillWorld::default());
/// let (scene, mut exchange) = (Scene::of(&peer, &world), Trusting { asked: false });
/// let asked = testing::now_or_never(exchange.step(Answers::new(), &scene)).expect("no I/O");
/// assert!(matches!(asked, Ok(Step::Ask(round)) if round.questions[0].name == "username"));
/// let ada = Answers::new().with("username", "ada");
/// let granted = testing::now_or_never(exchange.step(ada, &scene)).expect("no I/O");
/// assert!(matches!(granted, Ok(Step::Grant(who)) if who.subject.name() == Some("ada")));
/// ```
pub trait Exchange: Send + 'static {
    /// What the step comes to, where nothing need be waited for; else gives the answers back, for
    /// [`Exchange::step`] to go on with.
    ///
    /// Whoever runs an exchange calls it before each step. It spares most logins their futures, which have to
    /// be boxed where the type of an exchange is not known. An exchange need not have it; one that has it does
    /// nothing here that the step would do again.
    fn at_once(&mut self, answers: Answers, scene: &Scene<'_>) -> AtOnce {
        let _ = scene;
        AtOnce::Later(answers)
    }

    /// Goes on with the answers to the last round, which [`Exchange::at_once`] gave back.
    fn step(
        &mut self,
        answers: Answers,
        scene: &Scene<'_>,
    ) -> impl Future<Output = Result<Step, Fault>> + Send;
}

/// What can be said without waiting.
#[must_use]
#[derive(Debug)]
pub enum AtOnce {
    /// All of the step.
    Done(Result<Step, Fault>),
    /// Not what the step comes to. These are its answers.
    Later(Answers),
}

/// What a step came to.
#[must_use]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Step {
    /// The peer must answer before it goes on.
    Ask(Arc<Round>),
    /// The peer is who this says.
    Grant(Verified<Identity>),
    /// The peer is refused.
    Deny(Denial),
}

impl Step {
    /// Asks a round of questions.
    pub fn ask(round: impl Into<Arc<Round>>) -> Self {
        Self::Ask(round.into())
    }

    /// The same end, with the name that the peer claimed, for the record. The first to say so is kept.
    pub fn claiming(mut self, name: &str) -> Self {
        match &mut self {
            Self::Grant(who) => who.claim(name),
            Self::Deny(denial) => {
                denial.claimed.get_or_insert_with(|| name.into());
            }
            Self::Ask(_) => {}
        }
        self
    }

    /// Refuses, with no more to say than the reason.
    pub fn deny(reason: Reason) -> Self {
        Self::Deny(Denial::new(reason))
    }
}

/// An exchange of any type.
pub struct BoxExchange(Box<dyn Erased>);

impl BoxExchange {
    /// Boxes an exchange.
    pub fn new(exchange: impl Exchange) -> Self {
        Self(Box::new(exchange))
    }
}

impl Exchange for BoxExchange {
    fn at_once(&mut self, answers: Answers, scene: &Scene<'_>) -> AtOnce {
        self.0.at_once_erased(answers, scene)
    }

    /// The whole of a step: what can be said at once, too.
    async fn step(&mut self, answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        match self.0.at_once_erased(answers, scene) {
            AtOnce::Done(step) => step,
            AtOnce::Later(answers) => self.later(answers, scene).await,
        }
    }
}

impl BoxExchange {
    /// What is left of a step of which nothing could be said at once.
    pub(crate) fn later<'a>(
        &'a mut self,
        answers: Answers,
        scene: &'a Scene<'a>,
    ) -> impl Future<Output = Result<Step, Fault>> + Send + 'a {
        self.0.step_erased(answers, scene)
    }
}

impl std::fmt::Debug for BoxExchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BoxExchange")
    }
}

type StepFuture<'a> = Pin<Box<dyn Future<Output = Result<Step, Fault>> + Send + 'a>>;

trait Erased: Send + 'static {
    fn at_once_erased(&mut self, answers: Answers, scene: &Scene<'_>) -> AtOnce;
    fn step_erased<'a>(&'a mut self, answers: Answers, scene: &'a Scene<'a>) -> StepFuture<'a>;
}

impl<E: Exchange> Erased for E {
    fn at_once_erased(&mut self, answers: Answers, scene: &Scene<'_>) -> AtOnce {
        self.at_once(answers, scene)
    }

    fn step_erased<'a>(&'a mut self, answers: Answers, scene: &'a Scene<'a>) -> StepFuture<'a> {
        Box::pin(self.step(answers, scene))
    }
}

/// What a conversation, or a factor of an attempt, runs: mostly the checkers of one mechanism, which need no
/// box of their own.
pub(crate) enum Running<P = Arc<Plan>> {
    One(Chain<P>),
    Other(BoxExchange),
}

impl Running<&Arc<Plan>> {
    /// The same, with a share of the plan.
    pub(crate) fn kept(self) -> Running {
        match self {
            Self::One(chain) => Running::One(chain.kept()),
            Self::Other(exchange) => Running::Other(exchange),
        }
    }
}

impl<P: Planned> Running<P> {
    /// [`Exchange::at_once`], which leaves the answers where they are when there is nothing to be said.
    #[inline]
    pub(crate) fn said(
        &mut self,
        answers: &mut Answers,
        scene: &Scene<'_>,
    ) -> Option<Result<Step, Fault>> {
        match self {
            Self::One(chain) => chain.said(answers, scene),
            Self::Other(exchange) => match exchange.at_once(std::mem::take(answers), scene) {
                AtOnce::Done(step) => Some(step),
                AtOnce::Later(back) => {
                    *answers = back;
                    None
                }
            },
        }
    }

    /// What is left of a step of which nothing could be said at once.
    pub(crate) async fn later(
        &mut self,
        answers: Answers,
        scene: &Scene<'_>,
    ) -> Result<Step, Fault> {
        match self {
            Self::One(chain) => chain.later(answers, scene).await,
            Self::Other(exchange) => exchange.later(answers, scene).await,
        }
    }
}

impl<P: Planned> std::fmt::Debug for Running<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::One(chain) => chain.fmt(f),
            Self::Other(exchange) => exchange.fmt(f),
        }
    }
}

impl From<Running> for BoxExchange {
    fn from(running: Running) -> Self {
        match running {
            Running::One(chain) => Self::new(chain),
            Running::Other(exchange) => exchange,
        }
    }
}
