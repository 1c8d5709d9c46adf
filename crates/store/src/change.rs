//! Several things about one account, or one group, at once: all of it or nothing.

use crate::accounts::{
    check_driver, id_of, insert_label, replace_attribute, set_must_change, within,
};
use crate::credentials;
use crate::error::StoreError;
use crate::groups;
use crate::names::{check_group_name, invalid, limits};
use crate::records::{AccountChange, AccountUpdate, Changed, Changes, GroupUpdate};
use crate::sql::args;
use crate::store::{Change, Store};

/// The group whose members administer everything. Its last member who may log in cannot be taken away.
pub const ADMINISTRATORS: &str = "administrators";

impl Store {
    /// Changes an account as `wanted` says, in one transaction: all of it or nothing. The sessions of an
    /// account that is disabled, has expired, must change its password or gets another one end with it,
    /// and a login that began before gets no session.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the user, a group, a membership or a label; [`StoreError::Exists`],
    /// [`StoreError::Invalid`], [`StoreError::TooMany`]; [`StoreError::LastAdministrator`];
    /// [`StoreError::Overtaken`] if the session that asks for it has ended.
    pub async fn change_account(
        &self,
        name: &str,
        wanted: &AccountChange,
        now: i64,
    ) -> Result<Changes, StoreError> {
        let mut change = self.change().await?;
        let id = id_of(&mut change.tx, name).await?;
        let by = wanted.by_session.as_deref();
        if let Some(hash) = by {
            change.hold_session(name, hash, now).await?;
        }
        let guard = change.guard(id, now).await?;
        change.set_fields(id, &wanted.fields).await?;
        let AccountUpdate { enabled, expires, must_change, .. } = wanted.fields;
        let over = expires.flatten().is_some_and(|at| at <= now);
        if let Some(hash) = &wanted.password {
            credentials::replace_password(&mut change.tx, id, hash, now).await?;
            change.count_credentials(id, name).await?;
        }
        let mut removed_credentials = Vec::with_capacity(wanted.remove_credentials.len());
        for kind in &wanted.remove_credentials {
            let sql = "DELETE FROM credentials WHERE account = $1 AND kind = $2";
            let removed = change.tx.run(sql, args![id, kind.as_str()]).await?;
            removed_credentials.push((kind.clone(), removed));
        }
        let mut created_groups = Vec::new();
        for (group, admin) in &wanted.groups {
            let group = change.group_for(group, wanted.create_groups, &mut created_groups).await?;
            groups::insert_member(&mut change.tx, id, group, *admin).await?;
        }
        for group in &wanted.remove_groups {
            change.leave(id, name, group).await?;
        }
        for label in &wanted.labels {
            insert_label(&mut change.tx, id, label).await?;
        }
        for label in &wanted.remove_labels {
            let sql = "DELETE FROM labels WHERE account = $1 AND label = $2";
            if change.tx.run(sql, args![id, label.as_str()]).await? == 0 {
                return Err(StoreError::NotFound { what: "label", name: label.clone() });
            }
        }
        for (attribute, values) in &wanted.attributes {
            replace_attribute(&mut change.tx, id, attribute, values).await?;
        }
        for (sql, limit, what) in [
            ("SELECT COUNT(*) FROM memberships WHERE account = $1", limits::GROUPS, "groups"),
            ("SELECT COUNT(*) FROM labels WHERE account = $1", limits::LABELS, "labels"),
            (
                "SELECT COUNT(*) FROM attributes WHERE account = $1",
                limits::VALUES,
                "attribute values",
            ),
        ] {
            within(&mut change.tx, sql, id, limit, what, name).await?;
        }
        change.hold_guard(guard, now).await?;
        let shut_out = enabled == Some(false) || over || must_change == Some(true);
        let ended_sessions = match shut_out || wanted.password.is_some() || wanted.end_sessions {
            true => change.end_sessions_of(name, by).await?,
            false => 0,
        };
        change.touch(id, name).await?;
        let revision = change.commit().await?;
        Ok(Changes { revision, created_groups, removed_credentials, ended_sessions })
    }

    /// Changes a group as `wanted` says; gives the revision. Its members see it at once; what sessions
    /// remember of their groups stays until they end.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Exists`] for a name or a number that is taken,
    /// [`StoreError::Invalid`], also for another name of [`ADMINISTRATORS`].
    pub async fn change_group(&self, name: &str, wanted: &GroupUpdate) -> Result<i64, StoreError> {
        let GroupUpdate { name: to, gid, description } = wanted;
        let mut change = self.change().await?;
        let id = groups::id_of(&mut change.tx, name).await?;
        if let Some(to) = to.as_deref().filter(|to| *to != name) {
            check_group_name(to)?;
            if name == ADMINISTRATORS {
                return invalid("the group `administrators`", "must keep its name");
            }
            if groups::find(&mut change.tx, to).await?.is_some() {
                return Err(StoreError::Exists { what: "group", name: to.to_owned() });
            }
            let sql = "UPDATE user_groups SET name = $1 WHERE id = $2";
            change.tx.run(sql, args![to, id]).await?;
            change.note(Changed::Group(to.to_owned()));
        }
        if let Some(gid) = gid {
            groups::set_gid(&mut change.tx, id, *gid).await?;
        }
        if let Some(description) = description {
            groups::set_description(&mut change.tx, id, description).await?;
        }
        change.touch_members(id).await?;
        change.note(Changed::Group(name.to_owned()));
        change.commit().await
    }
}

/// Whether an administrator is about to be changed, who may have been the last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guard(bool);

impl Change {
    pub(crate) async fn set_fields(
        &mut self,
        id: i64,
        fields: &AccountUpdate,
    ) -> Result<(), StoreError> {
        let AccountUpdate { enabled, expires, must_change, driver } = fields;
        if let Some(enabled) = enabled {
            let sql = "UPDATE accounts SET enabled = $1 WHERE id = $2";
            self.tx.run(sql, args![*enabled, id]).await?;
        }
        if let Some(expires) = expires {
            let sql = "UPDATE accounts SET expires = $1 WHERE id = $2";
            self.tx.run(sql, args![*expires, id]).await?;
        }
        if let Some(must_change) = must_change {
            set_must_change(&mut self.tx, id, *must_change).await?;
        }
        if let Some(driver) = driver {
            check_driver(driver)?;
            let sql = "UPDATE accounts SET driver = $1 WHERE id = $2";
            self.tx.run(sql, args![driver, id]).await?;
        }
        Ok(())
    }

    /// Takes the account out of a group, and its tokens that are bound to the group.
    pub(crate) async fn leave(
        &mut self,
        account: i64,
        name: &str,
        group: &str,
    ) -> Result<(), StoreError> {
        let grp = groups::id_of(&mut self.tx, group).await?;
        let sql = "DELETE FROM memberships WHERE account = $1 AND grp = $2";
        if self.tx.run(sql, args![account, grp]).await? == 0 {
            let name = format!("{name}` in `{group}");
            return Err(StoreError::NotFound { what: "member", name });
        }
        let sql = "DELETE FROM tokens WHERE account = $1 AND grp = $2";
        self.tx.run(sql, args![account, grp]).await.map(|_| ())
    }

    /// To be taken before the account is changed, and held after. Changes are made one after the other,
    /// so that two of them do not each leave the other's administrator as the last.
    pub(crate) async fn guard(&mut self, account: i64, now: i64) -> Result<Guard, StoreError> {
        let sql = "SELECT 1 FROM memberships m JOIN user_groups g ON g.id = m.grp \
                   JOIN accounts a ON a.id = m.account WHERE g.name = $1 AND a.enabled = 1 \
                   AND (a.expires IS NULL OR a.expires > $2) AND a.id = $3";
        let row = self.tx.row(sql, args![ADMINISTRATORS, now, account]).await?;
        Ok(Guard(row.is_some()))
    }

    pub(crate) async fn hold_guard(&mut self, guard: Guard, now: i64) -> Result<(), StoreError> {
        if guard.0 && self.administrators(now).await? == 0 {
            return Err(StoreError::LastAdministrator);
        }
        Ok(())
    }

    /// How many members of the group may log in.
    pub(crate) async fn administrators(&mut self, now: i64) -> Result<i64, StoreError> {
        let sql = "SELECT COUNT(*) FROM memberships m JOIN user_groups g ON g.id = m.grp \
                   JOIN accounts a ON a.id = m.account WHERE g.name = $1 AND a.enabled = 1 \
                   AND (a.expires IS NULL OR a.expires > $2)";
        let row = self.tx.row(sql, args![ADMINISTRATORS, now]).await?;
        row.map_or(Ok(0), |row| row.int(0))
    }
}
