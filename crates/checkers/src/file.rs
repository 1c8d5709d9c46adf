//! `[checker.file.NAME]`: users in a password file, as in Dovecot's passwd-file.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use countersign::{
    Denial, Directory, Fault, Identity, Password, PasswordStore, Reason, Secret, TextStore,
    Verdict, Verified, World,
};
use countersign_sasl::Stored;

use crate::hash::{Accept, Cost, Hash};
use crate::passwd_file::{Effect, Entry, Format, PasswdFile, READABLE};
use crate::pool::{HashPool, Match};
use crate::readable;
use crate::watched::Watched;

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
    watched: Watched<Loaded>,
    pool: Arc<HashPool>,
}

struct Loaded {
    users: PasswdFile,
    decoy: Option<Decoy>,
}

impl Loaded {
    /// What there is to say of a password whose hash takes no time.
    fn check_at_once(&self, login: &str, password: &Secret, spends: bool) -> Option<Verdict> {
        let spend = || match &self.decoy {
            Some(Decoy::Hash(hash)) => at_once(hash, password).map(drop),
            Some(Decoy::Readable) => {
                self.users.spend(password);
                Some(())
            }
            None => Some(()),
        };
        let Some(entry) = self.users.find(login) else {
            if spends {
                spend()?;
            }
            return Some(Verdict::UNKNOWN);
        };
        let right = match (entry.is_readable(password), entry.kept_hash()) {
            (Some(right), _) => right,
            (None, Some(hash)) => at_once(hash, password)?,
            // One without a password takes the work of one with another.
            (None, None) => {
                spend()?;
                false
            }
        };
        Some(if right { found(&entry) } else { Verdict::WRONG })
    }
}

/// What an unknown user's password is compared with: something of the file's commonest scheme.
enum Decoy {
    Hash(Hash),
    /// A password that is kept readable.
    Readable,
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
        let watched = Watched::open("password file", path.into(), move |path, data| {
            let users = PasswdFile::parse(data, &format, &accept);
            report(path, &users);
            let decoy = Decoy::of(&users);
            Loaded { users, decoy }
        })?;
        Ok(Self { watched, pool })
    }

    /// The same, looking whether the file has changed at most so often (100 ms). Zero: at every login.
    #[must_use]
    pub fn looking_every(self, interval: Duration) -> Self {
        Self { watched: self.watched.looking_every(interval), ..self }
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
        self.watched.last().users.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl PasswordStore for File {
    /// Unless somebody must look whether the file has changed, or the hash takes its time.
    fn check_at_once(
        &self,
        login: &str,
        password: &Secret,
        spends: bool,
    ) -> Option<Result<Verdict, Fault>> {
        match self.watched.at_once(|loaded| loaded.check_at_once(login, password, spends))? {
            Ok(verdict) => verdict.map(Ok),
            Err(fault) => Some(Err(fault)),
        }
    }

    async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
        let loaded = self.watched.current().await?;
        let Some(entry) = loaded.users.find(login) else { return Ok(Verdict::UNKNOWN) };
        let right = match (entry.is_readable(password), entry.kept_hash()) {
            (Some(right), _) => right,
            (None, Some(hash)) => self.verify(hash, login, password).await?,
            // One without a password takes the work of one with another.
            (None, None) => {
                self.spend(login, password).await?;
                false
            }
        };
        Ok(if right { found(&entry) } else { Verdict::WRONG })
    }

    async fn spend(&self, login: &str, password: &Secret) -> Result<(), Fault> {
        let loaded = self.watched.current().await?;
        match &loaded.decoy {
            // Somebody's hash: what it says of this password is nobody's business.
            Some(Decoy::Hash(hash)) => drop(self.verify(hash, login, password).await?),
            Some(Decoy::Readable) => loaded.users.spend(password),
            None => {}
        }
        Ok(())
    }
}

impl Directory for File {
    async fn find(&self, login: &str) -> Result<Verdict, Fault> {
        let loaded = self.watched.current().await?;
        let Some(entry) = loaded.users.find(login) else { return Ok(Verdict::UNKNOWN) };
        Ok(found(&entry))
    }
}

impl TextStore for File {
    async fn password_text(&self, login: &str) -> Result<Option<Secret>, Fault> {
        let loaded = self.watched.current().await?;
        let entry = loaded.users.find(login);
        Ok(entry.and_then(|entry| entry.password_text()))
    }
}

impl File {
    async fn verify(&self, hash: &Hash, login: &str, password: &Secret) -> Result<bool, Fault> {
        if hash.cost() == Cost::Cheap {
            return Ok(hash.verify(password));
        }
        let verified = self.pool.verify(hash, password, login).await;
        verified.map(Match::is_right).map_err(|error| {
            error.fault(format!("verifying a password of {}", self.watched.path().display()))
        })
    }
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File").field("path", &self.watched.path()).finish_non_exhaustive()
    }
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

impl Decoy {
    fn of(users: &PasswdFile) -> Option<Self> {
        let commonest = commonest(users)?;
        match commonest.scheme()? {
            READABLE => Some(Self::Readable),
            _ => commonest.hash().map(Self::Hash),
        }
    }
}

/// Whether this is the password of a hash, if that is cheap to find out.
fn at_once(hash: &Hash, password: &Secret) -> Option<bool> {
    (hash.cost() == Cost::Cheap).then(|| hash.verify(password))
}

/// One of the scheme that most users have; of several, the first in the file, so that every reading chooses the
/// same.
fn commonest(users: &PasswdFile) -> Option<Entry<'_>> {
    commonest_of(users.iter().filter_map(|entry| Some((entry.line(), entry.scheme()?, entry))))
}

/// The same of anything with its line and its scheme.
pub(crate) fn commonest_of<T>(all: impl Iterator<Item = (usize, &'static str, T)>) -> Option<T> {
    let mut schemes: BTreeMap<&str, (usize, Reverse<usize>, T)> = BTreeMap::new();
    for (line, scheme, one) in all {
        let line = Reverse(line);
        match schemes.get_mut(scheme) {
            None => drop(schemes.insert(scheme, (1, line, one))),
            Some((count, first, of_first)) => {
                *count += 1;
                if line > *first {
                    (*first, *of_first) = (line, one);
                }
            }
        }
    }
    let commonest = schemes.into_values().max_by_key(|(count, first, _)| (*count, *first));
    commonest.map(|(_, _, one)| one)
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
        commonest(&users).and_then(|entry| entry.hash()).map(|hash| hash.expose_text())
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

    fn file(look_every: Duration) -> (tempfile::TempDir, File) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        std::fs::write(&path, format!("ada:{SECRET}:1000\nbob:{SECRET}\n")).unwrap();
        let pool = Arc::new(HashPool::start(&PoolOptions::default()).unwrap());
        let file = File::open(path, Format::default(), Accept::default(), pool).unwrap();
        (folder, file.looking_every(look_every))
    }

    #[test]
    fn the_identity_of_a_line_is_made_once() {
        let (_folder, file) = file(Duration::from_secs(3600));
        let made = || {
            let loaded = file.watched.last();
            let entry = loaded.users.find("ada").unwrap();
            entry.identity(|| identity(&entry))
        };
        assert!(Arc::ptr_eq(&made(), &made()));
        assert_eq!(made().subject.name(), Some("ada"));
    }
}
