//! Where a store is: a file, or a database that other nodes use too.

use std::fmt;
use std::path::{Path, PathBuf};

use countersign::Secret;

/// Where a store is. Text that begins with `postgres://` or `postgresql://` is a URL, anything else a path.
///
/// ```
/// use countersign_store::Location;
/// let shared = Location::from("postgres://countersign:s3cret@db.example/countersign");
/// assert_eq!(shared.to_string(), "postgres://countersign@db.example/countersign");
/// assert_eq!(Location::from("accounts.db"), Location::File("accounts.db".into()));
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Location {
    /// A SQLite file.
    File(PathBuf),
    /// The URL of a PostgreSQL database, which may contain a password:
    /// <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS>.
    Postgres(Secret),
}

impl Location {
    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }
}

/// Never a password.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Postgres(url) => f.write_str(&without_password(url.to_str().unwrap_or_default())),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({self})")
    }
}

impl From<&str> for Location {
    fn from(text: &str) -> Self {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Self::Postgres(Secret::from(text));
        }
        Self::File(text.into())
    }
}

impl From<PathBuf> for Location {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<&Path> for Location {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl From<&PathBuf> for Location {
    fn from(path: &PathBuf) -> Self {
        Self::File(path.clone())
    }
}

impl From<&Location> for Location {
    fn from(location: &Location) -> Self {
        location.clone()
    }
}

/// Scheme, user, host and database. Made for URLs that are wrong too, where a password's characters stand
/// unescaped: what lies between the user and the last `@` is left out, and so is the query.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "postgres://…".into() };
    let (user, place) = match rest.rsplit_once('@') {
        Some((before, place)) => (before.split([':', '/', '?', '#']).next(), place),
        None => (None, rest),
    };
    let place = place.split(['?', '#']).next().unwrap_or_default();
    match user {
        Some(user) => format!("{scheme}://{user}@{place}"),
        None => format!("{scheme}://{place}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown_wherever_it_stands() {
        for url in [
            "postgres://u:s3cret@h:5432/d",
            "postgres://u:s3/cret?s3cret@h/d",
            "postgres://u:s3@s3cret@h/d?sslmode=require",
            "postgres://h/d?user=u&password=s3cret",
            "postgres://h/d?password=s3cret@x",
            "postgresql:///d?host=/run&password=s3cret#s3cret",
        ] {
            let location = Location::from(url);
            let shown = format!("{location} {location:?}");
            assert!(!shown.contains("s3") && shown.contains("postgres"), "{url}: {shown}");
        }
        let plain = Location::from("postgres://u:p@h:5432/d?sslmode=require");
        assert_eq!(plain.to_string(), "postgres://u@h:5432/d");
    }

    #[test]
    fn a_path_is_a_path() {
        for path in ["accounts.db", "/var/lib/x/accounts.db", "postgres.db", "postgres:/x"] {
            assert_eq!(Location::from(path).file(), Some(Path::new(path)));
        }
    }
}
