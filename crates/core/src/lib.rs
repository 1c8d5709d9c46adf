//! Placeholder.
#![forbid(unsafe_code)]
mod secret;
pub use secret::Secret;
