//! New sessions, several in one transaction: a writer of SQLite is alone, and PostgreSQL is a network away,
//! so that one transaction of fifty costs not much more than one of one.
//!
//! Whoever comes while a transaction is under way waits for the next one, together with everybody else who
//! comes meanwhile. Nobody waits for company, nor for the disk: a power cut may take the sessions of its last
//! moments, whose holders then log in again. What ends a session is on the disk before it is told.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::error::StoreError;
use crate::records::SessionRecord;
use crate::sessions::{hold, keep};
use crate::sql::Durability;
use crate::store::Store;

/// How many sessions one transaction takes.
const TOGETHER: usize = 32;

/// New sessions that wait for their transaction.
#[derive(Default)]
pub(crate) struct Beginnings(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    waiting: Vec<Beginning>,
    /// Whether a task writes what waits.
    busy: bool,
}

struct Beginning {
    session: SessionRecord,
    others: usize,
    since: i64,
    told: oneshot::Sender<Begun>,
}

/// What became of a new session.
pub(crate) enum Begun {
    /// It is kept, or there is a reason why not.
    Kept(Result<(), StoreError>),
    /// It is not, because others must end for it.
    TooMany,
    /// It is not, because of somebody else's in the same transaction perhaps: to be tried alone.
    Alone,
}

impl Beginnings {
    /// Keeps a session whose subject has at most so many others, of a login that began at the revision
    /// `since`. Who goes away before it is told leaves no session behind.
    pub(crate) async fn join(
        &self,
        store: &Store,
        session: &SessionRecord,
        others: usize,
        since: i64,
    ) -> Begun {
        let (told, answer) = oneshot::channel();
        let beginning = Beginning { session: session.clone(), others, since, told };
        let begin = {
            let mut queue = self.queue();
            queue.waiting.push(beginning);
            !std::mem::replace(&mut queue.busy, true)
        };
        if begin {
            // In a task of its own: nobody's going away stops what others wait for.
            tokio::spawn(write_all(Writing { store: store.clone(), done: false }));
        }
        // Dropped only with the runtime, or when the writing panicked.
        answer.await.unwrap_or(Begun::Kept(Err(StoreError::Closed)))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next to be written together; none: whoever comes now begins to write.
    fn next(&self) -> Option<Vec<Beginning>> {
        let mut queue = self.queue();
        let count = queue.waiting.len().min(TOGETHER);
        queue.busy = count > 0;
        (count > 0).then(|| queue.waiting.drain(..count).collect())
    }
}

/// The writing of new sessions. If it ends before it is done, by a panic, those who wait hear that at once, and
/// whoever comes next begins anew.
struct Writing {
    store: Store,
    done: bool,
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.done {
            let mut queue = self.store.inner.beginnings.queue();
            queue.busy = false;
            queue.waiting.clear();
        }
    }
}

async fn write_all(mut writing: Writing) {
    while let Some(mut together) = writing.store.inner.beginnings.next() {
        let store = &writing.store;
        together.retain(|beginning| !beginning.told.is_closed());
        // In one order everywhere, so that two nodes do not wait for each other's subjects.
        together.sort_by(|a, b| a.session.subject.cmp(&b.session.subject));
        let results = write(store, &together).await;
        for (beginning, result) in together.into_iter().zip(results) {
            let hash = beginning.session.hash;
            let kept = matches!(result, Begun::Kept(Ok(())));
            if beginning.told.send(result).is_err() && kept {
                // Nobody has its token. If it cannot be ended now, it expires.
                let _ = store.end_session(&hash).await;
            }
        }
    }
    writing.done = true;
}

/// Writes sessions in one transaction.
async fn write(store: &Store, together: &[Beginning]) -> Vec<Begun> {
    let mut results = Vec::with_capacity(together.len());
    let failed = try_write(store, together, &mut results).await.err();
    let Some(error) = failed else { return results };
    match together {
        [_] => vec![Begun::Kept(Err(error))],
        several => several.iter().map(|_| Begun::Alone).collect(),
    }
}

async fn try_write(
    store: &Store,
    together: &[Beginning],
    results: &mut Vec<Begun>,
) -> Result<(), StoreError> {
    if together.is_empty() {
        return Ok(());
    }
    let mut tx = store.inner.db.begin(Durability::Relaxed).await?;
    for Beginning { session, others, since, .. } in together {
        results.push(match hold(&mut tx, session, *others, *since).await {
            Ok(too_many) if !too_many.is_empty() => Begun::TooMany,
            Ok(_) => match keep(&mut tx, session).await {
                // Of this session alone: the statement has changed nothing.
                done @ (Ok(()) | Err(StoreError::Exists { .. })) => Begun::Kept(done),
                Err(error) => return Err(error),
            },
            Err(error @ StoreError::Overtaken { .. }) => Begun::Kept(Err(error)),
            Err(error) => return Err(error),
        });
    }
    tx.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::OpenOptions;

    fn session(hash: &str, subject: &str) -> SessionRecord {
        SessionRecord {
            hash: hash.into(),
            subject: subject.into(),
            service: "web".into(),
            peer: String::new(),
            data: String::new(),
            created: 100,
            last_seen: 100,
            expires: 1000,
        }
    }

    async fn store(folder: &tempfile::TempDir) -> Store {
        Store::open(folder.path().join("a.db"), OpenOptions::create()).await.unwrap()
    }

    fn beginning(hash: &str, subject: &str) -> Beginning {
        let session = session(hash, subject);
        Beginning { session, others: 1, since: 0, told: oneshot::channel().0 }
    }

    #[tokio::test]
    async fn one_that_cannot_be_is_no_matter_of_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        store.end_sessions_of("eve").await.unwrap();
        let together =
            [("a", "ada"), ("a", "bob"), ("e", "eve"), ("b", "ada"), ("c", "ada"), ("d", "bob")];
        let results = write(&store, &together.map(|(h, s)| beginning(h, s))).await;
        assert!(matches!(
            &results[..],
            [
                Begun::Kept(Ok(())),
                Begun::Kept(Err(StoreError::Exists { .. })),
                Begun::Kept(Err(StoreError::Overtaken { .. })),
                Begun::Kept(Ok(())),
                Begun::TooMany,
                Begun::Kept(Ok(())),
            ]
        ));
        assert_eq!(store.sessions_of("ada", 0).await.unwrap().len(), 2);
        assert_eq!(store.sessions_of("eve", 0).await.unwrap().len(), 0);
    }

    #[tokio::test]
    async fn a_failure_is_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        store.close().await;
        let alone = write(&store, &[beginning("a", "ada")]).await;
        assert!(matches!(&alone[..], [Begun::Kept(Err(StoreError::Closed))]));
        let both = write(&store, &[beginning("a", "ada"), beginning("b", "bob")]).await;
        assert!(matches!(&both[..], [Begun::Alone, Begun::Alone]));
    }

    #[tokio::test]
    async fn many_at_once_are_all_kept_and_the_writing_ends() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let begun = (0..100).map(|n| {
            let (store, session) = (store.clone(), session(&format!("h{n}"), "ada"));
            tokio::spawn(async move { store.create_session(&session, 200, 0).await })
        });
        for begun in begun.collect::<Vec<_>>() {
            begun.await.unwrap().unwrap();
        }
        let kept = store.inner.db.row("SELECT COUNT(*) FROM sessions", crate::sql::args![]).await;
        assert_eq!(kept.unwrap().unwrap().int(0).unwrap(), 100);
        store.create_session(&session("late", "bob"), 9, 0).await.unwrap();
    }

    #[tokio::test]
    async fn who_goes_away_leaves_no_session() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let (told, answer) = oneshot::channel();
        let gone = Beginning { told, ..beginning("gone", "ada") };
        drop(answer);
        store.inner.beginnings.queue().waiting.push(gone);
        store.create_session(&session("here", "bob"), 9, 0).await.unwrap();
        assert_eq!(store.sessions_of("ada", 0).await.unwrap().len(), 0);
    }
}
