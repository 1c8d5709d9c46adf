//! Drivers in several languages, the documentation's own example, and what no driver may say.

use std::fs;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_interop::runner::{Case, case};
use countersign_interop::{Context as _, Outcome, Stage, ensure, need, run};

use crate::oned::{Oned, PATIENCE, Site};

pub(crate) const CASES: &[Case] = &[
    case("example_length", length),
    case("driver_in_python", python),
    case("driver_in_c", c),
    case("answers_that_are_none", answers),
    case("logs_of_a_driver", logs),
    case("built_in_ssh_beside_openssl", ssh),
];

/// The driver of OpenNebula's manual: the stored password is how long the secret is.
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

const PYTHON: &str = r#"#!/usr/bin/env python3
import sys, xml.etree.ElementTree as tree
login = tree.parse(sys.stdin.buffer).getroot()
if login.findtext("SECRET") == "p w&\u00fc<>":
    print("py", login.findtext("USERNAME"), "stored", "*100")
else:
    print("wrong", file=sys.stderr)
    sys.exit(1)
"#;

const C: &str = r#"#include <stdio.h>
#include <string.h>
int main(void) {
    char read[4096];
    size_t length = fread(read, 1, sizeof read - 1, stdin);
    read[length] = 0;
    if (!strstr(read, "<SECRET>right</SECRET>")) { fputs("ERROR: 3 no\n", stderr); return 2; }
    puts("c ada x 7");
    return 0;
}
"#;

/// The answer to a login of ada's with a stored password and a secret.
fn asked(oned: &mut Oned, id: u64, driver: &str, stored: &str, secret: &str) -> Outcome<String> {
    let secret = STANDARD.encode(secret);
    oned.send(&format!("AUTHENTICATE  {id} 2 {driver} ada {stored} {secret} \n\n"))?;
    oned.answer("AUTHENTICATE", id)
}

fn length(stage: &Stage) -> Outcome {
    need("xmllint", "libxml2-utils")?;
    let site = Site::new(stage)?;
    site.driver("length", LENGTH)?;
    let mut oned = site.oned("--authn ssh,x509,ldap,server_cipher,server_x509,length")?;
    for (id, secret) in [(1, "testpassword"), (2, "another_try")] {
        let refused = asked(&mut oned, id, "length", "5", secret)?;
        ensure!(refused == format!("AUTHENTICATE FAILURE {id} exit status 255"), "{refused}");
    }
    let good = asked(&mut oned, 3, "length", "5", "12345")?;
    ensure!(good == "AUTHENTICATE SUCCESS 3 length ada 12345", "{good}");
    // What it prints is what the user typed: a group of the user's choice, if it were believed.
    let chosen = asked(&mut oned, 4, "length", "5", "x 100")?;
    ensure!(chosen.starts_with("AUTHENTICATE FAILURE 4 "), "{chosen}");
    Ok(())
}

fn python(stage: &Stage) -> Outcome {
    need("python3", "python3")?;
    let site = Site::new(stage)?;
    site.driver("py", PYTHON)?;
    let mut oned = site.oned("--authn py")?;
    let good = asked(&mut oned, 0, "py", "-", "p w&ü<>")?;
    ensure!(good == "AUTHENTICATE SUCCESS 0 py ada stored *100", "{good}");
    let wrong = asked(&mut oned, 1, "py", "-", "p w&u<>")?;
    ensure!(wrong == "AUTHENTICATE FAILURE 1 wrong", "{wrong}");
    Ok(())
}

fn c(stage: &Stage) -> Outcome {
    let compiler = need("cc", "gcc")?;
    let site = Site::new(stage)?;
    let program = site.driver("c", "")?;
    fs::remove_file(&program).during("the driver")?;
    let source = stage.file("driver.c", C)?;
    let done = run(Command::new(compiler).arg("-o").arg(&program).arg(source), "", PATIENCE)?;
    ensure!(done.code == Some(0), "{}", done.err);
    let mut oned = site.oned("--authn c")?;
    let good = asked(&mut oned, 0, "c", "-", "right")?;
    ensure!(good == "AUTHENTICATE SUCCESS 0 c ada x 7", "{good}");
    oned.send("AUTHENTICATE  1 2 c ada - eA== \n\n")?;
    oned.expect(&["LOG E 3 no", "AUTHENTICATE FAILURE 1 exit status 2"])?;
    Ok(())
}

fn answers(stage: &Stage) -> Outcome {
    let site = Site::new(stage)?;
    // The stored password is what it prints, with `_` for a blank.
    let parrot = "#!/bin/sh\nsed -n 's/.*<PASSWORD>\\(.*\\)<\\/PASSWORD>.*/\\1/p' | tr '_' ' ' | tr '|' '\\n'\n";
    site.driver("p", parrot)?;
    let mut oned = site.oned("--authn p,q")?;
    for (id, printed, taken) in [
        (0, "p_ada_x", Some("p ada x")),
        (1, "q_Ada_x_100_*101", Some("q Ada x 100 *101")),
        (2, "p_ada_x|AUTHENTICATE_SUCCESS_99_p_eve_x_0", Some("p ada x")),
        (3, "r_ada_x", None),
        (4, "p_eve_x", None),
        (5, "p_ada_x_0", None),
        (6, "p_ada_x_abc", None),
        (7, "p_ada_x_100_", None),
        (8, "p_ada", None),
        (9, "p_ada_x_-1", None),
        (10, "p_ada__100", None),
        (11, "-", Some("-")),
    ] {
        // oned never sends an empty stored password, but `-` for one.
        let line = asked(&mut oned, id, "p", printed, "typed")?;
        match taken {
            Some(taken) if printed != "-" => {
                ensure!(line == format!("AUTHENTICATE SUCCESS {id} {taken}"), "{printed}: {line}");
            }
            Some(_) => {
                ensure!(line == format!("AUTHENTICATE SUCCESS {id} -"), "{printed}: {line}");
            }
            None => ensure!(
                line.starts_with(&format!("AUTHENTICATE FAILURE {id} ")),
                "{printed}: {line}"
            ),
        }
    }
    Ok(())
}

fn logs(stage: &Stage) -> Outcome {
    let site = Site::new(stage)?;
    let text = "#!/bin/sh\necho 'WARN: 12 mind' >&2\necho 'plain, with typed in it' >&2\nexit 1\n";
    site.driver("l", text)?;
    site.settings("version = \"7.0\"\n")?;
    let mut oned = site.oned("--authn l")?;
    // base64 of `typed`
    oned.send("AUTHENTICATE  5 2 l ada - dHlwZWQ= \n\n")?;
    oned.expect(&[
        "LOG W 12 mind",
        "LOG I 5 plain, with … in it",
        "AUTHENTICATE FAILURE 5 plain, with … in it",
    ])
}

fn ssh(stage: &Stage) -> Outcome {
    let openssl = need("openssl", "openssl")?;
    let site = Site::new(stage)?;
    site.settings("[driver.ssh.ssh]\n")?;
    let key = stage.at("key.pem");
    let shell = |script: &str, input: &str| -> Outcome<String> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).arg("sh").arg(&openssl).arg(&key);
        let done = run(&mut command, input, PATIENCE)?;
        ensure!(done.code == Some(0), "{script}: {}", done.err);
        Ok(done.out.trim().to_owned())
    };
    shell("\"$1\" genrsa -out \"$2\" 2048", "")?;
    let stored =
        shell("\"$1\" rsa -in \"$2\" -pubout 2>/dev/null | sed '/^-/d' | tr -d '\\n'", "")?;
    let sign = "\"$1\" pkeyutl -sign -inkey \"$2\" | base64 -w0";
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).during("now")?;
    let (soon, before) = (now.as_secs() + 600, now.as_secs() - 1);
    let mut oned = site.oned("--authn ssh")?;
    let token = shell(sign, &format!("ada:{soon}"))?;
    let good = asked(&mut oned, 0, "ssh", &stored, &token)?;
    ensure!(good == "AUTHENTICATE SUCCESS 0 -", "{good}");
    for (id, text) in [(1, format!("ada:{before}")), (2, format!("eve:{soon}"))] {
        let token = shell(sign, &text)?;
        let refused = asked(&mut oned, id, "ssh", &stored, &token)?;
        ensure!(refused.starts_with(&format!("AUTHENTICATE FAILURE {id} ")), "{text}: {refused}");
    }
    Ok(())
}
