//! The server under test. All that the harness assumes about its command line and its
//! configuration file is on this page.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use crate::program::target_folder;
use crate::{Context, Finished, Outcome, Peer, Stage, Trouble, ensure, run};

const LIMIT: Duration = Duration::from_secs(20);
/// A clean build of the binary on two slow cores.
const BUILD: Duration = Duration::from_secs(40 * 60);

/// How the binary was compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// For tests.
    Debug,
    /// For measurements and packages.
    Release,
}

/// The binary `countersign` with every feature: `COUNTERSIGN_BIN` if that is set, else cargo builds it
/// (once).
pub fn binary(profile: Profile) -> Outcome<PathBuf> {
    static BUILT: Mutex<Vec<(Profile, PathBuf)>> = Mutex::new(Vec::new());
    if let Some(path) = std::env::var_os("COUNTERSIGN_BIN") {
        return Ok(PathBuf::from(path));
    }
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, path)) = built.iter().find(|(p, _)| *p == profile) {
        return Ok(path.clone());
    }
    let target = target_folder();
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--quiet", "--package", "countersign-cli", "--features", "full"])
        .arg("--target-dir")
        .arg(&target);
    let folder = match profile {
        Profile::Debug => "debug",
        Profile::Release => {
            command.arg("--release");
            "release"
        }
    };
    let done = run(&mut command, "", BUILD)?;
    ensure!(done.code == Some(0), "building countersign:\n{}", done.err);
    let path = target.join(folder).join("countersign");
    ensure!(path.is_file(), "cargo made no `{}`", path.display());
    built.push((profile, path.clone()));
    Ok(path)
}

/// What the server is told by a configuration file.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// A passwd-file to check against; without one, the server's own accounts.
    pub passwd: Option<PathBuf>,
    /// A socket for Dovecot's protocol.
    pub dovecot: Option<PathBuf>,
    /// What that socket announces, where it is not the usual.
    pub mechanisms: &'static [&'static str],
    /// Whether its clients are believed when they name a client certificate's user.
    pub trusts_certificates: bool,
    /// Whether that socket is closed on a fault, so that mail servers say "try later".
    pub close_on_fault: bool,
    /// A socket for saslauthd's protocol.
    pub saslauthd: Option<PathBuf>,
    /// Another place for the audit file.
    pub audit: Option<PathBuf>,
    /// No audit file and no metrics.
    pub quiet: bool,
    /// More lines of the HTTP listener's section.
    pub http: String,
    /// More sections.
    pub more: String,
}

impl Config {
    /// The file's text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let checker = match &self.passwd {
            Some(path) => {
                let _ =
                    write!(text, "[checker.file.mail]\npath = {path:?}\nallow_plain = true\n\n");
                "file.mail"
            }
            None => {
                text += "[checker.accounts.main]\n\n";
                "accounts.main"
            }
        };
        let _ = write!(text, "[policy]\ncheckers = [{checker:?}]\n\n");
        let _ = write!(text, "[listen.http.main]\naddress = \"127.0.0.1:0\"\n{}\n", self.http);
        if let Some(path) = &self.dovecot {
            let fault = if self.close_on_fault { "close" } else { "fail" };
            let _ = write!(
                text,
                "[listen.dovecot.mail]\npath = {path:?}\nmode = \"0666\"\non_fault = {fault:?}\n"
            );
            if self.trusts_certificates {
                text += "trust_client_certificates = true\n";
            }
            if !self.mechanisms.is_empty() {
                let _ = writeln!(text, "mechanisms = {:?}", self.mechanisms);
            }
            text += "\n";
        }
        if let Some(path) = &self.saslauthd {
            let _ = write!(text, "[listen.saslauthd.mail]\npath = {path:?}\nmode = \"0666\"\n\n");
        }
        let _ = writeln!(text, "[audit]\nenabled = {}", !self.quiet);
        if let Some(path) = &self.audit {
            let _ = writeln!(text, "path = {path:?}");
        }
        let _ = write!(text, "\n[metrics]\nenabled = {}\n\n{}", !self.quiet, self.more);
        text
    }
}

/// A running server.
#[derive(Debug)]
pub struct Countersign {
    /// Its data folder.
    pub data: PathBuf,
    /// Where it speaks HTTP: `127.0.0.1:PORT`.
    pub http: String,
    peer: Peer,
}

impl Countersign {
    /// Starts it with a configuration file, or, as a newcomer would, without any, and waits
    /// until it says that it is ready.
    pub fn start(stage: &Stage, profile: Profile, config: Option<&Config>) -> Outcome<Self> {
        Self::serve(stage, "", &[], profile, config.map(Config::text))
    }

    /// The same, with the whole text of a configuration file. It has a listener without TLS.
    pub fn start_with(stage: &Stage, profile: Profile, config: &str) -> Outcome<Self> {
        Self::serve(stage, "", &[], profile, Some(config.to_owned()))
    }

    /// The same, with a configuration that needs the features of a full build.
    ///
    /// # Errors
    /// [`NotRun`](Trouble::NotRun) when the server was built without one of them.
    pub fn start_full(stage: &Stage, config: &str) -> Outcome<Self> {
        Self::start_with(stage, Profile::Debug, config).map_err(|trouble| {
            if stage.logs().contains("this build has no") {
                return Trouble::not_run(
                    "the server was built without the feature; set COUNTERSIGN_BIN to one built with \
                     `--features full`",
                );
            }
            trouble
        })
    }

    /// One of several, with a name that its folder, its log and its configuration file (`NAME.toml`) have.
    pub fn node(stage: &Stage, name: &str, profile: Profile, config: &str) -> Outcome<Self> {
        Self::serve(stage, name, &[], profile, Some(config.to_owned()))
    }

    /// By a command that ends with becoming what its last words are: the server.
    pub fn start_by(
        stage: &Stage,
        before: &[&str],
        profile: Profile,
        config: &str,
    ) -> Outcome<Self> {
        Self::serve(stage, "", before, profile, Some(config.to_owned()))
    }

    fn serve(
        stage: &Stage,
        node: &str,
        before: &[&str],
        profile: Profile,
        config: Option<String>,
    ) -> Outcome<Self> {
        let binary = binary(profile)?;
        let (data, name) = match node {
            "" => ("data".to_owned(), "countersign"),
            node => (format!("{node}.data"), node),
        };
        let data = stage.at(data);
        let mut command = match before {
            [] => Command::new(binary),
            [program, words @ ..] => {
                let mut command = Command::new(program);
                command.args(words).arg(binary);
                command
            }
        };
        command.arg("serve").arg("--data").arg(&data);
        match config {
            Some(config) => {
                command.arg("--config").arg(stage.file(&format!("{name}.toml"), &config)?);
            }
            None => {
                command.args(["--http", "127.0.0.1:0"]);
            }
        }
        let mut peer = Peer::start(stage, name, &mut command)?;
        let ready = data.join("run/ready");
        let http = peer.until("countersign being ready", LIMIT, || {
            let text = fs::read_to_string(&ready).ok()?;
            // One line of JSON, complete when it ends; read here without a parser so that the
            // tasks which use this library compile in seconds.
            let text = text.strip_suffix('\n').unwrap_or(&text).strip_suffix('}')?;
            let (_, rest) = text.split_once("\"http\"")?;
            let (_, rest) = rest.split_once('"')?;
            Some(rest.split_once('"')?.0.to_owned())
        })?;
        Ok(Self { data, http, peer })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.peer.pid()
    }

    /// What it logged.
    pub fn log(&self) -> String {
        self.peer.log()
    }

    /// The socket that it makes for Dovecot's protocol when no file says otherwise.
    pub fn default_dovecot(&self) -> PathBuf {
        self.data.join("run/dovecot-auth")
    }

    /// The socket that it makes for saslauthd's protocol when no file says otherwise.
    pub fn default_saslauthd(&self) -> PathBuf {
        self.data.join("run/saslauthd/mux")
    }

    /// The administrator's one-time password of a new store, when there was no terminal.
    pub fn admin_password(&self) -> Outcome<String> {
        let path = self.data.join("admin-password");
        let text = fs::read_to_string(&path).during(path.display())?;
        // The password is the last word, should there ever be words around it.
        Ok(text.split_whitespace().next_back().unwrap_or_default().to_owned())
    }

    /// Ends it as an administrator would (SIGTERM).
    pub fn stop(self) -> Outcome<ExitStatus> {
        self.peer.stop()
    }

    /// Ends it as a crash would (SIGKILL).
    pub fn kill(self) -> Outcome<ExitStatus> {
        self.peer.kill()
    }
}

/// Runs `countersign WORDS…`, with `input` on its standard input.
///
/// # Errors
/// When the command does not end with status 0.
pub fn command(profile: Profile, words: &[&str], input: &str) -> Outcome<Finished> {
    command_within(profile, words, input, LIMIT)
}

/// The same with a time of its own.
///
/// # Errors
/// When the command does not end in time with status 0.
pub fn command_within(
    profile: Profile,
    words: &[&str],
    input: &str,
    limit: Duration,
) -> Outcome<Finished> {
    let done = run(Command::new(binary(profile)?).args(words), input, limit)?;
    ensure!(done.code == Some(0), "countersign {}: {}{}", words.join(" "), done.out, done.err);
    Ok(done)
}

/// Runs `countersign user WORDS… --data DATA`, with a password on its standard input when
/// the words ask for it (`--password-stdin`).
///
/// # Errors
/// When the command does not end with status 0.
pub fn user(profile: Profile, data: &Path, words: &[&str], password: &str) -> Outcome<Finished> {
    let mut command = Command::new(binary(profile)?);
    command.arg("user").args(words).arg("--data").arg(data);
    let input = if password.is_empty() { String::new() } else { format!("{password}\n") };
    let done = run(&mut command, &input, LIMIT)?;
    ensure!(done.code == Some(0), "countersign user {}: {}{}", words[0], done.out, done.err);
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_what_was_asked_for() {
        let text = Config {
            passwd: Some("/x/passwd".into()),
            dovecot: Some("/x/auth".into()),
            close_on_fault: true,
            quiet: true,
            ..Config::default()
        }
        .text();
        for line in [
            "[checker.file.mail]",
            "path = \"/x/passwd\"",
            "checkers = [\"file.mail\"]",
            "path = \"/x/auth\"",
            "on_fault = \"close\"",
            "[audit]\nenabled = false",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        assert!(!text.contains("saslauthd"));
    }
}
