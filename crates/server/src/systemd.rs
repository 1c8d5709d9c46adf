//! systemd: the sockets that it passes, what it is told, and its watchdog. Without systemd nothing here does
//! anything.
//!
//! Sockets are passed as inherited descriptors (`sd_listen_fds(3)`), messages go to the socket that
//! `NOTIFY_SOCKET` names (`sd_notify(3)`).

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use sd_notify::NotifyState;

use crate::engine::Engine;
use crate::front::Stop;

/// How old the last answer of the store may be for the watchdog to be told that all is well.
const STORE_ANSWERS_WITHIN: Duration = Duration::from_secs(15);

/// The sockets that systemd passed and nobody has taken yet, by the names of `FileDescriptorName=`.
#[derive(Debug, Default)]
pub struct Passed {
    sockets: Vec<(String, OwnedFd)>,
}

impl Passed {
    /// Takes what was passed to this process.
    ///
    /// # Errors
    ///
    /// When the variables contradict themselves, or a descriptor cannot be had.
    pub fn take() -> io::Result<Self> {
        let mut sockets = Vec::new();
        let passed: Vec<_> = sd_notify::listen_fds_with_names()?.collect();
        if passed.is_empty() {
            return Ok(Self { sockets });
        }
        // A number is no proof of a descriptor that nobody else holds. The system gives another one for it,
        // which is ours.
        let this = pidfd_open(getpid(), PidfdFlags::empty()).map_err(without)?;
        for (number, name) in passed {
            let socket = pidfd_getfd(&this, number, PidfdGetfdFlags::empty()).map_err(without)?;
            sockets.push((name, socket));
        }
        Ok(Self { sockets })
    }

    /// The TCP socket of that name.
    ///
    /// # Errors
    ///
    /// When what has the name is none.
    pub fn tcp(&mut self, name: &str) -> io::Result<Option<TcpListener>> {
        let Some(socket) = self.named(name) else { return Ok(None) };
        let listener = TcpListener::from(socket);
        listener.local_addr().map_err(|_| of_another_kind("an internet socket"))?;
        listener.set_nonblocking(true)?;
        Ok(Some(listener))
    }

    /// The unix socket of that name.
    ///
    /// # Errors
    ///
    /// When what has the name is none.
    pub fn unix(&mut self, name: &str) -> io::Result<Option<UnixListener>> {
        let Some(socket) = self.named(name) else { return Ok(None) };
        let listener = UnixListener::from(socket);
        listener.local_addr().map_err(|_| of_another_kind("a unix socket"))?;
        listener.set_nonblocking(true)?;
        Ok(Some(listener))
    }

    /// The name of one that nobody took.
    pub fn left_over(&self) -> Option<&str> {
        self.sockets.first().map(|(name, _)| name.as_str())
    }

    fn named(&mut self, name: &str) -> Option<OwnedFd> {
        let index = self.sockets.iter().position(|(found, _)| found == name)?;
        Some(self.sockets.swap_remove(index).1)
    }
}

fn without(error: rustix::io::Errno) -> io::Error {
    let error = io::Error::from(error);
    io::Error::new(
        error.kind(),
        format!("{error}; a sandbox must allow the call `pidfd_getfd` for passed sockets"),
    )
}

fn of_another_kind(wanted: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("systemd passes something else than {wanted}"),
    )
}

/// Says that the server serves.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Says that the configuration is being read anew; [`ready`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

/// Says that the server has begun to stop.
pub fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("logins under way are finished")]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd cannot be told");
    }
}

/// Tells the watchdog that all is well for as long as it is: this task is run, and the store was asked and
/// answered not long ago, be it with an error. Ends at once where nobody watches.
pub async fn watchdog(engine: Arc<Engine>, mut stop: Stop) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut half = tokio::time::interval((limit / 2).max(Duration::from_millis(1)));
    loop {
        tokio::select! {
            biased;
            // The stop has a deadline of its own.
            () = stop.requested() => return,
            _ = half.tick() => {}
        }
        let now = engine.world.steady_ns() / 1_000_000;
        let silent = Duration::from_millis(now.saturating_sub(engine.metrics.store.answered_ms()));
        if silent <= STORE_ANSWERS_WITHIN.max(limit) {
            notify(&[NotifyState::Watchdog]);
        } else {
            tracing::error!(
                ?silent,
                "the store does not answer: the watchdog is not told that all is well"
            );
        }
    }
}
