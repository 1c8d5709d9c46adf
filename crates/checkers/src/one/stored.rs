//! What is stored for users of OpenNebula's drivers, and where it comes from.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use countersign::{Fault, Secret};
use countersign_wire::one::UserName;

use crate::watched::Watched;

/// Knows what is stored for a user: the second argument of OpenNebula's drivers.
pub trait StoredSecrets: Send + Sync + fmt::Debug + 'static {
    /// What is stored. Nothing: the user is unknown, or has nothing.
    fn stored<'a>(
        &'a self,
        user: &'a UserName,
    ) -> Pin<Box<dyn Future<Output = Result<Option<Secret>, Fault>> + Send + 'a>>;
}

/// A file with a line for each user: the name, blanks or tabs, and what is stored, which goes to the end of the
/// line. Blank lines and those that begin with `#` are skipped. It is read again when it changes.
///
/// A user who is there twice has nothing, nor has one whose line is bad: neither an old nor a half key is one.
pub struct StoredFile {
    file: Watched<Rows>,
}

/// Why a file is not read.
const OPEN: &str = "the file holds secrets and is open to everybody: run `chmod 600` on it";

/// What a file says.
struct Rows {
    /// Nothing where the line is bad.
    users: HashMap<UserName, Option<Secret>>,
    problems: Vec<String>,
}

impl StoredFile {
    /// Reads a file. Blocks.
    ///
    /// # Errors
    ///
    /// A fault when it cannot be read.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Fault> {
        Self::watched(path.into(), |_, bytes| Rows::read(bytes))
    }

    /// The same for what must be kept from others: nobody has anything while everybody can read or write the file.
    ///
    /// # Errors
    ///
    /// A fault when it cannot be read, or by everybody.
    pub fn open_secret(path: impl Into<PathBuf>) -> Result<Self, Fault> {
        let file = Self::watched(path.into(), |path, bytes| match Self::is_secret(path) {
            true => Rows::read(bytes),
            false => Rows { users: HashMap::new(), problems: vec![OPEN.to_owned()] },
        })?;
        match Self::is_secret(file.path()) {
            true => Ok(file),
            false => Err(Fault::internal(format!("{}: {OPEN}", file.path().display()))),
        }
    }

    fn is_secret(path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o007 == 0)
    }

    fn watched(
        path: PathBuf,
        read: impl Fn(&Path, &[u8]) -> Rows + Send + Sync + 'static,
    ) -> Result<Self, Fault> {
        let file = Watched::open("file of stored keys", path, move |path, bytes| {
            let rows = read(path, bytes);
            for problem in &rows.problems {
                tracing::warn!(path = %path.display(), problem, "a line is left out");
            }
            rows
        })?;
        Ok(Self { file })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// How many users have something.
    pub fn len(&self) -> usize {
        self.file.last().users.values().flatten().count()
    }

    /// Whether nobody has anything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl StoredSecrets for StoredFile {
    fn stored<'a>(
        &'a self,
        user: &'a UserName,
    ) -> Pin<Box<dyn Future<Output = Result<Option<Secret>, Fault>> + Send + 'a>> {
        if let Some(secret) = self.file.at_once(|rows| rows.of(user)) {
            return Box::pin(std::future::ready(secret));
        }
        Box::pin(async { Ok(self.file.current().await?.of(user)) })
    }
}

/// The secrets are not printed.
impl fmt::Debug for StoredFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredFile").field("path", &self.path()).finish_non_exhaustive()
    }
}

impl Rows {
    fn of(&self, user: &UserName) -> Option<Secret> {
        self.users.get(user).cloned().flatten()
    }

    fn read(bytes: &[u8]) -> Self {
        let mut rows = Self { users: HashMap::new(), problems: Vec::new() };
        for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
            let (name, stored) = line.split_at(end);
            let name = match UserName::from_bytes(name) {
                Ok(name) => name,
                Err(why) => {
                    rows.problems.push(format!("line {number}: {why}"));
                    continue;
                }
            };
            let stored = stored.trim_ascii();
            let (stored, why) = if rows.users.contains_key(&name) {
                (None, "the user is there twice, and so has nothing")
            } else if stored.is_empty() || stored == b"-" {
                (None, "nothing is stored for the user")
            } else {
                (Some(Secret::from(stored)), "")
            };
            if stored.is_none() {
                rows.problems.push(format!("line {number}: {why}"));
            }
            rows.users.insert(name, stored);
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(text: &str, name: &str) -> Option<String> {
        let secret = Rows::read(text.as_bytes()).of(&name.parse().unwrap())?;
        Some(secret.to_str().unwrap().to_owned())
    }

    #[test]
    fn rows_are_names_and_the_rest_of_the_line() {
        let text = "# keys\n\nalice\tssh-ed25519 AAAA alice@home \r\n bob  MIIB\nü x|y";
        assert_eq!(stored(text, "alice").as_deref(), Some("ssh-ed25519 AAAA alice@home"));
        assert_eq!(stored(text, "bob").as_deref(), Some("MIIB"));
        assert_eq!(stored(text, "ü").as_deref(), Some("x|y"));
        assert_eq!((stored(text, "carol"), stored(text, "keys")), (None, None));
        assert!(Rows::read(text.as_bytes()).problems.is_empty());
    }

    #[test]
    fn a_bad_line_costs_its_own_user() {
        let text = "alice new\nbob\ncarol -\na:b x\nalice old\ndan y\n";
        for name in ["alice", "bob", "carol"] {
            assert_eq!(stored(text, name), None, "{name}");
        }
        assert_eq!(stored(text, "dan").as_deref(), Some("y"));
        let problems = Rows::read(text.as_bytes()).problems;
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(problems[3].contains("line 5") && problems[3].contains("twice"), "{problems:?}");
    }

    #[test]
    fn a_file_is_read_again_and_not_printed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        assert!(StoredFile::open(&path).is_err());
        std::fs::write(&path, "alice hidden\n").unwrap();
        let file = StoredFile::open(&path).unwrap();
        assert_eq!((file.len(), file.is_empty()), (1, false));
        assert!(!format!("{file:?}").contains("hidden"));
        let mode = |mode| std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&path, mode(0o644)).unwrap();
        let open = StoredFile::open_secret(&path).unwrap_err();
        assert!(open.to_string().contains("chmod 600"), "{open}");
        std::fs::set_permissions(&path, mode(0o640)).unwrap();
        assert_eq!(StoredFile::open_secret(&path).unwrap().len(), 1);
        let alice = "alice".parse().unwrap();
        let found = countersign::testing::now_or_never(file.stored(&alice)).unwrap().unwrap();
        assert_eq!(found, Some(Secret::from("hidden")));
    }
}
