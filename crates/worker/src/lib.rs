//! Processes for code that is not ours, and what keeps them in bounds.
//!
//! A server never forks itself: with much memory that takes longer than a login may. So it starts a **launcher**, early
//! and by executing its own program anew ([`Program`]): a process of a few megabytes that takes limits upon itself
//! once ([`Confinement`]), and then starts whatever the server asks for ([`Launcher::start`]) with exactly them, in a
//! process group of its own. What ends is reported; what is to end is killed with its group and whatever left it; and
//! when the server goes, all of it goes.
//!
//! A program that has drivers calls [`launcher::main`] where it is started with the arguments of its [`Program`]:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! fn main() -> ExitCode {
//!     if std::env::args_os().nth(1).is_some_and(|first| first == "launcher") {
//!         return countersign_worker::launcher::main();
//!     }
//!     // … `Launcher::new(Program::this(["launcher"]), Confinement::default())`
//!     ExitCode::SUCCESS
//! }
//! ```
#![forbid(unsafe_code)]

mod backoff;
mod confinement;
mod connection;
mod handle;
pub mod launcher;
mod message;
mod socket;

pub use backoff::Backoff;
pub use confinement::{Access, Confinement, Limits, Program, User};
pub use handle::{Ended, Job, Launcher, Launchers, Running, StartError};
