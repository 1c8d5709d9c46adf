//! `docs/guide/embed.md` and this program are the same, and it works over a socket.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use countersign_interop::{Peer, Stage, run};

const PROGRAM: &str = env!("CARGO_BIN_EXE_countersign-example-embed");
const LIMIT: Duration = Duration::from_secs(30);

fn text(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_page_shows_this_program_and_it_has_sixty_lines() {
    let (page, program) = (text("../../docs/guide/embed.md"), text("src/main.rs"));
    let block = page.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next());
    assert_eq!(block, Some(&*program), "docs/guide/embed.md shows another program");
    assert!(program.lines().count() <= 60, "{} lines", program.lines().count());
}

/// Starts it, and connects to it.
fn connected(stage: &Stage, auth: &[&str]) -> (Peer, TcpStream) {
    let mut command = Command::new(PROGRAM);
    command.args(["--listen", "127.0.0.1:0"]);
    for auth in auth {
        command.args(["--auth", auth]);
    }
    let mut server = Peer::start(stage, "embed", &mut command).expect("it starts");
    let log = stage.at("embed.log");
    let address = server.until("its address", LIMIT, || {
        let said = std::fs::read_to_string(&log).ok()?;
        said.lines().find_map(|line| line.strip_prefix("listening on ").map(str::to_owned))
    });
    let stream = TcpStream::connect(address.expect("it listens")).expect("it is there");
    stream.set_read_timeout(Some(LIMIT)).expect("a deadline");
    stream.set_write_timeout(Some(LIMIT)).expect("a deadline");
    (server, stream)
}

/// Says lines and hears the replies, until it has nothing more to say.
fn conversation(auth: &[&str], lines: &str) -> Vec<String> {
    let stage = Stage::new().expect("a folder");
    let (_server, mut stream) = connected(&stage, auth);
    stream.write_all(lines.as_bytes()).expect("it hears");
    stream.shutdown(Shutdown::Write).expect("it hears the end");
    BufReader::new(stream).lines().map(|line| line.expect("it answers")).collect()
}

#[test]
fn it_does_what_the_page_shows() {
    let page = text("../../docs/guide/embed.md");
    let (_, shown) = page.split_once("printf '").expect("the page talks to it");
    let (said, rest) = shown.split_once("' | nc").expect("the page talks to it");
    let heard = rest.split("```").next().unwrap_or_default().lines().skip(1);
    let found = conversation(&["memory:ada:countess"], &said.replace("\\n", "\n"));
    assert_eq!(found, heard.collect::<Vec<_>>());
}

#[test]
fn several_checkers_are_asked_in_order() {
    let stage = Stage::new().expect("a folder");
    let users = stage.file("users", "bob:{PLAIN}builder\n").expect("a file");
    let file = format!("file:{}?allow_plain=yes", users.display());
    let lines =
        "LOGIN ada countess\nWHOAMI\nLOGIN bob builder\nWHOAMI\nLOGIN bob countess\nWHOAMI\n";
    let heard = conversation(&["memory:ada:countess", &file], lines);
    assert_eq!(
        heard,
        ["OK", "ada, at your desk", "OK", "bob, at your desk", "NO", "nobody"],
        "and a login that fails logs out"
    );
}

#[test]
fn whoever_says_too_much_is_not_heard_out() {
    let stage = Stage::new().expect("a folder");
    let (_server, mut stream) = connected(&stage, &["memory:ada:countess"]);
    // It may have hung up before all is said.
    let _ = stream.write_all("x".repeat(100 * 1024).as_bytes());
    let mut heard = Vec::new();
    match stream.read_to_end(&mut heard) {
        Ok(_) => assert!(heard.is_empty() || heard == b"BYE\n", "{}", heard.len()),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

#[test]
fn nobody_to_ask_is_an_error_of_the_start() {
    let done = run(Command::new(PROGRAM).args(["--listen", "127.0.0.1:0"]), "", LIMIT);
    let done = done.expect("it ends");
    assert_eq!(done.code, Some(2), "{}", done.err);
    assert!(done.err.contains("--help-auth"), "{}", done.err);
    let mut help = Command::new(PROGRAM);
    help.args(["--listen", "127.0.0.1:0", "--help-auth"]);
    let help = run(&mut help, "", LIMIT).expect("it ends");
    assert!(help.code == Some(0) && help.out.contains("memory"), "{}", help.out);
}
