//! Bringing a backup back.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::StoreError;
use crate::file;
use crate::location::Location;
use crate::schema;
use crate::sql::{Database, Durability, args};
use crate::store::Store;

/// How long restoring waits for whoever still has the old store open.
const DEADLINE: Duration = Duration::from_secs(2);

/// What restoring did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Accounts in the restored store.
    pub accounts: u64,
    /// Where the store that was there before is now.
    pub kept: Option<PathBuf>,
}

impl Store {
    /// Puts a copy of the store in the file `from` in the place `to`, which no program may have open. The
    /// copy is checked first: a whole file, of a version that this program knows. What was at `to` is kept
    /// beside it. Sessions do not come back with it, because some of them were ended after the backup was
    /// made; and numbers go on after those of the old store, so that nobody takes an account for another.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if the old store is in use: stop the server; [`StoreError::Missing`],
    /// [`StoreError::NotAStore`], [`StoreError::Newer`], [`StoreError::Exposed`], [`StoreError::Io`].
    /// Whatever fails, there is a store at `to` if there was one.
    pub async fn restore(
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
    ) -> Result<Restored, StoreError> {
        let (from, to) = (from.as_ref(), to.as_ref());
        file::prepare(from, false)?;
        let old = counters_of(to).await?;
        // In the same folder, so that it can take the other's place in one step.
        let copy = beside(to, "restoring");
        let _ = fs::remove_file(&copy);
        let unfinished = file::RemoveOnDrop::new(&copy);
        let db = Database::open(&Location::from(from), DEADLINE, 1).await?;
        let copied = async {
            db.check_whole().await?;
            schema::check(&db).await?;
            file::create(&copy)?;
            let text = copy.to_str();
            let text = text.ok_or_else(|| db.damaged("the path is not UTF-8"))?;
            db.copy_into(text).await
        };
        let copied = copied.await;
        db.close().await;
        copied?;
        let accounts = prepare(&copy, old).await?;
        file::sync(&copy)?;
        let kept = match old {
            Some(_) => Some(keep(to)?),
            None => None,
        };
        fs::rename(&copy, to).map_err(|source| io(to, source))?;
        unfinished.keep();
        sync_folder(to)?;
        Ok(Restored { accounts, kept })
    }
}

/// The last id and the last revision of the store at a path, which nobody else has open and which is one
/// file after this. `None`: there is none. A damaged one has no numbers, and may be replaced.
async fn counters_of(path: &Path) -> Result<Option<(i64, i64)>, StoreError> {
    match file::prepare(path, false) {
        Ok(()) => {}
        Err(StoreError::Missing { .. }) => return Ok(None),
        // Whoever may read it: it is about to be replaced.
        Err(StoreError::Exposed { .. }) => {}
        Err(error) => return Err(error),
    }
    let location = Location::from(path);
    let numbers = async {
        let db = Database::open(&location, DEADLINE, 1).await?;
        let sql = "SELECT (SELECT value FROM counters WHERE name = 'id'), \
                   (SELECT value FROM counters WHERE name = 'revision')";
        let row = db.row(sql, args![]).await;
        let alone = db.alone_in_one_file().await;
        db.close().await;
        alone?;
        let Some(row) = row? else { return Ok((0, 0)) };
        Ok((row.maybe_int(0)?.unwrap_or(0), row.maybe_int(1)?.unwrap_or(0)))
    };
    match numbers.await {
        Ok(numbers) => Ok(Some(numbers)),
        Err(StoreError::NotAStore { .. } | StoreError::Database { .. }) => Ok(Some((0, 0))),
        Err(error) => Err(error),
    }
}

/// Makes a checked copy ready to be opened; gives how many accounts it has.
async fn prepare(copy: &Path, old: Option<(i64, i64)>) -> Result<u64, StoreError> {
    let db = Database::open(&Location::from(copy), DEADLINE, 1).await?;
    let prepared = async {
        schema::migrate(&db, false).await?;
        let (id, revision) = old.unwrap_or_default();
        let mut tx = db.begin(Durability::Sure).await?;
        tx.run("DELETE FROM sessions", args![]).await?;
        tx.run("DELETE FROM changes", args![]).await?;
        for (name, least) in [("id", id), ("revision", revision.saturating_add(1))] {
            let sql = "UPDATE counters SET value = $1 WHERE name = $2 AND value < $1";
            tx.run(sql, args![least, name]).await?;
        }
        let row = tx.row("SELECT COUNT(*) FROM accounts", args![]).await?;
        let accounts = row.map_or(Ok(0), |row| row.int(0))?.unsigned_abs();
        tx.commit().await?;
        db.alone_in_one_file().await?;
        Ok(accounts)
    };
    let prepared = prepared.await;
    db.close().await;
    prepared
}

/// Gives the old store a second name, and any half of it that a damaged one left.
fn keep(path: &Path) -> Result<PathBuf, StoreError> {
    let mut number = 1;
    let kept = loop {
        let name = beside(path, &format!("replaced-{number}"));
        match fs::hard_link(path, &name) {
            Ok(()) => break name,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && number < 10_000 => {
                number += 1;
            }
            Err(source) => return Err(io(&name, source)),
        }
    };
    for half in ["-wal", "-shm"] {
        let (old, new) = (beside_raw(path, half), beside_raw(&kept, half));
        match fs::rename(&old, new) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(io(&old, source)),
        }
    }
    Ok(kept)
}

fn beside(path: &Path, what: &str) -> PathBuf {
    beside_raw(path, &format!(".{what}"))
}

fn beside_raw(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Until the folder is on the disk, so is not what its names mean.
fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    fs::File::open(folder).and_then(|f| f.sync_all()).map_err(|source| io(folder, source))
}

fn io(path: &Path, source: std::io::Error) -> StoreError {
    StoreError::Io { path: path.to_owned(), source }
}
