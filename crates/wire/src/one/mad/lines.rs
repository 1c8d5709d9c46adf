//! Lines out of a pipe, whatever its reads are, and however long a line is.

use zeroize::{Zeroize, Zeroizing};

/// The most bytes of a line without its end: a stored password of 64 KiB and a secret of several certificates,
/// in base64 once more, fit many times over.
pub const LINE_LIMIT: usize = 512 * 1024;

/// What of a line that is too long is kept: enough for the verb and the id, so that it can be answered.
const HEAD: usize = 64;

/// Cuts a stream into lines. It owns what it has not given out yet, at most the limit and one read, and wipes
/// what it has.
#[derive(Debug)]
pub struct LineSplitter {
    unread: Zeroizing<Vec<u8>>,
    start: usize,
    limit: usize,
    /// The rest of a line that was too long is still coming.
    dropping: bool,
}

/// A line without its LF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'b> {
    /// All of it.
    Whole(&'b [u8]),
    /// The first bytes of a line that is longer than the limit, given out as soon as that is known. The line
    /// is skipped, and the next one is as good as any.
    TooLong(&'b [u8]),
}

impl LineSplitter {
    /// A line may have `limit` bytes ([`LINE_LIMIT`]), at least 64.
    pub fn new(limit: usize) -> Self {
        Self {
            unread: Zeroizing::new(Vec::new()),
            start: 0,
            limit: limit.max(HEAD),
            dropping: false,
        }
    }

    /// Takes what was read.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        if self.dropping {
            match memchr::memchr(b'\n', bytes) {
                Some(end) => {
                    self.dropping = false;
                    bytes = &bytes[end + 1..];
                }
                None => return,
            }
        }
        let kept = self.unread.len() - self.start;
        if self.start > 0 {
            self.unread.copy_within(self.start.., 0);
            self.unread[kept..].zeroize();
            self.unread.truncate(kept);
            self.start = 0;
        }
        if self.unread.capacity() - kept < bytes.len() {
            // A vector that grows by itself would leave secrets behind.
            let mut larger = Vec::with_capacity((kept + bytes.len()).next_power_of_two());
            larger.extend_from_slice(&self.unread);
            self.unread = Zeroizing::new(larger);
        }
        self.unread.extend_from_slice(bytes);
    }

    /// The next line, or `None`: feed more.
    pub fn next_line(&mut self) -> Option<Line<'_>> {
        let from = self.start;
        let rest = &self.unread[from..];
        let length = match memchr::memchr(b'\n', rest) {
            Some(end) => {
                self.start += end + 1;
                end
            }
            None if rest.len() <= self.limit => return None,
            None => {
                self.start = self.unread.len();
                self.dropping = true;
                rest.len()
            }
        };
        Some(match length <= self.limit {
            true => Line::Whole(&self.unread[from..from + length]),
            false => Line::TooLong(&self.unread[from..from + HEAD]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_however_they_come() {
        // M2
        let mut lines = LineSplitter::new(64);
        for piece in [&b"IN"[..], b"IT\n\nFINA", b"", b"LIZE\nx"] {
            lines.feed(piece);
        }
        assert_eq!(lines.next_line(), Some(Line::Whole(b"INIT")));
        assert_eq!(lines.next_line(), Some(Line::Whole(b"")));
        lines.feed(b"y");
        assert_eq!(lines.next_line(), Some(Line::Whole(b"FINALIZE")));
        assert_eq!(lines.next_line(), None);
        lines.feed(b"\n");
        assert_eq!(lines.next_line(), Some(Line::Whole(b"xy")));
        assert_eq!(lines.next_line(), None);
    }

    #[test]
    fn a_line_too_long_is_told_once_and_skipped() {
        // M9
        for size in [1, 7, 100, 1000] {
            let stream = [b"ok\n", &b"A  7 ".repeat(20)[..], b"\nnext\n"].concat();
            let mut lines = LineSplitter::new(64);
            let mut seen = Vec::new();
            for piece in stream.chunks(size) {
                lines.feed(piece);
                while let Some(line) = lines.next_line() {
                    match line {
                        Line::Whole(line) => seen.push((line.to_vec(), true)),
                        Line::TooLong(head) => seen.push((head.to_vec(), false)),
                    }
                }
                assert!(lines.unread.len() <= 64 + size);
            }
            let head = b"A  7 ".repeat(20)[..64].to_vec();
            let expected = [(b"ok".to_vec(), true), (head, false), (b"next".to_vec(), true)];
            assert_eq!(seen, expected, "reads of {size}");
        }
    }

    #[test]
    fn the_limit_counts_without_the_end() {
        for (length, fits) in [(64, true), (65, false)] {
            let mut lines = LineSplitter::new(64);
            lines.feed(&[vec![b'x'; length], b"\n".to_vec()].concat());
            assert_eq!(matches!(lines.next_line(), Some(Line::Whole(_))), fits, "{length}");
        }
    }
}
