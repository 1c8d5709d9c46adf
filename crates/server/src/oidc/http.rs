//! Requests to a provider: over TLS, within limits, and to nobody else.

use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use openidconnect::{HttpRequest, HttpResponse};

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
        let client = countersign_checkers::outgoing::client(ca, timeout);
        let client = client.map_err(|why| OidcError { option: "ca", why })?;
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
