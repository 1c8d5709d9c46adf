//! TLS of a server: a certificate with its key, the server's side of the handshake, the channel bindings that tie a
//! login to the connection that it is on, and certificates of clients.
//!
//! ```no_run
//! # async fn example(stream: tokio::net::TcpStream) -> Result<(), Box<dyn std::error::Error>> {
//! use countersign_tls::{Pair, TlsFiles};
//!
//! let files = TlsFiles { certificate: "chain.pem".into(), key: "key.pem".into() };
//! let pair = Pair::read(&files, &[])?;
//! // For `Peer::more`, beside `Transport::Tls`.
//! let (stream, channel_bindings) = pair.accept(stream).await?;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod certificate;
mod client;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ProtocolVersion, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::certificate::Certificate;

pub use client::ClientCertificate;

/// From the connection to the end of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What protects a connection, by the name of the channel binding (RFC 5929, RFC 9266), for mechanisms that bind
/// to it.
pub type Bindings = Arc<BTreeMap<&'static str, Vec<u8>>>;

/// Where a certificate and its key are: PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and after it those that lead to a root.
    pub certificate: PathBuf,
    /// Its private key: PKCS #8, PKCS #1 or SEC 1, not encrypted.
    pub key: PathBuf,
}

/// A certificate and its key, ready to serve with.
pub struct Pair {
    config: Arc<ServerConfig>,
    certificate: Certificate,
    /// The hash of the certificate (RFC 5929, section 4), if its signature has one.
    end_point: Option<Vec<u8>>,
}

/// Why there is no certificate to serve with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError {
    path: PathBuf,
    what: String,
}

impl Pair {
    /// Reads a certificate and its key, for protocols of these names (RFC 7301), the first of them first; none: no
    /// name is agreed on.
    ///
    /// # Errors
    ///
    /// Which file is wrong, and what is.
    pub fn read(files: &TlsFiles, protocols: &[&[u8]]) -> Result<Self, TlsError> {
        Self::made(files, protocols, None)
    }

    /// The same, for clients that may show a certificate which one of `authorities` (a PEM file) vouches for, and
    /// need not: see [`ClientCertificate::of`]. One that nobody vouches for ends the handshake. Nothing asks
    /// whether one was revoked.
    ///
    /// # Errors
    ///
    /// As [`Pair::read`].
    pub fn read_for_clients(
        files: &TlsFiles,
        protocols: &[&[u8]],
        authorities: &Path,
    ) -> Result<Self, TlsError> {
        Self::made(files, protocols, Some(authorities))
    }

    fn made(
        files: &TlsFiles,
        protocols: &[&[u8]],
        authorities: Option<&Path>,
    ) -> Result<Self, TlsError> {
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
        let clients = match authorities {
            Some(path) => client::verifier(path, &provider)?,
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let resolver: Arc<dyn ResolvesServerCert> = Arc::new(SingleCertAndKey::from(certified));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| fail(&files.certificate, error.to_string()))?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(resolver);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Self { config: Arc::new(config), certificate, end_point })
    }

    /// From when and until when the certificate is valid, in seconds since 1970.
    pub fn validity(&self) -> (i64, i64) {
        (self.certificate.not_before, self.certificate.not_after)
    }

    /// The server's side of a handshake, within ten seconds.
    ///
    /// # Errors
    ///
    /// When the peer speaks no TLS, none of ours, or too slowly.
    pub async fn accept<S>(&self, stream: S) -> std::io::Result<(TlsStream<S>, Bindings)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.config));
        let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await??;
        let bindings = self.bindings(&stream);
        Ok((stream, bindings))
    }

    fn bindings<S>(&self, stream: &TlsStream<S>) -> Bindings {
        let mut bindings = BTreeMap::new();
        let (_, connection) = stream.get_ref();
        // Of TLS 1.3 only: before it, the exporter is unique with an extension that not every client has
        // (RFC 9266, section 2).
        if connection.protocol_version() == Some(ProtocolVersion::TLSv1_3)
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

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("validity", &self.validity()).finish_non_exhaustive()
    }
}
