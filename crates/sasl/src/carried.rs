//! Driving a password exchange with what a token brought.

use std::sync::{Arc, LazyLock};

use countersign::{
    Answer, Answers, BoxExchange, CredentialKind, Denial, Exchange, Fault, Known, Limits, Question,
    Reason, Round, Scene, Secret, Step,
};

/// The round that asks for one message, the client speaking first. Shared by all logins.
pub(crate) fn token_round() -> Arc<Round> {
    static TOKEN: LazyLock<Arc<Round>> = LazyLock::new(|| round_with(None));
    Arc::clone(&TOKEN)
}

/// The round that asks for one message in answer to a challenge.
pub(crate) fn round_with(challenge: Option<&[u8]>) -> Arc<Round> {
    Arc::new(Round::of([Question::token(challenge.map(<[u8]>::to_vec))]))
}

/// The message that the peer sent, or the refusal for not sending one.
pub(crate) fn token(answers: &mut Answers) -> Result<Secret, Denial> {
    match answers.take("token") {
        Some(Answer::Value(token)) => Ok(token),
        _ => Err(Denial::new(Reason::Cancelled)),
    }
}

/// A user name from a message, if it can be one.
pub(crate) fn name<'a>(bytes: &'a [u8], what: &str) -> Result<&'a str, Denial> {
    if let Some(why) = Limits::NAME.violated_by(bytes) {
        let detail = format!("{what} is unfit: {why}");
        return Err(Denial::new(Reason::Malformed).because(detail));
    }
    std::str::from_utf8(bytes)
        .map_err(|_| Denial::new(Reason::Malformed).because(format!("{what} is not UTF-8")))
}

/// Answers the password exchange inside with a name and a password.
///
/// A mechanism that has only these two cannot ask the peer for a code or a new password: such a round
/// ends the login, and nobody gets in by a protocol that is too poor for the policy.
pub(crate) async fn drive(
    mut inner: BoxExchange,
    username: &str,
    password: Secret,
    scene: &Scene<'_>,
) -> Result<Step, Fault> {
    let answers = Answers::new().with("username", username.to_owned()).with("password", password);
    let mut known = Known::new(answers);
    let mut answers = Answers::new();
    loop {
        match inner.step(answers, scene).await? {
            Step::Ask(round) => match known.pick(&round) {
                Some(picked) => answers = picked,
                None => return Ok(Step::Deny(cannot_ask(&round)).claiming(username)),
            },
            end => return Ok(end.claiming(username)),
        }
    }
}

fn cannot_ask(round: &Round) -> Denial {
    let changes = round.questions.iter().any(|q| q.kind == CredentialKind::NewPassphrase);
    let reason = if changes { Reason::ChangeNeeded } else { Reason::Unsupported };
    let names = round.questions.iter().map(|q| &*q.name).collect::<Vec<_>>().join(", ");
    Denial::new(reason).because(format!("this mechanism cannot ask for: {names}"))
}
