//! Logins at a portal, in a loop.

use std::fmt::Write;
use std::process::Command;

use countersign_interop::{Context, Outcome, Stage, Twisted, ensure, run};

use super::{built, driver, figure, load, number, pinned, word};
use crate::bench::{Effort, median};
use crate::figures::{Figures, Promise};
use crate::steps::SHORT;

/// Lines of the password file.
const LINES: usize = 100_000;

pub(crate) fn measure(effort: &Effort) -> Outcome<Vec<Figures>> {
    let twisted = Twisted::provide()?;
    let stage = Stage::new()?;
    let (mut plain, mut tagged) = (String::new(), String::new());
    for user in 1..=LINES {
        let _ = writeln!(plain, "u{user}:secret{user}");
        let _ = writeln!(tagged, "u{user}:{{PLAIN}}secret{user}");
    }
    let plain = word(&stage.file("plain", &plain)?);
    let tagged = word(&stage.file("tagged", &tagged)?);
    let package = ["--package", "countersign-compliance-cred", "--example", "logins"];
    let logins = if effort.ours { Some(built(&package, "examples/logins")?) } else { None };

    let mut lines = Vec::new();
    for (title, case, theirs, mine, least) in [
        ("users in memory", "memory", None, None, 20.0),
        ("a file of 100,000 lines, uncached", "file", Some(&plain), Some(&tagged), 15.0),
        ("a file of 100,000 lines, cached", "file-cached", Some(&plain), Some(&tagged), 15.0),
    ] {
        let seconds = effort.time.as_secs_f64().to_string();
        let mut samples = [Vec::new(), Vec::new()];
        for _ in 0..effort.rounds {
            let words = ["portal", case, &seconds];
            let words: Vec<_> = words.into_iter().chain(theirs.map(String::as_str)).collect();
            samples[0].push(sample(&driver(&twisted, &words))?);
            if let Some(logins) = &logins {
                let mut command = Command::new(logins);
                command.args([case, &seconds]).args(mine);
                samples[1].push(sample(&command)?);
            }
        }
        let middle = |side: usize, of: fn(&(f64, f64)) -> f64| {
            let samples: &Vec<_> = &samples[side];
            (!samples.is_empty()).then(|| median(samples.iter().map(of).collect()))
        };
        let promise = Some(Promise::AtLeast(least));
        let (rate, cpu) = (|s: &(f64, f64)| s.0, |s: &(f64, f64)| s.1);
        let name = format!("{title}: logins");
        lines.push(figure(name, middle(0, rate), middle(1, rate), "1/s", promise));
        let name = format!("{title}: CPU for each");
        lines.push(figure(name, middle(0, cpu), middle(1, cpu), "µs", None));
    }
    Ok(vec![Figures {
        title: "Portal logins, beside Twisted Cred".into(),
        peer: "Twisted Cred",
        lines,
        notes: vec![format!(
            "One process on one core, one login after the other with a trivial realm, all users in turn: 1000 in \
             memory; medians of {} alternating measurements of {:?}, at a load of {}. Uncached: the file's \
             content counts at every login; ours looks whether it has changed, Twisted reads it.",
            effort.rounds,
            effort.time,
            load(),
        )],
    }])
}

/// One measurement: logins in a second, and microseconds of CPU for each.
fn sample(command: &Command) -> Outcome<(f64, f64)> {
    let done = run(&mut pinned(command), "", SHORT)?;
    ensure!(done.code == Some(0), "{}{}", done.out, done.err);
    let read = |key| number(&done.out, key).during(format!("`{key}` in {}", done.out));
    Ok((read("rate")?, read("cpu")?))
}
