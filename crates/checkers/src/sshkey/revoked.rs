//! Keys that count no more: sshd's `RevokedKeys`, as a list of lines with certificates by number and id as
//! `ssh-keygen -k` takes them, or in the binary form that it makes of that.

use std::collections::HashSet;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::certificate::Certificate;
use super::krl::{self, Serials};
use super::listed::Listed;

/// No list is longer, in bytes.
const LONGEST: u64 = 16 * 1024 * 1024;

/// What counts no more.
#[derive(Debug, Default)]
pub(super) struct Revoked {
    keys: HashSet<Vec<u8>>,
    sha1: HashSet<[u8; 20]>,
    sha256: HashSet<[u8; 32]>,
    certificates: Vec<Certificates>,
}

/// Certificates of one authority, or of any.
#[derive(Debug)]
pub(super) struct Certificates {
    authority: Option<Vec<u8>>,
    pub(super) serials: Serials,
    pub(super) ids: HashSet<Vec<u8>>,
}

impl Certificates {
    /// None of an authority, by its key; of any, without.
    pub(super) fn of(authority: Option<Vec<u8>>) -> Self {
        Self { authority, serials: Serials::default(), ids: HashSet::new() }
    }

    fn has(&self, certificate: &Certificate) -> bool {
        let about = |authority: &Vec<u8>| *authority == certificate.authority;
        self.authority.as_ref().is_none_or(about)
            && (self.ids.contains(certificate.id.as_bytes())
                || self.serials.contains(certificate.serial))
    }
}

impl Revoked {
    /// Reads a list.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and where. A list that cannot be read whole revokes what nobody knows.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let metadata = std::fs::metadata(path).map_err(|error| format!("{shown}: {error}"))?;
        if metadata.len() > LONGEST {
            return Err(format!("{shown} is longer than {LONGEST} bytes"));
        }
        let bytes = std::fs::read(path).map_err(|error| format!("{shown}: {error}"))?;
        if bytes.starts_with(b"SSHKRL\n") {
            return krl::read(&bytes).map_err(|why| format!("{shown}: {why}"));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| format!("{shown} is no text"))?;
        Self::read(text)
            .map_err(|line| format!("{shown}:{line}: neither a key nor what revokes one"))
    }

    /// Gives the number of the first line that is not understood.
    fn read(text: &str) -> Result<Self, usize> {
        let mut revoked = Self::default();
        let mut certificates = Certificates::of(None);
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            revoked.add(line, &mut certificates).ok_or(at + 1)?;
        }
        certificates.serials.finish();
        revoked.add_certificates(certificates);
        Ok(revoked)
    }

    fn add(&mut self, line: &str, certificates: &mut Certificates) -> Option<()> {
        if let Some(serials) = line.strip_prefix("serial:") {
            let serials = serials.trim();
            let (first, last) = serials.split_once('-').unwrap_or((serials, serials));
            certificates.serials.add(first.trim().parse().ok()?, last.trim().parse().ok()?)?;
        } else if let Some(id) = line.strip_prefix("id:") {
            certificates.ids.insert(id.trim().into());
        } else if let Some(hash) = line.strip_prefix("SHA256:") {
            let hash = STANDARD_NO_PAD.decode(hash.trim_end_matches('=')).ok()?;
            self.add_sha256(hash.try_into().ok()?);
        } else {
            self.add_key(Listed::read(line).ok()??.blob);
        }
        Some(())
    }

    /// Adds a key in wire format.
    pub(super) fn add_key(&mut self, blob: Vec<u8>) {
        self.keys.insert(blob);
    }

    /// Adds a key by its fingerprint.
    pub(super) fn add_sha1(&mut self, fingerprint: [u8; 20]) {
        self.sha1.insert(fingerprint);
    }

    /// Adds a key by its fingerprint.
    pub(super) fn add_sha256(&mut self, fingerprint: [u8; 32]) {
        self.sha256.insert(fingerprint);
    }

    /// Adds certificates.
    pub(super) fn add_certificates(&mut self, certificates: Certificates) {
        self.certificates.push(certificates);
    }

    /// Whether a key, or a certificate about it, counts no more.
    pub(super) fn has(&self, shown: &[u8], key: &[u8], certificate: Option<&Certificate>) -> bool {
        let authority = certificate.map(|certificate| certificate.authority.as_slice());
        let listed = |blob: &[u8]| {
            self.keys.contains(blob)
                || self.sha256.contains(&<[u8; 32]>::from(Sha256::digest(blob)))
                || !self.sha1.is_empty()
                    && self.sha1.contains(&<[u8; 20]>::from(Sha1::digest(blob)))
        };
        let blobs = [Some(shown), Some(key), authority];
        blobs.into_iter().flatten().any(listed)
            || certificate.is_some_and(|shown| self.certificates.iter().any(|all| all.has(shown)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_not_understood_is_told() {
        let hash = format!("SHA256:{}=", "a".repeat(42) + "8");
        let text = format!("# gone\n\nserial: 5-7\nid: laptop\n{hash}\n");
        assert!(Revoked::read(&text).is_ok());
        for (text, line) in [
            ("\nx", 2),
            ("serial: x", 1),
            ("serial: 1-", 1),
            ("serial: 2-1", 1),
            ("SHA256:abc", 1),
            ("ssh-rsa AAAA", 1),
        ] {
            assert_eq!(Revoked::read(text).unwrap_err(), line, "{text}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"SSHKRL\n\0\0\0\0").unwrap();
        assert!(Revoked::open(file.path()).unwrap_err().contains("cut off"));
        assert!(Revoked::open(Path::new("/no/such/file")).is_err());
    }
}
