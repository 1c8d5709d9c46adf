//! What a client of the master socket sends, read and written.

use std::borrow::Cow;
use std::net::IpAddr;

use subtle::ConstantTimeEq as _;

use super::super::reply::{begin, field};
use super::super::{FramingError, MAJOR, decimal, escape, split_field, split_parameter, unescape};
use super::MASTER_MINOR;

/// One line from a client, borrowed from it.
#[derive(Debug)]
#[non_exhaustive]
pub enum MasterLine<'l> {
    /// `VERSION major minor`. The major must be [`super::super::MAJOR`].
    Version {
        /// Must be ours.
        major: u32,
        /// What the client understands.
        minor: u32,
    },
    /// `USER id name …`: where is this user's mail?
    User(Lookup<'l>),
    /// `PASS id name …`: what would a login of this user come to, apart from the password?
    Pass(Lookup<'l>),
    /// `LIST id …`: who is there?
    List(List<'l>),
    /// `REQUEST id pid request cookie …`: who was it that logged in there?
    Request(Handover<'l>),
    /// `CACHE-FLUSH id [mask…]`: forget what was remembered.
    CacheFlush {
        /// Which request.
        id: u32,
        /// User masks, still escaped and separated by TAB; nothing means everybody.
        masks: &'l [u8],
    },
    /// `CACHE-STATUS id [reset]`.
    CacheStatus {
        /// Which request.
        id: u32,
        /// Whether to count from zero afterwards.
        reset: bool,
    },
    /// A command that is not in this protocol: ignore it.
    Unknown(&'l [u8]),
}

/// A request about one user, by name.
#[derive(Debug, Clone, Copy)]
pub struct Lookup<'l> {
    /// The id that the reply repeats, never 0.
    pub id: u32,
    user: &'l [u8],
    parameters: &'l [u8],
}

/// A request for the names of all users.
#[derive(Debug, Clone, Copy)]
pub struct List<'l> {
    /// The id that the replies repeat, never 0.
    pub id: u32,
    parameters: &'l [u8],
}

/// A request about a login of a moment ago.
#[derive(Debug, Clone, Copy)]
pub struct Handover<'l> {
    /// The id that the reply repeats, never 0.
    pub id: u32,
    /// The process that the login came from: its `CPID`.
    pub client_pid: u32,
    /// The id that the login had there.
    pub client_id: u32,
    /// The cookie of the connection on which it was, as proof of having been told.
    pub cookie: Cookie,
    parameters: &'l [u8],
}

/// A connection's cookie. Compared in the same time whatever differs; not shown.
#[derive(Clone, Copy)]
pub struct Cookie(pub [u8; 16]);

impl Cookie {
    /// From 32 hexadecimal digits.
    pub fn from_hex(text: &[u8]) -> Option<Self> {
        let (pairs, []) = text.as_chunks::<2>() else { return None };
        let mut cookie = [0; 16];
        if pairs.len() != cookie.len() {
            return None;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        for (byte, [high, low]) in cookie.iter_mut().zip(pairs) {
            // Two digits of four bits fit.
            *byte = (digit(*high)? << 4 | digit(*low)?) as u8;
        }
        Some(Self(cookie))
    }
}

impl PartialEq for Cookie {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Cookie {}

impl std::fmt::Debug for Cookie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cookie(…)")
    }
}

/// Why a line is not a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MasterError {
    /// One request is wrong and has an id: answer that id with FAIL and go on.
    #[error(transparent)]
    Rejected(#[from] MasterRejected),
    /// The peer does not speak this protocol: close.
    #[error(transparent)]
    Framing(#[from] FramingError),
}

/// A request that fails by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("request {id}: {why}")]
pub struct MasterRejected {
    /// The id to answer.
    pub id: u32,
    /// What is wrong with it.
    pub why: MasterRejection,
}

/// What is wrong with one request. The text may be sent to the peer: it repeats nothing the peer sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MasterRejection {
    /// Ids count from 1.
    #[error("Request id must not be 0")]
    ZeroId,
    /// USER or PASS without a name.
    #[error("User name missing")]
    NoUser,
    /// REQUEST without the client's pid and the id of the login.
    #[error("Client pid and request id missing")]
    NoLogin,
    /// REQUEST without a cookie of 32 hexadecimal digits.
    #[error("Cookie missing or malformed")]
    NoCookie,
}

impl<'l> MasterLine<'l> {
    /// Reads one line, given without its LF.
    ///
    /// # Errors
    /// [`MasterError::Rejected`] for what concerns one id, [`MasterError::Framing`] for what cannot be
    /// answered.
    pub fn parse(line: &'l [u8]) -> Result<Self, MasterError> {
        let (command, rest) = split_field(line);
        Ok(match command {
            b"USER" => Self::User(lookup("USER", rest)?),
            b"PASS" => Self::Pass(lookup("PASS", rest)?),
            b"LIST" => {
                let (id, parameters) = numbered("LIST", rest)?;
                Self::List(List { id, parameters })
            }
            b"REQUEST" => Self::Request(handover(rest)?),
            b"CACHE-FLUSH" => {
                let (id, masks) = numbered("CACHE-FLUSH", rest)?;
                Self::CacheFlush { id, masks }
            }
            b"CACHE-STATUS" => {
                let (id, rest) = numbered("CACHE-STATUS", rest)?;
                Self::CacheStatus { id, reset: split_field(rest).0 == b"reset" }
            }
            b"VERSION" => version(rest).ok_or(FramingError::Version)?,
            name => Self::Unknown(name),
        })
    }
}

impl<'l> Lookup<'l> {
    /// Whom it is about. Not empty.
    pub fn user(&self) -> Cow<'l, [u8]> {
        unescape(self.user)
    }

    /// `service`: `lmtp`, `doveadm`, `imap`; empty if not said.
    pub fn service(&self) -> Cow<'l, [u8]> {
        value(self.parameters, "service").unwrap_or_default()
    }

    /// `rip`: where the user's connection came from.
    pub fn remote_ip(&self) -> Option<IpAddr> {
        let text = value(self.parameters, "rip")?;
        let address: IpAddr = std::str::from_utf8(&text).ok()?.parse().ok()?;
        Some(address.to_canonical())
    }
}

impl<'l> List<'l> {
    /// `user`: only names that match, with `*` for anything and `?` for one character.
    pub fn mask(&self) -> Option<Cow<'l, [u8]>> {
        value(self.parameters, "user").filter(|mask| !mask.is_empty())
    }
}

impl<'l> Handover<'l> {
    /// `session_pid`: the process that the login is handed to, in the asker's own words.
    pub fn session_pid(&self) -> Option<u32> {
        decimal::parse(&value(self.parameters, "session_pid")?)
    }
}

fn version<'l>(rest: Option<&[u8]>) -> Option<MasterLine<'l>> {
    let (major, rest) = split_field(rest?);
    let (minor, _) = split_field(rest?);
    Some(MasterLine::Version { major: decimal::parse(major)?, minor: decimal::parse(minor)? })
}

/// The id, and what follows it.
fn numbered<'l>(
    command: &'static str,
    rest: Option<&'l [u8]>,
) -> Result<(u32, &'l [u8]), MasterError> {
    let (id, rest) = split_field(rest.unwrap_or_default());
    match decimal::parse(id) {
        None => Err(FramingError::Id(command).into()),
        Some(0) => Err(MasterRejected { id: 0, why: MasterRejection::ZeroId }.into()),
        Some(id) => Ok((id, rest.unwrap_or_default())),
    }
}

fn lookup<'l>(command: &'static str, rest: Option<&'l [u8]>) -> Result<Lookup<'l>, MasterError> {
    let (id, rest) = numbered(command, rest)?;
    let (user, parameters) = split_field(rest);
    if user.is_empty() {
        return Err(MasterRejected { id, why: MasterRejection::NoUser }.into());
    }
    Ok(Lookup { id, user, parameters: parameters.unwrap_or_default() })
}

fn handover(rest: Option<&[u8]>) -> Result<Handover<'_>, MasterError> {
    let (id, rest) = numbered("REQUEST", rest)?;
    let reject = |why| MasterRejected { id, why };
    let (pid, rest) = split_field(rest);
    let (request, rest) = split_field(rest.unwrap_or_default());
    let numbers = decimal::parse(pid).zip(decimal::parse(request));
    let (client_pid, client_id) = numbers.ok_or(reject(MasterRejection::NoLogin))?;
    let (cookie, parameters) = split_field(rest.unwrap_or_default());
    let cookie = Cookie::from_hex(cookie).ok_or(reject(MasterRejection::NoCookie))?;
    let parameters = parameters.unwrap_or_default();
    Ok(Handover { id, client_pid, client_id, cookie, parameters })
}

/// The value of a parameter; of one that comes twice the last counts.
fn value<'l>(parameters: &'l [u8], wanted: &str) -> Option<Cow<'l, [u8]>> {
    let mut fields = parameters.split(|byte| *byte == b'\t').map(split_parameter);
    let found = fields.rfind(|(name, _)| *name == wanted.as_bytes());
    found.map(|(_, value)| unescape(value))
}

/// Appends `VERSION 1 minor`, all that a client says of itself.
pub fn encode_hello(out: &mut Vec<u8>) {
    begin(out, b"VERSION", MAJOR);
    out.push(b'\t');
    decimal::push(out, MASTER_MINOR);
    out.push(b'\n');
}

/// Writes one USER or PASS line, parameter by parameter; ended by [`LookupWriter::end`].
#[must_use = "the line has no end yet"]
#[derive(Debug)]
pub struct LookupWriter<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> LookupWriter<'o> {
    /// Begins `USER id user service=…`.
    pub fn user(out: &'o mut Vec<u8>, id: u32, user: &[u8], service: &str) -> Self {
        Self::begin(out, b"USER", id, user, service)
    }

    /// Begins `PASS id user service=…`.
    pub fn pass(out: &'o mut Vec<u8>, id: u32, user: &[u8], service: &str) -> Self {
        Self::begin(out, b"PASS", id, user, service)
    }

    fn begin(out: &'o mut Vec<u8>, command: &[u8], id: u32, user: &[u8], service: &str) -> Self {
        begin(out, command, id);
        out.push(b'\t');
        escape(user, out);
        field(out, "service", Some(service.as_bytes()));
        Self { out }
    }

    /// `name=value`: `rip`, `lip`, …
    pub fn param(self, name: &str, value: &[u8]) -> Self {
        field(self.out, name, Some(value));
        self
    }

    /// Ends the line.
    pub fn end(self) {
        self.out.push(b'\n');
    }
}

/// Appends `LIST id service=doveadm [user=mask]`.
pub fn encode_list(out: &mut Vec<u8>, id: u32, mask: Option<&[u8]>) {
    begin(out, b"LIST", id);
    field(out, "service", Some(b"doveadm"));
    if let Some(mask) = mask {
        field(out, "user", Some(mask));
    }
    out.push(b'\n');
}

/// Appends `REQUEST id pid request cookie`.
pub fn encode_request(out: &mut Vec<u8>, id: u32, client_pid: u32, client_id: u32, cookie: Cookie) {
    begin(out, b"REQUEST", id);
    for number in [client_pid, client_id] {
        out.push(b'\t');
        decimal::push(out, number);
    }
    out.push(b'\t');
    for byte in cookie.0 {
        for digit in [byte >> 4, byte & 15] {
            out.push(b"0123456789abcdef"[usize::from(digit)]);
        }
    }
    out.push(b'\n');
}

/// Appends `CACHE-FLUSH id [mask…]`.
pub fn encode_cache_flush(out: &mut Vec<u8>, id: u32, masks: &[&[u8]]) {
    begin(out, b"CACHE-FLUSH", id);
    for mask in masks {
        out.push(b'\t');
        escape(mask, out);
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(line: &str) -> (u32, MasterRejection) {
        match MasterLine::parse(line.as_bytes()) {
            Err(MasterError::Rejected(MasterRejected { id, why })) => (id, why),
            other => panic!("{line:?}: {other:?}"),
        }
    }

    #[test]
    fn as_doveadm_and_lmtp_write_it() {
        let line = b"USER\t7\tann\x01tb@example.org\tservice=lmtp\trip=::ffff:192.0.2.7\tdebug";
        let MasterLine::User(lookup) = MasterLine::parse(line).unwrap() else { panic!() };
        assert_eq!((lookup.id, &*lookup.user()), (7, &b"ann\tb@example.org"[..]));
        assert_eq!(&*lookup.service(), b"lmtp");
        assert_eq!(lookup.remote_ip(), Some([192, 0, 2, 7].into()));

        let MasterLine::List(list) =
            MasterLine::parse(b"LIST\t1\tservice=doveadm\tuser=a*").unwrap()
        else {
            panic!()
        };
        assert_eq!(list.mask().as_deref(), Some(&b"a*"[..]));
        let MasterLine::List(list) = MasterLine::parse(b"LIST\t1\t").unwrap() else { panic!() };
        assert!(list.mask().is_none());

        let line = b"CACHE-FLUSH\t3\tann\tbob";
        let MasterLine::CacheFlush { id: 3, masks } = MasterLine::parse(line).unwrap() else {
            panic!()
        };
        assert_eq!(masks, b"ann\tbob");
        assert!(matches!(
            MasterLine::parse(b"CACHE-STATUS\t3\treset"),
            Ok(MasterLine::CacheStatus { id: 3, reset: true })
        ));
        assert!(matches!(MasterLine::parse(b"CPID\t3"), Ok(MasterLine::Unknown(b"CPID"))));
    }

    #[test]
    fn a_login_is_named_by_process_id_and_cookie() {
        let line = b"REQUEST\t2\t1234\t5\t000102030405060708090a0b0c0d0e0F\tsession_pid=99\trequest_auth_token";
        let MasterLine::Request(handover) = MasterLine::parse(line).unwrap() else { panic!() };
        let Handover { id, client_pid, client_id, cookie, .. } = handover;
        assert_eq!((id, client_pid, client_id), (2, 1234, 5));
        assert_eq!(cookie, Cookie([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]));
        assert_ne!(cookie, Cookie([0; 16]));
        assert_eq!(handover.session_pid(), Some(99));
        assert_eq!(format!("{cookie:?}"), "Cookie(…)");

        let mut out = Vec::new();
        encode_request(&mut out, 2, 1234, 5, cookie);
        assert_eq!(out, b"REQUEST\t2\t1234\t5\t000102030405060708090a0b0c0d0e0f\n");
    }

    #[test]
    fn what_is_wrong_with_one_request_names_it() {
        assert_eq!(rejected("USER\t0\tann"), (0, MasterRejection::ZeroId));
        assert_eq!(rejected("USER\t1"), (1, MasterRejection::NoUser));
        assert_eq!(rejected("PASS\t1\t\tservice=x"), (1, MasterRejection::NoUser));
        assert_eq!(rejected("REQUEST\t1"), (1, MasterRejection::NoLogin));
        assert_eq!(rejected("REQUEST\t1\tx\t1\t00"), (1, MasterRejection::NoLogin));
        assert_eq!(rejected("REQUEST\t1\t2\t3"), (1, MasterRejection::NoCookie));
        for cookie in ["00", "0001020304050607", "zz0102030405060708090a0b0c0d0e0f"] {
            let line = format!("REQUEST\t1\t2\t3\t{cookie}");
            assert_eq!(rejected(&line), (1, MasterRejection::NoCookie));
        }
        for line in ["USER", "USER\tx\tann", "LIST\t-1", "VERSION\t1", "CACHE-FLUSH\t"] {
            let parsed = MasterLine::parse(line.as_bytes());
            assert!(matches!(parsed, Err(MasterError::Framing(_))), "{line:?}: {parsed:?}");
        }
    }

    #[test]
    fn what_a_client_writes_a_server_reads() {
        let mut out = Vec::new();
        encode_hello(&mut out);
        LookupWriter::pass(&mut out, 1, b"a\tb", "imap").param("rip", b"192.0.2.1").end();
        encode_list(&mut out, 2, Some(b"a?"));
        encode_cache_flush(&mut out, 3, &[b"ann", b"b*"]);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "VERSION\t1\t1\nPASS\t1\ta\u{1}tb\tservice=imap\trip=192.0.2.1\n\
             LIST\t2\tservice=doveadm\tuser=a?\nCACHE-FLUSH\t3\tann\tb*\n"
        );
    }
}
