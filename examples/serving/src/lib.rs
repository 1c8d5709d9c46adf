//! What the servers of this folder do around their protocols: a listener with limits, an end that is waited for, and
//! the words of a command line. Nothing of it has to do with logins; a server of one's own has it already.
#![forbid(unsafe_code)]

mod door;

use std::net::SocketAddr;
use std::process::ExitCode;

use countersign::Plaintext;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

pub use door::{Door, Most, Place, listen};

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

/// Logs to standard error. The words of libraries below `info` are for their makers.
pub fn log() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_max_level(tracing_subscriber::filter::LevelFilter::INFO)
        .init();
}

/// How a program ends that came to this.
pub fn exit(came_to: Result<(), String>) -> ExitCode {
    match came_to {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
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
