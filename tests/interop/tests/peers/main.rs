//! Countersign against the software that people run it with. `cargo xtask test` installs
//! what is needed; alone: `cargo test -p countersign-interop --test peers [NAME-PART]`.

mod anonymous;
mod backends;
mod browser;
mod certificates;
mod disk;
mod examples_mail;
mod examples_objects;
mod examples_ssh;
mod examples_web;
mod http;
mod mail;
mod mailboxes;
mod mechanisms;
mod nodes;
mod pages;
mod reference;
mod sasl;
mod signatures;
mod terminal;
mod tokens;
mod web;

use std::process::ExitCode;

use countersign_interop::{Profile, binary, runner};

fn main() -> ExitCode {
    let cases: Vec<_> = [
        reference::CASES,
        mail::CASES,
        mailboxes::CASES,
        backends::CASES,
        sasl::CASES,
        http::CASES,
        terminal::CASES,
        pages::CASES,
        web::CASES,
        nodes::CASES,
        examples_mail::CASES,
        examples_objects::CASES,
        examples_web::CASES,
        examples_ssh::CASES,
        mechanisms::CASES,
        tokens::CASES,
        signatures::CASES,
        certificates::CASES,
        anonymous::CASES,
        disk::CASES,
    ]
    .concat();
    // Before the first case's deadline begins; a case that needs it says so when it is not there.
    if !std::env::args().any(|word| word == "--list") {
        let _ = binary(Profile::Debug);
    }
    runner::main(&cases)
}
