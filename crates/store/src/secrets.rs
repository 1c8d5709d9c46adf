//! Keys that every node of a deployment must have alike.

use countersign::Secret;

use crate::credentials::{from_stored, to_stored};
use crate::error::StoreError;
use crate::names::check;
use crate::sql::{Durability, args};
use crate::store::Store;

/// Bytes of a deployment's secret.
const LEN: usize = 32;

impl Store {
    /// The deployment's secret of this name: 32 random bytes, made by whichever node asks first, and the
    /// same for every node and after every restart from then on. Backups contain it.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a name that is none, [`StoreError::NotAStore`] for something else in its
    /// place, and what the database or the system's source of randomness says.
    pub async fn secret(&self, name: &str) -> Result<Secret, StoreError> {
        check(name, "a secret's name")?;
        let sql = "SELECT data FROM secrets WHERE name = $1";
        let row = match self.inner.db.row(sql, args![name]).await? {
            Some(row) => row,
            None => {
                let mut bytes = vec![0; LEN];
                getrandom::fill(&mut bytes).map_err(|source| self.inner.db.unknown(source))?;
                let fresh = to_stored(&Secret::from(bytes));
                let mut tx = self.inner.db.begin(Durability::Sure).await?;
                let add = "INSERT INTO secrets (name, data) VALUES ($1, $2) ON CONFLICT DO NOTHING";
                tx.run(add, args![name, fresh]).await?;
                // What is there now, which is another node's if it was quicker.
                let row = tx.row(sql, args![name]).await?;
                tx.commit().await?;
                row.ok_or_else(|| self.inner.db.damaged(format!("its secret `{name}` is gone")))?
            }
        };
        let secret = from_stored(row.text(0)?);
        match secret.len() {
            LEN => Ok(secret),
            _ => Err(self.inner.db.damaged(format!("its secret `{name}` is not {LEN} bytes"))),
        }
    }
}
