//! Ordered checkers for one mechanism, as one exchange.

use std::borrow::Cow;
use std::sync::Arc;

use crate::{
    Answer, Answers, BoxExchange, Checker, CredentialKind, Denial, Exchange, Fault, Identity,
    Question, Reason, Round, Scene, Shape, Step, Verified,
};

/// What the answers of several checkers come to. Whatever the order, a fault ends the login: a checker
/// that could not be asked might have refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Order {
    /// The first checker that knows the user decides.
    #[default]
    FirstKnown,
    /// The first success lets in; a wrong credential lets the next be asked. Any other refusal
    /// (disabled, expired, not allowed) is final.
    FirstSuccess,
    /// All must let in, and name the same subject. Groups, labels and attributes are joined.
    All,
}

/// The checkers for one mechanism, in order.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) mechanism: Cow<'static, str>,
    pub(crate) order: Order,
    pub(crate) checkers: Vec<(Arc<str>, Arc<dyn Checker>)>,
}

/// One attempt against ordered checkers.
///
/// Answers are remembered within the attempt, so that a second checker that asks the same question (the
/// same name and kind, without a challenge) does not bother the peer again.
pub struct Chain {
    plan: Arc<Plan>,
    current: Option<BoxExchange>,
    /// Absent while it is not needed: most pending logins are in their first round.
    state: Option<Box<State>>,
    index: u16,
}

#[derive(Default)]
struct State {
    asked: Option<Arc<Round>>,
    memo: Vec<Remembered>,
    tried: Vec<(Arc<str>, Reason)>,
    granted: Option<Verified<Identity>>,
    /// The first refusal, where all must let in: the others are asked all the same.
    refused: Option<Denial>,
}

struct Remembered {
    name: Cow<'static, str>,
    kind: CredentialKind,
    answer: Answer,
    /// The last checker it was given to. To each at most once: what was refused is not sent again.
    given_to: u16,
}

impl Chain {
    pub(crate) fn new(plan: Arc<Plan>) -> Self {
        Self { plan, current: None, state: None, index: 0 }
    }

    fn state(&mut self) -> &mut State {
        self.state.get_or_insert_default()
    }

    fn is_last(&self) -> bool {
        usize::from(self.index) + 1 >= self.plan.checkers.len()
    }

    fn go_to_next(&mut self) {
        self.index += 1;
        self.current = None;
    }

    /// What to do about a refusal: go on to the next checker, or end with this.
    fn refused(&mut self, checker: &Arc<str>, mut denial: Denial) -> Option<Denial> {
        let goes_on = match self.plan.order {
            Order::FirstKnown => denial.reason.is_unknown(),
            Order::FirstSuccess => {
                denial.reason.is_unknown() || denial.reason == Reason::WrongCredential
            }
            // Where a refusal would end it, a proof that only a later checker refuses would take longer
            // and so be told to be right for the earlier ones.
            Order::All => true,
        };
        let (all, last) = (self.plan.order == Order::All, self.is_last());
        let state = self.state();
        state.tried.push((Arc::clone(checker), denial.reason));
        if all {
            denial = state.refused.take().unwrap_or(denial);
        }
        if goes_on && !last {
            state.refused = all.then_some(denial);
            self.go_to_next();
            return None;
        }
        if denial.reason.is_unknown() {
            // Somebody did know the user: found the credential wrong, or would have let in.
            let telling = state.tried.iter().map(|(_, reason)| *reason).find(|r| !r.is_unknown());
            let let_in = state.granted.as_ref().map(|_| Reason::NotAllowed);
            denial.reason = telling.or(let_in).unwrap_or(denial.reason);
        }
        denial.tried.append(&mut state.tried);
        Some(denial)
    }

    /// What to do about a grant: end with this, or ask the next checker as well.
    fn granted(&mut self, who: Verified<Identity>) -> Option<Step> {
        if self.plan.order != Order::All {
            return Some(Step::Grant(who));
        }
        let last = self.is_last();
        let state = self.state();
        let joined = match state.granted.take() {
            None => who,
            Some(before) if before.subject != who.subject => {
                let detail =
                    format!("one checker proved {}, another {}", before.subject, who.subject);
                let denial = Denial::new(Reason::NotAllowed).because(detail);
                state.refused.get_or_insert(denial);
                before
            }
            Some(before) => {
                let mut both = Identity::clone(&before);
                both.merge(&who);
                before.refined(both)
            }
        };
        if last {
            return Some(match state.refused.take() {
                None => Step::Grant(joined),
                Some(mut denial) => {
                    if denial.reason.is_unknown() {
                        denial.reason = Reason::NotAllowed;
                    }
                    denial.tried.append(&mut state.tried);
                    Step::Deny(denial)
                }
            });
        }
        state.granted = Some(joined);
        self.go_to_next();
        None
    }

    fn remember(&mut self, answers: &Answers) {
        if self.is_last() {
            return;
        }
        let index = self.index;
        let state = self.state();
        let Some(round) = state.asked.take() else { return };
        let textual = |q: &&Question| q.challenge.is_none() && q.kind.shape() == Shape::Value;
        for question in round.questions.iter().filter(textual) {
            let Some(answer) = answers.find(&question.name) else { continue };
            state.memo.retain(|old| old.name != question.name);
            state.memo.push(Remembered {
                name: question.name.clone(),
                kind: question.kind.clone(),
                answer: answer.clone(),
                given_to: index,
            });
        }
    }

    /// The answers to a round, if all that it requires is remembered and not yet given to this checker.
    /// A question with a challenge or a default, or that is no matter of text (trust, confirmation,
    /// choices), is asked again: the same name there need not be the same question.
    fn recall(&mut self, round: &Round) -> Option<Answers> {
        let index = self.index;
        let memo = &mut self.state.as_mut()?.memo;
        let mut answers = Answers::new();
        for question in &round.questions {
            let known = memo.iter().find(|known| {
                known.given_to < index
                    && known.name == question.name
                    && known.kind == question.kind
                    && question.challenge.is_none()
            });
            if let Some(known) = known {
                answers.push(question.name.clone(), known.answer.clone());
            }
        }
        // A round that needs none of it is the peer's to see; and each round answered from here uses
        // something up, so that a checker that asks for ever does not keep us here for ever.
        let for_the_peer = |q: &Question| {
            let plain =
                q.kind.shape() == Shape::Value && q.challenge.is_none() && q.default.is_none();
            !plain && answers.find(&q.name).is_none()
        };
        if answers.is_empty() || round.questions.iter().any(for_the_peer) {
            return None;
        }
        let answers = round.accept(answers).ok()?;
        for known in memo.iter_mut().filter(|known| answers.find(&known.name).is_some()) {
            known.given_to = index;
        }
        Some(answers)
    }
}

impl Exchange for Chain {
    async fn step(&mut self, mut answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        self.remember(&answers);
        loop {
            let plan = Arc::clone(&self.plan);
            let followed = plan.order == Order::FirstKnown && !self.is_last();
            let scene = &Scene { followed, ..*scene };
            let Some((name, checker)) = plan.checkers.get(usize::from(self.index)) else {
                return Ok(Step::deny(Reason::Unsupported));
            };
            let mut exchange = match self.current.take() {
                Some(exchange) => exchange,
                None => {
                    answers = Answers::new();
                    checker.begin(&plan.mechanism, scene)?
                }
            };
            let step = exchange.step(std::mem::take(&mut answers), scene).await?;
            match step {
                Step::Ask(round) => {
                    self.current = Some(exchange);
                    if let Some(recalled) = self.recall(&round) {
                        answers = recalled;
                        continue;
                    }
                    if !self.is_last() {
                        self.state().asked = Some(Arc::clone(&round));
                    }
                    return Ok(Step::Ask(round));
                }
                Step::Grant(who) => {
                    if let Some(step) = self.granted(who.by(name)) {
                        return Ok(step);
                    }
                }
                Step::Deny(denial) => {
                    if let Some(denial) = self.refused(name, denial) {
                        return Ok(Step::Deny(denial));
                    }
                }
            }
        }
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let checkers = self.plan.checkers.iter().map(|(name, _)| &**name);
        f.debug_list().entries(checkers).finish()
    }
}
