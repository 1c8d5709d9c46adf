//! Minds: how somebody who is logged in can be told something.
//!
//! The core calls what a client lends to be notified a *mind* (`Interface::Mind`). A session of an HTTP
//! login outlives its connection, so its mind is lent later than the login, and as often as the holder of
//! its token likes: each is a connection that listens. It is taken back when the connection ends, and the
//! realm ends it when the session does.

use std::sync::Arc;

use countersign::{Level, Loan, MindLimits, Told, World};
use countersign_store::Changed;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use crate::engine::Engine;
use crate::front::Stop;

/// Minds of one user at a time.
pub const MINDS_EACH: usize = 10;
/// Minds at a time.
pub const MINDS: usize = 1000;
/// What may wait to be heard by one. Who does not hear it is let go.
const UNHEARD: usize = 16;

/// What a mind is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The session was ended, or its account may not be used any more. The last that is told.
    Revoked,
    /// A message of an administrator's.
    Notice(Level, Arc<str>),
}

/// The minds that are lent.
#[derive(Debug)]
pub struct Minds {
    lent: Arc<countersign::Minds<Lent>>,
}

#[derive(Debug)]
struct Lent {
    session: Box<str>,
    tell: mpsc::Sender<News>,
}

/// A mind, as the side that lends it: what it is told. Dropping it takes it back.
#[derive(Debug)]
pub struct Mind {
    _loan: Loan<Lent>,
    news: mpsc::Receiver<News>,
}

impl Default for Minds {
    fn default() -> Self {
        let limits = MindLimits { each: MINDS_EACH, all: MINDS };
        Self { lent: Arc::new(countersign::Minds::new(limits)) }
    }
}

impl Minds {
    /// Lends the mind of a session's holder. `None`: as many are lent as may be.
    pub fn lend(&self, subject: &str, session: &str) -> Option<Mind> {
        let (tell, news) = mpsc::channel(UNHEARD);
        let loan = self.lent.lend(subject, Lent { session: session.into(), tell })?;
        Some(Mind { _loan: loan, news })
    }

    /// Tells one user, or everybody, something. Gives how many minds were told.
    pub fn notify(&self, subject: Option<&str>, level: Level, text: &str) -> usize {
        let notice = News::Notice(level, text.into());
        self.lent.tell(subject, |lent| match lent.tell.try_send(notice.clone()) {
            Ok(()) => Told::Heard,
            Err(_) => Told::Gone,
        })
    }

    /// Tells the minds of a session that it is over. They are given back at once: their side sees the end
    /// after everything that it was told.
    pub fn revoke(&self, session: &str) {
        self.lent.tell(None, |lent| {
            if *lent.session != *session {
                return Told::Passed;
            }
            let _ = lent.tell.try_send(News::Revoked);
            Told::Last
        });
    }

    /// How many are lent.
    pub fn len(&self) -> usize {
        self.lent.len()
    }

    /// Whether none is lent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sessions whose minds are lent; of one user, or all.
    fn sessions(&self, subject: Option<&str>) -> Vec<Box<str>> {
        let mut sessions = Vec::new();
        self.lent.tell(subject, |lent| {
            sessions.push(lent.session.clone());
            Told::Passed
        });
        sessions
    }
}

impl Mind {
    /// What it is told next. `None`: nothing more, for it did not hear in time.
    pub async fn news(&mut self) -> Option<News> {
        self.news.recv().await
    }
}

/// Tells minds of sessions that end, whichever node ends them, until a stop.
pub async fn attend(engine: Arc<Engine>, mut stop: Stop) {
    let mut changes = engine.store.changes();
    loop {
        let heard = tokio::select! {
            biased;
            () = stop.requested() => return,
            heard = changes.recv() => heard,
        };
        match heard {
            Ok(batch) => {
                for change in batch.iter() {
                    match change {
                        Changed::Session(hash) => engine.minds.revoke(hash),
                        Changed::Account(name) => look_again(&engine, Some(name)).await,
                        Changed::Everything => look_again(&engine, None).await,
                        _ => {}
                    }
                }
            }
            Err(RecvError::Lagged(_)) => look_again(&engine, None).await,
            Err(RecvError::Closed) => return,
        }
    }
}

/// Ends the minds whose session is not good any more.
async fn look_again(engine: &Engine, subject: Option<&str>) {
    for session in engine.minds.sessions(subject) {
        let now = engine.world.now();
        // What the store cannot say now, the next request of the session will be told.
        if let Ok(None) = engine.sessions.look_up(&session, now).await {
            engine.minds.revoke(&session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_right_ones_are_told() {
        let minds = Arc::new(Minds::default());
        let mut one = minds.lend("ada", "s1").unwrap();
        let mut two = minds.lend("ada", "s2").unwrap();
        let mut other = minds.lend("bob", "s3").unwrap();
        assert_eq!(minds.notify(Some("ada"), Level::Info, "a"), 2);
        assert_eq!(minds.notify(None, Level::Warning, "b"), 3);
        minds.revoke("s1");
        let notice = |level, text: &str| Some(News::Notice(level, text.into()));
        assert_eq!(one.news().await, notice(Level::Info, "a"));
        assert_eq!(one.news().await, notice(Level::Warning, "b"));
        assert_eq!(one.news().await, Some(News::Revoked));
        assert_eq!(one.news().await, None);
        assert_eq!(two.news().await, notice(Level::Info, "a"));
        assert_eq!(other.news().await, notice(Level::Warning, "b"));
        assert_eq!(minds.len(), 2);
        drop((one, two, other));
        assert!(minds.is_empty());
    }

    #[tokio::test]
    async fn they_are_bounded() {
        let minds = Arc::new(Minds::default());
        let lent: Vec<_> = (0..MINDS_EACH).map(|_| minds.lend("ada", "s").unwrap()).collect();
        assert!(minds.lend("ada", "s").is_none());
        minds.lend("bob", "t").unwrap();
        drop(lent);
        let mut deaf = minds.lend("ada", "s").unwrap();
        for _ in 0..=UNHEARD {
            minds.notify(Some("ada"), Level::Info, "x");
        }
        assert!(minds.is_empty(), "who does not hear is let go");
        for _ in 0..UNHEARD {
            assert!(deaf.news().await.is_some());
        }
        assert_eq!(deaf.news().await, None);
    }
}
