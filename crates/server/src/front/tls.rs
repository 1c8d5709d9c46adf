//! TLS of a listener: its certificate and key, read from files and read again when they change.
//!
//! A server outlives its certificates. [`Tls::look`] notices that the files changed and loads them, and a
//! pair that cannot be used (half written, of two different keys) leaves the one in use where it is. Every
//! connection takes what is current when it comes; one under way keeps what it began with.

mod certificate;

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use countersign::World;
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ResolvesServerCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use self::certificate::Certificate;
use super::Stop;
use crate::world::SystemWorld;

/// How often the files are looked at. A change counts when two looks have seen the same.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// From the connection to the end of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A certificate that ends within this is told at the start, in seconds.
const SOON: i64 = 7 * 24 * 3600;

/// What protects a connection, for mechanisms that bind to it.
pub type Bindings = Arc<BTreeMap<&'static str, Vec<u8>>>;

/// Where a certificate and its key are: PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and after it those that lead to a root.
    pub certificate: PathBuf,
    /// Its private key: PKCS #8, PKCS #1 or SEC 1, not encrypted.
    pub key: PathBuf,
}

/// TLS of one listener.
pub struct Tls {
    files: TlsFiles,
    current: ArcSwap<Loaded>,
    looked: Mutex<Looked>,
}

/// Why there is no certificate to serve with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError {
    path: PathBuf,
    what: String,
}

struct Loaded {
    config: Arc<ServerConfig>,
    certificate: Certificate,
    /// The hash of the certificate (RFC 5929, section 4), if its signature has one.
    end_point: Option<Vec<u8>>,
}

/// What the files looked like when they were loaded, and at the last look.
struct Looked {
    loaded: [Option<Stamp>; 2],
    last: [Option<Stamp>; 2],
}

/// Tells a file from another one that took its place.
type Stamp = (u64, u64, i64, i64, u64);

impl Tls {
    /// Loads a certificate and its key.
    ///
    /// # Errors
    ///
    /// Which file is wrong, and what is.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let stamps = files.stamps();
        let current = ArcSwap::from_pointee(Loaded::read(&files)?);
        let looked = Mutex::new(Looked { loaded: stamps, last: stamps });
        Ok(Self { files, current, looked })
    }

    /// Loads the files again, as an operator asks for it. The certificate in use stays if they are wrong.
    ///
    /// # Errors
    ///
    /// As [`Tls::load`].
    pub fn reload(&self) -> Result<(), TlsError> {
        let stamps = self.files.stamps();
        let loaded = Loaded::read(&self.files);
        // Also of what is wrong: it is told once.
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) =
            Looked { loaded: stamps, last: stamps };
        self.current.store(Arc::new(loaded?));
        Ok(())
    }

    /// Loads the files again if they have changed and are not being changed right now: this look saw what
    /// the one before saw. `None`: nothing to do.
    pub fn look(&self) -> Option<Result<(), TlsError>> {
        let stamps = self.files.stamps();
        {
            let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
            let settled = std::mem::replace(&mut looked.last, stamps) == stamps;
            if !settled || looked.loaded == stamps {
                return None;
            }
        }
        Some(self.reload())
    }

    /// What there is to say about the certificate in use, for a log: until when it is good, and whether it
    /// is good at `now` (seconds since 1970).
    pub fn validity(&self, now: i64) -> Result<String, String> {
        let Loaded { certificate, .. } = &**self.current.load();
        let (begin, end) = (certificate.not_before, certificate.not_after);
        let day = |second| match jiff::Timestamp::from_second(second) {
            Ok(time) => time.to_string(),
            Err(_) => second.to_string(),
        };
        let path = self.files.certificate.display();
        match () {
            () if end < now => Err(format!("{path} expired at {}: clients refuse it", day(end))),
            () if begin > now => Err(format!("{path} is not valid before {}", day(begin))),
            () if end < now + SOON => Err(format!("{path} expires soon, at {}", day(end))),
            () => Ok(format!("{path} is valid until {}", day(end))),
        }
    }

    /// Where the files are.
    pub fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// The server's side of a handshake, within a deadline.
    ///
    /// # Errors
    ///
    /// When the peer speaks no TLS, none of ours, or too slowly.
    pub async fn accept<S>(&self, stream: S) -> std::io::Result<(TlsStream<S>, Bindings)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let loaded = self.current.load_full();
        let acceptor = TlsAcceptor::from(Arc::clone(&loaded.config));
        let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await??;
        let bindings = loaded.bindings(&stream);
        Ok((stream, bindings))
    }
}

/// Looks at the files of all listeners until a stop. What is wrong is told once, and the old certificate
/// goes on.
pub async fn watch(all: Vec<Arc<Tls>>, world: SystemWorld, mut stop: Stop) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let all: Arc<[_]> = all.into();
    loop {
        tokio::select! {
            biased;
            () = stop.requested() => return,
            _ = ticks.tick() => {}
        }
        let all = Arc::clone(&all);
        // Files may be on something slow.
        let looked = tokio::task::spawn_blocking(move || {
            for tls in all.iter() {
                if let Some(result) = tls.look() {
                    tls.tell(result, world.now().unix);
                }
            }
        });
        let _ = looked.await;
    }
}

impl Tls {
    /// Says in the log what a reload came to.
    pub fn tell(&self, result: Result<(), TlsError>, now: i64) {
        match result.map(|()| self.validity(now)) {
            Ok(Ok(said)) => tracing::info!("certificate replaced: {said}"),
            Ok(Err(said)) => tracing::warn!("certificate replaced: {said}"),
            Err(error) => {
                tracing::error!("the new certificate is not used, the old one goes on: {error}");
            }
        }
    }
}

impl TlsFiles {
    fn stamps(&self) -> [Option<Stamp>; 2] {
        [&self.certificate, &self.key].map(|path| {
            let found = std::fs::metadata(path).ok()?;
            let changed = (found.mtime(), found.mtime_nsec());
            Some((found.dev(), found.ino(), changed.0, changed.1, found.size()))
        })
    }
}

impl Loaded {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let chain = certificates(&files.certificate)?;
        let fail = |path: &Path, what: String| TlsError { path: path.to_owned(), what };
        let certificate =
            chain.first().and_then(|leaf| Certificate::read(leaf)).ok_or_else(|| {
                fail(&files.certificate, "its first certificate cannot be read".into())
            })?;
        let end_point = chain.first().and_then(|leaf| certificate.hash(leaf));
        let key = private_key(&files.key)?;
        // Given explicitly: a default of the whole process is whoever's was first.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let certified = CertifiedKey::from_der(chain, key, &provider);
        let certified = certified.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                let certificate = files.certificate.display();
                fail(&files.key, format!("the key is not that of the certificate in {certificate}"))
            }
            error => fail(&files.key, format!("the key cannot be used: {error}")),
        })?;
        let resolver: Arc<dyn ResolvesServerCert> = Arc::new(SingleCertAndKey::from(certified));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| fail(&files.certificate, error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), certificate, end_point })
    }

    fn bindings<S>(&self, stream: &TlsStream<S>) -> Bindings {
        let mut bindings = BTreeMap::new();
        let (_, connection) = stream.get_ref();
        // Of TLS 1.3 only: before it, the exporter is unique with an extension that not every client has
        // (RFC 9266, section 2).
        if connection.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3)
            && let Ok(material) =
                connection.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", None)
        {
            bindings.insert("tls-exporter", material.to_vec());
        }
        if let Some(hash) = &self.end_point {
            bindings.insert("tls-server-end-point", hash.clone());
        }
        Arc::new(bindings)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let fail = |what: String| TlsError { path: path.to_owned(), what };
    let text = read(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.map_err(|error| fail(format!("it is damaged: {error}")))?;
    if chain.is_empty() {
        return Err(fail("it holds no certificate (`-----BEGIN CERTIFICATE-----`)".into()));
    }
    Ok(chain)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = zeroize::Zeroizing::new(read(path)?);
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let encrypted = text.windows(17).any(|part| part == b"ENCRYPTED PRIVATE");
        let what = match error {
            pem::Error::NoItemsFound if encrypted => {
                "the key is encrypted; give one without a passphrase, readable by this server alone"
                    .into()
            }
            pem::Error::NoItemsFound => {
                "it holds no private key (`-----BEGIN PRIVATE KEY-----`)".into()
            }
            error => format!("it is damaged: {error}"),
        };
        TlsError { path: path.to_owned(), what }
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| {
        let what = format!("it cannot be read: {error}");
        TlsError { path: path.to_owned(), what }
    })
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

impl std::error::Error for TlsError {}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
