//! The only file that knows which database it is. Everything above says SQL text with `$1` placeholders
//! over two types, whole numbers and text, and reads columns by their position; SQLite and PostgreSQL
//! understand that alike.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolOptions;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteRow,
};
use sqlx::{ConnectOptions, Connection as _, Row as _, SqlSafeStr, Sqlite};

use crate::error::StoreError;

/// One argument of a statement. An absent value keeps its type, which PostgreSQL asks for.
#[derive(Debug, Clone)]
pub(crate) enum Arg {
    Int(Option<i64>),
    Text(Option<String>),
}

impl From<i64> for Arg {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<Option<i64>> for Arg {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}

impl From<bool> for Arg {
    fn from(value: bool) -> Self {
        Self::Int(Some(value.into()))
    }
}

impl From<&str> for Arg {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}

impl From<String> for Arg {
    fn from(value: String) -> Self {
        Self::Text(Some(value))
    }
}

impl From<Option<String>> for Arg {
    fn from(value: Option<String>) -> Self {
        Self::Text(value)
    }
}

impl From<&Option<String>> for Arg {
    fn from(value: &Option<String>) -> Self {
        Self::Text(value.clone())
    }
}

/// `args![name, now, None::<i64>]`: the arguments of a statement in their order.
macro_rules! args {
    ($($value:expr),* $(,)?) => { vec![$($crate::sql::Arg::from($value)),*] };
}
pub(crate) use args;

/// What opening needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub(crate) path: PathBuf,
    pub(crate) deadline: Duration,
    pub(crate) readers: u32,
}

/// One row, read by position.
pub(crate) struct Row {
    row: SqliteRow,
    at: Arc<Access>,
}

impl Row {
    pub(crate) fn int(&self, column: usize) -> Result<i64, StoreError> {
        self.row.try_get(column).map_err(|e| classify(&self.at, e))
    }

    pub(crate) fn maybe_int(&self, column: usize) -> Result<Option<i64>, StoreError> {
        self.row.try_get(column).map_err(|e| classify(&self.at, e))
    }

    pub(crate) fn truth(&self, column: usize) -> Result<bool, StoreError> {
        Ok(self.int(column)? != 0)
    }

    pub(crate) fn text(&self, column: usize) -> Result<String, StoreError> {
        self.row.try_get(column).map_err(|e| classify(&self.at, e))
    }

    pub(crate) fn maybe_text(&self, column: usize) -> Result<Option<String>, StoreError> {
        self.row.try_get(column).map_err(|e| classify(&self.at, e))
    }
}

/// How sure a finished change must be of surviving a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// On the disk before the call returns: a password that was changed, an account that was disabled and
    /// a code that was used stay so.
    Sure,
    /// May be lost with the last moments before a power cut, never torn: statistics and the recent audit,
    /// whose durable record is elsewhere.
    Relaxed,
}

/// The open database.
pub(crate) struct Database {
    at: Arc<Access>,
    /// One connection: SQLite has one writer at a time anyway, and so writers of this process queue in
    /// their order instead of polling the file's lock against each other.
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Database {
    /// Opens an existing file (an empty one is a database without tables). Waits at most the deadline.
    pub(crate) async fn open(access: Access) -> Result<Self, StoreError> {
        let at = Arc::new(access);
        let options = SqliteConnectOptions::new()
            .filename(&at.path)
            .create_if_missing(false)
            .busy_timeout(at.deadline)
            .foreign_keys(true)
            // What is deleted is overwritten: a removed credential is not left in the file's free pages.
            .pragma("secure_delete", "ON")
            .pragma("trusted_schema", "OFF")
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
            match pool(1).connect_with(options).await.map_err(|e| classify(&at, e)) {
                Ok(writer) => break writer,
                Err(StoreError::Busy { .. }) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => return Err(error),
            }
        };
        let readers = pool(at.readers.max(1)).connect_lazy_with(options.pragma("query_only", "ON"));
        Ok(Self { at, writer, readers })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.at.path
    }

    /// What is wrong with its content.
    pub(crate) fn damaged(&self, why: impl Into<String>) -> StoreError {
        damaged(&self.at.path, why)
    }

    /// Something that is no fault of the database's, but happened to it.
    pub(crate) fn unknown(
        &self,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> StoreError {
        StoreError::Database { path: self.at.path.clone(), source: Box::new(source) }
    }

    /// Reads with one statement, which is one snapshot.
    pub(crate) async fn rows(
        &self,
        sql: impl SqlSafeStr,
        args: Vec<Arg>,
    ) -> Result<Vec<Row>, StoreError> {
        let rows = bind(sql, args).fetch_all(&self.readers).await;
        Ok(wrap(&self.at, rows.map_err(|e| classify(&self.at, e))?))
    }

    /// Reads at most one row.
    pub(crate) async fn row(
        &self,
        sql: impl SqlSafeStr,
        args: Vec<Arg>,
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.rows(sql, args).await?.into_iter().next())
    }

    /// Begins to write. The lock is taken at once, so that what is read inside stays true until the end.
    pub(crate) async fn begin(&self, durability: Durability) -> Result<Tx, StoreError> {
        let sql = match durability {
            Durability::Sure => "PRAGMA synchronous = FULL; BEGIN IMMEDIATE",
            Durability::Relaxed => "PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE",
        };
        let tx = self.writer.begin_with(sql).await.map_err(|e| classify(&self.at, e))?;
        Ok(Tx { tx, at: self.at.clone() })
    }

    /// Writes a consistent copy into `target`, an empty file or none.
    pub(crate) async fn copy_into(&self, target: &str) -> Result<(), StoreError> {
        let done = bind("VACUUM INTO $1", args![target]).execute(&self.writer).await;
        done.map(|_| ()).map_err(|e| classify(&self.at, e))
    }

    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// A transaction that writes. Dropped before [`Tx::commit`], it leaves nothing.
pub(crate) struct Tx {
    tx: sqlx::Transaction<'static, Sqlite>,
    at: Arc<Access>,
}

impl Tx {
    /// Runs a statement; gives how many rows it touched.
    pub(crate) async fn run(
        &mut self,
        sql: impl SqlSafeStr,
        args: Vec<Arg>,
    ) -> Result<u64, StoreError> {
        let done = bind(sql, args).execute(&mut *self.tx).await;
        Ok(done.map_err(|e| classify(&self.at, e))?.rows_affected())
    }

    pub(crate) async fn rows(
        &mut self,
        sql: impl SqlSafeStr,
        args: Vec<Arg>,
    ) -> Result<Vec<Row>, StoreError> {
        let rows = bind(sql, args).fetch_all(&mut *self.tx).await;
        Ok(wrap(&self.at, rows.map_err(|e| classify(&self.at, e))?))
    }

    pub(crate) async fn row(
        &mut self,
        sql: impl SqlSafeStr,
        args: Vec<Arg>,
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.rows(sql, args).await?.into_iter().next())
    }

    /// Runs several statements without arguments: a migration.
    pub(crate) async fn script(&mut self, sql: &'static str) -> Result<(), StoreError> {
        let done = sqlx::raw_sql(sql).execute(&mut *self.tx).await;
        done.map(|_| ()).map_err(|e| classify(&self.at, e))
    }

    /// The next `count` values of a counter: the last of them.
    pub(crate) async fn take(
        &mut self,
        counter: &'static str,
        count: i64,
    ) -> Result<i64, StoreError> {
        let sql = "UPDATE counters SET value = value + $1 WHERE name = $2 RETURNING value";
        match self.row(sql, args![count, counter]).await? {
            Some(row) => row.int(0),
            None => Err(damaged(&self.at.path, format!("its counter `{counter}` is gone"))),
        }
    }

    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        self.tx.commit().await.map_err(|e| classify(&self.at, e))
    }
}

/// The tables that exist, for telling a new file from a foreign one. (PostgreSQL has
/// `information_schema.tables` for this.)
pub(crate) const TABLES: &str = "SELECT name FROM sqlite_schema WHERE type = 'table'";

/// `(?, ?), (?, ?)`: the values of a many-row insert. SQLite finds the place of each `$n` by a search
/// through all names before it, which for hundreds of them was half of the audit's cost; a bare `?` needs
/// none. (PostgreSQL takes `$n` only, and has no such search.)
pub(crate) fn placeholders(rows: usize, columns: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(", "));
    vec![row; rows].join(", ")
}

pub(crate) fn damaged(path: &Path, why: impl Into<String>) -> StoreError {
    StoreError::NotAStore { path: path.to_owned(), why: why.into() }
}

fn wrap(at: &Arc<Access>, rows: Vec<SqliteRow>) -> Vec<Row> {
    rows.into_iter().map(|row| Row { row, at: at.clone() }).collect()
}

fn bind(
    sql: impl SqlSafeStr,
    args: Vec<Arg>,
) -> sqlx::query::Query<'static, Sqlite, SqliteArguments> {
    args.into_iter().fold(sqlx::query(sql), |query, arg| match arg {
        Arg::Int(value) => query.bind(value),
        Arg::Text(value) => query.bind(value),
    })
}

/// One function from the database's errors to ours. Codes: <https://www.sqlite.org/rescode.html>.
fn classify(at: &Access, error: sqlx::Error) -> StoreError {
    let path = at.path.clone();
    match &error {
        sqlx::Error::PoolTimedOut => return StoreError::Busy { path, waited: at.deadline },
        sqlx::Error::PoolClosed => return StoreError::Closed,
        sqlx::Error::ColumnDecode { .. } => return damaged(&path, error.to_string()),
        _ => {}
    }
    let code = error.as_database_error().and_then(|e| e.code()?.parse::<u32>().ok());
    // The low byte is the primary code; the rest says more than anybody needs here.
    match code.map(|c| c & 0xff) {
        Some(5 | 6) => StoreError::Busy { path, waited: at.deadline },
        Some(8) => StoreError::ReadOnly { path },
        Some(11) => damaged(&path, "its content is damaged"),
        Some(13) => StoreError::Full { path },
        Some(26) => damaged(&path, "it is not a SQLite database"),
        _ => StoreError::Database { path, source: Box::new(error) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn database(folder: &tempfile::TempDir) -> Database {
        let path = folder.path().join("a.db");
        crate::file::create(&path).unwrap();
        let deadline = Duration::from_secs(5);
        Database::open(Access { path, deadline, readers: 1 }).await.unwrap()
    }

    #[tokio::test]
    async fn a_full_disk_keeps_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let db = database(&folder).await;
        let mut tx = db.begin(Durability::Sure).await.unwrap();
        tx.script("CREATE TABLE t (a TEXT NOT NULL)").await.unwrap();
        // What SQLite does when the disk is full, without filling one.
        tx.rows("PRAGMA max_page_count = 10", args![]).await.unwrap();
        tx.run("INSERT INTO t VALUES ($1)", args!["small"]).await.unwrap();
        tx.commit().await.unwrap();

        let mut tx = db.begin(Durability::Sure).await.unwrap();
        let large = "x".repeat(100_000);
        let error = tx.run("INSERT INTO t VALUES ($1)", args![large]).await.unwrap_err();
        assert!(matches!(error, StoreError::Full { .. }), "{error}");
        drop(tx);
        let rows = db.rows("SELECT a FROM t", args![]).await.unwrap();
        assert_eq!(rows.len(), 1);
        let mut tx = db.begin(Durability::Relaxed).await.unwrap();
        tx.run("INSERT INTO t VALUES ($1)", args!["small"]).await.unwrap();
        tx.commit().await.unwrap();
    }

    #[tokio::test]
    async fn a_reader_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let db = database(&folder).await;
        // The same code as on a disk that is mounted read-only.
        let error = db.rows("CREATE TABLE t (a TEXT)", args![]).await.err().unwrap();
        assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
    }

    #[tokio::test]
    async fn changes_are_sure_unless_asked_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let db = database(&folder).await;
        for (durability, level) in
            [(Durability::Sure, 2), (Durability::Relaxed, 1), (Durability::Sure, 2)]
        {
            let mut tx = db.begin(durability).await.unwrap();
            let row = tx.row("PRAGMA synchronous", args![]).await.unwrap().unwrap();
            assert_eq!(row.int(0).unwrap(), level);
            let row = tx.row("PRAGMA foreign_keys", args![]).await.unwrap().unwrap();
            assert_eq!(row.int(0).unwrap(), 1);
        }
        let row = db.row("PRAGMA journal_mode", args![]).await.unwrap().unwrap();
        assert_eq!(row.text(0).unwrap(), "wal");
    }

    #[test]
    fn many_rows_of_placeholders() {
        assert_eq!(placeholders(2, 3), "(?, ?, ?), (?, ?, ?)");
    }
}
