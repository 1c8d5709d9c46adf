//! Drivers as real processes, and what hostile ones come to. The launcher is this test program itself: see
//! [`launcher_process`].

mod authors;
mod hostile;
mod kind;
mod persistent;
mod scripts;

use std::sync::Arc;
use std::time::Duration;

use countersign::Secret;
use countersign_checkers::driver::{
    Confinement, DriverLimits, Exec, ExecSettings, Launcher, Program,
};
use countersign_checkers::one::{Attempt, Driver, Failure, Login, Outcome};
use countersign_wire::one::{Profile, UserName};

use scripts::Scripts;

/// Not a test: what the tests start as their launcher.
#[test]
#[ignore = "the launcher of the other tests"]
fn launcher_process() {
    let _ = countersign_worker::launcher::main();
    std::process::exit(0);
}

/// The arguments that make a launcher of this program.
const LAUNCHER: [&str; 5] =
    ["launcher_process", "--exact", "--ignored", "--nocapture", "--test-threads=1"];

fn launcher() -> Arc<Launcher> {
    Arc::new(Launcher::new(Program::this(LAUNCHER), Confinement::default()))
}

/// A driver of that script, with a launcher of its own.
fn driver(scripts: &Scripts, name: &str, script: &str) -> Exec {
    with(scripts, name, script, Profile::V7_3_80, patient())
}

/// Nothing here takes so long, on any machine.
fn patient() -> DriverLimits {
    DriverLimits { time: Duration::from_secs(60), ..DriverLimits::default() }
}

fn with(
    scripts: &Scripts,
    name: &str,
    script: &str,
    profile: Profile,
    limits: DriverLimits,
) -> Exec {
    let program = scripts.write(name, script);
    Exec::new(ExecSettings { program, profile, limits }, launcher())
}

async fn ask(driver: &dyn Driver, secret: impl Into<Secret>) -> Attempt {
    let user: UserName = "alice".parse().unwrap();
    let login = Login { user: &user, stored: None, secret: &secret.into(), target: None, now: 0 };
    driver.authenticate(login).await
}

/// What a driver's yes came to, as it would be written.
async fn reply(driver: &dyn Driver, secret: impl Into<Secret>) -> String {
    match ask(driver, secret).await.outcome {
        Outcome::Accepted(Some(reply)) => {
            let mut line = Vec::new();
            reply.encode(&mut line);
            String::from_utf8(line).unwrap()
        }
        Outcome::Accepted(None) => "-".into(),
        other => panic!("{other:?}"),
    }
}

async fn refusal(driver: &dyn Driver, secret: impl Into<Secret>) -> String {
    match ask(driver, secret).await.outcome {
        Outcome::Refused(why) => why,
        other => panic!("{other:?}"),
    }
}

async fn failure(driver: &dyn Driver, secret: impl Into<Secret>) -> Failure {
    match ask(driver, secret).await.outcome {
        Outcome::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

async fn broken(driver: &dyn Driver, secret: impl Into<Secret>) -> String {
    match failure(driver, secret).await {
        Failure::Broken(why) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_bytes_that_a_driver_gets() {
    let scripts = Scripts::new();
    let folder = scripts.folder().display();
    let script = format!("#!/bin/sh\ncat > {folder}/input\n/usr/bin/env > {folder}/environment\n");
    let current = driver(&scripts, "current", &script);
    assert_eq!(reply(&current, "a & \"b\"<ä>").await, "-");
    assert_eq!(
        scripts.read("input"),
        "<AUTHN>\n  <USERNAME>alice</USERNAME>\n  <PASSWORD/>\n  <SECRET>a &amp; \"b\"&lt;&#xE4;&gt;</SECRET>\n</AUTHN>"
    );
    let environment = scripts.read("environment");
    let made_by_the_shell =
        |line: &&str| !["PWD=", "SHLVL=", "_=", "OLDPWD="].iter().any(|own| line.starts_with(own));
    let names: Vec<_> = environment.lines().filter(made_by_the_shell).collect();
    assert!(matches!(*names, [path] if path.starts_with("PATH=")), "{environment}");
    // A document that is larger than a pipe.
    let long = "x".repeat(900_000);
    assert_eq!(reply(&current, &*long).await, "-");
    assert_eq!(scripts.read("input").len(), 900_000 + 79);
    // Up to 5.4 they are arguments.
    let script = format!("#!/bin/sh\nprintf '%s|' \"$@\" > {folder}/arguments\ncat\n");
    let old = with(&scripts, "old", &script, Profile::V5_4, patient());
    assert_eq!(reply(&old, "it's a $(secret)").await, "-");
    assert_eq!(scripts.read("arguments"), "alice|-|it's a $(secret)|");
}

#[tokio::test]
async fn yes_and_no() {
    let scripts = Scripts::new();
    let yes = driver(&scripts, "yes", "#!/bin/sh\necho 't_grp alice cn=alice *100 101'\n");
    assert_eq!(reply(&yes, "x").await, "t_grp alice cn=alice *100 101");
    for (name, printed) in [("nothing", ""), ("dash", "-"), ("empty", "\n"), ("end", "-\n")] {
        let script = format!("#!/bin/sh\nprintf -- '{}'\n", printed.replace('\n', "\\n"));
        assert_eq!(reply(&driver(&scripts, name, &script), "x").await, "-", "{name}");
    }
    let no = driver(
        &scripts,
        "no",
        "#!/bin/sh\necho 'INFO: 3 asked' >&2\necho 'bad user' >&2\nexit 255\n",
    );
    let attempt = ask(&no, "x").await;
    assert!(matches!(&attempt.outcome, Outcome::Refused(why) if why == "bad user"));
    assert_eq!(attempt.lines.len(), 2);
    let silent = driver(&scripts, "silent", "#!/bin/sh\necho 'x y z 0'; exit 1\n");
    assert_eq!(refusal(&silent, "x").await, "exit status 1");
    // Of one that says yes, what has no severity is nobody's business.
    let notes = driver(&scripts, "notes", "#!/bin/sh\necho 'WARN: slow' >&2; echo noise >&2\n");
    let attempt = ask(&notes, "x").await;
    assert!(matches!(attempt.outcome, Outcome::Accepted(None)));
    assert_eq!(attempt.lines.len(), 1);
    assert_eq!(attempt.lines[0].text, "slow");
}

#[tokio::test]
async fn one_that_hangs_delays_no_other() {
    let scripts = Scripts::new();
    let limits = DriverLimits { processes: 2, queue: 3, ..patient() };
    let hangs = with(&scripts, "hangs", "#!/bin/sh\nexec sleep 1000\n", Profile::V7_0, limits);
    let hangs = Arc::new(hangs);
    let quick = driver(&scripts, "quick", "#!/bin/sh\necho yes\nexit 1\n");
    let mut waiting: Vec<_> = (0..5).map(|_| Box::pin(ask(&*hangs, "x"))).collect();
    for login in &mut waiting {
        assert!(countersign::testing::now_or_never(login).is_none());
    }
    // Two run, three wait, and that is all.
    assert_eq!(failure(&*hangs, "x").await, Failure::Full(3));
    for _ in 0..10 {
        assert_eq!(refusal(&quick, "x").await, "exit status 1");
    }
    // Whoever leaves takes the process along and makes room.
    drop(waiting);
    scripts.until_gone("hangs").await;
    let queue_time = Duration::from_millis(1);
    let limits = DriverLimits { processes: 1, queue_time, ..patient() };
    let hangs = with(&scripts, "hangs2", "#!/bin/sh\nexec sleep 1000\n", Profile::V7_0, limits);
    let mut first = Box::pin(ask(&hangs, "x"));
    assert!(countersign::testing::now_or_never(&mut first).is_none());
    assert_eq!(failure(&hangs, "x").await, Failure::Waited(1));
}
