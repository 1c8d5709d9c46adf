//! The way between a server and the library, on which everything is looked at before the library has it.

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::select;
use zeroize::{Zeroize, Zeroizing};

use super::guard::{Malformed, whole};

/// The most bytes that one request may be answered with.
const ANSWER_LIMIT: usize = 8 << 20;
const READ: usize = 16 << 10;

/// A connection to a server, encrypted or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> Stream for T {}

/// Why there is no more way to a server.
#[derive(Debug, Error)]
pub(super) enum Severed {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("the server ended the connection")]
    Ended,
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// What is left when the library has gone.
pub(super) struct Rest {
    pub(super) stream: Box<dyn Stream>,
    /// How many messages came since the last request.
    pub(super) answers: usize,
    /// How many bytes came that are no whole message yet.
    pub(super) unread: usize,
}

/// Passes on what either side says until the library closes its end.
///
/// # Errors
/// What the server did. The library sees the end of its stream then.
pub(super) async fn relay(
    mut stream: Box<dyn Stream>,
    mut library: UnixStream,
) -> Result<Rest, Severed> {
    // Requests have passwords in them.
    let mut request = Zeroizing::new(vec![0; READ]);
    let mut unread = Vec::new();
    let (mut answers, mut left) = (0, ANSWER_LIMIT);
    loop {
        select! {
            read = library.read(&mut request) => match read {
                Ok(0) | Err(_) => return Ok(Rest { stream, answers, unread: unread.len() }),
                Ok(length) => {
                    (answers, left) = (0, ANSWER_LIMIT);
                    stream.write_all(&request[..length]).await?;
                    stream.flush().await?;
                    request[..length].zeroize();
                }
            },
            read = stream.read_buf(&mut unread) => {
                let length = read?;
                if length == 0 {
                    return Err(Severed::Ended);
                }
                left = left.checked_sub(length).ok_or(Malformed::TooLong(ANSWER_LIMIT))?;
                let mut passed = 0;
                while let Some(length) = whole(&unread[passed..])? {
                    passed += length;
                    answers += 1;
                }
                // Where the library is gone, the next read of it says so.
                let _ = library.write_all(&unread[..passed]).await;
                unread.drain(..passed);
            }
        }
    }
}
