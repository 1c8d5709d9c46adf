//! What drivers are told of a user: the stored password.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use countersign::{Fault, Secret};
use countersign_wire::one::UserName;

use crate::watched::Watched;

/// Where stored passwords are.
#[derive(Default)]
pub struct Stored(Option<Watched<HashMap<Box<str>, Secret>>>);

impl Stored {
    /// Nowhere: every user is unknown.
    pub fn nothing() -> Self {
        Self(None)
    }

    /// A file with a row for each user: the name, a blank, and the stored password, which has no blank. Empty lines
    /// and lines that begin with `#` are nothing. It is read again when it changes. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn file(path: PathBuf) -> Result<Self, Fault> {
        Watched::open("file of stored passwords", path, rows).map(|file| Self(Some(file)))
    }

    pub(super) async fn of(&self, user: &UserName) -> Result<Option<Secret>, Fault> {
        match &self.0 {
            None => Ok(None),
            Some(file) => Ok(file.current().await?.get(user.as_str()).cloned()),
        }
    }
}

/// The rows that are some. Of two for a user the first counts. A row that is none is told, and its user has nothing
/// stored.
fn rows(path: &Path, file: &[u8]) -> HashMap<Box<str>, Secret> {
    let mut users = HashMap::new();
    for (index, line) in file.split(|&byte| byte == b'\n').enumerate() {
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let wrong = |what| tracing::warn!("{}:{}: {what}", path.display(), index + 1);
        let Some(blank) = line.iter().position(|&byte| byte == b' ') else {
            wrong("no blank after the user's name");
            continue;
        };
        let (user, stored) = (&line[..blank], &line[blank + 1..]);
        let Ok(user) = UserName::from_bytes(user) else {
            wrong("what stands before the blank is no user's name");
            continue;
        };
        let one_word = std::str::from_utf8(stored)
            .is_ok_and(|text| !text.contains(|c: char| c == ' ' || c.is_control()));
        if !one_word {
            wrong("a stored password is one word of UTF-8");
            continue;
        }
        // As everywhere: empty and `-` mean that nothing is.
        if matches!(stored, b"" | b"-") {
            continue;
        }
        users.entry(user.as_str().into()).or_insert_with(|| stored.into());
    }
    users
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_for_each_user() {
        let file = b"# comment\n\nalice /CN=Alice\\20In\\20Chains\nbob -\ncarl \nalice other\ndora two words\n\
                     e\tf x\nnothing\nz\xc3\xb6 \xc3\xa4\nbytes \xff\n";
        let users = rows(Path::new("stored"), file);
        let mut names: Vec<_> = users.keys().map(|name| &**name).collect();
        names.sort_unstable();
        assert_eq!(names, ["alice", "zö"]);
        assert_eq!(users["alice"], Secret::from("/CN=Alice\\20In\\20Chains"));
    }
}
