//! The kinds of checkers, by name.
//!
//! A kind is claimed once: its name is the file of its module, its configuration key, its feature and its
//! guide page. A program of your own adds kinds with [`Registry::register`].

#[cfg(feature = "ldap")]
mod ldap;
#[cfg(feature = "oidc")]
mod oidc;
#[cfg(feature = "sql")]
mod sql;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use countersign::{Checker, Fault, World};
use countersign_checkers::accounts::Accounts;
use countersign_checkers::file::File;
use countersign_checkers::hash::{Accept, Recipe, Scheme};
use countersign_checkers::passwd_file::Format;
use countersign_checkers::pool::HashPool;
use countersign_store::Store;
use serde::{Deserialize, Deserializer};
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

use crate::config::{ConfigError, PasskeysSection};

/// The kinds that a server knows.
#[derive(Clone, Debug)]
pub struct Registry {
    kinds: Vec<Kind>,
}

/// A kind of checker.
#[derive(Clone, Copy)]
pub struct Kind {
    /// As in `[checker.KIND.NAME]`.
    pub name: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    /// Reads its settings. Relative paths in them are below the given folder.
    pub settings: ReadSettings,
}

/// Reads a checker's table; relative paths in it are below the given folder.
pub type ReadSettings =
    fn(Spanned<DeValue<'_>>, &Path) -> Result<Box<dyn CheckerSettings>, ConfigError>;

/// The settings of one checker: read and plausible, with nothing opened yet.
pub trait CheckerSettings: fmt::Debug + Send + Sync {
    /// Makes the checker.
    ///
    /// # Errors
    ///
    /// A fault that names what cannot be opened.
    fn build(&self, name: &str, parts: &Parts) -> Result<Arc<dyn Checker>, Fault>;

    /// Makes the checker; the error may say which of the settings it is about.
    ///
    /// # Errors
    ///
    /// As [`CheckerSettings::build`].
    fn build_at(&self, name: &str, parts: &Parts) -> Result<Arc<dyn Checker>, Misplaced> {
        self.build(name, parts).map_err(|fault| Misplaced { place: None, fault })
    }

    /// What it is, for the table of `check-config`.
    fn describe(&self) -> String;
}

/// Why a checker cannot be made.
#[derive(Debug)]
pub struct Misplaced {
    /// Which of its settings is to blame, in bytes of the file.
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

/// What checkers are made of.
#[derive(Clone)]
pub struct Parts {
    /// Accounts.
    pub store: Store,
    /// Where slow hashes are verified.
    pub pool: Arc<HashPool>,
    /// Clocks and entropy.
    pub world: Arc<dyn World>,
    /// How new passwords are hashed.
    pub recipe: Recipe,
    /// Which site passkeys are for, if there are any.
    pub passkeys: Option<PasskeysSection>,
    /// What authenticator apps and browsers call the site.
    pub issuer: String,
}

impl Registry {
    /// The kinds of this version.
    pub fn built_in() -> Self {
        let accounts = Kind {
            name: "accounts",
            summary: "accounts in the store",
            settings: |value, _| boxed::<AccountsSettings>(value),
        };
        let file = Kind {
            name: "file",
            summary: "users in a password file, as in Dovecot's passwd-file",
            settings: |value, base| {
                let mut settings: FileSettings = read(value)?;
                settings.path = base.join(&settings.path);
                Ok(Box::new(settings))
            },
        };
        Self { kinds: vec![accounts, file, directory(), tables(), provider()] }
    }

    /// Adds a kind.
    ///
    /// # Errors
    ///
    /// When the name is taken: nothing replaces anything silently.
    pub fn register(&mut self, kind: Kind) -> Result<(), Fault> {
        if self.kind(kind.name).is_some() {
            return Err(Fault::internal(format!(
                "there is a checker kind `{}` already",
                kind.name
            )));
        }
        self.kinds.push(kind);
        Ok(())
    }

    /// The kind of that name.
    pub fn kind(&self, name: &str) -> Option<&Kind> {
        self.kinds.iter().find(|kind| kind.name == name)
    }

    /// All kinds.
    pub fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.kinds.iter()
    }
}

fn directory() -> Kind {
    Kind {
        name: "ldap",
        summary: "users in a directory",
        #[cfg(feature = "ldap")]
        settings: |value, base| Ok(ldap::settings(read(value)?, base)),
        #[cfg(not(feature = "ldap"))]
        settings: |value, _| Err(not_built(&value, "ldap")),
    }
}

fn tables() -> Kind {
    Kind {
        name: "sql",
        summary: "users in a site's own tables",
        #[cfg(feature = "sql")]
        settings: |value, base| Ok(sql::settings(read(value)?, base)),
        #[cfg(not(feature = "sql"))]
        settings: |value, _| Err(not_built(&value, "sql")),
    }
}

fn provider() -> Kind {
    Kind {
        name: "oidc",
        summary: "users of an OpenID Connect provider",
        #[cfg(feature = "oidc")]
        settings: |value, base| Ok(oidc::settings(read(value)?, base)),
        #[cfg(not(feature = "oidc"))]
        settings: |value, _| Err(not_built(&value, "oidc")),
    }
}

/// What is known, and not in this binary.
#[cfg(not(all(feature = "ldap", feature = "oidc", feature = "sql")))]
fn not_built(value: &Spanned<DeValue<'_>>, feature: &str) -> ConfigError {
    let message = format!("this build has no `{feature}`");
    let help = format!("build with `--features {feature}`");
    ConfigError::at(value.span(), message).with_help(help)
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
pub fn read<T: for<'de> Deserialize<'de>>(value: Spanned<DeValue<'_>>) -> Result<T, ConfigError> {
    Ok(T::deserialize(ValueDeserializer::from(value))?)
}

fn boxed<T>(value: Spanned<DeValue<'_>>) -> Result<Box<dyn CheckerSettings>, ConfigError>
where
    T: for<'de> Deserialize<'de> + CheckerSettings + 'static,
{
    Ok(Box::new(read::<T>(value)?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountsSettings {}

impl CheckerSettings for AccountsSettings {
    fn build(&self, name: &str, parts: &Parts) -> Result<Arc<dyn Checker>, Fault> {
        let Parts { store, pool, world, recipe, .. } = parts.clone();
        let accounts = Accounts::new(name, store, pool, world, recipe)?;
        #[cfg(feature = "passkeys")]
        let accounts = match &parts.passkeys {
            Some(section) => {
                let site = section.site(&parts.issuer);
                accounts.with_passkeys(
                    site.map_err(|error| Fault::internal("[passkeys]").caused_by(error))?,
                )
            }
            None => accounts,
        };
        Ok(Arc::new(accounts))
    }

    fn describe(&self) -> String {
        "accounts in the store".into()
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSettings {
    path: PathBuf,
    #[serde(default)]
    allow_plain: bool,
    #[serde(default)]
    allow_weak: bool,
    #[serde(default, deserialize_with = "scheme")]
    default_scheme: Option<String>,
}

/// The name of a scheme, looked up here already, where an error knows its line.
fn scheme<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let name = String::deserialize(from)?;
    Scheme::named(&name).map_err(serde::de::Error::custom)?;
    Ok(Some(name))
}

impl CheckerSettings for FileSettings {
    fn build(&self, name: &str, parts: &Parts) -> Result<Arc<dyn Checker>, Fault> {
        let (allow_plain, allow_weak) = (self.allow_plain, self.allow_weak);
        let mut accept = Accept { allow_plain, allow_weak, ..Accept::default() };
        if let Some(scheme) = &self.default_scheme {
            accept.default_scheme = Scheme::named(scheme).map_err(|error| {
                Fault::internal(format!("checker `{name}`: default_scheme")).caused_by(error)
            })?;
        }
        let file = File::open(&self.path, Format::default(), accept, Arc::clone(&parts.pool))?;
        Ok(Arc::new(file.checker(name)))
    }

    fn describe(&self) -> String {
        format!("users in {}", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::*;

    /// What a kind makes of a table: nothing, or the error as a person reads it.
    fn settings(kind: &str, text: &str) -> Result<Box<dyn CheckerSettings>, String> {
        let table = DeTable::parse(text).unwrap();
        let value = Spanned::new(table.span(), DeValue::Table(table.into_inner()));
        let registry = Registry::built_in();
        let read = (registry.kind(kind).unwrap().settings)(value, Path::new("/etc"));
        read.map_err(|error| error.in_file(Path::new("c.toml"), text).to_string())
    }

    const LDAP: &str = "servers = ['ldap://localhost']\nbase = 'dc=x'\nfilter = '(uid={login})'\n";
    const SQL: &str =
        "url = 'sqlite:users.db'\nquery = 'SELECT hash FROM u WHERE login = :login'\n";

    #[test]
    fn a_kind_that_is_not_built_in_says_how_to_get_it() {
        for (kind, there, text) in
            [("ldap", cfg!(feature = "ldap"), LDAP), ("sql", cfg!(feature = "sql"), SQL)]
        {
            match settings(kind, text) {
                Ok(_) => assert!(there),
                Err(error) => {
                    let remedy = format!("build with `--features {kind}`");
                    assert!(!there && error.contains(&remedy), "{error}");
                }
            }
        }
    }

    #[cfg(feature = "ldap")]
    #[test]
    fn a_setting_that_is_not_known_is_told_with_its_line() {
        let error = settings("ldap", &format!("{LDAP}strattls = true\n")).unwrap_err();
        assert!(error.contains("c.toml:4") && error.contains("`starttls`"), "{error}");
        let settings = settings("ldap", LDAP).unwrap();
        assert_eq!(settings.describe(), "users in the directory at ldap://localhost");
    }
}
