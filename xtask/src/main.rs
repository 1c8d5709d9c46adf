//! `cargo xtask TASK`: what developers and the build server run.
#![forbid(unsafe_code)]

mod bench;
mod deep;
mod description;
mod dist;
mod figures;
mod packages;
mod report;
mod steps;
mod test;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask TASK

  test                 everything that must hold: format, lints, tests, documentation,
                       licences, and the real peers, which it installs (as root, on Debian)
                       without starting any of them as a service
      --no-install     installs nothing; what is missing is reported as not run

  bench [PART]…        speed beside the services that ours takes the place of;
                       PART is dovecot, saslauthd, idle, core, cred, forward-auth or pending;
                       all without one
      --seconds N      length of one measurement (default 2)
      --rounds N       alternating measurements of each side (default 5)
      --peer-only      leaves ours out

  deep                 fuzzers, sanitizers and Miri, where a nightly toolchain is present, and a
                       fuzzer of the HTTP description from PyPI
      --seconds N      for each fuzz target (default 60)
      --only-http      only that of the HTTP description

  dist                 the Debian package, into target/dist
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.split_first() {
        Some((&"test", rest)) => test::main(rest),
        Some((&"bench", rest)) => bench::main(rest),
        Some((&"deep", rest)) => deep::main(rest),
        Some((&"dist", rest)) => dist::main(rest),
        Some((&("help" | "--help" | "-h"), _)) | None => {
            print!("{HELP}");
            Ok(true)
        }
        // Not for people: `bench` starts itself so.
        Some((&bench::cred::bare::TASK, _)) => match bench::cred::bare::serve() {
            Ok(()) => Ok(true),
            Err(error) => Err(error.to_string()),
        },
        Some((task, _)) => Err(format!("there is no task `{task}`\n\n{HELP}")),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::from(2)
        }
    }
}
