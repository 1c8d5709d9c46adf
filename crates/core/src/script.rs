//! Straight-line code as an exchange.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use crate::{
    Answers, Denial, Exchange, Fault, FaultKind, Identity, Peer, Round, Scene, Step, Verified,
};

/// Makes an exchange of an `async` block that asks in the middle.
///
/// ```
/// use countersign::{script, Decision, Identity, Question, Reason, Round, Denial, Verified};
///
/// let exchange = script(|peer| async move {
///     let first = peer.ask(Round::of([Question::username(), Question::password()])).await;
///     let name = first.text("username").unwrap_or_default().to_owned();
///     if first.text("password") != Some("open sesame") {
///         return Ok(Decision::Deny(Denial::new(Reason::WrongCredential)));
///     }
///     Ok(Decision::Grant(Verified::vouch(Identity::named(name))))
/// });
/// # let _: countersign::BoxExchange = countersign::BoxExchange::new(exchange);
/// ```
///
/// It costs some 500 bytes while it waits, where an explicit state costs some 50: the choice of the
/// author. The block may await backends; the runtime is whichever polls the step.
pub fn script<F, Fut>(code: F) -> impl Exchange
where
    F: FnOnce(Asker) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Decision, Fault>> + Send + 'static,
{
    let desk = Arc::new(Mutex::new(Desk::default()));
    let future = Box::pin(code(Asker { desk: Arc::clone(&desk) }));
    Script { desk, future: Mutex::new(future) }
}

/// How a script ends.
#[must_use]
#[derive(Debug)]
pub enum Decision {
    /// The peer is who this says.
    Grant(Verified<Identity>),
    /// The peer is refused.
    Deny(Denial),
}

/// The script's side of the conversation.
#[derive(Clone, Debug)]
pub struct Asker {
    desk: Arc<Mutex<Desk>>,
}

impl Asker {
    /// Asks a round and waits, at no cost, for the answers. They fit the round when they arrive.
    pub async fn ask(&self, round: impl Into<Arc<Round>>) -> Answers {
        {
            let mut desk = self.desk();
            // Answers to a question that the script gave up are not answers to this one.
            desk.answered = None;
            desk.asked = Some(round.into());
        }
        std::future::poll_fn(|_| match self.desk().answered.take() {
            Some(answers) => Poll::Ready(answers),
            // No waker is kept: the next step polls again when it has brought the answers.
            None => Poll::Pending,
        })
        .await
    }

    /// The name that the protocol gave before any question, unproven.
    pub fn claimed(&self) -> Option<String> {
        self.desk().claimed.clone()
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Peer {
        self.desk().peer.clone()
    }

    fn desk(&self) -> std::sync::MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where script and step meet.
#[derive(Debug, Default)]
struct Desk {
    asked: Option<Arc<Round>>,
    answered: Option<Answers>,
    claimed: Option<String>,
    peer: Peer,
    begun: bool,
}

type ScriptFuture = Pin<Box<dyn Future<Output = Result<Decision, Fault>> + Send>>;

struct Script {
    desk: Arc<Mutex<Desk>>,
    /// Behind a lock only to be `Sync`, which a step's future needs to be `Send`; never contended.
    future: Mutex<ScriptFuture>,
}

impl Exchange for Script {
    async fn step(&mut self, answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        {
            let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
            if desk.begun {
                desk.answered = Some(answers);
            } else {
                desk.begun = true;
                desk.claimed = scene.claimed.map(str::to_owned);
                desk.peer = scene.peer.clone();
            }
        }
        let desk = Arc::clone(&self.desk);
        let future = self.future.get_mut().unwrap_or_else(PoisonError::into_inner);
        std::future::poll_fn(move |context| {
            if let Poll::Ready(end) = future.as_mut().poll(context) {
                return Poll::Ready(end.map(|decision| match decision {
                    Decision::Grant(who) => Step::Grant(who),
                    Decision::Deny(denial) => Step::Deny(denial),
                }));
            }
            let mut desk = desk.lock().unwrap_or_else(PoisonError::into_inner);
            if desk.answered.is_some() && desk.asked.is_none() {
                let fault = Fault::new(FaultKind::Internal, "a script ignored its answers");
                return Poll::Ready(Err(fault));
            }
            desk.asked.take().map_or(Poll::Pending, |round| Poll::Ready(Ok(Step::Ask(round))))
        })
        .await
    }
}
