//! What oned does with its driver manager, by a script.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use countersign_interop::{
    Context as _, Outcome, Profile, Stage, Trouble, binary, guard, wait_for,
};
use rustix::process::{Pid, Signal, kill_process_group};

/// How long anything may take that is not about time, on a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// OpenNebula's folders, as `ONE_LOCATION` names them, in a private place.
pub(crate) struct Site {
    one: PathBuf,
}

/// oned's side of a manager that runs.
pub(crate) struct Oned {
    child: Child,
    group: Pid,
    to: Option<ChildStdin>,
    lines: Receiver<String>,
    /// How long the manager took for its first line.
    pub(crate) greeting: Duration,
}

impl Site {
    pub(crate) fn new(stage: &Stage) -> Outcome<Self> {
        let one = stage.folder("one")?;
        for folder in ["etc/auth", "lib/mads", "var/remotes/auth"] {
            fs::create_dir_all(one.join(folder)).during(folder)?;
        }
        let link = one.join("lib/mads/one_auth_mad");
        symlink(binary(Profile::Debug)?, &link).during(link.display())?;
        Ok(Self { one })
    }

    /// An executable driver (or, as `authorize`, an authorizer).
    pub(crate) fn program(&self, name: &str, file: &str, text: &str) -> Outcome<PathBuf> {
        let folder = self.one.join("var/remotes/auth").join(name);
        fs::create_dir_all(&folder).during(folder.display())?;
        let path = folder.join(file);
        fs::write(&path, text).during(path.display())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).during(path.display())?;
        Ok(path)
    }

    pub(crate) fn driver(&self, name: &str, text: &str) -> Outcome<PathBuf> {
        self.program(name, "authenticate", text)
    }

    pub(crate) fn settings(&self, text: &str) -> Outcome {
        let path = self.one.join("etc/auth/one_auth_mad.toml");
        fs::write(&path, text).during(path.display())
    }

    /// A file in the folder that drivers start in.
    pub(crate) fn var(&self, name: &str) -> PathBuf {
        self.one.join("var").join(name)
    }

    /// Starts the manager as oned does: one argument for all, no standard error, `INIT` first.
    pub(crate) fn oned(&self, argument: &str) -> Outcome<Oned> {
        let manager = self.one.join("lib/mads/one_auth_mad");
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "exec \"$0\" \"$1\" 2>&-"])
            .arg(&manager)
            .arg(argument)
            .env_clear()
            .env("ONE_LOCATION", &self.one)
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("ONEDS_OWN_SECRET", "not for drivers")
            .current_dir(self.one.join("var"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().during("starting the manager")?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        guard::add(group);
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        let (say, lines) = channel();
        std::thread::spawn(move || {
            out.split(b'\n')
                .map_while(Result::ok)
                .try_for_each(|line| say.send(String::from_utf8_lossy(&line).into_owned()))
        });
        let to = child.stdin.take();
        let mut oned = Oned { child, group, to, lines, greeting: Duration::ZERO };
        let begun = Instant::now();
        oned.send("INIT\n")?;
        oned.expect(&["INIT SUCCESS - -"])?;
        oned.greeting = begun.elapsed();
        Ok(oned)
    }
}

impl Oned {
    pub(crate) fn send(&mut self, bytes: &str) -> Outcome {
        let to = self.to.as_mut().ok_or_else(|| Trouble::failed("the pipe is closed"))?;
        to.write_all(bytes.as_bytes()).and_then(|()| to.flush()).during("writing to the manager")
    }

    /// The next line.
    pub(crate) fn line(&self) -> Outcome<String> {
        self.lines.recv_timeout(PATIENCE).map_err(|error| {
            Trouble::failed(match error {
                RecvTimeoutError::Timeout => "the manager says nothing",
                RecvTimeoutError::Disconnected => "the manager has closed its output",
            })
        })
    }

    /// The next lines, exactly these.
    pub(crate) fn expect(&self, wanted: &[&str]) -> Outcome {
        for wanted in wanted {
            let line = self.line()?;
            if line != *wanted {
                return Err(Trouble::failed(format!("{line:?} in the place of {wanted:?}")));
            }
        }
        Ok(())
    }

    /// The answer to a request, whatever the manager logs before it, and however the requests of others go.
    pub(crate) fn answer(&self, verb: &str, id: u64) -> Outcome<String> {
        let (yes, no) = (format!("{verb} SUCCESS {id} "), format!("{verb} FAILURE {id} "));
        loop {
            let line = self.line()?;
            if line.starts_with(&yes) || line.starts_with(&no) {
                return Ok(line);
            }
        }
    }

    /// Closes oned's end of the manager's input.
    pub(crate) fn leave(&mut self) {
        self.to = None;
    }

    /// Kills the manager alone, as a crash would.
    pub(crate) fn crash(&mut self) -> Outcome {
        self.child.kill().during("killing the manager")
    }

    /// How the manager ended by itself.
    pub(crate) fn ended(&mut self) -> Outcome<Option<i32>> {
        let child = &mut self.child;
        let status = wait_for("the manager's end", PATIENCE, || child.try_wait().ok().flatten())?;
        Ok(status.code())
    }
}

impl Drop for Oned {
    fn drop(&mut self) {
        let _ = kill_process_group(self.group, Signal::KILL);
        let _ = self.child.wait();
        guard::remove(self.group);
    }
}
