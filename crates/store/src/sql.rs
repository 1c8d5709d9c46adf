//! The only place that knows which database it is. Everything above says SQL text with `$1` placeholders
//! over two types, whole numbers and text, and reads columns by their position; SQLite and PostgreSQL
//! understand that alike.

#[cfg(feature = "postgres")]
mod postgres;
mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqlSafeStr};

use crate::error::StoreError;
use crate::location::Location;

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

/// What every call needs to know: the place for its errors, and how long it may wait.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub(crate) place: String,
    pub(crate) deadline: Duration,
}

/// One row, read by position.
pub(crate) struct Row {
    row: AnyRow,
    at: Arc<Access>,
}

enum AnyRow {
    Sqlite(SqliteRow),
    #[cfg(feature = "postgres")]
    Postgres(sqlx::postgres::PgRow),
}

macro_rules! column {
    ($self:ident, $column:ident) => {
        match &$self.row {
            AnyRow::Sqlite(row) => row.try_get($column).map_err(|e| sqlite::classify(&$self.at, e)),
            #[cfg(feature = "postgres")]
            AnyRow::Postgres(row) => {
                row.try_get($column).map_err(|e| postgres::classify(&$self.at, e))
            }
        }
    };
}

impl Row {
    pub(crate) fn int(&self, column: usize) -> Result<i64, StoreError> {
        column!(self, column)
    }

    pub(crate) fn maybe_int(&self, column: usize) -> Result<Option<i64>, StoreError> {
        column!(self, column)
    }

    pub(crate) fn truth(&self, column: usize) -> Result<bool, StoreError> {
        Ok(self.int(column)? != 0)
    }

    pub(crate) fn text(&self, column: usize) -> Result<String, StoreError> {
        column!(self, column)
    }

    pub(crate) fn maybe_text(&self, column: usize) -> Result<Option<String>, StoreError> {
        column!(self, column)
    }
}

/// How sure a finished change must be of surviving a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// On the disk before the call returns: a password that was changed, an account that was disabled and
    /// a code that was used stay so.
    Sure,
    /// May be lost with the last moments before a power cut, or a crash of PostgreSQL, never torn: statistics,
    /// the recent audit, whose durable record is elsewhere, and new sessions, whose holders log in again.
    /// SQLite has handed it to the kernel: a crash of this program loses nothing.
    Relaxed,
}

/// The open database.
pub(crate) struct Database {
    at: Arc<Access>,
    kind: Kind,
}

enum Kind {
    Sqlite(sqlite::File),
    #[cfg(feature = "postgres")]
    Postgres(postgres::Server),
}

impl Database {
    /// Opens what is there. Waits at most the deadline. `readers` is how many reads run at a time.
    pub(crate) async fn open(
        location: &Location,
        deadline: Duration,
        readers: u32,
    ) -> Result<Self, StoreError> {
        let at = Arc::new(Access { place: location.to_string(), deadline });
        let kind = match location {
            Location::File(path) => Kind::Sqlite(sqlite::File::open(path, &at, readers).await?),
            #[cfg(feature = "postgres")]
            Location::Postgres(url) => Kind::Postgres(postgres::Server::open(url, &at, readers)?),
            #[cfg(not(feature = "postgres"))]
            Location::Postgres(_) => {
                return Err(StoreError::WithoutPostgres { place: at.place.clone() });
            }
        };
        Ok(Self { at, kind })
    }

    /// Where it is, for people.
    pub(crate) fn place(&self) -> &str {
        &self.at.place
    }

    /// What is wrong with its content.
    pub(crate) fn damaged(&self, why: impl Into<String>) -> StoreError {
        damaged(&self.at, why)
    }

    /// Something that is no fault of the database's, but happened to it.
    pub(crate) fn unknown(
        &self,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> StoreError {
        StoreError::Database { place: self.at.place.clone(), source: Box::new(source) }
    }

    /// Whether it is still where it was opened.
    pub(crate) fn look(&self) -> Result<(), StoreError> {
        match &self.kind {
            Kind::Sqlite(file) => file.look(&self.at),
            #[cfg(feature = "postgres")]
            Kind::Postgres(_) => Ok(()),
        }
    }

    /// Reads with one statement, which is one snapshot.
    pub(crate) async fn rows(
        &self,
        sql: impl SqlSafeStr,
        args: Vec<Arg>,
    ) -> Result<Vec<Row>, StoreError> {
        let (at, sql) = (&self.at, sql.into_sql_str());
        match &self.kind {
            Kind::Sqlite(file) => Ok(wrap(at, file.rows(at, sql, args).await?, AnyRow::Sqlite)),
            #[cfg(feature = "postgres")]
            Kind::Postgres(server) => {
                Ok(wrap(at, server.rows(at, sql, args).await?, AnyRow::Postgres))
            }
        }
    }

    /// Reads at most one row.
    pub(crate) async fn row(
        &self,
        sql: impl SqlSafeStr,
        args: Vec<Arg>,
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.rows(sql, args).await?.into_iter().next())
    }

    /// Begins to write. In SQLite nobody else writes until the end. In PostgreSQL others do, row by row; see
    /// [`Tx::alone`] and [`Tx::hold`].
    pub(crate) async fn begin(&self, durability: Durability) -> Result<Tx, StoreError> {
        let at = self.at.clone();
        let kind = match &self.kind {
            Kind::Sqlite(file) => AnyTx::Sqlite(file.begin(&at, durability).await?),
            #[cfg(feature = "postgres")]
            Kind::Postgres(server) => AnyTx::Postgres(server.begin(&at, durability).await?),
        };
        Ok(Tx { kind, at })
    }

    /// Begins to change the tables themselves, one program at a time; gives those that exist.
    pub(crate) async fn begin_migration(&self) -> Result<(Tx, Vec<String>), StoreError> {
        let mut tx = self.begin(Durability::Sure).await?;
        #[cfg(feature = "postgres")]
        if let AnyTx::Postgres(_) = tx.kind {
            tx.rows(postgres::MIGRATING, args![]).await?;
        }
        let sql = self.tables_sql();
        let names =
            tx.rows(sql, args![]).await?.iter().map(|row| row.text(0)).collect::<Result<_, _>>();
        Ok((tx, names?))
    }

    /// The tables that exist, for telling a new database from a foreign one.
    pub(crate) async fn tables(&self) -> Result<Vec<String>, StoreError> {
        self.rows(self.tables_sql(), args![]).await?.iter().map(|row| row.text(0)).collect()
    }

    fn tables_sql(&self) -> &'static str {
        match self.kind {
            Kind::Sqlite(_) => sqlite::TABLES,
            #[cfg(feature = "postgres")]
            Kind::Postgres(_) => postgres::TABLES,
        }
    }

    /// The values of an insert of many rows.
    pub(crate) fn placeholders(&self, rows: usize, columns: usize) -> String {
        match self.kind {
            Kind::Sqlite(_) => sqlite::placeholders(rows, columns),
            #[cfg(feature = "postgres")]
            Kind::Postgres(_) => postgres::placeholders(rows, columns),
        }
    }

    /// Writes a consistent copy into `target`, an empty file or none.
    pub(crate) async fn copy_into(&self, target: &str) -> Result<(), StoreError> {
        match &self.kind {
            Kind::Sqlite(file) => file.copy_into(&self.at, target).await,
            #[cfg(feature = "postgres")]
            Kind::Postgres(_) => Err(StoreError::NoFile { place: self.at.place.clone() }),
        }
    }

    /// What the database wants done now and then, beside the changes and not by one of them.
    pub(crate) async fn tidy(&self) -> Result<(), StoreError> {
        match &self.kind {
            Kind::Sqlite(file) => file.tidy(&self.at).await,
            // It has processes of its own for that.
            #[cfg(feature = "postgres")]
            Kind::Postgres(_) => Ok(()),
        }
    }

    /// Reads all of a file; an error if any of it is damaged.
    pub(crate) async fn check_whole(&self) -> Result<(), StoreError> {
        for (sql, sound) in
            [("PRAGMA integrity_check(1)", Some("ok")), ("PRAGMA foreign_key_check", None)]
        {
            let said = self.row(sql, args![]).await?.map(|row| row.text(0)).transpose()?;
            if said.as_deref() != sound {
                return Err(self.damaged("its content is damaged"));
            }
        }
        Ok(())
    }

    /// Makes a file whole in itself, without the two beside it, if nobody else has it open.
    pub(crate) async fn alone_in_one_file(&self) -> Result<(), StoreError> {
        match &self.kind {
            Kind::Sqlite(file) => file.alone_in_one_file(&self.at).await,
            #[cfg(feature = "postgres")]
            Kind::Postgres(_) => Err(StoreError::NoFile { place: self.at.place.clone() }),
        }
    }

    /// Whether it is a file of ours, and not a server.
    pub(crate) fn is_file(&self) -> bool {
        matches!(self.kind, Kind::Sqlite(_))
    }

    pub(crate) async fn close(&self) {
        match &self.kind {
            Kind::Sqlite(file) => file.close().await,
            #[cfg(feature = "postgres")]
            Kind::Postgres(server) => server.close(&self.at).await,
        }
    }
}

/// A transaction that writes. Dropped before [`Tx::commit`], it leaves nothing.
pub(crate) struct Tx {
    kind: AnyTx,
    at: Arc<Access>,
}

enum AnyTx {
    Sqlite(sqlite::SqliteTx),
    #[cfg(feature = "postgres")]
    Postgres(postgres::PostgresTx),
}

impl Tx {
    /// Runs a statement; gives how many rows it touched.
    pub(crate) async fn run(
        &mut self,
        sql: impl SqlSafeStr,
        args: Vec<Arg>,
    ) -> Result<u64, StoreError> {
        let sql = sql.into_sql_str();
        match &mut self.kind {
            AnyTx::Sqlite(tx) => tx.run(&self.at, sql, args).await,
            #[cfg(feature = "postgres")]
            AnyTx::Postgres(tx) => tx.run(&self.at, sql, args).await,
        }
    }

    pub(crate) async fn rows(
        &mut self,
        sql: impl SqlSafeStr,
        args: Vec<Arg>,
    ) -> Result<Vec<Row>, StoreError> {
        let (at, sql) = (&self.at, sql.into_sql_str());
        match &mut self.kind {
            AnyTx::Sqlite(tx) => Ok(wrap(at, tx.rows(at, sql, args).await?, AnyRow::Sqlite)),
            #[cfg(feature = "postgres")]
            AnyTx::Postgres(tx) => Ok(wrap(at, tx.rows(at, sql, args).await?, AnyRow::Postgres)),
        }
    }

    pub(crate) async fn row(
        &mut self,
        sql: impl SqlSafeStr,
        args: Vec<Arg>,
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.rows(sql, args).await?.into_iter().next())
    }

    /// Reads a row of one table by its key, and keeps everybody else from changing it until the end.
    pub(crate) async fn hold(
        &mut self,
        sql: &'static str,
        args: Vec<Arg>,
    ) -> Result<Option<Row>, StoreError> {
        match self.kind {
            // Nobody else writes anyway.
            AnyTx::Sqlite(_) => self.row(sql, args).await,
            #[cfg(feature = "postgres")]
            AnyTx::Postgres(_) => {
                self.row(sqlx::AssertSqlSafe(format!("{sql} FOR NO KEY UPDATE")), args).await
            }
        }
    }

    /// Waits until no change is under way, and lets none begin until the end. Whoever touches rows that a
    /// change touches too, in whatever order, is alone; so nobody ever waits in a circle.
    pub(crate) async fn alone(&mut self) -> Result<(), StoreError> {
        self.hold("SELECT value FROM counters WHERE name = 'revision'", args![]).await.map(|_| ())
    }

    /// Runs several statements without arguments: a migration.
    pub(crate) async fn script(&mut self, sql: &'static str) -> Result<(), StoreError> {
        match &mut self.kind {
            AnyTx::Sqlite(tx) => tx.script(&self.at, sql.into_sql_str()).await,
            #[cfg(feature = "postgres")]
            AnyTx::Postgres(tx) => tx.script(&self.at, sql).await,
        }
    }

    /// The next `count` values of a counter: the last of them. Everybody else who wants some of it waits
    /// until the end.
    pub(crate) async fn take(
        &mut self,
        counter: &'static str,
        count: i64,
    ) -> Result<i64, StoreError> {
        let sql = "UPDATE counters SET value = value + $1 WHERE name = $2 RETURNING value";
        match self.row(sql, args![count, counter]).await? {
            Some(row) => row.int(0),
            None => Err(damaged(&self.at, format!("its counter `{counter}` is gone"))),
        }
    }

    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        match self.kind {
            AnyTx::Sqlite(tx) => tx.commit(&self.at).await,
            #[cfg(feature = "postgres")]
            AnyTx::Postgres(tx) => tx.commit(&self.at).await,
        }
    }
}

fn damaged(at: &Access, why: impl Into<String>) -> StoreError {
    StoreError::NotAStore { place: at.place.clone(), why: why.into() }
}

fn wrap<R>(at: &Arc<Access>, rows: Vec<R>, kind: impl Fn(R) -> AnyRow) -> Vec<Row> {
    rows.into_iter().map(|row| Row { row: kind(row), at: at.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn database(folder: &tempfile::TempDir) -> Database {
        let path = folder.path().join("a.db");
        crate::file::create(&path).unwrap();
        let deadline = Duration::from_secs(5);
        Database::open(&path.into(), deadline, 1).await.unwrap()
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

    /// The log begins at its front again after each time; nobody's change had to wait for that.
    #[tokio::test]
    async fn a_tidied_log_does_not_grow() {
        let folder = tempfile::tempdir().unwrap();
        let db = database(&folder).await;
        let mut tx = db.begin(Durability::Relaxed).await.unwrap();
        tx.script("CREATE TABLE t (a TEXT NOT NULL)").await.unwrap();
        tx.commit().await.unwrap();
        let large = "x".repeat(100_000);
        let log = || {
            let files = std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap);
            let logs = files.filter(|file| file.file_name().to_string_lossy().ends_with("-wal"));
            logs.map(|file| file.metadata().unwrap().len()).sum::<u64>()
        };
        for tidied in [false, true] {
            if tidied {
                db.tidy().await.unwrap();
            }
            let before = log();
            for _ in 0..20 {
                let mut tx = db.begin(Durability::Relaxed).await.unwrap();
                tx.run("INSERT INTO t VALUES ($1)", args![&*large]).await.unwrap();
                tx.commit().await.unwrap();
                if tidied {
                    db.tidy().await.unwrap();
                }
            }
            let grown = log() - before;
            assert_eq!(grown == 0, tidied, "{grown}");
        }
        let rows = db.rows("SELECT a FROM t", args![]).await.unwrap();
        assert_eq!(rows.len(), 40);
        db.close().await;
        assert!(matches!(db.tidy().await, Err(StoreError::Closed)));
    }

    #[test]
    fn many_rows_of_placeholders() {
        assert_eq!(sqlite::placeholders(2, 3), "(?, ?, ?), (?, ?, ?)");
        #[cfg(feature = "postgres")]
        assert_eq!(postgres::placeholders(2, 3), "($1, $2, $3), ($4, $5, $6)");
    }
}
