//! `[pool]`: which checkers stand under the rules of OpenNebula's user pool. Reference: `docs/guide/user-pool.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_checkers::kinds::Span;
use countersign_checkers::userpool::{Member, PoolRules};
use countersign_store::Account;
use countersign_wire::one::DriverName;
use countersign_wire::one::conf::{CONF_LIMIT, DriverRules, OnedConf};
use serde::Deserialize;
use toml::Spanned;

use super::ConfigError;

/// `[pool]`. Without it every checker is asked in its order, whatever an account's driver is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolSection {
    /// The checkers under the rules.
    checkers: Vec<Spanned<MemberWord>>,
    /// The one that is asked about users who have no account.
    default: Option<Spanned<String>>,
    /// Whether they get one.
    #[serde(default = "yes")]
    create: bool,
    /// Whether an answer may make an administrator.
    #[serde(default)]
    administrators: bool,
    /// The group of accounts whose answer names none.
    default_group: Option<String>,
    /// For how long a login by a driver need not be verified again.
    session_expiration: Option<Lasting>,
    /// Rules by driver.
    #[serde(default)]
    drivers: BTreeMap<DriverName, DriverRules>,
    /// OpenNebula's own configuration, for what is not said here.
    oned_conf: Option<PathBuf>,
}

fn yes() -> bool {
    true
}

/// A length of time, or none at all: `0s`.
#[derive(Debug, Clone, Copy)]
struct Lasting(Duration);

impl<'de> Deserialize<'de> for Lasting {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        if text == "0s" {
            return Ok(Self(Duration::ZERO));
        }
        Span::parse(&text).map(|span| Self(span.0)).map_err(serde::de::Error::custom)
    }
}

/// A checker, and what accounts call it.
#[derive(Debug, Clone, Deserialize)]
#[serde(
    untagged,
    expecting = "a checker's name, or { checker = \"ldap.corp\", driver = \"ldap\" }"
)]
enum MemberWord {
    Name(String),
    Named(NamedMember),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedMember {
    checker: String,
    driver: DriverName,
}

impl MemberWord {
    fn checker(&self) -> &str {
        match self {
            Self::Name(checker) | Self::Named(NamedMember { checker, .. }) => checker,
        }
    }

    /// What accounts call it: its own name, or `core` for the accounts of the store.
    fn member(&self) -> Result<Member, String> {
        let checker = self.checker();
        let driver = match self {
            Self::Named(named) => named.driver.clone(),
            Self::Name(_) => {
                let (kind, name) = checker.split_once('.').unwrap_or(("", checker));
                let name = if kind == "accounts" { Account::CORE } else { name };
                let remedy = |error| {
                    format!(
                        "`{name}` is no driver's name ({error}): write {{ checker = \"{checker}\", driver = \"…\" }}"
                    )
                };
                name.parse().map_err(remedy)?
            }
        };
        Ok(Member { checker: checker.to_owned(), driver })
    }
}

impl PoolSection {
    /// Checks the section, with these checkers configured; paths are below `base`.
    pub(super) fn read(
        section: Spanned<Self>,
        checkers: &[&str],
        base: &Path,
    ) -> Result<Self, ConfigError> {
        let span = section.span();
        let mut section = section.into_inner();
        for word in &section.checkers {
            let name = word.get_ref().checker();
            if !checkers.contains(&name) {
                return Err(ConfigError::unknown(word.span(), "checker", name, checkers));
            }
            let member = word.get_ref().member();
            member.map_err(|why| ConfigError::at(word.span(), why))?;
        }
        section.oned_conf = section.oned_conf.map(|path| base.join(path));
        let place = section.default.as_ref().map_or(span, Spanned::span);
        let rules = section.said();
        rules.check().map_err(|why| ConfigError::at(place, format!("[pool] {why}")))?;
        Ok(section)
    }

    /// What the section itself says.
    fn said(&self) -> PoolRules {
        let members = self.checkers.iter().filter_map(|word| word.get_ref().member().ok());
        PoolRules {
            members: members.collect(),
            default: self.default.as_ref().map(|name| name.get_ref().clone()),
            create: self.create,
            administrators: self.administrators,
            default_group: self.default_group.clone(),
            session_expiration: self.session_expiration.map_or(Duration::ZERO, |lasting| lasting.0),
            drivers: self.drivers.clone(),
        }
    }

    /// The rules, with what OpenNebula's own configuration says. Reads it.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or the rules contradict themselves with it.
    pub fn rules(&self) -> Result<PoolRules, ConfigError> {
        let mut rules = self.said();
        let Some(path) = &self.oned_conf else { return Ok(rules) };
        let wrong = |why: String| {
            ConfigError::general(format!("[pool] oned_conf = \"{}\": {why}", path.display()))
        };
        let conf = read(path).map_err(|error| wrong(format!("it cannot be read: {error}")))?;
        let conf = OnedConf::parse(&conf).map_err(|error| wrong(error.to_string()))?;
        for note in &conf.notes {
            tracing::warn!(line = note.line, "{}: {}", path.display(), note.text);
        }
        if self.session_expiration.is_none() {
            rules.session_expiration = Duration::from_secs(u64::from(conf.session_expiration));
        }
        if rules.default.is_none() {
            let named = rules.members.iter().find(|member| member.driver == conf.default_auth);
            rules.default = named.map(|member| member.checker.clone());
        }
        let rules = rules.of_oned(&conf);
        rules.check().map_err(|error| wrong(error.to_string()))?;
        Ok(rules)
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let most = u64::try_from(CONF_LIMIT).unwrap_or(u64::MAX).saturating_add(1);
    std::fs::File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use countersign_wire::one::conf::TokenTime;

    use super::super::Config;
    use super::*;

    const CHECKERS: &str = "[checker.accounts.main]\n[checker.file.corp]\npath = \"x\"\n\
                            [checker.file.other]\npath = \"x\"\n\
                            [policy]\ncheckers = [\"accounts.main\", \"file.corp\", \"file.other\"]\n";

    fn rules(pool: &str) -> Result<PoolRules, String> {
        let text = format!("{CHECKERS}{pool}");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("c.toml"), &text).unwrap();
        let conf = "DEFAULT_AUTH = \"ldap\"\nSESSION_EXPIRATION_TIME = 900\n\
                    AUTH_MAD_CONF = [ NAME = \"ldap\", DRIVER_MANAGED_GROUPS = YES ]\n\
                    AUTH_MAD_CONF = [ NAME = \"other\", MAX_TOKEN_TIME = 60 ]\n";
        std::fs::write(folder.path().join("oned.conf"), conf).unwrap();
        let registry = crate::registry::built_in();
        let config = Config::load(&folder.path().join("c.toml"), folder.path(), &registry);
        let config = config.map_err(|error| error.to_string())?;
        config.pool.unwrap().rules().map_err(|error| error.to_string())
    }

    #[test]
    fn a_checker_is_called_by_its_name_or_another() {
        let rules = rules(
            "[pool]\ncheckers = [\"accounts.main\", { checker = \"file.corp\", driver = \"ldap\" }]\n\
             default = \"file.corp\"\n[pool.drivers.ldap]\nmanaged_groups = true\nmax_token_time = 9\n",
        )
        .unwrap();
        let members: Vec<_> =
            rules.members.iter().map(|m| (m.checker.as_str(), m.driver.as_str())).collect();
        assert_eq!(members, [("accounts.main", "core"), ("file.corp", "ldap")]);
        assert_eq!(rules.default.as_deref(), Some("file.corp"));
        let ldap = rules.of(Some("ldap"));
        assert!(ldap.managed_groups && !ldap.password_change && rules.create);
        assert_eq!(ldap.max_token_time, TokenTime::AtMost(9));
        assert_eq!(rules.session_expiration, Duration::ZERO);
    }

    #[test]
    fn what_is_not_said_is_as_in_oned_conf() {
        let members =
            "checkers = [{ checker = \"file.corp\", driver = \"ldap\" }, \"file.other\"]\n";
        let told = rules(&format!("[pool]\n{members}oned_conf = \"oned.conf\"\n")).unwrap();
        assert_eq!(told.default.as_deref(), Some("file.corp"));
        assert_eq!(told.session_expiration, Duration::from_secs(900));
        assert!(told.of(Some("ldap")).managed_groups);
        assert_eq!(told.of(Some("other")).max_token_time, TokenTime::AtMost(60));
        let own = rules(&format!(
            "[pool]\n{members}oned_conf = \"oned.conf\"\ndefault = \"file.other\"\n\
             session_expiration = \"1m\"\n[pool.drivers.ldap]\n",
        ))
        .unwrap();
        assert_eq!(own.default.as_deref(), Some("file.other"));
        assert_eq!(own.session_expiration, Duration::from_secs(60));
        assert!(!own.of(Some("ldap")).managed_groups);
        let members = format!("{members}session_expiration = \"0s\"\n");
        let never = rules(&format!("[pool]\n{members}oned_conf = \"oned.conf\"\n")).unwrap();
        assert_eq!(never.session_expiration, Duration::ZERO);
    }

    #[test]
    fn errors_name_the_place_and_the_remedy() {
        for (pool, parts) in [
            ("[pool]\ncheckers = [\"file.crop\"]\n", ["c.toml:9:13", "`file.corp`"]),
            ("[pool]\ncheckers = [7]\n", ["c.toml:9", "a checker's name, or"]),
            ("[pool]\n", ["c.toml:8", "checkers"]),
            ("[pool]\nchekers = []\n", ["c.toml:9", "`checkers`"]),
            (
                "[pool]\ncheckers = [\"file.corp\"]\ndefault = \"file.other\"\n",
                ["c.toml:10", "none of `checkers`"],
            ),
            (
                "[pool]\ncheckers = [\"accounts.main\"]\ndefault = \"accounts.main\"\n",
                ["c.toml:10", "knows nobody"],
            ),
            ("[pool]\ncheckers = []\nsession_expiration = \"soon\"\n", ["c.toml:10:22", "12h"]),
            (
                "[pool]\ncheckers = [{ checker = \"file.corp\", driver = \"../x\" }]\n",
                ["c.toml:9", "a checker's name, or"],
            ),
            (
                "[pool]\ncheckers = [\"file.corp\", { checker = \"file.other\", driver = \"corp\" }]\n",
                ["c.toml:8", "two checkers are the driver `corp`"],
            ),
            (
                "[pool]\ncheckers = [\"file.corp\"]\noned_conf = \"none.conf\"\n",
                ["none.conf", "cannot be read"],
            ),
        ] {
            let error = rules(pool).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{pool}: no {part:?} in\n{error}");
            }
        }
    }
}
