//! HTTP authentication before any application: a portal as a `tower` layer, with Basic (RFC 7617), Digest (RFC 7616),
//! bearer tokens (RFC 6750), and a form with a cookie.
//!
#![cfg_attr(feature = "axum", doc = "```")]
#![cfg_attr(not(feature = "axum"), doc = "```ignore")]
//! use std::sync::Arc;
//!
//! use axum::{Router, routing::get};
//! use countersign::{Denial, Identity, Interface, Portal, Realm, Session, Verified, World};
//! use countersign_http::{Authenticated, Cookie, User};
//!
//! /// What handlers ask the application for.
//! struct Desk;
//! impl Interface for Desk {
//!     const NAME: &'static str = "desk";
//!     type Avatar = str;
//!     type Mind = ();
//! }
//!
//! struct Office;
//! impl Realm<Desk> for Office {
//!     async fn admit(&self, who: &Verified<Identity>, _: ()) -> Result<Session<Desk>, Denial> {
//!         Ok(Session::new(format!("{}, at your desk", who.subject).into()))
//!     }
//! }
//!
//! async fn whoami(user: User<Desk>) -> String {
//!     user.avatar().to_owned()
//! }
//!
//! fn application(portal: Portal<Office>, world: Arc<dyn World>) -> Router {
//!     let authenticated = Authenticated::<Desk>::new(portal, world)
//!         .basic("office")
//!         .digest("office")
//!         .bearer("office")
//!         .cookie(Cookie::named("office"));
//!     Router::new().route("/whoami", get(whoami)).layer(authenticated)
//! }
//! # let _ = application;
//! ```
//!
//! [`Schemes`] is the half of it without I/O, for servers that drive logins themselves.
//!
//! | feature | what it adds |
//! |---|---|
//! | `axum` | [`User`] as an argument of handlers, and `ConnectInfo` as the connection's facts |
#![forbid(unsafe_code)]

mod connection;
mod cookie;
mod credentials;
mod form;
mod layer;
mod refusal;
mod schemes;
mod sessions;
mod user;

#[doc(hidden)]
pub mod fuzzing;

pub use connection::Connection;
pub use cookie::{Cookie, LoginForm, escaped};
pub use credentials::{Credentials, Malformed, Scheme};
pub use layer::{Authenticated, Guarded};
pub use refusal::Unanswered;
pub use schemes::{Attempt, Schemes, Unproven};
pub use sessions::SessionLimits;
#[cfg(feature = "axum")]
pub use user::NobodyThere;
pub use user::User;

/// Every block of this page compiles, and does what it says.
#[cfg(all(doctest, feature = "axum"))]
mod guide {
    #[doc = include_str!("../../../docs/guide/http-applications.md")]
    mod http_applications {}
}
