//! The little XML that drivers get, spelt as libxml2 spells it, and a reader that takes no more than it must.

use countersign::Secret;
use quick_xml::Reader;
use quick_xml::events::Event;
use zeroize::Zeroizing;

/// The most bytes of a document: the longest stored password (64 KiB) and a secret of several
/// certificates, every character written as a reference, fit with room to spare.
pub const DOCUMENT_LIMIT: usize = 1024 * 1024;

/// Why bytes are not a document for a driver. The text repeats nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// More than [`DOCUMENT_LIMIT`] bytes.
    #[error("document longer than {0} bytes")]
    TooLong(usize),
    /// Another encoding than UTF-8, by its bytes or by its own word.
    #[error("document is not UTF-8")]
    NotUtf8,
    /// Not XML, or cut off.
    #[error("document is not well-formed or not complete")]
    Malformed,
    /// Another element at the top.
    #[error("expected one <{0}> and nothing beside it")]
    Root(&'static str),
    /// A document type: it could define entities.
    #[error("document types are not allowed")]
    DocType,
    /// A processing instruction.
    #[error("processing instructions are not allowed")]
    Instruction,
    /// A reference to something other than a character or one of the five entities of XML.
    #[error("reference to an entity that XML does not define")]
    Entity,
    /// A character that XML 1.0 does not have, written out or as a reference.
    #[error("character that XML 1.0 does not allow")]
    Character,
    /// Text where there can only be elements.
    #[error("text outside of the elements")]
    StrayText,
    /// An element inside a value.
    #[error("element inside of <{0}>")]
    Nested(&'static str),
    /// A value is there twice. (The drivers that OpenNebula ships join the two.)
    #[error("<{0}> is there twice")]
    Duplicate(&'static str),
    /// A value is not there.
    #[error("<{0}> is missing")]
    Missing(&'static str),
    /// A value is there and is not what it must be.
    #[error("<{0}> is not legal")]
    Value(&'static str),
}

/// `Char` of XML 1.0 (section 2.2), all that a document can hold in any spelling: TAB, LF, CR, and everything
/// from U+0020 but surrogates, U+FFFE and U+FFFF. So neither NUL nor another character below U+0020.
pub(super) fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// The bytes that [`escape`] appends.
pub(super) fn escaped_len(text: &str) -> usize {
    text.chars()
        .map(|c| match c {
            '&' => 5,
            '<' | '>' => 4,
            '\t' | '\n' | ' '..='\x7f' => 1,
            // `&#x`, the digits, `;`
            other => 4 + (35 - u32::from(other).leading_zeros() as usize) / 4,
        })
        .sum()
}

/// Appends `text` as libxml2 writes it in a document without a declared encoding: ASCII as it is, everything
/// else and CR as a hexadecimal reference. Quotes stay.
pub fn escape(text: &str, out: &mut Vec<u8>) {
    for c in text.chars() {
        match c {
            '&' => out.extend_from_slice(b"&amp;"),
            '<' => out.extend_from_slice(b"&lt;"),
            '>' => out.extend_from_slice(b"&gt;"),
            '\t' | '\n' | ' '..='\x7f' => out.push(c as u8),
            other => reference(other, out),
        }
    }
}

fn reference(c: char, out: &mut Vec<u8>) {
    out.extend_from_slice(b"&#x");
    let code = u32::from(c);
    let digits = (35 - code.leading_zeros()) / 4;
    for digit in (0..digits).rev() {
        out.push(b"0123456789ABCDEF"[(code >> (4 * digit)) as usize & 0xf]);
    }
    out.push(b';');
}

/// Appends a line with one element, or `<NAME/>` if it is empty.
pub(super) fn element(indent: &str, name: &str, text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(indent.as_bytes());
    if text.is_empty() {
        out.extend_from_slice(format!("<{name}/>\n").as_bytes());
        return;
    }
    out.extend_from_slice(format!("<{name}>").as_bytes());
    escape(text, out);
    out.extend_from_slice(format!("</{name}>\n").as_bytes());
}

/// The values at the `known` paths below `root`, each with the number of its path, in the order of the document.
///
/// Attributes and unknown elements are ignored, as the drivers that OpenNebula ships ignore them.
pub(super) fn leaves(
    document: &[u8],
    root: &'static str,
    known: &[&[&'static str]],
) -> Result<Vec<(usize, Secret)>, DocumentError> {
    if document.len() > DOCUMENT_LIMIT {
        return Err(DocumentError::TooLong(DOCUMENT_LIMIT));
    }
    let text = std::str::from_utf8(document).map_err(|_| DocumentError::NotUtf8)?;
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    reader.config_mut().enable_all_checks(true);

    let mut walk = Walk {
        root,
        known,
        path: Vec::new(),
        unknown: 0,
        leaf: None,
        done: false,
        // No value is longer than its spelling, so this never grows and leaves no copy behind.
        values: Zeroizing::new(Vec::with_capacity(document.len())),
        found: Vec::new(),
    };
    let mut first = true;
    loop {
        match reader.read_event().map_err(|_| DocumentError::Malformed)? {
            Event::Start(tag) => walk.start(tag.name().as_ref())?,
            Event::End(_) => walk.end(),
            // expand_empty_elements: never seen.
            Event::Empty(_) => return Err(DocumentError::Malformed),
            Event::Text(text) => walk.text(&text, true)?,
            Event::CData(text) => walk.text(&text, false)?,
            Event::GeneralRef(name) => {
                let c = if name.is_char_ref() {
                    let c = name.resolve_char_ref().map_err(|_| DocumentError::Character)?;
                    c.ok_or(DocumentError::Character)?
                } else {
                    match &*name {
                        "amp" => '&',
                        "lt" => '<',
                        "gt" => '>',
                        "quot" => '"',
                        "apos" => '\'',
                        _ => return Err(DocumentError::Entity),
                    }
                };
                walk.character(c)?;
            }
            Event::Comment(_) => {}
            Event::Decl(declaration) if first => {
                if let Some(encoding) = declaration.encoding() {
                    let encoding = encoding.map_err(|_| DocumentError::Malformed)?;
                    if !["utf-8", "us-ascii"].iter().any(|name| encoding.eq_ignore_ascii_case(name))
                    {
                        return Err(DocumentError::NotUtf8);
                    }
                }
            }
            Event::Decl(_) | Event::PI(_) => return Err(DocumentError::Instruction),
            Event::DocType(_) => return Err(DocumentError::DocType),
            Event::Eof if walk.done => break,
            Event::Eof if first => return Err(DocumentError::Root(root)),
            Event::Eof => return Err(DocumentError::Malformed),
        }
        first = false;
    }
    let Walk { values, found, .. } = walk;
    Ok(found.into_iter().map(|(path, start, end)| (path, values[start..end].into())).collect())
}

struct Walk<'k> {
    root: &'static str,
    known: &'k [&'k [&'static str]],
    /// Below the root; `None` before and after it.
    path: Vec<&'static str>,
    /// How many elements deep in one that nobody knows.
    unknown: usize,
    /// The number of its path, and where its value begins.
    leaf: Option<(usize, usize)>,
    done: bool,
    values: Zeroizing<Vec<u8>>,
    found: Vec<(usize, usize, usize)>,
}

impl Walk<'_> {
    fn start(&mut self, name: &str) -> Result<(), DocumentError> {
        if let Some((path, _)) = self.leaf {
            return Err(DocumentError::Nested(self.known[path].last().copied().unwrap_or("")));
        }
        if self.unknown > 0 {
            self.unknown += 1;
            return Ok(());
        }
        if self.path.is_empty() {
            if self.done || name != self.root {
                return Err(DocumentError::Root(self.root));
            }
            self.path.push(self.root);
            return Ok(());
        }
        let above = &self.path[1..];
        let next = self.known.iter().enumerate().find_map(|(number, path)| {
            let (inside, rest) = path.split_at_checked(above.len())?;
            let (&here, below) = rest.split_first()?;
            (inside == above && here == name).then_some((number, here, below.is_empty()))
        });
        match next {
            Some((number, name, is_leaf)) => {
                self.path.push(name);
                if is_leaf {
                    self.leaf = Some((number, self.values.len()));
                }
            }
            None => self.unknown = 1,
        }
        Ok(())
    }

    fn end(&mut self) {
        if self.unknown > 0 {
            self.unknown -= 1;
            return;
        }
        if let Some((path, start)) = self.leaf.take() {
            self.found.push((path, start, self.values.len()));
        }
        self.path.pop();
        self.done = self.path.is_empty();
    }

    fn text(&mut self, text: &str, blank_is_nothing: bool) -> Result<(), DocumentError> {
        if !text.chars().all(is_char) {
            return Err(DocumentError::Character);
        }
        if self.unknown > 0 {
            return Ok(());
        }
        if self.leaf.is_none() {
            let blank = text.bytes().all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
            return if blank && blank_is_nothing { Ok(()) } else { Err(DocumentError::StrayText) };
        }
        // XML 1.0 section 2.11: a line end is one LF, however it was written; CR comes as a reference.
        let mut rest = text;
        while let Some((line, after)) = rest.split_once('\r') {
            self.values.extend_from_slice(line.as_bytes());
            self.values.push(b'\n');
            rest = after.strip_prefix('\n').unwrap_or(after);
        }
        self.values.extend_from_slice(rest.as_bytes());
        Ok(())
    }

    fn character(&mut self, c: char) -> Result<(), DocumentError> {
        if !is_char(c) {
            return Err(DocumentError::Character);
        }
        if self.unknown > 0 {
            return Ok(());
        }
        if self.leaf.is_none() {
            return Err(DocumentError::StrayText);
        }
        self.values.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelt_as_libxml2_spells_it() {
        for (text, spelt) in [
            ("a&b", "a&amp;b"),
            ("<]]>", "&lt;]]&gt;"),
            ("\"'", "\"'"),
            ("ä", "&#xE4;"),
            ("→", "&#x2192;"),
            ("\u{10ffff}", "&#x10FFFF;"),
            ("\u{80}", "&#x80;"),
            ("a\tb\nc\rd\x7f", "a\tb\nc&#xD;d\x7f"),
        ] {
            let mut out = Vec::new();
            escape(text, &mut out);
            assert_eq!(out, spelt.as_bytes());
            assert_eq!(escaped_len(text), spelt.len(), "{text:?}");
        }
    }

    #[test]
    fn the_characters_of_xml() {
        for c in ['\t', '\n', '\r', ' ', '\x7f', '\u{80}', '\u{d7ff}', '\u{fffd}', '\u{10ffff}'] {
            assert!(is_char(c), "{c:?}");
        }
        for c in ['\0', '\x01', '\x08', '\x0b', '\x0c', '\x1f', '\u{fffe}', '\u{ffff}'] {
            assert!(!is_char(c), "{c:?}");
        }
    }
}
