//! The minds that clients have lent: how those who are logged in are told something.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many minds may be lent at a time. Whoever is logged in can lend one, so that both have an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MindLimits {
    /// Of one subject.
    pub each: usize,
    /// Of all.
    pub all: usize,
}

impl Default for MindLimits {
    /// 10 of one subject, 1,000 of all.
    fn default() -> Self {
        Self { each: 10, all: 1000 }
    }
}

/// What became of telling a mind something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It heard.
    Heard,
    /// It heard, and this was the last: it is given back.
    Last,
    /// It is not there any more, or does not keep up: it is given back.
    Gone,
    /// It was not meant.
    Passed,
}

/// The minds that an application has been lent, by whom.
///
/// A realm that notifies keeps one of these: it [lends](Minds::lend) the mind of each login and keeps the
/// [`Loan`] in the avatar, so that logging out gives the mind back.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::mpsc::{SyncSender, sync_channel};
/// use countersign::{MindLimits, Minds, Told};
///
/// let minds = Arc::new(Minds::<SyncSender<&str>>::new(MindLimits::default()));
/// let (mind, ada) = sync_channel(8);
/// let loan = minds.lend("ada", mind).expect("there is room");
///
/// let tell = |mind: &mut SyncSender<&'static str>| match mind.try_send("you have mail") {
///     Ok(()) => Told::Heard,
///     // It does not keep up, or it went away.
///     Err(_) => Told::Gone,
/// };
/// assert_eq!(minds.tell(Some("ada"), tell), 1);
/// assert_eq!(ada.recv(), Ok("you have mail"));
///
/// // Logging out drops the avatar, and with it the loan.
/// drop(loan);
/// assert_eq!(minds.tell(Some("ada"), tell), 0);
/// ```
pub struct Minds<M> {
    limits: MindLimits,
    table: Mutex<Table<M>>,
}

struct Table<M> {
    next: u64,
    all: usize,
    /// Whoever has none is not in it.
    lent: HashMap<Arc<str>, Vec<(u64, M)>>,
}

/// A mind that is lent, until this is dropped.
pub struct Loan<M> {
    minds: Arc<Minds<M>>,
    subject: Arc<str>,
    number: u64,
}

impl<M> Minds<M> {
    /// No minds yet.
    pub fn new(limits: MindLimits) -> Self {
        Self { limits, table: Mutex::new(Table { next: 0, all: 0, lent: HashMap::new() }) }
    }

    /// Lends a mind of a subject's. `None`, and the mind is gone: as many are lent as may be.
    pub fn lend(self: &Arc<Self>, subject: &str, mind: M) -> Option<Loan<M>> {
        let mut table = self.table();
        let each = table.lent.get(subject).map_or(0, Vec::len);
        if table.all >= self.limits.all || each >= self.limits.each {
            return None;
        }
        let number = table.next;
        table.next += 1;
        table.all += 1;
        let known = table.lent.get_key_value(subject).map(|(subject, _)| Arc::clone(subject));
        let subject = known.unwrap_or_else(|| subject.into());
        table.lent.entry(Arc::clone(&subject)).or_default().push((number, mind));
        Some(Loan { minds: Arc::clone(self), subject, number })
    }

    /// Tells the minds of one subject something, in the order in which they were lent; of everybody, for
    /// `None`. Gives how many heard.
    ///
    /// `tell` runs under a lock: it hands over and never waits (a channel's `try_send`).
    pub fn tell(&self, subject: Option<&str>, mut tell: impl FnMut(&mut M) -> Told) -> usize {
        let mut table = self.table();
        let mut heard = 0;
        // What is given back is dropped when nobody is locked out any more.
        let mut back = Vec::new();
        let mut tell_each = |lent: &mut Vec<(u64, M)>| {
            back.extend(lent.extract_if(.., |(_, mind)| {
                let told = tell(mind);
                heard += usize::from(matches!(told, Told::Heard | Told::Last));
                matches!(told, Told::Last | Told::Gone)
            }));
            lent.is_empty()
        };
        match subject {
            Some(subject) => {
                if table.lent.get_mut(subject).is_some_and(&mut tell_each) {
                    table.lent.remove(subject);
                }
            }
            None => table.lent.retain(|_, lent| !tell_each(lent)),
        }
        table.all -= back.len();
        drop(table);
        drop(back);
        heard
    }

    /// How many are lent.
    pub fn len(&self) -> usize {
        self.table().all
    }

    /// Whether none is lent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn give_back(&self, subject: &str, number: u64) {
        let mut table = self.table();
        let Some(lent) = table.lent.get_mut(subject) else { return };
        let Some(at) = lent.iter().position(|(known, _)| *known == number) else { return };
        let mind = lent.remove(at);
        if lent.is_empty() {
            table.lent.remove(subject);
        }
        table.all -= 1;
        drop(table);
        drop(mind);
    }

    fn table(&self) -> MutexGuard<'_, Table<M>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> Default for Minds<M> {
    fn default() -> Self {
        Self::new(MindLimits::default())
    }
}

impl<M> fmt::Debug for Minds<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Minds").field("lent", &self.len()).finish_non_exhaustive()
    }
}

impl<M> Loan<M> {
    /// Whose it is.
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

impl<M> Drop for Loan<M> {
    fn drop(&mut self) {
        self.minds.give_back(&self.subject, self.number);
    }
}

impl<M> fmt::Debug for Loan<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan").field("subject", &self.subject).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minds() -> Arc<Minds<Vec<&'static str>>> {
        Arc::new(Minds::new(MindLimits { each: 2, all: 3 }))
    }

    #[test]
    fn limits_hold_and_a_dropped_loan_makes_room() {
        let minds = minds();
        let first = minds.lend("ada", vec![]).unwrap();
        let _second = minds.lend("ada", vec![]).unwrap();
        assert!(minds.lend("ada", vec![]).is_none(), "a third of one");
        let _third = minds.lend("bob", vec![]).unwrap();
        assert!(minds.lend("eve", vec![]).is_none(), "a fourth of all");
        assert_eq!((minds.len(), first.subject()), (3, "ada"));
        drop(first);
        assert!(minds.lend("eve", vec![]).is_some());
    }

    #[test]
    fn one_or_everybody_is_told() {
        let minds = minds();
        let _loans = ["ada", "ada", "bob"].map(|who| minds.lend(who, vec![]).unwrap());
        let say = |word| {
            move |mind: &mut Vec<_>| {
                mind.push(word);
                Told::Heard
            }
        };
        assert_eq!(minds.tell(Some("ada"), say("mail")), 2);
        assert_eq!(minds.tell(Some("eve"), say("mail")), 0);
        assert_eq!(minds.tell(None, say("soon")), 3);
        let mut heard = Vec::new();
        minds.tell(None, |mind| {
            heard.push(mind.join(" "));
            Told::Passed
        });
        heard.sort();
        assert_eq!(heard, ["mail soon", "mail soon", "soon"]);
    }

    #[test]
    fn who_went_away_is_dropped_and_its_loan_takes_nobody_elses() {
        let minds = minds();
        let (gone, last) = (minds.lend("ada", vec![]).unwrap(), minds.lend("ada", vec![]).unwrap());
        let mut said = [Told::Gone, Told::Last].into_iter();
        assert_eq!(minds.tell(Some("ada"), |_| said.next().unwrap()), 1);
        assert!(minds.is_empty());
        let _other = minds.lend("ada", vec![]).unwrap();
        drop((gone, last));
        assert_eq!(minds.len(), 1);
    }

    #[test]
    fn a_mind_that_is_dropped_may_look_at_the_minds() {
        struct Curious(Arc<Minds<Curious>>);
        impl Drop for Curious {
            fn drop(&mut self) {
                assert_eq!(self.0.len(), 0);
            }
        }
        let minds = Arc::new(Minds::default());
        let _loan = minds.lend("ada", Curious(Arc::clone(&minds)));
        minds.tell(None, |_| Told::Last);
        drop(minds.lend("ada", Curious(Arc::clone(&minds))));
    }
}
