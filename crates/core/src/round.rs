//! A round: everything the asker wants to know before it can go on.

use std::borrow::Cow;

use crate::answer::same;
use crate::{Answer, Answers, CredentialKind, KindSet, Shape, Text};

/// The questions of one round, and what a person needs to see to answer them.
///
/// A round is plain data. It is shared (`Arc<Round>`), because the common ones are the same for every
/// login: a million pending password conversations hold one round. Its number therefore belongs to the
/// conversation ([`Ask`](crate::Ask)), not to the round.
///
/// ```
/// use countersign::{Answers, Level, Misuse, Question, Round, Text};
///
/// let round = Round::of([Question::username(), Question::password()])
///     .notice(Level::Warning, Text::verbatim("The machine goes down at noon"));
/// let answers = Answers::new().with("password", "countess").with("username", "ada");
/// assert!(round.accept(answers.clone()).is_ok(), "in any order");
/// let more = round.accept(answers.with("shell", "/bin/sh"));
/// assert_eq!(more.unwrap_err(), Misuse::NotAsked { question: "shell".into() });
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// A heading, such as the name of the service.
    pub title: Option<Text>,
    /// What the person is expected to do.
    pub instruction: Option<Text>,
    /// Things to be told before the questions, in order.
    pub notices: Vec<Notice>,
    /// The questions, in the order to be shown.
    pub questions: Vec<Question>,
    /// Alternatives: questions that name a group are answered for any one group, whole.
    pub groups: Vec<Group>,
    /// Why this is being asked again.
    pub feedback: Option<Feedback>,
    /// Who has proven all that was asked for, and is only told something more, such as SCRAM's server
    /// signature. What the peer answers is empty and decides nothing. A protocol that carries data together
    /// with its success answers such a round itself, and then sends the challenge of its one question along
    /// with the success, if it comes; the others send it as a challenge.
    ///
    /// That the peer sees such a round tells it that its proof was right. So a [`Guard`](crate::Guard) is
    /// asked, and may refuse, before it does.
    pub closing: Option<Box<str>>,
}

/// Something to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// How serious.
    pub level: Level,
    /// What.
    pub text: Text,
}

/// How serious a notice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For information.
    Info,
    /// Something to be looked at.
    Warning,
    /// Something went wrong.
    Error,
}

/// One way to go on: "by one-time code", "by key". A person answers all questions of any one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Unique in the round.
    pub id: Cow<'static, str>,
    /// What to call it, on a tab or a radio button.
    pub title: Text,
    /// The mechanism that the questions belong to.
    pub mechanism: Cow<'static, str>,
}

/// What was wrong with the answers before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feedback {
    /// The question it is about, if about one.
    pub question: Option<Cow<'static, str>>,
    /// What was wrong.
    pub text: Text,
    /// How many more tries there are, if that is known.
    pub tries_left: Option<u32>,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The contract between asker and answerer: `password`, `otp`, `pkinit`. Unique in the round.
    pub name: Cow<'static, str>,
    /// What is asked for.
    pub kind: CredentialKind,
    /// What to show. Punctuation is the renderer's.
    pub prompt: Text,
    /// What the answer must be about, if the kind needs it.
    pub challenge: Option<Challenge>,
    /// Used when the question is left unanswered. A hint for the eye as well.
    pub default: Option<Cow<'static, str>>,
    /// The group this question belongs to; none: it is asked whichever group is chosen.
    pub group: Option<Cow<'static, str>>,
    /// Whether it may be left unanswered.
    pub optional: bool,
    /// What [`CredentialKind::Choice`] chooses from.
    pub options: Vec<Text>,
    /// What an answer may look like.
    pub limits: Limits,
}

/// The asker's challenge, in whatever form it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// Plain text.
    Text(String),
    /// A JSON text, verbatim.
    Json(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// What a text answer may look like. Lengths are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// At least so many bytes.
    pub min: u32,
    /// At most so many bytes.
    pub max: u32,
    /// Which bytes.
    pub charset: Charset,
}

/// Which bytes a text answer may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charset {
    /// Any byte.
    Bytes,
    /// UTF-8 without control characters. For names: clients of line protocols print them unescaped.
    Name,
    /// `0` to `9`.
    Decimal,
    /// ASCII letters and digits.
    Alphanumeric,
    /// Hexadecimal digits.
    Hex,
}

impl Limits {
    /// Any bytes, at most 4 KiB: passwords and the like.
    pub const SECRET: Self = Self { min: 0, max: 4096, charset: Charset::Bytes };
    /// A name: 1 to 255 bytes of UTF-8 without control characters.
    pub const NAME: Self = Self { min: 1, max: 255, charset: Charset::Name };
    /// A mechanism's message: any bytes, at most 64 KiB.
    pub const TOKEN: Self = Self { min: 0, max: 65_536, charset: Charset::Bytes };

    /// `None` when `value` is within the limits, else what is wrong.
    pub fn violated_by(&self, value: &[u8]) -> Option<&'static str> {
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        if length < self.min {
            return Some(if length == 0 { "it is empty" } else { "it is too short" });
        }
        if length > self.max {
            return Some("it is too long");
        }
        let fits = match self.charset {
            Charset::Bytes => true,
            // Most names are ASCII, and then this is all.
            Charset::Name => {
                value.iter().all(|byte| matches!(byte, b' '..=b'~'))
                    || std::str::from_utf8(value).is_ok_and(|s| !s.chars().any(char::is_control))
            }
            Charset::Decimal => value.iter().all(u8::is_ascii_digit),
            Charset::Alphanumeric => value.iter().all(u8::is_ascii_alphanumeric),
            Charset::Hex => value.iter().all(u8::is_ascii_hexdigit),
        };
        (!fits).then_some(match self.charset {
            Charset::Bytes | Charset::Name => "it is not UTF-8 text free of control characters",
            Charset::Decimal => "it must be digits only",
            Charset::Alphanumeric => "it must be letters and digits only",
            Charset::Hex => "it must be hexadecimal digits only",
        })
    }
}

impl Round {
    /// A round of these questions and nothing else.
    pub fn of(questions: impl IntoIterator<Item = Question>) -> Self {
        Self { questions: questions.into_iter().collect(), ..Self::default() }
    }

    /// The question with that name.
    pub fn question(&self, name: &str) -> Option<&Question> {
        self.questions.iter().find(|question| same(&question.name, name))
    }

    /// The round with a notice more.
    #[must_use]
    pub fn notice(mut self, level: Level, text: Text) -> Self {
        self.notices.push(Notice { level, text });
        self
    }

    /// The round that tells a mechanism's last message to the peer, which has proven to be `login`. See
    /// [`Round::closing`].
    pub fn telling(message: Vec<u8>, login: &str) -> Self {
        Self { closing: Some(login.into()), ..Self::of([Question::token(Some(message))]) }
    }

    /// Whether a peer that can answer `kinds` is able to answer this round: every question that must
    /// be answered outside of groups, and all of at least one group.
    pub fn answerable_by(&self, kinds: &KindSet) -> bool {
        let able = |q: &Question| !q.must_be_answered() || kinds.contains(&q.kind);
        let common = self.questions.iter().filter(|q| q.group.is_none()).all(able);
        let some_group = self.groups.is_empty()
            || self.groups.iter().any(|group| self.in_group(&group.id).all(able));
        common && some_group
    }

    /// The group that these answers choose: the first one answered whole.
    pub fn chosen(&self, answers: &Answers) -> Option<&Group> {
        self.groups.iter().find(|group| self.group_is_whole(group, answers))
    }

    /// Checks answers against this round: only to asked names, each once, of the right shape, within
    /// the limits, and with every required one present. Absent answers with a default are filled in,
    /// except those of alternatives that the peer did not choose.
    pub fn accept(&self, answers: Answers) -> Result<Answers, Misuse> {
        self.fits(&answers)?;
        Ok(self.completed(answers))
    }

    /// Answers that fit, with the defaults of what is not answered.
    #[inline]
    pub(crate) fn completed(&self, answers: Answers) -> Answers {
        match self.questions.iter().all(|question| question.default.is_none()) {
            true => answers,
            false => self.filled(answers),
        }
    }

    fn filled(&self, mut answers: Answers) -> Answers {
        let chosen = self.chosen(&answers).map(|group| group.id.clone());
        for question in self.questions.iter().filter(|q| q.belongs_to(chosen.as_deref())) {
            if let (None, Some(answer)) = (answers.find(&question.name), question.by_default()) {
                answers.push(question.name.clone(), answer);
            }
        }
        answers
    }

    /// The same, without taking them.
    pub(crate) fn fits(&self, answers: &Answers) -> Result<(), Misuse> {
        for (index, (name, answer)) in answers.iter().enumerate() {
            let question = self
                .question_near(index, name)
                .ok_or_else(|| Misuse::NotAsked { question: name.to_owned() })?;
            if answers.iter().take(index).any(|(earlier, _)| same(earlier, name)) {
                return Err(Misuse::Twice { question: name.to_owned() });
            }
            question.check(answer)?;
        }
        // By what the peer gave: a default completes a choice of the peer's, it never makes one.
        let chosen = self.chosen(answers).map(|group| &*group.id);
        for (index, question) in self.questions.iter().enumerate() {
            let may_be_absent = question.optional
                || question.kind == CredentialKind::Trust
                || !question.belongs_to(chosen);
            if !may_be_absent
                && answers.find_near(index, &question.name).is_none()
                && question.by_default().is_none()
            {
                return Err(Misuse::Missing { question: question.name.to_string() });
            }
        }
        if !self.groups.is_empty() && chosen.is_none() {
            let groups = self.groups.iter().map(|g| &*g.id).collect::<Vec<_>>().join(", ");
            return Err(Misuse::NoGroup { groups });
        }
        Ok(())
    }

    /// The question of that name, first looked for where an answer in the order of the round has it.
    fn question_near(&self, index: usize, name: &str) -> Option<&Question> {
        let there = self.questions.get(index).filter(|question| same(&question.name, name));
        there.or_else(|| self.question(name))
    }

    fn in_group<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Question> {
        self.questions.iter().filter(move |q| q.group.as_deref() == Some(id))
    }

    fn group_is_whole(&self, group: &Group, answers: &Answers) -> bool {
        let mut any = false;
        for question in self.in_group(&group.id) {
            match answers.find(&question.name) {
                Some(Answer::Declined) => return false,
                Some(_) => any = true,
                None if question.must_be_answered() => return false,
                None => {}
            }
        }
        any
    }
}

impl Question {
    /// A question with the prompt and limits that its kind usually has.
    pub fn new(name: impl Into<Cow<'static, str>>, kind: CredentialKind, prompt: Text) -> Self {
        let limits = match kind {
            CredentialKind::Username | CredentialKind::AuthName | CredentialKind::Realm => {
                Limits::NAME
            }
            CredentialKind::Token | CredentialKind::Assertion => Limits::TOKEN,
            _ => Limits::SECRET,
        };
        Self {
            name: name.into(),
            kind,
            prompt,
            challenge: None,
            default: None,
            group: None,
            optional: false,
            options: Vec::new(),
            limits,
        }
    }

    /// `username`: who the peer says it is.
    pub fn username() -> Self {
        let prompt = Text::message("prompt.username", "User name");
        Self::new("username", CredentialKind::AuthName, prompt)
    }

    /// `authzid`: who the peer wants to act as. Optional.
    pub fn authzid() -> Self {
        let prompt = Text::message("prompt.authzid", "Act as");
        let mut question = Self::new("authzid", CredentialKind::Username, prompt);
        question.optional = true;
        question.limits.min = 0;
        question
    }

    /// `password`.
    pub fn password() -> Self {
        let prompt = Text::message("prompt.password", "Password");
        Self::new("password", CredentialKind::Passphrase, prompt)
    }

    /// `new-password`: a password to be set.
    pub fn new_password() -> Self {
        let prompt = Text::message("prompt.new-password", "New password");
        Self::new("new-password", CredentialKind::NewPassphrase, prompt)
    }

    /// `otp`: a one-time code.
    pub fn otp() -> Self {
        let prompt = Text::message("prompt.otp", "One-time code");
        let mut question = Self::new("otp", CredentialKind::Otp, prompt);
        question.limits = Limits { min: 1, max: 64, charset: Charset::Alphanumeric };
        question
    }

    /// `token`: one opaque message of a mechanism.
    pub fn token(challenge: Option<Vec<u8>>) -> Self {
        let mut question = Self::new("token", CredentialKind::Token, Text::default());
        question.challenge = challenge.map(Challenge::Bytes);
        question
    }

    /// The question, in a group.
    #[must_use]
    pub fn in_group(mut self, id: impl Into<Cow<'static, str>>) -> Self {
        self.group = Some(id.into());
        self
    }

    /// The question, free to be left unanswered.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// The question with a default.
    #[must_use]
    pub fn with_default(mut self, default: impl Into<Cow<'static, str>>) -> Self {
        self.default = Some(default.into());
        self
    }

    /// Whether leaving it out is a mistake. Trust left out means no, so it may always be left out.
    pub fn must_be_answered(&self) -> bool {
        !self.optional && self.default.is_none() && self.kind != CredentialKind::Trust
    }

    /// Whether `answer` fits this question.
    pub fn check(&self, answer: &Answer) -> Result<(), Misuse> {
        let wrong = |why| Err(Misuse::Unfit { question: self.name.to_string(), why });
        match (self.kind.shape(), answer) {
            (_, Answer::Declined) | (Shape::YesNo, Answer::Confirmed(_)) => Ok(()),
            (Shape::Value, Answer::Value(value)) => {
                self.limits.violated_by(value.expose()).map_or(Ok(()), wrong)
            }
            (Shape::Option, Answer::Choice(index)) if *index < self.options.len() => Ok(()),
            (Shape::Option, Answer::Choice(_)) => wrong("there is no such option"),
            (Shape::Value, _) => wrong("it must be a text"),
            (Shape::YesNo, _) => wrong("it must be yes or no (true or false)"),
            (Shape::Option, _) => wrong("it must be the index of an option"),
        }
    }

    /// The default as an answer; `None` when it does not fit its own question, so that an exchange may
    /// rely on every answer that it sees.
    fn by_default(&self) -> Option<Answer> {
        let default = self.default.as_deref()?;
        let answer = match self.kind.shape() {
            Shape::Value => Answer::from(default),
            // Saying yes is never a default.
            Shape::YesNo => Answer::Confirmed(false),
            Shape::Option => Answer::Choice(default.parse().ok()?),
        };
        self.check(&answer).is_ok().then_some(answer)
    }

    /// Whether it is asked of whoever chose this group, or none.
    fn belongs_to(&self, chosen: Option<&str>) -> bool {
        self.group.is_none() || self.group.as_deref() == chosen
    }
}

/// An answer that does not fit what was asked. The round stays open; the peer may try again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Misuse {
    /// An answer to something that was not asked.
    NotAsked {
        /// The name given.
        question: String,
    },
    /// Two answers to one question.
    Twice {
        /// The question.
        question: String,
    },
    /// A required answer is missing.
    Missing {
        /// The question.
        question: String,
    },
    /// No alternative is answered whole.
    NoGroup {
        /// The alternatives.
        groups: String,
    },
    /// An answer does not fit its question.
    Unfit {
        /// The question.
        question: String,
        /// What is wrong with the answer; never the answer itself.
        why: &'static str,
    },
    /// An answer to another round than the open one.
    Stale {
        /// The round that was answered.
        given: u16,
        /// The round that is open.
        open: u16,
    },
    /// The conversation is over, or another request is answering it right now.
    Closed,
}

impl std::fmt::Display for Misuse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotAsked { question } => write!(f, "`{question}` was not asked"),
            Self::Twice { question } => write!(f, "`{question}` is answered twice"),
            Self::Missing { question } => write!(f, "`{question}` is not answered"),
            Self::NoGroup { groups } => {
                write!(f, "answer all questions of one of the alternatives: {groups}")
            }
            Self::Unfit { question, why } => {
                write!(f, "the answer to `{question}` is unfit: {why}")
            }
            Self::Stale { given, open } => {
                write!(f, "round {given} was answered, but round {open} is open")
            }
            Self::Closed => f.write_str("this conversation is over; begin another"),
        }
    }
}

impl std::error::Error for Misuse {}

#[cfg(test)]
mod tests {
    use super::*;

    fn password_round() -> Round {
        Round::of([Question::username(), Question::password()])
    }

    #[test]
    fn takes_what_was_asked_and_nothing_else() {
        let round = password_round();
        let good = Answers::new().with("username", "ada").with("password", "");
        assert!(round.accept(good).is_ok());
        let missing = Answers::new().with("username", "ada");
        assert_eq!(
            round.accept(missing).unwrap_err(),
            Misuse::Missing { question: "password".into() }
        );
        let extra = Answers::new().with("username", "a").with("password", "b").with("otp", "1");
        assert_eq!(round.accept(extra).unwrap_err(), Misuse::NotAsked { question: "otp".into() });
        let twice = Answers::new().with("username", "a").with("username", "b");
        assert_eq!(round.accept(twice).unwrap_err(), Misuse::Twice { question: "username".into() });
    }

    #[test]
    fn names_have_no_control_characters() {
        let round = password_round();
        for bad in ["", "a\tb", "a\u{0}", "a\u{85}b"] {
            let answers = Answers::new().with("username", bad).with("password", "x");
            assert!(matches!(round.accept(answers), Err(Misuse::Unfit { .. })), "{bad:?}");
        }
    }

    #[test]
    fn any_one_group_whole() {
        let mut round = Round::of([
            Question::otp().in_group("code"),
            Question::new("pin", CredentialKind::Pin, Text::default()).in_group("card"),
            Question::new("card", CredentialKind::EchoPrompt, Text::default()).in_group("card"),
        ]);
        for id in ["code", "card"] {
            round.groups.push(Group {
                id: id.into(),
                title: Text::default(),
                mechanism: id.into(),
            });
        }
        let code = Answers::new().with("otp", "123456");
        assert_eq!(round.chosen(&code).unwrap().id, "code");
        assert!(round.accept(code).is_ok());
        let half = Answers::new().with("pin", "1234");
        assert!(matches!(round.accept(half), Err(Misuse::NoGroup { .. })));
        assert!(matches!(round.accept(Answers::new()), Err(Misuse::NoGroup { .. })));
        assert!(round.answerable_by(&KindSet::none().with(CredentialKind::Otp)));
        assert!(!round.answerable_by(&KindSet::none().with(CredentialKind::Pin)));
    }

    #[test]
    fn defaults_fill_absent_answers_only_and_never_say_yes() {
        let round = Round::of([
            Question::new("realm", CredentialKind::Realm, Text::default()).with_default("EXAMPLE"),
            Question::new("trust", CredentialKind::Trust, Text::default()).with_default("true"),
        ]);
        let filled = round.accept(Answers::new()).unwrap();
        assert_eq!(filled.text("realm"), Some("EXAMPLE"));
        assert!(matches!(filled.find("trust"), Some(Answer::Confirmed(false))));
        let given = round.accept(Answers::new().with("realm", "OTHER")).unwrap();
        assert_eq!(given.text("realm"), Some("OTHER"));
    }
}
