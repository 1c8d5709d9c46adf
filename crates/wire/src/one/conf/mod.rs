//! What `oned.conf` says about logins: which drivers there are, who is asked about unknown users, how long a login
//! is remembered, and what each driver's users may do.
//!
//! ```
//! use countersign_wire::one::conf::*;
//!
//! let conf: OnedConf = r#"
//!     AUTH_MAD = [ EXECUTABLE = "one_auth_mad", AUTHN = "ssh,ldap" ]
//!     AUTH_MAD_CONF = [ NAME = "ldap", DRIVER_MANAGED_GROUPS = "YES", MAX_TOKEN_TIME = "86400" ]
//! "#.parse().unwrap();
//! let rules = conf.rules(&"ldap".parse().unwrap());
//! assert!(rules.managed_groups && !rules.password_change);
//! assert_eq!(rules.max_token_time, TokenTime::AtMost(86_400));
//! assert_eq!(conf.default_auth.as_str(), "default");
//! ```

mod rules;
mod syntax;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::{DriverName, NameError};
pub use rules::{DriverRules, TokenTime};
pub use syntax::SyntaxError;
use syntax::{Attribute, Entry, Value};

/// The most bytes of the file.
pub const CONF_LIMIT: usize = 1024 * 1024;

/// The parts of `oned.conf` that are about logins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnedConf {
    /// The first `AUTH_MAD`: how drivers are asked. `None`: no driver can be asked.
    pub auth_mad: Option<AuthMad>,
    /// `DEFAULT_AUTH`: the driver of unknown users, `default` if nothing is said.
    pub default_auth: DriverName,
    /// `SESSION_EXPIRATION_TIME`: how many seconds a login is remembered; 0, not at all, if nothing is said.
    pub session_expiration: u32,
    /// What a reader should know: lines that are without effect, or have another one than they seem to.
    pub notes: Vec<ConfNote>,
    drivers: BTreeMap<DriverName, (DriverRules, usize)>,
}

/// How drivers are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthMad {
    /// The driver manager: an absolute path, or one below OpenNebula's folder of managers.
    pub executable: String,
    /// The drivers that may be asked, each once. `None`: all that are installed.
    pub authn: Option<Vec<DriverName>>,
    /// Who authorizes every call instead of oned's own rules.
    pub authz: Option<DriverName>,
}

/// Something to know, and the line, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfNote {
    /// The line.
    pub line: usize,
    /// A sentence.
    pub text: String,
}

/// Why the file cannot be read. It shows no value but names and numbers that it looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub why: ConfFault,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfFault {
    /// More than [`CONF_LIMIT`] bytes.
    #[error("the file is longer than {0} bytes")]
    TooLong(usize),
    /// Bytes that are not UTF-8.
    #[error("the line is not UTF-8")]
    NotUtf8,
    /// The syntax.
    #[error(transparent)]
    Syntax(SyntaxError),
    /// A single value where a vector should be, or the other way round.
    #[error("{0} must be {1}")]
    Shape(&'static str, &'static str),
    /// Something is set twice, and which one oned takes is not clear.
    #[error("{what} is set in line {first} already; remove one of the two")]
    Twice {
        /// What, such as `AUTH_MAD_CONF of ldap`.
        what: String,
        /// The line of the first.
        first: usize,
    },
    /// An attribute is missing.
    #[error("{0} has no {1}")]
    Missing(&'static str, &'static str),
    /// A driver's name is none.
    #[error("{what}: driver {name:?}: {why}")]
    Driver {
        /// Where it stands.
        what: &'static str,
        /// What stands there.
        name: String,
        /// What is wrong with it.
        why: NameError,
    },
    /// A number is none, or out of its range.
    #[error("{what} must be a number {range}, not {value:?}")]
    Number {
        /// Which.
        what: &'static str,
        /// From where to where.
        range: &'static str,
        /// What stands there.
        value: String,
    },
}

impl fmt::Display for ConfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl std::error::Error for ConfError {}

impl OnedConf {
    /// Reads the file.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn parse(file: &[u8]) -> Result<Self, ConfError> {
        if file.len() > CONF_LIMIT {
            return Err(ConfError { line: 1, why: ConfFault::TooLong(CONF_LIMIT) });
        }
        match std::str::from_utf8(file) {
            Ok(text) => text.parse(),
            Err(error) => {
                let before = &file[..error.valid_up_to()];
                let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
                Err(ConfError { line, why: ConfFault::NotUtf8 })
            }
        }
    }

    /// What a driver's users may do: by its `AUTH_MAD_CONF`, where there is one. If not, one of the eight drivers of
    /// OpenNebula has the rules that oned gives it, and any other the strictest.
    pub fn rules(&self, driver: &DriverName) -> DriverRules {
        match self.drivers.get(driver) {
            Some((rules, _)) => *rules,
            None => DriverRules::built_in(driver).unwrap_or_default(),
        }
    }

    /// The drivers that have an `AUTH_MAD_CONF`.
    pub fn configured(&self) -> impl Iterator<Item = (&DriverName, &DriverRules)> {
        self.drivers.iter().map(|(driver, (rules, _))| (driver, rules))
    }

    /// The driver manager's part. oned takes the first `AUTH_MAD`.
    fn take_auth_mad(
        &mut self,
        line: usize,
        attributes: &[Attribute<'_>],
    ) -> Result<(), ConfError> {
        if self.auth_mad.is_some() {
            self.note(line, "this AUTH_MAD is without effect: oned takes the first one");
            return Ok(());
        }
        let (mut executable, mut authn, mut authz) = (None, None, None);
        for attribute in attributes {
            let text = attribute.value.plain();
            match &*attribute.name {
                "EXECUTABLE" => executable = Some(text).filter(|path| !path.is_empty()),
                "AUTHN" => {
                    let mut names: Vec<DriverName> = Vec::new();
                    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
                        let name = driver("AUTHN", name, attribute.line)?;
                        if !names.contains(&name) {
                            names.push(name);
                        }
                    }
                    if names.is_empty() {
                        self.note(
                            attribute.line,
                            "an empty AUTHN enables every driver that is installed",
                        );
                    }
                    authn = Some(names).filter(|names| !names.is_empty());
                }
                "AUTHZ" if text.is_empty() => {}
                "AUTHZ" => authz = Some(driver("AUTHZ", &text, attribute.line)?),
                "ARGUMENTS" => {
                    self.note(attribute.line, "ARGUMENTS are without effect: oned writes its own");
                }
                _ => {}
            }
        }
        let executable = executable
            .ok_or(ConfError { line, why: ConfFault::Missing("AUTH_MAD", "EXECUTABLE") })?;
        self.auth_mad = Some(AuthMad { executable, authn, authz });
        Ok(())
    }

    fn take_rules(&mut self, line: usize, attributes: &[Attribute<'_>]) -> Result<(), ConfError> {
        let name = attributes.iter().find(|attribute| attribute.name == "NAME");
        let name =
            name.ok_or(ConfError { line, why: ConfFault::Missing("AUTH_MAD_CONF", "NAME") })?;
        let name = driver("NAME", &name.value.plain(), name.line)?;
        let rules = DriverRules::read(attributes, &mut self.notes)?;
        match self.drivers.get(&name) {
            Some(&(_, first)) => Err(twice(format!("AUTH_MAD_CONF of {name}"), first, line)),
            None => {
                self.drivers.insert(name, (rules, line));
                Ok(())
            }
        }
    }

    fn note(&mut self, line: usize, text: &str) {
        self.notes.push(ConfNote { line, text: text.to_owned() });
    }
}

impl FromStr for OnedConf {
    type Err = ConfError;

    fn from_str(text: &str) -> Result<Self, ConfError> {
        let mut conf = Self {
            auth_mad: None,
            default_auth: "default".parse().expect("a name"),
            session_expiration: 0,
            notes: Vec::new(),
            drivers: BTreeMap::new(),
        };
        let mut singles: BTreeMap<&str, usize> = BTreeMap::new();
        let entries = syntax::entries(text)
            .map_err(|(line, error)| ConfError { line, why: ConfFault::Syntax(error) })?;
        for entry in &entries {
            let line = entry.line;
            match &*entry.name {
                "AUTH_MAD" => conf.take_auth_mad(line, vector(entry, "AUTH_MAD")?)?,
                "AUTH_MAD_CONF" => conf.take_rules(line, vector(entry, "AUTH_MAD_CONF")?)?,
                name @ ("DEFAULT_AUTH" | "SESSION_EXPIRATION_TIME") => {
                    if let Some(first) = singles.insert(name, line) {
                        return Err(twice(name.to_owned(), first, line));
                    }
                    if name == "DEFAULT_AUTH" {
                        conf.default_auth =
                            driver("DEFAULT_AUTH", &single(entry, "DEFAULT_AUTH")?, line)?;
                    } else {
                        let value = single(entry, "SESSION_EXPIRATION_TIME")?;
                        conf.session_expiration = rules::seconds(&value).ok_or(ConfError {
                            line,
                            why: ConfFault::Number {
                                what: "SESSION_EXPIRATION_TIME",
                                range: "of seconds from 0 to 4294967295",
                                value,
                            },
                        })?;
                    }
                }
                _ => {}
            }
        }
        Ok(conf)
    }
}

/// The vector of an entry, no attribute of which is there twice.
fn vector<'e, 't>(
    entry: &'e Entry<'t>,
    name: &'static str,
) -> Result<&'e [Attribute<'t>], ConfError> {
    let Value::Vector(attributes) = &entry.value else {
        let why = ConfFault::Shape(name, "a vector: NAME = [ … ]");
        return Err(ConfError { line: entry.line, why });
    };
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for attribute in attributes {
        if let Some(first) = seen.insert(&attribute.name, attribute.line) {
            return Err(twice(format!("{} of {name}", attribute.name), first, attribute.line));
        }
    }
    Ok(attributes)
}

fn single(entry: &Entry<'_>, name: &'static str) -> Result<String, ConfError> {
    match &entry.value {
        Value::Single(text) => Ok(text.plain()),
        Value::Vector(_) => {
            Err(ConfError { line: entry.line, why: ConfFault::Shape(name, "a single value") })
        }
    }
}

fn driver(what: &'static str, name: &str, line: usize) -> Result<DriverName, ConfError> {
    let why = |why| ConfFault::Driver { what, name: name.to_owned(), why };
    name.parse().map_err(|error| ConfError { line, why: why(error) })
}

fn twice(what: String, first: usize, line: usize) -> ConfError {
    ConfError { line, why: ConfFault::Twice { what, first } }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = r#"
# AUTH_MAD_CONF comes later
LOG = [ SYSTEM = "file", DEBUG_LEVEL = 3 ]
DB = [ BACKEND = "mysql", PASSWD = "hunter2" ]
AUTH_MAD = [
    EXECUTABLE = "one_auth_mad",
    AUTHN = "ssh,x509,ldap,server_cipher,server_x509,saml"
]
#DEFAULT_AUTH = "ldap"
SESSION_EXPIRATION_TIME = 900
AUTH_MAD_CONF = [
    NAME = "ldap",
    PASSWORD_CHANGE = "YES",
    PASSWORD_REQUIRED = "NO",
    DRIVER_MANAGED_GROUPS = "YES",
    DRIVER_MANAGED_GROUP_ADMIN = "YES",
    MAX_TOKEN_TIME = "86400"
]
AUTH_MAD_CONF = [ NAME = "mine", MAX_TOKEN_TIME = "" ]
"#;

    fn error(text: &str) -> String {
        text.parse::<OnedConf>().unwrap_err().to_string()
    }

    #[test]
    fn the_shipped_file() {
        // O4, O6
        let conf: OnedConf = SHIPPED.parse().unwrap();
        let mad = conf.auth_mad.clone().unwrap();
        assert_eq!(mad.executable, "one_auth_mad");
        let names = mad.authn.unwrap();
        assert_eq!((names.len(), names[3].as_str(), mad.authz), (6, "server_cipher", None));
        assert_eq!((conf.default_auth.as_str(), conf.session_expiration), ("default", 900));
        assert_eq!(conf.rules(&"mine".parse().unwrap()), DriverRules::default());
        assert_eq!(conf.configured().count(), 2);
        assert_eq!(conf.notes, []);
        assert!(!format!("{conf:?}").contains("hunter2"));
    }

    #[test]
    fn an_empty_file_has_defaults() {
        // O5
        let conf = OnedConf::parse(b"").unwrap();
        assert_eq!((conf.auth_mad, conf.session_expiration), (None, 0));
        assert_eq!(conf.default_auth.as_str(), "default");
        let manual =
            "AUTH_MAD = [\n executable = \"one_auth_mad\",\n authn = \"ssh, length,ssh,\"\n]\n";
        let mad = manual.parse::<OnedConf>().unwrap().auth_mad.unwrap();
        assert_eq!(
            mad.authn.unwrap(),
            ["ssh", "length"].map(|name| name.parse::<DriverName>().unwrap())
        );
    }

    #[test]
    fn what_is_without_effect_is_said() {
        // O7
        let conf: OnedConf =
            "AUTH_MAD = [ EXECUTABLE = a, AUTHN = \"\", ARGUMENTS = \"-t 5\", AUTHZ = \"z\" ]\n\
             AUTH_MAD = [ EXECUTABLE = b ]\n\
             AUTH_MAD_CONF = [ NAME = x, PASSWORD_CHANGE = true, COLOUR = red ]"
                .parse()
                .unwrap();
        let mad = conf.auth_mad.unwrap();
        assert_eq!((mad.executable.as_str(), mad.authn), ("a", None));
        assert_eq!(mad.authz, Some("z".parse().unwrap()));
        let notes: Vec<_> = conf.notes.iter().map(|note| (note.line, note.text.as_str())).collect();
        assert_eq!(
            notes,
            [
                (1, "an empty AUTHN enables every driver that is installed"),
                (1, "ARGUMENTS are without effect: oned writes its own"),
                (2, "this AUTH_MAD is without effect: oned takes the first one"),
                (3, "PASSWORD_CHANGE = \"true\" counts as NO: oned takes only YES for yes"),
                (3, "COLOUR is not known"),
            ]
        );
    }

    #[test]
    fn errors_name_the_line_and_the_remedy() {
        // O3, O8
        for (text, expected) in [
            ("\nAUTH_MAD = \"x\"", "line 2: AUTH_MAD must be a vector: NAME = [ … ]"),
            ("DEFAULT_AUTH = [ A = 1 ]", "line 1: DEFAULT_AUTH must be a single value"),
            ("AUTH_MAD = [ AUTHN = \"ssh\" ]", "line 1: AUTH_MAD has no EXECUTABLE"),
            (
                "AUTH_MAD = [ EXECUTABLE = x,\nAUTHN = \"ssh,../x\" ]",
                "line 2: AUTHN: driver \"../x\": '.' is not allowed in a name",
            ),
            ("AUTH_MAD_CONF = [ PASSWORD_CHANGE = YES ]", "line 1: AUTH_MAD_CONF has no NAME"),
            (
                "AUTH_MAD_CONF = [ NAME = a ]\nAUTH_MAD_CONF = [ NAME = a ]",
                "line 2: AUTH_MAD_CONF of a is set in line 1 already; remove one of the two",
            ),
            (
                "AUTH_MAD_CONF = [ NAME = a,\nname = b ]",
                "line 2: NAME of AUTH_MAD_CONF is set in line 1 already; remove one of the two",
            ),
            (
                "DEFAULT_AUTH = a\nDEFAULT_AUTH = a",
                "line 2: DEFAULT_AUTH is set in line 1 already; remove one of the two",
            ),
            (
                "SESSION_EXPIRATION_TIME = 15m",
                "line 1: SESSION_EXPIRATION_TIME must be a number of seconds from 0 to 4294967295, not \"15m\"",
            ),
            (
                "AUTH_MAD_CONF = [ NAME = a,\n\nMAX_TOKEN_TIME = -2 ]",
                "line 3: MAX_TOKEN_TIME must be a number of seconds, or -1 for no limit, not \"-2\"",
            ),
            ("DEFAULT_AUTH = \"\"", "line 1: DEFAULT_AUTH: driver \"\": empty name"),
            ("A = [ B = 1", "line 1: the bracket of A is not closed"),
        ] {
            assert_eq!(error(text), expected, "{text}");
        }
        let bytes = OnedConf::parse(b"A = 1\nB = \"\xff\"").unwrap_err();
        assert_eq!(bytes, ConfError { line: 2, why: ConfFault::NotUtf8 });
        let long = OnedConf::parse(&vec![b'\n'; CONF_LIMIT + 1]).unwrap_err();
        assert_eq!(long.why, ConfFault::TooLong(CONF_LIMIT));
    }
}
