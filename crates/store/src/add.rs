//! Adding accounts, one or a million.

use std::collections::HashMap;

use sqlx::AssertSqlSafe;

use crate::accounts::check_driver;
use crate::credentials;
use crate::error::StoreError;
use crate::groups;
use crate::names::{check, check_text, check_user_name, limits};
use crate::records::{Changed, Changes, Group, NewAccount};
use crate::sql::{Arg, args};
use crate::store::{Change, Store};

/// Rows of one insert. Many rows in one statement are what makes an import fast.
const BATCH: usize = 64;

impl Store {
    /// Adds an account with everything in `new`; gives the revision.
    ///
    /// # Errors
    /// [`StoreError::Exists`] for a name that is taken, [`StoreError::NotFound`] for a group that does not
    /// exist, [`StoreError::Invalid`] and [`StoreError::TooMany`] for what the store refuses to hold.
    pub async fn add_account(&self, new: &NewAccount, now: i64) -> Result<i64, StoreError> {
        self.add_accounts(std::slice::from_ref(new), now).await
    }

    /// Adds many accounts in one transaction: all or none. An import does so a few thousand at a time, so
    /// that other writers get their turn.
    ///
    /// # Errors
    /// As [`Store::add_account`], naming an account that was refused.
    pub async fn add_accounts(&self, new: &[NewAccount], now: i64) -> Result<i64, StoreError> {
        if new.is_empty() {
            return Ok(self.revision());
        }
        Ok(self.change().await?.add(new, false, now).await?.revision)
    }

    /// The same, and adds the groups that they name and that do not exist, in the same transaction.
    ///
    /// # Errors
    /// As [`Store::add_account`], but for missing groups.
    pub async fn add_accounts_and_groups(
        &self,
        new: &[NewAccount],
        now: i64,
    ) -> Result<Changes, StoreError> {
        if new.is_empty() {
            return Ok(Changes { revision: self.revision(), ..Changes::default() });
        }
        self.change().await?.add(new, true, now).await
    }
}

/// The rows of one table.
struct Rows {
    into: &'static str,
    columns: usize,
    rows: Vec<Arg>,
}

impl Rows {
    fn of(into: &'static str) -> Self {
        Self { into, columns: into.matches(',').count() + 1, rows: Vec::new() }
    }

    fn push(&mut self, row: Vec<Arg>) {
        debug_assert_eq!(row.len(), self.columns, "{}", self.into);
        self.rows.extend(row);
    }

    /// Gives how many were inserted; what is there already is left alone.
    async fn insert(self, change: &mut Change) -> Result<u64, StoreError> {
        let mut inserted = 0;
        let mut rows = self.rows.into_iter().peekable();
        let mut left = rows.len() / self.columns;
        while left > 0 {
            // Two texts only, for one row and for a full batch, so that both stay prepared.
            let count = if left < BATCH { 1 } else { BATCH };
            let values = change.placeholders(count, self.columns);
            let sql = format!("INSERT INTO {} VALUES {values} ON CONFLICT DO NOTHING", self.into);
            let batch = rows.by_ref().take(count * self.columns).collect();
            inserted += change.tx.run(AssertSqlSafe(sql), batch).await?;
            left -= count;
        }
        Ok(inserted)
    }
}

impl Change {
    async fn add(
        mut self,
        new: &[NewAccount],
        create_groups: bool,
        now: i64,
    ) -> Result<Changes, StoreError> {
        let mut accounts =
            Rows::of("accounts (id, name, enabled, expires, must_change, driver, revision)");
        let mut credentials = Rows::of(
            "credentials (id, account, kind, label, data, scope, lookup, created, expires, counter)",
        );
        let mut memberships = Rows::of("memberships (account, grp, admin)");
        let mut labels = Rows::of("labels (account, label)");
        let mut attributes = Rows::of("attributes (account, name, position, value)");
        for new in new {
            check_account(new)?;
        }
        let (groups, created_groups) = self.groups_of(new, create_groups).await?;
        let ids = new.iter().map(|new| 1 + new.credentials.len()).sum::<usize>() as i64;
        let mut id = self.tx.take("id", ids).await? - ids;
        let mut next = || {
            id += 1;
            id
        };
        for new in new {
            let NewAccount { name, enabled, expires, must_change, driver, .. } = new;
            let id = next();
            let name = name.as_str();
            accounts.push(args![id, name, *enabled, *expires, *must_change, driver, self.revision]);
            for new in &new.credentials {
                credentials.push(credentials::row(next(), id, new, now)?);
            }
            // The last word about a group that is named twice.
            let wanted: HashMap<&str, bool> =
                new.groups.iter().map(|(name, admin)| (name.as_str(), *admin)).collect();
            for (name, admin) in wanted {
                memberships.push(args![id, groups[name], admin]);
            }
            for label in &new.labels {
                labels.push(args![id, label.as_str()]);
            }
            for (name, values) in &new.attributes {
                for (position, value) in (0_i64..).zip(values) {
                    attributes.push(args![id, name.as_str(), position, value.as_str()]);
                }
            }
            self.note(Changed::Account(name.to_owned()));
        }
        if accounts.insert(&mut self).await? < new.len() as u64 {
            return Err(self.taken(new).await?);
        }
        for rows in [credentials, memberships, labels, attributes] {
            rows.insert(&mut self).await?;
        }
        let revision = self.commit().await?;
        Ok(Changes { revision, created_groups, ..Changes::default() })
    }

    /// The ids of all groups that are named, and the names of those that were made.
    async fn groups_of(
        &mut self,
        new: &[NewAccount],
        create: bool,
    ) -> Result<(HashMap<String, i64>, Vec<String>), StoreError> {
        let mut ids = HashMap::new();
        let mut created = Vec::new();
        for (name, _) in new.iter().flat_map(|new| &new.groups) {
            if ids.contains_key(name) {
                continue;
            }
            let id = self.group_for(name, create, &mut created).await?;
            ids.insert(name.clone(), id);
        }
        Ok((ids, created))
    }

    /// The id of the group, which is made if it may be.
    pub(crate) async fn group_for(
        &mut self,
        name: &str,
        create: bool,
        created: &mut Vec<String>,
    ) -> Result<i64, StoreError> {
        match groups::id_of(&mut self.tx, name).await {
            Err(StoreError::NotFound { .. }) if create => {
                let group = Group { name: name.to_owned(), gid: None, description: String::new() };
                created.push(name.to_owned());
                self.insert_group(&group).await
            }
            found => found,
        }
    }

    /// Which name was not free. Of those in the database now, all are other accounts' or were added by this
    /// very call, and then twice.
    async fn taken(&mut self, new: &[NewAccount]) -> Result<StoreError, StoreError> {
        let mut named = std::collections::HashSet::new();
        for NewAccount { name, .. } in new {
            let sql = "SELECT 1 FROM accounts WHERE name = $1 AND revision <> $2";
            let there = self.tx.row(sql, args![name.as_str(), self.revision]).await?.is_some();
            if there || !named.insert(name) {
                return Ok(StoreError::Exists { what: "user", name: name.clone() });
            }
        }
        // It cannot be: names are unique, and so is nothing else.
        Ok(StoreError::Exists { what: "user", name: String::new() })
    }
}

/// Everything that can be refused without the database.
fn check_account(new: &NewAccount) -> Result<(), StoreError> {
    check_user_name(&new.name)?;
    check_driver(&new.driver)?;
    let values = new.attributes.values().map(Vec::len).sum();
    for (count, limit, what) in [
        (new.credentials.len(), limits::CREDENTIALS, "credentials"),
        (new.groups.len(), limits::GROUPS, "groups"),
        (new.labels.len(), limits::LABELS, "labels"),
        (values, limits::VALUES, "attribute values"),
    ] {
        if count > limit {
            return Err(StoreError::TooMany { what, name: new.name.clone(), limit });
        }
    }
    for label in &new.labels {
        check(label, "a label")?;
    }
    for (name, values) in &new.attributes {
        check(name, "an attribute's name")?;
        for value in values {
            check_text(value, limits::TEXT, "an attribute's value")?;
        }
    }
    Ok(())
}
