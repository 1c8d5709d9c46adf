//! SASL server mechanisms and HTTP Digest as small state machines, without I/O.
//!
//! A mechanism is an [`Exchange`](countersign::Exchange) whose rounds each ask one question of kind
//! [`Token`](countersign::CredentialKind::Token): the mechanism's next message. A question without a
//! challenge means that the client speaks first. Front ends carry the bytes; who says yes is decided by
//! the checkers behind. Contract: `docs/protocols/sasl.md`.
//!
//! | mechanism | what it is | needs |
//! |---|---|---|
//! | [`Plain`] (RFC 4616) | carries `password` in one message | [`PasswordStore`](countersign::PasswordStore) |
//! | [`Login`] (draft-murchison-sasl-login) | carries `password` in two | [`PasswordStore`](countersign::PasswordStore) |
//! | [`External`] (RFC 4422 appendix A) | what a lower layer proved | [`Directory`](countersign::Directory) |
//! | [`Anonymous`] (RFC 4505) | nobody in particular | nothing |
//! | [`OAuthBearer`] (RFC 7628), [`XOAuth2`] | carry `bearer` in one message | [`BearerStore`](countersign::BearerStore) |
//! | [`CramMd5`] (RFC 2195) | a digest of a challenge | [`TextStore`](countersign::TextStore) |
//! | [`Apop`] (RFC 1939) | a digest of POP3's greeting | [`TextStore`](countersign::TextStore) |
//! | [`Scram`] (RFC 5802, RFC 7677) | mutual, with SHA-1, SHA-256 or SHA-512, tied to the channel with `-PLUS` | [`ScramStore`](countersign::ScramStore) |
//! | [`digest`] (RFC 7616) | HTTP Digest | [`DigestStore`](countersign::DigestStore) |
//!
//! [`Stored`] is a checker over one store that offers several of them; [`Derived`] makes keys of passwords for
//! stores that have nothing else.
#![forbid(unsafe_code)]

mod anonymous;
mod apop;
mod carried;
mod cram_md5;
mod decoys;
mod derived;
pub mod digest;
mod external;
mod login;
mod oauthbearer;
mod plain;
mod prep;
mod scram;
mod stored;
mod text;
mod xoauth2;

#[doc(hidden)]
pub mod fuzzing;

pub use anonymous::{ANONYMOUS, Anonymous, trace};
pub use apop::{APOP, Apop};
pub use cram_md5::{CRAM_MD5, CramMd5, CramMd5Message, challenge};
pub use decoys::Decoys;
pub use derived::Derived;
pub use external::{EXTERNAL, External};
pub use login::Login;
pub use oauthbearer::{OAuthBearer, OAuthBearerMessage};
pub use plain::{Plain, PlainMessage};
pub use scram::{
    Binding, ClientFinal, ClientFirst, Scram, ScramHash, ServerError, keys_from_text, keys_to_text,
};
pub use stored::Stored;
pub use xoauth2::{XOAuth2, XOAuth2Message};

pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |n: u8| char::from(b"0123456789abcdef"[usize::from(n)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
