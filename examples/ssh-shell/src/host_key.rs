//! The server's own key: read from a file, or made at the first start.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use countersign::World;
use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;
use zeroize::Zeroizing;

/// No key is longer, in bytes.
const LONGEST: u64 = 64 * 1024;

/// Reads the key in a file that only its owner may read; where there is none, makes one. A folder that is not there
/// is made for its owner only.
///
/// # Errors
///
/// What is wrong, and what to do.
pub fn provide(path: &Path, world: &dyn World) -> Result<PrivateKey, String> {
    match load(path) {
        Err(Trouble::Missing) => make(path, world),
        Err(Trouble::Told(why)) => Err(why),
        Ok(key) => Ok(key),
    }
}

enum Trouble {
    Missing,
    Told(String),
}

fn load(path: &Path) -> Result<PrivateKey, Trouble> {
    let shown = path.display();
    let told = |why: String| Trouble::Told(format!("{shown}: {why}"));
    let file = fs::File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Trouble::Missing,
        _ => told(error.to_string()),
    })?;
    let metadata = file.metadata().map_err(|error| told(error.to_string()))?;
    if metadata.mode() & 0o077 != 0 {
        return Err(told("others can read it: run `chmod 600` on it".into()));
    }
    let mut text = Zeroizing::new(Vec::new());
    file.take(LONGEST).read_to_end(&mut text).map_err(|error| told(error.to_string()))?;
    let key = PrivateKey::from_openssh(text.as_slice());
    let key = key.map_err(|_| told("no private key as `ssh-keygen` writes it".into()))?;
    if key.is_encrypted() {
        return Err(told("it has a passphrase, which nobody is there to type".into()));
    }
    // The time that the library takes to sign with one tells about it (RUSTSEC-2023-0071).
    match key.algorithm().is_rsa() {
        true => Err(told("it is an RSA key: make one with `ssh-keygen -t ed25519`".into())),
        false => Ok(key),
    }
}

fn make(path: &Path, world: &dyn World) -> Result<PrivateKey, String> {
    let shown = path.display();
    let told = |error: std::io::Error| format!("{shown}: {error}");
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(told)?;
    }
    let mut seed = Zeroizing::new([0; 32]);
    world.fill(&mut *seed);
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
    let text = key.to_openssh(LineEnding::LF).map_err(|error| format!("{shown}: {error}"))?;
    // Written beside and linked into its place: there is never half a key, nor one in the place of another.
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::hard_link(&beside, path)
    })();
    let _ = fs::remove_file(&beside);
    written.map_err(told)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use countersign::testing::StillWorld;

    use super::*;

    #[test]
    fn it_is_made_once_and_kept_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("private/host-key");
        let world = StillWorld::default();
        let made = provide(&path, &world).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        let again = provide(&path, &world).unwrap();
        assert_eq!(made.public_key(), again.public_key());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(provide(&path, &world).unwrap_err().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "no key").unwrap();
        assert!(provide(&path, &world).unwrap_err().contains("ssh-keygen"));
    }
}
