//! A file that is read again when it changes: what it holds is never older than a tenth of a second, and never
//! half of it.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::{Duration, SystemTime};

use countersign::{Fault, FaultKind};
use zeroize::Zeroizing;

use crate::passwd_file::MAX_FILE;
use crate::world::coarse;

/// How often a login looks whether the file has changed: a look costs a system call.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// While a look or a reading is under way, others go by what was read before; for so long. After that
/// nobody gets in by what cannot be checked: the file's server may be away.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// How often a file is read that changes meanwhile, before nobody gets in by it for now.
const READINGS: usize = 3;

/// A file, and what was made of it.
pub(crate) struct Watched<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    /// What it is, for errors: `password file`.
    what: &'static str,
    path: PathBuf,
    read: Box<Read<T>>,
    look_every: Duration,
    /// Each login looks at it, and a tenth of a second's first changes it.
    state: RwLock<State<T>>,
}

/// Makes something of a file's bytes.
type Read<T> = dyn Fn(&Path, &[u8]) -> T + Send + Sync;

struct State<T> {
    loaded: Arc<Loaded<T>>,
    /// When the last look began, on the steady clock: to some milliseconds.
    looked: Duration,
    /// Whether that one is still under way: there is one at a time, so that a file server that hangs costs
    /// one thread, and an older reading cannot end after a newer one.
    looking: bool,
    /// The file cannot be read now. Nobody gets in by what it held before.
    broken: Option<Fault>,
}

struct Loaded<T> {
    value: Arc<T>,
    version: Version,
    /// Whether a later change must show in the version. One within the same tick of the file system's clock
    /// need not.
    settled: bool,
}

/// Enough of a file's metadata to notice every change: also a replacement within the same second, and one
/// that is older than what it replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Reads a file. Blocks; later readings happen beside the runtime. `read` makes something of its bytes,
    /// and logs what is wrong with them.
    ///
    /// # Errors
    ///
    /// A fault when it cannot be read, is no regular file, is larger than 1 GiB, or is empty.
    pub(crate) fn open(
        what: &'static str,
        path: PathBuf,
        read: impl Fn(&Path, &[u8]) -> T + Send + Sync + 'static,
    ) -> Result<Self, Fault> {
        let loaded = load(&path, &read).map_err(|error| unreadable(what, &path, error))?;
        let state = State {
            loaded: Arc::new(loaded),
            looked: coarse::steady(),
            looking: false,
            broken: None,
        };
        let (read, state) = (Box::new(read), RwLock::new(state));
        Ok(Self { inner: Arc::new(Inner { what, path, read, look_every: LOOK_EVERY, state }) })
    }

    /// The same, looking whether the file has changed at most so often (100 ms). Zero: each time.
    pub(crate) fn looking_every(mut self, interval: Duration) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.look_every = interval;
        }
        self
    }

    pub(crate) fn path(&self) -> &Path {
        &self.inner.path
    }

    /// What was read last, without a look.
    pub(crate) fn last(&self) -> Arc<T> {
        Arc::clone(&self.inner.state().loaded.value)
    }

    /// What `see` makes of the file as it is now, where nobody need look for that. What is read meanwhile waits
    /// for it, and others who see it do not: so it must be short.
    ///
    /// # Errors
    ///
    /// As [`Watched::current`].
    pub(crate) fn at_once<R>(&self, see: impl FnOnce(&T) -> R) -> Option<Result<R, Fault>> {
        let state = self.inner.state.read().unwrap_or_else(PoisonError::into_inner);
        let known = self.inner.known(&state, coarse::steady())?;
        Some(known.map(|known| see(known)))
    }

    /// The file as it is now.
    ///
    /// # Errors
    ///
    /// A fault while it cannot be read.
    pub(crate) async fn current(&self) -> Result<Arc<T>, Fault> {
        let look = {
            let (mut state, now) = (self.inner.state(), coarse::steady());
            if let Some(known) = self.inner.known(&state, now) {
                return known.map(Arc::clone);
            }
            state.looked = now;
            state.looking = true;
            Look { inner: Arc::clone(&self.inner) }
        };
        // Even a look can take for ever, where the file is on another machine.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                let looked = runtime.spawn_blocking(move || look.take()).await;
                looked.map_err(|error| self.inner.failed().caused_by(error))?
            }
            Err(_) => look.take(),
        }
    }
}

impl<T> Inner<T> {
    fn state(&self) -> RwLockWriteGuard<'_, State<T>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What holds until the next look, if none is due.
    fn known<'s>(&self, state: &'s State<T>, now: Duration) -> Option<Result<&'s Arc<T>, Fault>> {
        let age = now.saturating_sub(state.looked);
        if state.looking && age > PATIENCE {
            return Some(Err(self.hangs()));
        }
        (state.looking || age < self.look_every).then(|| state.usable())
    }

    fn hangs(&self) -> Fault {
        let (what, path) = (self.what, self.path.display());
        Fault::new(FaultKind::Timeout, format!("the {what} {path} takes too long to read"))
    }

    fn failed(&self) -> Fault {
        Fault::internal(format!("reading the {} {}", self.what, self.path.display()))
    }
}

/// A look whether the file has changed. However it ends, the next one may begin.
struct Look<T> {
    inner: Arc<Inner<T>>,
}

impl<T> Look<T> {
    fn take(self) -> Result<Arc<T>, Fault> {
        let Inner { what, path, read, .. } = &*self.inner;
        let before = Arc::clone(&self.inner.state().loaded);
        let found = std::fs::metadata(path).and_then(|found| {
            let same = before.settled && Version::of(&found) == before.version;
            if same { Ok(None) } else { load(path, read).map(Some) }
        });
        let mut state = self.inner.state();
        match found {
            Ok(None) => state.broken = None,
            Ok(Some(loaded)) => {
                if loaded.version != before.version || state.broken.is_some() {
                    tracing::info!(path = %path.display(), "read the {what} again");
                }
                state.loaded = Arc::new(loaded);
                state.broken = None;
            }
            Err(error) => {
                let fault = unreadable(what, path, error);
                if state.broken.is_none() {
                    tracing::error!("{fault}; nobody of it can log in until then");
                }
                state.broken = Some(fault);
            }
        }
        state.usable().map(Arc::clone)
    }
}

impl<T> Drop for Look<T> {
    fn drop(&mut self) {
        self.inner.state().looking = false;
    }
}

impl<T> State<T> {
    fn usable(&self) -> Result<&Arc<T>, Fault> {
        match &self.broken {
            None => Ok(&self.loaded.value),
            Some(fault) => Err(fault.clone()),
        }
    }
}

impl Version {
    /// Whether the file's last change is longer ago than its clock's tick: some milliseconds, or two
    /// seconds where the file system keeps whole ones. A time in the future says nothing and is left at
    /// that, for to read again and again would not end.
    fn settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (seconds, nanos) = self.changed;
        let tick = if nanos == 0 { 2_000_000_000 } else { 50_000_000 };
        let age =
            now.as_nanos() as i128 - (i128::from(seconds) * 1_000_000_000 + i128::from(nanos));
        age.abs() > tick
    }

    fn of(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

fn load<T>(path: &Path, read: impl Fn(&Path, &[u8]) -> T) -> io::Result<Loaded<T>> {
    let (data, version) = whole(path, || ())?;
    let settled = version.settled(SystemTime::now());
    Ok(Loaded { value: Arc::new(read(path, &data)), version, settled })
}

/// The bytes of a file, none of which was changed while they were read. `between`: for tests, what happens
/// between a reading and the look whether that was so.
fn whole(path: &Path, mut between: impl FnMut()) -> io::Result<(Zeroizing<Vec<u8>>, Version)> {
    use io::Read as _;
    // Before it is opened: opening a pipe waits for a writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    for _ in 0..READINGS {
        let mut file = std::fs::File::open(path)?;
        let version = Version::of(&file.metadata()?);
        if version.size > MAX_FILE as u64 {
            let why = "it is larger than 1 GiB; use a database";
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        // One allocation: what a growing vector leaves behind is not wiped.
        let mut data = Zeroizing::new(Vec::with_capacity(version.size as usize + 1));
        (&mut file).take(version.size).read_to_end(&mut data)?;
        between();
        // Half of a new file, or half of a line, would be somebody else's password.
        if Version::of(&file.metadata()?) != version || data.len() as u64 != version.size {
            continue;
        }
        if data.is_empty() {
            let why = "it is empty; a file without users must have a comment line";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
        }
        return Ok((data, version));
    }
    let why = "it is being written; put a new file in its place with a rename";
    Err(io::Error::new(io::ErrorKind::WouldBlock, why))
}

fn unreadable(what: &str, path: &Path, error: io::Error) -> Fault {
    let context = format!("cannot read the {what} {}", path.display());
    Fault::unavailable(context).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_settled_when_the_clock_has_ticked() {
        let at = |seconds, nanos| Version {
            device: 1,
            inode: 1,
            size: 1,
            modified: (5, 0),
            changed: (seconds, nanos),
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_500);
        assert!(!at(1000, 499_000_000).settled(now));
        assert!(at(1000, 400_000_000).settled(now));
        // Whole seconds only: it may be 1000.4 too.
        assert!(!at(1000, 0).settled(now) && !at(999, 0).settled(now));
        assert!(at(998, 0).settled(now));
        // A clock that was put back ends no loop later than it must.
        assert!(at(2000, 1).settled(now) && !at(1000, 501_000_000).settled(now));
    }

    fn current(file: &Watched<Vec<u8>>) -> Result<Vec<u8>, FaultKind> {
        let current = countersign::testing::now_or_never(file.current());
        let current = current.expect("without a runtime nothing waits");
        current.map(|bytes| bytes.to_vec()).map_err(|fault| fault.kind())
    }

    /// A file server that has gone away: for a while by what was read, then not at all, and never on the
    /// runtime's threads.
    #[test]
    fn a_look_that_hangs_refuses_after_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        std::fs::write(&path, "a").unwrap();
        let file = Watched::open("list", path, |_, bytes| bytes.to_vec()).unwrap();
        let file = file.looking_every(Duration::ZERO);
        let look = Look { inner: Arc::clone(&file.inner) };
        file.inner.state().looking = true;
        file.inner.state().looked = coarse::steady();
        assert_eq!(current(&file), Ok(b"a".to_vec()));
        std::fs::remove_file(folder.path().join("users")).unwrap();
        assert_eq!(current(&file), Ok(b"a".to_vec()), "nobody else looks");
        let Some(long_ago) = coarse::steady().checked_sub(PATIENCE * 2) else {
            panic!("this machine has just been started: run the test again in a minute")
        };
        file.inner.state().looked = long_ago;
        assert_eq!(current(&file), Err(FaultKind::Timeout));
        // However a look ends, the next one is taken.
        drop(look);
        assert_eq!(current(&file), Err(FaultKind::Unavailable));
    }

    #[test]
    fn what_is_written_while_it_is_read_is_read_again() {
        use std::io::Write as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        std::fs::write(&path, "ada:pass").unwrap();
        let mut writes = 0;
        let mut append = |most| {
            if writes < most {
                writes += 1;
                let mut file = std::fs::File::options().append(true).open(&path).unwrap();
                file.write_all(b"word").unwrap();
            }
        };
        let (data, _) = whole(&path, || append(1)).unwrap();
        assert_eq!(&**data, b"ada:password");
        let busy = whole(&path, || append(usize::MAX)).unwrap_err();
        assert!(busy.to_string().contains("it is being written"), "{busy}");
    }
}
