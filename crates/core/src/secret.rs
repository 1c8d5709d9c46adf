//! Bytes that nobody may print, log, compare quickly or leave behind in memory.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// A secret: any bytes, wiped when dropped, never printed.
///
/// It holds bytes and not text, because a password is whatever the peer sent: it need not be UTF-8, it
/// may be empty, and it may hold a NUL. Whoever needs text asks for it with [`Secret::to_str`].
///
/// ```
/// use countersign::Secret;
/// let secret = Secret::from("correct horse");
/// assert_eq!(format!("{secret:?}"), "Secret(…)");
/// assert_eq!(secret, Secret::from("correct horse"));
/// ```
#[derive(Clone, Default)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// The bytes. The name is long so that a search finds every place that looks inside.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as text, if they are UTF-8.
    pub fn to_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no byte at all. An empty secret is an answer; an absent one is not.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// In constant time for equal lengths.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl From<&[u8]> for Secret {
    #[inline]
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<&str> for Secret {
    #[inline]
    fn from(text: &str) -> Self {
        Self::from(text.as_bytes())
    }
}

/// Copies into an exact allocation and wipes the vector, whose spare capacity may hold older bytes.
impl From<Vec<u8>> for Secret {
    fn from(mut bytes: Vec<u8>) -> Self {
        if bytes.len() == bytes.capacity() {
            return Self(bytes.into_boxed_slice());
        }
        let secret = Self::from(bytes.as_slice());
        bytes.zeroize();
        secret
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::from(text.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_nothing_and_compares_whole() {
        let secret = Secret::from("hunter2");
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert_eq!(secret, Secret::from(b"hunter2".to_vec()));
        assert_ne!(secret, Secret::from("hunter"));
        assert_ne!(secret, Secret::from("hunter3"));
        assert_eq!(secret.len(), 7);
        assert!(Secret::default().is_empty());
    }

    #[test]
    fn text_is_asked_for() {
        assert_eq!(Secret::from("ä").to_str(), Some("ä"));
        assert_eq!(Secret::from(&[0xff][..]).to_str(), None);
    }
}
