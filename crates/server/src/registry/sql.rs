//! `[checker.sql.NAME]`. Reference: `docs/guide/sql.md`.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use countersign::{Checker, Fault, Secret};
use countersign_checkers::hash::{Accept, Scheme};
use countersign_checkers::sql::{Sql, SqlError, SqlOptions, SqlParts};
use serde::Deserialize;
use toml::Spanned;

use super::{CheckerSettings, Misplaced, Parts, scheme};
use crate::config::{Span, secret_file};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SqlSettings {
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
    pub(super) below: PathBuf,
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
    fn build(&self, name: &str, parts: &Parts) -> Result<Arc<dyn Checker>, Fault> {
        self.build_at(name, parts).map_err(|misplaced| misplaced.fault)
    }

    fn build_at(&self, name: &str, parts: &Parts) -> Result<Arc<dyn Checker>, Misplaced> {
        let Parts { pool, world, recipe, .. } = parts.clone();
        let parts = SqlParts { pool, world, recipe };
        let sql = Sql::new(self.options()?, parts).map_err(|error| self.misplaced(&error))?;
        prepared(&sql).map_err(|error| self.misplaced(&error))?;
        Ok(Arc::new(sql.checker(name)))
    }

    fn describe(&self) -> String {
        let scheme = self.url.as_ref().and_then(|url| url.get_ref().split_once(':'));
        match scheme {
            Some((scheme, _)) => format!("users in tables of a database ({scheme})"),
            None => "users in tables of a database".into(),
        }
    }
}

/// Asks the database about the queries, on a thread of its own: whoever builds checkers cannot wait for one.
fn prepared(sql: &Sql) -> Result<(), SqlError> {
    let ask = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(sql.prepare()),
            Err(error) => Err(SqlError {
                key: "url",
                what: format!("the queries cannot be checked: {error}"),
            }),
        }
    };
    let crashed = |_| {
        Err(SqlError {
            key: "url",
            what: "checking the queries panicked; this is a bug".to_owned(),
        })
    };
    std::thread::scope(|scope| scope.spawn(ask).join().unwrap_or_else(crashed))
}

/// Reads the settings; paths are below `base`.
pub(super) fn settings(mut settings: SqlSettings, base: &Path) -> Box<dyn CheckerSettings> {
    base.clone_into(&mut settings.below);
    Box::new(settings)
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
}
