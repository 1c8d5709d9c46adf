//! Requests of our own to others, such as an issuer of tokens or a collector of traces: over TLS with aws-lc-rs, to
//! the address that is configured and to no other.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// A client that trusts the authorities in the file `ca`, or those of the system. `timeout`: of a whole
/// request.
///
/// # Errors
///
/// What is wrong with the file.
pub fn client(ca: Option<&Path>, timeout: Duration) -> Result<reqwest::Client, String> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(trust(ca)?)
        .timeout(timeout)
        .connect_timeout(timeout)
        // Addresses are where they say. Followed, they could lead into the own network.
        .redirect(Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(2)
        .build()
        .map_err(|error| error.to_string())
}

fn trust(ca: Option<&Path>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let bad = |error: &dyn fmt::Display| format!("{}: {error}", path.display());
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| bad(&error))? {
                let certificate = certificate.map_err(|error| bad(&error))?;
                roots.add(certificate).map_err(|error| bad(&error))?;
            }
            if roots.is_empty() {
                return Err(bad(&"there is no certificate in it; it is to be PEM"));
            }
        }
        // A system without any trusts nobody; the error of a request then names the certificate.
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// An error with its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}
