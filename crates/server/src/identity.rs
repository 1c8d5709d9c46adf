//! How an identity looks outside: in JSON replies and in the data of a session.

use std::collections::{BTreeMap, BTreeSet};

use countersign::{Identity, Subject};
use serde::{Deserialize, Serialize};

/// An identity as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityView {
    /// The proven name; `null` for anonymous.
    pub subject: Option<String>,
    /// Groups, by name.
    pub groups: Vec<GroupView>,
    /// Security labels.
    pub labels: BTreeSet<String>,
    /// Everything else.
    pub attributes: BTreeMap<String, Vec<String>>,
}

/// Membership of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupView {
    /// The group's name.
    pub name: String,
    /// Whether the member administers the group.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub admin: bool,
}

impl IdentityView {
    /// The view of an identity.
    pub fn of(identity: &Identity) -> Self {
        let groups = identity.groups.iter();
        Self {
            subject: identity.subject.name().map(str::to_owned),
            groups: groups
                .map(|(name, admin)| GroupView { name: name.clone(), admin: *admin })
                .collect(),
            labels: identity.labels.clone(),
            attributes: identity.attributes.clone(),
        }
    }

    /// As JSON text.
    pub fn to_json(&self) -> String {
        // Strings, lists and maps with string keys always serialize.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The identity of this view.
    pub fn to_identity(&self) -> Identity {
        let mut identity = match &self.subject {
            Some(name) => Identity::named(name.as_str()),
            None => Identity { subject: Subject::Anonymous, ..Identity::anonymous() },
        };
        identity.groups = self.groups.iter().map(|g| (g.name.clone(), g.admin)).collect();
        identity.labels.clone_from(&self.labels);
        identity.attributes.clone_from(&self.attributes);
        identity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let ada =
            Identity::named("ada").in_group("ops", true).labelled("secret").with("mail", "a@x");
        let json = IdentityView::of(&ada).to_json();
        let back: IdentityView = serde_json::from_str(&json).unwrap();
        assert_eq!(back.to_identity(), ada);
    }
}
