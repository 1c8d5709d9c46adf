//! **Countersign**: any protocol, any way of proving who you are, any application, wired together at
//! deployment time, with one conversation in the middle.
//!
//! A protocol server holds a [`Portal`] and nothing else. The portal holds a [`Realm`] (the application)
//! and [`Checker`]s (who can tell who somebody is). A login is an [`Exchange`]: it asks [`Round`]s of
//! [`Question`]s, a [`Responder`] gives [`Answers`], and it ends with a [`Verified`] [`Identity`] that the
//! realm turns into a [`Session`] with the avatar that the protocol's [`Interface`] names, or with a
//! [`Denial`].
//!
//! This crate has no sockets, no files, no clock and no runtime: time, entropy and the peer are
//! arguments ([`Scene`]).
//!
//! ```
//! use countersign::{
//!     Answers, Denial, Fault, Identity, Interface, Known, Password, PasswordStore, Portal, Realm,
//!     Request, Secret, Session, Verdict, Verified,
//! };
//!
//! // The protocol declares one interface: its avatar and its mind.
//! struct Mailbox;
//! impl Interface for Mailbox {
//!     const NAME: &'static str = "mailbox";
//!     type Avatar = Vec<String>;
//!     type Mind = ();
//! }
//!
//! // The application turns an identity into that avatar.
//! struct Mail;
//! impl Realm<Mailbox> for Mail {
//!     async fn admit(&self, who: &Verified<Identity>, _: ()) -> Result<Session<Mailbox>, Denial> {
//!         Ok(Session::new(Box::new(vec![format!("welcome, {}", who.subject)])))
//!     }
//! }
//!
//! // The deployer decides who says yes.
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
//! let portal = Portal::new(Mail).checked_by(Password::new("one", One));
//! let world = countersign::testing::StillWorld::default();
//! let mut peer = Known::new(Answers::new().with("username", "ada").with("password", "countess"));
//! let login = portal.login::<Mailbox>(Request::to("imap"), &mut peer, (), &world);
//! let session = countersign::testing::now_or_never(login).expect("no I/O").expect("let in");
//! assert_eq!(session.avatar()[0], "welcome, ada");
//! ```
#![forbid(unsafe_code)]

mod alternatives;
mod answer;
mod application;
mod bearer;
mod chain;
mod checker;
mod conversation;
mod denial;
mod digest;
mod exchange;
mod factors;
mod guard;
mod identity;
mod keys;
mod kind;
mod minds;
mod pending;
mod policy;
mod portal;
mod realm;
mod responder;
mod results;
mod round;
mod scene;
mod script;
mod secret;
mod stores;
pub mod testing;
mod text;
mod ways;

pub use alternatives::Alternatives;
pub use answer::{Answer, Answers};
pub use application::{Adapted, Application, InterfaceTaken, MissingInterface, Serving};
pub use bearer::{BEARER, Bearer, BearerStore};
pub use checker::{Checker, Mechanism, Need};
pub use conversation::{Ask, Bounds, Conversation, Halt, Reply};
pub use denial::{Circumstances, Denial, Fault, FaultKind, Public, Reason};
pub use digest::{DigestAlgorithm, DigestClaim};
pub use exchange::{AtOnce, BoxExchange, Exchange, Step};
pub use factors::Factors;
pub use guard::{Guard, GuessEnd};
pub use identity::{Identity, Subject, Verified};
pub use keys::{KeyStore, OfferedKey, PUBLIC_KEY, ProvenKey, PublicKey, to_be_signed};
pub use kind::{CredentialKind, KindSet, Shape};
pub use minds::{Loan, MindLimits, Minds, Told};
pub use pending::{Id, NotPending, Pending, PendingLimits};
pub use policy::{Factor, NoFactor, Plaintext, Policy, Rule, Terms, When};
pub use portal::{Carrier, Earlier, LoginError, Portal, Request};
pub use realm::{Interface, Logout, Realm, Session};
pub use responder::{Blocking, Cancelled, Given, Known, Responder};
pub use results::{Order, Results, Then};
pub use round::{
    Challenge, Charset, Feedback, Group, Level, Limits, Misuse, Notice, Question, Round,
};
pub use scene::{Facts, Moment, More, NoTraceParent, Peer, Scene, TraceParent, Transport, World};
pub use script::{Asker, Decision, script};
pub use secret::Secret;
pub use stores::{
    DigestStore, Directory, OtpStore, PASSWORD, Password, PasswordStore, ScramKeys, ScramStore,
    TextStore, Verdict, login_name, not_offered, password_round,
};
pub use text::Text;
