//! A session as the objects see it that came from it: they name the seat, and only the seat has the avatar. So there is
//! nothing that could outlive a logout.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;

use capnp::Error;
use countersign::{Identity, Session, Verified};
use tokio::sync::{RwLock, watch};

use crate::desk::{Desk, Objects, Trouble};

/// What somebody who is logged in has.
pub(crate) struct Seat {
    who: Verified<Identity>,
    session: RwLock<Option<Session<Objects>>>,
    /// Why it is over, when it is.
    over: watch::Sender<Option<&'static str>>,
    /// Closed when whoever was here is logged out.
    gone: OnceCell<watch::Receiver<()>>,
    calls: Count,
}

impl Seat {
    pub(crate) fn new(session: Session<Objects>, who: Verified<Identity>, calls: Count) -> Self {
        let session = RwLock::new(Some(session));
        Self { who, session, over: watch::Sender::new(None), gone: OnceCell::new(), calls }
    }

    /// Whoever sees to its end holds the other end of this.
    pub(crate) fn attended(&self, gone: watch::Receiver<()>) {
        let _ = self.gone.set(gone);
    }

    /// Who is here.
    ///
    /// # Errors
    ///
    /// When they are logged out.
    pub(crate) fn who(&self) -> Result<&Verified<Identity>, Error> {
        match *self.over.borrow() {
            None => Ok(&self.who),
            Some(_) => Err(logged_out()),
        }
    }

    /// Does something with the avatar. It is dropped half-way when the session ends.
    ///
    /// # Errors
    ///
    /// When the session is over, or too much is being done, or what the avatar says.
    pub(crate) async fn with<T>(
        &self,
        work: impl AsyncFnOnce(&dyn Desk) -> Result<T, Trouble>,
    ) -> Result<T, Error> {
        let _call = self.calls.take().ok_or_else(too_much)?;
        let done = async {
            let session = self.session.read().await;
            let session = session.as_ref().ok_or_else(logged_out)?;
            work(session.avatar()).await.map_err(|trouble| Error::failed(trouble.to_string()))
        };
        tokio::select! {
            biased;
            () = self.ended() => Err(logged_out()),
            done = done => done,
        }
    }

    /// Ends the session. The first reason counts.
    pub(crate) fn end(&self, why: &'static str) {
        self.over.send_if_modified(|over| {
            let first = over.is_none();
            over.get_or_insert(why);
            first
        });
    }

    /// Waits until the session is ended.
    pub(crate) async fn ended(&self) {
        // The sender is ours: it does not go away.
        let _ = self.over.subscribe().wait_for(Option::is_some).await;
    }

    /// Why the session is over.
    pub(crate) fn why(&self) -> &'static str {
        self.over.borrow().unwrap_or_default()
    }

    /// Takes the session out of one that is ended, once nobody does anything with it.
    pub(crate) async fn vacate(&self) -> Option<Session<Objects>> {
        self.session.write().await.take()
    }

    /// Waits until whoever was here is logged out.
    pub(crate) async fn left(&self) {
        if let Some(mut gone) = self.gone.get().cloned() {
            while gone.changed().await.is_ok() {}
        }
    }
}

/// A seat that clients hold objects of. When they have let go of all, it is ended.
pub(crate) struct Held {
    pub(crate) seat: Rc<Seat>,
}

impl Held {
    pub(crate) fn new(seat: Rc<Seat>) -> Rc<Self> {
        Rc::new(Self { seat })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.seat.end("nothing of it was held any more");
    }
}

/// What there may be a few of at a time.
#[derive(Clone)]
pub(crate) struct Count {
    taken: Rc<Cell<usize>>,
    most: usize,
}

/// One of them, until it is dropped.
pub(crate) struct Counted(Rc<Cell<usize>>);

impl Count {
    pub(crate) fn up_to(most: usize) -> Self {
        Self { taken: Rc::default(), most }
    }

    pub(crate) fn take(&self) -> Option<Counted> {
        let taken = self.taken.get();
        (taken < self.most).then(|| {
            self.taken.set(taken + 1);
            Counted(Rc::clone(&self.taken))
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

fn logged_out() -> Error {
    Error::failed("logged out".into())
}

/// Says that a client does too many things at once.
pub(crate) fn too_much() -> Error {
    Error::overloaded("too many calls at once".into())
}
