//! Dovecot's own authentication service: what ours is compared with.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{Context, Outcome, Peer, Stage, Trouble, ensure, need, need_root, run};

const LIMIT: Duration = Duration::from_secs(20);

/// What it does beside checking passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habits {
    /// Neither penalties nor statistics: the least work.
    Quiet,
    /// A penalty look-up for each login (process `anvil`), as it comes, and statistics that
    /// somebody wants to see: one metric of finished logins (process `stats`).
    Default,
}

/// A running Dovecot without mail protocols.
#[derive(Debug)]
pub struct DovecotAuth {
    /// The socket of the client protocol.
    pub socket: PathBuf,
    master: Peer,
}

impl DovecotAuth {
    /// Starts it over a passwd-file as [`passwd_file`] makes one.
    ///
    /// # Errors
    /// [`NotRun`](crate::Trouble::NotRun) without Dovecot or without root, as each of its
    /// processes has a user of its own.
    pub fn start(stage: &Stage, passwd: &Path, habits: Habits) -> Outcome<Self> {
        let name = match habits {
            Habits::Quiet => "dovecot-quiet",
            Habits::Default => "dovecot-default",
        };
        let passdb = format!(
            "passdb {{\n  driver = passwd-file\n  args = scheme=PLAIN username_format=%u {}\n}}\n",
            passwd.display()
        );
        Self::start_over(stage, name, &passdb, "plain login", habits)
    }

    /// Starts it, quiet, over a passwd-file with hashes of one mechanism's keys, and with that mechanism alone.
    ///
    /// # Errors
    /// As [`DovecotAuth::start`].
    pub fn start_by(stage: &Stage, passwd: &Path, mechanism: &str) -> Outcome<Self> {
        let passdb = format!(
            "passdb {{\n  driver = passwd-file\n  args = scheme={mechanism} username_format=%u {}\n}}\n",
            passwd.display()
        );
        let name = format!("dovecot-{}", mechanism.to_ascii_lowercase());
        let mechanism = mechanism.to_ascii_lowercase();
        Self::start_over(stage, &name, &passdb, &mechanism, Habits::Quiet)
    }

    /// Starts it over a SQLite database with a table `users` of names and hashes. It hashes in worker
    /// processes then, as with any database that its client library would wait for.
    ///
    /// # Errors
    /// As [`DovecotAuth::start`]; also without Dovecot's SQLite driver or the `sqlite3` program.
    pub fn start_sql(stage: &Stage, users: &[(String, String)], habits: Habits) -> Outcome<Self> {
        let sqlite = need("sqlite3", "sqlite3")?;
        let driver = Path::new("/usr/lib/dovecot/modules/libdriver_sqlite.so");
        if !driver.exists() {
            return Err(Trouble::not_run("Dovecot's SQLite driver (package dovecot-sqlite)"));
        }
        let database = stage.at("dovecot-sql.db");
        let mut script = "CREATE TABLE users (name TEXT PRIMARY KEY, hash TEXT NOT NULL);\n\
                          BEGIN;\n"
            .to_owned();
        for (name, hash) in users {
            let _ = writeln!(script, "INSERT INTO users VALUES ('{name}', '{hash}');");
        }
        script += "COMMIT;\n";
        let made = run(Command::new(sqlite).arg("-bail").arg(&database), &script, LIMIT)?;
        ensure!(made.code == Some(0), "sqlite3: {}{}", made.out, made.err);
        // Its workers may have a user of their own.
        fs::set_permissions(&database, fs::Permissions::from_mode(0o644))
            .during(database.display())?;
        let query = format!(
            "driver = sqlite\nconnect = {}\n\
             password_query = SELECT name AS user, hash AS password FROM users WHERE name = '%u'\n",
            database.display()
        );
        let query = stage.file("dovecot-sql.conf", &query)?;
        let passdb = format!("passdb {{\n  driver = sql\n  args = {}\n}}\n", query.display());
        Self::start_over(stage, "dovecot-sql", &passdb, "plain login", habits)
    }

    fn start_over(
        stage: &Stage,
        name: &str,
        passdb: &str,
        mechanisms: &str,
        habits: Habits,
    ) -> Outcome<Self> {
        let program = need("dovecot", "dovecot-core")?;
        need_root("Dovecot")?;
        let folder = stage.folder(name)?;
        let socket = folder.join("auth");
        let mut config = format!(
            "base_dir = {folder}/run\n\
             state_dir = {folder}/state\n\
             log_path = {folder}/dovecot.log\n\
             protocols =\n\
             ssl = no\n\
             auth_mechanisms = {mechanisms}\n\
             disable_plaintext_auth = no\n\
             auth_failure_delay = 0\n\
             {passdb}\
             userdb {{\n  driver = static\n  args = uid=nobody gid=nogroup home=/nonexistent\n}}\n\
             service auth {{\n  client_limit = 4000\n  \
             unix_listener auth-clients {{\n    path = {socket}\n    mode = 0666\n  }}\n}}\n",
            folder = folder.display(),
            socket = socket.display(),
        );
        if habits == Habits::Quiet {
            // A socket of mode 0 is not made, and auth then goes without the service behind it.
            config += "service anvil {\n  unix_listener anvil-auth-penalty {\n    mode = 0\n  }\n}\n\
                       service stats {\n  unix_listener stats-writer {\n    mode = 0\n  }\n}\n";
        }
        if habits == Habits::Default {
            // Without any metric nothing is sent to `stats`, so nothing would be compared.
            config += "metric auth_request_finished {\n  filter = event=auth_request_finished\n}\n";
        }
        stage.folder(&format!("{name}/run"))?;
        stage.folder(&format!("{name}/state"))?;
        let config = stage.file(&format!("{name}/dovecot.conf"), &config)?;
        let mut master =
            Peer::start(stage, name, Command::new(program).arg("-F").arg("-c").arg(config))?;
        master.until("Dovecot listening", LIMIT, || UnixStream::connect(&socket).ok())?;
        Ok(Self { socket, master })
    }

    /// Dovecot's first process; the one that answers is a child of it.
    pub fn pid(&self) -> u32 {
        self.master.pid()
    }
}

/// Lines `u1:{PLAIN}secret1` … as both services read them.
pub fn passwd_file(users: usize) -> String {
    let mut text = String::new();
    for user in 1..=users {
        let _ = writeln!(text, "u{user}:{{PLAIN}}secret{user}");
    }
    text
}
