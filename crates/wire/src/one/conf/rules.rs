//! What the users of a driver may do: `AUTH_MAD_CONF`, with oned's own defaults.

use serde::{Deserialize, Serialize};

use super::syntax::Attribute;
use super::{ConfError, ConfFault, ConfNote};
use crate::one::DriverName;

/// What the users of a driver may do. The default is what oned takes for a driver that nothing is said about.
///
/// In other formats its keys are the names of the fields, and a missing one has the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DriverRules {
    /// `PASSWORD_CHANGE`: a user may change what is stored as the own password. Administrators always may.
    pub password_change: bool,
    /// `PASSWORD_REQUIRED` (6.6): a new account needs a password that is not empty.
    pub password_required: bool,
    /// `DRIVER_MANAGED_GROUPS`: the groups of each answer replace the user's, and nobody else changes them.
    pub managed_groups: bool,
    /// `DRIVER_MANAGED_GROUP_ADMIN` (6.0): so do the stars. If not, a star is read and ignored.
    pub managed_group_admin: bool,
    /// `MAX_TOKEN_TIME`: how long a login token may live.
    pub max_token_time: TokenTime,
}

/// How long a login token may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenTime {
    /// 0: there are no login tokens, and those that exist are void.
    Disabled,
    /// So many seconds; who asks for more, or for ever, gets this.
    AtMost(u32),
    /// -1.
    Unlimited,
}

impl Default for DriverRules {
    fn default() -> Self {
        Self {
            password_change: false,
            password_required: true,
            managed_groups: false,
            managed_group_admin: false,
            max_token_time: TokenTime::Unlimited,
        }
    }
}

impl DriverRules {
    /// What oned gives a driver of its own that has no `AUTH_MAD_CONF`: core, public, ssh, x509, ldap,
    /// server_cipher, server_x509, saml. As in the shipped file, but that passwords are required of all.
    pub fn built_in(driver: &DriverName) -> Option<Self> {
        Self::shipped(driver).map(|rules| Self { password_required: true, ..rules })
    }

    /// What the shipped `oned.conf` says about a driver of OpenNebula.
    pub fn shipped(driver: &DriverName) -> Option<Self> {
        let nothing = Self::default();
        Some(match driver.as_str() {
            "core" | "ssh" => Self { password_change: true, ..nothing },
            "public" | "x509" | "server_cipher" | "server_x509" => nothing,
            "ldap" | "saml" => Self {
                password_change: true,
                password_required: false,
                managed_groups: true,
                managed_group_admin: true,
                max_token_time: TokenTime::AtMost(86_400),
            },
            _ => return None,
        })
    }

    /// By a vector. What is missing or empty in it is as for a driver that nothing is said about.
    pub(super) fn read(
        attributes: &[Attribute<'_>],
        notes: &mut Vec<ConfNote>,
    ) -> Result<Self, ConfError> {
        let mut rules = Self::default();
        for attribute in attributes {
            let value = attribute.value.plain();
            let line = attribute.line;
            if value.is_empty() {
                continue;
            }
            let flag = match &*attribute.name {
                "PASSWORD_CHANGE" => &mut rules.password_change,
                "PASSWORD_REQUIRED" => &mut rules.password_required,
                "DRIVER_MANAGED_GROUPS" => &mut rules.managed_groups,
                "DRIVER_MANAGED_GROUP_ADMIN" => &mut rules.managed_group_admin,
                "MAX_TOKEN_TIME" => {
                    rules.max_token_time = match &*value {
                        "-1" => TokenTime::Unlimited,
                        text => match seconds(text) {
                            Some(0) => TokenTime::Disabled,
                            Some(seconds) => TokenTime::AtMost(seconds),
                            None => {
                                let what = "MAX_TOKEN_TIME";
                                let range = "of seconds, or -1 for no limit";
                                let why = ConfFault::Number { what, range, value };
                                return Err(ConfError { line, why });
                            }
                        },
                    };
                    continue;
                }
                "NAME" => continue,
                name => {
                    notes.push(ConfNote { line, text: format!("{name} is not known") });
                    continue;
                }
            };
            *flag = value.eq_ignore_ascii_case("YES");
            if !*flag && !value.eq_ignore_ascii_case("NO") {
                let name = &attribute.name;
                let text = format!("{name} = {value:?} counts as NO: oned takes only YES for yes");
                notes.push(ConfNote { line, text });
            }
        }
        Ok(rules)
    }
}

/// Digits only, below 2³².
pub(super) fn seconds(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::one::conf::OnedConf;

    fn rules(conf: &str, driver: &str) -> DriverRules {
        conf.parse::<OnedConf>().unwrap().rules(&driver.parse().unwrap())
    }

    #[test]
    fn the_eight_drivers_without_a_vector() {
        // O6
        let row = |driver: &str| {
            let rules = rules("", driver);
            assert!(rules.password_required, "{driver}");
            assert_eq!(rules.managed_groups, rules.managed_group_admin);
            (rules.password_change, rules.managed_groups, rules.max_token_time)
        };
        let (none, day) = (TokenTime::Unlimited, TokenTime::AtMost(86_400));
        for (driver, expected) in [
            ("core", (true, false, none)),
            ("ssh", (true, false, none)),
            ("ldap", (true, true, day)),
            ("saml", (true, true, day)),
            ("public", (false, false, none)),
            ("x509", (false, false, none)),
            ("server_cipher", (false, false, none)),
            ("server_x509", (false, false, none)),
            ("length", (false, false, none)),
        ] {
            assert_eq!(row(driver), expected, "{driver}");
        }
        let shipped = DriverRules::shipped(&"ldap".parse().unwrap()).unwrap();
        assert!(!shipped.password_required);
        assert_eq!(DriverRules::shipped(&"length".parse().unwrap()), None);
    }

    #[test]
    fn a_vector_replaces_all_of_them() {
        // O6
        assert_eq!(rules("AUTH_MAD_CONF = [ NAME = ldap ]", "ldap"), DriverRules::default());
        let empty =
            "AUTH_MAD_CONF = [ NAME = \"x\", PASSWORD_REQUIRED = \"\", MAX_TOKEN_TIME = \"\" ]";
        assert_eq!(rules(empty, "x"), DriverRules::default());
    }

    #[test]
    fn yes_is_yes_and_everything_else_is_no() {
        // O6, O7
        for (value, yes) in [
            ("YES", true),
            ("yes", true),
            ("Yes", true),
            ("NO", false),
            ("1", false),
            ("true", false),
        ] {
            let conf = format!(
                "AUTH_MAD_CONF = [ NAME = x, PASSWORD_CHANGE = {value}, PASSWORD_REQUIRED = {value} ]"
            );
            let rules = rules(&conf, "x");
            assert_eq!((rules.password_change, rules.password_required), (yes, yes), "{value}");
        }
        for (value, time) in [
            ("0", TokenTime::Disabled),
            ("-1", TokenTime::Unlimited),
            ("60", TokenTime::AtMost(60)),
        ] {
            let conf = format!("AUTH_MAD_CONF = [ NAME = x, MAX_TOKEN_TIME = \"{value}\" ]");
            assert_eq!(rules(&conf, "x").max_token_time, time);
        }
    }
}
