//! `countersign driver test`: what a driver should do, tried on one.

use std::fmt::Write as _;
use std::sync::Arc;

use countersign::Secret;
use countersign_checkers::driver::Observed;
use countersign_checkers::one::{Attempt, Failure as DriverFailure, Outcome};
use countersign_wire::one::{Authn, DriverAnswer, DriverInput};
use tokio::task::JoinSet;

use super::Trial;
use crate::failure::Failure;
use crate::place::block_on;
use crate::table::shown;

/// Passwords that are somebody else's trouble: what a document writes in another way, what a shell or a line takes
/// for its own, and what a directory takes for nothing.
const HARD: [(&str, &str); 12] = [
    ("a password with & < > and quotes", "&amp;<b>'\"&#65;]]>"),
    ("a password with blanks at its ends", "  two words  "),
    ("a password of one blank", " "),
    ("a password with letters that are not ASCII", "ä→😀é"),
    ("a password with a line end in it", "one\ntwo"),
    ("a password with a TAB in it", "one\ttwo"),
    ("a password that is a command", "$(id);`id`|id"),
    ("a password with a * and a number", "x *0 100"),
    ("a password that is an option", "--help"),
    ("a password of one dash", "-"),
    ("a password with a backslash and a percent sign", "a\\n%s%20%00"),
    ("a password of one star", "*"),
];

/// How many logins are tried at once.
const AT_ONCE: usize = 20;

/// The longest password that is tried, in bytes.
const HUGE: usize = 512 * 1024;

pub(super) fn run(trial: &Trial) -> Result<(), Failure> {
    let suite = Suite { trial, wrong: 0, tried: 0 };
    let suite = block_on(async { Ok(suite.play().await) })?;
    println!("\n{} tried, {} wrong", suite.tried, suite.wrong);
    match suite.wrong {
        0 => Ok(()),
        _ => Err(Failure::refused(format!("{} does something wrong", trial.program.display()))),
    }
}

struct Suite<'t> {
    trial: &'t Trial,
    wrong: usize,
    tried: usize,
}

/// What must come of a try.
#[derive(Clone, Copy)]
enum Must {
    /// The user is let in.
    Accept,
    /// The driver says no, by itself and in time.
    Refuse,
    /// Nobody is let in, and it ends in time.
    NotAccept,
}

impl Suite<'_> {
    async fn play(mut self) -> Self {
        let trial = self.trial;
        if let Some(right) = self.login("the right password", Must::Accept, &trial.secret).await {
            self.is_quiet(&right);
        }

        let text = trial.secret.to_str().unwrap_or_default();
        let shorter: String = text.chars().take(text.chars().count().saturating_sub(1)).collect();
        let other = |what: &str| Secret::from(format!("{text}{what}"));
        for (what, secret) in [
            ("the right password and a letter", other("x")),
            ("the right password and a blank", other(" ")),
            ("the right password without its last letter", Secret::from(shorter)),
            ("a long password", Secret::from("x".repeat(HUGE))),
        ] {
            if secret.is_empty() {
                continue;
            }
            self.login(what, Must::Refuse, &secret).await;
        }
        for (what, text) in HARD {
            let secret = Secret::from(text);
            if secret == trial.secret {
                continue;
            }
            self.login(what, Must::Refuse, &secret).await;
        }
        self.documents().await;
        self.at_once().await;
        self
    }

    /// What a login with this password is written as, if it can be: an argument is not as long as a document.
    fn input(&self, secret: &Secret) -> Option<DriverInput> {
        let stored = self.trial.stored.as_ref().map(Secret::expose);
        let login = Authn { user: &self.trial.user, stored, secret: secret.expose() };
        login.encode(self.trial.profile).ok()
    }

    /// A login with this password, which must come to that.
    async fn login(&mut self, what: &str, must: Must, secret: &Secret) -> Option<Observed> {
        let input = self.input(secret)?;
        let seen = self.trial.exec.observe(&input, secret).await;
        self.say(what, judged(must, &seen, self.trial));
        Some(seen)
    }

    /// Documents that are none, or not of a login: whatever they are, nobody is let in.
    async fn documents(&mut self) {
        if self.trial.profile.passes_arguments() {
            return;
        }
        let user = self.trial.user.as_str();
        let stored = self.trial.stored.as_ref().map(Trial::in_document).unwrap_or_default();
        let secret = Trial::in_document(&self.trial.secret);
        let whole = format!(
            "<AUTHN>\n  <USERNAME>{user}</USERNAME>\n  <PASSWORD>{}</PASSWORD>\n  <SECRET>{}</SECRET>\n</AUTHN>",
            *stored, *secret
        );
        let without = |name: &str| {
            let lines = whole.lines().filter(|line| !line.contains(&format!("<{name}>")));
            lines.collect::<Vec<_>>().join("\n")
        };
        let of = |text: String| Secret::from(text);
        let mut bad_text = whole.clone().into_bytes();
        let at = whole.find("<SECRET>").map_or(0, |at| at + "<SECRET>".len());
        bad_text.splice(at..at, [0xff, 0xfe]);
        let empty = whole.replace(&format!("<SECRET>{}</SECRET>", *secret), "<SECRET/>");
        for (what, document) in [
            ("an empty password", of(empty)),
            ("no password", of(without("SECRET"))),
            ("no user", of(without("USERNAME"))),
            ("nothing at all", of(String::new())),
            ("no XML", of("ada:secret".into())),
            ("half a document", of(whole[..whole.len() / 2].to_owned())),
            ("another document", of(whole.replace("AUTHN", "AUTHZ"))),
            ("bytes that are not UTF-8", Secret::from(bad_text.as_slice())),
        ] {
            let input = DriverInput::Document(document);
            let seen = self.trial.exec.observe(&input, &self.trial.secret).await;
            self.say(what, judged(Must::NotAccept, &seen, self.trial));
        }
    }

    /// Many right logins at a time: each is a process of its own, and none may be in another's way.
    async fn at_once(&mut self) {
        let mut running = JoinSet::new();
        for _ in 0..AT_ONCE {
            let Some(input) = self.input(&self.trial.secret) else { return };
            let (exec, secret) = (Arc::clone(&self.trial.exec), self.trial.secret.clone());
            running.spawn(async move { exec.observe(&input, &secret).await });
        }
        let mut wrong = None;
        while let Some(seen) = running.join_next().await {
            wrong = wrong.or(match seen {
                Ok(seen) => judged(Must::Accept, &seen, self.trial),
                Err(_) => Some("a login broke off".into()),
            });
        }
        self.say(&format!("{AT_ONCE} right logins at once"), wrong);
    }

    /// A right login's answer: one line, and nothing of what was typed.
    fn is_quiet(&mut self, Observed { seen, .. }: &Observed) {
        let (secret, output) = (&self.trial.secret, &seen.output);
        let more = DriverAnswer::parse(output, secret.expose()).is_ok_and(|answer| answer.more);
        let why = more.then(|| {
            "more than one line: what follows the first is ignored here, and a message to oned there".into()
        });
        self.say("one line is the answer", why);
        let typed = secret.to_str().filter(|typed| typed.len() >= 4);
        let repeats = typed.is_some_and(|typed| {
            [output, &seen.errors].iter().any(|text| String::from_utf8_lossy(text).contains(typed))
        });
        let why = repeats.then(|| {
            "the password is printed: it comes into logs, and a blank in it lets its user choose a group".into()
        });
        self.say("what was typed is not printed", why);
    }

    fn say(&mut self, what: &str, wrong: Option<String>) {
        self.tried += 1;
        let mut line = format!("{what} ");
        while line.chars().count() < 48 {
            line.push('.');
        }
        match wrong {
            None => line.push_str(" ok"),
            Some(why) => {
                self.wrong += 1;
                let _ = write!(line, " WRONG: {}", shown(&why));
            }
        }
        println!("{line}");
    }
}

/// What is wrong, if anything is.
fn judged(must: Must, seen: &Observed, trial: &Trial) -> Option<String> {
    let Observed { attempt: Attempt { outcome, .. }, seen, .. } = seen;
    match (must, outcome) {
        (Must::Accept, Outcome::Accepted(reply)) => {
            let named = reply.as_ref().map(|reply| reply.user());
            let other = named.filter(|user| **user != trial.user)?;
            Some(format!(
                "the answer is about another user, `{other}`; that has to be allowed (`account`)"
            ))
        }
        (Must::Accept, Outcome::Refused(why)) => Some(format!("refused: {why}")),
        (Must::Refuse | Must::NotAccept, Outcome::Accepted(_)) => {
            Some("it lets the user in".into())
        }
        (Must::Refuse | Must::NotAccept, Outcome::Refused(_)) => None,
        (_, Outcome::Failed(DriverFailure::Late(_))) => {
            Some(format!("no end within {} seconds", trial.timeout.as_secs()))
        }
        // That it says no by dying is no answer to a login, but it lets nobody in.
        (Must::NotAccept, Outcome::Failed(_)) if seen.status != Some(0) => None,
        (_, Outcome::Failed(failure)) => Some(failure.to_string()),
    }
}
