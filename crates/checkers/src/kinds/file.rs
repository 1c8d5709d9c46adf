//! `[checker.file.NAME]` and `file:PATH[?…]`. Reference: `docs/guide/file.md`.

use std::path::PathBuf;
use std::sync::Arc;

use countersign::{Checker, Fault};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::{
    Argument, Building, CheckerSettings, Form, Kind, Misplaced, Options, Parts, SettingsError, read,
};
use crate::file::File;
use crate::hash::{Accept, Scheme};
use crate::passwd_file::Format;

pub(super) fn kind() -> Kind {
    Kind::new("file", "users in a password file, as in Dovecot's passwd-file")
        .proving(crate::readable::MECHANISMS)
        .explained(
            "PATH is a text file with a user a line: `name:{SCHEME}hash`, and more fields as in passwd(5).\n\
             It is read again when it changes. Of two lines for one user the first counts.\n\
             \n\
             Options, after a `?` and with `&` between them:\n\
             \x20 delimiter=C       what stands between fields, one ASCII character (`:`)\n\
             \x20 user=N            the field with the user's name, counted from 0 (0)\n\
             \x20 password=N        the field with the password's hash (1)\n\
             \x20 case=insensitive  users may write their names in capital letters or small ones\n\
             \x20 comments=no       lines that begin with `#` are users and not comments\n\
             \x20 hash=SCHEME       the scheme of hashes without `{SCHEME}` (CRYPT)\n\
             \x20 allow_plain=yes   accept passwords in clear text, and what needs them: CRAM-MD5, SCRAM, …\n\
             \x20 allow_weak=yes    accept traditional DES hashes\n\
             \n\
             A `%` or `?` in the path is written %25 or %3F.",
        )
        .shown("file:/etc/mail.passwd?case=insensitive")
        .from_table(|value, base| {
            let mut settings: FileSettings = read(value)?;
            settings.path = base.join(&settings.path);
            Ok(Box::new(settings))
        })
        .from_argument(Form::Required("PATH[?OPTION=VALUE&…]"), |argument| {
            Ok(Box::new(Named::of(argument)?))
        })
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSettings {
    path: PathBuf,
    delimiter: Option<Spanned<String>>,
    user: Option<usize>,
    password: Option<Spanned<usize>>,
    #[serde(default)]
    case: Case,
    comments: Option<bool>,
    #[serde(default)]
    allow_plain: bool,
    #[serde(default)]
    allow_weak: bool,
    #[serde(default, alias = "hash", deserialize_with = "scheme")]
    default_scheme: Option<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Case {
    #[default]
    Sensitive,
    Insensitive,
}

/// The name of a scheme, looked up here already, where an error knows its line.
pub(super) fn scheme<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let name = String::deserialize(from)?;
    Scheme::named(&name).map_err(serde::de::Error::custom)?;
    Ok(Some(name))
}

/// The options about hashes: `hash`, `allow_plain`, `allow_weak`.
pub(super) fn accept(options: &mut Options<'_>) -> Result<Accept, SettingsError> {
    let allow_plain = options.flag("allow_plain", false)?;
    let allow_weak = options.flag("allow_weak", false)?;
    let mut accept = Accept { allow_plain, allow_weak, ..Accept::default() };
    if let Some(value) = options.take("hash")? {
        let named = Scheme::named(&value.text);
        accept.default_scheme = named.map_err(|error| value.refused(error.to_string()))?;
    }
    Ok(accept)
}

impl FileSettings {
    fn format(&self) -> Result<Format, Misplaced> {
        let mut format = Format::default();
        if let Some(delimiter) = &self.delimiter {
            let place = delimiter.span();
            format.delimiter = one_character(delimiter.get_ref())
                .map_err(|error| Misplaced::at(place, error.to_string()))?;
        }
        format.user = self.user.unwrap_or(format.user);
        format.password = self.password.as_ref().map_or(format.password, |n| *n.get_ref());
        if format.user == format.password {
            let place = self.password.as_ref().map(Spanned::span);
            return Err(Misplaced { place, fault: Fault::internal(ONE_FIELD) });
        }
        format.folds_case = self.case == Case::Insensitive;
        format.comments = self.comments.unwrap_or(format.comments);
        Ok(format)
    }

    fn accept(&self, name: &str) -> Result<Accept, Fault> {
        let (allow_plain, allow_weak) = (self.allow_plain, self.allow_weak);
        let mut accept = Accept { allow_plain, allow_weak, ..Accept::default() };
        if let Some(scheme) = &self.default_scheme {
            accept.default_scheme = Scheme::named(scheme).map_err(|error| {
                Fault::internal(format!("checker `{name}`: default_scheme")).caused_by(error)
            })?;
        }
        Ok(accept)
    }
}

const ONE_FIELD: &str = "user and password cannot be the same field; the first one is 0";

fn one_character(text: &str) -> Result<u8, &'static str> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() && *byte != b'\n' => Ok(*byte),
        _ => Err("the delimiter is one ASCII character, such as `:` or a tab"),
    }
}

impl CheckerSettings for FileSettings {
    fn build<'a>(&'a self, name: &'a str, parts: &'a Parts) -> Building<'a> {
        Box::pin(async move {
            let (format, accept) = (self.format()?, self.accept(name)?);
            let readable = accept.allow_plain;
            let file = File::open(&self.path, format, accept, Arc::clone(&parts.pool))?;
            Ok(checker(file, readable, name, parts))
        })
    }

    fn describe(&self) -> String {
        format!("users in {}", self.path.display())
    }
}

/// Without readable passwords, what needs them would be offered for nobody.
fn checker(file: File, readable: bool, name: &str, parts: &Parts) -> Arc<dyn Checker> {
    match readable {
        true => Arc::new(file.readable(name, &*parts.world)),
        false => Arc::new(file.checker(name)),
    }
}

/// A file as an argument names it.
#[derive(Debug)]
struct Named {
    path: PathBuf,
    format: Format,
    accept: Accept,
}

impl Named {
    fn of(argument: Argument<'_>) -> Result<Self, SettingsError> {
        const FIELD: &str = "the number of a field, counted from 0";
        let (path, mut options) = argument.split()?;
        if path.text.is_empty() {
            return Err(path.refused("no path").with_help("write `file:/etc/mail.passwd`"));
        }
        let mut format = Format::default();
        if let Some(value) = options.take("delimiter")? {
            format.delimiter = one_character(&value.text).map_err(|why| value.refused(why))?;
        }
        format.user = options.parsed("user", FIELD)?.unwrap_or(format.user);
        format.password = options.parsed("password", FIELD)?.unwrap_or(format.password);
        if format.user == format.password {
            return Err(SettingsError::at(argument.place(), ONE_FIELD));
        }
        if let Some(value) = options.take("case")? {
            format.folds_case = match value.text.as_str() {
                "sensitive" => false,
                "insensitive" => true,
                _ => return Err(value.refused("`case` is `sensitive` or `insensitive`")),
            };
        }
        format.comments = options.flag("comments", format.comments)?;
        let accept = accept(&mut options)?;
        options.end()?;
        Ok(Self { path: path.text.into(), format, accept })
    }
}

impl CheckerSettings for Named {
    fn build<'a>(&'a self, name: &'a str, parts: &'a Parts) -> Building<'a> {
        Box::pin(async move {
            let (accept, pool) = (self.accept.clone(), Arc::clone(&parts.pool));
            let readable = accept.allow_plain;
            let file = File::open(&self.path, self.format, accept, pool)?;
            Ok(checker(file, readable, name, parts))
        })
    }

    fn describe(&self) -> String {
        format!("users in {}", self.path.display())
    }
}
