//! A Maildir and its folders (Maildir++: `.Sent`, `.Sent.2024`) as IMAP sees them.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use countersign::Loan;

use super::drop::blocking;
use super::{Lent, Watch};
use crate::imap::{Change, INBOX, Letter, Look, Mailbox, Work};
use crate::maildir::{Flags, Listing, Maildir};

/// How many folders somebody may have.
const MOST: usize = 1000;
/// The longest name of a folder, in bytes; a file's may have 255.
const LONGEST: usize = 200;

pub(super) struct Folders {
    root: PathBuf,
    /// Those that were opened: each remembers where its messages are.
    opened: Arc<Mutex<HashMap<String, Arc<Maildir>>>>,
    watch: Watch,
    _loan: Loan<Lent>,
}

impl Folders {
    /// Nothing is looked at before somebody asks for it.
    pub(super) fn new(root: PathBuf, watch: Watch, loan: Loan<Lent>) -> Self {
        Self { root, opened: Arc::default(), watch, _loan: loan }
    }

    /// Does something with a folder that is there, where it does not hold up other connections.
    fn with<T: Send + 'static>(
        &self,
        folder: String,
        work: impl FnOnce(&Maildir) -> io::Result<T> + Send + 'static,
    ) -> Work<'_, T> {
        let (root, opened) = (self.root.clone(), Arc::clone(&self.opened));
        Box::pin(blocking(move || work(&*open(&root, &opened, folder)?)))
    }

    fn forget(&self) {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.retain(|name, _| name == INBOX);
    }
}

fn open(
    root: &Path,
    opened: &Mutex<HashMap<String, Arc<Maildir>>>,
    folder: String,
) -> io::Result<Arc<Maildir>> {
    let known = |name: &str| {
        opened.lock().unwrap_or_else(PoisonError::into_inner).get(name).map(Arc::clone)
    };
    if let Some(maildir) = known(&folder) {
        return Ok(maildir);
    }
    let path = path_of(root, &folder).ok_or(io::ErrorKind::NotFound)?;
    // The inbox is always there: it is made for whoever has none yet.
    if path != root && !path.is_dir() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let maildir = Arc::new(Maildir::open(path)?);
    let mut opened = opened.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Arc::clone(opened.entry(folder).or_insert(maildir)))
}

/// Where a folder is, if its name can be one: printable, without empty steps, and nothing that leads elsewhere.
fn path_of(root: &Path, folder: &str) -> Option<PathBuf> {
    if folder.eq_ignore_ascii_case(INBOX) {
        return Some(root.to_owned());
    }
    let printable = folder.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let steps = folder.split('.').all(|step| !step.is_empty());
    let fits = folder.len() <= LONGEST && printable && steps && !folder.contains(['/', '*', '%']);
    fits.then(|| root.join(format!(".{folder}")))
}

/// The names of the folders that are there.
fn names(root: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    let entries = match std::fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let Ok(file) = entry.file_name().into_string() else { continue };
        let Some(name) = file.strip_prefix('.') else { continue };
        let is_folder = path_of(root, name).is_some() && entry.path().join("cur").is_dir();
        if is_folder && names.len() < MOST {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

impl Mailbox for Folders {
    fn folders(&self) -> Work<'_, Vec<String>> {
        let root = self.root.clone();
        Box::pin(blocking(move || names(&root)))
    }

    fn list(&self, folder: String, look: Look) -> Work<'_, Listing> {
        let watch = self.watch.clone();
        self.with(folder, move |maildir| {
            // Before the look, so that what comes during it is heard of, once too often if need be.
            let before = maildir.stamp();
            let listing = maildir.list(look == Look::Take)?;
            if look != Look::Glance {
                watch.set(maildir.path(), before);
            }
            Ok(listing)
        })
    }

    fn read(&self, folder: String, uid: u32) -> Work<'_, Option<Vec<u8>>> {
        self.with(folder, move |maildir| maildir.read(uid))
    }

    fn mark(&self, folder: String, uids: Vec<u32>, change: Change) -> Work<'_, Vec<(u32, Flags)>> {
        self.with(folder, move |maildir| maildir.mark(&uids, |flags| change.of(flags)))
    }

    fn remove(&self, folder: String, uids: Vec<u32>) -> Work<'_, Vec<u32>> {
        self.with(folder, move |maildir| maildir.remove(&uids))
    }

    fn add(&self, folder: String, letters: Vec<Letter>) -> Work<'_, (u32, Vec<u32>)> {
        self.with(folder, move |maildir| {
            let mut uids = Vec::with_capacity(letters.len());
            for letter in letters {
                match maildir.add(&letter.text, letter.flags, letter.received) {
                    Ok(uid) => uids.push(uid),
                    Err(error) => {
                        // All or none (RFC 3501, section 6.4.7).
                        maildir.remove(&uids)?;
                        return Err(error);
                    }
                }
            }
            Ok((maildir.list(false)?.validity, uids))
        })
    }

    fn create(&self, folder: String) -> Work<'_, ()> {
        let root = self.root.clone();
        Box::pin(blocking(move || {
            let path = path_of(&root, &folder).ok_or(io::ErrorKind::InvalidInput)?;
            if path.exists() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            if names(&root)?.len() >= MOST {
                return Err(io::ErrorKind::QuotaExceeded.into());
            }
            Maildir::open(path).map(drop)
        }))
    }

    fn delete(&self, folder: String) -> Work<'_, ()> {
        self.forget();
        let root = self.root.clone();
        Box::pin(blocking(move || {
            let path = path_of(&root, &folder).filter(|path| *path != root && path.is_dir());
            std::fs::remove_dir_all(path.ok_or(io::ErrorKind::NotFound)?)
        }))
    }

    fn rename(&self, from: String, to: String) -> Work<'_, ()> {
        self.forget();
        let root = self.root.clone();
        Box::pin(blocking(move || {
            let path = |name: &str| path_of(&root, name).filter(|path| *path != root);
            let below = format!("{from}.");
            let all = names(&root)?;
            let moved: Vec<_> = all
                .iter()
                .filter(|name| **name == from || name.starts_with(&below))
                .filter_map(|name| Some((name, format!("{to}{}", name.strip_prefix(&from)?))))
                .collect();
            if moved.is_empty() {
                return Err(io::ErrorKind::NotFound.into());
            }
            let mut steps = Vec::new();
            for (old, new) in moved {
                let (old, new) = (path(old), path(&new));
                let (old, new) = old.zip(new).ok_or(io::ErrorKind::InvalidInput)?;
                if new.exists() {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                steps.push((old, new));
            }
            steps.into_iter().try_for_each(|(old, new)| std::fs::rename(old, new))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_elsewhere() {
        let root = Path::new("/srv/ada");
        assert_eq!(path_of(root, "inbox").unwrap(), root);
        assert_eq!(path_of(root, "Sent.2024").unwrap(), Path::new("/srv/ada/.Sent.2024"));
        for name in ["", ".", "..", "a..b", ".a", "a.", "a/b", "../a", "a\nb", "\u{fc}", "a*"] {
            assert_eq!(path_of(root, name), None, "{name:?}");
        }
        assert_eq!(path_of(root, &"x".repeat(LONGEST + 1)), None);
    }
}
