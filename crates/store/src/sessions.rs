//! Sessions, found by the hash of their token.

use crate::beginnings::Begun;
use crate::error::StoreError;
use crate::names::{check, check_text, check_user_name, limits};
use crate::records::{Changed, SessionRecord};
use crate::sql::{Durability, Row, Tx, args};
use crate::store::{Change, Store};

impl Store {
    /// Keeps a new session, of a login that began when the store was at the revision `since`
    /// ([`Store::revision`]). A subject has at most `limit` of them: the oldest beyond it end. It is kept
    /// over a crash of the program, and not surely over a power cut or a crash of PostgreSQL in the next
    /// moment.
    ///
    /// # Errors
    /// [`StoreError::Overtaken`] if the subject's sessions were all ended after `since`: whoever set a new
    /// password, or disabled or removed the account, meant this login as well. [`StoreError::Exists`] for
    /// a hash that is there, [`StoreError::Invalid`].
    pub async fn create_session(
        &self,
        session: &SessionRecord,
        limit: usize,
        since: i64,
    ) -> Result<(), StoreError> {
        let SessionRecord { hash, subject, service, peer, data, .. } = session;
        check(hash, "a session's hash")?;
        check_user_name(subject)?;
        check_text(service, limits::NAME, "a service's name")?;
        check_text(peer, limits::TEXT, "a peer's address")?;
        check_text(data, limits::DATA, "a session's data")?;
        let limit = limit.saturating_sub(1);
        match self.inner.beginnings.join(self, session, limit, since).await {
            Begun::Kept(done) => return done,
            Begun::TooMany | Begun::Alone => {}
        }
        // To end others is a change, which takes its revision before anything else.
        let mut change = self.change().await?;
        for row in hold(&mut change.tx, session, limit, since).await? {
            change.end_session(&row.text(0)?).await?;
        }
        keep(&mut change.tx, session).await?;
        change.commit().await.map(|_| ())
    }

    /// The session with this token hash, unless it has expired.
    ///
    /// # Errors
    /// What the database says.
    pub async fn session(&self, hash: &str, now: i64) -> Result<Option<SessionRecord>, StoreError> {
        if check(hash, "a session's hash").is_err() {
            return Ok(None);
        }
        let sql = "SELECT hash, subject, service, peer, data, created, last_seen, expires \
                   FROM sessions WHERE hash = $1 AND expires > $2";
        self.inner.db.row(sql, args![hash, now]).await?.map(|row| session(&row)).transpose()
    }

    /// The unexpired sessions of a subject, newest first.
    ///
    /// # Errors
    /// What the database says.
    pub async fn sessions_of(
        &self,
        subject: &str,
        now: i64,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        let sql = "SELECT hash, subject, service, peer, data, created, last_seen, expires \
                   FROM sessions WHERE subject = $1 AND expires > $2 \
                   ORDER BY created DESC, hash LIMIT $3";
        let rows = self.inner.db.rows(sql, args![subject, now, limits::PAGE as i64]).await?;
        rows.iter().map(session).collect()
    }

    /// Records a use and sets the expiry. `false`: there is no such session, or it had expired before
    /// `now`, and no touch brings it back.
    ///
    /// # Errors
    /// What the database says.
    pub async fn touch_session(
        &self,
        hash: &str,
        now: i64,
        expires: i64,
    ) -> Result<bool, StoreError> {
        let mut tx = self.inner.db.begin(Durability::Relaxed).await?;
        tx.alone().await?;
        let sql =
            "UPDATE sessions SET last_seen = $1, expires = $2 WHERE hash = $3 AND expires > $1";
        let touched = tx.run(sql, args![now, expires, hash]).await?;
        tx.commit().await?;
        Ok(touched > 0)
    }

    /// Records when sessions were last used, for people only, in one go. What is gone meanwhile stays gone,
    /// and nothing goes back in time.
    ///
    /// # Errors
    /// What the database says.
    pub async fn note_session_uses(&self, uses: &[(Box<str>, i64)]) -> Result<(), StoreError> {
        if uses.is_empty() {
            return Ok(());
        }
        let mut tx = self.inner.db.begin(Durability::Relaxed).await?;
        tx.alone().await?;
        let sql = "UPDATE sessions SET last_seen = $1 WHERE hash = $2 AND last_seen < $1";
        for (hash, used) in uses {
            tx.run(sql, args![*used, &**hash]).await?;
        }
        tx.commit().await
    }

    /// Ends a session and tells every node. `false`: there was none.
    ///
    /// # Errors
    /// What the database says.
    pub async fn end_session(&self, hash: &str) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let ended = change.end_session(hash).await?;
        if ended {
            change.commit().await?;
        }
        Ok(ended)
    }

    /// Ends every session of a subject and tells every node; gives how many there were. A login that is
    /// under way gets none any more.
    ///
    /// # Errors
    /// What the database says.
    pub async fn end_sessions_of(&self, subject: &str) -> Result<u64, StoreError> {
        let mut change = self.change().await?;
        let ended = change.end_sessions_of(subject, None).await?;
        change.commit().await?;
        Ok(ended)
    }

    /// [`Store::end_sessions_of`], but for the session that asks for it.
    ///
    /// # Errors
    /// [`StoreError::Overtaken`] if that one has ended; what the database says.
    pub async fn end_other_sessions_of(
        &self,
        subject: &str,
        by: &str,
        now: i64,
    ) -> Result<u64, StoreError> {
        let mut change = self.change().await?;
        change.hold_session(subject, by, now).await?;
        let ended = change.end_sessions_of(subject, Some(by)).await?;
        change.commit().await?;
        Ok(ended)
    }

    /// Deletes what has expired, and gives how many: at most `limit`, so that a sweep after a long pause
    /// does not keep writers waiting. Nobody is told: an expired session was none already.
    ///
    /// # Errors
    /// What the database says.
    pub async fn sweep_sessions(&self, now: i64, limit: usize) -> Result<u64, StoreError> {
        let mut tx = self.inner.db.begin(Durability::Relaxed).await?;
        tx.alone().await?;
        let sql = "DELETE FROM sessions WHERE hash IN \
                   (SELECT hash FROM sessions WHERE expires <= $1 ORDER BY expires LIMIT $2)";
        let gone = tx.run(sql, args![now, limit as i64]).await?;
        tx.commit().await?;
        Ok(gone)
    }
}

impl Change {
    async fn end_session(&mut self, hash: &str) -> Result<bool, StoreError> {
        let ended = self.tx.run("DELETE FROM sessions WHERE hash = $1", args![hash]).await? > 0;
        if ended {
            self.note(Changed::Session(hash.to_owned()));
        }
        Ok(ended)
    }

    /// Makes sure that the session which asks for a change is still there: whoever ended it did not mean it
    /// to change anything any more.
    pub(crate) async fn hold_session(
        &mut self,
        subject: &str,
        hash: &str,
        now: i64,
    ) -> Result<(), StoreError> {
        let sql = "SELECT 1 FROM sessions WHERE hash = $1 AND subject = $2 AND expires > $3";
        match self.tx.row(sql, args![hash, subject, now]).await? {
            Some(_) => Ok(()),
            None => Err(StoreError::Overtaken { subject: subject.to_owned() }),
        }
    }

    /// Ends the sessions of a subject, but for one.
    pub(crate) async fn end_sessions_of(
        &mut self,
        subject: &str,
        but: Option<&str>,
    ) -> Result<u64, StoreError> {
        check_user_name(subject)?;
        // First, because this waits for sessions that are being made, and the next statement sees them.
        let sql = "INSERT INTO subjects (name, ended) VALUES ($1, $2) \
                   ON CONFLICT (name) DO UPDATE SET ended = excluded.ended";
        self.tx.run(sql, args![subject, self.revision]).await?;
        let sql = "DELETE FROM sessions WHERE subject = $1 AND hash <> $2 RETURNING hash";
        // No hash is empty.
        let ended = self.tx.rows(sql, args![subject, but.unwrap_or_default()]).await?;
        for row in &ended {
            self.note(Changed::Session(row.text(0)?));
        }
        Ok(ended.len() as u64)
    }
}

/// Holds the subject's row until the end, and gives the hashes of the sessions that are too many when there
/// is one more.
pub(crate) async fn hold(
    tx: &mut Tx,
    session: &SessionRecord,
    others: usize,
    since: i64,
) -> Result<Vec<Row>, StoreError> {
    let subject = session.subject.as_str();
    // Makes the row if there is none.
    let sql = "INSERT INTO subjects (name, ended) VALUES ($1, 0) \
               ON CONFLICT (name) DO UPDATE SET ended = subjects.ended RETURNING ended";
    let row = tx.row(sql, args![subject]).await?;
    if row.map_or(Ok(0), |row| row.int(0))? > since {
        return Err(StoreError::Overtaken { subject: subject.to_owned() });
    }
    // The new one is last in the order whatever the clock did meanwhile.
    let sql = "SELECT hash FROM sessions WHERE subject = $1 AND hash <> $2 \
               ORDER BY created DESC, hash LIMIT $3 OFFSET $4";
    let others = i64::try_from(others).unwrap_or(i64::MAX);
    tx.rows(sql, args![subject, session.hash.as_str(), limits::PAGE as i64, others]).await
}

/// Puts a new session in.
pub(crate) async fn keep(tx: &mut Tx, session: &SessionRecord) -> Result<(), StoreError> {
    let SessionRecord { hash, subject, service, peer, data, created, last_seen, expires } = session;
    let sql = "INSERT INTO sessions \
               (hash, subject, service, peer, data, created, last_seen, expires) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";
    let texts = [hash, subject, service, peer, data].map(String::as_str);
    let [hash, subject, service, peer, data] = texts;
    let args = args![hash, subject, service, peer, data, *created, *last_seen, *expires];
    match tx.run(sql, args).await? {
        0 => Err(StoreError::Exists { what: "session", name: hash.to_owned() }),
        _ => Ok(()),
    }
}

fn session(row: &Row) -> Result<SessionRecord, StoreError> {
    Ok(SessionRecord {
        hash: row.text(0)?,
        subject: row.text(1)?,
        service: row.text(2)?,
        peer: row.text(3)?,
        data: row.text(4)?,
        created: row.int(5)?,
        last_seen: row.int(6)?,
        expires: row.int(7)?,
    })
}
