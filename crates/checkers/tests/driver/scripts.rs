//! Drivers in a folder of their own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) struct Scripts(tempfile::TempDir);

impl Scripts {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    /// An executable of that name, in a folder of its own, as OpenNebula has it.
    pub(crate) fn write(&self, name: &str, script: &str) -> PathBuf {
        let folder = self.folder().join(name);
        fs::create_dir(&folder).unwrap();
        let path = folder.join("authenticate");
        // Written elsewhere first: a program that is open for writing cannot be executed, and another test's launcher
        // may just have inherited the descriptor.
        let draft = folder.join("draft");
        fs::write(&draft, script).unwrap();
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).unwrap();
        let copied = std::process::Command::new("cp").arg("-p").args([&draft, &path]).status();
        assert!(copied.unwrap().success());
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder().join(name)).unwrap()
    }

    /// Waits until no process is left of which the command line or the environment names the driver's folder.
    pub(crate) async fn until_gone(&self, name: &str) {
        let marked = self.folder().join(name);
        while there_is(marked.to_str().unwrap()) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn there_is(mark: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|process| {
        ["cmdline", "environ"].iter().any(|file| {
            fs::read(process.path().join(file)).is_ok_and(|text| memchr(&text, mark.as_bytes()))
        })
    })
}

fn memchr(text: &[u8], mark: &[u8]) -> bool {
    text.windows(mark.len()).any(|window| window == mark)
}
