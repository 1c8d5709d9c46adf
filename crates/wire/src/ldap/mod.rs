//! What a checker needs of LDAP (RFC 4511): simple bind, search, StartTLS, unbind.
//!
//! Written here and not taken from a client library, because the bytes come from the network before anybody
//! is verified: nothing panics, every length is bounded by the caller, and a password is written into one
//! buffer that is wiped. A filter is a [`FilterTemplate`], parsed once; a user's name is put into it as a
//! value of the protocol and never as text, so there is nothing to escape and nothing to forget.
//!
//! ```
//! use countersign_wire::ldap::*;
//!
//! let filter: FilterTemplate = FilterTemplate::parse("(&(objectClass=person)(uid={login}))", &["login"]).unwrap();
//! let mut sent = Vec::new();
//! let search = Search { base: "dc=example", scope: Scope::Subtree, size_limit: 2, seconds: 3, attributes: &["uid"] };
//! search.encode(&mut sent, 1, &filter, &[b"*)(uid=*"]);
//! assert_eq!(frame(&sent, 1024), Ok(Some(sent.len())));
//! ```

mod ber;
mod dn;
mod filter;
mod message;

pub use dn::{DnTemplate, first_rdn};
pub use filter::FilterTemplate;
pub use message::{
    Entry, Outcome, PasswordPolicy, Request, Response, Scope, Search, encode_bind,
    encode_bind_response, encode_entry, encode_search_done, encode_start_tls,
    encode_start_tls_response, encode_unbind, frame,
};

/// Bytes that are no message of LDAP, or not one that is understood here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// BER that LDAP does not permit.
    #[error("the server's message has {0}")]
    Encoding(&'static str),
    /// Something else where this was due.
    #[error("the server's message lacks {0}")]
    Unexpected(&'static str),
    /// Told from the header alone.
    #[error("the server's message is longer than {0} bytes")]
    TooLong(usize),
}

/// What is wrong with a filter or a name in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}, at byte {at} of `{text}`")]
pub struct TemplateError {
    /// The template.
    pub text: String,
    /// Where in it, in bytes from 0.
    pub at: usize,
    /// What, with the remedy.
    pub what: String,
}
