//! What a server and a driver that stays say to each other (`docs/protocols/driver.md`): one JSON object a line.

use countersign::{
    Answer, Answers, Challenge, CredentialKind, KindSet, Level, Notice, Question, Round, Secret,
    Text,
};
use countersign_wire::one::{DriverName, Gid, GroupEntry, Reply, UserName};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

/// The version of the protocol (P3).
pub(super) const VERSION: u32 = 1;
/// The longest line of a driver (P2).
pub(super) const LINE_LIMIT: usize = 256 * 1024;
/// The most questions of a round (Q2).
const QUESTIONS: usize = 16;

/// To a driver.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum Told<'a> {
    Hello {
        version: u32,
        driver: &'a str,
    },
    Login {
        id: u64,
        user: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        stored: Option<&'a str>,
        secret: &'a str,
        now: i64,
        asks: Vec<String>,
    },
    Answers {
        id: u64,
        answers: Map<String, Value>,
    },
    Cancel {
        id: u64,
    },
}

impl Told<'_> {
    /// The line, in bytes that are wiped.
    pub(super) fn line(&self) -> Zeroizing<Vec<u8>> {
        let room = match self {
            // At most six bytes for one; a vector that grows leaves secrets behind.
            Self::Login { stored, secret, .. } => {
                6 * (secret.len() + stored.map_or(0, str::len)) + 1024
            }
            _ => 4096,
        };
        let mut line = Zeroizing::new(Vec::with_capacity(room));
        // Nothing of it can fail: the keys are texts.
        if serde_json::to_writer(&mut *line, self).is_ok() {
            line.push(b'\n');
        }
        line
    }
}

/// What kinds of questions somebody can answer, by name.
pub(super) fn names(kinds: &KindSet) -> Vec<String> {
    let known = CredentialKind::all().filter(|kind| kinds.contains(kind));
    known.map(|kind| kind.name().to_owned()).collect()
}

/// Answers as JSON; `None` where one is no text.
pub(super) fn values(answers: &Answers) -> Option<Map<String, Value>> {
    let value = |answer: &Answer| {
        Some(match answer {
            Answer::Value(secret) => Value::String(secret.to_str()?.to_owned()),
            Answer::Choice(index) => Value::from(*index),
            Answer::Confirmed(yes) => Value::Bool(*yes),
            _ => Value::Null,
        })
    };
    answers.iter().map(|(name, answer)| Some((name.to_owned(), value(answer)?))).collect()
}

/// From a driver.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum Said {
    Hello {
        version: u32,
    },
    Accept {
        id: u64,
        #[serde(flatten)]
        account: Account,
    },
    Refuse {
        id: u64,
        #[serde(default)]
        reason: String,
    },
    Fail {
        id: u64,
        #[serde(default)]
        reason: String,
    },
    Ask {
        id: u64,
        round: Asked,
    },
    Cancelled {
        id: u64,
    },
    Log {
        #[serde(default)]
        severity: Severity,
        #[serde(default)]
        about: Option<u64>,
        text: String,
    },
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
}

/// A driver's word on an account (A3).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Account {
    driver: Option<String>,
    user: Option<String>,
    #[serde(deserialize_with = "secret")]
    stored: Option<Secret>,
    groups: Option<Vec<String>>,
}

fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.map(Secret::from))
}

impl Account {
    /// As an answer of OpenNebula's; `None` when nothing is to be changed.
    ///
    /// # Errors
    /// Which member is wrong.
    pub(super) fn reply(
        self,
        driver: &DriverName,
        login: &UserName,
    ) -> Result<Option<Reply>, String> {
        let Self { driver: named, user, stored, groups } = self;
        if named.is_none() && user.is_none() && stored.is_none() && groups.is_none() {
            return Ok(None);
        }
        let driver = match named {
            None => driver.clone(),
            Some(name) => name.parse().map_err(|error| format!("`driver`: {error}"))?,
        };
        let user = match user {
            None => login.clone(),
            Some(name) => name.parse().map_err(|error| format!("`user`: {error}"))?,
        };
        let stored = stored.unwrap_or_else(|| "-".into());
        let entry = |text: &String| {
            let (admin, number) = match text.strip_prefix('*') {
                Some(number) => (true, number),
                None => (false, text.as_str()),
            };
            number.parse::<Gid>().map(|group| GroupEntry { group, admin })
        };
        let groups: Vec<_> =
            groups.iter().flatten().map(entry).collect::<Result<_, _>>().map_err(|_| {
                "`groups` has what is no group: numbers, perhaps with * before".to_owned()
            })?;
        Reply::new(driver, user, stored, &groups)
            .map(Some)
            .map_err(|error| format!("`accept`: {error}"))
    }
}

/// A round, as in the HTTP interface (`docs/protocols/http.md`, H7 and H8), with its texts as they are.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    instruction: Option<String>,
    #[serde(default)]
    notices: Vec<ToldFirst>,
    questions: Vec<AskedQuestion>,
}

#[derive(Debug, Deserialize)]
struct ToldFirst {
    #[serde(default)]
    level: Loudness,
    text: String,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Loudness {
    #[default]
    Info,
    Warning,
    Error,
}

#[derive(Debug, Deserialize)]
struct AskedQuestion {
    name: String,
    kind: String,
    prompt: String,
    #[serde(default)]
    challenge: Option<String>,
    #[serde(default)]
    default: Option<String>,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    options: Vec<String>,
}

impl Asked {
    /// The round.
    ///
    /// # Errors
    /// What is no question.
    pub(super) fn round(self) -> Result<Round, String> {
        let count = self.questions.len();
        if count == 0 || count > QUESTIONS {
            return Err(format!("a round has 1 to {QUESTIONS} questions, and not {count}"));
        }
        let mut questions: Vec<Question> = Vec::with_capacity(count);
        for asked in self.questions {
            let plain =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            if asked.name.is_empty() || asked.name.len() > 64 || !asked.name.bytes().all(plain) {
                return Err(
                    "a question's name has 1 to 64 of letters, digits, `-`, `_`, `.`".into()
                );
            }
            if questions.iter().any(|other| other.name == asked.name) {
                return Err(format!("`{}` is asked twice", asked.name));
            }
            let kind = CredentialKind::from_name(&asked.kind);
            if matches!(kind, CredentialKind::Other(_)) {
                return Err(format!("`{}` is of no kind that is known", asked.name));
            }
            let choice = kind == CredentialKind::Choice;
            if choice == asked.options.is_empty() {
                return Err(format!("`{}`: options are for the kind `choice`", asked.name));
            }
            let mut question = Question::new(asked.name, kind, Text::verbatim(asked.prompt));
            question.challenge = asked.challenge.map(Challenge::Text);
            question.default = asked.default.map(Into::into);
            question.optional = asked.optional;
            question.options = asked.options.into_iter().map(Text::verbatim).collect();
            questions.push(question);
        }
        let mut round = Round::of(questions);
        round.title = self.title.map(Text::verbatim);
        round.instruction = self.instruction.map(Text::verbatim);
        round.notices = self
            .notices
            .into_iter()
            .map(|told| {
                let level = match told.level {
                    Loudness::Info => Level::Info,
                    Loudness::Warning => Level::Warning,
                    Loudness::Error => Level::Error,
                };
                Notice { level, text: Text::verbatim(told.text) }
            })
            .collect();
        Ok(round)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> Said {
        serde_json::from_str(line).unwrap()
    }

    #[test]
    fn lines_for_a_driver() {
        // P3, L1, Q4, C1
        let line = |told: Told<'_>| String::from_utf8(told.line().to_vec()).unwrap();
        assert_eq!(
            line(Told::Hello { version: VERSION, driver: "ldap" }),
            "{\"type\":\"hello\",\"version\":1,\"driver\":\"ldap\"}\n"
        );
        let login = Told::Login {
            id: 7,
            user: "ada",
            stored: None,
            secret: "a\"\n\u{0}ä",
            now: 5,
            asks: names(&KindSet::none().with(CredentialKind::Otp)),
        };
        assert_eq!(
            line(login),
            "{\"type\":\"login\",\"id\":7,\"user\":\"ada\",\"secret\":\"a\\\"\\n\\u0000ä\",\"now\":5,\"asks\":[\"otp\"]}\n"
        );
        let mut answers = Answers::new().with("otp", "123");
        answers.push("which", Answer::Choice(1));
        answers.push("sure", Answer::Confirmed(true));
        answers.push("pin", Answer::Declined);
        let answers = values(&answers).unwrap();
        let line: Value = serde_json::from_str(&line(Told::Answers { id: 7, answers })).unwrap();
        let expected = serde_json::json!({
            "type": "answers", "id": 7,
            "answers": { "otp": "123", "which": 1, "sure": true, "pin": null },
        });
        assert_eq!(line, expected);
        assert_eq!(values(&Answers::new().with("otp", Answer::Value((&b"\xff"[..]).into()))), None);
        assert_eq!(*Told::Cancel { id: 7 }.line(), b"{\"type\":\"cancel\",\"id\":7}\n");
    }

    #[test]
    fn accounts() {
        // A3
        let reply = |line: &str| match said(line) {
            Said::Accept { account, .. } => {
                let reply = account.reply(&"d".parse().unwrap(), &"ada".parse().unwrap());
                reply.map(|reply| {
                    reply.map(|reply| {
                        let mut line = Vec::new();
                        reply.encode(&mut line);
                        String::from_utf8(line).unwrap()
                    })
                })
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(reply(r#"{"type":"accept","id":1,"new":[]}"#), Ok(None));
        let all = r#"{"type":"accept","id":1,"driver":"e","user":"bob","stored":"x","groups":["*100","7"]}"#;
        assert_eq!(reply(all), Ok(Some("e bob x *100 7".into())));
        let groups = r#"{"type":"accept","id":1,"groups":["7"]}"#;
        assert_eq!(reply(groups), Ok(Some("d ada - 7".into())));
        for (member, why) in [
            (r#""groups":["x"]"#, "`groups`"),
            (r#""groups":["**1"]"#, "`groups`"),
            (r#""user":"a b""#, "`user`"),
            (r#""driver":"../x""#, "`driver`"),
            (r#""stored":"a b""#, "`accept`"),
        ] {
            let error = reply(&format!(r#"{{"type":"accept","id":1,{member}}}"#)).unwrap_err();
            assert!(error.contains(why), "{member}: {error}");
        }
    }

    #[test]
    fn rounds() {
        // Q1, Q2
        let round = |line: &str| match said(line) {
            Said::Ask { round, .. } => round.round(),
            other => panic!("{other:?}"),
        };
        let all = r#"{"type":"ask","id":1,"round":{"title":"Bank","instruction":"Look","notices":[{"text":"hi"}],
            "questions":[{"name":"otp","kind":"otp","prompt":"Code","optional":true},
            {"name":"which","kind":"choice","prompt":"Which","options":["a","b"]}]}}"#;
        let asked = round(all).unwrap();
        assert_eq!(asked.questions[0].kind, CredentialKind::Otp);
        assert_eq!((asked.questions[1].options.len(), asked.questions[0].optional), (2, true));
        assert_eq!(asked.title.unwrap().as_str(), "Bank");
        for (questions, why) in [
            ("", "1 to 16"),
            (r#"{"name":"a b","kind":"otp","prompt":""}"#, "letters"),
            (
                r#"{"name":"a","kind":"otp","prompt":""},{"name":"a","kind":"otp","prompt":""}"#,
                "twice",
            ),
            (r#"{"name":"a","kind":"smoke","prompt":""}"#, "no kind"),
            (r#"{"name":"a","kind":"choice","prompt":""}"#, "options"),
            (r#"{"name":"a","kind":"otp","prompt":"","options":["x"]}"#, "options"),
        ] {
            let line = format!(r#"{{"type":"ask","id":1,"round":{{"questions":[{questions}]}}}}"#);
            let error = round(&line).unwrap_err();
            assert!(error.contains(why), "{questions}: {error}");
        }
    }
}
