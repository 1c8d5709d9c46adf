//! The least that a server of POP3 logins has to do: say `+OK` when somebody comes and to each line, and close after
//! the third. It checks nothing, knows nobody and has no limits; it is there to show what the system itself takes.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};

/// The word that makes this program such a server; it says its port.
pub(crate) const TASK: &str = "answer-ok";
/// What a client says: USER, PASS, QUIT.
const LINES: u8 = 3;

/// Serves until it is killed.
///
/// # Errors
///
/// Of the system, about the listener.
pub(crate) fn serve() -> io::Result<()> {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", socket.local_addr()?.port());
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let watch = |socket: BorrowedFd<'_>| {
        epoll::add(&epoll, socket, epoll::EventData::new_u64(name(socket)), epoll::EventFlags::IN)
    };
    watch(socket.as_fd())?;
    let mut talks: HashMap<u64, (OwnedFd, u8)> = HashMap::new();
    let (mut events, mut heard) = (Vec::with_capacity(256), [0; 512]);
    loop {
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        for event in events.drain(..) {
            let number = event.data.u64();
            let Some((stream, left)) = talks.get_mut(&number) else {
                // One at a time: another that waits is another event.
                let Ok(stream) = accept_with(&socket, SocketFlags::CLOEXEC) else { continue };
                if send(&stream, b"+OK ready\r\n", SendFlags::NOSIGNAL).is_ok() {
                    watch(stream.as_fd())?;
                    talks.insert(name(stream.as_fd()), (stream, LINES));
                }
                continue;
            };
            let again = match recv(&*stream, &mut heard, RecvFlags::DONTWAIT) {
                Ok((1.., _)) => {
                    *left -= 1;
                    // The last words and the end go together.
                    let more = if *left == 0 { SendFlags::MORE } else { SendFlags::empty() };
                    send(&*stream, b"+OK\r\n", SendFlags::NOSIGNAL | more).is_ok() && *left > 0
                }
                other => other == Err(Errno::AGAIN),
            };
            if !again {
                talks.remove(&number);
            }
        }
    }
}

/// What an event calls a descriptor.
fn name(descriptor: BorrowedFd<'_>) -> u64 {
    descriptor.as_raw_fd().unsigned_abs().into()
}
