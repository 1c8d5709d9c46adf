//! Clients over the wire of the protocol, in one process: what they can do, and every way in which a session ends.

mod logins;
mod logout;
#[path = "../plug/mod.rs"]
mod plug;
mod stage;
