//! Secrets in files of their own: the one place that reads them.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use countersign::Secret;
use zeroize::Zeroizing;

/// No secret in a file is longer, in bytes.
const LONGEST: usize = 8192;

/// What stands for the folder of systemd's credentials.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// A secret in a file that only its owner and group may read, without the end of its line. A relative path is
/// below `base`, and `$CREDENTIALS_DIRECTORY/NAME` is what systemd calls a credential.
///
/// # Errors
///
/// What is wrong with the file, and what to do; to be put after the file's name.
pub fn secret_file(base: &Path, file: &Path) -> Result<Secret, String> {
    let secret = read(&base.join(expand(file)?))?;
    let bytes = secret.strip_suffix(b"\n").unwrap_or(&secret);
    Ok(Secret::from(bytes.strip_suffix(b"\r").unwrap_or(bytes)))
}

fn expand(file: &Path) -> Result<PathBuf, String> {
    let Ok(name) = file.strip_prefix(format!("${CREDENTIALS}")) else { return Ok(file.to_owned()) };
    let folder = std::env::var_os(CREDENTIALS).ok_or_else(|| {
        format!(
            "wants a credential, and there is no ${CREDENTIALS}: start with systemd's `LoadCredential=`"
        )
    })?;
    Ok(Path::new(&folder).join(name))
}

fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let open = File::open(file).map_err(cannot)?;
    let mode = open.metadata().map_err(cannot)?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err("holds a secret and is open to everybody: run `chmod 600` on it".into());
    }
    // With room for all of it: growing would leave a copy behind, unwiped.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 1));
    open.take(LONGEST as u64 + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() > LONGEST {
        return Err(format!("is longer than {LONGEST} bytes, and so no secret"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions, write};

    use super::*;

    #[test]
    fn a_secret_is_its_owner_s_and_has_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let (base, path) = (folder.path(), folder.path().join("key"));
        let file = Path::new("key");
        assert!(secret_file(base, file).unwrap_err().contains("cannot be read"));
        for (text, secret) in [("s3cret\n", "s3cret"), ("s3cret\r\n", "s3cret"), (" a ", " a ")] {
            write(&path, text).unwrap();
            set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
            assert_eq!(secret_file(base, file).unwrap(), Secret::from(secret));
        }
        for mode in [0o644, 0o602, 0o601] {
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert!(secret_file(base, file).unwrap_err().contains("chmod 600"), "{mode:o}");
        }
        set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        write(&path, [b'x'; LONGEST + 1]).unwrap();
        // Half of a secret is another one.
        assert!(secret_file(base, file).unwrap_err().contains("longer than"));
        write(&path, [b'x'; LONGEST]).unwrap();
        assert_eq!(secret_file(base, file).unwrap().len(), LONGEST);
    }
}
