//! `[checker.file.NAME]`: users in a password file, as in Dovecot's passwd-file.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use countersign::{
    Denial, Directory, Fault, FaultKind, Identity, Password, PasswordStore, Reason, Secret,
    TextStore, Verdict, Verified, World,
};
use countersign_sasl::Stored;
use zeroize::Zeroizing;

use crate::hash::{Accept, Cost, Hash};
use crate::passwd_file::{Effect, Entry, Format, MAX_FILE, PasswdFile};
use crate::pool::{HashPool, Match};
use crate::readable;

/// How often a login looks whether the file has changed: a look costs a system call.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// While a look or a reading is under way, others go by what was read before; for so long. After that
/// nobody gets in by what cannot be checked: the file's server may be away.
const PATIENCE: Duration = Duration::from_secs(5);
/// Problems of a file that are logged one by one.
const LOGGED: usize = 20;
/// Extra fields by which Dovecot refuses a login that has the right password. Nothing here enforces them,
/// and a line must not mean more here than it did there.
const RESTRICTIONS: [&str; 3] = ["allow_nets", "allow_real_nets", "nologin"];

/// Users in a password file. The file is read again when it changes, within a tenth of a second.
///
/// A user whose line has one of Dovecot's restrictions (`allow_nets`, `allow_real_nets`, `nologin`) is
/// refused: they are not enforced here. All users should have hashes of one scheme; an unknown user takes
/// as long as one of the scheme that most have.
pub struct File {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    format: Format,
    accept: Accept,
    pool: Arc<HashPool>,
    look_every: Duration,
    state: Mutex<State>,
}

struct State {
    loaded: Arc<Loaded>,
    /// When the last look began.
    looked: Instant,
    /// Whether that one is still under way: there is one at a time, so that a file server that hangs costs
    /// one thread, and an older reading cannot end after a newer one.
    looking: bool,
    /// The file cannot be read now. Nobody gets in by what it held before.
    broken: Option<Fault>,
}

struct Loaded {
    users: PasswdFile,
    /// What an unknown user's password is compared with: a hash of the file's commonest scheme.
    decoy: Option<Hash>,
    version: Version,
    /// Whether a later change must show in the version. One within the same tick of the file system's clock
    /// need not.
    settled: bool,
}

/// Enough of a file's metadata to notice every change: also a replacement within the same second, and one
/// that is older than what it replaces.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl File {
    /// Reads a password file. Blocks; later readings happen beside the runtime.
    ///
    /// # Errors
    ///
    /// A fault when it cannot be read, is no regular file, is larger than 1 GiB, or is empty: one that is
    /// being written in place is empty for a moment, and an editor may leave it so when the disk is full. A
    /// file that is to have no users has a comment line. Bad lines are logged; their users cannot log in.
    pub fn open(
        path: impl Into<PathBuf>,
        format: Format,
        accept: Accept,
        pool: Arc<HashPool>,
    ) -> Result<Self, Fault> {
        let path = path.into();
        let loaded = load(&path, &format, &accept).map_err(|error| unreadable(&path, error))?;
        let state = State {
            loaded: Arc::new(loaded),
            looked: Instant::now(),
            looking: false,
            broken: None,
        };
        let state = Mutex::new(state);
        let inner = Inner { path, format, accept, pool, look_every: LOOK_EVERY, state };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The same, looking whether the file has changed at most so often (100 ms). Zero: at every login.
    #[must_use]
    pub fn looking_every(mut self, interval: Duration) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.look_every = interval;
        }
        self
    }

    /// The checker of that name over this file.
    pub fn checker(self, name: impl Into<String>) -> Password<Self> {
        Password::new(name, self)
    }

    /// The same, which offers as well what needs the password itself, for the users whose line has it readable:
    /// CRAM-MD5, APOP, SCRAM and HTTP Digest. A file without any has no use for it.
    pub fn readable(self, name: impl Into<String>, world: &dyn World) -> Stored<Self> {
        readable::checker(name, self, world)
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
        let look = {
            let mut state = self.inner.state();
            let age = state.looked.elapsed();
            if state.looking && age > PATIENCE {
                return Err(self.inner.hangs());
            }
            if state.looking || age < self.inner.look_every {
                return state.usable();
            }
            state.looked = Instant::now();
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

impl PasswordStore for File {
    async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
        let loaded = self.current().await?;
        let Some(entry) = loaded.users.find(login) else { return Ok(Verdict::UNKNOWN) };
        let Some(hash) = entry.hash() else {
            // One without a password takes the work of one with another.
            self.spend(login, password).await?;
            return Ok(Verdict::WRONG);
        };
        if !self.verify(hash, login, password).await? {
            return Ok(Verdict::WRONG);
        }
        Ok(found(&entry))
    }

    async fn spend(&self, login: &str, password: &Secret) -> Result<(), Fault> {
        let loaded = self.current().await?;
        if let Some(decoy) = &loaded.decoy {
            // Somebody's hash: what it says of this password is nobody's business.
            let _ = self.verify(decoy, login, password).await?;
        }
        Ok(())
    }
}

impl Directory for File {
    async fn find(&self, login: &str) -> Result<Verdict, Fault> {
        let loaded = self.current().await?;
        let Some(entry) = loaded.users.find(login) else { return Ok(Verdict::UNKNOWN) };
        Ok(found(&entry))
    }
}

impl TextStore for File {
    async fn password_text(&self, login: &str) -> Result<Option<Secret>, Fault> {
        let loaded = self.current().await?;
        let entry = loaded.users.find(login);
        Ok(entry.and_then(|entry| entry.hash()?.password_text()))
    }
}

impl File {
    async fn verify(&self, hash: &Hash, login: &str, password: &Secret) -> Result<bool, Fault> {
        if hash.cost() == Cost::Cheap {
            return Ok(hash.verify(password));
        }
        let verified = self.inner.pool.verify(hash, password, login).await;
        verified.map(Match::is_right).map_err(|error| {
            error.fault(format!("verifying a password of {}", self.inner.path.display()))
        })
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

    fn hangs(&self) -> Fault {
        let path = self.path.display();
        Fault::new(FaultKind::Timeout, format!("the password file {path} takes too long to read"))
    }

    fn failed(&self) -> Fault {
        Fault::internal(format!("reading the password file {}", self.path.display()))
    }
}

/// A look whether the file has changed. However it ends, the next one may begin.
struct Look {
    inner: Arc<Inner>,
}

impl Look {
    fn take(self) -> Result<Arc<Loaded>, Fault> {
        let Inner { path, format, accept, .. } = &*self.inner;
        let before = Arc::clone(&self.inner.state().loaded);
        let found = std::fs::metadata(path).and_then(|found| {
            let same = before.settled && Version::of(&found) == before.version;
            if same { Ok(None) } else { load(path, format, accept).map(Some) }
        });
        let mut state = self.inner.state();
        match found {
            Ok(None) => state.broken = None,
            Ok(Some(loaded)) => {
                if loaded.version != before.version || state.broken.is_some() {
                    let users = loaded.users.len();
                    tracing::info!(path = %path.display(), users, "read the password file again");
                }
                state.loaded = Arc::new(loaded);
                state.broken = None;
            }
            Err(error) => {
                let fault = unreadable(path, error);
                if state.broken.is_none() {
                    tracing::error!("{fault}; nobody of it can log in until then");
                }
                state.broken = Some(fault);
            }
        }
        state.usable()
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        self.inner.state().looking = false;
    }
}

impl State {
    fn usable(&self) -> Result<Arc<Loaded>, Fault> {
        self.broken.clone().map_or_else(|| Ok(Arc::clone(&self.loaded)), Err)
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

fn load(path: &Path, format: &Format, accept: &Accept) -> io::Result<Loaded> {
    use io::Read as _;
    // Before it is opened: opening a pipe waits for a writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    // The version is taken before the bytes: a write in between is seen as a change at the next look.
    let file = std::fs::File::open(path)?;
    let version = Version::of(&file.metadata()?);
    let settled = version.settled(SystemTime::now());
    if version.size > MAX_FILE as u64 {
        let why = "it is larger than 1 GiB; use a database";
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    // One allocation: what a growing vector leaves behind is not wiped.
    let mut data = Zeroizing::new(Vec::with_capacity(version.size as usize + 1));
    // What was added since is seen at the next look.
    file.take(version.size).read_to_end(&mut data)?;
    if data.is_empty() {
        let why = "it is empty; a file without users must have a comment line";
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
    }
    let users = PasswdFile::parse(&data, format, accept);
    drop(data);
    report(path, &users);
    let decoy = commonest(&users);
    Ok(Loaded { users, decoy, version, settled })
}

fn report(path: &Path, users: &PasswdFile) {
    let path = path.display();
    for problem in users.problems().iter().take(LOGGED) {
        match problem.effect {
            Effect::Refused => tracing::error!("{path}: {problem}"),
            Effect::Ignored => tracing::warn!("{path}: {problem}"),
        }
    }
    let more = users.problems().len().saturating_sub(LOGGED) + users.unlisted_problems();
    if more > 0 {
        tracing::error!("{path}: and {more} more bad lines");
    }
    let restricted =
        users.iter().filter_map(|entry| Some((entry.line(), entry.name(), restriction(&entry)?)));
    let mut restricted: Vec<_> = restricted.collect();
    restricted.sort_unstable();
    for (line, name, field) in restricted.iter().take(LOGGED) {
        let denial = not_enforced(field);
        tracing::error!("{path}: line {line}: user {name} is refused: {}", denial.detail);
    }
    if let Some(more) = restricted.len().checked_sub(LOGGED).filter(|more| *more > 0) {
        tracing::error!("{path}: and {more} more users with such a field");
    }
}

/// A hash of the scheme that most users have; of several, the first in the file, so that every reading
/// chooses the same.
fn commonest(users: &PasswdFile) -> Option<Hash> {
    let mut schemes: BTreeMap<&str, (usize, Reverse<usize>, &Hash)> = BTreeMap::new();
    for (entry, hash) in users.iter().filter_map(|entry| Some((entry, entry.hash()?))) {
        let line = Reverse(entry.line());
        let (count, first, of_first) = schemes.entry(hash.scheme()).or_insert((0, line, hash));
        *count += 1;
        if line > *first {
            (*first, *of_first) = (line, hash);
        }
    }
    let commonest = schemes.into_values().max_by_key(|(count, first, _)| (*count, *first));
    commonest.map(|(_, _, hash)| hash.clone())
}

/// Who a line stands for, once it is proven, or why nobody.
fn found(entry: &Entry<'_>) -> Verdict {
    match restriction(entry) {
        None => Verdict::Is(Verified::vouch(entry.identity(|| identity(entry)))),
        Some(field) => Verdict::Not(not_enforced(field)),
    }
}

/// The field of a line that would have to be enforced.
fn restriction<'a>(entry: &Entry<'a>) -> Option<&'a str> {
    entry.extra().map(|(name, _)| name).find(|name| RESTRICTIONS.contains(name))
}

fn not_enforced(field: &str) -> Denial {
    Denial::new(Reason::NotAllowed).because(format!(
        "`{field}` is not enforced for a password file; remove it, and restrict the user by policy"
    ))
}

/// What the file says of a user besides the password, as attributes.
fn identity(entry: &Entry<'_>) -> Identity {
    let mut identity = Identity::named(entry.name());
    const NAMES: [&str; 5] = ["uid", "gid", "gecos", "home", "shell"];
    for (name, value) in NAMES.into_iter().zip(entry.fields()) {
        if !value.is_empty() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::PoolOptions;

    const SECRET: &str = "{SHA256}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols";
    /// From the specification of SHA-crypt.
    const SLOW: &str = "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1";

    fn decoy(text: &str) -> Option<String> {
        let accept = Accept { allow_plain: true, ..Accept::default() };
        let users = PasswdFile::parse(text.as_bytes(), &Format::default(), &accept);
        assert!(users.problems().is_empty(), "{:?}", users.problems());
        commonest(&users).map(|hash| hash.expose_text())
    }

    #[test]
    fn the_decoy_is_of_the_commonest_scheme_and_always_the_same() {
        let text = format!("a:{{PLAIN}}x\nb:{SECRET}\nc:{{PLAIN}}y\nd:{SECRET}\ne:{SECRET}\n");
        assert_eq!(decoy(&text).as_deref(), Some(SECRET));
        // Locked users say nothing about the others.
        let slow = format!("{{SHA512-CRYPT}}{SLOW}");
        let text = format!("a:*\nb:!\nc:*\nd:{SLOW}\ne:*\nf:\n");
        assert_eq!(decoy(&text).as_deref(), Some(&*slow));
        let text: String = (0..50).map(|n| format!("u{n}:{{PLAIN}}p{n}\n")).collect();
        assert_eq!(decoy(&text).as_deref(), Some("{PLAIN}p0"));
        // As many of two: the one that is first in the file.
        assert_eq!(decoy(&format!("a:{SLOW}\nb:{SECRET}\n")).as_deref(), Some(&*slow));
        assert_eq!(decoy(&format!("a:{SECRET}\nb:{SLOW}\n")).as_deref(), Some(SECRET));
        assert_eq!(decoy("# nobody\na:*\n"), None);
    }

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

    fn file(look_every: Duration) -> (tempfile::TempDir, File) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        std::fs::write(&path, format!("ada:{SECRET}\n")).unwrap();
        let pool = Arc::new(HashPool::start(&PoolOptions::default()).unwrap());
        let file = File::open(path, Format::default(), Accept::default(), pool).unwrap();
        (folder, file.looking_every(look_every))
    }

    fn check(file: &File) -> Result<bool, FaultKind> {
        let password = Secret::from("secret");
        let checked = countersign::testing::now_or_never(file.check("ada", &password));
        let verdict = checked.expect("without a runtime nothing waits");
        verdict.map(|v| matches!(v, Verdict::Is(_))).map_err(|fault| fault.kind())
    }

    /// A file server that has gone away: for a while by what was read, then not at all, and never on the
    /// runtime's threads.
    #[test]
    fn a_look_that_hangs_refuses_after_a_while() {
        let (folder, file) = file(Duration::ZERO);
        let look = Look { inner: Arc::clone(&file.inner) };
        file.inner.state().looking = true;
        file.inner.state().looked = Instant::now();
        assert_eq!(check(&file), Ok(true));
        std::fs::remove_file(folder.path().join("users")).unwrap();
        assert_eq!(check(&file), Ok(true), "nobody else looks");
        let Some(long_ago) = Instant::now().checked_sub(PATIENCE * 2) else {
            panic!("this machine has just been started: run the test again in a minute")
        };
        file.inner.state().looked = long_ago;
        assert_eq!(check(&file), Err(FaultKind::Timeout));
        // However a look ends, the next one is taken.
        drop(look);
        assert_eq!(check(&file), Err(FaultKind::Unavailable));
    }

    #[test]
    fn the_identity_of_a_line_is_made_once() {
        let (_folder, file) = file(Duration::from_secs(3600));
        let made = || {
            let loaded = file.inner.state().usable().unwrap();
            let entry = loaded.users.find("ada").unwrap();
            entry.identity(|| identity(&entry))
        };
        assert!(Arc::ptr_eq(&made(), &made()));
        assert_eq!(made().subject.name(), Some("ada"));
    }
}
