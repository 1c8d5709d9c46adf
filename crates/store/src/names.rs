//! The one place that decides which texts the store holds, and how many of them.

use crate::error::StoreError;

/// Limits of everything that the store holds, so that no account makes a login slow or memory large.
pub mod limits {
    /// Bytes of a name, a label or a scope.
    pub const NAME: usize = 255;
    /// Bytes of an attribute's value, a description, a lookup key or one audit field.
    pub const TEXT: usize = 4096;
    /// Bytes of one credential's data or one session's.
    pub const DATA: usize = 64 * 1024;
    /// Credentials of one account.
    pub const CREDENTIALS: usize = 128;
    /// Groups of one account.
    pub const GROUPS: usize = 1024;
    /// Labels of one account.
    pub const LABELS: usize = 256;
    /// Attribute values of one account, all names together.
    pub const VALUES: usize = 1024;
    /// Throttled users and sources that one call gives or deletes.
    pub const THROTTLES: usize = 65_536;
    /// Rows of one page of a listing.
    pub const PAGE: usize = 1000;
}

/// A user's name: 1 to 255 bytes, without control characters, without blanks at either end.
///
/// Postfix and Exim put the name into lines of their own without escaping it, and a tab or a line end in
/// it would become a field or a request there. A name that differs from another by a blank at the end is
/// a name nobody can see. Bytes are compared as they are: folding case or Unicode forms is the caller's
/// policy, and must be done before any call here, for adding and for looking up alike.
///
/// # Errors
/// [`StoreError::Invalid`] with the rule that is broken.
pub fn check_user_name(name: &str) -> Result<(), StoreError> {
    check(name, "a user's name")
}

/// A group's name: as a user's, and without a comma, because web front ends send the groups of a user as
/// one comma-separated header.
///
/// # Errors
/// [`StoreError::Invalid`] with the rule that is broken.
pub fn check_group_name(name: &str) -> Result<(), StoreError> {
    check(name, "a group's name")?;
    if name.contains(',') {
        return invalid("a group's name", "must not contain a comma");
    }
    Ok(())
}

/// A name of some other thing under the same rules.
pub(crate) fn check(name: &str, what: &'static str) -> Result<(), StoreError> {
    if name.is_empty() {
        return invalid(what, "must not be empty");
    }
    if name.len() > limits::NAME {
        return invalid(what, format!("must not be longer than {} bytes", limits::NAME));
    }
    if name.chars().any(char::is_control) {
        return invalid(what, "must not contain control characters");
    }
    if name.trim() != name {
        return invalid(what, "must not begin or end with a blank");
    }
    Ok(())
}

/// Free text: bounded, and without NUL, which PostgreSQL cannot hold.
pub(crate) fn check_text(text: &str, limit: usize, what: &'static str) -> Result<(), StoreError> {
    if text.len() > limit {
        return invalid(what, format!("must not be longer than {limit} bytes"));
    }
    if text.contains('\0') {
        return invalid(what, "must not contain NUL");
    }
    Ok(())
}

pub(crate) fn invalid<T>(what: &'static str, why: impl Into<String>) -> Result<T, StoreError> {
    Err(StoreError::Invalid { what, why: why.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_people_have() {
        for name in
            ["a", "alice", "alice@example.org", "Ümit Ö", "o'brien", "DOM\\bob", "a b", "+", "用户"]
        {
            check_user_name(name).unwrap();
        }
        check_user_name(&"x".repeat(255)).unwrap();
    }

    #[test]
    fn names_that_break_lines_elsewhere() {
        for name in
            ["", " a", "a ", "a\tb", "a\nb", "a\0b", "a\u{7f}", "a\u{85}b", "\u{a0}a", "\u{2003}"]
        {
            assert!(check_user_name(name).is_err(), "{name:?}");
        }
        assert!(check_user_name(&"x".repeat(256)).is_err());
        let said = check_user_name("a\tb").unwrap_err().to_string();
        assert_eq!(said, "a user's name must not contain control characters");
    }

    #[test]
    fn a_group_is_one_word_of_a_header() {
        check_group_name("mail users").unwrap();
        assert!(check_group_name("mail,admin").is_err());
    }

    #[test]
    fn text_is_bounded_and_free_of_nul() {
        check_text("line\nline", 20, "t").unwrap();
        assert!(check_text("\0", 20, "t").is_err());
        assert!(check_text("abc", 2, "t").is_err());
    }
}
