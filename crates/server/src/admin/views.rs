//! What an administrator is shown. No field could hold a secret.

use std::collections::BTreeMap;

use countersign_checkers::hash::{Accept, Hash};
use countersign_store::{
    Account, AccountSummary, AuditEvent, Changes, Credential, CredentialType, Group,
};
use serde::{Deserialize, Serialize};

use super::When;
use crate::identity::GroupView;

/// One line of a listing of users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserLine {
    /// The name.
    pub name: String,
    /// Whether it lets anybody in.
    pub enabled: bool,
    /// From when on it does not.
    pub expires: Option<When>,
    /// Whether the password must be changed at the next login.
    pub must_change: bool,
}

impl From<AccountSummary> for UserLine {
    fn from(account: AccountSummary) -> Self {
        let AccountSummary { name, enabled, expires, must_change, .. } = account;
        Self { name, enabled, expires: expires.map(When), must_change }
    }
}

/// A user, whole but for what proves them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserView {
    /// The name.
    pub name: String,
    /// Whether it lets anybody in.
    pub enabled: bool,
    /// From when on it does not.
    pub expires: Option<When>,
    /// Whether the password must be changed at the next login.
    pub must_change: bool,
    /// Which external driver vouches for the account, if one does.
    pub driver: Option<String>,
    /// Groups, by name.
    pub groups: Vec<GroupView>,
    /// Security labels, sorted.
    pub labels: Vec<String>,
    /// Everything else.
    pub attributes: BTreeMap<String, Vec<String>>,
    /// What the user can prove themselves with, oldest first.
    pub credentials: Vec<CredentialView>,
}

impl From<&Account> for UserView {
    fn from(account: &Account) -> Self {
        let groups = account.groups.iter();
        Self {
            name: account.name.clone(),
            enabled: account.enabled,
            expires: account.expires.map(When),
            must_change: account.must_change,
            driver: account.driver.clone(),
            groups: groups.map(|m| GroupView { name: m.group.clone(), admin: m.admin }).collect(),
            labels: account.labels.clone(),
            attributes: account.attributes.clone(),
            credentials: account.credentials.iter().map(CredentialView::from).collect(),
        }
    }
}

/// One credential, without what it is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialView {
    /// Never used again.
    pub id: i64,
    /// `password`, `totp`, `ssh-key`, …
    pub kind: String,
    /// How a password is hashed (`ARGON2ID`), or why its hash is of no use.
    pub scheme: Option<String>,
    /// The holder's own name for it.
    pub label: String,
    /// Where it may be used; everywhere if nowhere in particular.
    pub scope: Option<String>,
    /// When it was added.
    pub created: When,
    /// From when on it proves nothing.
    pub expires: Option<When>,
    /// The last use that was recorded.
    pub last_used: Option<When>,
}

impl From<&Credential> for CredentialView {
    fn from(credential: &Credential) -> Self {
        Self {
            id: credential.id,
            kind: credential.kind.to_string(),
            scheme: scheme(credential),
            label: credential.label.clone(),
            scope: credential.scope.clone(),
            created: When(credential.created),
            expires: credential.expires.map(When),
            last_used: credential.last_used.map(When),
        }
    }
}

fn scheme(credential: &Credential) -> Option<String> {
    if !matches!(credential.kind, CredentialType::Password | CredentialType::AppPassword) {
        return None;
    }
    let accept = Accept { allow_plain: true, ..Accept::default() };
    Some(match credential.data.to_str().map(|text| Hash::parse(text, &accept)) {
        Some(Ok(hash)) => hash.scheme().to_owned(),
        Some(Err(error)) => format!("unusable: {error}"),
        None => "unusable: not text".to_owned(),
    })
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRecord {
    /// The name.
    pub name: String,
    /// Its number, if it has one.
    pub gid: Option<u32>,
    /// For people.
    pub description: String,
}

impl From<Group> for GroupRecord {
    fn from(Group { name, gid, description }: Group) -> Self {
        Self { name, gid, description }
    }
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberView {
    /// The user.
    pub name: String,
    /// Whether the user administers the group.
    pub admin: bool,
}

/// What adding or changing a user did besides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Groups that did not exist before.
    pub created_groups: Vec<String>,
    /// How many sessions ended.
    pub ended_sessions: u64,
}

impl From<Changes> for Done {
    fn from(changes: Changes) -> Self {
        let Changes { created_groups, ended_sessions, .. } = changes;
        Self { created_groups, ended_sessions }
    }
}

/// One event of the audit's recent part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditView {
    /// Rises with every event.
    pub id: i64,
    /// When.
    pub at: When,
    /// `granted`, `denied`, `fault`, or `changed` for an administrator's act.
    pub outcome: String,
    /// The name that the peer typed, or the user that was changed.
    pub claimed: String,
    /// The name that was proven.
    pub subject: Option<String>,
    /// What the login was for.
    pub service: String,
    /// Where the peer was, or who changed it.
    pub peer: String,
    /// Who decided.
    pub checker: Option<String>,
    /// By which mechanism.
    pub mechanism: Option<String>,
    /// The true reason.
    pub reason: String,
    /// Anything more.
    pub detail: String,
}

impl From<AuditEvent> for AuditView {
    fn from(event: AuditEvent) -> Self {
        Self {
            id: event.id,
            at: When(event.at),
            outcome: event.outcome,
            claimed: event.claimed,
            subject: event.subject,
            service: event.service,
            peer: event.peer,
            checker: event.checker,
            mechanism: event.mechanism,
            reason: event.reason,
            detail: event.detail,
        }
    }
}
