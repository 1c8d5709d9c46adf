//! The store's file: made for its owner alone, and refused when everybody may read it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::StoreError;

/// Makes sure that there is a file, or says why not.
pub(crate) fn prepare(path: &Path, make: bool) -> Result<(), StoreError> {
    // Looked at and never opened: closing any handle of the file drops the locks that SQLite holds on it
    // elsewhere in this process (POSIX advisory locks).
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(StoreError::NotAStore {
            place: path.display().to_string(),
            why: "it is not a regular file".to_owned(),
        }),
        Ok(found) => check_mode(path, &found),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !make => {
            Err(StoreError::Missing { place: path.display().to_string() })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => match create(path) {
            // Another program was quicker.
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                Ok(())
            }
            done => done,
        },
        Err(source) => Err(StoreError::Io { path: path.to_owned(), source }),
    }
}

/// Makes an empty file of mode 0600. SQLite gives its `-wal` and `-shm` files the mode of the main one.
pub(crate) fn create(path: &Path) -> Result<(), StoreError> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(source) => Err(StoreError::Io { path: path.to_owned(), source }),
    }
}

/// Which file it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity(u64, u64);

impl Identity {
    /// `None`: there is no file at the path, or the platform has no such numbers.
    #[cfg(unix)]
    pub(crate) fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(path).ok().map(|found| Self(found.dev(), found.ino()))
    }

    #[cfg(not(unix))]
    pub(crate) fn of(_: &Path) -> Option<Self> {
        None
    }
}

/// Waits until the file's content is on the disk.
pub(crate) fn sync(path: &Path) -> Result<(), StoreError> {
    let done = fs::OpenOptions::new().write(true).open(path).and_then(|file| file.sync_all());
    done.map_err(|source| StoreError::Io { path: path.to_owned(), source })
}

#[cfg(unix)]
fn check_mode(path: &Path, found: &fs::Metadata) -> Result<(), StoreError> {
    let mode = std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o7777;
    // The group's bits are left to the operator, who may have a group for backups.
    if mode & 0o007 != 0 {
        return Err(StoreError::Exposed { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_mode(_: &Path, _: &fs::Metadata) -> Result<(), StoreError> {
    Ok(())
}

/// Removes an unfinished file, also when the call that writes it is dropped.
pub(crate) struct RemoveOnDrop(Option<PathBuf>);

impl RemoveOnDrop {
    pub(crate) fn new(path: &Path) -> Self {
        Self(Some(path.to_owned()))
    }

    pub(crate) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // Nothing more can be done about it here.
            let _ = fs::remove_file(path);
        }
    }
}
