//! `swaks`, the SMTP client that people test mail servers with.

use std::process::Command;
use std::time::Duration;

use crate::{Outcome, Trouble, need, run};

/// Postfix gives up on an authentication service after ten seconds; that must be seen.
const LIMIT: Duration = Duration::from_secs(25);

/// A SASL mechanism that swaks speaks with every mail server here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// User name and password in one message.
    Plain,
    /// User name and password asked for one after the other.
    Login,
}

/// One SMTP authentication.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// Where the mail server listens on 127.0.0.1.
    pub port: u16,
    /// How.
    pub mechanism: Mechanism,
    /// Who.
    pub user: &'a str,
    /// With which (test) password.
    pub password: &'a str,
}

/// Authenticates and gives the mail server's three-digit answer: 235 for success, 535 for
/// refusal, 454 or 435 for "try again later".
///
/// # Errors
/// When there was no answer to AUTH at all; with the whole dialogue.
pub fn swaks(attempt: &Attempt<'_>) -> Outcome<u16> {
    let program = need("swaks", "swaks")?;
    let mechanism = match attempt.mechanism {
        Mechanism::Plain => "PLAIN",
        Mechanism::Login => "LOGIN",
    };
    let finished = run(
        Command::new(program)
            .args(["--server", "127.0.0.1", "--port", &attempt.port.to_string()])
            .args(["--auth", mechanism, "--auth-user", attempt.user])
            .args(["--auth-password", attempt.password])
            .args(["--quit-after", "AUTH", "--helo", "client.test", "--timeout", "20"]),
        "",
        LIMIT,
    )?;
    answer_to_auth(&finished.out).ok_or_else(|| {
        Trouble::failed(format!("no answer to AUTH {mechanism}:\n{}{}", finished.out, finished.err))
    })
}

/// The last answer before QUIT that is not a challenge (334).
fn answer_to_auth(dialogue: &str) -> Option<u16> {
    let from = dialogue.find("-> AUTH")?;
    dialogue[from..]
        .lines()
        .take_while(|line| !line.contains("-> QUIT"))
        .filter_map(|line| line.strip_prefix("<"))
        .filter_map(|line| line.trim_start_matches(['-', '*', '~', ' ']).get(..3)?.parse().ok())
        .filter(|code| *code != 334)
        .last()
}

#[cfg(test)]
mod tests {
    use super::answer_to_auth;

    #[test]
    fn the_answer_is_found() {
        let login = "<-  250 CHUNKING\n -> AUTH LOGIN\n<-  334 VXNlcm5hbWU6\n -> dTE=\n\
                     <-  334 UGFzc3dvcmQ6\n -> d3Jvbmc=\n<** 535 5.7.8 Error\n -> QUIT\n<-  221 Bye\n";
        assert_eq!(answer_to_auth(login), Some(535));
        assert_eq!(answer_to_auth(" -> AUTH PLAIN AA==\n<-  235 2.7.0 ok\n -> QUIT\n"), Some(235));
        assert_eq!(answer_to_auth("<-  220 hello\n -> QUIT\n<-  221 bye\n"), None);
        assert_eq!(answer_to_auth(" -> AUTH LOGIN\n<-  334 VXNlcm5hbWU6\n"), None);
    }
}
