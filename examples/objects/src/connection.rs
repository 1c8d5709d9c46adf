//! One connection: what it may still do, who is logged in on it, and its end.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::twoparty::VatNetwork;
use capnp_rpc::{RpcSystem, new_client};
use countersign::{Denial, Identity, Peer, Realm, Reason, Session, Verified};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep_until, timeout};

use crate::desk::Objects;
use crate::flow::{self, Flow};
use crate::limits::Limits;
use crate::listener::Server;
use crate::login::Login;
use crate::mind;
use crate::objects_capnp::{login, mind as lent, session};
use crate::seat::{Count, Held, Seat};

/// For the last words of a connection that is over.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What the objects of one connection share.
pub(crate) struct Connection<R> {
    pub(crate) server: Arc<Server<R>>,
    pub(crate) peer: Arc<Peer>,
    /// Logins under way.
    pub(crate) logins: Count,
    /// Calls under way.
    pub(crate) calls: Count,
    flow: Rc<Flow>,
    seat: RefCell<Option<Rc<Seat>>>,
    refusals: Cell<usize>,
    /// By when somebody must be logged in, if nobody is.
    login_by: Cell<Instant>,
    over: Cell<Option<&'static str>>,
    changed: Notify,
}

/// Serves one connection until it ends, on a thread with a [`LocalSet`](tokio::task::LocalSet). Whoever is logged in
/// then is logged out, once, and that has been waited for when this is done: also when the client leaves in the middle
/// of something, when the application panics, and at the end of the server.
pub async fn serve<R, S>(server: Arc<Server<R>>, stream: S, peer: Peer)
where
    R: Realm<Objects> + 'static,
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let limits = server.limits;
    let (reading, writing, flow) = flow::split(stream, limits.before_login, limits.hearing);
    let connection = Rc::new(Connection {
        server,
        peer: Arc::new(peer),
        logins: Count::up_to(limits.logins),
        calls: Count::up_to(limits.calls),
        flow,
        seat: RefCell::default(),
        refusals: Cell::new(0),
        login_by: Cell::new(Instant::now() + limits.login),
        over: Cell::new(None),
        changed: Notify::new(),
    });
    let first: login::Client = new_client(Login(Rc::clone(&connection)));
    let network = VatNetwork::new(reading, writing, Side::Server, limits.reading());
    let system = RpcSystem::new(Box::new(network), Some(first.client));
    let last_words = system.get_disconnector();
    // A task of its own, so that the sessions of a connection in whose midst something panics end as all others do.
    let mut calls = Local(spawn_local(system));
    let why = loop {
        tokio::select! {
            biased;
            ended = &mut calls.0 => {
                connection.ended(ended);
                break "the client left";
            }
            () = connection.server.stopping() => break "the server ends",
            () = connection.changed.notified() => {}
            () = sleep_until(connection.login_by.get()), if connection.seat.borrow().is_none() => {
                connection.end("nobody logged in");
            }
        }
        if let Some(why) = connection.over.get() {
            break why;
        }
    };
    connection.leave(why).await;
    if !calls.0.is_finished() {
        let _ = timeout(LAST_WORDS, last_words).await;
    }
}

impl<R: Realm<Objects> + 'static> Connection<R> {
    /// Whether nobody is logged in. Whoever is just being logged out is waited for.
    pub(crate) async fn is_free(&self) -> bool {
        let seat = self.seat.borrow().clone();
        if let Some(seat) = seat.filter(|seat| seat.who().is_err()) {
            seat.left().await;
        }
        self.seat.borrow().is_none()
    }

    /// Ends the connection, when what is being said has been said.
    pub(crate) fn end(&self, why: &'static str) {
        self.over.set(Some(why));
        self.changed.notify_one();
    }

    /// Counts one login that was refused.
    pub(crate) fn refused(&self) {
        self.refusals.set(self.refusals.get() + 1);
        if self.refusals.get() >= self.server.limits.refusals {
            self.end("too many refused logins");
        }
    }

    /// Lets somebody in, to what the realm has for them.
    ///
    /// # Errors
    ///
    /// The realm's refusal.
    pub(crate) async fn admit(
        self: &Rc<Self>,
        who: Verified<Identity>,
        lent: Option<lent::Client>,
    ) -> Result<session::Client, Denial> {
        let (mind, pump) = mind::lend(lent.clone(), self.server.limits.hearing);
        // It runs already: the realm may ask the mind something before it lets anybody in.
        let pump = Local(spawn_local(pump));
        let session = self.server.portal.realm().admit(&who, mind).await?;
        if self.seat.borrow().is_some() {
            // Two logins at once; the session is dropped, which logs it out.
            return Err(Denial::new(Reason::Realm).because("somebody is logged in already"));
        }
        let seat = Rc::new(Seat::new(session, who, self.calls.clone()));
        self.seat.replace(Some(Rc::clone(&seat)));
        self.flow.open();
        self.changed.notify_one();
        let (left, gone) = watch::channel(());
        seat.attended(gone);
        let leaving = Leaving { connection: Rc::downgrade(self), _left: left };
        spawn_local(attend(Rc::clone(&seat), lent, pump, leaving, self.server.limits));
        Ok(new_client(crate::objects::SessionObject(Held::new(seat))))
    }

    /// Ends what there is, and waits for that.
    async fn leave(&self, why: &'static str) {
        let seat = self.seat.borrow().clone();
        if let Some(seat) = seat {
            seat.end(why);
            seat.left().await;
        }
    }

    fn ended(&self, how: Result<Result<(), capnp::Error>, tokio::task::JoinError>) {
        let remote = self.peer.remote;
        match how {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::info!(?remote, "the connection ended: {error}"),
            Err(error) => tracing::error!(?remote, "the connection ended: {error}"),
        }
    }
}

/// Waits for the end of a session, and sees to it.
async fn attend<R: Realm<Objects> + 'static>(
    seat: Rc<Seat>,
    lent: Option<lent::Client>,
    pump: Local<()>,
    leaving: Leaving<R>,
    limits: Limits,
) {
    let expires = Instant::now() + limits.session;
    let warned = expires.checked_sub(limits.warning).unwrap_or(expires);
    tokio::select! {
        biased;
        () = seat.ended() => {}
        () = expired(lent.as_ref(), warned, expires) => seat.end("the session has expired"),
    }
    // What the application has told until now has been heard, or is told no more.
    drop(pump);
    let session = seat.vacate().await;
    let told = async {
        let Some(lent) = lent else { return };
        let mut call = lent.revoked_request();
        call.get().set_reason(seat.why());
        let _ = call.send().promise.await;
    };
    let out = async {
        if let Some(session) = session {
            Session::logout(session).await;
        }
    };
    // One that takes longer is handed on to whom the realm has named for that; see `Logout::lasting`.
    let _ = tokio::join!(timeout(limits.leaving, told), timeout(limits.leaving, out));
    drop(leaving);
}

/// Waits until a session expires, and says so before.
async fn expired(lent: Option<&lent::Client>, warned: Instant, expires: Instant) {
    sleep_until(warned).await;
    if let Some(lent) = lent {
        let mut call = lent.expiring_request();
        let left = expires.saturating_duration_since(Instant::now()).as_secs();
        call.get().set_seconds(u32::try_from(left).unwrap_or(u32::MAX));
        let _ = tokio::time::timeout_at(expires, call.send().promise).await;
    }
    sleep_until(expires).await;
}

/// Says that a session is over, also when its end panicked.
struct Leaving<R> {
    connection: Weak<Connection<R>>,
    /// Dropped last.
    _left: watch::Sender<()>,
}

impl<R> Drop for Leaving<R> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.upgrade() {
            connection.seat.replace(None);
            let limits = &connection.server.limits;
            connection.flow.allow(limits.before_login);
            connection.login_by.set(Instant::now() + limits.login);
            connection.changed.notify_one();
        }
    }
}

/// A task on this thread, that ends when it is held no more.
struct Local<T>(JoinHandle<T>);

impl<T> Drop for Local<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
