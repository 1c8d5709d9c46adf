//! Requests for keys: over TLS or on this machine, within limits.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::JwtError;

/// No set of keys is longer, in bytes.
const REPLY_BYTES: usize = 1024 * 1024;

pub(super) struct Fetcher(reqwest::Client);

impl Fetcher {
    pub(super) fn new(
        address: &str,
        ca: Option<&Path>,
        timeout: Duration,
    ) -> Result<Self, JwtError> {
        check_address(address)?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(trust(ca)?)
            .timeout(timeout)
            .connect_timeout(timeout)
            // Keys are where the operator says. Followed, an address could lead anywhere.
            .redirect(Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(1)
            .build()
            .map_err(|error| JwtError { key: "ca", what: error.to_string() })?;
        Ok(Self(client))
    }

    /// What is at the address, or why it cannot be had.
    pub(super) async fn fetch(&self, address: &str) -> Result<Vec<u8>, String> {
        let failed = |error: reqwest::Error| chain(&error.without_url());
        let mut reply = self.0.get(address).send().await.map_err(failed)?;
        if reply.status() != reqwest::StatusCode::OK {
            return Err(format!("the reply is {}", reply.status()));
        }
        let mut body = Vec::new();
        while let Some(piece) = reply.chunk().await.map_err(failed)? {
            if body.len() + piece.len() > REPLY_BYTES {
                return Err(format!("the reply is longer than {REPLY_BYTES} bytes"));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }
}

/// `https`, or `http` on this machine.
fn check_address(address: &str) -> Result<(), JwtError> {
    let wrong = |why: &str| Err(JwtError { key: "keys", what: format!("`{address}` {why}") });
    let Ok(url) = reqwest::Url::parse(address) else { return wrong("is no address") };
    let here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    match url.scheme() {
        "https" => Ok(()),
        "http" if here => Ok(()),
        _ => wrong("must begin with `https://` (or `http://` on this machine)"),
    }
}

fn trust(ca: Option<&Path>) -> Result<ClientConfig, JwtError> {
    let mut roots = RootCertStore::empty();
    let wrong = |what: String| JwtError { key: "ca", what };
    match ca {
        Some(path) => {
            let bad = |error: &dyn fmt::Display| wrong(format!("{}: {error}", path.display()));
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| bad(&error))? {
                let certificate = certificate.map_err(|error| bad(&error))?;
                roots.add(certificate).map_err(|error| bad(&error))?;
            }
            if roots.is_empty() {
                return Err(bad(&"there is no certificate in it; it is to be PEM"));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_https_but_on_this_machine() {
        for good in ["https://id.example.com/jwks", "http://127.0.0.1:8080/jwks", "http://[::1]/"] {
            check_address(good).unwrap();
        }
        for bad in ["", "id.example.com", "http://id.example.com/jwks", "file:///etc/passwd"] {
            let error = check_address(bad).unwrap_err().to_string();
            assert!(error.starts_with("`keys`: "), "{error}");
        }
    }
}
