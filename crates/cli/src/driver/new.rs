//! `countersign driver new`: a driver to begin with. It does what the example of OpenNebula's manual does: what is
//! stored for a user is a number, and a password is right if it has so many characters.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use crate::args::driver::{Language, NewArgs};
use crate::failure::Failure;

const PYTHON: &str = r#"#!/usr/bin/env python3
"""A driver: a login comes on standard input; exit status 0 lets the user in."""

import sys
import xml.etree.ElementTree as ET

login = ET.fromstring(sys.stdin.buffer.read())
user = login.findtext("USERNAME") or ""
stored = login.findtext("PASSWORD") or ""  # "-" or nothing: nothing is stored
secret = login.findtext("SECRET") or ""

if login.tag != "AUTHN" or not user or not secret:
    sys.exit("no login")

# Decide here. What is written to standard error is for the log.
if stored != str(len(secret)):
    sys.exit("wrong length")

# Say nothing more, or one line: driver, user, what to store, groups. Never what was typed.
"#;

const SH: &str = r#"#!/bin/sh
# A driver: a login comes on standard input; exit status 0 lets the user in.

login=$(cat)
# string() undoes the document's escapes; text() would not.
value() { printf '%s' "$login" | xmllint --nonet --xpath "string(/AUTHN/$1)" - 2>/dev/null; }
user=$(value USERNAME)
stored=$(value PASSWORD)  # "-" or nothing: nothing is stored
secret=$(value SECRET)

if [ -z "$user" ] || [ -z "$secret" ]; then
    echo "no login" >&2
    exit 1
fi

# Decide here. What is written to standard error is for the log.
length=$(printf '%s' "$secret" | LC_ALL=C.UTF-8 wc -m | tr -d ' ')
if [ "$stored" != "$length" ]; then
    echo "wrong length" >&2
    exit 1
fi

# Say nothing more, or one line: driver, user, what to store, groups. Never what was typed.
"#;

const STAYS_PYTHON: &str = include_str!("../../../driver/helpers/length.py");
const HELPER_PYTHON: &str = include_str!("../../../driver/helpers/countersign_driver.py");
const STAYS_SH: &str = include_str!("../../../driver/helpers/length.sh");
const HELPER_SH: &str = include_str!("../../../driver/helpers/countersign-driver.sh");
const STAYS_RUST: &str = include_str!("../../../driver/examples/length.rs");

/// A file to write: its name, its text, and whether it is executable.
type Written<'a> = (&'a str, &'a str, bool);

pub(super) fn run(args: &NewArgs) -> Result<(), Failure> {
    let folder = &args.folder;
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if name.parse::<countersign_wire::one::DriverName>().is_err() {
        return Err(Failure::usage(format!(
            "the folder's name is the driver's: letters, digits, `_`, `-` and `.`, not `{name}`"
        )));
    }
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[dependencies]\n\
         countersign-driver = \"{}\"\n",
        env!("CARGO_PKG_VERSION")
    );
    let files: &[Written<'_>] = match (args.language, args.persistent) {
        (Language::Python, false) => &[("authenticate", PYTHON, true)],
        (Language::Sh, false) => &[("authenticate", SH, true)],
        (Language::Python, true) => {
            &[("authenticate", STAYS_PYTHON, true), ("countersign_driver.py", HELPER_PYTHON, false)]
        }
        (Language::Sh, true) => {
            &[("authenticate", STAYS_SH, true), ("countersign-driver.sh", HELPER_SH, false)]
        }
        (Language::Rust, true) => {
            &[("Cargo.toml", &manifest, false), ("src/main.rs", STAYS_RUST, false)]
        }
        (Language::Rust, false) => {
            let message = "in Rust there is one that stays: give --persistent";
            return Err(Failure::usage(message));
        }
    };
    for (file, text, executable) in files {
        write(args, file, text, *executable)?;
        println!("wrote {}", folder.join(file).display());
    }
    Ok(())
}

/// Nothing that is there is written over.
fn write(args: &NewArgs, file: &str, text: &str, executable: bool) -> Result<(), Failure> {
    let path = args.folder.join(file);
    let cannot = |error| Failure::refused(format!("cannot write {}: {error}", path.display()));
    fs::create_dir_all(path.parent().unwrap_or(&args.folder)).map_err(cannot)?;
    let mode = if executable { 0o755 } else { 0o644 };
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&path).map_err(cannot)?;
    file.write_all(text.as_bytes()).map_err(cannot)
}
