//! `[checker.ldap.NAME]` and `ldap:URL`. Reference: `docs/guide/ldap.md`.

mod url;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use countersign::{Fault, Secret};
use serde::Deserialize;
use toml::Spanned;

use super::{Building, CheckerSettings, Form, Kind, Misplaced, Parts, Span, read, secret_file};
use crate::ldap::{GroupRules, Groups, Ldap, LdapOptions, Method, Place, Scope};

/// The kind, with how it is made.
pub(super) fn completed(kind: Kind) -> Kind {
    kind.explained(
        "URL is an LDAP URL as in RFC 4516: ldap://HOST[:PORT]/BASE?ATTRIBUTE?SCOPE?FILTER?EXTENSIONS, or\n\
         ldaps://. Users are searched below BASE, by ATTRIBUTE (uid), in SCOPE (`sub`; `one`, `base`), among\n\
         what FILTER finds; `{login}` in a filter stands for the name, and then ATTRIBUTE is only what the\n\
         user is known as. The password is checked by a bind.\n\
         \n\
         Extensions, with commas between them:\n\
         \x20 bindname=DN           who searches (nobody in particular)\n\
         \x20 x-password-file=PATH  that one's password, in a file that only its owner can read\n\
         \x20 x-starttls            encrypt before anything else\n\
         \x20 x-ca=PATH             certificates that vouch for the server, instead of the system's\n\
         \x20 x-insecure            passwords may cross the network in clear text",
    )
    .shown("ldap:ldaps://ldap.example.org/ou=people,dc=example,dc=org?uid")
    .from_table(|value, base| {
        let mut settings: LdapSettings = read(value)?;
        base.clone_into(&mut settings.below);
        Ok(Box::new(settings))
    })
    .from_argument(Form::Required("URL"), |argument| Ok(Box::new(url::Named::of(argument)?)))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LdapSettings {
    servers: Spanned<Vec<Servers>>,
    #[serde(default)]
    starttls: bool,
    ca: Option<Spanned<PathBuf>>,
    #[serde(default)]
    insecure: bool,
    bind_dn: Option<Spanned<String>>,
    bind_password_file: Option<Spanned<PathBuf>>,
    base: Option<Spanned<String>>,
    #[serde(default)]
    scope: ScopeWord,
    filter: Option<Spanned<String>>,
    bind_as: Option<Spanned<String>>,
    decoy: Option<String>,
    #[serde(default = "uid")]
    name: String,
    groups: Option<Spanned<GroupsTable>>,
    #[serde(default)]
    labels: Vec<String>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    timeout: Option<Span>,
    deadline: Option<Span>,
    idle: Option<Span>,
    connections: Option<usize>,
    /// The folder that relative paths are below.
    #[serde(skip)]
    below: PathBuf,
}

/// One server, or several that take turns.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "a server's address, or a list of some that take turns")]
enum Servers {
    One(String),
    Several(Vec<String>),
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ScopeWord {
    Base,
    One,
    #[default]
    Subtree,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupsTable {
    base: Option<String>,
    filter: Option<String>,
    attribute: Option<String>,
    #[serde(default = "cn")]
    name: String,
    /// What they are called here.
    mapping: Option<PathBuf>,
    /// The group of whoever would have none.
    default: Option<String>,
    /// The entry whose members administer all of their groups.
    admins: Option<String>,
}

fn uid() -> String {
    "uid".into()
}

fn cn() -> String {
    "cn".into()
}

impl LdapSettings {
    fn options(&self) -> Result<LdapOptions, Misplaced> {
        let servers = self.servers.get_ref().iter().map(|servers| match servers {
            Servers::One(url) => vec![url.clone()],
            Servers::Several(urls) => urls.clone(),
        });
        Ok(LdapOptions {
            servers: servers.collect(),
            starttls: self.starttls,
            ca: self.ca.as_ref().map(|path| self.below.join(path.get_ref())),
            insecure: self.insecure,
            method: self.method()?,
            name: self.name.clone(),
            groups: self.groups()?,
            labels: self.labels.clone(),
            attributes: self.attributes.clone(),
            timeout: self.timeout.map_or(Duration::from_secs(3), |span| span.0),
            deadline: self.deadline.map_or(Duration::from_secs(8), |span| span.0),
            connections: self.connections.unwrap_or(8),
            idle: self.idle.map_or(Duration::from_secs(60), |span| span.0),
        })
    }

    fn method(&self) -> Result<Method, Misplaced> {
        let scope = match self.scope {
            ScopeWord::Base => Scope::Base,
            ScopeWord::One => Scope::One,
            ScopeWord::Subtree => Scope::Subtree,
        };
        let place = match (&self.base, &self.filter) {
            (Some(base), Some(filter)) => {
                let (base, filter) = (base.get_ref().clone(), filter.get_ref().clone());
                Some(Place { base, scope, filter })
            }
            (None, None) => None,
            (Some(one), None) | (None, Some(one)) => {
                return Err(Misplaced::at(one.span(), "`base` and `filter` go together"));
            }
        };
        if let Some(bind_as) = &self.bind_as {
            let other = self.bind_dn.as_ref().map(Spanned::span);
            let other = other.or(self.bind_password_file.as_ref().map(Spanned::span));
            if let Some(span) = other {
                let what =
                    "with `bind_as` users log in at once, and nobody searches; leave one out";
                return Err(Misplaced::at(span, what));
            }
            return Ok(Method::Bind { bind_as: bind_as.get_ref().clone(), place });
        }
        let Some(place) = place else {
            let what = "how are users found? give `base` and `filter`, or `bind_as`";
            return Err(Misplaced::at(self.servers.span(), what));
        };
        let identity = match (&self.bind_dn, &self.bind_password_file) {
            (Some(dn), Some(file)) => Some((dn.get_ref().clone(), self.password(file)?)),
            (None, None) => None,
            (Some(dn), None) => {
                return Err(Misplaced::at(dn.span(), "`bind_dn` needs `bind_password_file`"));
            }
            (None, Some(file)) => {
                return Err(Misplaced::at(file.span(), "`bind_password_file` needs `bind_dn`"));
            }
        };
        Ok(Method::SearchAndBind { identity, place, decoy: self.decoy.clone() })
    }

    fn password(&self, file: &Spanned<PathBuf>) -> Result<Secret, Misplaced> {
        secret_file(&self.below, file.get_ref()).map_err(|why| {
            let what = format!("`bind_password_file` {} {why}", file.get_ref().display());
            Misplaced::at(file.span(), what)
        })
    }

    fn groups(&self) -> Result<Groups, Misplaced> {
        let Some(groups) = &self.groups else { return Ok(Groups::None) };
        let table = groups.get_ref().clone();
        match (table.base, table.filter, table.attribute) {
            (Some(base), Some(filter), None) => {
                Ok(Groups::Search { base, filter, name: table.name })
            }
            (None, None, Some(attribute)) => Ok(Groups::Attribute { attribute, name: table.name }),
            _ => {
                let what =
                    "groups are found by `base` and `filter`, or by an `attribute` of the user";
                Err(Misplaced::at(groups.span(), what))
            }
        }
    }

    fn rules(&self) -> Result<GroupRules, Misplaced> {
        let Some(groups) = &self.groups else { return Ok(GroupRules::default()) };
        let GroupsTable { mapping, default, admins, .. } = groups.get_ref();
        let mapping = mapping.as_ref().map(|path| self.below.join(path));
        GroupRules::new(mapping, default.clone(), admins.as_deref())
            .map_err(|fault| Misplaced { place: Some(groups.span()), fault })
    }

    /// Where a setting is.
    fn span(&self, key: &str) -> Option<Range<usize>> {
        match key {
            "servers" => Some(self.servers.span()),
            "ca" => self.ca.as_ref().map(Spanned::span),
            "filter" => self.filter.as_ref().map(Spanned::span),
            "bind_as" => self.bind_as.as_ref().map(Spanned::span),
            "bind_password_file" => self.bind_password_file.as_ref().map(Spanned::span),
            "groups" => self.groups.as_ref().map(Spanned::span),
            _ => None,
        }
    }
}

impl CheckerSettings for LdapSettings {
    fn build<'a>(&'a self, name: &'a str, _: &'a Parts) -> Building<'a> {
        Box::pin(async move {
            let ldap = Ldap::new(self.options()?).map_err(|error| Misplaced {
                place: self.span(error.key),
                fault: Fault::internal(error.to_string()),
            })?;
            Ok(Arc::new(ldap.with_group_rules(self.rules()?).checker(name)) as _)
        })
    }

    fn describe(&self) -> String {
        let all = self.servers.get_ref().iter().flat_map(|servers| match servers {
            Servers::One(url) => std::slice::from_ref(url),
            Servers::Several(urls) => urls,
        });
        let urls: Vec<_> = all.map(String::as_str).collect();
        format!("users in the directory at {}", urls.join(", "))
    }
}
