//! How rounds and the ends of logins look as JSON. Everything that a round holds is here: nothing is
//! lost on the way to a renderer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::{
    Ask, Challenge, Charset, Feedback, Group, Level, Limits, Notice, Question, Text,
};
use serde::{Deserialize, Serialize};

use crate::identity::IdentityView;

/// The reply to a request of the conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case", deny_unknown_fields)]
pub enum LoginReply {
    /// Let in.
    Granted {
        /// The session that has begun.
        session: SessionToken,
        /// Who the peer was proven to be.
        identity: IdentityView,
    },
    /// A round to be answered.
    Ask {
        /// The login: the last part of the path to answer at.
        id: String,
        /// The questions.
        round: RoundView,
    },
    /// Refused.
    Denied {
        /// `denied`, `change-needed`, `try-later` or `unsupported`.
        reason: String,
    },
    /// The answers do not fit.
    Misuse {
        /// What is wrong with them.
        error: String,
        /// The login, if it goes on: the round is still open.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        /// The number of the open round, if there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        round: Option<u16>,
    },
}

/// A session's token. It is told once, to who logged in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionToken {
    /// To be sent as `Authorization: Bearer TOKEN`.
    pub token: String,
    /// When the session ends by itself (RFC 3339).
    pub expires: String,
}

impl std::fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionToken").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// A numbered round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundView {
    /// To be given back with the answers.
    pub number: u16,
    /// A heading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<TextView>,
    /// What the person is expected to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instruction: Option<TextView>,
    /// Things to be told before the questions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<NoticeView>,
    /// The questions, in the order to be shown.
    pub questions: Vec<QuestionView>,
    /// Alternatives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupChoice>,
    /// Why this is being asked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feedback: Option<FeedbackView>,
}

/// Text for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextView {
    /// For translators; text from a backend has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// English, or verbatim from a backend.
    pub text: String,
}

/// Something to be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoticeView {
    /// `info`, `warning` or `error`.
    pub level: String,
    /// What.
    pub text: TextView,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuestionView {
    /// The key of its answer.
    pub name: String,
    /// What is asked for.
    pub kind: String,
    /// What to show.
    pub prompt: TextView,
    /// Whether what is typed may be shown.
    pub echo: bool,
    /// Whether it may be left out.
    pub optional: bool,
    /// What the answer must be about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<ChallengeView>,
    /// Used when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// The alternative that it belongs to; none: it is asked whichever is chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// What to choose from, by index.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<TextView>,
    /// What a text answer may look like.
    pub limits: LimitsView,
}

/// A challenge, under the name of its form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChallengeView {
    /// Plain text.
    Text(String),
    /// JSON, as the text that the asker sent: signatures and digests are over its bytes.
    Json(String),
    /// Bytes, in standard base64.
    Base64(String),
}

/// What a text answer may look like, in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsView {
    /// At least.
    pub min: u32,
    /// At most.
    pub max: u32,
    /// `bytes`, `name`, `decimal`, `alphanumeric` or `hex`.
    pub charset: String,
}

/// One alternative.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupChoice {
    /// What questions name.
    pub id: String,
    /// What to call it.
    pub title: TextView,
    /// The mechanism behind it.
    pub mechanism: String,
}

/// What was wrong with the answers before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedbackView {
    /// The question it is about, if about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// What was wrong.
    pub text: TextView,
    /// How many more tries there are, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tries_left: Option<u32>,
}

impl RoundView {
    /// The view of a numbered round.
    pub fn of(ask: &Ask) -> Self {
        let round = &ask.round;
        Self {
            number: ask.number,
            title: round.title.as_ref().map(TextView::of),
            instruction: round.instruction.as_ref().map(TextView::of),
            notices: round.notices.iter().map(NoticeView::of).collect(),
            questions: round.questions.iter().map(QuestionView::of).collect(),
            groups: round.groups.iter().map(GroupChoice::of).collect(),
            feedback: round.feedback.as_ref().map(FeedbackView::of),
        }
    }
}

impl TextView {
    fn of(text: &Text) -> Self {
        Self { id: text.id().map(str::to_owned), text: text.as_str().to_owned() }
    }
}

impl NoticeView {
    fn of(notice: &Notice) -> Self {
        let level = match notice.level {
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        Self { level: level.to_owned(), text: TextView::of(&notice.text) }
    }
}

impl QuestionView {
    fn of(question: &Question) -> Self {
        Self {
            name: question.name.to_string(),
            kind: question.kind.name().to_owned(),
            prompt: TextView::of(&question.prompt),
            echo: question.kind.echo(),
            optional: question.optional,
            challenge: question.challenge.as_ref().map(ChallengeView::of),
            default: question.default.as_ref().map(ToString::to_string),
            group: question.group.as_ref().map(ToString::to_string),
            options: question.options.iter().map(TextView::of).collect(),
            limits: LimitsView::of(&question.limits),
        }
    }
}

impl ChallengeView {
    fn of(challenge: &Challenge) -> Self {
        match challenge {
            Challenge::Text(text) => Self::Text(text.clone()),
            Challenge::Json(text) => Self::Json(text.clone()),
            Challenge::Bytes(bytes) => Self::Base64(STANDARD.encode(bytes)),
        }
    }
}

impl LimitsView {
    fn of(limits: &Limits) -> Self {
        let charset = match limits.charset {
            Charset::Bytes => "bytes",
            Charset::Name => "name",
            Charset::Decimal => "decimal",
            Charset::Alphanumeric => "alphanumeric",
            Charset::Hex => "hex",
        };
        Self { min: limits.min, max: limits.max, charset: charset.to_owned() }
    }
}

impl GroupChoice {
    fn of(group: &Group) -> Self {
        Self {
            id: group.id.to_string(),
            title: TextView::of(&group.title),
            mechanism: group.mechanism.to_string(),
        }
    }
}

impl FeedbackView {
    fn of(feedback: &Feedback) -> Self {
        Self {
            question: feedback.question.as_ref().map(ToString::to_string),
            text: TextView::of(&feedback.text),
            tries_left: feedback.tries_left,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use countersign::{CredentialKind, Round};

    use super::*;

    #[test]
    fn everything_in_a_round_is_shown() {
        let mut choice =
            Question::new("device", CredentialKind::Choice, Text::verbatim("Which")).in_group("g");
        choice.options = vec![Text::verbatim("phone"), Text::message("option.key", "Key")];
        choice.challenge = Some(Challenge::Bytes(vec![0xff, 0]));
        let mut round = Round::of([Question::otp().optional().with_default("1"), choice])
            .notice(Level::Warning, Text::verbatim("soon"));
        round.title = Some(Text::message("title", "Mail"));
        round.groups.push(Group {
            id: "g".into(),
            title: Text::verbatim("By device"),
            mechanism: "device".into(),
        });
        round.feedback = Some(Feedback {
            question: Some("otp".into()),
            text: Text::verbatim("no"),
            tries_left: Some(2),
        });
        let view = RoundView::of(&Ask { number: 3, round: Arc::new(round) });
        let json = serde_json::to_value(&view).unwrap();
        let expected = serde_json::json!({
            "number": 3,
            "title": {"id": "title", "text": "Mail"},
            "notices": [{"level": "warning", "text": {"text": "soon"}}],
            "questions": [
                {
                    "name": "otp", "kind": "otp", "echo": false, "optional": true, "default": "1",
                    "prompt": {"id": "prompt.otp", "text": "One-time code"},
                    "limits": {"min": 1, "max": 64, "charset": "alphanumeric"}
                },
                {
                    "name": "device", "kind": "choice", "echo": true, "optional": false,
                    "prompt": {"text": "Which"}, "group": "g",
                    "options": [{"text": "phone"}, {"id": "option.key", "text": "Key"}],
                    "challenge": {"base64": "/wA="},
                    "limits": {"min": 0, "max": 4096, "charset": "bytes"}
                }
            ],
            "groups": [{"id": "g", "title": {"text": "By device"}, "mechanism": "device"}],
            "feedback": {"question": "otp", "text": {"text": "no"}, "tries_left": 2}
        });
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_value::<RoundView>(json).unwrap(), view);
    }
}
