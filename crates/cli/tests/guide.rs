//! The examples of the guide: commands are run as they stand there, and configurations are read.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Folder, Server};
use countersign_server::admin::When;
use countersign_server::config::Config;
use countersign_server::registry;

#[test]
fn every_example_is_true() {
    examples_of("cli.md", 10);
}

#[test]
fn every_example_of_a_migration_is_true() {
    examples_of("migration.md", 4);
}

#[test]
fn every_example_of_a_policy_is_true() {
    examples_of("policy.md", 1);
}

#[test]
fn every_example_of_a_string_is_true() {
    examples_of("auth-strings.md", 9);
}

#[test]
fn every_example_of_throttling_is_true() {
    examples_of("throttling.md", 4);
}

/// Each is a configuration by itself, unless it is marked as a fragment.
#[test]
fn every_configuration_is_one() {
    let folder = Folder::bare();
    let mut configurations = 0;
    for entry in std::fs::read_dir(guides()).unwrap() {
        let page = entry.unwrap().path();
        for (kind, text) in blocks(&std::fs::read_to_string(&page).unwrap()) {
            if kind != "toml" {
                continue;
            }
            let file = folder.file("countersign.toml", &text);
            let read = Config::load(&file, folder.path(), &registry::built_in());
            let error = read.err().map(|error| error.to_string()).unwrap_or_default();
            // What this build or this machine does not have is not the page's mistake.
            let elsewhere = ["this build has no", "No such file"];
            let fine = error.is_empty() || elsewhere.iter().any(|part| error.contains(part));
            assert!(fine, "{}: {error}", page.display());
            configurations += 1;
        }
    }
    assert!(configurations > 15, "{configurations}");
}

/// The table of contradictions: what is in code in the first column is a rule, and the second is the error.
#[test]
fn every_contradiction_is_told_as_it_stands_there() {
    let folder = Folder::bare();
    let page = std::fs::read_to_string(guides().join("policy.md")).unwrap();
    let section = page.split("## Contradictions").nth(1).unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut contradictions = 0;
    for row in rows {
        let (rule, error) = row.strip_suffix(" |").unwrap().split_once("` | ").unwrap();
        let text = format!("[[policy.rules]]\n{}\n", rule.replace("` `", "\n"));
        let file = folder.file("countersign.toml", &text);
        let said = folder.fails(1, &["check-config", "--config", file.to_str().unwrap()], "");
        assert!(said.contains(error), "{text}the guide says\n{error}\nand it is\n{said}");
        assert!(said.contains("countersign.toml:"), "no place: {said}");
        contradictions += 1;
    }
    assert!(contradictions > 20, "{contradictions}");
    let guests = "[checker.accounts.main]\n[checker.file.guests]\npath = \"guests\"\n";
    let several: String =
        (0..65).map(|i| format!("[[policy.rules]]\nservice = \"s{i}\"\nallow = true\n")).collect();
    for (text, error) in [
        (guests, "is a second checker, and no order is given"),
        (&format!("{guests}[policy]\ncheckers = [\"accounts.main\"]"), "nobody asks the checker"),
        (&"[[policy.rules]]\nallow = true\n".repeat(2), "never decides"),
        (&several, "and there may be 64"),
    ] {
        assert!(section.contains(&format!("| {error} |")), "the guide does not tell: {error}");
        let file = folder.file("countersign.toml", text);
        let said = folder.fails(1, &["check-config", "--config", file.to_str().unwrap()], "");
        assert!(said.contains(error), "{error}\n{said}");
    }
}

fn guides() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide")
}

/// What a page shows in fences, each with what it is.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else { continue };
        let text: Vec<_> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
        blocks.push((kind.to_owned(), text.join("\n") + "\n"));
    }
    blocks
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

    let guide = std::fs::read_to_string(guides().join(guide)).unwrap();
    let mut examples = 0;
    for (kind, text) in blocks(&guide) {
        match kind.as_str() {
            // The file that the examples after it are about.
            "toml" => drop(folder.file("countersign.toml", &text)),
            "console" => {
                for example in text.split("$ ").skip(1) {
                    let (command, expected) = example.split_once('\n').unwrap();
                    check(folder.path(), command, expected);
                    examples += 1;
                }
            }
            _ => {}
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
