//! One attempt under a policy: its guesses counted, its factors one after the other, as one exchange.

use std::borrow::Cow;
use std::sync::Arc;

use crate::chain::{Chain, Plan};
use crate::exchange::Running;
use crate::ways::{FactorPlan, Way};
use crate::{
    Answer, Answers, AtOnce, BoxExchange, CredentialKind, Denial, Exchange, Fault, GuessEnd,
    Identity, Reason, Round, Scene, Secret, Step, Verified,
};

/// One attempt that may need several proofs of one subject.
///
/// The first factor proves a subject; each next one begins with it ([`Scene::proven`]) and must prove the
/// same. What is demanded next depends on who it turned out to be. All state is the attempt's: a password
/// proven on one connection is worth nothing on another.
pub struct Factors {
    way: Arc<Way>,
    current: Running,
    /// Absent while it is not needed: most pending logins are in their first round.
    state: Option<Box<State>>,
}

#[derive(Default)]
struct State {
    proven: Vec<Verified<Identity>>,
    /// Factors that this user has none of, with the question mark.
    excused: Vec<Cow<'static, str>>,
    /// The factor that is being asked for, beyond the first.
    asked: Option<FactorPlan>,
    /// The name that was answered in an earlier round.
    login: Option<Box<str>>,
    /// What came with the password.
    code: Option<Secret>,
    /// Admitted, and to be tried in the step: nothing could be said of it at once.
    guess: Option<Guess>,
}

/// A guess that was admitted and has not ended.
struct Guess {
    login: Box<str>,
    mark: u64,
}

impl Factors {
    pub(crate) fn one(way: Arc<Way>, plan: Arc<Plan>) -> Self {
        Self { way, current: Running::One(Chain::new(plan)), state: None }
    }

    pub(crate) fn other(way: Arc<Way>, exchange: BoxExchange) -> Self {
        Self { way, current: Running::Other(exchange), state: None }
    }

    fn state(&mut self) -> &mut State {
        self.state.get_or_insert_default()
    }

    /// Asks the guard whether what is offered may be tried, once.
    fn admit(
        &mut self,
        answers: &Answers,
        scene: &Scene<'_>,
    ) -> Result<Option<Guess>, Box<Denial>> {
        let Self { way, state, .. } = self;
        let Some(guard) = &way.guard else { return Ok(None) };
        if let Some(admitted) = state.as_mut().and_then(|state| state.guess.take()) {
            return Ok(Some(admitted));
        }
        let so_far = state.as_deref();
        let proven = so_far.and_then(|state| state.proven.first()?.subject.name());
        let known = so_far.and_then(|state| state.login.as_deref());
        let login = proven.or(answers.text("username")).or(known).or(scene.claimed);
        // A token can come without a name, and is a guess all the same.
        let login = login.or_else(|| answers.find("bearer").map(|_| ""));
        let Some(login) = login else { return Ok(None) };
        let Some(proof) = proof(answers) else {
            if let (Some(name), true) = (answers.text("username"), proven.is_none()) {
                state.get_or_insert_default().login = Some(name.into());
            }
            return Ok(None);
        };
        match guard.admit(scene, login, Some(proof.expose())) {
            Ok(mark) => Ok(Some(Guess { login: login.into(), mark })),
            Err(mut denial) => {
                if !login.is_empty() {
                    denial.claimed.get_or_insert_with(|| login.into());
                }
                Err(Box::new(denial))
            }
        }
    }

    fn ended(&self, guess: Option<Guess>, scene: &Scene<'_>, end: GuessEnd) {
        if let (Some(guard), Some(Guess { login, mark })) = (&self.way.guard, guess) {
            guard.ended(scene, &login, mark, end);
        }
    }

    /// A mechanism that names its user only at its end is counted there, and refused there.
    fn admit_late(&self, login: Option<&str>, scene: &Scene<'_>) -> Result<Option<Guess>, Denial> {
        let (Some(guard), Some(login)) = (&self.way.guard, login) else { return Ok(None) };
        let mark = guard.admit(scene, login, None)?;
        Ok(Some(Guess { login: login.into(), mark }))
    }

    /// Takes the code off a password that it was appended to, where the peer could not be asked for it.
    fn split(&mut self, answers: &mut Answers, scene: &Scene<'_>) {
        let wanted = self.way.code_in_password
            && self.state.as_ref().is_none_or(|state| state.proven.is_empty())
            && !scene.peer.supports.contains(&CredentialKind::Otp);
        if !wanted {
            return;
        }
        let Some((password, code)) = answers.value("password").and_then(password_and_code) else {
            return;
        };
        drop(answers.take("password"));
        answers.push("password", Answer::Value(password));
        self.state().code = Some(code);
    }

    /// Answers a round with the code that came with the password.
    fn answered(&mut self, round: &Round) -> Option<Answers> {
        let question = round.questions.iter().find(|q| q.kind == CredentialKind::Otp)?;
        let state = self.state.as_mut()?;
        state.asked.as_ref()?;
        let code = state.code.take()?;
        let answers = Answers::new().with(question.name.clone(), Answer::Value(code));
        round.accept(answers).ok()
    }

    /// Somebody is proven by one more factor: begins the next one, or ends.
    fn next(&mut self, who: Verified<Identity>) -> Next {
        let who = match self.enough(who) {
            Ok(who) => return Next::Grant(who),
            Err(who) => who,
        };
        let state = self.state.get_or_insert_default();
        if let Some(first) = state.proven.first().filter(|first| first.subject != who.subject) {
            let detail = format!("one factor proved {}, another {}", first.subject, who.subject);
            return Next::Refuse(Denial::new(Reason::NotAllowed).because(detail));
        }
        state.proven.push(who);
        self.demanded()
    }

    /// The whole proof, if the first one is all that is demanded: most are, and need no state. Else gives it
    /// back.
    fn enough(&self, who: Verified<Identity>) -> Result<Verified<Identity>, Verified<Identity>> {
        let state = self.state.as_deref();
        let is_first = state.is_none_or(|s| s.proven.is_empty() && s.excused.is_empty());
        let Some(demands) = is_first.then(|| self.way.demands(&who).ok()).flatten() else {
            return Err(who);
        };
        if who.is_complete() {
            return Ok(who);
        }
        let unmet = demands.iter().filter(|plan| !plan.is_met(who.proofs()));
        if !unmet.clone().all(|plan| plan.excuses(&who)) {
            return Err(who);
        }
        let marks = unmet.flat_map(|plan| plan.plans.iter().map(|plan| plan.mark()));
        let marks: Vec<_> = marks.collect();
        Ok(marks.into_iter().fold(who, Verified::and_by))
    }

    /// This user has none of the factor that is being asked for, and need not.
    fn excuse(&mut self) -> Next {
        if let Some(state) = &mut self.state
            && let Some(asked) = state.asked.take()
        {
            state.excused.extend(asked.plans.iter().map(|plan| plan.mark()));
        }
        self.demanded()
    }

    fn demanded(&mut self) -> Next {
        let way = Arc::clone(&self.way);
        let state = self.state.get_or_insert_default();
        let joined = joined(&state.proven);
        let Some(first) = state.proven.first() else {
            return Next::Refuse(Denial::new(Reason::NotAllowed));
        };
        let demands = match way.demands(joined.as_ref().unwrap_or(first)) {
            Ok(demands) => demands,
            Err(denial) => return Next::Refuse(denial),
        };
        let next = {
            let proofs = state.proven.iter().flat_map(|proof| proof.proofs());
            let proofs = proofs.chain(state.excused.iter().map(|proof| &**proof));
            let complete = state.proven.iter().any(Verified::is_complete);
            demands.iter().find(|plan| !complete && !plan.is_met(proofs.clone()))
        };
        let Some(next) = next else {
            let whole = state.whole(joined).map(Next::Grant);
            return whole.unwrap_or(Next::Refuse(Denial::new(Reason::NotAllowed)));
        };
        let exchange = match (&state.code, next.codes()) {
            (Some(_), Some(codes)) => Some(BoxExchange::new(Chain::new(Arc::clone(codes)))),
            _ => next.exchange(),
        };
        let Some(exchange) = exchange else {
            let detail = format!("the policy requires {}, which no checker offers", next.factor);
            return Next::Refuse(Denial::new(Reason::Unsupported).because(detail));
        };
        state.asked = Some(next.clone());
        self.current = Running::Other(exchange);
        Next::Begun
    }

    fn is_excusable(&self, denial: &Denial) -> bool {
        let asked = self.state.as_ref().and_then(|state| state.asked.as_ref());
        denial.reason == Reason::NotEnrolled && asked.is_some_and(|plan| plan.factor.only_enrolled)
    }
}

enum Next {
    Begun,
    Grant(Verified<Identity>),
    Refuse(Denial),
}

impl Exchange for Factors {
    fn at_once(&mut self, mut answers: Answers, scene: &Scene<'_>) -> AtOnce {
        self.split(&mut answers, scene);
        loop {
            let guess = match self.admit(&answers, scene) {
                Ok(guess) => guess,
                Err(denial) => return AtOnce::Done(Ok(Step::Deny(*denial))),
            };
            let proven = self.state.as_ref().map_or(&[][..], |state| &state.proven);
            let Some(step) = self.current.said(&mut answers, &Scene { proven, ..*scene }) else {
                if guess.is_some() {
                    self.state().guess = guess;
                }
                return AtOnce::Later(answers);
            };
            match self.came(step, guess, scene) {
                Ok(end) => return AtOnce::Done(end),
                Err(next) => answers = next,
            }
        }
    }

    async fn step(&mut self, mut answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        loop {
            let guess = match self.admit(&answers, scene) {
                Ok(guess) => guess,
                Err(denial) => return Ok(Step::Deny(*denial)),
            };
            let proven = self.state.as_ref().map_or(&[][..], |state| &state.proven);
            let step = self.current.later(answers, &Scene { proven, ..*scene }).await;
            let next = match self.came(step, guess, scene) {
                Ok(end) => return end,
                Err(next) => next,
            };
            answers = match self.at_once(next, scene) {
                AtOnce::Done(step) => return step,
                AtOnce::Later(answers) => answers,
            };
        }
    }
}

impl Factors {
    /// What a step of the current factor comes to: the end of ours, or the answers to go on with.
    fn came(
        &mut self,
        step: Result<Step, Fault>,
        mut guess: Option<Guess>,
        scene: &Scene<'_>,
    ) -> Result<Result<Step, Fault>, Answers> {
        let step = match step {
            Ok(step) => step,
            Err(fault) => {
                self.ended(guess, scene, GuessEnd::Undecided);
                return Ok(Err(fault));
            }
        };
        let next = match step {
            Step::Ask(round) if round.closing.is_some() => {
                // To see this round is to learn that the proof was right.
                let login = round.closing.as_deref();
                if guess.is_none() {
                    guess = match self.admit_late(login, scene) {
                        Ok(guess) => guess,
                        Err(mut denial) => {
                            if let Some(login) = login {
                                denial.claimed.get_or_insert_with(|| login.into());
                            }
                            return Ok(Ok(Step::Deny(denial)));
                        }
                    };
                }
                self.ended(guess, scene, GuessEnd::Proven);
                return Ok(Ok(Step::Ask(round)));
            }
            Step::Ask(round) => {
                // Asked again with words about the last answer: that was wrong.
                let wrong = round.feedback.is_some();
                let end = if wrong { GuessEnd::Wrong } else { GuessEnd::Proven };
                self.ended(guess.take(), scene, end);
                return match self.answered(&round) {
                    Some(code) => Err(code),
                    None => Ok(Ok(Step::Ask(round))),
                };
            }
            Step::Grant(who) => {
                if guess.is_none() {
                    let login = who.claimed().or(who.subject.name());
                    guess = match self.admit_late(login, scene) {
                        Ok(guess) => guess,
                        Err(denial) => return Ok(Ok(Step::Deny(denial))),
                    };
                }
                self.next(who)
            }
            Step::Deny(denial) if self.is_excusable(&denial) => self.excuse(),
            Step::Deny(denial) => {
                let wrong = matches!(denial.reason, Reason::UnknownUser | Reason::WrongCredential);
                if guess.is_none() && wrong {
                    guess = match self.admit_late(denial.claimed.as_deref(), scene) {
                        Ok(guess) => guess,
                        Err(denial) => return Ok(Ok(Step::Deny(denial))),
                    };
                }
                let end = if wrong { GuessEnd::Wrong } else { GuessEnd::Undecided };
                self.ended(guess, scene, end);
                return Ok(Ok(Step::Deny(denial)));
            }
        };
        match next {
            Next::Begun => {
                self.ended(guess, scene, GuessEnd::Proven);
                Err(Answers::new())
            }
            Next::Grant(who) => {
                self.ended(guess, scene, GuessEnd::Granted);
                Ok(Ok(Step::Grant(who)))
            }
            Next::Refuse(denial) => {
                self.ended(guess, scene, GuessEnd::Undecided);
                Ok(Ok(Step::Deny(denial)))
            }
        }
    }
}

impl State {
    /// The whole proof: the first one, knowing what all know.
    fn whole(&mut self, joined: Option<Identity>) -> Option<Verified<Identity>> {
        let mut factors = std::mem::take(&mut self.proven).into_iter();
        let mut whole = factors.next()?;
        for factor in factors {
            if factor.is_complete() {
                whole = whole.complete();
            }
            if factor.is_of_program() {
                whole = whole.of_program();
            }
            for proof in factor.proofs() {
                whole = whole.and_by(proof.to_owned().into());
            }
        }
        for mark in self.excused.drain(..) {
            whole = whole.and_by(mark);
        }
        Some(match joined {
            Some(who) => whole.refined(who),
            None => whole,
        })
    }
}

/// What all factors together know of the subject, where there are several.
fn joined(proven: &[Verified<Identity>]) -> Option<Identity> {
    let [first, rest @ ..] = proven else { return None };
    if rest.is_empty() {
        return None;
    }
    let mut all = Identity::clone(first);
    rest.iter().for_each(|factor| all.merge(factor));
    Some(all)
}

/// What is offered as a proof in these answers: the first that is not about who or where, and not a new
/// secret to be set.
fn proof(answers: &Answers) -> Option<&Secret> {
    const NO_PROOF: [&str; 5] = ["username", "authzid", "realm", "language", "new-password"];
    answers.iter().find_map(|(name, answer)| match answer {
        Answer::Value(value) if !NO_PROOF.contains(&name) => Some(value),
        _ => None,
    })
}

/// `secret,123456`: a password, a comma, and a code of six to eight digits.
fn password_and_code(both: &Secret) -> Option<(Secret, Secret)> {
    let both = both.expose();
    let comma = both.iter().rposition(|byte| *byte == b',')?;
    let (password, code) = (&both[..comma], &both[comma + 1..]);
    let is_code = (6..=8).contains(&code.len()) && code.iter().all(u8::is_ascii_digit);
    is_code.then(|| (Secret::from(password), Secret::from(code)))
}

impl std::fmt::Debug for Factors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Factors").finish_non_exhaustive()
    }
}
