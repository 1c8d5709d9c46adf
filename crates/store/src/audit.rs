//! The recent part of the audit, for queries. What must not be lost is in the server's audit file.

use std::borrow::Cow;

use sqlx::AssertSqlSafe;

use crate::error::StoreError;
use crate::names::limits;
use crate::records::{AuditEvent, AuditFilter};
use crate::sql::{Arg, Durability, Row, args};
use crate::store::Store;

/// Rows of one insert. One statement for many rows is what makes a busy server's audit cheap.
const BATCH: usize = 64;
const COLUMNS: usize = 12;

impl Store {
    /// Records events in their order, and keeps the newest `keep` of all. Over-long fields are cut and NUL
    /// replaced: an audit takes whatever a peer typed.
    ///
    /// # Errors
    /// What the database says; none of the events is recorded then.
    pub async fn record_audit(&self, events: &[AuditEvent], keep: usize) -> Result<(), StoreError> {
        // What the bound would delete again is not written.
        let events = &events[events.len().saturating_sub(keep)..];
        if events.is_empty() {
            return Ok(());
        }
        let mut tx = self.inner.db.begin(Durability::Relaxed).await?;
        let last = tx.take("audit", events.len() as i64).await?;
        let mut id = last - events.len() as i64;
        let (batches, rest) = events.as_chunks::<BATCH>();
        let rest = rest.chunks(1);
        for batch in batches.iter().map(|batch| &batch[..]).chain(rest) {
            let mut args = Vec::with_capacity(batch.len() * COLUMNS);
            for event in batch {
                id += 1;
                args.extend(columns(event, id));
            }
            // Two texts only, for one row and for a full batch, so that both stay prepared.
            let values = self.inner.db.placeholders(batch.len(), COLUMNS);
            tx.run(AssertSqlSafe(format!("{INSERT}{values}")), args).await?;
        }
        let keep = i64::try_from(keep).unwrap_or(i64::MAX);
        tx.run("DELETE FROM audit WHERE id <= $1", args![last.saturating_sub(keep)]).await?;
        tx.commit().await
    }

    /// Removes the events of before a second since 1970; gives how many.
    ///
    /// # Errors
    /// What the database says.
    pub async fn sweep_audit(&self, before: i64) -> Result<u64, StoreError> {
        // By id, which is in the order of time but for a clock that is set back: reads no further than the
        // first that stays.
        let sql = "DELETE FROM audit WHERE id < COALESCE((SELECT id FROM audit WHERE at >= $1 \
                   ORDER BY id LIMIT 1), 9223372036854775807)";
        let mut tx = self.inner.db.begin(Durability::Relaxed).await?;
        // The lock of whoever records.
        tx.take("audit", 0).await?;
        let gone = tx.run(sql, args![before]).await?;
        tx.commit().await?;
        Ok(gone)
    }

    /// The events that the filter lets through, newest first.
    ///
    /// # Errors
    /// What the database says.
    pub async fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditEvent>, StoreError> {
        let sql = "SELECT id, at, attempt, claimed, subject, service, peer, checker, mechanism, \
                   outcome, reason, detail FROM audit \
                   WHERE id > $1 AND id < $2 \
                   AND (CAST($3 AS TEXT) IS NULL OR claimed = $3 OR subject = $3) \
                   AND (CAST($4 AS BIGINT) IS NULL OR at >= $4) \
                   AND (CAST($5 AS TEXT) IS NULL OR outcome = $5) \
                   ORDER BY id DESC LIMIT $6";
        let AuditFilter { user, since, outcome, after, before, limit } = filter;
        let limit = limit.unwrap_or(limits::PAGE).min(limits::PAGE) as i64;
        let user = user.as_deref().map(|user| clean(user).into_owned());
        let args = args![
            after.unwrap_or(i64::MIN),
            before.unwrap_or(i64::MAX),
            user,
            *since,
            outcome,
            limit
        ];
        self.inner.db.rows(sql, args).await?.iter().map(event).collect()
    }
}

const INSERT: &str = "INSERT INTO audit (id, at, attempt, claimed, subject, service, peer, checker, \
                      mechanism, outcome, reason, detail) VALUES ";

fn columns(event: &AuditEvent, id: i64) -> [Arg; COLUMNS] {
    let text = |text: &str| Arg::from(clean(text).into_owned());
    let maybe = |text: &Option<String>| Arg::from(text.as_deref().map(|t| clean(t).into_owned()));
    [
        id.into(),
        event.at.into(),
        text(&event.attempt),
        text(&event.claimed),
        maybe(&event.subject),
        text(&event.service),
        text(&event.peer),
        maybe(&event.checker),
        maybe(&event.mechanism),
        text(&event.outcome),
        text(&event.reason),
        text(&event.detail),
    ]
}

fn clean(text: &str) -> Cow<'_, str> {
    let text = &text[..text.floor_char_boundary(limits::TEXT)];
    match text.contains('\0') {
        true => text.replace('\0', "\u{fffd}").into(),
        false => text.into(),
    }
}

fn event(row: &Row) -> Result<AuditEvent, StoreError> {
    Ok(AuditEvent {
        id: row.int(0)?,
        at: row.int(1)?,
        attempt: row.text(2)?,
        claimed: row.text(3)?,
        subject: row.maybe_text(4)?,
        service: row.text(5)?,
        peer: row.text(6)?,
        checker: row.maybe_text(7)?,
        mechanism: row.maybe_text(8)?,
        outcome: row.text(9)?,
        reason: row.text(10)?,
        detail: row.text(11)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_cut_between_characters() {
        let long = "ä".repeat(limits::TEXT);
        let cut = clean(&long);
        assert!(cut.len() <= limits::TEXT && cut.len() > limits::TEXT - 2);
        assert_eq!(clean("a\0b"), "a\u{fffd}b");
        assert!(matches!(clean("plain"), Cow::Borrowed("plain")));
    }
}
