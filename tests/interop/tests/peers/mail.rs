//! Postfix and Exim against our Dovecot socket.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use countersign_interop::runner::{Case, case};
use countersign_interop::{
    Attempt, Config, Context, Countersign, Exim, GSASL_SMTP, Mechanism, Outcome, Postfix, Profile,
    Stage, ensure, gsasl, passwd_file, swaks, user,
};

use crate::reference::right_and_wrong;

pub(crate) const CASES: &[Case] = &[
    case("postfix_right_and_wrong", postfix_right_and_wrong),
    case("postfix_with_accounts_changed_while_running", postfix_with_changing_accounts),
    case("postfix_hears_454_when_we_are_away", postfix_while_we_are_away),
    case("postfix_hears_454_on_a_fault", postfix_on_a_fault),
    case("postfix_with_proofs_of_a_readable_password", postfix_with_proofs),
    case("postfix_with_kept_keys", postfix_with_kept_keys),
    case("exim_with_proofs_of_a_readable_password", exim_with_proofs),
    case("exim_right_and_wrong", exim_right_and_wrong),
    case("exim_hears_435_when_we_are_away", exim_while_we_are_away),
    case("exim_hears_435_on_a_fault", exim_on_a_fault),
];

fn over_a_file(stage: &Stage) -> Outcome<Config> {
    Ok(Config {
        passwd: Some(stage.file("passwd", &passwd_file(3))?),
        dovecot: Some(stage.folder("sockets")?.join("auth")),
        close_on_fault: true,
        ..Config::default()
    })
}

/// Every audit record is refused by a full disk, which by default refuses the login too.
fn with_a_full_disk(stage: &Stage) -> Outcome<Config> {
    Ok(Config { audit: Some("/dev/full".into()), ..over_a_file(stage)? })
}

fn socket(config: &Config) -> Outcome<&std::path::Path> {
    config.dovecot.as_deref().during("the socket's path")
}

fn postfix_right_and_wrong(stage: &Stage) -> Outcome {
    let config = over_a_file(stage)?;
    let _server = Countersign::start(stage, Profile::Debug, Some(&config))?;
    let postfix = Postfix::start(stage, socket(&config)?)?;
    right_and_wrong(postfix.port, "u2", "secret2")
}

/// The five-minute tour: accounts made by the command line, used at once by Postfix over the
/// socket that is there without any configuration.
fn postfix_with_changing_accounts(stage: &Stage) -> Outcome {
    let server = Countersign::start(stage, Profile::Debug, None)?;
    let data = &server.data;
    // Without a configuration the socket is for its owner and group; Postfix's smtpd is
    // neither, so this case lets it in as the guide tells an administrator to.
    for (path, mode) in
        [(data.clone(), 0o755), (data.join("run"), 0o755), (server.default_dovecot(), 0o666)]
    {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).during(path.display())?;
    }
    let postfix = Postfix::start(stage, &server.default_dovecot())?;
    let attempt = Attempt {
        port: postfix.port,
        mechanism: Mechanism::Plain,
        user: "alice",
        password: "correct horse battery",
    };
    let answer = swaks(&attempt)?;
    ensure!(answer == 535, "before alice exists: {answer}");
    user(Profile::Debug, data, &["add", "alice", "--password-stdin"], attempt.password)?;
    let answer = swaks(&attempt)?;
    ensure!(answer == 235, "after alice was added: {answer}");
    user(Profile::Debug, data, &["set", "alice", "--disable"], "")?;
    let answer = swaks(&attempt)?;
    ensure!(answer == 535, "after alice was disabled: {answer}");
    user(Profile::Debug, data, &["set", "alice", "--enable"], "")?;
    right_and_wrong(postfix.port, attempt.user, attempt.password)
}

fn postfix_while_we_are_away(stage: &Stage) -> Outcome {
    let config = over_a_file(stage)?;
    let server = Countersign::start(stage, Profile::Debug, Some(&config))?;
    let postfix = Postfix::start(stage, socket(&config)?)?;
    let attempt = Attempt {
        port: postfix.port,
        mechanism: Mechanism::Plain,
        user: "u1",
        password: "secret1",
    };
    let answer = swaks(&attempt)?;
    ensure!(answer == 235, "before the stop: {answer}");
    let status = server.stop()?;
    ensure!(status.success(), "SIGTERM should end it with 0, not {status}");
    let answer = swaks(&attempt)?;
    ensure!(answer == 454, "while we are away: {answer}");
    let _server = Countersign::start(stage, Profile::Debug, Some(&config))?;
    let answer = swaks(&attempt)?;
    ensure!(answer == 235, "after our return: {answer}");
    Ok(())
}

fn postfix_on_a_fault(stage: &Stage) -> Outcome {
    let config = with_a_full_disk(stage)?;
    let _server = Countersign::start(stage, Profile::Debug, Some(&config))?;
    let postfix = Postfix::start(stage, socket(&config)?)?;
    let answer = swaks(&Attempt {
        port: postfix.port,
        mechanism: Mechanism::Plain,
        user: "u1",
        password: "secret1",
    })?;
    ensure!(answer == 454, "with an audit file that cannot be written: {answer}");
    Ok(())
}

/// What GNU SASL 2.2 speaks of them.
const PROOFS: [&str; 3] = ["CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"];

fn over_proofs(stage: &Stage) -> Outcome<Config> {
    const ALL: &[&str] =
        &["SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN"];
    Ok(Config { mechanisms: ALL, ..over_a_file(stage)? })
}

fn proofs(port: u16, mechanisms: &[&str], user: &str, password: &str) -> Outcome {
    for mechanism in mechanisms {
        ensure!(
            gsasl(&GSASL_SMTP, port, mechanism, user, password)?,
            "{mechanism}, the right password"
        );
        ensure!(
            !gsasl(&GSASL_SMTP, port, mechanism, user, "wrong")?,
            "{mechanism}, a wrong password"
        );
        ensure!(
            !gsasl(&GSASL_SMTP, port, mechanism, "nobody", password)?,
            "{mechanism}, an unknown user"
        );
    }
    Ok(())
}

fn postfix_with_proofs(stage: &Stage) -> Outcome {
    let config = over_proofs(stage)?;
    let _server = Countersign::start(stage, Profile::Debug, Some(&config))?;
    let postfix = Postfix::start(stage, socket(&config)?)?;
    proofs(postfix.port, &PROOFS, "u2", "secret2")?;
    right_and_wrong(postfix.port, "u2", "secret2")
}

fn exim_with_proofs(stage: &Stage) -> Outcome {
    let config = over_proofs(stage)?;
    let _server = Countersign::start(stage, Profile::Debug, Some(&config))?;
    let exim = Exim::start(stage, socket(&config)?)?;
    proofs(exim.port, &PROOFS, "u2", "secret2")
}

/// An account whose password is set by the command line has keys at once.
fn postfix_with_kept_keys(stage: &Stage) -> Outcome {
    let config = Config {
        dovecot: Some(stage.folder("sockets")?.join("auth")),
        mechanisms: &["SCRAM-SHA-256", "PLAIN", "LOGIN"],
        more: "[accounts]\nscram = [\"SCRAM-SHA-256\"]\n".into(),
        ..Config::default()
    };
    let server = Countersign::start(stage, Profile::Debug, Some(&config))?;
    let (name, password) = ("alice", "correct horse battery");
    // What keys are kept of a password is the configuration's to say, also to who sets one.
    let file = stage.at("countersign.toml");
    let file = file.to_str().during("the configuration's path")?;
    let set = |word: &str, password: &str| {
        let words = [word, name, "--password-stdin", "--config", file];
        user(Profile::Debug, &server.data, &words, password)
    };
    set("add", password)?;
    let postfix = Postfix::start(stage, socket(&config)?)?;
    proofs(postfix.port, &["SCRAM-SHA-256"], name, password)?;
    set("passwd", "battery staple")?;
    let with = |password| gsasl(&GSASL_SMTP, postfix.port, "SCRAM-SHA-256", name, password);
    ensure!(!with(password)?, "the old password, after it was changed");
    ensure!(with("battery staple")?, "the new password, at once");
    right_and_wrong(postfix.port, name, "battery staple")
}

fn exim_right_and_wrong(stage: &Stage) -> Outcome {
    let config = over_a_file(stage)?;
    let _server = Countersign::start(stage, Profile::Debug, Some(&config))?;
    let exim = Exim::start(stage, socket(&config)?)?;
    right_and_wrong(exim.port, "u2", "secret2")
}

fn exim_while_we_are_away(stage: &Stage) -> Outcome {
    let config = over_a_file(stage)?;
    let server = Countersign::start(stage, Profile::Debug, Some(&config))?;
    let exim = Exim::start(stage, socket(&config)?)?;
    let attempt =
        Attempt { port: exim.port, mechanism: Mechanism::Login, user: "u1", password: "secret1" };
    let answer = swaks(&attempt)?;
    ensure!(answer == 235, "before the stop: {answer}");
    server.kill()?;
    let answer = swaks(&attempt)?;
    ensure!(answer == 435, "while we are away: {answer}");
    // A killed server leaves its sockets behind; the next one must take them over.
    let _server = Countersign::start(stage, Profile::Debug, Some(&config))?;
    let answer = swaks(&attempt)?;
    ensure!(answer == 235, "after our return: {answer}");
    Ok(())
}

fn exim_on_a_fault(stage: &Stage) -> Outcome {
    let config = with_a_full_disk(stage)?;
    let _server = Countersign::start(stage, Profile::Debug, Some(&config))?;
    let exim = Exim::start(stage, socket(&config)?)?;
    let answer = swaks(&Attempt {
        port: exim.port,
        mechanism: Mechanism::Plain,
        user: "u1",
        password: "secret1",
    })?;
    ensure!(answer == 435, "with an audit file that cannot be written: {answer}");
    Ok(())
}
