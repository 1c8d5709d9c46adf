//! OpenNebula's authentication: what its drivers read and print, what its daemon `oned` and the driver manager
//! `one_auth_mad` say to each other, and the parts of `oned.conf` that decide about logins. The contract is
//! `docs/protocols/opennebula.md`.
//!
//! | part | reads | writes |
//! |---|---|---|
//! | a driver's input | [`AuthnDocument`], [`AuthzDocument`] | [`Authn`], [`Authz`] |
//! | a driver's output | [`DriverAnswer`], [`Reply`] | [`Reply`] |
//! | a driver's error output | [`DriverErrors`] | |
//! | the pipe between oned and its manager | [`mad::Request`], [`mad::ManagerLine`] | [`mad::Request`], [`mad::Response`] |
//! | `oned.conf` | [`conf::OnedConf`] | |
//! | names and session strings | [`UserName`], [`DriverName`], [`Gid`], [`Session`], [`ServerSession`] | the same |
//!
//! What differs from version to version is in one place, [`Profile`].
//!
//! ```
//! use countersign_wire::one::*;
//!
//! let user: UserName = "alice".parse().unwrap();
//! let login = Authn { user: &user, stored: None, secret: b"x" };
//! let DriverInput::Document(sent) = login.encode(Profile::V7_3_80).unwrap() else { panic!() };
//! assert_eq!(
//!     sent.to_str().unwrap(),
//!     "<AUTHN>\n  <USERNAME>alice</USERNAME>\n  <PASSWORD/>\n  <SECRET>x</SECRET>\n</AUTHN>"
//! );
//!
//! let answer = DriverAnswer::parse(b"ldap alice cn=alice,dc=example *100 101\n", b"x");
//! let DriverAnswer { reply: Some(reply), .. } = answer.unwrap() else { panic!() };
//! assert_eq!(reply.groups()[0].to_string(), "*100");
//! ```

mod authn;
mod authz;
pub mod conf;
pub(crate) mod fuzzing;
pub mod mad;
mod names;
mod profile;
mod reply;
mod stderr;
mod text;
mod xml;

pub use authn::{Authn, AuthnDocument, CannotCross, DriverInput, Field};
pub use authz::{Authz, AuthzDocument};
pub use names::{
    DriverName, Gid, NameError, NotAGid, ServerSession, Session, SessionError, UserName,
};
pub use profile::{FailureText, Profile, UnknownVersion};
pub use reply::{DriverAnswer, GroupEntry, REPLY_LIMIT, Reply, ReplyError};
pub use stderr::{DriverErrors, ErrorLine, STDERR_LIMIT, STDERR_LINE_LIMIT, STDERR_LINES};
pub use xml::{DOCUMENT_LIMIT, DocumentError, escape};
