//! One authentication under way, advanced a round at a time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

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
    /// The first round, where it is known without waiting for anything: what the first step would ask. Whoever
    /// runs an exchange calls it once, before the first step, and given a round makes that step no more.
    ///
    /// It spares most logins a future. An exchange need not have it.
    fn opens(&mut self, scene: &Scene<'_>) -> Option<Arc<Round>> {
        let _ = scene;
        None
    }

    /// Goes on with the answers to the last round.
    fn step(
        &mut self,
        answers: Answers,
        scene: &Scene<'_>,
    ) -> impl Future<Output = Result<Step, Fault>> + Send;
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
    pub fn claiming(self, name: &str) -> Self {
        match self {
            Self::Grant(who) => Self::Grant(who.claiming(name)),
            Self::Deny(mut denial) => {
                denial.claimed.get_or_insert_with(|| name.into());
                Self::Deny(denial)
            }
            ask => ask,
        }
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
    fn opens(&mut self, scene: &Scene<'_>) -> Option<Arc<Round>> {
        self.0.opens_erased(scene)
    }

    async fn step(&mut self, answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        self.0.step_erased(answers, scene).await
    }
}

impl std::fmt::Debug for BoxExchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BoxExchange")
    }
}

type StepFuture<'a> = Pin<Box<dyn Future<Output = Result<Step, Fault>> + Send + 'a>>;

trait Erased: Send + 'static {
    fn opens_erased(&mut self, scene: &Scene<'_>) -> Option<Arc<Round>>;
    fn step_erased<'a>(&'a mut self, answers: Answers, scene: &'a Scene<'a>) -> StepFuture<'a>;
}

impl<E: Exchange> Erased for E {
    fn opens_erased(&mut self, scene: &Scene<'_>) -> Option<Arc<Round>> {
        self.opens(scene)
    }

    fn step_erased<'a>(&'a mut self, answers: Answers, scene: &'a Scene<'a>) -> StepFuture<'a> {
        Box::pin(self.step(answers, scene))
    }
}
