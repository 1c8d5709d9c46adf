//! The audit record: every attempt, with the true reason, before the peer hears anything.
//!
//! The durable record is an append-only file of JSON lines. A front end collects the records of one
//! batch in a [`Ledger`], writes them with one system call ([`Audit::commit`]), and only then lets its
//! replies go: what a peer was told, the file knows, even when the process is killed right after. Once a
//! second the file is brought to disk (`fdatasync`), looked for in its place, and rotated when it is time
//! ([`Audit::tend`]).

mod reading;
mod record;
mod rotation;
mod sink;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use countersign::Fault;

pub use reading::{Entry, Filter, Follow, entry, newest};
pub use record::{Act, Outcome, Record};
use sink::Sink;

use crate::metrics::{Counts, Metrics};
use crate::telemetry::Ended;
use crate::world::SystemWorld;

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

/// How the record is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keeping {
    /// What to do when a record cannot be written, or not brought to disk.
    pub on_failure: OnFailure,
    /// Rotate when the file has so many bytes.
    pub rotate_size: Option<u64>,
    /// Rotate when the file's first record is so old.
    pub rotate_after: Option<Duration>,
    /// How many rotated files are kept; all, if nobody says.
    pub keep_files: Option<usize>,
    /// For how many days a rotated file is kept after its last record; for ever, if nobody says.
    pub keep_days: Option<u32>,
}

/// The audit file, and its recent part for the store. Cheap to clone; clones are the same file.
#[derive(Clone, Debug)]
pub struct Audit {
    sink: Option<Arc<Sink>>,
    /// Whose time the records have.
    world: SystemWorld,
}

/// How the record does, for who looks after the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The file.
    pub path: PathBuf,
    /// Its length in bytes.
    pub size: u64,
    /// Whether the last try to write it, or to bring it to disk, failed.
    pub failing: bool,
}

/// Buffers of batches that have grown beyond this are given back.
const KEPT: usize = 64 * 1024;

/// What a front end has decided and not yet said.
#[derive(Debug, Default)]
pub struct Ledger {
    lines: Vec<u8>,
    pub(crate) counts: Counts,
    pub(crate) traces: Ended,
}

impl Audit {
    /// No record at all. For benchmarks and tests; a server says so at start-up.
    pub fn off() -> Self {
        Self::to(None)
    }

    /// Opens the file, mode 0600, and appends to it.
    ///
    /// # Errors
    ///
    /// When it cannot be opened for writing: at start-up, whatever `on_failure` says.
    pub fn open(path: &Path, on_failure: OnFailure) -> Result<Self, Fault> {
        Self::kept(path, Keeping { on_failure, ..Keeping::default() })
    }

    /// Opens the file as [`Audit::open`] does, to be kept so. Whoever calls this calls [`Audit::tend`] once a
    /// second.
    ///
    /// # Errors
    ///
    /// As [`Audit::open`].
    pub fn kept(path: &Path, keeping: Keeping) -> Result<Self, Fault> {
        rotation::undo_half_done(path);
        let sink = Sink::open(path, true, keeping).map_err(|error| unopened(path, error))?;
        Ok(Self::to(Some(Arc::new(sink))))
    }

    /// Opens the file that a server has made, for another program to append to. It makes none: the server
    /// may run as another user, and could not write it.
    ///
    /// # Errors
    ///
    /// As [`Audit::open`], except that a file that is not there is no record yet, and no error.
    pub fn open_existing(path: &Path, on_failure: OnFailure) -> Result<Self, Fault> {
        let keeping = Keeping { on_failure, ..Keeping::default() };
        match Sink::open(path, false, keeping) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::off()),
            Err(error) => Err(unopened(path, error)),
            Ok(sink) => Ok(Self::to(Some(Arc::new(sink)))),
        }
    }

    fn to(sink: Option<Arc<Sink>>) -> Self {
        Self { sink, world: SystemWorld::new() }
    }

    /// The same record, by the clock of this world.
    #[must_use]
    pub fn in_world(self, world: SystemWorld) -> Self {
        Self { world, ..self }
    }

    /// Whether anything is recorded.
    pub fn is_on(&self) -> bool {
        self.sink.is_some()
    }

    /// Adds a record to a batch.
    pub fn record(&self, ledger: &mut Ledger, record: &Record<'_>) {
        if self.is_on() {
            record.write_in(&self.world, &mut ledger.lines);
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
        let mut written = sink.write(&ledger.lines);
        if written.is_err() {
            metrics.audit_failures.fetch_add(1, Ordering::Relaxed);
            if !sink.refuses() {
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
        act.write_in(&self.world, &mut line);
        sink.write(&line)
    }

    /// Brings what was written to disk. Blocks; called once a second from a thread that may.
    pub fn sync(&self) {
        if let Some(sink) = &self.sink {
            sink.sync();
        }
    }

    /// Sees to the file itself: one that was moved or deleted is made anew, one that is large or old
    /// enough is rotated, what is kept for long enough is removed. `unix`: seconds since 1970. Blocks;
    /// called once a second from a thread that may. What fails is logged, and tried again next time.
    pub fn tend(&self, unix: i64) {
        if let Some(sink) = &self.sink {
            sink.tend(unix);
        }
    }

    /// Opens the file by its name again, as after a rotation by another program. Blocks.
    ///
    /// # Errors
    ///
    /// When it cannot be opened; the old one is written on.
    pub fn reopen(&self) -> Result<(), Fault> {
        let Some(sink) = &self.sink else { return Ok(()) };
        sink.reopen().map_err(|error| unopened(&sink.path(), error))
    }

    /// Keeps the record differently from now on, and elsewhere if the path is another. Blocks.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened there; everything stays as it was.
    pub fn keep_as(&self, path: &Path, keeping: Keeping) -> Result<(), Fault> {
        let Some(sink) = &self.sink else { return Ok(()) };
        sink.move_to(path).map_err(|error| unopened(path, error))?;
        sink.keep_as(keeping);
        Ok(())
    }

    /// How the record is kept.
    pub fn keeping(&self) -> Option<Keeping> {
        self.sink.as_ref().map(|sink| sink.keeping())
    }

    /// How the record does; `None` if there is none.
    pub fn health(&self) -> Option<Health> {
        self.sink.as_ref().map(|sink| sink.health())
    }

    /// Takes the newest lines that the store has not seen, oldest first, at most `limit`.
    pub fn take_recent(&self, limit: usize) -> Vec<u8> {
        let Some(sink) = &self.sink else { return Vec::new() };
        let lines = sink.take_recent();
        let mut starts = last_lines(&lines);
        let from = starts.nth(limit.saturating_sub(1)).unwrap_or(0);
        lines[from..].to_vec()
    }
}

fn unopened(path: &Path, error: std::io::Error) -> Fault {
    Fault::unavailable(format!(
        "cannot open the audit file {} for writing (check its folder's owner and mode, or set \
         `audit.path`)",
        path.display()
    ))
    .caused_by(error)
}

/// The beginnings of lines, last line first.
fn last_lines(lines: &[u8]) -> impl Iterator<Item = usize> {
    let body = lines.strip_suffix(b"\n").unwrap_or(lines);
    let inner =
        body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').map(|(i, _)| i + 1);
    inner.chain((!body.is_empty()).then_some(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_lines_come_oldest_first_and_bounded() {
        let starts: Vec<_> = last_lines(b"a\nbb\nc\n").collect();
        assert_eq!(starts, [5, 2, 0]);
        assert_eq!(last_lines(b"").count(), 0);
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
