//! What breaks around a whole server while people log in: its store, its audit file, its clock. Nobody gets in
//! who should not, everybody hears the right words, nothing is lost, and it works again without a restart.
//! What a person is told to do about it is in `docs/guide/faults.md`.

mod audit;
mod clock;
mod site;
mod store;
#[path = "../support/mod.rs"]
mod support;
