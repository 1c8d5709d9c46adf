//! `gsasl`, GNU SASL's command: a client of another hand for mechanisms that most clients do not know.

use std::process::Command;
use std::time::Duration;

use crate::{Outcome, Trouble, ensure, need, run};

const LIMIT: Duration = Duration::from_secs(25);

/// How it speaks to a server.
#[derive(Debug, Clone, Copy)]
pub struct Gsasl<'a> {
    /// `--smtp` or `--imap`.
    pub protocol: &'static str,
    /// What the server says to whom it lets in: the beginning of a line.
    pub success: &'static str,
    /// A file with the certificate of the server: over TLS. Otherwise without.
    pub trusting: Option<&'a str>,
    /// Files with the client's certificate and its key.
    pub showing: Option<(&'a str, &'a str)>,
}

/// SMTP without TLS.
pub const GSASL_SMTP: Gsasl<'static> =
    Gsasl { protocol: "--smtp", success: "235 ", trusting: None, showing: None };

/// Logs in at a server on this machine; gives whether it was let in. Where the mechanism proves the server too,
/// GNU SASL must have found that proof right.
///
/// # Errors
/// When the server does not offer the mechanism, with the whole dialogue.
pub fn gsasl(
    how: &Gsasl<'_>,
    port: u16,
    mechanism: &str,
    user: &str,
    password: &str,
) -> Outcome<bool> {
    let program = need("gsasl", "gsasl")?;
    let mut command = Command::new(program);
    command.args([how.protocol, "--verbose", "--mechanism", mechanism]);
    match how.trusting {
        Some(file) => command.args(["--starttls", "--x509-ca-file", file]),
        None => command.arg("--no-starttls"),
    };
    command.arg(format!("--connect=localhost:{port}"));
    if let Some((certificate, key)) = how.showing {
        command.args(["--x509-cert-file", certificate, "--x509-key-file", key]);
    }
    match mechanism {
        "ANONYMOUS" => command.args(["--anonymous-token", user]),
        "EXTERNAL" => command.args(["--authorization-id", user]),
        _ => command.args(["--authentication-id", user, "--password", password]),
    };
    let done = run(&mut command, "", LIMIT)?;
    let dialogue = || format!("{mechanism}:\n{}{}", done.out, done.err);
    let offered = done.out.lines().any(|line| {
        let words = line.split_whitespace().map(|word| word.trim_start_matches("AUTH="));
        line.contains("AUTH") && words.into_iter().any(|word| word == mechanism)
    });
    ensure!(offered, "it is not offered: {}", dialogue());
    // After the client's own line that names the mechanism.
    let named = [format!("AUTH {mechanism}"), format!("AUTHENTICATE {mechanism}")];
    let from = named.iter().filter_map(|line| done.out.rfind(line.as_str())).max();
    let answers = &done.out[from.unwrap_or(done.out.len())..];
    let let_in = answers.lines().skip(1).any(|line| line.starts_with(how.success));
    match (done.code, let_in) {
        (Some(0), true) => Ok(true),
        (Some(0), false) => {
            Err(Trouble::failed(format!("content, and not let in: {}", dialogue())))
        }
        (_, true) => Err(Trouble::failed(format!("let in, and not content: {}", dialogue()))),
        (_, false) => Ok(false),
    }
}
