//! What is believed of a driver's answer: whose account it may name, which groups count. And the answer as a
//! checker's verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use countersign::{
    Denial, Fault, FaultKind, Identity, Password, PasswordStore, Reason, Secret, Verdict, Verified,
    World,
};
use countersign_wire::one::conf::DriverRules;
use countersign_wire::one::mad::Severity;
use countersign_wire::one::{DriverName, ErrorLine, Gid, Reply, UserName};

use crate::one::{Attempt, Driver, Failure, Login, Outcome, StoredSecrets};

/// Whose account an answer may name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "kinds", derive(serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum Account {
    /// Exactly who logs in.
    #[default]
    Same,
    /// Who logs in, in capital or small letters; the account is spelt as in the answer.
    Folded,
    /// As [`Account::Folded`], with `%20` and the like decoded first on both sides, as OpenNebula's `ldap` driver
    /// encodes names.
    Escaped,
    /// Whomever the driver says. A driver with a mistake in it then lets anybody in as anybody.
    Any,
}

#[cfg(feature = "kinds")]
impl Account {
    /// By its word in configurations.
    pub(crate) fn named(word: &str) -> Option<Self> {
        Some(match word {
            "same" => Self::Same,
            "folded" => Self::Folded,
            "escaped" => Self::Escaped,
            "any" => Self::Any,
            _ => return None,
        })
    }
}

/// What is believed of a driver's answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Belief {
    /// The drivers that an answer may name.
    pub drivers: BTreeSet<DriverName>,
    /// Whose account it may name.
    pub account: Account,
    /// What OpenNebula says of the driver's users: whether its groups count.
    pub rules: DriverRules,
    /// Whether it may make somebody a member of group 0, OpenNebula's administrators.
    pub oneadmin: bool,
    /// The names of groups; one that is not here is named by its number.
    pub groups: BTreeMap<Gid, String>,
}

impl Belief {
    /// The driver's own name, the same user, and no groups.
    pub fn of(driver: DriverName) -> Self {
        Self {
            rules: DriverRules::built_in(&driver).unwrap_or_default(),
            drivers: BTreeSet::from([driver]),
            account: Account::Same,
            oneadmin: false,
            groups: BTreeMap::new(),
        }
    }

    /// Who somebody is whom a driver accepted.
    ///
    /// # Errors
    /// What of the answer is not believed.
    pub fn identity(&self, user: &UserName, reply: Option<&Reply>) -> Result<Identity, String> {
        let Some(reply) = reply else { return Ok(Identity::named(user.as_str())) };
        if !self.drivers.contains(reply.driver()) {
            return Err(format!("the answer is of the driver `{}`", reply.driver()));
        }
        if !self.is_account(user.as_str(), reply.user().as_str()) {
            return Err(format!("the answer is about another user, `{}`", reply.user()));
        }
        let mut identity = Identity::named(reply.user().as_str());
        if !self.rules.managed_groups {
            return Ok(identity);
        }
        for entry in reply.groups() {
            if entry.group == Gid::ONEADMIN && !self.oneadmin {
                return Err("the answer has the administrators' group, 0".into());
            }
            let name = match self.groups.get(&entry.group) {
                Some(name) => name.clone(),
                None => entry.group.to_string(),
            };
            let admin = entry.admin && self.rules.managed_group_admin;
            // Two groups may have one name.
            *identity.groups.entry(name).or_default() |= admin;
        }
        Ok(identity)
    }

    fn is_account(&self, user: &str, named: &str) -> bool {
        match self.account {
            Account::Same => user == named,
            Account::Folded => user.to_lowercase() == named.to_lowercase(),
            Account::Escaped => match (decoded(user), decoded(named)) {
                (Some(user), Some(named)) => user.to_lowercase() == named.to_lowercase(),
                _ => false,
            },
            Account::Any => true,
        }
    }
}

/// Percent-encoding undone; `None` where it is none, or comes to no UTF-8.
fn decoded(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digit = |digit: u8| char::from(digit).to_digit(16);
        let byte = 16 * digit(digits[0])? + digit(digits[1])?;
        bytes.push(u8::try_from(byte).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

/// Users whose passwords a driver verifies.
pub struct Driven {
    driver: Arc<dyn Driver>,
    name: String,
    belief: Belief,
    stored: Option<Box<dyn StoredSecrets>>,
    world: Arc<dyn World>,
}

impl Driven {
    /// What a driver says, as far as it is believed; of those of whom nothing is stored, too. `name` is for the log.
    pub fn new(
        name: impl Into<String>,
        driver: Arc<dyn Driver>,
        belief: Belief,
        stored: Option<Box<dyn StoredSecrets>>,
        world: Arc<dyn World>,
    ) -> Self {
        Self { driver, name: name.into(), belief, stored, world }
    }

    /// The checker of that name, which offers `password`.
    pub fn checker(self) -> Password<Self> {
        Password::new(self.name.clone(), self)
    }

    /// What the driver's users may do.
    pub fn rules(&self) -> &DriverRules {
        &self.belief.rules
    }

    pub(super) fn verdict(&self, user: &UserName, attempt: Attempt) -> Result<Verdict, Fault> {
        verdict(&self.name, &self.belief, user, attempt)
    }
}

/// What an attempt comes to. Its lines go to the log.
pub(super) fn verdict(
    name: &str,
    belief: &Belief,
    user: &UserName,
    attempt: Attempt,
) -> Result<Verdict, Fault> {
    attempt.lines.iter().for_each(|line| log(name, line));
    match attempt.outcome {
        Outcome::Accepted(reply) => Ok(match belief.identity(user, reply.as_ref()) {
            Ok(identity) => Verdict::Is(Verified::vouch(identity)),
            Err(why) => {
                tracing::error!(
                    driver = name,
                    "{why}, which is not configured: nobody gets in by it"
                );
                Verdict::Not(Denial::new(Reason::NotAllowed).because(why))
            }
        }),
        Outcome::Refused(why) => {
            Ok(Verdict::Not(Denial::new(Reason::WrongCredential).because(why)))
        }
        Outcome::Failed(failure) => Err(fault(name, &failure)),
    }
}

pub(super) fn fault(name: &str, failure: &Failure) -> Fault {
    let kind = match failure {
        Failure::Full(_) | Failure::Waited(_) => FaultKind::Overloaded,
        Failure::Late(_) => FaultKind::Timeout,
        Failure::Broken(_) => FaultKind::Protocol,
    };
    Fault::new(kind, format!("driver `{name}`: {failure}"))
}

pub(super) fn log(driver: &str, ErrorLine { severity, about, text }: &ErrorLine) {
    let about = about.map(tracing::field::display);
    match severity {
        Some(Severity::Error) => tracing::error!(driver, about, "{text}"),
        Some(Severity::Warning) => tracing::warn!(driver, about, "{text}"),
        Some(Severity::Info) | None => tracing::info!(driver, about, "{text}"),
        Some(Severity::Debug) => tracing::debug!(driver, about, "{text}"),
    }
}

impl std::fmt::Debug for Driven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driven")
            .field("driver", &self.driver)
            .field("belief", &self.belief)
            .finish_non_exhaustive()
    }
}

impl PasswordStore for Driven {
    async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
        // No driver can be asked about it.
        let Ok(user) = login.parse::<UserName>() else { return Ok(Verdict::UNKNOWN) };
        let stored = match &self.stored {
            Some(stored) => stored.stored(&user).await?,
            None => None,
        };
        let now = self.world.now().unix;
        let login =
            Login { user: &user, stored: stored.as_ref(), secret: password, target: None, now };
        self.verdict(&user, self.driver.authenticate(login).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn believed(belief: &Belief, user: &str, line: &str) -> Result<Identity, String> {
        belief.identity(&user.parse().unwrap(), Some(&Reply::parse(line.as_bytes()).unwrap()))
    }

    fn belief() -> Belief {
        Belief::of("t_grp".parse().unwrap())
    }

    #[test]
    fn whose_account() {
        let mut belief = belief();
        let user = |belief: &Belief, user: &str, line| {
            believed(belief, user, line).map(|identity| identity.subject.to_string())
        };
        assert_eq!(user(&belief, "alice", "t_grp alice pw 0").as_deref(), Ok("alice"));
        for (name, line) in [
            ("alice", "t_grp bob pw"),
            ("alice", "t_grp Alice pw"),
            ("alice", "WRONGDRIVER alice pw"),
        ] {
            assert!(user(&belief, name, line).is_err(), "{line}");
        }
        belief.account = Account::Folded;
        assert_eq!(user(&belief, "Alice", "t_grp alice pw").as_deref(), Ok("alice"));
        assert!(user(&belief, "a%20b", "t_grp A%20c pw").is_err());
        belief.account = Account::Escaped;
        assert_eq!(user(&belief, "Bob@x", "t_grp bob%40x pw").as_deref(), Ok("bob%40x"));
        assert_eq!(
            user(&belief, "bob%20smith", "t_grp bob%20smith pw").as_deref(),
            Ok("bob%20smith")
        );
        for broken in ["t_grp bob% pw", "t_grp bob%4 pw", "t_grp bob%zz pw", "t_grp bob%ff pw"] {
            assert!(user(&belief, "bob", broken).is_err(), "{broken}");
        }
        belief.account = Account::Any;
        assert_eq!(user(&belief, "alice", "t_grp bob pw").as_deref(), Ok("bob"));
        let silent = belief.identity(&"alice".parse().unwrap(), None).unwrap();
        assert_eq!(silent, Identity::named("alice"));
    }

    #[test]
    fn which_groups() {
        let mut belief = belief();
        let groups = |belief: &Belief, line: &str| {
            let line = format!("t_grp alice pw {line}");
            believed(belief, "alice", &line)
                .map(|identity| identity.groups.into_iter().collect::<Vec<_>>())
        };
        assert_eq!(groups(&belief, "*100 101"), Ok(vec![]));
        belief.rules.managed_groups = true;
        let plain = |names: &[(&str, bool)]| {
            Ok(names.iter().map(|(name, admin)| ((*name).to_owned(), *admin)).collect::<Vec<_>>())
        };
        assert_eq!(groups(&belief, "*100 101"), plain(&[("100", false), ("101", false)]));
        belief.rules.managed_group_admin = true;
        belief.groups = [("100", "staff"), ("102", "staff")]
            .map(|(number, name)| (number.parse().unwrap(), name.to_owned()))
            .into();
        assert_eq!(groups(&belief, "*100 101 102"), plain(&[("101", false), ("staff", true)]));
        assert!(groups(&belief, "100 0").unwrap_err().contains("administrators' group"));
        belief.oneadmin = true;
        assert_eq!(groups(&belief, "0"), plain(&[("0", false)]));
    }
}
