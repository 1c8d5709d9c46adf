//! PostgreSQL: many nodes on one database.
//!
//! The connections are kept here and not in sqlx's pool, because that one goes on knocking at a server
//! that refuses until the deadline, and then says only that time is up. A login should be told at once.

use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use countersign::Secret;
use sqlx::postgres::{
    PgArguments, PgConnectOptions, PgConnection, PgDatabaseError, PgRow, PgSslMode,
};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, Postgres, SqlSafeStr, SqlStr};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::{Access, Arg, Durability, damaged};
use crate::error::StoreError;

/// The server ends a statement at the deadline and says why. This much later we stop listening to a server
/// that says nothing.
const GRACE: Duration = Duration::from_millis(500);

/// A connection that nobody used for so long may be dead without knowing it: firewalls forget.
const IDLE: Duration = Duration::from_secs(60);

/// Changing tables may take long, and happens once.
const MIGRATION: Duration = Duration::from_secs(600);

/// The tables that exist in the schema where new ones would go.
pub(super) const TABLES: &str =
    "SELECT CAST(tablename AS TEXT) FROM pg_catalog.pg_tables WHERE schemaname = current_schema()";

/// One program at a time changes tables. The number is the first eight letters of the project's name.
pub(super) const MIGRATING: &str =
    "SELECT CAST(1 AS BIGINT) FROM pg_advisory_xact_lock(7165064483192857459)";

/// `($1, $2), ($3, $4)`.
pub(super) fn placeholders(rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let places: Vec<_> = (1..=columns).map(|n| format!("${}", row * columns + n)).collect();
        format!("({})", places.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

pub(super) struct Server {
    pool: Arc<Pool>,
    /// Writers wait for each other, and must not take every connection meanwhile.
    writing: Arc<Semaphore>,
}

struct Pool {
    options: PgConnectOptions,
    idle: Mutex<Vec<(PgConnection, Instant)>>,
    permits: Arc<Semaphore>,
    size: u32,
}

impl Server {
    /// Reads the URL; connects when something is asked.
    pub(super) fn open(url: &Secret, at: &Access, readers: u32) -> Result<Self, StoreError> {
        let url = url.to_str().unwrap_or_default();
        let options = PgConnectOptions::from_str(url).map_err(|error| classify(at, error))?;
        let options = secure(options, url);
        let millis = |time: Duration| time.as_millis().to_string();
        let name = options.get_application_name().unwrap_or("countersign").to_owned();
        let options = options.application_name(&name).disable_statement_logging().options([
            ("statement_timeout", millis(at.deadline)),
            ("lock_timeout", millis(at.deadline)),
            // A node that was stopped in the middle of a change must not stop the others.
            ("idle_in_transaction_session_timeout", millis(at.deadline * 2)),
        ]);
        let readers = readers.max(1);
        let size = readers * 2;
        let pool = Pool {
            options,
            idle: Mutex::new(Vec::new()),
            permits: Arc::new(Semaphore::new(size as usize)),
            size,
        };
        Ok(Self { pool: Arc::new(pool), writing: Arc::new(Semaphore::new(readers as usize)) })
    }

    pub(super) async fn rows(
        &self,
        at: &Access,
        sql: SqlStr,
        args: Vec<Arg>,
    ) -> Result<Vec<PgRow>, StoreError> {
        loop {
            let mut held = self.pool.take(at).await?;
            let again = AssertSqlSafe(sql.as_str().to_owned()).into_sql_str();
            let rows = held.using(at, async |c| bind(again, &args).fetch_all(c).await).await;
            match rows {
                // It was lost while nobody used it, and says nothing about the server of now. A new one
                // does, so this comes to an end.
                Err(Trouble::Lost(_)) if !held.fresh => {}
                rows => return rows.map_err(|trouble| trouble.told(at)),
            }
        }
    }

    pub(super) async fn begin(
        &self,
        at: &Access,
        durability: Durability,
    ) -> Result<PostgresTx, StoreError> {
        // Said aloud, whatever the server's default is. What is sure is as sure as the operator has set it
        // up to be, see `Pool::connect`.
        let sql = match durability {
            Durability::Sure => "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
            Durability::Relaxed => {
                "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL synchronous_commit = off"
            }
        };
        let writing = permit(at, &self.writing).await?;
        loop {
            let mut held = self.pool.take(at).await?;
            match held.using(at, async |c| sqlx::raw_sql(sql).execute(c).await).await {
                Err(Trouble::Lost(_)) if !held.fresh => {}
                Err(trouble) => return Err(trouble.told(at)),
                Ok(_) => {
                    held.open = true;
                    return Ok(PostgresTx { held: Some(held), failed: false, _writing: writing });
                }
            }
        }
    }

    /// Lets the calls under way end, and refuses later ones.
    pub(super) async fn close(&self, at: &Access) {
        let all = timeout(at.deadline, self.pool.permits.acquire_many(self.pool.size)).await;
        self.pool.permits.close();
        self.writing.close();
        drop(all);
        let idle = std::mem::take(&mut *self.pool.idle());
        for (connection, _) in idle {
            // Whether it says goodbye does not matter any more.
            let _ = timeout(GRACE, connection.close()).await;
        }
    }
}

/// Without a word about it in the URL, a server on another machine must prove itself: a password is not for
/// whoever answers.
fn secure(options: PgConnectOptions, url: &str) -> PgConnectOptions {
    let said = url.contains("sslmode=") || url.contains("ssl-mode=");
    let host = options.get_host();
    let ours = options.get_socket().is_some()
        || host.starts_with('/')
        || host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback());
    match said || ours {
        true => options,
        false => options.ssl_mode(PgSslMode::VerifyFull),
    }
}

impl Pool {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<(PgConnection, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(self: &Arc<Self>, at: &Access) -> Result<Held, StoreError> {
        let permit = permit(at, &self.permits).await?;
        let usable = {
            let mut idle = self.idle();
            // The last one put back is on top, so the first one is the oldest.
            let old = idle.iter().take_while(|(_, since)| since.elapsed() > IDLE).count();
            idle.drain(..old);
            idle.pop()
        };
        let (connection, fresh) = match usable {
            Some((connection, _)) => (connection, false),
            None => (self.connect(at).await?, true),
        };
        let connection = Some(connection);
        Ok(Held {
            pool: self.clone(),
            connection,
            fresh,
            clean: true,
            open: false,
            _permit: permit,
        })
    }

    async fn connect(&self, at: &Access) -> Result<PgConnection, StoreError> {
        let connect = async {
            let mut connection = PgConnection::connect_with(&self.options).await?;
            // Turned off for all it would be off for what must be sure. Any other setting is the operator's.
            let sure = "SELECT set_config('synchronous_commit', 'on', false) \
                        WHERE current_setting('synchronous_commit') = 'off'";
            sqlx::raw_sql(sure).execute(&mut connection).await?;
            Ok(connection)
        };
        match timeout(at.deadline, connect).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(classify(at, error)),
            Err(_) => Err(unavailable(at, "it does not answer")),
        }
    }
}

/// A turn, at most after the deadline.
async fn permit(at: &Access, of: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, StoreError> {
    match timeout(at.deadline, of.clone().acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(_)) => Err(StoreError::Closed),
        Err(_) => Err(StoreError::Busy { place: at.place.clone(), waited: at.deadline }),
    }
}

/// A connection in use. Dropped, it goes back, unless an answer is outstanding on it.
struct Held {
    pool: Arc<Pool>,
    connection: Option<PgConnection>,
    /// Made for this use, so that what happens on it is news.
    fresh: bool,
    /// Nothing is under way on it.
    clean: bool,
    /// A transaction is.
    open: bool,
    _permit: OwnedSemaphorePermit,
}

/// Why a statement gave nothing.
enum Trouble {
    /// The connection is gone.
    Lost(sqlx::Error),
    Said(sqlx::Error),
    Silent,
}

impl Trouble {
    fn told(self, at: &Access) -> StoreError {
        match self {
            Self::Lost(error) | Self::Said(error) => classify(at, error),
            Self::Silent => unavailable(at, "it does not answer"),
        }
    }
}

impl Held {
    async fn using<T>(
        &mut self,
        at: &Access,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Trouble> {
        self.using_for(at.deadline + GRACE, work).await
    }

    async fn using_for<T>(
        &mut self,
        limit: Duration,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Trouble> {
        let Some(connection) = &mut self.connection else { return Err(Trouble::Silent) };
        // Until the answer is here; also when the caller goes away and this is never resumed.
        self.clean = false;
        match timeout(limit, work(connection)).await {
            Ok(Ok(value)) => {
                self.clean = true;
                Ok(value)
            }
            Ok(Err(error)) if lost(&error) => Err(Trouble::Lost(error)),
            Ok(Err(error)) => {
                self.clean = error.as_database_error().is_some();
                Err(Trouble::Said(error))
            }
            Err(_) => Err(Trouble::Silent),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Dropped with something under way it is closed, and the server undoes what was not committed.
        if self.clean
            && !self.open
            && !self.pool.permits.is_closed()
            && let Some(connection) = self.connection.take()
        {
            self.pool.idle().push((connection, Instant::now()));
        }
    }
}

/// A transaction; dropped, it is rolled back.
pub(super) struct PostgresTx {
    held: Option<Held>,
    /// A statement failed, after which PostgreSQL takes a COMMIT for a ROLLBACK and calls it a success.
    failed: bool,
    _writing: OwnedSemaphorePermit,
}

impl PostgresTx {
    async fn using<T>(
        &mut self,
        at: &Access,
        limit: Duration,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        let Some(held) = &mut self.held else { return Err(StoreError::Closed) };
        let done = held.using_for(limit, work).await;
        self.failed |= done.is_err();
        done.map_err(|trouble| trouble.told(at))
    }

    pub(super) async fn run(
        &mut self,
        at: &Access,
        sql: SqlStr,
        args: Vec<Arg>,
    ) -> Result<u64, StoreError> {
        let limit = at.deadline + GRACE;
        let done = self.using(at, limit, async |c| bind(sql, &args).execute(c).await).await;
        Ok(done?.rows_affected())
    }

    pub(super) async fn rows(
        &mut self,
        at: &Access,
        sql: SqlStr,
        args: Vec<Arg>,
    ) -> Result<Vec<PgRow>, StoreError> {
        let limit = at.deadline + GRACE;
        self.using(at, limit, async |c| bind(sql, &args).fetch_all(c).await).await
    }

    /// A migration, with every text ordered and compared by its bytes, as SQLite does.
    pub(super) async fn script(&mut self, at: &Access, sql: &str) -> Result<(), StoreError> {
        let sql = "SET LOCAL statement_timeout = 0; ".to_owned()
            + &sql.replace("TEXT", "TEXT COLLATE \"C\"");
        let work = async |c: &mut PgConnection| sqlx::raw_sql(AssertSqlSafe(sql)).execute(c).await;
        self.using(at, MIGRATION, work).await.map(|_| ())
    }

    pub(super) async fn commit(mut self, at: &Access) -> Result<(), StoreError> {
        if self.failed {
            let why = "a statement of the change has failed";
            return Err(StoreError::Database { place: at.place.clone(), source: why.into() });
        }
        let limit = at.deadline + GRACE;
        self.using(at, limit, async |c| sqlx::raw_sql("COMMIT").execute(c).await).await?;
        if let Some(held) = &mut self.held {
            held.open = false;
        }
        Ok(())
    }
}

impl Drop for PostgresTx {
    fn drop(&mut self) {
        let Some(mut held) = self.held.take() else { return };
        if !held.open || !held.clean {
            return;
        }
        // Refusals in the middle of a change are common, and a new connection costs more than a word.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let undo = async |c: &mut PgConnection| sqlx::raw_sql("ROLLBACK").execute(c).await;
                held.open = held.using_for(GRACE, undo).await.is_err();
                drop(held);
            });
        }
    }
}

fn bind(sql: SqlStr, args: &[Arg]) -> sqlx::query::Query<'static, Postgres, PgArguments> {
    args.iter().fold(sqlx::query(sql), |query, arg| match arg {
        Arg::Int(value) => query.bind(*value),
        Arg::Text(value) => query.bind(value.clone()),
    })
}

/// Whether the error says that the connection is of no more use.
fn lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => true,
        // Ended by the administrator, by a crash elsewhere in the server, or by a timer of the server's.
        _ => matches!(code(error), Some("57P01" | "57P02" | "57P05" | "25P03")),
    }
}

fn code(error: &sqlx::Error) -> Option<&str> {
    error.as_database_error()?.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::code)
}

fn unavailable(at: &Access, why: impl Into<String>) -> StoreError {
    StoreError::Unavailable { place: at.place.clone(), why: why.into() }
}

/// One function from the database's errors to ours. Codes:
/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
pub(super) fn classify(at: &Access, error: sqlx::Error) -> StoreError {
    let place = at.place.clone();
    let words = match error.as_database_error() {
        Some(said) => said.message().to_owned(),
        None => error.to_string(),
    };
    match &error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => {
            return unavailable(at, words);
        }
        sqlx::Error::Configuration(_) => return StoreError::BadUrl { place, why: words },
        sqlx::Error::ColumnDecode { .. } => return damaged(at, words),
        _ => {}
    }
    let Some(code) = code(&error) else {
        return StoreError::Database { place, source: Box::new(error) };
    };
    match code {
        // A lock, a statement's time, and two that waited for each other.
        "55P03" | "57014" | "40001" | "40P01" => StoreError::Busy { place, waited: at.deadline },
        "53100" => StoreError::Full { place },
        // A standby. It may become the primary, or the address go to another server.
        "25006" => unavailable(at, words),
        // The tables are gone, or are not what they were.
        "42P01" | "42703" | "XX001" | "XX002" => damaged(at, words),
        // User, password, pg_hba.conf, database, rights.
        "3D000" | "3F000" | "42501" => StoreError::Refused { place, why: words },
        _ => match &code[..2] {
            "28" => StoreError::Refused { place, why: words },
            // Connections, resources, the server's start and end.
            "08" | "53" | "57" | "58" => unavailable(at, words),
            _ => StoreError::Database { place, source: Box::new(error) },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> PgSslMode {
        secure(PgConnectOptions::from_str(url).unwrap(), url).get_ssl_mode()
    }

    #[test]
    fn a_server_elsewhere_must_prove_itself() {
        assert!(matches!(mode("postgres://u:p@db.example/d"), PgSslMode::VerifyFull));
        assert!(matches!(mode("postgres://u:p@192.0.2.1/d"), PgSslMode::VerifyFull));
        assert!(matches!(mode("postgres://u:p@db.example/d?sslmode=require"), PgSslMode::Require));
        assert!(matches!(mode("postgres://u:p@db.example/d?sslmode=disable"), PgSslMode::Disable));
        for near in ["localhost", "127.0.0.1", "[::1]", "%2Frun%2Fpostgresql"] {
            assert!(matches!(mode(&format!("postgres://u:p@{near}/d")), PgSslMode::Prefer));
        }
    }

    #[test]
    fn a_wrong_url_is_told_without_its_password() {
        let at = Access { place: "postgres://u@h".into(), deadline: Duration::from_secs(1) };
        for url in ["postgres://u:s3cret@h:port/d", "postgres://u:s3cret@h/d?sslmode=sure"] {
            let Err(error) = Server::open(&Secret::from(url), &at, 1) else { panic!("{url}") };
            assert!(matches!(error, StoreError::BadUrl { .. }), "{error}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }
}
