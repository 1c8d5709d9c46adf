//! The copy in memory: accounts by name, and names that nobody has, both bounded.
//!
//! The danger is the load that overlaps a change: it read the old account before the change, and would
//! put it in after the change has thrown the old one out, where it would stay. So a load takes a [`Ticket`]
//! before it reads, every invalidation makes the tickets given before it worthless, and putting in checks
//! the ticket under the same lock. A worthless ticket costs one more load later, nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use quick_cache::sync::Cache;

use crate::records::{Account, Changed};
use crate::store::Store;

/// The right to put in what is read from now on, until the next invalidation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket(u64);

pub(crate) struct Copies {
    known: Cache<Box<str>, Arc<Account>>,
    /// Apart from the known ones, so that somebody who tries a million names throws out nobody's account.
    unknown: Cache<Box<str>, ()>,
    /// Rises with every invalidation.
    epoch: AtomicU64,
    /// Held while putting in and while throwing out, never while looking up.
    changing: Mutex<()>,
}

impl Copies {
    /// Room for `capacity` accounts and a quarter as many unknown names; zero keeps nothing.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            known: Cache::new(capacity),
            unknown: Cache::new(capacity.div_ceil(4)),
            epoch: AtomicU64::new(0),
            changing: Mutex::new(()),
        }
    }

    /// `None`: not here, ask the database. `Some(None)`: nobody has this name.
    pub(crate) fn look(&self, name: &str) -> Option<Option<Arc<Account>>> {
        match self.known.get(name) {
            Some(account) => Some(Some(account)),
            None => self.unknown.get(name).map(|()| None),
        }
    }

    /// To be taken before the database is read.
    pub(crate) fn ticket(&self) -> Ticket {
        Ticket(self.epoch.load(Ordering::Acquire))
    }

    /// Puts in what was read since `ticket`; says whether the ticket was still good.
    pub(crate) fn put(&self, ticket: Ticket, name: &str, found: Option<Arc<Account>>) -> bool {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.epoch.load(Ordering::Acquire) != ticket.0 {
            return false;
        }
        match found {
            Some(account) => self.known.insert(name.into(), account),
            None => self.unknown.insert(name.into(), ()),
        }
        true
    }

    /// Throws out what changed, and makes older tickets worthless.
    pub(crate) fn drop_changed(&self, changes: &[Changed]) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.epoch.fetch_add(1, Ordering::AcqRel);
        for change in changes {
            match change {
                Changed::Account(name) => {
                    self.known.remove(name.as_str());
                    self.unknown.remove(name.as_str());
                }
                Changed::Everything => {
                    self.known.clear();
                    self.unknown.clear();
                }
                // A group's members are named one by one.
                Changed::Group(_) | Changed::Session(_) | Changed::Throttle { .. } => {}
            }
        }
    }

    /// How many are here, names that nobody has among them.
    pub(crate) fn count(&self) -> usize {
        self.known.len() + self.unknown.len()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.known.len(), self.unknown.len())
    }
}

impl Store {
    /// Throws names out of the copy in memory, or everything, and gives how many were there. Nobody needs
    /// this to see a change; it is for administrators who want to be sure.
    pub fn forget(&self, names: Option<&[&str]>) -> usize {
        let copies = &self.inner.copies;
        let (count, changed) = match names {
            None => (copies.count(), vec![Changed::Everything]),
            Some(names) => {
                let changed = |name: &&str| Changed::Account((*name).to_owned());
                let there = names.iter().filter(|name| copies.look(name).is_some());
                (there.count(), names.iter().map(changed).collect())
            }
        };
        copies.drop_changed(&changed);
        count
    }

    /// How many names the copy in memory holds, those that nobody has among them.
    pub fn copies(&self) -> usize {
        self.inner.copies.count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str, revision: i64) -> Option<Arc<Account>> {
        Some(Arc::new(Account {
            id: 1,
            name: name.into(),
            enabled: true,
            expires: None,
            must_change: false,
            driver: None,
            credentials: vec![],
            groups: vec![],
            labels: vec![],
            attributes: Default::default(),
            revision,
        }))
    }

    #[test]
    fn a_load_that_began_before_a_change_puts_nothing_in() {
        let copies = Copies::new(8);
        let before = copies.ticket();
        copies.drop_changed(&[Changed::Account("alice".into())]);
        assert!(!copies.put(before, "alice", account("alice", 1)));
        assert!(copies.look("alice").is_none());
        let after = copies.ticket();
        assert!(copies.put(after, "alice", account("alice", 2)));
        assert_eq!(copies.look("alice").unwrap().unwrap().revision, 2);
    }

    #[test]
    fn only_what_changed_is_thrown_out() {
        let copies = Copies::new(8);
        let ticket = copies.ticket();
        for name in ["alice", "bob"] {
            assert!(copies.put(ticket, name, account(name, 1)));
        }
        assert!(copies.put(ticket, "nobody", None));
        copies.drop_changed(&[Changed::Account("alice".into()), Changed::Account("nobody".into())]);
        assert!(copies.look("alice").is_none());
        assert!(copies.look("nobody").is_none());
        assert!(copies.look("bob").unwrap().is_some());
        copies.drop_changed(&[Changed::Everything]);
        assert_eq!(copies.len(), (0, 0));
    }

    #[test]
    fn a_name_guesser_throws_out_nobody() {
        let copies = Copies::new(100);
        let ticket = copies.ticket();
        for n in 0..50 {
            copies.put(ticket, &format!("user{n}"), account("x", 1));
        }
        let kept = copies.len().0;
        for n in 0..100_000 {
            copies.put(ticket, &format!("guess{n}"), None);
        }
        assert_eq!(copies.len().0, kept);
        assert!(copies.len().1 <= 100, "{:?}", copies.len());
    }

    #[test]
    fn a_capacity_of_zero_keeps_nothing() {
        let copies = Copies::new(0);
        copies.put(copies.ticket(), "alice", account("alice", 1));
        assert!(copies.look("alice").is_none());
    }
}
