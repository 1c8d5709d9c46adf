//! The kinds of checkers, by name: one registration for each, whoever names it.
//!
//! A kind is claimed once: its name is the file of its module, its configuration key (`[checker.KIND.NAME]`),
//! the `TYPE` of `--auth TYPE[:ARGUMENT]`, its feature and its guide page. Strings are for every program that
//! is to leave the choice to whoever starts it; see `docs/guide/auth-strings.md`.
//!
//! ```
//! use countersign_checkers::kinds::{Kinds, Parts, Takes};
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let kinds = Kinds::built_in();
//! let parts = Parts::standalone()?;
//! let checker = kinds.checker("memory:ada:countess", &parts).await?;
//! assert_eq!(checker.name(), "memory");
//!
//! let wrong = kinds.checker("mermory:ada:countess", &parts).await.err();
//! let said = wrong.map(|error| error.to_string()).unwrap_or_default();
//! assert_eq!(said, "there is no type `mermory`; did you mean `memory`?");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A crate of your own adds a kind with [`Kinds::register`]; see [`Kind`] for one.

mod accounts;
mod anonymous;
mod argument;
#[cfg(feature = "clap")]
mod auth_args;
#[cfg(feature = "driver")]
mod driver;
mod error;
mod file;
mod help;
mod htpasswd;
#[cfg(feature = "jwt")]
mod jwt;
mod kind;
#[cfg(feature = "ldap")]
mod ldap;
mod memory;
#[cfg(feature = "one-cipher")]
mod one_cipher;
#[cfg(feature = "one-ssh")]
mod one_ssh;
#[cfg(feature = "one-x509")]
mod one_x509;
mod parts;
mod secret_file;
mod span;
#[cfg(feature = "sql")]
mod sql;
#[cfg(feature = "sshkey")]
mod sshkey;
mod takes;
mod unix;

use std::sync::Arc;

use countersign::{Checker, Mechanism};

pub use argument::{Argument, OptionValue, Options};
#[cfg(feature = "clap")]
pub use auth_args::{AuthArgs, AuthExit};
pub use error::{AuthError, SettingsError, suggestion};
pub use kind::{Building, CheckerSettings, Form, Kind, KindTaken, Misplaced, read};
pub use parts::Parts;
pub use secret_file::secret_file;
pub use span::Span;
#[cfg(any(feature = "one-cipher", feature = "one-ssh"))]
pub(crate) use span::duration;
pub use takes::Takes;

/// The kinds that a program knows.
#[derive(Clone, Debug)]
pub struct Kinds {
    kinds: Vec<Kind>,
}

/// What one of several strings says.
#[derive(Debug)]
pub struct Chosen<'a> {
    /// What its checker is to be called.
    pub name: String,
    /// Its kind.
    pub kind: &'a Kind,
    /// What it says.
    pub settings: Box<dyn CheckerSettings>,
}

impl Kinds {
    /// No kind at all.
    pub fn none() -> Self {
        Self { kinds: Vec::new() }
    }

    /// The kinds of this version. One whose feature was not built is there, and says so.
    pub fn built_in() -> Self {
        let kinds = vec![
            accounts::kind(),
            anonymous::kind(),
            drivers(),
            file::kind(),
            htpasswd::kind(),
            tokens(),
            directory(),
            memory::kind(),
            one_cipher(),
            one_ssh(),
            one_x509(),
            tables(),
            keys(),
            unix::kind(),
        ];
        Self { kinds }
    }

    /// These kinds, with drivers, whose processes are started by this program
    /// ([`countersign_worker`]): without one there are none.
    #[cfg(feature = "driver")]
    #[must_use]
    pub fn launched_by(mut self, program: crate::driver::Program) -> Self {
        let launchers = Arc::new(crate::driver::Launchers::new(program));
        if let Some(kind) = self.kinds.iter_mut().find(|kind| kind.name() == "driver") {
            *kind = driver::completed(driver_kind(), Some(launchers));
        }
        self
    }

    /// Adds a kind.
    ///
    /// # Errors
    ///
    /// When the name is taken: nothing replaces anything silently.
    pub fn register(&mut self, kind: Kind) -> Result<(), KindTaken> {
        if self.kind(kind.name()).is_some() {
            return Err(KindTaken(kind.name()));
        }
        self.kinds.push(kind);
        Ok(())
    }

    /// The kind of that name.
    pub fn kind(&self, name: &str) -> Option<&Kind> {
        self.kinds.iter().find(|kind| kind.name() == name)
    }

    /// All kinds, in the order in which they were registered.
    pub fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.kinds.iter()
    }

    /// Reads `TYPE[:ARGUMENT]` for a program that takes these mechanisms. Nothing is opened.
    ///
    /// # Errors
    ///
    /// A type that is not known or that the program cannot use; what is wrong with the argument, and where.
    pub fn settings(
        &self,
        string: &str,
        takes: &Takes,
    ) -> Result<(&Kind, Box<dyn CheckerSettings>), AuthError> {
        let (name, argument) = match string.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None => (string, None),
        };
        let kind = self.known(name)?;
        kind.usable(takes).map_err(|why| AuthError::Unusable { name: kind.name(), why })?;
        let settings = kind.argument(argument).map_err(|error| AuthError::Argument {
            name: kind.name(),
            why: error.in_argument(argument.unwrap_or_default()),
        })?;
        Ok((kind, settings))
    }

    /// The checker of one string, named after its kind. Everything that it can check is used.
    ///
    /// # Errors
    ///
    /// As [`Kinds::settings`]; and what cannot be opened.
    pub async fn checker(
        &self,
        string: &str,
        parts: &Parts,
    ) -> Result<Arc<dyn Checker>, AuthError> {
        let strings = [string.to_owned()];
        let mut checkers = self.checkers(&strings, &Takes::everything(), parts).await?;
        Ok(checkers.remove(0))
    }

    /// The checkers of several strings, in their order, for [`Portal::checked_by_shared`]: none replaces
    /// another. The second of a kind is named `KIND.2`, and so on.
    ///
    /// A kind that is dangerous is logged as a warning.
    ///
    /// # Errors
    ///
    /// As [`Kinds::settings`]; and what cannot be opened.
    ///
    /// [`Portal::checked_by_shared`]: countersign::Portal::checked_by_shared
    pub async fn checkers(
        &self,
        strings: &[String],
        takes: &Takes,
        parts: &Parts,
    ) -> Result<Vec<Arc<dyn Checker>>, AuthError> {
        let mut checkers = Vec::with_capacity(strings.len());
        for Chosen { name, kind, settings } in self.named(strings, takes)? {
            if let Some(why) = kind.danger() {
                tracing::warn!("{name}: {why}");
            }
            let built = settings.build(&name, parts).await;
            let checker = built.map_err(|Misplaced { fault, .. }| AuthError::Broken {
                name: kind.name(),
                fault,
            })?;
            if !takes.any(checker.mechanisms().iter().map(|mechanism| &*mechanism.name)) {
                let offered = checker.mechanisms().iter().map(|mechanism| &*mechanism.name);
                let why = takes.refusal(&offered.collect::<Vec<_>>());
                return Err(AuthError::Unusable { name: kind.name(), why });
            }
            checkers.push(checker);
        }
        Ok(checkers)
    }

    /// What several strings say, each with a name of its own: the kind's, and from the second of a kind on
    /// its number.
    ///
    /// # Errors
    ///
    /// As [`Kinds::settings`].
    pub fn named(&self, strings: &[String], takes: &Takes) -> Result<Vec<Chosen<'_>>, AuthError> {
        let mut chosen: Vec<Chosen<'_>> = Vec::with_capacity(strings.len());
        for string in strings {
            let (kind, settings) = self.settings(string, takes)?;
            let before = chosen.iter().filter(|other| other.kind.name() == kind.name()).count();
            let name = match before {
                0 => kind.name().to_owned(),
                _ => format!("{}.{}", kind.name(), before + 1),
            };
            chosen.push(Chosen { name, kind, settings });
        }
        Ok(chosen)
    }

    fn known(&self, name: &str) -> Result<&Kind, AuthError> {
        self.kind(name).ok_or_else(|| {
            let known: Vec<_> = self.kinds().map(Kind::name).collect();
            // What stands before the first colon may be anything if somebody forgot the type.
            let shown: String = name.chars().filter(|c| !c.is_control()).take(32).collect();
            AuthError::Unknown { help: suggestion(name, &known), name: shown }
        })
    }
}

fn driver_kind() -> Kind {
    Kind::new("driver", "users whom an executable accepts, as OpenNebula's drivers do")
        .proving(&[Mechanism::PASSWORD])
}

fn drivers() -> Kind {
    #[cfg(feature = "driver")]
    return driver::completed(driver_kind(), None);
    #[cfg(not(feature = "driver"))]
    driver_kind().not_built("driver")
}

fn keys() -> Kind {
    let kind = Kind::new("sshkey", "users by their SSH keys and certificates")
        .proving(&[Mechanism::PUBLIC_KEY]);
    #[cfg(feature = "sshkey")]
    return sshkey::completed(kind);
    #[cfg(not(feature = "sshkey"))]
    kind.not_built("sshkey")
}

fn one_cipher() -> Kind {
    let kind = Kind::new("one-cipher", "OpenNebula's servers by tokens of a shared secret")
        .proving(&[Mechanism::PASSWORD]);
    #[cfg(feature = "one-cipher")]
    return one_cipher::completed(kind);
    #[cfg(not(feature = "one-cipher"))]
    kind.not_built("one-cipher")
}

fn one_ssh() -> Kind {
    let kind = Kind::new("one-ssh", "OpenNebula's users by tokens of their SSH keys")
        .proving(&[Mechanism::PASSWORD]);
    #[cfg(feature = "one-ssh")]
    return one_ssh::completed(kind);
    #[cfg(not(feature = "one-ssh"))]
    kind.not_built("one-ssh")
}

fn one_x509() -> Kind {
    let kind = Kind::new("one-x509", "OpenNebula's users by tokens of their certificates")
        .proving(&[Mechanism::PASSWORD]);
    #[cfg(feature = "one-x509")]
    return one_x509::completed(kind);
    #[cfg(not(feature = "one-x509"))]
    kind.not_built("one-x509")
}

fn tokens() -> Kind {
    let kind = Kind::new("jwt", "signed tokens of an issuer").proving(&[Mechanism::BEARER]);
    #[cfg(feature = "jwt")]
    return jwt::completed(kind);
    #[cfg(not(feature = "jwt"))]
    kind.not_built("jwt")
}

fn directory() -> Kind {
    let kind = Kind::new("ldap", "users in a directory").proving(&[Mechanism::PASSWORD]);
    #[cfg(feature = "ldap")]
    return ldap::completed(kind);
    #[cfg(not(feature = "ldap"))]
    kind.not_built("ldap")
}

fn tables() -> Kind {
    let kind = Kind::new("sql", "users in a site's own tables").proving(&[Mechanism::PASSWORD]);
    #[cfg(feature = "sql")]
    return sql::completed(kind);
    #[cfg(not(feature = "sql"))]
    kind.not_built("sql")
}
