//! The example servers: each a binary of its own, started as anybody would start it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::program::target_folder;
use crate::{Context, Outcome, Peer, Stage, ensure, run};

/// A clean build on two slow cores.
const BUILD: Duration = Duration::from_secs(40 * 60);
const LIMIT: Duration = Duration::from_secs(20);

/// The binary of an example's package, built by cargo (once).
///
/// # Errors
/// When it does not build.
pub fn example(package: &str) -> Outcome<PathBuf> {
    static BUILT: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let target = target_folder();
    let path = target.join("debug").join(package);
    if built.iter().any(|known| known == package) {
        return Ok(path);
    }
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--quiet", "--package", package])
        .arg("--target-dir")
        .arg(&target);
    let done = run(&mut command, "", BUILD)?;
    ensure!(done.code == Some(0), "building {package}:\n{}", done.err);
    ensure!(path.is_file(), "cargo made no `{}`", path.display());
    built.push(package.to_owned());
    Ok(path)
}

/// `examples/mail`: POP3 and IMAP on Maildirs.
#[derive(Debug)]
pub struct ExampleMail {
    /// Its POP3 port on 127.0.0.1.
    pub pop3: u16,
    /// Its IMAP port on 127.0.0.1.
    pub imap: u16,
    /// Where Maildirs are, each below its user's name.
    pub mail: PathBuf,
    peer: Peer,
}

impl ExampleMail {
    /// Its package.
    pub const PACKAGE: &str = "countersign-example-mail";

    /// Starts it with these checkers (`--auth`) and more options.
    ///
    /// # Errors
    /// When it does not start; with its log in the stage.
    pub fn start(stage: &Stage, auth: &[&str], more: &[&str]) -> Outcome<Self> {
        let mail = stage.at("mail");
        let mut command = Command::new(example(Self::PACKAGE)?);
        command.args(["--listen", "127.0.0.1:0", "--host", "mail.test", "--mail"]).arg(&mail);
        for string in auth {
            command.args(["--auth", string]);
        }
        let mut peer = Peer::start(stage, "example-mail", command.args(more))?;
        let log = stage.at("example-mail.log");
        let port = |name: &str| {
            let text = std::fs::read_to_string(&log).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix(name))?.to_owned();
            line.rsplit(':').next()?.parse::<u16>().ok()
        };
        let ports = || port("pop3 on ").zip(port("imap on "));
        let (pop3, imap) = peer.until("the ports of the mail example", LIMIT, ports)?;
        Ok(Self { pop3, imap, mail, peer })
    }

    /// Puts a message into a user's Maildir, as a delivery agent does.
    ///
    /// # Errors
    /// Of the file system.
    pub fn deliver(&self, user: &str, name: &str, text: &str) -> Outcome {
        let maildir = self.mail.join(user);
        for part in ["tmp", "new", "cur"] {
            std::fs::create_dir_all(maildir.join(part)).during(part)?;
        }
        let being_written = maildir.join("tmp").join(name);
        std::fs::write(&being_written, text).during(name)?;
        std::fs::rename(being_written, maildir.join("new").join(name)).during(name)
    }

    /// The names of the files in a user's Maildir, in order.
    ///
    /// # Errors
    /// Of the file system.
    pub fn files(&self, user: &str) -> Outcome<Vec<String>> {
        let mut names = Vec::new();
        for part in ["new", "cur"] {
            for entry in std::fs::read_dir(self.mail.join(user).join(part)).during(part)? {
                names.push(entry.during(part)?.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// What it says in its log.
    pub fn log(&self) -> String {
        self.peer.log()
    }

    /// Asks it to end.
    ///
    /// # Errors
    /// When it does not, or not well.
    pub fn end(self) -> Outcome {
        let status = self.peer.stop()?;
        ensure!(status.success(), "the mail example ended with {status}");
        Ok(())
    }
}

/// An example that serves at one address: `--listen ADDRESS`, and says so in a line `NAME on ADDRESS`.
#[derive(Debug)]
pub struct Example {
    /// Its port on 127.0.0.1.
    pub port: u16,
    name: &'static str,
    peer: Peer,
}

impl Example {
    /// `examples/web`: notebooks over HTTP.
    pub const WEB: &str = "web";
    /// `examples/objects`: remote objects over Cap'n Proto RPC.
    pub const OBJECTS: &str = "objects";

    /// The binary of one of them, built by cargo (once).
    ///
    /// # Errors
    /// When it does not build.
    pub fn built(name: &str) -> Outcome<PathBuf> {
        example(&format!("countersign-example-{name}"))
    }

    /// Starts one of them with these checkers (`--auth`) and more options.
    ///
    /// # Errors
    /// When it does not start; with its log in the stage.
    pub fn start(stage: &Stage, name: &'static str, auth: &[&str], more: &[&str]) -> Outcome<Self> {
        let mut command = Command::new(Self::built(name)?);
        command.args(["--listen", "127.0.0.1:0"]);
        for string in auth {
            command.args(["--auth", string]);
        }
        let mut peer = Peer::start(stage, &format!("example-{name}"), command.args(more))?;
        let (log, begin) = (Self::log_of(stage, name), format!("{name} on "));
        let port = || {
            let text = std::fs::read_to_string(&log).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix(&begin))?.to_owned();
            line.rsplit(':').next()?.parse::<u16>().ok()
        };
        let port = peer.until(&format!("the port of examples/{name}"), LIMIT, port)?;
        Ok(Self { port, name, peer })
    }

    /// Where its log is, which stays there when it has ended.
    pub fn log_of(stage: &Stage, name: &str) -> PathBuf {
        stage.at(format!("example-{name}.log"))
    }

    /// What it says in its log.
    pub fn log(&self) -> String {
        self.peer.log()
    }

    /// Asks it to end.
    ///
    /// # Errors
    /// When it does not, or not well.
    pub fn end(self) -> Outcome {
        let status = self.peer.stop()?;
        ensure!(status.success(), "examples/{} ended with {status}", self.name);
        Ok(())
    }
}
