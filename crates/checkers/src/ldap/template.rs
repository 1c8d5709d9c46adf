//! Filters (RFC 4515) and distinguished names (RFC 4514) of the configuration, with places for a user's name.

use ldap3::{dn_escape, ldap_escape, parse_filter};
use thiserror::Error;

/// How long the text of a filter may be.
const LONGEST: usize = 4096;
/// Stands in each place when a filter is judged: characters that only a value may have.
const PROBE: &str = "\\70";

/// What is wrong with a filter or a name in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what}, at byte {at} of `{text}`")]
pub(crate) struct TemplateError {
    text: String,
    at: usize,
    what: String,
}

impl TemplateError {
    fn new(text: &str, at: usize, what: impl Into<String>) -> Self {
        Self { text: text.to_owned(), at, what: what.into() }
    }
}

/// A filter with places such as `{login}` for values.
///
/// Places are where values are and nowhere else, and what is put in is escaped: it is one value, whatever
/// characters it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FilterTemplate {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Place(usize),
}

impl FilterTemplate {
    /// Parses a filter in which `{NAME}` stands for a value, for each of `names`. A brace that is meant is
    /// written `\7b`.
    ///
    /// # Errors
    /// What is no filter; a place outside of a value, or of another name.
    pub(crate) fn parse(text: &str, names: &[&str]) -> Result<Self, TemplateError> {
        let wrong = |at: usize, what: String| TemplateError::new(text, at, what);
        if text.len() > LONGEST {
            return Err(wrong(LONGEST, format!("a filter has at most {LONGEST} bytes")));
        }
        if !text.starts_with('(') {
            return Err(wrong(0, "a filter begins with `(`".to_owned()));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let at = text.len() - after.len() - 1;
            let name = after.split_once('}').map_or(after, |(name, _)| name);
            let Some(index) = names.iter().position(|known| *known == name) else {
                let known: Vec<_> = names.iter().map(|name| format!("`{{{name}}}`")).collect();
                let known = known.join(" or ");
                let what = format!("in braces can be {known}; a brace is written `\\7b`");
                return Err(wrong(at, what));
            };
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(Piece::Place(index));
            rest = &after[name.len() + 1..];
        }
        pieces.push(Piece::Text(rest.to_owned()));
        let this = Self { pieces };
        if parse_filter(this.text(|_| PROBE)).is_err() {
            let what = "this is no filter; it is written as `(uid={login})`, several are joined as \
                        `(&(…)(…))`, and braces stand only where values are";
            return Err(wrong(0, what.to_owned()));
        }
        Ok(this)
    }

    /// Whether the place of that index among the names is in it.
    pub(crate) fn uses(&self, index: usize) -> bool {
        self.pieces.contains(&Piece::Place(index))
    }

    /// The filter with the values, in the order of the names. A place without a value is empty.
    pub(crate) fn fill(&self, values: &[&str]) -> String {
        let escaped: Vec<_> = values.iter().map(|value| ldap_escape(*value)).collect();
        self.text(|index| escaped.get(index).map_or("", |value| value))
    }

    fn text<'v>(&self, value: impl Fn(usize) -> &'v str) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Place(index) => out.push_str(value(*index)),
            }
        }
        out
    }
}

/// A name with places for a user's: `uid={login},ou=people,dc=example`, or `{login}@corp.example`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DnTemplate {
    /// The text before, between and after the places.
    parts: Vec<String>,
    is_dn: bool,
}

/// What no name that is not a DN may have in the place of `{login}`: Active Directory's forbidden characters
/// (sAMAccountName) and those that end the name or begin a realm.
const FORBIDDEN: &str = "\"/\\[]:;|=,+*?<>@";

impl DnTemplate {
    /// Reads a template. `{login}` must be in it, and in a DN only in values.
    ///
    /// # Errors
    /// Another `{…}`; no place at all; a name that is nothing but the place, which would let a user choose any;
    /// a place that begins an attribute's type.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let wrong = |at: usize, what: &str| TemplateError::new(text, at, what);
        const PLACE: &str = "{login}";
        let parts: Vec<String> = text.split(PLACE).map(str::to_owned).collect();
        if parts.len() < 2 {
            return Err(wrong(0, "there is no `{login}` in it, so everybody would be the same"));
        }
        if let Some(at) = text.replace(PLACE, "_______").find(['{', '}']) {
            return Err(wrong(at, "the only thing in braces is `{login}`"));
        }
        if parts.iter().all(|part| part.trim().is_empty()) {
            let what = "nothing but the user's own words; say where users are, as in \
                        `uid={login},ou=people,dc=example`";
            return Err(wrong(0, what));
        }
        let is_dn = parts.iter().any(|part| part.contains('='));
        if is_dn && !parts[0].contains('=') {
            return Err(wrong(
                0,
                "`{login}` is a value: an attribute stands before it, as in `uid={login}`",
            ));
        }
        Ok(Self { parts, is_dn })
    }

    /// Whether this is a distinguished name, and not one as `{login}@corp.example`.
    pub(crate) fn is_dn(&self) -> bool {
        self.is_dn
    }

    /// The name with a user's in it: escaped where this is a DN (RFC 4514 §2.4). None where the user's
    /// cannot be in one: it has a control character, or this is no DN and it has a character with a meaning.
    pub(crate) fn fill(&self, login: &str) -> Option<String> {
        if login.is_empty() || login.chars().any(char::is_control) {
            return None;
        }
        if self.is_dn {
            return Some(self.parts.join(&dn_escape(login)));
        }
        (!login.contains(|c: char| FORBIDDEN.contains(c))).then(|| self.parts.join(login))
    }
}

/// The first attribute of a DN with its value: `("cn", "staff")` of `cn=staff,ou=groups,dc=example`. None for
/// what is no DN, or has a value in hexadecimal BER (`#04…`).
pub(crate) fn first_rdn(dn: &str) -> Option<(&str, String)> {
    let (attribute, rest) = dn.split_once('=')?;
    let attribute = attribute.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if attribute.is_empty() || !attribute.chars().all(plain) {
        return None;
    }
    let rest = rest.trim_start_matches(' ');
    if rest.starts_with('#') {
        return None;
    }
    let mut value = Vec::new();
    // How long it is without blanks that nobody escaped.
    let mut kept = 0;
    let mut bytes = rest.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b',' | b'+' | b';' => break,
            b'\\' => {
                let next = bytes.next()?;
                let hex = |digit: u8| char::from(digit).to_digit(16);
                match hex(next) {
                    Some(high) => value.push((high << 4 | hex(bytes.next()?)?) as u8),
                    None => value.push(next),
                }
                kept = value.len();
            }
            _ => {
                value.push(byte);
                if byte != b' ' {
                    kept = value.len();
                }
            }
        }
    }
    value.truncate(kept);
    let value = String::from_utf8(value).ok()?;
    (!value.is_empty()).then_some((attribute, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filled(text: &str, login: &str) -> String {
        FilterTemplate::parse(text, &["login"]).unwrap().fill(&[login])
    }

    #[test]
    fn a_value_in_a_filter_is_one_value_whatever_it_is() {
        for (text, login, expected) in [
            ("(uid={login})", "ada", "(uid=ada)"),
            ("(uid={login})", "*)(uid=*", "(uid=\\2a\\29\\28uid=\\2a)"),
            ("(uid={login})", "\\61da", "(uid=\\5c61da)"),
            ("(uid={login})", "{login}", "(uid={login})"),
            ("(|(uid={login})(mail={login}))", "a\0", "(|(uid=a\\00)(mail=a\\00))"),
            ("(m:1.2.840.113556.1.4.1941:={login})", "a", "(m:1.2.840.113556.1.4.1941:=a)"),
            ("(mail={login}@*)", "a*", "(mail=a\\2a@*)"),
        ] {
            assert_eq!(filled(text, login), expected);
        }
        let both = FilterTemplate::parse("(&(member={dn})(x={name}))", &["dn", "name"]).unwrap();
        assert_eq!(both.fill(&["cn=a", "b"]), "(&(member=cn=a)(x=b))");
        assert!(both.uses(0) && both.uses(1) && !both.uses(2));
    }

    #[test]
    fn what_is_no_filter_is_told_with_the_place() {
        for (text, part) in [
            ("uid={login}", "begins with `(`, at byte 0"),
            ("(uid={user})", "`{login}`; a brace is written `\\7b`, at byte 5"),
            ("(uid={login)", "in braces"),
            ("({login}=ada)", "only where values are"),
            ("(uid{login}=ada)", "only where values are"),
            ("(uid>{login})", "no filter"),
            ("(uid:{login}:=ada)", "no filter"),
            ("{login}", "begins with"),
            ("({login})", "no filter"),
            ("(uid=a)(uid={login})", "joined"),
            ("(&(uid={login})", "no filter"),
            ("(uid=\\zz)", "no filter"),
        ] {
            let error = FilterTemplate::parse(text, &["login"]).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        let long = format!("(uid={})", "a".repeat(LONGEST));
        assert!(FilterTemplate::parse(&long, &[]).is_err());
    }

    #[test]
    fn a_user_s_name_is_one_value_whatever_it_is() {
        let template = DnTemplate::parse("uid={login},ou=people,dc=example").unwrap();
        for (login, dn) in [
            ("ada", "uid=ada,ou=people,dc=example"),
            ("ada,ou=admins", "uid=ada\\2cou\\3dadmins,ou=people,dc=example"),
            (" ada ", "uid=\\20ada\\20,ou=people,dc=example"),
            ("#04", "uid=\\2304,ou=people,dc=example"),
            ("a+cn=b", "uid=a\\2bcn\\3db,ou=people,dc=example"),
            ("a\\", "uid=a\\5c,ou=people,dc=example"),
            ("{login}", "uid={login},ou=people,dc=example"),
        ] {
            assert_eq!(template.fill(login).as_deref(), Some(dn));
        }
        assert_eq!(template.fill("a\0b"), None);
        assert_eq!(template.fill("a\nb"), None);
        assert_eq!(template.fill(""), None);
    }

    #[test]
    fn a_name_that_is_no_dn_takes_no_character_with_a_meaning() {
        let template = DnTemplate::parse("{login}@corp.example").unwrap();
        assert!(!template.is_dn());
        assert_eq!(template.fill("ada").as_deref(), Some("ada@corp.example"));
        for login in ["ada@other", "CORP\\ada", "cn=ada,dc=x", "a*"] {
            assert_eq!(template.fill(login), None);
        }
        assert_eq!(DnTemplate::parse("CORP\\{login}").unwrap().fill("ada").unwrap(), "CORP\\ada");
    }

    #[test]
    fn templates_that_let_a_user_choose_the_place_are_refused() {
        for (text, part) in [
            ("uid=ada,dc=example", "no `{login}`"),
            ("{login}", "own words"),
            ("{login}=x,dc=example", "is a value"),
            ("uid={user},dc={login}", "in braces"),
        ] {
            let error = DnTemplate::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn the_first_value_of_a_dn_is_read() {
        for (dn, expected) in [
            ("cn=staff,ou=groups,dc=example", Some(("cn", "staff"))),
            ("CN=Domain Users ,CN=Users", Some(("CN", "Domain Users"))),
            ("cn=a\\,b\\20\\c3\\a4,dc=x", Some(("cn", "a,b ä"))),
            ("cn=a+ou=b,dc=x", Some(("cn", "a"))),
            ("cn=#0401,dc=x", None),
            ("cn=,dc=x", None),
            ("staff", None),
            ("c n=staff", None),
            ("cn=a\\", None),
            ("cn=\\ff", None),
        ] {
            assert_eq!(first_rdn(dn), expected.map(|(a, v)| (a, v.to_owned())), "{dn}");
        }
    }

    /// The value that the library sends for `(uid=…)`.
    fn sent(filter: &str) -> Vec<u8> {
        use ldap3::asn1::{ASNTag, PL};
        let tag = parse_filter(filter).unwrap().into_structure();
        let (PL::C(mut parts), 3) = (tag.payload, tag.id) else { panic!("{filter}") };
        let Some(PL::P(value)) = parts.pop().map(|part| part.payload) else { panic!("{filter}") };
        value
    }

    proptest! {
        /// What is put in a filter is sent as it was given, and the filter stays what it was.
        #[test]
        fn a_value_is_sent_as_it_was_given(login in any::<String>()) {
            prop_assert_eq!(sent(&filled("(uid={login})", &login)), login.into_bytes());
        }

        /// What is put in comes out as one value, and the rest of the name stays what it was.
        #[test]
        fn escaping_is_undone_by_reading(login in "[^\\p{Cc}]{1,40}") {
            let dn = DnTemplate::parse("uid={login},dc=example").unwrap().fill(&login).unwrap();
            prop_assert_eq!(first_rdn(&dn), Some(("uid", login)));
            prop_assert!(dn.ends_with(",dc=example"));
        }
    }
}
