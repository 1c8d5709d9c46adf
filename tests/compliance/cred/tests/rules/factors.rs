//! Several factors: what one connection has proven is nobody else's.

use countersign::testing::StillWorld;
use countersign::{
    Answers, BoxExchange, Checker, CredentialKind, Exchange, Fault, Identity, KindSet, LoginError,
    Mechanism, Portal, Question, Reason, Reply, Request, Round, Scene, Step, Verified,
};
use countersign_interop::runner::{Case, case};
use countersign_interop::{Context, Outcome, Stage, ensure};
use serde_json::json;

use crate::beside::differs;
use crate::stage::{asked, ready, said, users};

pub(crate) const CASES: &[Case] = &[case("factors_of_two_connections", two_connections)];

/// A second factor: whoever answers `signed` has it. On its own it proves nobody.
struct Keys([Mechanism; 1]);

impl Keys {
    fn new() -> Self {
        let asks = KindSet::none().with(CredentialKind::Otp);
        Self([Mechanism { name: Mechanism::OTP.into(), asks, needs: &[], plaintext: true }])
    }
}

impl Checker for Keys {
    fn name(&self) -> &str {
        "keys"
    }

    fn mechanisms(&self) -> &[Mechanism] {
        &self.0
    }

    fn begin(&self, _: &str, _: &Scene<'_>) -> Result<BoxExchange, Fault> {
        Ok(BoxExchange::new(Signing { asked: false }))
    }
}

struct Signing {
    asked: bool,
}

impl Exchange for Signing {
    async fn step(&mut self, answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        if !std::mem::replace(&mut self.asked, true) {
            return Ok(Step::ask(Round::of([Question::otp()])));
        }
        let proven = scene.proven.last().and_then(|who| who.subject.name());
        Ok(match (proven, answers.text("otp")) {
            (Some(name), Some("signed")) => {
                Step::Grant(Verified::vouch(Identity::named(name.to_owned())))
            }
            _ => Step::deny(Reason::WrongCredential),
        })
    }
}

fn two_connections(_: &Stage) -> Outcome {
    let portal = Portal::new(())
        .checked_by(users("a", &[("ada", "countess")]))
        .checked_by(Keys::new())
        .requiring([Mechanism::PASSWORD, Mechanism::OTP]);
    let world = StillWorld::default();
    let begin = || ready(portal.begin(asked("ssh").by("password"), &world));

    let (mut one, reply) = begin().during("the first connection")?;
    let Reply::Ask(ask) = reply else { return Err(unexpected(&reply)) };
    let right = Answers::new().with("username", "ada").with("password", "countess");
    let reply = ready(one.answer(ask.number, right, &world)).during("the password")?;
    let first = match &reply {
        Reply::Ask(_) => "more is asked",
        Reply::Granted(_) => "granted ada",
        Reply::Denied(denial) => said(denial),
    };

    // Another connection has the key. It may begin with it, or with its password first; never with neither.
    let (mut two, reply) = begin().during("the second connection")?;
    let Reply::Ask(ask) = reply else { return Err(unexpected(&reply)) };
    ensure!(ask.round.question("otp").is_none(), "the first connection's password was kept");
    let key = Answers::new().with("username", "ada").with("otp", "signed");
    ensure!(ready(two.answer(ask.number, key, &world)).is_err(), "it was asked for a password");
    let mut key = countersign::Known::new(Answers::new().with("otp", "signed"));
    let second = ready(portal.authenticate(Request::to("ssh").by("otp"), &mut key, &world));
    let second = match second {
        Ok(who) => format!("granted {}", who.subject),
        Err(LoginError::Denied(_)) => "refused".to_owned(),
        Err(LoginError::Fault(fault)) => fault.to_string(),
    };

    // The first one goes on where it was.
    let Reply::Ask(ask) = reply_of(&mut one)? else { unreachable!("it is an open round") };
    let rest = ready(one.answer(ask.number, Answers::new().with("otp", "signed"), &world));
    ensure!(matches!(rest, Ok(Reply::Granted(_))), "the first connection cannot go on: {rest:?}");

    let ours = json!({ "a password on one connection": first, "a key on another": second });
    let theirs = json!({ "a password on one connection": "more is asked", "a key on another": "granted ada" });
    let here =
        json!({ "a password on one connection": "more is asked", "a key on another": "refused" });
    differs("factors_of_two_connections", &theirs, &here, &ours)
}

fn reply_of(conversation: &mut countersign::Conversation) -> Outcome<Reply> {
    conversation.open().map(Reply::Ask).during("an open round")
}

fn unexpected(reply: &Reply) -> countersign_interop::Trouble {
    countersign_interop::Trouble::failed(format!("a round was to come, and not {reply:?}"))
}
