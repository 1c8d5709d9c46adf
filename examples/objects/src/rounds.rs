//! Rounds and answers, in the words of the schema.

use std::borrow::Cow;

use capnp::Error;
use countersign::{Answer, Answers, Challenge, Charset, KindSet, Level, Public, Secret, Text};
use countersign::{Ask, CredentialKind, Denial};

use crate::objects_capnp::{self as schema, answer, question, round, words};

/// Answers to one round, and kinds that a client names. A round has a few of each.
const MOST: u32 = 64;

/// Writes a round.
pub(crate) fn write(ask: &Ask, mut to: round::Builder<'_>) {
    let round = &*ask.round;
    to.set_number(ask.number);
    if let Some(title) = &round.title {
        say(title, to.reborrow().init_title());
    }
    if let Some(instruction) = &round.instruction {
        say(instruction, to.reborrow().init_instruction());
    }
    let mut notices = to.reborrow().init_notices(count(&round.notices));
    for (at, notice) in (0..).zip(&round.notices) {
        let mut to = notices.reborrow().get(at);
        to.set_level(match notice.level {
            Level::Info => schema::Level::Info,
            Level::Warning => schema::Level::Warning,
            Level::Error => schema::Level::Error,
        });
        say(&notice.text, to.init_text());
    }
    let mut questions = to.reborrow().init_questions(count(&round.questions));
    for (at, question) in (0..).zip(&round.questions) {
        write_question(question, questions.reborrow().get(at));
    }
    let mut groups = to.reborrow().init_groups(count(&round.groups));
    for (at, group) in (0..).zip(&round.groups) {
        let mut to = groups.reborrow().get(at);
        to.set_id(&*group.id);
        to.set_mechanism(&*group.mechanism);
        say(&group.title, to.init_title());
    }
    if let Some(feedback) = &round.feedback {
        let mut to = to.init_feedback();
        to.set_question(feedback.question.as_deref().unwrap_or_default());
        if let Some(tries) = feedback.tries_left {
            to.set_tries_left(i32::try_from(tries).unwrap_or(i32::MAX));
        }
        say(&feedback.text, to.init_text());
    }
}

fn write_question(question: &countersign::Question, mut to: question::Builder<'_>) {
    to.set_name(&*question.name);
    to.set_kind(question.kind.name());
    to.set_echo(question.kind.echo());
    to.set_group(question.group.as_deref().unwrap_or_default());
    to.set_optional(!question.must_be_answered());
    say(&question.prompt, to.reborrow().init_prompt());
    let mut challenge = to.reborrow().init_challenge();
    match &question.challenge {
        None => challenge.set_none(()),
        Some(Challenge::Text(text)) => challenge.set_text(&**text),
        Some(Challenge::Json(text)) => challenge.set_json(&**text),
        Some(Challenge::Bytes(bytes)) => challenge.set_bytes(bytes),
    }
    let mut default = to.reborrow().init_default();
    match question.default.as_deref() {
        None => default.set_absent(()),
        Some(text) => default.set_present(text),
    }
    let mut options = to.reborrow().init_options(count(&question.options));
    for (at, option) in (0..).zip(&question.options) {
        say(option, options.reborrow().get(at));
    }
    to.set_min(question.limits.min);
    to.set_max(question.limits.max);
    to.set_charset(match question.limits.charset {
        Charset::Bytes => schema::Charset::Bytes,
        Charset::Name => schema::Charset::Name,
        Charset::Decimal => schema::Charset::Decimal,
        Charset::Alphanumeric => schema::Charset::Alphanumeric,
        Charset::Hex => schema::Charset::Hex,
    });
}

/// Reads answers. Which of them fit is the conversation's to say.
///
/// # Errors
///
/// When they are too many, or a message is broken.
pub(crate) fn read(list: capnp::struct_list::Reader<'_, answer::Owned>) -> Result<Answers, Error> {
    if list.len() > MOST {
        return Err(Error::failed("too many answers".into()));
    }
    let mut answers = Answers::new();
    for given in list {
        let name = given.get_question()?.to_string()?;
        let answer = match given.which()? {
            answer::Value(bytes) => Answer::Value(Secret::from(bytes?)),
            answer::Choice(index) => Answer::Choice(index as usize),
            answer::Confirmed(yes) => Answer::Confirmed(yes),
            answer::Declined(()) => Answer::Declined,
        };
        answers.push(Cow::Owned(name), answer);
    }
    Ok(answers)
}

/// Reads the kinds that a client can answer; none: all that there are.
///
/// # Errors
///
/// When they are too many, or a message is broken.
pub(crate) fn kinds(list: capnp::text_list::Reader<'_>) -> Result<KindSet, Error> {
    match list.len() {
        0 => return Ok(KindSet::all()),
        1..=MOST => {}
        _ => return Err(Error::failed("too many kinds".into())),
    }
    let kinds = list.iter().map(|name| Ok(CredentialKind::from_name(name?.to_str()?)));
    kinds.collect()
}

/// What a client may learn about a refusal.
pub(crate) fn refusal(denial: &Denial) -> schema::Refusal {
    match denial.public() {
        Public::Denied => schema::Refusal::Denied,
        Public::ChangeNeeded => schema::Refusal::ChangeNeeded,
        Public::TryLater => schema::Refusal::TryLater,
        Public::Unsupported => schema::Refusal::Unsupported,
    }
}

fn say(text: &Text, mut to: words::Builder<'_>) {
    to.set_id(text.id().unwrap_or_default());
    to.set_text(text.as_str());
}

/// Lists here are of a handful; one that were longer than the schema can say is cut.
fn count<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}
