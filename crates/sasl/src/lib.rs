//! SASL server mechanisms as small state machines, without I/O.
//!
//! A mechanism is an [`Exchange`](countersign::Exchange) whose rounds each ask one question of kind
//! [`Token`](countersign::CredentialKind::Token): the mechanism's next message. A question without a
//! challenge means that the client speaks first. Front ends carry the bytes; who says yes is decided by
//! the checkers behind.
//!
//! | mechanism | what it is | needs |
//! |---|---|---|
//! | [`Plain`] (RFC 4616) | carries `password` in one message | [`PasswordStore`](countersign::PasswordStore) |
//! | [`Login`] (draft-murchison-sasl-login) | carries `password` in two | [`PasswordStore`](countersign::PasswordStore) |
//! | [`External`] (RFC 4422 appendix A) | what a lower layer proved | [`Directory`](countersign::Directory) |
#![forbid(unsafe_code)]

mod carried;
mod external;
mod login;
mod plain;

pub use external::{EXTERNAL, External};
pub use login::Login;
pub use plain::{Plain, PlainMessage};

/// Replays of the fuzz targets' corpora on the stable toolchain.
#[doc(hidden)]
pub mod fuzzing {
    /// Any bytes as a PLAIN message: never a panic, and what is accepted is what was sent.
    pub fn plain(data: &[u8]) {
        if let Ok(message) = crate::PlainMessage::parse(data) {
            let parts = [message.authzid, message.authcid];
            let names = parts.map(str::as_bytes).join(&0);
            assert_eq!([&names, message.password].join(&0), data);
        }
    }
}
