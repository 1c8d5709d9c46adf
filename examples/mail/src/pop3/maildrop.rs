//! The interface that POP3 asks an application for.

use std::io;
use std::pin::Pin;

use countersign::Interface;

use crate::notice::Teller;

/// What a POP3 server asks an application for: a maildrop (RFC 1939), and somebody to be told something.
#[derive(Debug)]
pub struct Pop3Mailbox;

impl Interface for Pop3Mailbox {
    const NAME: &'static str = "pop3-mailbox";
    type Avatar = dyn Maildrop;
    type Mind = Teller;
}

/// Something that takes its time.
pub type Work<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// One message of a maildrop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Octets, every line's end counted as two.
    pub size: u64,
    /// Its unique id: 1 to 70 characters from `!` to `~` (RFC 1939, section 7).
    pub uid: String,
}

/// A maildrop.
pub trait Maildrop: Send + Sync {
    /// Takes the maildrop for this session alone, until it is dropped (RFC 1939, section 4). It is what `PASS` waits
    /// for, and many sessions never ask for more: what is in it need not be looked at.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::ResourceBusy`] if another session has it.
    fn take(&mut self) -> Work<'_, ()>;

    /// What is in it, when that is first wanted. It stays the same until the end, so this is asked until it was told
    /// once.
    ///
    /// # Errors
    ///
    /// Of the store; and [`io::ErrorKind::ResourceBusy`] if it turns out now that somebody else has it.
    fn list(&mut self) -> Work<'_, Vec<Letter>>;

    /// A message, by its place in the list, from 0, every line ending with CR LF.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] if it went away.
    fn read(&self, index: usize) -> Work<'_, Vec<u8>>;

    /// Removes messages, for good.
    ///
    /// # Errors
    ///
    /// When not all could be removed.
    fn remove(&mut self, indices: Vec<usize>) -> Work<'_, ()>;
}
