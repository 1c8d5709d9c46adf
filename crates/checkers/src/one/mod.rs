//! OpenNebula's way to verify a login, whoever does it: an executable, one that stays alive, or one of the
//! drivers that are built in. All of them are a [`Driver`], so that the checker `driver` and the manager that
//! oned starts use the same ones. What goes in and comes out on the wire is `countersign_wire::one`.

mod checker;
#[cfg(feature = "one-cipher")]
pub mod cipher;
pub mod dummy;
pub mod plain;
#[cfg(any(feature = "one-ssh", feature = "one-x509"))]
mod recover;
#[cfg(feature = "one-x509")]
pub mod server_x509;
#[cfg(any(feature = "one-ssh", feature = "one-x509"))]
pub mod signing;
#[cfg(feature = "one-ssh")]
pub mod ssh;
mod stored;
#[cfg(any(feature = "one-cipher", feature = "one-ssh", feature = "one-x509"))]
mod validity;
#[cfg(feature = "one-x509")]
pub mod x509;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use countersign::Secret;
use countersign_wire::one::{ErrorLine, Reply, UserName};

pub use checker::DriverChecker;
pub use stored::{StoredFile, StoredSecrets};

/// Verifies logins, one at a time each, any number at once.
///
/// Whoever calls sets the overall deadline by dropping the future: the driver then ends what it began, its
/// processes too.
pub trait Driver: Send + Sync + fmt::Debug + 'static {
    /// Verifies one login. The future ends by itself within the driver's own deadline.
    fn authenticate<'a>(
        &'a self,
        login: Login<'a>,
    ) -> Pin<Box<dyn Future<Output = Attempt> + Send + 'a>>;

    /// What it is and where, for `check-config`: "runs /var/lib/one/remotes/auth/ldap/authenticate".
    fn describe(&self) -> String;
}

/// A login as a driver is asked about it.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// Who.
    pub user: &'a UserName,
    /// What is stored for the user; `None` when nothing is, or the user is unknown. Never empty, never `-`.
    pub stored: Option<&'a Secret>,
    /// What the user sent. Never empty. For users of `server*` drivers: the token alone.
    pub secret: &'a Secret,
    /// For whom a user of a `server*` driver acts; `None` where whoever asks does not know, as oned's manager.
    pub target: Option<&'a UserName>,
    /// Seconds since 1970.
    pub now: i64,
}

impl<'a> Login<'a> {
    /// A login of somebody for themselves.
    pub fn new(
        user: &'a UserName,
        stored: Option<&'a Secret>,
        secret: &'a Secret,
        now: i64,
    ) -> Self {
        Self { user, stored, secret, target: None, now }
    }

    /// The login of a server that acts for somebody.
    #[must_use]
    pub fn acting_for(self, target: &'a UserName) -> Self {
        Self { target: Some(target), ..self }
    }
}

/// The secrets are not printed.
impl fmt::Debug for Login<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", self.user).finish_non_exhaustive()
    }
}

/// What came of a login.
#[derive(Debug)]
#[must_use]
pub struct Attempt {
    /// Yes, no, or it could not be said.
    pub outcome: Outcome,
    /// What the driver wrote for the log, without secrets.
    pub lines: Vec<ErrorLine>,
}

/// What a driver says of a login.
#[derive(Debug)]
pub enum Outcome {
    /// Yes. `None`: nothing about the account is to be changed.
    Accepted(Option<Reply>),
    /// No, with the reason for the operator, never for the user.
    Refused(String),
    /// It could not be said: the driver is missing, crashed, took too long, its queue is full, or its answer
    /// was no answer. Nobody gets in. The text is for the operator.
    Failed(Failure),
}

/// Why a driver could not say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// More logins than may wait.
    #[error("{0} logins wait already")]
    Full(usize),
    /// No process became free in time.
    #[error("no process became free within {0} ms")]
    Waited(u64),
    /// It did not answer in time and was ended.
    #[error("no answer within {0} ms; ended")]
    Late(u64),
    /// It could not be started, crashed, broke its contract, or a value cannot cross to it.
    #[error("{0}")]
    Broken(String),
}

impl Attempt {
    /// An outcome without lines for the log.
    pub fn of(outcome: Outcome) -> Self {
        Self { outcome, lines: Vec::new() }
    }

    /// A refusal without lines for the log.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self::of(Outcome::Refused(reason.into()))
    }
}

#[cfg(all(test, any(feature = "one-cipher", feature = "one-ssh", feature = "one-x509")))]
pub(crate) mod tests {
    use std::process::Command;

    /// The output of a program; `None`, and a word about it, where it is not.
    pub(crate) fn run(
        folder: &std::path::Path,
        program: &str,
        arguments: &[&str],
    ) -> Option<Vec<u8>> {
        let output = match Command::new(program).current_dir(folder).args(arguments).output() {
            Ok(output) => output,
            Err(error) => {
                eprintln!("not run: {program}: {error}");
                return None;
            }
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {said}");
        Some(output.stdout)
    }
}

/// Yes, with nothing to be changed, or why not, for the operator.
impl From<Result<(), String>> for Attempt {
    fn from(verified: Result<(), String>) -> Self {
        Self::of(match verified {
            Ok(()) => Outcome::Accepted(None),
            Err(why) => Outcome::Refused(why),
        })
    }
}
