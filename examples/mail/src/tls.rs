//! TLS of the example: a certificate and its key, and what ties a login to the connection that it is on.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ProtocolVersion, ServerConfig};
use sha2::{Digest, Sha256, Sha384, Sha512};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::wire::Stream;

/// From the beginning to the end of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What protects a connection, by the name of the channel binding (RFC 5929, RFC 9266).
pub type Bindings = Arc<BTreeMap<&'static str, Vec<u8>>>;

/// TLS of a server.
pub struct Tls {
    acceptor: TlsAcceptor,
    /// The hash of the certificate (RFC 5929, section 4), if its signature has one.
    end_point: Option<Vec<u8>>,
}

impl Tls {
    /// Loads a certificate chain and its key, PEM files.
    ///
    /// # Errors
    ///
    /// A sentence that names the file.
    pub fn load(chain: &Path, key: &Path) -> Result<Self, String> {
        let say = |path: &Path, what: &dyn fmt::Display| format!("{}: {what}", path.display());
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(chain)
            .and_then(Iterator::collect)
            .map_err(|error| say(chain, &error))?;
        let Some(leaf) = certificates.first() else {
            return Err(say(chain, &"it holds no certificate (`-----BEGIN CERTIFICATE-----`)"));
        };
        let end_point = end_point(leaf);
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| say(key, &error))?;
        // Given explicitly: a default of the whole process is whoever's was first.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| say(chain, &error))?
            .with_no_client_auth()
            .with_single_cert(certificates, private)
            .map_err(|error| say(key, &error))?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), end_point })
    }

    /// The server's side of a handshake, within a deadline.
    ///
    /// # Errors
    ///
    /// When the peer speaks no TLS, none of ours, or too slowly.
    pub async fn accept<S: Stream>(&self, stream: S) -> io::Result<(TlsStream<S>, Bindings)> {
        let stream = timeout(HANDSHAKE, self.acceptor.accept(stream)).await??;
        let mut bindings = BTreeMap::new();
        let (_, connection) = stream.get_ref();
        // Of TLS 1.3 only: before it, the exporter is unique with an extension that not every client has
        // (RFC 9266, section 2).
        if connection.protocol_version() == Some(ProtocolVersion::TLSv1_3) {
            let material =
                connection.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", None);
            bindings.extend(material.ok().map(|material| ("tls-exporter", material.to_vec())));
        }
        bindings.extend(self.end_point.clone().map(|hash| ("tls-server-end-point", hash)));
        Ok((stream, Arc::new(bindings)))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// The hash of a certificate by the function of its own signature; MD5 and SHA-1 count as SHA-256 (RFC 5929,
/// section 4.1). Signatures whose name tells of none (Ed25519, RSASSA-PSS) give none.
fn end_point(der: &[u8]) -> Option<Vec<u8>> {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1];
    const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3];
    const SEQUENCE: u8 = 0x30;
    const OID: u8 = 0x06;
    // Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signatureValue } (RFC 5280, section 4.1)
    let (certificate, _) = element(der, SEQUENCE)?;
    let (_signed, rest) = element(certificate, SEQUENCE)?;
    let (algorithm, _) = element(rest, SEQUENCE)?;
    let (oid, _) = element(algorithm, OID)?;
    let (last, family) = oid.split_last()?;
    Some(match (family, last) {
        (RSA, 4 | 5 | 11) | (ECDSA, 2) => Sha256::digest(der).to_vec(),
        (RSA, 12) | (ECDSA, 3) => Sha384::digest(der).to_vec(),
        (RSA, 13) | (ECDSA, 4) => Sha512::digest(der).to_vec(),
        _ => return None,
    })
}

/// The content of the first element, if it has this tag, and what follows it (X.690, definite lengths).
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    (*found == tag).then_some(())?;
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_point_is_the_hash_of_a_certificate_and_of_nothing_else() {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let der = made.cert.der();
        assert_eq!(end_point(der), Some(Sha256::digest(der).to_vec()));
        for length in 0..60 {
            assert_eq!(end_point(&der[..length]), None);
        }
        assert_eq!(end_point(&[0x30; 200]), None);
    }

    #[test]
    fn what_is_wrong_names_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty.pem");
        std::fs::write(&empty, "").unwrap();
        let error = Tls::load(&empty, &empty).unwrap_err();
        assert!(error.contains("empty.pem") && error.contains("BEGIN CERTIFICATE"), "{error}");
    }
}
