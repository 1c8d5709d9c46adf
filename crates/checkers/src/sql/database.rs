//! The only file that knows which database it is.

use std::str::FromStr as _;
use std::time::Duration;

use countersign::{Fault, FaultKind, Secret};
use futures_util::TryStreamExt as _;
use sqlx::pool::{PoolConnection, PoolOptions};
use sqlx::{
    AssertSqlSafe, Column as _, ConnectOptions as _, Connection as _, Executor as _, Row as _,
    SqlSafeStr as _, Statement as _, TypeInfo as _, ValueRef as _,
};
use tokio::time::timeout;

use super::query::{Dialect, Query};
use super::{SqlError, SqlOptions};

/// One value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Int(i64),
    Text(String),
    /// Something else; its type.
    Other(String),
}

/// A row: columns by name.
pub(super) type Row = Vec<(String, Value)>;

/// What is wrong at the other end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("all connections are in use, or the database does not take any")]
    Pool,
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl Trouble {
    pub(super) fn fault(self, what: String) -> Fault {
        let kind = match &self {
            Self::Late(_) => FaultKind::Timeout,
            Self::Pool => FaultKind::Unavailable,
            Self::Database(sqlx::Error::Database(error)) => match error.code().as_deref() {
                // Shutting down, starting up, out of connections, cancelled; locked and busy in SQLite.
                Some(code) if code.starts_with("57") || code.starts_with("53") => {
                    FaultKind::Unavailable
                }
                Some("5" | "6" | "08S01") => FaultKind::Unavailable,
                _ => FaultKind::Internal,
            },
            Self::Database(
                sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed,
            ) => FaultKind::Unavailable,
            Self::Database(sqlx::Error::Protocol(_)) => FaultKind::Protocol,
            Self::Database(_) => FaultKind::Internal,
        };
        Fault::new(kind, what).caused_by(self)
    }

    /// Whether the statement itself is at fault.
    fn of_statement(&self) -> bool {
        let Self::Database(sqlx::Error::Database(error)) = self else { return false };
        // SQLite's own number for "SQL error", and the classes of PostgreSQL and MySQL for syntax and
        // access.
        error.code().is_none_or(|code| code == "1" || code.starts_with("42"))
    }
}

/// Connections to a database of one kind.
pub(super) enum Database {
    Sqlite(sqlite::Pools),
    #[cfg(feature = "postgres")]
    Postgres(postgres::Pools),
    #[cfg(feature = "mysql")]
    Mysql(mysql::Pools),
}

/// The same words over each.
macro_rules! each {
    ($database:expr, $pools:ident => $call:expr) => {
        match $database {
            Database::Sqlite($pools) => $call,
            #[cfg(feature = "postgres")]
            Database::Postgres($pools) => $call,
            #[cfg(feature = "mysql")]
            Database::Mysql($pools) => $call,
        }
    };
}

/// The dialect of an address, by its scheme.
pub(super) fn dialect(url: &str) -> Result<Dialect, SqlError> {
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
    match scheme {
        "sqlite" => Ok(Dialect::Sqlite),
        "postgres" | "postgresql" if cfg!(feature = "postgres") => Ok(Dialect::Postgres),
        "mysql" | "mariadb" if cfg!(feature = "mysql") => Ok(Dialect::Mysql),
        "postgres" | "postgresql" => Err(lacks("postgres")),
        "mysql" | "mariadb" => Err(lacks("mysql")),
        // Never the address itself: there may be a password in it.
        _ => Err(SqlError::of(
            "url",
            "it begins with none of `sqlite:`, `postgres://` and `mysql://`; a file is `sqlite:path`",
        )),
    }
}

fn lacks(feature: &str) -> SqlError {
    SqlError::of("url", format!("this build has no `{feature}`; build with `--features {feature}`"))
}

impl Database {
    /// Prepares the pools. Nothing is connected yet.
    pub(super) fn new(url: &Secret, options: &SqlOptions) -> Result<Self, SqlError> {
        let url = url.to_str().unwrap_or_default();
        Ok(match dialect(url)? {
            Dialect::Sqlite => Self::Sqlite(sqlite::Pools::new(url, options)?),
            #[cfg(feature = "postgres")]
            Dialect::Postgres => Self::Postgres(postgres::Pools::new(url, options)?),
            #[cfg(feature = "mysql")]
            Dialect::Mysql => Self::Mysql(mysql::Pools::new(url, options)?),
            #[allow(unreachable_patterns)]
            _ => return Err(lacks("postgres")),
        })
    }

    /// The rows of a query, `most` of them.
    pub(super) async fn rows(
        &self,
        query: &Query,
        values: &[&str],
        most: usize,
    ) -> Result<Vec<Row>, Trouble> {
        each!(self, pools => pools.rows(query, values, most).await)
    }

    /// Changes something, and says how many rows.
    pub(super) async fn change(&self, query: &Query, values: &[&str]) -> Result<u64, Trouble> {
        each!(self, pools => pools.change(query, values).await)
    }

    /// Has the database read the queries, on a connection of its own: the columns of each.
    ///
    /// # Errors
    /// The query that the database does not take; or, as a fault, that it cannot be asked.
    pub(super) async fn prepare(&self, queries: &[&Query]) -> Result<Vec<Vec<String>>, Refusal> {
        each!(self, pools => pools.prepare(queries).await)
    }
}

/// Why queries could not be prepared.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The database cannot be asked.
    Away(Trouble),
    /// It does not take this one.
    Query(SqlError),
}

macro_rules! kind {
    ($module:ident, $database:ty, $options:ty, $integers:expr) => {
        pub(super) mod $module {
            use super::*;

            pub(in super::super) struct Pools {
                readers: sqlx::Pool<$database>,
                /// For the one statement that changes something, where there is one.
                writer: sqlx::Pool<$database>,
                options: $options,
                deadline: Duration,
            }

            type Connection = PoolConnection<$database>;

            /// A connection on loan. Unless all went well it is not put back: nobody knows what it would
            /// answer next, and asking a server that hangs would hold its place.
            struct Lease {
                connection: Option<Connection>,
                well: bool,
            }

            impl Drop for Lease {
                fn drop(&mut self) {
                    if !self.well && let Some(connection) = self.connection.take() {
                        drop(connection.detach());
                    }
                }
            }

            impl Pools {
                pub(super) fn over(
                    readers: $options,
                    writer: $options,
                    options: &SqlOptions,
                    read_only: Option<&'static str>,
                ) -> Self {
                    let pool = |most| {
                        PoolOptions::<$database>::new()
                            .max_connections(most)
                            .acquire_timeout(options.timeout)
                            .idle_timeout(options.idle)
                    };
                    let begun = pool(options.connections.max(1)).after_connect(move |connection, _| {
                        Box::pin(async move {
                            if let Some(sql) = read_only {
                                connection.execute(sql).await?;
                            }
                            Ok(())
                        })
                    });
                    Self {
                        readers: begun.connect_lazy_with(readers.clone()),
                        writer: pool(1).connect_lazy_with(writer),
                        options: readers,
                        deadline: options.timeout,
                    }
                }

                async fn lend(&self, pool: &sqlx::Pool<$database>) -> Result<Lease, Trouble> {
                    let connection = pool.acquire().await.map_err(|error| match error {
                        sqlx::Error::PoolTimedOut => Trouble::Pool,
                        error => Trouble::Database(error),
                    })?;
                    Ok(Lease { connection: Some(connection), well: false })
                }

                pub(super) async fn rows(
                    &self,
                    query: &Query,
                    values: &[&str],
                    most: usize,
                ) -> Result<Vec<Row>, Trouble> {
                    let mut lease = self.lend(&self.readers).await?;
                    let Some(connection) = &mut lease.connection else { return Err(Trouble::Pool) };
                    let work = async {
                        // The text is the configuration's; see `query.rs`.
                        let mut statement = sqlx::query(AssertSqlSafe(query.sql.as_str()));
                        for value in values {
                            statement = statement.bind((*value).to_owned());
                        }
                        let mut found = Vec::new();
                        let mut rows = statement.fetch(&mut **connection);
                        while let Some(row) = rows.try_next().await? {
                            found.push(read(&row));
                            if found.len() >= most {
                                break;
                            }
                        }
                        Ok::<_, sqlx::Error>(found)
                    };
                    let late = |_| Trouble::Late(self.deadline);
                    let found = timeout(self.deadline, work).await.map_err(late)??;
                    // With rows unread, sqlx reads them before the next query; so it need not be closed.
                    lease.well = true;
                    Ok(found)
                }

                pub(super) async fn change(
                    &self,
                    query: &Query,
                    values: &[&str],
                ) -> Result<u64, Trouble> {
                    let mut lease = self.lend(&self.writer).await?;
                    let Some(connection) = &mut lease.connection else { return Err(Trouble::Pool) };
                    let mut statement = sqlx::query(AssertSqlSafe(query.sql.as_str()));
                    for value in values {
                        statement = statement.bind((*value).to_owned());
                    }
                    let late = |_| Trouble::Late(self.deadline);
                    let work = statement.execute(&mut **connection);
                    let done = timeout(self.deadline, work).await.map_err(late)??;
                    lease.well = true;
                    Ok(done.rows_affected())
                }

                pub(super) async fn prepare(
                    &self,
                    queries: &[&Query],
                ) -> Result<Vec<Vec<String>>, Refusal> {
                    let late = |_| Refusal::Away(Trouble::Late(self.deadline));
                    let connect = timeout(self.deadline, self.options.connect());
                    let away = |error| Refusal::Away(Trouble::Database(error));
                    let mut connection = connect.await.map_err(late)?.map_err(away)?;
                    let mut all = Vec::new();
                    for query in queries {
                        let text = <String as sqlx::Type<$database>>::type_info();
                        let types = vec![text; query.binds.len()];
                        let sql = AssertSqlSafe(query.sql.as_str()).into_sql_str();
                        let prepared = connection.prepare_with(sql, &types);
                        let prepared = timeout(self.deadline, prepared).await.map_err(late)?;
                        let statement = match prepared.map_err(Trouble::Database) {
                            Ok(statement) => statement,
                            Err(error) if error.of_statement() => {
                                let what = format!("the database does not take it: {error}");
                                return Err(Refusal::Query(SqlError::of(query.key, what)));
                            }
                            Err(error) => return Err(Refusal::Away(error)),
                        };
                        let count = match statement.parameters() {
                            Some(sqlx::Either::Left(types)) => types.len(),
                            Some(sqlx::Either::Right(count)) => count,
                            None => query.binds.len(),
                        };
                        if count != query.binds.len() {
                            let what = format!(
                                "the database counts {count} values in it and we {}: does it have \
                                 placeholders of its own, or a string that ends elsewhere for it?",
                                query.binds.len()
                            );
                            return Err(Refusal::Query(SqlError::of(query.key, what)));
                        }
                        let columns = statement.columns().iter();
                        all.push(columns.map(|column| column.name().to_owned()).collect());
                    }
                    let _ = timeout(self.deadline, connection.close()).await;
                    Ok(all)
                }
            }

            fn read(row: &<$database as sqlx::Database>::Row) -> Row {
                let columns = row.columns().iter();
                columns.map(|column| (column.name().to_owned(), value(row, column.ordinal()))).collect()
            }

            fn value(row: &<$database as sqlx::Database>::Row, at: usize) -> Value {
                let kind = match row.try_get_raw(at) {
                    Ok(raw) if raw.is_null() => return Value::Null,
                    Ok(raw) => raw.type_info().name().to_owned(),
                    Err(error) => return Value::Other(error.to_string()),
                };
                if let Some(number) = $integers(row, at) {
                    return Value::Int(number);
                }
                if let Ok(truth) = row.try_get::<bool, _>(at) {
                    return Value::Int(truth.into());
                }
                if let Ok(text) = row.try_get::<String, _>(at) {
                    return Value::Text(text);
                }
                // A binary collation makes bytes of a text.
                match row.try_get::<Vec<u8>, _>(at).map(String::from_utf8) {
                    Ok(Ok(text)) => Value::Text(text),
                    _ => Value::Other(kind),
                }
            }
        }
    };
}

kind!(
    sqlite,
    sqlx::Sqlite,
    sqlx::sqlite::SqliteConnectOptions,
    |row: &sqlx::sqlite::SqliteRow, at: usize| { row.try_get::<i64, _>(at).ok() }
);

#[cfg(feature = "postgres")]
kind!(
    postgres,
    sqlx::Postgres,
    sqlx::postgres::PgConnectOptions,
    |row: &sqlx::postgres::PgRow, at: usize| {
        let small = || row.try_get::<i16, _>(at).map(i64::from).ok();
        let middle = || row.try_get::<i32, _>(at).map(i64::from).ok();
        row.try_get::<i64, _>(at).ok().or_else(middle).or_else(small)
    }
);

#[cfg(feature = "mysql")]
kind!(
    mysql,
    sqlx::MySql,
    sqlx::mysql::MySqlConnectOptions,
    |row: &sqlx::mysql::MySqlRow, at: usize| {
        let unsigned =
            || row.try_get::<u64, _>(at).ok().and_then(|number| i64::try_from(number).ok());
        row.try_get::<i64, _>(at).ok().or_else(unsigned)
    }
);

/// What is wrong with an address, without the address.
fn unreadable(error: &dyn std::fmt::Display) -> SqlError {
    SqlError::of("url", format!("it cannot be read: {error}"))
}

impl sqlite::Pools {
    fn new(url: &str, options: &SqlOptions) -> Result<Self, SqlError> {
        let parsed = sqlx::sqlite::SqliteConnectOptions::from_str(url);
        let writer = parsed
            .map_err(|error| unreadable(&error))?
            .create_if_missing(false)
            .busy_timeout(options.timeout)
            .pragma("trusted_schema", "OFF")
            .disable_statement_logging();
        let readers = writer.clone().pragma("query_only", "ON");
        Ok(Self::over(readers, writer, options, None))
    }
}

#[cfg(feature = "postgres")]
impl postgres::Pools {
    fn new(url: &str, options: &SqlOptions) -> Result<Self, SqlError> {
        use sqlx::postgres::{PgConnectOptions, PgSslMode};
        let parsed = PgConnectOptions::from_str(url).map_err(|error| unreadable(&error))?;
        let safe = matches!(parsed.get_ssl_mode(), PgSslMode::VerifyCa | PgSslMode::VerifyFull);
        let local = parsed.get_socket().is_some();
        warn_unless_safe(safe || local, parsed.get_host(), "sslmode=verify-full");
        // The server gives up as well, so that what was given up here does not go on there.
        let limit = options.timeout.as_millis().max(1).to_string();
        let writer = parsed
            .application_name("countersign")
            .options([("statement_timeout", limit.as_str())])
            .disable_statement_logging();
        let readers = writer.clone().options([("default_transaction_read_only", "on")]);
        Ok(Self::over(readers, writer, options, None))
    }
}

#[cfg(feature = "mysql")]
impl mysql::Pools {
    fn new(url: &str, options: &SqlOptions) -> Result<Self, SqlError> {
        use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
        let parsed = MySqlConnectOptions::from_str(url).map_err(|error| unreadable(&error))?;
        let mode = parsed.get_ssl_mode();
        let safe = matches!(mode, MySqlSslMode::VerifyCa | MySqlSslMode::VerifyIdentity);
        let local = parsed.get_socket().is_some();
        warn_unless_safe(safe || local, parsed.get_host(), "ssl-mode=VERIFY_IDENTITY");
        let writer = parsed.disable_statement_logging();
        let read_only = Some("SET SESSION TRANSACTION READ ONLY");
        Ok(Self::over(writer.clone(), writer, options, read_only))
    }
}

/// Hashes and the database's password cross the network.
#[cfg(any(feature = "postgres", feature = "mysql"))]
fn warn_unless_safe(safe: bool, host: &str, remedy: &str) {
    let loopback = host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if !safe && !loopback && host != "localhost" && !host.starts_with('/') {
        tracing::warn!(
            host,
            "the connection to the database is not protected against others on the network; add `{remedy}` \
             to its address"
        );
    }
}
