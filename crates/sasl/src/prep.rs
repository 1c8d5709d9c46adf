//! Names and passwords in one spelling (SASLprep, RFC 4013).

use std::borrow::Cow;

use countersign::{Limits, Secret};
use zeroize::Zeroizing;

/// A user name as stores know it; `None`: SASLprep forbids it, or leaves nothing, or no user can have it.
pub(crate) fn name(name: &str) -> Option<Cow<'_, str>> {
    let prepared = stringprep::saslprep(name).ok()?;
    Limits::NAME.violated_by(prepared.as_bytes()).is_none().then_some(prepared)
}

/// The bytes of a password that keys are made of.
///
/// What SASLprep forbids is taken as it is: the tables of 2002 know no character that came later, and a
/// client that has no tables sends the same bytes. So do PostgreSQL and libpq.
pub(crate) fn password(password: &Secret) -> Zeroizing<Vec<u8>> {
    let prepared = password.to_str().and_then(|text| match stringprep::saslprep(text) {
        Ok(Cow::Owned(prepared)) => Some(Zeroizing::new(prepared.into_bytes())),
        Ok(Cow::Borrowed(_)) | Err(_) => None,
    });
    prepared.unwrap_or_else(|| Zeroizing::new(password.expose().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4013 §3.
    #[test]
    fn the_examples_of_the_rfc() {
        assert_eq!(name("I\u{ad}X").as_deref(), Some("IX"));
        assert_eq!(name("user").as_deref(), Some("user"));
        assert_eq!(name("USER").as_deref(), Some("USER"));
        assert_eq!(name("\u{aa}").as_deref(), Some("a"));
        assert_eq!(name("\u{2168}").as_deref(), Some("IX"));
        assert_eq!(name("\u{7}"), None);
        assert_eq!(name("\u{627}1"), None);
        assert_eq!(name("\u{ad}"), None, "nothing is left");
    }

    #[test]
    fn a_password_has_keys_whatever_it_is() {
        let bytes = |text: &str| password(&Secret::from(text)).to_vec();
        assert_eq!(bytes("I\u{ad}X"), b"IX");
        assert_eq!(bytes("\u{7}"), b"\x07");
        assert_eq!(bytes("\u{1f980}"), "\u{1f980}".as_bytes());
        assert_eq!(password(&Secret::from(&[0xff, 0][..])).to_vec(), [0xff, 0]);
    }
}
