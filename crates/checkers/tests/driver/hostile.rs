//! What a driver may do to us: crash, hang, chatter, fork, lie.

use std::time::Duration;

use countersign_checkers::driver::DriverLimits;
use countersign_checkers::one::{Failure, Outcome};
use countersign_wire::one::Profile;

use crate::scripts::Scripts;
use crate::{ask, broken, driver, failure, patient, refusal, reply, with};

/// So long a hanging driver may take here.
fn hasty() -> DriverLimits {
    DriverLimits { time: Duration::from_millis(1000), ..DriverLimits::default() }
}

#[tokio::test]
async fn what_cannot_be_executed() {
    let scripts = Scripts::new();
    let gone = driver(&scripts, "gone", "#!/bin/sh\n");
    std::fs::remove_file(scripts.folder().join("gone/authenticate")).unwrap();
    assert!(broken(&gone, "x").await.contains("gone/authenticate: No such file"));
    assert!(gone.check().unwrap_err().contains("No such file"));
    let plain = driver(&scripts, "plain", "#!/bin/sh\n");
    std::process::Command::new("chmod")
        .arg("a-x")
        .arg(scripts.folder().join("plain/authenticate"))
        .status()
        .unwrap();
    assert!(broken(&plain, "x").await.contains("Permission denied"));
    assert!(plain.check().unwrap_err().contains("chmod +x"));
    let odd = driver(&scripts, "odd", "#!/no/such/interpreter\n");
    assert!(broken(&odd, "x").await.contains("No such file"));
    let format = driver(&scripts, "format", "neither script nor program\n");
    assert!(broken(&format, "x").await.contains("Exec format error"));
}

#[tokio::test]
async fn crashes() {
    let scripts = Scripts::new();
    let crash = driver(&scripts, "crash", "#!/bin/sh\necho t u p 0\nkill -SEGV $$\n");
    assert_eq!(broken(&crash, "x").await, "ended by signal 11");
    let killed = driver(&scripts, "killed", "#!/bin/sh\nkill -9 $$\n");
    assert_eq!(broken(&killed, "x").await, "ended by signal 9");
}

#[tokio::test]
async fn a_driver_that_never_reads() {
    let scripts = Scripts::new();
    let deaf = driver(&scripts, "deaf", "#!/bin/sh\necho t alice p\n");
    assert_eq!(reply(&deaf, "x").await, "t alice p");
    assert_eq!(reply(&deaf, &*"x".repeat(1_000_000)).await, "t alice p");
    // It closes its input, and takes its time.
    let shut = driver(&scripts, "shut", "#!/bin/sh\nexec < /dev/null\nsleep 0.1\necho t alice p\n");
    assert_eq!(reply(&shut, &*"x".repeat(1_000_000)).await, "t alice p");
}

#[tokio::test]
async fn a_grandchild_that_holds_the_output() {
    let scripts = Scripts::new();
    let script = "#!/bin/sh\nMARK=$0 sleep 1000 &\necho t alice p 100\n";
    let parent = driver(&scripts, "parent", script);
    assert_eq!(reply(&parent, "x").await, "t alice p 100");
    scripts.until_gone("parent").await;
    // One that leaves the process group, and says something else later.
    let script =
        "#!/bin/sh\nsetsid env MARK=$0 sh -c 'sleep 1000; echo t root p 0' &\necho t alice p 100\n";
    let daemon = driver(&scripts, "daemon", script);
    assert_eq!(reply(&daemon, "x").await, "t alice p 100");
    scripts.until_gone("daemon").await;
}

#[tokio::test]
async fn a_driver_that_hangs_is_ended_with_all_its_processes() {
    let scripts = Scripts::new();
    let script = "#!/bin/sh\nfor n in 1 2 3 4 5 6 7 8 9; do MARK=$0 sleep 1000 & done\n\
                  echo 'ERROR: 7 waiting' >&2\necho t alice p 0\nwait\n";
    let forks = with(&scripts, "forks", script, Profile::V7_0, hasty());
    let attempt = ask(&forks, "x").await;
    assert!(matches!(attempt.outcome, Outcome::Failed(Failure::Late(1000))), "{attempt:?}");
    assert_eq!(attempt.lines[0].text, "waiting");
    scripts.until_gone("forks").await;
    // It closes its outputs, and so seems to have ended.
    let script = "#!/bin/sh\necho t alice p 0\nexec sleep 1000 >&- 2>&-\n";
    let closes = with(&scripts, "closes", script, Profile::V7_0, hasty());
    assert_eq!(failure(&closes, "x").await, Failure::Late(1000));
    // It ignores what can be ignored.
    let script = "#!/bin/sh\ntrap '' TERM INT HUP\nsleep 1000\n";
    let ignores = with(&scripts, "ignores", script, Profile::V7_0, hasty());
    assert_eq!(failure(&ignores, "x").await, Failure::Late(1000));
    scripts.until_gone("ignores").await;
}

#[tokio::test]
async fn a_driver_that_chatters() {
    let scripts = Scripts::new();
    // Further lines are ignored, however many; oned would take each for a message.
    let script = "#!/bin/sh\necho t alice p 100\necho 'AUTHENTICATE SUCCESS 2 -'\n\
                  head -c 5000000 /dev/zero\nhead -c 5000000 /dev/zero >&2\n";
    let lines = driver(&scripts, "lines", script);
    assert_eq!(reply(&lines, "x").await, "t alice p 100");
    let endless = driver(&scripts, "endless", "#!/bin/sh\nexec yes t alice p 0\n");
    assert_eq!(broken(&endless, "x").await, "it wrote more than 16777216 bytes, and was ended");
    let errors = driver(&scripts, "errors", "#!/bin/sh\nexec yes no >&2\n");
    let attempt = ask(&errors, "x").await;
    assert!(matches!(attempt.outcome, Outcome::Failed(Failure::Broken(_))));
    assert_eq!(attempt.lines.len(), 200);
    let long = driver(
        &scripts,
        "long",
        "#!/bin/sh\nprintf 't alice '\nhead -c 200000 /dev/zero | tr '\\0' x\n",
    );
    assert_eq!(broken(&long, "x").await, "its answer is none: first line longer than 131072 bytes");
}

#[tokio::test]
async fn an_answer_that_is_none() {
    let scripts = Scripts::new();
    for (number, (printed, why)) in [
        ("hello", "the user is missing"),
        ("t alice", "the password is missing"),
        ("t alice p 100 ", "blank at the end"),
        ("t alice p 100\\r", "character U+000D"),
        ("t alice p abc", "group 1 is not"),
        ("t alice p -1", "group 1 is not"),
        ("t alice p **100", "group 1 is not"),
        ("t alice p 100,101", "group 1 is not"),
        ("t alice  p 100", "the password is missing"),
        ("../t alice p", "driver: "),
        ("t al\\001ice p", "character U+0001"),
        ("t al\\377ice p", "not UTF-8"),
        ("t al;ice p", "user: "),
    ]
    .into_iter()
    .enumerate()
    {
        let script = format!("#!/bin/sh\nprintf '{printed}\\n'\n");
        let said = broken(&driver(&scripts, &format!("n{number}"), &script), "x").await;
        assert!(
            said.starts_with("its answer is none: ") && said.contains(why),
            "{printed}: {said}"
        );
    }
}

#[tokio::test]
async fn what_was_typed_becomes_nothing_else() {
    let scripts = Scripts::new();
    // A driver that prints what it read, as the reference's `dummy` does.
    let script = "#!/bin/sh\nsecret=$(sed -n 's/.*<SECRET>\\(.*\\)<.SECRET>.*/\\1/p')\n\
                  echo \"dummy alice $secret\"\necho \"no: $secret\" >&2\n";
    let echoes = driver(&scripts, "echoes", script);
    assert_eq!(reply(&echoes, "plain").await, "dummy alice plain");
    assert!(broken(&echoes, "pw *0").await.contains("the user typed"));
    assert!(broken(&echoes, "pw 0").await.contains("the user typed"));
    // In the log it is no line of its own, and does not appear.
    let script = "#!/bin/sh\nsecret=$(sed -n 's/.*<SECRET>\\(.*\\)<.SECRET>.*/\\1/p')\n\
                  echo \"bind failed: $secret\" >&2\nexit 1\n";
    let logs = driver(&scripts, "logs", script);
    assert_eq!(refusal(&logs, "hunter2").await, "bind failed: …");
}

#[tokio::test]
async fn secrets_are_whole_or_refused() {
    let scripts = Scripts::new();
    let script = format!("#!/bin/sh\ntouch {}/ran\n", scripts.folder().display());
    let runs = driver(&scripts, "runs", &script);
    assert_eq!(refusal(&runs, "").await, "the secret is empty");
    for bytes in [&b"\xff"[..], b"a\0b", b"a\x1bb", "\u{ffff}".as_bytes()] {
        assert!(refusal(&runs, bytes).await.starts_with("cannot ask it: secret"), "{bytes:?}");
    }
    let long = vec![b'<'; 1_000_000];
    assert!(refusal(&runs, &*long).await.contains("longer than"));
    // An argument has no NUL; a message to the launcher has its limit, too.
    let old = with(&scripts, "old", &script, Profile::V5_4, patient());
    assert!(refusal(&old, &b"a\0b"[..]).await.contains("NUL"));
    assert!(!scripts.folder().join("ran").exists());
    assert_eq!(reply(&old, &b"a\xff\x01"[..]).await, "-");
}
