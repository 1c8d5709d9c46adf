//! Remote objects for whoever is logged in, over Cap'n Proto RPC, against a portal.
//!
//! A connection is given one object, to log in with. A login is a conversation of rounds at the portal, so whatever
//! the checkers ask can be asked; at its end the client holds a session, and through it the objects of the
//! application's avatar ([`Desk`]). The object that the client lends with its login is its mind ([`Mind`]): by it
//! the application tells it things, and hears something of it. When the session ends, for whatever reason, all
//! that came from it is dead.
#![forbid(unsafe_code)]

/// The schema, `objects.capnp`, in Rust.
#[allow(missing_docs, unreachable_pub, rust_2018_idioms, clippy::all, clippy::unimplemented)]
pub mod objects_capnp {
    include!(concat!(env!("OUT_DIR"), "/objects_capnp.rs"));
}

mod connection;
mod desk;
mod flow;
mod limits;
mod listener;
mod login;
mod mind;
mod objects;
mod realm;
mod rounds;
mod seat;

pub use connection::serve;
pub use desk::{Desk, Objects, Trouble, Work};
pub use limits::Limits;
pub use listener::{Server, listen};
pub use mind::{About, Mind};
pub use realm::Desks;
