//! `[store]`: where the accounts are.

use std::path::{Path, PathBuf};

use countersign::Secret;
use countersign_checkers::kinds::secret_file;
use countersign_store::Location;
use serde::{Deserialize, Deserializer};

/// `[store]`: at most one of the three.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSection {
    /// The SQLite file; `accounts.db` when nothing is said.
    pub path: Option<PathBuf>,
    /// A PostgreSQL database, which other nodes may use too.
    #[serde(deserialize_with = "secret")]
    pub url: Option<Secret>,
    /// A file with that URL, which contains a password. `$CREDENTIALS_DIRECTORY/NAME` is what systemd calls
    /// a credential.
    pub url_file: Option<PathBuf>,
}

impl StoreSection {
    /// Where the store is; relative paths are below `data`. The error says what to do, and shows no URL.
    pub(super) fn location(&self, data: &Path) -> Result<Location, String> {
        let location = match (&self.path, &self.url, &self.url_file) {
            (path, None, None) => {
                let path = path.as_deref().unwrap_or(Path::new("accounts.db"));
                return Ok(Location::from(data.join(path)));
            }
            (None, Some(url), None) => location(url.to_str().unwrap_or_default()),
            (None, None, Some(file)) => {
                let told = |why: String| format!("`url_file` {} {why}", file.display());
                let url = secret_file(data, file).map_err(told)?;
                location(url.to_str().unwrap_or_default().trim())
            }
            _ => return Err("has one of `path`, `url` and `url_file`: leave the others out".into()),
        };
        location.ok_or_else(|| {
            "wants a URL that begins with `postgres://`; a file is `path = \"accounts.db\"`".into()
        })
    }
}

fn location(url: &str) -> Option<Location> {
    let location = Location::from(url);
    location.file().is_none().then_some(location)
}

fn secret<'de, D: Deserializer<'de>>(text: D) -> Result<Option<Secret>, D::Error> {
    let text = String::deserialize(text)?;
    Ok(Some(Secret::from(text.into_bytes())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn read(text: &str, data: &Path) -> Result<String, String> {
        let section: StoreSection = toml::from_str(text).unwrap();
        assert!(!format!("{section:?}").contains("s3cret"));
        section.location(data).map(|location| location.to_string())
    }

    #[test]
    fn one_of_three() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        assert_eq!(read("", data).unwrap(), data.join("accounts.db").display().to_string());
        assert_eq!(read("path = '/a/b'", data).unwrap(), "/a/b");
        let url = "url = 'postgres://u:s3cret@h/d'";
        assert_eq!(read(url, data).unwrap(), "postgres://u@h/d");
        assert!(read(&format!("{url}\npath = 'x'"), data).unwrap_err().contains("one of"));
        let wrong = read("url = 'mysql://u:s3cret@h/d'", data).unwrap_err();
        assert!(wrong.contains("postgres://") && !wrong.contains("s3cret"), "{wrong}");
    }

    #[test]
    fn a_file_keeps_the_password() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("url");
        let text = "url_file = 'url'";
        assert!(read(text, folder.path()).unwrap_err().contains("cannot be read"));
        std::fs::write(&file, "postgres://u:s3cret@h/d\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read(text, folder.path()).unwrap_err().contains("chmod 600"));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(read(text, folder.path()).unwrap(), "postgres://u@h/d");
        let lacking = "url_file = '$CREDENTIALS_DIRECTORY/url'";
        assert!(read(lacking, folder.path()).unwrap_err().contains("LoadCredential"));
    }
}
