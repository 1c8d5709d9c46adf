//! What can be a user's name in a directory or a database of others.

/// Longer names are nobody's.
const LONGEST: usize = 256;

/// Whether a text can be a name: it has something to show, is not long, and has no control character, which
/// databases cut off at (NUL) and logs are broken by.
pub(crate) fn can_be_a_name(text: &str) -> bool {
    !text.trim().is_empty() && text.len() <= LONGEST && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_can_be_shown() {
        for name in ["a", "ädä", "a b", "' or 1=1--", &"x".repeat(256)] {
            assert!(can_be_a_name(name));
        }
        for name in ["", " ", "a\0", "a\nb", "\u{7f}", "\u{85}", &"x".repeat(257)] {
            assert!(!can_be_a_name(name), "{name:?}");
        }
    }
}
