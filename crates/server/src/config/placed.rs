//! A value, and where in the file it is said.

use std::fmt;
use std::ops::{Deref, Range};

use serde::Deserialize;
use toml::Spanned;

/// A value, and where in the file it is said.
///
/// `Debug` shows the value alone: sections are compared by what they show, and one that moved in the file is
/// unchanged.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Placed<T>(Spanned<T>);

impl<T> Placed<T> {
    /// Where it is said.
    pub fn span(&self) -> Range<usize> {
        self.0.span()
    }
}

/// What is not said.
impl<T: Default> Default for Placed<T> {
    fn default() -> Self {
        Self(Spanned::new(0..0, T::default()))
    }
}

impl<T> Deref for Placed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.get_ref()
    }
}

impl<T: fmt::Debug> fmt::Debug for Placed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.get_ref().fmt(f)
    }
}
