//! Search filters with places for values (RFC 4515 for the text, RFC 4511 §4.5.1.7 for the bytes).

use super::TemplateError;
use super::ber::{BOOLEAN, OCTETS, SEQUENCE, element, octets};

const AND: u8 = 0xa0;
const OR: u8 = 0xa1;
const NOT: u8 = 0xa2;
const EQUAL: u8 = 0xa3;
const SUBSTRINGS: u8 = 0xa4;
const AT_LEAST: u8 = 0xa5;
const AT_MOST: u8 = 0xa6;
const PRESENT: u8 = 0x87;
const ROUGHLY: u8 = 0xa8;
const EXTENSIBLE: u8 = 0xa9;

/// How deep filters may be nested.
const DEEPEST: usize = 16;
/// How long the text of one may be.
const LONGEST: usize = 4096;

/// A filter, parsed once, with places such as `{login}` for values.
///
/// A value that is put in is one value of the protocol, whatever bytes it has: there is no text in which it
/// could be anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterTemplate {
    node: Node,
    uses: Vec<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Match {
        tag: u8,
        attribute: String,
        value: Value,
    },
    Present(String),
    /// Parts with their tags: 0x80 initial, 0x81 any, 0x82 final.
    Substrings {
        attribute: String,
        parts: Vec<(u8, Value)>,
    },
    Extensible {
        rule: Option<String>,
        attribute: Option<String>,
        value: Value,
        dn: bool,
    },
}

type Value = Vec<Piece>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Bytes(Vec<u8>),
    Place(usize),
}

impl FilterTemplate {
    /// Parses a filter in which `{NAME}` stands for a value, for each of `names`. A brace that is meant is
    /// written `\7b`.
    ///
    /// # Errors
    /// What is no filter, at which byte; a place outside of a value, or of another name.
    pub fn parse(text: &str, names: &[&str]) -> Result<Self, TemplateError> {
        let mut parser = Parser { text, at: 0, names, uses: vec![false; names.len()] };
        if text.len() > LONGEST {
            return Err(parser.wrong(format!("a filter has at most {LONGEST} bytes")));
        }
        let node = parser.filter(0)?;
        if parser.at != text.len() {
            return Err(parser.wrong("the filter has ended here; join several with `(&…)`"));
        }
        Ok(Self { node, uses: parser.uses })
    }

    /// Whether the place of that index among the names is in it.
    pub fn uses(&self, index: usize) -> bool {
        self.uses.get(index).copied().unwrap_or(false)
    }

    /// Appends the filter as the protocol has it, with the values in the order of the names.
    ///
    /// # Panics
    /// When there are fewer values than names.
    pub fn encode(&self, out: &mut Vec<u8>, values: &[&[u8]]) {
        assert!(values.len() >= self.uses.len(), "a value for each name");
        self.node.encode(out, values);
    }
}

impl Node {
    fn encode(&self, out: &mut Vec<u8>, values: &[&[u8]]) {
        let nested = |out: &mut Vec<u8>, tag, nodes: &[Self]| {
            element(out, tag, |out| nodes.iter().for_each(|node| node.encode(out, values)));
        };
        match self {
            Self::All(nodes) => nested(out, AND, nodes),
            Self::Any(nodes) => nested(out, OR, nodes),
            Self::Not(node) => element(out, NOT, |out| node.encode(out, values)),
            Self::Present(attribute) => octets(out, PRESENT, attribute.as_bytes()),
            Self::Match { tag, attribute, value } => element(out, *tag, |out| {
                octets(out, OCTETS, attribute.as_bytes());
                filled(out, OCTETS, value, values);
            }),
            Self::Substrings { attribute, parts } => element(out, SUBSTRINGS, |out| {
                octets(out, OCTETS, attribute.as_bytes());
                element(out, SEQUENCE, |out| {
                    parts.iter().for_each(|(tag, part)| filled(out, *tag, part, values));
                });
            }),
            Self::Extensible { rule, attribute, value, dn } => element(out, EXTENSIBLE, |out| {
                if let Some(rule) = rule {
                    octets(out, 0x81, rule.as_bytes());
                }
                if let Some(attribute) = attribute {
                    octets(out, 0x82, attribute.as_bytes());
                }
                filled(out, 0x83, value, values);
                if *dn {
                    octets(out, BOOLEAN_DN, &[0xff]);
                }
            }),
        }
    }
}

/// `dnAttributes [4] BOOLEAN`.
const BOOLEAN_DN: u8 = 0x80 | (BOOLEAN + 3);

fn filled(out: &mut Vec<u8>, tag: u8, value: &[Piece], values: &[&[u8]]) {
    element(out, tag, |out| {
        for piece in value {
            out.extend_from_slice(match piece {
                Piece::Bytes(bytes) => bytes,
                Piece::Place(index) => values[*index],
            });
        }
    });
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    names: &'t [&'t str],
    uses: Vec<bool>,
}

impl Parser<'_> {
    fn wrong(&self, what: impl Into<String>) -> TemplateError {
        TemplateError { text: self.text.to_owned(), at: self.at, what: what.into() }
    }

    fn rest(&self) -> &[u8] {
        &self.text.as_bytes()[self.at..]
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.rest().first() == Some(&byte);
        self.at += usize::from(there);
        there
    }

    fn filter(&mut self, depth: usize) -> Result<Node, TemplateError> {
        if depth > DEEPEST {
            return Err(self.wrong(format!("more than {DEEPEST} filters within each other")));
        }
        if !self.take(b'(') {
            return Err(self.wrong("a filter begins with `(`"));
        }
        let node = match self.rest().first() {
            Some(b'&') => Node::All(self.list(depth)?),
            Some(b'|') => Node::Any(self.list(depth)?),
            Some(b'!') => {
                self.at += 1;
                Node::Not(Box::new(self.filter(depth + 1)?))
            }
            _ => self.item()?,
        };
        if !self.take(b')') {
            return Err(self.wrong("a filter ends with `)`"));
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, TemplateError> {
        self.at += 1;
        let mut nodes = Vec::new();
        while self.rest().first() == Some(&b'(') {
            nodes.push(self.filter(depth + 1)?);
        }
        if nodes.is_empty() {
            return Err(self.wrong("`&` and `|` take at least one filter"));
        }
        Ok(nodes)
    }

    fn item(&mut self) -> Result<Node, TemplateError> {
        let start = self.at;
        let attribute = self.description();
        let tag = match self.rest() {
            [b':', ..] => return self.extensible(attribute),
            [b'~', b'=', ..] => ROUGHLY,
            [b'>', b'=', ..] => AT_LEAST,
            [b'<', b'=', ..] => AT_MOST,
            [b'=', ..] => EQUAL,
            _ => return Err(self.wrong("`=` is due, as in `(uid={login})`")),
        };
        if attribute.is_empty() {
            self.at = start;
            return Err(self.wrong("an attribute is due, as in `(uid={login})`"));
        }
        self.at += if tag == EQUAL { 1 } else { 2 };
        let mut parts = vec![self.value()?];
        while self.take(b'*') {
            parts.push(self.value()?);
        }
        if parts.len() == 1 {
            return Ok(Node::Match { tag, attribute, value: parts.remove(0) });
        }
        if tag != EQUAL {
            return Err(self.wrong("`*` is for `=` alone; write `\\2a` for the character"));
        }
        if parts.len() == 2 && parts.iter().all(Vec::is_empty) {
            return Ok(Node::Present(attribute));
        }
        let last = parts.len() - 1;
        let tagged = parts.into_iter().enumerate().map(|(index, part)| match index {
            0 => (0x80, part),
            index if index == last => (0x82, part),
            _ => (0x81, part),
        });
        let parts: Vec<_> = tagged.filter(|(_, part)| !part.is_empty()).collect();
        if parts.is_empty() {
            return Err(self.wrong("two `*` with nothing between"));
        }
        Ok(Node::Substrings { attribute, parts })
    }

    /// `attribute:dn:rule:=value`, as Active Directory's `memberOf:1.2.840.113556.1.4.1941:=`.
    fn extensible(&mut self, attribute: String) -> Result<Node, TemplateError> {
        let (mut dn, mut rule) = (false, None);
        while self.take(b':') {
            if self.take(b'=') {
                if attribute.is_empty() && rule.is_none() {
                    return Err(self.wrong("an attribute or a matching rule is due before `:=`"));
                }
                let attribute = (!attribute.is_empty()).then_some(attribute);
                return Ok(Node::Extensible { rule, attribute, value: self.value()?, dn });
            }
            match self.description() {
                word if word.eq_ignore_ascii_case("dn") && !dn && rule.is_none() => dn = true,
                word if !word.is_empty() && rule.is_none() => rule = Some(word),
                _ => break,
            }
        }
        Err(self.wrong("`:=` is due"))
    }

    /// Letters, digits, `-`, `.`, and `;` before an option.
    fn description(&mut self) -> String {
        let fits = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b';' | b'_');
        let length = self.rest().iter().take_while(|byte| fits(byte)).count();
        let word = self.text[self.at..self.at + length].to_owned();
        self.at += length;
        word
    }

    /// Up to `*` or `)`.
    fn value(&mut self) -> Result<Value, TemplateError> {
        let mut pieces = Vec::new();
        let mut bytes = Vec::new();
        loop {
            match self.rest() {
                [] | [b'*' | b')', ..] => break,
                [b'(' | 0, ..] => {
                    return Err(self.wrong("this character is written `\\28` or `\\00` here"));
                }
                [b'\\', high, low, ..] => {
                    let hex = |digit: &u8| char::from(*digit).to_digit(16);
                    let (Some(high), Some(low)) = (hex(high), hex(low)) else {
                        return Err(self.wrong("`\\` is followed by two hexadecimal digits"));
                    };
                    bytes.push((high << 4 | low) as u8);
                    self.at += 3;
                }
                [b'\\', ..] => return Err(self.wrong("`\\` is followed by two hexadecimal digits")),
                [b'{', ..] => {
                    let index = self.place()?;
                    if !bytes.is_empty() {
                        pieces.push(Piece::Bytes(std::mem::take(&mut bytes)));
                    }
                    pieces.push(Piece::Place(index));
                }
                [byte, ..] => {
                    bytes.push(*byte);
                    self.at += 1;
                }
            }
        }
        if !bytes.is_empty() {
            pieces.push(Piece::Bytes(bytes));
        }
        Ok(pieces)
    }

    fn place(&mut self) -> Result<usize, TemplateError> {
        let rest = &self.text[self.at + 1..];
        let name = rest.split_once('}').map_or(rest, |(name, _)| name);
        let Some(index) = self.names.iter().position(|known| *known == name) else {
            let known: Vec<_> = self.names.iter().map(|name| format!("`{{{name}}}`")).collect();
            let known = known.join(" or ");
            return Err(self.wrong(format!("in braces can be {known}; a brace is written `\\7b`")));
        };
        self.uses[index] = true;
        self.at += name.len() + 2;
        Ok(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(text: &str, login: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        FilterTemplate::parse(text, &["login"]).unwrap().encode(&mut out, &[login]);
        out
    }

    #[test]
    fn filters_are_encoded_as_the_standard_has_them() {
        for (text, bytes) in [
            ("(uid={login})", &b"\xa3\x08\x04\x03uid\x04\x01a"[..]),
            ("(uid=\\2a{login}\\29)", b"\xa3\x0a\x04\x03uid\x04\x03*a)"),
            ("(uid=*)", b"\x87\x03uid"),
            ("(!(x<=1))", b"\xa2\x08\xa6\x06\x04\x01x\x04\x011"),
            ("(&(x=1)(|(y>=2)(z~=3)))",
             b"\xa0\x1a\xa3\x06\x04\x01x\x04\x011\xa1\x10\xa5\x06\x04\x01y\x04\x012\xa8\x06\x04\x01z\x04\x013"),
            ("(x=a*b*c)", b"\xa4\x0e\x04\x01x\x30\x09\x80\x01a\x81\x01b\x82\x01c"),
            ("(x=*b*)", b"\xa4\x08\x04\x01x\x30\x03\x81\x01b"),
            ("(x=)", b"\xa3\x05\x04\x01x\x04\x00"),
            ("(m:1.2.3:={login})", b"\xa9\x0d\x81\x051.2.3\x82\x01m\x83\x01a"),
            ("(m:dn:2.4:=x)", b"\xa9\x0e\x81\x032.4\x82\x01m\x83\x01x\x84\x01\xff"),
        ] {
            assert_eq!(encoded(text, b"a"), bytes, "{text}");
        }
    }

    #[test]
    fn what_is_no_filter_is_told_with_its_place() {
        for (text, at, part) in [
            ("uid=a", 0, "begins with `(`"),
            ("(uid=a", 6, "ends with `)`"),
            ("(uid=a)(x=1)", 7, "has ended"),
            ("(&)", 2, "at least one"),
            ("(={login})", 1, "an attribute"),
            ("({login}=a)", 1, "`=` is due"),
            ("(uid={user})", 5, "`{login}`"),
            ("(uid={login)", 5, "`{login}`"),
            ("(uid=\\zz)", 5, "hexadecimal"),
            ("(uid=a(b)", 6, "\\28"),
            ("(uid>=a*)", 8, "alone"),
            ("(uid=**)", 7, "two `*`"),
            ("(m:=", 4, "ends with"),
            ("(:=a)", 3, "matching rule"),
            ("(m:dn:1.2:3.4:=x)", 13, "`:=` is due"),
            ("(uid", 4, "`=` is due"),
        ] {
            let error = FilterTemplate::parse(text, &["login"]).unwrap_err();
            assert!(error.what.contains(part) && error.at == at, "{text}: {error}");
        }
        let deep = "(!".repeat(40) + "(a=b)" + &")".repeat(40);
        assert!(FilterTemplate::parse(&deep, &[]).unwrap_err().what.contains("within each other"));
        let long = format!("(a={})", "x".repeat(LONGEST));
        assert!(FilterTemplate::parse(&long, &[]).unwrap_err().what.contains("at most"));
    }

    #[test]
    fn it_is_known_which_places_are_used() {
        let filter = FilterTemplate::parse("(member={dn})", &["login", "dn"]).unwrap();
        assert!(!filter.uses(0) && filter.uses(1) && !filter.uses(2));
    }

    proptest! {
        /// Whatever a user calls himself, the filter has the same shape and that one value.
        #[test]
        fn a_value_is_one_value(login in proptest::collection::vec(any::<u8>(), 0..300)) {
            use super::super::ber::Reader;
            let out = encoded("(&(objectClass=person)(uid={login}))", &login);
            let mut whole = Reader::new(&out);
            let mut both = Reader::new(whole.expect(AND, "and").unwrap());
            prop_assert!(whole.is_empty());
            let _ = both.expect(EQUAL, "objectClass").unwrap();
            let mut uid = Reader::new(both.expect(EQUAL, "uid").unwrap());
            prop_assert!(both.is_empty());
            prop_assert_eq!(uid.expect(OCTETS, "attribute").unwrap(), b"uid");
            prop_assert_eq!(uid.expect(OCTETS, "value").unwrap(), &login[..]);
            prop_assert!(uid.is_empty());
        }

        #[test]
        fn any_text_is_a_filter_or_refused(text in "[()&|!=*a{}\\\\0-9:<~ä]{0,40}") {
            if let Ok(filter) = FilterTemplate::parse(&text, &["a"]) {
                let mut out = Vec::new();
                filter.encode(&mut out, &[b"x"]);
                prop_assert!(!out.is_empty());
            }
        }
    }
}
