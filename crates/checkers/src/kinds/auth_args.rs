//! `--auth`, `--help-auth` and `--help-auth-type` for anybody's command line.

use std::fmt;
use std::sync::Arc;

use clap::Args;
use countersign::Checker;

use super::{AuthError, Kinds, Parts, Takes};

/// The options by which whoever starts a program says who checks logins. To be flattened into a command line
/// of `clap`:
///
/// ```
/// use clap::Parser;
/// use countersign::Portal;
/// use countersign_checkers::kinds::{AuthArgs, Kinds, Parts, Takes};
///
/// #[derive(Parser)]
/// struct Mail {
///     #[arg(long, default_value = "127.0.0.1:1110")]
///     listen: std::net::SocketAddr,
///     #[command(flatten)]
///     auth: AuthArgs,
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let args = Mail::parse_from(["mail", "--auth", "memory:ada:countess", "--auth", "memory:bob:b"]);
/// let parts = Parts::standalone()?;
/// let checkers = args.auth.portal_checkers(&Kinds::built_in(), &Takes::passwords(), &parts).await;
/// let checkers = checkers.unwrap_or_else(|exit| exit.now());
/// let portal = checkers.into_iter().fold(Portal::new(()), Portal::checked_by_shared);
/// assert_eq!(portal.checkers().collect::<Vec<_>>(), ["memory", "memory.2"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default, Args)]
pub struct AuthArgs {
    /// Who checks logins; several are asked in the order given
    ///
    /// `--help-auth` lists the types.
    #[arg(long, value_name = "TYPE[:ARGUMENT]")]
    pub auth: Vec<String>,
    /// List the types of --auth, with their arguments and what they prove
    #[arg(long)]
    pub help_auth: bool,
    /// Say all about one type of --auth
    #[arg(long, value_name = "TYPE")]
    pub help_auth_type: Option<String>,
}

/// Why a program ends before it begins: help was asked for, or the checkers cannot be made.
#[derive(Debug)]
#[must_use]
pub enum AuthExit {
    /// Help, for standard output.
    Help(String),
    /// No checker was named.
    Nobody,
    /// What is wrong.
    Wrong(AuthError),
}

impl AuthArgs {
    /// The help that was asked for, if it was.
    ///
    /// # Errors
    ///
    /// [`AuthError::Unknown`].
    pub fn help(&self, kinds: &Kinds, takes: &Takes) -> Result<Option<String>, AuthError> {
        match &self.help_auth_type {
            Some(name) => kinds.help_on(name, takes).map(Some),
            None => Ok(self.help_auth.then(|| kinds.help(takes))),
        }
    }

    /// The checkers, for [`Portal::checked_by_shared`](countersign::Portal::checked_by_shared) in this order.
    /// What is dangerous among them is a warning on standard error.
    ///
    /// # Errors
    ///
    /// Help, if that was asked for; nobody, if no checker was named; and whatever is wrong with one.
    pub async fn portal_checkers(
        &self,
        kinds: &Kinds,
        takes: &Takes,
        parts: &Parts,
    ) -> Result<Vec<Arc<dyn Checker>>, AuthExit> {
        if let Some(help) = self.help(kinds, takes)? {
            return Err(AuthExit::Help(help));
        }
        if self.auth.is_empty() {
            return Err(AuthExit::Nobody);
        }
        for warning in self.warnings(kinds) {
            eprintln!("warning: {warning}");
        }
        Ok(kinds.checkers(&self.auth, takes, parts).await?)
    }

    /// What is dangerous among them, a line each.
    pub fn warnings(&self, kinds: &Kinds) -> Vec<String> {
        let mut warnings = Vec::new();
        for string in &self.auth {
            let name = string.split(':').next().unwrap_or_default();
            let danger = kinds.kind(name).and_then(|kind| Some((kind.name(), kind.danger()?)));
            warnings.extend(danger.map(|(name, why)| format!("--auth {name}: {why}")));
        }
        warnings.dedup();
        warnings
    }
}

/// Without the arguments, which may hold secrets.
impl fmt::Debug for AuthArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let types = self.auth.iter().map(|string| string.split(':').next().unwrap_or_default());
        f.debug_list().entries(types).finish()
    }
}

impl AuthExit {
    /// What the process ends with: 0 for help, 2 for wrong usage, 3 for what cannot be opened.
    pub fn code(&self) -> i32 {
        match self {
            Self::Help(_) => 0,
            Self::Wrong(AuthError::Broken { .. }) => 3,
            Self::Nobody | Self::Wrong(_) => 2,
        }
    }

    /// Prints it, help to standard output and everything else to standard error, and ends the process.
    pub fn now(self) -> ! {
        match &self {
            Self::Help(text) => print!("{text}"),
            other => eprintln!("error: {other}"),
        }
        std::process::exit(self.code())
    }
}

impl fmt::Display for AuthExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Help(text) => f.write_str(text),
            Self::Nobody => f.write_str(
                "nobody could log in: say who checks logins with --auth TYPE[:ARGUMENT]; --help-auth \
                 lists the types",
            ),
            Self::Wrong(error) => write!(f, "--auth: {error}"),
        }
    }
}

impl std::error::Error for AuthExit {}

impl From<AuthError> for AuthExit {
    fn from(error: AuthError) -> Self {
        Self::Wrong(error)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use countersign::testing::now_or_never;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        auth: AuthArgs,
    }

    fn checkers(takes: &Takes, args: &[&str]) -> Result<Vec<String>, AuthExit> {
        let args = Program::parse_from(std::iter::once(&"program").chain(args));
        let parts = Parts::standalone().unwrap();
        let kinds = Kinds::built_in();
        let made = now_or_never(args.auth.portal_checkers(&kinds, takes, &parts));
        let made = made.expect("these wait for nothing")?;
        Ok(made.iter().map(|checker| checker.name().to_owned()).collect())
    }

    #[test]
    fn all_are_kept_in_their_order() {
        let names = checkers(
            &Takes::passwords(),
            &["--auth", "memory:a:b", "--auth", "memory:c:d", "--auth", "memory:a:e"],
        );
        assert_eq!(names.unwrap(), ["memory", "memory.2", "memory.3"]);
    }

    #[test]
    fn help_ends_well_and_mistakes_do_not() {
        let everything = Takes::everything();
        for (args, code, said) in [
            (&["--help-auth"][..], 0, "TYPE"),
            (&["--help-auth-type", "file"], 0, "--auth file:PATH"),
            (&["--auth", "memory:oops", "--help-auth"], 0, "TYPE"),
            (&["--help-auth-type", "flie"], 2, "did you mean `file`?"),
            (&[], 2, "--help-auth"),
            (&["--auth", "flie:x"], 2, "did you mean `file`?"),
            (&["--auth", "memory:ada:s3cret:bob"], 2, "at character 12 of the argument"),
            (&["--auth", "file:/nowhere/at/all"], 3, "/nowhere/at/all"),
            (&["--auth", "accounts"], 3, "accounts:/var/lib/countersign/accounts.db"),
        ] {
            let exit = checkers(&everything, args).unwrap_err();
            let text = exit.to_string();
            assert_eq!(exit.code(), code, "{args:?}: {text}");
            assert!(text.contains(said) && !text.contains("s3cret"), "{args:?}: {text}");
        }
        let exit = checkers(&Takes::only(["bearer"]), &["--auth", "memory:a:b"]).unwrap_err();
        assert!(exit.to_string().contains("this program takes only bearer"), "{exit}");
    }

    #[test]
    fn dangers_are_told_once_each() {
        let args = Program::parse_from(["p", "--auth", "memory:a:b", "--auth", "memory:c:d"]);
        let warnings = args.auth.warnings(&Kinds::built_in());
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("clear text"));
        assert_eq!(format!("{:?}", args.auth), r#"["memory", "memory"]"#);
    }
}
