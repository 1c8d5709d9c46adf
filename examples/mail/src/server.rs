//! What both protocols are served with: a portal, TLS, limits, and the listener.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use countersign::{CredentialKind, KindSet, Peer, Portal, Transport, World};
use countersign_example_serving::{Most, stopping};
use countersign_tls::Pair;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::wire::Stream;

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
        stopping(&self.stop).await;
    }

    /// The same for a connection, which waits for it and something else again and again, and no more once it is over.
    pub fn end(&self) -> End<'_>
    where
        R: Sync,
    {
        Box::pin(self.stopping())
    }
}

/// The end of a server, to be waited for.
pub type End<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Serves connections until the server is to end, and then waits a little for those that are left. Whoever
/// comes when there is no place is sent `full` and away.
///
/// # Errors
///
/// When the system cannot say when somebody comes.
pub async fn listen<R, Fut>(
    socket: TcpListener,
    server: Arc<Server<R>>,
    full: &'static [u8],
    serve: impl Fn(Arc<Server<R>>, TcpStream, SocketAddr) -> Fut,
) -> io::Result<()>
where
    R: Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let Limits { connections, from_one, .. } = server.limits;
    let most = Most { connections, from_one };
    let refuse = |stream: &TcpStream, _| refuse(stream, full);
    let stop = server.stop.clone();
    let serve = |stream, remote| serve(Arc::clone(&server), stream, remote);
    countersign_example_serving::listen(socket, most, stop, refuse, serve).await
}

/// Says so if that needs no waiting.
fn refuse(stream: &TcpStream, full: &[u8]) {
    match stream.send_now(full, true) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => tracing::debug!("a connection too many is gone already: {error}"),
    }
}
