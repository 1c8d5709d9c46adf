//! What a server sends, before the library reads it: whole messages only, bounded in length and depth.
//!
//! Nothing here knows what a message means. It holds back what is not a well-formed element of BER (X.690)
//! with definite lengths, as RFC 4511 §5.1 demands, so that the most that a server can have the library do is
//! known beforehand.

use thiserror::Error;

/// The most bytes that one message of a server may have.
pub(super) const MESSAGE_LIMIT: usize = 1 << 20;
/// How deep elements may be nested. A message with controls has five or six.
const DEEPEST: usize = 16;

const SEQUENCE: u8 = 0x30;
const CONSTRUCTED: u8 = 0x20;

/// Bytes that are no message of LDAP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum Malformed {
    #[error("the server's message has {0}")]
    Encoding(&'static str),
    #[error("the server sent what begins no message; is this an LDAP server?")]
    Beginning,
    #[error("the server's message is longer than {0} bytes")]
    TooLong(usize),
    /// What it had was for the library to tell, and it could not.
    #[error("the server's message is not one of LDAP, or none that is due here")]
    Unreadable,
}

/// The length of the first message, once all of it is there.
///
/// # Errors
/// What begins no message, is too long (told from its header), or is not well-formed.
pub(super) fn whole(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    match bytes.first() {
        None => return Ok(None),
        Some(&SEQUENCE) => {}
        Some(_) => return Err(Malformed::Beginning),
    }
    let Some((header, content)) = lengths(bytes)? else { return Ok(None) };
    let length = header.saturating_add(content);
    if length > MESSAGE_LIMIT {
        return Err(Malformed::TooLong(MESSAGE_LIMIT));
    }
    let Some(message) = bytes.get(..length) else { return Ok(None) };
    well_formed(message)?;
    Ok(Some(length))
}

/// Whether this is elements within elements, each within its own, and not too deep.
///
/// # Errors
/// What is wrong with it.
pub(super) fn well_formed(bytes: &[u8]) -> Result<(), Malformed> {
    const OVERRUN: Malformed = Malformed::Encoding("an element longer than what it is in");
    let mut ends = vec![bytes.len()];
    let mut at = 0;
    while let Some(&end) = ends.last() {
        if at == end {
            ends.pop();
            continue;
        }
        let Some((header, content)) = lengths(&bytes[at..end])? else { return Err(OVERRUN) };
        let constructed = bytes[at] & CONSTRUCTED != 0;
        at += header;
        if content > end - at {
            return Err(OVERRUN);
        }
        if !constructed {
            at += content;
        } else if ends.len() == DEEPEST {
            return Err(Malformed::Encoding("elements nested too deep"));
        } else {
            ends.push(at + content);
        }
    }
    Ok(())
}

/// How long an element's header and its content are; nothing where the header is not all there.
fn lengths(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let Some(&first) = bytes.get(1) else { return Ok(None) };
    if first < 0x80 {
        return Ok(Some((2, first.into())));
    }
    let more = usize::from(first & 0x7f);
    match more {
        0 => return Err(Malformed::Encoding("an indefinite length")),
        1..=8 => {}
        _ => return Err(Malformed::TooLong(MESSAGE_LIMIT)),
    }
    let Some(digits) = bytes.get(2..2 + more) else { return Ok(None) };
    let content = digits.iter().fold(0u64, |length, digit| length << 8 | u64::from(*digit));
    if content > MESSAGE_LIMIT as u64 {
        return Err(Malformed::TooLong(MESSAGE_LIMIT));
    }
    Ok(Some((2 + more, content as usize)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_are_told_apart() {
        let message = b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00";
        for cut in 0..message.len() {
            assert_eq!(whole(&message[..cut]), Ok(None));
        }
        let two = [&message[..], message].concat();
        assert_eq!(whole(&two), Ok(Some(message.len())));
        assert_eq!(whole(b"\x30\x84\x00\x00\x00\x02\x05\x00"), Ok(Some(8)));
    }

    #[test]
    fn what_is_no_message_is_refused_from_its_first_bytes() {
        let overrun = Malformed::Encoding("an element longer than what it is in");
        for (bytes, error) in [
            (&b"HTTP"[..], Malformed::Beginning),
            (b"\x30\x80", Malformed::Encoding("an indefinite length")),
            (b"\x30\x84\x7f\xff\xff\xff", Malformed::TooLong(MESSAGE_LIMIT)),
            (b"\x30\x88\xff\xff\xff\xff\xff\xff\xff\xff", Malformed::TooLong(MESSAGE_LIMIT)),
            (b"\x30\xff", Malformed::TooLong(MESSAGE_LIMIT)),
            (b"\x30\x02\x02\x05", overrun),
            (b"\x30\x01\x02", overrun),
            (b"\x30\x02\x30\x80", Malformed::Encoding("an indefinite length")),
        ] {
            assert_eq!(whole(bytes), Err(error), "{bytes:?}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| {
            (1..depth).fold(b"\x30\x00".to_vec(), |inner, _| {
                let length = u16::try_from(inner.len()).unwrap().to_be_bytes();
                [&[0x30, 0x82, length[0], length[1]][..], &inner].concat()
            })
        };
        assert!(matches!(whole(&nested(DEEPEST - 1)), Ok(Some(_))));
        for depth in [DEEPEST, 10_000] {
            let deep = Malformed::Encoding("elements nested too deep");
            assert_eq!(whole(&nested(depth)), Err(deep));
        }
    }

    proptest! {
        /// What passes is what the library reads to its end.
        #[test]
        fn what_passes_is_readable(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let bytes = [&[SEQUENCE, bytes.len() as u8][..], &bytes].concat();
            if let Ok(Some(length)) = whole(&bytes) {
                let read = ldap3::asn1::parse_tag(&bytes[..length]);
                prop_assert!(matches!(read, Ok(([], _))), "{:?}", read);
            }
        }
    }
}
