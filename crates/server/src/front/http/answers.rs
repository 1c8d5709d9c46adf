//! What a login's requests hold, as JSON.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::{Answer, Answers, CredentialKind, KindSet, Secret};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use super::problem::Problem;

/// No round has so many questions.
const ANSWERS: usize = 64;
/// Bytes of the name of a service, a mechanism, a kind or a question.
pub(super) const NAME_BYTES: usize = 255;

/// The body of `POST /v1/login`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// What the login is for; a policy key. `http` when absent.
    #[serde(default = "http")]
    pub service: String,
    /// The mechanism; absent: whatever both sides can do.
    pub mechanism: Option<String>,
    /// Answers that are known already, by question name. Each is used once.
    #[serde(default)]
    pub answers: AnswerMap,
    /// The kinds of question that the peer can answer; absent: all but `token`.
    pub supports: Option<Vec<String>>,
}

/// The body of `POST /v1/login/{id}`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundAnswers {
    /// The number of the round that is answered.
    pub round: u16,
    /// The answers, by question name.
    pub answers: AnswerMap,
}

/// Answers by question name. A text is a value, `{"base64": …}` a value of any bytes, `{"choice": n}` the
/// index of an option, `true` and `false` yes and no, `null` declined.
#[derive(Debug, Default)]
pub struct AnswerMap(pub Answers);

fn http() -> String {
    "http".to_owned()
}

impl LoginRequest {
    /// Checks the names in it; they get into policies, records and logs.
    pub(super) fn check(&self) -> Result<(), Problem> {
        let kinds = self.supports.iter().flatten();
        if kinds.clone().count() > ANSWERS {
            return Err(Problem::bad(format!("`supports` has more than {ANSWERS} kinds")));
        }
        let names = [("service", &self.service)].into_iter();
        let names = names.chain(self.mechanism.iter().map(|name| ("mechanism", name)));
        for (field, name) in names.chain(kinds.map(|kind| ("supports", kind))) {
            let sound = (1..=NAME_BYTES).contains(&name.len());
            if !sound || name.chars().any(char::is_control) {
                return Err(Problem::bad(format!(
                    "a name in `{field}` must have 1 to {NAME_BYTES} bytes and no control characters"
                )));
            }
        }
        Ok(())
    }

    /// What the peer can answer.
    pub(super) fn kinds(&self) -> KindSet {
        match &self.supports {
            Some(kinds) => kinds.iter().map(|name| CredentialKind::from_name(name)).collect(),
            None => people(),
        }
    }
}

/// What a peer can answer that shows questions to people: everything but opaque messages.
fn people() -> KindSet {
    CredentialKind::all().filter(|kind| *kind != CredentialKind::Token).collect()
}

impl<'de> Deserialize<'de> for AnswerMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AnswersVisitor)
    }
}

struct AnswersVisitor;

impl<'de> Visitor<'de> for AnswersVisitor {
    type Value = AnswerMap;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("answers by question name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AnswerMap, A::Error> {
        let mut answers = Answers::new();
        let mut count = 0;
        while let Some(name) = map.next_key::<String>()? {
            count += 1;
            if count > ANSWERS {
                return Err(de::Error::custom(format_args!("more than {ANSWERS} answers")));
            }
            if name.len() > NAME_BYTES {
                return Err(de::Error::custom("a question's name is too long"));
            }
            // JSON leaves open which of two counts, and who reads the other one has been deceived.
            if answers.find(&name).is_some() {
                return Err(de::Error::custom(format_args!("`{name}` is answered twice")));
            }
            let OneAnswer(answer) = map.next_value()?;
            answers.push(Cow::Owned(name), answer);
        }
        Ok(AnswerMap(answers))
    }
}

struct OneAnswer(Answer);

impl<'de> Deserialize<'de> for OneAnswer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnswerVisitor)
    }
}

struct AnswerVisitor;

impl<'de> Visitor<'de> for AnswerVisitor {
    type Value = OneAnswer;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, true, false, null, {\"base64\": …} or {\"choice\": …}")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<OneAnswer, E> {
        Ok(OneAnswer(Answer::from(text)))
    }

    fn visit_bool<E: de::Error>(self, yes: bool) -> Result<OneAnswer, E> {
        Ok(OneAnswer(Answer::Confirmed(yes)))
    }

    fn visit_unit<E: de::Error>(self) -> Result<OneAnswer, E> {
        Ok(OneAnswer(Answer::Declined))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<OneAnswer, A::Error> {
        let Some(key) = map.next_key::<Cow<'de, str>>()? else {
            return Err(de::Error::invalid_length(0, &self));
        };
        let answer = match &*key {
            "choice" => Answer::Choice(map.next_value()?),
            "base64" => {
                let SecretText(text) = map.next_value()?;
                let bytes = STANDARD.decode(text.expose());
                let bytes = bytes.map_err(|_| {
                    de::Error::custom("`base64` must hold standard base64 with its padding")
                })?;
                Answer::Value(Secret::from(bytes))
            }
            other => return Err(de::Error::unknown_field(other, &["base64", "choice"])),
        };
        if map.next_key::<de::IgnoredAny>()?.is_some() {
            return Err(de::Error::custom("an answer holds one of `base64` and `choice`"));
        }
        Ok(OneAnswer(answer))
    }
}

/// A text that is wiped after use.
pub(super) struct SecretText(pub(super) Secret);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = SecretText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SecretText, E> {
                Ok(SecretText(text.into()))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(json: &str) -> Result<Answers, String> {
        let parsed: Result<AnswerMap, _> = serde_json::from_str(json);
        parsed.map(|AnswerMap(answers)| answers).map_err(|error| error.to_string())
    }

    #[test]
    fn five_shapes() {
        let json = r#"{"t":"x\n","b":{"base64":"AP8="},"c":{"choice":2},"y":true,"n":null,"e":""}"#;
        let answers = answers(json).unwrap();
        assert_eq!(answers.text("t"), Some("x\n"));
        assert_eq!(answers.value("b").unwrap().expose(), [0, 0xff]);
        assert_eq!(answers.find("c"), Some(&Answer::Choice(2)));
        assert_eq!(answers.find("y"), Some(&Answer::Confirmed(true)));
        assert_eq!(answers.find("n"), Some(&Answer::Declined));
        assert_eq!(answers.text("e"), Some(""));
        assert_eq!(answers.find("absent"), None);
    }

    #[test]
    fn everything_else_is_refused() {
        for (bad, why) in [
            (r#"{"a":1}"#, "invalid type: integer"),
            (r#"{"a":[]}"#, "invalid type: sequence"),
            (r#"{"a":{}}"#, "invalid length"),
            (r#"{"a":{"base64":"AP8"}}"#, "padding"),
            (r#"{"a":{"choice":-1}}"#, "invalid value"),
            (r#"{"a":{"choice":1,"base64":""}}"#, "one of"),
            (r#"{"a":{"text":""}}"#, "unknown field `text`"),
            (r#"{"a":"x","a":"y"}"#, "`a` is answered twice"),
            (r#"["a"]"#, "answers by question name"),
        ] {
            let error = answers(bad).unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
        let many: String = (0..=ANSWERS).map(|n| format!("\"{n}\":null,")).collect();
        let many = format!("{{{}}}", many.trim_end_matches(','));
        assert!(answers(&many).unwrap_err().contains("more than 64"));
    }

    #[test]
    fn people_answer_everything_but_tokens() {
        assert!(!people().contains(&CredentialKind::Token));
        assert!(people().contains(&CredentialKind::Assertion));
        assert!(!people().contains(&CredentialKind::Other("x".into())));
    }
}
