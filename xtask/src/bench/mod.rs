//! `cargo xtask bench`: ours beside the services it takes the place of, on this machine, in
//! one alternating run. Ratios are what counts: the absolute figures belong to the machine.

mod core;
mod cpu;
pub(crate) mod cred;
mod dovecot;
mod forward_auth;
mod hash;
mod http;
mod idle;
mod latency;
mod pending;
mod saslauthd;
mod users;

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use countersign_interop::{Config, Countersign, Outcome, Profile, Stage, Trouble};

use crate::figures::{Figures, Verdict};
use crate::steps::{LONG, cargo, heading, must, target};

/// How long and how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// One measurement.
    pub(crate) time: Duration,
    /// Alternating measurements of each side; the middle one counts.
    pub(crate) rounds: usize,
    /// Whether ours is measured too.
    pub(crate) ours: bool,
}

/// Users of both sides.
pub(crate) const USERS: usize = 1000;

type Part = fn(&Effort) -> Outcome<Vec<Figures>>;
const PARTS: [(&str, Part); 11] = [
    ("dovecot", dovecot::measure),
    ("saslauthd", saslauthd::measure),
    ("hash", hash::measure),
    ("idle", idle::measure),
    ("core", core::measure),
    ("cred-portal", cred::portal::measure),
    ("cred-pop3", cred::pop3::measure),
    ("cred-scram", cred::scram::measure),
    ("forward-auth", forward_auth::measure),
    ("pending", pending::measure),
    ("users", users::measure),
];

pub(crate) fn main(words: &[&str]) -> Result<bool, String> {
    if cfg!(debug_assertions) {
        return optimised(words);
    }
    let mut effort = Effort { time: Duration::from_secs(2), rounds: 5, ours: true };
    let mut chosen = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut number = || -> Result<u64, String> {
            let text = words.next().ok_or(format!("`{word}` needs a number"))?;
            text.parse().ok().filter(|n| (1..=3600).contains(n)).ok_or(format!("`{text}`?"))
        };
        match *word {
            "--seconds" => effort.time = Duration::from_secs(number()?),
            "--rounds" => effort.rounds = number()? as usize,
            "--peer-only" => effort.ours = false,
            name => {
                let before = chosen.len();
                chosen.extend(PARTS.iter().filter(|(part, _)| is_of(part, name)));
                if chosen.len() == before {
                    return Err(format!("`bench` has no part `{name}`"));
                }
            }
        }
    }
    if chosen.is_empty() {
        chosen.extend(PARTS);
    }
    let mut holds = true;
    for (name, measure) in chosen {
        heading(name);
        match measure(&effort) {
            Ok(all) => {
                for figures in &all {
                    print!("{figures}");
                    holds &= figures.verdict() != Verdict::Missed;
                }
                if effort.ours {
                    crate::figures::write(name, &all)?;
                }
            }
            Err(Trouble::NotRun(why)) => println!("{name}: not run: {why}"),
            Err(Trouble::Failed(why)) => {
                println!("{name}: failed: {why}");
                holds = false;
            }
        }
    }
    Ok(holds)
}

/// Whether a part is the one of that name, or one of several: `cred` means `cred-portal` and its like.
fn is_of(part: &str, name: &str) -> bool {
    part.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// Hands over to an optimised build of this program: the load generator shares the cores with
/// what it measures.
fn optimised(words: &[&str]) -> Result<bool, String> {
    must(&mut cargo(&["build", "--quiet", "--release", "--package", "xtask"]), LONG)?;
    let mut command = Command::new(target().join("release/xtask"));
    Err(format!("the optimised build: {}", command.arg("bench").args(words).exec()))
}

/// Our server over a passwd-file, optimised.
fn ours(stage: &Stage, config: &Config) -> Outcome<Countersign> {
    Countersign::start(stage, Profile::Release, Some(config))
}

/// The middle of several measurements.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::{is_of, median};

    #[test]
    fn a_name_means_a_part_or_several() {
        assert!(is_of("cred-pop3", "cred-pop3") && is_of("cred-pop3", "cred"));
        assert!(!is_of("cred-pop3", "cre") && !is_of("core", "cred"));
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), 3.0);
        assert!(median(Vec::new()).is_nan());
    }
}
