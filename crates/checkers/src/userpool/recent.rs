//! Logins that a driver verified a moment ago, as in `docs/decisions/0006-verified-logins.md`: a MAC under a key
//! that this process drew, never the secret. One for each account, so that a newer secret drives out an older one.

use std::sync::Arc;
use std::time::Duration;

use countersign::{Identity, Moment, Secret, World};
use countersign_store::Account;
use hmac::{Hmac, KeyInit as _, Mac as _};
use quick_cache::sync::Cache;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// How many accounts are remembered.
const ENTRIES: usize = 10_000;

/// The logins of late.
pub(super) struct Recent {
    key: Hmac<Sha256>,
    /// By the account's id.
    table: Option<Cache<i64, Entry>>,
    lasts: Duration,
}

#[derive(Clone)]
struct Entry {
    mac: [u8; 32],
    until_ms: u64,
    said: Option<Arc<Identity>>,
}

impl Recent {
    /// Remembers logins for so long; for no time, none.
    pub(super) fn new(world: &dyn World, lasts: Duration) -> Self {
        let mut key = Zeroizing::new([0; 64]);
        world.fill(&mut *key);
        let table = (!lasts.is_zero()).then(|| Cache::new(ENTRIES));
        Self { key: Hmac::new((&*key).into()), table, lasts }
    }

    /// Whether this secret was right for the account as it is now, and what its checker said of it.
    #[expect(clippy::option_option, reason = "right, and said nothing")]
    pub(super) fn recall(
        &self,
        account: &Account,
        secret: &Secret,
        now: Moment,
    ) -> Option<Option<Arc<Identity>>> {
        let entry = self.table.as_ref()?.get(&account.id)?;
        let same = self.mac(account, secret).ct_eq(&entry.mac);
        (bool::from(same) && now.steady_ms < entry.until_ms).then_some(entry.said)
    }

    /// This secret was right for the account as it is now.
    pub(super) fn remember(
        &self,
        account: &Account,
        secret: &Secret,
        said: Option<Arc<Identity>>,
        now: Moment,
    ) {
        let Some(table) = &self.table else { return };
        let lasts = u64::try_from(self.lasts.as_millis()).unwrap_or(u64::MAX);
        let until_ms = now.steady_ms.saturating_add(lasts);
        table.insert(account.id, Entry { mac: self.mac(account, secret), until_ms, said });
    }

    /// Whatever is said about the account changes its revision: its password, its groups, whether it is disabled.
    fn mac(&self, account: &Account, secret: &Secret) -> [u8; 32] {
        let mut mac = self.key.clone();
        mac.update(&account.id.to_le_bytes());
        mac.update(&account.revision.to_le_bytes());
        mac.update(secret.expose());
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use countersign::testing::StillWorld;

    use super::*;

    fn account(id: i64, revision: i64) -> Account {
        Account {
            id,
            name: "ada".into(),
            enabled: true,
            expires: None,
            must_change: false,
            driver: Some("ldap".into()),
            credentials: Vec::new(),
            groups: Vec::new(),
            labels: Vec::new(),
            attributes: Default::default(),
            revision,
        }
    }

    #[test]
    fn one_secret_of_one_account_as_it_is_for_a_while() {
        let world = StillWorld::default();
        let recent = Recent::new(&world, Duration::from_secs(60));
        let (ada, one, two) = (account(1, 7), Secret::from("one"), Secret::from("two"));
        recent.remember(&ada, &one, None, world.now());
        assert!(recent.recall(&ada, &one, world.now()).is_some());
        assert!(recent.recall(&ada, &two, world.now()).is_none());
        assert!(recent.recall(&account(1, 8), &one, world.now()).is_none());
        assert!(recent.recall(&account(2, 7), &one, world.now()).is_none());
        recent.remember(&ada, &two, None, world.now());
        assert!(recent.recall(&ada, &one, world.now()).is_none());
        world.advance_ms(59_999);
        assert!(recent.recall(&ada, &two, world.now()).is_some());
        world.advance_ms(1);
        assert!(recent.recall(&ada, &two, world.now()).is_none());
        let off = Recent::new(&world, Duration::ZERO);
        off.remember(&ada, &one, None, world.now());
        assert!(off.recall(&ada, &one, world.now()).is_none());
    }
}
