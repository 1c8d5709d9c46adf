//! `gsasl`, GNU SASL's command: a client of another hand for mechanisms that swaks does not know.

use std::process::Command;
use std::time::Duration;

use crate::{Outcome, Trouble, ensure, need, run};

const LIMIT: Duration = Duration::from_secs(25);

/// Logs in at a mail server on 127.0.0.1 over SMTP; gives whether it was let in. Where the mechanism proves the
/// server too, GNU SASL must have found the proof right.
///
/// # Errors
/// When the server does not offer the mechanism, with the whole dialogue.
pub fn gsasl_smtp(port: u16, mechanism: &str, user: &str, password: &str) -> Outcome<bool> {
    let program = need("gsasl", "gsasl")?;
    let done = run(
        Command::new(program)
            .args(["--smtp", "--no-starttls", "--verbose"])
            .arg(format!("--connect=127.0.0.1:{port}"))
            .args(["--mechanism", mechanism, "--authentication-id", user])
            .args(["--password", password]),
        "",
        LIMIT,
    )?;
    let said = |text: &str| done.out.contains(text) || done.err.contains(text);
    let dialogue = || format!("{mechanism}:\n{}{}", done.out, done.err);
    let offered = done.out.lines().any(|line| {
        line.contains("AUTH ") && line.split_whitespace().any(|word| word == mechanism)
    });
    ensure!(offered, "it is not offered: {}", dialogue());
    match done.code {
        Some(0) => {
            ensure!(said("235 "), "no 235: {}", dialogue());
            Ok(true)
        }
        Some(_) if !said("235 ") => Ok(false),
        _ => Err(Trouble::failed(format!("let in, and not content: {}", dialogue()))),
    }
}
