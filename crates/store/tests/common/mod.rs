//! A store in a file of its own, or in a PostgreSQL schema of its own.
#![allow(dead_code, unused_macros)] // each test file uses its part

use std::path::PathBuf;
use std::time::Duration;

use countersign::Secret;
use countersign_store::*;

pub(crate) const NOW: i64 = 1_800_000_000;

/// The URL of a PostgreSQL database in which tests may make and drop schemas. Without it the tests on
/// PostgreSQL are not run, and say so.
const SERVER: &str = "COUNTERSIGN_TEST_POSTGRES";

/// Where a test's store is. It goes away at the end.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
    /// The file; there is none on PostgreSQL.
    pub(crate) path: PathBuf,
    pub(crate) location: Location,
}

impl Place {
    pub(crate) fn file() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accounts.db");
        let location = Location::from(&path);
        Self { folder, path, location }
    }

    pub(crate) fn at(location: impl Into<Location>) -> Self {
        Self { location: location.into(), ..Self::file() }
    }

    /// Another handle on the same store: another process, as far as the store can tell.
    pub(crate) async fn open(&self) -> Store {
        let options = OpenOptions::create().deadline(Duration::from_secs(20));
        Store::open(&self.location, options).await.unwrap()
    }

    /// Runs a statement past the store, for doing what the store never does.
    pub(crate) async fn raw(&self, sql: &str) {
        self.ask(sql).await;
    }

    /// The number that a statement gives, past the store.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.ask(sql).await.expect("a row")
    }

    async fn ask(&self, sql: &str) -> Option<i64> {
        let sql = sqlx::AssertSqlSafe(sql);
        match &self.location {
            #[cfg(feature = "postgres")]
            Location::Postgres(url) => {
                use sqlx::Connection;
                let mut raw = sqlx::PgConnection::connect(url.to_str().unwrap()).await.unwrap();
                sqlx::query_scalar(sql).fetch_optional(&mut raw).await.unwrap()
            }
            _ => sqlx::query_scalar(sql).fetch_optional(&mut raw(self).await).await.unwrap(),
        }
    }
}

/// `on_both![a, b]`: runs each of these functions, which take a [`Place`], on both databases.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[test]
            fn $name() {
                crate::common::play(crate::common::Place::file(), super::$name);
            })*
        }
        #[cfg(feature = "postgres")]
        mod on_postgres {
            $(#[test]
            fn $name() {
                crate::common::on_postgres(concat!("on_postgres::", stringify!($name)), super::$name);
            })*
        }
    };
}
#[allow(unused_imports)]
pub(crate) use on_both;

pub(crate) fn play(place: Place, test: impl AsyncFnOnce(Place)) {
    runtime().block_on(test(place));
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(4).enable_all().build().unwrap()
}

/// In a schema of its own, on the server that the variable names.
#[cfg(feature = "postgres")]
pub(crate) fn on_postgres(name: &str, test: impl AsyncFnOnce(Place)) {
    use std::sync::atomic::{AtomicU32, Ordering};
    static SCHEMAS: AtomicU32 = AtomicU32::new(0);

    let Ok(server) = std::env::var(SERVER) else {
        return not_run(name, &format!("{SERVER} names no database"));
    };
    let number = SCHEMAS.fetch_add(1, Ordering::Relaxed);
    let schema = format!("countersign_test_{}_{number}", std::process::id());
    let more = if server.contains('?') { '&' } else { '?' };
    let place = Place::at(&*format!("{server}{more}options=-csearch_path%3D{schema}"));
    let admin = Place::at(&*server);
    runtime().block_on(admin.raw(&format!("CREATE SCHEMA {schema}")));
    play(place, test);
    // Only after success: what a failed test leaves can be looked at.
    runtime().block_on(admin.raw(&format!("DROP SCHEMA {schema} CASCADE")));
}

/// Says that a test could not run, to people and to `cargo xtask test`.
pub(crate) fn not_run(name: &str, why: &str) {
    use std::io::Write;
    eprintln!("not run: {name}: {why}");
    if let Some(file) = std::env::var_os("COUNTERSIGN_NOT_RUN") {
        let mut file = std::fs::File::options().append(true).open(file).unwrap();
        writeln!(file, "{name}\t{why}").unwrap();
    }
}

pub(crate) fn user(name: &str) -> NewAccount {
    let mut new = NewAccount::new(name);
    new.credentials.push(password("$first$"));
    new
}

pub(crate) fn password(hash: &str) -> NewCredential {
    NewCredential::new(CredentialType::Password, Secret::from(hash))
}

pub(crate) async fn add(store: &Store, names: &[&str]) {
    for name in names {
        store.add_account(&user(name), NOW).await.unwrap();
    }
}

pub(crate) fn group(name: &str, gid: Option<u32>) -> Group {
    Group { name: name.into(), gid, description: String::new() }
}

/// A plain connection to the file.
pub(crate) async fn raw(place: &Place) -> sqlx::SqliteConnection {
    use sqlx::ConnectOptions;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&place.path);
    options.create_if_missing(true).connect().await.unwrap()
}
