//! Logins beside Twisted Cred's: at a portal in one process, and over POP3; and SCRAM beside Dovecot's. Each side
//! has one core to itself, the same one.

pub(crate) mod bare;
pub(super) mod pop3;
pub(super) mod portal;
pub(super) mod scram;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use countersign_interop::{Outcome, Trouble, Twisted};

use crate::figures::{Figure, Promise};
use crate::steps::{LONG, cargo, must, root, target};

/// The driver of Twisted that the compliance tests have.
fn driver(twisted: &Twisted, words: &[&str]) -> Command {
    let mut command = twisted.command(&root().join("tests/compliance/cred/twisted/main.py"));
    command.arg("--bench").args(words);
    command
}

/// A program of this workspace, optimised.
fn built(words: &[&str], program: &str) -> Outcome<PathBuf> {
    let words = [&["build", "--quiet", "--release"], words].concat();
    must(&mut cargo(&words), LONG).map_err(Trouble::failed)?;
    Ok(target().join("release").join(program))
}

/// The core that both sides are measured on: the last one. Whoever drives them has the others.
fn core() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from) - 1
}

/// The same command, on that core alone.
fn pinned(command: &Command) -> Command {
    let core = core().to_string();
    let head: [&OsStr; 2] = ["--cpu-list".as_ref(), core.as_ref()];
    let mut pinned = Command::new("taskset");
    pinned.args(head).arg(command.get_program()).args(command.get_args());
    pinned
}

/// How busy the machine was with other things, for the reader of figures.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("?").to_owned()
}

/// `"key": NUMBER` in a line of JSON as the two programs print it.
fn number(text: &str, key: &str) -> Option<f64> {
    let (_, rest) = text.split_once(&format!("\"{key}\": "))?;
    rest.split([',', '}']).next()?.trim().parse().ok()
}

fn figure(
    name: String,
    peer: Option<f64>,
    ours: Option<f64>,
    unit: &'static str,
    promise: Option<Promise>,
) -> Figure {
    Figure { name, peer, ours, unit, promise }
}

/// A path as an argument.
fn word(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_both_programs_are_read() {
        assert_eq!(number("{\"rate\": 12.5, \"cpu\": 3}", "rate"), Some(12.5));
        assert_eq!(number("{\"rate\": 12.5, \"cpu\": 3}", "cpu"), Some(3.0));
        assert_eq!(number("{}", "cpu"), None);
    }

    #[test]
    fn a_command_keeps_its_words_behind_the_core() {
        let mut command = Command::new("python");
        command.args(["-B", "main.py"]);
        let pinned = pinned(&command);
        let words: Vec<_> = pinned.get_args().map(|word| word.to_string_lossy()).collect();
        assert_eq!(words[2..], ["python", "-B", "main.py"]);
    }
}
