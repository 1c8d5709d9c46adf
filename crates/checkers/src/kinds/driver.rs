//! `[checker.driver.NAME]` and `driver:PATH[?…]`. Reference: `docs/guide/driver.md`.

mod owner;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use countersign::{Checker, CredentialKind, Fault};
use countersign_wire::one::conf::{DriverRules, OnedConf, TokenTime};
use countersign_wire::one::{DriverName, Gid, Profile};
use serde::Deserialize;
use toml::Spanned;

use super::{Building, CheckerSettings, Form, Kind, Misplaced, Parts, SettingsError, Span, read};
use crate::driver::{
    Access, Account, Belief, Confinement, Driven, DriverLimits, Exec, ExecSettings, Launchers,
    Limits, Persistent, PersistentChecker, PersistentSettings, check,
};
use crate::one::{StoredFile, StoredSecrets};

/// The kind, with how it is made. Its processes are started by these launchers.
pub(super) fn completed(kind: Kind, launchers: Option<Arc<Launchers>>) -> Kind {
    let of_table = launchers.clone();
    kind.explained(
        "PATH is an executable as OpenNebula's `authenticate`: it reads a login from its standard input, as XML,\n\
         and exits with 0 for yes. It is run for each login, confined, and ended when it takes too long.\n\
         \n\
         Options, after a `?` and with `&` between them:\n\
         \x20 name=NAME        what it calls itself in its answers (its folder's name, if it is `authenticate`)\n\
         \x20 version=VERSION  the OpenNebula that it is written for (7.3.80)\n\
         \x20 account=WHICH    whose account it may name: same, folded, escaped, any (same)\n\
         \x20 groups=yes       its groups are the user's, and stars make administrators (no)\n\
         \x20 stored=PATH      what is stored for users, in lines `USER STORED`\n\
         \x20 timeout=TIME     how long a login may take (5s)\n\
         \x20 processes=N      how many run at a time (15)\n\
         \x20 persistent=yes   it stays, and answers many logins in JSON (no)",
    )
    .shown("driver:/var/lib/one/remotes/auth/length/authenticate?groups=yes")
    .from_table(move |value, base| {
        let place = value.span();
        let table: Table = read(value)?;
        Ok(Box::new(table.settings(base, place, of_table.clone())?))
    })
    .from_argument(Form::Required("PATH[?OPTION=VALUE&…]"), move |argument| {
        let place = argument.place();
        let (path, mut given) = argument.split()?;
        let mut table = Table {
            program: Some(Spanned::new(path.place.clone(), path.text.clone().into())),
            ..Table::default()
        };
        let spanned = |value: super::OptionValue| Spanned::new(value.place.clone(), value.text);
        table.name = given.take("name")?.map(spanned);
        table.version = given.take("version")?.map(spanned);
        if let Some(value) = given.take("account")? {
            table.account = Account::named(&value.text).ok_or_else(|| {
                value.refused("`account` is `same`, `folded`, `escaped` or `any`")
            })?;
        }
        let groups = given.flag("groups", false)?;
        table.driver_managed_groups = Some(groups);
        table.driver_managed_group_admin = Some(groups);
        if let Some(value) = given.take("stored")? {
            table.stored = Some(Spanned::new(value.place.clone(), value.text.into()));
        }
        if let Some(value) = given.take("timeout")? {
            table.timeout = Some(Span::parse(&value.text).map_err(|why| value.refused(why))?);
        }
        table.processes = given.parsed("processes", "a number of processes")?;
        given.end()?;
        if path.text.is_empty() {
            let help = "write `driver:/path/to/authenticate`";
            return Err(SettingsError::at(place, "no executable").with_help(help));
        }
        Ok(Box::new(table.settings(Path::new("/"), place, launchers.clone())?))
    })
}

/// Logins at a time of a driver that stays.
const LOGINS: usize = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    program: Option<Spanned<PathBuf>>,
    directory: Option<Spanned<PathBuf>>,
    name: Option<Spanned<String>>,
    version: Option<Spanned<String>>,
    /// Whether it stays: `docs/protocols/driver.md`.
    #[serde(default)]
    persistent: bool,
    /// What it may ask, if it stays.
    #[serde(default)]
    asks: Vec<Spanned<String>>,
    // How much of it.
    logins: Option<Spanned<usize>>,
    processes: Option<usize>,
    queue: Option<usize>,
    queue_time: Option<Span>,
    timeout: Option<Span>,
    // What its processes may do.
    #[serde(default)]
    environment: BTreeMap<String, String>,
    working_directory: Option<Spanned<PathBuf>>,
    run_as: Option<Spanned<String>>,
    files: Option<Spanned<u64>>,
    file_size: Option<u64>,
    memory: Option<u64>,
    nice: Option<Spanned<u8>>,
    #[serde(default)]
    may_gain_privileges: bool,
    readable: Option<Vec<PathBuf>>,
    writable: Option<Vec<PathBuf>>,
    network: Option<bool>,
    // What is believed of it.
    #[serde(default)]
    account: Account,
    #[serde(default)]
    drivers: Vec<Spanned<String>>,
    #[serde(default)]
    oneadmin: bool,
    #[serde(default)]
    groups: BTreeMap<Spanned<String>, String>,
    stored: Option<Spanned<PathBuf>>,
    // As in oned.conf.
    oned_conf: Option<Spanned<PathBuf>>,
    driver_managed_groups: Option<bool>,
    driver_managed_group_admin: Option<bool>,
    password_change: Option<bool>,
    password_required: Option<bool>,
    max_token_time: Option<TokenTime>,
}

/// What can be said before anything is opened.
struct Settings {
    table: Table,
    /// The executable; with `directory` it has the checker's name in it, if nothing else is said.
    base: PathBuf,
    place: Range<usize>,
    profile: Profile,
    name: Option<DriverName>,
    drivers: Vec<DriverName>,
    groups: BTreeMap<Gid, String>,
    launchers: Option<Arc<Launchers>>,
}

/// Environments often have passwords in them.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = format!("{:?}", self.table);
        for value in self.table.environment.values() {
            table = table.replace(value.as_str(), "…");
        }
        f.debug_struct("Settings").field("table", &table).field("base", &self.base).finish()
    }
}

fn driver_name(text: &Spanned<String>) -> Result<DriverName, SettingsError> {
    text.get_ref().parse().map_err(|error| {
        SettingsError::at(text.span(), format!("`{}` is no driver's name: {error}", text.get_ref()))
    })
}

impl Table {
    fn settings(
        self,
        base: &Path,
        place: Range<usize>,
        launchers: Option<Arc<Launchers>>,
    ) -> Result<Settings, SettingsError> {
        match (&self.program, &self.directory) {
            (Some(_), None) | (None, Some(_)) => {}
            (None, None) => {
                let help = "give `program`, or `directory` for DIRECTORY/NAME/authenticate";
                return Err(SettingsError::at(place, "no executable").with_help(help));
            }
            (Some(_), Some(directory)) => {
                let message = "`program` and `directory` both say which executable it is";
                return Err(SettingsError::at(directory.span(), message).with_help("leave one out"));
            }
        }
        let profile = match &self.version {
            None => Profile::V7_3_80,
            Some(version) => version.get_ref().parse().map_err(|_| {
                SettingsError::at(version.span(), "no version of OpenNebula")
                    .with_help("write it as `oned --version` does, such as \"6.10\"")
            })?,
        };
        if self.persistent && (self.processes.is_some() || self.version.is_some()) {
            let message = "a driver that stays is one process, and has no version of OpenNebula";
            return Err(SettingsError::at(place, message).with_help(
                "leave out `processes` and `version`; `logins` says how many at a time",
            ));
        }
        if let Some(logins) = self.logins.as_ref().filter(|_| !self.persistent) {
            return Err(SettingsError::at(logins.span(), "`logins` is for drivers that stay")
                .with_help("give `processes`, or `persistent = true`"));
        }
        if let (Some(first), false) = (self.asks.first(), self.persistent) {
            return Err(SettingsError::at(first.span(), "only a driver that stays can ask")
                .with_help("give `persistent = true`"));
        }
        for kind in &self.asks {
            if !CredentialKind::all().any(|known| known.name() == kind.get_ref()) {
                let known: Vec<_> = CredentialKind::all().collect();
                let known: Vec<_> = known.iter().map(CredentialKind::name).collect();
                return Err(SettingsError::at(kind.span(), "no kind of question")
                    .with_help(super::suggestion(kind.get_ref(), &known)));
            }
        }
        if let Some(nice) = self.nice.as_ref().filter(|nice| *nice.get_ref() > 19) {
            return Err(SettingsError::at(nice.span(), "`nice` goes from 0 to 19"));
        }
        let limits = self.limits();
        if let Some(files) = &self.files
            && !self.persistent
            && *files.get_ref() < limits.processes as u64 + 32
        {
            let message = "the launcher has a file open for each process, and a few more";
            let help = format!("at least {}", limits.processes + 32);
            return Err(SettingsError::at(files.span(), message).with_help(help));
        }
        let groups =
            self.groups.iter().map(|(number, name)| match number.get_ref().parse::<Gid>() {
                Ok(group) => Ok((group, name.clone())),
                Err(_) => Err(SettingsError::at(number.span(), "no number of a group")
                    .with_help("write `groups = { 100 = \"staff\" }`")),
            });
        Ok(Settings {
            name: self.name.as_ref().map(driver_name).transpose()?,
            drivers: self.drivers.iter().map(driver_name).collect::<Result<_, _>>()?,
            groups: groups.collect::<Result<_, _>>()?,
            profile,
            place,
            base: base.to_owned(),
            launchers,
            table: self,
        })
    }

    fn limits(&self) -> DriverLimits {
        let usual = DriverLimits::default();
        let span = |span: Option<Span>, usual: Duration| span.map_or(usual, |span| span.0);
        DriverLimits {
            processes: match self.persistent {
                true => self.logins.as_ref().map_or(LOGINS, |logins| *logins.get_ref()),
                false => self.processes.unwrap_or(usual.processes),
            }
            .max(1),
            queue: self.queue.unwrap_or(usual.queue),
            queue_time: span(self.queue_time, usual.queue_time),
            time: span(self.timeout, usual.time),
        }
    }
}

impl Settings {
    /// The driver's name: as it is said; else the folder's of an `authenticate`; else the file's.
    fn driver(&self, checker: &str) -> Result<DriverName, Misplaced> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        let named = match &self.table.program {
            None => Some(checker),
            Some(program) => {
                let path = program.get_ref();
                let stem = path.file_stem().and_then(|name| name.to_str());
                let folder = path.parent().and_then(Path::file_name);
                match stem {
                    Some("authenticate") => folder.and_then(|name| name.to_str()),
                    stem => stem,
                }
            }
        };
        named.and_then(|name| name.parse().ok()).ok_or_else(|| {
            Misplaced::at(
                self.place.clone(),
                "what the driver is called cannot be seen from its path; give `name`",
            )
        })
    }

    fn program(&self, driver: &DriverName) -> (PathBuf, Range<usize>) {
        match (&self.table.program, &self.table.directory) {
            (Some(program), _) => (self.base.join(program.get_ref()), program.span()),
            (None, Some(directory)) => {
                let folder = self.base.join(directory.get_ref());
                (folder.join(driver.as_str()).join("authenticate"), directory.span())
            }
            (None, None) => (PathBuf::new(), self.place.clone()),
        }
    }

    fn rules(&self, driver: &DriverName) -> Result<DriverRules, Misplaced> {
        let mut rules = match &self.table.oned_conf {
            None => DriverRules::built_in(driver).unwrap_or_default(),
            Some(path) => {
                let wrong = |why: String| {
                    Misplaced::at(path.span(), format!("{}: {why}", path.get_ref().display()))
                };
                let file = std::fs::read(self.base.join(path.get_ref()))
                    .map_err(|error| wrong(error.to_string()))?;
                let conf = OnedConf::parse(&file).map_err(|error| wrong(error.to_string()))?;
                for note in &conf.notes {
                    tracing::warn!("{}:{}: {}", path.get_ref().display(), note.line, note.text);
                }
                conf.rules(driver)
            }
        };
        let Table {
            driver_managed_groups,
            driver_managed_group_admin,
            password_change,
            password_required,
            max_token_time,
            ..
        } = &self.table;
        let set = |rule: &mut bool, said: &Option<bool>| *rule = said.unwrap_or(*rule);
        set(&mut rules.managed_groups, driver_managed_groups);
        set(&mut rules.managed_group_admin, driver_managed_group_admin);
        set(&mut rules.password_change, password_change);
        set(&mut rules.password_required, password_required);
        rules.max_token_time = max_token_time.unwrap_or(rules.max_token_time);
        Ok(rules)
    }

    fn belief(&self, driver: &DriverName) -> Result<Belief, Misplaced> {
        let mut belief = Belief::of(driver.clone());
        belief.drivers.extend(self.drivers.iter().cloned());
        belief.account = self.table.account;
        belief.rules = self.rules(driver)?;
        belief.oneadmin = self.table.oneadmin;
        belief.groups = self.groups.clone();
        Ok(belief)
    }

    fn confinement(&self, program: &Path) -> Result<Confinement, Misplaced> {
        let usual = Confinement::default();
        let table = &self.table;
        let mut environment = usual.environment;
        environment
            .retain(|(name, _)| !table.environment.keys().any(|given| given.as_str() == name));
        let given = table.environment.iter();
        environment
            .extend(given.map(|(name, value)| (OsString::from(name), OsString::from(value))));
        for (name, value) in &table.environment {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                let what = "a variable's name has no `=`, and neither name nor value a NUL";
                return Err(Misplaced::at(self.place.clone(), what));
            }
        }
        let user = match &table.run_as {
            None => None,
            Some(user) => Some(
                owner::user(user.get_ref(), Path::new("/etc"))
                    .map_err(|why| Misplaced::at(user.span(), why))?,
            ),
        };
        let directory = match &table.working_directory {
            Some(directory) => {
                let path = self.base.join(directory.get_ref());
                if !path.is_dir() {
                    let what = format!("{} is no folder", path.display());
                    return Err(Misplaced::at(directory.span(), what));
                }
                path
            }
            None => usual.directory,
        };
        Ok(Confinement {
            environment,
            directory,
            user,
            limits: Limits {
                files: table.files.as_ref().map_or(usual.limits.files, |files| *files.get_ref()),
                file_size: table.file_size,
                memory: table.memory,
                processes: None,
            },
            nice: table.nice.as_ref().map_or(0, |nice| *nice.get_ref()),
            may_gain_privileges: table.may_gain_privileges,
            access: self.access(program),
        })
    }

    /// What the system's programs and libraries need, the driver's own folder, and what is named.
    fn access(&self, program: &Path) -> Option<Access> {
        const SYSTEM: [&str; 8] =
            ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/dev/urandom", "/proc"];
        let Table { readable, writable, network, .. } = &self.table;
        if readable.is_none() && writable.is_none() && network.unwrap_or(true) {
            return None;
        }
        let named = |paths: &Option<Vec<PathBuf>>| {
            paths.iter().flatten().map(|path| self.base.join(path)).collect::<Vec<_>>()
        };
        let mut read: Vec<PathBuf> =
            SYSTEM.iter().map(PathBuf::from).filter(|path| path.exists()).collect();
        read.extend(program.parent().map(Path::to_owned));
        let mut write = vec![PathBuf::from("/dev/null")];
        if readable.is_none() && writable.is_none() {
            // Only the network is taken away.
            write = vec!["/".into()];
        }
        read.extend(named(readable));
        write.extend(named(writable));
        Some(Access { read, write, network: network.unwrap_or(true) })
    }

    async fn checker(&self, name: &str, parts: &Parts) -> Result<Arc<dyn Checker>, Misplaced> {
        let Some(launchers) = &self.launchers else {
            let what = "this program starts no drivers: it has no launcher (`Kinds::launched_by`)";
            return Err(Misplaced::at(self.place.clone(), what));
        };
        let driver = self.driver(name)?;
        let (program, place) = self.program(&driver);
        let launcher = launchers.confined(&self.confinement(&program)?);
        let limits = self.table.limits();
        check(&program).map_err(|why| Misplaced::at(place, why))?;
        let belief = self.belief(&driver)?;
        let stored = match &self.table.stored {
            None => None,
            Some(path) => {
                let file = StoredFile::open(self.base.join(path.get_ref()));
                let file = file.map_err(|fault| Misplaced { place: Some(path.span()), fault })?;
                Some(Box::new(file) as Box<dyn StoredSecrets>)
            }
        };
        // While the server is small; and what cannot be is said now.
        launcher.ready().await.map_err(|error| Misplaced {
            place: Some(self.place.clone()),
            fault: Fault::internal(format!("checker `{name}`: {error}")),
        })?;
        if self.table.persistent {
            let asks = self.table.asks.iter().map(|kind| CredentialKind::from_name(kind.get_ref()));
            let settings = PersistentSettings { program, name: driver, limits };
            let persistent = Persistent::new(settings, launcher);
            let ready = persistent.ready().await;
            ready.map_err(|why| Misplaced::at(self.place.clone(), format!("the driver: {why}")))?;
            // Under a pool, what is believed and what is stored is the pool's to say; it asks for a password alone.
            if parts.pools(name) {
                return Ok(parts.under_pool(name, Arc::new(persistent))?);
            }
            return Ok(Arc::new(PersistentChecker::new(name, persistent, belief, stored, asks)));
        }
        let settings = ExecSettings { program, profile: self.profile, limits };
        let exec = Arc::new(Exec::new(settings, launcher));
        if parts.pools(name) {
            return Ok(parts.under_pool(name, exec)?);
        }
        let driven = Driven::new(name, exec, belief, stored, Arc::clone(&parts.world));
        Ok(Arc::new(driven.checker()))
    }
}

impl CheckerSettings for Settings {
    fn build<'a>(&'a self, name: &'a str, parts: &'a Parts) -> Building<'a> {
        Box::pin(self.checker(name, parts))
    }

    fn describe(&self) -> String {
        match (&self.table.program, &self.table.directory) {
            (Some(program), _) => format!("whom {} accepts", program.get_ref().display()),
            (None, Some(directory)) => {
                format!("whom a driver in {} accepts", directory.get_ref().display())
            }
            (None, None) => "whom a driver accepts".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use toml::de::{DeTable, DeValue};

    fn of(text: &str) -> Result<String, String> {
        let table = DeTable::parse(text).unwrap();
        let value = Spanned::new(table.span(), DeValue::Table(table.into_inner()));
        let kind = completed(Kind::new("driver", ""), None);
        kind.table(value, Path::new("/base"))
            .map(|settings| format!("{settings:?}"))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn tables() {
        let good = "directory = 'remotes/auth'\nversion = '6.10'\nprocesses = 3\nfiles = 64\n\
                    environment = { ONE_AUTH = 's3cret' }\ngroups = { 100 = 'staff' }\nmax_token_time = -1\n\
                    account = 'escaped'\ndrivers = ['ldap2']\n";
        let read = of(good).unwrap();
        assert!(!read.contains("s3cret"), "{read}");
        for (text, said) in [
            ("processes = 1", "no executable; give `program`"),
            ("program = 'a'\ndirectory = 'b'", "leave one out"),
            ("program = 'a'\nversion = 'new'", "as `oned --version` does"),
            ("program = 'a'\nnice = 20", "from 0 to 19"),
            ("program = 'a'\npersistent = true\nprocesses = 2", "`logins` says how many"),
            ("program = 'a'\nlogins = 2", "for drivers that stay"),
            ("program = 'a'\nasks = ['otp']", "only a driver that stays"),
            ("program = 'a'\npersistent = true\nasks = ['otq']", "did you mean `otp`?"),
            ("program = 'a'\nfiles = 40", "at least 47"),
            ("program = 'a'\ngroups = { staff = '100' }", "no number of a group"),
            ("program = 'a'\nname = 'a b'", "is no driver's name"),
            ("program = 'a'\nproccesses = 1", "did you mean `processes`?"),
            ("program = 'a'\naccount = 'all'", "all"),
            ("program = 'a'\nmax_token_time = -2", "-1"),
        ] {
            let error = of(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn arguments() {
        let kind = completed(Kind::new("driver", ""), None);
        let read = |text: &str| kind.argument(Some(text)).map(|settings| format!("{settings:?}"));
        let settings = read("/opt/d?groups=yes&timeout=2s&account=folded&processes=2").unwrap();
        assert!(settings.contains("processes: Some(2)"), "{settings}");
        for (text, said) in [
            ("?groups=yes", "no executable"),
            ("/d?acount=any", "did you mean `account`?"),
            ("/d?account=all", "`escaped` or `any`"),
            ("/d?version=x", "oned --version"),
            ("/d?processes=x", "a number of processes"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
