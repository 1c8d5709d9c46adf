//! What the server sends.

use super::{MAJOR, MINOR, decimal, escape};
use crate::sasl_data;

/// The lines with which a server greets, before it hears anything: Exim waits for them, and Postfix does
/// not mind.
#[derive(Debug, Clone, Copy)]
pub struct Handshake<'h> {
    /// What may be asked for, at least one: without, clients take this for another kind of socket.
    pub mechanisms: &'h [MechanismOffer<'h>],
    /// The server's process id.
    pub spid: u32,
    /// The number of this connection.
    pub cuid: u32,
    /// Unguessable, one for each connection.
    pub cookie: [u8; 16],
}

/// One line `MECH`.
#[derive(Debug, Clone, Copy)]
pub struct MechanismOffer<'h> {
    /// Its name in capitals.
    pub name: &'h str,
    /// What to think of it.
    pub flags: &'h [MechanismFlag],
}

/// What a mechanism gives away or protects; a client's policy (`smtpd_sasl_security_options`) goes by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MechanismFlag {
    /// `plaintext`: whoever listens has the password.
    Plaintext,
    /// `dictionary`: whoever listens can guess at it.
    Dictionary,
    /// `active`: whoever sits in between can take over.
    Active,
    /// `anonymous`: nobody in particular.
    Anonymous,
    /// `forward-secrecy`.
    ForwardSecrecy,
    /// `mutual-auth`: the server proves itself, too.
    MutualAuth,
    /// `channel-binding`.
    ChannelBinding,
    /// `private`: not to be offered to people.
    Private,
}

impl MechanismFlag {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Dictionary => "dictionary",
            Self::Active => "active",
            Self::Anonymous => "anonymous",
            Self::ForwardSecrecy => "forward-secrecy",
            Self::MutualAuth => "mutual-auth",
            Self::ChannelBinding => "channel-binding",
            Self::Private => "private",
        }
    }
}

impl Handshake<'_> {
    /// Appends `VERSION`, one `MECH` each, `SPID`, `CUID`, `COOKIE`, `DONE`, in this order: clients take a
    /// `SPID` before any `MECH` for the wrong socket.
    pub fn encode(&self, out: &mut Vec<u8>) {
        begin(out, b"VERSION", MAJOR);
        out.push(b'\t');
        decimal::push(out, MINOR);
        out.push(b'\n');
        for mechanism in self.mechanisms {
            out.extend_from_slice(b"MECH\t");
            escape(mechanism.name.as_bytes(), out);
            for flag in mechanism.flags {
                out.push(b'\t');
                out.extend_from_slice(flag.as_str().as_bytes());
            }
            out.push(b'\n');
        }
        for (name, number) in [(&b"SPID"[..], self.spid), (b"CUID", self.cuid)] {
            begin(out, name, number);
            out.push(b'\n');
        }
        out.extend_from_slice(b"COOKIE\t");
        for byte in self.cookie {
            for digit in [byte >> 4, byte & 15] {
                out.push(b"0123456789abcdef"[usize::from(digit)]);
            }
        }
        out.extend_from_slice(b"\nDONE\n");
    }
}

/// An extra field of an OK: a name, and a value unless the name alone says it.
pub type Field<'f> = (&'f str, Option<&'f [u8]>);

/// Appends `OK id user=… field… [resp=…]`.
///
/// The user comes first, because Exim looks at 16 fields only. `response` is the SASL data that goes with
/// success, and may be given only to a client that said `final-resp-ok`.
pub fn encode_ok(
    out: &mut Vec<u8>,
    id: u32,
    user: &[u8],
    fields: &[Field<'_>],
    response: Option<&[u8]>,
) {
    begin(out, b"OK", id);
    field(out, "user", Some(user));
    for &(name, value) in fields {
        field(out, name, value);
    }
    if let Some(response) = response {
        out.extend_from_slice(b"\tresp=");
        sasl_data::encode(response, out);
    }
    out.push(b'\n');
}

/// Appends `CONT id challenge`: three fields always, be the last one empty, and never a fourth, because
/// Postfix needs the one and Exim cannot bear the other.
pub fn encode_cont(out: &mut Vec<u8>, id: u32, challenge: &[u8]) {
    begin(out, b"CONT", id);
    out.push(b'\t');
    sasl_data::encode(challenge, out);
    out.push(b'\n');
}

/// A refusal. All of it reaches the client program, and `reason` the person (Postfix shows it).
#[derive(Debug, Clone, Copy, Default)]
pub struct Fail<'f> {
    /// Who was refused, as far as it is known.
    pub user: Option<&'f [u8]>,
    /// Words for a person.
    pub reason: Option<&'f str>,
    /// A word for a program; without, the password was wrong or the user unknown.
    pub code: Option<FailCode>,
}

/// Why, in a word for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailCode {
    /// `temp_fail`: a backend is away. Postfix and Exim ignore it, and call it a wrong password.
    TempFail,
    /// `authz_fail`: may not act as that user.
    AuthzFail,
    /// `user_disabled`.
    UserDisabled,
    /// `pass_expired`.
    PassExpired,
    /// `invalid_base64`.
    InvalidBase64,
}

impl FailCode {
    pub(super) const ALL: [Self; 5] = [
        Self::TempFail,
        Self::AuthzFail,
        Self::UserDisabled,
        Self::PassExpired,
        Self::InvalidBase64,
    ];

    /// The word after `code=`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TempFail => "temp_fail",
            Self::AuthzFail => "authz_fail",
            Self::UserDisabled => "user_disabled",
            Self::PassExpired => "pass_expired",
            Self::InvalidBase64 => "invalid_base64",
        }
    }

    /// The bare word by which clients of Dovecot 2.2 know it.
    pub(super) fn bare(self) -> Option<&'static str> {
        match self {
            Self::TempFail => Some("temp"),
            Self::AuthzFail => Some("authz"),
            Self::UserDisabled => Some("user_disabled"),
            Self::PassExpired => Some("pass_expired"),
            Self::InvalidBase64 => None,
        }
    }
}

impl Fail<'_> {
    /// Appends `FAIL id [user=…] [reason=…] [code=… [word]]`: the code in both spellings, for old clients.
    pub fn encode(&self, out: &mut Vec<u8>, id: u32) {
        begin(out, b"FAIL", id);
        if let Some(user) = self.user {
            field(out, "user", Some(user));
        }
        if let Some(reason) = self.reason {
            field(out, "reason", Some(reason.as_bytes()));
        }
        if let Some(code) = self.code {
            field(out, "code", Some(code.as_str().as_bytes()));
            if let Some(word) = code.bare() {
                field(out, word, None);
            }
        }
        out.push(b'\n');
    }
}

pub(super) fn begin(out: &mut Vec<u8>, command: &[u8], number: u32) {
    out.extend_from_slice(command);
    out.push(b'\t');
    decimal::push(out, number);
}

pub(super) fn field(out: &mut Vec<u8>, name: &str, value: Option<&[u8]>) {
    out.push(b'\t');
    escape(name.as_bytes(), out);
    if let Some(value) = value {
        out.push(b'=');
        escape(value, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_greeting_to_the_byte() {
        let greeting = Handshake {
            mechanisms: &[
                MechanismOffer { name: "PLAIN", flags: &[MechanismFlag::Plaintext] },
                MechanismOffer { name: "EXTERNAL", flags: &[] },
            ],
            spid: 23830,
            cuid: 2,
            cookie: [
                0x0b, 0xb0, 9, 0xe3, 1, 0xec, 0x9a, 0x27, 0xa8, 0xa3, 0x9f, 0x76, 0xf4, 0x33, 0xd,
                0x33,
            ],
        };
        assert_eq!(
            written(|out| greeting.encode(out)),
            "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tEXTERNAL\nSPID\t23830\nCUID\t2\n\
             COOKIE\t0bb009e301ec9a27a8a39f76f4330d33\nDONE\n"
        );
    }

    #[test]
    fn ok_names_the_user_first_and_escapes() {
        assert_eq!(
            written(|out| encode_ok(
                out,
                7,
                b"a\tb",
                &[("nologin", None), ("home", Some(b"/h\n"))],
                Some(b"v=1")
            )),
            "OK\t7\tuser=a\x01tb\tnologin\thome=/h\x01n\tresp=dj0x\n"
        );
    }

    #[test]
    fn cont_has_three_fields() {
        assert_eq!(written(|out| encode_cont(out, 1, b"")), "CONT\t1\t\n");
        assert_eq!(written(|out| encode_cont(out, 1, b"Username:")), "CONT\t1\tVXNlcm5hbWU6\n");
    }

    #[test]
    fn fail_in_both_spellings() {
        assert_eq!(written(|out| Fail::default().encode(out, 3)), "FAIL\t3\n");
        let fail =
            Fail { user: Some(b"ann"), reason: Some("Try later"), code: Some(FailCode::TempFail) };
        assert_eq!(
            written(|out| fail.encode(out, 3)),
            "FAIL\t3\tuser=ann\treason=Try later\tcode=temp_fail\ttemp\n"
        );
        let fail = Fail { code: Some(FailCode::InvalidBase64), ..Fail::default() };
        assert_eq!(written(|out| fail.encode(out, 3)), "FAIL\t3\tcode=invalid_base64\n");
    }
}
