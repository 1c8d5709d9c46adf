//! Where lines of keys come from: files that nobody else can write, or a command.

use std::collections::HashSet;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use countersign::{Fault, FaultKind};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

/// No list of keys is longer, in bytes.
const LONGEST: u64 = 1024 * 1024;

/// A user as passwd(5) has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct User {
    uid: u32,
    home: PathBuf,
}

/// What `%` stands for.
pub(super) struct Words<'a> {
    pub(super) login: &'a str,
    /// `SHA256:…` of the key that was offered.
    pub(super) fingerprint: &'a str,
    /// Its type, and itself in base64.
    pub(super) kind: &'a str,
    pub(super) key: &'a str,
}

/// A pattern with `%u` for the user's name, `%h` for the home folder, `%%` for `%`; for a command also `%f`, `%t`,
/// `%k`.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn check_pattern(pattern: &str, letters: &str) -> Result<(), String> {
    let mut rest = pattern.chars();
    while let Some(letter) = rest.next() {
        if letter == '%' && !rest.next().is_some_and(|letter| letters.contains(letter)) {
            return Err(format!("`{pattern}`: after `%` stands one of {letters}"));
        }
    }
    Ok(())
}

/// Nothing where the user has no home.
fn expand(pattern: &str, words: &Words<'_>, home: Option<&Path>) -> Option<String> {
    let mut text = String::new();
    let mut rest = pattern.chars();
    while let Some(letter) = rest.next() {
        match if letter == '%' { rest.next() } else { None } {
            Some('u') => text += words.login,
            Some('h') => text += home?.to_str()?,
            Some('f') => text += words.fingerprint,
            Some('t') => text += words.kind,
            Some('k') => text += words.key,
            _ => text.push(letter),
        }
    }
    Some(text)
}

/// Whether a name is safe as a part of a path and of a command.
fn is_plain(login: &str) -> bool {
    !login.starts_with(['-', '.']) && !login.contains('/') && !login.chars().any(char::is_control)
}

/// Files of keys.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub(super) patterns: Vec<String>,
    pub(super) passwd: PathBuf,
    pub(super) strict: bool,
}

impl Files {
    /// The text of a user's files. Those that are not there are empty; one that others can write is left out, as
    /// if it were not there, and logged.
    pub(super) fn read(&self, words: &Words<'_>) -> Result<Vec<String>, Fault> {
        if !is_plain(words.login) {
            return Ok(Vec::new());
        }
        let user = self.user(words.login)?;
        let mut texts = Vec::new();
        for pattern in &self.patterns {
            let home = user.as_ref().map(|user| user.home.as_path());
            let Some(path) = expand(pattern, words, home) else { continue };
            // As sshd does: a relative path is below the home folder.
            let path = match (Path::new(&path).is_absolute(), home) {
                (true, _) => PathBuf::from(path),
                (false, Some(home)) => home.join(path),
                (false, None) => continue,
            };
            match self.open(&path, user.as_ref()) {
                Ok(Some(text)) => texts.push(text),
                Ok(None) => {}
                Err(why) => {
                    tracing::warn!(path = %path.display(), why, "a file of keys is left out");
                }
            }
        }
        Ok(texts)
    }

    fn user(&self, login: &str) -> Result<Option<User>, Fault> {
        let text = std::fs::read_to_string(&self.passwd).map_err(|error| {
            Fault::unavailable(format!("reading {}", self.passwd.display())).caused_by(error)
        })?;
        Ok(text.lines().find_map(|line| {
            let fields: Vec<_> = line.split(':').collect();
            let [name, _, uid, _, _, home, ..] = fields[..] else { return None };
            let user = || Some(User { uid: uid.parse().ok()?, home: home.into() });
            if name == login { user() } else { None }
        }))
    }

    fn open(&self, path: &Path, user: Option<&User>) -> Result<Option<String>, String> {
        let cannot = |error: std::io::Error| error.to_string();
        let path = match path.canonicalize() {
            Ok(path) => path,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(cannot(error)),
        };
        let file = File::open(&path).map_err(cannot)?;
        let metadata = file.metadata().map_err(cannot)?;
        if !metadata.is_file() {
            return Err("it is no file".into());
        }
        if self.strict {
            let home = user.and_then(|user| user.home.canonicalize().ok());
            let owners: HashSet<u32> = user.map(|user| user.uid).into_iter().collect();
            safe(&path, &metadata, &owners, home.as_deref())?;
        }
        let mut text = String::new();
        file.take(LONGEST + 1).read_to_string(&mut text).map_err(cannot)?;
        if text.len() as u64 > LONGEST {
            return Err(format!("it is longer than {LONGEST} bytes"));
        }
        Ok(Some(text))
    }
}

/// Whether nobody but root, this process's user and these can change a file, or put another in its place: sshd's
/// `StrictModes`. Folders above the home folder are not looked at.
fn safe(
    path: &Path,
    metadata: &Metadata,
    owners: &HashSet<u32>,
    home: Option<&Path>,
) -> Result<(), String> {
    let own = rustix::process::geteuid().as_raw();
    let check = |what: &Path, metadata: &Metadata| {
        let uid = metadata.uid();
        if uid != 0 && uid != own && !owners.contains(&uid) {
            return Err(format!("{} belongs to another user", what.display()));
        }
        if metadata.mode() & 0o022 != 0 {
            let what = what.display();
            return Err(format!("{what} can be written by others: run `chmod go-w` on it"));
        }
        Ok(())
    };
    check(path, metadata)?;
    for folder in path.ancestors().skip(1) {
        check(folder, &folder.metadata().map_err(|error| error.to_string())?)?;
        if home == Some(folder) {
            break;
        }
    }
    Ok(())
}

/// A command that prints lines of keys, with its arguments. No shell sees it.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) argv: Vec<String>,
    pub(super) timeout: Duration,
}

impl Asked {
    /// Whether it can be: an absolute path without `..`, of a file that others cannot write.
    pub(super) fn check(&self) -> Result<(), String> {
        let program = self.argv.first().ok_or("names no program")?;
        let path = Path::new(program);
        let plain =
            path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        if !path.is_absolute() || !plain {
            return Err(format!("`{program}` is no absolute path"));
        }
        for argument in &self.argv[1..] {
            check_pattern(argument, "uhftk%")?;
        }
        let path = path.canonicalize().map_err(|error| format!("{program}: {error}"))?;
        let metadata = path.metadata().map_err(|error| format!("{program}: {error}"))?;
        safe(&path, &metadata, &HashSet::new(), None)
    }

    /// What it prints for a user.
    pub(super) async fn read(
        &self,
        words: &Words<'_>,
        passwd: &Files,
    ) -> Result<Vec<String>, Fault> {
        if !is_plain(words.login) {
            return Ok(Vec::new());
        }
        let home = passwd.user(words.login)?.map(|user| user.home);
        let arguments = self.argv[1..].iter().map(|arg| expand(arg, words, home.as_deref()));
        let Some(arguments) = arguments.collect::<Option<Vec<_>>>() else { return Ok(Vec::new()) };
        // Checked each time: what was safe at the start may not be any more.
        self.check().map_err(|why| Fault::unavailable(format!("the command of keys: {why}")))?;
        let failed =
            |error| Fault::unavailable(format!("running {}", self.argv[0])).caused_by(error);
        let child = Command::new(&self.argv[0])
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        // Whatever happens from here on, also when the login is given up, nothing of it goes on.
        let mut group = Group(child);
        let all = async {
            let mut text = Vec::new();
            if let Some(out) = group.0.stdout.take() {
                out.take(LONGEST + 1).read_to_end(&mut text).await?;
            }
            if text.len() as u64 > LONGEST {
                return Ok((None, text));
            }
            Ok((Some(group.0.wait().await?), text))
        };
        let (status, text) = match tokio::time::timeout(self.timeout, all).await {
            Ok(all) => all.map_err(failed)?,
            Err(_) => {
                let what = format!("{} took longer than {:?}", self.argv[0], self.timeout);
                return Err(Fault::new(FaultKind::Timeout, what));
            }
        };
        match status {
            Some(status) if status.success() => {
                let text = String::from_utf8(text);
                let bad = |_| Fault::unavailable(format!("{} printed no UTF-8", self.argv[0]));
                Ok(vec![text.map_err(bad)?])
            }
            Some(status) => Err(Fault::unavailable(format!("{}: {status}", self.argv[0]))),
            None => Err(Fault::unavailable(format!(
                "{} printed more than {LONGEST} bytes",
                self.argv[0]
            ))),
        }
    }
}

/// A process and all that it started: they end together.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // Without an id it has been waited for, and the number may be another's by now.
        let id = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = id.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}
