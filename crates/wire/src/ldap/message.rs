//! Messages (RFC 4511 §4), and the password policy control (draft-behera-ldap-password-policy).

use countersign::Secret;
use zeroize::Zeroizing;

use super::ber::{
    BOOLEAN, ENUMERATED, INTEGER, OCTETS, Reader, SEQUENCE, SET, element, number, octets, unsigned,
    whole,
};
use super::{FilterTemplate, WireError};

const BIND: u8 = 0x60;
const BIND_RESPONSE: u8 = 0x61;
const UNBIND: u8 = 0x42;
const SEARCH: u8 = 0x63;
const SEARCH_ENTRY: u8 = 0x64;
const SEARCH_DONE: u8 = 0x65;
const SEARCH_REFERENCE: u8 = 0x73;
const EXTENDED: u8 = 0x77;
const EXTENDED_RESPONSE: u8 = 0x78;
const CONTROLS: u8 = 0xa0;

const START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";
const PASSWORD_POLICY: &[u8] = b"1.3.6.1.4.1.42.2.27.8.5.1";

/// How deep a search looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The entry alone.
    Base,
    /// Those right below it.
    One,
    /// It and all below it.
    Subtree,
}

/// A search, without its filter. Aliases are not followed.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// Where.
    pub base: &'a str,
    /// How deep.
    pub scope: Scope,
    /// How many entries at most; the server says when there are more.
    pub size_limit: u32,
    /// How long the server may take.
    pub seconds: u32,
    /// What to tell of each entry.
    pub attributes: &'a [&'a str],
}

impl Search<'_> {
    /// Appends the request.
    pub fn encode(&self, out: &mut Vec<u8>, id: u32, filter: &FilterTemplate, values: &[&[u8]]) {
        message(out, id, |out| {
            element(out, SEARCH, |out| {
                octets(out, OCTETS, self.base.as_bytes());
                number(
                    out,
                    ENUMERATED,
                    match self.scope {
                        Scope::Base => 0,
                        Scope::One => 1,
                        Scope::Subtree => 2,
                    },
                );
                number(out, ENUMERATED, 0);
                number(out, INTEGER, self.size_limit);
                number(out, INTEGER, self.seconds);
                octets(out, BOOLEAN, &[0]);
                filter.encode(out, values);
                element(out, SEQUENCE, |out| {
                    for attribute in self.attributes {
                        octets(out, OCTETS, attribute.as_bytes());
                    }
                });
            });
        });
    }
}

fn message(out: &mut Vec<u8>, id: u32, content: impl FnOnce(&mut Vec<u8>)) {
    element(out, SEQUENCE, |out| {
        number(out, INTEGER, id);
        content(out);
    });
}

/// A simple bind, asking for the password policy's opinion (a control that servers without it ignore). The
/// buffer is wiped when dropped.
pub fn encode_bind(id: u32, dn: &str, password: &[u8]) -> Zeroizing<Vec<u8>> {
    // Enough, so that no half-written copy stays behind where the buffer grew.
    let mut out = Zeroizing::new(Vec::with_capacity(128 + dn.len() + password.len()));
    message(&mut out, id, |out| {
        element(out, BIND, |out| {
            number(out, INTEGER, 3);
            octets(out, OCTETS, dn.as_bytes());
            octets(out, 0x80, password);
        });
        element(out, CONTROLS, |out| {
            element(out, SEQUENCE, |out| octets(out, OCTETS, PASSWORD_POLICY));
        });
    });
    out
}

/// A request for TLS on this connection (RFC 4511 §4.14).
pub fn encode_start_tls(out: &mut Vec<u8>, id: u32) {
    message(out, id, |out| element(out, EXTENDED, |out| octets(out, 0x80, START_TLS)));
}

/// The end of a connection.
pub fn encode_unbind(out: &mut Vec<u8>, id: u32) {
    message(out, id, |out| octets(out, UNBIND, &[]));
}

/// The length of the first message, once its header is there.
///
/// # Errors
/// What begins no message, or one of more than `limit` bytes, told from its header.
pub fn frame(bytes: &[u8], limit: usize) -> Result<Option<usize>, WireError> {
    match bytes.first() {
        None | Some(&SEQUENCE) => whole(bytes, limit),
        Some(_) => Err(WireError::Unexpected("its beginning; is this an LDAP server?")),
    }
}

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// How a bind ended.
    Bind(Outcome),
    /// One entry of a search.
    Entry(Entry),
    /// Another server would know more. Never followed: it would be sent the password.
    Reference,
    /// The end of a search.
    Done(Outcome),
    /// How StartTLS ended; with the id 0, that the server ends the connection.
    Extended(Outcome),
}

/// The end of an operation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The result code: 0 for success (RFC 4511 appendix A).
    pub code: u32,
    /// The server's words, for the operator.
    pub text: String,
    /// What the password policy says.
    pub policy: PasswordPolicy,
}

/// The answer of the password policy control.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PasswordPolicy {
    /// 0 expired, 1 locked, 2 to be changed after a reset, …
    pub error: Option<u32>,
    /// How many logins are left with an expired password.
    pub grace: Option<u32>,
    /// In how many seconds the password expires.
    pub expires_in: Option<u32>,
}

/// An entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub dn: String,
    /// Its attributes with their values, as far as they were asked for.
    pub attributes: Vec<(String, Vec<Vec<u8>>)>,
}

impl Entry {
    /// The values of an attribute, found without regard to case and to options (`;lang-en`).
    pub fn values<'e>(&'e self, name: &str) -> impl Iterator<Item = &'e [u8]> {
        let plain = |attribute: &'e String| attribute.split(';').next().unwrap_or_default();
        let is =
            move |(attribute, _): &&'e (String, _)| plain(attribute).eq_ignore_ascii_case(name);
        self.attributes.iter().filter(is).flat_map(|(_, values)| values.iter().map(Vec::as_slice))
    }
}

impl Response {
    /// Reads one whole message: its id and what it says.
    ///
    /// # Errors
    /// What is no message of a server.
    pub fn parse(bytes: &[u8]) -> Result<(u32, Self), WireError> {
        let mut message = Reader::new(bytes).sequence("a message")?;
        let id = message.number(INTEGER, "a message id")?;
        let (tag, content) = message.any()?;
        let content = Reader::new(content);
        let response = match tag {
            BIND_RESPONSE => Self::Bind(outcome(content, message)?),
            SEARCH_ENTRY => Self::Entry(entry(content)?),
            SEARCH_REFERENCE => Self::Reference,
            SEARCH_DONE => Self::Done(outcome(content, message)?),
            EXTENDED_RESPONSE => Self::Extended(outcome(content, message)?),
            _ => return Err(WireError::Unexpected("an answer to what was asked")),
        };
        Ok((id, response))
    }
}

fn outcome(mut content: Reader<'_>, mut rest: Reader<'_>) -> Result<Outcome, WireError> {
    let code = content.number(ENUMERATED, "a result code")?;
    content.expect(OCTETS, "a matched name")?;
    let text = content.expect(OCTETS, "a diagnostic message")?;
    // The text is for a log: one line of it, and not much.
    let text = String::from_utf8_lossy(&text[..text.len().min(500)]);
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut policy = PasswordPolicy::default();
    if rest.peek() == Some(CONTROLS) {
        let mut controls = Reader::new(rest.any()?.1);
        while !controls.is_empty() {
            let mut control = controls.sequence("a control")?;
            let kind = control.expect(OCTETS, "a control's type")?;
            if control.peek() == Some(BOOLEAN) {
                control.any()?;
            }
            if kind == PASSWORD_POLICY && control.peek() == Some(OCTETS) {
                policy = password_policy(control.any()?.1)?;
            }
        }
    }
    Ok(Outcome { code, text: text.trim().to_owned(), policy })
}

fn password_policy(value: &[u8]) -> Result<PasswordPolicy, WireError> {
    let mut policy = PasswordPolicy::default();
    let mut value = Reader::new(value).sequence("a policy's answer")?;
    while !value.is_empty() {
        match value.any()? {
            (0xa0, warning) => match Reader::new(warning).any()? {
                (0x80, seconds) => policy.expires_in = unsigned(seconds),
                (0x81, left) => policy.grace = unsigned(left),
                _ => {}
            },
            // An error that cannot be read is one all the same.
            (0x81, error) => policy.error = Some(unsigned(error).unwrap_or(u32::MAX)),
            _ => {}
        }
    }
    Ok(policy)
}

fn entry(mut content: Reader<'_>) -> Result<Entry, WireError> {
    let utf8 = |bytes: &[u8], what| {
        String::from_utf8(bytes.to_vec()).map_err(|_| WireError::Unexpected(what))
    };
    let dn = utf8(content.expect(OCTETS, "an entry's name")?, "a name in UTF-8")?;
    let mut list = content.sequence("a list of attributes")?;
    let mut attributes = Vec::new();
    while !list.is_empty() {
        let mut attribute = list.sequence("an attribute")?;
        let name = utf8(attribute.expect(OCTETS, "an attribute's type")?, "a type in UTF-8")?;
        let mut set = Reader::new(attribute.expect(SET, "a set of values")?);
        let mut values = Vec::new();
        while !set.is_empty() {
            values.push(set.expect(OCTETS, "a value")?.to_vec());
        }
        attributes.push((name, values));
    }
    Ok(Entry { dn, attributes })
}

/// What a client asks, for whoever plays a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request<'b> {
    /// A simple bind.
    Bind {
        /// As whom; empty for nobody.
        dn: &'b str,
        /// With what.
        password: Secret,
    },
    /// A search.
    Search {
        /// Where it begins.
        base: &'b str,
        /// Its filter, encoded.
        filter: &'b [u8],
    },
    /// TLS, please.
    StartTls,
    /// Farewell.
    Unbind,
}

impl<'b> Request<'b> {
    /// Reads one whole message: its id and what it asks.
    ///
    /// # Errors
    /// What is no message of a client, or none of these four.
    pub fn parse(bytes: &'b [u8]) -> Result<(u32, Self), WireError> {
        let mut message = Reader::new(bytes).sequence("a message")?;
        let id = message.number(INTEGER, "a message id")?;
        let (tag, content) = message.any()?;
        let mut content = Reader::new(content);
        let utf8 = |bytes| {
            std::str::from_utf8(bytes).map_err(|_| WireError::Unexpected("a name in UTF-8"))
        };
        let request = match tag {
            BIND => {
                content.number(INTEGER, "a version")?;
                let dn = utf8(content.expect(OCTETS, "a name")?)?;
                Self::Bind { dn, password: content.expect(0x80, "a simple bind")?.into() }
            }
            SEARCH => {
                let base = utf8(content.expect(OCTETS, "a base")?)?;
                for _ in 0..5 {
                    content.any()?;
                }
                Self::Search { base, filter: content.whole_element()? }
            }
            EXTENDED if content.expect(0x80, "a name")? == START_TLS => Self::StartTls,
            UNBIND => Self::Unbind,
            _ => return Err(WireError::Unexpected("something that is known here")),
        };
        Ok((id, request))
    }
}

/// A server's answer to a bind.
pub fn encode_bind_response(out: &mut Vec<u8>, id: u32, outcome: &Outcome) {
    answer(out, id, BIND_RESPONSE, outcome);
}

/// A server's answer to StartTLS.
pub fn encode_start_tls_response(out: &mut Vec<u8>, id: u32, outcome: &Outcome) {
    answer(out, id, EXTENDED_RESPONSE, outcome);
}

/// A server's end of a search.
pub fn encode_search_done(out: &mut Vec<u8>, id: u32, outcome: &Outcome) {
    answer(out, id, SEARCH_DONE, outcome);
}

/// One entry that a server found.
pub fn encode_entry(out: &mut Vec<u8>, id: u32, entry: &Entry) {
    message(out, id, |out| {
        element(out, SEARCH_ENTRY, |out| {
            octets(out, OCTETS, entry.dn.as_bytes());
            element(out, SEQUENCE, |out| {
                for (name, values) in &entry.attributes {
                    element(out, SEQUENCE, |out| {
                        octets(out, OCTETS, name.as_bytes());
                        element(out, SET, |out| {
                            values.iter().for_each(|value| octets(out, OCTETS, value));
                        });
                    });
                }
            });
        });
    });
}

fn answer(out: &mut Vec<u8>, id: u32, tag: u8, outcome: &Outcome) {
    let PasswordPolicy { error, grace, expires_in } = outcome.policy;
    message(out, id, |out| {
        element(out, tag, |out| {
            number(out, ENUMERATED, outcome.code);
            octets(out, OCTETS, b"");
            octets(out, OCTETS, outcome.text.as_bytes());
        });
        if outcome.policy == PasswordPolicy::default() {
            return;
        }
        element(out, CONTROLS, |out| {
            element(out, SEQUENCE, |out| {
                octets(out, OCTETS, PASSWORD_POLICY);
                element(out, OCTETS, |out| {
                    element(out, SEQUENCE, |out| {
                        // One warning at a time: it is a choice.
                        if let Some(seconds) = expires_in {
                            element(out, 0xa0, |out| number(out, 0x80, seconds));
                        } else if let Some(left) = grace {
                            element(out, 0xa0, |out| number(out, 0x81, left));
                        }
                        if let Some(error) = error {
                            number(out, 0x81, error);
                        }
                    });
                });
            });
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bind_is_spelt_as_the_standard_has_it() {
        let bind = encode_bind(1, "cn=a", b"pw");
        let (request, control) = bind.split_at(18);
        assert_eq!(request, b"\x30\x31\x02\x01\x01\x60\x0d\x02\x01\x03\x04\x04cn=a\x80\x02");
        assert!(control.starts_with(b"pw\xa0\x1d\x30\x1b\x04\x191.3.6.1.4.1.42"));
        let dn = "cn=a";
        assert_eq!(Request::parse(&bind), Ok((1, Request::Bind { dn, password: "pw".into() })));
    }

    #[test]
    fn start_tls_and_unbind_are_spelt_as_the_standard_has_them() {
        let mut out = Vec::new();
        encode_start_tls(&mut out, 1);
        assert_eq!(out, b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037");
        out.clear();
        encode_unbind(&mut out, 3);
        assert_eq!(out, b"\x30\x05\x02\x01\x03\x42\x00");
        assert_eq!(Request::parse(&out), Ok((3, Request::Unbind)));
        out.clear();
        let filter = FilterTemplate::parse("(uid={login})", &["login"]).unwrap();
        let base = "dc=x";
        let search =
            Search { base, scope: Scope::One, size_limit: 2, seconds: 3, attributes: &["cn"] };
        search.encode(&mut out, 4, &filter, &[b"a"]);
        let filter = b"\xa3\x08\x04\x03uid\x04\x01a";
        assert_eq!(Request::parse(&out), Ok((4, Request::Search { base, filter })));
    }

    /// As OpenLDAP 2.5 sends it, with a locked account.
    #[test]
    fn a_policy_s_answer_is_read() {
        let bytes = b"\x30\x39\x02\x01\x02\x61\x07\x0a\x01\x31\x04\x00\x04\x00\
            \xa0\x2b\x30\x29\x04\x191.3.6.1.4.1.42.2.27.8.5.1\x04\x05\x30\x03\x81\x01\x01";
        let bytes = &mut bytes.to_vec();
        bytes[1] = bytes.len() as u8 - 2;
        let controls = bytes.iter().position(|b| *b == 0xa0).unwrap();
        bytes[controls + 1] = (bytes.len() - controls - 2) as u8;
        bytes[controls + 3] = (bytes.len() - controls - 4) as u8;
        let (id, Response::Bind(outcome)) = Response::parse(bytes).unwrap() else { panic!() };
        assert_eq!((id, outcome.code, outcome.policy.error), (2, 49, Some(1)));
    }

    #[test]
    fn what_is_no_server_s_message_is_refused() {
        for bytes in [&b"HTTP/1.1 400"[..], b"\x30\x00", b"\x30\x03\x02\x01\x01", b""] {
            assert!(Response::parse(bytes).is_err(), "{bytes:?}");
        }
        assert!(frame(b"HTTP/1.1 400", 100).is_err());
        assert_eq!(frame(b"", 100), Ok(None));
        assert_eq!(frame(b"\x30\x84\x7f\xff\xff\xff", 100), Err(WireError::TooLong(100)));
    }

    #[test]
    fn attributes_are_found_whatever_their_case_and_options() {
        let values = vec![b"x".to_vec()];
        let attributes = vec![("Mail;lang-en".to_owned(), values), ("cn".to_owned(), vec![])];
        let entry = Entry { dn: "cn=a".into(), attributes };
        assert_eq!(entry.values("mail").collect::<Vec<_>>(), [b"x"]);
        assert_eq!(entry.values("cn").count() + entry.values("ma").count(), 0);
    }

    #[test]
    fn a_server_s_words_fit_a_log() {
        let text = format!("a\nb{}", "é".repeat(1000));
        let mut out = Vec::new();
        encode_bind_response(&mut out, 1, &Outcome { code: 80, text, ..Outcome::default() });
        let (_, Response::Bind(outcome)) = Response::parse(&out).unwrap() else { panic!() };
        assert!(outcome.text.starts_with("a bé") && outcome.text.len() < 600);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            id in 1u32..i32::MAX as u32,
            code in 0u32..200,
            text in "[a-z ä]{0,20}",
            error in proptest::option::of(0u32..9),
            grace in proptest::option::of(0u32..9),
            values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..4),
        ) {
            let text = text.trim().to_owned();
            let policy = PasswordPolicy { error, grace, expires_in: None };
            let outcome = Outcome { code, text, policy };
            let entry = Entry { dn: "cn=ä".into(), attributes: vec![("a".into(), values)] };
            let mut out = Vec::new();
            encode_bind_response(&mut out, id, &outcome);
            prop_assert_eq!(Response::parse(&out), Ok((id, Response::Bind(outcome.clone()))));
            out.clear();
            encode_search_done(&mut out, id, &outcome);
            prop_assert_eq!(Response::parse(&out), Ok((id, Response::Done(outcome.clone()))));
            out.clear();
            encode_start_tls_response(&mut out, id, &outcome);
            prop_assert_eq!(Response::parse(&out), Ok((id, Response::Extended(outcome))));
            out.clear();
            encode_entry(&mut out, id, &entry);
            prop_assert_eq!(frame(&out, out.len()), Ok(Some(out.len())));
            prop_assert_eq!(Response::parse(&out), Ok((id, Response::Entry(entry))));
        }
    }
}
