//! The socket of Cyrus `saslauthd`: one request of four or five counted strings, one counted reply, and the
//! connection ends. The contract is `docs/protocols/saslauthd.md`.
//!
//! A counted string is two bytes of length, the higher first, and that many bytes.
//!
//! ```
//! use countersign_wire::saslauthd::*;
//!
//! let mut sent = Vec::new();
//! let ask = Ask { login: b"ann", password: b"pw", service: b"imap", realm: b"", client: None };
//! ask.encode(&mut sent).unwrap();
//! let Ok(Progress::Complete(request)) = parse_request(&sent, FIELD_LIMIT) else { panic!() };
//! assert_eq!(request.login, b"ann");
//! // The two bytes of the login that lack, and at least three more lengths.
//! assert_eq!(parse_request(&sent[..3], FIELD_LIMIT).unwrap().needs(), Some(8));
//! ```

use std::fmt;

use countersign::Secret;

/// The most bytes in one string of a request: four times what Cyrus takes.
pub const FIELD_LIMIT: usize = 1024;
/// The most bytes in a reply that every client reads: libsasl2 takes 1023, Exim 1024.
pub const REPLY_LIMIT: usize = 1023;

/// A request. Strings may hold any bytes but NUL; every one may be empty.
#[derive(Debug, PartialEq, Eq)]
pub struct Request<'b> {
    /// Who.
    pub login: &'b [u8],
    /// The password.
    pub password: Secret,
    /// For what: `smtp`, `imap`, `ldap`, …
    pub service: &'b [u8],
    /// What followed the last `@` of the name that libsasl2 was given, or empty.
    pub realm: &'b [u8],
    /// `address;port` of the person's client, which only libsasl2 2.2 sends.
    pub client: Option<&'b [u8]>,
}

/// How far the bytes at hand reach.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress<'b> {
    /// At least so many bytes are missing.
    NeedMore(usize),
    /// All there. If `client` is `None`, a fifth string may still be under way: whoever owns the socket may
    /// wait a millisecond for more bytes and parse again, but never longer, as most clients send four.
    Complete(Request<'b>),
}

impl Progress<'_> {
    /// How many bytes are missing at least, if some are.
    pub fn needs(&self) -> Option<usize> {
        match self {
            Self::NeedMore(bytes) => Some(*bytes),
            Self::Complete(_) => None,
        }
    }
}

/// A request that is answered with `NO` and the text of this error, and never looked at any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// C programs would read the string up to the NUL only: `secret\0junk` for `secret`.
    #[error("NUL byte in {0}")]
    Nul(FieldName),
    /// Told from the length alone, before the string is there.
    #[error("{0} longer than {1} bytes")]
    TooLong(FieldName, usize),
}

/// Which string of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldName {
    /// The first.
    Login,
    /// The second.
    Password,
    /// The third.
    Service,
    /// The fourth.
    Realm,
    /// The fifth, which may be absent.
    Client,
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Login => "login",
            Self::Password => "password",
            Self::Service => "service",
            Self::Realm => "realm",
            Self::Client => "client address",
        })
    }
}

/// Reads a request from everything that a connection has sent so far.
///
/// It keeps no state: call it again with all bytes when more have come. A request is a few dozen bytes,
/// and at most five times `field_limit`, which also bounds what the connection must buffer
/// ([`buffer_limit`]). Bytes after the last string are ignored.
///
/// # Errors
/// A string over `field_limit` bytes, at once; a NUL, when the whole request is there, so that a client
/// that writes string by string is not cut off between two writes.
pub fn parse_request(bytes: &[u8], field_limit: usize) -> Result<Progress<'_>, RequestError> {
    let mut rest = bytes;
    let mut fields = [&b""[..]; 4];
    let names = [FieldName::Login, FieldName::Password, FieldName::Service, FieldName::Realm];
    for (index, name) in names.into_iter().enumerate() {
        match counted(&mut rest, name, field_limit)? {
            // Every string still to come has at least its length.
            Err(missing) => return Ok(Progress::NeedMore(missing + 2 * (names.len() - 1 - index))),
            Ok(field) => fields[index] = field,
        }
    }
    let mut client = None;
    if rest.len() >= 2 {
        match counted(&mut rest, FieldName::Client, field_limit)? {
            Err(missing) => return Ok(Progress::NeedMore(missing)),
            Ok(field) => client = Some(field),
        }
    }
    for (name, field) in names.into_iter().zip(fields).chain(client.map(|c| (FieldName::Client, c)))
    {
        if memchr::memchr(0, field).is_some() {
            return Err(RequestError::Nul(name));
        }
    }
    let [login, password, service, realm] = fields;
    Ok(Progress::Complete(Request {
        login,
        password: Secret::from(password),
        service,
        realm,
        client,
    }))
}

/// The most bytes that a request can take, and so what a connection must be ready to buffer.
pub fn buffer_limit(field_limit: usize) -> usize {
    5 * (2 + field_limit)
}

/// Takes one counted string off the front, or says how many bytes it still lacks.
fn counted<'b>(
    rest: &mut &'b [u8],
    name: FieldName,
    limit: usize,
) -> Result<Result<&'b [u8], usize>, RequestError> {
    let Some((length, tail)) = rest.split_first_chunk::<2>() else {
        return Ok(Err(2 - rest.len()));
    };
    let length = usize::from(u16::from_be_bytes(*length));
    if length > limit {
        return Err(RequestError::TooLong(name, limit));
    }
    let Some((field, tail)) = tail.split_at_checked(length) else {
        return Ok(Err(length - tail.len()));
    };
    *rest = tail;
    Ok(Ok(field))
}

/// What the server says, once. There is no word for "try later": for that it closes without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply<'r> {
    /// `OK`.
    Ok,
    /// `NO` or, with a reason, `NO reason`.
    No(&'r str),
}

impl Reply<'_> {
    /// Appends the counted reply. A reason is cut off at [`REPLY_LIMIT`], and control characters become
    /// spaces: clients log it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0, 0]);
        match self {
            Self::Ok => out.extend_from_slice(b"OK"),
            Self::No("") => out.extend_from_slice(b"NO"),
            Self::No(reason) => {
                out.extend_from_slice(b"NO ");
                let reason = &reason[..reason.floor_char_boundary(REPLY_LIMIT - 3)];
                out.extend(reason.bytes().map(|b| if b.is_ascii_control() { b' ' } else { b }));
            }
        }
        let length = (out.len() - start - 2) as u16;
        out[start..start + 2].copy_from_slice(&length.to_be_bytes());
    }
}

/// A request as a client writes it.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// Who, without realm.
    pub login: &'a [u8],
    /// The password.
    pub password: &'a [u8],
    /// For what.
    pub service: &'a [u8],
    /// The realm, or empty.
    pub realm: &'a [u8],
    /// `address;port`, for servers that know a fifth string.
    pub client: Option<&'a [u8]>,
}

impl Ask<'_> {
    /// Appends the request, for one single write. The password is then in `out`, which is the caller's to
    /// wipe.
    ///
    /// # Errors
    /// A string with a NUL, or longer than its 16-bit length can say; `out` is then as it was.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), RequestError> {
        let fields = [
            (FieldName::Login, Some(self.login)),
            (FieldName::Password, Some(self.password)),
            (FieldName::Service, Some(self.service)),
            (FieldName::Realm, Some(self.realm)),
            (FieldName::Client, self.client),
        ];
        let present = || fields.iter().filter_map(|&(name, field)| Some((name, field?)));
        for (name, field) in present() {
            if field.len() > usize::from(u16::MAX) {
                return Err(RequestError::TooLong(name, usize::from(u16::MAX)));
            }
            if memchr::memchr(0, field).is_some() {
                return Err(RequestError::Nul(name));
            }
        }
        out.reserve(present().map(|(_, field)| 2 + field.len()).sum());
        for (_, field) in present() {
            out.extend_from_slice(&(field.len() as u16).to_be_bytes());
            out.extend_from_slice(field);
        }
        Ok(())
    }
}

impl fmt::Debug for Ask<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ask({}, …)", self.login.escape_ascii())
    }
}

/// A reply as a client reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'b> {
    /// At least so many bytes are missing. If the connection ends now, the server had a fault.
    NeedMore(usize),
    /// `OK`, or `OK` and a space and text.
    Granted(&'b [u8]),
    /// Anything else, with all of its text.
    Refused(&'b [u8]),
}

/// Reads a reply from everything that the server has sent so far. Only an upper-case `OK`, alone or before a
/// space, is a yes.
pub fn parse_reply(bytes: &[u8]) -> Answer<'_> {
    let Some((length, text)) = bytes.split_first_chunk::<2>() else {
        return Answer::NeedMore(2 - bytes.len());
    };
    let length = usize::from(u16::from_be_bytes(*length));
    match text.get(..length) {
        None => Answer::NeedMore(length - text.len()),
        Some(b"OK") => Answer::Granted(b""),
        Some([b'O', b'K', b' ', text @ ..]) => Answer::Granted(text),
        Some(text) => Answer::Refused(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASK: Ask<'_> =
        Ask { login: b"ann", password: b"pw", service: b"imap", realm: b"", client: None };

    fn encoded(ask: Ask<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        ask.encode(&mut out).unwrap();
        out
    }

    fn complete(bytes: &[u8]) -> Request<'_> {
        match parse_request(bytes, FIELD_LIMIT) {
            Ok(Progress::Complete(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn four_strings_to_the_byte() {
        let bytes = encoded(ASK);
        assert_eq!(bytes, b"\0\x03ann\0\x02pw\0\x04imap\0\0");
        let request = complete(&bytes);
        assert_eq!((request.login, request.service), (&b"ann"[..], &b"imap"[..]));
        assert_eq!((&request.password, request.realm), (&Secret::from("pw"), &b""[..]));
        assert_eq!(request.client, None);
        assert!(!format!("{request:?} {ASK:?}").contains("pw"));
    }

    #[test]
    fn byte_by_byte_it_never_asks_for_too_much() {
        let bytes = encoded(ASK);
        for have in 0..bytes.len() {
            let needs = parse_request(&bytes[..have], FIELD_LIMIT).unwrap().needs();
            let needs = needs.unwrap_or_else(|| panic!("complete after {have} bytes"));
            assert!((1..=bytes.len() - have).contains(&needs), "{needs} more after {have}");
        }
    }

    #[test]
    fn the_fifth_string_counts_from_its_second_byte() {
        let bytes = encoded(Ask { client: Some(b"192.0.2.7;50000"), ..ASK });
        let four = encoded(ASK).len();
        assert_eq!(complete(&bytes[..four]).client, None);
        assert_eq!(complete(&bytes[..four + 1]).client, None);
        assert_eq!(parse_request(&bytes[..four + 2], FIELD_LIMIT), Ok(Progress::NeedMore(15)));
        assert_eq!(complete(&bytes).client, Some(&b"192.0.2.7;50000"[..]));
        assert_eq!(complete(&[&bytes[..], b"junk"].concat()).client, complete(&bytes).client);
        assert_eq!(complete(&[&bytes[..four], b"\0\0"].concat()).client, Some(&b""[..]));
    }

    #[test]
    fn nul_is_refused_in_every_string() {
        let sent = [
            b"login".to_vec(),
            b"password".to_vec(),
            b"service".to_vec(),
            b"realm".to_vec(),
            b"client".to_vec(),
        ];
        let names = [
            FieldName::Login,
            FieldName::Password,
            FieldName::Service,
            FieldName::Realm,
            FieldName::Client,
        ];
        for (bad, name) in names.into_iter().enumerate() {
            let mut bytes = Vec::new();
            for (index, field) in sent.iter().enumerate() {
                let mut field = field.clone();
                if index == bad {
                    field[2] = 0;
                }
                bytes.extend_from_slice(&(field.len() as u16).to_be_bytes());
                bytes.extend_from_slice(&field);
            }
            assert_eq!(parse_request(&bytes, FIELD_LIMIT), Err(RequestError::Nul(name)));
        }
        let ask = Ask { password: b"secret\0junk", ..ASK };
        let mut out = b"kept".to_vec();
        assert_eq!(ask.encode(&mut out), Err(RequestError::Nul(FieldName::Password)));
        assert_eq!(out, b"kept");
    }

    #[test]
    fn the_limit_is_told_from_the_length() {
        let field = [b'x'; 1024];
        assert_eq!(complete(&encoded(Ask { password: &field, ..ASK })).password.len(), 1024);
        let error = RequestError::TooLong(FieldName::Password, 1024);
        assert_eq!(parse_request(b"\0\x01a\x04\x01", 1024), Err(error));
        assert_eq!(error.to_string(), "password longer than 1024 bytes");
        let all = Ask {
            login: &field,
            password: &field,
            service: &field,
            realm: &field,
            client: Some(&field),
        };
        assert_eq!(encoded(all).len(), buffer_limit(1024));
        assert_eq!(complete(&encoded(all)).client, Some(&field[..]));
    }

    #[test]
    fn replies() {
        let wire = |reply: Reply<'_>| {
            let mut out = Vec::new();
            reply.encode(&mut out);
            out
        };
        assert_eq!(wire(Reply::Ok), b"\0\x02OK");
        assert_eq!(wire(Reply::No("")), b"\0\x02NO");
        assert_eq!(wire(Reply::No("try\nlater")), b"\0\x0cNO try later");
        let long = wire(Reply::No(&"ä".repeat(2000)));
        assert_eq!(long.len() - 2, REPLY_LIMIT);
        assert!(std::str::from_utf8(&long[2..]).is_ok_and(|text| text.ends_with('ä')));
    }

    #[test]
    fn only_ok_is_a_yes() {
        assert_eq!(parse_reply(b"\0\x02OK"), Answer::Granted(b""));
        assert_eq!(parse_reply(b"\0\x07OK mail"), Answer::Granted(b"mail"));
        for text in ["", "O", "ok", "OKAY", "OK\0", "NO", "NO OK", " OK"] {
            let bytes = [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat();
            assert_eq!(parse_reply(&bytes), Answer::Refused(text.as_bytes()), "{text}");
        }
        assert_eq!(parse_reply(b""), Answer::NeedMore(2));
        assert_eq!(parse_reply(b"\0\x02O"), Answer::NeedMore(1));
    }
}
