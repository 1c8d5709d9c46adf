//! Chains of X.509 certificates: from a user's certificate to an authority that we trust (RFC 5280 §6).
//!
//! `webpki` builds the path and verifies signatures, validity, basic constraints, path lengths, name constraints,
//! extended key usage and revocation. What it leaves to others is here: the key usage of whoever signs, and what the
//! authority's own certificate says about itself.
//!
//! Who the certificate is about, and whether that is the user who logs in, is for the caller.

mod authorities;
mod folder;
mod name;

#[cfg(test)]
mod tests;

pub use authorities::{Authorities, ChainError, Revocation};
pub use folder::AuthoritiesFolder;
pub use name::{escaped, oneline};
