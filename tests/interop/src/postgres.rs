//! A private PostgreSQL, as a user who may nothing.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::{Context, Outcome, Peer, Stage, Trouble, ensure, free_port, need, run};

const LIMIT: Duration = Duration::from_secs(60);
const PACKAGE: &str = "postgresql";

/// A PostgreSQL server in a private folder, on loopback. Its texts are ordered as in a dictionary unless
/// a column says otherwise, so that whoever relies on the order of bytes notices.
#[derive(Debug)]
pub struct Postgres {
    /// Its port on 127.0.0.1.
    pub port: u16,
    server: Option<Peer>,
    databases: AtomicU32,
    programs: PathBuf,
    settings: Vec<String>,
    // Last, so that the server ends before its folder does.
    stage: Stage,
}

impl Postgres {
    /// The superuser of the private server.
    pub const USER: &'static str = "countersign";
    /// Their password, which every connection must give.
    pub const PASSWORD: &'static str = "s3cret";

    /// Makes a cluster and starts its server.
    ///
    /// # Errors
    /// [`NotRun`](Trouble::NotRun) without the package.
    pub fn start() -> Outcome<Self> {
        Self::start_with(|_| Ok(Vec::new()))
    }

    /// The same with settings (`name=value`), made when the folder is there to put files into.
    ///
    /// # Errors
    /// As [`Postgres::start`], and what `settings` says.
    pub fn start_with(settings: impl FnOnce(&Path) -> Outcome<Vec<String>>) -> Outcome<Self> {
        let programs = programs()?;
        let stage = Stage::new()?;
        let folder = stage.folder("postgres")?;
        let password = folder.join("password");
        fs::write(&password, Self::PASSWORD).during("writing a password")?;
        let settings = settings(&folder)?;
        own(&folder)?;
        let mut initdb = lowly(&programs.join("initdb"))?;
        initdb.arg("-D").arg(folder.join("data")).arg("--pwfile").arg(&password);
        initdb.args(["-U", Self::USER, "--auth=scram-sha-256", "--encoding=UTF8", "--no-sync"]);
        initdb.args(["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en"]);
        let made = run(initdb.current_dir(&folder), "", LIMIT)?;
        ensure!(made.code == Some(0), "initdb: {}{}", made.out, made.err);
        let databases = AtomicU32::new(0);
        let port = free_port()?;
        let mut this = Self { port, server: None, databases, programs, settings, stage };
        this.resume()?;
        Ok(this)
    }

    /// The URL of a new, empty database.
    ///
    /// # Errors
    /// When the server does not make it.
    pub fn database(&self) -> Outcome<String> {
        let name = format!("d{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(self.url(&name))
    }

    /// The URL of the database of this name.
    pub fn url(&self, database: &str) -> String {
        let (user, password, port) = (Self::USER, Self::PASSWORD, self.port);
        format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}")
    }

    /// Runs statements as the superuser, by `psql`, and gives what it prints.
    ///
    /// # Errors
    /// With what `psql` says.
    pub fn sql(&self, database: &str, sql: &str) -> Outcome<String> {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1"]);
        psql.args(["-U", Self::USER, "-d", database, "-p"]).arg(self.port.to_string());
        let done = run(psql.env("PGPASSWORD", Self::PASSWORD), sql, LIMIT)?;
        ensure!(done.code == Some(0), "psql: {}{}", done.out, done.err);
        Ok(done.out)
    }

    /// Ends the server as an administrator does who waits for nobody (`immediate`: as a crash does), and
    /// every connection with it.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self, immediate: bool) -> Outcome {
        let mode = if immediate { "immediate" } else { "fast" };
        let mut stop = lowly(&self.programs.join("pg_ctl"))?;
        stop.arg("-D").arg(self.data()).args(["-m", mode, "-w", "stop"]);
        let done = run(stop.current_dir(self.stage.path()), "", LIMIT)?;
        ensure!(done.code == Some(0), "pg_ctl: {}{}", done.out, done.err);
        self.server = None;
        Ok(())
    }

    /// Starts the server again on the same data and the same port.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub fn resume(&mut self) -> Outcome {
        let mut command = lowly(&self.programs.join("postgres"))?;
        command.arg("-D").arg(self.data()).arg("-k").arg(self.folder());
        command.args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        // A crash of the server loses nothing without it; only one of the machine would.
        command.args(["-c", "fsync=off", "-c", "max_connections=200"]);
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        let mut server = Peer::start(&self.stage, "postgres", command.current_dir(self.folder()))?;
        let mut ready = Command::new(self.programs.join("pg_isready"));
        ready.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
        server.until("PostgreSQL answering", LIMIT, || {
            run(&mut ready, "", LIMIT).ok().filter(|done| done.code == Some(0))
        })?;
        self.server = Some(server);
        Ok(())
    }

    /// What the server logged.
    pub fn log(&self) -> String {
        self.server.as_ref().map(Peer::log).unwrap_or_default()
    }

    fn folder(&self) -> PathBuf {
        self.stage.at("postgres")
    }

    fn data(&self) -> PathBuf {
        self.folder().join("data")
    }
}

/// Debian keeps the server's programs beside each other, by version.
fn programs() -> Outcome<PathBuf> {
    let version = |path: &PathBuf| -> u32 {
        path.file_name().and_then(|name| name.to_str()?.parse().ok()).unwrap_or(0)
    };
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = installed.map(|entry| entry.path()).collect();
    versions.sort_by_key(version);
    let newest = versions.into_iter().rev().map(|path| path.join("bin"));
    newest.into_iter().find(|bin| bin.join("initdb").is_file()).map_or_else(
        || {
            let initdb = need("initdb", PACKAGE)?;
            Ok(initdb.parent().map(Path::to_owned).unwrap_or_default())
        },
        Ok,
    )
}

/// The user that runs it: PostgreSQL refuses to be root.
fn user() -> Outcome<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let id = |which: &str, user: &str| -> Option<u32> {
        let said = run(Command::new("id").args([which, user]), "", LIMIT).ok()?;
        said.out.trim().parse().ok()
    };
    ["postgres", "nobody"]
        .into_iter()
        .find_map(|user| Some(Some((id("-u", user)?, id("-g", user)?))))
        .ok_or_else(|| Trouble::not_run("no user here who may run PostgreSQL"))
}

/// Gives a private folder, and what is right in it, to the user that runs the server.
pub(crate) fn own(folder: &Path) -> Outcome {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).during(folder.display())?;
    let Some((uid, gid)) = user()? else { return Ok(()) };
    for path in fs::read_dir(folder).during(folder.display())?.flatten() {
        chown(path.path(), Some(uid), Some(gid)).during(path.path().display())?;
    }
    chown(folder, Some(uid), Some(gid)).during(folder.display())
}

/// A program, to be run as a user who may nothing if we are root.
pub(crate) fn lowly(program: &Path) -> Outcome<Command> {
    let Some((uid, gid)) = user()? else { return Ok(Command::new(program)) };
    let mut command = Command::new(need("setpriv", "util-linux")?);
    command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".into()]);
    command.arg(program);
    Ok(command)
}
