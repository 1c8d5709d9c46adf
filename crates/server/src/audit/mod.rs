//! The audit record: every attempt, with the true reason, before the peer hears anything.
//!
//! The durable record is an append-only file of JSON lines. A front end collects the records of one
//! batch in a [`Ledger`], writes them with one system call ([`Audit::commit`]), and only then lets its
//! replies go: what a peer was told, the file knows, even when the process is killed right after. The
//! file is brought to disk (`fdatasync`) once a second.

mod record;

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use countersign::{Fault, FaultKind};

pub use record::{Act, Outcome, Record};

use crate::metrics::{Counts, Metrics};

/// What to do when a record cannot be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// Nobody gets in without a record.
    #[default]
    Refuse,
    /// Logins go on; the failure is logged and counted.
    Continue,
}

/// The audit file, and its recent part for the store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Audit {
    sink: Option<Arc<Sink>>,
    on_failure: OnFailure,
}

#[derive(Debug)]
struct Sink {
    path: PathBuf,
    file: Mutex<Target>,
    dirty: AtomicBool,
    recent: Mutex<Recent>,
}

#[derive(Debug)]
struct Target {
    file: File,
    /// A write that failed half-way left half a line: the next one begins on a line of its own.
    torn: bool,
    failing: bool,
}

/// The newest batches, until the store takes them. Bounded by bytes: the file has everything.
#[derive(Debug, Default)]
struct Recent {
    batches: VecDeque<Vec<u8>>,
    bytes: usize,
}

const RECENT_BYTES: usize = 256 * 1024;
/// Buffers of batches that have grown beyond this are given back.
const KEPT: usize = 64 * 1024;

/// What a front end has decided and not yet said.
#[derive(Debug, Default)]
pub struct Ledger {
    lines: Vec<u8>,
    pub(crate) counts: Counts,
}

impl Audit {
    /// No record at all. For benchmarks and tests; a server says so at start-up.
    pub fn off() -> Self {
        Self { sink: None, on_failure: OnFailure::Continue }
    }

    /// Opens the file, mode 0600, and appends to it.
    ///
    /// # Errors
    ///
    /// When it cannot be opened for writing: at start-up, whatever `on_failure` says.
    pub fn open(path: &Path, on_failure: OnFailure) -> Result<Self, Fault> {
        Self::open_with(OpenOptions::new().create(true), path, on_failure)
    }

    /// Opens the file that a server has made, for another program to append to. It makes none: the server
    /// may run as another user, and could not write it.
    ///
    /// # Errors
    ///
    /// As [`Audit::open`], except that a file that is not there is no record yet, and no error.
    pub fn open_existing(path: &Path, on_failure: OnFailure) -> Result<Self, Fault> {
        if std::fs::symlink_metadata(path).is_err_and(|e| e.kind() == ErrorKind::NotFound) {
            return Ok(Self::off());
        }
        Self::open_with(&mut OpenOptions::new(), path, on_failure)
    }

    fn open_with(
        options: &mut OpenOptions,
        path: &Path,
        on_failure: OnFailure,
    ) -> Result<Self, Fault> {
        // A link in a folder that another user can write could lead anywhere.
        let file = options.append(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW).open(path);
        let file = file.map_err(|error| {
            Fault::unavailable(format!(
                "cannot open the audit file {} for writing (check its folder's owner and mode, or \
                 set `audit.path`)",
                path.display()
            ))
            .caused_by(error)
        })?;
        let target = Target { file, torn: ends_torn(path), failing: false };
        let sink = Sink {
            path: path.to_owned(),
            file: Mutex::new(target),
            dirty: AtomicBool::new(false),
            recent: Mutex::default(),
        };
        Ok(Self { sink: Some(Arc::new(sink)), on_failure })
    }

    /// Whether anything is recorded.
    pub fn is_on(&self) -> bool {
        self.sink.is_some()
    }

    /// Adds a record to a batch.
    pub fn record(&self, ledger: &mut Ledger, record: &Record<'_>) {
        if self.is_on() {
            record.write(&mut ledger.lines);
        }
    }

    /// Writes a batch. After an error nothing positive may be said about it.
    ///
    /// # Errors
    ///
    /// When the record cannot be written and the configuration says to refuse.
    pub fn commit(&self, ledger: &mut Ledger, metrics: &Metrics) -> Result<(), Fault> {
        if metrics.enabled {
            metrics.add(&mut ledger.counts);
        }
        let Some(sink) = &self.sink else { return Ok(()) };
        if ledger.lines.is_empty() {
            return Ok(());
        }
        let mut written = sink.write(&ledger.lines).map_err(|error| sink.unwritten(error));
        if written.is_err() {
            metrics.audit_failures.fetch_add(1, Ordering::Relaxed);
            if self.on_failure == OnFailure::Continue {
                written = Ok(());
            }
        }
        if written.is_ok() {
            // What is refused for want of a record did not happen, and queries must not say so.
            sink.remember(&ledger.lines);
        }
        ledger.lines.clear();
        ledger.lines.shrink_to(KEPT);
        written
    }

    /// Writes what an administrator did, at once. It goes to the store by another way, so it is not among
    /// the recent lines.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn act(&self, act: &Act<'_>) -> Result<(), Fault> {
        let Some(sink) = &self.sink else { return Ok(()) };
        let mut line = Vec::new();
        act.write(&mut line);
        sink.write(&line).map_err(|error| sink.unwritten(error))
    }

    /// Brings what was written to disk. Blocks; called once a second from a thread that may.
    pub fn sync(&self) {
        let Some(sink) = &self.sink else { return };
        if sink.dirty.swap(false, Ordering::AcqRel) {
            let file = lock(&sink.file).file.try_clone();
            if let Err(error) = file.and_then(|file| file.sync_data()) {
                sink.dirty.store(true, Ordering::Release);
                tracing::error!(path = %sink.path.display(), %error, "cannot sync the audit file");
            }
        }
    }

    /// Takes the newest lines that the store has not seen, oldest first, at most `limit`.
    pub fn take_recent(&self, limit: usize) -> Vec<u8> {
        let Some(sink) = &self.sink else { return Vec::new() };
        let batches = std::mem::take(&mut *lock(&sink.recent)).batches;
        let lines: Vec<u8> = batches.into_iter().flatten().collect();
        let mut starts = memrchr_lines(&lines);
        let from = starts.nth(limit.saturating_sub(1)).unwrap_or(0);
        lines[from..].to_vec()
    }
}

/// The beginnings of lines, last line first.
fn memrchr_lines(lines: &[u8]) -> impl Iterator<Item = usize> {
    let body = lines.strip_suffix(b"\n").unwrap_or(lines);
    let inner =
        body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').map(|(i, _)| i + 1);
    inner.chain((!body.is_empty()).then_some(0))
}

impl Sink {
    fn write(&self, lines: &[u8]) -> std::io::Result<()> {
        let mut target = lock(&self.file);
        if target.torn {
            if let Err(error) = target.file.write_all(b"\n") {
                return Err(target.fails(&self.path, error));
            }
            target.torn = false;
        }
        let mut rest = lines;
        while !rest.is_empty() {
            match target.file.write(rest) {
                Ok(0) => return Err(target.fails(&self.path, std::io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    target.torn = rest[count - 1] != b'\n';
                    rest = &rest[count..];
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(target.fails(&self.path, error)),
            }
        }
        if std::mem::replace(&mut target.failing, false) {
            tracing::warn!(path = %self.path.display(), "the audit file can be written again");
        }
        self.dirty.store(true, Ordering::Release);
        Ok(())
    }

    fn unwritten(&self, error: std::io::Error) -> Fault {
        let context = format!("cannot write the audit file {}", self.path.display());
        Fault::new(FaultKind::Unavailable, context).caused_by(error)
    }

    fn remember(&self, lines: &[u8]) {
        let mut recent = lock(&self.recent);
        recent.bytes += lines.len();
        recent.batches.push_back(lines.to_vec());
        while recent.bytes > RECENT_BYTES && recent.batches.len() > 1 {
            recent.bytes -= recent.batches.pop_front().map_or(0, |batch| batch.len());
        }
    }
}

impl Target {
    /// Logged once, not for every login of an outage.
    fn fails(&mut self, path: &Path, error: std::io::Error) -> std::io::Error {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(path = %path.display(), %error, "cannot write the audit file");
        }
        error
    }
}

/// Whether the file ends in the middle of a line: the disk was full, or the machine went down.
fn ends_torn(path: &Path) -> bool {
    let last = || -> std::io::Result<Option<u8>> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() == 0 {
            return Ok(None);
        }
        let mut last = [0];
        file.read_exact_at(&mut last, metadata.len() - 1)?;
        Ok(Some(last[0]))
    };
    // One that may be written and not read is taken to be whole.
    !matches!(last(), Ok(None | Some(b'\n')) | Err(_))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_lines_come_oldest_first_and_bounded() {
        let starts: Vec<_> = memrchr_lines(b"a\nbb\nc\n").collect();
        assert_eq!(starts, [5, 2, 0]);
        assert_eq!(memrchr_lines(b"").count(), 0);
    }

    #[test]
    fn a_full_disk_refuses_or_goes_on() {
        for (on_failure, goes_on) in [(OnFailure::Refuse, false), (OnFailure::Continue, true)] {
            // The device that is always full.
            let audit = Audit::open(Path::new("/dev/full"), on_failure).unwrap();
            let metrics = Metrics::default();
            let mut ledger = Ledger { lines: b"{}\n".to_vec(), ..Ledger::default() };
            assert_eq!(audit.commit(&mut ledger, &metrics).is_ok(), goes_on);
            assert_eq!(metrics.audit_failures.load(Ordering::Relaxed), 1);
            // What was refused did not happen.
            assert_eq!(audit.take_recent(10).is_empty(), !goes_on);
        }
    }
}
