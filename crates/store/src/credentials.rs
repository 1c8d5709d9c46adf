//! What proves who an account's holder is: kept, replaced, counted, never interpreted.

use countersign::Secret;

use crate::accounts::{id_of, set_must_change, within};
use crate::error::StoreError;
use crate::names::{check, check_text, invalid, limits};
use crate::records::{CredentialType, NewCredential};
use crate::sql::{Arg, Durability, Tx, args};
use crate::store::{Change, Store};

impl Store {
    /// Adds a credential beside those the account has; gives its id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Invalid`], [`StoreError::TooMany`].
    pub async fn add_credential(
        &self,
        user: &str,
        new: &NewCredential,
        now: i64,
    ) -> Result<i64, StoreError> {
        let mut change = self.change().await?;
        let account = id_of(&mut change.tx, user).await?;
        let id = insert(&mut change.tx, account, new, now).await?;
        change.finish(account, user).await?;
        Ok(id)
    }

    /// Puts these credentials of one kind in the place of all that the account has of it: a new set of
    /// recovery codes, SCRAM keys after a change of password. None: removes the kind.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Invalid`] (also for a credential of another kind),
    /// [`StoreError::TooMany`].
    pub async fn set_credentials(
        &self,
        user: &str,
        kind: &CredentialType,
        new: &[NewCredential],
        now: i64,
    ) -> Result<i64, StoreError> {
        let mut change = self.change().await?;
        let account = id_of(&mut change.tx, user).await?;
        replace_kind(&mut change.tx, account, kind, new, now).await?;
        change.finish(account, user).await
    }

    /// Sets the one password: its hash string in place of any other, what was derived from the old one
    /// (SCRAM keys) removed, and whether it must be changed at the next login. Sessions stay; ending them
    /// is [`Store::end_sessions_of`].
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Invalid`].
    pub async fn set_password(
        &self,
        user: &str,
        hash: &Secret,
        must_change: bool,
        now: i64,
    ) -> Result<i64, StoreError> {
        let mut change = self.change().await?;
        let account = id_of(&mut change.tx, user).await?;
        replace_password(&mut change.tx, account, hash, now).await?;
        set_must_change(&mut change.tx, account, must_change).await?;
        change.finish(account, user).await
    }

    /// [`Store::set_password`] by the holder, whose login began when the account had this revision. `false`:
    /// something about the account has changed since (an administrator disabled it, set another password),
    /// and that change stays. The account's sessions end with it: whoever knew the old password may have some.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] and what the database says.
    pub async fn change_password(
        &self,
        user: &str,
        revision: i64,
        hash: &Secret,
        now: i64,
    ) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let sql = "SELECT id FROM accounts WHERE name = $1 AND revision = $2";
        let row = change.tx.row(sql, args![user, revision]).await?;
        let Some(account) = row.map(|row| row.int(0)).transpose()? else { return Ok(false) };
        replace_password(&mut change.tx, account, hash, now).await?;
        set_must_change(&mut change.tx, account, false).await?;
        change.end_sessions_of(user, None).await?;
        change.finish(account, user).await?;
        Ok(true)
    }

    /// Puts these credentials of one kind, which are made of the password whose hash string is `of`, in the
    /// place of all that the account has of the kind: SCRAM keys. `false`: the account has another password by
    /// now, or is gone, and nothing is changed.
    ///
    /// # Errors
    /// [`StoreError::Invalid`], [`StoreError::TooMany`] and what the database says.
    pub async fn derive_credentials(
        &self,
        user: &str,
        of: &Secret,
        kind: &CredentialType,
        new: &[NewCredential],
        now: i64,
    ) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let sql = "SELECT a.id FROM accounts a JOIN credentials c ON c.account = a.id \
                   WHERE a.name = $1 AND c.kind = 'password' AND c.data = $2";
        let row = change.tx.row(sql, args![user, to_stored(of)]).await?;
        let Some(account) = row.map(|row| row.int(0)).transpose()? else { return Ok(false) };
        replace_kind(&mut change.tx, account, kind, new, now).await?;
        change.finish(account, user).await?;
        Ok(true)
    }

    /// Removes one credential of the account.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the user, and for an id that is not one of theirs.
    pub async fn remove_credential(&self, user: &str, id: i64) -> Result<i64, StoreError> {
        let mut change = self.change().await?;
        let account = id_of(&mut change.tx, user).await?;
        let sql = "DELETE FROM credentials WHERE id = $1 AND account = $2";
        if change.tx.run(sql, args![id, account]).await? == 0 {
            return Err(StoreError::NotFound { what: "credential", name: id.to_string() });
        }
        change.finish(account, user).await
    }

    /// Puts `new` in the place of `expected`, if that is still what is there: a stronger hash of the same
    /// password after a login. `false`: somebody changed it meanwhile, and their change stays.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] and what the database says.
    pub async fn replace_credential_data(
        &self,
        id: i64,
        expected: &Secret,
        new: &Secret,
    ) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let sql = "UPDATE credentials SET data = $1 WHERE id = $2 AND data = $3 RETURNING account";
        let row = change.tx.row(sql, args![stored(new)?, id, to_stored(expected)]).await?;
        let Some(account) = row.map(|row| row.int(0)).transpose()? else { return Ok(false) };
        change.finish_unnamed(account).await?;
        Ok(true)
    }

    /// Moves a counter forward: the step of a time-based code, the position of a counter-based one, the
    /// signature count of a passkey. `false`: it was there already or further, or the credential is gone,
    /// and the code proves nothing. Of two logins with the same code, on whatever nodes, one gets `true`.
    ///
    /// # Errors
    /// What the database says; the code then proves nothing either.
    pub async fn advance_counter(&self, id: i64, to: i64, now: i64) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let sql = "UPDATE credentials SET counter = $1, last_used = $2 \
                   WHERE id = $3 AND counter < $1 RETURNING account";
        let row = change.tx.row(sql, args![to, now, id]).await?;
        let Some(account) = row.map(|row| row.int(0)).transpose()? else { return Ok(false) };
        change.finish_unnamed(account).await?;
        Ok(true)
    }

    /// Uses up a credential that works once, such as a recovery code. `false`: somebody was quicker.
    ///
    /// # Errors
    /// What the database says; the code then proves nothing.
    pub async fn consume_credential(&self, id: i64) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let sql = "DELETE FROM credentials WHERE id = $1 RETURNING account";
        let row = change.tx.row(sql, args![id]).await?;
        let Some(account) = row.map(|row| row.int(0)).transpose()? else { return Ok(false) };
        change.finish_unnamed(account).await?;
        Ok(true)
    }

    /// Records uses: `(id, when)`. For people only, so it changes no revision and throws nothing out of
    /// the copy; an application password of every mail client would otherwise empty it all day.
    ///
    /// # Errors
    /// What the database says.
    pub async fn record_use(&self, used: &[(i64, i64)]) -> Result<(), StoreError> {
        let mut tx = self.inner.db.begin(Durability::Relaxed).await?;
        tx.alone().await?;
        for &(id, at) in used {
            let sql = "UPDATE credentials SET last_used = $1 \
                       WHERE id = $2 AND (last_used IS NULL OR last_used < $1)";
            tx.run(sql, args![at, id]).await?;
        }
        tx.commit().await
    }

    /// The names of the accounts that have a credential of this kind with this [lookup
    /// key](crate::Credential::lookup), sorted: at most one, unless somebody enrolled the same key twice,
    /// and then the caller must refuse.
    ///
    /// # Errors
    /// What the database says.
    pub async fn find_by_lookup(
        &self,
        kind: &CredentialType,
        lookup: &str,
    ) -> Result<Vec<String>, StoreError> {
        if check_text(lookup, limits::TEXT, "a lookup key").is_err() {
            return Ok(Vec::new());
        }
        let sql = "SELECT DISTINCT a.name FROM credentials c JOIN accounts a ON a.id = c.account \
                   WHERE c.kind = $1 AND c.lookup = $2 ORDER BY a.name LIMIT 16";
        let rows = self.inner.db.rows(sql, args![kind.as_str(), lookup]).await?;
        rows.iter().map(|row| row.text(0)).collect()
    }
}

impl Change {
    async fn finish(mut self, account: i64, name: &str) -> Result<i64, StoreError> {
        self.count_credentials(account, name).await?;
        self.touch(account, name).await?;
        self.commit().await
    }

    /// Refuses too many.
    pub(crate) async fn count_credentials(
        &mut self,
        account: i64,
        name: &str,
    ) -> Result<(), StoreError> {
        let sql = "SELECT COUNT(*) FROM credentials WHERE account = $1";
        within(&mut self.tx, sql, account, limits::CREDENTIALS, "credentials", name).await
    }

    async fn finish_unnamed(mut self, account: i64) -> Result<i64, StoreError> {
        let row = self.tx.row("SELECT name FROM accounts WHERE id = $1", args![account]).await?;
        let name = row.map_or(Ok(String::new()), |row| row.text(0))?;
        self.touch(account, &name).await?;
        self.commit().await
    }
}

/// The one password, and nothing that was made of the old one.
pub(crate) async fn replace_password(
    tx: &mut Tx,
    account: i64,
    hash: &Secret,
    now: i64,
) -> Result<(), StoreError> {
    let new = [NewCredential::new(CredentialType::Password, hash.clone())];
    replace_kind(tx, account, &CredentialType::Password, &new, now).await?;
    replace_kind(tx, account, &CredentialType::Scram, &[], now).await
}

async fn replace_kind(
    tx: &mut Tx,
    account: i64,
    kind: &CredentialType,
    new: &[NewCredential],
    now: i64,
) -> Result<(), StoreError> {
    if new.iter().any(|credential| credential.kind != *kind) {
        return invalid("a set of credentials", format!("must all be of the kind `{kind}`"));
    }
    let sql = "DELETE FROM credentials WHERE account = $1 AND kind = $2";
    tx.run(sql, args![account, kind.as_str()]).await?;
    for credential in new {
        insert(tx, account, credential, now).await?;
    }
    Ok(())
}

async fn insert(
    tx: &mut Tx,
    account: i64,
    new: &NewCredential,
    now: i64,
) -> Result<i64, StoreError> {
    let id = tx.take("id", 1).await?;
    let sql = "INSERT INTO credentials \
               (id, account, kind, label, data, scope, lookup, created, expires, counter) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    tx.run(sql, row(id, account, new, now)?).await?;
    Ok(id)
}

/// The columns of a new credential, in the order of the table but for `last_used`.
pub(crate) fn row(
    id: i64,
    account: i64,
    new: &NewCredential,
    now: i64,
) -> Result<Vec<Arg>, StoreError> {
    let NewCredential { kind, label, data, scope, lookup, expires, counter } = new;
    check(kind.as_str(), "a credential's kind")?;
    check_text(label, limits::NAME, "a credential's label")?;
    check_text(scope.as_deref().unwrap_or_default(), limits::TEXT, "a credential's scope")?;
    check_text(lookup.as_deref().unwrap_or_default(), limits::TEXT, "a lookup key")?;
    let (kind, label, data) = (kind.as_str(), label.as_str(), stored(data)?);
    Ok(args![id, account, kind, label, data, scope, lookup, now, *expires, *counter])
}

fn stored(data: &Secret) -> Result<String, StoreError> {
    if data.is_empty() {
        return invalid("a credential", "must not be empty");
    }
    if data.len() > limits::DATA {
        return invalid("a credential", format!("must not be longer than {} bytes", limits::DATA));
    }
    Ok(to_stored(data))
}

/// Marks bytes that are not plain text. The databases have no common type for bytes, and hash strings,
/// which are nearly everything here, should be readable to whoever must repair a store by hand.
const HEX: &str = "hex:";

pub(crate) fn to_stored(data: &Secret) -> String {
    match data.to_str() {
        Some(text) if !text.contains('\0') && !text.starts_with(HEX) => text.to_owned(),
        _ => {
            let digit = |n: u8| char::from(b"0123456789abcdef"[usize::from(n)]);
            let digits = data.expose().iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]);
            HEX.chars().chain(digits).collect()
        }
    }
}

/// The reverse. What is marked and yet no hexadecimal was put there by hand, and is taken as it stands: it
/// verifies nothing.
pub(crate) fn from_stored(text: String) -> Secret {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|n| u8::try_from(n).ok());
    let bytes = text.strip_prefix(HEX).and_then(|digits| {
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        let bytes = pairs.iter().map(|[a, b]| Some(digit(*a)? << 4 | digit(*b)?));
        if rest.is_empty() { bytes.collect::<Option<Vec<u8>>>() } else { None }
    });
    bytes.map_or_else(|| Secret::from(text), Secret::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_come_back() {
        for data in [
            &b"$argon2id$v=19$m=19456$x"[..],
            b"hex:",
            b"hex:zz",
            b"hex:00ff",
            b"a\0b",
            b"\xff\x00\x80",
            "ä".as_bytes(),
            &(0..=255).collect::<Vec<u8>>(),
        ] {
            let text = to_stored(&Secret::from(data));
            assert!(!text.contains('\0'));
            assert_eq!(from_stored(text).expose(), data);
        }
        assert_eq!(to_stored(&Secret::from("$6$salt$hash")), "$6$salt$hash");
        assert_eq!(to_stored(&Secret::from(&[0xff, 0x0a][..])), "hex:ff0a");
    }

    #[test]
    fn a_hand_written_mistake_stays_what_it_is() {
        assert_eq!(from_stored("hex:abc".into()), Secret::from("hex:abc"));
        assert_eq!(from_stored("hex:+1".into()), Secret::from("hex:+1"));
    }
}
