//! One connection to one server, one operation at a time.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::Secret;
use countersign_wire::ldap::{
    Entry, FilterTemplate, Outcome, Response, Search, WireError, encode_bind, encode_start_tls,
    encode_unbind, frame,
};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::address::Address;

/// The most bytes that one message of a server may have.
const MESSAGE_LIMIT: usize = 1 << 20;
/// The most bytes that all entries of one search may have.
const SEARCH_LIMIT: usize = 8 << 20;

/// A connection that is of no use any more, or never came to be. The server may be.
#[derive(Debug, Error)]
pub(super) enum Broken {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error(
        "the server refuses StartTLS (result {0}: {1}); use ldaps, or give the server a certificate"
    )]
    StartTls(u32, String),
    #[error("the server sent more before TLS began than it may; somebody may have put it there")]
    Injected,
    #[error("{0}")]
    Io(io::Error),
    #[error("the server ended the connection")]
    Ended,
    #[error("{0}")]
    Wire(#[from] WireError),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("the server is busy (result {0}: {1})")]
    Busy(u32, String),
    #[error("cannot log in as `bind_dn` (result {0}: {1})")]
    Identity(u32, String),
}

impl Broken {
    /// Whether it may be only this connection: the server may have ended it long ago, for idleness or for a
    /// restart.
    pub(super) fn may_be_stale(&self) -> bool {
        matches!(self, Self::Io(_) | Self::Ended)
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> Stream for T {}

pub(super) struct Connection {
    stream: Box<dyn Stream>,
    unread: Vec<u8>,
    last_id: u32,
    /// When it was last of use.
    pub(super) used: Instant,
}

/// How to be safe on the way.
#[derive(Clone, Debug)]
pub(super) struct Protection {
    pub(super) tls: Arc<ClientConfig>,
    pub(super) start_tls: bool,
}

/// What a search found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) entries: Vec<Entry>,
    /// How often the server said that another knows more.
    pub(super) references: usize,
    pub(super) outcome: Outcome,
}

impl Connection {
    pub(super) async fn open(address: &Address, protection: &Protection) -> Result<Self, Broken> {
        let (host, port, tls) = match address {
            Address::Local(path) => {
                let stream = UnixStream::connect(path).await.map_err(Broken::Connect)?;
                return Ok(Self::over(Box::new(stream)));
            }
            Address::Net { host, port, tls } => (host.as_str(), *port, *tls),
        };
        let mut stream = TcpStream::connect((host, port)).await.map_err(Broken::Connect)?;
        // Without it, the second half of a request may wait for the server's leisure.
        stream.set_nodelay(true).map_err(Broken::Connect)?;
        if !tls && !protection.start_tls {
            return Ok(Self::over(Box::new(stream)));
        }
        if !tls {
            stream = start_tls(stream).await?;
        }
        let invalid = |error| Broken::Tls(io::Error::new(io::ErrorKind::InvalidInput, error));
        let name = ServerName::try_from(host.to_owned()).map_err(invalid)?;
        let connector = TlsConnector::from(Arc::clone(&protection.tls));
        let stream = connector.connect(name, stream).await.map_err(Broken::Tls)?;
        Ok(Self::over(Box::new(stream)))
    }

    fn over(stream: Box<dyn Stream>) -> Self {
        Self { stream, unread: Vec::new(), last_id: 0, used: Instant::now() }
    }

    fn next_id(&mut self) -> u32 {
        self.last_id = self.last_id % 0x7fff_ffff + 1;
        self.last_id
    }

    pub(super) async fn bind(&mut self, dn: &str, password: &Secret) -> Result<Outcome, Broken> {
        let id = self.next_id();
        let request = encode_bind(id, dn, password.expose());
        self.send(&request).await?;
        match self.receive(id).await?.0 {
            Response::Bind(outcome) => unless_busy(outcome),
            _ => Err(WireError::Unexpected("the answer to a bind").into()),
        }
    }

    pub(super) async fn search(
        &mut self,
        search: &Search<'_>,
        filter: &FilterTemplate,
        values: &[&[u8]],
    ) -> Result<Found, Broken> {
        let id = self.next_id();
        let mut request = Vec::new();
        search.encode(&mut request, id, filter, values);
        self.send(&request).await?;
        let mut found = Found::default();
        let mut left = SEARCH_LIMIT;
        loop {
            let (response, size) = self.receive(id).await?;
            left = left.checked_sub(size).ok_or(WireError::TooLong(SEARCH_LIMIT))?;
            match response {
                Response::Entry(entry) => {
                    found.entries.push(entry);
                    if found.entries.len() > search.size_limit as usize {
                        return Err(WireError::Unexpected("respect of the size limit").into());
                    }
                }
                Response::Reference => found.references += 1,
                Response::Done(outcome) => {
                    found.outcome = unless_busy(outcome)?;
                    return Ok(found);
                }
                _ => return Err(WireError::Unexpected("the answer to a search").into()),
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.stream.write_all(bytes).await.map_err(Broken::Io)?;
        self.stream.flush().await.map_err(Broken::Io)
    }

    async fn receive(&mut self, id: u32) -> Result<(Response, usize), Broken> {
        receive(&mut self.stream, &mut self.unread, id).await
    }

    /// Says farewell, as far as that goes without waiting.
    pub(super) async fn close(mut self) {
        let id = self.next_id();
        let mut bytes = Vec::new();
        encode_unbind(&mut bytes, id);
        let farewell = async {
            let _ = self.stream.write_all(&bytes).await;
            let _ = self.stream.shutdown().await;
        };
        let _ = tokio::time::timeout(Duration::from_millis(100), farewell).await;
    }
}

/// busy and unavailable are about the server, and another may be better.
fn unless_busy(outcome: Outcome) -> Result<Outcome, Broken> {
    match outcome.code {
        51 | 52 => Err(Broken::Busy(outcome.code, outcome.text)),
        _ => Ok(outcome),
    }
}

async fn receive(
    stream: &mut (impl AsyncRead + Unpin + ?Sized),
    unread: &mut Vec<u8>,
    id: u32,
) -> Result<(Response, usize), Broken> {
    loop {
        if let Some(length) = frame(unread, MESSAGE_LIMIT)?
            && unread.len() >= length
        {
            let (answered, response) = Response::parse(&unread[..length])?;
            unread.drain(..length);
            match (answered, response) {
                // The notice of disconnection (RFC 4511 §4.4.1).
                (0, _) => return Err(Broken::Ended),
                (answered, response) if answered == id => return Ok((response, length)),
                // One operation at a time: nothing else is under way that this could belong to.
                _ => return Err(WireError::Unexpected("the id of what was asked").into()),
            }
        }
        if stream.read_buf(unread).await.map_err(Broken::Io)? == 0 {
            return Err(Broken::Ended);
        }
    }
}

async fn start_tls(mut stream: TcpStream) -> Result<TcpStream, Broken> {
    let mut request = Vec::new();
    encode_start_tls(&mut request, 1);
    stream.write_all(&request).await.map_err(Broken::Io)?;
    let mut unread = Vec::new();
    match receive(&mut stream, &mut unread, 1).await?.0 {
        Response::Extended(outcome) if outcome.code == 0 => {}
        Response::Extended(outcome) => return Err(Broken::StartTls(outcome.code, outcome.text)),
        _ => return Err(WireError::Unexpected("the answer to StartTLS").into()),
    }
    // What came in clear text must not be taken for something that TLS protected.
    if unread.is_empty() { Ok(stream) } else { Err(Broken::Injected) }
}
