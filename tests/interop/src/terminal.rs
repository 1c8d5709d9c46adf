//! A person at a terminal: tmux, its keys and its screen.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Pid;

use crate::{Context, Outcome, Stage, Trouble, ensure, guard, need, run, wait_for};

const LIMIT: Duration = Duration::from_secs(10);
const PACKAGE: &str = "tmux";

/// A terminal of 100 columns and 30 lines in which one program runs.
#[derive(Debug)]
pub struct Terminal {
    tmux: PathBuf,
    socket: PathBuf,
    server: Pid,
}

impl Terminal {
    /// Runs `program` with `arguments` in a new terminal. When it has ended, the last line
    /// on the screen is `ended: STATUS`.
    ///
    /// # Errors
    /// [`NotRun`](Trouble::NotRun) without tmux.
    pub fn open(stage: &Stage, program: &Path, arguments: &[&str]) -> Outcome<Self> {
        let tmux = need("tmux", PACKAGE)?;
        let socket = stage.at("tmux");
        let started = run(
            Command::new(&tmux)
                .arg("-S")
                .arg(&socket)
                .args(["-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "30"])
                .args(["sh", "-c", "\"$@\"; echo \"ended: $?\"; exec sleep 600", "sh"])
                .arg(program)
                .args(arguments)
                .env("LC_ALL", "C.UTF-8")
                // The terminal that we may be running in is not ours.
                .env_remove("TMUX"),
            "",
            LIMIT,
        )?;
        ensure!(started.code == Some(0), "tmux: {}{}", started.out, started.err);
        let asked = run(
            Command::new(&tmux).arg("-S").arg(&socket).args(["display-message", "-p", "#{pid}"]),
            "",
            LIMIT,
        )?;
        let server = asked.out.trim().parse().ok().and_then(Pid::from_raw);
        let server = server.during("the process id of tmux")?;
        // tmux leads a session, and so a process group, of its own.
        guard::add(server);
        Ok(Self { tmux, socket, server })
    }

    /// What is on the screen.
    pub fn screen(&self) -> Outcome<String> {
        Ok(self.tmux(&["capture-pane", "-p"])?.trim_end().to_owned())
    }

    /// Waits until the screen shows `text`, and gives all of it.
    ///
    /// # Errors
    /// After ten seconds, with what the screen shows instead.
    pub fn shows(&self, text: &str) -> Outcome<String> {
        let mut last = String::new();
        wait_for(&format!("`{text}` on the screen"), LIMIT, || {
            last = self.screen().ok()?;
            last.contains(text).then(|| last.clone())
        })
        .map_err(|trouble| {
            let last = self.screen().unwrap_or_default();
            Trouble::failed(format!("{trouble}; it shows:\n{last}"))
        })
    }

    /// Types `text` and presses Enter.
    pub fn enter(&self, text: &str) -> Outcome {
        // -l: the words are letters, not names of keys.
        self.tmux(&["send-keys", "-l", text])?;
        self.press("Enter")
    }

    /// Presses one key by tmux's name for it, such as `C-c` or `Down`.
    pub fn press(&self, key: &str) -> Outcome {
        self.tmux(&["send-keys", key]).map(drop)
    }

    fn tmux(&self, words: &[&str]) -> Outcome<String> {
        let mut command = Command::new(&self.tmux);
        let done = run(command.arg("-S").arg(&self.socket).args(words), "", LIMIT)?;
        ensure!(done.code == Some(0), "tmux {}: {}{}", words[0], done.out, done.err);
        Ok(done.out)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]);
        guard::remove(self.server);
    }
}
