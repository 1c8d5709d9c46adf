//! The file that the record is written to, as long as it is that file.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use countersign::{Fault, FaultKind};

use super::{Act, Health, Keeping, OnFailure, rotation};

/// The most that is remembered for the store. The file has everything.
const RECENT_BYTES: usize = 256 * 1024;
/// How many looks at the file there are between two at what is kept of its predecessors.
const LOOKS: u32 = 600;

#[derive(Debug)]
pub(super) struct Sink {
    target: Mutex<Target>,
    keeping: Mutex<Keeping>,
    /// From `keeping`: read by every login.
    refuse: AtomicBool,
    /// Something was written since the last `fdatasync`.
    dirty: AtomicBool,
    /// What was written before may never come to disk.
    unsynced: AtomicBool,
    looks: AtomicU32,
    recent: Mutex<Recent>,
    /// `fdatasync`, except in tests.
    sync: fn(&File) -> io::Result<()>,
}

#[derive(Debug)]
struct Target {
    path: PathBuf,
    file: Arc<File>,
    size: u64,
    /// When its first record is of, once that is known.
    begun: Option<i64>,
    /// A write that failed half-way left half a line: the next one begins on a line of its own.
    torn: bool,
    failing: bool,
    /// It was deleted, and no other can be made: what is written now, nobody will find.
    gone: bool,
}

/// The newest batches, until the store takes them.
#[derive(Debug, Default)]
struct Recent {
    batches: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Sink {
    pub(super) fn open(path: &Path, create: bool, keeping: Keeping) -> io::Result<Self> {
        let refuse = AtomicBool::new(keeping.on_failure == OnFailure::Refuse);
        Ok(Self {
            target: Mutex::new(Target::open(path, create)?),
            keeping: Mutex::new(keeping),
            refuse,
            dirty: AtomicBool::new(false),
            unsynced: AtomicBool::new(false),
            looks: AtomicU32::new(0),
            recent: Mutex::default(),
            sync: File::sync_data,
        })
    }

    pub(super) fn path(&self) -> PathBuf {
        lock(&self.target).path.clone()
    }

    pub(super) fn refuses(&self) -> bool {
        self.refuse.load(Ordering::Relaxed)
    }

    pub(super) fn keeping(&self) -> Keeping {
        lock(&self.keeping).clone()
    }

    pub(super) fn keep_as(&self, keeping: Keeping) {
        self.refuse.store(keeping.on_failure == OnFailure::Refuse, Ordering::Relaxed);
        *lock(&self.keeping) = keeping;
    }

    pub(super) fn health(&self) -> Health {
        let target = lock(&self.target);
        let failing = target.failing || target.gone || self.unsynced.load(Ordering::Acquire);
        Health { path: target.path.clone(), size: target.size, failing }
    }

    pub(super) fn write(&self, lines: &[u8]) -> Result<(), Fault> {
        // Asked before the lock, and written anyway where logins go on.
        let unsynced = self.unsynced.load(Ordering::Acquire) && self.refuses();
        let mut target = lock(&self.target);
        let written = match unsynced {
            true => Err(io::Error::other("what was written before cannot be brought to disk")),
            false => target.append(lines),
        };
        if written.is_ok() {
            self.dirty.store(true, Ordering::Release);
        }
        written.map_err(|error| {
            let context = format!("cannot write the audit file {}", target.path.display());
            Fault::new(FaultKind::Unavailable, context).caused_by(error)
        })
    }

    pub(super) fn sync(&self) {
        let unsynced = self.unsynced.load(Ordering::Acquire);
        if !self.dirty.swap(false, Ordering::AcqRel) && !unsynced {
            return;
        }
        let (path, file) = {
            let mut target = lock(&self.target);
            // The system forgets what it could not write, and says yes when it is asked again. So it must
            // bring something new to disk before it is believed; and the record says what happened.
            if unsynced && target.append(&gap()).is_err() {
                return;
            }
            (target.path.clone(), Arc::clone(&target.file))
        };
        match (self.sync)(&file) {
            Ok(()) if unsynced => {
                self.unsynced.store(false, Ordering::Release);
                tracing::warn!(path = %path.display(), "the audit file can be synced again");
            }
            Ok(()) => {}
            // A terminal or a pipe, which has no disk.
            Err(error) if error.kind() == ErrorKind::InvalidInput => {}
            Err(error) => self.is_unsynced(&path, &error),
        }
    }

    fn is_unsynced(&self, path: &Path, error: &io::Error) {
        if !self.unsynced.swap(true, Ordering::AcqRel) {
            tracing::error!(path = %path.display(), %error, "cannot sync the audit file");
        }
    }

    pub(super) fn tend(&self, unix: i64) {
        let keeping = self.keeping();
        let path = self.path();
        let mut look = self.looks.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOOKS);
        if !self.is_in_place(&path) {
            if let Err(error) = self.reopen() {
                let mut target = lock(&self.target);
                target.gone = target.file.metadata().is_ok_and(|found| found.nlink() == 0);
                target.fails(error);
            }
        } else if self.is_due(&keeping, unix) {
            match self.rotate(&path) {
                Ok(()) => look = true,
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "cannot rotate the audit file");
                }
            }
        }
        if look {
            rotation::remove_old(&path, keeping.keep_files, keeping.keep_days, unix);
        }
    }

    fn is_in_place(&self, path: &Path) -> bool {
        let open = lock(&self.target).file.metadata();
        match (open, std::fs::symlink_metadata(path)) {
            (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
            (_, Err(error)) => error.kind() != ErrorKind::NotFound,
            (Err(_), _) => true,
        }
    }

    fn is_due(&self, keeping: &Keeping, unix: i64) -> bool {
        let mut target = lock(&self.target);
        // Another program may have written too, or copied and truncated it.
        let Ok(found) = target.file.metadata() else { return false };
        target.size = found.len();
        if !found.is_file() || target.size == 0 {
            target.begun = None;
            return false;
        }
        if keeping.rotate_size.is_some_and(|limit| target.size >= limit) {
            return true;
        }
        let Some(limit) = keeping.rotate_after else { return false };
        if target.begun.is_none() {
            // One without a time in its first line begins now.
            target.begun = Some(first_time(&target.path).unwrap_or(unix));
        }
        let limit = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
        target.begun.is_some_and(|begun| unix.saturating_sub(begun) >= limit)
    }

    fn rotate(&self, path: &Path) -> io::Result<()> {
        rotation::make_room(path)?;
        let fresh = rotation::fresh(path)?;
        let mut target = lock(&self.target);
        // Between the two names nobody finds no file: an administrator's command appends to it, too.
        rotation::put_in_place(path)?;
        let old = target.replace(fresh);
        drop(target);
        self.let_go(&old, path);
        tracing::info!(path = %path.display(), "the audit file is rotated");
        Ok(())
    }

    pub(super) fn reopen(&self) -> io::Result<()> {
        self.move_to(&self.path())
    }

    pub(super) fn move_to(&self, path: &Path) -> io::Result<()> {
        let new = Target::open(path, true)?;
        let old = std::mem::replace(&mut *lock(&self.target), new);
        self.let_go(&old.file, &old.path);
        Ok(())
    }

    /// The last of a file that is written no more.
    fn let_go(&self, old: &File, path: &Path) {
        if let Err(error) = (self.sync)(old)
            && error.kind() != ErrorKind::InvalidInput
        {
            self.is_unsynced(path, &error);
        }
    }

    pub(super) fn remember(&self, lines: &[u8]) {
        let mut recent = lock(&self.recent);
        recent.bytes += lines.len();
        recent.batches.push_back(lines.to_vec());
        while recent.bytes > RECENT_BYTES && recent.batches.len() > 1 {
            recent.bytes -= recent.batches.pop_front().map_or(0, |batch| batch.len());
        }
    }

    pub(super) fn take_recent(&self) -> Vec<u8> {
        let recent = std::mem::take(&mut *lock(&self.recent));
        recent.batches.into_iter().flatten().collect()
    }
}

impl Target {
    fn open(path: &Path, create: bool) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        // A link in a folder that another user can write could lead anywhere.
        options.append(true).create(create).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
        let file = options.open(path)?;
        let size = file.metadata()?.len();
        Ok(Self {
            path: path.to_owned(),
            file: Arc::new(file),
            size,
            begun: None,
            torn: ends_torn(path),
            failing: false,
            gone: false,
        })
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.gone {
            return Err(io::Error::new(
                ErrorKind::NotFound,
                "it was deleted, and cannot be made anew: see to its folder",
            ));
        }
        if self.torn {
            if let Err(error) = (&*self.file).write_all(b"\n") {
                return Err(self.fails(error));
            }
            self.torn = false;
        }
        let mut rest = lines;
        while !rest.is_empty() {
            match (&*self.file).write(rest) {
                Ok(0) => return Err(self.fails(ErrorKind::WriteZero.into())),
                Ok(count) => {
                    self.torn = rest[count - 1] != b'\n';
                    self.size += count as u64;
                    rest = &rest[count..];
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.fails(error)),
            }
        }
        if std::mem::replace(&mut self.failing, false) {
            tracing::warn!(path = %self.path.display(), "the audit file can be written again");
        }
        Ok(())
    }

    /// Writes to another file of the same name from now on; gives the one before.
    fn replace(&mut self, file: File) -> Arc<File> {
        (self.size, self.begun, self.torn) = (0, None, false);
        (self.failing, self.gone) = (false, false);
        std::mem::replace(&mut self.file, Arc::new(file))
    }

    /// Logged once, not for every login of an outage.
    fn fails(&mut self, error: io::Error) -> io::Error {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(
                path = %self.path.display(), %error,
                "cannot write the audit file: free some space, or see to its folder; it is tried again"
            );
        }
        error
    }
}

/// The line that follows what may be missing.
fn gap() -> Vec<u8> {
    let mut line = Vec::new();
    let detail =
        "the system could not bring the records before this one to disk; some may be missing";
    Act { actor: "server", act: "audit-gap", target: "", detail }.write(&mut line);
    line
}

/// Whether the file ends in the middle of a line: the disk was full, or the machine went down.
fn ends_torn(path: &Path) -> bool {
    let last = || -> io::Result<Option<u8>> {
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

/// When the first record of a file is of, in seconds since 1970.
fn first_time(path: &Path) -> Option<i64> {
    let mut start = [0; 64];
    let read = File::open(path).ok()?.read_at(&mut start, 0).ok()?;
    let rest = start[..read].strip_prefix(b"{\"time\":\"")?;
    let end = rest.iter().position(|byte| *byte == b'"')?;
    let time = std::str::from_utf8(&rest[..end]).ok()?;
    Some(time.parse::<jiff::Timestamp>().ok()?.as_second())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local! {
        static BROKEN: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    }

    fn sink(path: &Path, on_failure: OnFailure) -> Sink {
        let mut sink =
            Sink::open(path, true, Keeping { on_failure, ..Keeping::default() }).unwrap();
        sink.sync = |_| match BROKEN.get() {
            true => Err(io::Error::other("the disk of this test is broken")),
            false => Ok(()),
        };
        sink
    }

    #[test]
    fn what_cannot_be_brought_to_disk_is_refused_or_goes_on_and_is_told() {
        let folder = tempfile::tempdir().unwrap();
        for (on_failure, goes_on) in [(OnFailure::Refuse, false), (OnFailure::Continue, true)] {
            let path = folder.path().join(format!("{on_failure:?}"));
            let sink = sink(&path, on_failure);
            sink.write(b"{\"n\":1}\n").unwrap();
            BROKEN.set(true);
            sink.sync();
            assert!(sink.health().failing);
            assert_eq!(sink.write(b"{\"n\":2}\n").is_ok(), goes_on);
            // That nothing more was to be synced is no proof that what failed has come to disk.
            sink.sync();
            assert!(sink.health().failing);
            BROKEN.set(false);
            sink.sync();
            assert!(!sink.health().failing);
            sink.write(b"{\"n\":3}\n").unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(text.contains("\"n\":2"), goes_on);
            assert!(text.contains("audit-gap") && text.ends_with("{\"n\":3}\n"), "{text}");
        }
    }

    #[test]
    fn one_that_was_deleted_and_cannot_be_made_takes_no_records() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let path = inner.join("audit.jsonl");
        let sink = sink(&path, OnFailure::Refuse);
        std::fs::remove_dir_all(&inner).unwrap();
        sink.tend(0);
        assert!(sink.health().failing);
        assert!(sink.write(b"{}\n").is_err());
        std::fs::create_dir(&inner).unwrap();
        sink.tend(1);
        sink.write(b"{}\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"{}\n");
    }
}
