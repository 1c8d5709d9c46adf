//! Logins that were let in on one socket and are asked for on another.
//!
//! Dovecot's login process authenticates somebody over the authentication protocol, and hands the
//! connection to another process with three things: its own process id, the id that the login had, and the
//! cookie of the connection. That process asks the master socket who it was. Between the two the login is
//! here: for a minute, once, and for whoever knows the cookie.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign::Identity;
use countersign_wire::dovecot::master::Cookie;

/// How long a login waits to be asked for.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// How many wait at a time, from all connections together.
const KEPT: usize = 16_384;

/// Logins that wait to be asked for. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Handovers(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// By process id and id of the login. Two processes can have one id, in containers of their own.
    logins: HashMap<(u32, u32), Vec<Login>>,
    count: usize,
}

#[derive(Debug)]
struct Login {
    cookie: Cookie,
    until_ns: u64,
    handed: Handed,
}

/// A login that is handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handed {
    /// Who it was.
    pub who: Arc<Identity>,
    /// By which mechanism.
    pub mechanism: String,
}

/// Where a login was.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The client's process id.
    pub pid: u32,
    /// The id of the login on the client's connection.
    pub id: u32,
    /// The connection's cookie.
    pub cookie: Cookie,
}

impl Handovers {
    /// Keeps a login until it is asked for. `false`: there are too many, and it must not be let in.
    #[must_use]
    pub fn keep(&self, origin: Origin, handed: Handed, now_ns: u64) -> bool {
        let mut kept = self.lock();
        if kept.count >= KEPT {
            kept.sweep(now_ns);
        }
        if kept.count >= KEPT {
            return false;
        }
        let until_ns = now_ns.saturating_add(KEPT_FOR.as_nanos() as u64);
        let login = Login { cookie: origin.cookie, until_ns, handed };
        let logins = kept.logins.entry((origin.pid, origin.id)).or_default();
        let before = logins.len();
        // A client may use an id again when its login is over; the newest is the one it means.
        logins.retain(|login| login.cookie != origin.cookie);
        let replaced = before - logins.len();
        logins.push(login);
        kept.count = kept.count + 1 - replaced;
        true
    }

    /// Gives a login away, once.
    pub fn take(&self, origin: Origin, now_ns: u64) -> Option<Handed> {
        let mut kept = self.lock();
        let key = (origin.pid, origin.id);
        let logins = kept.logins.get_mut(&key)?;
        let at = logins.iter().position(|login| login.cookie == origin.cookie)?;
        let login = logins.swap_remove(at);
        if logins.is_empty() {
            kept.logins.remove(&key);
        }
        kept.count -= 1;
        (login.until_ns > now_ns).then_some(login.handed)
    }

    /// Forgets what a connection left behind.
    pub fn forget(&self, cookie: Cookie) {
        self.lock().retain(|login| login.cookie != cookie);
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.lock().count
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn sweep(&mut self, now_ns: u64) {
        self.retain(|login| login.until_ns > now_ns);
    }

    fn retain(&mut self, keep: impl Fn(&Login) -> bool) {
        self.logins.retain(|_, logins| {
            logins.retain(&keep);
            !logins.is_empty()
        });
        self.count = self.logins.values().map(Vec::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(pid: u32, id: u32, cookie: u8) -> Origin {
        Origin { pid, id, cookie: Cookie([cookie; 16]) }
    }

    fn handed(name: &str) -> Handed {
        Handed { who: Arc::new(Identity::named(name)), mechanism: "PLAIN".into() }
    }

    #[test]
    fn once_and_for_who_knows_the_cookie() {
        let handovers = Handovers::default();
        assert!(handovers.keep(origin(1, 1, 1), handed("ann"), 0));
        // The same numbers, from another container.
        assert!(handovers.keep(origin(1, 1, 2), handed("bob"), 0));
        assert_eq!(handovers.take(origin(1, 1, 3), 0), None);
        assert_eq!(handovers.take(origin(1, 2, 1), 0), None);
        assert_eq!(handovers.take(origin(2, 1, 1), 0), None);
        assert_eq!(handovers.take(origin(1, 1, 2), 0), Some(handed("bob")));
        assert_eq!(handovers.take(origin(1, 1, 2), 0), None);
        assert_eq!(handovers.take(origin(1, 1, 1), 0), Some(handed("ann")));
        assert!(handovers.is_empty());
    }

    #[test]
    fn not_for_ever() {
        let handovers = Handovers::default();
        assert!(handovers.keep(origin(1, 1, 1), handed("ann"), 0));
        assert_eq!(handovers.take(origin(1, 1, 1), KEPT_FOR.as_nanos() as u64), None);
        assert!(handovers.is_empty());
        assert!(handovers.keep(origin(1, 1, 1), handed("ann"), 0));
        assert!(handovers.keep(origin(1, 2, 2), handed("bob"), 0));
        handovers.forget(Cookie([1; 16]));
        assert_eq!(handovers.len(), 1);
    }

    #[test]
    fn not_without_bounds() {
        let handovers = Handovers::default();
        for id in 0..KEPT as u32 {
            assert!(handovers.keep(origin(1, id, 1), handed("ann"), 0));
        }
        assert!(!handovers.keep(origin(2, 1, 1), handed("ann"), 1));
        let later = KEPT_FOR.as_nanos() as u64 + 1;
        assert!(handovers.keep(origin(2, 1, 1), handed("ann"), later), "what expired makes room");
        assert_eq!(handovers.len(), 1);
        assert!(handovers.keep(origin(2, 1, 1), handed("bob"), later));
        assert_eq!(handovers.len(), 1, "an id that is used again");
        assert_eq!(handovers.take(origin(2, 1, 1), later), Some(handed("bob")));
    }
}
