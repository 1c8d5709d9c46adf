//! Requests for keys: over TLS or on this machine, within limits.

use std::path::Path;
use std::time::Duration;

use super::JwtError;
use crate::outgoing;

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
        let client = outgoing::client(ca, timeout);
        let client = client.map_err(|what| JwtError { key: "ca", what })?;
        Ok(Self(client))
    }

    /// What is at the address, or why it cannot be had.
    pub(super) async fn fetch(&self, address: &str) -> Result<Vec<u8>, String> {
        let failed = |error: reqwest::Error| outgoing::chain(&error.without_url());
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
