//! Folders that visitors without a name may read: whatever would change something is refused.

use std::io;

use super::folders::Folders;
use crate::imap::{Change, Letter, Look, Mailbox, Work};
use crate::maildir::{Flags, Listing};

/// Somebody else's folders.
pub(super) struct Visited(pub(super) Folders);

fn refused<T: Send + 'static>() -> Work<'static, T> {
    Box::pin(async { Err(io::ErrorKind::ReadOnlyFilesystem.into()) })
}

impl Mailbox for Visited {
    fn may_change(&self) -> bool {
        false
    }

    fn folders(&self) -> Work<'_, Vec<String>> {
        self.0.folders()
    }

    fn list(&self, folder: String, look: Look) -> Work<'_, Listing> {
        // What is new stays so for whose it is.
        self.0.list(folder, if look == Look::Take { Look::Read } else { look })
    }

    fn read(&self, folder: String, uid: u32) -> Work<'_, Option<Vec<u8>>> {
        self.0.read(folder, uid)
    }

    fn mark(&self, _: String, _: Vec<u32>, _: Change) -> Work<'_, Vec<(u32, Flags)>> {
        refused()
    }

    fn remove(&self, _: String, _: Vec<u32>) -> Work<'_, Vec<u32>> {
        refused()
    }

    fn add(&self, _: String, _: Vec<Letter>) -> Work<'_, (u32, Vec<u32>)> {
        refused()
    }

    fn create(&self, _: String) -> Work<'_, ()> {
        refused()
    }

    fn delete(&self, _: String) -> Work<'_, ()> {
        refused()
    }

    fn rename(&self, _: String, _: String) -> Work<'_, ()> {
        refused()
    }
}
