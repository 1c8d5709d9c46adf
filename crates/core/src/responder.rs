//! Whoever can answer.

use std::borrow::Cow;
use std::future::Future;

use crate::answer::same;
use crate::{Answer, Answers, CredentialKind, KindSet, Question, Round};

/// Whoever can answer a round: a terminal, a callback, a file, or a caller that already knows.
pub trait Responder: Send {
    /// What it can answer. A mechanism that asks for more is never begun.
    fn supports(&self) -> KindSet;

    /// Answers a round, in part or whole.
    ///
    /// # Errors
    ///
    /// [`Cancelled`]: the person or program does not want to go on. That ends the login; to leave out
    /// one question is to leave it out of the answers, or to answer [`Answer::Declined`].
    fn respond(&mut self, round: &Round)
    -> impl Future<Output = Result<Answers, Cancelled>> + Send;

    /// [`Responder::respond`], where nothing and nobody need be waited for. To be written by responders that
    /// have their answers at hand: it is asked first, and spares a login whatever is only needed to wait. Where
    /// it says nothing, the other is asked.
    ///
    /// # Errors
    ///
    /// As [`Responder::respond`].
    fn respond_at_once<'r>(&mut self, round: &'r Round) -> Option<Result<Given<'r>, Cancelled>> {
        let _ = round;
        None
    }
}

/// Answers to a round, and the proof that they fit it where somebody has seen to that: then nobody need again.
#[derive(Debug)]
pub struct Given<'r> {
    answers: Answers,
    /// The very round that they fit.
    fit: Option<&'r Round>,
}

impl Given<'_> {
    /// The answers, and whether it is known that they fit this round.
    pub(crate) fn to(self, round: &Round) -> (Answers, bool) {
        (self.answers, self.fit.is_some_and(|fit| std::ptr::eq(fit, round)))
    }
}

/// Answers of which nobody has seen yet whether they fit.
impl From<Answers> for Given<'_> {
    fn from(answers: Answers) -> Self {
        Self { answers, fit: None }
    }
}

/// The answering side does not want to go on, or cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancelled {
    /// Why, for the audit record.
    pub why: Cow<'static, str>,
}

impl Cancelled {
    const NOT_KNOWN: Self = Self { why: Cow::Borrowed("what is known does not answer this round") };

    /// With a reason.
    pub fn because(why: impl Into<Cow<'static, str>>) -> Self {
        Self { why: why.into() }
    }
}

impl std::fmt::Display for Cancelled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cancelled: {}", self.why)
    }
}

impl std::error::Error for Cancelled {}

/// Answers that are known before anything is asked. Each is given **once**: a source that already knows
/// never sends the same refused answer twice, so a stale password costs one attempt and not an account.
///
/// ```
/// use countersign::{Answers, Known, Question, Round};
/// let round = Round::of([Question::username(), Question::password()]);
/// let mut known = Known::new(Answers::new().with("username", "ada").with("password", "x"));
/// assert!(known.pick(&round).is_some());
/// assert!(known.pick(&round).is_none());
/// ```
#[derive(Debug, Default)]
pub struct Known {
    answers: Answers,
}

impl Known {
    /// The answers to give, by question name.
    pub fn new(answers: Answers) -> Self {
        Self { answers }
    }

    /// Takes out what answers this round, if it answers it whole; else takes nothing.
    ///
    /// What kinds a text may answer is checked here: a question that wants yes or no is answered only by
    /// a [`Answer::Confirmed`], so no file or environment variable ever trusts a host.
    pub fn pick(&mut self, round: &Round) -> Option<Answers> {
        self.picked(round)
    }

    #[inline]
    fn fitting<'r>(&mut self, round: &'r Round) -> Option<Given<'r>> {
        let answers = self.picked(round)?;
        Some(Given { answers: round.completed(answers), fit: Some(round) })
    }

    /// What fits this round.
    #[inline]
    fn picked(&mut self, round: &Round) -> Option<Answers> {
        // Mostly the round asks for all that is known.
        let asked = |name: &str| round.question(name).is_some_and(may_be_asked_for);
        if self.answers.iter().all(|(name, _)| asked(name)) && round.fits(&self.answers).is_ok() {
            return Some(std::mem::replace(&mut self.answers, Answers::new()));
        }
        let mut chosen = Answers::new();
        for question in &round.questions {
            let fits = |answer: &Answer| question.check(answer).is_ok();
            if may_be_asked_for(question)
                && self.answers.find(&question.name).is_some_and(fits)
                && let Some(answer) = self.answers.take(&question.name)
            {
                chosen.push(question.name.clone(), answer);
            }
        }
        if round.fits(&chosen).is_ok() {
            return Some(chosen);
        }
        // First again, so that of two with one name the first stays it.
        chosen.append(std::mem::replace(&mut self.answers, Answers::new()));
        self.answers = chosen;
        None
    }

    /// Whether nothing is left to give.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }
}

impl Responder for Known {
    fn supports(&self) -> KindSet {
        KindSet::all()
    }

    async fn respond(&mut self, round: &Round) -> Result<Answers, Cancelled> {
        self.pick(round).ok_or(Cancelled::NOT_KNOWN)
    }

    fn respond_at_once<'r>(&mut self, round: &'r Round) -> Option<Result<Given<'r>, Cancelled>> {
        Some(self.fitting(round).ok_or(Cancelled::NOT_KNOWN))
    }
}

/// A password answers only a password question: not one of that name that would be shown or kept.
fn may_be_asked_for(question: &Question) -> bool {
    use CredentialKind::{NoEchoPrompt, Passphrase};
    !same(&question.name, "password") || matches!(question.kind, Passphrase | NoEchoPrompt)
}

/// A responder made of a blocking function: a terminal prompt, a C callback.
///
/// The function blocks the thread that polls. Give it a thread of its own.
#[derive(Debug)]
pub struct Blocking<F> {
    supports: KindSet,
    prompt: F,
}

impl<F> Blocking<F>
where
    F: FnMut(&Round) -> Result<Answers, Cancelled> + Send,
{
    /// A function that can answer these kinds.
    pub fn new(supports: KindSet, prompt: F) -> Self {
        Self { supports, prompt }
    }
}

impl<F> Responder for Blocking<F>
where
    F: FnMut(&Round) -> Result<Answers, Cancelled> + Send,
{
    fn supports(&self) -> KindSet {
        self.supports.clone()
    }

    async fn respond(&mut self, round: &Round) -> Result<Answers, Cancelled> {
        (self.prompt)(round)
    }
}

/// Declines everything optional and cancels the rest: for tests, and for peers that cannot be asked.
impl Responder for () {
    fn supports(&self) -> KindSet {
        KindSet::none()
    }

    async fn respond(&mut self, round: &Round) -> Result<Answers, Cancelled> {
        if round.questions.iter().any(Question::must_be_answered) {
            return Err(Cancelled::because("nobody is there to answer"));
        }
        Ok(round.questions.iter().map(|q| (q.name.clone(), Answer::Declined)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_to_fit_fits_that_round_and_no_other() {
        let round = || Round::of([Question::username(), Question::password()]);
        let (asked, equal) = (round(), round());
        let answers = || Answers::new().with("username", "ada").with("password", "x");
        let given = |round| Known::new(answers()).respond_at_once(round).unwrap().unwrap();
        assert!(given(&asked).to(&asked).1);
        assert!(!given(&asked).to(&equal).1);
        assert!(!Given::from(answers()).to(&asked).1);
        let mut half = Known::new(Answers::new().with("username", "ada"));
        assert_eq!(half.respond_at_once(&asked).unwrap().unwrap_err(), Cancelled::NOT_KNOWN);
        assert!(!half.is_empty(), "what did not answer it whole is kept");
    }

    #[test]
    fn defaults_are_filled_in() {
        let realm = Question::new("realm", CredentialKind::Realm, crate::Text::default());
        let round = Round::of([realm.with_default("EXAMPLE"), Question::password()]);
        let mut known = Known::new(Answers::new().with("password", "x"));
        let (answers, fit) = known.respond_at_once(&round).unwrap().unwrap().to(&round);
        assert_eq!((answers.text("realm"), fit), (Some("EXAMPLE"), true));
    }
}
