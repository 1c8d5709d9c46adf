//! What a client sends, as the server reads it.

use countersign::Secret;

use super::reply::{Fail, FailCode};
use super::{AuthRequest, RESPONSE_LIMIT, decimal, split_field};
use crate::sasl_data;

/// One line from a client. It borrows from the line, except for SASL data, which is a [`Secret`] at once.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientLine<'l> {
    /// `VERSION major minor`. The owner of the connection compares the major with [`super::MAJOR`] and
    /// keeps the minor in its [`Dialect`].
    Version {
        /// Must be ours.
        major: u32,
        /// What the client understands.
        minor: u32,
    },
    /// `CPID pid`: the client's process id, never 0.
    Cpid(u32),
    /// `AUTH`: a login begins.
    Auth(AuthRequest<'l>),
    /// `CONT id data`: the answer to our CONT.
    Cont {
        /// Which login.
        id: u32,
        /// The SASL message.
        data: Secret,
    },
    /// `CANCEL id`: the login is given up; with minor versions below 4 nobody waits for a reply.
    Cancel {
        /// Which login.
        id: u32,
    },
    /// A command that is not in this protocol: ignore it, as its meaning and its id are unknown.
    Unknown(&'l [u8]),
}

/// What the meaning of a line depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// The client's minor version, 0 until it said so: an empty `resp=` means absent below 2.
    pub minor: u32,
    /// The longest SASL message in base64 characters; a longer one fails its own id.
    pub response_limit: usize,
}

impl Default for Dialect {
    fn default() -> Self {
        Self { minor: 0, response_limit: RESPONSE_LIMIT }
    }
}

/// Why a line is not a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// One login is wrong and has an id: answer that id ([`Rejected::fail`]) and go on.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The peer does not speak this protocol: read no further, and close.
    #[error(transparent)]
    Framing(#[from] FramingError),
}

/// A request that fails by itself. Its neighbours on the connection do not notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("request {id}: {why}")]
pub struct Rejected {
    /// The id to answer.
    pub id: u32,
    /// What is wrong with it.
    pub why: Rejection,
}

impl Rejected {
    /// Appends the reply: `FAIL id reason=…`, with `code=invalid_base64` where that is the reason.
    pub fn fail(&self, out: &mut Vec<u8>) {
        let reason = self.why.to_string();
        Fail { user: None, reason: Some(&reason), code: self.why.code() }.encode(out, self.id);
    }
}

/// What is wrong with one request. The text may be sent to the peer: it repeats nothing the peer sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// Ids count from 1.
    #[error("Request id must not be 0")]
    ZeroId,
    /// AUTH without a second field, or with an empty one.
    #[error("Mechanism missing")]
    NoMechanism,
    /// AUTH without `service=`, or with an empty one.
    #[error("Parameter service missing")]
    NoService,
    /// CONT without a third field.
    #[error("Response missing")]
    NoData,
    /// A field behind the SASL message. Base64 never holds a TAB, so somebody tried to smuggle one.
    #[error("Nothing may follow the response")]
    AfterResponse,
    /// The SASL message is not base64 with padding.
    #[error("Invalid base64 data")]
    InvalidBase64,
    /// The SASL message has more base64 characters than the limit.
    #[error("Response longer than {0} characters")]
    TooLong(usize),
}

impl Rejection {
    /// The `code=` that goes with it.
    pub fn code(self) -> Option<FailCode> {
        (self == Self::InvalidBase64).then_some(FailCode::InvalidBase64)
    }
}

/// Nothing that could be answered. An id is chosen by the client program and not by the person logging in,
/// so nobody can use these to end a neighbour's login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FramingError {
    /// `VERSION` without two numbers.
    #[error("VERSION needs two numbers: VERSION<TAB>1<TAB>2")]
    Version,
    /// `CPID` without a number, or with 0.
    #[error("CPID needs a number that is not 0")]
    Cpid,
    /// An id that is absent, not a decimal number, or past 32 bits.
    #[error("{0} needs a decimal id of 32 bits as its first field")]
    Id(&'static str),
    /// More bytes than any limit allows (64 KiB): the line was not split by [`super::Lines`].
    #[error("line longer than 65535 bytes")]
    TooLong,
}

impl<'l> ClientLine<'l> {
    /// Reads one line, given without its LF.
    ///
    /// # Errors
    /// [`LineError::Rejected`] for what concerns one id, [`LineError::Framing`] for what cannot be answered.
    pub fn parse(line: &'l [u8], dialect: &Dialect) -> Result<Self, LineError> {
        let (command, rest) = split_field(line);
        match command {
            b"AUTH" => AuthRequest::parse(line, rest, dialect).map(Self::Auth),
            b"CONT" => cont(rest, dialect),
            b"CANCEL" => {
                let (id, _) = request_id("CANCEL", rest)?;
                Ok(Self::Cancel { id })
            }
            b"VERSION" => version(rest).ok_or(FramingError::Version.into()),
            b"CPID" => {
                let pid = rest.and_then(|rest| decimal::parse(split_field(rest).0));
                match pid {
                    None | Some(0) => Err(FramingError::Cpid.into()),
                    Some(pid) => Ok(Self::Cpid(pid)),
                }
            }
            name => Ok(Self::Unknown(name)),
        }
    }
}

fn version<'l>(rest: Option<&[u8]>) -> Option<ClientLine<'l>> {
    let (major, rest) = split_field(rest?);
    let (minor, _) = split_field(rest?);
    Some(ClientLine::Version { major: decimal::parse(major)?, minor: decimal::parse(minor)? })
}

/// The id and what follows it. Zero is readable, so it can be refused by itself.
pub(super) fn request_id<'l>(
    command: &'static str,
    rest: Option<&'l [u8]>,
) -> Result<(u32, Option<&'l [u8]>), LineError> {
    let (id, rest) = split_field(rest.unwrap_or_default());
    match decimal::parse(id) {
        None => Err(FramingError::Id(command).into()),
        Some(0) => Err(Rejected { id: 0, why: Rejection::ZeroId }.into()),
        Some(id) => Ok((id, rest)),
    }
}

fn cont<'l>(rest: Option<&'l [u8]>, dialect: &Dialect) -> Result<ClientLine<'l>, LineError> {
    let (id, data) = request_id("CONT", rest)?;
    let reject = |why| Rejected { id, why };
    let text = data.ok_or(reject(Rejection::NoData))?;
    let data = sasl_message(text, dialect).map_err(reject)?;
    Ok(ClientLine::Cont { id, data })
}

/// The SASL message that fills the rest of a line. `=` is how older clients spell an empty one.
pub(super) fn sasl_message(text: &[u8], dialect: &Dialect) -> Result<Secret, Rejection> {
    if text.len() > dialect.response_limit {
        return Err(Rejection::TooLong(dialect.response_limit));
    }
    if text == b"=" {
        return Ok(Secret::default());
    }
    sasl_data::decode(text).ok_or_else(|| match memchr::memchr(b'\t', text) {
        Some(_) => Rejection::AfterResponse,
        None => Rejection::InvalidBase64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<ClientLine<'_>, LineError> {
        ClientLine::parse(line.as_bytes(), &Dialect::default())
    }

    fn rejected(line: &str) -> (u32, Rejection) {
        match parse(line) {
            Err(LineError::Rejected(Rejected { id, why })) => (id, why),
            other => panic!("{line:?}: {other:?}"),
        }
    }

    fn framing(line: &str) -> FramingError {
        match parse(line) {
            Err(LineError::Framing(error)) => error,
            other => panic!("{line:?}: {other:?}"),
        }
    }

    #[test]
    fn the_clients_part_of_the_handshake() {
        let version = parse("VERSION\t1\t4\tnews").unwrap();
        assert!(matches!(version, ClientLine::Version { major: 1, minor: 4 }));
        assert!(matches!(parse("VERSION\t2\t0"), Ok(ClientLine::Version { major: 2, minor: 0 })));
        assert!(matches!(parse("CPID\t1234"), Ok(ClientLine::Cpid(1234))));
        for line in ["VERSION", "VERSION\t1", "VERSION\t1\t", "VERSION\tone\ttwo"] {
            assert_eq!(framing(line), FramingError::Version, "{line:?}");
        }
        for line in ["CPID", "CPID\t", "CPID\t0", "CPID\t-3"] {
            assert_eq!(framing(line), FramingError::Cpid, "{line:?}");
        }
    }

    #[test]
    fn what_has_no_id_cannot_be_answered() {
        for command in ["AUTH", "CONT", "CANCEL"] {
            for id in ["", "\t", "\tx\tPLAIN", "\t-1", "\t4294967296"] {
                assert_eq!(framing(&format!("{command}{id}")), FramingError::Id(command), "{id:?}");
            }
            assert_eq!(rejected(&format!("{command}\t0\tAA==")), (0, Rejection::ZeroId));
        }
    }

    #[test]
    fn continuations() {
        let data = |line: &str| match parse(line) {
            Ok(ClientLine::Cont { id: 9, data }) => data,
            other => panic!("{line:?}: {other:?}"),
        };
        assert_eq!(data("CONT\t9\tc2VjcmV0"), Secret::from("secret"));
        assert!(data("CONT\t9\t").is_empty());
        assert!(data("CONT\t9\t=").is_empty());
        assert_eq!(rejected("CONT\t9"), (9, Rejection::NoData));
        assert_eq!(rejected("CONT\t9\tc2VjcmV"), (9, Rejection::InvalidBase64));
        assert_eq!(rejected("CONT\t9\tc2VjcmV0\tx"), (9, Rejection::AfterResponse));
        assert!(matches!(parse("CANCEL\t7"), Ok(ClientLine::Cancel { id: 7 })));
    }

    #[test]
    fn a_response_may_reach_its_limit() {
        let dialect = Dialect { response_limit: 8, ..Dialect::default() };
        let parse = |line: &'static [u8]| ClientLine::parse(line, &dialect);
        assert!(parse(b"CONT\t1\tAAAAAAAA").is_ok());
        let error = Rejected { id: 1, why: Rejection::TooLong(8) };
        assert_eq!(parse(b"CONT\t1\tAAAAAAAAAAAA").unwrap_err(), error.into());
    }

    #[test]
    fn strange_commands_are_reported_and_not_refused() {
        for (line, name) in [("", ""), ("auth\t1", "auth"), ("GET / HTTP/1.0", "GET / HTTP/1.0")] {
            assert!(matches!(parse(line), Ok(ClientLine::Unknown(n)) if n == name.as_bytes()));
        }
    }

    #[test]
    fn a_rejection_is_one_line_for_its_id() {
        let mut out = Vec::new();
        Rejected { id: 4, why: Rejection::InvalidBase64 }.fail(&mut out);
        Rejected { id: 0, why: Rejection::ZeroId }.fail(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "FAIL\t4\treason=Invalid base64 data\tcode=invalid_base64\n\
             FAIL\t0\treason=Request id must not be 0\n"
        );
    }

    #[test]
    fn debug_shows_no_response() {
        for line in ["AUTH\t1\tPLAIN\tservice=smtp\tresp=aHVudGVyMg==", "CONT\t1\taHVudGVyMg=="] {
            let shown = format!("{:?}", parse(line).unwrap());
            assert!(!shown.contains("hunter2") && !shown.contains("aHVudGVyMg"), "{shown}");
        }
    }
}
