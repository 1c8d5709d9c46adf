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
