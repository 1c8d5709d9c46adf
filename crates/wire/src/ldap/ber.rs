//! As much of BER as LDAP permits (RFC 4511 §5.1): definite lengths, one-byte tags.

use super::WireError;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const ENUMERATED: u8 = 0x0a;
pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// The length of the first element, header included, once its header is there.
///
/// # Errors
/// A tag or a length that LDAP does not permit, or more than `limit` bytes, told from the header alone.
pub(super) fn whole(bytes: &[u8], limit: usize) -> Result<Option<usize>, WireError> {
    let [tag, first, rest @ ..] = bytes else { return Ok(None) };
    if tag & 0x1f == 0x1f {
        return Err(WireError::Encoding("a tag of several bytes"));
    }
    let (header, content) = match first {
        0..=0x7f => (2, usize::from(*first)),
        0x80 => return Err(WireError::Encoding("an indefinite length")),
        // Active Directory always takes four bytes for a length, so leading zeros are fine.
        0x81..=0x84 => {
            let count = usize::from(first & 0x7f);
            let Some(length) = rest.get(..count) else { return Ok(None) };
            (2 + count, length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
        }
        _ => return Err(WireError::Encoding("a length of more than four bytes")),
    };
    match header.checked_add(content) {
        Some(whole) if whole <= limit => Ok(Some(whole)),
        _ => Err(WireError::TooLong(limit)),
    }
}

/// Appends one element; `content` writes what is in it.
pub(super) fn element(out: &mut Vec<u8>, tag: u8, content: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let start = out.len();
    content(out);
    let length = out.len() - start;
    if length < 0x80 {
        out.insert(start, length as u8);
        return;
    }
    let bytes = length.to_be_bytes();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let significant = &bytes[zeros..];
    let head = std::iter::once(0x80 | significant.len() as u8).chain(significant.iter().copied());
    out.splice(start..start, head);
}

pub(super) fn octets(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    element(out, tag, |out| out.extend_from_slice(bytes));
}

/// A number that is not negative, in as few bytes as it takes.
pub(super) fn number(out: &mut Vec<u8>, tag: u8, value: u32) {
    let bytes = value.to_be_bytes();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count().min(3);
    element(out, tag, |out| {
        // The first bit is the sign.
        if bytes[zeros] & 0x80 != 0 {
            out.push(0);
        }
        out.extend_from_slice(&bytes[zeros..]);
    });
}

/// Reads elements one after another.
#[derive(Clone, Copy)]
pub(super) struct Reader<'b> {
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    pub(super) fn new(rest: &'b [u8]) -> Self {
        Self { rest }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The tag of the next element.
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next element: its tag and its content.
    pub(super) fn any(&mut self) -> Result<(u8, &'b [u8]), WireError> {
        let cut = WireError::Encoding("an element that is cut off");
        let whole = whole(self.rest, self.rest.len()).map_err(|error| match error {
            WireError::TooLong(_) => cut,
            other => other,
        })?;
        let (element, rest) = self.rest.split_at(whole.ok_or(cut)?);
        self.rest = rest;
        let header = match element[1] {
            0..=0x7f => 2,
            long => 2 + usize::from(long & 0x7f),
        };
        Ok((element[0], &element[header..]))
    }

    /// The next element, header included.
    pub(super) fn whole_element(&mut self) -> Result<&'b [u8], WireError> {
        let before = self.rest;
        self.any()?;
        Ok(&before[..before.len() - self.rest.len()])
    }

    /// The content of the next element, which must have this tag.
    pub(super) fn expect(&mut self, tag: u8, what: &'static str) -> Result<&'b [u8], WireError> {
        match self.any()? {
            (found, content) if found == tag => Ok(content),
            _ => Err(WireError::Unexpected(what)),
        }
    }

    pub(super) fn sequence(&mut self, what: &'static str) -> Result<Reader<'b>, WireError> {
        Ok(Reader::new(self.expect(SEQUENCE, what)?))
    }

    pub(super) fn number(&mut self, tag: u8, what: &'static str) -> Result<u32, WireError> {
        unsigned(self.expect(tag, what)?).ok_or(WireError::Unexpected(what))
    }
}

/// A number that is not negative and fits.
pub(super) fn unsigned(content: &[u8]) -> Option<u32> {
    let (first, _) = content.split_first()?;
    let negative = first & 0x80 != 0;
    if negative || content.len() > 5 || (content.len() == 5 && *first != 0) {
        return None;
    }
    Some(content.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_have_as_many_bytes_as_they_need() {
        for (length, header) in [
            (0, &[4, 0][..]),
            (127, &[4, 127]),
            (128, &[4, 0x81, 128]),
            (256, &[4, 0x82, 1, 0]),
            (70_000, &[4, 0x83, 1, 0x11, 0x70]),
        ] {
            let mut out = Vec::new();
            octets(&mut out, OCTETS, &vec![7; length]);
            assert_eq!(&out[..header.len()], header);
            assert_eq!(Reader::new(&out).any().unwrap().1.len(), length);
            assert_eq!(whole(&out, out.len()), Ok(Some(out.len())));
            assert_eq!(whole(&out, out.len() - 1), Err(WireError::TooLong(out.len() - 1)));
        }
    }

    #[test]
    fn active_directory_s_lengths_are_read() {
        let bytes = [0x30, 0x84, 0, 0, 0, 1, 5];
        assert_eq!(whole(&bytes, 100), Ok(Some(7)));
        assert_eq!(Reader::new(&bytes).any().unwrap(), (0x30, &[5][..]));
        assert_eq!(whole(&bytes[..4], 100), Ok(None));
    }

    #[test]
    fn what_ldap_forbids_is_refused() {
        for bytes in [&[0x30, 0x80, 0, 0][..], &[0x3f, 1, 0], &[0x30, 0x85, 0, 0, 0, 0, 0]] {
            assert!(matches!(whole(bytes, 100), Err(WireError::Encoding(_))), "{bytes:?}");
        }
        assert!(Reader::new(&[0x30, 5, 1]).any().is_err());
    }

    proptest! {
        #[test]
        fn numbers_survive(value: u32) {
            let mut out = Vec::new();
            number(&mut out, INTEGER, value);
            prop_assert_eq!(Reader::new(&out).number(INTEGER, "a number"), Ok(value));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut reader = Reader::new(&bytes);
            while !reader.is_empty() {
                if reader.any().is_err() { break }
            }
        }
    }
}
