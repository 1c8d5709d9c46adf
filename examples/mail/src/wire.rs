//! A connection: lines and literals with limits, answers that are gathered, TLS from the middle on.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use countersign_tls::{ClientCertificate, Pair};
use rustix::net::{SendFlags, send};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_rustls::server::TlsStream;
use zeroize::{Zeroize, Zeroizing};

use crate::tls::Channel;

/// What a connection goes through.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {
    /// Sends as much as it can without waiting, where that is possible at all: somebody who waits for an answer has
    /// room for it, and nobody needs to ask first. After the `last` bytes nothing follows but the end, and both may
    /// go together.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] when nothing can be sent so.
    fn send_now(&self, _bytes: &[u8], _last: bool) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Stream for TcpStream {
    fn send_now(&self, bytes: &[u8], last: bool) -> io::Result<usize> {
        let more = if last { SendFlags::MORE } else { SendFlags::empty() };
        Ok(send(self, bytes, SendFlags::NOSIGNAL | more)?)
    }
}

impl Stream for DuplexStream {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for TlsStream<S> {}

/// How long a peer may take to hear what was said, in full.
const HEARING: Duration = Duration::from_secs(60);
/// How much is gathered before it is sent.
const GATHERED: usize = 64 * 1024;
/// Room for what is read at once, to begin with: commands are short, and all of it is wiped in the end.
const READ: usize = 1024;

/// A connection.
pub struct Wire {
    stream: Box<dyn Stream>,
    heard: Heard,
    said: Vec<u8>,
    /// Rings when the peer has been silent for too long. One for all that is heard: it is set, not made.
    alarm: Option<Pin<Box<Sleep>>>,
}

/// What a peer has said and nobody has asked for yet.
#[derive(Default)]
struct Heard {
    /// It may hold a password, so it is wiped.
    bytes: Zeroizing<Vec<u8>>,
    /// Whether the peer will say nothing more.
    ended: bool,
    /// Whether what comes belongs to a line that is too long already.
    skipping: bool,
}

/// Why nothing was heard.
#[derive(Debug)]
pub enum Silence {
    /// The peer left.
    Left,
    /// It said nothing in time.
    TimedOut,
    /// Its line is longer than may be. What was of it is skipped, and the next line can be heard.
    TooLong,
}

/// A line, without its end. It may hold a password, so it is wiped.
pub type Line = Zeroizing<Vec<u8>>;

impl Wire {
    /// A connection through this stream.
    pub fn new(stream: impl Stream + 'static) -> Self {
        Self { stream: Box::new(stream), heard: Heard::default(), said: Vec::new(), alarm: None }
    }

    /// Hears a line of at most `limit` bytes. What was said before is sent first, unless another line is here
    /// already: a peer that says several commands at once hears the answers at once.
    ///
    /// Can be dropped before its end, and nothing is lost, where nothing is left to be sent.
    ///
    /// # Errors
    ///
    /// [`Silence`].
    pub async fn line(&mut self, limit: usize, deadline: Instant) -> Result<Line, Silence> {
        let mut looked = 0;
        loop {
            let heard = &mut self.heard;
            let end = heard.bytes.iter().skip(looked).position(|byte| *byte == b'\n');
            if let Some(end) = end.map(|end| end + looked) {
                let line = heard.bytes.get(..end).unwrap_or_default();
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                let too_long = std::mem::take(&mut heard.skipping) || line.len() > limit;
                let line = if too_long { Vec::new() } else { line.to_vec() };
                heard.forget(end + 1);
                return if too_long { Err(Silence::TooLong) } else { Ok(line.into()) };
            }
            looked = heard.bytes.len();
            if looked > limit + 1 {
                (looked, heard.skipping) = (0, true);
                heard.forget(heard.bytes.len());
            }
            self.flush().await.map_err(|_| Silence::Left)?;
            self.hear(deadline).await?;
        }
    }

    /// Hears so many bytes.
    ///
    /// # Errors
    ///
    /// [`Silence`].
    pub async fn exactly(&mut self, count: usize, deadline: Instant) -> Result<Line, Silence> {
        self.flush().await.map_err(|_| Silence::Left)?;
        while self.heard.bytes.len() < count {
            self.hear(deadline).await?;
        }
        let bytes = Zeroizing::new(self.heard.bytes.get(..count).unwrap_or_default().to_vec());
        self.heard.forget(count);
        Ok(bytes)
    }

    /// Says something, soon.
    pub fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.said.extend_from_slice(bytes.as_ref());
    }

    /// Sends what was said if it is much by now.
    ///
    /// # Errors
    ///
    /// When the peer left or does not listen.
    pub async fn flush_if_much(&mut self) -> io::Result<()> {
        if self.said.len() >= GATHERED { self.flush().await } else { Ok(()) }
    }

    /// Sends what was said.
    ///
    /// # Errors
    ///
    /// When the peer left or does not listen.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.send(false).await
    }

    async fn send(&mut self, last: bool) -> io::Result<()> {
        if self.said.is_empty() {
            return Ok(());
        }
        let sent = match self.stream.send_now(&self.said, last) {
            Ok(sent) if sent == self.said.len() => Ok(()),
            Ok(sent) => self.send_from(sent).await,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.send_from(0).await,
            Err(error) => Err(error),
        };
        self.said.clear();
        // One message in a while must not keep its room for as long as the connection lasts.
        self.said.shrink_to(GATHERED);
        sent
    }

    /// Sends the rest as fast as the peer listens.
    async fn send_from(&mut self, from: usize) -> io::Result<()> {
        let sent = async {
            self.stream.write_all(self.said.get(from..).unwrap_or_default()).await?;
            self.stream.flush().await
        };
        timeout(HEARING, sent).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Waits until the peer has left, with nothing said before that is still to be answered.
    pub async fn left(&mut self, limit: usize) {
        loop {
            let (here, ended) = (self.heard.bytes.len(), self.heard.ended);
            if here >= limit || ended && here > 0 {
                return std::future::pending().await;
            }
            if ended || self.heard.more(&mut self.stream).await.is_err() {
                return;
            }
        }
    }

    /// Whether the peer has said something that was not asked for yet.
    pub fn has_more(&self) -> bool {
        !self.heard.bytes.is_empty()
    }

    /// Goes on in TLS.
    ///
    /// # Errors
    ///
    /// When the handshake comes to nothing, or the peer had gone on before it: what somebody in the middle puts
    /// there must not count as said in TLS (CVE-2011-0411).
    pub async fn secure(self, tls: &Pair) -> io::Result<(Self, Channel)> {
        if self.has_more() {
            return Err(io::Error::other("the client went on before TLS"));
        }
        let (stream, bindings) = tls.accept(self.stream).await?;
        let client = ClientCertificate::of(&stream);
        Ok((Self::new(stream), Channel { bindings, client }))
    }

    /// Ends what we say, in good order.
    pub async fn close(mut self) {
        if self.send(true).await.is_ok() {
            let _ = timeout(HEARING, self.stream.shutdown()).await;
        }
    }

    async fn hear(&mut self, deadline: Instant) -> Result<(), Silence> {
        if self.heard.ended {
            return Err(Silence::Left);
        }
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if alarm.deadline() != deadline {
            alarm.as_mut().reset(deadline);
        }
        let heard = tokio::select! {
            biased;
            heard = self.heard.more(&mut self.stream) => heard,
            () = alarm => return Err(Silence::TimedOut),
        };
        if heard.is_ok() && !self.heard.ended { Ok(()) } else { Err(Silence::Left) }
    }
}

impl Heard {
    async fn more(&mut self, stream: &mut Box<dyn Stream>) -> io::Result<()> {
        if self.bytes.capacity() - self.bytes.len() < READ / 2 {
            // By hand: growing by itself would leave a copy of what was heard behind.
            let mut larger = Vec::with_capacity(self.bytes.capacity() * 2 + READ);
            larger.extend_from_slice(&self.bytes);
            self.bytes = larger.into();
        }
        let read = stream.read_buf(&mut *self.bytes).await;
        self.ended = !matches!(read, Ok(1..));
        read.map(drop)
    }

    fn forget(&mut self, count: usize) {
        let count = count.min(self.bytes.len());
        let left = self.bytes.len() - count;
        self.bytes.copy_within(count.., 0);
        if let Some(rest) = self.bytes.get_mut(left..) {
            rest.zeroize();
        }
        self.bytes.truncate(left);
        if left == 0 && self.bytes.capacity() > GATHERED {
            self.bytes = Zeroizing::default();
        }
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wire")
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[tokio::test(start_paused = true)]
    async fn lines_in_pieces_and_several_at_once() {
        let (mut there, here) = duplex(64);
        let mut wire = Wire::new(here);
        there.write_all(b"USER a\r\nPASS b").await.unwrap();
        assert_eq!(*wire.line(40, soon()).await.unwrap(), b"USER a");
        there.write_all(b"c\r\n\n").await.unwrap();
        assert_eq!(*wire.line(40, soon()).await.unwrap(), b"PASS bc");
        assert_eq!(*wire.line(40, soon()).await.unwrap(), b"");
        assert!(matches!(wire.line(40, soon()).await, Err(Silence::TimedOut)));
        drop(there);
        assert!(matches!(wire.line(40, soon()).await, Err(Silence::Left)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_line_is_skipped_and_the_next_is_heard() {
        let (mut there, here) = duplex(64 * 1024);
        let mut wire = Wire::new(here);
        let long = [&[b'x'; 20_000][..], b"\r\nQUIT\r\n"].concat();
        there.write_all(&long).await.unwrap();
        assert!(matches!(wire.line(100, soon()).await, Err(Silence::TooLong)));
        assert_eq!(*wire.line(100, soon()).await.unwrap(), b"QUIT");
        there.write_all(b"{3}\r\nabcd\r\n").await.unwrap();
        assert_eq!(*wire.line(3, soon()).await.unwrap(), b"{3}");
        assert_eq!(*wire.exactly(3, soon()).await.unwrap(), b"abc");
        assert_eq!(*wire.line(3, soon()).await.unwrap(), b"d");
    }

    #[tokio::test(start_paused = true)]
    async fn leaving_is_noticed_unless_something_is_still_to_be_answered() {
        let (mut there, here) = duplex(64);
        let mut wire = Wire::new(here);
        assert!(timeout(Duration::from_secs(1), wire.left(100)).await.is_err(), "it is there");
        there.write_all(b"QUIT\r\n").await.unwrap();
        drop(there);
        assert!(timeout(Duration::from_secs(1), wire.left(100)).await.is_err(), "it said QUIT");
        assert_eq!(*wire.line(40, soon()).await.unwrap(), b"QUIT");
        timeout(Duration::from_secs(1), wire.left(100)).await.unwrap();
    }
}
