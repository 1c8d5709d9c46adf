//! What is wrong with settings: where, and what to do.

use std::fmt;
use std::ops::Range;

use countersign::Fault;

/// What is wrong with the settings of a checker. It shows no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    message: String,
    place: Option<Range<usize>>,
    help: Option<String>,
}

impl SettingsError {
    /// Something that has no place.
    pub fn general(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None, help: None }
    }

    /// Something at a place, in bytes of the file or of the argument.
    pub fn at(place: Range<usize>, message: impl Into<String>) -> Self {
        Self { place: Some(place), ..Self::general(message) }
    }

    /// The error with a remedy.
    #[must_use]
    pub fn with_help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where, in bytes of the file or of the argument.
    pub fn place(&self) -> Option<Range<usize>> {
        self.place.clone()
    }

    /// What to do.
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// The error in words, with its place in this argument, which is not shown.
    pub(super) fn in_argument(&self, argument: &str) -> String {
        let before = self.place.as_ref().and_then(|place| argument.get(..place.start));
        match before {
            Some(before) if !argument.is_empty() => {
                format!("at character {} of the argument: {self}", before.chars().count() + 1)
            }
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.help.iter().try_for_each(|help| write!(f, "; {help}"))
    }
}

impl std::error::Error for SettingsError {}

/// serde lists what it expected in its message; the likeliest is all that a person needs.
impl From<toml::de::Error> for SettingsError {
    fn from(error: toml::de::Error) -> Self {
        let message = error.message().to_owned();
        let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
        let unknown = message.starts_with("unknown ").then_some(quoted);
        let help = unknown.and_then(|quoted| {
            let (name, known) = quoted.split_first()?;
            Some(suggestion(name, known))
        });
        Self { message, place: error.span(), help }
    }
}

/// What to say about a name that is not known: the known one that looks most like it, or all.
pub fn suggestion(name: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|other| (strsim::damerau_levenshtein(name, other), other))
        .min()
        .filter(|(distance, other)| *distance <= other.len().div_ceil(2));
    match nearest {
        Some((_, other)) => format!("did you mean `{other}`?"),
        None if known.is_empty() => "there is none at all".into(),
        None => format!("there are: {}", known.join(", ")),
    }
}

/// Why there is no checker for `TYPE[:ARGUMENT]`. No argument is shown: it may hold a secret.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// No kind has that name.
    #[error("there is no type `{name}`; {help}")]
    Unknown {
        /// What stands before the first colon.
        name: String,
        /// What to do.
        help: String,
    },
    /// The program cannot use it.
    #[error("`{name}` cannot be used here: {why}")]
    Unusable {
        /// The type.
        name: &'static str,
        /// Why.
        why: String,
    },
    /// The argument is wrong.
    #[error("`{name}`: {why}")]
    Argument {
        /// The type.
        name: &'static str,
        /// What is wrong, where, and what to do.
        why: String,
    },
    /// What the argument names cannot be opened.
    #[error("`{name}`: {fault}")]
    Broken {
        /// The type.
        name: &'static str,
        /// What cannot be opened.
        fault: Fault,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_in_characters_and_the_text_is_not() {
        let error = SettingsError::at(3..4, "no password").with_help("add one");
        assert_eq!(
            error.in_argument("ädä"),
            "at character 3 of the argument: no password; add one"
        );
        assert_eq!(error.in_argument(""), "no password; add one");
        // In the middle of a character: said without a place.
        assert_eq!(error.in_argument("abä"), "no password; add one");
    }

    #[test]
    fn the_nearest_name() {
        assert_eq!(suggestion("flie", &["file", "unix"]), "did you mean `file`?");
        assert_eq!(suggestion("kerberos", &["file", "unix"]), "there are: file, unix");
        assert_eq!(suggestion("x", &[]), "there is none at all");
    }
}
