//! Errors in the configuration: line, mistake and remedy.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Element, Level, Renderer, Snippet};
use countersign_checkers::kinds::{SettingsError, suggestion};

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

impl From<SettingsError> for ConfigError {
    fn from(error: SettingsError) -> Self {
        let (message, help) = (error.message().to_owned(), error.help().map(str::to_owned));
        Self { message, span: error.place(), help, file: None }
    }
}

impl From<toml::de::Error> for ConfigError {
    fn from(error: toml::de::Error) -> Self {
        SettingsError::from(error).into()
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
