//! The syntax of `oned.conf`: names with a value or with a vector of named values, comments, quotes.

/// Something that is set, with the line it begins in.
#[derive(Debug)]
pub(super) struct Entry<'t> {
    /// In capitals: case does not count.
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) value: Value<'t>,
}

pub(super) enum Value<'t> {
    Single(Text<'t>),
    Vector(Vec<Attribute<'t>>),
}

/// A named value inside of brackets.
pub(super) struct Attribute<'t> {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) value: Text<'t>,
}

/// A value as it stands in the file. It is copied only by who wants it: the file has passwords of databases, too.
#[derive(Clone, Copy)]
pub(super) struct Text<'t>(&'t str);

/// Values may be secret.
impl std::fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Single(_) => "Single",
            Self::Vector(_) => "Vector",
        })
    }
}

impl Text<'_> {
    /// With `\"` for a quote, and every other backslash as it is.
    pub(super) fn plain(self) -> String {
        self.0.replace("\\\"", "\"")
    }
}

/// What is wrong with the syntax.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// Neither a name nor a comment.
    #[error("expected NAME = value")]
    NoName,
    /// A name without `=`.
    #[error("expected = after {0}")]
    NoEquals(String),
    /// Nothing after `=` in brackets.
    #[error("{0} has no value; an empty one is \"\"")]
    NoValue(String),
    /// No second quote.
    #[error("the quote of {0} is not closed")]
    OpenQuote(String),
    /// No `]`.
    #[error("the bracket of {0} is not closed")]
    OpenBracket(String),
    /// Something else than a comma or `]` after a value in brackets.
    #[error("expected , or ] after the value of {0}")]
    NoComma(String),
    /// Brackets in brackets.
    #[error("{0} is a vector inside of a vector")]
    Nested(String),
}

/// Everything that is set, in the order of the file.
pub(super) fn entries(text: &str) -> Result<Vec<Entry<'_>>, (usize, SyntaxError)> {
    let mut reader = Reader { rest: text, line: 1 };
    let mut entries = Vec::new();
    loop {
        reader.skip_blank();
        if reader.rest.is_empty() {
            return Ok(entries);
        }
        let line = reader.line;
        let name = reader.name()?;
        let value = if reader.eat('[') {
            Value::Vector(reader.vector(&name, line)?)
        } else {
            Value::Single(reader.value(&name, false)?)
        };
        entries.push(Entry { name, line, value });
    }
}

struct Reader<'t> {
    rest: &'t str,
    line: usize,
}

impl<'t> Reader<'t> {
    fn advance(&mut self, bytes: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    /// Blanks, line ends and comments.
    fn skip_blank(&mut self) {
        loop {
            let blanks = self.rest.len() - self.rest.trim_ascii_start().len();
            self.advance(blanks);
            if !self.rest.starts_with('#') {
                return;
            }
            self.advance(self.rest.find('\n').unwrap_or(self.rest.len()));
        }
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.rest.starts_with(c);
        self.advance(if found { 1 } else { 0 });
        found
    }

    /// `NAME =` and the blanks after it.
    fn name(&mut self) -> Result<String, (usize, SyntaxError)> {
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = self.rest.find(|c| !legal(c)).unwrap_or(self.rest.len());
        if end == 0 {
            return Err((self.line, SyntaxError::NoName));
        }
        let line = self.line;
        let name = self.advance(end).to_ascii_uppercase();
        self.skip_blank();
        if !self.eat('=') {
            return Err((line, SyntaxError::NoEquals(name)));
        }
        let blanks = self.rest.len() - self.rest.trim_start_matches([' ', '\t', '\r']).len();
        self.advance(blanks);
        Ok(name)
    }

    fn value(&mut self, name: &str, in_vector: bool) -> Result<Text<'t>, (usize, SyntaxError)> {
        let line = self.line;
        if self.eat('"') {
            // A quote after a backslash is part of the value, even after two of them.
            let mut before = 0;
            let end = self.rest.bytes().position(|byte| {
                let closes = byte == b'"' && before != b'\\';
                before = byte;
                closes
            });
            let end = end.ok_or_else(|| (line, SyntaxError::OpenQuote(name.to_owned())))?;
            let text = self.advance(end);
            self.advance(1);
            return Ok(Text(text));
        }
        if in_vector && self.rest.starts_with('[') {
            return Err((line, SyntaxError::Nested(name.to_owned())));
        }
        let stop = |c: char| c.is_ascii_whitespace() || "=#,[]".contains(c);
        let end = self.rest.find(stop).unwrap_or(self.rest.len());
        match self.advance(end) {
            // The end of a line is an empty value; but not in brackets, and not for a comment.
            "" if in_vector || !self.rest.trim_start_matches('\r').starts_with('\n') => {
                Err((line, SyntaxError::NoValue(name.to_owned())))
            }
            text => Ok(Text(text)),
        }
    }

    fn vector(
        &mut self,
        vector: &str,
        begun: usize,
    ) -> Result<Vec<Attribute<'t>>, (usize, SyntaxError)> {
        let open = || (begun, SyntaxError::OpenBracket(vector.to_owned()));
        let mut attributes = Vec::new();
        self.skip_blank();
        if self.eat(']') {
            return Ok(attributes);
        }
        loop {
            self.skip_blank();
            if self.rest.is_empty() {
                return Err(open());
            }
            let line = self.line;
            let name = self.name()?;
            let value = self.value(&name, true)?;
            self.skip_blank();
            let (comma, end) = (self.eat(','), self.rest.is_empty());
            attributes.push(Attribute { name, line, value });
            if comma {
                continue;
            }
            if end {
                return Err(open());
            }
            if !self.eat(']') {
                let name = attributes.pop().map(|attribute| attribute.name).unwrap_or_default();
                return Err((self.line, SyntaxError::NoComma(name)));
            }
            return Ok(attributes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<String, (usize, SyntaxError)> {
        let show = |entry: &Entry<'_>| match &entry.value {
            Value::Single(value) => format!("{}@{}={}", entry.name, entry.line, value.plain()),
            Value::Vector(attributes) => {
                let inside =
                    attributes.iter().map(|a| format!("{}@{}={}", a.name, a.line, a.value.plain()));
                format!("{}@{}[{}]", entry.name, entry.line, inside.collect::<Vec<_>>().join(";"))
            }
        };
        Ok(entries(text)?.iter().map(show).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn what_the_shipped_file_has() {
        // O1, O2
        for (text, expected) in [
            ("# nothing\n\n   # at all", ""),
            ("PORT = 2633\n", "PORT@1=2633"),
            ("a=\"x # y\" # comment\r\nB = c-d # e", "A@1=x # y B@2=c-d"),
            (
                "LOG = [\n  SYSTEM      = \"file\",\n  DEBUG_LEVEL = 3\n]\n",
                "LOG@1[SYSTEM@2=file;DEBUG_LEVEL@3=3]",
            ),
            ("X = [ A=1,B=\"2,]\" ,\n# no\nC=\"\" ]", "X@1[A@1=1;B@1=2,];C@3=]"),
            ("X = []", "X@1[]"),
            ("X =\nY = 1 Z = [ A = 2 ] W = \"\"", "X@1= Y@2=1 Z@2[A@2=2] W@2="),
            ("S = \"a\nb\"\nT = \"say \\\"hi\\\" \\n\"", "S@1=a\nb T@3=say \"hi\" \\n"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn errors_name_the_line() {
        // O3
        let name = |name: &str| name.to_owned();
        for (text, line, error) in [
            ("\n= 3", 2, SyntaxError::NoName),
            ("A", 1, SyntaxError::NoEquals(name("A"))),
            ("A =\n[ B = 1 ]", 2, SyntaxError::NoName),
            ("A = [ B =\n, C = 1 ]", 1, SyntaxError::NoValue(name("B"))),
            ("A = # x\n", 1, SyntaxError::NoValue(name("A"))),
            ("\nA = \"x\ny", 2, SyntaxError::OpenQuote(name("A"))),
            ("A = [ B = 1,\n C = 2", 1, SyntaxError::OpenBracket(name("A"))),
            ("A = [ B = 1,", 1, SyntaxError::OpenBracket(name("A"))),
            ("A = [", 1, SyntaxError::OpenBracket(name("A"))),
            ("A = [ B = \"1\"\n C = 2 ]", 2, SyntaxError::NoComma(name("B"))),
            ("A = [ B = 1, ]", 1, SyntaxError::NoName),
            ("A = [ B = [ C = 1 ] ]", 1, SyntaxError::Nested(name("B"))),
            ("A = \"x\" y", 1, SyntaxError::NoEquals(name("Y"))),
            ("A = c d", 1, SyntaxError::NoEquals(name("D"))),
            ("A = ", 1, SyntaxError::NoValue(name("A"))),
            ("A = 1\nB.C = 2", 2, SyntaxError::NoEquals(name("B"))),
            ("A = \"x\\\\\"", 1, SyntaxError::OpenQuote(name("A"))),
        ] {
            assert_eq!(shown(text), Err((line, error)), "{text}");
        }
    }
}
