//! A peer that does what its script says.

use std::collections::VecDeque;

use countersign::{Answer, Answers, Cancelled, KindSet, Responder, Round};

/// A [`Responder`] that follows a script, one act a round, and records every round that it was shown.
///
/// A round beyond the script's end is cancelled: a test that is asked more than it expects fails closed.
///
/// ```
/// use countersign::{Answers, CredentialKind, KindSet, Question, Responder, Round};
/// use countersign_testkit::{ScriptedPeer, now_or_never};
///
/// let mut peer = ScriptedPeer::new(KindSet::all())
///     .answers(Answers::new().with("password", "wrong"))
///     .cancels("enough");
/// let round = Round::of([Question::password()]);
/// assert!(now_or_never(peer.respond(&round)).unwrap().is_ok());
/// assert!(now_or_never(peer.respond(&round)).unwrap().is_err());
/// assert_eq!(peer.rounds().len(), 2);
/// assert!(peer.is_done());
/// ```
#[derive(Debug)]
pub struct ScriptedPeer {
    supports: KindSet,
    script: VecDeque<Act>,
    rounds: Vec<Round>,
}

#[derive(Debug)]
enum Act {
    Answer(Answers),
    Decline,
    Cancel(String),
    Stall,
}

impl ScriptedPeer {
    /// A peer that can answer these kinds, with an empty script.
    pub fn new(supports: KindSet) -> Self {
        Self { supports, script: VecDeque::new(), rounds: Vec::new() }
    }

    /// Then it gives exactly these answers, fitting or not.
    #[must_use]
    pub fn answers(self, answers: Answers) -> Self {
        self.then(Act::Answer(answers))
    }

    /// Then it declines every question of the round.
    #[must_use]
    pub fn declines(self) -> Self {
        self.then(Act::Decline)
    }

    /// Then it cancels.
    #[must_use]
    pub fn cancels(self, why: impl Into<String>) -> Self {
        self.then(Act::Cancel(why.into()))
    }

    /// Then it thinks for ever, as a person who has left: for tests that drop the login.
    #[must_use]
    pub fn stalls(self) -> Self {
        self.then(Act::Stall)
    }

    /// The rounds it was shown, in order.
    pub fn rounds(&self) -> &[Round] {
        &self.rounds
    }

    /// Whether the whole script was used.
    pub fn is_done(&self) -> bool {
        self.script.is_empty()
    }

    fn then(mut self, act: Act) -> Self {
        self.script.push_back(act);
        self
    }
}

impl Responder for ScriptedPeer {
    fn supports(&self) -> KindSet {
        self.supports.clone()
    }

    async fn respond(&mut self, round: &Round) -> Result<Answers, Cancelled> {
        self.rounds.push(round.clone());
        match self.script.pop_front() {
            Some(Act::Answer(answers)) => Ok(answers),
            Some(Act::Decline) => {
                Ok(round.questions.iter().map(|q| (q.name.clone(), Answer::Declined)).collect())
            }
            Some(Act::Cancel(why)) => Err(Cancelled::because(why)),
            Some(Act::Stall) => std::future::pending().await,
            None => Err(Cancelled::because("the script is over")),
        }
    }
}

#[cfg(test)]
mod tests {
    use countersign::{Question, testing::now_or_never};

    use super::*;

    #[test]
    fn follows_its_script_and_records() {
        let round = Round::of([Question::username(), Question::password()]);
        let mut peer = ScriptedPeer::new(KindSet::all()).declines().stalls();
        let declined = now_or_never(peer.respond(&round)).unwrap().unwrap();
        assert!(declined.iter().all(|(_, answer)| *answer == Answer::Declined));
        assert_eq!(declined.iter().count(), 2);
        assert!(now_or_never(peer.respond(&round)).is_none());
        assert!(peer.is_done());
        let beyond = now_or_never(peer.respond(&round)).unwrap();
        assert_eq!(beyond.unwrap_err().why, "the script is over");
        assert_eq!(peer.rounds().len(), 3);
    }
}
