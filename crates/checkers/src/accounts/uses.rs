//! When a credential was last used: for people, so it may lag, and no login waits for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use countersign_store::Store;

/// A use is written down when the last one that was is older. A mail program logs in every minute.
const LAG: i64 = 15 * 60;
/// How many credentials are remembered. Beyond it uses go unrecorded until some of them are old.
const REMEMBERED: usize = 16 * 1024;

/// The uses that were written down lately.
#[derive(Clone, Default)]
pub(super) struct Uses {
    recent: Arc<Mutex<BTreeMap<i64, i64>>>,
}

impl Uses {
    /// Writes a use down, beside the login, unless that was done a moment ago.
    pub(super) fn note(&self, store: &Store, credential: i64, now: i64) {
        if !self.is_due(credential, now) {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let store = store.clone();
        runtime.spawn(async move {
            if let Err(error) = store.record_use(&[(credential, now)]).await {
                tracing::warn!(%error, "cannot record the use of a credential");
            }
        });
    }

    fn is_due(&self, credential: i64, now: i64) -> bool {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back is another way of being old.
        let is_recent = |at: i64| (0..LAG).contains(&now.saturating_sub(at));
        if recent.get(&credential).is_some_and(|at| is_recent(*at)) {
            return false;
        }
        if recent.len() >= REMEMBERED && !recent.contains_key(&credential) {
            recent.retain(|_, at| is_recent(*at));
            if recent.len() >= REMEMBERED {
                return false;
            }
        }
        recent.insert(credential, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_in_a_while_and_bounded() {
        let uses = Uses::default();
        assert!(uses.is_due(1, 1000));
        assert!(!uses.is_due(1, 1000 + LAG - 1));
        assert!(uses.is_due(1, 1000 + LAG));
        assert!(uses.is_due(1, 1000));
        for credential in 2..=REMEMBERED as i64 {
            assert!(uses.is_due(credential, 1000));
        }
        assert!(!uses.is_due(-1, 1000));
        assert!(uses.is_due(-1, 1000 + LAG));
        assert_eq!(uses.recent.lock().unwrap().len(), 1);
    }
}
