//! Requests to a provider: over TLS, within limits, and to nobody else.

use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use openidconnect::{HttpRequest, HttpResponse};
use reqwest::redirect::Policy;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// No reply of a provider is longer, in bytes.
const REPLY_BYTES: usize = 1024 * 1024;

/// What is wrong with a provider's options.
#[derive(Debug)]
pub struct OidcError {
    /// Which option.
    pub option: &'static str,
    /// What is wrong with it, and what to do.
    pub why: String,
}

/// Makes requests. Cheap to clone.
#[derive(Clone)]
pub(super) struct Fetcher(reqwest::Client);

/// A request under way.
pub(super) type Reply = Pin<Box<dyn Future<Output = Result<HttpResponse, FetchError>> + Send>>;

/// Why a request came to nothing.
#[derive(Debug)]
pub(super) enum FetchError {
    Request(reqwest::Error),
    TooLong,
    Reply(openidconnect::http::Error),
}

impl Fetcher {
    pub(super) fn new(ca: Option<&Path>, timeout: Duration) -> Result<Self, OidcError> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(trust(ca)?)
            .timeout(timeout)
            .connect_timeout(timeout)
            // A provider's addresses are where they say. Followed, they could lead into the own network.
            .redirect(Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(2)
            .build()
            .map_err(|error| OidcError { option: "ca", why: error.to_string() })?;
        Ok(Self(client))
    }

    /// As the library wants it: each request owns what it needs.
    pub(super) fn requests(&self) -> impl Fn(HttpRequest) -> Reply + use<> {
        let fetcher = self.clone();
        move |request| {
            let fetcher = fetcher.clone();
            Box::pin(async move { fetcher.fetch(request).await })
        }
    }

    async fn fetch(&self, request: HttpRequest) -> Result<HttpResponse, FetchError> {
        let request = request.try_into().map_err(FetchError::Request)?;
        let mut reply = self.0.execute(request).await.map_err(FetchError::Request)?;
        let mut head = openidconnect::http::Response::builder().status(reply.status());
        for (name, value) in reply.headers() {
            head = head.header(name, value);
        }
        let mut body = Vec::new();
        while let Some(piece) = reply.chunk().await.map_err(FetchError::Request)? {
            if body.len() + piece.len() > REPLY_BYTES {
                return Err(FetchError::TooLong);
            }
            body.extend_from_slice(&piece);
        }
        head.body(body).map_err(FetchError::Reply)
    }
}

/// An address of a provider or of ours: `https`, or `http` on this machine.
pub(super) fn check_address(option: &'static str, address: &str) -> Result<(), OidcError> {
    let wrong = |why: &str| Err(OidcError { option, why: format!("`{address}` {why}") });
    let Ok(url) = reqwest::Url::parse(address) else { return wrong("is no address") };
    let here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    match url.scheme() {
        "https" => Ok(()),
        "http" if here => Ok(()),
        _ => wrong("must begin with `https://` (or `http://` on this machine)"),
    }
}

fn trust(ca: Option<&Path>) -> Result<ClientConfig, OidcError> {
    let mut roots = RootCertStore::empty();
    let wrong = |why: String| OidcError { option: "ca", why };
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
        // A system without any trusts no provider; the error then names the certificate.
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

impl fmt::Display for OidcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.option, self.why)
    }
}

impl std::error::Error for OidcError {}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(_) => f.write_str("the request"),
            Self::TooLong => write!(f, "the reply is longer than {REPLY_BYTES} bytes"),
            Self::Reply(_) => f.write_str("the reply"),
        }
    }
}

impl std::error::Error for FetchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Request(error) => Some(error),
            Self::Reply(error) => Some(error),
            Self::TooLong => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_https_but_on_this_machine() {
        for good in ["https://id.example.com/realms/x", "http://127.0.0.1:8080", "http://localhost"]
        {
            check_address("issuer", good).unwrap();
        }
        for bad in ["", "id.example.com", "http://id.example.com", "ftp://x", "javascript:x"] {
            let error = check_address("issuer", bad).unwrap_err().to_string();
            assert!(error.starts_with("issuer: "), "{error}");
        }
    }
}
