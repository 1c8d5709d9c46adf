//! `[checker.sql.NAME]`: users in a site's own tables, on SQLite, PostgreSQL, MySQL and MariaDB.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign::{
    Denial, Fault, Identity, Password, PasswordStore, Reason, Secret, Verdict, Verified, World,
};
use thiserror::Error;

use crate::hash::{Accept, Cost, Hash, Recipe};
use crate::name::can_be_a_name;
use crate::pool::{HashPool, Match, PoolError};

mod database;
mod query;

pub use query::Dialect;

use database::{Database, Refusal, Row, Value};
use query::{Place, Query};

/// How many groups, labels and attributes a user may have. Who has more does not get in with some.
const MOST_ROWS: usize = 1000;
/// While more jobs than this wait for the pool, old hashes stay.
const LEISURE: usize = 16;

/// How a site's tables are asked.
#[derive(Debug, Clone)]
pub struct SqlOptions {
    /// `sqlite:path`, `postgres://…`, `mysql://…`. May hold a password.
    pub url: Secret,
    /// One row with `hash`, and if it likes `name`, `enabled`, `expires`; of `:login`.
    pub query: String,
    /// Rows with `name`, and if it likes `admin`; of `:login` or `:name`.
    pub groups: Option<String>,
    /// Rows with `name`.
    pub labels: Option<String>,
    /// Rows with `name` and `value`.
    pub attributes: Option<String>,
    /// Puts `:hash` in the place of `:old`, for `:login` or `:name`.
    pub update: Option<String>,
    /// Whether a user may log in by what is not his name in the table, such as a mail address.
    pub aliases: bool,
    /// Which hashes are verified.
    pub accept: Accept,
    /// For one query, connecting included.
    pub timeout: Duration,
    /// How many connections at most.
    pub connections: u32,
    /// After how long an idle connection is closed.
    pub idle: Duration,
}

/// A setting that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{key}`: {what}")]
pub struct SqlError {
    /// The setting's name.
    pub key: &'static str,
    /// What is wrong, with the remedy.
    pub what: String,
}

impl SqlError {
    fn of(key: &'static str, what: impl Into<String>) -> Self {
        Self { key, what: what.into() }
    }
}

/// What hashes are made with and told by.
#[derive(Clone)]
pub struct SqlParts {
    /// Where slow hashes are verified.
    pub pool: Arc<HashPool>,
    /// Clocks and entropy.
    pub world: Arc<dyn World>,
    /// How new hashes are made, where `update` is given; and what an unknown user's password is compared with
    /// before a known one has logged in.
    pub recipe: Recipe,
}

/// Users in a site's own tables.
///
/// Values reach the database beside the query and never in it. Exactly one row must be found. The user's name
/// is the table's, not what was typed: a database may find `ada` for `ADA`.
pub struct Sql {
    inner: Arc<Inner>,
}

struct Inner {
    database: Database,
    query: Query,
    groups: Option<Query>,
    labels: Option<Query>,
    attributes: Option<Query>,
    update: Option<Query>,
    aliases: bool,
    accept: Accept,
    parts: SqlParts,
    /// What an unknown user's password is compared with: a hash of the kind that was last seen.
    decoy: Mutex<Decoy>,
    /// Names whose hash is being replaced.
    rehashing: Mutex<BTreeSet<String>>,
}

struct Decoy {
    scheme: &'static str,
    text: Arc<str>,
}

/// Who was found.
struct Found {
    name: String,
    hash: Option<String>,
    enabled: bool,
    expires: Option<i64>,
}

impl Sql {
    /// A checker's store over a database. Nothing is connected; must be called within a tokio runtime.
    ///
    /// # Errors
    /// The setting that cannot be, with the remedy.
    pub fn new(options: SqlOptions, parts: SqlParts) -> Result<Self, SqlError> {
        let dialect = database::dialect(options.url.to_str().unwrap_or_default())?;
        let (known, found) = ([Place::Login], [Place::Login, Place::Name]);
        let query = Query::parse("query", &options.query, dialect, &known)?;
        let more = |key, text: &Option<String>| match text {
            Some(text) => Query::parse(key, text, dialect, &found).map(Some),
            None => Ok(None),
        };
        let update = match &options.update {
            Some(text) => {
                let places = [Place::Login, Place::Name, Place::Hash, Place::Old];
                let update = Query::parse("update", text, dialect, &places)?;
                update.needs(Place::Hash)?;
                // Without it, a password that was changed a moment ago would be changed back.
                update.needs(Place::Old)?;
                Some(update)
            }
            None => None,
        };
        let mut salt = [0; 16];
        parts.world.fill(&mut salt);
        let decoy = Hash::decoy(&parts.recipe, salt).map_err(|error| {
            SqlError::of("url", format!("the recipe for new passwords: {error}"))
        })?;
        let decoy = Decoy { scheme: decoy.scheme(), text: decoy.expose_text().into() };
        let inner = Inner {
            database: Database::new(&options.url, &options)?,
            query,
            groups: more("groups", &options.groups)?,
            labels: more("labels", &options.labels)?,
            attributes: more("attributes", &options.attributes)?,
            update,
            aliases: options.aliases,
            accept: options.accept,
            parts,
            decoy: Mutex::new(decoy),
            rehashing: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Has the database read every query, so that a mistake is told at the start and not by a login. A
    /// database that is away is a warning: it may come back.
    ///
    /// # Errors
    /// The query that the database does not take, or whose columns are others than are asked for.
    pub async fn prepare(&self) -> Result<(), SqlError> {
        let inner = &self.inner;
        let more = [&inner.groups, &inner.labels, &inner.attributes, &inner.update];
        let queries: Vec<&Query> =
            std::iter::once(&inner.query).chain(more.into_iter().flatten()).collect();
        let columns = match inner.database.prepare(&queries).await {
            Ok(columns) => columns,
            Err(Refusal::Query(error)) => return Err(error),
            Err(Refusal::Away(error)) => {
                tracing::warn!(%error, "the database cannot be asked; its queries are not checked");
                return Ok(());
            }
        };
        queries.iter().zip(columns).try_for_each(|(query, columns)| inner.columns(query, &columns))
    }

    /// The checker of that name over these tables.
    pub fn checker(self, name: impl Into<String>) -> Password<Self> {
        Password::new(name, self)
    }
}

impl std::fmt::Debug for Sql {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sql").field("query", &self.inner.query.sql).finish_non_exhaustive()
    }
}

impl PasswordStore for Sql {
    async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
        let inner = &self.inner;
        if !can_be_a_name(login) {
            return Ok(Verdict::UNKNOWN);
        }
        let values = [(Place::Login, login)];
        let rows = inner.rows(&inner.query, &values, 2).await?;
        let row = match rows.as_slice() {
            [] => return Ok(Verdict::UNKNOWN),
            [row] => row,
            _ => {
                inner.compare_with_decoy(login, password).await?;
                let detail = "`query` finds several rows; make it stricter";
                return Ok(Verdict::Not(Denial::new(Reason::NotAllowed).because(detail)));
            }
        };
        let found = inner.found(login, row)?;
        let Some(stored) = &found.hash else {
            inner.compare_with_decoy(login, password).await?;
            let detail = "there is no password in the row";
            return Ok(Verdict::Not(Denial::new(Reason::WrongCredential).because(detail)));
        };
        let matched = inner.verify(&found.name, stored, password).await?;
        if !matched.is_right() {
            return Ok(Verdict::WRONG);
        }
        // Only now, so that nobody learns of it by guessing.
        if let Some(denial) = inner.unusable(login, &found) {
            return Ok(Verdict::Not(denial));
        }
        let identity = inner.identity(login, &found.name).await?;
        if matched == Match::Yes {
            inner.rehash(login, &found.name, stored, password);
        }
        Ok(Verdict::Is(Verified::vouch(identity)))
    }

    async fn spend(&self, login: &str, password: &Secret) -> Result<(), Fault> {
        self.inner.compare_with_decoy(login, password).await
    }
}

impl Inner {
    /// Whether a query has the columns that are read, and no other: a column that nobody reads is a mistake,
    /// and `enbled` would be a grave one.
    fn columns(&self, query: &Query, columns: &[String]) -> Result<(), SqlError> {
        let (needed, more): (&[&str], &[&str]) = match query.key {
            "query" if self.needs_name() => (&["hash", "name"], &["enabled", "expires"]),
            "query" => (&["hash"], &["name", "enabled", "expires"]),
            "groups" => (&["name"], &["admin"]),
            "labels" => (&["name"], &[]),
            "attributes" => (&["name", "value"], &[]),
            _ => return Ok(()),
        };
        for needed in needed {
            if !columns.iter().any(|column| needed.eq_ignore_ascii_case(column)) {
                let why = match *needed {
                    "name" if query.key == "query" => {
                        " (this database finds `ada` for `ADA`, so the name must be the table's)"
                    }
                    _ => "",
                };
                let what =
                    format!("it has no column `{needed}`{why}; write `SELECT … AS {needed}`");
                return Err(SqlError::of(query.key, what));
            }
        }
        for (index, column) in columns.iter().enumerate() {
            let mut known = needed.iter().chain(more);
            if !known.any(|known| known.eq_ignore_ascii_case(column)) {
                let known: Vec<_> = needed.iter().chain(more).map(|c| format!("`{c}`")).collect();
                let known = known.join(", ");
                let what = format!("nobody reads its column `{column}`; there is {known}");
                return Err(SqlError::of(query.key, what));
            }
            if columns[..index].iter().any(|before| before.eq_ignore_ascii_case(column)) {
                return Err(SqlError::of(query.key, format!("it has two columns `{column}`")));
            }
        }
        Ok(())
    }

    /// MySQL compares without regard to case and trailing blanks, unless the column says otherwise.
    fn needs_name(&self) -> bool {
        #[cfg(feature = "mysql")]
        if matches!(self.database, Database::Mysql(_)) {
            return true;
        }
        false
    }

    async fn rows(
        &self,
        query: &Query,
        values: &[(Place, &str)],
        most: usize,
    ) -> Result<Vec<Row>, Fault> {
        let rows = self.database.rows(query, &query.values(values), most).await;
        rows.map_err(|error| error.fault(format!("the database, asked `{}`", query.key)))
    }

    fn found(&self, login: &str, row: &Row) -> Result<Found, Fault> {
        let names: Vec<String> = row.iter().map(|(name, _)| name.clone()).collect();
        self.columns(&self.query, &names)
            .map_err(|error| Fault::internal("a row of the database").caused_by(error))?;
        let bad = |column: &str, kind: &str, remedy: &str| {
            Fault::internal(format!("`query`: the column `{column}` is {kind}; {remedy}"))
        };
        let mut found = Found { name: login.to_owned(), hash: None, enabled: true, expires: None };
        for (column, value) in row {
            let column = column.to_ascii_lowercase();
            match (column.as_str(), value) {
                ("hash", Value::Text(text)) if text.trim().is_empty() => {}
                ("hash", Value::Text(text)) => found.hash = Some(text.trim_end().to_owned()),
                ("hash" | "expires", Value::Null) => {}
                ("name", Value::Text(name)) if can_be_a_name(name) => found.name.clone_from(name),
                ("name", _) => {
                    return Err(bad("name", "no name", "it must be a text that can be shown"));
                }
                ("enabled", Value::Int(number)) => found.enabled = *number != 0,
                ("expires", Value::Int(seconds)) => found.expires = Some(*seconds),
                ("expires", _) => {
                    let remedy = "write seconds since 1970, as in `CAST(EXTRACT(EPOCH FROM expires) AS \
                                  bigint) AS expires`, `UNIX_TIMESTAMP(expires)` or `unixepoch(expires)`";
                    return Err(bad("expires", "no whole number", remedy));
                }
                ("enabled", _) => {
                    let remedy =
                        "write a truth value or a number, as in `active = 'yes' AS enabled`";
                    return Err(bad("enabled", "neither true nor false", remedy));
                }
                (_, Value::Other(kind)) => return Err(bad(&column, kind, "cast it to a text")),
                _ => return Err(bad(&column, "of another type", "cast it to a text")),
            }
        }
        Ok(found)
    }

    async fn verify(&self, name: &str, stored: &str, password: &Secret) -> Result<Match, Fault> {
        let pool = &self.parts.pool;
        let matched = pool.verify_text(name, stored, &self.accept, password).await;
        let matched = matched.map_err(|error| match error {
            PoolError::Stored(error) => {
                Fault::internal(format!("the hash of `{name}` in the database cannot be read"))
                    .caused_by(error)
            }
            error => error.fault("verifying a password hash"),
        })?;
        if matched == Match::Yes {
            self.remember_kind(stored);
        }
        Ok(matched)
    }

    /// Unknown users take as long as known ones: as those of the kind of hash that was last right.
    fn remember_kind(&self, stored: &str) {
        let Ok(hash) = Hash::parse(stored, &self.accept) else { return };
        let mut decoy = self.decoy.lock().unwrap_or_else(PoisonError::into_inner);
        if decoy.scheme != hash.scheme() && hash.cost() == Cost::Expensive {
            *decoy = Decoy { scheme: hash.scheme(), text: stored.into() };
        }
    }

    async fn compare_with_decoy(&self, login: &str, password: &Secret) -> Result<(), Fault> {
        let text = {
            let decoy = self.decoy.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(&decoy.text)
        };
        let compared = self.parts.pool.verify_text(login, &text, &self.accept, password).await;
        compared.map(drop).map_err(|error| error.fault("verifying a password hash"))
    }

    /// Why the right password does not let in.
    fn unusable(&self, login: &str, found: &Found) -> Option<Denial> {
        if !found.enabled {
            return Some(Denial::new(Reason::Disabled));
        }
        if found.expires.is_some_and(|expires| expires <= self.parts.world.now().unix) {
            return Some(Denial::new(Reason::Expired).because("the account has expired"));
        }
        if !self.aliases && !same_name(&found.name, login) {
            let detail = "the row's name is not what was typed; set `aliases = true` if users log in by other \
                          names, such as their mail address";
            return Some(Denial::new(Reason::NotAllowed).because(detail));
        }
        None
    }

    async fn identity(&self, login: &str, name: &str) -> Result<Identity, Fault> {
        let mut identity = Identity::named(name);
        let values = [(Place::Login, login), (Place::Name, name)];
        if let Some(query) = &self.groups {
            for row in self.all(query, &values).await? {
                let admin = match column(&row, "admin") {
                    Some(Value::Int(number)) => *number != 0,
                    None | Some(Value::Null) => false,
                    Some(_) => return Err(odd(query, "admin")),
                };
                identity = identity.in_group(text(query, &row, "name")?, admin);
            }
        }
        if let Some(query) = &self.labels {
            for row in self.all(query, &values).await? {
                identity = identity.labelled(text(query, &row, "name")?);
            }
        }
        if let Some(query) = &self.attributes {
            for row in self.all(query, &values).await? {
                if column(&row, "value") != Some(&Value::Null) {
                    identity =
                        identity.with(text(query, &row, "name")?, text(query, &row, "value")?);
                }
            }
        }
        Ok(identity)
    }

    async fn all(&self, query: &Query, values: &[(Place, &str)]) -> Result<Vec<Row>, Fault> {
        let rows = self.rows(query, values, MOST_ROWS + 1).await?;
        if rows.len() > MOST_ROWS {
            let what = format!("`{}` gives more than {MOST_ROWS} rows for one user", query.key);
            return Err(Fault::internal(what));
        }
        Ok(rows)
    }

    fn rehashing(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.rehashing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces a hash that is weaker than a new one would be, if the site says how. Beside the login, which
    /// need not wait; once at a time for each user.
    fn rehash(self: &Arc<Self>, login: &str, name: &str, stored: &str, password: &Secret) {
        if self.update.is_none() || self.parts.pool.waiting() > LEISURE {
            return;
        }
        let Ok(hash) = Hash::parse(stored, &self.accept) else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !hash.outdated(&self.parts.recipe) || !self.rehashing().insert(name.to_owned()) {
            return;
        }
        let busy = Rehashing { inner: Arc::clone(self), name: name.to_owned() };
        let (login, stored, password) = (login.to_owned(), stored.to_owned(), password.clone());
        runtime.spawn(async move { busy.replace(&login, &stored, password).await });
    }
}

/// A user whose hash is being replaced.
struct Rehashing {
    inner: Arc<Inner>,
    name: String,
}

impl Rehashing {
    async fn replace(&self, login: &str, stored: &str, password: Secret) {
        let Some(update) = &self.inner.update else { return };
        let SqlParts { pool, world, recipe } = &self.inner.parts;
        let mut salt = [0; 16];
        world.fill(&mut salt);
        let new = match pool.create(*recipe, password, salt, &self.name).await {
            Ok(new) => new.expose_text(),
            // It is tried again at the next login.
            Err(error) => return tracing::warn!(%error, "cannot hash a password anew"),
        };
        // As the site writes hashes: with the scheme in braces, or without.
        let bare = new.split_once('}').filter(|_| !stored.starts_with('{'));
        let new = bare.map(|(_, bare)| bare).filter(|bare| bare.starts_with('$')).unwrap_or(&new);
        let values = [
            (Place::Login, login),
            (Place::Name, self.name.as_str()),
            (Place::Hash, new),
            (Place::Old, stored),
        ];
        match self.inner.database.change(update, &update.values(&values)).await {
            Ok(0 | 1) => {}
            Ok(rows) => {
                tracing::error!(
                    rows,
                    user = self.name,
                    "`update` has changed several rows for one user"
                );
            }
            Err(error) => tracing::warn!(%error, "cannot replace an old password hash"),
        }
    }
}

impl Drop for Rehashing {
    fn drop(&mut self) {
        self.inner.rehashing().remove(&self.name);
    }
}

/// Whether a table's name is what was typed, but for what databases take for the same: case, and blanks
/// around.
fn same_name(name: &str, login: &str) -> bool {
    name == login || name.trim().to_lowercase() == login.trim().to_lowercase()
}

fn column<'r>(row: &'r Row, name: &str) -> Option<&'r Value> {
    row.iter().find(|(column, _)| column.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn text(query: &Query, row: &Row, name: &'static str) -> Result<String, Fault> {
    match column(row, name) {
        Some(Value::Text(text)) if name == "value" || can_be_a_name(text) => Ok(text.clone()),
        Some(Value::Int(number)) => Ok(number.to_string()),
        _ => Err(odd(query, name)),
    }
}

fn odd(query: &Query, column: &str) -> Fault {
    Fault::internal(format!(
        "`{}`: the column `{column}` has what is not expected there",
        query.key
    ))
}

#[cfg(test)]
mod tests;
