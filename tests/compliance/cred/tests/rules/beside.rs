//! Twisted's side of a rule: played once, all scenarios in one process, and looked up by name.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use countersign_interop::{Context, Outcome, Trouble, Twisted, ensure, run};
use serde_json::Value;

use crate::differences::{DIFFERENCES, Difference};

const LIMIT: Duration = Duration::from_secs(120);

/// What Twisted said.
struct Theirs {
    versions: String,
    outcomes: BTreeMap<String, Result<Value, String>>,
}

static THEIRS: LazyLock<Outcome<Theirs>> = LazyLock::new(play);

/// Which Twisted this is beside, or why there is none.
pub(crate) fn versions() -> String {
    match &*THEIRS {
        Ok(theirs) => format!("beside {}", theirs.versions),
        Err(trouble) => format!("alone: {trouble}"),
    }
}

/// Both come to the same.
pub(crate) fn same(scenario: &str, ours: &Value) -> Outcome {
    ensure!(
        difference(scenario).is_none(),
        "`{scenario}` is listed as a difference, and is tested as none"
    );
    let theirs = outcome(scenario)?;
    if theirs != *ours {
        return Err(unlike(format!("{}: Twisted: {theirs}, here: {ours}", versions())));
    }
    Ok(())
}

/// The versions before the one that was written down did some things in other ways: that tells nothing of
/// ours, and is no pass either.
fn unlike(what: String) -> Trouble {
    match versions().contains(Twisted::VERSION) {
        true => Trouble::failed(what),
        false => Trouble::not_run(format!("not the Twisted that was written down: {what}")),
    }
}

/// Twisted comes to this, and we to that, as the table of differences says in words.
pub(crate) fn differs(scenario: &str, theirs: &Value, here: &Value, ours: &Value) -> Outcome {
    ensure!(difference(scenario).is_some(), "`{scenario}` is not in the table of differences");
    ensure!(theirs != here, "`{scenario}` is no difference");
    ensure!(ours == here, "{ours} and not {here}");
    let found = outcome(scenario)?;
    if found != *theirs {
        let was = format!("which was {theirs} when it was written down");
        return Err(unlike(format!("{}: {found}, {was}", versions())));
    }
    Ok(())
}

/// A list of names that Twisted gives, to be compared with something else.
pub(crate) fn names(scenario: &str) -> Outcome<Vec<String>> {
    serde_json::from_value(outcome(scenario)?).during(scenario)
}

fn difference(scenario: &str) -> Option<&'static Difference> {
    DIFFERENCES.iter().find(|difference| difference.scenarios.contains(&scenario))
}

fn outcome(scenario: &str) -> Outcome<Value> {
    let theirs = THEIRS.as_ref().map_err(Clone::clone)?;
    match theirs.outcomes.get(scenario) {
        Some(Ok(outcome)) => Ok(outcome.clone()),
        Some(Err(why)) => Err(Trouble::failed(format!("`{scenario}` broke in Twisted: {why}"))),
        None => Err(Trouble::failed(format!("there is no scenario `{scenario}` for Twisted"))),
    }
}

fn play() -> Outcome<Theirs> {
    let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("twisted/main.py");
    let done = run(&mut Twisted::find()?.command(&driver), "", LIMIT)?;
    ensure!(done.code == Some(0), "the driver ended with {:?}: {}", done.code, done.err);
    let mut lines = done.out.lines().map(serde_json::from_str::<Value>);
    let first = lines.next().during("Twisted's version")?.during("Twisted's version")?;
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let versions =
        format!("Twisted {} on Python {}", text(&first, "twisted"), text(&first, "python"));
    let mut outcomes = BTreeMap::new();
    for line in lines {
        let mut line = line.during("a line of the driver")?;
        let outcome = match line["broke"].as_str() {
            Some(why) => Err(why.to_owned()),
            None => Ok(line["outcome"].take()),
        };
        outcomes.insert(text(&line, "scenario"), outcome);
    }
    Ok(Theirs { versions, outcomes })
}
