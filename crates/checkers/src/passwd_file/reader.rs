//! Reading a password file, a line at a time.

use std::hash::{BuildHasher, RandomState};
use std::sync::RwLock;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;

use super::rows::{Kept, Row, Rows};
use super::{Effect, Format, MAX_LINE, MAX_PROBLEMS, PasswdFile, Problem};
use crate::hash::{Accept, Hash};

/// A file that is being read.
pub(super) struct Reader<'a> {
    format: Format,
    accept: &'a Accept,
    index: HashTable<u32>,
    rows: Rows,
    hasher: RandomState,
    problems: Vec<Problem>,
    unlisted: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(format: Format, accept: &'a Accept) -> Self {
        Self {
            format,
            accept,
            index: HashTable::new(),
            rows: Rows::default(),
            hasher: RandomState::new(),
            problems: Vec::new(),
            unlisted: 0,
        }
    }

    pub(super) fn line(&mut self, line: usize, bytes: &[u8]) {
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let comment = self.format.comments && bytes.first() == Some(&b'#');
        if comment || bytes.trim_ascii().is_empty() {
            return;
        }
        // Lengths are kept in 16 bits.
        if bytes.len() > MAX_LINE {
            return self.refuse(line, "it is longer than 8192 bytes".to_owned());
        }
        let Ok(text) = std::str::from_utf8(bytes) else {
            return self.refuse(line, "it is not UTF-8; convert the file".to_owned());
        };
        let format = self.format;
        let (name, password, rest) = match format.split(text) {
            Ok(fields) => fields,
            Err(reason) => return self.refuse(line, reason),
        };
        if name.is_empty() {
            let delimiter = format.delimiter as char;
            let reason = match format.user {
                0 => format!("no user name before the first `{delimiter}`"),
                n => format!("the user name, in field {n}, is empty"),
            };
            return self.refuse(line, reason);
        }
        let name = &*format.folded(name);
        if name.chars().any(char::is_control) {
            let reason = "the user name holds a control character; retype it".to_owned();
            return self.refuse(line, reason);
        }

        let rows = &self.rows;
        let slot = self.index.entry(
            self.hasher.hash_one(name.as_bytes()),
            |at| rows.row(*at).name == name.as_bytes(),
            |at| self.hasher.hash_one(rows.row(*at).name),
        );
        let slot = match slot {
            Slot::Vacant(slot) => slot,
            Slot::Occupied(first) => {
                let first = rows.row(*first.get()).line;
                let reason =
                    format!("user {name} is on line {first} already, which counts; remove one");
                return self.report(line, Effect::Ignored, reason);
            }
        };
        let locked = password.is_empty() || password.starts_with(['*', '!']);
        let (hash, error) = match (locked, Hash::parse(password, self.accept)) {
            (true, _) => (None, None),
            (false, Ok(hash)) => (Some(hash), None),
            (false, Err(error)) => (None, Some(error)),
        };
        let readable = hash.as_ref().and_then(Hash::password_text);
        let password = match (hash, &readable) {
            (None, _) => Kept::None,
            (Some(_), Some(password)) => {
                let password = password.expose();
                Kept::Readable { tag: self.hasher.hash_one(password), password }
            }
            (Some(hash), None) => {
                self.rows.hashes.push(hash);
                Kept::Hash(self.rows.hashes.len() - 1)
            }
        };
        let (name_bytes, rest) = (name.as_bytes(), rest.as_bytes());
        // The file and so the number of lines have been measured above.
        let row = Row { line: line as u32, name: name_bytes, password, rest };
        let Some(at) = self.rows.add(&row) else {
            return self.refuse(line, "there are too many users; use a database".to_owned());
        };
        slot.insert(at);
        if let Some(error) = error {
            self.refuse(line, format!("user {name}: {error}"));
        }
    }

    pub(super) fn refuse(&mut self, line: usize, reason: String) {
        self.report(line, Effect::Refused, reason);
    }

    fn report(&mut self, line: usize, effect: Effect, reason: String) {
        if self.problems.len() == MAX_PROBLEMS {
            self.unlisted += 1;
            return;
        }
        self.problems.push(Problem { line, effect, reason });
    }

    pub(super) fn finish(mut self) -> PasswdFile {
        let (rows, hasher) = (&self.rows, &self.hasher);
        self.index.shrink_to_fit(|at| hasher.hash_one(rows.row(*at).name));
        self.rows.hashes.shrink_to_fit();
        PasswdFile {
            index: self.index,
            rows: self.rows,
            format: self.format,
            hasher: self.hasher,
            problems: self.problems,
            unlisted: self.unlisted,
            remembered: RwLock::default(),
        }
    }
}
