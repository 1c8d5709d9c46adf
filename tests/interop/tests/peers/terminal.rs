//! A person at a terminal: `countersign login`.

use countersign_interop::runner::{Case, case};
use countersign_interop::{Countersign, Outcome, Profile, Stage, Terminal, binary, ensure, user};

pub(crate) const CASES: &[Case] = &[
    case("terminal_login_right", right),
    case("terminal_login_wrong", wrong),
    case("terminal_login_given_up", given_up),
];

const PASSWORD: &str = "correct horse battery";

fn open(stage: &Stage) -> Outcome<(Countersign, Terminal)> {
    let server = Countersign::start(stage, Profile::Debug, None)?;
    user(Profile::Debug, &server.data, &["add", "alice", "--password-stdin"], PASSWORD)?;
    let url = format!("http://{}", server.http);
    let terminal = Terminal::open(stage, &binary(Profile::Debug)?, &["login", "--server", &url])?;
    Ok((server, terminal))
}

/// Types name and password, checks that the password is not seen, and gives the last screen.
fn log_in(terminal: &Terminal, password: &str) -> Outcome<String> {
    // The prompts begin with a capital or not; "ser" and "assword" stand for both.
    terminal.shows("ser")?;
    terminal.enter("alice")?;
    terminal.shows("assword")?;
    terminal.enter(password)?;
    let screen = terminal.shows("ended: ")?;
    ensure!(screen.contains("alice"), "the name is not echoed:\n{screen}");
    ensure!(!screen.contains(password), "the password is echoed:\n{screen}");
    Ok(screen)
}

fn right(stage: &Stage) -> Outcome {
    let (_server, terminal) = open(stage)?;
    let screen = log_in(&terminal, PASSWORD)?;
    ensure!(screen.contains("ended: 0"), "it should end with 0:\n{screen}");
    Ok(())
}

fn wrong(stage: &Stage) -> Outcome {
    let (_server, terminal) = open(stage)?;
    let screen = log_in(&terminal, "mistyped phrase")?;
    ensure!(!screen.contains("ended: 0"), "it should not end with 0:\n{screen}");
    ensure!(screen.contains("refused"), "it should say so:\n{screen}");
    Ok(())
}

fn given_up(stage: &Stage) -> Outcome {
    let (_server, terminal) = open(stage)?;
    terminal.shows("ser")?;
    terminal.press("C-c")?;
    let screen = terminal.shows("ended: ")?;
    ensure!(!screen.contains("ended: 0"), "Ctrl-C is not a login:\n{screen}");
    Ok(())
}
