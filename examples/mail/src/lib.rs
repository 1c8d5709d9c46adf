//! POP3 and IMAP on one Maildir, against a portal.
//!
//! Each protocol declares the interface that it needs ([`pop3::Pop3Mailbox`], [`imap::ImapMailbox`]) and holds one
//! portal. The application ([`realm::Maildirs`]) has both interfaces. Who checks logins is said by whoever starts
//! the program, and neither of them knows.
#![forbid(unsafe_code)]

pub mod imap;
pub mod login;
pub mod maildir;
pub mod notice;
pub mod place;
pub mod pop3;
pub mod realm;
pub mod server;
pub mod tls;
pub mod wire;
