//! The pipe between oned and its driver manager, `one_auth_mad`, both ways.
//!
//! oned waits 90 seconds for an answer that does not come, so whatever is wrong with a message, [`BadRequest`]
//! says which id to answer wherever one can be read.
//!
//! ```
//! use countersign_wire::one::mad::*;
//!
//! let mut lines = LineSplitter::new(LINE_LIMIT);
//! lines.feed(b"AUTHENTICATE  0 -1 ldap alice - c2VjcmV0 \n\nAUTHENTICATE  1 -1 ldap alice -  \n");
//! let Some(Line::Whole(line)) = lines.next_line() else { panic!() };
//! let request = Request::parse(line, SecretEncoding::Base64).unwrap();
//! assert!(matches!(request, Some(Request::Authenticate(login)) if login.secret.expose() == b"secret"));
//!
//! let Some(Line::Whole(line)) = lines.next_line() else { panic!() };
//! assert_eq!(Request::parse(line, SecretEncoding::Base64).unwrap(), None);
//!
//! let Some(Line::Whole(line)) = lines.next_line() else { panic!() };
//! let bad = Request::parse(line, SecretEncoding::Base64).unwrap_err();
//! let mut out = Vec::new();
//! bad.refuse(&mut out);
//! assert_eq!(out, b"AUTHENTICATE FAILURE 1 the secret is empty\n");
//! ```

mod access;
mod args;
mod lines;
mod request;
mod response;

pub use access::{AccessRequest, Operation, Target};
pub use args::{ArgumentError, ManagerArguments};
pub use lines::{LINE_LIMIT, Line, LineSplitter};
pub use request::{
    Authenticate, Authorize, BadRequest, CannotSend, Request, RequestFault, SecretEncoding, Verb,
};
pub use response::{Answer, ManagerLine, Response, Severity, TEXT_LIMIT, UndefinedLine};
