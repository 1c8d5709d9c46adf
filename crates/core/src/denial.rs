//! Why not: refusals, which are values, and faults, which are errors.
//!
//! Three audiences. The audit log hears the [`Reason`] and its detail; the peer hears one of the four
//! words of [`Public`], through the one function [`Denial::public`]; the operator hears of a [`Fault`].

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

/// A refusal: a decision, not an error.
///
/// ```
/// use countersign::{Denial, Public, Reason};
///
/// let unknown = Denial::new(Reason::UnknownUser).because("no such line in /etc/users");
/// let wrong = Denial::new(Reason::WrongCredential);
/// // The record hears everything, and the peer the same word for both.
/// assert_eq!(unknown.to_string(), "unknown-user: no such line in /etc/users");
/// assert_eq!((unknown.public(), wrong.public()), (Public::Denied, Public::Denied));
/// ```
#[derive(Clone, Debug)]
pub struct Denial {
    /// Why.
    pub reason: Reason,
    /// What the operator should read about it. Never holds a secret, never reaches a peer.
    pub detail: Cow<'static, str>,
    /// Whether something of ours broke, so that it is told and recorded as a fault is. For realms: checkers
    /// return a [`Fault`].
    pub broken: bool,
    /// Elsewhere, for every step of a login is as large as a refusal, the steps that grant too.
    circumstances: Option<Box<Circumstances>>,
}

/// What is added to a refusal on its way: read and written as if it stood in the [`Denial`] itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// How long to wait before another try can succeed.
    pub retry_after: Option<Duration>,
    /// Every checker that was asked, in order, with what it said.
    pub tried: Vec<(Arc<str>, Reason)>,
    /// Who the peer said it was.
    pub claimed: Option<Box<str>>,
}

/// Why a login was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// No checker knows the user.
    UnknownUser,
    /// The proof was wrong.
    WrongCredential,
    /// The account is disabled.
    Disabled,
    /// The account or the credential has expired.
    Expired,
    /// The proof was right, but a new password must be set first, which this peer cannot do.
    ChangeNeeded,
    /// A policy forbids it: network, service, transport, missing group or label, acting as another.
    NotAllowed,
    /// No checker offers the mechanism, or it asks for what this peer cannot answer.
    Unsupported,
    /// A message of the peer breaks the mechanism's rules.
    Malformed,
    /// The peer declined to answer.
    Declined,
    /// The peer cancelled.
    Cancelled,
    /// The user has no factor of the required kind.
    NotEnrolled,
    /// Too many tries, or too many rounds.
    TooMany,
    /// Too many wrong guesses of late, by this user's name or from this address: nobody was asked.
    Throttled,
    /// The conversation's time ran out.
    TimedOut,
    /// The realm refused: quota, load, maintenance.
    Realm,
}

/// What a peer may learn: one of four words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Public {
    /// No.
    Denied,
    /// The password must be changed first.
    ChangeNeeded,
    /// Not now.
    TryLater,
    /// Not in this way.
    Unsupported,
}

impl Reason {
    /// The word for logs and audit records.
    pub fn word(self) -> &'static str {
        match self {
            Self::UnknownUser => "unknown-user",
            Self::WrongCredential => "wrong-credential",
            Self::Disabled => "disabled",
            Self::Expired => "expired",
            Self::ChangeNeeded => "change-needed",
            Self::NotAllowed => "not-allowed",
            Self::Unsupported => "unsupported",
            Self::Malformed => "malformed",
            Self::Declined => "declined",
            Self::Cancelled => "cancelled",
            Self::NotEnrolled => "not-enrolled",
            Self::TooMany => "too-many",
            Self::Throttled => "throttled",
            Self::TimedOut => "timed-out",
            Self::Realm => "realm",
        }
    }

    /// Whether the checker said nothing about this user, so that another may be asked.
    pub fn is_unknown(self) -> bool {
        self == Self::UnknownUser
    }
}

impl Public {
    /// The word as protocols carry it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::ChangeNeeded => "change-needed",
            Self::TryLater => "try-later",
            Self::Unsupported => "unsupported",
        }
    }
}

impl Denial {
    /// A refusal for this reason.
    pub const fn new(reason: Reason) -> Self {
        Self { reason, detail: Cow::Borrowed(""), broken: false, circumstances: None }
    }

    /// The refusal with words for the operator. They must not hold a secret.
    #[must_use]
    pub fn because(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = detail.into();
        self
    }

    /// The refusal of a realm in which something broke.
    #[must_use]
    pub fn broken(mut self) -> Self {
        self.broken = true;
        self
    }

    /// The refusal with a time to wait.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// What the peer may learn. No other text about a refusal ever reaches a socket.
    ///
    /// An unknown user, a wrong password, a disabled account and a broken rule are one word, so that
    /// none can be told from another.
    pub fn public(&self) -> Public {
        match self.reason {
            Reason::ChangeNeeded => Public::ChangeNeeded,
            Reason::TooMany | Reason::Throttled | Reason::TimedOut | Reason::Realm => {
                Public::TryLater
            }
            Reason::Unsupported => Public::Unsupported,
            Reason::UnknownUser
            | Reason::WrongCredential
            | Reason::Disabled
            | Reason::Expired
            | Reason::NotAllowed
            | Reason::NotEnrolled
            | Reason::Malformed
            | Reason::Declined
            | Reason::Cancelled => Public::Denied,
        }
    }
}

/// Circumstances that say nothing are none.
impl PartialEq for Denial {
    fn eq(&self, other: &Self) -> bool {
        (self.reason, &self.detail, self.broken) == (other.reason, &other.detail, other.broken)
            && **self == **other
    }
}

impl Eq for Denial {}

impl Deref for Denial {
    type Target = Circumstances;

    fn deref(&self) -> &Circumstances {
        static NONE: Circumstances =
            Circumstances { retry_after: None, tried: Vec::new(), claimed: None };
        self.circumstances.as_deref().unwrap_or(&NONE)
    }
}

impl DerefMut for Denial {
    fn deref_mut(&mut self) -> &mut Circumstances {
        self.circumstances.get_or_insert_default()
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.word())?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

/// Something broke. For the operator; it is never a pass, and a peer hears only "try later".
#[derive(Debug, Clone)]
pub struct Fault(Box<Broken>);

/// In a box, for faults are rare, and every step of a login is as large as one.
#[derive(Debug, Clone)]
struct Broken {
    kind: FaultKind,
    context: Cow<'static, str>,
    source: Option<Arc<dyn Error + Send + Sync>>,
    claimed: Option<Box<str>>,
}

/// What sort of thing broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// A backend cannot be reached, or is locked, full or gone.
    Unavailable,
    /// A backend did not answer in time.
    Timeout,
    /// A queue or pool is full.
    Overloaded,
    /// A backend answered what its protocol does not allow.
    Protocol,
    /// Our own code or configuration is wrong.
    Internal,
}

impl Fault {
    /// A fault, with what was being done and to what.
    pub fn new(kind: FaultKind, context: impl Into<Cow<'static, str>>) -> Self {
        let context = context.into();
        Self(Box::new(Broken { kind, context, source: None, claimed: None }))
    }

    /// A backend cannot be reached.
    pub fn unavailable(context: impl Into<Cow<'static, str>>) -> Self {
        Self::new(FaultKind::Unavailable, context)
    }

    /// Our own code or configuration is wrong.
    pub fn internal(context: impl Into<Cow<'static, str>>) -> Self {
        Self::new(FaultKind::Internal, context)
    }

    /// The fault with the error that caused it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    /// The fault, with the name that the peer gave, for the record: where only the exchange could read it.
    #[must_use]
    pub fn claiming(mut self, name: &str) -> Self {
        self.0.claimed.get_or_insert_with(|| name.into());
        self
    }

    /// The name that the peer gave, if the exchange has read one.
    pub fn claimed(&self) -> Option<&str> {
        self.0.claimed.as_deref()
    }

    /// What sort.
    pub fn kind(&self) -> FaultKind {
        self.0.kind
    }

    /// What the peer may learn: that now is not the time.
    pub fn public(&self) -> Public {
        Public::TryLater
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.context)?;
        let mut source = self.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|error| error as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_cannot_tell_why() {
        let words =
            [Reason::UnknownUser, Reason::WrongCredential, Reason::Disabled, Reason::Expired]
                .map(|reason| Denial::new(reason).because("a detail").public());
        assert!(words.iter().all(|word| *word == Public::Denied));
        assert_eq!(Denial::new(Reason::TooMany).public(), Public::TryLater);
    }

    #[test]
    fn circumstances_take_room_where_there_are_any() {
        let mut denial = Denial::new(Reason::WrongCredential);
        assert_eq!((&denial.claimed, denial.retry_after, denial.tried.len()), (&None, None, 0));
        denial.claimed = Some("ada".into());
        assert_ne!(denial, Denial::new(Reason::WrongCredential));
        denial.claimed = None;
        assert_eq!(
            denial,
            Denial::new(Reason::WrongCredential),
            "none, whether there is room or not"
        );
        assert!(size_of::<Denial>() <= 40 && size_of::<Fault>() == 8);
    }

    #[test]
    fn faults_tell_the_whole_chain() {
        let cause = std::io::Error::other("disk on fire");
        let fault = Fault::unavailable("reading accounts.db").caused_by(cause);
        assert_eq!(fault.to_string(), "reading accounts.db: disk on fire");
    }
}
