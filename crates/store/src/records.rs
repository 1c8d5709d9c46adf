//! The plain data that goes in and comes out. Times are unix seconds, given by the caller.

use std::collections::BTreeMap;
use std::fmt;

use countersign::Secret;

/// One account, whole: what a login needs to know, read in one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Never used again for another account.
    pub id: i64,
    /// Exact bytes, as the caller gave them.
    pub name: String,
    /// A disabled account is kept and lets nobody in.
    pub enabled: bool,
    /// From this second on the account lets nobody in.
    pub expires: Option<i64>,
    /// The password must be changed before anything else.
    pub must_change: bool,
    /// The external driver that vouches for this account instead of the credentials here.
    pub driver: Option<String>,
    /// In the order in which they were added.
    pub credentials: Vec<Credential>,
    /// Sorted by group name.
    pub groups: Vec<Membership>,
    /// Sorted.
    pub labels: Vec<String>,
    /// Each name with at least one value, in the order given.
    pub attributes: BTreeMap<String, Vec<String>>,
    /// The store's revision at this account's last change. Whoever caches a decision about the account
    /// keys it with `(id, revision)`, and it is gone the moment anything about the account changes.
    pub revision: i64,
}

impl Account {
    /// What [`Account::driver`] is in a store that came from OpenNebula, for accounts whose own credentials
    /// count: it says no more than no driver at all.
    pub const CORE: &'static str = "core";

    /// The driver that vouches for this account, unless that is its own credentials.
    pub fn driven_by(&self) -> Option<&str> {
        self.driver.as_deref().filter(|driver| *driver != Self::CORE)
    }

    /// The credentials of one kind, oldest first.
    pub fn credentials_of(&self, kind: &CredentialType) -> impl Iterator<Item = &Credential> {
        self.credentials.iter().filter(move |c| c.kind == *kind)
    }
}

/// One thing that proves who the account's holder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Never used again.
    pub id: i64,
    /// What it is.
    pub kind: CredentialType,
    /// The holder's own name for it (`laptop`).
    pub label: String,
    /// The hash string or the key material.
    pub data: Secret,
    /// Where it may be used; the meaning is the caller's. `None`: everywhere.
    pub scope: Option<String>,
    /// What finds the account when the peer shows the credential first: a key's fingerprint, a passkey's id.
    pub lookup: Option<String>,
    /// When it was added.
    pub created: i64,
    /// From this second on it proves nothing.
    pub expires: Option<i64>,
    /// The last use that was recorded; in the copy in memory it may lag.
    pub last_used: Option<i64>,
    /// The last accepted step or signature count. Only [`crate::Store::advance_counter`] decides; the value
    /// seen here is a hint.
    pub counter: i64,
}

/// What a credential is. Stored as text, so that a kind of a later version survives this one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CredentialType {
    /// The password's hash string.
    Password,
    /// The hash string of a password for some services only.
    AppPassword,
    /// A time-based one-time code's secret (RFC 6238).
    Totp,
    /// A counter-based one-time code's secret (RFC 4226).
    Hotp,
    /// The hash of one recovery code; used once.
    Recovery,
    /// A WebAuthn credential.
    Passkey,
    /// An SSH public key.
    SshKey,
    /// A certificate, or the rule that maps certificates to this account.
    Certificate,
    /// SCRAM's stored and server keys (RFC 5802).
    Scram,
    /// Any other kind by its name.
    Other(String),
}

impl CredentialType {
    /// The name in the database, in configuration and on the command line.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Password => "password",
            Self::AppPassword => "app-password",
            Self::Totp => "totp",
            Self::Hotp => "hotp",
            Self::Recovery => "recovery",
            Self::Passkey => "passkey",
            Self::SshKey => "ssh-key",
            Self::Certificate => "certificate",
            Self::Scram => "scram",
            Self::Other(name) => name,
        }
    }
}

impl From<&str> for CredentialType {
    fn from(name: &str) -> Self {
        match name {
            "password" => Self::Password,
            "app-password" => Self::AppPassword,
            "totp" => Self::Totp,
            "hotp" => Self::Hotp,
            "recovery" => Self::Recovery,
            "passkey" => Self::Passkey,
            "ssh-key" => Self::SshKey,
            "certificate" => Self::Certificate,
            "scram" => Self::Scram,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for CredentialType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An account's place in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The group's name.
    pub group: String,
    /// The group's number, where it has one.
    pub gid: Option<u32>,
    /// Whether the account administers the group.
    pub admin: bool,
}

/// A credential to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCredential {
    /// See [`Credential::kind`].
    pub kind: CredentialType,
    /// See [`Credential::label`].
    pub label: String,
    /// See [`Credential::data`]. A finished hash string: nothing is hashed here.
    pub data: Secret,
    /// See [`Credential::scope`].
    pub scope: Option<String>,
    /// See [`Credential::lookup`].
    pub lookup: Option<String>,
    /// See [`Credential::expires`].
    pub expires: Option<i64>,
    /// Where counting begins.
    pub counter: i64,
}

impl NewCredential {
    /// A credential without label, scope, lookup and expiry.
    pub fn new(kind: CredentialType, data: Secret) -> Self {
        let label = String::new();
        Self { kind, label, data, scope: None, lookup: None, expires: None, counter: 0 }
    }
}

/// An account to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAccount {
    /// See [`Account::name`].
    pub name: String,
    /// See [`Account::enabled`].
    pub enabled: bool,
    /// See [`Account::expires`].
    pub expires: Option<i64>,
    /// See [`Account::must_change`].
    pub must_change: bool,
    /// See [`Account::driver`].
    pub driver: Option<String>,
    /// What it begins with.
    pub credentials: Vec<NewCredential>,
    /// Names of groups that exist, each with the admin mark.
    pub groups: Vec<(String, bool)>,
    /// See [`Account::labels`].
    pub labels: Vec<String>,
    /// See [`Account::attributes`].
    pub attributes: BTreeMap<String, Vec<String>>,
}

impl NewAccount {
    /// An enabled account with a name and nothing else.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            enabled: true,
            expires: None,
            must_change: false,
            driver: None,
            credentials: Vec::new(),
            groups: Vec::new(),
            labels: Vec::new(),
            attributes: BTreeMap::new(),
        }
    }
}

/// Fields to set; `None` leaves the field alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountUpdate {
    /// See [`Account::enabled`].
    pub enabled: Option<bool>,
    /// See [`Account::expires`]; `Some(None)` removes the expiry.
    pub expires: Option<Option<i64>>,
    /// See [`Account::must_change`].
    pub must_change: Option<bool>,
    /// See [`Account::driver`]; `Some(None)` goes back to the credentials here.
    pub driver: Option<Option<String>>,
}

/// Everything that can be changed about an account at once. The default changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountChange {
    /// Fields to set.
    pub fields: AccountUpdate,
    /// The hash string of a new password, in place of the old one and of what was made of it. The account's
    /// sessions end.
    pub password: Option<Secret>,
    /// Kinds of credentials to take away, all of each. None of a kind is no error.
    pub remove_credentials: Vec<CredentialType>,
    /// Groups to be in, each with the admin mark.
    pub groups: Vec<(String, bool)>,
    /// Add those of `groups` that do not exist.
    pub create_groups: bool,
    /// Groups to leave, after `groups`.
    pub remove_groups: Vec<String>,
    /// Labels to add.
    pub labels: Vec<String>,
    /// Labels to take away, after `labels`.
    pub remove_labels: Vec<String>,
    /// Attributes to set; no values: unset.
    pub attributes: BTreeMap<String, Vec<String>>,
    /// End the account's sessions even if nothing else asks for it.
    pub end_sessions: bool,
    /// The session of the account that asks for it, by its hash: nothing is changed if it has ended, and it
    /// stays when the others end.
    pub by_session: Option<String>,
}

/// What a change came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The store's revision after it.
    pub revision: i64,
    /// Groups that were added for it.
    pub created_groups: Vec<String>,
    /// How many credentials it took away, of each kind that it was to.
    pub removed_credentials: Vec<(CredentialType, u64)>,
    /// Sessions that it ended.
    pub ended_sessions: u64,
}

/// Fields of a group to set; `None` leaves the field alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupUpdate {
    /// Another name.
    pub name: Option<String>,
    /// See [`Group::gid`]; `Some(None)` takes the number away.
    pub gid: Option<Option<u32>>,
    /// See [`Group::description`].
    pub description: Option<String>,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountSummary {
    /// See [`Account::name`].
    pub name: String,
    /// See [`Account::enabled`].
    pub enabled: bool,
    /// See [`Account::expires`].
    pub expires: Option<i64>,
    /// See [`Account::must_change`].
    pub must_change: bool,
    /// See [`Account::driver`].
    pub driver: Option<String>,
    /// See [`Account::revision`].
    pub revision: i64,
}

/// Which part of a listing. Pages are in byte order of the names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Only names that begin so.
    pub prefix: String,
    /// Only names after this one: the last name of the page before.
    pub after: Option<String>,
    /// At most this many, and never more than [`crate::limits::PAGE`].
    pub limit: usize,
}

impl Default for Page {
    fn default() -> Self {
        Self { prefix: String::new(), after: None, limit: crate::limits::PAGE }
    }
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Unique, exact bytes.
    pub name: String,
    /// Unique where present.
    pub gid: Option<u32>,
    /// For people.
    pub description: String,
}

/// A logged-in session. The token itself never comes here, only its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// The token's hash as text; also the session's id towards its owner and administrators.
    pub hash: String,
    /// The proven name, of an account here or of another checker's user.
    pub subject: String,
    /// Which service it was made for.
    pub service: String,
    /// Where the peer was.
    pub peer: String,
    /// Whatever the caller wants back, such as the identity as JSON.
    pub data: String,
    /// When it began.
    pub created: i64,
    /// The last use that was recorded.
    pub last_seen: i64,
    /// From this second on it is no session.
    pub expires: i64,
}

/// A login token to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// The token's hash as text.
    pub hash: String,
    /// The holder's own name for it.
    pub label: String,
    /// The one group whose rights it carries; `None`: all of the account's.
    pub group: Option<String>,
    /// From this second on it proves nothing. `None`: until it is removed.
    pub expires: Option<i64>,
}

/// A login token of an account. The token itself never comes here, only its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// Never used again.
    pub id: i64,
    /// The account's name.
    pub account: String,
    /// See [`NewToken::hash`].
    pub hash: String,
    /// See [`NewToken::label`].
    pub label: String,
    /// See [`NewToken::group`].
    pub group: Option<String>,
    /// When it was added.
    pub created: i64,
    /// See [`NewToken::expires`].
    pub expires: Option<i64>,
    /// The last use that was recorded.
    pub last_used: Option<i64>,
}

/// One line of the audit: an attempt or an administrator's act.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditEvent {
    /// Given by the store, rising; ignored when recording.
    pub id: i64,
    /// When.
    pub at: i64,
    /// What ties the events of one attempt together.
    pub attempt: String,
    /// The name that the peer typed: anything at all.
    pub claimed: String,
    /// The name that was proven, if any was.
    pub subject: Option<String>,
    /// Which service.
    pub service: String,
    /// Where the peer was.
    pub peer: String,
    /// Who decided.
    pub checker: Option<String>,
    /// By which mechanism.
    pub mechanism: Option<String>,
    /// `granted`, `denied`, `fault`, …: the caller's words.
    pub outcome: String,
    /// The true reason.
    pub reason: String,
    /// Anything more, as the caller writes it.
    pub detail: String,
}

/// Which audit events. The default is: the newest [`crate::limits::PAGE`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Claimed or proven name, exactly.
    pub user: Option<String>,
    /// Not before this second.
    pub since: Option<i64>,
    /// Exactly this outcome.
    pub outcome: Option<String>,
    /// Only ids above this one: what came since the last look.
    pub after: Option<i64>,
    /// Only ids below this one: the next older page.
    pub before: Option<i64>,
    /// At most this many; `None` and anything larger is [`crate::limits::PAGE`].
    pub limit: Option<usize>,
}

/// What is held against a user, a source, or a user from a source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ThrottleRow {
    /// The claimed name; empty: any.
    pub user: String,
    /// An address or a network as text; empty: any, or not known.
    pub source: String,
    /// How many failures there were; for [`crate::Store::add_throttles`], how many more.
    pub failures: i64,
    /// Until when there is a delay, in unix milliseconds.
    pub until_ms: i64,
    /// When the last failure was, in unix milliseconds.
    pub last_ms: i64,
}

/// What a change touched; sent to everybody who holds a copy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Changed {
    /// The account of this name.
    Account(String),
    /// The group of this name. Its members are named one by one beside it.
    Group(String),
    /// The session with this hash ended.
    Session(String),
    /// Failures were forgotten, see [`crate::Store::clear_throttles`].
    Throttle {
        /// Of this user; empty: of the rows that stand for any. `None`: of all.
        user: Option<String>,
        /// From this source; empty: of the rows that stand for any. `None`: from all.
        source: Option<String>,
    },
    /// Too much to name, or the record of it was trimmed: forget every copy.
    Everything,
}
