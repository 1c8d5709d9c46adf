//! What can go wrong, with the place and the remedy. None of these texts is for a peer.

use std::path::PathBuf;
use std::time::Duration;

/// A refusal or a breakdown of the store. Every text names the place and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such file, or the database is empty, and opening did not ask for a new one.
    #[error(
        "there is no account store at {place}: start the server once, which creates it, or name the right one"
    )]
    Missing {
        /// Where it was looked for.
        place: String,
    },
    /// The file or database is something else, or its content is damaged.
    #[error(
        "{place} is not a usable account store ({why}): name another one, or restore a backup in its place"
    )]
    NotAStore {
        /// The file or database.
        place: String,
        /// What was found instead.
        why: String,
    },
    /// The schema is newer than this program.
    #[error(
        "{place} was written by a newer Countersign (schema {found}, this one knows {known}): upgrade, or restore a backup"
    )]
    Newer {
        /// The file or database.
        place: String,
        /// The version that it has.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// Somebody else held the lock for longer than the deadline.
    #[error(
        "{place} was locked by another writer for longer than {waited:?}: try again; if it lasts, find who holds it open (a backup program, a database shell)"
    )]
    Busy {
        /// The file or database.
        place: String,
        /// The deadline that passed.
        waited: Duration,
    },
    /// It cannot be reached now: the server is down, restarting, full of connections, a standby, or its
    /// certificate does not prove it; the file was moved away. Whether a change that was being committed
    /// took effect is then not known.
    #[error(
        "{place} cannot be reached ({why}): check that it runs, and the address and `sslmode` of its URL"
    )]
    Unavailable {
        /// The file or database.
        place: String,
        /// What happened.
        why: String,
    },
    /// The database server knows us and says no.
    #[error(
        "{place} refuses us ({why}): check the user, the password, the database's name and its owner"
    )]
    Refused {
        /// The database.
        place: String,
        /// The server's words.
        why: String,
    },
    /// The URL is wrong.
    #[error(
        "{place}: {why}; write `postgres://USER:PASSWORD@HOST/DATABASE`, with %XX for signs such as `@` in the password"
    )]
    BadUrl {
        /// The URL, without its password.
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// This program was built without PostgreSQL.
    #[error("{place}: this build has no `postgres`; build with `--features postgres`")]
    WithoutPostgres {
        /// The URL, without its password.
        place: String,
    },
    /// A copy of the file was asked for, and there is no file.
    #[error(
        "{place} is a PostgreSQL database, with tools of its own: run `pg_dump --format=custom --file=FILE URL` to keep a copy, and `pg_restore --clean --dbname=URL FILE` to bring it back"
    )]
    NoFile {
        /// The database.
        place: String,
    },
    /// The file or its folder cannot be written.
    #[error(
        "{place} cannot be written: check the owner and mode of the file and its folder, and that the disk is not mounted read-only"
    )]
    ReadOnly {
        /// The file.
        place: String,
    },
    /// No space is left. Nothing of the refused change was kept.
    #[error(
        "{place} cannot grow, the disk or its quota is full: free some space; the change was not made"
    )]
    Full {
        /// The file or database.
        place: String,
    },
    /// Everybody on the machine may read the password hashes.
    #[error("{} holds password hashes and has mode {mode:04o}, open to everybody: run `chmod 600` on it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The operating system refused something.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's own reason.
        source: std::io::Error,
    },
    /// What the operation is about does not exist.
    #[error("there is no {what} `{name}`")]
    NotFound {
        /// `user`, `group`, `credential`, …
        what: &'static str,
        /// What was asked for.
        name: String,
    },
    /// There is one already.
    #[error("there is already a {what} `{name}`")]
    Exists {
        /// `user`, `group`, `credential`, …
        what: &'static str,
        /// What was to be added.
        name: String,
    },
    /// A value that the store refuses to hold.
    #[error("{what} {why}")]
    Invalid {
        /// What the value is.
        what: &'static str,
        /// The rule that it breaks.
        why: String,
    },
    /// A limit would be passed.
    #[error("`{name}` would have more than {limit} {what}: remove one first")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// Whose.
        name: String,
        /// How many are allowed.
        limit: usize,
    },
    /// Nobody would be left to administer.
    #[error(
        "this would leave no member of the group `administrators` who can log in: make another one first"
    )]
    LastAdministrator,
    /// The subject's sessions were ended after the login had begun, or the one that asks for a change was.
    #[error(
        "the sessions of `{subject}` were ended while this was under way: it has to begin with another login"
    )]
    Overtaken {
        /// Whose.
        subject: String,
    },
    /// The store was closed while the operation waited.
    #[error("the account store is closed")]
    Closed,
    /// Anything else the database says.
    #[error("{place}: {source}")]
    Database {
        /// The file or database.
        place: String,
        /// The database's own words.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    /// Whether the same call may succeed in a while: a peer should be told to try later.
    ///
    /// ```
    /// use countersign_store::StoreError;
    /// assert!(!StoreError::NotFound { what: "user", name: "alice".into() }.is_temporary());
    /// ```
    pub fn is_temporary(&self) -> bool {
        use StoreError::{Busy, Closed, Full, Io, Unavailable};
        matches!(self, Busy { .. } | Unavailable { .. } | Full { .. } | Io { .. } | Closed)
    }
}
