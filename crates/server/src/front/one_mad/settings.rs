//! What a site says of its driver manager. Reference: `docs/guide/opennebula.md`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use countersign_checkers::driver::{
    Account, Belief, Confinement, DriverLimits, Exec, ExecSettings, Launcher, Program,
};
use countersign_checkers::kinds::Span;
use countersign_checkers::one::Driver;
#[cfg(feature = "one-cipher")]
use countersign_checkers::one::cipher::{Cipher, CipherOptions};
use countersign_checkers::one::dummy::Dummy;
use countersign_checkers::one::plain::Plain;
#[cfg(feature = "one-x509")]
use countersign_checkers::one::server_x509::{ServerX509, ServerX509Options};
#[cfg(feature = "one-ssh")]
use countersign_checkers::one::ssh::{Ssh, SshOptions};
#[cfg(feature = "one-x509")]
use countersign_checkers::one::x509::{X509, X509Options};
#[cfg(feature = "one-x509")]
use countersign_checkers::pki::{AuthoritiesFolder, Revocation};
use countersign_wire::one::conf::DriverRules;
use countersign_wire::one::mad::{ManagerArguments, SecretEncoding};
use countersign_wire::one::{DriverName, Profile};
use serde::Deserialize;
use toml::Spanned;

use super::authorize::ExecAuthorizer;
use super::manager::{Asked, Manager, ManagerLimits};
use crate::config::ConfigError;

/// The longest that a login may take as a whole: oned waits for 90 seconds.
const LONGEST: Duration = Duration::from_secs(80);

/// The file, all of it optional.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Settings {
    /// Which OpenNebula it is. Without it, what `VERSION` in the folder of remotes says.
    version: Option<Profile>,
    /// The folder of the drivers' folders.
    remotes: Option<PathBuf>,
    /// When each request is answered at the latest.
    answer_within: Spanned<Span>,
    /// Requests that wait or run at a time.
    requests: Spanned<usize>,
    /// What drivers have in their environment, besides what [`PASSED_ON`] names of ours.
    environment: BTreeMap<String, String>,
    /// How much they leave to others, from 0 to 19.
    nice: Spanned<u8>,
    /// How executables are run of which nothing else is said.
    exec: ExecTable,
    /// `[driver.KIND.NAME]`
    driver: Drivers,
}

/// Drivers by their kinds, and by what oned calls them.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Drivers {
    exec: BTreeMap<DriverName, Spanned<ExecTable>>,
    #[cfg(feature = "one-ssh")]
    ssh: BTreeMap<DriverName, Spanned<SshOptions>>,
    #[cfg(feature = "one-cipher")]
    server_cipher: BTreeMap<DriverName, Spanned<CipherOptions>>,
    #[cfg(feature = "one-x509")]
    x509: BTreeMap<DriverName, Spanned<X509Table>>,
    #[cfg(feature = "one-x509")]
    server_x509: BTreeMap<DriverName, Spanned<ServerX509Table>>,
    plain: BTreeMap<DriverName, Spanned<DangerousTable>>,
    dummy: BTreeMap<DriverName, Spanned<DangerousTable>>,
}

/// The certificates of users.
#[cfg(feature = "one-x509")]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct X509Table {
    /// The folder of those that are trusted, and of lists of revoked ones.
    authorities: PathBuf,
    #[serde(default)]
    crl: Revocation,
    longest: Option<Span>,
}

/// The certificate that servers have and we, too.
#[cfg(feature = "one-x509")]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerX509Table {
    certificate: PathBuf,
    longest: Option<Span>,
    /// Dangerous: oned does not say for whom a server acts, so that its tokens count for everybody.
    #[serde(default)]
    any_target: bool,
}

/// A driver that is only for trying things out.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DangerousTable {
    #[serde(default)]
    dangerous: bool,
}

/// An executable.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ExecTable {
    processes: Option<usize>,
    queue: Option<usize>,
    queue_time: Option<Span>,
    timeout: Option<Span>,
    /// Whose account an answer may name.
    account: Option<Account>,
    /// Whether it may make somebody an administrator by group 0.
    oneadmin: Option<bool>,
}

impl Default for Settings {
    fn default() -> Self {
        let usual = ManagerLimits::default();
        Self {
            version: None,
            remotes: None,
            answer_within: Spanned::new(0..0, Span(usual.answer_within)),
            requests: Spanned::new(0..0, usual.requests),
            environment: BTreeMap::new(),
            // As OpenNebula's own manager does.
            nice: Spanned::new(0..0, 19),
            exec: ExecTable::default(),
            driver: Drivers::default(),
        }
    }
}

/// Variables of oned's environment that drivers need and that hold no secrets: where things are, and in which
/// language Ruby reads text.
const PASSED_ON: [&str; 12] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "ONE_LOCATION",
    "ONE_XMLRPC",
    "ONE_AUTH",
    "RUBYLIB",
    "GEM_HOME",
    "GEM_PATH",
];

/// Where OpenNebula is: all below one folder, or in the system's.
#[derive(Debug, Clone)]
pub struct Location(Option<PathBuf>);

impl Location {
    /// By `ONE_LOCATION`.
    pub fn of_environment() -> Self {
        Self(std::env::var_os("ONE_LOCATION").filter(|at| !at.is_empty()).map(PathBuf::from))
    }

    /// The usual place of a file of settings for drivers.
    pub fn settings(&self, file: &str) -> PathBuf {
        match &self.0 {
            Some(location) => location.join("etc/auth").join(file),
            None => Path::new("/etc/one/auth").join(file),
        }
    }

    /// The text of a file of settings, and where it is. The usual one may be missing; then there is nothing.
    ///
    /// # Errors
    /// A file that cannot be read, and where it is.
    pub fn read(
        &self,
        named: Option<&Path>,
        usual: &str,
    ) -> Result<Option<(PathBuf, String)>, (PathBuf, std::io::Error)> {
        let path = named.map_or_else(|| self.settings(usual), Path::to_owned);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some((path, text))),
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(error) => Err((path, error)),
        }
    }

    /// The folder in which drivers run.
    fn var(&self) -> PathBuf {
        self.0.as_ref().map_or_else(|| "/var/lib/one".into(), |location| location.join("var"))
    }

    fn remotes(&self) -> PathBuf {
        self.var().join("remotes")
    }
}

impl Settings {
    /// Reads a file. The usual one may be missing; then everything is as usual.
    pub(super) fn read(named: Option<&Path>, location: &Location) -> Result<Self, ConfigError> {
        let unread = |(path, error): (PathBuf, std::io::Error)| {
            ConfigError::of_file(&path, format!("cannot be read: {error}"))
        };
        match location.read(named, "one_auth_mad.toml").map_err(unread)? {
            None => Ok(Self::default()),
            Some((path, text)) => Self::parse(&text).map_err(|error| error.in_file(&path, &text)),
        }
    }

    fn parse(text: &str) -> Result<Self, ConfigError> {
        let settings: Self = toml::from_str(text)?;
        let within = &settings.answer_within;
        if within.get_ref().0 > LONGEST {
            let why = "oned gives up after 90 seconds, and then nobody reads the answer";
            let help = "write at most \"80s\"";
            return Err(ConfigError::at(within.span(), why).with_help(help));
        }
        let requests = &settings.requests;
        if !(1..=100_000).contains(requests.get_ref()) {
            let why = "the requests at a time are between 1 and 100000";
            return Err(ConfigError::at(requests.span(), why));
        }
        if *settings.nice.get_ref() > 19 {
            return Err(ConfigError::at(settings.nice.span(), "`nice` is between 0 and 19"));
        }
        settings.driver.each_once()?;
        settings.driver.acknowledged()?;
        Ok(settings)
    }

    /// The manager that these settings, and oned's arguments, make.
    ///
    /// # Errors
    /// What is missing, and where.
    pub(super) fn manager(
        self,
        arguments: &ManagerArguments,
        location: &Location,
        launcher: Program,
    ) -> Result<Manager, ConfigError> {
        let remotes = self.remotes.clone().unwrap_or_else(|| location.remotes());
        let folder = remotes.join("auth");
        let profile = match self.version {
            Some(profile) => profile,
            None => installed_version(&remotes)?.unwrap_or_default(),
        };
        let launcher = Arc::new(Launcher::new(launcher, self.confinement(location)));
        let enabled = match &arguments.authn {
            Some(named) => named.clone(),
            None => installed(&folder)?,
        };
        let known: BTreeSet<_> = enabled.iter().cloned().collect();
        let mut drivers = HashMap::new();
        for name in enabled {
            let belief = Arc::new(self.belief(&name, &known));
            let driver: Arc<dyn Driver> = match self.driver.built_in(&name)? {
                Some(driver) => driver,
                None => {
                    let settings = ExecSettings {
                        program: folder.join(name.as_str()).join("authenticate"),
                        profile,
                        limits: self.limits(&name, arguments),
                    };
                    Arc::new(Exec::new(settings, Arc::clone(&launcher)))
                }
            };
            drivers.insert(name, Asked { driver, belief });
        }
        // Where no version is known, both framings are understood.
        let encoding = match self.version {
            Some(profile) => profile.into(),
            None => SecretEncoding::ByFraming,
        };
        let limits = ManagerLimits {
            answer_within: self.answer_within.get_ref().0,
            requests: *self.requests.get_ref(),
            ..ManagerLimits::default()
        };
        let manager = Manager::new(drivers, encoding).with_limits(limits);
        Ok(match &arguments.authz {
            None => manager,
            Some(name) => {
                let settings = ExecSettings {
                    program: folder.join(name.as_str()).join("authorize"),
                    profile,
                    limits: self.limits(name, arguments),
                };
                manager.with_authorizer(Arc::new(ExecAuthorizer::new(settings, launcher)))
            }
        })
    }

    /// What holds for an executable: its own table, then what is said of all, then oned's arguments, then the usual.
    fn limits(&self, name: &DriverName, arguments: &ManagerArguments) -> DriverLimits {
        let tables = || self.tables(name);
        let usual = DriverLimits::default();
        let told = arguments.timeout.map(|seconds| Duration::from_secs(seconds.into()));
        let span =
            |of: fn(&ExecTable) -> Option<Span>| tables().find_map(of).map(|Span(span)| span);
        let count = |of: fn(&ExecTable) -> Option<usize>| tables().find_map(of);
        let threads = arguments.threads.map(usize::from);
        DriverLimits {
            processes: count(|table| table.processes).or(threads).unwrap_or(usual.processes),
            queue: count(|table| table.queue).unwrap_or(usual.queue),
            // oned is more patient than a mail server, and Ruby slower than a compiled driver.
            queue_time: span(|table| table.queue_time).unwrap_or(Duration::from_secs(20)),
            time: span(|table| table.timeout).or(told).unwrap_or(Duration::from_secs(30)),
        }
    }

    /// What is said of an executable, and then of all.
    fn tables(&self, name: &DriverName) -> impl Iterator<Item = &ExecTable> {
        let own = self.driver.exec.get(name).map(Spanned::get_ref);
        own.into_iter().chain([&self.exec])
    }

    /// An answer may name any driver that is enabled, for `default` is often another name of one, and the account of
    /// who logs in, as the shipped drivers spell it. Its groups are oned's to believe, but for the administrators'.
    fn belief(&self, name: &DriverName, enabled: &BTreeSet<DriverName>) -> Belief {
        let tables = || self.tables(name);
        Belief {
            drivers: enabled.clone(),
            account: tables().find_map(|table| table.account).unwrap_or(Account::Escaped),
            rules: DriverRules { managed_groups: true, ..DriverRules::default() },
            oneadmin: tables().find_map(|table| table.oneadmin).unwrap_or(false),
            ..Belief::of(name.clone())
        }
    }

    fn confinement(&self, location: &Location) -> Confinement {
        let ours = PASSED_ON
            .iter()
            .filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)));
        let mut environment: BTreeMap<OsString, OsString> = ours.collect();
        environment
            .extend(self.environment.iter().map(|(name, value)| (name.into(), value.into())));
        Confinement {
            environment: environment.into_iter().collect(),
            directory: location.var(),
            nice: *self.nice.get_ref(),
            ..Confinement::default()
        }
    }
}

impl Drivers {
    /// One that needs no process.
    fn built_in(&self, name: &DriverName) -> Result<Option<Arc<dyn Driver>>, ConfigError> {
        #[cfg(feature = "one-ssh")]
        if let Some(options) = self.ssh.get(name) {
            return Ok(Some(Arc::new(Ssh::new(*options.get_ref()))));
        }
        #[cfg(feature = "one-cipher")]
        if let Some(options) = self.server_cipher.get(name) {
            return Ok(Some(Arc::new(Cipher::new(*options.get_ref()))));
        }
        #[cfg(feature = "one-x509")]
        if let Some(table) = self.x509.get(name) {
            return table.get_ref().driver(name).map(Some);
        }
        #[cfg(feature = "one-x509")]
        if let Some(table) = self.server_x509.get(name) {
            return table.get_ref().driver(name).map(Some);
        }
        if self.plain.contains_key(name) {
            return Ok(Some(Arc::new(Plain::dangerous())));
        }
        if self.dummy.contains_key(name) {
            return Ok(Some(Arc::new(Dummy::dangerous())));
        }
        Ok(None)
    }

    /// What is only for trying things out says so.
    fn acknowledged(&self) -> Result<(), ConfigError> {
        for (name, table) in self.plain.iter().chain(&self.dummy) {
            if !table.get_ref().dangerous {
                let why = format!("the driver `{name}` is only for trying things out");
                let help = "say `dangerous = true` if that is what you want";
                return Err(ConfigError::at(table.span(), why).with_help(help));
            }
        }
        Ok(())
    }

    /// Nothing replaces anything silently.
    fn each_once(&self) -> Result<(), ConfigError> {
        let mut seen: BTreeMap<&DriverName, &str> = BTreeMap::new();
        for (kind, name, place) in self.all() {
            if let Some(before) = seen.insert(name, kind) {
                let why = format!("the driver `{name}` is `{before}` already");
                return Err(ConfigError::at(place, why).with_help("leave one of the tables out"));
            }
        }
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = (&'static str, &DriverName, std::ops::Range<usize>)> {
        fn of<'a, T>(
            kind: &'static str,
            tables: &'a BTreeMap<DriverName, Spanned<T>>,
        ) -> impl Iterator<Item = (&'static str, &'a DriverName, std::ops::Range<usize>)> {
            tables.iter().map(move |(name, table)| (kind, name, table.span()))
        }
        let all = of("exec", &self.exec);
        #[cfg(feature = "one-ssh")]
        let all = all.chain(of("ssh", &self.ssh));
        #[cfg(feature = "one-cipher")]
        let all = all.chain(of("server_cipher", &self.server_cipher));
        #[cfg(feature = "one-x509")]
        let all = all.chain(of("x509", &self.x509)).chain(of("server_x509", &self.server_x509));
        all.chain(of("plain", &self.plain)).chain(of("dummy", &self.dummy))
    }
}

#[cfg(feature = "one-x509")]
impl X509Table {
    fn driver(&self, name: &DriverName) -> Result<Arc<dyn Driver>, ConfigError> {
        let usual = X509Options::default();
        let options = X509Options {
            longest: self.longest.map_or(usual.longest, |Span(longest)| longest),
            revocation: self.crl,
        };
        let authorities = AuthoritiesFolder::open(&self.authorities);
        let authorities = authorities
            .map_err(|fault| ConfigError::general(format!("`driver.x509.{name}`: {fault}")))?;
        Ok(Arc::new(X509::new(options, authorities)))
    }
}

#[cfg(feature = "one-x509")]
impl ServerX509Table {
    fn driver(&self, name: &DriverName) -> Result<Arc<dyn Driver>, ConfigError> {
        let usual = ServerX509Options::default();
        let options = ServerX509Options {
            longest: self.longest.map_or(usual.longest, |Span(longest)| longest),
            any_target: self.any_target,
        };
        let wrong = |why: &dyn std::fmt::Display| {
            let path = self.certificate.display();
            ConfigError::general(format!("`driver.server_x509.{name}`: {path}: {why}"))
        };
        let certificate = std::fs::read(&self.certificate).map_err(|error| wrong(&error))?;
        let driver = ServerX509::new(options, &certificate).map_err(|why| wrong(&why))?;
        Ok(Arc::new(driver))
    }
}

/// The drivers whose executable is there.
fn installed(folder: &Path) -> Result<Vec<DriverName>, ConfigError> {
    let unread = |error: std::io::Error| {
        ConfigError::general(format!(
            "the folder of drivers {} cannot be read: {error}; say where it is with `remotes`",
            folder.display()
        ))
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unread)? {
        let entry = entry.map_err(unread)?;
        if !entry.path().join("authenticate").is_file() {
            continue;
        }
        if let Some(name) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// What OpenNebula wrote beside its remotes. `None`: it did not.
fn installed_version(remotes: &Path) -> Result<Option<Profile>, ConfigError> {
    let path = remotes.join("VERSION");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(_) => return Ok(None),
    };
    text.trim().parse().map(Some).map_err(|error| {
        ConfigError::general(format!(
            "{} holds no version of OpenNebula ({error}); say which it is with `version = \"6.8\"`",
            path.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_of_the_guide() {
        let guide = include_str!("../../../../../docs/guide/opennebula.md");
        let mut blocks = guide.split("```toml one_auth_mad\n").skip(1);
        let text = blocks.next().and_then(|rest| rest.split("```").next()).unwrap();
        // A build without built-in drivers says so.
        if cfg!(not(all(feature = "one-ssh", feature = "one-cipher"))) {
            assert!(Settings::parse(text).is_err());
            return;
        }
        let settings = Settings::parse(text).unwrap();
        assert_eq!(settings.version, Some(Profile::V6_4));
        let limits = |name: &str, arguments: &[&str]| {
            let arguments = ManagerArguments::parse(arguments.iter().copied()).unwrap();
            settings.limits(&name.parse().unwrap(), &arguments)
        };
        // What is said of all is what holds without it.
        let usual = Settings::default().limits(&"x".parse().unwrap(), &ManagerArguments::default());
        assert_eq!(limits("x", &[]), usual);
        assert_eq!(limits("ldap", &["-t 7 -w 9"]).processes, 4);
    }

    #[test]
    fn what_a_wrapper_passes_counts_where_nothing_else_is_said() {
        let settings = Settings::parse("[driver.exec.a]\ntimeout = \"1s\"\n").unwrap();
        let arguments = ManagerArguments::parse(["-t 7 -w 9"]).unwrap();
        let limits = settings.limits(&"a".parse().unwrap(), &arguments);
        assert_eq!((limits.processes, limits.time), (7, Duration::from_secs(1)));
        let limits = settings.limits(&"b".parse().unwrap(), &arguments);
        assert_eq!((limits.processes, limits.time), (7, Duration::from_secs(9)));
    }

    #[test]
    fn errors_have_a_place() {
        for (text, why) in [
            ("requests = 0\n", "between 1 and 100000"),
            ("nice = 20\n", "between 0 and 19"),
            ("answer_within = \"81s\"\n", "oned gives up after 90 seconds"),
            ("[exec]\naccount = \"some\"\n", "unknown variant `some`"),
            ("[driver.exce.a]\n", "exce"),
            ("[driver.plain.a]\n", "only for trying things out"),
            ("[driver.dummy.a]\ndangerous = false\n", "only for trying things out"),
            ("[driver.dummy.a]\ndangerous = true\n[driver.plain.a]\n", "is `plain` already"),
        ] {
            let error = Settings::parse(text).map(drop).unwrap_err();
            let error = error.in_file(Path::new("one_auth_mad.toml"), text).to_string();
            assert!(error.contains(why) && error.contains("one_auth_mad.toml:"), "{error}");
        }
        #[cfg(feature = "one-ssh")]
        {
            let error = Settings::parse("[driver.exec.a]\n[driver.ssh.a]\n").map(drop).unwrap_err();
            assert!(error.to_string().contains("the driver `a` is `exec` already"), "{error}");
        }
    }

    #[test]
    fn dangerous_drivers_are_built_in_where_that_is_said() {
        let text = "[driver.plain.a]\ndangerous = true\n[driver.dummy.b]\ndangerous = true\n";
        let settings = Settings::parse(text).unwrap();
        for (name, there) in [("a", true), ("b", true), ("c", false)] {
            let built_in = settings.driver.built_in(&name.parse().unwrap()).unwrap();
            assert_eq!(built_in.is_some(), there, "{name}");
        }
    }

    #[cfg(feature = "one-x509")]
    #[test]
    fn certificates_are_read_when_it_starts() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        let text = format!(
            "[driver.x509.x509]\nauthorities = \"{at}\"\ncrl = \"required\"\nlongest = \"8h\"\n\
             [driver.x509.gone]\nauthorities = \"{at}/gone\"\n\
             [driver.server_x509.server_x509]\ncertificate = \"{at}/gone\"\nany_target = true\n"
        );
        let settings = Settings::parse(&text).unwrap();
        let built_in = |name: &str| settings.driver.built_in(&name.parse().unwrap());
        assert!(built_in("x509").unwrap().is_some());
        for name in ["gone", "server_x509"] {
            let error = built_in(name).map(drop).unwrap_err().to_string();
            assert!(error.contains(&format!(".{name}`")), "{error}");
        }
    }

    #[test]
    fn places_of_an_installation() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location(Some(folder.path().to_owned()));
        assert_eq!(location.settings("x.toml"), folder.path().join("etc/auth/x.toml"));
        assert_eq!(Location(None).settings("x.toml"), Path::new("/etc/one/auth/x.toml"));
        // Nothing is said, and nothing is there to be read.
        Settings::read(None, &location).unwrap();
        let named = folder.path().join("mine.toml");
        let error = Settings::read(Some(&named), &location).map(drop).unwrap_err().to_string();
        assert!(error.contains("mine.toml cannot be read"), "{error}");
        let error = installed(&folder.path().join("none")).unwrap_err().to_string();
        assert!(error.contains("say where it is with `remotes`"), "{error}");
        assert_eq!(installed_version(folder.path()).unwrap(), None);
        std::fs::write(folder.path().join("VERSION"), "6.8.3\n").unwrap();
        assert_eq!(installed_version(folder.path()).unwrap(), Some(Profile::V6_4));
        std::fs::write(folder.path().join("VERSION"), "new\n").unwrap();
        let error = installed_version(folder.path()).unwrap_err().to_string();
        assert!(error.contains("VERSION holds no version of OpenNebula"), "{error}");
    }
}
