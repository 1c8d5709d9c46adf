//! What connections are served with: a portal, limits, and the listener.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use countersign::{CredentialKind, KindSet, Peer, Portal, Transport, World};
use countersign_example_serving::{Most, stopping};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

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
        stopping(&self.stop).await;
    }

    /// When a connection that comes now must be logged in.
    pub fn login_by(&self) -> Instant {
        Instant::now() + self.limits.login
    }
}

/// Serves connections until the server is to end, and then waits a little for those that are left. Whoever comes
/// when there is no place is sent away.
///
/// # Errors
///
/// When the system cannot say when somebody comes.
pub async fn listen<R, Fut>(
    socket: TcpListener,
    server: Arc<Server<R>>,
    serve: impl Fn(Arc<Server<R>>, TcpStream, SocketAddr) -> Fut,
) -> io::Result<()>
where
    R: Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let Limits { connections, from_one, .. } = server.limits;
    let most = Most { connections, from_one };
    let full = |_: &TcpStream, remote| tracing::info!(%remote, "no place is left for a connection");
    let stop = server.stop.clone();
    let serve = |stream, remote| serve(Arc::clone(&server), stream, remote);
    countersign_example_serving::listen(socket, most, stop, full, serve).await
}
