//! What both protocols are served with: a portal, TLS, limits, and the listener.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign::{CredentialKind, KindSet, Peer, Portal, Transport, World};
use countersign_tls::Pair;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// All that a protocol has: one portal, and what connections need.
pub struct Server<R> {
    /// Who is let in, and to what.
    pub portal: Portal<R>,
    /// Clocks and entropy.
    pub world: Arc<dyn World>,
    /// TLS, if there is a certificate.
    pub tls: Option<Arc<Pair>>,
    /// The name that this host goes by in greetings.
    pub host: String,
    /// How much, and how long.
    pub limits: Limits,
    /// True when the server is to end.
    pub stop: watch::Receiver<bool>,
}

/// How much, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// Connections at a time from one address.
    pub from_one: usize,
    /// From the connection to the end of the login.
    pub login: Duration,
    /// Between commands, once logged in. POP3 demands ten minutes at least, IMAP thirty.
    pub idle: Duration,
    /// Logins that may be refused on one connection.
    pub refusals: u32,
}

impl Limits {
    /// For POP3 (RFC 1939, section 3: no less than ten minutes).
    pub const POP3: Self = Self {
        connections: 1000,
        from_one: 100,
        login: Duration::from_secs(60),
        idle: Duration::from_secs(10 * 60),
        refusals: 3,
    };
    /// For IMAP (RFC 3501, section 5.4: no less than thirty minutes).
    pub const IMAP: Self = Self { idle: Duration::from_secs(30 * 60), ..Self::POP3 };
}

impl<R> Server<R> {
    /// The facts about a connection that has just come.
    pub fn peer(service: &'static str, remote: Option<IpAddr>, local: Option<IpAddr>) -> Peer {
        let on_this_machine = remote.is_some_and(|address| address.is_loopback());
        let transport = if on_this_machine { Transport::Local } else { Transport::Plain };
        let supports = KindSet::none().with(CredentialKind::Token);
        let mut peer = Peer::new(service, supports);
        (peer.front_end, peer.remote, peer.local, peer.transport) =
            (service, remote, local, transport);
        peer
    }

    /// When a connection that comes now must be logged in.
    pub fn login_by(&self) -> Instant {
        Instant::now() + self.limits.login
    }

    /// When the next command must have come.
    pub fn idle_until(&self) -> Instant {
        Instant::now() + self.limits.idle
    }

    /// Waits until the server is to end.
    pub async fn stopping(&self) {
        // Who would say so is gone: nobody will.
        if self.stop.clone().wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Connections by address, so that nobody takes them all.
#[derive(Default)]
struct Places(Mutex<HashMap<IpAddr, usize>>);

/// One connection's place, until it is dropped.
struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    fn take(self: &Arc<Self>, address: IpAddr, limits: &Limits) -> Option<Place> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let from_one = taken.get(&address).copied().unwrap_or_default();
        if from_one >= limits.from_one || taken.values().sum::<usize>() >= limits.connections {
            return None;
        }
        taken.insert(address, from_one + 1);
        Some(Place { places: Arc::clone(self), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

/// Serves connections until the server is to end, and then waits a little for those that are left. Whoever
/// comes when there is no place is sent `full` and away.
pub async fn listen<R, Fut>(
    socket: TcpListener,
    server: Arc<Server<R>>,
    full: &'static [u8],
    serve: impl Fn(Arc<Server<R>>, TcpStream, SocketAddr) -> Fut,
) where
    R: Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    /// Until those that are told that the server ends have said so to their clients.
    const LEAVING: Duration = Duration::from_secs(5);
    /// After an error of the system, such as no descriptor being left.
    const AGAIN: Duration = Duration::from_millis(100);
    let places = Arc::new(Places::default());
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = server.stopping() => break,
            Some(_) = tasks.join_next() => continue,
            accepted = socket.accept() => accepted,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("no connection can be taken: {error}");
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        match places.take(remote.ip().to_canonical(), &server.limits) {
            Some(place) => {
                let served = serve(Arc::clone(&server), stream, remote);
                tasks.spawn(async move {
                    let _place = place;
                    served.await;
                });
            }
            None => refuse(&stream, full),
        }
    }
    let all = async { while tasks.join_next().await.is_some() {} };
    let _ = timeout(LEAVING, all).await;
    // Dropping the set ends what is left: each session logs out.
}

/// Says so if that needs no waiting.
fn refuse(stream: &TcpStream, full: &[u8]) {
    match stream.try_write(full) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => tracing::debug!("a connection too many is gone already: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_all_places() {
        let places = Arc::new(Places::default());
        let limits = Limits { connections: 3, from_one: 2, ..Limits::POP3 };
        let [a, b] = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse().unwrap());
        let first = places.take(a, &limits).unwrap();
        let _second = places.take(a, &limits).unwrap();
        assert!(places.take(a, &limits).is_none(), "a third of one");
        let _third = places.take(b, &limits).unwrap();
        assert!(places.take(b, &limits).is_none(), "a fourth of all");
        drop(first);
        assert!(places.take(b, &limits).is_some());
    }
}
