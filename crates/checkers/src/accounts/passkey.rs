//! The mechanism `passkey`: beside a proof that came before it, or alone.

use std::sync::{Arc, LazyLock};

use countersign::{
    Answer, Answers, Challenge, CredentialKind, Denial, Exchange, Fault, KindSet, Mechanism, Need,
    Question, Reason, Round, Scene, Step, Text, Verdict,
};

use super::otp::proven_name;
use super::{Shared, store_fault, unusable};
use crate::factors::{PasskeyLogin, Passkeys};

/// The description of the mechanism `passkey`, for checkers that offer it themselves.
pub static PASSKEY: LazyLock<Mechanism> = LazyLock::new(|| Mechanism {
    name: Mechanism::PASSKEY.into(),
    asks: KindSet::none().with(CredentialKind::Assertion),
    needs: &[Need::PublicKeys],
    plaintext: false,
});

/// One challenge, for one answer. After a proof it is for that user's passkeys; without one it is for any
/// passkey of the site, which then says whose it is.
pub(super) struct PasskeyExchange {
    shared: Arc<Shared>,
    passkeys: Passkeys,
    /// Taken by the answer, right or wrong: a challenge is never used twice.
    waits_for: Option<PasskeyLogin>,
}

impl PasskeyExchange {
    pub(super) fn new(shared: Arc<Shared>, passkeys: Passkeys) -> Self {
        Self { shared, passkeys, waits_for: None }
    }

    async fn begin(&mut self, scene: &Scene<'_>) -> Result<Step, Fault> {
        let now = scene.now.unix;
        let begun = match scene.proven.is_empty() {
            true => Some(self.passkeys.ask_anybody()?),
            false => {
                let Some(name) = proven_name(scene) else {
                    return Ok(Step::deny(Reason::NotEnrolled));
                };
                match self.shared.store.account(name).await.map_err(store_fault)? {
                    None => None,
                    Some(account) => match unusable(&account, now) {
                        Some(denial) => return Ok(Step::Deny(denial).claiming(name)),
                        None => self.passkeys.ask_of(&account, now)?,
                    },
                }
            }
        };
        let Some((challenge, login)) = begun else {
            let claimed = proven_name(scene).unwrap_or_default();
            return Ok(Step::deny(Reason::NotEnrolled).claiming(claimed));
        };
        self.waits_for = Some(login);
        let prompt = Text::message("prompt.passkey", "Passkey");
        let mut question = Question::new("assertion", CredentialKind::Assertion, prompt);
        question.challenge = Some(Challenge::Json(challenge));
        Ok(Step::ask(Round::of([question])))
    }
}

impl Exchange for PasskeyExchange {
    async fn step(&mut self, mut answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        let Some(login) = self.waits_for.take() else { return self.begin(scene).await };
        let claimed = proven_name(scene).or(scene.claimed);
        let claiming = |step: Step| match claimed {
            Some(name) => step.claiming(name),
            None => step,
        };
        let Some(Answer::Value(answer)) = answers.take("assertion") else {
            return Ok(claiming(Step::deny(Reason::Declined)));
        };
        let now = scene.now.unix;
        let shared = &self.shared;
        let checked = shared.factors.check_passkey(&self.passkeys, login, &answer, now).await?;
        if let Some(id) = checked.used {
            shared.uses.note(&shared.store, id, now);
        }
        let step = match (&checked.name, checked.verdict) {
            // A protocol that named somebody is not to be told of somebody else.
            (Some(name), Verdict::Is(_)) if claimed.is_some_and(|claimed| claimed != name) => {
                let why = format!("the passkey is `{name}`'s, and another name was claimed");
                Step::Deny(Denial::new(Reason::WrongCredential).because(why))
            }
            (_, verdict) => Step::from(verdict),
        };
        Ok(match &checked.name {
            Some(name) if claimed.is_none() => step.claiming(name),
            _ => claiming(step),
        })
    }
}
