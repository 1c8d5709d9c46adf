//! A listener that lets in so many, and so many from one address.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::stopping;

/// Until those who are told that the server ends have said so to their clients.
const LEAVING: Duration = Duration::from_secs(5);
/// After an error of the system, such as no descriptor being left.
const AGAIN: Duration = Duration::from_millis(100);

/// How many connections there may be at a time.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    /// In all.
    pub connections: usize,
    /// From one address.
    pub from_one: usize,
}

/// A listener, and the places behind it.
#[derive(Debug)]
pub struct Door {
    socket: TcpListener,
    places: Places,
}

/// The place of one connection, until it is dropped.
#[derive(Debug)]
pub struct Place {
    _counted: [Arc<()>; 2],
}

impl Door {
    /// A door with so many places behind it.
    pub fn new(socket: TcpListener, most: Most) -> Self {
        Self { socket, places: Places { most, all: Arc::default(), from: HashMap::new() } }
    }

    /// The next connection that there is a place for. Of those that there is none for, `full` is told, and they are
    /// closed.
    ///
    /// It can be dropped and asked again at any time.
    pub async fn next(
        &mut self,
        full: impl Fn(&TcpStream, SocketAddr),
    ) -> (TcpStream, SocketAddr, Place) {
        loop {
            let (stream, remote) = match self.socket.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!("no connection can be taken: {error}");
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
            };
            match self.places.take(remote.ip().to_canonical()) {
                Some(place) => return (stream, remote, place),
                None => full(&stream, remote),
            }
        }
    }
}

/// Serves connections, each as a task, until the server is to end, and then waits a little for those that are left.
pub async fn listen<Fut>(
    mut door: Door,
    stop: watch::Receiver<bool>,
    full: impl Fn(&TcpStream, SocketAddr),
    serve: impl Fn(TcpStream, SocketAddr) -> Fut,
) where
    Fut: Future<Output = ()> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    loop {
        let (stream, remote, place) = tokio::select! {
            biased;
            () = stopping(&stop) => break,
            Some(_) = tasks.join_next() => continue,
            next = door.next(&full) => next,
        };
        let served = serve(stream, remote);
        tasks.spawn(async move {
            let _place = place;
            served.await;
        });
    }
    let all = async { while tasks.join_next().await.is_some() {} };
    let _ = timeout(LEAVING, all).await;
    // Dropping the set ends what is left: each session logs out.
}

/// How many connections there are, in all and by address: one is counted as long as its place is held.
#[derive(Debug)]
struct Places {
    most: Most,
    all: Arc<()>,
    from: HashMap<IpAddr, Arc<()>>,
}

impl Places {
    fn take(&mut self, address: IpAddr) -> Option<Place> {
        let held = |counted: &Arc<()>| Arc::strong_count(counted) - 1;
        // One who knocks at a full house must not be remembered for it.
        self.from.retain(|_, counted| held(counted) > 0);
        let from_one = self.from.get(&address).map_or(0, held);
        if held(&self.all) >= self.most.connections || from_one >= self.most.from_one {
            return None;
        }
        let from = Arc::clone(self.from.entry(address).or_default());
        Some(Place { _counted: [Arc::clone(&self.all), from] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_all_places() {
        let most = Most { connections: 3, from_one: 2 };
        let mut places = Places { most, all: Arc::default(), from: HashMap::new() };
        let [a, b] = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse().unwrap());
        let first = places.take(a).unwrap();
        let second = places.take(a).unwrap();
        assert!(places.take(a).is_none(), "a third of one");
        let third = places.take(b).unwrap();
        assert!(places.take(b).is_none(), "a fourth of all");
        drop(first);
        assert!(places.take(b).is_some());
        drop((second, third));
        assert!(places.take(b).is_some() && places.from.len() == 1);
    }
}
