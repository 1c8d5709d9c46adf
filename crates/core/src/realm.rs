//! The application: who is let in gets an avatar, for as long as a session lasts.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::{Denial, Identity, Verified};

/// What a protocol asks an application for: the type of its avatars, and of its minds.
///
/// The avatar is what the logged-in user can do (a mailbox, a shell). The mind is what the client lends
/// so that it can be notified; `()` for most protocols.
pub trait Interface: 'static {
    /// For records and error messages.
    const NAME: &'static str;
    /// What the user can do.
    type Avatar: ?Sized + Send;
    /// How the user's client can be told something.
    type Mind: Send;
}

/// An application, for one interface. An application with several implements it several times.
///
/// ```
/// use countersign::{Denial, Identity, Interface, Realm, Reason, Session, Verified, testing};
///
/// struct Shell;
/// impl Interface for Shell {
///     const NAME: &'static str = "shell";
///     type Avatar = String;
///     type Mind = ();
/// }
///
/// struct Machine;
/// impl Realm<Shell> for Machine {
///     async fn admit(&self, who: &Verified<Identity>, _: ()) -> Result<Session<Shell>, Denial> {
///         if !who.groups.contains_key("operators") {
///             return Err(Denial::new(Reason::NotAllowed).because("no operator"));
///         }
///         Ok(Session::new(Box::new(format!("/home/{}", who.subject))))
///     }
/// }
///
/// // A checker vouches; here the example does.
/// let ada = Verified::vouch(Identity::named("ada").in_group("operators", false));
/// let session = testing::now_or_never(Machine.admit(&ada, ())).expect("no I/O").expect("let in");
/// assert_eq!(session.avatar(), "/home/ada");
/// let bob = Verified::vouch(Identity::named("bob"));
/// assert!(testing::now_or_never(Machine.admit(&bob, ())).expect("no I/O").is_err());
/// ```
#[diagnostic::on_unimplemented(
    message = "the realm `{Self}` has no avatars with the interface `{I}`",
    label = "this realm cannot admit anybody to `{I}`",
    note = "implement `Realm<{I}>` for `{Self}`, or give the protocol's portal another realm"
)]
pub trait Realm<I: Interface>: Send + Sync {
    /// Admits somebody whose identity is proven. The future may be dropped when the peer leaves: the
    /// avatar must then be gone as well, which it is when it exists only in the returned session.
    fn admit(
        &self,
        who: &Verified<Identity>,
        mind: I::Mind,
    ) -> impl Future<Output = Result<Session<I>, Denial>> + Send;
}

/// A logged-in avatar. Dropping it logs out; logging out happens exactly once, also when the peer left
/// while the checker was working, and on panic.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use countersign::{Interface, Logout, Session};
///
/// struct Shell;
/// impl Interface for Shell {
///     const NAME: &'static str = "shell";
///     type Avatar = str;
///     type Mind = ();
/// }
///
/// let ends = Arc::new(AtomicUsize::new(0));
/// let count = Arc::clone(&ends);
/// let logout = Logout::new(move || {
///     count.fetch_add(1, Ordering::SeqCst);
/// });
/// let session = Session::<Shell>::new("/home/ada".into()).at_logout(logout);
/// assert_eq!((session.avatar(), ends.load(Ordering::SeqCst)), ("/home/ada", 0));
/// // `session.logout().await` does the same, and waits.
/// drop(session);
/// assert_eq!(ends.load(Ordering::SeqCst), 1);
/// ```
pub struct Session<I: Interface> {
    // Fields drop in order: logout runs while the avatar is still alive.
    logout: Logout,
    avatar: Box<I::Avatar>,
}

impl<I: Interface> Session<I> {
    /// A session whose end is just the end of its avatar.
    pub fn new(avatar: Box<I::Avatar>) -> Self {
        Self { logout: Logout(None), avatar }
    }

    /// The session, with something to do at its end, before whatever was to be done already.
    #[must_use]
    pub fn at_logout(mut self, logout: Logout) -> Self {
        self.logout = logout.before(std::mem::replace(&mut self.logout, Logout(None)));
        self
    }

    /// The same session under another interface, with what `map` makes of its avatar: one of a sum type
    /// that a protocol takes which can do with any of several. It ends as it would have ended, once.
    pub fn map<J: Interface>(
        self,
        map: impl FnOnce(Box<I::Avatar>) -> Box<J::Avatar>,
    ) -> Session<J> {
        let Self { logout, avatar } = self;
        Session { avatar: map(avatar), logout }
    }

    /// The avatar.
    pub fn avatar(&self) -> &I::Avatar {
        &self.avatar
    }

    /// The avatar, to be changed.
    pub fn avatar_mut(&mut self) -> &mut I::Avatar {
        &mut self.avatar
    }

    /// The avatar, and what ends its session, each by itself: for avatars that several requests use at a time.
    /// Whoever drops the second logs out, and should do so while the avatar is there.
    pub fn apart(self) -> (Box<I::Avatar>, Logout) {
        let Self { logout, avatar } = self;
        (avatar, logout)
    }

    /// Logs out and waits until it is done. Dropping the session does the same without waiting.
    pub async fn logout(self) {
        let Self { logout, avatar: _avatar } = self;
        logout.run().await;
    }
}

impl<I: Interface> fmt::Debug for Session<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session<{}>", I::NAME)
    }
}

type AfterLogout = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What happens at the end of a session, once.
pub struct Logout(Option<Box<dyn FnOnce() -> Option<AfterLogout> + Send>>);

impl Logout {
    /// Something short to do. It runs where the session is dropped, so it must not block.
    pub fn new(logout: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(move || {
            logout();
            None
        })))
    }

    /// Something that takes its time. [`Session::logout`] waits for it; when the session is dropped
    /// instead, `spawn` is handed the rest (usually a runtime's `spawn`), for nobody else will poll it.
    pub fn lasting<Fut>(
        logout: impl FnOnce() -> Fut + Send + 'static,
        spawn: impl FnOnce(Pin<Box<dyn Future<Output = ()> + Send>>) + Send + 'static,
    ) -> Self
    where
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self(Some(Box::new(move || Some(Box::pin(Spawned::new(logout(), spawn))))))
    }

    /// Does it now, and waits until it is done.
    pub async fn run(mut self) {
        if let Some(logout) = self.0.take()
            && let Some(rest) = logout()
        {
            rest.await;
        }
    }

    /// Both, this one first. Nothing is replaced: an application and what wraps it may each have an end.
    fn before(mut self, mut later: Self) -> Self {
        if later.0.is_none() {
            return self;
        }
        Self(Some(Box::new(move || {
            let ours = self.0.take().and_then(|logout| logout());
            let theirs = later.0.take().and_then(|logout| logout());
            match (ours, theirs) {
                (Some(ours), Some(theirs)) => Some(Box::pin(async move {
                    ours.await;
                    theirs.await;
                })),
                (ours, theirs) => ours.or(theirs),
            }
        })))
    }
}

impl Drop for Logout {
    fn drop(&mut self) {
        if let Some(logout) = self.0.take() {
            // A lasting one is handed to its `spawn` when its future is dropped unfinished.
            drop(logout());
        }
    }
}

impl fmt::Debug for Logout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Logout(due)" } else { "Logout(done)" })
    }
}

/// A future that is finished by whoever polls it, and handed to `spawn` when dropped before its end.
struct Spawned<S: FnOnce(AfterLogout)> {
    rest: Option<AfterLogout>,
    spawn: Option<S>,
}

impl<S: FnOnce(AfterLogout)> Spawned<S> {
    fn new(rest: impl Future<Output = ()> + Send + 'static, spawn: S) -> Self {
        Self { rest: Some(Box::pin(rest)), spawn: Some(spawn) }
    }
}

impl<S: FnOnce(AfterLogout)> Unpin for Spawned<S> {}

impl<S: FnOnce(AfterLogout)> Future for Spawned<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        // Taken out while it runs: one that panicked is not handed on to be polled again.
        let Some(mut rest) = self.rest.take() else { return std::task::Poll::Ready(()) };
        let polled = rest.as_mut().poll(context);
        if polled.is_pending() {
            self.rest = Some(rest);
        }
        polled
    }
}

impl<S: FnOnce(AfterLogout)> Drop for Spawned<S> {
    fn drop(&mut self) {
        if let (Some(rest), Some(spawn)) = (self.rest.take(), self.spawn.take()) {
            spawn(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::testing::now_or_never;

    struct Nothing;

    impl Interface for Nothing {
        const NAME: &'static str = "nothing";
        type Avatar = ();
        type Mind = ();
    }

    fn counted() -> (Arc<AtomicUsize>, Session<Nothing>) {
        let count = Arc::new(AtomicUsize::new(0));
        let inner = Arc::clone(&count);
        let logout = Logout::new(move || {
            inner.fetch_add(1, Ordering::SeqCst);
        });
        (count, Session::new(Box::new(())).at_logout(logout))
    }

    #[test]
    fn logs_out_once_when_dropped_and_when_asked() {
        let (count, session) = counted();
        drop(session);
        assert_eq!(count.load(Ordering::SeqCst), 1);
        let (count, session) = counted();
        now_or_never(session.logout()).unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn logs_out_once_in_parts_too() {
        let (count, session) = counted();
        let (_avatar, logout) = session.apart();
        assert_eq!(count.load(Ordering::SeqCst), 0);
        now_or_never(logout.run()).unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 1);
        drop(counted().1.apart());
    }

    #[test]
    fn logs_out_on_panic() {
        let (count, session) = counted();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _session = session;
            panic!("in the protocol");
        }));
        assert!(result.is_err());
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_lasting_logout_is_awaited_or_spawned() {
        let log = Arc::new(std::sync::Mutex::new(Vec::new()));
        let session = |name: &'static str| {
            let (done, spawned) = (Arc::clone(&log), Arc::clone(&log));
            Session::<Nothing>::new(Box::new(())).at_logout(Logout::lasting(
                move || async move { done.lock().unwrap().push((name, "done")) },
                move |rest| {
                    spawned.lock().unwrap().push((name, "spawned"));
                    now_or_never(rest).unwrap();
                },
            ))
        };
        now_or_never(session("awaited").logout()).unwrap();
        drop(session("dropped"));
        let log = log.lock().unwrap();
        assert_eq!(*log, [("awaited", "done"), ("dropped", "spawned"), ("dropped", "done")]);
    }
}
