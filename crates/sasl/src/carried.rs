//! Driving a password exchange with what a token brought.

use std::sync::{Arc, LazyLock};

use countersign::{
    Answer, Answers, BoxExchange, CredentialKind, Denial, Exchange, Fault, KindSet, Known, Limits,
    Mechanism, Need, Question, Reason, Round, Scene, Secret, Step,
};

/// A mechanism that asks for messages of its own, none of which is a secret as it is.
pub(crate) fn mechanism(name: &'static str, needs: &'static [Need]) -> Mechanism {
    let asks = KindSet::none().with(CredentialKind::Token);
    Mechanism { name: name.into(), asks, needs, plaintext: false }
}

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

/// The one message of a mechanism whose name has come with the login ([`Scene::claimed`]): asked for once, with what it
/// answers.
///
/// # Errors
///
/// The step that there is to take before there are both.
pub(crate) fn named_message<'s>(
    asked: &mut bool,
    challenge: Option<&[u8]>,
    mut answers: Answers,
    scene: &Scene<'s>,
) -> Result<(&'s str, Secret), Step> {
    if !std::mem::replace(asked, true) {
        return Err(Step::Ask(challenge.map_or_else(token_round, |it| round_with(Some(it)))));
    }
    let message = token(&mut answers).map_err(Step::Deny)?;
    let claimed = scene.claimed.unwrap_or_default();
    let name = name(claimed.as_bytes(), "the user name").map_err(Step::Deny)?;
    Ok((name, message))
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

/// An exchange inside a carrier, and what is known to answer it with.
pub(crate) struct Carried {
    inner: BoxExchange,
    /// Empty where the mechanism's own claim is enough.
    username: Box<str>,
    known: Known,
    /// The round whose one question was put to the peer.
    open: Option<Arc<Round>>,
}

impl Carried {
    /// A password exchange, and a name and a password for it.
    pub(crate) fn new(inner: BoxExchange, username: &str, password: Secret) -> Self {
        let known = Answers::new().with("username", username.to_owned()).with("password", password);
        Self { inner, username: username.into(), known: Known::new(known), open: None }
    }

    /// A token's exchange, and a token for it. The peer says who it is, if at all, by the scene's claim.
    pub(crate) fn bearer(inner: BoxExchange, token: Secret) -> Self {
        let known = Known::new(Answers::new().with("bearer", token));
        Self { inner, username: "".into(), known, open: None }
    }

    /// Goes on until the end.
    ///
    /// A mechanism that has only a name and a password cannot ask the peer for a code or a new password: such
    /// a round ends the login, and nobody gets in by a protocol that is too poor for the policy.
    pub(crate) async fn drive(mut self, scene: &Scene<'_>) -> Result<Step, Fault> {
        match self.advance(Answers::new(), scene).await? {
            Ok(end) => Ok(end),
            Err(round) => Ok(self.refuse(&round)),
        }
    }

    /// Goes on until the end, or until the peer must be asked one more question, which its protocol shows as
    /// one more prompt.
    pub(crate) async fn prompt(
        &mut self,
        token: Option<Secret>,
        scene: &Scene<'_>,
    ) -> Result<Step, Fault> {
        // What is put to the peer in this way is one answer, typed at a prompt.
        const PROMPTS: [CredentialKind; 4] = [
            CredentialKind::Otp,
            CredentialKind::Pin,
            CredentialKind::NoEchoPrompt,
            CredentialKind::EchoPrompt,
        ];
        static CARRIES: LazyLock<KindSet> = LazyLock::new(|| PROMPTS.into_iter().collect());
        let scene = &Scene { carries: Some(&*CARRIES), ..*scene };
        let mut answers = Answers::new();
        if let (Some(round), Some(token)) = (self.open.take(), token) {
            let asked = round.questions.iter().find(|question| question.must_be_answered());
            let given = asked.map(|question| (question.name.clone(), Answer::Value(token)));
            answers = match round.accept(given.into_iter().collect()) {
                Ok(answers) => answers,
                Err(misuse) => {
                    let denial = Denial::new(Reason::Malformed).because(misuse.to_string());
                    return Ok(Step::Deny(denial).claiming(&self.username));
                }
            };
        }
        let round = match self.advance(answers, scene).await? {
            Ok(end) => return Ok(end),
            Err(round) => round,
        };
        let mut wanted = round.questions.iter().filter(|question| question.must_be_answered());
        match (wanted.next(), wanted.next()) {
            (Some(only), None) if PROMPTS.contains(&only.kind) => {
                let prompt = format!("{}:", only.prompt.as_str());
                self.open = Some(round);
                Ok(Step::Ask(round_with(Some(prompt.as_bytes()))))
            }
            _ => Ok(self.refuse(&round)),
        }
    }

    async fn advance(
        &mut self,
        mut answers: Answers,
        scene: &Scene<'_>,
    ) -> Result<Result<Step, Arc<Round>>, Fault> {
        loop {
            let step = self.inner.step(answers, scene).await;
            // The name came within a message, which nobody outside reads.
            match step.map_err(|fault| fault.claiming(&self.username))? {
                Step::Ask(round) => match self.known.pick(&round) {
                    Some(picked) => answers = picked,
                    None => return Ok(Err(round)),
                },
                end => return Ok(Ok(self.claimed(end))),
            }
        }
    }

    fn claimed(&self, end: Step) -> Step {
        if self.username.is_empty() { end } else { end.claiming(&self.username) }
    }

    fn refuse(&self, round: &Round) -> Step {
        self.claimed(Step::Deny(cannot_ask(round)))
    }
}

fn cannot_ask(round: &Round) -> Denial {
    let changes = round.questions.iter().any(|q| q.kind == CredentialKind::NewPassphrase);
    let reason = if changes { Reason::ChangeNeeded } else { Reason::Unsupported };
    let names = round.questions.iter().map(|q| &*q.name).collect::<Vec<_>>().join(", ");
    Denial::new(reason).because(format!("this mechanism cannot ask for: {names}"))
}
