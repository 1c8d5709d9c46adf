//! Checkers: who says yes. One module per backend, one feature per foreign dependency.
//!
//! Beside the backends live the parts that several of them share: [`hash`] knows password hashes,
//! [`pool`] computes the slow ones away from the runtime, [`passwd_file`] reads a table of users.
#![forbid(unsafe_code)]

pub mod accounts;
#[cfg(feature = "driver")]
pub mod driver;
pub mod factors;
pub mod file;
pub mod hash;
#[cfg(feature = "jwt")]
pub mod jwt;
#[cfg(feature = "kinds")]
pub mod kinds;
#[cfg(feature = "ldap")]
pub mod ldap;
pub mod memory;
#[cfg(any(feature = "jwt", feature = "ldap", feature = "sql"))]
mod name;
#[cfg(feature = "one")]
pub mod one;
#[cfg(feature = "outgoing")]
pub mod outgoing;
pub mod passwd_file;
#[cfg(feature = "x509")]
pub mod pki;
pub mod pool;
mod readable;
#[cfg(feature = "sql")]
pub mod sql;
#[cfg(feature = "sshkey")]
pub mod sshkey;
pub mod unix;
#[cfg(feature = "one")]
pub mod userpool;
mod watched;
pub mod world;

#[doc(hidden)]
pub mod fuzzing;
