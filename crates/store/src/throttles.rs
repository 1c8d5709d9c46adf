//! Failures that are held against a user, a source, or a user from a source, shared by all nodes. What they
//! mean is decided above; here they are added up.

use crate::error::StoreError;
use crate::names::{check_text, limits};
use crate::records::{Changed, ThrottleRow};
use crate::sql::{Durability, Row, args};
use crate::store::Store;

impl Store {
    /// Adds what a node has counted since it last said so, in one transaction: `failures` is how many more
    /// there were. A row whose last failure is more than `window_ms` before the new one begins again, and so
    /// does one whose last failure is as far in the future: a clock has stepped back. Otherwise failures add
    /// up, and of the two `until_ms` and `last_ms` the later stays. Control
    /// characters in the texts are replaced and over-long ones cut: peers type anything as a name.
    ///
    /// May be lost with the last moments before a power cut.
    ///
    /// # Errors
    /// What the database says; nothing was added then.
    pub async fn add_throttles(
        &self,
        rows: &[ThrottleRow],
        window_ms: i64,
    ) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut rows: Vec<_> =
            rows.iter().map(|row| (clean(&row.user), clean(&row.source), row)).collect();
        // Every node locks rows in the same order, so that two of them never wait for each other.
        rows.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        let mut tx = self.inner.db.begin(Durability::Relaxed).await?;
        tx.alone().await?;
        for (user, source, row) in rows {
            let args = args![user, source, row.failures, row.until_ms, row.last_ms, window_ms];
            tx.run(ADD, args).await?;
        }
        tx.commit().await
    }

    /// The rows that changed at `last_ms` or later, newest first: at most [`limits::THROTTLES`]. Nodes
    /// write a little after they count, and their clocks differ, so ask from some seconds before the last
    /// time: a row that comes twice says the same twice.
    ///
    /// # Errors
    /// What the database says.
    pub async fn throttles_since(&self, last_ms: i64) -> Result<Vec<ThrottleRow>, StoreError> {
        let sql = "SELECT who, source, failures, until_ms, last_ms FROM throttles \
                   WHERE last_ms >= $1 ORDER BY last_ms DESC LIMIT $2";
        let rows = self.inner.db.rows(sql, args![last_ms, limits::THROTTLES as i64]).await?;
        rows.iter().map(throttle).collect()
    }

    /// One page of all rows by user and source: those after the pair `after`, at most `limit` and never
    /// more than [`limits::PAGE`].
    ///
    /// # Errors
    /// What the database says.
    pub async fn list_throttles(
        &self,
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> Result<Vec<ThrottleRow>, StoreError> {
        let sql = "SELECT who, source, failures, until_ms, last_ms FROM throttles \
                   WHERE $1 = 0 OR (who, source) > ($2, $3) ORDER BY who, source LIMIT $4";
        let (user, source) = after.unwrap_or_default();
        let limit = limit.min(limits::PAGE) as i64;
        let args = args![after.is_some(), clean(user), clean(source), limit];
        self.inner.db.rows(sql, args).await?.iter().map(throttle).collect()
    }

    /// The same of one user. Nothing comes after a pair of a later user.
    ///
    /// # Errors
    /// What the database says.
    pub async fn throttles_of(
        &self,
        user: &str,
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> Result<Vec<ThrottleRow>, StoreError> {
        let sql = "SELECT who, source, failures, until_ms, last_ms FROM throttles \
                   WHERE who = $1 AND ($2 = 0 OR (who, source) > ($3, $4)) ORDER BY source LIMIT $5";
        let (after_user, source) = after.unwrap_or_default();
        let limit = limit.min(limits::PAGE) as i64;
        let args = args![clean(user), after.is_some(), clean(after_user), clean(source), limit];
        self.inner.db.rows(sql, args).await?.iter().map(throttle).collect()
    }

    /// Forgets the failures of a user, a source, or a user from a source, and tells every node; gives how
    /// many rows there were. `None`: whatever it is. An empty text: only the rows that stand for any.
    ///
    /// # Errors
    /// What the database says.
    pub async fn clear_throttles(
        &self,
        user: Option<&str>,
        source: Option<&str>,
    ) -> Result<u64, StoreError> {
        let (user, source) = (user.map(clean), source.map(clean));
        let mut change = self.change().await?;
        let sql = "DELETE FROM throttles WHERE (CAST($1 AS TEXT) IS NULL OR who = $1) \
                   AND (CAST($2 AS TEXT) IS NULL OR source = $2)";
        let gone = change.tx.run(sql, args![&user, &source]).await?;
        // Also when there was nothing here: another node may have counted what it has not said yet.
        change.note(Changed::Throttle { user, source });
        change.commit().await?;
        Ok(gone)
    }

    /// Deletes rows whose last failure and whose delay both ended before `before_ms`; gives how many: at
    /// most [`limits::THROTTLES`] at once. Nobody is told: they meant nothing any more.
    ///
    /// # Errors
    /// What the database says.
    pub async fn trim_throttles(&self, before_ms: i64) -> Result<u64, StoreError> {
        let mut tx = self.inner.db.begin(Durability::Relaxed).await?;
        tx.alone().await?;
        let sql = "DELETE FROM throttles WHERE (who, source) IN (SELECT who, source FROM throttles \
                   WHERE last_ms < $1 AND until_ms < $1 ORDER BY last_ms LIMIT $2)";
        let gone = tx.run(sql, args![before_ms, limits::THROTTLES as i64]).await?;
        tx.commit().await?;
        Ok(gone)
    }
}

const ADD: &str = "\
INSERT INTO throttles (who, source, failures, until_ms, last_ms) VALUES ($1, $2, $3, $4, $5) \
ON CONFLICT (who, source) DO UPDATE SET \
  failures = CASE WHEN throttles.last_ms < excluded.last_ms - $6 \
                    OR throttles.last_ms > excluded.last_ms + $6 \
                  THEN excluded.failures ELSE throttles.failures + excluded.failures END, \
  until_ms = CASE WHEN throttles.until_ms < excluded.until_ms \
                    OR throttles.last_ms > excluded.last_ms + $6 \
                  THEN excluded.until_ms ELSE throttles.until_ms END, \
  last_ms  = CASE WHEN throttles.last_ms < excluded.last_ms \
                    OR throttles.last_ms > excluded.last_ms + $6 \
                  THEN excluded.last_ms ELSE throttles.last_ms END";

fn throttle(row: &Row) -> Result<ThrottleRow, StoreError> {
    Ok(ThrottleRow {
        user: row.text(0)?,
        source: row.text(1)?,
        failures: row.int(2)?,
        until_ms: row.int(3)?,
        last_ms: row.int(4)?,
    })
}

fn clean(text: &str) -> String {
    let text = &text[..text.floor_char_boundary(limits::NAME)];
    match check_text(text, limits::NAME, "a name").is_ok() && !text.contains(char::is_control) {
        true => text.to_owned(),
        // One byte each, so that it does not grow again.
        false => text.replace(|c: char| c.is_control(), "?"),
    }
}

/// `=alice<TAB>*`: the name under which a change is written down. The texts hold no control character.
pub(crate) fn to_change(user: &Option<String>, source: &Option<String>) -> String {
    let part = |text: &Option<String>| text.as_ref().map_or("*".to_owned(), |t| format!("={t}"));
    format!("{}\t{}", part(user), part(source))
}

/// The reverse. Whatever else is there clears everything, which lets nobody in who has no password.
pub(crate) fn from_change(name: &str) -> Changed {
    let (user, source) = name.split_once('\t').unwrap_or(("*", "*"));
    let part = |text: &str| text.strip_prefix('=').map(str::to_owned);
    Changed::Throttle { user: part(user), source: part(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_written_and_read() {
        for user in [None, Some(""), Some("alice"), Some("=*")] {
            for source in [None, Some(""), Some("192.0.2.0/24")] {
                let (user, source) = (user.map(str::to_owned), source.map(str::to_owned));
                let read = from_change(&to_change(&user, &source));
                assert_eq!(read, Changed::Throttle { user, source });
            }
        }
    }

    #[test]
    fn whatever_is_typed_fits() {
        assert_eq!(clean("a\tb\0"), "a?b?");
        assert_eq!(clean("Ümit"), "Ümit");
        assert!(clean(&"ä".repeat(1000)).len() <= limits::NAME);
    }
}
