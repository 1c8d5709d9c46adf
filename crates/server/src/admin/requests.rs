//! What an administrator asks for. The same types are the bodies of HTTP requests and what the command
//! line fills in.

use std::collections::BTreeMap;

use countersign::Secret;
use serde::{Deserialize, Deserializer};

use super::When;
use super::password::{maybe_secret, secret};
use crate::identity::GroupView;

/// A user to be added.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// 1 to 255 bytes, without control characters; exact.
    pub name: String,
    /// Without one, the user cannot log in by password until it is set.
    #[serde(default, deserialize_with = "maybe_secret")]
    pub password: Option<Secret>,
    /// Which groups the user is in.
    #[serde(default)]
    pub groups: Vec<GroupView>,
    /// Whether groups that do not exist are created. Else they are an error.
    #[serde(default)]
    pub create_groups: bool,
    /// Security labels.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Everything else, each with one or more values.
    #[serde(default)]
    pub attributes: BTreeMap<String, Vec<String>>,
    /// Whether the password must be changed at the first login.
    #[serde(default)]
    pub must_change: bool,
    /// From when on the account lets nobody in.
    #[serde(default)]
    pub expires: Option<When>,
    /// Whether the account lets anybody in. True when left out.
    #[serde(default = "yes")]
    pub enabled: bool,
}

fn yes() -> bool {
    true
}

impl NewUser {
    /// An enabled user with a name and nothing else.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            password: None,
            groups: Vec::new(),
            create_groups: false,
            labels: Vec::new(),
            attributes: BTreeMap::new(),
            must_change: false,
            expires: None,
            enabled: true,
        }
    }
}

/// What to change about a user. What is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UserChange {
    /// Lets in, or not. Disabling ends the user's sessions.
    pub enabled: Option<bool>,
    /// From when on the account lets nobody in; `null`: never.
    #[serde(deserialize_with = "given")]
    pub expires: Option<Option<When>>,
    /// Whether the password must be changed at the next login.
    pub must_change: Option<bool>,
    /// The checker that vouches for this account in place of a password here, such as `oidc.example`;
    /// `null`: none.
    #[serde(deserialize_with = "given")]
    pub driver: Option<Option<String>>,
    /// Groups to be in, with the administrator mark as given; other groups stay.
    pub groups: Vec<GroupView>,
    /// Whether groups that do not exist are created. Else they are an error.
    pub create_groups: bool,
    /// Groups to be taken out of.
    pub remove_groups: Vec<String>,
    /// Labels to have; others stay.
    pub labels: Vec<String>,
    /// Labels to lose.
    pub remove_labels: Vec<String>,
    /// Attributes, each with the values it gets in place of what it had; none: unset.
    pub attributes: BTreeMap<String, Vec<String>>,
}

/// A password to be set by an administrator.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPassword {
    /// The password.
    #[serde(deserialize_with = "secret")]
    pub password: Secret,
    /// Whether the user must change it at the next login.
    #[serde(default)]
    pub must_change: bool,
}

/// Which page of a listing, in byte order of the names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listing {
    /// Only names that begin so.
    pub prefix: String,
    /// Only names after this one: the last one of the page before.
    pub after: Option<String>,
    /// At most so many; 1000 when left out, and at most.
    pub limit: Option<usize>,
}

/// A group to be added or changed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewGroup {
    /// As a user's name, and without a comma.
    pub name: String,
    /// A number for protocols that want one. Unique.
    #[serde(default)]
    pub gid: Option<u32>,
    /// For people.
    #[serde(default)]
    pub description: String,
}

/// Which audit events, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditQuery {
    /// Claimed or proven name, exactly.
    pub user: Option<String>,
    /// Not before.
    pub since: Option<When>,
    /// `granted`, `denied`, `fault` or `changed`.
    pub outcome: Option<String>,
    /// Only ids below this one: the next older page.
    pub before: Option<i64>,
    /// At most so many; 1000 when left out, and at most.
    pub limit: Option<usize>,
}

/// Tells `null` from what is left out.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_null_and_given_differ() {
        let change = |json: &str| serde_json::from_str::<UserChange>(json).unwrap().expires;
        assert_eq!(change("{}"), None);
        assert_eq!(change(r#"{"expires":null}"#), Some(None));
        let given = change(r#"{"expires":"2026-11-22"}"#).unwrap().unwrap();
        assert_eq!(given.to_string(), "2026-11-22T00:00:00Z");
    }

    #[test]
    fn bodies_are_strict_and_their_errors_discreet() {
        let new: NewUser = serde_json::from_str(
            r#"{"name":"ada","password":"p\u0061ssword","groups":[{"name":"ops","admin":true}]}"#,
        )
        .unwrap();
        assert!(new.enabled && new.groups[0].admin && !new.create_groups);
        assert_eq!(new.password.unwrap(), Secret::from("password"));
        assert!(serde_json::from_str::<NewUser>(r#"{"name":"a","pasword":"x"}"#).is_err());
        let none: NewUser = serde_json::from_str(r#"{"name":"a","password":null}"#).unwrap();
        assert!(none.password.is_none());
        for body in [r#"{"password":12345678}"#, r#"{"password":-12345678}"#] {
            let error = serde_json::from_str::<NewPassword>(body).unwrap_err().to_string();
            assert!(!error.contains("12345678") && error.contains("quotes"), "{error}");
        }
    }
}
