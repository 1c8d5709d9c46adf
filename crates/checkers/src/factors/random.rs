//! Secrets for people to copy: made of characters that no two fonts confuse, read as people type them.

use countersign::{Secret, World};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// 32 characters without l, o, 0 and 1. A power of two, so that five random bits choose one without
/// preference.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Nothing that is read here is longer, however it is grouped.
const LONGEST: usize = 64;

/// Random characters, five bits each: so many groups of so many, with hyphens between.
pub(super) fn text(world: &dyn World, groups: usize, group: usize) -> Secret {
    let mut bits = Zeroizing::new(vec![0; groups * group]);
    world.fill(&mut bits);
    // In one piece from the start: a vector that grows leaves copies behind.
    let mut text = Vec::with_capacity(groups * (group + 1));
    for bytes in bits.chunks(group) {
        if !text.is_empty() {
            text.push(b'-');
        }
        text.extend(bytes.iter().map(|byte| ALPHABET[usize::from(byte & 31)]));
    }
    Secret::from(text)
}

/// A code or application password as somebody typed it, without the blanks and hyphens that only group it,
/// in small letters. `None`: it has anything else, so it is none.
pub(super) fn typed(secret: &Secret) -> Option<Zeroizing<String>> {
    let mut plain = Zeroizing::new(String::with_capacity(LONGEST));
    for byte in secret.expose() {
        match byte {
            b' ' | b'-' => {}
            byte if byte.is_ascii_alphanumeric() && plain.len() < LONGEST => {
                plain.push(char::from(byte.to_ascii_lowercase()));
            }
            _ => return None,
        }
    }
    (!plain.is_empty()).then_some(plain)
}

/// What is stored of a secret with at least 80 random bits: nobody can try them all, so one plain hash is
/// as good as a slow one, and needs no salt. As text that [`crate::hash`] reads.
pub(super) fn fingerprint(plain: &str) -> Secret {
    use base64::Engine as _;
    let digest = Sha256::digest(plain.as_bytes());
    Secret::from(format!("{{SHA256}}{}", base64::engine::general_purpose::STANDARD.encode(digest)))
}

#[cfg(test)]
mod tests {
    use countersign::testing::StillWorld;

    use super::*;
    use crate::hash::{Accept, Hash};

    #[test]
    fn grouped_and_read_again() {
        let text = text(&StillWorld::default(), 5, 5);
        assert_eq!(text.len(), 29);
        let plain = typed(&text).unwrap();
        assert_eq!(plain.len(), 25);
        assert!(plain.bytes().all(|byte| ALPHABET.contains(&byte)));
        let spaced = text.to_str().unwrap().replace('-', " ").to_uppercase();
        assert_eq!(typed(&Secret::from(spaced)).unwrap(), plain);
    }

    #[test]
    fn nothing_else_is_a_code() {
        for other in ["", " - ", "123456\n", "123456\0", "12345é", "a+b", "1234\t56"] {
            assert_eq!(typed(&Secret::from(other)), None, "{other:?}");
        }
        assert!(typed(&Secret::from("x".repeat(64))).is_some());
        assert!(typed(&Secret::from("x".repeat(65))).is_none());
        assert_eq!(*typed(&Secret::from("123 456 ")).unwrap(), "123456");
    }

    #[test]
    fn a_fingerprint_is_a_hash_that_others_read() {
        let stored = fingerprint("abc");
        let hash = Hash::parse(stored.to_str().unwrap(), &Accept::default()).unwrap();
        assert!(hash.verify(&Secret::from("abc")) && !hash.verify(&Secret::from("abd")));
    }
}
