//! A TCP connection that can be cut as a network cuts it: nobody is told, and nothing arrives.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use crate::{Context, Outcome};

/// Passes what comes on to another port of 127.0.0.1, unless it is cut.
#[derive(Debug)]
pub struct Wire {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    cut: bool,
    over: bool,
    streams: Vec<TcpStream>,
}

impl Wire {
    /// A wire to a port.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn to(port: u16) -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").during("a wire")?;
        let own = listener.local_addr().during("a wire")?.port();
        let shared = Arc::new(Shared::default());
        let passing = Arc::clone(&shared);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                // A connection that is made while it is cut hangs, as it would.
                if !passing.is_whole() {
                    return;
                }
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                passing.connect(&near, &far);
                passing.connect(&far, &near);
            }
        });
        Ok(Self { port: own, shared })
    }

    /// Nothing passes from now on, in either direction; the connections stay.
    pub fn cut(&self) {
        self.shared.set(|state| state.cut = true);
    }

    /// What was sent meanwhile arrives, and everything that is sent from now on.
    pub fn mend(&self) {
        self.shared.set(|state| state.cut = false);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.set(|state| {
            state.over = true;
            for stream in state.streams.drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Waits until something may pass; `false`: never again.
    fn is_whole(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.changed.wait_while(state, |state| state.cut && !state.over);
        !state.unwrap_or_else(PoisonError::into_inner).over
    }

    /// Passes one direction on.
    fn connect(self: &Arc<Self>, from: &TcpStream, to: &TcpStream) {
        let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
        let Ok(kept) = from.try_clone() else { return };
        self.set(|state| state.streams.push(kept));
        let shared = Arc::clone(self);
        thread::spawn(move || {
            let mut piece = [0; 16 * 1024];
            loop {
                let count = from.read(&mut piece).unwrap_or(0);
                // An end does not pass either.
                if !shared.is_whole() {
                    return;
                }
                if count == 0 || to.write_all(&piece[..count]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Write);
            let _ = from.shutdown(Shutdown::Read);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_sent_while_it_is_cut_arrives_when_it_is_mended() {
        let far = TcpListener::bind("127.0.0.1:0").unwrap();
        let wire = Wire::to(far.local_addr().unwrap().port()).unwrap();
        let mut near = TcpStream::connect(("127.0.0.1", wire.port)).unwrap();
        let (mut far, _) = far.accept().unwrap();
        let mut heard = [0; 3];
        near.write_all(b"one").unwrap();
        far.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"one");
        wire.cut();
        near.write_all(b"two").unwrap();
        far.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert!(far.read(&mut heard).is_err(), "it passed");
        wire.mend();
        far.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        far.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"two");
        far.write_all(b"yes").unwrap();
        near.read_exact(&mut heard).unwrap();
        drop(wire);
        assert_eq!(near.read(&mut heard).unwrap_or(0), 0, "it is over");
    }
}
