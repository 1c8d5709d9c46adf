//! What peers hear of each outcome: in Twisted each protocol has a table of its own, here there is one word for
//! all of them, which each front end says in its own codes.

use countersign::testing::StillWorld;
use countersign::{
    Answers, Application, Denial, Identity, Mechanism, Portal, Realm, Reason, Reply, Session,
    Verified,
};
use countersign_interop::runner::{Case, case};
use countersign_interop::{Context, Outcome, Stage, ensure};
use countersign_sasl::Login;
use serde_json::{Value, json};

use crate::beside::differs;
use crate::compiles;
use crate::stage::{Counting, Mailbox, asked, login, ready, users};

pub(crate) const CASES: &[Case] = &[
    case("outcomes_by_pop3", by_pop3),
    case("outcomes_by_imap", by_imap),
    case("outcomes_by_smtp", by_smtp),
    case("outcomes_by_ftp", by_ftp),
    case("outcomes_by_telnet", by_telnet),
    case("outcomes_by_http", by_http),
    case("outcomes_say_nothing_about_the_reason", nothing_about_the_reason),
    case("pop3_auth_of_two_rounds", auth_of_two_rounds),
];

/// Refuses everybody.
struct Full;

impl Realm<Mailbox> for Full {
    async fn admit(&self, _: &Verified<Identity>, _: ()) -> Result<Session<Mailbox>, Denial> {
        Err(Denial::new(Reason::Realm).because("quota exceeded"))
    }
}

/// What every protocol here has to say, for the outcomes of Cred.
fn ours() -> Outcome<Value> {
    let ada = || users("a", &[("ada", "countess")]);
    let portal = Portal::new(Counting::default()).checked_by(ada());
    let nobody = Portal::new(Counting::default());
    let full = Portal::new(Full).checked_by(ada());
    let empty = Portal::new(Application::new());
    let started = empty.serving::<Mailbox>().map(drop);
    Ok(json!({
        "bad password": login(&portal, "ada", "babbage"),
        "no checker": login(&nobody, "ada", "countess"),
        "LoginDenied": login(&full, "ada", "countess"),
        "no interface": started.err().during("a missing interface")?.to_string(),
        "another interface": compiles!(Session<Nothing>: Into<Session<Mailbox>>),
    }))
}

struct Nothing;

impl countersign::Interface for Nothing {
    const NAME: &'static str = "nothing";
    type Avatar = ();
    type Mind = ();
}

fn compared(protocol: &str, theirs: &Value) -> Outcome {
    let here = json!({
        "bad password": "refused",
        "no checker": "unsupported",
        "LoginDenied": "try later",
        "no interface": "the application has no interface `mailbox`, nor any other",
        "another interface": "does not compile",
    });
    differs(&format!("outcomes_by_{protocol}"), theirs, &here, &ours()?)
}

fn by_pop3(_: &Stage) -> Outcome {
    let theirs = json!({
        "bad password": "-ERR Authentication failed",
        "no checker": "-ERR Authentication failed",
        "LoginDenied": "-ERR Access denied: <class 'twisted.cred.error.LoginDenied'>",
        "no interface": "-ERR Server error: no interface",
        "another interface": "-ERR Authentication failed",
    });
    compared("pop3", &theirs)
}

fn by_imap(_: &Stage) -> Outcome {
    let theirs = json!({
        "bad password": "1 NO LOGIN failed",
        "no checker":
            "1 BAD Server error: No checker for twisted.cred.credentials.IUsernamePassword",
        "LoginDenied": "1 BAD Server error: quota exceeded",
        "no interface": "1 BAD Server error: no interface",
        "another interface": "1 BAD Server error: login returned unexpected value",
    });
    compared("imap", &theirs)
}

fn by_smtp(_: &Stage) -> Outcome {
    let other = "451 Requested action aborted: local error in processing";
    let theirs = json!({
        "bad password": "535 Authentication failed",
        "no checker": other,
        "LoginDenied": other,
        "no interface": other,
        "another interface": other,
    });
    compared("smtp", &theirs)
}

fn by_ftp(_: &Stage) -> Outcome {
    let refused = "530 Sorry, Authentication failed.";
    let other = "550 Requested action not taken: internal server error";
    let theirs = json!({
        "bad password": refused,
        "no checker": refused,
        "LoginDenied": other,
        "no interface": other,
        "another interface": other,
    });
    compared("ftp", &theirs)
}

fn by_telnet(_: &Stage) -> Outcome {
    let again = "Username:";
    let theirs = json!({
        "bad password": again,
        "no checker": again,
        "LoginDenied": again,
        "no interface": again,
        "another interface": again,
    });
    compared("telnet", &theirs)
}

fn by_http(_: &Stage) -> Outcome {
    let theirs = json!({
        "bad password": "401",
        "no checker": "401",
        "LoginDenied": "401",
        "no interface": "500",
        // Nobody looks at what came: it is served, and has no page.
        "another interface": "404",
    });
    compared("http", &theirs)
}

fn nothing_about_the_reason(_: &Stage) -> Outcome {
    let known = Portal::new(Counting::default()).checked_by(users("a", &[("ada", "countess")]));
    let wrong = login(&known, "ada", "babbage");
    let unknown = login(&known, "eve", "babbage");
    ensure!(wrong == unknown, "a wrong password is {wrong}, an unknown user {unknown}");
    Ok(())
}

fn auth_of_two_rounds(_: &Stage) -> Outcome {
    let portal = Portal::new(Counting::default())
        .checked_by(users("a", &[("ada", "countess")]))
        .carried_by(Login);
    let world = StillWorld::default();
    let request = asked("pop3").by("LOGIN");
    let (mut conversation, mut reply) =
        ready(portal.begin(request, &world)).during("AUTH LOGIN")?;
    let mut prompts = Vec::new();
    for word in ["ada", "countess"] {
        let Reply::Ask(ask) = &reply else { break };
        let [question] = ask.round.questions.as_slice() else { break };
        let prompt = question.challenge.as_ref().map(|c| format!("{c:?}")).unwrap_or_default();
        prompts.push(prompt);
        let answers = Answers::new().with(question.name.clone(), word);
        reply = ready(conversation.answer(ask.number, answers, &world)).during("an answer")?;
    }
    ensure!(prompts.len() == 2, "asked {prompts:?}");
    let ours = match reply {
        Reply::Granted(who) => format!("granted {}", who.subject),
        other => format!("{other:?}"),
    };
    let theirs = json!("-ERR Invalid AUTH response");
    differs("pop3_auth_of_two_rounds", &theirs, &json!("granted ada"), &json!(ours))?;
    ensure!(portal.offers(Mechanism::PASSWORD), "LOGIN dresses the passwords of any checker");
    Ok(())
}
