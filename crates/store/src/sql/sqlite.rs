//! SQLite: one file, one writer at a time, several readers.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::pool::PoolOptions;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteRow,
};
use sqlx::{ConnectOptions, Connection as _, SqlStr, Sqlite};

use super::{Access, Arg, Durability, damaged};
use crate::error::StoreError;
use crate::file::Identity;

pub(super) struct File {
    path: PathBuf,
    /// Which file it was when it was opened.
    identity: Option<Identity>,
    /// Another file, or none, is in its place.
    gone: AtomicBool,
    /// One connection: SQLite has one writer at a time anyway, and so writers of this process queue in
    /// their order instead of polling the file's lock against each other.
    writer: SqlitePool,
    readers: SqlitePool,
    /// One connection, that brings the write-ahead log home while the writer goes on.
    tidier: SqlitePool,
}

/// Pages of write-ahead log, 4 KiB each, at which the change that reaches them brings it home and waits for
/// the disk: where nobody calls [`File::tidy`], or it does not keep up.
const MOST_LOG: &str = "8000";

impl File {
    /// Opens an existing file (an empty one is a database without tables). Waits at most the deadline.
    pub(super) async fn open(path: &Path, at: &Access, readers: u32) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .busy_timeout(at.deadline)
            .foreign_keys(true)
            // What is deleted is overwritten: a removed credential is not left in the file's free pages.
            .pragma("secure_delete", "ON")
            .pragma("trusted_schema", "OFF")
            .pragma("wal_autocheckpoint", MOST_LOG)
            .disable_statement_logging();
        let pool = |max| {
            PoolOptions::<Sqlite>::new()
                .max_connections(max)
                .acquire_timeout(at.deadline)
                // A connection is a file in this process: asking whether it still lives is a round trip
                // for nothing.
                .test_before_acquire(false)
                // When the disk is full SQLite ends the transaction by itself, and the library above it
                // goes on counting one: every later change would fail. Such a connection is closed, and
                // the next call opens another.
                .before_acquire(|connection, _| {
                    let usable = !connection.is_in_transaction();
                    Box::pin(async move { Ok(usable) })
                })
                .max_lifetime(None)
                .idle_timeout(None)
        };
        // Switching a file to WAL does not wait for its lock, whatever the busy timeout says, so that two
        // programs that open a new file at the same moment would trip over each other.
        let deadline = tokio::time::Instant::now() + at.deadline;
        let writer = loop {
            let options = options.clone().journal_mode(SqliteJournalMode::Wal);
            match pool(1).connect_with(options).await.map_err(|e| classify(at, e)) {
                Ok(writer) => break writer,
                Err(StoreError::Busy { .. }) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => return Err(error),
            }
        };
        let tidier = pool(1).connect_lazy_with(options.clone());
        let readers = pool(readers.max(1)).connect_lazy_with(options.pragma("query_only", "ON"));
        let (path, gone) = (path.to_owned(), AtomicBool::new(false));
        Ok(Self { identity: Identity::of(&path), path, gone, writer, readers, tidier })
    }

    /// Whether the file that was opened is still the one at its path. SQLite goes on with a file that was
    /// moved away, and what it writes there is lost to everybody else; so nothing is read or written until
    /// it is back.
    pub(super) fn look(&self, at: &Access) -> Result<(), StoreError> {
        self.gone.store(Identity::of(&self.path) != self.identity, Ordering::Release);
        self.here(at)
    }

    fn here(&self, at: &Access) -> Result<(), StoreError> {
        match self.gone.load(Ordering::Acquire) {
            false => Ok(()),
            true => Err(StoreError::Unavailable {
                place: at.place.clone(),
                why: "the file was moved or replaced while it was open, or its folder cannot be \
                     looked into: put it back, or start again"
                    .into(),
            }),
        }
    }

    pub(super) async fn rows(
        &self,
        at: &Access,
        sql: SqlStr,
        args: Vec<Arg>,
    ) -> Result<Vec<SqliteRow>, StoreError> {
        self.here(at)?;
        bind(sql, args).fetch_all(&self.readers).await.map_err(|e| classify(at, e))
    }

    pub(super) async fn begin(
        &self,
        at: &Access,
        durability: Durability,
    ) -> Result<SqliteTx, StoreError> {
        self.here(at)?;
        let sql = match durability {
            Durability::Sure => "PRAGMA synchronous = FULL; BEGIN IMMEDIATE",
            Durability::Relaxed => "PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE",
        };
        let tx = self.writer.begin_with(sql).await.map_err(|e| classify(at, e))?;
        Ok(SqliteTx { tx })
    }

    /// Writes a consistent copy into `target`, an empty file or none.
    pub(super) async fn copy_into(&self, at: &Access, target: &str) -> Result<(), StoreError> {
        self.here(at)?;
        let sql = sqlx::SqlSafeStr::into_sql_str("VACUUM INTO $1");
        let done = bind(sql, vec![target.into()]).execute(&self.writer).await;
        done.map(|_| ()).map_err(|e| classify(at, e))
    }

    /// Brings the write-ahead log home, as far as no reader needs it, on a connection of its own: otherwise one
    /// change in a few hundred would do it for all and wait for the disk.
    pub(super) async fn tidy(&self, at: &Access) -> Result<(), StoreError> {
        self.here(at)?;
        let sql = sqlx::SqlSafeStr::into_sql_str("PRAGMA wal_checkpoint(PASSIVE)");
        let done = bind(sql, Vec::new()).fetch_all(&self.tidier).await;
        done.map(|_| ()).map_err(|e| classify(at, e))
    }

    /// Leaves WAL, which SQLite does for a file's only connection and nobody else.
    pub(super) async fn alone_in_one_file(&self, at: &Access) -> Result<(), StoreError> {
        self.readers.close().await;
        self.tidier.close().await;
        let sql = sqlx::SqlSafeStr::into_sql_str("PRAGMA journal_mode = DELETE");
        let done = bind(sql, Vec::new()).fetch_all(&self.writer).await;
        done.map(|_| ()).map_err(|e| classify(at, e))
    }

    pub(super) async fn close(&self) {
        self.readers.close().await;
        self.tidier.close().await;
        self.writer.close().await;
    }
}

/// A transaction; dropped, it is rolled back.
pub(super) struct SqliteTx {
    tx: sqlx::Transaction<'static, Sqlite>,
}

impl SqliteTx {
    pub(super) async fn run(
        &mut self,
        at: &Access,
        sql: SqlStr,
        args: Vec<Arg>,
    ) -> Result<u64, StoreError> {
        let done = bind(sql, args).execute(&mut *self.tx).await;
        Ok(done.map_err(|e| classify(at, e))?.rows_affected())
    }

    pub(super) async fn rows(
        &mut self,
        at: &Access,
        sql: SqlStr,
        args: Vec<Arg>,
    ) -> Result<Vec<SqliteRow>, StoreError> {
        bind(sql, args).fetch_all(&mut *self.tx).await.map_err(|e| classify(at, e))
    }

    pub(super) async fn script(&mut self, at: &Access, sql: SqlStr) -> Result<(), StoreError> {
        let done = sqlx::raw_sql(sql).execute(&mut *self.tx).await;
        done.map(|_| ()).map_err(|e| classify(at, e))
    }

    pub(super) async fn commit(self, at: &Access) -> Result<(), StoreError> {
        self.tx.commit().await.map_err(|e| classify(at, e))
    }
}

/// The tables that exist.
pub(super) const TABLES: &str = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";

/// `(?, ?), (?, ?)`: SQLite finds the place of each `$n` by a search through all names before it, which for
/// hundreds of them was half of the audit's cost; a bare `?` needs none.
pub(super) fn placeholders(rows: usize, columns: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(", "));
    vec![row; rows].join(", ")
}

fn bind(sql: SqlStr, args: Vec<Arg>) -> sqlx::query::Query<'static, Sqlite, SqliteArguments> {
    args.into_iter().fold(sqlx::query(sql), |query, arg| match arg {
        Arg::Int(value) => query.bind(value),
        Arg::Text(value) => query.bind(value),
    })
}

/// One function from the database's errors to ours. Codes: <https://www.sqlite.org/rescode.html>.
pub(super) fn classify(at: &Access, error: sqlx::Error) -> StoreError {
    let place = at.place.clone();
    match &error {
        sqlx::Error::PoolTimedOut => return StoreError::Busy { place, waited: at.deadline },
        sqlx::Error::PoolClosed => return StoreError::Closed,
        sqlx::Error::ColumnDecode { .. } => return damaged(at, error.to_string()),
        _ => {}
    }
    let code = error.as_database_error().and_then(|e| e.code()?.parse::<u32>().ok());
    // The low byte is the primary code; the rest says more than anybody needs here.
    match code.map(|c| c & 0xff) {
        Some(5 | 6) => StoreError::Busy { place, waited: at.deadline },
        Some(8) => StoreError::ReadOnly { place },
        Some(11) => damaged(at, "its content is damaged"),
        Some(13) => StoreError::Full { place },
        Some(26) => damaged(at, "it is not a SQLite database"),
        _ => StoreError::Database { place, source: Box::new(error) },
    }
}
