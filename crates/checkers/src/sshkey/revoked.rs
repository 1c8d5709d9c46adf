//! Keys that count no more: sshd's `RevokedKeys` in its plain form, with certificates by number and id as
//! `ssh-keygen -k` takes them. Its binary form (KRL) is not read.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::path::Path;

use super::certificate::{Certificate, fingerprint};
use super::listed::Listed;

/// No list is longer, in bytes.
const LONGEST: u64 = 16 * 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct Revoked {
    blobs: HashSet<Vec<u8>>,
    fingerprints: HashSet<String>,
    serials: Vec<RangeInclusive<u64>>,
    ids: HashSet<String>,
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
            return Err(format!(
                "{shown} is a binary KRL, which is not read here; list keys, `SHA256:…`, `serial: N` and \
                 `id: TEXT`, one a line"
            ));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| format!("{shown} is no text"))?;
        Self::read(text)
            .map_err(|line| format!("{shown}:{line}: neither a key nor what revokes one"))
    }

    /// Gives the number of the first line that is not understood.
    fn read(text: &str) -> Result<Self, usize> {
        let mut revoked = Self::default();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            revoked.add(line).ok_or(at + 1)?;
        }
        Ok(revoked)
    }

    fn add(&mut self, line: &str) -> Option<()> {
        if let Some(serials) = line.strip_prefix("serial:") {
            let serials = serials.trim();
            let (from, to) = serials.split_once('-').unwrap_or((serials, serials));
            self.serials.push(from.trim().parse().ok()?..=to.trim().parse().ok()?);
        } else if let Some(id) = line.strip_prefix("id:") {
            self.ids.insert(id.trim().to_owned());
        } else if line.starts_with("SHA256:") {
            self.fingerprints.insert(line.trim_end_matches('=').to_owned());
        } else {
            let listed = Listed::read(line).ok()??;
            self.blobs.insert(listed.blob);
        }
        Some(())
    }

    /// Whether a key, or a certificate about it, counts no more.
    pub(super) fn has(&self, shown: &[u8], key: &[u8], certificate: Option<&Certificate>) -> bool {
        let authority = certificate.map(|certificate| certificate.authority.as_slice());
        let blobs = [Some(shown), Some(key), authority];
        let listed = blobs.into_iter().flatten().any(|blob| {
            let by_name =
                || fingerprint(blob).is_some_and(|f| self.fingerprints.contains(&f.to_string()));
            self.blobs.contains(blob) || by_name()
        });
        listed
            || certificate.is_some_and(|certificate| {
                self.ids.contains(&certificate.id)
                    || self.serials.iter().any(|serials| serials.contains(&certificate.serial))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_not_understood_is_told() {
        assert!(Revoked::read("# gone\n\nserial: 5-7\nid: laptop\nSHA256:abc\n").is_ok());
        for (text, line) in [("\nx", 2), ("serial: x", 1), ("serial: 1-", 1), ("ssh-rsa AAAA", 1)] {
            assert_eq!(Revoked::read(text).unwrap_err(), line, "{text}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"SSHKRL\n\0\0\0\0").unwrap();
        assert!(Revoked::open(file.path()).unwrap_err().contains("binary KRL"));
        assert!(Revoked::open(Path::new("/no/such/file")).is_err());
    }
}
