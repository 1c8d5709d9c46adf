//! Checkers: who can tell who somebody is; and the mechanisms they offer.

use std::borrow::Cow;

use crate::answer::same;
use crate::{Answers, BoxExchange, Fault, KindSet, Peer, Scene, Step};

/// Can tell who somebody is, in one or more ways.
///
/// Most backends are not checkers themselves but one of the small store traits
/// ([`PasswordStore`](crate::PasswordStore) and its kin), which a checker of ours drives.
///
/// ```
/// use countersign::{
///     BoxExchange, Checker, CredentialKind, Decision, Denial, Fault, Identity, KindSet, Mechanism,
///     Question, Reason, Round, Scene, Verified, not_offered, script,
/// };
///
/// /// Lets in whoever knows the word of the day, as a guest.
/// struct WordOfTheDay {
///     word: &'static str,
///     mechanisms: [Mechanism; 1],
/// }
///
/// impl Checker for WordOfTheDay {
///     fn name(&self) -> &str {
///         "word"
///     }
///
///     fn mechanisms(&self) -> &[Mechanism] {
///         &self.mechanisms
///     }
///
///     fn begin(&self, mechanism: &str, _: &Scene<'_>) -> Result<BoxExchange, Fault> {
///         if !self.mechanisms[0].is(mechanism) {
///             return Err(not_offered(self.name(), mechanism));
///         }
///         let word = self.word;
///         Ok(BoxExchange::new(script(move |peer| async move {
///             let given = peer.ask(Round::of([Question::password()])).await;
///             Ok(match given.text("password") == Some(word) {
///                 true => Decision::Grant(Verified::vouch(Identity::named("guest"))),
///                 false => Decision::Deny(Denial::new(Reason::WrongCredential)),
///             })
///         })))
///     }
/// }
///
/// let asks = KindSet::none().with(CredentialKind::Passphrase);
/// let mechanism = Mechanism { name: "word".into(), asks, needs: &[], plaintext: true };
/// let checker = WordOfTheDay { word: "swordfish", mechanisms: [mechanism] };
///
/// use countersign::{Answers, Known, Portal, Request, testing};
/// let portal = Portal::new(()).checked_by(checker);
/// let world = testing::StillWorld::default();
/// let mut peer = Known::new(Answers::new().with("password", "swordfish"));
/// let login = portal.authenticate(Request::to("club"), &mut peer, &world);
/// let guest = testing::now_or_never(login).expect("no I/O").expect("let in");
/// assert_eq!(guest.subject.name(), Some("guest"));
/// ```
pub trait Checker: Send + Sync + 'static {
    /// The name it is known by in configuration, policy and records. Two checkers of one kind are two
    /// names: identity goes by name, never by equal settings.
    fn name(&self) -> &str;

    /// The ways it offers, most wanted first.
    fn mechanisms(&self) -> &[Mechanism];

    /// Begins one authentication. All state of the attempt lives in the exchange; none in the checker.
    ///
    /// # Errors
    ///
    /// A fault when the mechanism is not among [`Checker::mechanisms`] or cannot be begun now.
    fn begin(&self, mechanism: &str, scene: &Scene<'_>) -> Result<BoxExchange, Fault>;

    /// [`Checker::begin`] and a step, for a mechanism that asks one round, always the same, and keeps nothing
    /// meanwhile: without answers its round, as [`Step::Ask`], and with answers to that what they come to. It
    /// spares such logins their exchange, while they wait and when they are decided.
    ///
    /// Where it says nothing, because something must be waited for or at all, the exchange goes on: one that has
    /// begun with the same round, at once.
    fn at_once(
        &self,
        mechanism: &str,
        answers: Option<&Answers>,
        scene: &Scene<'_>,
    ) -> Option<Result<Step, Fault>> {
        let _ = (mechanism, answers, scene);
        None
    }
}

/// One way of proving who one is.
///
/// ```
/// use countersign::{CredentialKind, KindSet, Mechanism, Peer};
///
/// let otp = Mechanism {
///     name: Mechanism::OTP.into(),
///     asks: KindSet::none().with(CredentialKind::Otp),
///     needs: &[],
///     plaintext: false,
/// };
/// assert!(otp.is("OTP"));
/// // Some need what not every connection tells.
/// let peer = Peer::new("imap", KindSet::all());
/// assert!(Mechanism::fits("SCRAM-SHA-256", &peer) && !Mechanism::fits("SCRAM-SHA-256-PLUS", &peer));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mechanism {
    /// `password`, `otp`, `SCRAM-SHA-256`, `krb5`. Compared without regard to ASCII case.
    pub name: Cow<'static, str>,
    /// The kinds it must be able to ask. A peer that cannot answer them is not offered the mechanism.
    pub asks: KindSet,
    /// What it needs from a store.
    pub needs: &'static [Need],
    /// Whether the secret itself crosses the wire.
    pub plaintext: bool,
}

/// What a mechanism needs from a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Need {
    /// To check a password that is given.
    PasswordCheck,
    /// The password itself.
    PasswordText,
    /// SCRAM's stored and server keys.
    ScramKeys,
    /// HTTP Digest's `H(A1)`.
    DigestKeys,
    /// Public keys.
    PublicKeys,
    /// To check a bearer token.
    BearerTokens,
    /// One-time codes.
    OneTimeCodes,
    /// To find a user by name alone, for proofs that a lower layer made.
    Directory,
}

impl Mechanism {
    /// The native password mechanism, `password`: a user name and a password.
    pub const PASSWORD: &'static str = "password";
    /// The native one-time-code mechanism, `otp`.
    pub const OTP: &'static str = "otp";
    /// A WebAuthn assertion: one question of the kind [`CredentialKind::Assertion`](crate::CredentialKind),
    /// whose challenge is the JSON of `PublicKeyCredentialRequestOptions`.
    pub const PASSKEY: &'static str = "passkey";

    /// A public key: a question `key` and one of the kind [`CredentialKind::Assertion`](crate::CredentialKind),
    /// `signature`; or none of both, where the transport has seen the key proven
    /// ([`Facts::key`](crate::Facts)).
    pub const PUBLIC_KEY: &'static str = "publickey";
    /// A bearer token (RFC 6750): one question, `bearer`. SASL's OAUTHBEARER and XOAUTH2 carry it.
    pub const BEARER: &'static str = "bearer";

    /// Whether a mechanism of this name ties the login to the connection that it is on, and so needs one whose
    /// channel binding is known: such names end in `-PLUS` (RFC 5801 §3.1).
    pub fn binds(name: &str) -> bool {
        let start = name.len().saturating_sub(5);
        name.get(start..).is_some_and(|end| end.eq_ignore_ascii_case("-PLUS"))
    }

    /// Whether a connection tells what a mechanism of this name cannot do without, where it needs anything:
    /// `-PLUS` a channel binding, `APOP` the timestamp of our greeting, `DIGEST` a header that was judged.
    pub fn fits(name: &str, peer: &Peer) -> bool {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        let facts = &peer.more;
        !(Self::binds(name) && facts.channel_bindings.is_empty()
            || is("APOP") && facts.greeting.is_none()
            || is("DIGEST") && facts.digest.is_none())
    }

    /// Whether it goes by this name.
    pub fn is(&self, name: &str) -> bool {
        is(&self.name, name)
    }
}

/// Whether two names are of one mechanism. Mostly they are written alike, which is found out sooner.
pub(crate) fn is(one: &str, two: &str) -> bool {
    same(one, two) || one.eq_ignore_ascii_case(two)
}
