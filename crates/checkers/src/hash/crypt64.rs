//! crypt(3)'s base64: `./0-9A-Za-z`, the lowest six bits first.

use zeroize::Zeroizing;

pub(super) const ALPHABET: &[u8; 64] =
    b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The value of a character.
pub(super) fn value(character: u8) -> Option<u32> {
    ALPHABET.iter().position(|known| *known == character).map(|at| at as u32)
}

pub(super) fn valid(text: &str) -> bool {
    text.bytes().all(|b| ALPHABET.contains(&b))
}

/// Writes the lowest `6 × characters` bits of a word.
pub(super) fn push(text: &mut String, word: u32, characters: u32) {
    for i in 0..characters {
        text.push(ALPHABET[(word >> (6 * i) & 63) as usize] as char);
    }
}

/// Bytes as scrypt's `$7$` and yescrypt write them: three make four characters, the rest as many as they need.
pub(super) fn encode(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() * 4 / 3 + 3));
    for group in bytes.chunks(3) {
        let mut word = [0; 4];
        word[..group.len()].copy_from_slice(group);
        push(&mut text, u32::from_le_bytes(word), group.len() as u32 + 1);
    }
    text
}

/// What [`encode`] wrote; nothing else.
pub(super) fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() * 3 / 4));
    for group in text.as_bytes().chunks(4) {
        let mut word = 0;
        for (i, character) in group.iter().enumerate() {
            word |= value(*character)? << (6 * i);
        }
        bytes.extend_from_slice(&word.to_le_bytes()[..group.len() - 1]);
    }
    (*encode(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..70)) {
            let text = encode(&bytes);
            prop_assert!(valid(&text));
            let read = decode(&text);
            prop_assert_eq!(read.as_deref(), Some(&bytes));
        }
    }

    #[test]
    fn one_text_for_the_same_bytes() {
        // The last character of two has bits to spare.
        assert_eq!(decode("zz"), None);
        assert_eq!(decode("z"), None);
        assert_eq!(decode("z!"), None);
        assert_eq!(decode("z/").unwrap().as_slice(), [127]);
        assert_eq!((value(b'.'), value(b'z'), value(b'+')), (Some(0), Some(63), None));
    }
}
