//! Each rule of Twisted Cred as a case: what Countersign does, what Twisted does where it runs, and that the
//! two differ where they are said to, and nowhere else.
//!
//! Alone: `cargo test -p countersign-compliance-cred --test rules [NAME-PART]`. `cargo xtask test` makes the
//! environment that Twisted runs in; without it each rule is tried on our side and listed as not run.

mod avatars;
mod beside;
mod credentials;
mod differences;
mod factors;
mod files;
mod memory;
mod portal;
mod protocols;
mod seed;
mod stage;
mod strings;

use std::process::ExitCode;

use countersign_interop::runner;

fn main() -> ExitCode {
    let cases: Vec<_> = [
        portal::CASES,
        memory::CASES,
        files::CASES,
        credentials::CASES,
        factors::CASES,
        avatars::CASES,
        protocols::CASES,
        strings::CASES,
        seed::CASES,
        differences::CASES,
    ]
    .concat();
    // Before the first case's deadline begins.
    if !std::env::args().any(|word| word == "--list") {
        println!("{}", beside::versions());
    }
    runner::main(&cases)
}
