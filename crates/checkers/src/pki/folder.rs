//! A folder of authorities, read again when it changes: lists of revoked certificates are renewed all the time.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use countersign::{Fault, FaultKind};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

use super::Authorities;
use crate::watched::PATIENCE;
use crate::world::coarse;

/// How often a login looks whether anything has changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A folder has no more files, and no file is longer, in bytes.
const MOST_FILES: usize = 10_000;
const LONGEST_FILE: u64 = 64 << 20;

/// The PEM files of a folder: certificates, and lists of revoked ones. The names that `openssl rehash` gives
/// (`5ed36f99.0`, `5ed36f99.r0`) are not needed; a file that is there by two names counts once.
pub struct AuthoritiesFolder {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    loaded: Result<Arc<Authorities>, Fault>,
    /// What the files were when they were read; nothing where a change need not show.
    stamp: Option<Vec<Stamp>>,
    looked: Duration,
    looking: bool,
}

/// Enough of a file to notice a change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stamp {
    path: PathBuf,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl AuthoritiesFolder {
    /// Reads a folder. Blocks; later readings happen beside the runtime.
    ///
    /// # Errors
    ///
    /// A fault when it cannot be read, or a list of revoked certificates in it.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Fault> {
        let path = path.into();
        let (loaded, stamp) = load(&path)?;
        let loaded = Ok(Arc::new(loaded));
        let state = State { loaded, stamp, looked: coarse::steady(), looking: false };
        Ok(Self { inner: Arc::new(Inner { path, state: Mutex::new(state) }) })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The authorities as they are now.
    ///
    /// # Errors
    ///
    /// A fault while they cannot be read.
    pub async fn current(&self) -> Result<Arc<Authorities>, Fault> {
        {
            let (mut state, now) = (self.inner.state(), coarse::steady());
            let age = now.saturating_sub(state.looked);
            if state.looking && age > PATIENCE {
                let what = format!("the folder {} takes too long to read", self.path().display());
                return Err(Fault::new(FaultKind::Timeout, what));
            }
            if state.looking || age < LOOK_EVERY {
                return state.loaded.clone();
            }
            state.looked = now;
            state.looking = true;
        }
        let look = Look(Arc::clone(&self.inner));
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                let looked = runtime.spawn_blocking(move || look.take()).await;
                looked.map_err(|error| Fault::internal("reading authorities").caused_by(error))?
            }
            Err(_) => look.take(),
        }
    }
}

impl std::fmt::Debug for AuthoritiesFolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthoritiesFolder").field("path", &self.path()).finish_non_exhaustive()
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A look whether the folder has changed. However it ends, the next one may begin.
struct Look(Arc<Inner>);

impl Look {
    fn take(self) -> Result<Arc<Authorities>, Fault> {
        let path = &self.0.path;
        let before = self.0.state().stamp.clone();
        let same = before.is_some_and(|before| stamps(path).is_ok_and(|now| now == before));
        if !same {
            let read = load(path);
            let mut state = self.0.state();
            match read {
                Ok((loaded, stamp)) => {
                    tracing::debug!(path = %path.display(), ?loaded, "read the authorities again");
                    state.loaded = Ok(Arc::new(loaded));
                    state.stamp = stamp;
                }
                Err(fault) => {
                    if state.loaded.is_ok() {
                        tracing::error!("{fault}; nobody gets in by a certificate until then");
                    }
                    state.loaded = Err(fault);
                    state.stamp = None;
                }
            }
        }
        self.0.state().loaded.clone()
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        self.0.state().looking = false;
    }
}

/// The files, in order.
fn stamps(folder: &Path) -> std::io::Result<Vec<Stamp>> {
    let mut stamps = Vec::new();
    for entry in std::fs::read_dir(folder)?.take(MOST_FILES + 1) {
        let path = entry?.path();
        // Through links: `openssl rehash` makes them. One that leads nowhere is no file.
        let Ok(found) = std::fs::metadata(&path) else { continue };
        if !found.is_file() {
            continue;
        }
        stamps.push(Stamp {
            path,
            inode: found.ino(),
            size: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        });
    }
    if stamps.len() > MOST_FILES {
        return Err(std::io::Error::other("more files than a folder of authorities has"));
    }
    stamps.sort();
    Ok(stamps)
}

fn load(folder: &Path) -> Result<(Authorities, Option<Vec<Stamp>>), Fault> {
    let cannot = |path: &Path, why: &dyn std::fmt::Display| {
        Fault::unavailable(format!("cannot read {}: {why}", path.display()))
    };
    let stamps = stamps(folder).map_err(|error| cannot(folder, &error))?;
    let mut authorities = Authorities::default();
    let mut read = std::collections::BTreeSet::new();
    for Stamp { path, inode, size, .. } in &stamps {
        if !read.insert(inode) {
            continue;
        }
        if *size > LONGEST_FILE {
            return Err(cannot(path, &"it is longer than 64 MiB"));
        }
        let text = std::fs::read(path).map_err(|error| cannot(path, &error))?;
        let mut lists = 0;
        for list in CertificateRevocationListDer::pem_slice_iter(&text) {
            // Without it, what it revokes would be accepted.
            let list = list.map_err(|error| cannot(path, &error))?;
            authorities.add_list(&list).map_err(|why| cannot(path, &why))?;
            lists += 1;
        }
        if lists == 0 && is_list(path) {
            return Err(cannot(
                path,
                &"by its name a list of revoked certificates, and there is none in PEM",
            ));
        }
        for certificate in CertificateDer::pem_slice_iter(&text) {
            let added = match certificate {
                Ok(certificate) => authorities.add(certificate).map_err(|why| why.to_string()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(why) = added {
                tracing::warn!(path = %path.display(), why, "a certificate is left out");
            }
        }
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    // What is changed again within the tick of the file system's clock does not show.
    let settled = stamps.iter().all(|stamp| (now - stamp.changed.0).abs() > 2);
    Ok((authorities, settled.then_some(stamps)))
}

/// Names that lists have: `5ed36f99.r0`, `authority.crl`.
fn is_list(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let numbered = ending
        .strip_prefix('r')
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()));
    numbered || ending == "crl"
}
