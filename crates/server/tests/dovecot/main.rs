//! The Dovecot front end over a real socket, statement by statement of `docs/protocols/dovecot-auth.md`.

mod connections;
mod greeting;
mod hostile;
mod logins;
mod master;
mod neighbours;
mod peer;
#[path = "../sockets/mod.rs"]
mod sockets;
