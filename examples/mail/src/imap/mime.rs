//! A message, taken apart as far as its parts can be asked for by number (RFC 3501, section 6.4.5).
//!
//! `mail-parser` finds the parts; what is given out are the message's own bytes.

use std::borrow::Cow;
use std::num::NonZeroU32;

use imap_codec::imap_types::core::AString;
use imap_codec::imap_types::fetch::{Part, Section};
use mail_parser::{Message, MessageParser, MessagePart, PartType};

/// A message.
pub(super) struct Mail<'a> {
    pub(super) raw: &'a [u8],
    /// `None`: nothing in it is a message's.
    pub(super) message: Option<Message<'a>>,
}

/// A part that was asked for.
pub(super) struct Found<'m, 'a> {
    pub(super) part: &'m MessagePart<'a>,
    /// The message of which it is the whole: the one asked for, or one within a part.
    pub(super) whole: Option<&'m Message<'a>>,
}

impl<'a> Mail<'a> {
    pub(super) fn of(raw: &'a [u8]) -> Self {
        Self { raw, message: MessageParser::default().parse(raw) }
    }

    /// The header, with the empty line after it.
    pub(super) fn header(&self) -> &'a [u8] {
        let root = self.message.as_ref().map(Message::root_part);
        root.map_or(self.raw, |root| self.bytes(root.offset_header, root.offset_body))
    }

    /// The body.
    pub(super) fn text(&self) -> &'a [u8] {
        let root = self.message.as_ref().map(Message::root_part);
        let from = root.map_or(self.raw.len(), |root| place(root.offset_body));
        self.raw.get(from..).unwrap_or_default()
    }

    /// Some of its bytes, as the parser counts them.
    pub(super) fn bytes(&self, from: u32, to: u32) -> &'a [u8] {
        let (from, to) = (place(from), place(to).min(self.raw.len()));
        self.raw.get(from..to).unwrap_or_default()
    }

    /// What is within a part that is a message itself. One in an encoding has bytes of its own, and none of ours:
    /// nobody may send such (RFC 2046, section 5.2.1), and it counts as anything.
    pub(super) fn within<'m>(&self, part: &'m MessagePart<'a>) -> Option<&'m Message<'a>> {
        match &part.body {
            PartType::Message(inner) if std::ptr::eq(inner.raw_message.as_ref(), self.raw) => {
                Some(inner)
            }
            _ => None,
        }
    }

    /// A section. `None`: there is no such part.
    pub(super) fn section(&self, section: Option<&Section<'_>>) -> Option<Cow<'a, [u8]>> {
        let Some(section) = section else { return Some(Cow::Borrowed(self.raw)) };
        Some(match section {
            Section::Part(part) => {
                let found = self.find(part)?;
                Cow::Borrowed(self.bytes(found.part.offset_body, found.part.offset_end))
            }
            Section::Mime(part) => {
                let found = self.find(part)?;
                Cow::Borrowed(self.bytes(found.part.offset_header, found.part.offset_body))
            }
            Section::Header(part) => Cow::Borrowed(self.header_of(part.as_ref())?),
            Section::HeaderFields(part, names) => {
                Cow::Owned(fields(self.header_of(part.as_ref())?, names.as_ref(), true))
            }
            Section::HeaderFieldsNot(part, names) => {
                Cow::Owned(fields(self.header_of(part.as_ref())?, names.as_ref(), false))
            }
            Section::Text(None) => Cow::Borrowed(self.text()),
            Section::Text(Some(part)) => {
                let found = self.find(part)?;
                let root = self.within(found.part)?.root_part();
                Cow::Borrowed(self.bytes(root.offset_body, found.part.offset_end))
            }
        })
    }

    fn header_of(&self, part: Option<&Part>) -> Option<&'a [u8]> {
        let Some(part) = part else { return Some(self.header()) };
        let root = self.within(self.find(part)?.part)?.root_part();
        Some(self.bytes(root.offset_header, root.offset_body))
    }

    fn find(&self, part: &Part) -> Option<Found<'_, 'a>> {
        let numbers: &[NonZeroU32] = part.0.as_ref();
        let message = self.message.as_ref()?;
        let mut found = Found { part: message.root_part(), whole: Some(message) };
        let mut parts = &message.parts;
        for number in numbers {
            let index = place(number.get()).checked_sub(1)?;
            // The parts of a message within a part are numbered below that part.
            if found.whole.is_none()
                && let Some(inner) = self.within(found.part)
            {
                parts = &inner.parts;
                found = Found { part: inner.root_part(), whole: Some(inner) };
            }
            found = match &found.part.body {
                PartType::Multipart(below) => {
                    let at = place(*below.get(index)?);
                    Found { part: parts.get(at)?, whole: None }
                }
                // A message of one part has that part.
                _ if index == 0 && found.whole.is_some() => Found { whole: None, ..found },
                _ => return None,
            };
        }
        Some(found)
    }
}

fn place(at: u32) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

/// Each field of a header, with its name: a line, and those after it that begin with a blank.
pub(super) fn each_field(header: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = header;
    std::iter::from_fn(move || {
        let mut end = 0;
        for line in rest.split_inclusive(|byte| *byte == b'\n') {
            let goes_on = matches!(line.first(), Some(b' ' | b'\t'));
            if end > 0 && !goes_on {
                break;
            }
            end += line.len();
        }
        let (field, after) = rest.split_at_checked(end)?;
        rest = after;
        let name = field.split(|byte| *byte == b':').next().unwrap_or_default();
        (!field.is_empty() && field != b"\r\n").then_some((name.trim_ascii(), field))
    })
}

/// The fields of these names, or all others, and the empty line.
fn fields(header: &[u8], names: &[AString<'_>], these: bool) -> Vec<u8> {
    let wanted = |name: &[u8]| names.iter().any(|one| one.as_ref().eq_ignore_ascii_case(name));
    let chosen = each_field(header).filter(|(name, _)| wanted(name) == these);
    let mut all: Vec<u8> = chosen.flat_map(|(_, field)| field.iter().copied()).collect();
    all.extend_from_slice(b"\r\n");
    all
}

/// The value of the first field of a name, on one line.
pub(super) fn value(header: &[u8], wanted: &str) -> Option<Vec<u8>> {
    let mut found =
        each_field(header).filter(|(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes()));
    let (_, field) = found.next()?;
    let value = field.splitn(2, |byte| *byte == b':').nth(1).unwrap_or_default();
    let one_line = value.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n' | 0));
    Some(one_line.collect::<Vec<u8>>().trim_ascii().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_with_their_further_lines() {
        let header = b"A: 1\r\n 2\r\nb: 3\r\nA: 4\r\n\r\nbody";
        let names: Vec<_> = each_field(header).map(|(name, field)| (name, field.len())).collect();
        assert_eq!(names, [(&b"A"[..], 10), (&b"b"[..], 6), (&b"A"[..], 6)]);
        assert_eq!(value(header, "a").unwrap(), b"1 2");
        assert_eq!(value(header, "c"), None);
    }
}
