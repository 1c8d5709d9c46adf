//! `[checker.file.NAME]`: users in a password file, as in Dovecot's passwd-file.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use countersign::{Fault, FaultKind, Identity, Password, PasswordStore, Secret, Verdict, Verified};

use crate::hash::{Accept, Cost, Hash};
use crate::passwd_file::{Effect, Entry, Format, PasswdFile};
use crate::pool::{HashPool, PoolError};

/// How often a login looks whether the file has changed: a look costs a system call.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A file of more bytes than this is read beside the runtime: some 2 ms of parsing.
const READ_INLINE: u64 = 256 * 1024;

/// Users in a password file. The file is read again when it changes, within a tenth of a second.
pub struct File {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    format: Format,
    accept: Accept,
    pool: Arc<HashPool>,
    state: Mutex<State>,
}

struct State {
    loaded: Arc<Loaded>,
    looked: Instant,
    /// The file cannot be read now. Nobody gets in by what it held before.
    broken: Option<Fault>,
}

struct Loaded {
    users: PasswdFile,
    /// What an unknown user's password is compared with: a hash of the file's commonest cost.
    decoy: Option<Hash>,
    version: Version,
}

/// Enough of a file's metadata to notice every change: also a replacement within the same second, and one
/// that is older than what it replaces.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Version {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl File {
    /// Reads a password file.
    ///
    /// # Errors
    ///
    /// A fault when it cannot be read. Bad lines are logged; their users cannot log in.
    pub fn open(
        path: impl Into<PathBuf>,
        format: Format,
        accept: Accept,
        pool: Arc<HashPool>,
    ) -> Result<Self, Fault> {
        let path = path.into();
        let loaded = load(&path, &format, &accept).map_err(|error| unreadable(&path, error))?;
        let state = State { loaded: Arc::new(loaded), looked: Instant::now(), broken: None };
        let inner = Inner { path, format, accept, pool, state: Mutex::new(state) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The checker of that name over this file.
    pub fn checker(self, name: impl Into<String>) -> Password<Self> {
        Password::new(name, self)
    }

    /// How many users it has.
    pub fn len(&self) -> usize {
        self.inner.state().loaded.users.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The file as it is now.
    async fn current(&self) -> Result<Arc<Loaded>, Fault> {
        let size = {
            let mut state = self.inner.state();
            if state.looked.elapsed() < LOOK_EVERY {
                return state.usable();
            }
            state.looked = Instant::now();
            match std::fs::metadata(&self.inner.path) {
                Ok(found) if Version::of(&found) == state.loaded.version => {
                    state.broken = None;
                    return state.usable();
                }
                Ok(found) => found.len(),
                Err(error) => {
                    state.broken = Some(unreadable(&self.inner.path, error));
                    return state.usable();
                }
            }
        };
        let inner = Arc::clone(&self.inner);
        if size <= READ_INLINE {
            return inner.reload();
        }
        let reloading = tokio::task::spawn_blocking(move || inner.reload());
        reloading
            .await
            .map_err(|error| Fault::internal("reading a password file").caused_by(error))?
    }
}

impl PasswordStore for File {
    async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
        let loaded = self.current().await?;
        let entry = loaded.users.find(login);
        let own = entry.as_ref().and_then(Entry::hash);
        if let Some(hash) = own.or(loaded.decoy.as_ref()) {
            let matches = match hash.cost() {
                Cost::Cheap => hash.verify(password),
                Cost::Expensive => {
                    let verified = self.inner.pool.verify(hash, password.clone(), login).await;
                    verified.map_err(|error| self.busy(error))?
                }
            };
            if let (true, Some(entry), Some(_)) = (matches, &entry, own) {
                return Ok(Verdict::Is(Verified::vouch(identity(entry))));
            }
        }
        Ok(if entry.is_some() { Verdict::WRONG } else { Verdict::UNKNOWN })
    }
}

impl File {
    fn busy(&self, error: PoolError) -> Fault {
        let context = format!("verifying a password of {}", self.inner.path.display());
        Fault::new(FaultKind::Overloaded, context).caused_by(error)
    }
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reload(&self) -> Result<Arc<Loaded>, Fault> {
        let loaded = load(&self.path, &self.format, &self.accept);
        let mut state = self.state();
        match loaded {
            Ok(loaded) => {
                tracing::info!(path = %self.path.display(), users = loaded.users.len(), "read again");
                state.loaded = Arc::new(loaded);
                state.broken = None;
            }
            Err(error) => state.broken = Some(unreadable(&self.path, error)),
        }
        state.usable()
    }
}

impl State {
    fn usable(&self) -> Result<Arc<Loaded>, Fault> {
        self.broken.clone().map_or_else(|| Ok(Arc::clone(&self.loaded)), Err)
    }
}

impl Version {
    fn of(file: &Metadata) -> Self {
        Self {
            inode: file.ino(),
            size: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

fn load(path: &Path, format: &Format, accept: &Accept) -> io::Result<Loaded> {
    use io::Read as _;
    // The version is taken before the bytes: a write in between is seen as a change at the next look.
    let mut file = std::fs::File::open(path)?;
    let version = Version::of(&file.metadata()?);
    let mut data = Vec::new();
    file.read_to_end(&mut data)?;
    let users = PasswdFile::parse(&data, format, accept);
    zeroize::Zeroize::zeroize(&mut data);
    for problem in users.problems().iter().take(20) {
        match problem.effect {
            Effect::Refused => tracing::error!("{}: {problem}", path.display()),
            Effect::Ignored => tracing::warn!("{}: {problem}", path.display()),
        }
    }
    let decoy = commonest(&users);
    Ok(Loaded { users, decoy, version })
}

/// A hash of the cost that most users have.
fn commonest(users: &PasswdFile) -> Option<Hash> {
    let hashes = || users.iter().filter_map(|entry| entry.hash().cloned());
    let expensive = hashes().filter(|hash| hash.cost() == Cost::Expensive).count();
    let cost = if expensive * 2 >= users.len() { Cost::Expensive } else { Cost::Cheap };
    hashes().find(|hash| hash.cost() == cost)
}

/// What the file says of a user besides the password, as attributes.
fn identity(entry: &Entry<'_>) -> Identity {
    let mut identity = Identity::named(entry.name());
    let fields = [
        ("uid", entry.uid()),
        ("gid", entry.gid()),
        ("gecos", entry.gecos()),
        ("home", entry.home()),
        ("shell", entry.shell()),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            identity = identity.with(name, value);
        }
    }
    for (name, value) in entry.extra() {
        identity = identity.with(name, value);
    }
    identity
}

fn unreadable(path: &Path, error: io::Error) -> Fault {
    let context = format!("cannot read the password file {}", path.display());
    Fault::unavailable(context).caused_by(error)
}
