//! Twisted Cred and Countersign, side by side: see `tests/rules`, and `docs/guide/coming-from-cred.md` for what
//! differs on purpose.
//!
//! What Twisted does at run time with a realm or a checker that gives the wrong thing does not compile here.
//!
//! A checker that returns nothing:
//!
//! ```compile_fail
//! # use countersign::{Fault, PasswordStore, Secret, Verdict};
//! struct Forgetful;
//! impl PasswordStore for Forgetful {
//!     async fn check(&self, _: &str, _: &Secret) -> Result<Verdict, Fault> {
//!         Ok(None)
//!     }
//! }
//! ```
//!
//! A checker that returns a name that nobody vouched for:
//!
//! ```compile_fail
//! # use countersign::{Fault, Identity, PasswordStore, Secret, Verdict};
//! struct Hasty;
//! impl PasswordStore for Hasty {
//!     async fn check(&self, login: &str, _: &Secret) -> Result<Verdict, Fault> {
//!         Ok(Verdict::Is(Identity::named(login)))
//!     }
//! }
//! ```
//!
//! A realm that gives another interface than it was asked for:
//!
//! ```compile_fail
//! # use countersign::{Denial, Identity, Interface, Realm, Session, Verified};
//! # struct Mailbox;
//! # impl Interface for Mailbox { const NAME: &'static str = "mailbox"; type Avatar = (); type Mind = (); }
//! # struct Shell;
//! # impl Interface for Shell { const NAME: &'static str = "shell"; type Avatar = (); type Mind = (); }
//! struct Confused;
//! impl Realm<Mailbox> for Confused {
//!     async fn admit(&self, _: &Verified<Identity>, _: ()) -> Result<Session<Mailbox>, Denial> {
//!         Ok(Session::<Shell>::new(Box::new(())))
//!     }
//! }
//! ```
//!
//! With the right one it compiles:
//!
//! ```
//! # use countersign::{Denial, Identity, Interface, Realm, Session, Verified};
//! # struct Mailbox;
//! # impl Interface for Mailbox { const NAME: &'static str = "mailbox"; type Avatar = (); type Mind = (); }
//! struct Clear;
//! impl Realm<Mailbox> for Clear {
//!     async fn admit(&self, _: &Verified<Identity>, _: ()) -> Result<Session<Mailbox>, Denial> {
//!         Ok(Session::<Mailbox>::new(Box::new(())))
//!     }
//! }
//! ```
#![forbid(unsafe_code)]
