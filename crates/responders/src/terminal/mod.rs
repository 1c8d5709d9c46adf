//! A person at a terminal.
//!
//! Rounds are shown as forms of lines: title, instruction, notices, what was wrong before, then the
//! questions one after the other. What is typed for a secret is not shown. An empty line takes the
//! default; Ctrl-D leaves an optional question out; Ctrl-C cancels the login, and the terminal is as it
//! was before.
//!
//! Alternatives and options are numbered lists, which work on every terminal, over every line, and are
//! read aloud by every screen reader.

mod text;
mod tty;

use std::fs::{File, OpenOptions};
use std::io;
use std::time::Duration;

use countersign::{
    Answer, Answers, Cancelled, Challenge, CredentialKind, Group, KindSet, Level, Question,
    Responder, Round, Secret,
};

use text::{line, paragraph};
use tty::{Line, Tty};

/// How often one question is asked again before the login is given up.
const TRIES: usize = 3;

/// How long a person may think about one question, unless [`Terminal::patience`] says otherwise.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// The terminal that this process was started from.
#[derive(Debug)]
pub struct Terminal {
    tty: Tty,
    patience: Duration,
}

/// There is no terminal to ask at.
#[derive(Debug, thiserror::Error)]
#[error(
    "no terminal to ask at: give --answers FILE, or --answers - to read them from standard input"
)]
pub struct NoTerminal(#[from] io::Error);

impl Terminal {
    /// Opens the controlling terminal, whatever standard input and output are.
    ///
    /// # Errors
    /// [`NoTerminal`]: the process has none (a service, a job, a container without `-t`).
    pub fn open() -> Result<Self, NoTerminal> {
        Self::on(OpenOptions::new().read(true).write(true).open("/dev/tty")?)
    }

    /// A terminal that is already open for reading and writing.
    ///
    /// # Errors
    /// [`NoTerminal`]: the file is something else.
    pub fn on(file: File) -> Result<Self, NoTerminal> {
        Ok(Self { tty: Tty::new(file)?, patience: PATIENCE })
    }

    /// How long a person may think about one question. Five minutes if never set.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The kinds that a person can answer: all but a mechanism's own messages.
    pub fn kinds() -> KindSet {
        use CredentialKind::{Assertion, ClientNonce, Token};
        CredentialKind::all()
            .filter(|kind| !matches!(kind, Assertion | ClientNonce | Token))
            .collect()
    }

    /// Shows a round and reads the answers. Blocks until the person is done, for at most the patience a
    /// question.
    ///
    /// # Errors
    /// [`Cancelled`]: Ctrl-C, the end of input, no answer in time, or none that fits after three tries.
    pub fn ask(&mut self, round: &Round) -> Result<Answers, Cancelled> {
        self.show(round)?;
        let group = self.choose_group(round)?.map(|group| group.id.clone());
        let mut answers = Answers::new();
        for question in &round.questions {
            if question.group.is_some() && question.group != group {
                continue;
            }
            if let Some(answer) = self.question(question)? {
                answers.push(question.name.clone(), answer);
            }
        }
        Ok(answers)
    }

    /// Shows a line.
    ///
    /// # Errors
    /// [`Cancelled`]: the terminal is gone.
    pub fn say(&mut self, what: &str) -> Result<(), Cancelled> {
        self.tty.write(&format!("{}\n", paragraph(what))).map_err(gone)
    }

    fn show(&mut self, round: &Round) -> Result<(), Cancelled> {
        for text in [&round.title, &round.instruction].into_iter().flatten() {
            self.say(text.as_str())?;
        }
        for notice in &round.notices {
            let mark = match notice.level {
                Level::Info => "",
                Level::Warning => "Warning: ",
                Level::Error => "Error: ",
            };
            self.say(&format!("{mark}{}", notice.text))?;
        }
        if let Some(feedback) = &round.feedback {
            let left = match feedback.tries_left {
                Some(1) => " (1 try left)".to_owned(),
                Some(tries) => format!(" ({tries} tries left)"),
                None => String::new(),
            };
            self.say(&format!("{}{left}", feedback.text))?;
        }
        Ok(())
    }

    /// Asks which alternative, of those that a person can answer whole.
    fn choose_group<'a>(&mut self, round: &'a Round) -> Result<Option<&'a Group>, Cancelled> {
        let kinds = Self::kinds();
        let able = |group: &&Group| {
            let mut own = round.questions.iter().filter(|q| q.group.as_ref() == Some(&group.id));
            own.all(|question| kinds.contains(&question.kind))
        };
        let groups: Vec<_> = round.groups.iter().filter(able).collect();
        if groups.len() < 2 {
            return Ok(groups.first().copied());
        }
        let titles: Vec<_> = groups.iter().map(|group| line(group.title.as_str())).collect();
        // The first is the one that the server wants most.
        let index = self.number("How do you want to go on?", &titles, Some(0))?;
        Ok(index.and_then(|index| groups.get(index)).copied())
    }

    /// One question. `None`: left out.
    fn question(&mut self, question: &Question) -> Result<Option<Answer>, Cancelled> {
        if let Some(challenge) = &question.challenge
            && let Some(shown) = challenge_text(challenge)
        {
            self.say(&shown)?;
        }
        match question.kind {
            CredentialKind::Trust => self.trust(question).map(Some),
            CredentialKind::Confirm => self.confirm(question),
            CredentialKind::Choice => self.choice(question),
            CredentialKind::NewPassphrase => self.new_password(question),
            CredentialKind::External => {
                let prompt = format!("{}: press Enter when it is done ", label(question));
                Ok(self.read(question, &prompt, true)?.map(|_| Answer::from("")))
            }
            _ => self.value(question),
        }
    }

    fn value(&mut self, question: &Question) -> Result<Option<Answer>, Cancelled> {
        let echo = question.kind.echo();
        let prompt = match (&question.default, echo) {
            (Some(default), true) => format!("{} [{}]: ", label(question), line(default)),
            // A default that may not be typed in the open may not be shown in it either.
            (Some(_), false) => format!("{} [Enter: unchanged]: ", label(question)),
            (None, _) if question.optional => format!("{} (optional): ", label(question)),
            (None, _) => format!("{}: ", label(question)),
        };
        for _ in 0..TRIES {
            let Some(typed) = self.read(question, &prompt, echo)? else { return Ok(None) };
            let answer = match &question.default {
                Some(default) if typed.is_empty() => Answer::from(&**default),
                None if typed.is_empty() && question.optional => return Ok(None),
                _ => Answer::Value(typed),
            };
            match question.limits.violated_by(value_of(&answer)) {
                None => return Ok(Some(answer)),
                Some(why) => self.say(&format!("That does not fit: {why}."))?,
            }
        }
        Err(too_many(question))
    }

    fn new_password(&mut self, question: &Question) -> Result<Option<Answer>, Cancelled> {
        let first = format!("{}: ", label(question));
        let again = format!("{} again: ", label(question));
        for _ in 0..TRIES {
            let Some(typed) = self.read(question, &first, false)? else { return Ok(None) };
            if typed.is_empty() && question.optional {
                return Ok(None);
            }
            if let Some(why) = question.limits.violated_by(typed.expose()) {
                self.say(&format!("That does not fit: {why}."))?;
                continue;
            }
            let Some(retyped) = self.read(question, &again, false)? else { return Ok(None) };
            if typed == retyped {
                return Ok(Some(Answer::Value(typed)));
            }
            self.say("The two differ. Nothing was changed; type it twice again.")?;
        }
        Err(too_many(question))
    }

    fn confirm(&mut self, question: &Question) -> Result<Option<Answer>, Cancelled> {
        // Saying yes is never a default.
        let (choices, empty) = match question.default {
            Some(_) => ("y/N", Some(false)),
            None => ("y/n", None),
        };
        let prompt = format!("{} [{choices}]: ", label(question));
        for _ in 0..TRIES {
            let Some(typed) = self.read(question, &prompt, true)? else { return Ok(None) };
            let yes = match typed.to_str().map(str::trim).unwrap_or_default() {
                "" => empty,
                word if word.eq_ignore_ascii_case("y") || word.eq_ignore_ascii_case("yes") => {
                    Some(true)
                }
                word if word.eq_ignore_ascii_case("n") || word.eq_ignore_ascii_case("no") => {
                    Some(false)
                }
                _ => None,
            };
            match yes {
                Some(yes) => return Ok(Some(Answer::Confirmed(yes))),
                None => self.say("Please answer y or n.")?,
            }
        }
        Err(too_many(question))
    }

    /// Only "yes", typed in full, is a yes; whatever else is typed is a no and is not asked again.
    fn trust(&mut self, question: &Question) -> Result<Answer, Cancelled> {
        let prompt = format!("{}? Type yes in full to trust it [no]: ", label(question));
        let typed = self.read(question, &prompt, true)?;
        Ok(Answer::Confirmed(typed.is_some_and(|typed| typed.to_str() == Some("yes"))))
    }

    fn choice(&mut self, question: &Question) -> Result<Option<Answer>, Cancelled> {
        let options: Vec<_> = question.options.iter().map(|text| line(text.as_str())).collect();
        let default = question.default.as_deref().and_then(|index| index.parse().ok());
        let default = default.filter(|index| *index < options.len());
        if default.is_none() && question.optional {
            let heading = format!("{} (optional)", label(question));
            return Ok(self.number_or_none(&heading, &options)?.map(Answer::Choice));
        }
        Ok(self.number(&label(question), &options, default)?.map(Answer::Choice))
    }

    fn number_or_none(
        &mut self,
        heading: &str,
        options: &[String],
    ) -> Result<Option<usize>, Cancelled> {
        let mut options = options.to_vec();
        options.push("none of these".to_owned());
        let none = options.len() - 1;
        Ok(self.number(heading, &options, Some(none))?.filter(|index| *index != none))
    }

    /// A numbered list, of which one is taken.
    fn number(
        &mut self,
        heading: &str,
        options: &[String],
        default: Option<usize>,
    ) -> Result<Option<usize>, Cancelled> {
        self.say(heading)?;
        for (index, option) in options.iter().enumerate() {
            self.say(&format!("  {}) {option}", index + 1))?;
        }
        let count = options.len();
        let prompt = match default {
            Some(default) => format!("1 to {count} [{}]: ", default + 1),
            None => format!("1 to {count}: "),
        };
        for _ in 0..TRIES {
            let typed = match self.tty.line(&prompt, true, self.patience).map_err(gone)? {
                Line::Text(typed) => typed,
                other => return Err(ended(&other)),
            };
            let typed = typed.to_str().map(str::trim).unwrap_or_default();
            let index = match (typed, default) {
                ("", Some(default)) => Some(default),
                _ => typed.parse::<usize>().ok().and_then(|number| number.checked_sub(1)),
            };
            match index.filter(|index| *index < count) {
                Some(index) => return Ok(Some(index)),
                None => self.say(&format!("Please type a number from 1 to {count}."))?,
            }
        }
        Err(Cancelled::because("no option was chosen"))
    }

    /// `None`: Ctrl-D on a question that may be left out.
    fn read(
        &mut self,
        question: &Question,
        prompt: &str,
        echo: bool,
    ) -> Result<Option<Secret>, Cancelled> {
        for _ in 0..TRIES {
            match self.tty.line(prompt, echo, self.patience).map_err(gone)? {
                Line::Text(typed) => return Ok(Some(typed)),
                Line::TooLong => self.say("That is longer than a terminal takes in one line.")?,
                Line::End if !question.must_be_answered() => return Ok(None),
                other => return Err(ended(&other)),
            }
        }
        Err(too_many(question))
    }
}

impl Responder for Terminal {
    fn supports(&self) -> KindSet {
        Self::kinds()
    }

    /// Blocks the thread that polls. Give it a thread of its own.
    async fn respond(&mut self, round: &Round) -> Result<Answers, Cancelled> {
        self.ask(round)
    }
}

/// What to call a question whose asker gave no words.
fn label(question: &Question) -> String {
    match question.prompt.as_str().trim() {
        "" => line(&question.name),
        prompt => line(prompt.trim_end_matches([':', ' '])),
    }
}

fn challenge_text(challenge: &Challenge) -> Option<String> {
    match challenge {
        Challenge::Text(text) | Challenge::Json(text) => {
            (!text.is_empty()).then(|| text.chars().take(2000).collect())
        }
        // Bytes are a mechanism's affair, and no person's.
        Challenge::Bytes(_) => None,
    }
}

fn value_of(answer: &Answer) -> &[u8] {
    match answer {
        Answer::Value(value) => value.expose(),
        _ => &[],
    }
}

fn ended(line: &Line) -> Cancelled {
    Cancelled::because(match line {
        Line::Interrupted => "interrupted at the terminal",
        Line::Late => "nobody answered at the terminal in time",
        Line::End | Line::Text(_) | Line::TooLong => "the terminal's input ended",
    })
}

fn too_many(question: &Question) -> Cancelled {
    Cancelled::because(format!("no fit answer to `{}` after {TRIES} tries", question.name))
}

fn gone(error: io::Error) -> Cancelled {
    Cancelled::because(format!("the terminal failed: {error}"))
}
