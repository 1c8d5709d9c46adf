//! `countersign one-auth-mad`, and a link to this program that is called `one_auth_mad`: the driver manager that oned
//! starts. Reference: `docs/guide/opennebula.md`.

use std::path::Path;
use std::process::ExitCode;

use countersign_server::front::one_mad::{self, Ended};
use countersign_worker::Program;

use crate::LAUNCHER;
use crate::args::one::OneAuthMadArgs;
use crate::failure::Failure;

/// OpenNebula's own manager ends so when oned is gone.
const GONE: u8 = 255;

/// By the name of a link: everything in the arguments is oned's.
pub(super) fn run_as_manager() -> ExitCode {
    let arguments: Vec<_> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    ended(manage(&arguments, None))
}

/// `countersign one-auth-mad`
pub(crate) fn run(args: &OneAuthMadArgs) -> ExitCode {
    ended(manage(&args.arguments, args.config.as_deref()))
}

fn manage(arguments: &[String], config: Option<&Path>) -> Result<Ended, Failure> {
    let manager = one_mad::manager(arguments, config, Program::this([LAUNCHER]));
    one_mad::serve(&manager)
        .map_err(|error| Failure::broken(format!("cannot talk to oned: {error}")))
}

fn ended(how: Result<Ended, Failure>) -> ExitCode {
    match how {
        Ok(Ended::Finalized) => ExitCode::SUCCESS,
        Ok(Ended::Gone) => ExitCode::from(GONE),
        Err(failure) => failure.report(),
    }
}
