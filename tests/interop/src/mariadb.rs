//! A private MariaDB server.

use std::process::Command;
use std::time::Duration;

use crate::postgres::{lowly, own};
use crate::{Outcome, Peer, Stage, ensure, free_port, need, run};

const LIMIT: Duration = Duration::from_secs(60);
const PACKAGE: &str = "mariadb-server";

/// A MariaDB server in a private folder, on loopback, with the database `site`.
#[derive(Debug)]
pub struct Mariadb {
    /// Its port on 127.0.0.1.
    pub port: u16,
    server: Option<Peer>,
    // Last, so that the server ends before its folder does.
    stage: Stage,
}

impl Mariadb {
    /// A user who may do all in the database `site`.
    pub const USER: &'static str = "countersign";
    /// Their password.
    pub const PASSWORD: &'static str = "s3cret";

    /// Makes the server's files and starts it.
    ///
    /// # Errors
    /// [`NotRun`](crate::Trouble::NotRun) without the package.
    pub fn start() -> Outcome<Self> {
        need("mariadbd", PACKAGE)?;
        let install = need("mariadb-install-db", PACKAGE)?;
        let stage = Stage::new()?;
        let folder = stage.folder("mariadb")?;
        own(&folder)?;
        let mut make = lowly(&install)?;
        make.args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"]);
        make.arg(format!("--datadir={}", folder.join("data").display()));
        let made = run(make.env("HOME", &folder).current_dir(&folder), "", LIMIT)?;
        ensure!(made.code == Some(0), "mariadb-install-db: {}{}", made.out, made.err);
        let mut this = Self { port: free_port()?, server: None, stage };
        this.resume()?;
        let (user, password) = (Self::USER, Self::PASSWORD);
        this.sql(&format!(
            "CREATE DATABASE site CHARACTER SET utf8mb4;
             CREATE USER '{user}'@'%' IDENTIFIED BY '{password}';
             CREATE USER '{user}'@'localhost' IDENTIFIED BY '{password}';
             GRANT ALL ON site.* TO '{user}'@'%';
             GRANT ALL ON site.* TO '{user}'@'localhost';"
        ))?;
        Ok(this)
    }

    /// The URL of the database `site`.
    pub fn url(&self) -> String {
        format!("mysql://{}:{}@127.0.0.1:{}/site", Self::USER, Self::PASSWORD, self.port)
    }

    /// Runs statements as the superuser.
    ///
    /// # Errors
    /// With what the client says.
    pub fn sql(&self, sql: &str) -> Outcome<String> {
        let mut client = Command::new(need("mariadb", "mariadb-client")?);
        client.args(["--no-defaults", "--batch", "--default-character-set=utf8mb4", "-u", "root"]);
        client.arg(format!("--socket={}", self.socket()));
        let done = run(&mut client, sql, LIMIT)?;
        ensure!(done.code == Some(0), "mariadb: {}{}", done.out, done.err);
        Ok(done.out)
    }

    /// Ends the server as a crash does, and every connection with it.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self) -> Outcome {
        match self.server.take() {
            Some(server) => server.kill().map(drop),
            None => Ok(()),
        }
    }

    /// Starts the server again on the same data and the same port.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub fn resume(&mut self) -> Outcome {
        let folder = self.stage.at("mariadb");
        let mut command = lowly(&need("mariadbd", PACKAGE)?)?;
        command.args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve"]);
        command.args(["--innodb-buffer-pool-size=16M", "--innodb-flush-log-at-trx-commit=2"]);
        command.arg(format!("--datadir={}", folder.join("data").display()));
        command.arg(format!("--tmpdir={}", folder.display()));
        command.arg(format!("--socket={}", self.socket()));
        command.arg(format!("--pid-file={}", folder.join("pid").display()));
        command.arg(format!("--port={}", self.port));
        let mut server = Peer::start(&self.stage, "mariadb", command.current_dir(&folder))?;
        server.until("MariaDB answering", LIMIT, || self.sql("SELECT 1;").ok())?;
        self.server = Some(server);
        Ok(())
    }

    fn socket(&self) -> String {
        self.stage.at("mariadb/socket").display().to_string()
    }
}
