//! Accounts themselves, their labels and attributes.

use std::collections::BTreeMap;

use crate::credentials;
use crate::error::StoreError;
use crate::groups;
use crate::names::{check, check_text, check_user_name, limits};
use crate::records::{Account, AccountSummary, AccountUpdate, Credential, Membership, Page};
use crate::sql::{Arg, Database, Row, Tx, args};
use crate::store::Store;

impl Store {
    /// Sets the fields that `update` names; gives the revision.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Invalid`], [`StoreError::LastAdministrator`].
    pub async fn update_account(
        &self,
        name: &str,
        update: &AccountUpdate,
    ) -> Result<i64, StoreError> {
        let mut change = self.change().await?;
        let id = id_of(&mut change.tx, name).await?;
        let guard = change.guard(id, i64::MIN).await?;
        change.set_fields(id, update).await?;
        change.hold_guard(guard, i64::MIN).await?;
        change.touch(id, name).await?;
        change.commit().await
    }

    /// Gives an account another name. Its sessions end: what they carry names the old one.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Exists`], [`StoreError::Invalid`].
    pub async fn rename_account(&self, name: &str, to: &str) -> Result<i64, StoreError> {
        check_user_name(to)?;
        let mut change = self.change().await?;
        let id = id_of(&mut change.tx, name).await?;
        if find(&mut change.tx, to).await?.is_some() {
            return Err(StoreError::Exists { what: "user", name: to.to_owned() });
        }
        change.tx.run("UPDATE accounts SET name = $1 WHERE id = $2", args![to, id]).await?;
        change.end_sessions_of(name, None).await?;
        change.touch(id, name).await?;
        change.touch(id, to).await?;
        change.commit().await
    }

    /// Removes an account, everything that belongs to it, and its sessions.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::LastAdministrator`].
    pub async fn remove_account(&self, name: &str, now: i64) -> Result<i64, StoreError> {
        let mut change = self.change().await?;
        let id = id_of(&mut change.tx, name).await?;
        let guard = change.guard(id, now).await?;
        change.touch(id, name).await?;
        change.tx.run("DELETE FROM accounts WHERE id = $1", args![id]).await?;
        change.hold_guard(guard, now).await?;
        change.end_sessions_of(name, None).await?;
        change.commit().await
    }

    /// One page of the accounts, by name.
    ///
    /// # Errors
    /// What the database says.
    pub async fn accounts(&self, page: &Page) -> Result<Vec<AccountSummary>, StoreError> {
        let sql = "SELECT name, enabled, expires, must_change, driver, revision FROM accounts \
                   WHERE name >= $1 AND name < $2 AND name > $3 ORDER BY name LIMIT $4";
        let rows = self.inner.db.rows(sql, page_args(page)).await?;
        rows.iter()
            .map(|row| {
                Ok(AccountSummary {
                    name: row.text(0)?,
                    enabled: row.truth(1)?,
                    expires: row.maybe_int(2)?,
                    must_change: row.truth(3)?,
                    driver: row.maybe_text(4)?,
                    revision: row.int(5)?,
                })
            })
            .collect()
    }

    /// The account as the database has it, past the copy in memory.
    ///
    /// # Errors
    /// What the database says.
    pub async fn read_account(&self, name: &str) -> Result<Option<Account>, StoreError> {
        load(&self.inner.db, name).await
    }

    /// How many accounts there are: zero on a new store.
    ///
    /// # Errors
    /// What the database says.
    pub async fn count_accounts(&self) -> Result<u64, StoreError> {
        let row = self.inner.db.row("SELECT COUNT(*) FROM accounts", args![]).await?;
        Ok(row.map_or(Ok(0), |row| row.int(0))?.unsigned_abs())
    }

    /// Adds a label; nothing changes if it is there.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Invalid`], [`StoreError::TooMany`].
    pub async fn add_label(&self, user: &str, label: &str) -> Result<i64, StoreError> {
        let mut change = self.change().await?;
        let id = id_of(&mut change.tx, user).await?;
        insert_label(&mut change.tx, id, label).await?;
        let sql = "SELECT COUNT(*) FROM labels WHERE account = $1";
        within(&mut change.tx, sql, id, limits::LABELS, "labels", user).await?;
        change.touch(id, user).await?;
        change.commit().await
    }

    /// Takes a label away.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the user or the label.
    pub async fn remove_label(&self, user: &str, label: &str) -> Result<i64, StoreError> {
        let mut change = self.change().await?;
        let id = id_of(&mut change.tx, user).await?;
        let sql = "DELETE FROM labels WHERE account = $1 AND label = $2";
        if change.tx.run(sql, args![id, label]).await? == 0 {
            return Err(StoreError::NotFound { what: "label", name: label.to_owned() });
        }
        change.touch(id, user).await?;
        change.commit().await
    }

    /// Sets an attribute to these values, in this order, in place of what it had. No values: unset.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Invalid`], [`StoreError::TooMany`].
    pub async fn set_attribute(
        &self,
        user: &str,
        name: &str,
        values: &[String],
    ) -> Result<i64, StoreError> {
        let mut change = self.change().await?;
        let id = id_of(&mut change.tx, user).await?;
        replace_attribute(&mut change.tx, id, name, values).await?;
        let sql = "SELECT COUNT(*) FROM attributes WHERE account = $1";
        within(&mut change.tx, sql, id, limits::VALUES, "attribute values", user).await?;
        change.touch(id, user).await?;
        change.commit().await
    }

    /// Takes an attribute away; nothing changes if it is not there.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the user.
    pub async fn unset_attribute(&self, user: &str, name: &str) -> Result<i64, StoreError> {
        self.set_attribute(user, name, &[]).await
    }
}

/// The whole account with one statement: one round trip, and all of it of the same moment.
pub(crate) async fn load(db: &Database, name: &str) -> Result<Option<Account>, StoreError> {
    if check_user_name(name).is_err() {
        return Ok(None);
    }
    let rows = db.rows(WHOLE, args![name]).await?;
    let mut account = None;
    let mut credentials = Vec::new();
    let mut groups = Vec::new();
    let mut labels = Vec::new();
    let mut values = Vec::new();
    // In any order: a database may work on the parts of a UNION ALL side by side.
    for row in &rows {
        match row.int(0)? {
            0 => account = Some(row),
            1 => credentials.push(credential(row)?),
            2 => groups.push(Membership {
                admin: row.truth(1)?,
                gid: groups::gid(row.maybe_int(2)?),
                group: row.text(6)?,
            }),
            3 => labels.push(row.text(6)?),
            _ => values.push((row.int(1)?, row.text(6)?, row.text(7)?)),
        }
    }
    let Some(row) = account else { return Ok(None) };
    // Sorted here: the statement would have to sort all of its parts together.
    credentials.sort_by_key(|c: &Credential| c.id);
    groups.sort_by(|a, b| a.group.cmp(&b.group));
    labels.sort();
    values.sort_by_key(|(position, ..)| *position);
    let mut attributes = BTreeMap::<String, Vec<String>>::new();
    for (_, name, value) in values {
        attributes.entry(name).or_default().push(value);
    }
    Ok(Some(Account {
        id: row.int(1)?,
        enabled: row.truth(2)?,
        expires: row.maybe_int(3)?,
        must_change: row.truth(4)?,
        revision: row.int(5)?,
        name: row.text(6)?,
        driver: row.maybe_text(7)?,
        credentials,
        groups,
        labels,
        attributes,
    }))
}

/// Part, five numbers, five texts. The casts give PostgreSQL the columns' types.
const WHOLE: &str = "\
SELECT CAST(0 AS BIGINT), id, enabled, expires, must_change, revision, \
       name, driver, CAST(NULL AS TEXT), CAST(NULL AS TEXT), CAST(NULL AS TEXT) \
  FROM accounts WHERE name = $1 \
UNION ALL \
SELECT 1, c.id, c.created, c.expires, c.last_used, c.counter, c.kind, c.label, c.data, c.scope, c.lookup \
  FROM accounts a JOIN credentials c ON c.account = a.id WHERE a.name = $1 \
UNION ALL \
SELECT 2, m.admin, g.gid, NULL, NULL, NULL, g.name, NULL, NULL, NULL, NULL \
  FROM accounts a JOIN memberships m ON m.account = a.id JOIN user_groups g ON g.id = m.grp \
 WHERE a.name = $1 \
UNION ALL \
SELECT 3, NULL, NULL, NULL, NULL, NULL, l.label, NULL, NULL, NULL, NULL \
  FROM accounts a JOIN labels l ON l.account = a.id WHERE a.name = $1 \
UNION ALL \
SELECT 4, t.position, NULL, NULL, NULL, NULL, t.name, t.value, NULL, NULL, NULL \
  FROM accounts a JOIN attributes t ON t.account = a.id WHERE a.name = $1";

fn credential(row: &Row) -> Result<Credential, StoreError> {
    Ok(Credential {
        id: row.int(1)?,
        created: row.int(2)?,
        expires: row.maybe_int(3)?,
        last_used: row.maybe_int(4)?,
        counter: row.int(5)?,
        kind: row.text(6)?.as_str().into(),
        label: row.text(7)?,
        data: credentials::from_stored(row.text(8)?),
        scope: row.maybe_text(9)?,
        lookup: row.maybe_text(10)?,
    })
}

pub(crate) async fn insert_label(tx: &mut Tx, account: i64, label: &str) -> Result<(), StoreError> {
    check(label, "a label")?;
    let sql = "INSERT INTO labels (account, label) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    tx.run(sql, args![account, label]).await.map(|_| ())
}

pub(crate) async fn replace_attribute(
    tx: &mut Tx,
    account: i64,
    name: &str,
    values: &[String],
) -> Result<(), StoreError> {
    check(name, "an attribute's name")?;
    let sql = "DELETE FROM attributes WHERE account = $1 AND name = $2";
    tx.run(sql, args![account, name]).await?;
    for (position, value) in (0_i64..).zip(values) {
        check_text(value, limits::TEXT, "an attribute's value")?;
        let sql = "INSERT INTO attributes (account, name, position, value) VALUES ($1, $2, $3, $4)";
        tx.run(sql, args![account, name, position, value.as_str()]).await?;
    }
    Ok(())
}

pub(crate) fn check_driver(driver: &Option<String>) -> Result<(), StoreError> {
    driver.as_deref().map_or(Ok(()), |name| check(name, "a driver's name"))
}

pub(crate) async fn set_must_change(tx: &mut Tx, id: i64, on: bool) -> Result<(), StoreError> {
    let sql = "UPDATE accounts SET must_change = $1 WHERE id = $2";
    tx.run(sql, args![on, id]).await.map(|_| ())
}

/// Refuses when `count` (a statement over the account) gives more than `limit`.
pub(crate) async fn within(
    tx: &mut Tx,
    count: &'static str,
    account: i64,
    limit: usize,
    what: &'static str,
    name: &str,
) -> Result<(), StoreError> {
    let row = tx.row(count, args![account]).await?;
    if row.map_or(Ok(0), |row| row.int(0))? > limit as i64 {
        return Err(StoreError::TooMany { what, name: name.to_owned(), limit });
    }
    Ok(())
}

/// The account's id. Nobody else changes its row until the end.
pub(crate) async fn find(tx: &mut Tx, name: &str) -> Result<Option<i64>, StoreError> {
    let row = tx.hold("SELECT id FROM accounts WHERE name = $1", args![name]).await?;
    row.map(|row| row.int(0)).transpose()
}

pub(crate) async fn id_of(tx: &mut Tx, name: &str) -> Result<i64, StoreError> {
    // Before the database, which would choke on some of them (NUL on PostgreSQL).
    check_user_name(name)?;
    let not_found = || StoreError::NotFound { what: "user", name: name.to_owned() };
    find(tx, name).await?.ok_or_else(not_found)
}

/// `$1` to `$4` of a listing: from, below, after, limit. Names are ordered by bytes (columns are collated
/// `"C"` on PostgreSQL). What begins with the prefix lies below the prefix with more of the last code point
/// than a name has room for.
pub(crate) fn page_args(page: &Page) -> Vec<Arg> {
    let below = format!("{}{}", page.prefix, "\u{10ffff}".repeat(limits::NAME / 4 + 1));
    let after = page.after.clone().unwrap_or_default();
    args![page.prefix.as_str(), below, after, page.limit.min(limits::PAGE) as i64]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NewAccount, OpenOptions};

    /// However many there are: an account is found by an index in every table that it is in.
    #[tokio::test]
    async fn a_look_up_reads_no_table_through() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let store = Store::open(path, OpenOptions::create()).await.unwrap();
        store.add_account(&NewAccount::new("alice"), 0).await.unwrap();
        let plan = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {WHOLE}"));
        let plan = store.inner.db.rows(plan, args!["alice"]).await.unwrap();
        let steps: Vec<_> = plan.iter().map(|row| row.text(3).unwrap()).collect();
        assert!(steps.iter().filter(|step| step.contains("USING INDEX")).count() >= 5, "{steps:?}");
        assert!(!steps.iter().any(|step| step.starts_with("SCAN")), "{steps:?}");
    }
}
