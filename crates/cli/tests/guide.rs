//! The examples of `docs/guide/cli.md` and `docs/guide/migration.md`, run as they stand there.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Folder, Server};
use countersign_server::admin::When;

#[test]
fn every_example_is_true() {
    examples_of("cli.md", 10);
}

#[test]
fn every_example_of_a_migration_is_true() {
    examples_of("migration.md", 4);
}

fn examples_of(guide: &str, least: usize) {
    let folder = Folder::bare();
    let server = Server::on(&folder);
    // The guide's server is on the default port; the one of a test is wherever there was room.
    let program = env!("CARGO_BIN_EXE_countersign");
    let wrapper = format!(
        "#!/bin/sh\nif [ \"$1\" = login ]; then shift; set -- login --server {} \"$@\"; fi\n\
         exec {program} \"$@\"\n",
        server.url
    );
    let wrapper = folder.file("countersign", &wrapper);
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o700)).unwrap();

    let guides = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide");
    let guide = std::fs::read_to_string(guides.join(guide)).unwrap();
    let mut examples = 0;
    for block in guide.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap();
        for example in block.split("$ ").skip(1) {
            let (command, expected) = example.split_once('\n').unwrap();
            check(folder.path(), command, expected);
            examples += 1;
        }
    }
    assert!(examples >= least, "{examples}");
}

fn check(folder: &Path, command: &str, expected: &str) {
    // What a server decided is in the store within a second, and only there can a query see it.
    let waits =
        command.starts_with("countersign audit") || command.starts_with("countersign explain");
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let found = run(folder, command);
        if alike(&found) == alike(expected) {
            return;
        }
        assert!(
            waits && Instant::now() < deadline,
            "{command}\nfound\n{found}\nand the guide says\n{expected}"
        );
    }
}

fn run(folder: &Path, command: &str) -> String {
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{{ {command}\n}} 2>&1")]).current_dir(folder);
    // Whoever runs the tests, root included, has their data here.
    shell.env("PATH", path).env("STATE_DIRECTORY", folder);
    String::from_utf8(shell.output().unwrap().stdout).unwrap()
}

/// Lines of words, with what differs from run to run taken out: times, the user id, widths of columns.
fn alike(text: &str) -> Vec<Vec<String>> {
    let word = |word: &str| match word.parse::<When>() {
        // A time of the example's own is to be as it is.
        Ok(_) if word.starts_with("2030") => word.to_owned(),
        Ok(_) => "TIME".to_owned(),
        Err(_) => word.to_owned(),
    };
    let line = |line: &str| {
        let mut words: Vec<_> = line.split_whitespace().map(word).collect();
        for at in 1..words.len() {
            if words[at - 1] == "uid" {
                words[at] = "UID".to_owned();
            }
        }
        words
    };
    text.trim_end().lines().map(line).collect()
}
