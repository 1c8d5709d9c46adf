//! `countersign driver`: its arguments.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use countersign_wire::one::{Profile, UserName};

#[derive(Debug, Subcommand)]
pub(crate) enum DriverCommand {
    /// Run a driver for one login, and show what goes in and comes out
    ///
    /// Asks for the password. Passwords are not shown. Exit codes: 0 let in, 1 refused or no answer, 2 wrong usage.
    Run(RunArgs),
    /// Try a driver with logins of all kinds, good, bad and broken, and say what it does wrong
    ///
    /// Needs one login that is right. Exit codes: 0 nothing is wrong, 1 something is, 2 wrong usage.
    Test(RunArgs),
    /// Write a driver to begin with
    New(NewArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The driver's executable
    #[arg(value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) program: PathBuf,
    /// Who logs in
    #[arg(long, value_name = "NAME", default_value = "ada")]
    pub(crate) user: UserName,
    /// A file whose first line is what is stored for the user; without it nothing is
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) stored: Option<PathBuf>,
    /// Read the password from the first line of standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// The OpenNebula that the driver is written for, such as 6.8
    #[arg(long = "for", value_name = "VERSION", default_value = "7.3.80")]
    pub(crate) profile: Profile,
    /// How many seconds a login may take
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=600))]
    pub(crate) timeout: u16,
}

#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// The folder to make; its name is the driver's
    #[arg(value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) folder: PathBuf,
    /// In which language
    #[arg(long, value_enum, default_value_t = Language::Python)]
    pub(crate) language: Language,
    /// One that stays and answers many logins, instead of one that is run for each
    #[arg(long)]
    pub(crate) persistent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    Python,
    Sh,
    Rust,
}
