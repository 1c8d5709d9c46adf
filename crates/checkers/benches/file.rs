//! What a login costs in the `file` checker: one user of thousands, with each cheap scheme.
//!
//! Prints lines `BENCH <name> <number> <unit> [<= <limit>]` and fails when a limit is missed. The least of
//! several runs is taken: whatever else the machine does only ever adds.

use std::fmt::Write as _;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::testing::now_or_never;
use countersign::{PasswordStore, Secret, Verdict};
use countersign_checkers::file::File;
use countersign_checkers::hash::Accept;
use countersign_checkers::passwd_file::Format;
use countersign_checkers::pool::{HashPool, PoolOptions};

const MANY: usize = 10_000;
/// So few that the identities of all are remembered.
const FEW: usize = 1_000;
const LOGINS: usize = 20_000;
const RUNS: usize = 15;

fn nanoseconds(users: usize, line: impl Fn(usize) -> String, password: &str) -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("users");
    let mut text = String::new();
    for user in 0..users {
        writeln!(text, "{}", line(user)).expect("memory");
    }
    std::fs::write(&path, text).expect("a file");
    let pool = Arc::new(HashPool::start(&PoolOptions::default()).expect("threads"));
    let accept = Accept { allow_plain: true, ..Accept::default() };
    let file = File::open(path, Format::default(), accept, pool).expect("a file of users");
    // Looks at the file are 10 a second and no part of a login.
    let file = file.looking_every(Duration::from_secs(3600));
    let password = Secret::from(password);
    let names: Vec<_> = (0..users).map(|user| format!("user{user}@example.org")).collect();
    let mut least = f64::INFINITY;
    for _ in 0..RUNS {
        let begun = Instant::now();
        for login in 0..LOGINS {
            let checked = file.check(&names[login * 7919 % users], &password);
            let verdict = now_or_never(checked).expect("no wait").expect("no fault");
            assert!(matches!(black_box(verdict), Verdict::Is(_)));
        }
        least = least.min(begun.elapsed().as_nanos() as f64 / LOGINS as f64);
    }
    least
}

fn main() -> ExitCode {
    let plain = |user| format!("user{user}@example.org:{{PLAIN}}secret");
    let whole = |user| {
        format!("user{user}@example.org:{{PLAIN}}secret:1000:1000:A User:/home/u{user}:/bin/sh")
    };
    let sha256 = |user| {
        format!("user{user}@example.org:{{SHA256}}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=")
    };
    let mut missed = false;
    for (name, found) in [
        ("file-plain", nanoseconds(MANY, plain, "secret")),
        ("file-plain-all-fields", nanoseconds(MANY, whole, "secret")),
        ("file-plain-all-fields-remembered", nanoseconds(FEW, whole, "secret")),
        ("file-sha256", nanoseconds(MANY, sha256, "secret")),
    ] {
        println!("BENCH {name} {found:.0} ns <= 1000");
        missed |= found > 1000.0;
    }
    if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
