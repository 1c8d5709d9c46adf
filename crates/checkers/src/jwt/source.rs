//! Where keys come from: read once, kept, and read again when that may help.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use countersign::Fault;

use super::fetch::Fetcher;
use super::{JwtError, KeySet, KeysAt};

/// For how long keys of an address are taken without asking, in milliseconds.
const FRESH_MS: u64 = 10 * 60 * 1000;
/// For how long they are taken when the address does not answer. Then a key that was withdrawn is forgotten.
const STALE_MS: u64 = 24 * 60 * 60 * 1000;
/// Whatever tokens name as their key, the address is not asked more often, in milliseconds.
const RETRY_MS: u64 = 30 * 1000;
/// A file is looked at no more often, in milliseconds.
const LOOK_MS: u64 = 1000;
/// No file of keys is longer, in bytes.
const FILE_BYTES: u64 = 1024 * 1024;

pub(super) struct Source {
    from: From,
    kept: Mutex<Kept>,
    /// One at a time asks.
    asking: tokio::sync::Mutex<()>,
}

enum From {
    File(PathBuf),
    Address(String, Fetcher),
}

#[derive(Default)]
struct Kept {
    set: Option<Arc<KeySet>>,
    /// Of the file: when it was written, and its length.
    mark: Option<(SystemTime, u64)>,
    /// On the steady clock: when the set was read, and when somebody last tried to.
    read_ms: u64,
    asked_ms: Option<u64>,
}

impl Source {
    pub(super) fn new(
        keys: &KeysAt,
        ca: Option<&Path>,
        timeout: Duration,
    ) -> Result<Self, JwtError> {
        let mut kept = Kept::default();
        let from = match keys {
            KeysAt::File(path) => {
                let wrong = |what| JwtError { key: "keys", what };
                let (set, mark) = read(path).map_err(wrong)?;
                kept.set = Some(Arc::new(set));
                kept.mark = Some(mark);
                From::File(path.clone())
            }
            KeysAt::Address(address) => {
                From::Address(address.clone(), Fetcher::new(address, ca, timeout)?)
            }
        };
        Ok(Self { from, kept: Mutex::new(kept), asking: tokio::sync::Mutex::default() })
    }

    /// The keys that count now.
    pub(super) async fn keys(&self, now_ms: u64) -> Result<Arc<KeySet>, Fault> {
        match &self.from {
            From::File(path) => Ok(self.of_file(path, now_ms)?),
            From::Address(..) => {
                if let Some(set) = self.within(now_ms, FRESH_MS) {
                    return Ok(set);
                }
                let asked = self.ask(now_ms, |source| source.within(now_ms, FRESH_MS)).await;
                match (asked, self.within(now_ms, STALE_MS)) {
                    (Ok(set), _) => Ok(set),
                    // What it said before is better than nothing.
                    (Err(_), Some(set)) => Ok(set),
                    (Err(fault), None) => Err(fault),
                }
            }
        }
    }

    /// The keys, when none of these is the one that a token names: newer ones, if there may be some.
    pub(super) async fn newer_keys(&self, now_ms: u64, old: Arc<KeySet>) -> Arc<KeySet> {
        match &self.from {
            // Looked at a moment ago.
            From::File(_) => old,
            From::Address(..) => {
                let newer = |source: &Self| {
                    let set = source.within(now_ms, FRESH_MS)?;
                    (!Arc::ptr_eq(&set, &old)).then_some(set)
                };
                self.ask(now_ms, newer).await.unwrap_or_else(|_| Arc::clone(&old))
            }
        }
    }

    fn within(&self, now_ms: u64, age_ms: u64) -> Option<Arc<KeySet>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.set.clone().filter(|_| now_ms.saturating_sub(kept.read_ms) < age_ms)
    }

    /// Asks the address, unless somebody else has found what is wanted meanwhile, or it was asked just now.
    async fn ask(
        &self,
        now_ms: u64,
        found: impl Fn(&Self) -> Option<Arc<KeySet>>,
    ) -> Result<Arc<KeySet>, Fault> {
        let From::Address(address, fetcher) = &self.from else {
            return Err(Fault::internal("a file of keys was asked as an address"));
        };
        let _one = self.asking.lock().await;
        if let Some(set) = found(self) {
            return Ok(set);
        }
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.asked_ms.is_some_and(|asked| now_ms.saturating_sub(asked) < RETRY_MS) {
                return Err(Fault::unavailable(format!("{address} was asked a moment ago")));
            }
            kept.asked_ms = Some(now_ms);
        }
        let read = match fetcher.fetch(address).await {
            Ok(body) => KeySet::parse(&body),
            Err(why) => Err(why),
        };
        let set = read.map(Arc::new).map_err(|why| {
            tracing::warn!(address, why, "the keys of an issuer cannot be read");
            Fault::unavailable(format!("the keys at {address}: {why}"))
        })?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.set = Some(Arc::clone(&set));
        kept.read_ms = now_ms;
        Ok(set)
    }

    /// The keys of a file, which is read again when it has changed. One that cannot be read changes nothing.
    fn of_file(&self, path: &Path, now_ms: u64) -> Result<Arc<KeySet>, Fault> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let looked = kept.asked_ms.is_some_and(|looked| now_ms.saturating_sub(looked) < LOOK_MS);
        if !looked {
            kept.asked_ms = Some(now_ms);
            let found = mark(path).ok();
            if found.is_some() && found != kept.mark {
                kept.mark = found;
                match read(path) {
                    Ok((set, mark)) => {
                        kept.set = Some(Arc::new(set));
                        kept.mark = Some(mark);
                    }
                    Err(why) => {
                        tracing::warn!(path = %path.display(), why, "the keys before still count");
                    }
                }
            }
        }
        kept.set.clone().ok_or_else(|| Fault::internal("a file of keys was never read"))
    }
}

fn mark(path: &Path) -> std::io::Result<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.modified()?, metadata.len()))
}

fn read(path: &Path) -> Result<(KeySet, (SystemTime, u64)), String> {
    use std::io::Read as _;

    let shown = path.display();
    let cannot = |error: std::io::Error| format!("{shown} cannot be read: {error}");
    let mark = mark(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(cannot)?;
    file.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(format!("{shown} is longer than {FILE_BYTES} bytes"));
    }
    let set = KeySet::parse(&bytes).map_err(|why| format!("{shown}: {why}"))?;
    Ok((set, mark))
}
