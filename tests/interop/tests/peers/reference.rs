//! The same questions to the services that ours takes the place of. They show that the
//! harness tells right from wrong, before it judges us.

use countersign_interop::runner::{Case, case};
use countersign_interop::{
    Attempt, DovecotAuth, Exim, Habits, Mechanism, Outcome, Postfix, Saslauthd, Stage, ensure,
    passwd_file, sasl, swaks,
};

pub(crate) const CASES: &[Case] = &[
    case("reference_dovecot_with_postfix", dovecot_with_postfix),
    case("reference_dovecot_with_exim", dovecot_with_exim),
    case("reference_saslauthd_with_its_clients", saslauthd_with_its_clients),
];

/// Right and wrong passwords over both mechanisms.
pub(crate) fn right_and_wrong(port: u16, user: &str, password: &str) -> Outcome {
    for mechanism in [Mechanism::Plain, Mechanism::Login] {
        let right = Attempt { port, mechanism, user, password };
        let answer = swaks(&right)?;
        ensure!(answer == 235, "{mechanism:?} with the right password: {answer}");
        let answer = swaks(&Attempt { password: "wrong", ..right })?;
        ensure!(answer == 535, "{mechanism:?} with a wrong password: {answer}");
        let answer = swaks(&Attempt { user: "nobody-of-that-name", ..right })?;
        ensure!(answer == 535, "{mechanism:?} with an unknown user: {answer}");
    }
    Ok(())
}

fn dovecot_with_postfix(stage: &Stage) -> Outcome {
    let passwd = stage.file("passwd", &passwd_file(3))?;
    let dovecot = DovecotAuth::start(stage, &passwd, Habits::Quiet)?;
    let postfix = Postfix::start(stage, &dovecot.socket)?;
    right_and_wrong(postfix.port, "u2", "secret2")
}

fn dovecot_with_exim(stage: &Stage) -> Outcome {
    let passwd = stage.file("passwd", &passwd_file(3))?;
    let dovecot = DovecotAuth::start(stage, &passwd, Habits::Quiet)?;
    let exim = Exim::start(stage, &dovecot.socket)?;
    right_and_wrong(exim.port, "u2", "secret2")
}

fn saslauthd_with_its_clients(stage: &Stage) -> Outcome {
    let daemon = Saslauthd::start(stage, 3)?;
    let realm = Saslauthd::REALM;
    ensure!(sasl::testsaslauthd(&daemon.socket, "u2", "secret2", realm)?, "the right password");
    ensure!(!sasl::testsaslauthd(&daemon.socket, "u2", "wrong", realm)?, "a wrong password");
    let server = |password| sasl::sample_server(stage, &daemon.socket, "u2", password, Some(realm));
    let name = server("secret2")?;
    ensure!(name.as_deref() == Some("u2@bench"), "the library's server heard {name:?}");
    ensure!(server("wrong")?.is_none(), "the library's server took a wrong password");
    Ok(())
}
