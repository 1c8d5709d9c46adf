//! Groups, their numbers, their members and administrators.

use crate::accounts::{id_of as account_id, page_args, within};
use crate::change::ADMINISTRATORS;
use crate::error::StoreError;
use crate::names::{check_group_name, check_text, limits};
use crate::records::{Changed, Group, GroupUpdate, Page};
use crate::sql::{Arg, Row, Tx, args};
use crate::store::{Change, Store};

/// A group with more members than this is not named member by member when it changes.
const NAMED_MEMBERS: i64 = 1000;

impl Store {
    /// Adds a group; gives the revision.
    ///
    /// # Errors
    /// [`StoreError::Exists`] for a name or a number that is taken, [`StoreError::Invalid`].
    pub async fn add_group(&self, group: &Group) -> Result<i64, StoreError> {
        let mut change = self.change().await?;
        if find(&mut change.tx, &group.name).await?.is_some() {
            return Err(StoreError::Exists { what: "group", name: group.name.clone() });
        }
        change.insert_group(group).await?;
        change.commit().await
    }

    /// Sets the number and the description of the group with this name.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Exists`] for a number that is taken, [`StoreError::Invalid`].
    pub async fn update_group(&self, group: &Group) -> Result<i64, StoreError> {
        let Group { name, gid, description } = group.clone();
        let all = GroupUpdate { name: None, gid: Some(gid), description: Some(description) };
        self.change_group(&name, &all).await
    }

    /// Removes a group, the memberships in it and the tokens bound to it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::LastAdministrator`] for [`crate::ADMINISTRATORS`] as long as
    /// anybody in it is enabled.
    pub async fn remove_group(&self, name: &str) -> Result<i64, StoreError> {
        let mut change = self.change().await?;
        let id = id_of(&mut change.tx, name).await?;
        if name == ADMINISTRATORS && change.administrators(i64::MIN).await? > 0 {
            return Err(StoreError::LastAdministrator);
        }
        change.touch_members(id).await?;
        change.tx.run("DELETE FROM user_groups WHERE id = $1", args![id]).await?;
        change.note(Changed::Group(name.to_owned()));
        change.commit().await
    }

    /// The group of this name.
    ///
    /// # Errors
    /// What the database says.
    pub async fn group(&self, name: &str) -> Result<Option<Group>, StoreError> {
        if check_group_name(name).is_err() {
            return Ok(None);
        }
        let sql = "SELECT name, gid, description FROM user_groups WHERE name = $1";
        self.inner.db.row(sql, args![name]).await?.map(|row| group(&row)).transpose()
    }

    /// The group with this number.
    ///
    /// # Errors
    /// What the database says.
    pub async fn group_by_gid(&self, gid: u32) -> Result<Option<Group>, StoreError> {
        let sql = "SELECT name, gid, description FROM user_groups WHERE gid = $1";
        self.inner.db.row(sql, args![i64::from(gid)]).await?.map(|row| group(&row)).transpose()
    }

    /// One page of the groups, by name.
    ///
    /// # Errors
    /// What the database says.
    pub async fn groups(&self, page: &Page) -> Result<Vec<Group>, StoreError> {
        let sql = "SELECT name, gid, description FROM user_groups \
                   WHERE name >= $1 AND name < $2 AND name > $3 ORDER BY name LIMIT $4";
        self.inner.db.rows(sql, page_args(page)).await?.iter().map(group).collect()
    }

    /// One page of a group's members, by name, each with the admin mark.
    ///
    /// # Errors
    /// What the database says.
    pub async fn members(
        &self,
        group: &str,
        page: &Page,
    ) -> Result<Vec<(String, bool)>, StoreError> {
        let sql = "SELECT a.name, m.admin FROM user_groups g \
                   JOIN memberships m ON m.grp = g.id JOIN accounts a ON a.id = m.account \
                   WHERE a.name >= $1 AND a.name < $2 AND a.name > $3 AND g.name = $5 \
                   ORDER BY a.name LIMIT $4";
        let mut args = page_args(page);
        args.push(Arg::from(group));
        let rows = self.inner.db.rows(sql, args).await?;
        rows.iter().map(|row| Ok((row.text(0)?, row.truth(1)?))).collect()
    }

    /// Puts a user into a group, or changes the admin mark of one who is in it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the group or the user, [`StoreError::TooMany`].
    pub async fn add_member(
        &self,
        group: &str,
        user: &str,
        admin: bool,
    ) -> Result<i64, StoreError> {
        let mut change = self.change().await?;
        let grp = id_of(&mut change.tx, group).await?;
        let account = account_id(&mut change.tx, user).await?;
        insert_member(&mut change.tx, account, grp, admin).await?;
        let sql = "SELECT COUNT(*) FROM memberships WHERE account = $1";
        within(&mut change.tx, sql, account, limits::GROUPS, "groups", user).await?;
        change.touch(account, user).await?;
        change.commit().await
    }

    /// Takes a user out of a group; tokens of theirs that are bound to the group go too.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the group, the user, or the membership;
    /// [`StoreError::LastAdministrator`].
    pub async fn remove_member(&self, group: &str, user: &str) -> Result<i64, StoreError> {
        let mut change = self.change().await?;
        let account = account_id(&mut change.tx, user).await?;
        let guard = change.guard(account, i64::MIN).await?;
        change.leave(account, user, group).await?;
        change.hold_guard(guard, i64::MIN).await?;
        change.touch(account, user).await?;
        change.commit().await
    }
}

impl Change {
    /// Adds a group of a name that is free.
    pub(crate) async fn insert_group(&mut self, group: &Group) -> Result<i64, StoreError> {
        check_group_name(&group.name)?;
        check_text(&group.description, limits::TEXT, "a group's description")?;
        check_gid(&mut self.tx, group.gid, None).await?;
        let id = self.tx.take("id", 1).await?;
        let sql = "INSERT INTO user_groups (id, name, gid, description) VALUES ($1, $2, $3, $4)";
        let gid = group.gid.map(i64::from);
        let args = args![id, group.name.as_str(), gid, group.description.as_str()];
        self.tx.run(sql, args).await?;
        self.note(Changed::Group(group.name.clone()));
        Ok(id)
    }

    /// A group's name and number are part of each member's account.
    pub(crate) async fn touch_members(&mut self, group: i64) -> Result<(), StoreError> {
        let sql = "UPDATE accounts SET revision = $1 \
                   WHERE id IN (SELECT account FROM memberships WHERE grp = $2)";
        self.tx.run(sql, args![self.revision, group]).await?;
        let sql = "SELECT a.name FROM memberships m JOIN accounts a ON a.id = m.account \
                   WHERE m.grp = $1 LIMIT $2";
        let rows = self.tx.rows(sql, args![group, NAMED_MEMBERS + 1]).await?;
        if rows.len() as i64 > NAMED_MEMBERS {
            self.note(Changed::Everything);
        } else {
            for row in rows {
                self.note(Changed::Account(row.text(0)?));
            }
        }
        Ok(())
    }
}

fn group(row: &Row) -> Result<Group, StoreError> {
    Ok(Group { name: row.text(0)?, gid: gid(row.maybe_int(1)?), description: row.text(2)? })
}

/// Only numbers that fit were put in.
pub(crate) fn gid(stored: Option<i64>) -> Option<u32> {
    stored.and_then(|gid| u32::try_from(gid).ok())
}

pub(crate) async fn find(tx: &mut Tx, name: &str) -> Result<Option<i64>, StoreError> {
    let row = tx.row("SELECT id FROM user_groups WHERE name = $1", args![name]).await?;
    row.map(|row| row.int(0)).transpose()
}

pub(crate) async fn id_of(tx: &mut Tx, name: &str) -> Result<i64, StoreError> {
    check_group_name(name)?;
    let not_found = || StoreError::NotFound { what: "group", name: name.to_owned() };
    find(tx, name).await?.ok_or_else(not_found)
}

pub(crate) async fn set_gid(tx: &mut Tx, id: i64, gid: Option<u32>) -> Result<(), StoreError> {
    check_gid(tx, gid, Some(id)).await?;
    let sql = "UPDATE user_groups SET gid = $1 WHERE id = $2";
    tx.run(sql, args![gid.map(i64::from), id]).await.map(|_| ())
}

pub(crate) async fn set_description(tx: &mut Tx, id: i64, text: &str) -> Result<(), StoreError> {
    check_text(text, limits::TEXT, "a group's description")?;
    let sql = "UPDATE user_groups SET description = $1 WHERE id = $2";
    tx.run(sql, args![text, id]).await.map(|_| ())
}

async fn check_gid(tx: &mut Tx, gid: Option<u32>, own: Option<i64>) -> Result<(), StoreError> {
    let Some(gid) = gid else { return Ok(()) };
    let row = tx.row("SELECT id FROM user_groups WHERE gid = $1", args![i64::from(gid)]).await?;
    match row.map(|row| row.int(0)).transpose()? {
        Some(id) if own != Some(id) => {
            Err(StoreError::Exists { what: "group with the number", name: gid.to_string() })
        }
        _ => Ok(()),
    }
}

pub(crate) async fn insert_member(
    tx: &mut Tx,
    account: i64,
    group: i64,
    admin: bool,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO memberships (account, grp, admin) VALUES ($1, $2, $3) \
               ON CONFLICT (account, grp) DO UPDATE SET admin = excluded.admin";
    tx.run(sql, args![account, group, admin]).await.map(|_| ())
}
