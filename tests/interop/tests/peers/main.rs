//! Countersign against the software that people run it with. `cargo xtask test` installs
//! what is needed; alone: `cargo test -p countersign-interop --test peers [NAME-PART]`.

mod browser;
mod http;
mod mail;
mod mailboxes;
mod nodes;
mod pages;
mod reference;
mod sasl;
mod terminal;
mod web;

use std::process::ExitCode;

use countersign_interop::runner;

fn main() -> ExitCode {
    let cases: Vec<_> = [
        reference::CASES,
        mail::CASES,
        mailboxes::CASES,
        sasl::CASES,
        http::CASES,
        terminal::CASES,
        pages::CASES,
        web::CASES,
        nodes::CASES,
    ]
    .concat();
    runner::main(&cases)
}
