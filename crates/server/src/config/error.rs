//! Errors in the configuration: line, mistake and remedy.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Element, Level, Renderer, Snippet};

/// What is wrong with the configuration, where, and what to do.
#[derive(Debug)]
pub struct ConfigError {
    message: String,
    span: Option<Range<usize>>,
    help: Option<String>,
    file: Option<(PathBuf, String)>,
}

impl ConfigError {
    /// Something that has no place in the file.
    pub fn general(message: impl Into<String>) -> Self {
        Self { message: message.into(), span: None, help: None, file: None }
    }

    /// Something about the whole file.
    pub fn of_file(path: &Path, message: impl Into<String>) -> Self {
        let message = format!("configuration file {} {}", path.display(), message.into());
        Self::general(message)
    }

    /// Something at a place in the file, in bytes.
    pub fn at(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span: Some(span), ..Self::general(message) }
    }

    /// The error with a remedy.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// A name that is not known, with the known one that looks most like it.
    pub fn unknown(span: Range<usize>, what: &str, name: &str, known: &[&str]) -> Self {
        Self::at(span, format!("there is no {what} `{name}`")).with_help(suggestion(name, known))
    }

    /// The error, with the file that it is in.
    #[must_use]
    pub fn in_file(mut self, path: &Path, text: &str) -> Self {
        self.file.get_or_insert_with(|| (path.to_owned(), text.to_owned()));
        self
    }
}

/// What to say about a name that is not known.
fn suggestion(name: &str, known: &[&str]) -> String {
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

/// serde lists what it expected in its message; the likeliest is all that a person needs.
impl From<toml::de::Error> for ConfigError {
    fn from(error: toml::de::Error) -> Self {
        let message = error.message().to_owned();
        let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
        let unknown = message.starts_with("unknown ").then_some(quoted);
        let help = unknown.and_then(|quoted| {
            let (name, known) = quoted.split_first()?;
            Some(suggestion(name, known))
        });
        Self { message, span: error.span(), help, file: None }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut group =
            Level::ERROR.primary_title(self.message.as_str()).elements([] as [Element<'_>; 0]);
        let path;
        if let (Some((file, text)), Some(span)) = (&self.file, &self.span) {
            path = file.display().to_string();
            let last = text.len();
            let span = span.start.min(last)..span.end.min(last);
            let snippet = Snippet::source(text.as_str()).path(path.as_str());
            group = group.element(snippet.annotation(AnnotationKind::Primary.span(span)));
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        f.write_str(&Renderer::plain().render(&[group]))
    }
}

impl std::error::Error for ConfigError {}
