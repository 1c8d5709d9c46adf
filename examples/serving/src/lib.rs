//! What the servers of this folder do around their protocols: threads to run on, a log that hardly anybody waits
//! for, a listener with limits, and an end that is waited for. Nothing of it has to do with logins; a server of
//! one's own has it already.
#![forbid(unsafe_code)]

mod door;
mod log;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread::available_parallelism;

use countersign::Plaintext;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

pub use door::{Door, Guest, Most, Place, listen};
use log::Log;

/// Where passwords may cross the network readable, as a command line says it.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Where {
    /// Everywhere
    Always,
    /// Over TLS, and on this machine
    Secured,
    /// Nowhere
    Never,
}

impl From<Where> for Plaintext {
    fn from(said: Where) -> Self {
        match said {
            Where::Always => Self::Always,
            Where::Secured => Self::Secured,
            Where::Never => Self::Never,
        }
    }
}

/// Runs a program to its end, with a log on standard error, and says how it ended.
pub fn run(program: impl Future<Output = Result<(), String>>) -> ExitCode {
    let came_to = {
        // It ends after the runtime, whose tasks may have something to say until then.
        let _log = Log::begin();
        runtime().map_err(|error| format!("threads: {error}")).and_then(|on| on.block_on(program))
    };
    match came_to {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// As many threads as there are processors for this process; where that is one, there is nobody to share work with,
/// and nothing is spent on it.
fn runtime() -> std::io::Result<Runtime> {
    match available_parallelism().map_or(1, usize::from) {
        1 => Builder::new_current_thread().enable_all().build(),
        _ => Builder::new_multi_thread().enable_all().build(),
    }
}

/// A socket that listens, and where: at a port that the system chose, if 0 was asked for.
///
/// # Errors
///
/// What the system says, with the address.
pub async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), String> {
    let told = |error| format!("{address}: {error}");
    let socket = TcpListener::bind(address).await.map_err(told)?;
    let local = socket.local_addr().map_err(told)?;
    Ok((socket, local))
}

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
///
/// When they cannot be waited for.
pub async fn told_to_end() -> Result<(), String> {
    let listen = |kind| signal(kind).map_err(|error| format!("signals: {error}"));
    let (mut terminate, mut interrupt) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Waits until a server is to end.
pub async fn stopping(stop: &watch::Receiver<bool>) {
    // Who would say so is gone: nobody will.
    if stop.clone().wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}
