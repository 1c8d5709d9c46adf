//! The driver manager of OpenNebula, in the place of its `one_auth_mad`. Contract:
//! `docs/protocols/opennebula.md`, statements M1 to M20.
//!
//! oned starts it, writes requests to its standard input and reads the answers. A request that is not answered
//! costs a user of oned 90 seconds, so each is, within a deadline of ours; a message that is wrong is answered at once.

mod authorize;
mod manager;
mod settings;

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use countersign_checkers::driver::Program;
use countersign_wire::one::mad::ManagerArguments;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::pipe::{Receiver, Sender};

pub use manager::{Asked, Authorizer, Ended, Manager, ManagerLimits, Ruling};

pub use settings::Location;
use settings::Settings;

/// The manager as oned starts it: by its arguments, with its settings from a file or from their usual place. One that
/// cannot work says why to whoever asks ([`Manager::broken`]).
///
/// `launcher` is the program that starts drivers for it.
pub fn manager(arguments: &[String], config: Option<&Path>, launcher: Program) -> Manager {
    let read = || {
        let arguments = arguments.iter().map(String::as_str);
        let arguments = ManagerArguments::parse(arguments).map_err(|error| error.to_string())?;
        let location = Location::of_environment();
        let made = Settings::read(config, &location)
            .and_then(|settings| settings.manager(&arguments, &location, launcher));
        made.map_err(|error| error.to_string())
    };
    read().unwrap_or_else(|why: String| Manager::broken(why))
}

/// Serves oned at standard input and output, until it says so or is gone.
///
/// # Errors
/// A runtime that cannot be made, and a pipe that breaks.
pub fn serve(manager: &Manager) -> io::Result<Ended> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async { manager.serve(input()?, output()?).await });
    // A standard input that is no pipe is read by a thread, which nothing ends.
    runtime.shutdown_timeout(Duration::from_millis(100));
    ended
}

/// What oned makes is a pipe. Somebody who tries things out may have a terminal.
fn input() -> io::Result<Pin<Box<dyn AsyncRead>>> {
    let owned = of(io::stdin().as_fd())?;
    Ok(match Receiver::from_owned_fd(owned) {
        Ok(pipe) => Box::pin(pipe),
        Err(_) => Box::pin(tokio::io::stdin()),
    })
}

fn output() -> io::Result<Pin<Box<dyn AsyncWrite>>> {
    let owned = of(io::stdout().as_fd())?;
    Ok(match Sender::from_owned_fd(owned) {
        Ok(pipe) => Box::pin(pipe),
        Err(_) => Box::pin(tokio::io::stdout()),
    })
}

fn of(descriptor: BorrowedFd<'_>) -> io::Result<std::os::fd::OwnedFd> {
    descriptor.try_clone_to_owned()
}
