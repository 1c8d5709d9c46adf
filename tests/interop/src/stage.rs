//! The private folder of one case.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::{Context, Outcome};

/// How much of a log is worth showing after a failure.
const TAIL: usize = 6 * 1024;

/// A folder under the system's temporary folder, removed when dropped. It is open for
/// reading by everybody (0755), because Postfix's and Dovecot's processes run as their own
/// users; nothing secret but test passwords is in it. Its path is short, because a Unix
/// socket's path may have 107 bytes only.
#[derive(Debug)]
pub struct Stage {
    folder: tempfile::TempDir,
}

impl Stage {
    /// Makes the folder.
    pub fn new() -> Outcome<Self> {
        let folder = tempfile::Builder::new()
            .prefix("cs-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .during("making a temporary folder")?;
        Ok(Self { folder })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A path in the folder; nothing is made.
    pub fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a folder in it, of mode 0755, and gives its path.
    pub fn folder(&self, name: &str) -> Outcome<PathBuf> {
        let path = self.at(name);
        fs::create_dir_all(&path).during(path.display())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).during(path.display())?;
        Ok(path)
    }

    /// Writes a file into it, readable by everybody, and gives its path.
    pub fn file(&self, name: &str, text: &str) -> Outcome<PathBuf> {
        self.file_for(name, text, 0o644)
    }

    /// Writes a file into it that only its owner may read, and gives its path.
    pub fn secret(&self, name: &str, text: &str) -> Outcome<PathBuf> {
        self.file_for(name, text, 0o600)
    }

    fn file_for(&self, name: &str, text: &str, mode: u32) -> Outcome<PathBuf> {
        let path = self.at(name);
        fs::write(&path, text).during(path.display())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).during(path.display())?;
        Ok(path)
    }

    /// The end of each log in the folder (every `*.log`, two levels deep), for a report.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        let mut folders = vec![self.folder.path().to_path_buf()];
        let mut next = 0;
        while let Some(folder) = folders.get(next).cloned() {
            next += 1;
            let mut entries: Vec<_> =
                fs::read_dir(&folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
            entries.sort();
            for path in entries {
                if path.is_dir() && folders.len() < 64 {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "log") {
                    let bytes = fs::read(&path).unwrap_or_default();
                    let tail = &bytes[bytes.len().saturating_sub(TAIL)..];
                    if !tail.is_empty() {
                        let name = path.strip_prefix(self.path()).unwrap_or(&path);
                        text += &format!("--- {} ---\n", name.display());
                        text += &String::from_utf8_lossy(tail);
                        text += "\n";
                    }
                }
            }
        }
        text
    }
}

/// A TCP port of 127.0.0.1 that nobody listens on at the moment. Somebody could take it
/// before the peer does; the kernel hands them out in turn, so that is rare.
pub fn free_port() -> Outcome<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").during("looking for a free port")?;
    Ok(listener.local_addr().during("looking for a free port")?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_shown_from_their_end() {
        let stage = Stage::new().unwrap();
        stage.folder("deep").unwrap();
        let long = format!("start{}end", "x".repeat(2 * TAIL));
        stage.file("deep/peer.log", &long).unwrap();
        let shown = stage.logs();
        assert!(shown.contains("deep/peer.log"), "{shown}");
        assert!(shown.contains("end") && !shown.contains("start"));
    }

    #[test]
    fn the_folder_goes_away() {
        let stage = Stage::new().unwrap();
        let path = stage.path().to_path_buf();
        assert!(path.is_dir());
        drop(stage);
        assert!(!path.exists());
    }
}
