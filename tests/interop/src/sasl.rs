//! Cyrus SASL's side of the saslauthd socket: its test client, and its library as a server.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::{Outcome, Stage, Trouble, need, run};

const LIMIT: Duration = Duration::from_secs(15);
const PACKAGE: &str = "sasl2-bin";

/// Asks with `testsaslauthd`: `true` for OK, `false` for NO. The realm may be empty.
///
/// # Errors
/// When it got neither answer.
pub fn testsaslauthd(socket: &Path, user: &str, password: &str, realm: &str) -> Outcome<bool> {
    let program = need("testsaslauthd", PACKAGE)?;
    let done = run(
        Command::new(program)
            .arg("-f")
            .arg(socket)
            .args(["-u", user, "-p", password, "-s", "imap", "-r", realm]),
        "",
        LIMIT,
    )?;
    if done.out.contains("OK") {
        Ok(true)
    } else if done.out.contains("NO") {
        Ok(false)
    } else {
        Err(Trouble::failed(format!("testsaslauthd: {}{}", done.out, done.err)))
    }
}

/// Logs in with PLAIN to a server made with libsasl2 (`sasl-sample-server`) that checks
/// passwords over `socket`. Gives the user name that the server heard, or `None` for refused.
///
/// # Errors
/// When the negotiation ended in any other way.
pub fn sample_server(
    stage: &Stage,
    socket: &Path,
    user: &str,
    password: &str,
    realm: Option<&str>,
) -> Outcome<Option<String>> {
    let program = need("sasl-sample-server", PACKAGE)?;
    let folder = stage.folder("sasl")?;
    stage.file(
        "sasl/sample.conf",
        &format!(
            "pwcheck_method: saslauthd\nsaslauthd_path: {}\nmech_list: PLAIN LOGIN\n",
            socket.display()
        ),
    )?;
    let mut command = Command::new(program);
    command.args(["-s", "smtp", "-m", "PLAIN"]).env("SASL_CONF_PATH", folder);
    if let Some(realm) = realm {
        command.args(["-u", realm]);
    }
    let line = format!("C: {}\n", BASE64_STANDARD.encode(format!("PLAIN\0\0{user}\0{password}")));
    let done = run(&mut command, &line, LIMIT)?;
    if done.out.contains("Negotiation complete") {
        let name = done.out.lines().find_map(|line| line.strip_prefix("Username: "));
        return Ok(Some(name.unwrap_or_default().trim().to_owned()));
    }
    if done.err.contains("authentication failure") {
        return Ok(None);
    }
    Err(Trouble::failed(format!("sasl-sample-server: {}{}", done.out, done.err)))
}
