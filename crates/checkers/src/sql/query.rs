//! A site's query: `:login` and its like become the database's own placeholders. Values go beside the text, in
//! the protocol; the text that is sent is always the configuration's.

use super::SqlError;

/// Which database's SQL it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite.
    Sqlite,
    /// PostgreSQL.
    Postgres,
    /// MySQL and MariaDB.
    Mysql,
}

/// A value that a query can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// What was typed as user name.
    Login,
    /// The user's name in the site's table.
    Name,
    /// A new hash.
    Hash,
    /// The hash that it replaces.
    Old,
}

impl Place {
    #[cfg(test)]
    const ALL: [Self; 4] = [Self::Login, Self::Name, Self::Hash, Self::Old];

    fn word(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Name => "name",
            Self::Hash => "hash",
            Self::Old => "old",
        }
    }
}

/// One statement, ready for its database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    /// Whose it is, for errors.
    pub(super) key: &'static str,
    pub(super) sql: String,
    /// What to bind, in order.
    pub(super) binds: Vec<Place>,
}

impl Query {
    /// Reads a query in which only `places` may stand, and at least one of `needed`, each time that there are
    /// any.
    ///
    /// # Errors
    /// Several statements; a place that is not known, or that lacks; a text or comment without an end.
    pub(super) fn parse(
        key: &'static str,
        text: &str,
        dialect: Dialect,
        places: &[Place],
    ) -> Result<Self, SqlError> {
        let mut query = Self { key, sql: String::with_capacity(text.len()), binds: Vec::new() };
        let wrong = |what: String| SqlError::of(key, what);
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(wrong("it is empty".into()));
        }
        // Whether the statement has ended, and only blanks and comments may follow.
        let mut ended = false;
        while let Some(first) = rest.chars().next() {
            if let Some(length) = quoted(rest, dialect, &query.sql).map_err(&wrong)? {
                let comment = rest.starts_with("--") || rest.starts_with("/*") || first == '#';
                if ended && !comment {
                    return Err(wrong(SEVERAL.into()));
                }
                // A comment may be an instruction to some databases, and is of no use to any.
                query.sql.push_str(if comment { " " } else { &rest[..length] });
                rest = &rest[length..];
                continue;
            }
            if ended && !first.is_whitespace() {
                return Err(wrong(SEVERAL.into()));
            }
            match first {
                ';' => {
                    ended = true;
                    rest = &rest[1..];
                }
                ':' if rest.starts_with("::") => {
                    query.sql.push_str("::");
                    rest = &rest[2..];
                }
                ':' if rest[1..].starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                    let word = word(&rest[1..]);
                    let place = places.iter().find(|place| place.word() == word);
                    let Some(place) = place else {
                        let known: Vec<_> =
                            places.iter().map(|p| format!("`:{}`", p.word())).collect();
                        let known = known.join(", ");
                        return Err(wrong(format!(
                            "`:{word}` is not known here; there is {known}"
                        )));
                    };
                    query.place(*place, dialect);
                    rest = &rest[1 + word.len()..];
                }
                '?' if dialect != Dialect::Postgres => {
                    return Err(wrong("write `:login` and not `?`".into()));
                }
                '$' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                    return Err(wrong("write `:login` and not `$1`".into()));
                }
                '\0' => return Err(wrong("there is a NUL in it".into())),
                other => {
                    query.sql.push(other);
                    rest = &rest[other.len_utf8()..];
                }
            }
        }
        if !query.binds.iter().any(|place| matches!(place, Place::Login | Place::Name)) {
            return Err(wrong("there is no `:login` in it, so everybody would be the same".into()));
        }
        Ok(query)
    }

    fn place(&mut self, place: Place, dialect: Dialect) {
        if dialect == Dialect::Mysql {
            self.binds.push(place);
            self.sql.push('?');
            return;
        }
        let index = self.binds.iter().position(|bound| *bound == place).unwrap_or_else(|| {
            self.binds.push(place);
            self.binds.len() - 1
        });
        let sign = if dialect == Dialect::Sqlite { '?' } else { '$' };
        self.sql.push(sign);
        self.sql.push_str(&(index + 1).to_string());
    }

    pub(super) fn needs(&self, place: Place) -> Result<(), SqlError> {
        if self.binds.contains(&place) {
            return Ok(());
        }
        Err(SqlError::of(self.key, format!("there is no `:{}` in it", place.word())))
    }

    /// The values in the order of the placeholders.
    pub(super) fn values<'v>(&self, values: &[(Place, &'v str)]) -> Vec<&'v str> {
        let value = |place: &Place| {
            let known = values.iter().find(|(known, _)| known == place);
            known.map_or("", |(_, value)| *value)
        };
        self.binds.iter().map(value).collect()
    }
}

const SEVERAL: &str = "these are several statements; one is asked";

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    &text[..end]
}

/// How long the string, quoted name or comment is that the text begins with, if it does. `before` is what
/// stands before it: PostgreSQL's `E'…'` has escapes.
fn quoted(text: &str, dialect: Dialect, before: &str) -> Result<Option<usize>, String> {
    let mysql = dialect == Dialect::Mysql;
    let bytes = text.as_bytes();
    match bytes {
        [b'-', b'-', ..] => Ok(Some(line(text))),
        [b'#', ..] if mysql => Ok(Some(line(text))),
        [b'/', b'*', ..] => comment(text, dialect == Dialect::Postgres).map(Some),
        [quote @ (b'\'' | b'"'), ..] => {
            let escapes = match dialect {
                Dialect::Sqlite => false,
                Dialect::Mysql => true,
                Dialect::Postgres => *quote == b'\'' && before.ends_with(['e', 'E']),
            };
            until(text, *quote, escapes).map(Some)
        }
        [b'`', ..] if dialect != Dialect::Postgres => until(text, b'`', false).map(Some),
        [b'[', ..] if dialect == Dialect::Sqlite => until(text, b']', false).map(Some),
        [b'$', ..] if dialect == Dialect::Postgres => {
            let tag = word(&text[1..]);
            let opens = text[1 + tag.len()..].starts_with('$')
                && !tag.starts_with(|c: char| c.is_ascii_digit());
            if !opens {
                return Ok(None);
            }
            let fence = &text[..tag.len() + 2];
            match text[fence.len()..].find(fence) {
                Some(at) => Ok(Some(at + 2 * fence.len())),
                None => Err(format!("{fence} is not closed")),
            }
        }
        _ => Ok(None),
    }
}

fn line(text: &str) -> usize {
    text.find('\n').unwrap_or(text.len())
}

fn comment(text: &str, nested: bool) -> Result<usize, String> {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0, 0);
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" if depth == 0 || nested => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return Ok(at);
        }
    }
    Err("a comment is not closed".into())
}

/// A doubled closing quote is one that is meant.
fn until(text: &str, close: u8, escapes: bool) -> Result<usize, String> {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        if bytes[at] == b'\\' && escapes {
            at += 2;
        } else if bytes[at] == close {
            if bytes.get(at + 1) != Some(&close) || close == b']' {
                return Ok(at + 1);
            }
            at += 2;
        } else {
            at += 1;
        }
    }
    Err(format!("{} is not closed", &text[..1]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOTH: &[Place] = &[Place::Login, Place::Name];

    fn sql(text: &str, dialect: Dialect) -> String {
        Query::parse("query", text, dialect, BOTH).unwrap().sql
    }

    #[test]
    fn places_become_the_database_s_own() {
        let text = "SELECT hash FROM u WHERE login = :login OR mail = :login OR n = :name;";
        let query = |dialect| Query::parse("query", text, dialect, BOTH).unwrap();
        let sqlite = query(Dialect::Sqlite);
        assert_eq!(sqlite.sql, "SELECT hash FROM u WHERE login = ?1 OR mail = ?1 OR n = ?2");
        assert_eq!(sqlite.binds, [Place::Login, Place::Name]);
        let postgres = query(Dialect::Postgres);
        assert_eq!(postgres.sql, "SELECT hash FROM u WHERE login = $1 OR mail = $1 OR n = $2");
        let mysql = query(Dialect::Mysql);
        assert_eq!(mysql.sql, "SELECT hash FROM u WHERE login = ? OR mail = ? OR n = ?");
        let values = [(Place::Name, "b"), (Place::Login, "a")];
        assert_eq!(mysql.values(&values), ["a", "a", "b"]);
        assert_eq!(postgres.values(&values), ["a", "b"]);
    }

    #[test]
    fn what_is_quoted_stays() {
        use Dialect::{Mysql, Postgres, Sqlite};
        for (dialect, text, expected) in [
            (
                Sqlite,
                "x ':login;''' \"a:login\" `:b` [:c] :login",
                "x ':login;''' \"a:login\" `:b` [:c] ?1",
            ),
            (
                Postgres,
                "a::text = :login AND t = $f$ ; :x $f$ ",
                "a::text = $1 AND t = $f$ ; :x $f$",
            ),
            (Postgres, "E'\\';' '\\' :login", "E'\\';' '\\' $1"),
            (Postgres, "j ? 'k' AND a[1:2] = :login", "j ? 'k' AND a[1:2] = $1"),
            (Mysql, "'it\\'s ;' :login # ; more", "'it\\'s ;' ?  "),
            (Mysql, ":login /*!50000 ; DROP */ -- x", "?    "),
            (Postgres, "/* a /* b */ ; */ :login", "  $1"),
        ] {
            assert_eq!(sql(text, dialect).trim(), expected.trim(), "{text}");
        }
        assert_eq!(sql(":login; -- the end\n /* really */", Dialect::Sqlite).trim(), "?1");
    }

    #[test]
    fn what_cannot_be_is_told() {
        use Dialect::{Mysql, Postgres, Sqlite};
        for (dialect, text, part) in [
            (Sqlite, "  ", "empty"),
            (Sqlite, "SELECT 1", "no `:login`"),
            (Sqlite, "SELECT ':login'", "no `:login`"),
            (Sqlite, "SELECT :login; DROP TABLE users", "several"),
            (Sqlite, "SELECT :login; 'x'", "several"),
            (Sqlite, "SELECT :login;;", "several"),
            (Mysql, "SELECT :user", "`:login`, `:name`"),
            (Mysql, "SELECT ? + :login", "not `?`"),
            (Postgres, "SELECT $1 + :login", "not `$1`"),
            (Postgres, "SELECT 'x :login", "not closed"),
            (Postgres, "SELECT $a$ :login $b$", "not closed"),
            (Postgres, "SELECT /* :login", "not closed"),
            (Sqlite, "SELECT \0:login", "NUL"),
        ] {
            let error = Query::parse("query", text, dialect, BOTH).unwrap_err().to_string();
            assert!(error.contains(part) && error.starts_with("`query`"), "{text:?}: {error}");
        }
        for place in Place::ALL {
            let query = Query::parse("update", ":login", Sqlite, BOTH).unwrap();
            assert_eq!(query.needs(place).is_ok(), place == Place::Login);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_query_or_refused(text in "[a-z:;'\"`$?#/*\\[\\] \\\\ä-]{0,40}") {
            for dialect in [Dialect::Sqlite, Dialect::Postgres, Dialect::Mysql] {
                if let Ok(query) = Query::parse("query", &format!("{text} :login"), dialect, BOTH) {
                    prop_assert!(!query.binds.is_empty());
                }
            }
        }
    }
}
