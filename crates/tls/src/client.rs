//! Certificates of clients: who vouches for them, and whom they are for.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use tokio_rustls::server::TlsStream;

use crate::certificate::common_name;
use crate::{TlsError, certificates};

/// A certificate that a client has shown, and that was verified in the handshake.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The chain in DER, the client's own first: for `Facts::certificates`.
    pub chain: Vec<Arc<[u8]>>,
    /// The common name of whom it is for, if it has one and no more: for `Facts::external`, where the mechanism
    /// EXTERNAL finds it. Mail servers take that for the user, too.
    pub name: Option<Arc<str>>,
}

impl ClientCertificate {
    /// The certificate that this client has shown; `None`: it has shown none.
    pub fn of<S>(stream: &TlsStream<S>) -> Option<Self> {
        let (_, connection) = stream.get_ref();
        let shown = connection.peer_certificates()?;
        let chain = shown.iter().map(|certificate| Arc::from(&**certificate)).collect();
        Some(Self { chain, name: common_name(shown.first()?).map(Into::into) })
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Takes what one of these authorities vouches for, and clients that show nothing.
pub(crate) fn verifier(
    path: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let fail = |what: String| TlsError { path: path.to_owned(), what };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| fail(error.to_string()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .allow_unauthenticated()
        .build()
        .map_err(|error| fail(error.to_string()))
}
