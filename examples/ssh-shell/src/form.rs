//! A round as prompts of keyboard-interactive (RFC 4256), and what was typed as answers.
//!
//! Everything that a round can say is said: title, instruction, notices and feedback go before the prompts; of
//! alternatives the person chooses one first, by its number. The name is the one that SSH has, and is not asked for.

use std::borrow::Cow;
use std::sync::Arc;

use countersign::{
    Answer, Answers, Challenge, CredentialKind, KindSet, Level, Question, Round, Secret,
};

/// What is sent: a heading, words, and prompts with whether what is typed may be shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompts {
    /// The heading.
    pub name: String,
    /// What to know before the answers.
    pub instruction: String,
    /// What is asked.
    pub prompts: Vec<(String, bool)>,
}

/// A round that is being filled in.
#[derive(Debug)]
pub struct Form {
    round: Arc<Round>,
    user: Box<str>,
    /// The alternatives that can be answered by typing.
    groups: Vec<Cow<'static, str>>,
    stage: Stage,
    /// How often what was typed did not do.
    slips: u8,
}

#[derive(Debug)]
enum Stage {
    /// Which of several alternatives.
    Choosing,
    /// The questions of one, or of a round without.
    Filling(Option<Cow<'static, str>>),
}

/// What came of what was typed.
#[derive(Debug)]
pub enum Filled {
    /// All of it.
    Answers(Answers),
    /// There is more to ask, or the same again.
    More(Prompts),
    /// What was sent does not fit what was asked, or not for the third time.
    Unfit(&'static str),
}

/// How often somebody may mistype a choice, or a new password.
const SLIPS: u8 = 3;

/// What can be asked for by a prompt.
pub fn typed() -> KindSet {
    use CredentialKind as K;
    K::all().filter(|kind| !matches!(kind, K::Assertion | K::ClientNonce | K::Token)).collect()
}

impl Form {
    /// A round for a user, with its prompts; nothing if it cannot be answered by typing.
    pub fn new(round: Arc<Round>, user: &str) -> Option<Self> {
        let kinds = typed();
        let able = |q: &Question| !q.must_be_answered() || kinds.contains(&q.kind);
        if !round.questions.iter().filter(|q| q.group.is_none()).all(able) {
            return None;
        }
        let whole =
            |id: &str| round.questions.iter().filter(|q| q.group.as_deref() == Some(id)).all(able);
        let groups = round.groups.iter().filter(|group| whole(&group.id));
        let groups: Vec<_> = groups.map(|group| group.id.clone()).collect();
        let stage = match groups.as_slice() {
            [] if round.groups.is_empty() => Stage::Filling(None),
            [] => return None,
            [only] => Stage::Filling(Some(only.clone())),
            _ => Stage::Choosing,
        };
        Some(Self { round, user: user.into(), groups, stage, slips: 0 })
    }

    /// What to show; nothing when there is nothing to say and nothing to ask.
    pub fn prompts(&self, note: Option<&str>) -> Option<Prompts> {
        let prompts = match &self.stage {
            Stage::Choosing => {
                vec![("How do you want to go on? [1] ".to_owned(), true)]
            }
            Stage::Filling(_) => self.asked().flat_map(|question| self.lines(question)).collect(),
        };
        let name = self.round.title.as_ref().map_or_else(String::new, |text| line(text.as_str()));
        let shown = Prompts { name, instruction: self.instruction(note), prompts };
        let silent = shown.prompts.is_empty() && shown.instruction.is_empty();
        (!silent).then_some(shown)
    }

    /// Takes what was typed, in the order of the prompts.
    pub fn fill(&mut self, typed: Vec<Secret>) -> Filled {
        match &self.stage {
            Stage::Choosing => self.choose(&typed),
            Stage::Filling(_) => self.answers(typed.into_iter()),
        }
    }

    /// The answers where nothing is to be typed.
    pub fn empty(&mut self) -> Filled {
        self.answers(std::iter::empty())
    }

    /// The same again, with a word about why.
    pub fn again(&mut self, note: &str) -> Filled {
        self.slips += 1;
        match self.prompts(Some(note)) {
            Some(prompts) if self.slips < SLIPS => Filled::More(prompts),
            _ => Filled::Unfit("too many answers that do not fit"),
        }
    }

    fn choose(&mut self, typed: &[Secret]) -> Filled {
        let [choice] = typed else { return Filled::Unfit("not as many answers as prompts") };
        let chosen = match choice.to_str().map(str::trim) {
            Some("") => Some(0),
            Some(text) => text.parse::<usize>().ok().and_then(|number| number.checked_sub(1)),
            None => None,
        };
        let Some(id) = chosen.and_then(|index| self.groups.get(index)) else {
            return self.again("That is none of the numbers.");
        };
        self.stage = Stage::Filling(Some(id.clone()));
        match self.prompts(None) {
            Some(prompts) => Filled::More(prompts),
            None => self.empty(),
        }
    }

    fn answers(&mut self, mut typed: impl Iterator<Item = Secret>) -> Filled {
        let mut answers = Answers::new();
        let mut note = None;
        for question in self.asked() {
            if is_name(question) {
                answers.push(question.name.clone(), &*self.user);
                continue;
            }
            let given: Vec<_> = typed.by_ref().take(self.lines(question).len()).collect();
            match read(question, &given) {
                Read::Answer(answer) => answers.push(question.name.clone(), answer),
                Read::LeftOut => {}
                Read::Missing => return Filled::Unfit("not as many answers as prompts"),
                Read::Unclear(why) => note = note.or(Some(why)),
            }
        }
        match (typed.next(), note) {
            (Some(_), _) => Filled::Unfit("not as many answers as prompts"),
            (None, Some(note)) => self.again(note),
            (None, None) => Filled::Answers(answers),
        }
    }

    /// The questions in question.
    fn asked(&self) -> impl Iterator<Item = &Question> {
        let group = match &self.stage {
            Stage::Filling(group) => group.as_deref(),
            Stage::Choosing => None,
        };
        let kinds = typed();
        let wanted = move |question: &&Question| {
            let here = question.group.is_none() || question.group.as_deref() == group;
            // To act as another, nobody is asked; and what cannot be typed may be left out, or this is no form.
            let acts = question.kind == CredentialKind::Username && !question.must_be_answered();
            here && !acts && kinds.contains(&question.kind)
        };
        self.round.questions.iter().filter(wanted)
    }

    /// The prompts of a question.
    fn lines(&self, question: &Question) -> Vec<(String, bool)> {
        if is_name(question) {
            return Vec::new();
        }
        let (label, echo) = (line(question.prompt.as_str()), question.kind.echo());
        let label = if label.is_empty() { line(&question.name) } else { label };
        let hint = match (&question.default, echo) {
            (Some(default), true) => format!(" [{}]", line(default)),
            (Some(_), false) => " [Enter: unchanged]".to_owned(),
            (None, _) if question.optional => " (optional)".to_owned(),
            (None, _) => String::new(),
        };
        match question.kind {
            CredentialKind::NewPassphrase => {
                vec![(format!("{label}{hint}: "), false), (format!("{label} again: "), false)]
            }
            CredentialKind::Confirm | CredentialKind::Trust => {
                vec![(format!("{label} (yes/no) "), true)]
            }
            CredentialKind::Choice => {
                vec![(format!("{label} [1-{}]{hint}: ", question.options.len()), true)]
            }
            CredentialKind::External => {
                vec![(format!("{label}: press Enter when it is done "), true)]
            }
            _ => vec![(format!("{label}{hint}: "), echo)],
        }
    }

    fn instruction(&self, note: Option<&str>) -> String {
        let mut lines = Vec::new();
        if let Some(text) = &self.round.instruction {
            lines.push(paragraph(text.as_str()));
        }
        for notice in &self.round.notices {
            let mark = match notice.level {
                Level::Info => "",
                Level::Warning => "Warning: ",
                Level::Error => "Error: ",
            };
            lines.push(format!("{mark}{}", paragraph(notice.text.as_str())));
        }
        if let Some(feedback) = &self.round.feedback {
            let left = match feedback.tries_left {
                Some(1) => " (1 try left)".to_owned(),
                Some(tries) => format!(" ({tries} tries left)"),
                None => String::new(),
            };
            lines.push(format!("{}{left}", paragraph(feedback.text.as_str())));
        }
        if let Stage::Choosing = self.stage {
            let title = |id: &Cow<'static, str>| {
                let group = self.round.groups.iter().find(|group| group.id == *id);
                group.map_or_else(String::new, |group| line(group.title.as_str()))
            };
            let numbered = self.groups.iter().map(title).enumerate();
            lines.extend(numbered.map(|(index, title)| format!("{}) {title}", index + 1)));
        } else {
            for question in self.asked() {
                if let Some(Challenge::Text(text)) = &question.challenge {
                    lines.push(paragraph(text));
                }
                let options = question.options.iter().map(|text| line(text.as_str())).enumerate();
                lines.extend(options.map(|(index, text)| format!("{}) {text}", index + 1)));
            }
        }
        lines.extend(note.map(str::to_owned));
        lines.join("\n")
    }
}

enum Read {
    Answer(Answer),
    LeftOut,
    Missing,
    Unclear(&'static str),
}

/// What was typed for a question.
fn read(question: &Question, given: &[Secret]) -> Read {
    let Some(first) = given.first() else { return Read::Missing };
    let word = || first.to_str().map(str::trim);
    let yes = || word().is_some_and(|text| ["y", "yes"].contains(&&*text.to_ascii_lowercase()));
    match question.kind {
        CredentialKind::Trust | CredentialKind::Confirm => Read::Answer(Answer::Confirmed(yes())),
        CredentialKind::External => Read::Answer(Answer::from("")),
        _ if first.is_empty() && (question.optional || question.default.is_some()) => Read::LeftOut,
        CredentialKind::Choice => {
            let number = word().and_then(|text| text.parse::<usize>().ok());
            let chosen = number.and_then(|number| number.checked_sub(1));
            match chosen.filter(|index| *index < question.options.len()) {
                Some(index) => Read::Answer(Answer::Choice(index)),
                None => Read::Unclear("That is none of the numbers."),
            }
        }
        CredentialKind::NewPassphrase => match given {
            [first, again] if first == again => Read::Answer(Answer::Value(first.clone())),
            [_, _] => Read::Unclear("These were two different passwords."),
            _ => Read::Missing,
        },
        _ => Read::Answer(Answer::Value(first.clone())),
    }
}

fn is_name(question: &Question) -> bool {
    question.kind == CredentialKind::AuthName
        || question.kind == CredentialKind::Username && question.must_be_answered()
}

/// Text on one line, without what a terminal would obey.
fn line(text: &str) -> String {
    text.split(|letter: char| letter.is_control()).collect::<Vec<_>>().join(" ").trim().to_owned()
}

/// The same, with its line breaks.
fn paragraph(text: &str) -> String {
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use countersign::{Feedback, Group, Text};

    use super::*;

    fn form(round: Round) -> Form {
        Form::new(Arc::new(round), "ada").expect("it can be answered")
    }

    fn fill(form: &mut Form, typed: &[&str]) -> Filled {
        form.fill(typed.iter().map(|text| Secret::from(*text)).collect())
    }

    fn alternatives() -> Round {
        let mut round = Round::of([
            Question::username(),
            Question::password().in_group("password"),
            Question::otp().in_group("otp"),
            Question::new("passkey", CredentialKind::Assertion, Text::default())
                .in_group("passkey"),
        ]);
        for (id, title) in [("passkey", "Passkey"), ("password", "Password"), ("otp", "Code")] {
            let title = Text::verbatim(title);
            round.groups.push(Group { id: id.into(), title, mechanism: id.into() });
        }
        round
    }

    #[test]
    fn everything_that_a_round_says_is_said() {
        let mut round =
            Round::of([Question::username(), Question::password(), Question::authzid()])
                .notice(Level::Warning, Text::verbatim("the disk\u{1b}[2J is full"));
        round.title = Some(Text::verbatim("Example"));
        round.instruction = Some(Text::verbatim("Log in.\nPlease."));
        let text = Text::verbatim("That was wrong");
        round.feedback = Some(Feedback { question: None, text, tries_left: Some(1) });
        let mut form = form(round);
        let shown = form.prompts(None).unwrap();
        assert_eq!(shown.name, "Example");
        let expected =
            "Log in.\nPlease.\nWarning: the disk [2J is full\nThat was wrong (1 try left)";
        assert_eq!(shown.instruction, expected);
        assert_eq!(shown.prompts, [("Password: ".to_owned(), false)]);
        let Filled::Answers(answers) = fill(&mut form, &["countess"]) else { panic!() };
        assert_eq!(answers.text("username"), Some("ada"));
        assert_eq!((answers.text("password"), answers.text("authzid")), (Some("countess"), None));
    }

    #[test]
    fn one_of_several_is_chosen_by_its_number() {
        let mut form = form(alternatives());
        let shown = form.prompts(None).unwrap();
        assert_eq!(shown.instruction, "1) Password\n2) Code", "what cannot be typed is not there");
        assert_eq!(shown.prompts.len(), 1);
        let Filled::More(again) = fill(&mut form, &["3"]) else { panic!() };
        assert!(again.instruction.contains("none of the numbers"));
        let Filled::More(code) = fill(&mut form, &["2"]) else { panic!() };
        assert_eq!(code.prompts, [("One-time code: ".to_owned(), false)]);
        let Filled::Answers(answers) = fill(&mut form, &["123456"]) else { panic!() };
        assert_eq!((answers.text("otp"), answers.text("password")), (Some("123456"), None));
    }

    #[test]
    fn a_person_may_slip_twice() {
        let mut form = form(alternatives());
        assert!(matches!(fill(&mut form, &["x"]), Filled::More(_)));
        assert!(matches!(fill(&mut form, &["0"]), Filled::More(_)));
        assert!(matches!(fill(&mut form, &["9"]), Filled::Unfit(_)));
    }

    #[test]
    fn as_many_answers_as_prompts() {
        for typed in [&[][..], &["a", "b"]] {
            let mut form = form(Round::of([Question::password()]));
            assert!(matches!(fill(&mut form, typed), Filled::Unfit(_)), "{typed:?}");
        }
        let mut choosing = form(alternatives());
        assert!(matches!(fill(&mut choosing, &["1", "2"]), Filled::Unfit(_)));
    }

    #[test]
    fn every_kind_that_can_be_typed() {
        let text = |what: &'static str| Text::verbatim(what);
        let mut choice = Question::new("colour", CredentialKind::Choice, text("Colour"));
        choice.options = vec![text("red"), text("blue")];
        let round = Round::of([
            Question::new_password(),
            Question::new("sure", CredentialKind::Confirm, text("Sure?")),
            Question::new("realm", CredentialKind::Realm, text("Realm")).with_default("EXAMPLE"),
            Question::new("note", CredentialKind::EchoPrompt, text("Note")).optional(),
            choice,
            Question::new("phone", CredentialKind::External, text("Look at your phone")),
        ]);
        let mut form = form(round);
        let shown = form.prompts(None).unwrap();
        let echoes: Vec<_> = shown.prompts.iter().map(|(_, echo)| *echo).collect();
        assert_eq!(echoes, [false, false, true, true, true, true, true]);
        assert_eq!(shown.instruction, "1) red\n2) blue");
        let typed = ["n", "m", "yes", "", "", "2", ""];
        let Filled::More(again) = fill(&mut form, &typed) else { panic!() };
        assert!(again.instruction.contains("two different passwords"));
        let Filled::Answers(answers) = fill(&mut form, &["n", "n", "Y", "", "", "2", ""]) else {
            panic!()
        };
        assert_eq!(answers.text("new-password"), Some("n"));
        assert_eq!(answers.find("sure"), Some(&Answer::Confirmed(true)));
        assert_eq!(answers.find("colour"), Some(&Answer::Choice(1)));
        assert_eq!(answers.text("phone"), Some(""));
        assert!(answers.find("realm").is_none() && answers.find("note").is_none());
    }

    #[test]
    fn what_cannot_be_typed_is_no_form_and_what_need_not_be_is_no_prompt() {
        let assertion = Question::new("assertion", CredentialKind::Assertion, Text::default());
        assert!(Form::new(Arc::new(Round::of([assertion.clone()])), "ada").is_none());
        assert!(Form::new(Arc::new(Round::of([Question::key()])), "ada").is_none());
        let mut silent = form(Round::of([Question::username(), assertion.optional()]));
        assert_eq!(silent.prompts(None), None);
        let Filled::Answers(answers) = silent.empty() else { panic!() };
        assert_eq!(answers.text("username"), Some("ada"));
        let told = form(Round::default().notice(Level::Info, Text::verbatim("hello")));
        assert_eq!(told.prompts(None).unwrap().prompts, []);
    }
}
