//! `examples/objects` with a client that knows its schema, in another language and over another library: pycapnp.

use std::fs;
use std::process::Command;
use std::time::Duration;

use countersign_interop::runner::{Case, case};
use countersign_interop::{
    Context, Environment, Example, Outcome, Peer, Stage, ensure, eventually, run,
};

pub(crate) const CASES: &[Case] = &[
    // First, with the time that a build takes.
    Case { deadline: Duration::from_secs(45 * 60), ..case("objects_example_is_built", is_built) },
    case("objects_example_lets_in_by_password_and_a_logout_revokes", password),
    case("objects_example_asks_two_rounds", rounds),
    case("objects_example_lets_in_nobody_in_particular", anonymous),
    case("objects_example_tells_minds", minds),
    case("objects_example_logs_out_who_vanishes", vanish),
    case("objects_example_logs_everybody_out_at_its_end", end),
    case("objects_example_in_tls", in_tls),
    case("objects_example_of_the_guide", guide),
];

const MEMORY: &str = "memory:ada:correct horse battery:bob:b";
const LIMIT: Duration = Duration::from_secs(40);

fn is_built(_: &Stage) -> Outcome {
    Example::built(Example::OBJECTS).map(drop)
}

fn client(stage: &Stage, to: &str, case: &str, more: &[&str]) -> Outcome<Command> {
    let schema =
        stage.file("objects.capnp", include_str!("../../../../examples/objects/objects.capnp"))?;
    let script = stage.file("client.py", include_str!("examples_objects/client.py"))?;
    let mut command = Command::new(Environment::find_pycapnp()?.program("python"));
    command.arg("-B").arg(script).arg(schema).args([to, case]).args(more);
    Ok(command)
}

fn play(stage: &Stage, auth: &[&str], case: &str) -> Outcome<Example> {
    let server = Example::start(stage, Example::OBJECTS, auth, &[])?;
    let mut command = client(stage, &format!("127.0.0.1:{}", server.port), case, &[])?;
    let done = run(&mut command, "ada\ncorrect horse battery\n", LIMIT)?;
    ensure!(done.code == Some(0) && done.out == "done\n", "{case}: {done:?}");
    ends_even(&server)?;
    Ok(server)
}

fn counts(log: &str) -> (usize, usize) {
    (log.matches("is logged in").count(), log.matches("is logged out").count())
}

/// Everybody who was logged in is logged out again, once.
fn ends_even(server: &Example) -> Outcome {
    eventually("as many logouts as logins", || {
        let (ins, outs) = counts(&server.log());
        ins > 0 && ins == outs
    })
}

fn password(stage: &Stage) -> Outcome {
    let server = play(stage, &[MEMORY], "password")?;
    let log = server.log();
    ensure!(log.contains("client=\"pycapnp"), "who it was:\n{log}");
    ensure!(!log.contains("correct horse"), "a password in the log");
    server.end()
}

fn rounds(stage: &Stage) -> Outcome {
    play(stage, &[MEMORY], "rounds")?.end()
}

fn anonymous(stage: &Stage) -> Outcome {
    play(stage, &[MEMORY, "anonymous"], "anonymous")?.end()
}

fn minds(stage: &Stage) -> Outcome {
    play(stage, &[MEMORY], "minds")?.end()
}

fn vanish(stage: &Stage) -> Outcome {
    play(stage, &[MEMORY], "vanish")?.end()
}

/// Whoever is in hears of it, and is out before the program has ended.
fn end(stage: &Stage) -> Outcome {
    let server = Example::start(stage, Example::OBJECTS, &[MEMORY], &[])?;
    let mut command = client(stage, &format!("127.0.0.1:{}", server.port), "stay", &[])?;
    // A peer has no standard input.
    stage.file("input", "ada\ncorrect horse battery\n")?;
    let mut stays = Peer::start(stage, "client", &mut command)?;
    let log = stage.at("client.log");
    let said = |word: &str| fs::read_to_string(&log).ok()?.contains(word).then_some(());
    stays.until("the client being in", LIMIT, || said("in\n"))?;
    let at = Example::log_of(stage, Example::OBJECTS);
    server.end()?;
    let text = fs::read_to_string(&at).during(at.display())?;
    ensure!(counts(&text) == (1, 1), "one login, one logout:\n{text}");
    eventually("the client having heard", || said("done\n").is_some())
}

fn in_tls(stage: &Stage) -> Outcome {
    let made =
        rcgen::generate_simple_self_signed(vec!["localhost".into()]).during("a certificate")?;
    let chain = stage.file("chain.pem", &made.cert.pem())?.display().to_string();
    let key = stage.file("key.pem", &made.signing_key.serialize_pem())?.display().to_string();
    let tls = ["--tls-cert", &chain, "--tls-key", &key, "--plaintext", "secured"];
    let server = Example::start(stage, Example::OBJECTS, &[MEMORY], &tls)?;
    let to = format!("localhost:{}", server.port);
    let mut command = client(stage, &to, "password", &[&chain])?;
    let done = run(&mut command, "ada\ncorrect horse battery\n", LIMIT)?;
    ensure!(done.code == Some(0) && done.out == "done\n", "{done:?}");
    ends_even(&server)
}

/// The client of the guide page, as it stands there.
fn guide(stage: &Stage) -> Outcome {
    let page = include_str!("../../../../docs/guide/example-objects.md");
    let code = page.split_once("```python\n").and_then(|(_, rest)| rest.split_once("```"));
    let (code, _) = code.during("the client on the page")?;
    let server = Example::start(stage, Example::OBJECTS, &["memory:ada:countess:bob:b"], &[])?;
    // Its desk is made at the first login.
    let bob = format!("127.0.0.1:{}", server.port);
    let mut bob = client(stage, &bob, "password", &[])?;
    let done = run(&mut bob, "bob\nb\n", LIMIT)?;
    ensure!(done.code == Some(0), "bob: {done:?}");
    ensure!(code.contains("\"7000\""), "the port on the page");
    let code = code.replace("\"7000\"", &format!("\"{}\"", server.port));
    let script = stage.file("guide.py", &code)?;
    let mut command = Command::new(Environment::find_pycapnp()?.program("python"));
    let done = run(command.arg("-B").arg(script).current_dir(stage.path()), "", LIMIT)?;
    ensure!(done.code == Some(0), "{done:?}");
    let heard = "* Welcome, ada\nover: logged out\n";
    ensure!(done.out == heard, "{done:?}");
    ends_even(&server)?;
    server.end()
}
