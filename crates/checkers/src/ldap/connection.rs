//! One connection to one server, one operation at a time.

use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use countersign::Secret;
use ldap3::exop::Exop;
use ldap3::{LdapConnAsync, LdapConnSettings, SearchOptions, StdStream};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::address::Address;
use super::answer::{Entry, Found, Outcome, policy_please};
use super::guard::Malformed;
use super::relay::{Rest, Severed, Stream, relay};

const START_TLS: &str = "1.3.6.1.4.1.1466.20037";

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
    Wire(#[from] Malformed),
    #[error("the server sent more entries than were asked for")]
    TooMany,
    #[error("{0}")]
    Library(ldap3::LdapError),
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

pub(super) struct Connection {
    ldap: ldap3::Ldap,
    /// The library at work. If it panics over what a server sent, this connection ends and nothing else.
    driver: Task<Result<(), ldap3::LdapError>>,
    relay: Task<Result<Rest, Severed>>,
    /// When it was last of use.
    pub(super) used: Instant,
}

/// A task that ends with whoever owns it.
struct Task<T>(JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How to be safe on the way.
#[derive(Clone, Debug)]
pub(super) struct Protection {
    pub(super) tls: Arc<ClientConfig>,
    pub(super) start_tls: bool,
}

/// A search, without its filter. Aliases are not followed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Search<'a> {
    /// Where.
    pub(super) base: &'a str,
    /// How deep.
    pub(super) scope: ldap3::Scope,
    /// How many entries at most; the server says when there are more.
    pub(super) size_limit: u16,
    /// How long the server may take.
    pub(super) seconds: u16,
    /// What to tell of each entry.
    pub(super) attributes: &'a [&'a str],
}

impl Connection {
    pub(super) async fn open(address: &Address, protection: &Protection) -> Result<Self, Broken> {
        let (host, port, tls) = match address {
            Address::Local(path) => {
                let stream = UnixStream::connect(path).await.map_err(Broken::Connect)?;
                return Self::over(Box::new(stream)).await;
            }
            Address::Net { host, port, tls } => (host.as_str(), *port, *tls),
        };
        let stream = TcpStream::connect((host, port)).await.map_err(Broken::Connect)?;
        // Without it, the second half of a request may wait for the server's leisure.
        stream.set_nodelay(true).map_err(Broken::Connect)?;
        let mut stream: Box<dyn Stream> = Box::new(stream);
        if !tls && !protection.start_tls {
            return Self::over(stream).await;
        }
        if !tls {
            stream = Self::over(stream).await?.start_tls().await?;
        }
        let invalid = |error| Broken::Tls(io::Error::new(io::ErrorKind::InvalidInput, error));
        let name = ServerName::try_from(host.to_owned()).map_err(invalid)?;
        let connector = TlsConnector::from(Arc::clone(&protection.tls));
        let stream = connector.connect(name, stream).await.map_err(Broken::Tls)?;
        Self::over(Box::new(stream)).await
    }

    /// The library gets one end of a pair of sockets, and a relay the other and the stream.
    async fn over(stream: Box<dyn Stream>) -> Result<Self, Broken> {
        let (ours, theirs) = UnixStream::pair().map_err(Broken::Connect)?;
        let theirs = StdStream::Unix(theirs.into_std().map_err(Broken::Connect)?);
        let settings = LdapConnSettings::new().set_std_stream(theirs);
        let made = LdapConnAsync::with_settings(settings, "ldapi:///").await;
        let (connection, ldap) = made.map_err(Broken::Library)?;
        let driver = Task(tokio::spawn(connection.drive()));
        let relay = Task(tokio::spawn(relay(stream, ours)));
        Ok(Self { ldap, driver, relay, used: Instant::now() })
    }

    async fn start_tls(mut self) -> Result<Box<dyn Stream>, Broken> {
        let exop = Exop { name: Some(START_TLS.to_owned()), val: None };
        let answer = caught(self.ldap.extended(exop)).await;
        let outcome = Outcome::read(self.told(answer).await?.1)?;
        if outcome.code != 0 {
            return Err(Broken::StartTls(outcome.code, outcome.text));
        }
        let Self { ldap, driver, mut relay, .. } = self;
        // The library lets go of its end, whereupon the relay gives back the stream.
        drop((ldap, driver));
        let rest = match (&mut relay.0).await {
            Ok(rest) => rest.map_err(severed)?,
            Err(_) => return Err(Broken::Ended),
        };
        // What came in clear text must not be taken for something that TLS protected.
        if rest.answers == 1 && rest.unread == 0 { Ok(rest.stream) } else { Err(Broken::Injected) }
    }

    /// A simple bind. The password is to be UTF-8, as RFC 4513 §5.1.3 has it.
    pub(super) async fn bind(&mut self, dn: &str, password: &Secret) -> Result<Outcome, Broken> {
        let Ok(password) = std::str::from_utf8(password.expose()) else {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "a password that is no UTF-8");
            return Err(Broken::Io(error));
        };
        let bind = self.ldap.with_controls(policy_please()).simple_bind(dn, password);
        let answer = caught(bind).await;
        unless_busy(Outcome::read(self.told(answer).await?)?)
    }

    pub(super) async fn search(
        &mut self,
        search: &Search<'_>,
        filter: &str,
    ) -> Result<Found, Broken> {
        let options = SearchOptions::new()
            .sizelimit(search.size_limit.into())
            .timelimit(search.seconds.into());
        let ldap = self.ldap.with_search_options(options);
        let attributes = search.attributes;
        let asked = caught(ldap.streaming_search(search.base, search.scope, filter, attributes));
        let asked = asked.await;
        let mut answers = self.told(asked).await?;
        let mut found = Found::default();
        loop {
            let next = async {
                Ok(match answers.next().await? {
                    None => Next::Done,
                    Some(entry) if entry.is_ref() => Next::Reference,
                    Some(entry) if entry.is_intermediate() => Next::Nothing,
                    Some(entry) => Next::Entry(Entry::read(entry)),
                })
            };
            let next = caught(next).await;
            match self.told(next).await? {
                Next::Entry(entry) => {
                    found.entries.push(entry);
                    if found.entries.len() > usize::from(search.size_limit) {
                        return Err(Broken::TooMany);
                    }
                }
                Next::Reference => found.references += 1,
                Next::Nothing => {}
                Next::Done => {
                    found.outcome = unless_busy(Outcome::read(answers.finish().await)?)?;
                    return Ok(found);
                }
            }
        }
    }

    /// What the library answered; or why it cannot, which those know who were at work for it.
    async fn told<T>(&mut self, answer: Option<Result<T, ldap3::LdapError>>) -> Result<T, Broken> {
        use ldap3::LdapError as Error;
        match answer {
            Some(Ok(answer)) => return Ok(answer),
            None => return Err(Malformed::Unreadable.into()),
            // The driver has ended.
            Some(Err(Error::OpSend { .. } | Error::ResultRecv { .. } | Error::EndOfStream)) => {}
            Some(Err(error)) => return Err(Broken::Library(error)),
        }
        let driven = (&mut self.driver.0).await;
        if driven.is_err_and(|error| error.is_panic()) {
            return Err(Malformed::Unreadable.into());
        }
        match (&mut self.relay.0).await {
            Ok(Err(why)) => Err(severed(why)),
            // Nothing is wrong with the way, so the library ended for what came on it.
            Ok(Ok(_)) => Err(Malformed::Unreadable.into()),
            Err(_) => Err(Broken::Ended),
        }
    }

    /// Says farewell, as far as that goes without waiting.
    pub(super) async fn close(mut self) {
        let farewell = async {
            let _ = self.ldap.unbind().await;
            let _ = (&mut self.relay.0).await;
        };
        let _ = tokio::time::timeout(Duration::from_millis(100), farewell).await;
    }
}

enum Next {
    Entry(Entry),
    Reference,
    Nothing,
    Done,
}

/// Runs the library's code. Nothing where it panicked over what a server sent.
pub(super) async fn caught<T>(work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(|context| {
        // The connection is given up then, and with it whatever was left half done.
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
            Ok(Poll::Ready(done)) => Poll::Ready(Some(done)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(_) => Poll::Ready(None),
        }
    })
    .await
}

fn severed(why: Severed) -> Broken {
    match why {
        Severed::Io(error) => Broken::Io(error),
        Severed::Ended => Broken::Ended,
        Severed::Malformed(error) => Broken::Wire(error),
    }
}

/// busy and unavailable are about the server, and another may be better.
fn unless_busy(outcome: Outcome) -> Result<Outcome, Broken> {
    match outcome.code {
        51 | 52 => Err(Broken::Busy(outcome.code, outcome.text)),
        _ => Ok(outcome),
    }
}
