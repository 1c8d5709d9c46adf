//! Where somebody's Maildir is: by a pattern over the identity, or in a table.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use countersign::{Denial, Identity, Reason};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};

/// Where Maildirs are.
#[derive(Debug)]
pub enum Places {
    /// `/srv/mail/{user}`, `{home}/Maildir`: the name, or an attribute of the identity, in a path.
    Pattern(Pattern),
    /// A table says for each name; a path in it that is not absolute is below the folder.
    Table {
        /// The database.
        pool: SqlitePool,
        /// A query with one parameter, the name, and a text as its first column.
        query: String,
        /// Where relative paths begin.
        below: PathBuf,
    },
}

/// A path with names to be filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// The proven name.
    User,
    Attribute(String),
}

/// The usual query of a table.
pub const QUERY: &str = "SELECT maildir FROM mailboxes WHERE name = ?";

impl Pattern {
    /// Reads a pattern. One without `{…}` is the folder that has everybody's below their names.
    ///
    /// # Errors
    ///
    /// A sentence about what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else {
                return Err(format!("`{text}`: a `{{` without its `}}`"));
            };
            parts.push(Part::Text(before.to_owned()));
            parts.push(match name {
                "user" => Part::User,
                "" => return Err(format!("`{text}`: `{{}}` has no name")),
                attribute => Part::Attribute(attribute.to_owned()),
            });
            rest = after;
        }
        if parts.is_empty() {
            let folder = format!("{}/", text.trim_end_matches('/'));
            return Ok(Self(vec![Part::Text(folder), Part::User]));
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    fn fill(&self, who: &Identity) -> Result<PathBuf, Denial> {
        let mut path = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => path.push_str(text),
                Part::User => path.push_str(name_in_a_path(who)?),
                Part::Attribute(name) => match who.attribute(name) {
                    Some(value) => path.push_str(value),
                    None => return Err(nowhere(&format!("has no attribute `{name}`"), who)),
                },
            }
        }
        Ok(PathBuf::from(path))
    }
}

impl Places {
    /// A table in an SQLite database, `sqlite:PATH`.
    ///
    /// # Errors
    ///
    /// A sentence about what is wrong. The database is opened when it is first asked.
    pub fn table(url: &str, query: &str, below: &Path) -> Result<Self, String> {
        let options: SqliteConnectOptions =
            url.parse().map_err(|error| format!("`{url}` is no SQLite database: {error}"))?;
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(std::time::Duration::from_secs(5))
            .connect_lazy_with(options.read_only(true));
        Ok(Self::Table { pool, query: query.to_owned(), below: below.to_owned() })
    }

    /// Where somebody's Maildir is.
    ///
    /// # Errors
    ///
    /// [`Reason::NotAllowed`] if there is none, [`Reason::Realm`] if that cannot be said now.
    pub async fn of(&self, who: &Identity) -> Result<PathBuf, Denial> {
        let path = match self {
            Self::Pattern(pattern) => pattern.fill(who)?,
            Self::Table { pool, query, below } => {
                let name = name_in_a_path(who)?.to_owned();
                let query = sqlx::AssertSqlSafe(query.clone());
                let found = sqlx::query_scalar::<_, String>(query).bind(name);
                match found.fetch_optional(pool).await {
                    Ok(Some(path)) => below.join(path),
                    Ok(None) => return Err(nowhere("is not in the table of mailboxes", who)),
                    Err(error) => {
                        tracing::error!("the table of mailboxes: {error}");
                        let detail = "the table of mailboxes cannot be read";
                        return Err(Denial::new(Reason::Realm).because(detail));
                    }
                }
            }
        };
        let climbs = path.components().any(|part| part == Component::ParentDir);
        match climbs || path.as_os_str().as_encoded_bytes().contains(&0) {
            true => Err(nowhere("has a mailbox outside of where mailboxes are", who)),
            false => Ok(path),
        }
    }
}

/// A proven name that is one step of a path. A checker may prove any name: `..`, or one with a slash in it.
fn name_in_a_path(who: &Identity) -> Result<&str, Denial> {
    match who.subject.name() {
        Some(name) if !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']) => {
            Ok(name)
        }
        _ => Err(nowhere("has a name that cannot be a folder's", who)),
    }
}

fn nowhere(why: &str, who: &Identity) -> Denial {
    Denial::new(Reason::NotAllowed).because(format!("{} {why}", who.subject))
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::User => f.write_str("{user}"),
            Part::Attribute(name) => write!(f, "{{{name}}}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn patterns_take_the_name_and_what_is_known_besides() {
        let ada = Identity::named("ada").with("home", "/home/ada");
        for (pattern, place) in [
            ("/srv/mail", "/srv/mail/ada"),
            ("/srv/mail/", "/srv/mail/ada"),
            ("/srv/{user}/Maildir", "/srv/ada/Maildir"),
            ("{home}/Maildir", "/home/ada/Maildir"),
        ] {
            let places = Places::Pattern(Pattern::parse(pattern).unwrap());
            assert_eq!(places.of(&ada).await.unwrap(), Path::new(place), "{pattern}");
        }
        let places = Places::Pattern(Pattern::parse("{maildir}").unwrap());
        assert_eq!(places.of(&ada).await.unwrap_err().reason, Reason::NotAllowed);
        assert!(Pattern::parse("/srv/{user").is_err() && Pattern::parse("/srv/{}").is_err());
        assert_eq!(Pattern::parse("/a").unwrap().to_string(), "/a/{user}");
    }

    #[tokio::test]
    async fn no_name_leads_out_of_the_folder() {
        let places = Places::Pattern(Pattern::parse("/srv/mail").unwrap());
        for name in ["..", ".", "", "a/b", "../bob", ".hidden", "a\0b"] {
            let denial = places.of(&Identity::named(name)).await.unwrap_err();
            assert_eq!(denial.reason, Reason::NotAllowed, "{name:?}");
        }
        assert!(places.of(&Identity::anonymous()).await.is_err(), "nobody has a mailbox");
        let places = Places::Pattern(Pattern::parse("{home}").unwrap());
        let climbing = Identity::named("ada").with("home", "/home/ada/../bob");
        assert!(places.of(&climbing).await.is_err());
    }

    #[tokio::test]
    async fn a_table_says_where() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mail.db");
        let options = SqliteConnectOptions::new().filename(&file).create_if_missing(true);
        let pool = SqlitePool::connect_with(options).await.unwrap();
        for sql in [
            "CREATE TABLE mailboxes (name TEXT PRIMARY KEY, maildir TEXT NOT NULL)",
            "INSERT INTO mailboxes VALUES ('ada', '/elsewhere/ada'), ('bob', 'b/bob'), ('eve', '../x')",
        ] {
            sqlx::query(sql).execute(&pool).await.unwrap();
        }
        let url = format!("sqlite:{}", file.display());
        let places = Places::table(&url, QUERY, Path::new("/srv/mail")).unwrap();
        let of = async |name: &str| places.of(&Identity::named(name)).await;
        assert_eq!(of("ada").await.unwrap(), Path::new("/elsewhere/ada"));
        assert_eq!(of("bob").await.unwrap(), Path::new("/srv/mail/b/bob"));
        assert_eq!(of("eve").await.unwrap_err().reason, Reason::NotAllowed);
        assert_eq!(of("zoe").await.unwrap_err().reason, Reason::NotAllowed);
        let broken = Places::table("sqlite:/nowhere/at/all.db", QUERY, Path::new("/")).unwrap();
        let denial = broken.of(&Identity::named("ada")).await.unwrap_err();
        assert_eq!(
            denial.reason,
            Reason::Realm,
            "not now, and nobody is told that there is no mailbox"
        );
    }
}
