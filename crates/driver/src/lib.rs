//! A driver that stays, in Rust: one process that verifies many logins of Countersign, each in a thread, and may ask
//! for more than a password. The contract is `docs/protocols/driver.md`; Python's and the shell's helpers are in
//! `crates/driver/helpers`.
//!
//! ```no_run
//! use countersign_driver::{Answer, Login, serve};
//!
//! fn main() -> std::io::Result<()> {
//!     serve(|login: &Login<'_>| match login.stored.as_deref() {
//!         Some(stored) if *stored == login.secret.chars().count().to_string() => Answer::accept(),
//!         _ => Answer::refuse("wrong length"),
//!     })
//! }
//! ```
//!
//! An answer that is a secret of the user's is wiped when it is dropped, but JSON was read on the way: a process like this
//! one is as secret as its passwords.
#![forbid(unsafe_code)]

mod desk;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, Write};

use serde_json::{Value, json};
use zeroize::Zeroizing;

use desk::Counter;

/// Serves logins on standard input and output, until standard input ends.
///
/// # Errors
/// When either breaks, or the server says what is no message.
pub fn serve(verify: impl Fn(&Login<'_>) -> Answer + Sync) -> io::Result<()> {
    serve_on(io::stdin().lock(), io::stdout(), verify)
}

/// Serves logins that come and go elsewhere.
///
/// # Errors
/// As [`serve`].
pub fn serve_on(
    input: impl BufRead,
    output: impl Write + Send,
    verify: impl Fn(&Login<'_>) -> Answer + Sync,
) -> io::Result<()> {
    desk::serve(input, output, &verify)
}

/// A login to be verified.
pub struct Login<'a> {
    /// Who.
    pub user: String,
    /// What is stored for the user, if anything is.
    pub stored: Option<Zeroizing<String>>,
    /// What was typed. Never empty.
    pub secret: Zeroizing<String>,
    /// Seconds since 1970.
    pub now: i64,
    asks: Vec<String>,
    id: u64,
    desk: &'a dyn Counter,
}

/// What a driver says of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Yes, and what is to be changed of the account.
    Accept(Account),
    /// No, with the reason for the operator.
    Refuse(String),
    /// It could not be found out, with the reason.
    Fail(String),
}

/// What an answer says of an account. What is `None`, or empty, is not said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// The driver that the account is to have.
    pub driver: Option<String>,
    /// The user's name as it is spelt.
    pub user: Option<String>,
    /// What is to be stored.
    pub stored: Option<String>,
    /// Groups by number, and whether the user administers them.
    pub groups: Vec<(u32, bool)>,
}

/// A question of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The name of its answer.
    pub name: String,
    /// What is asked for: `otp`, `echo-prompt`, `confirm`, … (Q2 of the contract).
    pub kind: String,
    /// What to show.
    pub prompt: String,
    /// Whether it may be left unanswered.
    pub optional: bool,
    /// Of the kind `choice`: from what.
    pub options: Vec<String>,
}

/// The answers to a round, by name: texts, truth values, and indices of options. What was declined or left out is not there.
#[derive(Default)]
pub struct Answers(BTreeMap<String, Given>);

enum Given {
    Text(Zeroizing<String>),
    Yes(bool),
    Choice(usize),
}

/// Nobody waits for this login any more: whatever is answered decides nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the login was cancelled")
    }
}

impl std::error::Error for Cancelled {}

/// So that `?` may stand in a driver that asks.
impl From<Cancelled> for Answer {
    fn from(cancelled: Cancelled) -> Self {
        Self::Refuse(cancelled.to_string())
    }
}

impl Login<'_> {
    /// Whether a question of this kind can be asked now.
    pub fn can_ask(&self, kind: &str) -> bool {
        self.asks.iter().any(|known| known == kind)
    }

    /// Asks, and waits for the answers.
    ///
    /// # Errors
    /// When the login was cancelled.
    pub fn ask(&self, questions: &[Question]) -> Result<Answers, Cancelled> {
        let questions: Vec<Value> = questions.iter().map(Question::json).collect();
        let round = json!({ "questions": questions });
        self.desk.ask(self.id, &round).map(Answers::read)
    }

    /// Whether nobody waits any more.
    pub fn is_cancelled(&self) -> bool {
        self.desk.is_cancelled(self.id)
    }

    /// A line for the server's log: `error`, `warn`, `info` or `debug`, and a text without secrets.
    pub fn log(&self, severity: &str, text: &str) {
        self.desk
            .say(&json!({ "type": "log", "severity": severity, "about": self.id, "text": text }));
    }
}

/// The secrets are not printed.
impl fmt::Debug for Login<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Answer {
    /// Yes, and nothing is to be changed.
    pub fn accept() -> Self {
        Self::Accept(Account::default())
    }

    /// No, with the reason for the operator.
    pub fn refuse(reason: impl Into<String>) -> Self {
        Self::Refuse(reason.into())
    }

    /// It could not be found out, with the reason.
    pub fn fail(reason: impl Into<String>) -> Self {
        Self::Fail(reason.into())
    }

    fn json(&self, id: u64) -> Value {
        match self {
            Self::Refuse(reason) => json!({ "type": "refuse", "id": id, "reason": reason }),
            Self::Fail(reason) => json!({ "type": "fail", "id": id, "reason": reason }),
            Self::Accept(Account { driver, user, stored, groups }) => {
                let mut said = json!({ "type": "accept", "id": id });
                for (name, value) in [("driver", driver), ("user", user), ("stored", stored)] {
                    if let Some(value) = value {
                        said[name] = value.as_str().into();
                    }
                }
                if !groups.is_empty() {
                    let star = |admin| if admin { "*" } else { "" };
                    let texts =
                        groups.iter().map(|&(group, admin)| format!("{}{group}", star(admin)));
                    said["groups"] = texts.collect();
                }
                said
            }
        }
    }
}

impl Question {
    /// A one-time code, `otp`.
    pub fn otp(prompt: impl Into<String>) -> Self {
        Self::new("otp", "otp", prompt)
    }

    /// A question that must be answered.
    pub fn new(
        name: impl Into<String>,
        kind: impl Into<String>,
        prompt: impl Into<String>,
    ) -> Self {
        let (name, kind, prompt) = (name.into(), kind.into(), prompt.into());
        Self { name, kind, prompt, optional: false, options: Vec::new() }
    }

    fn json(&self) -> Value {
        let Self { name, kind, prompt, optional, options } = self;
        let mut asked =
            json!({ "name": name, "kind": kind, "prompt": prompt, "optional": optional });
        if !options.is_empty() {
            asked["options"] = options.iter().cloned().collect();
        }
        asked
    }
}

impl Answers {
    fn read(value: Value) -> Self {
        let Value::Object(members) = value else { return Self::default() };
        let given = |value| match value {
            Value::String(text) => Some(Given::Text(text.into())),
            Value::Bool(yes) => Some(Given::Yes(yes)),
            Value::Number(number) => Some(Given::Choice(number.as_u64()?.try_into().ok()?)),
            _ => None,
        };
        Self(members.into_iter().filter_map(|(name, value)| Some((name, given(value)?))).collect())
    }

    /// A text.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name)? {
            Given::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Yes; what was not answered is no.
    pub fn confirmed(&self, name: &str) -> bool {
        matches!(self.0.get(name), Some(Given::Yes(true)))
    }

    /// The index of an option.
    pub fn choice(&self, name: &str) -> Option<usize> {
        match self.0.get(name)? {
            Given::Choice(index) => Some(*index),
            _ => None,
        }
    }
}
