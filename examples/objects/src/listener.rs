//! Where connections come from, and the threads that they live on.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use countersign::{KindSet, Peer, Portal, Realm, Transport, World};
use countersign_example_serving::{Door, Guest, Most, Place, stopping};
use countersign_tls::Pair;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

use crate::connection::serve;
use crate::desk::Objects;
use crate::limits::Limits;

/// All that the protocol has: one portal, and what connections need.
pub struct Server<R> {
    /// Who is let in, and to what.
    pub portal: Portal<R>,
    /// Clocks and entropy.
    pub world: Arc<dyn World>,
    /// TLS, if there is a certificate; then connections begin with it.
    pub tls: Option<Pair>,
    /// How much, and how long.
    pub limits: Limits,
    /// True when the server is to end.
    pub stop: watch::Receiver<bool>,
}

/// A connection that has come, and its place among those that there may be.
struct Arrival {
    stream: std::net::TcpStream,
    remote: SocketAddr,
    _place: Place,
}

/// A thread that connections live on: objects of the RPC library cannot leave theirs.
struct Thread {
    arrivals: mpsc::Sender<Arrival>,
    /// Heard of when the thread has ended.
    ended: oneshot::Receiver<()>,
}

impl<R> Server<R> {
    /// Waits until the server is to end.
    pub async fn stopping(&self) {
        stopping(&self.stop).await;
    }
}

/// Serves connections on so many threads until the server is to end; then everybody is logged out.
///
/// # Errors
///
/// When a thread cannot be started, or the system cannot say when somebody comes.
pub async fn listen<R: Realm<Objects> + 'static>(
    socket: TcpListener,
    server: Arc<Server<R>>,
    threads: usize,
) -> io::Result<()> {
    let threads = (0..threads.max(1)).map(|_| Thread::start(Arc::clone(&server)));
    let threads = threads.collect::<io::Result<Vec<_>>>()?;
    let Limits { connections, from_one, .. } = server.limits;
    let door = Door::new(socket, Most { connections, from_one })?;
    // Nothing can be said to whoever comes when there is no place: there is no login yet that could be refused.
    let full = |_: &TcpStream, remote| tracing::warn!(%remote, "too many connections");
    let mut next = threads.iter().cycle();
    loop {
        let Guest { stream, remote, place } = tokio::select! {
            biased;
            () = server.stopping() => break,
            guest = door.next(full) => guest,
        };
        if let Err(error) = keep_alive(&stream) {
            tracing::warn!(%remote, "nobody will see that this client is gone: {error}");
        }
        let (Ok(stream), Some(thread)) = (stream.into_std(), next.next()) else { continue };
        if thread.arrivals.try_send(Arrival { stream, remote, _place: place }).is_err() {
            tracing::warn!(%remote, "a thread does not keep up");
        }
    }
    for Thread { arrivals, ended } in threads {
        drop(arrivals);
        let _ = ended.await;
    }
    Ok(())
}

/// Asks a silent client whether it is still there: sessions are long, and one that lost its power says nothing.
fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    /// After so long a silence.
    const SILENCE: Duration = Duration::from_secs(60);
    /// And then so often, so many times.
    const AGAIN: Duration = Duration::from_secs(15);
    const TIMES: u32 = 4;
    sockopt::set_tcp_keepidle(stream, SILENCE)?;
    sockopt::set_tcp_keepintvl(stream, AGAIN)?;
    sockopt::set_tcp_keepcnt(stream, TIMES)?;
    sockopt::set_socket_keepalive(stream, true)?;
    Ok(())
}

impl Thread {
    fn start<R: Realm<Objects> + 'static>(server: Arc<Server<R>>) -> io::Result<Self> {
        /// Connections that have come and are not begun.
        const WAITING: usize = 128;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (arrivals, coming) = mpsc::channel(WAITING);
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new().name("objects".into()).spawn(move || {
            LocalSet::new().block_on(&runtime, work(server, coming));
            drop(end);
        })?;
        Ok(Self { arrivals, ended })
    }
}

/// Serves what comes, and when nothing comes any more, waits for what is left.
async fn work<R: Realm<Objects> + 'static>(
    server: Arc<Server<R>>,
    mut coming: mpsc::Receiver<Arrival>,
) {
    let mut tasks = JoinSet::new();
    loop {
        let arrival = tokio::select! {
            arrival = coming.recv() => arrival,
            Some(ended) = tasks.join_next() => {
                told(ended);
                continue;
            }
        };
        let Some(arrival) = arrival else { break };
        tasks.spawn_local(welcome(Arc::clone(&server), arrival));
    }
    // Each ends within the limits of its own.
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            told(ended);
        }
    };
    let _ = timeout(2 * server.limits.leaving, all).await;
}

fn told(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!("a connection ended badly: {error}");
    }
}

/// The facts about a connection, in TLS if that is how it begins, and its service.
async fn welcome<R: Realm<Objects> + 'static>(server: Arc<Server<R>>, arrival: Arrival) {
    let Arrival { stream, remote, _place } = arrival;
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    let canonical = |address: SocketAddr| -> IpAddr { address.ip().to_canonical() };
    let mut peer = Peer::new("objects", KindSet::all());
    peer.front_end = "objects";
    peer.remote = Some(canonical(remote));
    peer.local = stream.local_addr().ok().map(canonical);
    let here = remote.ip().to_canonical().is_loopback();
    peer.transport = if here { Transport::Local } else { Transport::Plain };
    let Some(tls) = &server.tls else { return serve(server, stream, peer).await };
    let accepted = tokio::select! {
        biased;
        () = server.stopping() => return,
        accepted = tls.accept(stream) => accepted,
    };
    match accepted {
        Ok((stream, bindings)) => {
            peer.transport = Transport::Tls;
            peer.more.channel_bindings = bindings;
            serve(server, stream, peer).await;
        }
        Err(error) => tracing::info!(%remote, "no TLS: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_silent_client_is_asked_whether_it_is_there() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(socket.local_addr().unwrap());
        let (_client, accepted) = tokio::join!(client, socket.accept());
        let (stream, _) = accepted.unwrap();
        assert!(!sockopt::socket_keepalive(&stream).unwrap());
        keep_alive(&stream).unwrap();
        assert!(sockopt::socket_keepalive(&stream).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&stream).unwrap(), Duration::from_secs(60));
    }
}
