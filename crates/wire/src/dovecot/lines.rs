//! Lines out of a buffer that the connection owns.

/// The complete lines at the start of `unread`, without copying.
///
/// A connection appends what it reads, runs this over everything unread, and then drops
/// [`consumed`](Self::consumed) bytes. How the bytes were cut into reads changes nothing. The bytes hold
/// secrets: whoever owns the buffer wipes what was consumed.
///
/// A CR before the LF is not part of the line (inside a value it is always escaped), so that the
/// protocol can be typed by hand through tools that send both.
#[derive(Debug)]
pub struct Lines<'b> {
    unread: &'b [u8],
    consumed: usize,
    limit: usize,
    failed: bool,
}

/// A line has more than `limit` bytes. There is no way to find the next request, so the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line longer than {limit} bytes")]
pub struct LineTooLong {
    /// The most bytes that a line may have, without its LF.
    pub limit: usize,
}

impl<'b> Lines<'b> {
    /// Looks at `unread`; a line may have `limit` bytes before its LF ([`super::LINE_LIMIT`]).
    pub fn new(unread: &'b [u8], limit: usize) -> Self {
        Self { unread, consumed: 0, limit, failed: false }
    }

    /// How many bytes the lines given out so far took, with their ends. What follows must be kept.
    pub fn consumed(&self) -> usize {
        self.consumed
    }
}

impl<'b> Iterator for Lines<'b> {
    type Item = Result<&'b [u8], LineTooLong>;

    /// `None`: no complete line is left, read more. After an error there is nothing more.
    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let rest = &self.unread[self.consumed..];
        match memchr::memchr(b'\n', rest) {
            Some(end) if end <= self.limit => {
                self.consumed += end + 1;
                let line = &rest[..end];
                Some(Ok(line.strip_suffix(b"\r").unwrap_or(line)))
            }
            None if rest.len() <= self.limit => None,
            _ => {
                self.failed = true;
                Some(Err(LineTooLong { limit: self.limit }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_only() {
        let mut lines = Lines::new(b"CPID\t1\r\n\nAUTH\t1", 100);
        assert_eq!(lines.next(), Some(Ok(&b"CPID\t1"[..])));
        assert_eq!(lines.next(), Some(Ok(&b""[..])));
        assert_eq!(lines.next(), None);
        assert_eq!(lines.consumed(), 9);
    }

    #[test]
    fn the_limit_counts_without_the_end() {
        for (length, fits) in [(16_383, true), (16_384, true), (16_385, false)] {
            let mut bytes = vec![b'x'; length];
            let open = Lines::new(&bytes, 16_384).next();
            assert_eq!(open.is_none(), fits, "{length} bytes and no end yet");
            bytes.push(b'\n');
            let closed = Lines::new(&bytes, 16_384).next();
            assert_eq!(closed.unwrap().is_ok(), fits, "{length} bytes");
        }
    }

    #[test]
    fn an_error_ends_it_and_consumes_nothing_more() {
        let mut lines = Lines::new(b"ok\ntoolong\nok\n", 5);
        assert_eq!(lines.next(), Some(Ok(&b"ok"[..])));
        assert_eq!(lines.next(), Some(Err(LineTooLong { limit: 5 })));
        assert_eq!(lines.next(), None);
        assert_eq!(lines.consumed(), 3);
    }
}
