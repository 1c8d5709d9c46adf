//! What oned sends.

use std::fmt;

use countersign::Secret;

use super::super::{DriverName, NameError, Profile, UserName};
use super::access::{AccessRequest, number, verdict};
use super::response::{Answer, Response};
use crate::sasl_data;

/// A message of oned.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// `INIT`: answer [`Response::Init`] before anything else.
    Init,
    /// Is this user who they say?
    Authenticate(Authenticate),
    /// May this user do this?
    Authorize(Authorize),
    /// `DRIVER_CANCEL`: nobody waits for this one any more.
    Cancel {
        /// Which.
        id: u64,
    },
    /// `FINALIZE`: take no more, finish what runs, and end with status 0.
    Finalize,
}

/// A login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticate {
    /// To be repeated in the answer.
    pub id: u64,
    /// The user's number; `None` if the user is unknown.
    pub user_id: Option<u32>,
    /// Which driver. It may be one that is not enabled.
    pub driver: DriverName,
    /// Who.
    pub user: UserName,
    /// What is stored as the user's password; `None` for nothing.
    pub stored: Option<Secret>,
    /// What the user sent: any bytes, at least one.
    pub secret: Secret,
}

/// A call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorize {
    /// To be repeated in the answer. Shares its counter with [`Authenticate`].
    pub id: u64,
    /// The user's number.
    pub user_id: u32,
    /// All that the call wants to do.
    pub requests: Vec<AccessRequest>,
    /// What oned's own rules say about all of it.
    pub verdict: bool,
}

/// How a secret is spelt in AUTHENTICATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SecretEncoding {
    /// As it is: up to 6.2.
    Raw,
    /// Base64: from 6.4.
    Base64,
    /// By the message: base64 after two blanks, raw after one. Right for every version but 6.0 and 6.2, whose
    /// messages look like those of 6.4; there a secret that is not base64 is refused, and one that is becomes
    /// another secret. Nobody gets in by it who does not know the secret, but its owner may not.
    #[default]
    ByFraming,
}

impl From<Profile> for SecretEncoding {
    fn from(profile: Profile) -> Self {
        if profile.encodes_secrets() { Self::Base64 } else { Self::Raw }
    }
}

/// The messages that have an answer with an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// A login.
    Authenticate,
    /// A call.
    Authorize,
}

/// A line that is no message. It repeats nothing of the line but the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadRequest {
    /// Who waits for an answer, where that can be read.
    pub waits: Option<(Verb, u64)>,
    /// What is wrong.
    pub why: RequestFault,
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestFault {
    /// A verb that the manager does not know.
    #[error("unknown message")]
    Verb,
    /// A blank before the verb.
    #[error("blank before the message")]
    LeadingBlank,
    /// More bytes than a line may have.
    #[error("message too long")]
    TooLong,
    /// The id is not a number.
    #[error("the request's id is not a number")]
    Id,
    /// The user's number is none.
    #[error("the user's id is not a number")]
    UserId,
    /// Too many or too few fields, as when a raw secret has a blank.
    #[error("{found} fields instead of {expected}; is there a blank in a password or a name?")]
    Fields {
        /// How many there are after the verb.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// The two blanks of 6.0 without the blank at the end: what belongs to the secret cannot be known.
    #[error("the blank at the end of the message is missing")]
    NoEnd,
    /// The driver's name is none.
    #[error("driver: {0}")]
    Driver(NameError),
    /// The user's name is none.
    #[error("user: {0}")]
    User(NameError),
    /// The user sent nothing. No driver is asked: some would take it for an anonymous login.
    #[error("the secret is empty")]
    EmptySecret,
    /// The secret should be base64.
    #[error(
        "the secret is not base64; OpenNebula before 6.4 sends it raw, which the version must say"
    )]
    Base64,
    /// A request of AUTHORIZE is none, by its place, from 1.
    #[error("request {0} is not OBJECT:id:OPERATION:owner:permitted")]
    Access(usize),
    /// AUTHORIZE does not end in 0 or 1.
    #[error("the verdict is not 0 or 1")]
    Verdict,
}

impl Request {
    /// Reads a line without its LF. `None`: an empty line, which oned sends after each message from 6.0.
    ///
    /// # Errors
    /// Anything else that is no message; see [`BadRequest::refuse`].
    pub fn parse(line: &[u8], encoding: SecretEncoding) -> Result<Option<Self>, BadRequest> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let bad = |why| BadRequest { waits: waits(line), why };
        if line[0].is_ascii_whitespace() {
            return Err(bad(RequestFault::LeadingBlank));
        }
        // Exactly these blanks and no runs of them: with runs, a blank that belongs to a secret would be lost.
        let mut fields: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
        let verb = fields.remove(0).to_ascii_uppercase();
        let empty_status = fields.len() > 1 && fields[0].is_empty();
        if empty_status {
            fields.remove(0);
        }
        match &verb[..] {
            b"INIT" => Ok(Some(Self::Init)),
            b"FINALIZE" => Ok(Some(Self::Finalize)),
            b"AUTHENTICATE" => authenticate(fields, empty_status, encoding)
                .map(|login| Some(Self::Authenticate(login)))
                .map_err(bad),
            b"AUTHORIZE" => authorize(fields).map(|call| Some(Self::Authorize(call))).map_err(bad),
            b"DRIVER_CANCEL" => {
                let id = fields.first().copied().and_then(id).ok_or(bad(RequestFault::Id))?;
                Ok(Some(Self::Cancel { id }))
            }
            _ => Err(bad(RequestFault::Verb)),
        }
    }

    /// Appends the message as oned of this version sends it, with the empty line after it.
    ///
    /// # Errors
    /// A value that would make a second line. oned has no such check.
    pub fn encode(&self, profile: Profile, out: &mut Vec<u8>) -> Result<(), CannotSend> {
        let gap = if profile.has_empty_status() { "  " } else { " " };
        let end: &[u8] = if profile.has_empty_status() { b"\n\n" } else { b"\n" };
        match self {
            Self::Init => out.extend_from_slice(b"INIT\n"),
            Self::Finalize => out.extend_from_slice(b"FINALIZE\n"),
            Self::Cancel { id } => {
                out.extend_from_slice(format!("DRIVER_CANCEL {id}\n").as_bytes())
            }
            Self::Authenticate(login) => {
                let stored = match &login.stored {
                    Some(stored) if !stored.is_empty() || profile < Profile::V7_3_80 => {
                        stored.expose()
                    }
                    _ => b"-",
                };
                let raw = !profile.encodes_secrets();
                if stored.contains(&b'\n') || raw && login.secret.expose().contains(&b'\n') {
                    return Err(CannotSend);
                }
                let Authenticate { id, user_id, driver, user, .. } = login;
                let user_id = user_id.map_or(-1, i64::from);
                out.extend_from_slice(
                    format!("AUTHENTICATE{gap}{id} {user_id} {driver} {user} ").as_bytes(),
                );
                out.extend_from_slice(stored);
                out.push(b' ');
                match raw {
                    true => out.extend_from_slice(login.secret.expose()),
                    false => sasl_data::encode(login.secret.expose(), out),
                }
                if profile.has_empty_status() {
                    out.push(b' ');
                }
                out.extend_from_slice(end);
            }
            Self::Authorize(call) => {
                let Authorize { id, user_id, requests, verdict } = call;
                out.extend_from_slice(format!("AUTHORIZE{gap}{id} {user_id}").as_bytes());
                for request in requests {
                    out.extend_from_slice(format!(" {request}").as_bytes());
                }
                out.extend_from_slice(if *verdict { b" 1" } else { b" 0" });
                out.extend_from_slice(end);
            }
        }
        Ok(())
    }
}

/// A value of a message has an LF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a password with a line end cannot be sent")]
pub struct CannotSend;

impl BadRequest {
    /// A line that was too long, by its first bytes ([`super::Line::TooLong`]).
    pub fn too_long(head: &[u8]) -> Self {
        Self { waits: waits(head), why: RequestFault::TooLong }
    }

    /// Appends the answer `VERB FAILURE id reason`. `false`: nobody can be answered, so it is one for the log.
    pub fn refuse(&self, out: &mut Vec<u8>) -> bool {
        let Some((verb, id)) = self.waits else { return false };
        let why = self.why.to_string();
        match verb {
            Verb::Authenticate => Response::Authenticate { id, answer: Answer::No(&why) },
            Verb::Authorize => Response::Authorize { id, answer: Err(&why) },
        }
        .encode(out);
        true
    }
}

impl fmt::Display for BadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.waits {
            Some((_, id)) => write!(f, "request {id}: {}", self.why),
            None => self.why.fmt(f),
        }
    }
}

impl std::error::Error for BadRequest {}

fn authenticate(
    mut fields: Vec<&[u8]>,
    empty_status: bool,
    encoding: SecretEncoding,
) -> Result<Authenticate, RequestFault> {
    let raw = match encoding {
        SecretEncoding::Raw => true,
        SecretEncoding::Base64 => false,
        SecretEncoding::ByFraming => !empty_status,
    };
    if empty_status {
        if fields.len() > 6 && fields.last().is_some_and(|field| field.is_empty()) {
            fields.pop();
        } else if raw {
            return Err(RequestFault::NoEnd);
        }
    }
    let id = fields.first().copied().and_then(id).ok_or(RequestFault::Id)?;
    let [_, user_id, driver, user, stored, secret] = fields[..] else {
        return Err(RequestFault::Fields { found: fields.len(), expected: 6 });
    };
    let user_id = match std::str::from_utf8(user_id).map_err(drop).and_then(number) {
        Ok(number) => u32::try_from(number).ok(),
        Err(()) => return Err(RequestFault::UserId),
    };
    let driver = DriverName::from_bytes(driver).map_err(RequestFault::Driver)?;
    let user = UserName::from_bytes(user).map_err(RequestFault::User)?;
    // Before 7.3.80 an empty stored password is an empty field, for which OpenNebula's own manager drops the message.
    let stored = (!matches!(stored, b"" | b"-")).then(|| stored.into());
    let secret = match raw {
        true => secret.into(),
        false => sasl_data::decode(secret).ok_or(RequestFault::Base64)?,
    };
    if secret.is_empty() {
        return Err(RequestFault::EmptySecret);
    }
    Ok(Authenticate { id, user_id, driver, user, stored, secret })
}

fn authorize(mut fields: Vec<&[u8]>) -> Result<Authorize, RequestFault> {
    if fields.last().is_some_and(|field| field.is_empty()) {
        fields.pop();
    }
    let id = fields.first().copied().and_then(id).ok_or(RequestFault::Id)?;
    let [_, user_id, requests @ .., last] = &fields[..] else {
        return Err(RequestFault::Fields { found: fields.len(), expected: 4 });
    };
    let user_id = std::str::from_utf8(user_id).map_err(drop).and_then(number);
    let user_id = user_id.ok().and_then(|number| u32::try_from(number).ok());
    let user_id = user_id.ok_or(RequestFault::UserId)?;
    let verdict = std::str::from_utf8(last).map_err(drop).and_then(verdict);
    let verdict = verdict.map_err(|()| RequestFault::Verdict)?;
    let requests = requests.iter().enumerate().map(|(place, request)| {
        let request = std::str::from_utf8(request).map_err(drop).and_then(str::parse);
        request.map_err(|()| RequestFault::Access(place + 1))
    });
    Ok(Authorize { id, user_id, requests: requests.collect::<Result<_, _>>()?, verdict })
}

/// Who waits, read as generously as possible: an answer to nobody is ignored, no answer costs 90 seconds.
fn waits(line: &[u8]) -> Option<(Verb, u64)> {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let verb = words.next()?.to_ascii_uppercase();
    let verb = match &verb[..] {
        b"AUTHENTICATE" => Verb::Authenticate,
        b"AUTHORIZE" => Verb::Authorize,
        _ => return None,
    };
    Some((verb, words.next().and_then(id)?))
}

/// Digits only, at most nineteen.
pub(super) fn id(text: &[u8]) -> Option<u64> {
    let plain = (1..=19).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    plain.then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(line: &str, encoding: SecretEncoding) -> Result<Authenticate, BadRequest> {
        match Request::parse(line.as_bytes(), encoding) {
            Ok(Some(Request::Authenticate(login))) => Ok(login),
            Err(bad) => Err(bad),
            other => panic!("{other:?}"),
        }
    }

    fn why(line: &str, encoding: SecretEncoding) -> RequestFault {
        let bad = login(line, encoding).unwrap_err();
        assert_eq!(bad.waits, Some((Verb::Authenticate, 7)), "{line}");
        bad.why
    }

    const B: SecretEncoding = SecretEncoding::Base64;
    const R: SecretEncoding = SecretEncoding::Raw;

    fn sample(stored: Option<&str>) -> Authenticate {
        Authenticate {
            id: 7,
            user_id: Some(2),
            driver: "ldap".parse().unwrap(),
            user: "zoë".parse().unwrap(),
            stored: stored.map(Secret::from),
            secret: "pa ss".into(),
        }
    }

    #[test]
    fn the_bytes_of_each_version() {
        // M3, M4
        let sent = |profile, login: Authenticate| {
            let mut out = Vec::new();
            Request::Authenticate(login).encode(profile, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        for profile in [Profile::V6_4, Profile::V7_0, Profile::V7_3_80] {
            assert_eq!(
                sent(profile, sample(Some("cn=zoë"))),
                "AUTHENTICATE  7 2 ldap zoë cn=zoë cGEgc3M= \n\n"
            );
        }
        let unknown = || Authenticate { user_id: None, secret: "pass".into(), ..sample(None) };
        assert_eq!(sent(Profile::V5_4, unknown()), "AUTHENTICATE 7 -1 ldap zoë - pass\n");
        assert_eq!(sent(Profile::V5_6, unknown()), "AUTHENTICATE 7 -1 ldap zoë - pass\n");
        assert_eq!(sent(Profile::V6_2, unknown()), "AUTHENTICATE  7 -1 ldap zoë - pass \n\n");
        assert_eq!(
            sent(Profile::V7_3_80, unknown()),
            "AUTHENTICATE  7 -1 ldap zoë - cGFzcw== \n\n"
        );
        let empty = sample(Some(""));
        assert_eq!(sent(Profile::V7_0, empty.clone()), "AUTHENTICATE  7 2 ldap zoë  cGEgc3M= \n\n");
        assert_eq!(sent(Profile::V7_3_80, empty), "AUTHENTICATE  7 2 ldap zoë - cGEgc3M= \n\n");
    }

    #[test]
    fn logins_are_read() {
        // M3, M4
        assert_eq!(
            login("AUTHENTICATE  7 2 ldap zoë cn=zoë cGEgc3M= ", B),
            Ok(sample(Some("cn=zoë")))
        );
        assert_eq!(login("authenticate 7 2 ldap zoë - cGEgc3M=", B), Ok(sample(None)));
        let raw = login("AUTHENTICATE 7 -1 ldap zoë - pa:ss", R).unwrap();
        assert_eq!((raw.user_id, raw.secret), (None, Secret::from("pa:ss")));
        let raw = login("AUTHENTICATE  7 -1 ldap zoë - pa:ss ", R).unwrap();
        assert_eq!(raw.secret, Secret::from("pa:ss"));
        let any = SecretEncoding::ByFraming;
        assert_eq!(
            login("AUTHENTICATE 7 2 ldap u - cGE=", any).unwrap().secret,
            Secret::from("cGE=")
        );
        assert_eq!(
            login("AUTHENTICATE  7 2 ldap u - cGE= ", any).unwrap().secret,
            Secret::from("pa")
        );
        let bytes = login("AUTHENTICATE  7 2 ldap u - AP8K ", B).unwrap();
        assert_eq!(bytes.secret.expose(), b"\0\xff\n");
    }

    #[test]
    fn an_empty_stored_password_is_no_reason_to_hang() {
        // M5
        assert_eq!(login("AUTHENTICATE  7 2 ldap zoë  cGEgc3M= ", B), Ok(sample(None)));
        assert_eq!(login("AUTHENTICATE 7 2 ldap u  pass", R).unwrap().stored, None);
    }

    #[test]
    fn nothing_is_cut_off_a_secret() {
        // M6
        let fields = |found| RequestFault::Fields { found, expected: 6 };
        assert_eq!(why("AUTHENTICATE 7 2 ldap u - a b", R), fields(7));
        assert_eq!(why("AUTHENTICATE 7 2 ldap u - a ", R), fields(7));
        assert_eq!(why("AUTHENTICATE 7 2 ldap u -  a", R), fields(7));
        assert_eq!(why("AUTHENTICATE  7 2 ldap u - a  ", R), fields(7));
        assert_eq!(why("AUTHENTICATE  7 2 ldap u - a", R), RequestFault::NoEnd);
        assert_eq!(why("AUTHENTICATE  7 2 ldap u x  cGE= ", B), fields(7));
        let tab = login("AUTHENTICATE 7 2 ldap u - \ta\t", R).unwrap();
        assert_eq!(tab.secret, Secret::from("\ta\t"));
    }

    #[test]
    fn every_bad_login_has_an_answer() {
        // M8
        let fields = |found| RequestFault::Fields { found, expected: 6 };
        for (line, fault) in [
            ("AUTHENTICATE  7 2 ldap u -  ", RequestFault::EmptySecret),
            ("AUTHENTICATE  7 2 ldap u - = ", RequestFault::Base64),
            ("AUTHENTICATE  7 2 ldap u - pass! ", RequestFault::Base64),
            ("AUTHENTICATE  7", fields(1)),
            ("AUTHENTICATE  7 2 ldap", fields(3)),
            ("AUTHENTICATE  7 -2 ldap u - cGE= ", RequestFault::UserId),
            ("AUTHENTICATE  7 x ldap u - cGE= ", RequestFault::UserId),
            (
                "AUTHENTICATE  7 2 ../../x u - cGE= ",
                RequestFault::Driver(NameError::Character('.')),
            ),
            ("AUTHENTICATE  7 2 ldap a;b - cGE= ", RequestFault::User(NameError::Character(';'))),
            ("AUTHENTICATE  7 2 ldap  - cGE= ", RequestFault::User(NameError::Empty)),
            (" AUTHENTICATE 7 2 ldap u - cGE= ", RequestFault::LeadingBlank),
            ("AUTHENTICATE   7 2 ldap u - cGE= ", RequestFault::Id),
            ("AUTHENTICATE\t7\t2\tldap\tu\t-\tcGE=", RequestFault::Verb),
        ] {
            assert_eq!(why(line, B), fault, "{line}");
        }
        assert_eq!(why("AUTHENTICATE 7 2 ldap u - ", R), RequestFault::EmptySecret);
        let bad = BadRequest::too_long(b"AUTHENTICATE  7 2 ldap u - cGE");
        let mut out = Vec::new();
        assert!(bad.refuse(&mut out));
        assert_eq!(out, b"AUTHENTICATE FAILURE 7 message too long\n");
    }

    #[test]
    fn calls() {
        // M7
        let line = "AUTHORIZE  3 2 VM:10:MANAGE:3:0 TEMPLATE:-:USE:2:1 0";
        let Ok(Some(call)) = Request::parse(line.as_bytes(), B) else { panic!() };
        let mut out = Vec::new();
        call.encode(Profile::V7_0, &mut out).unwrap();
        assert_eq!(out, format!("{line}\n\n").as_bytes());
        let Request::Authorize(call) = call else { panic!() };
        assert_eq!((call.id, call.user_id, call.requests.len(), call.verdict), (3, 2, 2, false));
        for (line, fault) in [
            ("AUTHORIZE  3 2 VM:10:MANAGE:3:0 2", RequestFault::Verdict),
            ("AUTHORIZE  3 2 VM:10:MANAGE:3 1", RequestFault::Access(1)),
            ("AUTHORIZE  3 -1 VM:10:MANAGE:3:0 1", RequestFault::UserId),
            ("AUTHORIZE  3 1", RequestFault::Fields { found: 2, expected: 4 }),
        ] {
            let bad = Request::parse(line.as_bytes(), B).unwrap_err();
            assert_eq!(bad, BadRequest { waits: Some((Verb::Authorize, 3)), why: fault }, "{line}");
            let mut out = Vec::new();
            assert!(bad.refuse(&mut out) && out.starts_with(b"AUTHORIZE FAILURE 3 "));
        }
    }

    #[test]
    fn the_others() {
        for (line, request) in [
            ("INIT", Some(Request::Init)),
            ("FINALIZE", Some(Request::Finalize)),
            ("DRIVER_CANCEL 12", Some(Request::Cancel { id: 12 })),
            ("", None),
            (" ", None),
        ] {
            assert_eq!(Request::parse(line.as_bytes(), B), Ok(request), "{line}");
        }
        for line in [
            "LOG I 1 x",
            "AUTHENTICATION 7",
            "DRIVER_CANCEL x",
            "AUTHENTICATE",
            "AUTHENTICATE x",
            "\0",
        ] {
            let bad = Request::parse(line.as_bytes(), B).unwrap_err();
            assert_eq!(bad.waits, None, "{line}");
            assert!(!bad.refuse(&mut Vec::new()));
        }
    }
}
