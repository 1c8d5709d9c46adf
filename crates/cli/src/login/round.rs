//! A round from its JSON: the reverse of what the server shows.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::{
    Challenge, Charset, CredentialKind, Feedback, Group, Level, Limits, Notice, Question, Round,
    Text,
};
use countersign_server::front::http::{
    ChallengeView, FeedbackView, GroupChoice, LimitsView, NoticeView, QuestionView, RoundView,
    TextView,
};

/// The round of a view.
///
/// # Errors
/// What in it cannot be: it came from the network.
pub(super) fn from_view(view: RoundView) -> Result<Round, String> {
    let RoundView { number: _, title, instruction, notices, questions, groups, feedback } = view;
    Ok(Round {
        title: title.map(text),
        instruction: instruction.map(text),
        notices: notices.into_iter().map(notice).collect(),
        questions: questions.into_iter().map(question).collect::<Result<_, _>>()?,
        groups: groups.into_iter().map(group).collect(),
        feedback: feedback.map(self::feedback),
        closing: None,
    })
}

/// Ids are for translators; here is none.
fn text(view: TextView) -> Text {
    Text::verbatim(view.text)
}

fn notice(view: NoticeView) -> Notice {
    let level = match &*view.level {
        "error" => Level::Error,
        "warning" => Level::Warning,
        _ => Level::Info,
    };
    Notice { level, text: text(view.text) }
}

fn question(view: QuestionView) -> Result<Question, String> {
    let QuestionView {
        name,
        kind,
        prompt,
        echo,
        optional,
        challenge,
        default,
        group,
        options,
        limits,
    } = view;
    let mut kind = CredentialKind::from_name(&kind);
    // Whatever this version makes of the kind, what the server calls a secret is not shown.
    if !echo && kind.echo() {
        kind = CredentialKind::NoEchoPrompt;
    }
    let mut question = Question::new(name, kind, text(prompt));
    question.challenge = challenge.map(self::challenge).transpose()?;
    question.default = default.map(Into::into);
    question.group = group.map(Into::into);
    question.optional = optional;
    question.options = options.into_iter().map(text).collect();
    question.limits = self::limits(&limits);
    Ok(question)
}

fn challenge(view: ChallengeView) -> Result<Challenge, String> {
    Ok(match view {
        ChallengeView::Text(text) => Challenge::Text(text),
        ChallengeView::Json(text) => Challenge::Json(text),
        ChallengeView::Base64(text) => Challenge::Bytes(
            STANDARD.decode(text).map_err(|_| "the server sent a challenge that is no base64")?,
        ),
    })
}

fn limits(view: &LimitsView) -> Limits {
    let charset = match &*view.charset {
        "name" => Charset::Name,
        "decimal" => Charset::Decimal,
        "alphanumeric" => Charset::Alphanumeric,
        "hex" => Charset::Hex,
        // The server checks again, and knows what a later version means.
        _ => Charset::Bytes,
    };
    Limits { min: view.min, max: view.max, charset }
}

fn group(view: GroupChoice) -> Group {
    let GroupChoice { id, title, mechanism } = view;
    Group { id: id.into(), title: text(title), mechanism: mechanism.into() }
}

fn feedback(view: FeedbackView) -> Feedback {
    let FeedbackView { question, text, tries_left } = view;
    Feedback { question: question.map(Into::into), text: self::text(text), tries_left }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use countersign::Ask;

    use super::*;

    #[test]
    fn a_round_comes_back_as_it_went() {
        let verbatim = Text::verbatim;
        let mut choice =
            Question::new("device", CredentialKind::Choice, verbatim("Which")).in_group("g");
        choice.options = vec![verbatim("phone"), verbatim("key")];
        choice.challenge = Some(Challenge::Bytes(vec![0xff, 0]));
        let mut otp = Question::otp().optional().with_default("1");
        otp.prompt = verbatim("Code");
        let mut round = Round::of([otp, choice]).notice(Level::Warning, verbatim("soon"));
        round.title = Some(verbatim("Mail"));
        round.groups.push(Group {
            id: "g".into(),
            title: verbatim("By device"),
            mechanism: "device".into(),
        });
        round.feedback = Some(Feedback {
            question: Some("otp".into()),
            text: verbatim("no"),
            tries_left: Some(2),
        });
        let view = RoundView::of(&Ask { number: 3, round: Arc::new(round.clone()) });
        assert_eq!(from_view(view).unwrap(), round);
    }

    #[test]
    fn a_secret_of_a_kind_that_is_unknown_is_not_shown() {
        let round =
            Round::of([Question::new("x", CredentialKind::EchoPrompt, Text::verbatim("X"))]);
        let mut view = RoundView::of(&Ask { number: 1, round: Arc::new(round) });
        view.questions[0].kind = "retina".into();
        view.questions[0].echo = false;
        assert!(!from_view(view).unwrap().questions[0].kind.echo());
    }
}
