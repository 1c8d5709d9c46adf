//! Checkers, exchanges and peers made for one test each.

use std::future::Future;
use std::sync::{Arc, Mutex};

use countersign::testing::now_or_never;
use countersign::{
    Answers, BoxExchange, Cancelled, Checker, CredentialKind, Exchange, Fault, Identity, KindSet,
    Mechanism, Question, Responder, Round, Scene, Step, Verified, not_offered,
};

/// The output of a future that waits for nothing.
#[track_caller]
pub(crate) fn ready<F: Future>(future: F) -> F::Output {
    now_or_never(future).expect("it waits for something")
}

/// A future that is pending once.
pub(crate) async fn turn() {
    let mut waited = false;
    std::future::poll_fn(|_| {
        if std::mem::replace(&mut waited, true) {
            return std::task::Poll::Ready(());
        }
        std::task::Poll::Pending
    })
    .await;
}

pub(crate) fn grant(name: &str) -> Step {
    Step::Grant(Verified::vouch(Identity::named(name)))
}

pub(crate) type Told = Arc<Mutex<Vec<Answers>>>;

/// What an exchange of [`Stage`] does next, told the answers and how often it was stepped before.
pub(crate) type Act = Arc<dyn Fn(usize, &Answers, &Scene<'_>) -> Result<Step, Fault> + Send + Sync>;

/// A checker of one mechanism whose exchanges do as a function says.
pub(crate) struct Stage {
    name: &'static str,
    mechanism: Mechanism,
    act: Act,
    pub(crate) told: Told,
}

impl Stage {
    pub(crate) fn new(
        name: &'static str,
        mechanism: &'static str,
        asks: impl IntoIterator<Item = CredentialKind>,
        act: impl Fn(usize, &Answers, &Scene<'_>) -> Result<Step, Fault> + Send + Sync + 'static,
    ) -> Self {
        let mechanism = Mechanism {
            name: mechanism.into(),
            asks: asks.into_iter().collect(),
            needs: &[],
            plaintext: true,
        };
        Self { name, mechanism, act: Arc::new(act), told: Told::default() }
    }

    /// One that asks one round and decides by its answers.
    pub(crate) fn asking(
        name: &'static str,
        mechanism: &'static str,
        questions: impl IntoIterator<Item = Question>,
        decide: impl Fn(&Answers, &Scene<'_>) -> Result<Step, Fault> + Send + Sync + 'static,
    ) -> Self {
        let round = Arc::new(Round::of(questions));
        let asks: Vec<_> = round.questions.iter().map(|q| q.kind.clone()).collect();
        Self::new(name, mechanism, asks, move |step, answers, scene| match step {
            0 => Ok(Step::Ask(Arc::clone(&round))),
            _ => decide(answers, scene),
        })
    }
}

impl Checker for Stage {
    fn name(&self) -> &str {
        self.name
    }

    fn mechanisms(&self) -> &[Mechanism] {
        std::slice::from_ref(&self.mechanism)
    }

    fn begin(&self, mechanism: &str, _: &Scene<'_>) -> Result<BoxExchange, Fault> {
        if !self.mechanism.is(mechanism) {
            return Err(not_offered(self.name, mechanism));
        }
        Ok(BoxExchange::new(Acting {
            act: Arc::clone(&self.act),
            told: Arc::clone(&self.told),
            steps: 0,
        }))
    }
}

/// An exchange that does as a function says, and notes what it is told after its first step.
pub(crate) struct Acting {
    pub(crate) act: Act,
    pub(crate) told: Told,
    pub(crate) steps: usize,
}

impl Exchange for Acting {
    async fn step(&mut self, answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        let step = (self.act)(self.steps, &answers, scene);
        if self.steps > 0 {
            self.told.lock().unwrap().push(answers);
        }
        self.steps += 1;
        step
    }
}

/// A peer that answers by a function and keeps the rounds it was asked.
pub(crate) struct Person<F> {
    pub(crate) supports: KindSet,
    pub(crate) rounds: Vec<Round>,
    answer: F,
}

impl<F: FnMut(&Round) -> Option<Answers> + Send> Person<F> {
    pub(crate) fn new(answer: F) -> Self {
        Self { supports: KindSet::all(), rounds: Vec::new(), answer }
    }
}

impl<F: FnMut(&Round) -> Option<Answers> + Send> Responder for Person<F> {
    fn supports(&self) -> KindSet {
        self.supports.clone()
    }

    async fn respond(&mut self, round: &Round) -> Result<Answers, Cancelled> {
        self.rounds.push(round.clone());
        (self.answer)(round).ok_or_else(|| Cancelled::because("enough"))
    }
}

/// Those of the answers that a round asks for.
pub(crate) fn among(round: &Round, answers: &Answers) -> Answers {
    let asked = |(name, answer): (&str, _)| {
        Some((round.question(name)?.name.clone(), countersign::Answer::clone(answer)))
    };
    answers.iter().filter_map(asked).collect()
}
