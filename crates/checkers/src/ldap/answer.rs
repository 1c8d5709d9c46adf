//! What a server answered, as the checker needs it; and the password policy's opinion
//! (draft-behera-ldap-password-policy).

use std::collections::BTreeMap;

use ldap3::asn1::{PL, StructureTag, TagClass, parse_tag, parse_uint};
use ldap3::controls::RawControl;
use ldap3::{LdapResult, ResultEntry, SearchEntry};

use super::guard::{Malformed, well_formed};

const PASSWORD_POLICY: &str = "1.3.6.1.4.1.42.2.27.8.5.1";
/// A server's words are for a log: one line of them, and not much.
const LONGEST_WORDS: usize = 500;

/// The end of an operation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The result code: 0 for success (RFC 4511 appendix A).
    pub(super) code: u32,
    /// The server's words, for the operator.
    pub(super) text: String,
    /// What the password policy objects to: 0 expired, 1 locked, 2 to be changed after a reset, …
    pub(super) policy: Option<u32>,
}

/// An entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its name.
    pub(super) dn: String,
    /// Its attributes with their values, as far as they were asked for.
    pub(super) attributes: BTreeMap<String, Vec<Vec<u8>>>,
}

/// What a search found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) entries: Vec<Entry>,
    /// How often the server said that another knows more. Never followed: it would be sent the password.
    pub(super) references: usize,
    pub(super) outcome: Outcome,
}

/// Asks for the password policy's opinion. Servers without it ignore that.
pub(super) fn policy_please() -> RawControl {
    RawControl { ctype: PASSWORD_POLICY.to_owned(), crit: false, val: None }
}

impl Outcome {
    /// Reads the library's.
    ///
    /// # Errors
    /// A password policy's answer that is none.
    pub(super) fn read(result: LdapResult) -> Result<Self, Malformed> {
        let line = result.text.chars().map(|c| if c.is_control() { ' ' } else { c });
        let text: String = line.take(LONGEST_WORDS).collect();
        let mut policy = None;
        for control in result.ctrls {
            if control.1.ctype == PASSWORD_POLICY
                && let Some(value) = control.1.val
            {
                policy = objection(&value)?;
            }
        }
        Ok(Self { code: result.rc, text: text.trim().to_owned(), policy })
    }
}

/// `PasswordPolicyResponseValue ::= SEQUENCE { warning [0] …, error [1] ENUMERATED … }`. Warnings are not shown.
fn objection(value: &[u8]) -> Result<Option<u32>, Malformed> {
    well_formed(value)?;
    let Ok(([], StructureTag { payload: PL::C(parts), .. })) = parse_tag(value) else {
        return Err(Malformed::Encoding("a password policy's answer that is none"));
    };
    let error = parts.into_iter().find(|part| part.class == TagClass::Context && part.id == 1);
    // An error that cannot be read is one all the same.
    Ok(error.map(|error| match error.payload {
        PL::P(code) if (1..=4).contains(&code.len()) => {
            parse_uint(&code).map_or(u32::MAX, |(_, code)| u32::try_from(code).unwrap_or(u32::MAX))
        }
        _ => u32::MAX,
    }))
}

impl Entry {
    /// Reads the library's. Panics where it is none: to be called within [`caught`](super::connection::caught).
    pub(super) fn read(entry: ResultEntry) -> Self {
        let entry = SearchEntry::construct(entry);
        let texts = entry.attrs.into_iter().map(|(name, values)| {
            (name, values.into_iter().map(String::into_bytes).collect::<Vec<_>>())
        });
        Self { dn: entry.dn, attributes: texts.chain(entry.bin_attrs).collect() }
    }

    /// The values of an attribute, found without regard to case and to options (`;lang-en`).
    pub(super) fn values<'e>(&'e self, name: &str) -> impl Iterator<Item = &'e [u8]> {
        let plain = |attribute: &'e String| attribute.split(';').next().unwrap_or_default();
        let is =
            move |(attribute, _): &(&'e String, _)| plain(attribute).eq_ignore_ascii_case(name);
        self.attributes.iter().filter(is).flat_map(|(_, values)| values.iter().map(Vec::as_slice))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_object_or_do_not() {
        for (value, expected) in [
            (&b"\x30\x00"[..], None),
            (b"\x30\x05\xa0\x03\x80\x01\x3c", None),
            (b"\x30\x03\x81\x01\x00", Some(0)),
            (b"\x30\x03\x81\x01\x02", Some(2)),
            (b"\x30\x08\xa0\x03\x81\x01\x03\x81\x01\x01", Some(1)),
            (b"\x30\x02\x81\x00", Some(u32::MAX)),
            (b"\x30\x07\x81\x05\x01\x00\x00\x00\x00", Some(u32::MAX)),
            (b"\x30\x04\xa1\x02\x04\x00", Some(u32::MAX)),
        ] {
            assert_eq!(objection(value), Ok(expected), "{value:?}");
        }
        let deep = b"\x30\x80".repeat(10_000);
        for value in [&b""[..], b"\x04\x00", b"\x30\x05", b"\x30\x00\x00", &deep] {
            assert!(objection(value).is_err(), "{value:?}");
        }
    }

    #[test]
    fn a_server_s_words_are_one_short_line() {
        let result = |text: &str| LdapResult {
            rc: 49,
            matched: String::new(),
            text: text.to_owned(),
            refs: Vec::new(),
            ctrls: Vec::new(),
        };
        assert_eq!(Outcome::read(result(" a\nb\0 ")).unwrap().text, "a b");
        assert_eq!(Outcome::read(result(&"ä".repeat(5000))).unwrap().text.chars().count(), 500);
    }

    #[test]
    fn attributes_are_found_whatever_their_case_and_options() {
        let values = |values: &[&[u8]]| values.iter().map(|value| value.to_vec()).collect();
        let attributes = BTreeMap::from([
            ("CN;lang-de".to_owned(), values(&[b"b", b"\xff"])),
            ("CN".to_owned(), values(&[b"a"])),
            ("cnx".to_owned(), values(&[b"c"])),
        ]);
        let entry = Entry { dn: String::new(), attributes };
        assert_eq!(entry.values("cn").collect::<Vec<_>>(), [&b"a"[..], b"b", b"\xff"]);
    }
}
