//! A Maildir: one file for each message, in `new`, `cur` and, while it is being written, `tmp`.
//!
//! Everything here blocks, and is called from threads that may be. Messages go out as the protocols have them:
//! every line ends with CR LF, whatever the file has, and sizes are counted so.

mod index;
mod name;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use index::{Index, Lock};
use name::{FileName, is_message};

pub use name::Flags;

/// The largest message that is given out or taken in, in bytes.
pub const LARGEST: u64 = 64 * 1024 * 1024;
/// How many messages a folder may have.
const MOST: usize = 1_000_000;

/// One folder of messages.
#[derive(Debug)]
pub struct Maildir {
    folder: PathBuf,
    /// Where each message was when the folder was last looked through: usually it still is.
    seen: Mutex<HashMap<u32, PathBuf>>,
}

/// A message as it was when the folder was looked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its number, for good.
    pub uid: u32,
    /// Octets, with every line's end counted as two.
    pub size: u32,
    /// When it came: seconds since 1970.
    pub received: i64,
    /// What is marked.
    pub flags: Flags,
    /// Whether no one has been told of it: it was in `new`.
    pub recent: bool,
}

/// What is in a folder, by rising numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Numbers of another validity are other numbers.
    pub validity: u32,
    /// The next message's number will not be below it.
    pub next: u32,
    /// The messages.
    pub messages: Vec<Message>,
}

/// While it lives, no other POP3 session has this Maildir, in any process. The system gives it back if ours dies.
#[derive(Debug)]
pub struct Hold(#[allow(dead_code, reason = "it unlocks when it is closed")] File);

/// A file that holds a message.
struct Found {
    file: String,
    is_new: bool,
}

impl Found {
    fn path(&self, maildir: &Maildir) -> PathBuf {
        maildir.folder.join(if self.is_new { "new" } else { "cur" }).join(&self.file)
    }
}

impl Maildir {
    /// Opens a Maildir, and makes it if it is not there, for its owner alone.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn open(folder: impl Into<PathBuf>) -> io::Result<Self> {
        let folder = folder.into();
        for part in ["tmp", "new", "cur"] {
            let path = folder.join(part);
            if !path.is_dir() {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
            }
        }
        Ok(Self { folder, seen: Mutex::default() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Takes it for one POP3 session (RFC 1939, section 4). `None`: another has it.
    ///
    /// # Errors
    ///
    /// When there can be no such lock here.
    pub fn hold(&self) -> io::Result<Option<Hold>> {
        let file = index::open_lock(&self.folder.join("countersign-pop3.lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Hold(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// [`stamp`] of this one.
    pub fn stamp(&self) -> Stamp {
        stamp(&self.folder)
    }

    /// Looks through the folder. With `take`, new messages are taken: they count as recent this once.
    ///
    /// # Errors
    ///
    /// Of the file system.
    pub fn list(&self, take: bool) -> io::Result<Listing> {
        let _lock = Lock::of(&self.folder)?;
        let (index, found) = self.look()?;
        let mut messages = Vec::with_capacity(found.len());
        let mut seen = HashMap::with_capacity(found.len());
        for (base, found) in &found {
            let Some(entry) = index.entries.get(base) else { continue };
            let name = FileName::of(&found.file);
            let mut path = found.path(self);
            if take && found.is_new {
                let taken = self.folder.join("cur").join(name.flagged(name.flags));
                fs::rename(path, &taken)?;
                path = taken;
            }
            seen.insert(entry.uid, path);
            messages.push(Message {
                uid: entry.uid,
                size: entry.size,
                received: entry.received,
                flags: name.flags,
                recent: found.is_new,
            });
        }
        *self.seen() = seen;
        messages.sort_unstable_by_key(|message| message.uid);
        Ok(Listing { validity: index.validity, next: index.next, messages })
    }

    /// A message, as protocols have it. `None`: it is not there any more.
    ///
    /// # Errors
    ///
    /// Of the file system.
    pub fn read(&self, uid: u32) -> io::Result<Option<Vec<u8>>> {
        let seen = self.seen().get(&uid).cloned();
        let file = match seen.map(File::open) {
            Some(Ok(file)) => file,
            _ => {
                let _lock = Lock::of(&self.folder)?;
                let Some((_, found)) = self.chosen(&[uid])?.pop() else { return Ok(None) };
                File::open(found.path(self))?
            }
        };
        let mut text = Vec::new();
        file.take(LARGEST).read_to_end(&mut text)?;
        Ok(Some(with_line_ends(text)))
    }

    /// Gives these messages other flags, as `change` says, and tells what they are then. Those that are gone
    /// are left out.
    ///
    /// # Errors
    ///
    /// Of the file system.
    pub fn mark(
        &self,
        uids: &[u32],
        change: impl Fn(Flags) -> Flags,
    ) -> io::Result<Vec<(u32, Flags)>> {
        let _lock = Lock::of(&self.folder)?;
        let mut marked = Vec::new();
        for (uid, found) in self.chosen(uids)? {
            let name = FileName::of(&found.file);
            let flags = change(name.flags);
            if flags != name.flags || found.is_new {
                let renamed = self.folder.join("cur").join(name.flagged(flags));
                fs::rename(found.path(self), renamed)?;
            }
            marked.push((uid, flags));
        }
        Ok(marked)
    }

    /// Removes messages, and tells which were there.
    ///
    /// # Errors
    ///
    /// Of the file system; some may be gone by then.
    pub fn remove(&self, uids: &[u32]) -> io::Result<Vec<u32>> {
        let _lock = Lock::of(&self.folder)?;
        let mut removed = Vec::new();
        for (uid, found) in self.chosen(uids)? {
            fs::remove_file(found.path(self))?;
            removed.push(uid);
        }
        Ok(removed)
    }

    /// Puts a message in, whole or not at all, and gives its number. `received` is seconds since 1970.
    ///
    /// # Errors
    ///
    /// Of the file system.
    pub fn add(&self, text: &[u8], flags: Flags, received: Option<i64>) -> io::Result<u32> {
        let base = unique();
        let being_written = self.folder.join("tmp").join(&base);
        let done = self.add_by(&being_written, &base, text, flags, received);
        if done.is_err() {
            let _ = fs::remove_file(&being_written);
        }
        done
    }

    fn add_by(
        &self,
        being_written: &Path,
        base: &str,
        text: &[u8],
        flags: Flags,
        received: Option<i64>,
    ) -> io::Result<u32> {
        let mut file =
            File::options().write(true).create_new(true).mode(0o600).open(being_written)?;
        file.write_all(text)?;
        if let Some(received) = received.and_then(|received| u64::try_from(received).ok()) {
            file.set_modified(UNIX_EPOCH + Duration::from_secs(received))?;
        }
        file.sync_all()?;
        let _lock = Lock::of(&self.folder)?;
        fs::rename(being_written, self.folder.join("cur").join(FileName::of(base).flagged(flags)))?;
        let (index, _) = self.look()?;
        let entry = index.entries.get(base);
        entry.map(|entry| entry.uid).ok_or_else(|| io::Error::other("the message went away"))
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<u32, PathBuf>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The files of these messages.
    fn chosen(&self, uids: &[u32]) -> io::Result<Vec<(u32, Found)>> {
        let (index, mut found) = self.look()?;
        let mut bases: HashMap<u32, &str> =
            index.entries.iter().map(|(base, entry)| (entry.uid, base.as_str())).collect();
        let mut chosen = Vec::with_capacity(uids.len());
        for uid in uids {
            let file = bases.remove(uid).and_then(|base| found.remove(base));
            chosen.extend(file.map(|file| (*uid, file)));
        }
        Ok(chosen)
    }

    /// Brings the index up to what is there. The lock must be held.
    fn look(&self) -> io::Result<(Index, HashMap<String, Found>)> {
        let known = Index::read(&self.folder)?;
        let mut changed = known.is_none();
        let mut index = known.unwrap_or_else(|| Index::new(now().as_secs()));
        let mut found = self.files()?;
        // A file that somebody renames while the folder is read may be missed: what was known before and is
        // not seen at a second look either is gone.
        if index.entries.keys().any(|base| !found.contains_key(base)) {
            found.extend(self.files()?);
        }
        let before = index.entries.len();
        index.entries.retain(|base, _| found.contains_key(base));
        changed |= index.entries.len() != before;
        let mut unknown: Vec<(&String, &Found)> =
            found.iter().filter(|(base, _)| !index.entries.contains_key(*base)).collect();
        unknown.sort_unstable_by_key(|(base, found)| {
            (FileName::of(&found.file).delivered(), base.as_str())
        });
        for (base, found) in unknown {
            // One that goes away just now was never there.
            let Ok((size, received)) = measure(&found.path(self)) else { continue };
            index.add(base.clone(), size, received);
            changed = true;
        }
        if changed {
            index.write(&self.folder)?;
        }
        Ok((index, found))
    }

    fn files(&self) -> io::Result<HashMap<String, Found>> {
        let mut found = HashMap::new();
        for (part, is_new) in [("new", true), ("cur", false)] {
            for entry in fs::read_dir(self.folder.join(part))? {
                let Ok(file) = entry?.file_name().into_string() else { continue };
                if is_message(&file) && found.len() < MOST {
                    let base = FileName::of(&file).base.to_owned();
                    found.insert(base, Found { file, is_new });
                }
            }
        }
        Ok(found)
    }
}

/// What [`stamp`] gives: of `new` and of `cur`, when it was last changed, and which folder it is.
pub type Stamp = [Option<(i64, i64, u64)>; 2];

/// What changes when messages come and go or are marked in this Maildir.
pub fn stamp(folder: &Path) -> Stamp {
    ["new", "cur"].map(|part| {
        let found = fs::metadata(folder.join(part)).ok()?;
        Some((found.mtime(), found.mtime_nsec(), found.ino()))
    })
}

/// The size of a message as protocols count it, and when its file was last written.
fn measure(path: &Path) -> io::Result<(u32, i64)> {
    let mut file = File::open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let (mut size, mut last) = (0_u64, 0_u8);
    let mut buffer = vec![0; 64 * 1024];
    let mut left = LARGEST;
    while left > 0 {
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = match buffer.get_mut(..most) {
            Some(part) => file.read(part)?,
            None => 0,
        };
        if read == 0 {
            break;
        }
        for byte in buffer.iter().take(read) {
            size += 1 + u64::from(*byte == b'\n' && last != b'\r');
            last = *byte;
        }
        left -= read as u64;
    }
    Ok((u32::try_from(size).unwrap_or(u32::MAX), found.mtime()))
}

/// Every line's end as CR LF.
fn with_line_ends(text: Vec<u8>) -> Vec<u8> {
    let bare = |(at, byte): (usize, &u8)| {
        *byte == b'\n' && at.checked_sub(1).and_then(|at| text.get(at)) != Some(&b'\r')
    };
    let missing = text.iter().enumerate().filter(|found| bare(*found)).count();
    if missing == 0 {
        return text;
    }
    let mut wire = Vec::with_capacity(text.len() + missing);
    for found in text.iter().enumerate() {
        if bare(found) {
            wire.push(b'\r');
        }
        wire.push(*found.1);
    }
    wire
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A name that no other file has: the time, this process, and a count.
fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let (now, count) = (now(), COUNT.fetch_add(1, Ordering::Relaxed));
    let process = std::process::id();
    format!("{}.M{}P{process}Q{count}.countersign", now.as_secs(), now.subsec_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maildir() -> (tempfile::TempDir, Maildir) {
        let folder = tempfile::tempdir().unwrap();
        let maildir = Maildir::open(folder.path().join("ada")).unwrap();
        (folder, maildir)
    }

    fn deliver(maildir: &Maildir, name: &str, text: &str) {
        fs::write(maildir.path().join("new").join(name), text).unwrap();
    }

    #[test]
    fn numbers_stay_while_files_are_renamed_and_are_not_used_again() {
        let (_folder, maildir) = maildir();
        deliver(&maildir, "20.b.host", "B: 1\n\nb\n");
        deliver(&maildir, "3.a.host", "A: 1\r\n\r\na\r\n");
        let listing = maildir.list(true).unwrap();
        let sizes: Vec<_> = listing.messages.iter().map(|m| (m.uid, m.size, m.recent)).collect();
        assert_eq!(sizes, [(1, 11, true), (2, 11, true)], "by time, not by name");
        assert_eq!(maildir.read(2).unwrap().unwrap(), b"B: 1\r\n\r\nb\r\n");
        let marked = maildir.mark(&[1, 7], |flags| flags.with(Flags::SEEN)).unwrap();
        assert_eq!(marked, [(1, Flags::SEEN)]);
        let again = maildir.list(true).unwrap();
        assert_eq!((again.validity, again.next), (listing.validity, 3));
        assert!(again.messages[0].flags.has(Flags::SEEN) && !again.messages[0].recent);
        assert_eq!(maildir.remove(&[2, 7]).unwrap(), [2]);
        assert_eq!(maildir.add(b"C: 1\r\n\r\nc", Flags::FLAGGED, Some(5)).unwrap(), 3);
        let last = maildir.list(false).unwrap().messages[1];
        assert_eq!((last.uid, last.flags, last.received, last.size), (3, Flags::FLAGGED, 5, 9));
        assert_eq!(maildir.read(2).unwrap(), None);
    }

    #[test]
    fn one_session_holds_it() {
        let (_folder, maildir) = maildir();
        let hold = maildir.hold().unwrap();
        assert!(hold.is_some() && maildir.hold().unwrap().is_none());
        drop(hold);
        assert!(maildir.hold().unwrap().is_some());
    }

    #[test]
    fn line_ends_are_whole_and_counted_whole() {
        let (_folder, maildir) = maildir();
        for (at, text) in ["", "\n", "a\n\r\nb\n", "a\r\n", "a\rb\n\n"].into_iter().enumerate() {
            deliver(&maildir, &format!("{at}.x"), text);
        }
        for message in maildir.list(false).unwrap().messages {
            let text = maildir.read(message.uid).unwrap().unwrap();
            assert_eq!(text.len(), message.size as usize, "{text:?}");
        }
        assert_eq!(with_line_ends(b"a\n\r\nb".to_vec()), b"a\r\n\r\nb");
    }
}
