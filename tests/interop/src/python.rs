//! Programs in Python that are not Debian's, each in an environment of its own below the target folder.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::program::target_folder;
use crate::{Outcome, Trouble, need, run};

/// Downloads, and unpacking on a slow disk.
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// An environment with one package of PyPI, of one version, and what that needs.
#[derive(Debug, Clone)]
pub struct Environment {
    folder: PathBuf,
}

impl Environment {
    /// One that was made before.
    pub fn find(name: &str, requirement: &str) -> Option<Self> {
        let folder = target_folder().join(name);
        let made = std::fs::read_to_string(folder.join("version"));
        made.is_ok_and(|made| made == requirement).then_some(Self { folder })
    }

    /// One that was made before, or now: `requirement` as pip takes it, such as `schemathesis==4.32.5`.
    ///
    /// # Errors
    /// [`NotRun`](Trouble::NotRun) without Python, or when PyPI does not have it or cannot be reached.
    pub fn provide(name: &str, requirement: &str) -> Outcome<Self> {
        if let Some(made) = Self::find(name, requirement) {
            return Ok(made);
        }
        let python = need("python3", "python3-venv")?;
        let folder = target_folder().join(name);
        let attempt = |program: &Path, words: &[&str]| match run(
            Command::new(program).args(words),
            "",
            LIMIT,
        ) {
            Ok(done) if done.code == Some(0) => Ok(()),
            Ok(done) => {
                let why = done.err.lines().last().unwrap_or_default().to_owned();
                Err(Trouble::not_run(format!("{requirement} cannot be installed: {why}")))
            }
            Err(trouble) => Err(Trouble::not_run(trouble)),
        };
        attempt(&python, &["-m", "venv", "--clear", &folder.display().to_string()])?;
        attempt(&folder.join("bin/pip"), &["install", "--quiet", requirement])?;
        // The last thing: only a complete one is found.
        std::fs::write(folder.join("version"), requirement).map_err(Trouble::failed)?;
        Ok(Self { folder })
    }

    /// Cap'n Proto for Python, from its authors, and the folder that it is in.
    const PYCAPNP: [&str; 2] = ["pycapnp", "pycapnp==2.2.4"];

    /// Python with pycapnp, made before or now.
    ///
    /// # Errors
    /// [`NotRun`](Trouble::NotRun), as [`Environment::provide`].
    pub fn provide_pycapnp() -> Outcome<Self> {
        let [name, requirement] = Self::PYCAPNP;
        Self::provide(name, requirement)
    }

    /// The same, without making anything.
    ///
    /// # Errors
    /// [`NotRun`](Trouble::NotRun) when it was not made before.
    pub fn find_pycapnp() -> Outcome<Self> {
        let [name, requirement] = Self::PYCAPNP;
        Self::find(name, requirement).ok_or_else(|| {
            let remedy = "`cargo xtask test` makes an environment with it";
            Trouble::not_run(format!("{requirement} is not here; {remedy}"))
        })
    }

    /// A program in it.
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }
}

/// The Python that has Twisted.
#[derive(Debug, Clone)]
pub struct Twisted {
    python: PathBuf,
}

impl Twisted {
    /// The version whose behaviour was written down.
    pub const VERSION: &str = "26.10.0";
    /// That version, with what its SSH server needs.
    const REQUIREMENT: &str = "Twisted[conch]==26.10.0";
    const FOLDER: &str = "twisted";

    /// An environment of the version that was written down; where PyPI cannot be reached, Debian's.
    ///
    /// # Errors
    /// [`NotRun`](Trouble::NotRun) when there is neither.
    pub fn provide() -> Outcome<Self> {
        match Environment::provide(Self::FOLDER, Self::REQUIREMENT) {
            Ok(made) => Ok(Self { python: made.program("python") }),
            Err(Trouble::NotRun(why)) => Self::debian().ok_or_else(|| {
                Trouble::not_run(format!("{why}; nor is Debian's python3-twisted here"))
            }),
            Err(trouble) => Err(trouble),
        }
    }

    /// The same, without making anything.
    ///
    /// # Errors
    /// [`NotRun`](Trouble::NotRun) when there is neither.
    pub fn find() -> Outcome<Self> {
        let made = Environment::find(Self::FOLDER, Self::REQUIREMENT);
        let made = made.map(|made| Self { python: made.program("python") });
        made.or_else(Self::debian).ok_or_else(|| {
            Trouble::not_run("Twisted is not here; `cargo xtask test` makes an environment with it")
        })
    }

    fn debian() -> Option<Self> {
        let python = PathBuf::from("/usr/bin/python3");
        let has = run(Command::new(&python).args(["-c", "import twisted.conch"]), "", LIMIT);
        has.ok().filter(|done| done.code == Some(0)).map(|_| Self { python })
    }

    /// A program of ours in Python, which leaves nothing beside its source.
    pub fn command(&self, script: &Path) -> Command {
        let mut command = Command::new(&self.python);
        command.arg("-B").arg(script);
        command
    }
}
