//! Tab-escaping: how a value may hold the bytes that separate fields and lines.

use std::borrow::Cow;

/// The escape byte.
const ESCAPE: u8 = 1;

/// Appends `value`, with NUL, 0x01, TAB, CR and LF escaped: exactly the bytes that would otherwise end a
/// field, a line, or a C string on the other side.
pub fn escape(value: &[u8], out: &mut Vec<u8>) {
    // Nearly every value is clean, so look once, without a branch for each byte, and copy whole.
    if !value.iter().fold(false, |found, &byte| found | needs_escape(byte)) {
        out.extend_from_slice(value);
        return;
    }
    for &byte in value {
        let letter = match byte {
            b'\0' => b'0',
            ESCAPE => b'1',
            b'\t' => b't',
            b'\r' => b'r',
            b'\n' => b'n',
            other => {
                out.push(other);
                continue;
            }
        };
        out.extend_from_slice(&[ESCAPE, letter]);
    }
}

/// The value behind its escapes: borrowed when it has none.
///
/// `l` stands for LF as well as `n`, because Dovecot's documentation says the one and its code the other.
/// An unknown letter stands for itself, and an escape byte at the very end for nothing, so every input
/// has a meaning and nothing here can fail.
pub fn unescape(value: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr::memchr(ESCAPE, value) else {
        return Cow::Borrowed(value);
    };
    let mut plain = Vec::with_capacity(value.len() - 1);
    plain.extend_from_slice(&value[..first]);
    let mut bytes = value[first..].iter();
    while let Some(&byte) = bytes.next() {
        if byte != ESCAPE {
            plain.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'0') => plain.push(b'\0'),
            Some(b'1') => plain.push(ESCAPE),
            Some(b't') => plain.push(b'\t'),
            Some(b'r') => plain.push(b'\r'),
            Some(b'n' | b'l') => plain.push(b'\n'),
            Some(&other) => plain.push(other),
            None => {}
        }
    }
    Cow::Owned(plain)
}

fn needs_escape(byte: u8) -> bool {
    matches!(byte, b'\0' | ESCAPE | b'\t' | b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        escape(value, &mut out);
        out
    }

    #[test]
    fn every_byte_comes_back() {
        for byte in 0..=255 {
            let value = [b'a', byte, b'z'];
            let text = escaped(&value);
            assert!(!text.iter().any(|b| matches!(b, b'\0' | b'\t' | b'\r' | b'\n')), "{byte:#x}");
            assert_eq!(unescape(&text), &value[..], "{byte:#x}");
        }
    }

    #[test]
    fn the_letters() {
        assert_eq!(escaped(b"\0\x01\t\r\n"), b"\x010\x011\x01t\x01r\x01n");
        assert_eq!(unescape(b"\x010\x011\x01t\x01r\x01n\x01l\x01x\x01"), &b"\0\x01\t\r\n\nx"[..]);
    }

    #[test]
    fn a_clean_value_is_borrowed() {
        assert!(matches!(unescape(b"ann@example.org"), Cow::Borrowed(_)));
        assert_eq!(escaped("zoë".as_bytes()), "zoë".as_bytes());
    }
}
