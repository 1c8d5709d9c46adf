//! Distinguished names as text (RFC 4514), as far as a user's name is put into one and a group's is read from one.

use super::TemplateError;

/// A name with places for a user's: `uid={login},ou=people,dc=example`, or `{login}@corp.example`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnTemplate {
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
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let wrong = |at: usize, what: &str| TemplateError {
            text: text.to_owned(),
            at,
            what: what.to_owned(),
        };
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
    pub fn is_dn(&self) -> bool {
        self.is_dn
    }

    /// The name with a user's in it: escaped where this is a DN (RFC 4514 §2.4). None where the user's
    /// cannot be in one: it has a control character, or this is no DN and it has a character with a meaning.
    pub fn fill(&self, login: &str) -> Option<String> {
        if login.is_empty() || login.chars().any(char::is_control) {
            return None;
        }
        if self.is_dn {
            return Some(self.parts.join(&escape(login)));
        }
        (!login.contains(|c: char| FORBIDDEN.contains(c))).then(|| self.parts.join(login))
    }
}

/// A value as it stands in a DN.
fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 8);
    let last = value.chars().count().saturating_sub(1);
    for (index, c) in value.chars().enumerate() {
        let special = matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=')
            || (c == '#' && index == 0)
            || (c == ' ' && (index == 0 || index == last));
        if special {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// The first attribute of a DN with its value: `("cn", "staff")` of `cn=staff,ou=groups,dc=example`. None for
/// what is no DN, or has a value in hexadecimal BER (`#04…`).
pub fn first_rdn(dn: &str) -> Option<(&str, String)> {
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

    #[test]
    fn a_user_s_name_is_one_value_whatever_it_is() {
        let template = DnTemplate::parse("uid={login},ou=people,dc=example").unwrap();
        for (login, dn) in [
            ("ada", "uid=ada,ou=people,dc=example"),
            ("ada,ou=admins", "uid=ada\\,ou\\=admins,ou=people,dc=example"),
            (" ada ", "uid=\\ ada\\ ,ou=people,dc=example"),
            ("#04", "uid=\\#04,ou=people,dc=example"),
            ("a+cn=b", "uid=a\\+cn\\=b,ou=people,dc=example"),
            ("a\\", "uid=a\\\\,ou=people,dc=example"),
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

    proptest! {
        /// What is put in comes out as one value, and the rest of the name stays what it was.
        #[test]
        fn escaping_is_undone_by_reading(login in "[^\\p{Cc}]{1,40}") {
            let dn = DnTemplate::parse("uid={login},dc=example").unwrap().fill(&login).unwrap();
            prop_assert_eq!(first_rdn(&dn), Some(("uid", login)));
            prop_assert!(dn.ends_with(",dc=example"));
        }
    }
}
