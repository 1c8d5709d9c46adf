//! The interface that the protocol asks an application for.

use std::fmt;
use std::pin::Pin;

use countersign::Interface;

use crate::mind::Mind;

/// What this protocol asks an application for: a desk, and somebody to be told something.
#[derive(Debug)]
pub struct Objects;

impl Interface for Objects {
    const NAME: &'static str = "desk";
    type Avatar = dyn Desk;
    type Mind = Mind;
}

/// Something that takes its time.
pub type Work<'a, T = ()> = Pin<Box<dyn Future<Output = Result<T, Trouble>> + Send + 'a>>;

/// A desk with notes on it, each by its name.
///
/// The desk is where it is said what a user may do; the objects that clients hold only name it. A call on one of
/// them is dropped half-way when the session ends.
pub trait Desk: Send + Sync {
    /// The names of the notes, in order.
    fn list(&self) -> Work<'_, Vec<String>>;

    /// What a note says.
    ///
    /// # Errors
    ///
    /// [`Trouble::NoNote`].
    fn read(&self, name: String) -> Work<'_, String>;

    /// Puts a note down, in place of what has that name.
    ///
    /// # Errors
    ///
    /// [`Trouble::Unfit`], [`Trouble::Full`].
    fn put(&self, name: String, text: String) -> Work<'_>;

    /// Takes a note away, and gives what it said.
    ///
    /// # Errors
    ///
    /// [`Trouble::NoNote`].
    fn take(&self, name: String) -> Work<'_, String>;

    /// Leaves a note on somebody else's desk, where nothing has that name.
    ///
    /// # Errors
    ///
    /// [`Trouble::Nobody`], [`Trouble::Taken`], [`Trouble::Unfit`], [`Trouble::Full`].
    fn leave(&self, to: String, name: String, text: String) -> Work<'_>;
}

/// Why something could not be done. A client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// There is no note of that name.
    NoNote,
    /// Something has that name already.
    Taken,
    /// The name is empty, too long or not for a line, or the text is too long.
    Unfit,
    /// There is no room.
    Full,
    /// Nobody of that name has a desk.
    Nobody,
    /// Something broke.
    Broken,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoNote => "there is no such note",
            Self::Taken => "there is such a note already",
            Self::Unfit => {
                "the name or the text cannot be taken: empty, too long, or not for a line"
            }
            Self::Full => "there is no room for more notes",
            Self::Nobody => "nobody of that name has a desk here",
            Self::Broken => "something broke; try later",
        })
    }
}

impl std::error::Error for Trouble {}
