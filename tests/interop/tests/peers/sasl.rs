//! Cyrus SASL against our saslauthd socket.

use countersign_interop::runner::{Case, case};
use countersign_interop::sasl::{sample_server, testsaslauthd};
use countersign_interop::{
    Config, Context, Countersign, Outcome, Profile, Stage, ensure, passwd_file,
};

pub(crate) const CASES: &[Case] =
    &[case("testsaslauthd", with_testsaslauthd), case("cyrus_sasl_server", with_the_library)];

fn over_a_file(stage: &Stage) -> Outcome<Config> {
    Ok(Config {
        passwd: Some(stage.file("passwd", &passwd_file(3))?),
        saslauthd: Some(stage.folder("sockets")?.join("mux")),
        ..Config::default()
    })
}

fn with_testsaslauthd(stage: &Stage) -> Outcome {
    let config = over_a_file(stage)?;
    let socket = config.saslauthd.as_deref().during("the socket's path")?;
    let _server = Countersign::start(stage, Profile::Debug, Some(&config))?;
    let ask = |user, password| testsaslauthd(socket, user, password, "");
    ensure!(ask("u1", "secret1")?, "the right password was refused");
    ensure!(!ask("u1", "secret2")?, "another's password was taken");
    ensure!(!ask("u1", "wrong")?, "a wrong password was taken");
    ensure!(!ask("nobody-of-that-name", "secret1")?, "an unknown user was taken");
    ensure!(!ask("u1", "")?, "an empty password was taken");
    ensure!(!ask("", "secret1")?, "an empty user was taken");
    ensure!(!ask("u1", &"x".repeat(1000))?, "a long wrong password was taken");
    Ok(())
}

fn with_the_library(stage: &Stage) -> Outcome {
    let config = over_a_file(stage)?;
    let socket = config.saslauthd.as_deref().during("the socket's path")?;
    let _server = Countersign::start(stage, Profile::Debug, Some(&config))?;
    let name = sample_server(stage, socket, "u3", "secret3", None)?;
    ensure!(name.is_some(), "the right password was refused");
    let name = sample_server(stage, socket, "u3", "wrong", None)?;
    ensure!(name.is_none(), "a wrong password was taken for {name:?}");
    Ok(())
}
