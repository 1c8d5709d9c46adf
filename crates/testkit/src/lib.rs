//! For the tests of everybody who extends Countersign: scripted peers, a clock that a test owns, and a
//! conformance suite for any checker, ours or a third party's.
//!
//! ```
//! use countersign::{Answers, Fault, Identity, Password, PasswordStore, Secret, Verdict, Verified};
//! use countersign_testkit::{Fixture, Proof, assert_conforms};
//!
//! struct One;
//! impl PasswordStore for One {
//!     async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
//!         Ok(match (login, *password == Secret::from("countess")) {
//!             ("ada", true) => Verdict::Is(Verified::vouch(Identity::named("ada"))),
//!             ("ada", false) => Verdict::WRONG,
//!             _ => Verdict::UNKNOWN,
//!         })
//!     }
//! }
//!
//! let login = |user, password| Answers::new().with("username", user).with("password", password);
//! let fixture = Fixture::new().with(
//!     Proof::of("password", "ada", login("ada", "countess"))
//!         .wrong(login("ada", "babbage"))
//!         .unknown(login("nobody", "countess")),
//! );
//! assert_conforms(&Password::new("one", One), &fixture);
//! ```
#![forbid(unsafe_code)]

mod conforms;
mod executor;
mod scripted;
mod token;

pub use conforms::{
    Attempt, Failure, Fixture, Proof, Report, Rule, assert_conforms, conforms, conforms_async,
};
/// A world whose clocks move when told to, and whose entropy is a counter.
pub use countersign::testing::StillWorld as OwnedWorld;
pub use countersign::testing::now_or_never;
pub use executor::{TimedOut, block_on};
pub use scripted::ScriptedPeer;
pub use token::OneToken;

/// Every block of these pages compiles, and does what it says.
#[cfg(doctest)]
mod guide {
    #[doc = include_str!("../../../docs/guide/coming-from-cred.md")]
    mod coming_from_cred {}
    #[doc = include_str!("../../../docs/guide/write-a-checker.md")]
    mod write_a_checker {}
    #[doc = include_str!("../../../docs/guide/write-a-realm.md")]
    mod write_a_realm {}
}
