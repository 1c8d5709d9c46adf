//! Ordered checkers for one mechanism, as one exchange.

use std::borrow::Cow;
use std::sync::Arc;

use crate::identity::Vouched;
use crate::{
    Answer, Answers, AtOnce, BoxExchange, Challenge, Checker, CredentialKind, Denial, Exchange,
    Fault, Identity, Mechanism, Question, Reason, Results, Round, Scene, Shape, Step, Then,
    Verified,
};

/// The checkers for one mechanism, in order.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) mechanism: Cow<'static, str>,
    /// Whether the peer's secret crosses the network readable.
    pub(crate) plaintext: bool,
    /// Whether it is a further factor only: a code that does not ask whose it is proves nothing by itself.
    pub(crate) second: bool,
    pub(crate) checkers: Vec<Asked>,
}

impl Plan {
    /// What a proof says of somebody who has none of it.
    pub(crate) fn mark(&self) -> Cow<'static, str> {
        match &*self.mechanism {
            Mechanism::OTP => Cow::Borrowed("otp?"),
            Mechanism::PASSKEY => Cow::Borrowed("passkey?"),
            other => Cow::Owned(format!("{other}?")),
        }
    }

    fn is_last(&self, index: u16) -> bool {
        usize::from(index) + 1 >= self.checkers.len()
    }

    /// Whether another checker is asked after this place, if this one does not know the user, and only then.
    fn is_followed(&self, index: u16) -> bool {
        let asked = self.checkers.get(usize::from(index));
        asked.is_some_and(|asked| asked.results.only_unknown_goes_on()) && !self.is_last(index)
    }

    /// The scene as the checker of this place sees it.
    #[inline(never)]
    fn scene_at<'a>(&self, index: u16, state: Option<&'a State>, scene: &Scene<'a>) -> Scene<'a> {
        let challenged = state.and_then(|state| state.challenged.as_deref());
        Scene { followed: self.is_followed(index), challenged, ..*scene }
    }

    /// Whether the checker of this place sees this very scene.
    #[inline]
    fn is_seen_by(&self, index: u16, state: Option<&State>, scene: &Scene<'_>) -> bool {
        let challenged = state.is_some_and(|state| state.challenged.is_some());
        self.is_followed(index) == scene.followed && !challenged && scene.challenged.is_none()
    }
}

/// A plan that a login goes by: its own share of it where it may wait for long, or lent to one that goes on in the
/// same call.
pub(crate) trait Planned: Send + Sync {
    fn plan(&self) -> &Plan;
}

impl Planned for Arc<Plan> {
    fn plan(&self) -> &Plan {
        self
    }
}

impl Planned for &Arc<Plan> {
    fn plan(&self) -> &Plan {
        self
    }
}

/// A checker in its place.
#[derive(Clone)]
pub(crate) struct Asked {
    /// Its name, and the mechanism that it is asked for.
    pub(crate) vouched: Arc<Vouched>,
    pub(crate) checker: Arc<dyn Checker>,
    pub(crate) results: Results,
}

impl Asked {
    /// Its exchange: `asked`, as if it had asked the round that the checker has asked without it.
    fn begin(&self, mechanism: &str, asked: bool, scene: &Scene<'_>) -> Result<BoxExchange, Fault> {
        let mut exchange = self.checker.begin(mechanism, scene)?;
        if !asked {
            return Ok(exchange);
        }
        match exchange.at_once(Answers::new(), scene) {
            AtOnce::Done(Ok(Step::Ask(_))) => Ok(exchange),
            _ => {
                let name = &self.vouched.checker;
                let context = format!("checker `{name}` asks at once what its exchange does not");
                Err(Fault::internal(context))
            }
        }
    }
}

/// One attempt against ordered checkers.
///
/// Answers are remembered within the attempt, so that a second checker that asks the same question (the
/// same name and kind, without a challenge) does not bother the peer again.
pub(crate) struct Chain<P = Arc<Plan>> {
    plan: P,
    current: Option<BoxExchange>,
    /// Absent while it is not needed: most pending logins are in their first round.
    state: Option<Box<State>>,
    index: u16,
    /// Whether the current checker has asked its round without an exchange.
    asked: bool,
}

#[derive(Default)]
struct State {
    asked: Option<Arc<Round>>,
    /// What the last checker but this challenged the peer with.
    challenged: Option<Vec<u8>>,
    memo: Vec<Remembered>,
    tried: Vec<(Arc<str>, Reason)>,
    granted: Option<Verified<Identity>>,
    /// The first refusal that counts: the others are asked all the same.
    refused: Option<Denial>,
    /// The first checker that could not be asked, and need not have been.
    fault: Option<Fault>,
}

impl State {
    /// Nobody is left to ask. `last`: a refusal of the last one that does not count.
    fn left_over(&mut self, last: Option<Denial>) -> Result<Step, Fault> {
        if let Some(denial) = self.refused.take() {
            return Ok(Step::Deny(self.told(denial)));
        }
        if let Some(who) = self.granted.take() {
            return Ok(Step::Grant(who));
        }
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        Ok(Step::Deny(self.told(last.unwrap_or(Denial::new(Reason::UnknownUser)))))
    }

    /// A refusal with everybody's words.
    fn told(&mut self, mut denial: Denial) -> Denial {
        if denial.reason.is_unknown() {
            // Somebody did know the user: found the credential wrong, or would have let in.
            let telling = self.tried.iter().map(|(_, reason)| *reason).find(|r| !r.is_unknown());
            let let_in = self.granted.as_ref().map(|_| Reason::NotAllowed);
            denial.reason = telling.or(let_in).unwrap_or(denial.reason);
        }
        denial.tried.append(&mut self.tried);
        denial
    }

    /// One more checker lets in: all must name the same subject.
    fn join(&mut self, who: Verified<Identity>) {
        self.granted = Some(match self.granted.take() {
            None => who,
            Some(before) if before.subject != who.subject => {
                let detail =
                    format!("one checker proved {}, another {}", before.subject, who.subject);
                let denial = Denial::new(Reason::NotAllowed).because(detail);
                self.refused.get_or_insert(denial);
                before
            }
            Some(before) => {
                let mut both = Identity::clone(&before);
                both.merge(&who);
                before.refined(both)
            }
        });
    }
}

struct Remembered {
    name: Cow<'static, str>,
    kind: CredentialKind,
    /// What it answers, beside the name.
    challenge: Option<Challenge>,
    answer: Answer,
    /// The last checker it was given to. To each at most once: what was refused is not sent again.
    given_to: u16,
}

impl Chain<&Arc<Plan>> {
    /// The same, with a share of the plan.
    pub(crate) fn kept(self) -> Chain {
        let Self { plan, current, state, index, asked } = self;
        Chain { plan: Arc::clone(plan), current, state, index, asked }
    }
}

impl<P: Planned> Chain<P> {
    pub(crate) fn new(plan: P) -> Self {
        Self { plan, current: None, state: None, index: 0, asked: false }
    }

    fn state(&mut self) -> &mut State {
        self.state.get_or_insert_default()
    }

    fn is_last(&self) -> bool {
        self.plan.plan().is_last(self.index)
    }

    /// What a checker's step comes to here: ours, in its place, or the answers to go on with.
    fn came(&mut self, step: &mut Result<Step, Fault>) -> Option<Answers> {
        let Some(asked) = self.plan.plan().checkers.get(usize::from(self.index)) else {
            *step = Ok(Step::deny(Reason::Unsupported));
            return None;
        };
        match step {
            Ok(Step::Ask(round)) => {
                if let Some(recalled) = self.recall(round) {
                    return Some(recalled);
                }
                if !self.is_last() {
                    self.state().asked = Some(Arc::clone(round));
                }
                None
            }
            Ok(Step::Grant(who)) => {
                who.vouched_by(&asked.vouched);
                if asked.results.granted != Then::End || self.state.is_some() {
                    return self.weigh(step);
                }
                // Most are decided here. Its exchange is over.
                (self.current, self.asked) = (None, false);
                None
            }
            _ => self.weigh(step),
        }
    }

    /// The same, where it ends or another checker is asked.
    fn weigh(&mut self, step: &mut Result<Step, Fault>) -> Option<Answers> {
        let asked = self.plan.plan().checkers.get(usize::from(self.index))?;
        let results = asked.results;
        let end = match std::mem::replace(step, Ok(Step::deny(Reason::Unsupported))) {
            Ok(Step::Grant(who)) => self.granted(results, who),
            Ok(Step::Deny(denial)) => {
                let name = Arc::clone(&asked.vouched.checker);
                self.refused(results, name, denial)
            }
            Err(fault) => self.failed(results, fault),
            asks => Some(asks),
        };
        // Its exchange is over, whoever is asked next.
        (self.current, self.asked) = (None, false);
        match end {
            Some(end) => {
                *step = end;
                None
            }
            None => Some(Answers::new()),
        }
    }

    /// What to do about a refusal: end with this, or go on to the next checker.
    fn refused(
        &mut self,
        results: Results,
        name: Arc<str>,
        denial: Denial,
    ) -> Option<Result<Step, Fault>> {
        let last = self.is_last();
        let state = self.state();
        state.tried.push((name, denial.reason));
        match results.of(denial.reason) {
            Then::End => return Some(Ok(Step::Deny(state.told(denial)))),
            Then::Count => drop(state.refused.get_or_insert(denial)),
            Then::Next if last => return Some(state.left_over(Some(denial))),
            Then::Next => {}
        }
        if last {
            return Some(self.state().left_over(None));
        }
        self.index += 1;
        None
    }

    /// What to do about a grant: end with it, or go on to the next checker.
    fn granted(
        &mut self,
        results: Results,
        who: Verified<Identity>,
    ) -> Option<Result<Step, Fault>> {
        let last = self.is_last();
        let state = self.state();
        state.join(who);
        // Somebody refused for good: the others are asked all the same, for nobody to see who it was.
        if last || (results.granted == Then::End && state.refused.is_none()) {
            return Some(state.left_over(None));
        }
        self.index += 1;
        None
    }

    /// What to do about a checker that could not be asked.
    fn failed(&mut self, results: Results, fault: Fault) -> Option<Result<Step, Fault>> {
        if results.fault != Then::Next {
            return Some(Err(fault));
        }
        let last = self.is_last();
        let state = self.state();
        state.fault.get_or_insert(fault);
        if last {
            return Some(state.left_over(None));
        }
        self.index += 1;
        None
    }

    fn remember(&mut self, answers: &Answers) {
        if self.is_last() {
            return;
        }
        let index = self.index;
        let state = self.state();
        let Some(round) = state.asked.take() else { return };
        for question in round.questions.iter().filter(|q| q.kind.shape() == Shape::Value) {
            let Some(answer) = answers.find(&question.name) else { continue };
            if let (CredentialKind::Token, Some(Challenge::Bytes(bytes))) =
                (&question.kind, &question.challenge)
            {
                state.challenged = Some(bytes.clone());
            } else if question.challenge.is_some() {
                continue;
            }
            let same =
                |old: &Remembered| old.name == question.name && old.challenge == question.challenge;
            state.memo.retain(|old| !same(old));
            state.memo.push(Remembered {
                name: question.name.clone(),
                kind: question.kind.clone(),
                challenge: question.challenge.clone(),
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
                    && known.challenge == question.challenge
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

impl<P: Planned> Chain<P> {
    /// [`Exchange::at_once`], which leaves the answers where they are when there is nothing to be said.
    pub(crate) fn said(
        &mut self,
        answers: &mut Answers,
        scene: &Scene<'_>,
    ) -> Option<Result<Step, Fault>> {
        self.remember(answers);
        loop {
            let Some(asked) = self.plan.plan().checkers.get(usize::from(self.index)) else {
                return Some(Ok(Step::deny(Reason::Unsupported)));
            };
            let own;
            let scene = match self.plan.plan().is_seen_by(self.index, self.state.as_deref(), scene)
            {
                true => scene,
                false => {
                    own = self.plan.plan().scene_at(self.index, self.state.as_deref(), scene);
                    &own
                }
            };
            let mechanism = &self.plan.plan().mechanism;
            // In one place from here to the end: to move what has just been written costs more than to write it.
            let mut said = match &mut self.current {
                Some(exchange) => match exchange.at_once(std::mem::take(answers), scene) {
                    AtOnce::Done(step) => Some(step),
                    AtOnce::Later(back) => {
                        *answers = back;
                        return None;
                    }
                },
                None => asked.checker.at_once(mechanism, self.asked.then_some(&*answers), scene),
            };
            let Some(step) = &mut said else {
                match asked.begin(mechanism, self.asked, scene) {
                    Ok(exchange) => self.current = Some(exchange),
                    Err(fault) => {
                        let mut failed = Err(fault);
                        match self.came(&mut failed) {
                            None => return Some(failed),
                            Some(next) => *answers = next,
                        }
                        continue;
                    }
                }
                match std::mem::take(&mut self.asked) {
                    // Of these it was said that nothing can be said at once.
                    true => return None,
                    false => continue,
                }
            };
            self.asked = self.current.is_none();
            match self.came(step) {
                None => return said,
                Some(next) => *answers = next,
            }
        }
    }

    /// [`Exchange::step`].
    pub(crate) async fn later(
        &mut self,
        mut answers: Answers,
        scene: &Scene<'_>,
    ) -> Result<Step, Fault> {
        loop {
            // While it waits it is not in its place: a step that is dropped half-way leaves none.
            if let Some(mut exchange) = self.current.take() {
                let scene = &self.plan.plan().scene_at(self.index, self.state.as_deref(), scene);
                let mut step = exchange.later(answers, scene).await;
                self.current = Some(exchange);
                answers = match self.came(&mut step) {
                    None => return step,
                    Some(next) => next,
                };
            }
            if let Some(step) = self.said(&mut answers, scene) {
                return step;
            }
        }
    }
}

impl<P: Planned + 'static> Exchange for Chain<P> {
    fn at_once(&mut self, mut answers: Answers, scene: &Scene<'_>) -> AtOnce {
        match self.said(&mut answers, scene) {
            Some(step) => AtOnce::Done(step),
            None => AtOnce::Later(answers),
        }
    }

    async fn step(&mut self, answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        self.later(answers, scene).await
    }
}

impl<P: Planned> std::fmt::Debug for Chain<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let checkers = self.plan.plan().checkers.iter().map(|asked| &*asked.vouched.checker);
        f.debug_list().entries(checkers).finish()
    }
}
