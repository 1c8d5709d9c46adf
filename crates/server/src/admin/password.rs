//! The rules for new passwords, and passwords made here.

use countersign::{Secret, World};
use countersign_checkers::accounts::password_rules;
use serde::{Deserialize, Deserializer};

use super::AdminError;

/// Whether this may become the password of that user: the rules of every other place where a password is
/// set.
///
/// # Errors
/// [`AdminError::Invalid`] with the rule.
pub fn check_new_password(user: &str, password: &Secret) -> Result<(), AdminError> {
    password_rules(user, password).map_err(|rule| AdminError::invalid("password", rule.as_str()))
}

/// 32 characters that no two fonts confuse: no l, o, 0 or 1. A power of two, so that five random bits
/// choose one without preference.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// A password of 100 random bits in four groups of five characters.
pub(super) fn one_time(world: &dyn World) -> Secret {
    let mut bits = zeroize::Zeroizing::new([0; 20]);
    world.fill(&mut *bits);
    let mut text = Vec::with_capacity(23);
    for group in bits.chunks(5) {
        if !text.is_empty() {
            text.push(b'-');
        }
        text.extend(group.iter().map(|byte| ALPHABET[usize::from(byte & 31)]));
    }
    Secret::from(text)
}

/// Text of a request that goes straight into a [`Secret`].
pub(super) fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
    struct Text;

    impl serde::de::Visitor<'_> for Text {
        type Value = Secret;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a password as a string")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Secret, E> {
            Ok(Secret::from(text))
        }

        fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Secret, E> {
            Ok(Secret::from(text))
        }

        // The default names the number that was found, which was meant as a password.
        fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Secret, E> {
            Err(E::custom("a password is a string: put it into quotes"))
        }

        fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Secret, E> {
            self.visit_u64(0)
        }

        fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Secret, E> {
            self.visit_u64(0)
        }
    }

    from.deserialize_any(Text)
}

/// The same where it may be left out or `null`.
pub(super) fn maybe_secret<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Secret>, D::Error> {
    struct Given(Secret);

    impl<'de> Deserialize<'de> for Given {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            secret(from).map(Self)
        }
    }

    Option::<Given>::deserialize(from).map(|given| given.map(|given| given.0))
}

#[cfg(test)]
mod tests {
    use countersign::testing::StillWorld;

    use super::*;

    #[test]
    fn length_and_name_and_nothing_else() {
        let check = |password: &str| check_new_password("adalovelace", &Secret::from(password));
        for good in ["aaaaaaaa", "пароль12", "two words", &"x".repeat(4096), "adalovelace1"] {
            check(good).unwrap();
        }
        for (bad, why) in [
            ("", "at least 8"),
            ("hunter2", "at least 8"),
            ("üüüüüüü", "at least 8"),
            ("AdaLovelace", "user name"),
            (&"x".repeat(4097), "at most 4096"),
        ] {
            let error = check(bad).unwrap_err().to_string();
            assert!(error.starts_with("password: ") && error.contains(why), "{error}");
            assert!(bad.is_empty() || !error.contains(bad), "{error}");
        }
        check_new_password("x", &Secret::from(&[0xff; 8][..])).unwrap();
    }

    #[test]
    fn one_time_passwords_are_long_readable_and_new() {
        let world = StillWorld::default();
        let (first, second) = (one_time(&world), one_time(&world));
        assert_ne!(first, second);
        let text = first.to_str().unwrap();
        assert_eq!(text.len(), 23);
        assert!(text.bytes().all(|b| b == b'-' || ALPHABET.contains(&b)), "{text}");
        assert_eq!(text.bytes().filter(|b| *b != b'-').count(), 20);
        check_new_password("admin", &first).unwrap();
    }
}
