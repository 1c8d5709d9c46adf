//! `[checker.ldap.NAME]`: users in a directory, by search and bind or by direct bind.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use countersign::{
    Denial, Fault, FaultKind, Identity, Password, PasswordStore, Reason, Secret, Verdict, Verified,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::time::timeout;

use crate::name::can_be_a_name;

mod address;
mod answer;
mod connection;
mod guard;
mod mapping;
mod relay;
mod servers;
mod template;
mod verdict;

use address::Address;
use answer::{Entry, Found, Outcome};
use connection::{Broken, Connection, Protection, Search};
use mapping::Group;
pub use mapping::GroupRules;
use servers::{Limits, Purpose, Servers, Work};
use template::{DnTemplate, FilterTemplate, TemplateError, first_rdn};

/// Servers hang up on who sends too much before being known (OpenLDAP at 256 KiB), which must not look like
/// a server that fails: one person could have it left alone by everybody.
const LONGEST_PASSWORD: usize = 4096;
/// Who is in more groups gets in with none of them known, which is to say: not at all.
const MOST_GROUPS: u16 = 1000;

/// How a directory is asked.
#[derive(Debug, Clone)]
pub struct LdapOptions {
    /// Groups of servers, the first choice first; within a group they take turns.
    pub servers: Vec<Vec<String>>,
    /// StartTLS on every `ldap://`.
    pub starttls: bool,
    /// The certificates of authorities that may vouch for a server, PEM; without, the system's.
    pub ca: Option<PathBuf>,
    /// Whether passwords may cross a network in clear text.
    pub insecure: bool,
    /// How a person is found and tried.
    pub method: Method,
    /// The attribute that holds a person's one name here.
    pub name: String,
    /// Where groups come from.
    pub groups: Groups,
    /// Attributes whose values become labels.
    pub labels: Vec<String>,
    /// Our attribute's name, and the directory's.
    pub attributes: BTreeMap<String, String>,
    /// For one operation.
    pub timeout: Duration,
    /// For one login. Below 10 seconds, at which Postfix hangs up.
    pub deadline: Duration,
    /// How many connections of each kind (for searching, for passwords) to each server.
    pub connections: usize,
    /// How long a connection may be idle before it is not used again.
    pub idle: Duration,
}

/// How deep a search looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The entry alone.
    Base,
    /// Those right below it.
    One,
    /// It and all below it.
    Subtree,
}

/// Where entries are.
#[derive(Debug, Clone)]
pub struct Place {
    /// The entry to begin at.
    pub base: String,
    /// How deep.
    pub scope: Scope,
    /// Which entry, with `{login}`.
    pub filter: String,
}

/// How a person is found and tried.
#[derive(Debug, Clone)]
pub enum Method {
    /// Find the entry, then bind as it.
    SearchAndBind {
        /// Who searches; without, anybody may.
        identity: Option<(String, Secret)>,
        /// Where, and which.
        place: Place,
        /// What an unknown user's password is tried against, so that it takes as long as a known one's.
        decoy: Option<String>,
    },
    /// Bind at once, by a name that is made of the user's, and read the entry as that user.
    Bind {
        /// `uid={login},ou=people,dc=example`, or `{login}@corp.example`.
        bind_as: String,
        /// Where the entry is, when `bind_as` is no DN.
        place: Option<Place>,
    },
}

/// Where groups come from.
#[derive(Debug, Clone)]
pub enum Groups {
    /// There are none.
    None,
    /// Entries that name their members: a filter with `{dn}` or `{name}`.
    Search {
        /// The entry to begin at.
        base: String,
        /// Which entries.
        filter: String,
        /// The attribute that holds a group's name.
        name: String,
    },
    /// An attribute of the person whose values are the groups' DNs, as `memberOf`.
    Attribute {
        /// The attribute.
        attribute: String,
        /// The type of the groups' first RDN. Others are not groups.
        name: String,
    },
}

/// A setting that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{key}`: {what}")]
pub struct LdapError {
    /// The setting's name.
    pub key: &'static str,
    /// What is wrong, with the remedy.
    pub what: String,
}

impl LdapError {
    fn of(key: &'static str, what: impl fmt::Display) -> Self {
        Self { key, what: what.to_string() }
    }

    fn template(key: &'static str) -> impl Fn(TemplateError) -> Self {
        move |error| Self::of(key, error)
    }
}

/// Users in a directory.
///
/// A user's name is escaped where a filter (RFC 4515) or a name (RFC 4514) is made of it, and stands only
/// where a value does. Exactly one entry must match. Empty passwords are refused here: to a directory they mean "as nobody", and succeed
/// (RFC 4513 §5.1.2). Referrals are not followed. Whatever the directory does not answer clearly lets nobody
/// in.
#[derive(Debug)]
pub struct Ldap {
    servers: Servers,
    way: Way,
    name: String,
    groups: GroupsFrom,
    rules: GroupRules,
    labels: Vec<String>,
    attributes: BTreeMap<String, String>,
    /// What is asked of a person's entry.
    wanted: Vec<String>,
    deadline: Duration,
}

#[derive(Debug)]
enum Way {
    SearchAndBind { find: Find, decoy: String },
    Bind { bind_as: DnTemplate, find: Option<Find> },
}

#[derive(Debug)]
struct Find {
    base: String,
    scope: Scope,
    filter: FilterTemplate,
}

#[derive(Debug)]
enum GroupsFrom {
    Nowhere,
    Search { base: String, filter: FilterTemplate, name: String },
    Attribute { attribute: String, name: String },
}

impl Ldap {
    /// A directory. Nothing is connected before the first login. Reads the certificates.
    ///
    /// # Errors
    /// The setting that cannot be, with the remedy.
    pub fn new(options: LdapOptions) -> Result<Self, LdapError> {
        let groups = addresses(&options)?;
        let protection = Protection {
            tls: Arc::new(trust(options.ca.as_deref(), &groups, options.starttls)?),
            start_tls: options.starttls,
        };
        let find = |place: Place| {
            let filter = FilterTemplate::parse(&place.filter, &["login"])
                .map_err(LdapError::template("filter"))?;
            if !filter.uses(0) {
                let what = "there is no `{login}` in it, so everybody would be the same";
                return Err(LdapError::of("filter", what));
            }
            Ok(Find { base: place.base, scope: place.scope, filter })
        };
        let (identity, way) = match options.method {
            Method::SearchAndBind { identity, place, decoy } => {
                if identity.as_ref().is_some_and(|(_, password)| password.is_empty()) {
                    let what = "an empty password logs in as nobody; leave `bind_dn` out for that";
                    return Err(LdapError::of("bind_password_file", what));
                }
                let utf8 = |password: &Secret| std::str::from_utf8(password.expose()).is_ok();
                if !identity.as_ref().is_none_or(|(_, password)| utf8(password)) {
                    return Err(LdapError::of("bind_password_file", "a password in it is UTF-8"));
                }
                // Nobody has this name; the server still takes a bind for it.
                let decoy = decoy.unwrap_or_else(|| {
                    let below = if place.base.is_empty() { "" } else { "," };
                    format!("cn=nobody-countersign-asks-for{below}{}", place.base)
                });
                (identity, Way::SearchAndBind { find: find(place)?, decoy })
            }
            Method::Bind { bind_as, place } => {
                let bind_as =
                    DnTemplate::parse(&bind_as).map_err(LdapError::template("bind_as"))?;
                if place.is_none() && !bind_as.is_dn() {
                    let what =
                        "this is no DN, so the entry is not known by it; give `base` and `filter`";
                    return Err(LdapError::of("bind_as", what));
                }
                (None, Way::Bind { bind_as, find: place.map(find).transpose()? })
            }
        };
        let groups_from = match options.groups {
            Groups::None => GroupsFrom::Nowhere,
            Groups::Search { base, filter, name } => {
                let filter = FilterTemplate::parse(&filter, &["dn", "name"])
                    .map_err(LdapError::template("groups"))?;
                if !filter.uses(0) && !filter.uses(1) {
                    let what = "neither `{dn}` nor `{name}` is in the filter: everybody would be in \
                                every group";
                    return Err(LdapError::of("groups", what));
                }
                GroupsFrom::Search { base, filter, name }
            }
            Groups::Attribute { attribute, name } => GroupsFrom::Attribute { attribute, name },
        };
        let mut wanted = vec![options.name.clone()];
        wanted.extend(options.labels.iter().cloned());
        wanted.extend(options.attributes.values().cloned());
        if let GroupsFrom::Attribute { attribute, .. } = &groups_from {
            wanted.push(attribute.clone());
        }
        let limits = Limits {
            operation: options.timeout,
            connections: options.connections.max(1),
            idle: options.idle,
        };
        Ok(Self {
            servers: Servers::new(groups, limits, protection, identity),
            way,
            name: options.name,
            groups: groups_from,
            rules: GroupRules::default(),
            labels: options.labels,
            attributes: options.attributes,
            wanted,
            deadline: options.deadline,
        })
    }

    /// The same, with rules for its groups.
    #[must_use]
    pub fn with_group_rules(self, rules: GroupRules) -> Self {
        Self { rules, ..self }
    }

    /// The checker of that name over this directory.
    pub fn checker(self, name: impl Into<String>) -> Password<Self> {
        Password::new(name, self)
    }

    async fn ask(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
        match &self.way {
            Way::SearchAndBind { find, .. } => self.search_and_bind(find, login, password).await,
            Way::Bind { bind_as, .. } => match bind_as.fill(login) {
                Some(bind_as) => self.bind_directly(&bind_as, login, password).await,
                None => Ok(Verdict::UNKNOWN),
            },
        }
    }

    async fn search_and_bind(
        &self,
        find: &Find,
        login: &str,
        password: &Secret,
    ) -> Result<Verdict, Fault> {
        let ask = FindPerson { ldap: self, find, login };
        let found = self.servers.perform(Purpose::Search, &ask).await?;
        let entry = match self.one(found)? {
            Ok(entry) => entry,
            Err(verdict) => return Ok(verdict),
        };
        let bind = Bind { dn: &entry.dn, password };
        let outcome = self.servers.perform(Purpose::Bind, &bind).await?;
        if let Some(denial) = verdict::of_bind(&outcome)? {
            return Ok(Verdict::Not(denial));
        }
        let name = self.name_of(&entry, login)?;
        let groups = match &self.groups {
            GroupsFrom::Search { .. } => {
                let ask = FindGroups { ldap: self, dn: &entry.dn, name: &name };
                self.servers.perform(Purpose::Search, &ask).await?
            }
            _ => None,
        };
        self.vouch(name, &entry, groups).await
    }

    async fn bind_directly(
        &self,
        bind_as: &str,
        login: &str,
        password: &Secret,
    ) -> Result<Verdict, Fault> {
        let ask = BindAndRead { ldap: self, bind_as, login, password };
        let (outcome, read) = self.servers.perform(Purpose::Bind, &ask).await?;
        if verdict::no_such_name(&outcome) {
            return Ok(Verdict::UNKNOWN);
        }
        if let Some(denial) = verdict::of_bind(&outcome)? {
            return Ok(Verdict::Not(denial));
        }
        let Some((found, groups)) = read else {
            return Err(Fault::internal("a login without an entry"));
        };
        match self.one(found)? {
            Ok(entry) => self.vouch(self.name_of(&entry, login)?, &entry, groups).await,
            Err(_) => Err(Fault::internal(format!(
                "`{bind_as}` may log in, but not read exactly one entry of its own; permit it to, or \
                 use `bind_dn` and `filter`"
            ))),
        }
    }

    /// The one entry that was found.
    fn one(&self, mut found: Found) -> Result<Result<Entry, Verdict>, Fault> {
        match found.outcome.code {
            0 | 4 => {}
            _ => return Err(verdict::of_search(&found.outcome, "looking for the user")),
        }
        if found.entries.len() > 1 || found.outcome.code == 4 {
            let denial = Denial::new(Reason::NotAllowed);
            let detail = "several entries of the directory match; make `filter` stricter";
            return Ok(Err(Verdict::Not(denial.because(detail))));
        }
        if found.references > 0 && found.entries.is_empty() {
            tracing::debug!("the directory refers to other servers, which is not followed");
        }
        Ok(found.entries.pop().ok_or(Verdict::UNKNOWN))
    }

    /// The person's one name. A directory compares without regard to case and blanks; whatever was typed, the
    /// name is as the directory has it.
    fn name_of(&self, entry: &Entry, login: &str) -> Result<String, Fault> {
        let mut names = entry.values(&self.name).filter_map(readable);
        let (Some(first), second) = (names.next(), names.next()) else {
            return Err(Fault::internal(format!(
                "the entry `{}` shows no `{}` that can be a user's name; choose another attribute with \
                 `name`, or permit it to be read",
                entry.dn, self.name
            )));
        };
        if second.is_none() {
            return Ok(first.to_owned());
        }
        let mut names = entry.values(&self.name).filter_map(readable);
        let meant = names.find(|name| name.eq_ignore_ascii_case(login));
        meant.map(str::to_owned).ok_or_else(|| {
            Fault::internal(format!(
                "the entry `{}` has several values of `{}`, and none of them is what was typed; choose an \
                 attribute with one value with `name`",
                entry.dn, self.name
            ))
        })
    }

    async fn vouch(
        &self,
        name: String,
        entry: &Entry,
        groups: Option<Found>,
    ) -> Result<Verdict, Fault> {
        let mut identity = Identity::named(name);
        let groups = self.groups_of(entry, groups)?;
        let Some((groups, administers)) = self.rules.apply(groups).await? else {
            let denial = Denial::new(Reason::NotAllowed);
            return Ok(Verdict::Not(denial.because("in none of the groups that are mapped")));
        };
        for group in groups {
            identity = identity.in_group(group, administers);
        }
        for label in &self.labels {
            identity.labels.extend(entry.values(label).filter_map(readable).map(str::to_owned));
        }
        for (ours, theirs) in &self.attributes {
            for value in entry.values(theirs).filter_map(|value| std::str::from_utf8(value).ok()) {
                identity = identity.with(ours, value);
            }
        }
        Ok(Verdict::Is(Verified::vouch(identity)))
    }

    fn groups_of(&self, entry: &Entry, found: Option<Found>) -> Result<Vec<Group>, Fault> {
        match &self.groups {
            GroupsFrom::Nowhere => Ok(Vec::new()),
            GroupsFrom::Attribute { attribute, name } => {
                let dns = entry.values(attribute).filter_map(|dn| std::str::from_utf8(dn).ok());
                let group = |dn: &str| {
                    let named = first_rdn(dn).filter(|(kind, _)| kind.eq_ignore_ascii_case(name));
                    let usable = named.filter(|(_, value)| readable(value.as_bytes()).is_some());
                    Group { dn: dn.to_owned(), name: usable.map(|(_, value)| value) }
                };
                Ok(dns.map(group).collect())
            }
            GroupsFrom::Search { name, .. } => {
                let found = found.unwrap_or_default();
                if found.outcome.code != 0 {
                    return Err(verdict::of_search(
                        &found.outcome,
                        "looking for the user's groups",
                    ));
                }
                let group =
                    |group: &Entry| Group { dn: group.dn.clone(), name: group_name(group, name) };
                Ok(found.entries.iter().map(group).collect())
            }
        }
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        timeout(self.deadline, work).await.unwrap_or_else(|_| {
            let context = format!("the directory did not answer within {:?}", self.deadline);
            Err(Fault::new(FaultKind::Timeout, context))
        })
    }

    fn search<'a>(&self, base: &'a str, scope: Scope, most: u16, of: &'a [&'a str]) -> Search<'a> {
        let seconds = self.servers.limits.operation.as_secs().clamp(1, 60) as u16;
        let scope = match scope {
            Scope::Base => ldap3::Scope::Base,
            Scope::One => ldap3::Scope::OneLevel,
            Scope::Subtree => ldap3::Scope::Subtree,
        };
        Search { base, scope, size_limit: most, seconds, attributes: of }
    }
}

impl PasswordStore for Ldap {
    async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
        if let Some(why) = no_password(password) {
            return Ok(Verdict::Not(Denial::new(Reason::WrongCredential).because(why)));
        }
        if !can_be_a_name(login) {
            return Ok(Verdict::UNKNOWN);
        }
        self.within(self.ask(login, password)).await
    }

    async fn spend(&self, _: &str, password: &Secret) -> Result<(), Fault> {
        let Way::SearchAndBind { decoy, .. } = &self.way else { return Ok(()) };
        if no_password(password).is_some() {
            return Ok(());
        }
        let bind = Bind { dn: decoy, password };
        self.within(self.servers.perform(Purpose::Bind, &bind)).await.map(drop)
    }
}

/// Why a directory must not be asked about a password.
fn no_password(password: &Secret) -> Option<&'static str> {
    if password.is_empty() {
        return Some("an empty password, which a directory takes for a login as nobody");
    }
    if password.len() > LONGEST_PASSWORD {
        return Some("a password longer than any directory should be sent");
    }
    if password.expose().contains(&0) {
        return Some("a password with a NUL byte");
    }
    // RFC 4513 §5.1.3: passwords are text, in UTF-8.
    std::str::from_utf8(password.expose()).is_err().then_some("a password that is no UTF-8")
}

/// A value that can be shown as a name.
fn readable(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok().filter(|text| can_be_a_name(text))
}

/// A group's name: as in its own DN, where it is there, for the attribute may have several values.
fn group_name(group: &Entry, name: &str) -> Option<String> {
    match first_rdn(&group.dn) {
        Some((kind, value)) if kind.eq_ignore_ascii_case(name) => Some(value),
        _ => group.values(name).find_map(readable).map(str::to_owned),
    }
    .filter(|name| can_be_a_name(name))
}

fn addresses(options: &LdapOptions) -> Result<Vec<Vec<Address>>, LdapError> {
    let wrong = |what: String| LdapError::of("servers", what);
    let mut groups = Vec::new();
    for group in &options.servers {
        let mut addresses = Vec::new();
        for url in group {
            let address = Address::parse(url).map_err(wrong)?;
            let safe = address.tls() || address.stays_here() || options.starttls;
            if !safe && !options.insecure {
                return Err(wrong(format!(
                    "passwords would go to `{url}` in clear text; write `ldaps://`, or `starttls = true`, \
                     or, where nobody can listen, `insecure = true`"
                )));
            }
            addresses.push(address);
        }
        if !addresses.is_empty() {
            groups.push(addresses);
        }
    }
    if groups.is_empty() {
        return Err(wrong("no server is named".to_owned()));
    }
    Ok(groups)
}

/// What vouches for servers. Only read where there is TLS.
fn trust(
    ca: Option<&Path>,
    groups: &[Vec<Address>],
    start_tls: bool,
) -> Result<ClientConfig, LdapError> {
    let mut roots = RootCertStore::empty();
    let needed = start_tls || groups.iter().flatten().any(Address::tls);
    if let Some(path) = ca {
        let wrong =
            |error: &dyn fmt::Display| LdapError::of("ca", format!("{}: {error}", path.display()));
        let certificates = CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| wrong(&error))?;
            roots.add(certificate).map_err(|error| wrong(&error))?;
        }
        if roots.is_empty() {
            return Err(wrong(&"there is no certificate in it; it is to be PEM"));
        }
    } else if needed {
        let native = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(native.certs);
        if roots.is_empty() {
            let what = "this system has no authorities; name a file of certificates";
            return Err(LdapError::of("ca", what));
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| LdapError::of("ca", error))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

struct FindPerson<'a> {
    ldap: &'a Ldap,
    find: &'a Find,
    login: &'a str,
}

impl Work for FindPerson<'_> {
    type Output = Found;

    async fn run(&self, connection: &mut Connection) -> Result<Found, Broken> {
        let wanted: Vec<&str> = self.ldap.wanted.iter().map(String::as_str).collect();
        let search = self.ldap.search(&self.find.base, self.find.scope, 2, &wanted);
        connection.search(&search, &self.find.filter.fill(&[self.login])).await
    }
}

struct Bind<'a> {
    dn: &'a str,
    password: &'a Secret,
}

impl Work for Bind<'_> {
    type Output = Outcome;

    async fn run(&self, connection: &mut Connection) -> Result<Outcome, Broken> {
        connection.bind(self.dn, self.password).await
    }
}

struct FindGroups<'a> {
    ldap: &'a Ldap,
    dn: &'a str,
    name: &'a str,
}

impl Work for FindGroups<'_> {
    type Output = Option<Found>;

    async fn run(&self, connection: &mut Connection) -> Result<Option<Found>, Broken> {
        let GroupsFrom::Search { base, filter, name } = &self.ldap.groups else { return Ok(None) };
        let wanted = [name.as_str()];
        let search = self.ldap.search(base, Scope::Subtree, MOST_GROUPS, &wanted);
        connection.search(&search, &filter.fill(&[self.dn, self.name])).await.map(Some)
    }
}

/// Everything on one connection, as the user.
struct BindAndRead<'a> {
    ldap: &'a Ldap,
    bind_as: &'a str,
    login: &'a str,
    password: &'a Secret,
}

impl Work for BindAndRead<'_> {
    type Output = (Outcome, Option<(Found, Option<Found>)>);

    async fn run(&self, connection: &mut Connection) -> Result<Self::Output, Broken> {
        let outcome = connection.bind(self.bind_as, self.password).await?;
        if outcome.code != 0 || outcome.policy.is_some() {
            return Ok((outcome, None));
        }
        let itself;
        let find = match &self.ldap.way {
            Way::Bind { find: Some(find), .. } => find,
            _ => {
                let any = FilterTemplate::parse("(objectClass=*)", &[]);
                let filter = any.map_err(|_| Broken::Ended)?;
                itself = Find { base: self.bind_as.to_owned(), scope: Scope::Base, filter };
                &itself
            }
        };
        let found = FindPerson { ldap: self.ldap, find, login: self.login }.run(connection).await?;
        let groups = match found.entries.as_slice() {
            [entry] => {
                let name = self.ldap.name_of(entry, self.login).unwrap_or_default();
                let ask = FindGroups { ldap: self.ldap, dn: &entry.dn, name: &name };
                ask.run(connection).await?
            }
            _ => None,
        };
        Ok((outcome, Some((found, groups))))
    }
}

/// See [`fuzzing`](crate::fuzzing).
pub(crate) fn fuzz(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some(length)) = guard::whole(rest) {
        let (message, after) = rest.split_at(length);
        rest = after;
        assert!(matches!(ldap3::asn1::parse_tag(message), Ok(([], _))), "it was well-formed");
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(filter) = FilterTemplate::parse(text, &["login", "dn"]) {
        let filled = filter.fill(&["*)(a=", "b"]);
        assert!(ldap3::parse_filter(filled).is_ok(), "with values it is still a filter");
    }
    let template = DnTemplate::parse("uid={login},dc=x").expect("a name");
    if let Some(dn) = template.fill(text) {
        assert_eq!(first_rdn(&dn), Some(("uid", text.to_owned())));
    }
    let _ = DnTemplate::parse(text);
}

#[cfg(test)]
mod tests;
