//! `countersign`: the server, and everything around it, as one command.
#![forbid(unsafe_code)]

// First: its `print!` and `println!` are everybody's.
#[macro_use]
mod out;

mod args;
mod audit;
mod backup;
mod check;
mod driver;
mod explain;
mod factors;
mod failure;
mod generate;
mod group;
mod import;
mod login;
mod moment;
mod one;
mod place;
mod qr;
mod serve;
mod status;
mod table;
mod throttle;
#[cfg(any(feature = "one-cipher", feature = "one-ssh", feature = "one-x509"))]
mod token;
mod user;
mod user_token;

use std::process::ExitCode;

use clap::Parser as _;
use countersign_server::registry::Kinds;

use args::{Command, Countersign};

/// A login makes and drops many small things, in whatever thread it is in: measured, a fifth more logins in a second
/// than with glibc's allocator (`docs/decisions/0008-allocator.md`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The argument that makes a launcher of this program.
const LAUNCHER: &str = "launcher";

/// The kinds of checkers, with drivers as processes of this program's launcher.
fn kinds() -> Kinds {
    let kinds = countersign_server::registry::built_in();
    #[cfg(feature = "driver")]
    let kinds = kinds.launched_by(countersign_checkers::driver::Program::this([LAUNCHER]));
    kinds
}

fn main() -> ExitCode {
    // No command for people: what the server starts for drivers, before anything else is done.
    if std::env::args_os().nth(1).is_some_and(|first| first == LAUNCHER) {
        return countersign_worker::launcher::main();
    }
    if let Some(code) = one::by_name(std::env::args_os().next().as_deref()) {
        return code;
    }
    let Countersign { command } = Countersign::parse();
    let done = match command {
        Command::Serve(args) => serve::run(args),
        Command::Login(args) => login::run(&args),
        Command::User { command } => user::run(command),
        Command::Group { command } => group::run(command),
        Command::Import(args) => import::run(&args),
        Command::Backup(args) => backup::backup(&args),
        Command::Restore(args) => backup::restore(&args),
        Command::Explain(args) => explain::run(&args),
        Command::CheckConfig(args) => check::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Reload(args) => status::reload(&args),
        Command::Throttle { command } => throttle::run(command),
        #[cfg(any(feature = "one-cipher", feature = "one-ssh", feature = "one-x509"))]
        Command::Token { command } => token::run(command),
        Command::Audit(args) => audit::run(args),
        Command::Driver { command } => driver::run(command),
        Command::OneAuthMad(args) => return one::manager::run(&args),
        Command::OneAuthenticate(args) => one::authenticate::run(&args),
        Command::Generate { command } => generate::run(&command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
