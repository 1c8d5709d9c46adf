//! The two halves of a connection, with what the RPC library does not limit itself.
//!
//! The library reads as fast as a peer sends, and queues without end what the peer does not read. So nothing more is
//! read while something waits to be written, a peer that reads nothing for too long is taken for gone, and whoever is not
//! logged in may send so much and no more.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf, ReadHalf, WriteHalf};
use tokio::time::Sleep;

/// What both halves know.
#[derive(Debug)]
pub(crate) struct Flow {
    /// Bytes that may still come; `None`: as many as will.
    allowance: Cell<Option<u64>>,
    blocked: Cell<bool>,
    reader: RefCell<Option<Waker>>,
    hearing: Duration,
}

impl Flow {
    /// From now on, any number of bytes.
    pub(crate) fn open(&self) {
        self.allowance.set(None);
    }

    /// From now on, so many bytes.
    pub(crate) fn allow(&self, bytes: u64) {
        self.allowance.set(Some(bytes));
    }

    fn unblock(&self) {
        self.blocked.set(false);
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }
}

/// The half that is read.
pub(crate) struct Reading<S> {
    stream: BufReader<ReadHalf<S>>,
    flow: Rc<Flow>,
}

/// The half that is written.
pub(crate) struct Writing<S> {
    stream: tokio::io::BufWriter<WriteHalf<S>>,
    flow: Rc<Flow>,
    /// Since something waits.
    patience: Option<Pin<Box<Sleep>>>,
}

/// Parts a stream. The reader takes so many bytes until [`Flow::open`].
pub(crate) fn split<S: AsyncRead + AsyncWrite>(
    stream: S,
    allowance: u64,
    hearing: Duration,
) -> (Reading<S>, Writing<S>, Rc<Flow>) {
    let flow = Rc::new(Flow {
        allowance: Cell::new(Some(allowance)),
        blocked: Cell::new(false),
        reader: RefCell::default(),
        hearing,
    });
    let (reader, writer) = tokio::io::split(stream);
    let reading = Reading { stream: BufReader::new(reader), flow: Rc::clone(&flow) };
    let stream = tokio::io::BufWriter::new(writer);
    (reading, Writing { stream, flow: Rc::clone(&flow), patience: None }, flow)
}

impl<S: AsyncRead + Unpin> futures_io::AsyncRead for Reading<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.flow.blocked.get() {
            self.flow.reader.replace(Some(context.waker().clone()));
            return Poll::Pending;
        }
        let mut room = ReadBuf::new(bytes);
        match Pin::new(&mut self.stream).poll_read(context, &mut room) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
        let read = room.filled().len();
        if let Some(allowance) = self.flow.allowance.get() {
            let Some(left) = allowance.checked_sub(read as u64) else {
                return Poll::Ready(Err(io::Error::other("too much before a login")));
            };
            self.flow.allowance.set(Some(left));
        }
        Poll::Ready(Ok(read))
    }
}

impl<S: AsyncWrite + Unpin> Writing<S> {
    fn watched<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.patience = None;
            self.flow.unblock();
            return polled;
        }
        self.flow.blocked.set(true);
        let hearing = self.flow.hearing;
        let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(hearing)));
        match patience.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> futures_io::AsyncWrite for Writing<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watched(context, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.watched(context, polled)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watched(context, polled)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::poll_immediate;
    use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const HEARING: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn so_much_comes_before_a_login_and_then_anything() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let (mut reading, _writing, flow) = split(ours, 4, HEARING);
        theirs.write_all(b"12345678").await.unwrap();
        let mut bytes = [0; 3];
        reading.read_exact(&mut bytes).await.unwrap();
        assert!(reading.read_exact(&mut bytes).await.is_err(), "six are more than four");
        flow.open();
        theirs.write_all(b"9abc").await.unwrap();
        reading.read_exact(&mut bytes).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_read_while_something_waits_and_no_peer_is_waited_for_forever() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let (mut reading, mut writing, _flow) = split(ours, 1000, HEARING);
        let much = vec![b'x'; 20_000];
        let mut written = Box::pin(async { writing.write_all(&much).await });
        assert!(poll_immediate(&mut written).await.is_none());
        theirs.write_all(b"1").await.unwrap();
        let mut byte = [0; 1];
        let mut read = Box::pin(async { reading.read_exact(&mut byte).await });
        assert!(poll_immediate(&mut read).await.is_none());
        // It reads, and is read from.
        let mut heard = vec![0; 64];
        while poll_immediate(&mut written).await.is_none() {
            assert!(theirs.read(&mut heard).await.unwrap() > 0);
        }
        drop(written);
        read.await.unwrap();
        let error = writing.write_all(&much).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
