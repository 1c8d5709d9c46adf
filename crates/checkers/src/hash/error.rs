//! What can be wrong with a stored hash, or with a password that is to become one.

use thiserror::Error;

use super::scheme;

/// Why a text is not a usable password hash, or why a hash could not be made.
///
/// The messages are for the operator and hold no part of the hash: at most the name of a scheme, the
/// name of a parameter, and numbers.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HashError {
    /// `{NAME}` is in no row of the table of schemes.
    #[error(
        "unknown password scheme {{{name}}}{}; known are {}",
        scheme::did_you_mean(*suggestion),
        scheme::known()
    )]
    UnknownScheme {
        /// The name as it was written, without anything that is no letter, digit, `-`, `_` or `.`.
        name: String,
        /// The known name that looks most like it.
        suggestion: Option<&'static str>,
    },
    /// A scheme that is recognised and cannot be verified.
    #[error(
        "{what} cannot be verified; give the user a new password, or use one of {}",
        scheme::known()
    )]
    Unsupported {
        /// What it is.
        what: &'static str,
    },
    /// A clear-text password where none is allowed.
    #[error("{{PLAIN}} is not allowed here; store a hash instead, or set allow_plain")]
    PlainForbidden,
    /// A scheme that is verified only where that is allowed.
    #[error("{what} is not allowed here; give the user a new password, or set allow_weak")]
    WeakForbidden {
        /// What it is.
        what: &'static str,
    },
    /// The text is not what its scheme writes.
    #[error("malformed {{{scheme}}} hash: {reason}")]
    Malformed {
        /// The scheme, as in the table.
        scheme: &'static str,
        /// What is wrong, and what was expected.
        reason: &'static str,
    },
    /// Verifying would cost more than [`Limits`](super::Limits) allow.
    #[error(
        "{{{scheme}}} {parameter} = {value} is above the limit of {limit}; raise the limit or give the user a new password"
    )]
    TooCostly {
        /// The scheme, as in the table.
        scheme: &'static str,
        /// The parameter and its unit, such as `m (KiB)`.
        parameter: &'static str,
        /// What the hash asks for.
        value: u64,
        /// What is allowed.
        limit: u64,
    },
    /// This password cannot be hashed by this scheme without losing a part of it.
    #[error("{{{scheme}}} cannot hold this password: {reason}")]
    Password {
        /// The scheme, as in the table.
        scheme: &'static str,
        /// Which property of the password is in the way.
        reason: &'static str,
    },
    /// The memory that argon2 needs could not be had.
    #[error("no {kib} KiB of memory for one password hash; lower the number of hashing threads")]
    OutOfMemory {
        /// How much was asked for.
        kib: u64,
    },
}
