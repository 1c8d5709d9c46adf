//! A connection as the RPC library takes it.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The client's end of a connection, with the traits of `futures`, until it is unplugged.
pub(crate) struct Plug<S>(pub(crate) Rc<RefCell<Option<S>>>);

impl<S> Plug<S> {
    pub(crate) fn of(stream: S) -> Self {
        Self(Rc::new(RefCell::new(Some(stream))))
    }

    /// Both halves are this one.
    pub(crate) fn twin(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<S: Unpin> Plug<S> {
    fn poll<T>(
        &self,
        poll: impl FnOnce(Pin<&mut S>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut *self.0.borrow_mut() {
            Some(stream) => poll(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

impl<S: AsyncRead + Unpin> futures_io::AsyncRead for Plug<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut room = ReadBuf::new(bytes);
        let read = self.poll(|stream| stream.poll_read(context, &mut room));
        read.map_ok(|()| room.filled().len())
    }
}

impl<S: AsyncWrite + Unpin> futures_io::AsyncWrite for Plug<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll(|stream| stream.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_flush(context))
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_shutdown(context))
    }
}
