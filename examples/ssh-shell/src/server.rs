//! What connections are served with: a portal, limits, and the listener.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use countersign::{CredentialKind, KindSet, Peer, Portal, Transport, World};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::form;

/// All that the protocol has: one portal, and what connections need.
pub struct Server<R> {
    /// Who is let in, and to what.
    pub portal: Portal<R>,
    /// Asked whether a key would do, before it signs: the same checkers, without a policy and without a realm. Who
    /// is told yes has proven nothing. Without it every key may sign.
    pub offers: Option<Portal<()>>,
    /// Clocks and entropy.
    pub world: Arc<dyn World>,
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
    /// Channels of one connection at a time.
    pub channels: usize,
    /// From the connection to the end of the login.
    pub login: Duration,
    /// Refusals on one connection before it is ended; a key that does not do is one.
    pub refusals: usize,
    /// Requests to log in on one connection, of whatever outcome.
    pub requests: usize,
    /// How long a refusal takes at least.
    pub pause: Duration,
    /// From a channel to what is to run in it.
    pub channel: Duration,
    /// How long a program may leave what the client has sent.
    pub stuck: Duration,
    /// How long a client may be silent.
    pub idle: Duration,
}

impl Limits {
    /// For people; as many refusals as sshd has, and the first question which methods there are.
    pub const USUAL: Self = Self {
        connections: 1000,
        from_one: 100,
        channels: 10,
        login: Duration::from_secs(120),
        refusals: 7,
        requests: 100,
        pause: Duration::from_millis(200),
        channel: Duration::from_secs(60),
        stuck: Duration::from_secs(60),
        idle: Duration::from_secs(60 * 60),
    };
}

impl<R> Server<R> {
    /// The facts about a connection that has just come. What is asked of it can be typed, or is a key.
    pub fn peer(remote: Option<IpAddr>, local: Option<IpAddr>) -> Peer {
        let mut peer = Peer::new("ssh", form::typed().with(CredentialKind::PUBLIC_KEY));
        // SSH keeps secrets from listeners as TLS does, and the policy has one word for it.
        let transport = Transport::Tls;
        (peer.front_end, peer.remote, peer.local, peer.transport) =
            ("ssh", remote, local, transport);
        peer
    }

    /// What a client can answer that has a key in its hand.
    pub fn with_key(peer: &Peer) -> Peer {
        let kinds =
            [CredentialKind::AuthName, CredentialKind::PUBLIC_KEY, CredentialKind::Assertion];
        Peer { supports: kinds.into_iter().collect::<KindSet>(), ..peer.clone() }
    }

    /// Waits until the server is to end.
    pub async fn stopping(&self) {
        // Who would say so is gone: nobody will.
        if self.stop.clone().wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// When a connection that comes now must be logged in.
    pub fn login_by(&self) -> Instant {
        Instant::now() + self.limits.login
    }
}

/// Connections by address, so that nobody takes them all: a place is taken as long as its token lives.
#[derive(Default)]
struct Places(HashMap<IpAddr, Arc<()>>);

impl Places {
    fn take(&mut self, address: IpAddr, limits: &Limits) -> Option<Arc<()>> {
        let taken = |place: &Arc<()>| Arc::strong_count(place) - 1;
        self.0.retain(|_, place| taken(place) > 0);
        let place = self.0.entry(address).or_default();
        let full = taken(place) >= limits.from_one;
        let all: usize = self.0.values().map(taken).sum();
        match full || all >= limits.connections {
            true => None,
            false => self.0.get(&address).cloned(),
        }
    }
}

/// Serves connections until the server is to end, and then waits a little for those that are left. Whoever comes
/// when there is no place is sent away.
pub async fn listen<R, Fut>(
    socket: TcpListener,
    server: Arc<Server<R>>,
    serve: impl Fn(Arc<Server<R>>, TcpStream, SocketAddr) -> Fut,
) where
    R: Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    /// Until those who are told that the server ends have left.
    const LEAVING: Duration = Duration::from_secs(5);
    /// After an error of the system, such as no descriptor being left.
    const AGAIN: Duration = Duration::from_millis(100);
    let mut places = Places::default();
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
        match places.take(remote.ip().to_canonical(), &server.limits) {
            Some(place) => {
                let served = serve(Arc::clone(&server), stream, remote);
                tasks.spawn(async move {
                    let _place = place;
                    served.await;
                });
            }
            None => tracing::info!(%remote, "no place is left for a connection"),
        }
    }
    let all = async { while tasks.join_next().await.is_some() {} };
    let _ = timeout(LEAVING, all).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_all_places() {
        let mut places = Places::default();
        let limits = Limits { connections: 3, from_one: 2, ..Limits::USUAL };
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
