//! Dovecot's authentication client protocol, version 1.x: how Postfix, Exim and many others ask somebody
//! else to run a SASL exchange for them. The contract is `docs/protocols/dovecot-auth.md`.
//!
//! Lines end in LF, fields are separated by TAB, values are tab-escaped ([`escape()`]). A connection carries
//! many logins at once, told apart by an id, so whatever is wrong with one of them must stay with that one:
//! [`LineError`] says for each bad line whether it has an id to answer.
//!
//! | | reads | writes |
//! |---|---|---|
//! | server | [`Lines`], [`ClientLine`] | [`Handshake`], [`encode_ok`], [`encode_cont`], [`Fail`] |
//! | client | [`Lines`], [`ServerLine`], [`ServerHello`] | [`encode_hello`], [`AuthWriter`], [`encode_response`], [`encode_cancel`] |
//!
//! ```
//! use countersign_wire::dovecot::*;
//!
//! let mut sent = Vec::new();
//! AuthWriter::new(&mut sent, 1, "PLAIN", "smtp").param("rip", b"192.0.2.7").respond(b"\0ann\0pw");
//!
//! let mut lines = Lines::new(&sent, LINE_LIMIT);
//! let line = lines.next().unwrap().unwrap();
//! let ClientLine::Auth(request) = ClientLine::parse(line, &Dialect::default()).unwrap() else { panic!() };
//! assert_eq!(request.remote_ip(), Some([192, 0, 2, 7].into()));
//! assert_eq!(lines.consumed(), sent.len());
//!
//! let mut reply = Vec::new();
//! encode_ok(&mut reply, request.id(), b"ann", &[], None);
//! assert_eq!(reply, b"OK\t1\tuser=ann\n");
//! ```

mod answer;
mod auth;
mod client;
mod decimal;
mod escape;
mod lines;
pub mod master;
mod reply;
mod request;

pub use answer::{
    Granted, HandshakeError, OfferedMechanism, Refused, ServerHello, ServerLine, ServerLineError,
};
pub use auth::{AuthRequest, InitialResponse, Secured};
pub use client::{AuthWriter, encode_cancel, encode_hello, encode_response};
pub use escape::{escape, unescape};
pub use lines::{LineTooLong, Lines};
pub use reply::{
    Fail, FailCode, Field, Handshake, MechanismFlag, MechanismOffer, encode_cont, encode_ok,
};
pub use request::{ClientLine, Dialect, FramingError, LineError, Rejected, Rejection};

/// The major version: both sides must have the same.
pub const MAJOR: u32 = 1;
/// The minor version that the server announces: an empty `resp=` can be told from an absent one, but there
/// is no channel binding (3) and no reply to CANCEL (4).
pub const MINOR: u32 = 2;
/// The longest line in bytes, without its LF: Dovecot's own limit.
pub const LINE_LIMIT: usize = 16_384;
/// The longest SASL message in base64 characters: Postfix's `smtpd_sasl_response_limit`.
pub const RESPONSE_LIMIT: usize = 12_288;

/// The first field of what is left, and the rest after its TAB (`None`: that was the last field).
fn split_field(rest: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'\t', rest) {
        Some(tab) => (&rest[..tab], Some(&rest[tab + 1..])),
        None => (rest, None),
    }
}

/// `name=value`, or a bare name, which stands for the empty value.
fn split_parameter(field: &[u8]) -> (&[u8], &[u8]) {
    // Names are a few bytes long: a plain loop is over before a vectorised search has begun.
    match field.iter().position(|&byte| byte == b'=') {
        Some(equals) => (&field[..equals], &field[equals + 1..]),
        None => (field, b""),
    }
}
