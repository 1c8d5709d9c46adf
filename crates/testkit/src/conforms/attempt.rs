//! Drives one attempt and looks at everything that comes out.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use countersign::{
    Answer, Answers, Bounds, BoxExchange, Checker, Conversation, CredentialKind, Denial, Exchange,
    Fault, Halt, Identity, Reply, Round, Scene, Secret, Step, Verified,
};

use super::fixture::{Answering, Fixture};

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum End {
    Granted(Verified<Identity>),
    Denied(Denial),
    Fault(String),
    Panicked(String),
    /// The answers did not fit the round.
    Misfit(String),
    /// It asked and asked.
    Endless,
}

/// One attempt, seen from outside.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) rounds: Vec<Arc<Round>>,
    pub(super) end: End,
    /// What was given to questions for secrets.
    secrets: Vec<Secret>,
}

impl Seen {
    pub(super) fn granted(&self) -> bool {
        matches!(self.end, End::Granted(_))
    }

    /// What a peer could compare between two attempts. Challenges are fresh each time, so only whether
    /// there is one counts.
    pub(super) fn outline(&self) -> Vec<Vec<(String, CredentialKind, bool, bool)>> {
        let one = |round: &Arc<Round>| {
            let question = |q: &countersign::Question| {
                (q.name.to_string(), q.kind.clone(), q.optional, q.challenge.is_some())
            };
            round.questions.iter().map(question).collect()
        };
        self.rounds.iter().map(one).collect()
    }

    /// The first place where a secret of this attempt can be read, if there is one.
    pub(super) fn leak(&self, fixture: &Fixture) -> Option<&'static str> {
        let mut places = vec![("a round", format!("{:?}", self.rounds))];
        places.push(match &self.end {
            End::Granted(who) => ("the identity", format!("{who:?}")),
            End::Denied(denial) => ("the refusal", format!("{denial:?} {denial}")),
            End::Fault(text) => ("the fault", text.clone()),
            End::Panicked(text) => ("the panic", text.clone()),
            End::Misfit(text) => ("the misuse", text.clone()),
            End::Endless => ("nothing", String::new()),
        });
        places.extend(fixture.printed.iter().map(|text| ("what the fixture prints", text())));
        // Short ones are found in any text by chance.
        let secrets = self.secrets.iter().filter(|secret| secret.len() >= 6);
        let texts: Vec<&str> = secrets.filter_map(Secret::to_str).collect();
        let told = |text: &str| texts.iter().any(|secret| text.contains(secret));
        places.into_iter().find(|(_, text)| told(text)).map(|(place, _)| place)
    }
}

/// An attempt inside of a [`Conversation`], as every front end makes it.
pub(super) async fn converse(
    checker: &dyn Checker,
    mechanism: &str,
    fixture: &Fixture,
    mut answering: Answering,
) -> Seen {
    let mut rounds = Vec::new();
    let mut secrets = Vec::new();
    let scene = scene(fixture, None);
    let end = match begin(checker, mechanism, &scene) {
        Err(end) => end,
        Ok(exchange) => {
            let run = async {
                let peer = Arc::clone(&fixture.peer);
                let world = &*fixture.world;
                let (mut conversation, mut reply) =
                    match Conversation::begin(exchange, peer, None, &Bounds::REQUESTS, world).await
                    {
                        Ok(begun) => begun,
                        Err(fault) => return told(&fault),
                    };
                loop {
                    let ask = match reply {
                        Reply::Granted(who) => return End::Granted(who),
                        Reply::Denied(denial) => return End::Denied(denial),
                        Reply::Ask(ask) => ask,
                    };
                    rounds.push(Arc::clone(&ask.round));
                    let answers = answering(&ask.round);
                    note_secrets(&ask.round, &answers, &mut secrets);
                    reply = match conversation.answer(ask.number, answers, world).await {
                        Ok(reply) => reply,
                        Err(Halt::Fault(fault)) => return told(&fault),
                        Err(Halt::Misuse(misuse)) => return End::Misfit(misuse.to_string()),
                    };
                }
            };
            caught(run).await.unwrap_or_else(End::Panicked)
        }
    };
    Seen { rounds, end, secrets }
}

/// An attempt on the bare exchange, with answers that no conversation would let through.
pub(super) async fn bare(
    checker: &dyn Checker,
    mechanism: &str,
    fixture: &Fixture,
    claimed: Option<&str>,
    answering: Answering,
) -> Seen {
    match Bare::begin(checker, mechanism, fixture, claimed) {
        Ok(attempt) => to_its_end(attempt, fixture, claimed, answering).await,
        Err(end) => Seen { rounds: Vec::new(), end, secrets: Vec::new() },
    }
}

/// The same, without an exchange for as long as the checker can do without one.
pub(super) async fn at_once(
    checker: &dyn Checker,
    mechanism: &str,
    fixture: &Fixture,
    claimed: Option<&str>,
    answering: Answering,
) -> Seen {
    to_its_end(Bare::at_once(checker, mechanism), fixture, claimed, answering).await
}

async fn to_its_end(
    mut attempt: Bare<'_>,
    fixture: &Fixture,
    claimed: Option<&str>,
    mut answering: Answering,
) -> Seen {
    attempt.step(Answers::new(), fixture, claimed).await;
    while attempt.end.is_none() {
        if attempt.rounds.len() > usize::from(Bounds::REQUESTS.rounds) {
            attempt.end = Some(End::Endless);
            break;
        }
        attempt.answer(&mut answering, fixture, claimed).await;
    }
    attempt.seen()
}

/// A bare exchange under way, to be advanced by hand.
pub(super) struct Bare<'c> {
    way: Way<'c>,
    rounds: Vec<Arc<Round>>,
    secrets: Vec<Secret>,
    end: Option<End>,
}

/// How a checker is asked.
enum Way<'c> {
    Exchange(BoxExchange),
    /// Without an exchange, for as long as it says something so: [`Checker::at_once`].
    AtOnce {
        checker: &'c dyn Checker,
        mechanism: String,
        asked: bool,
    },
}

impl Way<'_> {
    /// One step, as a portal takes it.
    async fn step(&mut self, answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        if let Self::AtOnce { checker, mechanism, asked } = self {
            let given = asked.then_some(&answers);
            if let Some(step) = checker.at_once(mechanism, given, scene) {
                *asked = true;
                return step;
            }
            let mut exchange = checker.begin(mechanism, scene)?;
            if *asked {
                // The round that has been answered already.
                let _ = exchange.step(Answers::new(), scene).await?;
            }
            *self = Self::Exchange(exchange);
        }
        match self {
            Self::Exchange(exchange) => exchange.step(answers, scene).await,
            Self::AtOnce { .. } => Err(Fault::internal("there is no exchange")),
        }
    }
}

impl<'c> Bare<'c> {
    pub(super) fn begin(
        checker: &'c dyn Checker,
        mechanism: &str,
        fixture: &Fixture,
        claimed: Option<&str>,
    ) -> Result<Self, End> {
        let exchange = begin(checker, mechanism, &scene(fixture, claimed))?;
        Ok(Self::by(Way::Exchange(exchange)))
    }

    /// The same without an exchange, for as long as the checker can do without one.
    pub(super) fn at_once(checker: &'c dyn Checker, mechanism: &str) -> Self {
        Self::by(Way::AtOnce { checker, mechanism: mechanism.to_owned(), asked: false })
    }

    fn by(way: Way<'c>) -> Self {
        Self { way, rounds: Vec::new(), secrets: Vec::new(), end: None }
    }

    pub(super) async fn step(
        &mut self,
        answers: Answers,
        fixture: &Fixture,
        claimed: Option<&str>,
    ) {
        let scene = scene(fixture, claimed);
        match caught(self.way.step(answers, &scene)).await {
            Ok(Ok(Step::Ask(round))) => self.rounds.push(round),
            Ok(Ok(Step::Grant(who))) => self.end = Some(End::Granted(who)),
            Ok(Ok(Step::Deny(denial))) => self.end = Some(End::Denied(denial)),
            Ok(Ok(_)) => self.end = Some(End::Fault("a step of an unknown kind".into())),
            Ok(Err(fault)) => self.end = Some(told(&fault)),
            Err(panic) => self.end = Some(End::Panicked(panic)),
        }
    }

    /// Answers the last round, if it is not over.
    pub(super) async fn answer(
        &mut self,
        answering: &mut Answering,
        fixture: &Fixture,
        claimed: Option<&str>,
    ) {
        if self.end.is_some() {
            return;
        }
        let Some(round) = self.rounds.last().cloned() else { return };
        let answers = answering(&round);
        note_secrets(&round, &answers, &mut self.secrets);
        self.step(answers, fixture, claimed).await;
    }

    pub(super) fn is_over(&self) -> bool {
        self.end.is_some()
    }

    pub(super) fn rounds(&self) -> usize {
        self.rounds.len()
    }

    pub(super) fn seen(self) -> Seen {
        let end = self.end.unwrap_or(End::Endless);
        Seen { rounds: self.rounds, end, secrets: self.secrets }
    }

    /// Polls the step that answers the last round once, and drops it with the attempt.
    pub(super) async fn abandon(mut self, answering: &mut Answering, fixture: &Fixture) {
        let Some(round) = self.rounds.last().cloned() else { return };
        let scene = scene(fixture, None);
        let answers = answering(&round);
        let mut step = pin!(self.way.step(answers, &scene));
        let once = std::future::poll_fn(|context| {
            let _ = catch_unwind(AssertUnwindSafe(|| step.as_mut().poll(context)));
            Poll::Ready(())
        });
        once.await;
    }
}

fn begin(checker: &dyn Checker, mechanism: &str, scene: &Scene<'_>) -> Result<BoxExchange, End> {
    match catch_unwind(AssertUnwindSafe(|| checker.begin(mechanism, scene))) {
        Ok(Ok(exchange)) => Ok(exchange),
        Ok(Err(fault)) => Err(told(&fault)),
        Err(panic) => Err(End::Panicked(words(&*panic))),
    }
}

fn scene<'a>(fixture: &'a Fixture, claimed: Option<&'a str>) -> Scene<'a> {
    Scene { claimed, ..Scene::of(&fixture.peer, &*fixture.world) }
}

fn told(fault: &Fault) -> End {
    End::Fault(format!("{fault} {fault:?}"))
}

fn note_secrets(round: &Round, answers: &Answers, secrets: &mut Vec<Secret>) {
    for question in round.questions.iter().filter(|question| question.kind.secret()) {
        if let Some(Answer::Value(secret)) = answers.find(&question.name) {
            secrets.push(secret.clone());
        }
    }
}

/// The future's output, or the words of its panic.
async fn caught<F: Future>(future: F) -> Result<F::Output, String> {
    let mut future = pin!(future);
    std::future::poll_fn(move |context| {
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(words(&*panic))),
        }
    })
    .await
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without words").to_owned()
}
