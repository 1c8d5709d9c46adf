//! A listener that lets in so many, and so many from one address.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with, sockopt};
use tokio::io::unix::AsyncFd;
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
    socket: AsyncFd<std::net::TcpListener>,
    most: Most,
    places: Arc<Mutex<Places>>,
}

/// The place of one connection, until it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Mutex<Places>>,
    address: IpAddr,
}

/// A connection that there is a place for. What is said on it is sent at once (`TCP_NODELAY`).
#[derive(Debug)]
pub struct Guest {
    /// The connection.
    pub stream: TcpStream,
    /// Who is at its other end.
    pub remote: SocketAddr,
    /// To be kept as long as the connection.
    pub place: Place,
}

impl Door {
    /// A door with so many places behind it.
    ///
    /// # Errors
    ///
    /// Of the system.
    pub fn new(socket: TcpListener, most: Most) -> io::Result<Self> {
        // Connections have this from the socket that they come through, and nobody needs to say it of each.
        sockopt::set_tcp_nodelay(&socket, true)?;
        #[expect(
            deprecated,
            reason = "unsound for what does not own its descriptor; a listener does"
        )]
        let socket = AsyncFd::new(socket.into_std()?)?;
        Ok(Self { socket, most, places: Arc::default() })
    }

    /// The next connection that there is a place for. Of those that there is none for, `full` is told, and they are
    /// closed.
    ///
    /// It can be dropped and asked again at any time.
    pub async fn next(&self, full: impl Fn(&TcpStream, SocketAddr)) -> Guest {
        loop {
            let (stream, remote) = match self.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!("no connection can be taken: {error}");
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
            };
            match Places::take(&self.places, self.most, remote.ip().to_canonical()) {
                Some(place) => return Guest { stream, remote, place },
                None => full(&stream, remote),
            }
        }
    }

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        const NOW: Option<&Timespec> = Some(&Timespec { tv_sec: 0, tv_nsec: 0 });
        loop {
            let mut ready = self.socket.readable().await?;
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let accepted = acceptfrom_with(&self.socket, flags);
            // To ask whether another waits costs the system a tenth of what an `accept` does that finds none.
            let another = match accepted {
                Err(Errno::AGAIN) => false,
                _ => poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], NOW) != Ok(0),
            };
            if !another {
                ready.clear_ready();
            }
            match accepted {
                Ok((stream, remote)) => {
                    let remote = remote.and_then(|remote| remote.try_into().ok());
                    let remote = remote.ok_or(io::ErrorKind::AddrNotAvailable)?;
                    return Ok((TcpStream::from_std(stream.into())?, remote));
                }
                Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Serves connections, each as a task, until the server is to end, and then waits a little for those that are left.
///
/// # Errors
///
/// When the system cannot say when somebody comes.
pub async fn listen<Fut>(
    socket: TcpListener,
    most: Most,
    stop: watch::Receiver<bool>,
    full: impl Fn(&TcpStream, SocketAddr),
    serve: impl Fn(TcpStream, SocketAddr) -> Fut,
) -> io::Result<()>
where
    Fut: Future<Output = ()> + Send + 'static,
{
    let door = Door::new(socket, most)?;
    let mut tasks = JoinSet::new();
    let mut end = std::pin::pin!(stopping(&stop));
    loop {
        let Guest { stream, remote, place } = tokio::select! {
            biased;
            () = &mut end => break,
            guest = door.next(&full) => guest,
        };
        // No task that ends wakes this one for it: who comes next finds it gone.
        while tasks.try_join_next().is_some() {}
        let served = serve(stream, remote);
        tasks.spawn(async move {
            let _place = place;
            served.await;
        });
    }
    drop(door);
    let all = async { while tasks.join_next().await.is_some() {} };
    let _ = timeout(LEAVING, all).await;
    // Dropping the set ends what is left: each session logs out.
    Ok(())
}

/// How many connections there are, in all and by address: one is counted as long as its place is held.
#[derive(Debug, Default)]
struct Places {
    all: usize,
    from: HashMap<IpAddr, usize>,
}

impl Places {
    fn take(places: &Arc<Mutex<Self>>, most: Most, address: IpAddr) -> Option<Place> {
        let mut taken = lock(places);
        let from_one = taken.from.get(&address).copied().unwrap_or_default();
        // One who knocks at a full house must not be remembered for it.
        if taken.all >= most.connections || from_one >= most.from_one {
            return None;
        }
        taken.all += 1;
        taken.from.insert(address, from_one + 1);
        Some(Place { places: Arc::clone(places), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.places);
        taken.all = taken.all.saturating_sub(1);
        match taken.from.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.from.remove(&self.address)),
        }
    }
}

fn lock(places: &Mutex<Places>) -> MutexGuard<'_, Places> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_all_places() {
        let most = Most { connections: 3, from_one: 2 };
        let places = Arc::<Mutex<Places>>::default();
        let [a, b] = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse().unwrap());
        let take = |address| Places::take(&places, most, address);
        let first = take(a).unwrap();
        let second = take(a).unwrap();
        assert!(take(a).is_none(), "a third of one");
        let third = take(b).unwrap();
        assert!(take(b).is_none(), "a fourth of all");
        drop(first);
        let fourth = take(b);
        assert!(fourth.is_some());
        drop((second, third));
        assert_eq!(lock(&places).from, HashMap::from([(b, 1)]), "who has left is forgotten");
        drop(fourth);
        assert!(lock(&places).all == 0 && lock(&places).from.is_empty());
    }

    /// However many came before the door is looked at, each is let in.
    #[tokio::test]
    async fn everybody_who_has_come_is_let_in_and_heard_at_once() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let door = Door::new(socket, Most { connections: 9, from_one: 9 }).unwrap();
        let mut guests = Vec::new();
        for round in 0..3 {
            let mut clients = Vec::new();
            for _ in 0..3 {
                clients.push(TcpStream::connect(address).await.unwrap());
            }
            for client in clients {
                let full = |_: &TcpStream, _| panic!("there is place");
                let guest = timeout(LEAVING, door.next(full)).await.expect("one that has come");
                assert_eq!(guest.remote, client.local_addr().unwrap(), "round {round}");
                assert!(guest.stream.nodelay().unwrap());
                guests.push(guest);
            }
        }
    }
}
