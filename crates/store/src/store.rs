//! Opening, changing, and keeping the copy in memory true.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::broadcast;

use crate::beginnings::Beginnings;
use crate::cache::Copies;
use crate::error::StoreError;
use crate::location::Location;
use crate::records::{Account, Changed};
use crate::sql::{Database, Durability, Tx, args};
use crate::{accounts, file, schema, throttles};

/// How many revisions back `changes` remembers. Who was away for longer forgets its whole copy.
const REMEMBERED: i64 = 10_000;

/// More changes than this at once are not worth naming one by one.
const NAMED: i64 = 4096;

/// How many batches of changes a slow listener may lag behind.
const LISTENER_LAG: usize = 256;

/// How to open a store.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OpenOptions {
    /// Make a new store where there is none. Without it, a missing file is an error, so that a command
    /// with a mistyped folder does not look into an empty store of its own making.
    pub create: bool,
    /// How many accounts the copy in memory holds; beside them a quarter as many unknown names. An account
    /// is about one KiB.
    pub cache_capacity: usize,
    /// How long any call waits for another writer, in this process or elsewhere.
    pub deadline: Duration,
    /// How many reads run at the same time: a thread each in SQLite, two connections each in PostgreSQL, made
    /// when they are needed.
    pub readers: u32,
    /// How long the copy in memory is believed after the last [`Store::watch`] or [`Store::refresh`] that
    /// succeeded. Then the database is asked, and its error is the answer: a node that is cut off must not
    /// let in whom another one has disabled. `None`: for ever, for a program that does not watch.
    pub stale_after: Option<Duration>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            create: false,
            cache_capacity: 10_000,
            deadline: Duration::from_secs(5),
            readers: 4,
            stale_after: None,
        }
    }
}

impl OpenOptions {
    /// The defaults, and a new store where there is none.
    pub fn create() -> Self {
        Self { create: true, ..Self::default() }
    }

    /// See [`OpenOptions::cache_capacity`].
    #[must_use]
    pub fn cache_capacity(self, accounts: usize) -> Self {
        Self { cache_capacity: accounts, ..self }
    }

    /// See [`OpenOptions::deadline`].
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// See [`OpenOptions::readers`].
    #[must_use]
    pub fn readers(self, readers: u32) -> Self {
        Self { readers, ..self }
    }

    /// See [`OpenOptions::stale_after`].
    #[must_use]
    pub fn stale_after(self, limit: Duration) -> Self {
        Self { stale_after: Some(limit), ..self }
    }
}

/// An open account store. Clones are the same store.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) db: Database,
    pub(crate) copies: Copies,
    /// The revision up to which `copies` is true.
    seen: AtomicI64,
    stale_after: Option<Duration>,
    born: Instant,
    /// Milliseconds after `born` at which the last look at the revision began that succeeded.
    looked: AtomicU64,
    /// One reader of `changes` at a time, so that `seen` only ever names what was thrown out.
    refreshing: tokio::sync::Mutex<()>,
    changes: broadcast::Sender<Arc<[Changed]>>,
    /// How many batches of changes the listeners have been sent.
    batches: AtomicU64,
    pub(crate) beginnings: Beginnings,
}

impl Store {
    /// Opens the store in a file or in a PostgreSQL database, and brings its schema to this program's
    /// version.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::NotAStore`], [`StoreError::Newer`], [`StoreError::Busy`],
    /// [`StoreError::Exposed`], [`StoreError::Unavailable`], [`StoreError::Refused`],
    /// [`StoreError::BadUrl`] and what the system or the database says.
    pub async fn open(
        location: impl Into<Location>,
        options: OpenOptions,
    ) -> Result<Self, StoreError> {
        let location = location.into();
        let OpenOptions { create, cache_capacity, deadline, readers, stale_after } = options;
        if let Some(path) = location.file() {
            file::prepare(path, create)?;
        }
        let db = Database::open(&location, deadline, readers).await?;
        schema::migrate(&db, create).await?;
        let born = Instant::now();
        let row = db.row(REVISION, args![]).await?;
        let seen = row.map_or(Ok(0), |row| row.int(0))?;
        Ok(Self {
            inner: Arc::new(Inner {
                db,
                copies: Copies::new(cache_capacity),
                stale_after,
                born,
                looked: AtomicU64::new(0),
                seen: AtomicI64::new(seen),
                refreshing: tokio::sync::Mutex::new(()),
                changes: broadcast::channel(LISTENER_LAG).0,
                batches: AtomicU64::new(0),
                beginnings: Beginnings::default(),
            }),
        })
    }

    /// The account of this name, from the copy in memory or else from the database. `None`: nobody has
    /// that name. A name that no account can have is answered without asking anybody.
    ///
    /// # Errors
    /// What the database says. An account that is in the copy is given even when the database is away, for
    /// as long as [`OpenOptions::stale_after`] says.
    pub async fn account(&self, name: &str) -> Result<Option<Arc<Account>>, StoreError> {
        if let Some(found) = self.cached(name) {
            return Ok(found);
        }
        let ticket = self.inner.copies.ticket();
        let found = accounts::load(&self.inner.db, name).await?.map(Arc::new);
        self.inner.copies.put(ticket, name, found.clone());
        Ok(found)
    }

    /// What the copy in memory says, at once and without the database: `None`: nothing, ask
    /// [`Store::account`]. `Some(None)`: nobody has that name.
    pub fn cached(&self, name: &str) -> Option<Option<Arc<Account>>> {
        // No account has a name that breaks the rules, so what breaks them is never in the copy either.
        let copy = if self.inner.is_stale() { None } else { self.inner.copies.look(name) };
        copy.or_else(|| crate::check_user_name(name).is_err().then_some(None))
    }

    /// The revision up to which the copy in memory is true. It rises with every change of an account or a
    /// group and with every session that is ended, in whichever process.
    pub fn revision(&self) -> i64 {
        self.inner.seen.load(Ordering::Acquire)
    }

    /// Throws out of the copy what other processes changed since the last look, and tells the listeners.
    /// Gives the revision up to which the copy is now true.
    ///
    /// # Errors
    /// What the database says; the copy is then as it was.
    pub async fn refresh(&self) -> Result<i64, StoreError> {
        self.inner.refresh().await
    }

    /// Cheap enough to be called five times a second: [`Store::refresh`] if anything changed. Gives whether
    /// anything did.
    ///
    /// It reads one row and not SQLite's `data_version`, which is as dear, means another thing on every
    /// connection, and does not exist in PostgreSQL.
    ///
    /// # Errors
    /// What the database says.
    pub async fn watch(&self) -> Result<bool, StoreError> {
        let began = self.inner.born.elapsed();
        self.inner.db.look()?;
        let row = self.inner.db.row(REVISION, args![]).await?;
        let now = row.map_or(Ok(0), |row| row.int(0))?;
        if now == self.revision() {
            self.inner.looked(began);
            return Ok(false);
        }
        self.refresh().await?;
        Ok(true)
    }

    /// What changes from now on, whoever changes it: in batches, after the copy has forgotten it. A
    /// listener that lags behind gets an error from the receiver and must forget everything it holds.
    pub fn changes(&self) -> broadcast::Receiver<Arc<[Changed]>> {
        self.inner.changes.subscribe()
    }

    /// How many batches of changes have been sent to the listeners so far: what it costs to see that there is
    /// none to be received. Whoever hears that a change is made finds it counted.
    pub fn batches(&self) -> u64 {
        self.inner.batches.load(Ordering::Acquire)
    }

    /// Writes a consistent copy to a new file of mode 0600 while the store is in use.
    ///
    /// # Errors
    /// [`StoreError::NoFile`] for a PostgreSQL database, with the command that copies it;
    /// [`StoreError::Io`] if `target` exists or cannot be made, and what the database says; what was
    /// written until then is removed.
    pub async fn backup(&self, target: impl AsRef<Path>) -> Result<(), StoreError> {
        let target = target.as_ref();
        if !self.inner.db.is_file() {
            return self.inner.db.copy_into("").await;
        }
        let Some(text) = target.to_str() else {
            return crate::names::invalid("a backup's path", "must be UTF-8");
        };
        // Before SQLite makes it, which would be with whatever mode the umask allows.
        file::create(target)?;
        let unfinished = file::RemoveOnDrop::new(target);
        self.inner.db.copy_into(text).await?;
        file::sync(target)?;
        unfinished.keep();
        Ok(())
    }

    /// Does what a database wants done now and then, so that no change has to do it and wait: brings SQLite's
    /// write-ahead log home. Once a second is often enough for a busy server; nothing is wrong without.
    ///
    /// # Errors
    /// What the database says.
    pub async fn tidy(&self) -> Result<(), StoreError> {
        self.inner.db.tidy().await
    }

    /// Closes the file after the calls under way; later calls give [`StoreError::Closed`].
    pub async fn close(&self) {
        self.inner.db.close().await;
    }

    /// Begins a change of accounts or groups; takes the lock that orders revisions.
    pub(crate) async fn change(&self) -> Result<Change, StoreError> {
        let mut tx = self.inner.db.begin(Durability::Sure).await?;
        let revision = tx.take("revision", 1).await?;
        Ok(self.resume(tx, revision))
    }

    /// A transaction that turned out to be a change; `revision` was taken in it.
    pub(crate) fn resume(&self, tx: Tx, revision: i64) -> Change {
        Change { tx, inner: self.inner.clone(), revision, touched: Vec::new() }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.inner.db.place())
    }
}

const REVISION: &str = "SELECT value FROM counters WHERE name = 'revision'";

impl Inner {
    /// Whether the copy may say what is no longer so.
    fn is_stale(&self) -> bool {
        let Some(limit) = self.stale_after else { return false };
        let looked = Duration::from_millis(self.looked.load(Ordering::Acquire));
        self.born.elapsed().saturating_sub(looked) > limit
    }

    /// The copy was true at `began`.
    fn looked(&self, began: Duration) {
        let began = u64::try_from(began.as_millis()).unwrap_or(u64::MAX);
        self.looked.fetch_max(began, Ordering::AcqRel);
    }

    async fn refresh(&self) -> Result<i64, StoreError> {
        let _one = self.refreshing.lock().await;
        let began = self.born.elapsed();
        let seen = self.seen.load(Ordering::Acquire);
        // One statement, so that the revision and the changes up to it are of the same moment.
        let sql = "SELECT n.value, (SELECT MIN(revision) FROM changes), c.kind, c.name \
                   FROM counters n LEFT JOIN changes c ON c.revision > $1 \
                   WHERE n.name = 'revision' LIMIT $2";
        let rows = self.db.rows(sql, args![seen, NAMED + 1]).await?;
        let Some(first) = rows.first() else { return Ok(seen) };
        let now = first.int(0)?;
        if now == seen {
            self.looked(began);
            return Ok(now);
        }
        let oldest = first.maybe_int(1)?;
        // Smaller than seen: another file was put in its place.
        let gap = now < seen || oldest.is_none_or(|oldest| oldest > seen + 1);
        let changes: Vec<Changed> = if gap || rows.len() as i64 > NAMED {
            vec![Changed::Everything]
        } else {
            let mut changes = Vec::with_capacity(rows.len());
            for row in &rows {
                // A change may touch nothing that anybody holds a copy of.
                if let (Some(kind), Some(name)) = (row.maybe_text(2)?, row.maybe_text(3)?) {
                    changes.push(changed(&kind, name));
                }
            }
            changes
        };
        self.copies.drop_changed(&changes);
        self.seen.store(now, Ordering::Release);
        self.looked(began);
        if !changes.is_empty() {
            // Nobody listening is no error.
            let _ = self.changes.send(changes.into());
            // Only now: who sees the number finds the batch.
            self.batches.fetch_add(1, Ordering::AcqRel);
        }
        Ok(now)
    }
}

fn changed(kind: &str, name: String) -> Changed {
    match kind {
        "account" => Changed::Account(name),
        "group" => Changed::Group(name),
        "session" => Changed::Session(name),
        "throttle" => throttles::from_change(&name),
        // `all`, and whatever a later version adds.
        _ => Changed::Everything,
    }
}

/// A change under way. Dropped before [`Change::commit`], it leaves nothing, not even a revision.
pub(crate) struct Change {
    pub(crate) tx: Tx,
    inner: Arc<Inner>,
    pub(crate) revision: i64,
    touched: Vec<Changed>,
}

impl Change {
    /// Records that this change touches an account, which takes the change's revision.
    pub(crate) async fn touch(&mut self, account: i64, name: &str) -> Result<(), StoreError> {
        let sql = "UPDATE accounts SET revision = $1 WHERE id = $2";
        self.tx.run(sql, args![self.revision, account]).await?;
        self.note(Changed::Account(name.to_owned()));
        Ok(())
    }

    /// See [`Database::placeholders`].
    pub(crate) fn placeholders(&self, rows: usize, columns: usize) -> String {
        self.inner.db.placeholders(rows, columns)
    }

    /// Records what else this change touches.
    pub(crate) fn note(&mut self, what: Changed) {
        if self.touched.first() == Some(&Changed::Everything) {
            return;
        }
        if what == Changed::Everything || self.touched.len() as i64 >= NAMED {
            self.touched.clear();
            self.touched.push(Changed::Everything);
        } else {
            self.touched.push(what);
        }
    }

    /// Makes it so: on the disk, and gone from this process's copy, before this returns the revision.
    pub(crate) async fn commit(mut self) -> Result<i64, StoreError> {
        let sql =
            "INSERT INTO changes (revision, kind, name) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        for what in std::mem::take(&mut self.touched) {
            let (kind, name) = match what {
                Changed::Account(name) => ("account", name),
                Changed::Group(name) => ("group", name),
                Changed::Session(hash) => ("session", hash),
                Changed::Throttle { user, source } => {
                    ("throttle", throttles::to_change(&user, &source))
                }
                Changed::Everything => ("all", String::new()),
            };
            self.tx.run(sql, args![self.revision, kind, name]).await?;
        }
        let sql = "DELETE FROM changes WHERE revision <= $1";
        self.tx.run(sql, args![self.revision - REMEMBERED]).await?;
        let Self { tx, inner, revision, .. } = self;
        // In a task of its own: a caller that goes away between the two steps must not leave the old
        // account in the copy.
        let task = tokio::spawn(async move {
            tx.commit().await?;
            if inner.refresh().await.is_err() {
                // It is done, and cannot be named: forget everything, and look again at the next refresh.
                inner.copies.drop_changed(&[Changed::Everything]);
            }
            Ok(revision)
        });
        task.await.map_err(|_| StoreError::Closed)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::NewAccount;

    async fn two_programs(folder: &tempfile::TempDir) -> (Store, Store) {
        let path = folder.path().join("a.db");
        let here = Store::open(&path, OpenOptions::create()).await.unwrap();
        let there = Store::open(&path, OpenOptions::create()).await.unwrap();
        here.add_account(&NewAccount::new("alice"), 0).await.unwrap();
        there.refresh().await.unwrap();
        (here, there)
    }

    /// The steps of `Store::account` by hand, with a change between the reading and the putting in.
    #[tokio::test]
    async fn a_load_that_a_change_overtakes_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (here, there) = two_programs(&folder).await;
        for elsewhere in [false, true] {
            let ticket = here.inner.copies.ticket();
            let old = accounts::load(&here.inner.db, "alice").await.unwrap().map(Arc::new);
            let label = format!("elsewhere-{elsewhere}");
            if elsewhere {
                there.add_label("alice", &label).await.unwrap();
                here.refresh().await.unwrap();
            } else {
                here.add_label("alice", &label).await.unwrap();
            }
            assert!(!here.inner.copies.put(ticket, "alice", old));
            assert!(here.cached("alice").is_none());
            let now = here.account("alice").await.unwrap().unwrap();
            assert!(now.labels.contains(&label));
        }
    }

    /// The same with a name that nobody had when it was read.
    #[tokio::test]
    async fn an_account_that_was_added_meanwhile_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (here, there) = two_programs(&folder).await;
        let ticket = here.inner.copies.ticket();
        let nobody = accounts::load(&here.inner.db, "bob").await.unwrap().map(Arc::new);
        assert!(nobody.is_none());
        there.add_account(&NewAccount::new("bob"), 0).await.unwrap();
        here.refresh().await.unwrap();
        assert!(!here.inner.copies.put(ticket, "bob", nobody));
        assert!(here.account("bob").await.unwrap().is_some());
    }

    /// Read before the change and put in before it is noticed: noticing throws it out.
    #[tokio::test]
    async fn an_old_copy_goes_when_the_change_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (here, there) = two_programs(&folder).await;
        let ticket = here.inner.copies.ticket();
        let old = accounts::load(&here.inner.db, "alice").await.unwrap().map(Arc::new);
        there.add_label("alice", "new").await.unwrap();
        assert!(here.inner.copies.put(ticket, "alice", old));
        assert!(here.watch().await.unwrap());
        assert!(here.cached("alice").is_none());
    }

    #[tokio::test]
    async fn a_change_that_is_dropped_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (here, there) = two_programs(&folder).await;
        let before = there.revision();
        let mut change = here.change().await.unwrap();
        let removed = change.tx.run("DELETE FROM accounts", args![]).await.unwrap();
        assert_eq!(removed, 1);
        change.touch(1, "alice").await.unwrap();
        drop(change);
        assert!(!there.watch().await.unwrap());
        assert!(there.read_account("alice").await.unwrap().is_some());
        assert_eq!(here.add_label("alice", "next").await.unwrap(), before + 1);
    }

    #[tokio::test]
    async fn the_record_of_changes_is_trimmed() {
        let folder = tempfile::tempdir().unwrap();
        let (here, there) = two_programs(&folder).await;
        let mut tx = here.inner.db.begin(Durability::Relaxed).await.unwrap();
        tx.take("revision", REMEMBERED).await.unwrap();
        tx.commit().await.unwrap();
        here.add_label("alice", "late").await.unwrap();
        let row = here.inner.db.row("SELECT COUNT(*) FROM changes", args![]).await.unwrap();
        assert_eq!(row.unwrap().int(0).unwrap(), 1);
        let mut heard = there.changes();
        there.refresh().await.unwrap();
        assert_eq!(*heard.try_recv().unwrap(), [Changed::Everything]);
    }
}
