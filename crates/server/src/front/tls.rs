//! TLS of a listener: its certificate and key, read from files and read again when they change.
//!
//! A server outlives its certificates. [`Tls::look`] notices that the files changed and loads them, and a
//! pair that cannot be used (half written, of two different keys) leaves the one in use where it is. Every
//! connection takes what is current when it comes; one under way keeps what it began with.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use countersign::World;
use countersign_tls::Pair;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;

use super::Stop;
use crate::world::SystemWorld;

pub use countersign_tls::{Bindings, TlsError, TlsFiles};

/// How often the files are looked at. A change counts when two looks have seen the same.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A certificate that ends within this is told at the start, in seconds.
const SOON: i64 = 7 * 24 * 3600;

/// What TLS is for here (RFC 7301).
const PROTOCOLS: &[&[u8]] = &[b"http/1.1"];

/// TLS of one listener.
pub struct Tls {
    files: TlsFiles,
    current: ArcSwap<Pair>,
    looked: Mutex<Looked>,
}

/// What the files looked like when they were loaded, and at the last look.
struct Looked {
    loaded: [Option<Stamp>; 2],
    last: [Option<Stamp>; 2],
}

/// Tells a file from another one that took its place.
type Stamp = (u64, u64, i64, i64, u64);

impl Tls {
    /// Loads a certificate and its key.
    ///
    /// # Errors
    ///
    /// Which file is wrong, and what is.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let stamps = stamps(&files);
        let current = ArcSwap::from_pointee(Pair::read(&files, PROTOCOLS)?);
        let looked = Mutex::new(Looked { loaded: stamps, last: stamps });
        Ok(Self { files, current, looked })
    }

    /// Loads the files again, as an operator asks for it. The certificate in use stays if they are wrong.
    ///
    /// # Errors
    ///
    /// As [`Tls::load`].
    pub fn reload(&self) -> Result<(), TlsError> {
        let stamps = stamps(&self.files);
        let loaded = Pair::read(&self.files, PROTOCOLS);
        // Also of what is wrong: it is told once.
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) =
            Looked { loaded: stamps, last: stamps };
        self.current.store(Arc::new(loaded?));
        Ok(())
    }

    /// Loads the files again if they have changed and are not being changed right now: this look saw what
    /// the one before saw. `None`: nothing to do.
    pub fn look(&self) -> Option<Result<(), TlsError>> {
        let stamps = stamps(&self.files);
        {
            let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
            let settled = std::mem::replace(&mut looked.last, stamps) == stamps;
            if !settled || looked.loaded == stamps {
                return None;
            }
        }
        Some(self.reload())
    }

    /// What there is to say about the certificate in use, for a log: until when it is good, and whether it
    /// is good at `now` (seconds since 1970).
    pub fn validity(&self, now: i64) -> Result<String, String> {
        let (begin, end) = self.current.load().validity();
        let day = |second| match jiff::Timestamp::from_second(second) {
            Ok(time) => time.to_string(),
            Err(_) => second.to_string(),
        };
        let path = self.files.certificate.display();
        match () {
            () if end < now => Err(format!("{path} expired at {}: clients refuse it", day(end))),
            () if begin > now => Err(format!("{path} is not valid before {}", day(begin))),
            () if end < now + SOON => Err(format!("{path} expires soon, at {}", day(end))),
            () => Ok(format!("{path} is valid until {}", day(end))),
        }
    }

    /// Where the files are.
    pub fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// The server's side of a handshake, within a deadline.
    ///
    /// # Errors
    ///
    /// When the peer speaks no TLS, none of ours, or too slowly.
    pub async fn accept<S>(&self, stream: S) -> std::io::Result<(TlsStream<S>, Bindings)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.current.load_full().accept(stream).await
    }
}

/// Looks at the files of all listeners until a stop. What is wrong is told once, and the old certificate
/// goes on.
pub async fn watch(all: Vec<Arc<Tls>>, world: SystemWorld, mut stop: Stop) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let all: Arc<[_]> = all.into();
    loop {
        tokio::select! {
            biased;
            () = stop.requested() => return,
            _ = ticks.tick() => {}
        }
        let all = Arc::clone(&all);
        // Files may be on something slow.
        let looked = tokio::task::spawn_blocking(move || {
            for tls in all.iter() {
                if let Some(result) = tls.look() {
                    tls.tell(result, world.now().unix);
                }
            }
        });
        let _ = looked.await;
    }
}

impl Tls {
    /// Says in the log what a reload came to.
    pub fn tell(&self, result: Result<(), TlsError>, now: i64) {
        match result.map(|()| self.validity(now)) {
            Ok(Ok(said)) => tracing::info!("certificate replaced: {said}"),
            Ok(Err(said)) => tracing::warn!("certificate replaced: {said}"),
            Err(error) => {
                tracing::error!("the new certificate is not used, the old one goes on: {error}");
            }
        }
    }
}

fn stamps(files: &TlsFiles) -> [Option<Stamp>; 2] {
    [&files.certificate, &files.key].map(|path| {
        let found = std::fs::metadata(path).ok()?;
        let changed = (found.mtime(), found.mtime_nsec());
        Some((found.dev(), found.ino(), changed.0, changed.1, found.size()))
    })
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
