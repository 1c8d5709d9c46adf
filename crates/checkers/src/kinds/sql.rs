//! `[checker.sql.NAME]` and `sql:URL?query=…`. Reference: `docs/guide/sql.md`.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use countersign::{Fault, Secret};
use serde::Deserialize;
use toml::Spanned;

use super::file::{accept, scheme};
use super::{
    Argument, Building, CheckerSettings, Form, Kind, Misplaced, Parts, SettingsError, Span, read,
    secret_file,
};
use crate::hash::{Accept, Scheme};
use crate::sql::{Sql, SqlError, SqlOptions, SqlParts};

/// The kind, with how it is made.
pub(super) fn completed(kind: Kind) -> Kind {
    kind.explained(
        "URL is the database's: sqlite:/srv/users.db, postgres://HOST/DATABASE, mysql://HOST/DATABASE.\n\
         \n\
         Options, after a `?` and with `&` between them; `%26` is a `&` in a query, `%25` a `%`, and what\n\
         is no option of ours is left to the database:\n\
         \x20 query=SQL        gives the hash, and perhaps the name, of the user `:login`; needed\n\
         \x20 groups=SQL       gives the names of the user's groups\n\
         \x20 labels=SQL       gives the user's labels\n\
         \x20 attributes=SQL   gives more about the user\n\
         \x20 update=SQL       stores a better hash, `:hash`, of the user's password\n\
         \x20 aliases=yes      a user may be found by more than one name\n\
         \x20 hash=SCHEME      the scheme of hashes without `{SCHEME}` (CRYPT)\n\
         \x20 allow_plain=yes  accept passwords in clear text\n\
         \x20 allow_weak=yes   accept traditional DES hashes\n\
         \x20 timeout=TIME     how long a query may take (3s)\n\
         \x20 connections=N    how many connections to the database there may be (8)\n\
         \x20 url_file=PATH    the URL, in a file that only its owner can read: no password in it is then\n\
         \x20                  seen by every user of this machine; nothing stands before the `?` then",
    )
    .shown("sql:sqlite:/srv/users.db?query=SELECT hash FROM users WHERE name = :login")
    .from_table(|value, base| {
        let mut settings: SqlSettings = read(value)?;
        base.clone_into(&mut settings.below);
        Ok(Box::new(settings))
    })
    .from_argument(Form::Required("URL?query=SQL[&OPTION=VALUE…]"), |argument| {
        Ok(Box::new(Named::of(argument)?))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SqlSettings {
    url: Option<Spanned<String>>,
    url_file: Option<Spanned<PathBuf>>,
    query: Spanned<String>,
    groups: Option<Spanned<String>>,
    labels: Option<Spanned<String>>,
    attributes: Option<Spanned<String>>,
    update: Option<Spanned<String>>,
    #[serde(default)]
    aliases: bool,
    #[serde(default)]
    allow_plain: bool,
    #[serde(default)]
    allow_weak: bool,
    #[serde(default, deserialize_with = "scheme")]
    default_scheme: Option<String>,
    timeout: Option<Span>,
    idle: Option<Span>,
    connections: Option<u32>,
    /// The folder that relative paths are below.
    #[serde(skip)]
    below: PathBuf,
}

/// Without the address, which may hold a password.
impl std::fmt::Debug for SqlSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlSettings").field("query", self.query.get_ref()).finish_non_exhaustive()
    }
}

impl SqlSettings {
    fn url(&self) -> Result<Secret, Misplaced> {
        match (&self.url, &self.url_file) {
            (Some(url), None) => Ok(Secret::from(below(url.get_ref(), &self.below))),
            (None, Some(file)) => {
                let url = secret_file(&self.below, file.get_ref()).map_err(|why| {
                    let what = format!("`url_file` {} {why}", file.get_ref().display());
                    Misplaced::at(file.span(), what)
                })?;
                let text = url.to_str().unwrap_or_default().trim();
                Ok(Secret::from(below(text, &self.below)))
            }
            _ => {
                let what = "where is the database? give `url`, or `url_file`, which keeps a password out of \
                            this file";
                Err(Misplaced::at(self.query.span(), what))
            }
        }
    }

    fn options(&self) -> Result<SqlOptions, Misplaced> {
        let text = |query: &Option<Spanned<String>>| query.as_ref().map(|q| q.get_ref().clone());
        let Self { allow_plain, allow_weak, .. } = *self;
        let mut accept = Accept { allow_plain, allow_weak, ..Accept::default() };
        if let Some(scheme) = &self.default_scheme {
            accept.default_scheme = Scheme::named(scheme).map_err(|error| Misplaced {
                place: None,
                fault: Fault::internal("default_scheme").caused_by(error),
            })?;
        }
        Ok(SqlOptions {
            url: self.url()?,
            query: self.query.get_ref().clone(),
            groups: text(&self.groups),
            labels: text(&self.labels),
            attributes: text(&self.attributes),
            update: text(&self.update),
            aliases: self.aliases,
            accept,
            timeout: self.timeout.map_or(Duration::from_secs(3), |span| span.0),
            connections: self.connections.unwrap_or(8),
            idle: self.idle.map_or(Duration::from_secs(300), |span| span.0),
        })
    }

    fn misplaced(&self, error: &SqlError) -> Misplaced {
        Misplaced { place: self.span(error.key), fault: Fault::internal(error.to_string()) }
    }

    /// Where a setting is.
    fn span(&self, key: &str) -> Option<Range<usize>> {
        let place = |setting: &Option<Spanned<String>>| setting.as_ref().map(Spanned::span);
        match key {
            "url" => place(&self.url).or(self.url_file.as_ref().map(Spanned::span)),
            "query" => Some(self.query.span()),
            "groups" => place(&self.groups),
            "labels" => place(&self.labels),
            "attributes" => place(&self.attributes),
            "update" => place(&self.update),
            _ => None,
        }
    }
}

/// A relative path of an SQLite file is below the configuration's folder.
fn below(url: &str, base: &Path) -> String {
    let Some(rest) = url.strip_prefix("sqlite:") else { return url.to_owned() };
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.starts_with('/') || path.starts_with(":memory:") {
        return url.to_owned();
    }
    format!("sqlite:{}", base.join(path).display())
}

impl CheckerSettings for SqlSettings {
    fn build<'a>(&'a self, name: &'a str, parts: &'a Parts) -> Building<'a> {
        Box::pin(async move {
            let made = opened(self.options()?, parts).await;
            let sql = made.map_err(|error| self.misplaced(&error))?;
            Ok(Arc::new(sql.checker(name)) as _)
        })
    }

    fn describe(&self) -> String {
        let scheme = self.url.as_ref().and_then(|url| url.get_ref().split_once(':'));
        match scheme {
            Some((scheme, _)) => format!("users in tables of a database ({scheme})"),
            None => "users in tables of a database".into(),
        }
    }
}

/// The tables, once the database has read the queries.
async fn opened(options: SqlOptions, parts: &Parts) -> Result<Sql, SqlError> {
    let Parts { pool, world, recipe, .. } = parts.clone();
    let sql = Sql::new(options, SqlParts { pool, world, recipe })?;
    sql.prepare().await?;
    Ok(sql)
}

/// Tables as an argument names them.
struct Named {
    options: SqlOptions,
}

impl Named {
    fn of(argument: Argument<'_>) -> Result<Self, SettingsError> {
        let (url, mut options) = argument.split_raw()?;
        let file = options.take("url_file")?;
        let query = options.text("query")?.ok_or_else(|| {
            SettingsError::general("no `query`").with_help(
                "add `?query=SELECT hash FROM users WHERE name = :login`, with the names of your tables",
            )
        })?;
        let (groups, labels) = (options.text("groups")?, options.text("labels")?);
        let (attributes, update) = (options.text("attributes")?, options.text("update")?);
        let aliases = options.flag("aliases", false)?;
        let accept = accept(&mut options)?;
        let timeout = match options.take("timeout")? {
            None => Duration::from_secs(3),
            Some(value) => Span::parse(&value.text).map_err(|why| value.refused(why))?.0,
        };
        let connections = options.parsed("connections", "a number")?.unwrap_or(8);
        let rest = options.rest();
        let url = match file {
            None if url.is_empty() => {
                let help = "write the URL before the `?`, or `url_file=PATH` after it";
                return Err(SettingsError::at(0..0, "where is the database?").with_help(help));
            }
            None => match rest.as_str() {
                "" => Secret::from(url),
                rest => Secret::from(format!("{url}?{rest}").into_bytes()),
            },
            Some(file) if url.is_empty() => {
                options.end()?;
                let read = secret_file(Path::new(""), Path::new(&file.text));
                let told = |why| file.refused(format!("`url_file` {} {why}", file.text));
                Secret::from(read.map_err(told)?.to_str().unwrap_or_default().trim())
            }
            Some(file) => {
                let message = "the URL is before the `?` already";
                return Err(file.refused(message).with_help("leave one of the two out"));
            }
        };
        let idle = Duration::from_secs(300);
        let options = SqlOptions {
            url,
            query,
            groups,
            labels,
            attributes,
            update,
            aliases,
            accept,
            timeout,
            connections,
            idle,
        };
        Ok(Self { options })
    }
}

/// Without the address, which may hold a password.
impl std::fmt::Debug for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Named").field("query", &self.options.query).finish_non_exhaustive()
    }
}

impl CheckerSettings for Named {
    fn build<'a>(&'a self, name: &'a str, parts: &'a Parts) -> Building<'a> {
        Box::pin(async move {
            let sql = opened(self.options.clone(), parts).await;
            let sql = sql.map_err(|error| Fault::internal(error.to_string()))?;
            Ok(Arc::new(sql.checker(name)) as _)
        })
    }

    fn describe(&self) -> String {
        let url = self.options.url.to_str().unwrap_or_default();
        let scheme = url.split_once(':').map_or("?", |(scheme, _)| scheme);
        format!("users in tables of a database ({scheme})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_files_are_below_the_configuration_s_folder() {
        let base = Path::new("/etc/countersign");
        for (url, expected) in [
            ("sqlite:users.db", "sqlite:/etc/countersign/users.db"),
            ("sqlite://users.db?mode=ro", "sqlite:/etc/countersign/users.db?mode=ro"),
            ("sqlite:/srv/users.db", "sqlite:/srv/users.db"),
            ("sqlite:///srv/users.db", "sqlite:///srv/users.db"),
            ("postgres://u:p@h/d", "postgres://u:p@h/d"),
        ] {
            assert_eq!(below(url, base), expected);
        }
    }

    fn named(text: &str) -> Result<SqlOptions, String> {
        let kind = completed(Kind::new("sql", ""));
        let read = || Named::of(Argument::new(text));
        assert!(kind.argument(Some(text)).is_ok() == read().is_ok());
        read().map(|named| named.options).map_err(|error| error.in_argument(text))
    }

    #[test]
    fn what_is_no_option_of_ours_stays_in_the_url() {
        let text = "postgres://u:s3cret@h/d?sslmode=require&query=SELECT 1 WHERE a LIKE '%25' AND b = 1%262&\
                    timeout=5s&hash=PLAIN&allow_plain=yes";
        let options = named(text).unwrap();
        assert_eq!(options.url, Secret::from("postgres://u:s3cret@h/d?sslmode=require"));
        assert_eq!(options.query, "SELECT 1 WHERE a LIKE '%' AND b = 1&2");
        assert_eq!(options.timeout, Duration::from_secs(5));
        assert!(options.accept.allow_plain && !options.accept.allow_weak);
        assert!(!format!("{:?}", Named { options }).contains("s3cret"));
    }

    #[test]
    fn mistakes_in_an_argument_show_no_password() {
        for (text, said) in [
            ("postgres://u:s3cret@h/d", "no `query`; add `?query=SELECT"),
            ("?query=SELECT 1", "where is the database?"),
            ("postgres://u:s3cret@h/d?query=x&url_file=/x", "before the `?` already; leave one"),
            ("?query=x&url_file=/no/such/file", "`url_file` /no/such/file cannot be read"),
            ("?query=x&url_file=/no&sslmode=s3cret", "there is no option `sslmode`"),
            ("postgres://u:s3cret@h/d?query=x&timeout=s3cret", "a length of time"),
            ("postgres://u:s3cret@h/d?query=x&hash=ROT13", "ROT13"),
        ] {
            let error = named(text).unwrap_err();
            assert!(error.contains(said) && !error.contains("s3cret"), "{text}: {error}");
        }
    }
}
