//! A round as the fields of a form. Any round: what this page does not know by name it knows by kind, and
//! what no page can ask it says.

use countersign::{Ask, Challenge, Charset, CredentialKind as Kind, Level, Misuse, Question};
use serde::Serialize;

use super::form::{Shape, field_name};
use super::language::{LANGUAGES, Language};

/// A round, ready for the template.
#[derive(Debug, Serialize)]
pub(super) struct Sheet {
    number: u16,
    title: Option<String>,
    instruction: Option<String>,
    notices: Vec<Told>,
    /// What was wrong before, if it is about no question in particular.
    feedback: Option<String>,
    tries: Option<String>,
    /// The questions that are asked in any case.
    fields: Vec<Field>,
    /// Alternatives: all questions of one are answered.
    groups: Vec<Alternative>,
    /// Whether a button of its own ends the form.
    button: bool,
    /// Addresses that pressing a button may lead to.
    #[serde(skip)]
    pub(super) away: Vec<String>,
}

/// Something to be told, with its level.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    pub(super) level: &'static str,
    pub(super) text: String,
}

/// One way to go on.
#[derive(Debug, Serialize)]
struct Alternative {
    index: usize,
    title: String,
    fields: Vec<Field>,
    /// Chosen by a button, and asked when it is: a key that signs, another site.
    opens: bool,
    wrong: bool,
}

/// One question.
#[derive(Debug, Default, Serialize)]
struct Field {
    id: String,
    name: String,
    /// What the template makes of it.
    look: &'static str,
    label: String,
    kind: &'static str,
    value: String,
    options: Vec<Choice>,
    required: bool,
    optional: bool,
    max: u32,
    pattern: &'static str,
    inputmode: &'static str,
    autocomplete: &'static str,
    /// The name of the second field of a new password.
    again: String,
    /// The name of a second field for codes with letters, where the first has the keys of a telephone.
    letters: String,
    error: Option<String>,
    /// What the answer is about: text to be shown, or a key's challenge.
    challenge: Option<String>,
    focus: bool,
}

#[derive(Debug, Serialize)]
struct Choice {
    value: String,
    label: String,
    chosen: bool,
}

/// What a page knows of a round besides the round.
#[derive(Debug, Default)]
pub(super) struct Context<'a> {
    /// The user name, where it has been given before.
    pub(super) user: Option<&'a str>,
    /// What is wrong with an answer, by question.
    pub(super) error: Option<(&'a str, String)>,
    /// Only this way is shown: an alternative, or with `None` within what is asked in any case.
    pub(super) opened: Option<Option<usize>>,
    /// Whether a login waits for the answers: then a challenge is good, and a key can be asked for at once.
    pub(super) waits: bool,
}

impl Sheet {
    /// The sheet of a round in a language.
    pub(super) fn of(ask: &Ask, language: &Language, context: &Context<'_>) -> Self {
        let round = &ask.round;
        let say = |text: &countersign::Text| Some(language.text(text).to_owned());
        let mut sheet = Self {
            number: ask.number,
            title: round.title.as_ref().and_then(say),
            instruction: round.instruction.as_ref().and_then(say),
            notices: Vec::new(),
            feedback: None,
            tries: None,
            fields: Vec::new(),
            groups: Vec::new(),
            button: true,
            away: Vec::new(),
        };
        for notice in &round.notices {
            let text = language.text(&notice.text).to_owned();
            sheet.notices.push(Told { level: level(notice.level), text });
        }
        let mut error = context.error.clone();
        if let Some(feedback) = &round.feedback {
            let text = language.text(&feedback.text).to_owned();
            match feedback.question.as_deref().filter(|name| round.question(name).is_some()) {
                Some(name) => error = error.or(Some((name, text))),
                None => sheet.feedback = Some(text),
            }
            sheet.tries = feedback.tries_left.map(|tries| match tries {
                1 => language.say("tries.one").into_owned(),
                tries => language.say_of("tries.many", tries),
            });
        }
        let opened = |group| context.opened.is_none_or(|opened| opened == group);
        let mut make = |question: &Question, group: Option<usize>, place: usize| {
            let wrong = error.as_ref().filter(|(name, _)| *name == question.name);
            let wrong = wrong.map(|(_, text)| text.clone());
            if let Some(address) = elsewhere(question) {
                sheet.away.push(address.to_owned());
            }
            field(question, group, place, language, context, wrong)
        };
        let common = round.questions.iter().filter(|question| question.group.is_none());
        let common: Vec<_> = common.enumerate().map(|(n, q)| make(q, None, n)).collect();
        for (index, group) in round.groups.iter().enumerate().filter(|(i, _)| opened(Some(*i))) {
            let of_it = |q: &&Question| q.group.as_deref() == Some(&*group.id);
            let questions = round.questions.iter().filter(of_it).enumerate();
            let fields: Vec<_> =
                questions.map(|(n, question)| make(question, Some(index), n)).collect();
            let opens = fields.iter().any(|field| field.opens(context));
            sheet.groups.push(Alternative {
                index,
                title: language.text(&group.title).to_owned(),
                opens,
                wrong: fields.iter().any(|field| field.error.is_some()),
                fields,
            });
        }
        sheet.button = sheet.groups.is_empty();
        sheet.fields = common;
        sheet.focus();
        sheet
    }

    /// Whether the only way on is a button that opens it.
    pub(super) fn opens(&self, context: &Context<'_>) -> bool {
        self.groups.is_empty() && self.fields.iter().any(|field| field.opens(context))
    }

    /// The first field with an error gets the focus, else the first that is empty.
    fn focus(&mut self) {
        let first = self.groups.first_mut().filter(|group| !group.opens);
        let first = first.into_iter().flat_map(|group| &mut group.fields);
        let mut fields: Vec<_> = self.fields.iter_mut().chain(first).collect();
        let wrong = fields.iter().position(|field| field.error.is_some());
        let empty = || fields.iter().position(|field| field.value.is_empty());
        if let Some(field) = wrong.or_else(empty).and_then(|at| fields.get_mut(at)) {
            field.focus = true;
        }
    }
}

impl Field {
    /// Whether it is asked only when somebody presses its button: a key whose challenge would be nobody's,
    /// and another site.
    fn opens(&self, context: &Context<'_>) -> bool {
        match self.look {
            "key" => !context.waits && context.opened.is_none(),
            "away" => true,
            _ => false,
        }
    }
}

/// The address of another site that a question is answered at.
pub(super) fn elsewhere(question: &Question) -> Option<&str> {
    match (&question.kind, &question.challenge) {
        (Kind::External, Some(Challenge::Text(address))) => {
            let plain = address.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
            let web = address.starts_with("https://") || address.starts_with("http://");
            (plain && web).then_some(address)
        }
        _ => None,
    }
}

/// What is wrong with the answers, in words: the question and the sentence.
pub(super) fn wrong<'m>(misuse: &'m Misuse, language: &Language) -> (Option<&'m str>, String) {
    let say = |id| language.say(id).into_owned();
    match misuse {
        Misuse::Missing { question } => (Some(question), language.say("misuse.missing").into()),
        Misuse::Unfit { question, why } => (
            Some(question),
            match *why {
                "it is empty" => language.say("misuse.missing").into(),
                "it is too short" => language.say("misuse.short").into(),
                "it is too long" => language.say("misuse.long").into(),
                "it must be digits only" => language.say("misuse.digits").into(),
                "it must be letters and digits only" => language.say("misuse.letters").into(),
                _ => language.say("misuse.unfit").into(),
            },
        ),
        Misuse::NoGroup { .. } => (None, language.say("misuse.no-group").into()),
        _ => (None, say("misuse.unfit")),
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Error => "error",
    }
}

fn field(
    question: &Question,
    group: Option<usize>,
    place: usize,
    language: &Language,
    context: &Context<'_>,
    error: Option<String>,
) -> Field {
    let (look, shape) = look(question);
    let label = language.text(&question.prompt);
    let label = if label.is_empty() { question.name.to_string() } else { label.to_owned() };
    let digits = matches!(question.limits.charset, Charset::Decimal);
    let user = context.user.filter(|_| question.name == "username");
    let mut field = Field {
        id: format!("q{}-{place}", group.map_or("a".to_owned(), |group| group.to_string())),
        name: field_name(group, shape, &question.name),
        look,
        label,
        kind: if question.kind.echo() { "text" } else { "password" },
        value: user.or(question.default.as_deref()).unwrap_or_default().to_owned(),
        // A browser would demand the answers of every alternative.
        required: group.is_none() && question.must_be_answered() && question.limits.min > 0,
        optional: question.optional,
        max: question.limits.max,
        inputmode: if digits { "numeric" } else { "" },
        pattern: if digits { "[0-9 -]*" } else { "" },
        autocomplete: autocomplete(question),
        error,
        challenge: shown(question),
        ..Field::default()
    };
    match question.kind {
        // A code is used up when it is read over a shoulder, and people must see what they type.
        Kind::Otp => {
            (field.kind, field.inputmode) = ("text", "numeric");
            if !digits && !question.optional {
                field.letters = field_name(group, Shape::Letters, &question.name);
                field.required = false;
            }
        }
        Kind::Pin => field.inputmode = if digits { "numeric" } else { "" },
        Kind::NewPassphrase => {
            field.again = field_name(group, Shape::Again, &question.name);
        }
        Kind::Choice => {
            let chosen = question.default.as_deref().and_then(|index| index.parse().ok());
            let options = question.options.iter().enumerate();
            field.options = options
                .map(|(index, text)| Choice {
                    value: index.to_string(),
                    label: language.text(text).to_owned(),
                    chosen: chosen == Some(index),
                })
                .collect();
        }
        Kind::Language => {
            field.options = LANGUAGES
                .iter()
                .map(|one| Choice {
                    value: one.tag.to_owned(),
                    label: one.name.to_owned(),
                    chosen: one.tag == language.tag,
                })
                .collect();
        }
        _ => {}
    }
    // A secret that is known before it is asked for is not written into a page.
    if question.kind.secret() {
        field.value = String::new();
    }
    field
}

/// What the template makes of a question, and how its answer comes back.
fn look(question: &Question) -> (&'static str, Shape) {
    let value = if question.optional || question.default.is_some() {
        Shape::Optional
    } else {
        Shape::Value
    };
    match question.kind {
        Kind::Confirm | Kind::Trust => ("yes-no", Shape::YesNo),
        Kind::Choice if question.options.len() <= 5 => ("radio", Shape::Choice),
        Kind::Choice => ("select", Shape::Choice),
        Kind::Language => ("select", Shape::Language),
        Kind::NewPassphrase => ("new", Shape::New),
        Kind::Otp => ("text", if value == Shape::Optional { value } else { Shape::Code }),
        Kind::Assertion => ("key", Shape::Value),
        Kind::External if elsewhere(question).is_some() => ("away", Shape::Optional),
        Kind::External => ("outside", Shape::Value),
        Kind::Token | Kind::ClientNonce | Kind::Other(_) => ("none", Shape::Optional),
        _ => ("text", value),
    }
}

fn autocomplete(question: &Question) -> &'static str {
    match question.kind {
        Kind::AuthName if question.name == "username" => "username",
        Kind::Passphrase => "current-password",
        Kind::NewPassphrase => "new-password",
        Kind::Otp => "one-time-code",
        _ => "off",
    }
}

/// The challenge, as far as a person or the page's script needs it.
fn shown(question: &Question) -> Option<String> {
    match (&question.kind, &question.challenge) {
        (Kind::Assertion, Some(Challenge::Json(json))) => Some(json.clone()),
        (Kind::External, _) if elsewhere(question).is_some() => None,
        (_, Some(Challenge::Text(text))) => Some(text.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use countersign::{Feedback, Group, Round, Text};

    use super::*;

    fn sheet(round: Round, context: &Context<'_>) -> Sheet {
        let ask = Ask { number: 1, round: Arc::new(round) };
        Sheet::of(&ask, &LANGUAGES[0], context)
    }

    fn asked(kind: Kind) -> Field {
        let round = Round::of([Question::new("q", kind, Text::verbatim("Q"))]);
        sheet(round, &Context::default()).fields.remove(0)
    }

    #[test]
    fn every_kind_has_a_look() {
        for kind in Kind::all().chain([Kind::Other("new".into())]) {
            assert!(!asked(kind.clone()).look.is_empty(), "{kind}");
        }
        let seen: Vec<_> = [Kind::Passphrase, Kind::EchoPrompt, Kind::Otp, Kind::NewPassphrase]
            .map(asked)
            .map(|field| (field.look, field.kind, field.autocomplete))
            .into();
        assert_eq!(
            seen,
            [
                ("text", "password", "current-password"),
                ("text", "text", "off"),
                ("text", "text", "one-time-code"),
                ("new", "password", "new-password"),
            ]
        );
        assert_eq!((asked(Kind::Trust).look, asked(Kind::Token).look), ("yes-no", "none"));
    }

    #[test]
    fn secrets_are_never_written_into_a_page() {
        for kind in [Kind::Passphrase, Kind::Pin, Kind::Otp, Kind::NoEchoPrompt, Kind::Assertion] {
            let question = Question::new("q", kind, Text::default()).with_default("hunter2");
            let sheet = sheet(Round::of([question]), &Context::default());
            assert_eq!(sheet.fields[0].value, "");
        }
        let realm = Question::new("r", Kind::Realm, Text::default()).with_default("EXAMPLE");
        assert_eq!(sheet(Round::of([realm]), &Context::default()).fields[0].value, "EXAMPLE");
    }

    #[test]
    fn feedback_is_at_its_question() {
        let feedback = |question: Option<&'static str>| {
            let mut round = Round::of([Question::username(), Question::otp()]);
            let text = Text::verbatim("wrong code");
            let question = question.map(Into::into);
            round.feedback = Some(Feedback { question, text, tries_left: Some(1) });
            sheet(round, &Context { user: Some("ada"), ..Context::default() })
        };
        let at = feedback(Some("otp"));
        assert_eq!(at.fields[1].error.as_deref(), Some("wrong code"));
        assert_eq!((at.fields[1].focus, at.feedback, &*at.fields[0].value), (true, None, "ada"));
        assert!(at.tries.is_some());
        for question in [None, Some("no-such")] {
            assert_eq!(feedback(question).feedback.as_deref(), Some("wrong code"));
        }
    }

    #[test]
    fn alternatives_are_apart_and_demand_nothing_of_each_other() {
        let mut round = Round::of([
            Question::username(),
            Question::otp().in_group("code"),
            Question::new("key", Kind::Assertion, Text::default()).in_group("key"),
        ]);
        for id in ["code", "key"] {
            let title = Text::verbatim(id);
            round.groups.push(Group { id: id.into(), title, mechanism: id.into() });
        }
        let all = sheet(round.clone(), &Context::default());
        assert_eq!((all.fields.len(), all.groups.len(), all.button), (1, 2, false));
        assert!(!all.groups[0].opens && all.groups[1].opens);
        assert!(all.fields[0].required && !all.groups[0].fields[0].required);
        assert_eq!(all.groups[1].fields[0].name, "1.v.key");
        let one = sheet(round, &Context { opened: Some(Some(1)), ..Context::default() });
        assert_eq!((one.groups.len(), one.groups[0].index, one.groups[0].opens), (1, 1, false));
    }

    #[test]
    fn only_web_addresses_lead_elsewhere() {
        let mut question = Question::new("idp", Kind::External, Text::default());
        for (address, leads) in [
            ("https://idp.example/x?y", true),
            ("javascript:alert(1)", false),
            ("https://idp.example/\nx", false),
            ("press the button", false),
        ] {
            question.challenge = Some(Challenge::Text(address.to_owned()));
            assert_eq!(elsewhere(&question).is_some(), leads, "{address}");
        }
        question.kind = Kind::Passphrase;
        question.challenge = Some(Challenge::Text("https://idp.example/".to_owned()));
        assert_eq!(elsewhere(&question), None);
    }
}
