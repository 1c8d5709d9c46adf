//! `countersign login`: a person, or a file of answers, in conversation with a running server.

pub(crate) mod client;
mod here;
mod round;

use countersign::{Answer, Answers, CredentialKind, Known, Question, Round};
use countersign_checkers::kinds::Takes;
use countersign_responders::answers::{self, Source};
use countersign_responders::terminal::Terminal;
use countersign_server::front::http::LoginReply;
use countersign_server::identity::IdentityView;

use crate::args::LoginArgs;
use crate::failure::Failure;
use crate::table::{groups, shown};
use client::Client;

pub(crate) fn run(args: &LoginArgs) -> Result<(), Failure> {
    let kinds = crate::kinds();
    if let Some(help) = args.auth.help(&kinds, &Takes::everything())? {
        print!("{help}");
        return Ok(());
    }
    if !args.auth.auth.is_empty() {
        return here::run(args, &kinds);
    }
    let client = Client::of(&args.server, args.insecure)?;
    let mut answerer = Answerer::of(args)?;
    let mut reply = client.begin(&args.service, args.mechanism.as_deref(), &answerer.kinds())?;
    let mut open: Option<(String, u16, Round)> = None;
    loop {
        let (id, number, round) = match reply.reply {
            LoginReply::Granted { session, identity } => {
                return granted(&client, args.json, &reply.json, &session.token, &identity);
            }
            LoginReply::Denied { reason } => return Err(denied(&reason, reply.broken)),
            LoginReply::Ask { id, round } => {
                let number = round.number;
                let round = round::from_view(round).map_err(Failure::broken)?;
                open.insert((id, number, round))
            }
            LoginReply::Misuse { error, id: Some(_), .. } => {
                let Some(open) = &mut open else { return Err(Failure::broken(error)) };
                answerer.misunderstood(&error)?;
                open
            }
            LoginReply::Misuse { error, id: None, .. } => return Err(Failure::broken(error)),
        };
        let answers = match answerer.answer(round) {
            Ok(answers) => answers,
            Err(failure) => {
                client.cancel(id);
                return Err(failure);
            }
        };
        reply = client.answer(id, *number, &answers)?;
    }
}

/// Who answers.
enum Answerer {
    Person { terminal: Terminal, user: Option<String> },
    Known(Known),
}

impl Answerer {
    fn of(args: &LoginArgs) -> Result<Self, Failure> {
        let Some(source) = &args.answers else {
            let terminal = Terminal::open().map_err(|error| Failure::usage(error.to_string()))?;
            return Ok(Self::Person { terminal, user: args.user.clone() });
        };
        let mut answers =
            Source::read(source).map_err(|error| Failure::usage(error.to_string()))?;
        if let Some(user) = &args.user {
            if answers.find("username").is_some() {
                let message = "the user name is given twice: by --user and in the answers";
                return Err(Failure::usage(message));
            }
            answers.push("username", user.as_str());
        }
        Ok(Self::Known(Known::new(answers)))
    }

    /// The names of the kinds that it can answer.
    fn kinds(&self) -> Vec<String> {
        let person = Terminal::kinds();
        let able = |kind: &CredentialKind| matches!(self, Self::Known(_)) || person.contains(kind);
        CredentialKind::all().filter(able).map(|kind| kind.name().to_owned()).collect()
    }

    fn answer(&mut self, round: &Round) -> Result<Answers, Failure> {
        match self {
            Self::Known(known) => answers::pick(known, round)
                .map_err(|cancelled| Failure::usage(cancelled.why.into_owned())),
            Self::Person { terminal, user } => {
                let Some(user) = user.take() else { return Ok(terminal.ask(round)?) };
                ask_as(terminal, round, user)
            }
        }
    }

    /// The server did not take the answers, and the round is still open. A person can do better; a file
    /// would say the same again.
    fn misunderstood(&mut self, error: &str) -> Result<(), Failure> {
        match self {
            Self::Known(_) => {
                Err(Failure::usage(format!("the server does not take the answers: {error}")))
            }
            Self::Person { terminal, .. } => Ok(terminal.say(error)?),
        }
    }
}

/// Asks for everything but the user name, which is known.
fn ask_as(terminal: &mut Terminal, round: &Round, user: String) -> Result<Answers, Failure> {
    let mut rest = round.clone();
    let is_name = |question: &Question| question.name == "username" && question.group.is_none();
    let asked = rest.questions.iter().any(is_name);
    rest.questions.retain(|question| !is_name(question));
    let mut answers = terminal.ask(&rest)?;
    if asked {
        answers.push("username", Answer::from(user));
    }
    Ok(answers)
}

fn granted(
    client: &Client,
    json: bool,
    reply: &[u8],
    token: &str,
    identity: &IdentityView,
) -> Result<(), Failure> {
    if json {
        println!("{}", String::from_utf8_lossy(reply).trim_end());
        return Ok(());
    }
    // Nobody was told the token: the session would only be left lying around.
    client.end_session(token);
    show(identity);
    Ok(())
}

/// Who somebody turned out to be.
fn show(identity: &IdentityView) {
    let name = identity.subject.as_deref().unwrap_or("anonymous");
    println!("you are {}", shown(name));
    if !identity.groups.is_empty() {
        println!("groups: {}", groups(&identity.groups));
    }
    if !identity.labels.is_empty() {
        let labels: Vec<_> = identity.labels.iter().map(|label| shown(label)).collect();
        println!("labels: {}", labels.join(", "));
    }
    for (name, values) in &identity.attributes {
        println!("{}: {}", shown(name), shown(&values.join(", ")));
    }
}

pub(crate) fn denied(reason: &str, broken: bool) -> Failure {
    if broken {
        let message = "the server cannot decide now, something behind it is broken: try later, and \
                       see its log";
        return Failure::broken(message);
    }
    Failure::refused(match reason {
        "denied" => {
            "refused: the name or what proves it is wrong, or you may not log in here".to_owned()
        }
        "change-needed" => {
            "refused: the password must be changed first, which this login cannot do".to_owned()
        }
        "try-later" => "refused for now: try later".to_owned(),
        "unsupported" => {
            "refused: the server offers no way of logging in that was asked for or can be \
                          answered here"
                .to_owned()
        }
        other => format!("refused: {}", shown(other)),
    })
}
