//! Proofs of a password over POP3 and IMAP: `examples/mail` with clients whose SASL is of three different hands.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use countersign_interop::runner::{Case, case};
use countersign_interop::{
    Config, Context, Countersign, ExampleMail, GSASL_SMTP, Gsasl, Outcome, Postfix, Profile, Stage,
    Trouble, ensure, gsasl, need, run,
};

pub(crate) const CASES: &[Case] = &[
    case("mail_example_imap_by_proofs_of_gsasl", imap_by_gsasl),
    case("mail_example_imap_bound_to_its_channel_by_gsasl", imap_bound_by_gsasl),
    case("mail_example_imap_by_proofs_of_cyrus_sasl", imap_by_cyrus),
    case("mail_example_pop3_by_proofs_of_curl", pop3_by_curl),
    case("mail_example_pop3_by_proofs_of_mpop", pop3_by_mpop),
    case("mail_example_pop3_by_proofs_of_cyrus_sasl", pop3_by_cyrus),
    case("mail_example_bound_to_its_channel_by_cyrus_sasl", bound_by_cyrus),
    case("postfix_with_proofs_of_cyrus_sasl", postfix_by_cyrus),
    case("json_by_proofs_of_cyrus_sasl", json_by_cyrus),
];

const USER: &str = "ada";
const PASSWORD: &str = "countess";
const MEMORY: &str = "memory:ada:countess";
const LIMIT: Duration = Duration::from_secs(40);

/// Right, wrong and unknown.
fn right_and_wrong(mechanism: &str, login: impl Fn(&str, &str) -> Outcome<bool>) -> Outcome {
    ensure!(login(USER, PASSWORD)?, "{mechanism}, the right password");
    ensure!(!login(USER, "wrong")?, "{mechanism}, a wrong password");
    ensure!(!login("nobody", PASSWORD)?, "{mechanism}, an unknown user");
    Ok(())
}

fn imap_by_gsasl(stage: &Stage) -> Outcome {
    let server = ExampleMail::start(stage, &[MEMORY], &[])?;
    for mechanism in ["CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "PLAIN", "LOGIN"] {
        let imap = Gsasl { protocol: "--imap", success: ". OK", ..GSASL_SMTP };
        right_and_wrong(mechanism, |user, password| {
            gsasl(&imap, server.imap, mechanism, user, password)
        })?;
    }
    server.end()
}

/// A server with a certificate for `localhost`, and that certificate.
fn in_tls(stage: &Stage) -> Outcome<(ExampleMail, String)> {
    let key = rcgen::KeyPair::generate().during("a key")?;
    let made =
        rcgen::CertificateParams::new(vec!["localhost".to_owned()]).during("a certificate")?;
    let made = made.self_signed(&key).during("a certificate")?;
    let chain = stage.file("chain.pem", &made.pem())?.display().to_string();
    let key = stage.file("key.pem", &key.serialize_pem())?.display().to_string();
    let server = ExampleMail::start(stage, &[MEMORY], &["--tls-cert", &chain, "--tls-key", &key])?;
    Ok((server, chain))
}

/// The client's end of the channel is GnuTLS's, ours that of rustls: both must export the same.
fn imap_bound_by_gsasl(stage: &Stage) -> Outcome {
    let (server, chain) = in_tls(stage)?;
    for mechanism in ["SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"] {
        let imap =
            Gsasl { protocol: "--imap", success: ". OK", trusting: Some(&chain), ..GSASL_SMTP };
        right_and_wrong(mechanism, |user, password| {
            gsasl(&imap, server.imap, mechanism, user, password)
        })?;
    }
    server.end()
}

/// mbsync, whose mechanisms are Cyrus SASL's.
fn imap_by_cyrus(stage: &Stage) -> Outcome {
    let program = need("mbsync", "isync")?;
    let server = ExampleMail::start(stage, &[MEMORY], &[])?;
    for mechanism in ["CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        right_and_wrong(mechanism, |user, password| {
            let local = stage.folder(&format!("{mechanism}-{user}-{password}"))?;
            let rc = format!(
                "IMAPAccount a\nHost 127.0.0.1\nPort {}\nUser {user}\nPassCmd \"echo '{password}'\"\n\
                 SSLType None\nAuthMechs {mechanism}\n\nIMAPStore there\nAccount a\n\nMaildirStore here\n\
                 Inbox {1}/INBOX\n\nChannel mail\nFar :there:\nNear :here:\nPatterns INBOX\nCreate Near\n\
                 SyncState *\n",
                server.imap,
                local.display()
            );
            let rc = stage.file("mbsyncrc", &rc)?;
            let mut command = Command::new(&program);
            let done =
                run(command.arg("-c").arg(&rc).arg("-a").env("HOME", stage.path()), "", LIMIT)?;
            let text = format!("{}{}", done.out, done.err);
            ensure!(!text.contains("no mechanism") && !text.contains("No worthy"), "{text}");
            ensure!(
                done.code == Some(0) || text.to_lowercase().contains("authenti"),
                "{mechanism}: {text}"
            );
            Ok(done.code == Some(0))
        })?;
    }
    server.end()
}

fn pop3_by_curl(stage: &Stage) -> Outcome {
    let program = need("curl", "curl")?;
    let server = ExampleMail::start(stage, &[MEMORY], &[])?;
    for mechanism in ["+APOP", "CRAM-MD5", "PLAIN", "LOGIN"] {
        right_and_wrong(mechanism, |user, password| {
            let rc = stage.file("curlrc", &format!("user = \"{user}:{password}\"\n"))?;
            fs::set_permissions(&rc, fs::Permissions::from_mode(0o600)).during("curlrc")?;
            let mut command = Command::new(&program);
            command.args(["--silent", "--show-error", "--verbose", "--max-time", "20", "--config"]);
            command.arg(rc).args(["--login-options", &format!("AUTH={mechanism}")]);
            command.arg(format!("pop3://localhost:{}/", server.pop3));
            let done = run(&mut command, "", LIMIT)?;
            let word = mechanism.trim_start_matches('+');
            let said = done.err.lines().any(|line| line.starts_with('>') && line.contains(word));
            ensure!(said, "curl did not use {mechanism}: {}", done.err);
            // 67: the login was denied.
            ensure!(matches!(done.code, Some(0 | 67)), "{mechanism}: {done:?}");
            Ok(done.code == Some(0))
        })?;
    }
    server.end()
}

/// mpop, whose mechanisms are GNU SASL's, and whose APOP is its own.
fn pop3_by_mpop(stage: &Stage) -> Outcome {
    let program = need("mpop", "mpop")?;
    let server = ExampleMail::start(stage, &[MEMORY], &[])?;
    for mechanism in ["apop", "cram-md5", "scram-sha-1", "scram-sha-256", "plain", "login"] {
        right_and_wrong(mechanism, |user, password| {
            let rc = format!(
                "account a\nhost localhost\nport {}\ntls off\nuser {user}\nauth {mechanism}\n\
                 passwordeval echo {password}\ndelivery mbox {}\nkeep on\n",
                server.pop3,
                stage.at("mbox").display()
            );
            let rc = stage.file("mpoprc", &rc)?;
            fs::set_permissions(&rc, fs::Permissions::from_mode(0o600)).during("mpoprc")?;
            let mut command = Command::new(&program);
            let done =
                run(command.args(["--auth-only", "--debug", "-C"]).arg(rc).arg("a"), "", LIMIT)?;
            // 77: permission denied.
            ensure!(matches!(done.code, Some(0 | 77)), "{mechanism}: {done:?}");
            Ok(done.code == Some(0))
        })?;
    }
    server.end()
}

/// Logs in with Cyrus SASL's library, over a protocol that no program at hand speaks with it. With a file of the server's
/// certificate: in TLS, and bound to it.
pub(crate) fn cyrus(
    stage: &Stage,
    protocol: &str,
    port: u16,
    mechanism: &str,
    certificate: Option<&str>,
    user: &str,
    password: &str,
) -> Outcome<bool> {
    let python = need("python3", "python3")?;
    let script = stage.file("cyrus.py", include_str!("mechanisms/cyrus.py"))?;
    let mut command = Command::new(python);
    command.arg("-B").arg(script).args([protocol, &port.to_string(), mechanism]).args(certificate);
    let done = run(&mut command, &format!("{user}\n{password}\n"), LIMIT)?;
    match (done.code, done.out.as_str()) {
        (Some(0), "let in\n") => Ok(true),
        (Some(4), "refused\n") => Ok(false),
        // SASL_NOMECH (sasl.h).
        _ if done.err.starts_with("Cyrus SASL: -4:") => Err(Trouble::not_run(format!(
            "Cyrus SASL has no {mechanism} here; `cargo xtask test` installs libsasl2-modules"
        ))),
        _ => Err(Trouble::failed(format!("{mechanism} over {protocol}: {}{}", done.out, done.err))),
    }
}

fn pop3_by_cyrus(stage: &Stage) -> Outcome {
    let server = ExampleMail::start(stage, &[MEMORY], &[])?;
    for mechanism in ["SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN"] {
        right_and_wrong(mechanism, |user, password| {
            cyrus(stage, "pop3", server.pop3, mechanism, None, user, password)
        })?;
    }
    server.end()
}

/// By the hash of the server's certificate (RFC 5929), where GNU SASL exports from TLS 1.3.
fn bound_by_cyrus(stage: &Stage) -> Outcome {
    let (server, chain) = in_tls(stage)?;
    for (protocol, port) in [("pop3", server.pop3), ("imap", server.imap)] {
        for mechanism in ["SCRAM-SHA-512-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"] {
            right_and_wrong(mechanism, |user, password| {
                cyrus(stage, protocol, port, mechanism, Some(&chain), user, password)
            })?;
        }
    }
    server.end()
}

fn over_a_readable_file(stage: &Stage) -> Outcome<Config> {
    let passwd = stage.secret("passwd", &format!("{USER}:{{PLAIN}}{PASSWORD}\n"))?;
    Ok(Config {
        passwd: Some(passwd),
        dovecot: Some(stage.folder("sockets")?.join("auth")),
        mechanisms: &["SCRAM-SHA-512", "CRAM-MD5"],
        more: "[throttle]\nenabled = false\n".into(),
        ..Config::default()
    })
}

fn postfix_by_cyrus(stage: &Stage) -> Outcome {
    let config = over_a_readable_file(stage)?;
    let _server = Countersign::start(stage, Profile::Debug, Some(&config))?;
    let postfix = Postfix::start(stage, config.dovecot.as_deref().during("the socket")?)?;
    for mechanism in ["SCRAM-SHA-512", "CRAM-MD5"] {
        right_and_wrong(mechanism, |user, password| {
            cyrus(stage, "smtp", postfix.port, mechanism, None, user, password)
        })?;
    }
    Ok(())
}

fn json_by_cyrus(stage: &Stage) -> Outcome {
    let config = over_a_readable_file(stage)?;
    let server = Countersign::start(stage, Profile::Debug, Some(&config))?;
    let port = server.http.rsplit(':').next().and_then(|port| port.parse().ok());
    let port = port.during("the port")?;
    for mechanism in ["CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        right_and_wrong(mechanism, |user, password| {
            cyrus(stage, "json", port, mechanism, None, user, password)
        })?;
    }
    Ok(())
}
