//! Codecs of the protocols that real software speaks to an authentication service.
//!
//! Bytes in, values out, and back: no socket, no clock, no runtime and no decision. Whoever owns the
//! connection reads and writes; whoever owns the policy decides; this crate only knows how things are spelt.
//! Both sides of each protocol are here, so that the server, the load generator and the tests share one
//! spelling, and a property test can hold the two against each other.
//!
//! | module | protocol | contract |
//! |---|---|---|
//! | [`dovecot`] | Dovecot's authentication client protocol 1.x (Postfix, Exim, …) | `docs/protocols/dovecot-auth.md` |
//! | [`saslauthd`] | the socket of Cyrus `saslauthd` (libsasl2, Exim, …) | `docs/protocols/saslauthd.md` |
//! | [`one`] | OpenNebula: drivers, `oned` and `one_auth_mad`, `oned.conf` | `docs/protocols/opennebula.md` |
#![forbid(unsafe_code)]

pub mod dovecot;
#[doc(hidden)]
pub mod fuzzing;
pub mod one;
mod sasl_data;
pub mod saslauthd;
