//! `cargo xtask test`: everything that must hold.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use countersign_interop::{Environment, Postgres, Trouble, Twisted};

use crate::packages;
use crate::report::{Report, Row};
use crate::steps::{LONG, SHORT, ask, cargo, heading, must, root, target, there, watch};

/// The package of the cases with real peers; run last, with the binary that is built before.
const INTEROP: &str = "countersign-interop";

/// A file that tests write a line `name<TAB>reason` into when they find at run time that
/// this machine cannot run them. It makes them "not run" in the report.
const NOT_RUN: &str = "COUNTERSIGN_NOT_RUN";

/// The URL of a database that tests on PostgreSQL may use; without it they are not run.
const POSTGRES: &str = "COUNTERSIGN_TEST_POSTGRES";

pub(crate) fn main(words: &[&str]) -> Result<bool, String> {
    let mut install = true;
    for word in words {
        match *word {
            "--no-install" => install = false,
            other => return Err(format!("`test` knows no `{other}`")),
        }
    }
    let mut report = Report::default();
    report.add(match install.then(packages::provide) {
        Some(Ok(())) => Row::single("packages", Ok(())),
        Some(Err(why)) => Row::missing("packages", why),
        None => Row::missing("packages", "left alone, as asked"),
    });
    // Beside which the compliance tests run; they say so themselves when it is not there.
    if install && let Err(trouble) = Twisted::provide() {
        report.add(Row::missing("Twisted", trouble.to_string()));
    }
    // By which clients of examples/objects speak.
    if install && let Err(trouble) = Environment::provide_pycapnp() {
        report.add(Row::missing("pycapnp", trouble.to_string()));
    }
    let packages = members()?;

    heading("format");
    report.add(Row::single("format", must(&mut cargo(&["fmt", "--all", "--check"]), SHORT)));

    heading("lints");
    // With every feature and with none.
    for (name, features) in
        [("lints: workspace", None), ("lints: features", Some("--all-features"))]
    {
        let words = ["clippy", "--workspace", "--all-targets"];
        let words: Vec<_> =
            words.into_iter().chain(features).chain(["--", "-D", "warnings"]).collect();
        report.add(Row::single(name, must(&mut cargo(&words), LONG)));
    }
    // Alone, because in a workspace one package's features hide another's missing ones. Not
    // with test targets: a dev-dependency would hide them as well.
    let mut alone = Row::new("lints: each package alone");
    for package in &packages {
        let words = ["clippy", "--package", package, "--", "-D", "warnings"];
        match must(&mut cargo(&words), LONG) {
            Ok(()) => alone.passed += 1,
            Err(why) => alone.failed.push(why),
        }
    }
    report.add(alone);

    heading("tests");
    // The store's tests run on both databases, each in a schema of its own on this server.
    let postgres = Postgres::start().and_then(|server| Ok((server.database()?, server)));
    let mut variables = Vec::new();
    match &postgres {
        Ok((url, _)) => variables.push((POSTGRES, url.into())),
        Err(Trouble::NotRun(why)) => report.add(Row::missing("tests on PostgreSQL", why.clone())),
        Err(trouble) => report.add(Row::single("PostgreSQL starts", Err(trouble.to_string()))),
    }
    let words = ["test", "--workspace", "--exclude", INTEROP, "--all-features", "--no-fail-fast"];
    for row in tests(&words, &variables)? {
        report.add(row);
    }
    drop(postgres);

    heading("documentation");
    let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--document-private-items"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    report.add(Row::single("documentation", must(&mut doc, LONG)));

    heading("licences, bans, sources");
    report.add(deny());

    heading("real peers");
    let words = ["build", "--package", "countersign-cli", "--features", "full"];
    let built = must(&mut cargo(&words), LONG);
    if built.is_err() {
        report.add(Row::single("countersign builds", built));
    }
    let bin = target().join("debug/countersign").into_os_string();
    let peers = target().join("peers").into_os_string();
    let variables = [("COUNTERSIGN_BIN", bin), ("COUNTERSIGN_PEERS", peers)];
    for row in tests(&["test", "--package", INTEROP, "--no-fail-fast"], &variables)? {
        report.add(row);
    }

    println!("\n{report}");
    Ok(report.holds())
}

/// The workspace's packages.
fn members() -> Result<Vec<String>, String> {
    let text = ask(&mut cargo(&["tree", "--workspace", "--depth", "0", "--prefix", "none"]))
        .ok_or("`cargo tree` does not list the workspace")?;
    let mut names: Vec<String> =
        text.lines().filter_map(|l| Some(l.split_whitespace().next()?.to_owned())).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// Runs `cargo test` and gives a row for each test program.
fn tests(words: &[&str], variables: &[(&str, std::ffi::OsString)]) -> Result<Vec<Row>, String> {
    let file = target().join(format!("not-run-{}", std::process::id()));
    fs::write(&file, "").map_err(|e| format!("{}: {e}", file.display()))?;
    let mut command = cargo(words);
    command.env(NOT_RUN, &file).envs(variables.iter().map(|(k, v)| (k, v)));
    let mut heard = Heard::default();
    let status = watch(&mut command, LONG, |line| heard.line(line));
    let missing = fs::read_to_string(&file).unwrap_or_default();
    let _ = fs::remove_file(&file);
    heard.take_back(&missing);
    match status {
        Ok(status) if !status.success() && heard.rows.iter().all(|r| r.failed.is_empty()) => {
            let why = heard.error.take().unwrap_or_else(|| status.to_string());
            heard.rows.push(Row::single("tests", Err(why)));
        }
        Ok(_) => {}
        Err(why) => heard.rows.push(Row::single("tests", Err(why))),
    }
    Ok(heard.rows)
}

/// What a `cargo test` said so far.
#[derive(Debug, Default)]
struct Heard {
    rows: Vec<Row>,
    /// Names of passed tests, to be taken back if they say they did not run.
    passed: Vec<(usize, String)>,
    error: Option<String>,
}

impl Heard {
    fn line(&mut self, line: &str) {
        let words = line.trim_start();
        if words.starts_with("error") && self.error.is_none() {
            self.error = Some(words.to_owned());
        }
        if let Some(rest) = words.strip_prefix("Running ") {
            self.rows.push(Row::new(format!("tests: {}", program(rest))));
        } else if let Some(package) = words.strip_prefix("Doc-tests ") {
            self.rows.push(Row::new(format!("examples: {package}")));
        } else if let Some(rest) = line.strip_prefix("test ") {
            let Some((name, result)) = rest.rsplit_once(" ... ") else { return };
            if self.rows.is_empty() {
                self.rows.push(Row::new("tests"));
            }
            let at = self.rows.len() - 1;
            let row = &mut self.rows[at];
            if result == "ok" || result.starts_with("ok ") {
                row.passed += 1;
                self.passed.push((at, name.to_owned()));
            } else if let Some(why) = result.strip_prefix("ignored") {
                let why = why.trim_start_matches([',', ' ']);
                let why = if why.is_empty() { "ignored without a reason" } else { why };
                row.not_run.push(format!("{name}: {why}"));
            } else if result.starts_with("FAILED") {
                row.failed.push(name.to_owned());
            }
        } else if line.starts_with("error: test failed")
            || line.starts_with("error: doctest failed")
        {
            // A program that crashed has no `FAILED` line of its own.
            if let Some(row) = self.rows.last_mut().filter(|row| row.failed.is_empty()) {
                row.failed.push(line.to_owned());
            }
        }
    }

    /// Tests that passed for libtest but told us that they could not run.
    fn take_back(&mut self, lines: &str) {
        for line in lines.lines() {
            let (name, why) = line.split_once('\t').unwrap_or((line, "without a reason"));
            // A test knows its own name with or without the path of modules before it.
            let known = self.passed.iter().position(|(_, n)| {
                n == name || n.ends_with(&format!("::{name}")) || name.ends_with(&format!("::{n}"))
            });
            let at = match known {
                Some(known) => {
                    let (at, _) = self.passed.swap_remove(known);
                    self.rows[at].passed -= 1;
                    at
                }
                None if self.rows.is_empty() => continue,
                None => self.rows.len() - 1,
            };
            self.rows[at].not_run.push(format!("{name}: {why}"));
        }
    }
}

/// `unittests src/lib.rs (target/debug/deps/countersign-0123)` → `countersign`, and for a
/// test file its path too.
fn program(running: &str) -> String {
    let (what, path) = running.rsplit_once(" (").unwrap_or((running, ""));
    let file = Path::new(path.trim_end_matches(')')).file_name().unwrap_or_default();
    let file = file.to_string_lossy();
    let name = file.rsplit_once('-').map_or(&*file, |(name, _)| name).replace('_', "-");
    match what.strip_prefix("unittests ") {
        Some(what) if what.ends_with("lib.rs") || what.is_empty() => name,
        Some(what) => format!("{name} ({})", what.trim_start_matches("src/")),
        None => what.to_owned(),
    }
}

/// `cargo deny` without its advisories, which need the network each time and would make the
/// same commit pass today and fail tomorrow.
fn deny() -> Row {
    const NAME: &str = "licences, bans, sources";
    let program = match cargo_deny() {
        Ok(program) => program,
        Err(why) => return Row::missing(NAME, why),
    };
    let mut command = Command::new(program);
    command.current_dir(root()).args(["deny", "--all-features", "check"]);
    command.args(["--hide-inclusion-graph", "bans", "licenses", "sources"]);
    Row::single(NAME, must(&mut command, SHORT))
}

/// cargo-deny from the PATH, else from our own tools folder, else built into it (once).
fn cargo_deny() -> Result<PathBuf, String> {
    if there("cargo-deny") {
        return Ok(PathBuf::from("cargo-deny"));
    }
    let tools = target().join("tools");
    let program = tools.join("bin/cargo-deny");
    if !program.is_file() {
        let mut install = cargo(&["install", "cargo-deny", "--locked", "--quiet", "--root"]);
        install.arg(&tools).env("CARGO_TARGET_DIR", tools.join("build"));
        // Debug information and optimisation would only cost time: it runs for a second.
        install.args(["--profile", "dev"]).env("CARGO_PROFILE_DEV_DEBUG", "0");
        must(&mut install, Duration::from_secs(20 * 60))
            .map_err(|e| format!("cargo-deny is not here and cannot be built: {e}"))?;
        let _ = fs::remove_dir_all(tools.join("build"));
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
     Running unittests src/lib.rs (target/debug/deps/countersign_wire-0123abcd)

running 3 tests
test lines::tests::a ... ok
test lines::tests::b ... ignored, needs root
test lines::tests::c ... FAILED
test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

     Running tests/replay.rs (target/debug/deps/replay-0123abcd)
test corpus ... ok
test pam ... ok
   Doc-tests countersign_wire
test crates/wire/src/lib.rs - lines (line 10) - compile fail ... ok
";

    #[test]
    fn results_are_read_by_program() {
        let mut heard = Heard::default();
        OUTPUT.lines().for_each(|line| heard.line(line));
        heard.take_back("pam\tno libpam here\n");
        let names: Vec<_> = heard.rows.iter().map(|row| row.name.as_str()).collect();
        let expected =
            ["tests: countersign-wire", "tests: tests/replay.rs", "examples: countersign_wire"];
        assert_eq!(names, expected);
        assert_eq!(heard.rows[0].passed, 1);
        assert_eq!(heard.rows[0].failed, ["lines::tests::c"]);
        assert_eq!(heard.rows[0].not_run, ["lines::tests::b: needs root"]);
        assert_eq!(heard.rows[1].passed, 1);
        assert_eq!(heard.rows[1].not_run, ["pam: no libpam here"]);
        assert_eq!(heard.rows[2].passed, 1);
    }

    #[test]
    fn a_crash_is_a_failure() {
        let mut heard = Heard::default();
        heard.line("     Running unittests src/lib.rs (target/debug/deps/x-01)");
        heard.line("test a ... ok");
        heard.line("error: test failed, to rerun pass `-p x --lib`");
        assert_eq!(heard.rows[0].failed.len(), 1);
    }

    #[test]
    fn programs_have_readable_names() {
        assert_eq!(program("unittests src/main.rs (t/debug/deps/xtask-00ff)"), "xtask (main.rs)");
        assert_eq!(program("tests/peers/main.rs (t/deps/peers-1)"), "tests/peers/main.rs");
    }
}
