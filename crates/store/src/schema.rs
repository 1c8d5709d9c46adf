//! Versions of the schema, forward only: each numbered file runs once, whole, in a transaction.

use crate::error::StoreError;
use crate::sql::{Database, Tx, args};

/// The files in their order; the version of a file is its place, from 1. A file that was released is
/// never edited: what is to change goes into the next one.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/0001_accounts.sql"),
    include_str!("schema/0002_sessions_and_audit.sql"),
    include_str!("schema/0003_secrets_and_throttles.sql"),
    include_str!("schema/0004_subjects.sql"),
];

/// The newest version that this program knows.
pub(crate) const KNOWN: i64 = MIGRATIONS.len() as i64;

/// Brings the database to [`KNOWN`]. `create` allows to begin with an empty one.
pub(crate) async fn migrate(db: &Database, create: bool) -> Result<(), StoreError> {
    // Without the write lock first: almost always there is nothing to do, and then opening waits for
    // nobody.
    if version(&db.tables().await?, db, create)?.is_some() {
        let row = db.row(CURRENT, args![]).await?;
        if known(db, row.map_or(Ok(0), |r| r.int(0))?)? == KNOWN {
            return Ok(());
        }
    }
    loop {
        // Read again under the lock: another program may be doing the same.
        let (mut tx, tables) = db.begin_migration().await?;
        let now = match version(&tables, db, create)? {
            None => {
                tx.script(
                    "CREATE TABLE schema_versions (version BIGINT NOT NULL PRIMARY KEY, program TEXT NOT NULL)",
                )
                .await?;
                0
            }
            Some(()) => known(db, tx.row(CURRENT, args![]).await?.map_or(Ok(0), |r| r.int(0))?)?,
        };
        let Some(migration) = usize::try_from(now).ok().and_then(|n| MIGRATIONS.get(n)) else {
            return Ok(());
        };
        apply(tx, migration, now + 1).await?;
    }
}

/// Whether it is a store of a version that this program knows.
pub(crate) async fn check(db: &Database) -> Result<(), StoreError> {
    version(&db.tables().await?, db, false)?;
    let row = db.row(CURRENT, args![]).await?;
    match known(db, row.map_or(Ok(0), |r| r.int(0))?)? {
        0 => Err(db.damaged("it has no version")),
        _ => Ok(()),
    }
}

const CURRENT: &str = "SELECT version FROM schema_versions ORDER BY version DESC LIMIT 1";

async fn apply(mut tx: Tx, migration: &'static str, version: i64) -> Result<(), StoreError> {
    tx.script(migration).await?;
    let sql = "INSERT INTO schema_versions (version, program) VALUES ($1, $2)";
    tx.run(sql, args![version, env!("CARGO_PKG_VERSION")]).await?;
    tx.commit().await
}

/// `None`: an empty database, and allowed to be.
fn version(tables: &[String], db: &Database, create: bool) -> Result<Option<()>, StoreError> {
    match tables.iter().any(|name| name == "schema_versions") {
        true => Ok(Some(())),
        false if !tables.is_empty() => Err(db.damaged("it is another program's database")),
        false if create => Ok(None),
        // A file is made by whoever wants a store there, so an empty one is the rest of something.
        false if db.is_file() => Err(db.damaged("it is empty")),
        false => Err(StoreError::Missing { place: db.place().to_owned() }),
    }
}

fn known(db: &Database, found: i64) -> Result<i64, StoreError> {
    if found > KNOWN {
        return Err(StoreError::Newer { place: db.place().to_owned(), found, known: KNOWN });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What only one of the two databases reads, or what one of them reads differently.
    #[test]
    fn both_databases_read_the_text() {
        for sql in MIGRATIONS {
            let code: String = sql
                .lines()
                .filter(|line| !line.trim_start().starts_with("--"))
                .collect::<Vec<_>>()
                .join("\n")
                .to_uppercase();
            for word in code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
                let foreign = [
                    "INTEGER",
                    "INT",
                    "BLOB",
                    "BYTEA",
                    "BOOLEAN",
                    "AUTOINCREMENT",
                    "SERIAL",
                    "ROWID",
                    "WITHOUT",
                    "PRAGMA",
                    "STRICT",
                    "DATETIME",
                    "TIMESTAMP",
                    "COLLATE",
                ];
                assert!(!foreign.contains(&word), "{word}");
            }
        }
    }
}
