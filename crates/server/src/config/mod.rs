//! One TOML file configures the server, and none is needed to start. Reference:
//! `docs/guide/configuration.md`.
//!
//! The kind of a checker is the key of its table (`[checker.file.mail]`) and not a field in it, so that
//! an error in it keeps its place in the file.

mod error;
mod listen;
mod passkeys;
mod placed;
mod policy;
mod pool;
mod sections;
mod store;
mod telemetry;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use countersign::{Checker, Fault, Order, Policy, Portal, World};
use countersign_checkers::accounts::KeptKeys;
use countersign_checkers::hash::Recipe;
use countersign_checkers::kinds::Chosen;
use countersign_checkers::pool::HashPool;
use countersign_checkers::userpool::{PoolRules, UserPool};
use countersign_sasl::{Login, OAuthBearer, Plain, XOAuth2};
use countersign_store::{Location, Store};
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

pub use error::ConfigError;
pub use listen::{DovecotMasterSection, DovecotSection, HttpSection, SaslauthdSection, TlsSection};
pub use passkeys::PasskeysSection;
pub use policy::{NetworkWord, PolicyRow, table as policy_table};
use policy::{Places, PolicySection};
pub use pool::PoolSection;
pub use sections::{
    AccountsPolicy, AuditSection, LimitsSection, LogFormat, LogLevel, LogSection, MetricsSection,
    SessionsSection, ThrottleSection,
};
pub use store::StoreSection;
pub use telemetry::TelemetryOptions;
use telemetry::TelemetrySection;

use crate::audit::Audit;
use crate::front::http::MailAuth;
use crate::front::tls::{Tls, TlsFiles};
use crate::groups::GroupsSection;
use crate::registry::{CheckerSettings, Kind, Kinds, Misplaced, Parts, Takes};

/// The longest style sheet of a site.
const THEME_BYTES: usize = 256 * 1024;

/// Everything that a server is started with.
#[derive(Debug)]
pub struct Config {
    /// Relative paths to sockets, the store and the audit file are below it.
    pub data: PathBuf,
    /// Where the accounts are.
    pub store: Location,
    /// HTTP listeners by name.
    pub http: BTreeMap<String, HttpSection>,
    /// Dovecot listeners by name.
    pub dovecot: BTreeMap<String, DovecotSection>,
    /// Dovecot master listeners by name.
    pub dovecot_master: BTreeMap<String, DovecotMasterSection>,
    /// saslauthd listeners by name.
    pub saslauthd: BTreeMap<String, SaslauthdSection>,
    /// The checkers, in the order in which they are asked, as `kind.name`.
    pub checkers: Vec<NamedChecker>,
    /// Those of them that are not to be used where it matters, and why.
    pub dangers: Vec<(String, &'static str)>,
    /// Who may log in to what, how.
    pub policy: Policy,
    /// What the answers of several checkers usually come to.
    pub order: Order,
    policy_places: Places,
    /// Where each checker's table is, and the file, for errors that come up when it is made.
    places: BTreeMap<String, std::ops::Range<usize>>,
    file: Option<(PathBuf, String)>,
    /// The record of every attempt.
    pub audit: AuditSection,
    /// Counters.
    pub metrics: MetricsSection,
    /// How long, how many.
    pub limits: LimitsSection,
    /// How guessing is slowed down.
    pub throttle: ThrottleSection,
    /// Sessions of HTTP logins.
    pub sessions: SessionsSection,
    /// New passwords.
    pub accounts: AccountsPolicy,
    /// What the server says of itself.
    pub log: LogSection,
    /// Names and numbers of groups.
    pub groups: GroupsSection,
    /// Which site passkeys are for.
    pub passkeys: Option<PasskeysSection>,
    /// Where traces go; none: nowhere.
    pub telemetry: Option<TelemetryOptions>,
    /// Which checkers stand under the rules of a user pool.
    pub pool: Option<PoolSection>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Sections {
    store: Option<Spanned<StoreSection>>,
    listen: Option<ListenSection>,
    policy: PolicySection,
    audit: AuditSection,
    metrics: MetricsSection,
    limits: LimitsSection,
    throttle: Option<Spanned<ThrottleSection>>,
    sessions: SessionsSection,
    accounts: AccountsPolicy,
    log: LogSection,
    groups: Option<Spanned<GroupsSection>>,
    passkeys: Option<Spanned<PasskeysSection>>,
    telemetry: Option<Spanned<TelemetrySection>>,
    pool: Option<Spanned<PoolSection>>,
    /// Read apart, by the registry. Here so that the list of sections in an error is whole.
    #[allow(dead_code)]
    checker: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ListenSection {
    http: BTreeMap<String, HttpSection>,
    dovecot: BTreeMap<String, DovecotSection>,
    #[serde(rename = "dovecot-master")]
    dovecot_master: BTreeMap<String, DovecotMasterSection>,
    saslauthd: BTreeMap<String, SaslauthdSection>,
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    ///
    /// What is wrong, where, and what to do about it.
    pub fn load(path: &Path, data: &Path, registry: &Kinds) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::of_file(path, format!("cannot be read: {error}")))?;
        let base = path.parent().unwrap_or(Path::new(".")).to_owned();
        let parsed = Self::parse(&text, &base, data, registry);
        let mut config = parsed.map_err(|error| error.in_file(path, &text))?;
        config.file = Some((path.to_owned(), text));
        Ok(config)
    }

    /// The configuration of a server that is given none.
    pub fn without_file(data: &Path, registry: &Kinds) -> Self {
        Self::parse("", data, data, registry)
            .unwrap_or_else(|error| unreachable!("the built-in configuration is wrong: {error}"))
    }

    fn parse(text: &str, base: &Path, data: &Path, registry: &Kinds) -> Result<Self, ConfigError> {
        let mut table = DeTable::parse(text)?;
        let checkers = match table.get_mut().remove("checker") {
            Some(section) => read_checkers(section, base, registry)?,
            None => vec![default_checker(base, registry)?],
        };
        let sections = Sections::deserialize(Deserializer::from(table))?;
        let places: Vec<_> =
            checkers.iter().map(|(name, place, _)| (name.clone(), place.clone())).collect();
        let mut policy = sections.policy.read(&places)?;
        let names: Vec<_> = places.iter().map(|(name, _)| name.as_str()).collect();
        let pool = sections.pool.map(|section| PoolSection::read(section, &names, base));
        let pool = pool.transpose()?;
        let danger = |(name, _, _): &Read| {
            let kind = registry.kind(name.split('.').next()?)?;
            Some((name.clone(), kind.danger()?))
        };
        let dangers = checkers.iter().filter_map(danger).collect();
        let checkers = in_order(checkers, &policy.policy);
        let groups =
            sections.groups.unwrap_or_else(|| Spanned::new(0..0, GroupsSection::default()));
        if let Err(why) = groups.get_ref().check() {
            return Err(ConfigError::at(groups.span(), why));
        }
        if let Some(section) = &sections.passkeys {
            let checked = section.get_ref().check();
            checked.map_err(|why| ConfigError::at(section.span(), format!("[passkeys] {why}")))?;
        }
        let telemetry =
            sections.telemetry.map(|section| TelemetrySection::read(section, base)).transpose()?;
        let store = sections.store.unwrap_or_else(|| Spanned::new(0..0, StoreSection::default()));
        // The table's name and not its lines, which may show a password.
        let header = store.span().start
            ..text[store.span().start..]
                .find('\n')
                .map_or(store.span().end, |line| store.span().start + line);
        let store = store.get_ref().location(data);
        let store = store.map_err(|why| ConfigError::at(header, format!("[store] {why}")))?;
        policy.name_groups(groups.get_ref())?;
        let listen = sections.listen.unwrap_or_else(ListenSection::built_in);
        check_retention(&sections.audit)?;
        let throttle = sections.throttle.map_or_else(
            || Ok(ThrottleSection::default()),
            |said| {
                let most = std::time::Duration::from_secs(9);
                let section = said.get_ref();
                match section.longest.0.max(section.longest_unknown.0) > most {
                    true => Err(ConfigError::at(said.span(), "a delay of more than nine seconds")
                        .with_help(
                            "Postfix gives up after ten, and then nobody can log in at all",
                        )),
                    false => Ok(said.into_inner()),
                }
            },
        )?;
        Ok(Self {
            data: data.to_owned(),
            store,
            http: listen.http,
            dovecot: listen.dovecot,
            dovecot_master: listen.dovecot_master,
            saslauthd: listen.saslauthd,
            checkers,
            dangers,
            policy: policy.policy,
            order: policy.order,
            policy_places: policy.places,
            places: places.into_iter().collect(),
            file: None,
            audit: sections.audit,
            metrics: sections.metrics,
            limits: sections.limits,
            throttle,
            sessions: sections.sessions,
            accounts: sections.accounts,
            log: sections.log,
            groups: groups.into_inner(),
            passkeys: sections.passkeys.map(Spanned::into_inner),
            telemetry,
            pool,
        })
    }

    /// Makes a configured checker.
    ///
    /// # Errors
    ///
    /// What cannot be opened, shown at the checker's table.
    pub async fn build(
        &self,
        name: &str,
        settings: &dyn CheckerSettings,
        parts: &Parts,
    ) -> Result<Arc<dyn Checker>, ConfigError> {
        let built = settings.build(name, parts).await;
        let built = built.and_then(|checker| match &parts.user_pool {
            Some(pool) => Ok(pool.over(checker)?),
            None => Ok(checker),
        });
        built.map_err(|Misplaced { place, fault }| {
            let error = match place.or_else(|| self.places.get(name).cloned()) {
                Some(place) => ConfigError::at(place, fault.to_string()),
                None => ConfigError::general(fault.to_string()),
            };
            match &self.file {
                Some((path, text)) => error.in_file(path, text),
                None => error,
            }
        })
    }

    /// The rules of the user pool, if there is one. May read another file.
    ///
    /// # Errors
    ///
    /// As [`PoolSection::rules`].
    pub fn pool_rules(&self) -> Result<Option<PoolRules>, ConfigError> {
        self.pool.as_ref().map(PoolSection::rules).transpose()
    }

    /// What checkers are made of. Without a store there are no rules for accounts either.
    ///
    /// # Errors
    ///
    /// A `[passkeys]` or a `[pool]` that cannot be.
    pub fn parts(
        &self,
        store: Option<Store>,
        pool: Arc<HashPool>,
        world: Arc<dyn World>,
    ) -> Result<Parts, ConfigError> {
        let mut parts = Parts::new(pool, world);
        if let (Some(rules), Some(store)) = (self.pool_rules()?, &store) {
            let users = UserPool::new(store.clone(), Arc::clone(&parts.world), rules);
            let users = users.map_err(|why| ConfigError::general(format!("[pool] {why}")))?;
            parts.user_pool = Some(Arc::new(users));
        }
        parts.store = store;
        parts.recipe = self.recipe();
        parts.kept_keys = self.kept_keys();
        #[cfg(feature = "passkeys")]
        {
            parts.passkeys = self.site_passkeys()?;
        }
        Ok(parts)
    }

    /// The portal to a realm, with these checkers, under this configuration's policy.
    ///
    /// # Errors
    ///
    /// What of the policy contradicts itself, now that it is known what the checkers offer.
    pub fn portal<R>(
        &self,
        realm: R,
        checkers: impl IntoIterator<Item = Arc<dyn Checker>>,
    ) -> Result<Portal<R>, ConfigError> {
        let portal = Portal::new(realm)
            .carried_by(Plain)
            .carried_by(Login)
            .carried_by(OAuthBearer::new())
            .carried_by(XOAuth2::new())
            .in_order(self.order);
        let portal = checkers.into_iter().fold(portal, Portal::checked_by_shared);
        let portal = portal.under(self.policy.clone());
        let contradiction = |error: ConfigError| match &self.file {
            Some((path, text)) => error.in_file(path, text),
            None => error,
        };
        self.policy_places.check(&portal).map_err(contradiction)?;
        for section in self.dovecot.values() {
            section.check(&portal).map_err(contradiction)?;
        }
        for section in self.http.values() {
            section.check(&portal).map_err(contradiction)?;
        }
        Ok(portal)
    }

    /// How new passwords are hashed.
    pub fn recipe(&self) -> Recipe {
        Recipe::Argon2id {
            memory_kib: self.accounts.argon2_memory_kib,
            passes: self.accounts.argon2_passes,
            lanes: 1,
        }
    }

    /// Which keys for SCRAM are kept of passwords.
    pub fn kept_keys(&self) -> KeptKeys {
        let AccountsPolicy { scram, scram_iterations, .. } = &self.accounts;
        KeptKeys { hashes: scram.clone(), iterations: *scram_iterations }
    }

    /// Opens the audit record, unless it is off.
    ///
    /// # Errors
    ///
    /// When it cannot be opened for writing.
    pub fn open_audit(&self) -> Result<Audit, Fault> {
        if !self.audit.enabled {
            return Ok(Audit::off());
        }
        Audit::kept(&self.data.join(&self.audit.path), self.audit.keeping())
    }

    /// Opens the audit record of a server that may be running, to add what another program did.
    ///
    /// # Errors
    ///
    /// When it is there and cannot be opened for writing.
    pub fn open_existing_audit(&self) -> Result<Audit, Fault> {
        if !self.audit.enabled {
            return Ok(Audit::off());
        }
        Audit::open_existing(&self.data.join(&self.audit.path), self.audit.on_failure)
    }

    /// The site's passkeys, if it has some.
    ///
    /// # Errors
    ///
    /// Which of the settings cannot be.
    #[cfg(feature = "passkeys")]
    pub fn site_passkeys(
        &self,
    ) -> Result<Option<countersign_checkers::factors::Passkeys>, ConfigError> {
        let site = self.passkeys.as_ref().map(|site| site.site(&self.accounts.issuer));
        let wrong = |error| ConfigError::general(format!("[passkeys] {error}"));
        site.transpose().map_err(wrong)
    }

    /// The site's style sheet of an HTTP listener, whose path is relative to the configuration file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is no UTF-8, or is too long to be one.
    pub fn theme(
        &self,
        name: &str,
        section: &HttpSection,
    ) -> Result<Option<Arc<str>>, ConfigError> {
        let Some(path) = &section.theme else { return Ok(None) };
        let base = self.file.as_ref().and_then(|(file, _)| file.parent()).unwrap_or(&self.data);
        let path = base.join(path);
        let wrong = |why: &dyn std::fmt::Display| {
            let place = format!("[listen.http.{name}] theme = \"{}\"", path.display());
            Err(ConfigError::general(format!("{place}: {why}")))
        };
        match std::fs::read_to_string(&path) {
            Ok(text) if text.len() > THEME_BYTES => {
                wrong(&format_args!("it is longer than {THEME_BYTES} bytes"))
            }
            Ok(text) => Ok(Some(text.into())),
            Err(error) => wrong(&format_args!("it cannot be read: {error}")),
        }
    }

    /// What nginx is told of mail servers by an HTTP listener, if it asks that one.
    ///
    /// # Errors
    ///
    /// When its key cannot be read, or anybody could ask.
    pub fn mail(
        &self,
        name: &str,
        section: &HttpSection,
    ) -> Result<Option<Arc<MailAuth>>, ConfigError> {
        let Some(mail) = &section.mail else { return Ok(None) };
        let base = self.file.as_ref().and_then(|(file, _)| file.parent()).unwrap_or(&self.data);
        let loaded = mail.load(base, &section.trusted_proxies);
        let loaded = loaded
            .map_err(|error| ConfigError::general(format!("[listen.http.{name}] {error}")))?;
        Ok(Some(Arc::new(loaded)))
    }

    /// TLS of an HTTP listener, if it has any.
    ///
    /// # Errors
    ///
    /// When its certificate or its key cannot be used.
    pub fn tls(&self, name: &str, section: &HttpSection) -> Result<Option<Tls>, ConfigError> {
        let Some(TlsSection { certificate, key }) = &section.tls else { return Ok(None) };
        let base = self.file.as_ref().and_then(|(file, _)| file.parent()).unwrap_or(&self.data);
        let files = TlsFiles { certificate: base.join(certificate), key: base.join(key) };
        let loaded = Tls::load(files);
        let loaded = loaded
            .map_err(|error| ConfigError::general(format!("[listen.http.{name}] tls: {error}")))?;
        Ok(Some(loaded))
    }

    /// Puts the checkers of the command line, `TYPE[:ARGUMENT]`, in the place of all configured ones. They are
    /// asked in this order.
    ///
    /// # Errors
    ///
    /// What is wrong with one. The configuration is then as it was.
    pub fn check_by(&mut self, strings: &[String], kinds: &Kinds) -> Result<(), ConfigError> {
        let chosen = kinds.named(strings, &Takes::everything());
        let chosen = chosen.map_err(|error| ConfigError::general(format!("--auth: {error}")))?;
        let danger = |chosen: &Chosen<'_>| Some((chosen.name.clone(), chosen.kind.danger()?));
        self.dangers = chosen.iter().filter_map(danger).collect();
        self.checkers = chosen.into_iter().map(|chosen| (chosen.name, chosen.settings)).collect();
        self.policy.terms.checkers = None;
        self.places.clear();
        Ok(())
    }

    /// Puts the HTTP listener of the command line in the place of all configured ones.
    pub fn listen_http(&mut self, address: SocketAddr) {
        self.http = BTreeMap::from([("main".into(), HttpSection::at(address))]);
    }
}

impl ListenSection {
    /// HTTP on loopback, and a socket for each kind of mail server.
    fn built_in() -> Self {
        Self {
            http: BTreeMap::from([("main".into(), HttpSection::default())]),
            dovecot: BTreeMap::from([("main".into(), DovecotSection::default())]),
            // Nobody needs it before Dovecot is told where it is.
            dovecot_master: BTreeMap::new(),
            saslauthd: BTreeMap::from([("main".into(), SaslauthdSection::default())]),
        }
    }
}

/// A checker, as `kind.name`, with its settings.
pub type NamedChecker = (String, Box<dyn CheckerSettings>);

/// A table's sub-table with its name.
type SubTable<'i> = (Spanned<String>, Spanned<DeValue<'i>>);

/// A checker's section: its name as `kind.name`, where that is, and its settings.
type Read = (String, std::ops::Range<usize>, Box<dyn CheckerSettings>);

fn read_checkers(
    section: Spanned<DeValue<'_>>,
    base: &Path,
    registry: &Kinds,
) -> Result<Vec<Read>, ConfigError> {
    let mut read = Vec::new();
    for (kind, names) in tables(section, "checkers are tables `[checker.KIND.NAME]`")? {
        let found = registry.kind(kind.get_ref()).ok_or_else(|| {
            let known = registry.kinds().map(Kind::name).collect::<Vec<_>>();
            ConfigError::unknown(kind.span(), "checker kind", kind.get_ref(), &known)
        })?;
        let usage = format!("give it a name: `[checker.{}.NAME]`", found.name());
        for (name, settings) in tables(names, &usage)? {
            let span = name.span();
            let settings = found.table(settings, base)?;
            read.push((format!("{}.{}", found.name(), name.get_ref()), span, settings));
        }
    }
    Ok(read)
}

/// The sub-tables of a table.
fn tables<'i>(value: Spanned<DeValue<'i>>, usage: &str) -> Result<Vec<SubTable<'i>>, ConfigError> {
    let span = value.span();
    let DeValue::Table(table) = value.into_inner() else {
        return Err(ConfigError::at(span, "this is no table").with_help(usage));
    };
    let mut tables = Vec::new();
    for (key, value) in table {
        if !matches!(value.get_ref(), DeValue::Table(_)) {
            let message = format!("`{}` is no table", key.get_ref());
            return Err(ConfigError::at(key.span(), message).with_help(usage));
        }
        tables.push((Spanned::new(key.span(), key.get_ref().to_string()), value));
    }
    Ok(tables)
}

/// The accounts of the store: who is asked when nobody is named.
fn default_checker(base: &Path, registry: &Kinds) -> Result<Read, ConfigError> {
    let kind = registry.kind("accounts").ok_or_else(|| {
        ConfigError::general("no checker is configured; add a `[checker.KIND.NAME]`")
    })?;
    let empty = Spanned::new(0..0, DeValue::Table(DeTable::new()));
    Ok(("accounts.main".into(), 0..0, kind.table(empty, base)?))
}

/// The checkers in the order in which they are usually asked, and then those that only rules ask.
fn in_order(read: Vec<Read>, policy: &Policy) -> Vec<NamedChecker> {
    let usual: Vec<_> = policy.terms.checkers.iter().flatten().map(|(name, _)| name).collect();
    let mut checkers: Vec<NamedChecker> =
        read.into_iter().map(|(name, _, settings)| (name, settings)).collect();
    checkers.sort_by_key(|(name, _)| {
        usual.iter().position(|usual| ***usual == **name).unwrap_or(usize::MAX)
    });
    checkers
}

/// Only what was rotated can be removed.
fn check_retention(audit: &AuditSection) -> Result<(), ConfigError> {
    match &audit.keep_days {
        Some(days) if audit.rotate_size.is_none() && audit.rotate_after.is_none() => {
            let message = "`keep_days` removes rotated files, and nothing says when to rotate";
            let help = "add `rotate_after = \"24h\"`";
            Err(ConfigError::at(days.span(), message).with_help(help))
        }
        _ => Ok(()),
    }
}

/// Replays of the fuzz target's corpus on the stable toolchain.
#[doc(hidden)]
pub mod fuzzing {
    use super::*;

    /// Any bytes as a configuration file: either it can be used, or its error can be shown.
    pub fn config(data: &[u8]) {
        let Ok(text) = std::str::from_utf8(data) else { return };
        let registry = crate::registry::built_in();
        match Config::parse(text, Path::new("/etc"), Path::new("/data"), &registry) {
            Ok(config) => {
                assert!(!config.checkers.is_empty(), "a server that asks nobody");
                let mut names: Vec<_> = config.checkers.iter().map(|(name, _)| name).collect();
                names.sort();
                names.dedup();
                assert_eq!(names.len(), config.checkers.len(), "a checker is asked twice");
            }
            Err(error) => {
                let shown = error.in_file(Path::new("fuzz.toml"), text).to_string();
                assert!(!shown.is_empty());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        let registry = crate::registry::built_in();
        let path = Path::new("countersign.toml");
        Config::parse(text, Path::new("/etc"), Path::new("/data"), &registry)
            .map_err(|error| error.in_file(path, text).to_string())
    }

    #[test]
    fn nothing_is_needed() {
        let config = parse("").unwrap();
        assert_eq!(config.checkers[0].0, "accounts.main");
        assert_eq!(config.http["main"].address.to_string(), "127.0.0.1:8080");
        assert_eq!(config.store.file(), Some(Path::new("/data/accounts.db")));
        assert!(config.audit.enabled);
    }

    #[test]
    fn errors_point_at_the_line_and_name_the_remedy() {
        for (text, expected) in [
            (
                "[listen.http.main]\nadress = \"x\"",
                vec!["countersign.toml:2", "adress", "`address`"],
            ),
            ("[listen.http.main]\naddress = 7", vec!["countersign.toml:2:11", "socket address"]),
            ("[checker.fiel.mail]\npath = \"x\"", vec!["countersign.toml:1:10", "`file`"]),
            ("[checker.file]\npath = \"x\"", vec!["countersign.toml:2", "[checker.file.NAME]"]),
            ("[checker.file.mail]\npth = \"x\"", vec!["countersign.toml:2", "`path`"]),
            (
                "[checker.file.mail]\npath = \"x\"\ndefault_scheme = \"ROT13\"",
                vec!["countersign.toml:3:18", "ROT13"],
            ),
            (
                "[checker.accounts.a]\n[checker.accounts.b]",
                vec![
                    "countersign.toml:2:19",
                    "[policy] checkers = [\"accounts.a\", \"accounts.b\"]",
                ],
            ),
            (
                "[policy]\ncheckers = [\"acounts.main\"]",
                vec!["countersign.toml:2:13", "`accounts.main`"],
            ),
            ("[policy]\norder = \"frist-known\"", vec!["countersign.toml:2:9", "first-known"]),
            ("[polcy]\n", vec!["countersign.toml:1", "`policy`"]),
            ("x = [\n", vec!["countersign.toml"]),
            ("[limits]\nstep_deadline = \"soon\"", vec!["countersign.toml:2:17"]),
            (
                "[groups]\nmap = { a = 1, b = 1 }",
                vec!["countersign.toml:1", "both have the number 1"],
            ),
            (
                "[listen.dovecot-master.m]\nfields = { home = \"/srv/{user\" }",
                vec!["countersign.toml:2", "/srv/mail/{user}"],
            ),
            ("[listen.dovecot.m]\nmode = \"rw\"", vec!["countersign.toml:2:8", "0660"]),
            ("[audit]\nrotate_size = \"64M\"", vec!["countersign.toml:2:15", "64MiB"]),
            ("[audit]\nkeep_days = 90", vec!["countersign.toml:2:13", "rotate_after"]),
        ] {
            let error = parse(text).unwrap_err();
            for part in expected {
                assert!(error.contains(part), "{text:?}: no {part:?} in\n{error}");
            }
        }
    }

    #[cfg(not(feature = "otel"))]
    #[test]
    fn a_build_without_traces_says_so() {
        let error = parse("[telemetry]\notlp = \"http://127.0.0.1:4318\"").unwrap_err();
        for part in ["countersign.toml:1:1", "no `otel`", "--features otel"] {
            assert!(error.contains(part), "no {part:?} in\n{error}");
        }
    }

    #[test]
    fn the_order_is_the_file_s_own() {
        let text = "[policy]\ncheckers = [\"file.mail\", \"accounts.main\"]\norder = \"first-success\"\n\
                    [checker.accounts.main]\n[checker.file.mail]\npath = \"passwd\"\n";
        let config = parse(text).unwrap();
        let names: Vec<_> = config.checkers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["file.mail", "accounts.main"]);
        assert_eq!(config.order, Order::FirstSuccess);
    }
}
