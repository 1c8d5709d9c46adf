//! Who somebody turned out to be, and the proof that somebody found out.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Who: a subject with its groups, labels and attributes.
///
/// ```
/// use countersign::{Identity, Subject};
///
/// let ada = Identity::named("ada").in_group("staff", true).with("mail", "ada@example.com");
/// assert_eq!(ada.subject, Subject::Named("ada".into()));
/// assert_eq!((ada.groups["staff"], ada.attribute("mail")), (true, Some("ada@example.com")));
/// // Nobody in particular is a value of its own, and no empty name.
/// assert_ne!(Identity::anonymous(), Identity::named(""));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The proven name, or nobody in particular.
    pub subject: Subject,
    /// Group names; `true` marks an administrator of the group.
    pub groups: BTreeMap<String, bool>,
    /// Security labels.
    pub labels: BTreeSet<String>,
    /// Anything else, by name; each may have several values.
    pub attributes: BTreeMap<String, Vec<String>>,
}

/// The name of an identity.
///
/// Anonymous is a value of its own. It is not an empty name, which a broken file can produce, and not
/// an absent one, which forgetting produces.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// Deliberately nobody in particular.
    Anonymous,
    /// Somebody.
    Named(Arc<str>),
}

impl Subject {
    /// The name, if there is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Anonymous => None,
            Self::Named(name) => Some(name),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name().unwrap_or("anonymous"))
    }
}

impl Identity {
    /// Somebody with a name and nothing else.
    pub fn named(name: impl Into<Arc<str>>) -> Self {
        Self::of(Subject::Named(name.into()))
    }

    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self::of(Subject::Anonymous)
    }

    /// The identity as a member of one more group.
    #[must_use]
    pub fn in_group(mut self, group: impl Into<String>, admin: bool) -> Self {
        self.groups.insert(group.into(), admin);
        self
    }

    /// The identity with one more label.
    #[must_use]
    pub fn labelled(mut self, label: impl Into<String>) -> Self {
        self.labels.insert(label.into());
        self
    }

    /// The identity with one more value of an attribute.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.entry(name.into()).or_default().push(value.into());
        self
    }

    /// The first value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name)?.first().map(String::as_str)
    }

    /// Adds what another checker knows about the same subject.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (group, admin) in &other.groups {
            *self.groups.entry(group.clone()).or_default() |= admin;
        }
        self.labels.extend(other.labels.iter().cloned());
        for (name, values) in &other.attributes {
            self.attributes.entry(name.clone()).or_insert_with(|| values.clone());
        }
    }

    fn of(subject: Subject) -> Self {
        Self {
            subject,
            groups: BTreeMap::new(),
            labels: BTreeSet::new(),
            attributes: BTreeMap::new(),
        }
    }
}

/// Proof, as a type, that a checker has verified `T`.
///
/// A realm admits only `Verified<Identity>`, and only checkers make one, through the single constructor
/// [`Verified::vouch`]. Search for `Verified::vouch` to find everybody who can let somebody in.
///
/// ```
/// use countersign::{Identity, Verified};
///
/// fn open_the_door(who: &Verified<Identity>) -> String {
///     format!("come in, {}", who.subject)
/// }
///
/// let claimed = Identity::named("ada");
/// // `open_the_door(&claimed)` does not compile: nobody has vouched for it.
/// assert_eq!(open_the_door(&Verified::vouch(claimed)), "come in, ada");
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct Verified<T> {
    // Handed on a dozen times in a login: as small as can be.
    what: Arc<T>,
    vouched: Option<Arc<Vouched>>,
    complete: bool,
    program: bool,
    lacking: &'static [&'static str],
    /// Few have any.
    more: Option<Box<More>>,
}

/// Who vouches by which mechanism: the same for all logins at one place of a portal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Vouched {
    pub(crate) checker: Arc<str>,
    pub(crate) mechanism: Cow<'static, str>,
}

/// What is only known of some proofs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct More {
    claimed: Option<Box<str>>,
    /// Beyond the first.
    proofs: Vec<Cow<'static, str>>,
}

impl<T> Verified<T> {
    /// **Vouches that `what` has been verified in this attempt.** For checkers only: to call this is to
    /// let somebody in.
    pub fn vouch(what: impl Into<Arc<T>>) -> Self {
        Self {
            what: what.into(),
            vouched: None,
            complete: false,
            program: false,
            lacking: &[],
            more: None,
        }
    }

    /// The proof, standing for every factor that is required: a passkey that has verified its user by itself.
    /// An application password is [`Verified::of_program`].
    #[must_use]
    pub fn complete(mut self) -> Self {
        self.complete = true;
        self
    }

    /// The proof, with mechanisms of this checker that the subject has none of. Where nobody else offers one
    /// of them, and it is demanded only of those who have one, this one is not begun for nothing.
    #[must_use]
    pub fn lacking(mut self, mechanisms: &'static [&'static str]) -> Self {
        self.lacking = mechanisms;
        self
    }

    /// Whether no further factor is needed.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The proof, of a program and not of a person: an application password. It stands for every factor at the
    /// service that this login is for, and for nothing at another; and what proves the person is not its to
    /// change.
    #[must_use]
    pub fn of_program(mut self) -> Self {
        (self.complete, self.program) = (true, true);
        self
    }

    /// Whether a program has proven this, and no person.
    pub fn is_of_program(&self) -> bool {
        self.program
    }

    /// The mechanisms by which it was proven, in order: `password`, `otp`. A factor that is only asked of
    /// those who have one, and of which this one had none, is there with a question mark: `otp?`.
    pub fn proofs(&self) -> impl Iterator<Item = &str> + Clone {
        let first = self.vouched.iter().map(|vouched| &*vouched.mechanism);
        first.chain(self.more.iter().flat_map(|more| &more.proofs).map(|proof| &**proof))
    }

    /// The name of the checker that vouched, as the portal knows it.
    pub fn checker(&self) -> Option<&str> {
        self.vouched.as_ref().map(|vouched| &*vouched.checker)
    }

    /// Who the peer said it was, where that is not the proven name.
    pub fn claimed(&self) -> Option<&str> {
        self.more.as_ref()?.claimed.as_deref()
    }

    /// The same value, shared.
    pub fn shared(&self) -> Arc<T> {
        Arc::clone(&self.what)
    }

    /// Notes who vouched, where nobody has before.
    pub(crate) fn vouched_by(&mut self, vouched: &Arc<Vouched>) {
        self.vouched.get_or_insert_with(|| Arc::clone(vouched));
    }

    pub(crate) fn lacks(&self, mechanism: &str) -> bool {
        self.lacking.iter().any(|lacking| lacking.eq_ignore_ascii_case(mechanism))
    }

    pub(crate) fn and_by(mut self, proof: Cow<'static, str>) -> Self {
        self.more.get_or_insert_default().proofs.push(proof);
        self
    }

    /// The same proof about a value that holds more of what checkers of this attempt have said.
    pub(crate) fn refined(self, what: T) -> Self {
        Self { what: Arc::new(what), ..self }
    }
}

impl Verified<Identity> {
    /// Notes the name that the peer had claimed, where it is not the one that is proven.
    pub(crate) fn claim(&mut self, name: &str) {
        let known = self.subject.name() == Some(name) || self.claimed().is_some();
        if !known {
            self.more.get_or_insert_default().claimed = Some(name.into());
        }
    }
}

impl<T> Clone for Verified<T> {
    fn clone(&self) -> Self {
        Self {
            what: Arc::clone(&self.what),
            vouched: self.vouched.clone(),
            complete: self.complete,
            program: self.program,
            lacking: self.lacking,
            more: self.more.clone(),
        }
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.what
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_is_not_an_empty_name() {
        assert_ne!(Identity::anonymous(), Identity::named(""));
        assert_eq!(Identity::anonymous().subject.name(), None);
        assert_eq!(Identity::named("").subject.name(), Some(""));
    }

    #[test]
    fn merging_keeps_admin_marks_and_first_attributes() {
        let mut one = Identity::named("ada").in_group("staff", true).with("mail", "a@x");
        one.merge(
            &Identity::named("ada")
                .in_group("staff", false)
                .in_group("ops", false)
                .with("mail", "b@x"),
        );
        assert_eq!(one.groups, BTreeMap::from([("ops".into(), false), ("staff".into(), true)]));
        assert_eq!(one.attribute("mail"), Some("a@x"));
    }
}
