//! Answers that are known beforehand, as JSON: from a file, from standard input, to a server.
//!
//! ```json
//! { "username": "alice", "password": "…", "host-key": true, "method": { "choice": 1 },
//!   "blob": { "base64": "AP8=" }, "authzid": null }
//! ```
//!
//! One object, by question name: a string; `{"base64": …}` for bytes that are no text; `{"choice": n}`,
//! counted from 0; `true` or `false`; `null` for a question that is declined. What is not there is not
//! answered. Given to [`Known`], each is used once.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::{Answer, Answers, Cancelled, Known, Round, Secret};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use zeroize::Zeroizing;

/// The most that is read. A round takes 128 KiB; base64 and a second factor fit as well.
const MAX: u64 = 256 * 1024;

/// Where answers are read from: a file, or `-` for standard input. Never the command line, which every
/// user of the machine can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Standard input, to its end.
    Stdin,
    /// A file that nobody else may read.
    File(PathBuf),
}

impl FromStr for Source {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == "-" { Self::Stdin } else { Self::File(text.into()) })
    }
}

/// Why answers could not be read. Never holds a part of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnswersError {
    /// The file or standard input could not be read.
    #[error("cannot read the answers from {place}: {source}")]
    Io {
        /// Where.
        place: String,
        /// The system's own reason.
        source: io::Error,
    },
    /// Others may read the secrets.
    #[error("{} holds secrets and has mode {mode:04o}, open to others: run `chmod 600` on it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Standard input is a terminal, where what is typed would be shown.
    #[error(
        "standard input is a terminal: leave --answers out to be asked, or pipe the answers in"
    )]
    Terminal,
    /// More than any login asks for.
    #[error("the answers from {place} are longer than {MAX} bytes")]
    TooLong {
        /// Where.
        place: String,
    },
    /// Not what the format says.
    #[error(
        "the answers from {place} are not what they should be, line {line}, column {column}: {why}"
    )]
    Malformed {
        /// Where.
        place: String,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What was expected.
        why: String,
    },
}

impl Source {
    /// Reads the answers.
    ///
    /// # Errors
    /// [`AnswersError`].
    pub fn read(&self) -> Result<Answers, AnswersError> {
        let place = self.to_string();
        let io = |source| AnswersError::Io { place: place.clone(), source };
        let text = match self {
            Self::Stdin if io::stdin().is_terminal() => return Err(AnswersError::Terminal),
            Self::Stdin => whole(io::stdin().lock()).map_err(io)?,
            Self::File(path) => {
                let file = File::open(path).map_err(io)?;
                private(&file, path)?;
                whole(file).map_err(io)?
            }
        };
        if text.len() as u64 > MAX {
            return Err(AnswersError::TooLong { place });
        }
        parse(&text, &place)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => f.write_str("standard input"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Of the file that was opened and not of the name, which may have become another file since.
fn private(file: &File, path: &Path) -> Result<(), AnswersError> {
    let failed = |source| AnswersError::Io { place: path.display().to_string(), source };
    let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(AnswersError::Exposed { path: path.to_owned(), mode });
    }
    Ok(())
}

fn whole(from: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // All of it at once: a vector that grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(MAX as usize + 1));
    from.take(MAX + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// Reads answers from JSON; `place` is for the error.
///
/// # Errors
/// [`AnswersError::Malformed`].
pub fn parse(json: &[u8], place: &str) -> Result<Answers, AnswersError> {
    if json.trim_ascii().is_empty() {
        let why = "expected one object with an answer for each question name, and there is nothing";
        let (place, why) = (place.to_owned(), why.to_owned());
        return Err(AnswersError::Malformed { place, line: 1, column: 1, why });
    }
    serde_json::from_slice::<Parsed>(json).map(|parsed| parsed.0).map_err(|error| {
        let why = error.to_string();
        // The place is told once.
        let why = why.rsplit_once(" at line ").map_or(&*why, |(why, _)| why);
        // "invalid type: string "hunter2", expected …": what was found may be a secret.
        let why = match why.rsplit_once(", expected ") {
            Some((_, expected)) => format!("expected {expected}"),
            None => why.to_owned(),
        };
        let (line, column) = (error.line(), error.column());
        AnswersError::Malformed { place: place.to_owned(), line, column, why }
    })
}

/// Writes answers as JSON, the reverse of [`parse`], into memory that is wiped.
pub fn to_json(answers: &Answers) -> Zeroizing<Vec<u8>> {
    let mut json =
        Zeroizing::new(Vec::with_capacity(answers.size() * 6 + 64 * answers.iter().count() + 2));
    json.push(b'{');
    for (index, (name, answer)) in answers.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        string(&mut json, name);
        json.push(b':');
        match answer {
            Answer::Value(value) => match value.to_str() {
                Some(text) => string(&mut json, text),
                None => {
                    json.extend_from_slice(b"{\"base64\":");
                    string(&mut json, &Zeroizing::new(STANDARD.encode(value.expose())));
                    json.push(b'}');
                }
            },
            Answer::Choice(index) => {
                json.extend_from_slice(format!("{{\"choice\":{index}}}").as_bytes());
            }
            Answer::Confirmed(yes) => json.extend_from_slice(if *yes { b"true" } else { b"false" }),
            Answer::Declined => json.extend_from_slice(b"null"),
        }
    }
    json.push(b'}');
    json
}

fn string(out: &mut Vec<u8>, text: &str) {
    // Writing text to a vector cannot fail.
    let _ = serde_json::to_writer(out, text);
}

/// Takes the answers to a round out of what is known.
///
/// # Errors
/// [`Cancelled`] with the names of the questions that nothing answers.
pub fn pick(known: &mut Known, round: &Round) -> Result<Answers, Cancelled> {
    known.pick(round).ok_or_else(|| {
        let asked: Vec<_> = round
            .questions
            .iter()
            .filter(|question| question.must_be_answered())
            .map(|question| format!("`{}`", question.name))
            .collect();
        Cancelled::because(format!(
            "the given answers do not answer this round, which asks for {}; each is used once",
            asked.join(", ")
        ))
    })
}

struct Parsed(Answers);

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Object).map(Self)
    }
}

struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Answers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one object with an answer for each question name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Answers, A::Error> {
        let mut answers = Answers::new();
        while let Some(name) = map.next_key::<String>()? {
            let One(answer) = map.next_value()?;
            if answers.find(&name).is_some() {
                return Err(de::Error::custom(format_args!("`{name}` is given twice")));
            }
            answers.push(Cow::Owned(name), answer);
        }
        Ok(answers)
    }
}

/// One answer. Text goes from the input straight into a [`Secret`], never through a tree of JSON values
/// that nobody would wipe.
struct One(Answer);

impl<'de> Deserialize<'de> for One {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(OneVisitor).map(Self)
    }
}

struct OneVisitor;

impl<'de> Visitor<'de> for OneVisitor {
    type Value = Answer;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"a string, true, false, null, {"base64": "…"} or {"choice": 0}"#)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Answer, E> {
        Ok(Answer::from(text))
    }

    fn visit_bool<E: de::Error>(self, yes: bool) -> Result<Answer, E> {
        Ok(Answer::Confirmed(yes))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Answer, E> {
        Ok(Answer::Declined)
    }

    // The default names the number, and a number may be a code that somebody forgot to quote.
    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Answer, E> {
        Err(E::custom(
            "a number is no answer: put a code into quotes, an option into {\"choice\": n}",
        ))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Answer, E> {
        self.visit_u64(0)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Answer, E> {
        self.visit_u64(0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Answer, A::Error> {
        let wrong = || de::Error::custom(r#"an object must be {"base64": "…"} or {"choice": 0}"#);
        let key = map.next_key::<String>()?;
        let answer = match key.as_deref() {
            Some("base64") => {
                let text = Zeroizing::new(map.next_value::<String>()?);
                let bytes = STANDARD.decode(text.as_bytes());
                Answer::Value(Secret::from(
                    bytes.map_err(|_| de::Error::custom("no valid base64"))?,
                ))
            }
            Some("choice") => Answer::Choice(map.next_value()?),
            _ => return Err(wrong()),
        };
        match map.next_key::<String>()? {
            None => Ok(answer),
            Some(_) => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use countersign::{Question, Text};

    use super::*;

    #[test]
    fn every_form_there_and_back() {
        let json = br#"{"username":"ada","pass\u0077ord":"a\nb","t":true,"f":false,"n":null,
            "c":{"choice":2},"b":{"base64":"/wA="},"e":""}"#;
        let answers = parse(json, "here").unwrap();
        assert_eq!(answers.text("username"), Some("ada"));
        assert_eq!(answers.text("password"), Some("a\nb"));
        assert_eq!(answers.find("t"), Some(&Answer::Confirmed(true)));
        assert_eq!(answers.find("n"), Some(&Answer::Declined));
        assert_eq!(answers.find("c"), Some(&Answer::Choice(2)));
        assert_eq!(answers.value("b").unwrap().expose(), [0xff, 0]);
        assert_eq!(answers.text("e"), Some(""));
        assert_eq!(answers.find("absent"), None);
        let again = parse(&to_json(&answers), "there").unwrap();
        assert!(answers.iter().eq(again.iter()));
    }

    #[test]
    fn mistakes_name_the_place_and_never_the_secret() {
        for (json, part) in [
            (r#"{"otp": 123456}"#, "put a code into quotes"),
            (r#"{"a": "hunter2", "a": "x"}"#, "`a` is given twice"),
            (r#"{"a": {"base64": "hunter2!"}}"#, "base64"),
            (r#"{"a": {"hunter2": 1}}"#, "an object must be"),
            (r#"{"a": ["hunter2"]}"#, "expected a string"),
            (r#"{"a": {"choice": "hunter2, expected x"}}"#, "expected usize"),
            (r#"{"a": {"choice": -123456}}"#, "expected usize"),
            (r#"["hunter2"]"#, "one object"),
            (r#""hunter2""#, "one object"),
            ("{\n\"a\": hunter2}", "line 2"),
            (" ", "there is nothing"),
        ] {
            let error = parse(json.as_bytes(), "x.json").unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("x.json"), "{error}");
            assert!(!error.contains("hunter2") && !error.contains("123456"), "{error}");
        }
        let deep = "{\"a\":".repeat(100_000);
        assert!(parse(deep.as_bytes(), "x").is_err());
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answers.json");
        std::fs::write(&path, br#"{"username":"ada"}"#).unwrap();
        let source: Source = path.to_str().unwrap().parse().unwrap();
        for mode in [0o644, 0o640, 0o604, 0o620] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = source.read().unwrap_err().to_string();
            assert!(
                error.contains("chmod 600") && error.contains(&format!("{mode:04o}")),
                "{error}"
            );
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(source.read().unwrap().text("username"), Some("ada"));
        std::fs::write(&path, vec![b' '; MAX as usize + 1]).unwrap();
        assert!(matches!(source.read(), Err(AnswersError::TooLong { .. })));
        let missing = Source::File(folder.path().join("none"));
        assert!(missing.read().unwrap_err().to_string().contains("none"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let round = Round::of([
            Question::username(),
            Question::password(),
            Question::new("note", countersign::CredentialKind::EchoPrompt, Text::default())
                .optional(),
        ]);
        let mut known = Known::new(parse(br#"{"username":"ada"}"#, "x").unwrap());
        let why = pick(&mut known, &round).unwrap_err().to_string();
        assert!(why.contains("`username`, `password`") && !why.contains("note"), "{why}");
    }
}
