//! `examples/ssh-shell`, and OpenSSH's own client in front of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{Context, Finished, Outcome, Peer, Stage, ensure, example, need, run};

const LIMIT: Duration = Duration::from_secs(20);
const PACKAGE: &str = "openssh-client";

/// `examples/ssh-shell`, with a host key that the client knows.
#[derive(Debug)]
pub struct ExampleSsh {
    /// Its port on 127.0.0.1.
    pub port: u16,
    peer: Peer,
}

/// What OpenSSH's `ssh` is to do, in a home of its own: none of the person's keys, agents and settings.
#[derive(Debug)]
pub struct Ssh {
    program: PathBuf,
    options: Vec<String>,
    environment: Vec<(String, String)>,
}

impl ExampleSsh {
    /// Its package.
    pub const PACKAGE: &str = "countersign-example-ssh-shell";

    /// Starts it with these checkers (`--auth`) and more options.
    ///
    /// # Errors
    /// When it does not start; with its log in the stage.
    pub fn start(stage: &Stage, auth: &[&str], more: &[&str]) -> Outcome<Self> {
        let host_key = stage.at("private/host-key");
        let mut command = Command::new(example(Self::PACKAGE)?);
        command.args(["--listen", "127.0.0.1:0", "--host-key"]).arg(&host_key);
        for string in auth {
            command.args(["--auth", string]);
        }
        let log = stage.at("example-ssh.log");
        // One before it may have said something there.
        let before = fs::read_to_string(&log).map_or(0, |text| text.len());
        let mut peer = Peer::start(stage, "example-ssh", command.args(more))?;
        let port = peer.until("the port of the SSH example", LIMIT, || {
            let text = fs::read_to_string(&log).ok()?.split_off(before);
            let line = text.lines().find_map(|line| line.strip_prefix("ssh on "))?.to_owned();
            line.rsplit(':').next()?.parse::<u16>().ok()
        })?;
        // The client is to know the server by its key and by nothing else.
        let public = keygen(stage, &["-y", "-f", &host_key.display().to_string()])?;
        let known = format!("[127.0.0.1]:{port} {}", public.out);
        stage.file("known_hosts", &known)?;
        Ok(Self { port, peer })
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
        ensure!(status.success(), "the SSH example ended with {status}");
        Ok(())
    }
}

/// Runs `ssh-keygen WORDS…` in the stage.
///
/// # Errors
/// When it does not end with status 0.
pub fn keygen(stage: &Stage, words: &[&str]) -> Outcome<Finished> {
    let mut command = Command::new(need("ssh-keygen", PACKAGE)?);
    let done = run(command.current_dir(stage.path()).args(words), "", LIMIT)?;
    ensure!(done.code == Some(0), "ssh-keygen {}: {done:?}", words.join(" "));
    Ok(done)
}

impl Ssh {
    /// A client of a server, which asks nobody, has no agent, and takes only the keys that it is given.
    ///
    /// # Errors
    /// [`NotRun`](crate::Trouble::NotRun) without OpenSSH's client.
    pub fn to(stage: &Stage, server: &ExampleSsh) -> Outcome<Self> {
        let home = stage.folder("home")?;
        let known = stage.at("known_hosts");
        let options = ["-F", "/dev/null", "-p", &server.port.to_string()].map(str::to_owned);
        let ssh = Self {
            program: need("ssh", PACKAGE)?,
            options: options.into(),
            environment: Vec::new(),
        };
        Ok(ssh
            .option("UserKnownHostsFile", &known.display().to_string())
            .option("GlobalKnownHostsFile", "/dev/null")
            .option("StrictHostKeyChecking", "yes")
            .option("IdentitiesOnly", "yes")
            .option("IdentityAgent", "none")
            .option("ConnectTimeout", "15")
            .option("LogLevel", "VERBOSE")
            .with("HOME", &home.display().to_string()))
    }

    /// The client, with an option (`-o`). OpenSSH takes the first of a name, and this is the first.
    #[must_use]
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.options.splice(0..0, ["-o".to_owned(), format!("{name}={value}")]);
        self
    }

    /// The client, by these methods only.
    #[must_use]
    pub fn by(self, methods: &str) -> Self {
        self.option("PreferredAuthentications", methods)
    }

    /// The client, with a private key.
    #[must_use]
    pub fn key(self, path: &Path) -> Self {
        self.option("IdentityFile", &path.display().to_string())
    }

    /// The client, with a variable in its environment.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The client, whose prompts a script answers: `SSH_ASKPASS`. The prompt is `$1`.
    ///
    /// # Errors
    /// Of the file system.
    pub fn answered_by(self, stage: &Stage, script: &str) -> Outcome<Self> {
        let path = stage.file("askpass", &format!("#!/bin/sh\n{script}\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).during(path.display())?;
        Ok(self
            .with("SSH_ASKPASS", &path.display().to_string())
            .with("SSH_ASKPASS_REQUIRE", "force"))
    }

    /// Its program and arguments, to be run in a terminal.
    pub fn words(&self, user: &str) -> (PathBuf, Vec<String>) {
        let mut words = self.options.clone();
        words.push(format!("{user}@127.0.0.1"));
        (self.program.clone(), words)
    }

    /// Runs a command as a user. 255: nobody got in.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn run(&self, user: &str, command: &str) -> Outcome<Finished> {
        self.run_with(user, &[command], "")
    }

    /// The same with more words, and with input.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn run_with(&self, user: &str, words: &[&str], input: &str) -> Outcome<Finished> {
        let mut command = Command::new(&self.program);
        command.env_clear().env("PATH", "/usr/bin:/bin");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(&self.options).arg(format!("{user}@127.0.0.1")).args(words);
        run(&mut command, input, LIMIT)
    }
}
