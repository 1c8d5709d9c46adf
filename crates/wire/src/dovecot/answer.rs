//! What a server sends, as a client reads it.

use std::borrow::Cow;

use countersign::Secret;

use super::reply::FailCode;
use super::{MAJOR, decimal, split_field, split_parameter, unescape};
use crate::sasl_data;

/// One line from a server, borrowed from it.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServerLine<'l> {
    /// `VERSION major minor`.
    Version {
        /// Must be [`super::MAJOR`].
        major: u32,
        /// What the server understands.
        minor: u32,
    },
    /// `MECH name flag…`.
    Mech(OfferedMechanism),
    /// `SPID pid`: the server's process id.
    Spid(u32),
    /// `CUID number`: the number of this connection.
    Cuid(u32),
    /// `COOKIE hex`.
    Cookie(&'l [u8]),
    /// `DONE`: the greeting is over.
    Done,
    /// `OK id …`: logged in.
    Ok(Granted<'l>),
    /// `CONT id challenge`: answer with another SASL message.
    Cont {
        /// Which login.
        id: u32,
        /// The challenge, which may be empty.
        challenge: Secret,
    },
    /// `FAIL id …`: refused.
    Fail(Refused<'l>),
    /// `CANCELLED id`, from minor version 4 on.
    Cancelled {
        /// Which login.
        id: u32,
    },
    /// Anything else: ignore it.
    Unknown(&'l [u8]),
}

/// A mechanism that the server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedMechanism {
    /// Its name.
    pub name: String,
    /// Its flags, known or not.
    pub flags: Vec<String>,
}

/// A line that no server should send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("server sent a broken {command} line: {needs}")]
pub struct ServerLineError {
    /// Its first word.
    pub command: &'static str,
    /// What it should have had.
    pub needs: &'static str,
}

impl<'l> ServerLine<'l> {
    /// Reads one line, given without its LF.
    ///
    /// # Errors
    /// A known command with an argument that is absent or malformed.
    pub fn parse(line: &'l [u8]) -> Result<Self, ServerLineError> {
        let (command, rest) = split_field(line);
        let rest = rest.unwrap_or_default();
        Ok(match command {
            b"OK" => {
                let (id, parameters) = numbered("OK", rest)?;
                Self::Ok(Granted { id, parameters: parameters.unwrap_or_default() })
            }
            b"FAIL" => {
                let (id, parameters) = numbered("FAIL", rest)?;
                Self::Fail(Refused { id, parameters: parameters.unwrap_or_default() })
            }
            b"CONT" => {
                let broken = |needs| ServerLineError { command: "CONT", needs };
                let (id, text) = numbered("CONT", rest)?;
                let (text, _) = split_field(text.ok_or(broken("a third field, empty or not"))?);
                let challenge =
                    sasl_data::decode(text).ok_or(broken("base64 as its third field"))?;
                Self::Cont { id, challenge }
            }
            b"CANCELLED" => Self::Cancelled { id: numbered("CANCELLED", rest)?.0 },
            b"VERSION" => {
                let (major, minor) = numbered("VERSION", rest)?;
                let (minor, _) = numbered("VERSION", minor.unwrap_or_default())?;
                Self::Version { major, minor }
            }
            b"MECH" => Self::Mech(mechanism(rest)?),
            b"SPID" => Self::Spid(numbered("SPID", rest)?.0),
            b"CUID" => Self::Cuid(numbered("CUID", rest)?.0),
            b"COOKIE" => Self::Cookie(split_field(rest).0),
            b"DONE" => Self::Done,
            name => Self::Unknown(name),
        })
    }
}

fn numbered<'l>(
    command: &'static str,
    rest: &'l [u8],
) -> Result<(u32, Option<&'l [u8]>), ServerLineError> {
    let (number, rest) = split_field(rest);
    let number = decimal::parse(number)
        .ok_or(ServerLineError { command, needs: "a decimal number of 32 bits" })?;
    Ok((number, rest))
}

fn mechanism(rest: &[u8]) -> Result<OfferedMechanism, ServerLineError> {
    let mut words = rest
        .split(|&byte| byte == b'\t')
        .map(|word| String::from_utf8_lossy(&unescape(word)).into_owned());
    let name = words.next().unwrap_or_default();
    if name.is_empty() {
        return Err(ServerLineError { command: "MECH", needs: "a name" });
    }
    Ok(OfferedMechanism { name, flags: words.collect() })
}

/// A login that succeeded.
#[derive(Debug, Clone, Copy)]
pub struct Granted<'l> {
    /// Which login.
    pub id: u32,
    parameters: &'l [u8],
}

impl<'l> Granted<'l> {
    /// `user=`: who it is, the last one if there are several.
    pub fn user(&self) -> Option<Cow<'l, [u8]>> {
        last(self.parameters, b"user")
    }

    /// `resp=`: SASL data that goes with success; `None` too if it is not base64.
    pub fn response(&self) -> Option<Secret> {
        sasl_data::decode(&last(self.parameters, b"resp")?)
    }

    /// Every field, `user` included: name and value, which is empty for a bare name.
    pub fn fields(&self) -> impl Iterator<Item = (Cow<'l, [u8]>, Cow<'l, [u8]>)> + use<'l> {
        parameters(self.parameters).map(|(name, value)| (unescape(name), unescape(value)))
    }
}

/// A login that was refused.
#[derive(Debug, Clone, Copy)]
pub struct Refused<'l> {
    /// Which login.
    pub id: u32,
    parameters: &'l [u8],
}

impl<'l> Refused<'l> {
    /// `user=`: who was refused.
    pub fn user(&self) -> Option<Cow<'l, [u8]>> {
        last(self.parameters, b"user")
    }

    /// `reason=`: words for a person.
    pub fn reason(&self) -> Option<Cow<'l, [u8]>> {
        last(self.parameters, b"reason")
    }

    /// Why, by `code=` or by the older bare word; `None` for a wrong password, or a word unknown here.
    pub fn code(&self) -> Option<FailCode> {
        if let Some(word) = last(self.parameters, b"code") {
            return FailCode::ALL.into_iter().find(|code| code.as_str().as_bytes() == &*word);
        }
        FailCode::ALL.into_iter().find(|code| {
            code.bare().is_some_and(|word| last(self.parameters, word.as_bytes()).is_some())
        })
    }
}

fn parameters(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    text.split(|&byte| byte == b'\t').filter(|field| !field.is_empty()).map(split_parameter)
}

fn last<'l>(text: &'l [u8], wanted: &[u8]) -> Option<Cow<'l, [u8]>> {
    parameters(text).filter(|&(name, _)| name == wanted).last().map(|(_, value)| unescape(value))
}

/// The greeting, gathered line by line, with the rules that Postfix and Exim hold a server to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ServerHello {
    /// The server's minor version; `None` until it came.
    pub minor: Option<u32>,
    /// What it offers.
    pub mechanisms: Vec<OfferedMechanism>,
    /// Its process id.
    pub spid: Option<u32>,
    /// The number of this connection.
    pub cuid: Option<u32>,
    /// The cookie in hexadecimal digits, as it came.
    pub cookie: Option<Vec<u8>>,
}

/// A greeting that Postfix or Exim would refuse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The first line is another, or the version came twice.
    #[error("the greeting must begin with VERSION, once")]
    Version,
    /// Another major version.
    #[error("the server speaks version {0}, not 1")]
    Major(u32),
    /// `SPID` or `DONE` before any `MECH`.
    #[error("no mechanism before SPID or DONE: is this Dovecot's auth-master socket?")]
    NoMechanism,
    /// `DONE` without `SPID`, `CUID` or `COOKIE`.
    #[error("DONE came before SPID, CUID and COOKIE")]
    Incomplete,
    /// A reply to a request that nobody made.
    #[error("a reply came before DONE")]
    EarlyReply,
}

impl ServerHello {
    /// Takes the next line; `true` when it was `DONE`. Lines with unknown commands are ignored.
    ///
    /// # Errors
    /// When the server breaks the order of the greeting.
    pub fn accept(&mut self, line: &ServerLine<'_>) -> Result<bool, HandshakeError> {
        match line {
            ServerLine::Unknown(_) => return Ok(false),
            ServerLine::Version { major, minor } => {
                if self.minor.is_some() {
                    return Err(HandshakeError::Version);
                }
                if *major != MAJOR {
                    return Err(HandshakeError::Major(*major));
                }
                self.minor = Some(*minor);
                return Ok(false);
            }
            _ if self.minor.is_none() => return Err(HandshakeError::Version),
            ServerLine::Mech(mechanism) => self.mechanisms.push(mechanism.clone()),
            ServerLine::Spid(_) | ServerLine::Done if self.mechanisms.is_empty() => {
                return Err(HandshakeError::NoMechanism);
            }
            ServerLine::Spid(pid) => self.spid = Some(*pid),
            ServerLine::Cuid(number) => self.cuid = Some(*number),
            ServerLine::Cookie(hex) => self.cookie = Some(hex.to_vec()),
            ServerLine::Done => {
                return match (self.spid, self.cuid, &self.cookie) {
                    (Some(_), Some(_), Some(_)) => Ok(true),
                    _ => Err(HandshakeError::Incomplete),
                };
            }
            ServerLine::Ok(_)
            | ServerLine::Cont { .. }
            | ServerLine::Fail(_)
            | ServerLine::Cancelled { .. } => return Err(HandshakeError::EarlyReply),
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Handshake, Lines, MechanismFlag, MechanismOffer};
    use super::*;

    fn greet(bytes: &[u8]) -> Result<(ServerHello, bool), HandshakeError> {
        let mut hello = ServerHello::default();
        let mut done = false;
        for line in Lines::new(bytes, 1000) {
            done = hello.accept(&ServerLine::parse(line.unwrap()).unwrap())?;
        }
        Ok((hello, done))
    }

    #[test]
    fn our_own_greeting() {
        let mut bytes = Vec::new();
        Handshake {
            mechanisms: &[MechanismOffer { name: "PLAIN", flags: &[MechanismFlag::Plaintext] }],
            spid: 5,
            cuid: 6,
            cookie: [0xab; 16],
        }
        .encode(&mut bytes);
        let (hello, done) = greet(&bytes).unwrap();
        assert!(done);
        assert_eq!(hello.minor, Some(2));
        assert_eq!(hello.mechanisms[0].name, "PLAIN");
        assert_eq!(hello.mechanisms[0].flags, ["plaintext"]);
        assert_eq!((hello.spid, hello.cuid), (Some(5), Some(6)));
        assert_eq!(hello.cookie.unwrap(), "ab".repeat(16).into_bytes());
    }

    #[test]
    fn greetings_that_clients_refuse() {
        use HandshakeError::*;
        for (bytes, error) in [
            ("MECH\tPLAIN\n", Version),
            ("VERSION\t1\t2\nVERSION\t1\t2\n", Version),
            ("VERSION\t2\t0\n", Major(2)),
            ("VERSION\t1\t0\nSPID\t1\n", NoMechanism),
            ("VERSION\t1\t0\nDONE\n", NoMechanism),
            ("VERSION\t1\t0\nMECH\tX\nDONE\n", Incomplete),
            ("VERSION\t1\t0\nOK\t1\n", EarlyReply),
        ] {
            assert_eq!(greet(bytes.as_bytes()), Err(error), "{bytes:?}");
        }
        assert!(!greet(b"VERSION\t1\t4\nNEW\tthing\nMECH\tX\tnew-flag\n").unwrap().1);
    }

    #[test]
    fn replies() {
        let line = ServerLine::parse(b"OK\t3\tuser=a\tuser=b\x01tc\tanonymous\tresp=dj0x").unwrap();
        let ServerLine::Ok(granted) = line else { panic!("{line:?}") };
        assert_eq!(granted.id, 3);
        assert_eq!(granted.user().unwrap(), &b"b\tc"[..]);
        assert_eq!(granted.response(), Some(Secret::from("v=1")));
        assert_eq!(granted.fields().count(), 4);

        let code = |line: &'static str| match ServerLine::parse(line.as_bytes()) {
            Ok(ServerLine::Fail(refused)) => refused.code(),
            other => panic!("{other:?}"),
        };
        assert_eq!(code("FAIL\t1\tuser=u"), None);
        assert_eq!(code("FAIL\t1\ttemp"), Some(FailCode::TempFail));
        assert_eq!(code("FAIL\t1\tcode=authz_fail\tauthz"), Some(FailCode::AuthzFail));
        assert_eq!(code("FAIL\t1\tcode=news"), None);
    }

    #[test]
    fn broken_lines() {
        for line in [
            "VERSION",
            "VERSION\t1",
            "VERSION\t1\tx",
            "OK",
            "OK\t",
            "FAIL\t-1",
            "CONT\t1",
            "CONT\t1\t=",
            "MECH",
            "MECH\t",
            "SPID\tx",
            "CUID",
            "CANCELLED",
        ] {
            assert!(ServerLine::parse(line.as_bytes()).is_err(), "{line:?}");
        }
        assert!(matches!(ServerLine::parse(b""), Ok(ServerLine::Unknown(b""))));
    }
}
