//! What a Maildir does not keep by itself: the number of each message, which never changes and is never used
//! again, its size as protocols count it, and when it came. One small text file beside the messages.
//!
//! The first line is `1 VALIDITY NEXT`, each other `UID SIZE RECEIVED BASE`. The file is replaced whole, under a
//! lock that every process of ours takes.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

const FILE: &str = "countersign-index";
const LOCK: &str = "countersign-index.lock";
/// What an index may have in bytes; a larger one is damaged.
const LIMIT: u64 = 256 * 1024 * 1024;

/// What is known of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) uid: u32,
    /// Octets, with every line's end counted as two.
    pub(super) size: u32,
    /// Seconds since 1970.
    pub(super) received: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Index {
    /// Changes when numbers begin anew.
    pub(super) validity: u32,
    pub(super) next: u32,
    pub(super) entries: HashMap<String, Entry>,
}

/// While it lives, no other process of ours changes this Maildir.
#[derive(Debug)]
pub(super) struct Lock(#[allow(dead_code, reason = "it unlocks when it is closed")] File);

impl Lock {
    /// Waits for its turn. Nobody holds it for longer than it takes to look through a folder.
    pub(super) fn of(folder: &Path) -> io::Result<Self> {
        let file = open_lock(&folder.join(LOCK))?;
        file.lock()?;
        Ok(Self(file))
    }
}

/// A file that exists to be locked.
pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).open(path)
}

impl Index {
    /// An index of nothing, whose numbers have not been used: `now` is seconds since 1970.
    pub(super) fn new(now: u64) -> Self {
        let validity = u32::try_from(now).unwrap_or(u32::MAX).max(1);
        Self { validity, next: 1, entries: HashMap::new() }
    }

    /// Reads it; `None` if there is none, or a damaged one, and then numbers begin anew.
    pub(super) fn read(folder: &Path) -> io::Result<Option<Self>> {
        let path = folder.join(FILE);
        match fs::metadata(&path) {
            Ok(found) if found.len() > LIMIT => return Ok(None),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        let index = Self::parse(&fs::read_to_string(&path)?);
        if index.is_none() {
            tracing::warn!("{} is damaged: messages are numbered anew", path.display());
        }
        Ok(index)
    }

    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_unstable_by_key(|(_, entry)| entry.uid);
        let mut text = format!("1 {} {}\n", self.validity, self.next);
        for (base, Entry { uid, size, received }) in entries {
            let _ = writeln!(text, "{uid} {size} {received} {base}");
        }
        let new: PathBuf = folder.join(format!("{FILE}.new"));
        let mut file = File::create(&new)?;
        io::Write::write_all(&mut file, text.as_bytes())?;
        file.sync_all()?;
        fs::rename(new, folder.join(FILE))
    }

    /// Numbers a message.
    pub(super) fn add(&mut self, base: String, size: u32, received: i64) -> Entry {
        let entry = Entry { uid: self.next, size, received };
        self.next = self.next.saturating_add(1);
        self.entries.insert(base, entry);
        entry
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut words = lines.next()?.split(' ');
        (words.next()? == "1").then_some(())?;
        let (validity, next) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let mut entries = HashMap::new();
        for line in lines {
            let mut words = line.splitn(4, ' ');
            let uid = words.next()?.parse().ok().filter(|uid| (1..next).contains(uid))?;
            let (size, received) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            entries.insert(words.next()?.to_owned(), Entry { uid, size, received });
        }
        (validity > 0).then_some(Self { validity, next, entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Index::read(folder.path()).unwrap(), None);
        let mut index = Index::new(1_700_000_000);
        index.add("1.a.host".into(), 12, 5);
        index.add("2.b.host".into(), 13, -6);
        index.write(folder.path()).unwrap();
        assert_eq!(Index::read(folder.path()).unwrap(), Some(index));
    }

    #[test]
    fn a_damaged_one_is_none() {
        for text in ["", "2 1 1\n", "1 0 1\n", "1 9 2\n2 1 1 a\n", "1 9 3\n2 1 a\n", "1 9 3\nx"] {
            assert_eq!(Index::parse(text), None, "{text:?}");
        }
    }
}
