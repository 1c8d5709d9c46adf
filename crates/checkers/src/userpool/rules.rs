//! Which checkers stand under the rules, and which rules.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_store::Account;
use countersign_wire::one::DriverName;
use countersign_wire::one::conf::{DriverRules, OnedConf, TokenTime};

/// The driver of accounts that others use, and that nobody logs in to.
pub(super) const PUBLIC: &str = "public";

/// Which checkers stand under the rules of the pool, and which rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolRules {
    /// The checkers, in no particular order.
    pub members: Vec<Member>,
    /// The checker that is asked about users who have no account. None: they are refused.
    pub default: Option<String>,
    /// Whether such a user gets an account, made of the answer. If not, the login is as the answer says.
    pub create: bool,
    /// Whether an answer may make somebody a member of group 0 or of `administrators`, or no more.
    pub administrators: bool,
    /// The group of accounts whose answer names none.
    pub default_group: Option<String>,
    /// For how long a login by a driver need not be verified again. Nothing: it is verified each time.
    pub session_expiration: Duration,
    /// Rules by driver; others have OpenNebula's.
    pub drivers: BTreeMap<DriverName, DriverRules>,
}

/// A checker under the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name, such as `ldap.corp`.
    pub checker: String,
    /// What accounts store as their driver, such as `ldap`. `core`: accounts with credentials of their own.
    pub driver: DriverName,
}

/// What the members of a pool contradict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// Nobody could say which one is an account's.
    #[error("two checkers are the driver `{0}`: give one of them another `driver`")]
    Twice(DriverName),
    /// Nobody logs in to it.
    #[error("`{0}` is no checker's driver: accounts of it are refused")]
    Public(DriverName),
    /// It is not under the rules.
    #[error("`default` is `{0}`, which is none of `checkers`")]
    Default(String),
    /// It knows accounts only, or acts for them.
    #[error("`default` cannot be `{0}`: as `{1}` it knows nobody who has no account")]
    Knows(String, DriverName),
}

impl Default for PoolRules {
    fn default() -> Self {
        Self {
            members: Vec::new(),
            default: None,
            create: true,
            administrators: false,
            default_group: None,
            session_expiration: Duration::ZERO,
            drivers: BTreeMap::new(),
        }
    }
}

impl PoolRules {
    /// Takes over what `oned.conf` says: the rules of drivers that have none yet.
    #[must_use]
    pub fn of_oned(mut self, conf: &OnedConf) -> Self {
        let names: Vec<_> = self.members.iter().map(|member| member.driver.clone()).collect();
        for name in names.into_iter().chain(conf.configured().map(|(name, _)| name.clone())) {
            let rules = conf.rules(&name);
            self.drivers.entry(name).or_insert(rules);
        }
        self
    }

    /// Whether this can be.
    ///
    /// # Errors
    ///
    /// What contradicts itself.
    pub fn check(&self) -> Result<(), RulesError> {
        for (index, member) in self.members.iter().enumerate() {
            if member.driver.as_str() == PUBLIC {
                return Err(RulesError::Public(member.driver.clone()));
            }
            if self.members[..index].iter().any(|earlier| earlier.driver == member.driver) {
                return Err(RulesError::Twice(member.driver.clone()));
            }
        }
        let Some(default) = &self.default else { return Ok(()) };
        let Some(member) = self.member(default) else {
            return Err(RulesError::Default(default.clone()));
        };
        match member.is_core() || member.driver.acts_for_others() {
            true => Err(RulesError::Knows(default.clone(), member.driver.clone())),
            false => Ok(()),
        }
    }

    /// The checker of that name, if it stands under the rules.
    pub fn member(&self, checker: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.checker == checker)
    }

    /// The rules for the accounts of a driver; none: those with credentials of their own.
    pub fn of(&self, driver: Option<&str>) -> DriverRules {
        let driver = driver.unwrap_or(Account::CORE);
        // An account may name the checker in place of the driver.
        let member = self.member(driver).map(|member| &member.driver);
        let parsed = driver.parse().ok();
        let Some(name) = member.or(parsed.as_ref()) else { return DriverRules::default() };
        let usual = || DriverRules::shipped(name).unwrap_or_default();
        self.drivers.get(name).copied().unwrap_or_else(usual)
    }
}

impl Member {
    /// Whether it checks accounts by credentials of their own.
    pub fn is_core(&self) -> bool {
        self.driver.as_str() == Account::CORE
    }

    /// Whether it is this one that an account's logins are checked by.
    pub(super) fn checks(&self, account: &Account) -> bool {
        match account.driven_by() {
            None => self.is_core(),
            Some(driver) => driver == self.driver.as_str() || driver == self.checker,
        }
    }
}

/// Until when a login token is good that was made at `created` and is to be good until `expires`.
/// Nothing inside: for ever. Nothing at all: there are no tokens.
pub(super) fn token_end(
    rules: &DriverRules,
    created: i64,
    expires: Option<i64>,
) -> Option<Option<i64>> {
    match rules.max_token_time {
        TokenTime::Disabled => None,
        TokenTime::Unlimited => Some(expires),
        TokenTime::AtMost(seconds) => {
            let most = created.saturating_add(i64::from(seconds));
            Some(Some(expires.map_or(most, |expires| expires.min(most))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(checker: &str, driver: &str) -> Member {
        Member { checker: checker.into(), driver: driver.parse().unwrap() }
    }

    fn rules(members: &[(&str, &str)], default: Option<&str>) -> PoolRules {
        PoolRules {
            members: members.iter().map(|(checker, driver)| member(checker, driver)).collect(),
            default: default.map(str::to_owned),
            ..PoolRules::default()
        }
    }

    #[test]
    fn contradictions_are_told() {
        let both = [("accounts.main", "core"), ("ldap.corp", "ldap")];
        assert_eq!(rules(&both, Some("ldap.corp")).check(), Ok(()));
        for (members, default, part) in [
            (&[("a.b", "x"), ("c.d", "x")][..], None, "two checkers are the driver `x`"),
            (&[("a.b", "public")], None, "`public` is no checker's"),
            (&both, Some("ldap"), "none of `checkers`"),
            (&both, Some("accounts.main"), "cannot be `accounts.main`"),
            (&[("driver.s", "server_cipher")], Some("driver.s"), "`server_cipher` it knows nobody"),
        ] {
            let error = rules(members, default).check().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn rules_are_found_by_driver_and_by_checker() {
        let mut rules = rules(&[("ldap.corp", "corp")], None);
        let told = DriverRules { managed_groups: true, ..DriverRules::default() };
        rules.drivers.insert("corp".parse().unwrap(), told);
        assert_eq!((rules.of(Some("corp")), rules.of(Some("ldap.corp"))), (told, told));
        assert!(rules.of(None).password_change && rules.of(Some("core")).password_change);
        assert_eq!(rules.of(Some("no driver at all")), DriverRules::default());
        assert!(rules.of(Some("saml")).managed_groups);
    }

    #[test]
    fn oned_says_what_nobody_else_has() {
        let conf = "AUTH_MAD_CONF = [ NAME = \"ldap\", MAX_TOKEN_TIME = 60 ]".parse().unwrap();
        let mut before = rules(&[("ssh.keys", "ssh")], None);
        let own = DriverRules { password_required: false, ..DriverRules::default() };
        before.drivers.insert("ssh".parse().unwrap(), own);
        let rules = before.of_oned(&conf);
        assert_eq!(rules.of(Some("ssh")), own);
        assert_eq!(rules.of(Some("ldap")).max_token_time, TokenTime::AtMost(60));
        assert!(!rules.of(Some("ldap")).managed_groups);
    }

    #[test]
    fn tokens_end_when_the_rule_says() {
        let rules = |max_token_time| DriverRules { max_token_time, ..DriverRules::default() };
        assert_eq!(token_end(&rules(TokenTime::Disabled), 10, Some(20)), None);
        assert_eq!(token_end(&rules(TokenTime::Unlimited), 10, None), Some(None));
        assert_eq!(token_end(&rules(TokenTime::AtMost(60)), 10, None), Some(Some(70)));
        assert_eq!(token_end(&rules(TokenTime::AtMost(60)), 10, Some(99)), Some(Some(70)));
        assert_eq!(token_end(&rules(TokenTime::AtMost(60)), 10, Some(20)), Some(Some(20)));
    }
}
