//! What kind of thing a question asks for, and sets of kinds.

use std::borrow::Cow;
use std::fmt;

/// What a question asks for. 1 to 9 are libvirt's `virConnectCredentialType`, which copied SASL's
/// callback ids.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CredentialKind {
    /// 1: the identity to act as (SASL authorization identity).
    Username,
    /// 2: the identity to authenticate as.
    AuthName,
    /// 3: languages the person reads, RFC 1766 tags, comma separated.
    Language,
    /// 4: a nonce chosen by the client.
    ClientNonce,
    /// 5: a password or passphrase.
    Passphrase,
    /// 6: any other prompt, echoed.
    EchoPrompt,
    /// 7: any other prompt, not echoed.
    NoEchoPrompt,
    /// 8: an authentication realm.
    Realm,
    /// 9: something managed outside of the conversation; the challenge names it.
    External,
    /// A one-time code.
    Otp,
    /// A PIN that unlocks a token.
    Pin,
    /// A password to be set.
    NewPassphrase,
    /// Yes or no.
    Confirm,
    /// Yes or no to trusting a key or a host. Never answered by a source of text; absent means no.
    Trust,
    /// One of the question's options.
    Choice,
    /// One opaque message of a SASL-like mechanism.
    Token,
    /// A signed assertion (a passkey's answer, a SAML response).
    Assertion,
    /// A kind that this version does not know, by name.
    Other(Cow<'static, str>),
}

use CredentialKind as K;

/// Every kind that has a name of its own, with that name. The one table behind names and numbers.
const NAMES: [(K, &str); 17] = [
    (K::Username, "username"),
    (K::AuthName, "authname"),
    (K::Language, "language"),
    (K::ClientNonce, "client-nonce"),
    (K::Passphrase, "passphrase"),
    (K::EchoPrompt, "echo-prompt"),
    (K::NoEchoPrompt, "no-echo-prompt"),
    (K::Realm, "realm"),
    (K::External, "external"),
    (K::Otp, "otp"),
    (K::Pin, "pin"),
    (K::NewPassphrase, "new-passphrase"),
    (K::Confirm, "confirm"),
    (K::Trust, "trust"),
    (K::Choice, "choice"),
    (K::Token, "token"),
    (K::Assertion, "assertion"),
];

/// What an answer to a question must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Text of any bytes.
    Value,
    /// Yes or no.
    YesNo,
    /// The index of an option.
    Option,
}

impl CredentialKind {
    /// A public key in SSH wire format (RFC 4253 §6.6), which is no secret.
    pub const PUBLIC_KEY: Self = Self::Other(Cow::Borrowed("publickey"));
    /// A bearer token (RFC 6750).
    pub const BEARER: Self = Self::Other(Cow::Borrowed("bearer"));

    /// The name used in JSON, in configuration and in logs.
    pub fn name(&self) -> &str {
        match self {
            Self::Other(name) => name,
            known => known.index().map_or("", |index| NAMES[usize::from(index)].1),
        }
    }

    /// The kind with that name; a name that is not in the table is [`CredentialKind::Other`].
    pub fn from_name(name: &str) -> Self {
        NAMES
            .iter()
            .find(|(_, known)| *known == name)
            .map_or_else(|| Self::Other(Cow::Owned(name.to_owned())), |(kind, _)| kind.clone())
    }

    /// Every kind that this version knows.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(kind, _)| kind.clone())
    }

    /// libvirt's number, 1 to 9, where it has one.
    pub fn libvirt_number(&self) -> Option<u8> {
        self.index().filter(|i| *i < 9).map(|i| i + 1)
    }

    /// What an answer must look like.
    pub fn shape(&self) -> Shape {
        match self {
            Self::Confirm | Self::Trust => Shape::YesNo,
            Self::Choice => Shape::Option,
            _ => Shape::Value,
        }
    }

    /// Whether a terminal may show what is typed.
    pub fn echo(&self) -> bool {
        !matches!(
            self,
            Self::Passphrase | Self::NoEchoPrompt | Self::Pin | Self::NewPassphrase | Self::Otp
        ) && *self != Self::BEARER
    }

    /// Whether an answer is a secret that must never be remembered across attempts or shown.
    pub fn secret(&self) -> bool {
        !self.echo() || matches!(self, Self::Token | Self::Assertion)
    }

    /// Its place in [`NAMES`].
    fn index(&self) -> Option<u8> {
        Some(match self {
            K::Username => 0,
            K::AuthName => 1,
            K::Language => 2,
            K::ClientNonce => 3,
            K::Passphrase => 4,
            K::EchoPrompt => 5,
            K::NoEchoPrompt => 6,
            K::Realm => 7,
            K::External => 8,
            K::Otp => 9,
            K::Pin => 10,
            K::NewPassphrase => 11,
            K::Confirm => 12,
            K::Trust => 13,
            K::Choice => 14,
            K::Token => 15,
            K::Assertion => 16,
            K::Other(_) => return None,
        })
    }
}

impl fmt::Display for CredentialKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of kinds: what a peer can answer, or what a mechanism may ask.
///
/// ```
/// use countersign::{CredentialKind, KindSet};
///
/// let terminal = KindSet::none().with(CredentialKind::AuthName).with(CredentialKind::Passphrase);
/// assert!(terminal.contains(&CredentialKind::Passphrase));
/// assert!(!terminal.contains(&CredentialKind::Assertion));
/// assert!(KindSet::all().contains_all(&terminal));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KindSet {
    known: u32,
    any_other: bool,
    other: Vec<Cow<'static, str>>,
}

impl KindSet {
    /// Nothing.
    pub const fn none() -> Self {
        Self { known: 0, any_other: false, other: Vec::new() }
    }

    /// Everything, kinds unknown to this version included: a peer that shows whatever it is sent.
    pub const fn all() -> Self {
        Self { known: u32::MAX, any_other: true, other: Vec::new() }
    }

    /// The set with one more kind.
    #[must_use]
    pub fn with(mut self, kind: CredentialKind) -> Self {
        match (kind.index(), kind) {
            (Some(index), _) => self.known |= 1 << index,
            (None, CredentialKind::Other(name)) if !self.other.contains(&name) => {
                self.other.push(name);
            }
            _ => {}
        }
        self
    }

    /// Whether the set has this kind.
    pub fn contains(&self, kind: &CredentialKind) -> bool {
        match (kind.index(), kind) {
            (Some(index), _) => self.known & (1 << index) != 0,
            (None, CredentialKind::Other(name)) => self.any_other || self.other.contains(name),
            _ => false,
        }
    }

    /// Whether every kind of `other` is in this set.
    pub fn contains_all(&self, other: &Self) -> bool {
        other.known & !self.known == 0
            && (self.any_other
                || !other.any_other && other.other.iter().all(|name| self.other.contains(name)))
    }
}

impl FromIterator<CredentialKind> for KindSet {
    fn from_iter<T: IntoIterator<Item = CredentialKind>>(kinds: T) -> Self {
        kinds.into_iter().fold(Self::none(), Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_one_table() {
        for (index, (kind, name)) in NAMES.iter().enumerate() {
            assert_eq!(kind.index().map(usize::from), Some(index));
            assert_eq!(kind.name(), *name);
            assert_eq!(CredentialKind::from_name(name), *kind);
        }
        assert_eq!(K::Username.libvirt_number(), Some(1));
        assert_eq!(K::External.libvirt_number(), Some(9));
        assert_eq!(K::Otp.libvirt_number(), None);
        assert_eq!(CredentialKind::from_name("idp-oauth2").name(), "idp-oauth2");
    }

    #[test]
    fn sets() {
        let set = KindSet::none().with(K::Passphrase).with(K::Other("x".into()));
        assert!(set.contains(&K::Passphrase) && set.contains(&K::Other("x".into())));
        assert!(!set.contains(&K::Otp) && !set.contains(&K::Other("y".into())));
        assert!(KindSet::all().contains_all(&set));
        assert!(!set.contains_all(&KindSet::all()));
        assert!(set.contains_all(&KindSet::none().with(K::Other("x".into()))));
    }
}
