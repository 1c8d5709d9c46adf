//! A kind of checker, and the settings of one checker of it.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use countersign::{Checker, Fault};
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

use super::{Argument, Parts, SettingsError, Takes};

/// A kind of checker: what it is called, what it proves, and how one is made of a table or of a string.
///
/// ```
/// use std::sync::Arc;
///
/// use countersign::{Fault, Identity, Mechanism, Password, PasswordStore, Secret, Verdict, Verified};
/// use countersign_checkers::kinds::{Building, CheckerSettings, Form, Kind, Kinds, Parts};
///
/// /// Everybody at one company, by a password that they share.
/// #[derive(Debug)]
/// struct Shared {
///     domain: String,
/// }
///
/// impl PasswordStore for Shared {
///     async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
///         if !login.ends_with(&self.domain) {
///             return Ok(Verdict::UNKNOWN);
///         }
///         if *password != Secret::from("opens sesame") {
///             return Ok(Verdict::WRONG);
///         }
///         Ok(Verdict::Is(Verified::vouch(Identity::named(login))))
///     }
/// }
///
/// impl CheckerSettings for Shared {
///     fn build<'a>(&'a self, name: &'a str, _: &'a Parts) -> Building<'a> {
///         let store = Shared { domain: self.domain.clone() };
///         let checker = Password::new(name, store);
///         Box::pin(async { Ok(Arc::new(checker) as _) })
///     }
///
///     fn describe(&self) -> String {
///         format!("everybody at {}", self.domain)
///     }
/// }
///
/// let kind = Kind::new("shared", "everybody at one company")
///     .proving(&[Mechanism::PASSWORD])
///     .explained("All of a company's people have one password.")
///     .shown("shared:example.org")
///     .from_argument(Form::Required("DOMAIN"), |argument| {
///         Ok(Box::new(Shared { domain: format!("@{}", argument.text()) }))
///     });
/// let mut kinds = Kinds::built_in();
/// kinds.register(kind)?;
///
/// let parts = Parts::standalone()?;
/// let made = kinds.checker("shared:example.org", &parts);
/// let checker = countersign::testing::now_or_never(made).expect("nothing to wait for")?;
/// assert!(checker.mechanisms()[0].is("password"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Kind {
    name: &'static str,
    summary: &'static str,
    help: &'static str,
    example: &'static str,
    proves: &'static [&'static str],
    form: Form,
    danger: Option<&'static str>,
    /// Why there is none of it in this build, and the remedy.
    absent: Option<(String, String)>,
    table: Option<Arc<FromTable>>,
    argument: Result<Arc<FromArgument>, &'static str>,
}

type FromTable = dyn Fn(Spanned<DeValue<'_>>, &Path) -> Result<Box<dyn CheckerSettings>, SettingsError>
    + Send
    + Sync;
type FromArgument =
    dyn Fn(Argument<'_>) -> Result<Box<dyn CheckerSettings>, SettingsError> + Send + Sync;

/// What stands after the colon of `TYPE:ARGUMENT`, as it is shown to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Nothing.
    None,
    /// Something, or nothing.
    Optional(&'static str),
    /// Something.
    Required(&'static str),
}

/// The settings of one checker: read and plausible, with nothing opened yet. Its debug format shows no
/// secret, and differs where the settings do.
pub trait CheckerSettings: fmt::Debug + Send + Sync {
    /// Makes the checker, which opens what it reads.
    fn build<'a>(&'a self, name: &'a str, parts: &'a Parts) -> Building<'a>;

    /// What it is, in one line.
    fn describe(&self) -> String;
}

/// A checker in the making. The error may say which of the settings it is about.
pub type Building<'a> =
    Pin<Box<dyn Future<Output = Result<Arc<dyn Checker>, Misplaced>> + Send + 'a>>;

/// Why a checker cannot be made.
#[derive(Debug)]
pub struct Misplaced {
    /// Which of its settings is to blame, in bytes of the file or of the argument.
    pub place: Option<Range<usize>>,
    /// Why.
    pub fault: Fault,
}

impl Misplaced {
    /// One setting, and what is wrong with it.
    pub fn at(place: Range<usize>, what: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self { place: Some(place), fault: Fault::internal(what) }
    }
}

impl From<Fault> for Misplaced {
    fn from(fault: Fault) -> Self {
        Self { place: None, fault }
    }
}

/// There is a kind of that name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is a checker kind `{0}` already; nothing replaces it")]
pub struct KindTaken(pub &'static str);

impl Kind {
    /// A kind of which nothing can be made yet: it is given [`Kind::from_argument`], [`Kind::from_table`] or
    /// both.
    pub fn new(name: &'static str, summary: &'static str) -> Self {
        Self {
            name,
            summary,
            help: "",
            example: "",
            proves: &[],
            form: Form::None,
            danger: None,
            absent: None,
            table: None,
            argument: Err("no checker of this type can be made of a string"),
        }
    }

    /// The mechanisms that a checker of it may offer. It offers no others.
    #[must_use]
    pub fn proving(self, mechanisms: &'static [&'static str]) -> Self {
        Self { proves: mechanisms, ..self }
    }

    /// Its long help: plain text, in lines of at most 100 characters.
    #[must_use]
    pub fn explained(self, help: &'static str) -> Self {
        Self { help, ..self }
    }

    /// A string that can be read as one of this kind, such as `file:/etc/mail.passwd`; for its help.
    #[must_use]
    pub fn shown(self, example: &'static str) -> Self {
        Self { example, ..self }
    }

    /// Why it is not to be used where it matters. Shown in its help, and as a warning when it is used.
    #[must_use]
    pub fn dangerous(self, why: &'static str) -> Self {
        Self { danger: Some(why), ..self }
    }

    /// How it is made of what stands after the colon. An argument that the form asks for and that is not
    /// there has been refused before.
    #[must_use]
    pub fn from_argument(
        self,
        form: Form,
        read: impl Fn(Argument<'_>) -> Result<Box<dyn CheckerSettings>, SettingsError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self { form, argument: Ok(Arc::new(read)), ..self }
    }

    /// Why none can be made of a string.
    #[must_use]
    pub fn without_argument(self, why: &'static str) -> Self {
        Self { argument: Err(why), ..self }
    }

    /// How it is made of a table `[checker.KIND.NAME]`; relative paths in it are below the given folder.
    #[must_use]
    pub fn from_table(
        self,
        read: impl Fn(Spanned<DeValue<'_>>, &Path) -> Result<Box<dyn CheckerSettings>, SettingsError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self { table: Some(Arc::new(read)), ..self }
    }

    /// The kind as it is in a build without the feature that it needs.
    #[must_use]
    pub fn not_built(self, feature: &'static str) -> Self {
        let message = format!("this build has no `{feature}`");
        Self { absent: Some((message, format!("build with `--features {feature}`"))), ..self }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What it is, in one line.
    pub fn summary(&self) -> &'static str {
        self.summary
    }

    /// Its long help.
    pub fn help(&self) -> &'static str {
        self.help
    }

    /// A string that can be read as one of this kind.
    pub fn example(&self) -> &'static str {
        self.example
    }

    /// The mechanisms that a checker of it may offer.
    pub fn proves(&self) -> &'static [&'static str] {
        self.proves
    }

    /// What stands after the colon.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Why it is not to be used where it matters.
    pub fn danger(&self) -> Option<&'static str> {
        self.danger
    }

    /// Whether a program can use it that takes these mechanisms and is given a string.
    ///
    /// # Errors
    ///
    /// Why it cannot.
    pub fn usable(&self, takes: &Takes) -> Result<(), String> {
        if let Some((message, help)) = &self.absent {
            return Err(format!("{message}; {help}"));
        }
        if let Err(why) = &self.argument {
            return Err((*why).to_owned());
        }
        match takes.any(self.proves.iter().copied()) {
            true => Ok(()),
            false => Err(takes.refusal(self.proves)),
        }
    }

    /// Reads a table; relative paths in it are below the given folder.
    ///
    /// # Errors
    ///
    /// What is wrong, where, and the remedy.
    pub fn table(
        &self,
        value: Spanned<DeValue<'_>>,
        base: &Path,
    ) -> Result<Box<dyn CheckerSettings>, SettingsError> {
        if let Some((message, help)) = &self.absent {
            return Err(SettingsError::at(value.span(), message.clone()).with_help(help.clone()));
        }
        match &self.table {
            Some(read) => read(value, base),
            None => {
                let message = format!("there is no table for the kind `{}`", self.name);
                Err(SettingsError::at(value.span(), message))
            }
        }
    }

    /// Reads what stands after the colon; none: there is no colon.
    ///
    /// # Errors
    ///
    /// What is wrong, where, and the remedy.
    pub fn argument(&self, text: Option<&str>) -> Result<Box<dyn CheckerSettings>, SettingsError> {
        if let Some((message, help)) = &self.absent {
            return Err(SettingsError::general(message.clone()).with_help(help.clone()));
        }
        let read = self.argument.as_ref().map_err(|why| SettingsError::general(*why))?;
        let text = text.unwrap_or_default();
        match self.form {
            Form::None if !text.is_empty() => {
                let help = format!("write `{}` alone", self.name);
                Err(SettingsError::at(0..text.len(), "it takes no argument").with_help(help))
            }
            Form::Required(form) if text.is_empty() => {
                let help = format!("write `{}:{form}`", self.name);
                Err(SettingsError::general("it needs an argument").with_help(help))
            }
            _ => read(Argument::new(text)),
        }
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Reads settings of a type, keeping the places of errors.
///
/// # Errors
///
/// What does not fit the type.
pub fn read<T: for<'de> Deserialize<'de>>(value: Spanned<DeValue<'_>>) -> Result<T, SettingsError> {
    Ok(T::deserialize(ValueDeserializer::from(value))?)
}
