//! The interface that IMAP asks an application for.

use countersign::Interface;

use crate::maildir::{Flags, Listing};
use crate::notice::Teller;
pub use crate::pop3::Work;

/// What an IMAP server asks an application for: folders, and somebody to be told something.
#[derive(Debug)]
pub struct ImapMailbox;

impl Interface for ImapMailbox {
    const NAME: &'static str = "imap-mailbox";
    type Avatar = dyn Mailbox;
    type Mind = Teller;
}

/// How a folder is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// In passing.
    Glance,
    /// To stay: from now on the mind hears of its changes.
    Read,
    /// To stay, and new messages count as recent this once.
    Take,
}

/// A change of flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// These, and no others.
    To(Flags),
    /// These as well.
    Add(Flags),
    /// These no more.
    Remove(Flags),
}

impl Change {
    /// What flags are after it.
    pub fn of(self, flags: Flags) -> Flags {
        match self {
            Self::To(new) => new,
            Self::Add(more) => flags.with(more),
            Self::Remove(less) => flags.without(less),
        }
    }
}

/// A message to be put into a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Every line ending with CR LF.
    pub text: Vec<u8>,
    /// What is marked.
    pub flags: Flags,
    /// When it came, in seconds since 1970; none: now.
    pub received: Option<i64>,
}

/// Somebody's folders. `INBOX` is always there. `.` is between the steps of a name. A name that is not there, or
/// cannot be, is [`NotFound`](std::io::ErrorKind::NotFound), and
/// [`InvalidInput`](std::io::ErrorKind::InvalidInput) when it is to be made.
pub trait Mailbox: Send + Sync {
    /// Whether anything may be changed. Where not, folders are selected to be looked at, and what would change
    /// something is [`ReadOnlyFilesystem`](std::io::ErrorKind::ReadOnlyFilesystem).
    fn may_change(&self) -> bool {
        true
    }

    /// The names of all folders but `INBOX`, in order.
    ///
    /// # Errors
    ///
    /// Of the store.
    fn folders(&self) -> Work<'_, Vec<String>>;

    /// What is in a folder.
    ///
    /// # Errors
    ///
    /// Of the store.
    fn list(&self, folder: String, look: Look) -> Work<'_, Listing>;

    /// A message, every line ending with CR LF. `None`: it went away.
    ///
    /// # Errors
    ///
    /// Of the store.
    fn read(&self, folder: String, uid: u32) -> Work<'_, Option<Vec<u8>>>;

    /// Changes flags, and gives those that messages have then. Those that went away are left out.
    ///
    /// # Errors
    ///
    /// Of the store.
    fn mark(&self, folder: String, uids: Vec<u32>, change: Change) -> Work<'_, Vec<(u32, Flags)>>;

    /// Removes messages, and gives which.
    ///
    /// # Errors
    ///
    /// Of the store.
    fn remove(&self, folder: String, uids: Vec<u32>) -> Work<'_, Vec<u32>>;

    /// Puts messages in, and gives their numbers and the folder's validity.
    ///
    /// # Errors
    ///
    /// Of the store.
    fn add(&self, folder: String, letters: Vec<Letter>) -> Work<'_, (u32, Vec<u32>)>;

    /// Makes a folder.
    ///
    /// # Errors
    ///
    /// [`std::io::ErrorKind::AlreadyExists`].
    fn create(&self, folder: String) -> Work<'_, ()>;

    /// Removes a folder with all that is in it.
    ///
    /// # Errors
    ///
    /// Of the store.
    fn delete(&self, folder: String) -> Work<'_, ()>;

    /// Gives a folder, and those below it, another name.
    ///
    /// # Errors
    ///
    /// [`std::io::ErrorKind::AlreadyExists`].
    fn rename(&self, from: String, to: String) -> Work<'_, ()>;
}
