//! An SSH server whose logins are a portal's: public keys and certificates, prompts, passwords, and several of
//! them one after the other. See `docs/guide/example-ssh.md`.
//!
//! [`login`] is the method layer of RFC 4252 over the portal, and knows nothing of the SSH library; [`connection`]
//! joins the two. [`shell`] is what the protocol asks an application for, and [`realm`] one that has it.
#![forbid(unsafe_code)]

pub mod channel;
pub mod commands;
pub mod connection;
pub mod console;
pub mod form;
pub mod host_key;
pub mod login;
pub mod permitted;
pub mod program;
pub mod realm;
pub mod server;
pub mod shell;
