//! Login tokens of accounts, found by the token's hash.

use crate::accounts::id_of;
use crate::error::StoreError;
use crate::groups;
use crate::names::{check, check_text, limits};
use crate::records::{NewToken, TokenRecord};
use crate::sql::{Durability, Row, args};
use crate::store::Store;

impl Store {
    /// Adds a token; gives its id. Tokens of the account that have expired are removed first, and the
    /// rest is counted in the same transaction, so that two calls at once do not pass the limit.
    ///
    /// # Errors
    /// [`StoreError::TooMany`] if the account has `limit` tokens already, [`StoreError::NotFound`] for
    /// the user, for the group, and for a group that the user is not in, [`StoreError::Exists`] for a
    /// hash that is there, [`StoreError::Invalid`].
    pub async fn add_token(
        &self,
        user: &str,
        new: &NewToken,
        limit: usize,
        now: i64,
    ) -> Result<i64, StoreError> {
        check(&new.hash, "a token's hash")?;
        check_text(&new.label, limits::NAME, "a token's label")?;
        let mut change = self.change().await?;
        let tx = &mut change.tx;
        let account = id_of(tx, user).await?;
        let mut grp = None;
        if let Some(group) = &new.group {
            let id = groups::id_of(tx, group).await?;
            let sql = "SELECT 1 FROM memberships WHERE account = $1 AND grp = $2";
            if tx.row(sql, args![account, id]).await?.is_none() {
                let name = format!("{user}` in `{group}");
                return Err(StoreError::NotFound { what: "member", name });
            }
            grp = Some(id);
        }
        let sql = "DELETE FROM tokens WHERE account = $1 AND expires <= $2";
        tx.run(sql, args![account, now]).await?;
        let row = tx.row("SELECT COUNT(*) FROM tokens WHERE account = $1", args![account]).await?;
        if row.map_or(Ok(0), |row| row.int(0))? >= limit as i64 {
            return Err(StoreError::TooMany { what: "tokens", name: user.to_owned(), limit });
        }
        let id = tx.take("id", 1).await?;
        let sql = "INSERT INTO tokens (id, account, hash, label, grp, created, expires) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
        let args = args![id, account, new.hash.as_str(), new.label.as_str(), grp, now, new.expires];
        if tx.run(sql, args).await? == 0 {
            return Err(StoreError::Exists { what: "token", name: new.label.clone() });
        }
        change.touch(account, user).await?;
        change.commit().await?;
        Ok(id)
    }

    /// The token with this hash, unless it has expired.
    ///
    /// # Errors
    /// What the database says.
    pub async fn token(&self, hash: &str, now: i64) -> Result<Option<TokenRecord>, StoreError> {
        if check(hash, "a token's hash").is_err() {
            return Ok(None);
        }
        let sql = "SELECT t.id, a.name, t.hash, t.label, g.name, t.created, t.expires, t.last_used \
                   FROM tokens t JOIN accounts a ON a.id = t.account \
                   LEFT JOIN user_groups g ON g.id = t.grp \
                   WHERE t.hash = $1 AND (t.expires IS NULL OR t.expires > $2)";
        self.inner.db.row(sql, args![hash, now]).await?.map(|row| token(&row)).transpose()
    }

    /// The tokens of an account, oldest first, also those that have expired and are not swept yet.
    ///
    /// # Errors
    /// What the database says.
    pub async fn tokens_of(&self, user: &str) -> Result<Vec<TokenRecord>, StoreError> {
        let sql = "SELECT t.id, a.name, t.hash, t.label, g.name, t.created, t.expires, t.last_used \
                   FROM accounts a JOIN tokens t ON t.account = a.id \
                   LEFT JOIN user_groups g ON g.id = t.grp \
                   WHERE a.name = $1 ORDER BY t.id LIMIT $2";
        let rows = self.inner.db.rows(sql, args![user, limits::PAGE as i64]).await?;
        rows.iter().map(token).collect()
    }

    /// Removes one token of the account.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the user, and for an id that is not one of theirs.
    pub async fn remove_token(&self, user: &str, id: i64) -> Result<i64, StoreError> {
        let mut change = self.change().await?;
        let account = id_of(&mut change.tx, user).await?;
        let sql = "DELETE FROM tokens WHERE id = $1 AND account = $2";
        if change.tx.run(sql, args![id, account]).await? == 0 {
            return Err(StoreError::NotFound { what: "token", name: id.to_string() });
        }
        change.touch(account, user).await?;
        change.commit().await
    }

    /// Removes every token of the account; gives how many there were.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the user.
    pub async fn remove_tokens_of(&self, user: &str) -> Result<u64, StoreError> {
        let mut change = self.change().await?;
        let account = id_of(&mut change.tx, user).await?;
        let gone = change.tx.run("DELETE FROM tokens WHERE account = $1", args![account]).await?;
        if gone > 0 {
            change.touch(account, user).await?;
            change.commit().await?;
        }
        Ok(gone)
    }

    /// Records a use, for people only; see [`Store::record_use`].
    ///
    /// # Errors
    /// What the database says.
    pub async fn record_token_use(&self, id: i64, now: i64) -> Result<(), StoreError> {
        let mut tx = self.inner.db.begin(Durability::Relaxed).await?;
        tx.alone().await?;
        tx.run("UPDATE tokens SET last_used = $1 WHERE id = $2", args![now, id]).await?;
        tx.commit().await
    }

    /// Deletes what has expired, at most `limit`; gives how many.
    ///
    /// # Errors
    /// What the database says.
    pub async fn sweep_tokens(&self, now: i64, limit: usize) -> Result<u64, StoreError> {
        let mut tx = self.inner.db.begin(Durability::Relaxed).await?;
        tx.alone().await?;
        let sql = "DELETE FROM tokens WHERE id IN \
                   (SELECT id FROM tokens WHERE expires <= $1 ORDER BY id LIMIT $2)";
        let gone = tx.run(sql, args![now, limit as i64]).await?;
        tx.commit().await?;
        Ok(gone)
    }
}

fn token(row: &Row) -> Result<TokenRecord, StoreError> {
    Ok(TokenRecord {
        id: row.int(0)?,
        account: row.text(1)?,
        hash: row.text(2)?,
        label: row.text(3)?,
        group: row.maybe_text(4)?,
        created: row.int(5)?,
        expires: row.maybe_int(6)?,
        last_used: row.maybe_int(7)?,
    })
}
