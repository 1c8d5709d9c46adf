//! The mechanism `otp`: one code, beside a proof that came before it.

use std::sync::{Arc, LazyLock};

use countersign::{
    Answer, Answers, Charset, CredentialKind, Denial, Exchange, Fault, KindSet, Mechanism, Need,
    OtpStore as _, Question, Reason, Round, Scene, Step, Text, Verdict,
};

use super::{Shared, store_fault, unusable};
use crate::factors::has_code;

/// The description of the mechanism `otp`, for checkers that offer it themselves.
pub static OTP: LazyLock<Mechanism> = LazyLock::new(|| Mechanism {
    name: Mechanism::OTP.into(),
    asks: KindSet::none().with(CredentialKind::Otp),
    needs: &[Need::OneTimeCodes],
    plaintext: true,
});

/// One question, `otp`. Codes come in groups, as apps show them and as recovery codes are printed, so that
/// blanks and hyphens may be in the answer.
fn round() -> Arc<Round> {
    static ROUND: LazyLock<Arc<Round>> = LazyLock::new(|| {
        let mut question = Question::otp();
        question.limits.charset = Charset::Name;
        let mut round = Round::of([question]);
        round.instruction = Some(Text::message(
            "instruction.otp",
            "The code that your app or device shows, or one of your recovery codes.",
        ));
        Arc::new(round)
    });
    Arc::clone(&ROUND)
}

/// The name that an earlier factor of this attempt has proven.
pub(super) fn proven_name<'a>(scene: &Scene<'a>) -> Option<&'a str> {
    scene.proven.last().and_then(|who| who.subject.name())
}

/// One wrong code ends the attempt. To ask again within it would be kinder to typing mistakes, but an
/// attempt that is given up has no end that counts: whoever guesses would leave before the last try, and
/// the throttle would never hear of it.
pub(super) struct OtpExchange {
    shared: Arc<Shared>,
    asked: bool,
}

impl OtpExchange {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, asked: false }
    }
}

impl Exchange for OtpExchange {
    async fn step(&mut self, mut answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        let Some(name) = proven_name(scene) else {
            // Six digits are guessed within days by whoever needs nothing else.
            let why = "a one-time code alone proves nothing: it goes after another proof";
            return Ok(Step::Deny(Denial::new(Reason::NotAllowed).because(why)));
        };
        let shared = &self.shared;
        if !std::mem::replace(&mut self.asked, true) {
            let account = shared.store.account(name).await.map_err(store_fault)?;
            let enrolled = account.filter(|account| has_code(account, scene.now.unix));
            return Ok(match enrolled.map(|account| unusable(&account, scene.now.unix)) {
                None => Step::deny(Reason::NotEnrolled).claiming(name),
                Some(Some(denial)) => Step::Deny(denial).claiming(name),
                Some(None) => Step::Ask(round()),
            });
        }
        let Some(Answer::Value(code)) = answers.take("otp") else {
            return Ok(Step::deny(Reason::Declined).claiming(name));
        };
        let verdict = match shared.factors.check_code(name, &code, scene.now.unix).await? {
            // Removed while the code was awaited.
            Verdict::Not(mut denial) if denial.reason.is_unknown() => {
                denial.reason = Reason::NotEnrolled;
                Verdict::Not(denial)
            }
            verdict => verdict,
        };
        Ok(Step::from(verdict).claiming(name))
    }
}
