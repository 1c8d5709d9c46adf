//! SASL messages as lines carry them: base64, padded, in the standard alphabet (RFC 4648 section 4).

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use countersign::Secret;

/// Padding is required, as every known client sends it and Dovecot demands it. Left-over bits in the last
/// character are ignored, as Dovecot ignores them: only the decoded bytes are ever looked at, so two
/// spellings of one message are no danger, and a sloppy mail client that works today goes on working.
const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Decodes straight into the allocation that the secret keeps: no second copy exists that needs wiping.
pub(crate) fn decode(text: &[u8]) -> Option<Secret> {
    if text.is_empty() {
        return Some(Secret::default());
    }
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text.iter().rev().take(2).take_while(|&&byte| byte == b'=').count();
    let mut bytes = vec![0; text.len() / 4 * 3 - padding];
    let decoded = ENGINE.decode_slice(text, &mut bytes);
    let fits = decoded == Ok(bytes.len());
    // Made a secret before the verdict, so that the first half of a broken message is wiped too.
    let secret = Secret::from(bytes);
    fits.then_some(secret)
}

/// Appends the base64 text of `message`.
pub(crate) fn encode(message: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + message.len().div_ceil(3) * 4, 0);
    let written = ENGINE.encode_slice(message, &mut out[start..]);
    debug_assert_eq!(written, Ok(out.len() - start));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_what_clients_send() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("AA==", b"\0"),
            ("AHUxAHNlY3JldA==", b"\0u1\0secret"),
            ("YWI=", b"ab"),
            ("YWJj", b"abc"),
            ("/+8=", b"\xff\xef"),
        ] {
            assert_eq!(decode(text.as_bytes()), Some(Secret::from(bytes)), "{text}");
            let mut out = b"x".to_vec();
            encode(bytes, &mut out);
            assert_eq!(out, [b"x", text.as_bytes()].concat());
        }
    }

    #[test]
    fn left_over_bits_are_ignored() {
        assert_eq!(decode(b"YWJ="), Some(Secret::from("ab")));
        assert_eq!(decode(b"AB=="), Some(Secret::from(&b"\0"[..])));
    }

    #[test]
    fn refuses_everything_else() {
        for text in
            ["=", "==", "A", "AA", "AA=", "AAA", "====", "A===", "AA==AA==", "AAA=AAAA", "AA A"]
        {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
        for byte in 0..=255_u8 {
            let ok = byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
            assert_eq!(decode(&[b'A', byte, b'A', b'A']).is_some(), ok, "{byte:#x}");
        }
    }
}
