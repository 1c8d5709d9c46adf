//! Drivers as authors write them: the manual's example, and one each in Python and C.

use countersign::Secret;
use countersign_checkers::driver::{Exec, ExecSettings};
use countersign_checkers::one::{Driver, Login, Outcome};
use countersign_wire::one::{Profile, UserName};

use crate::scripts::Scripts;
use crate::{driver, launcher, patient, refusal, reply};

/// The example of OpenNebula's manual: as many characters as are stored.
const LENGTH: &str = r#"#!/bin/bash

data=$(cat -)

username=$(echo "${data}" | xmllint --xpath '//AUTHN/USERNAME/text()' -)
password=$(echo "${data}" | xmllint --xpath '//AUTHN/PASSWORD/text()' -)
secret=$(echo "${data}" | xmllint --xpath '//AUTHN/SECRET/text()' -)

length=$(echo -n "$secret" | wc -c | tr -d ' ')

if [ $length = $password ]; then
    echo "length $username $secret"
else
    echo "Invalid password"
    exit 255
fi
"#;

#[tokio::test]
async fn the_manuals_example() {
    if std::process::Command::new("xmllint").arg("--version").output().is_err() {
        eprintln!("not run: xmllint is not here (Debian: libxml2-utils)");
        return;
    }
    let scripts = Scripts::new();
    let length = driver(&scripts, "length", LENGTH);
    let user: UserName = "test".parse().unwrap();
    let ask = async |stored: Option<&str>, secret: &str| {
        let (stored, secret) = (stored.map(Secret::from), Secret::from(secret));
        let login =
            Login { user: &user, stored: stored.as_ref(), secret: &secret, target: None, now: 0 };
        length.authenticate(login).await.outcome
    };
    assert!(matches!(ask(Some("5"), "12345").await, Outcome::Accepted(Some(_))));
    for wrong in ["testpassword", "another_try", "1234"] {
        let refused = ask(Some("5"), wrong).await;
        assert!(matches!(&refused, Outcome::Refused(why) if why == "exit status 255"), "{wrong}");
    }
    // It prints what was typed. Three characters, two of which would be a group:
    assert!(matches!(ask(Some("3"), "x 0").await, Outcome::Failed(_)));
    // Nothing stored: an element without text, of which it makes an error of the shell's.
    assert!(matches!(ask(None, "12345").await, Outcome::Refused(_)));
}

#[tokio::test]
async fn in_python() {
    let scripts = Scripts::new();
    let script = r#"#!/usr/bin/env python3
import sys
import xml.etree.ElementTree as ET

login = ET.fromstring(sys.stdin.buffer.read())
if login.findtext("SECRET") != "p&ssword <ä> 'x'":
    sys.exit("wrong password")
print("py", login.findtext("USERNAME"), "stored", "*7 8")
"#;
    let python = driver(&scripts, "python", script);
    assert_eq!(reply(&python, "p&ssword <ä> 'x'").await, "py alice stored *7 8");
    assert_eq!(refusal(&python, "p&ssword").await, "wrong password");
}

#[tokio::test]
async fn in_c() {
    let scripts = Scripts::new();
    let source = r#"
#include <stdio.h>
#include <string.h>
int main(void) {
    static char login[65536];
    size_t length = fread(login, 1, sizeof login - 1, stdin);
    login[length] = 0;
    if (!strstr(login, "<SECRET>swordfish</SECRET>")) {
        fputs("ERROR: 1 wrong password\n", stderr);
        return 1;
    }
    puts("c alice stored");
    return 0;
}
"#;
    let (text, program) = (scripts.folder().join("c.c"), scripts.folder().join("c"));
    std::fs::write(&text, source).unwrap();
    let compiled = std::process::Command::new("cc").arg("-o").args([&program, &text]).status();
    assert!(compiled.unwrap().success());
    let settings = ExecSettings { program, profile: Profile::V7_0, limits: patient() };
    let c = Exec::new(settings, launcher());
    assert_eq!(reply(&c, "swordfish").await, "c alice stored");
    assert_eq!(refusal(&c, "swordfisk").await, "exit status 1");
}

/// The three examples of `docs/guide/write-a-driver.md`, each with its helper: as many characters as are stored, and
/// whoever can be asked must know how many.
mod that_stay {
    use std::path::{Path, PathBuf};

    use countersign::testing::StillWorld;
    use countersign::{Answers, CredentialKind, Identity, Known, Portal, Request, Secret};
    use countersign_checkers::driver::{
        Belief, DriverLimits, Persistent, PersistentChecker, PersistentSettings,
    };
    use countersign_checkers::one::{Driver, Login, Outcome, StoredFile};
    use countersign_testkit::{Fixture, Proof, conforms_async};
    use countersign_wire::one::UserName;

    use crate::{launcher, patient};

    fn helpers() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../driver/helpers").canonicalize().unwrap()
    }

    fn driver(program: &Path) -> Persistent {
        let limits = DriverLimits { processes: 1, ..patient() };
        let program = program.to_owned();
        let settings = PersistentSettings { program, name: "length".parse().unwrap(), limits };
        Persistent::new(settings, launcher())
    }

    async fn verifies(program: &Path) {
        let alone = driver(program);
        let user: UserName = "ada".parse().unwrap();
        let ask = async |stored: Option<&str>, secret: &str| {
            let (stored, secret) = (stored.map(Secret::from), Secret::from(secret));
            alone.authenticate(Login::new(&user, stored.as_ref(), &secret, 0)).await.outcome
        };
        for secret in ["12345", "a'b\"\\", "ä\n\u{1F600}$x", "a b c", "`id`x"] {
            let yes = ask(Some("5"), secret).await;
            assert!(matches!(yes, Outcome::Accepted(None)), "{secret:?}: {yes:?}");
        }
        for (stored, secret) in [(Some("5"), "123456"), (Some("-1"), "x"), (None, "x")] {
            let no = ask(stored, secret).await;
            assert!(matches!(&no, Outcome::Refused(why) if why == "wrong length"), "{no:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("stored"), "ada 8\n").unwrap();
        let checker = || {
            let stored = StoredFile::open(folder.path().join("stored")).unwrap();
            let belief = Belief::of("length".parse().unwrap());
            let asks = [CredentialKind::EchoPrompt];
            PersistentChecker::new("length", driver(program), belief, Some(Box::new(stored)), asks)
        };
        let portal = Portal::new(()).checked_by(checker());
        let login = async |count: &str| {
            let answers = Answers::new()
                .with("username", "ada")
                .with("password", "countess")
                .with("length", count.to_owned());
            let world = StillWorld::default();
            let who = portal.authenticate(Request::to("x"), &mut Known::new(answers), &world).await;
            who.map(|who| (*who).clone()).map_err(|error| format!("{error:?}"))
        };
        assert_eq!(login("8").await, Ok(Identity::named("ada")));
        assert!(login("9").await.unwrap_err().contains("counted wrong"));
        // It asks nobody who leaves, and goes on.
        let answers = |user: &str, password: &str| {
            Answers::new()
                .with("username", user.to_owned())
                .with("password", password.to_owned())
                .with("length", "8")
        };
        let proof = Proof::of("password", "ada", answers("ada", "countess"))
            .wrong(answers("ada", "babbage"))
            .unknown(answers("nobody", "countess"));
        let report = conforms_async(&checker(), &Fixture::new().with(proof)).await;
        assert!(report.is_clean(), "{report}");
    }

    #[tokio::test]
    async fn in_python() {
        verifies(&helpers().join("length.py")).await;
    }

    #[tokio::test]
    async fn in_sh() {
        verifies(&helpers().join("length.sh")).await;
    }

    #[tokio::test]
    async fn in_rust() {
        // Beside this test: TARGET/PROFILE/deps/driver-…, and TARGET/PROFILE/examples/length.
        let test = std::env::current_exe().unwrap();
        let profile = test.ancestors().nth(2).unwrap();
        let built = std::process::Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "countersign-driver", "--example", "length"])
            .arg("--target-dir")
            .arg(profile.parent().unwrap())
            .status();
        assert!(built.unwrap().success());
        verifies(&profile.join("examples/length")).await;
    }
}
