//! The operator's program in the place of our commands.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncWriteExt, copy};
use tokio::process::{Child, Command};

use crate::realm::User;
use crate::shell::Streams;

/// A program that everybody runs: without arguments for a shell, with `-c COMMAND` for a command, as sshd runs a
/// login shell. It runs as the server's own user.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
}

/// When a program cannot be started, as shells have it.
const CANNOT: u32 = 126;
/// When a signal ended it, as shells have it: and the signal's number more.
const SIGNALLED: u32 = 128;

impl Program {
    /// The program at an absolute path.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn new(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let is_file = path.metadata().map_err(|error| format!("{shown}: {error}"))?.is_file();
        match path.is_absolute() && is_file {
            true => Ok(Self { path: path.to_owned() }),
            false => Err(format!("{shown} is no absolute path of a program")),
        }
    }

    /// Runs it to its end: its status. Dropped before, it is killed with all that it started.
    ///
    /// `original` is what the client has asked for, where another command was forced.
    pub async fn run(
        self: Arc<Self>,
        user: &User,
        command: Option<String>,
        original: Option<String>,
        streams: Streams,
    ) -> u32 {
        let mut program = Command::new(&self.path);
        // Nothing of the server's environment, and nothing of the client's.
        program
            .env_clear()
            .envs(user.permitted.environment.iter().map(|(name, value)| (name, value)));
        let name = user.who.subject.to_string();
        program.env("PATH", "/usr/bin:/bin").env("USER", &name).env("LOGNAME", &name);
        program.envs(original.map(|original| ("SSH_ORIGINAL_COMMAND", original)));
        program.args(command.into_iter().flat_map(|command| ["-c".to_owned(), command]));
        program.current_dir("/").process_group(0);
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let Streams { mut input, mut output, mut errors } = streams;
        let child = match program.spawn() {
            Ok(child) => child,
            Err(error) => {
                tracing::error!("{}: {error}", self.path.display());
                let _ = errors.write_all(b"the program cannot be started\n").await;
                return CANNOT;
            }
        };
        let mut group = Group(child);
        let (stdin, stdout, stderr) =
            (group.0.stdin.take(), group.0.stdout.take(), group.0.stderr.take());
        let send = async move {
            if let Some(mut stdin) = stdin {
                let _ = copy(&mut input, &mut stdin).await;
            }
            // Its input ends here; that is not its end.
            std::future::pending::<()>().await;
        };
        let out = async {
            if let Some(mut stdout) = stdout {
                let _ = copy(&mut stdout, &mut output).await;
            }
        };
        let err = async {
            if let Some(mut stderr) = stderr {
                let _ = copy(&mut stderr, &mut errors).await;
            }
        };
        tokio::select! {
            () = send => {}
            _ = async { tokio::join!(out, err) } => {}
        }
        match group.0.wait().await {
            Ok(status) => status_of(status),
            Err(error) => {
                tracing::error!("{}: {error}", self.path.display());
                CANNOT
            }
        }
    }
}

fn status_of(status: std::process::ExitStatus) -> u32 {
    use std::os::unix::process::ExitStatusExt;
    let number = |number: i32| u32::try_from(number).unwrap_or_default();
    match (status.code(), status.signal()) {
        (Some(code), _) => number(code),
        (None, signal) => SIGNALLED + number(signal.unwrap_or_default()),
    }
}

/// A process and all that it started: they end together.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // Without an id it has been waited for, and the number may be another's by now.
        let id = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = id.and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
