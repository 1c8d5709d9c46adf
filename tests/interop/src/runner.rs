//! Plays cases one after another and prints what libtest would print, so that people and
//! `cargo xtask test` read both in the same way.
//!
//! A case that cannot run here is printed as `ignored` with its reason: it is not passed.

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Outcome, Stage, Trouble, guard};

/// How long a case that overran its deadline gets to notice that its peers are dead.
const UNWIND: Duration = Duration::from_secs(30);

/// One thing to try.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// What must hold, in words joined by `_`, behind the peer's name.
    pub name: &'static str,
    /// When the case counts as failed, whatever it is doing.
    pub deadline: Duration,
    /// Does it, in a private folder.
    pub play: fn(&Stage) -> Outcome,
}

/// A case with the usual deadline of 60 seconds.
pub const fn case(name: &'static str, play: fn(&Stage) -> Outcome) -> Case {
    Case { name, deadline: Duration::from_secs(60), play }
}

/// Plays the cases that the command line selects: `[--list] [--exact] [NAME-PART]…`; what
/// else libtest understands is accepted and ignored.
pub fn main(cases: &[Case]) -> ExitCode {
    let wanted = Wanted::from(std::env::args().skip(1));
    let chosen: Vec<_> = cases.iter().filter(|case| wanted.takes(case.name)).collect();
    if wanted.list {
        for case in &chosen {
            println!("{}: test", case.name);
        }
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", chosen.len());
    let start = Instant::now();
    let (mut passed, mut failed, mut ignored) = (0, 0, 0);
    for case in &chosen {
        match play(case) {
            Ok(()) => {
                passed += 1;
                println!("test {} ... ok", case.name);
            }
            Err((Trouble::NotRun(why), _)) => {
                ignored += 1;
                println!("test {} ... ignored, {}", case.name, one_line(&why));
            }
            Err((Trouble::Failed(why), logs)) => {
                failed += 1;
                println!("test {} ... FAILED", case.name);
                println!("---- {} ----\n{why}\n{logs}", case.name);
            }
        }
    }
    println!(
        "\ntest result: {}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; \
         {} filtered out; finished in {:.2}s\n",
        if failed == 0 { "ok" } else { "FAILED" },
        cases.len() - chosen.len(),
        start.elapsed().as_secs_f64(),
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plays one case; a failure comes with the peers' logs.
fn play(case: &Case) -> Result<(), (Trouble, String)> {
    let stage = Arc::new(Stage::new().map_err(|trouble| (trouble, String::new()))?);
    let (say, hear) = mpsc::channel();
    let (on_stage, play) = (Arc::clone(&stage), case.play);
    let player = thread::spawn(move || {
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| play(&on_stage)));
        let outcome = outcome.unwrap_or_else(|panic| {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("without words");
            Err(Trouble::failed(format!("the case panicked: {text}")))
        });
        drop(on_stage);
        let _ = say.send(outcome);
    });
    let outcome = hear.recv_timeout(case.deadline).unwrap_or_else(|_| {
        guard::kill_all();
        // Everything a case waits for has died or has a deadline of its own, so it comes back.
        let _ = hear.recv_timeout(UNWIND);
        Err(Trouble::failed(format!("not done after {:?}", case.deadline)))
    });
    if player.is_finished() || outcome.is_ok() {
        let _ = player.join();
    }
    outcome.map_err(|trouble| {
        let logs = stage.logs();
        (trouble, logs)
    })
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[derive(Debug, Default)]
struct Wanted {
    list: bool,
    exact: bool,
    parts: Vec<String>,
}

impl Wanted {
    fn from(arguments: impl Iterator<Item = String>) -> Self {
        let mut wanted = Self::default();
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--list" => wanted.list = true,
                "--exact" => wanted.exact = true,
                // These take a value, which is not a name.
                "--test-threads" | "--color" | "--format" | "-Z" => drop(arguments.next()),
                option if option.starts_with('-') => {}
                part => wanted.parts.push(part.to_owned()),
            }
        }
        wanted
    }

    fn takes(&self, name: &str) -> bool {
        self.parts.is_empty()
            || self.parts.iter().any(|part| match self.exact {
                true => name == part,
                false => name.contains(part.as_str()),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_selected_as_libtest_does() {
        let words = |text: &str| Wanted::from(text.split_whitespace().map(str::to_owned));
        assert!(words("--nocapture").takes("anything"));
        assert!(words("--test-threads 1 post").takes("postfix_plain"));
        assert!(!words("--exact post").takes("postfix_plain"));
        assert!(words("--list --exact postfix_plain").takes("postfix_plain"));
    }

    #[test]
    fn a_panic_is_a_failure_and_a_missing_peer_is_not_a_pass() {
        let panicking = case("panicking", |_| panic!("boo"));
        assert!(matches!(play(&panicking), Err((Trouble::Failed(why), _)) if why.contains("boo")));
        let missing = case("missing", |_| Err(Trouble::not_run("no such peer")));
        assert!(matches!(play(&missing), Err((Trouble::NotRun(_), _))));
    }

    #[test]
    fn a_case_that_hangs_is_ended() {
        let hanging = Case {
            deadline: Duration::from_millis(100),
            ..case("hanging", |_| {
                crate::run(std::process::Command::new("sleep").arg("1000"), "", UNWIND).map(drop)
            })
        };
        let start = Instant::now();
        assert!(
            matches!(play(&hanging), Err((Trouble::Failed(why), _)) if why.contains("not done"))
        );
        assert!(start.elapsed() < UNWIND);
    }
}
