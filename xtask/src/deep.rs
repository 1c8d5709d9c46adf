//! `cargo xtask deep`: what needs a nightly toolchain or programs from elsewhere, and time. It says what
//! it could not run and why.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::description;
use crate::report::{Report, Row};
use crate::steps::{LONG, ask, cargo_of, heading, must, root, target, watch};

const NIGHTLY: &str = "nightly";

/// Packages without foreign code, which Miri can interpret.
const MIRI: [&str; 3] = ["countersign", "countersign-wire", "countersign-sasl"];

/// Packages whose tests run under the address sanitizer; it also sees into C code.
const ADDRESS: [&str; 4] =
    ["countersign", "countersign-wire", "countersign-store", "countersign-server"];

/// Packages with threads of their own.
const THREAD: [&str; 2] = ["countersign-store", "countersign-server"];

/// Fuzzers exit with this when they cannot run here.
const CANNOT: i32 = 3;

pub(crate) fn main(words: &[&str]) -> Result<bool, String> {
    let (only_http, words) = match words {
        ["--only-http", rest @ ..] => (true, rest),
        words => (false, words),
    };
    let seconds = match words {
        [] => 60,
        ["--seconds", number] => number.parse::<u64>().map_err(|e| format!("{number}: {e}"))?,
        _ => return Err("`deep` knows only `--only-http` and then `--seconds N`".into()),
    };
    let mut report = Report::default();
    heading("HTTP description");
    report.add(description::fuzz(seconds));
    if only_http {
        println!("\n{report}");
        return Ok(report.holds());
    }
    heading("fuzzers");
    report.add(fuzz(seconds)?);
    heading("Miri");
    report.add(miri());
    for (sanitizer, packages) in [("address", &ADDRESS[..]), ("thread", &THREAD[..])] {
        heading(&format!("{sanitizer} sanitizer"));
        report.add(sanitize(sanitizer, packages));
    }
    println!("\n{report}");
    Ok(report.holds())
}

/// Each target of `fuzz/` for some seconds.
fn fuzz(seconds: u64) -> Result<Row, String> {
    let mut row = Row::new("fuzzers");
    let folder = root().join("fuzz");
    let targets = folder.join("fuzz_targets");
    let mut names: Vec<String> = fs::read_dir(&targets)
        .map_err(|e| format!("{}: {e}", targets.display()))?
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".rs")?.to_owned()))
        .collect();
    names.sort();
    for name in names {
        let mut command = Command::new(folder.join("run.sh"));
        command.args([&name, &seconds.to_string()]);
        for variable in ["CARGO", "RUSTUP_TOOLCHAIN"] {
            command.env_remove(variable);
        }
        command.env("CARGO_TARGET_DIR", target().join("fuzz"));
        let mut last = String::new();
        let limit = LONG + Duration::from_secs(seconds);
        let status = watch(&mut command, limit, |line| line.clone_into(&mut last));
        match status {
            Ok(status) if status.success() => row.passed += 1,
            Ok(status) if status.code() == Some(CANNOT) => {
                row.not_run.push(format!("{name}: {last}"));
            }
            Ok(status) => {
                row.failed.push(format!("{name}: {status}; its input is in fuzz/artifacts/{name}"));
            }
            Err(why) => row.failed.push(format!("{name}: {why}")),
        }
    }
    Ok(row)
}

fn miri() -> Row {
    let mut row = Row::new("Miri");
    if ask(&mut cargo_of(NIGHTLY, &["miri", "--version"])).is_none() {
        let why = "no Miri here (rustup toolchain install nightly --component miri rust-src)";
        row.not_run.push(why.into());
        return row;
    }
    for package in MIRI {
        let mut command = cargo_of(NIGHTLY, &["miri", "test", "--package", package, "--lib"]);
        command
            .env("CARGO_TARGET_DIR", target().join("miri"))
            // Property tests look for their record of failures in the file system.
            .env("MIRIFLAGS", "-Zmiri-disable-isolation")
            // A thousand times slower than the machine: a few cases of each property.
            .env("PROPTEST_CASES", "4");
        match must(&mut command, LONG) {
            Ok(()) => row.passed += 1,
            Err(why) => row.failed.push(format!("{package}: {why}")),
        }
    }
    row
}

fn sanitize(sanitizer: &str, packages: &[&str]) -> Row {
    let mut row = Row::new(format!("{sanitizer} sanitizer"));
    let Some(version) = ask(&mut cargo_of(NIGHTLY, &["--version", "--verbose"])) else {
        row.not_run.push("no nightly toolchain (rustup toolchain install nightly)".into());
        return row;
    };
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let Some(host) = host.map(str::to_owned) else {
        row.not_run.push("the nightly toolchain does not tell its host".into());
        return row;
    };
    // The standard library has to be instrumented too, or the thread sanitizer sees races in it.
    let sources = ask(Command::new("rustc")
        .args([&format!("+{NIGHTLY}"), "--print", "sysroot"])
        .env_remove("RUSTUP_TOOLCHAIN"))
    .map(|root| std::path::Path::new(root.trim()).join("lib/rustlib/src/rust/library"))
    .filter(|path| path.is_dir());
    if sanitizer == "thread" && sources.is_none() {
        let why = "needs the standard library's source (rustup +nightly component add rust-src)";
        row.not_run.push(why.into());
        return row;
    }
    for package in packages {
        let mut words = vec!["test", "--package", package, "--lib", "--target", &host];
        if sanitizer == "thread" {
            words.push("-Zbuild-std");
        }
        let mut command = cargo_of(NIGHTLY, &words);
        command
            .env("RUSTFLAGS", format!("-Zsanitizer={sanitizer}"))
            // Tests that play a crash forget things on purpose, which is no error of memory.
            .env("ASAN_OPTIONS", "detect_leaks=0")
            .env("CARGO_TARGET_DIR", target().join(format!("sanitize-{sanitizer}")));
        match must(&mut command, LONG) {
            Ok(()) => row.passed += 1,
            Err(why) => row.failed.push(format!("{package}: {why}")),
        }
    }
    row
}
