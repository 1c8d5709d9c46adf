//! Whether a form came from a page of ours, shown to this browser: what another site makes a browser send
//! changes nothing here (CSRF), a login under somebody else's name included.

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::Secret;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What a form is bound to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bound<'a> {
    /// The cookie of a browser that is not logged in.
    Before(&'a str),
    /// A session, by the hash of its token.
    Session(&'a str),
}

/// The token of a form: a MAC over what it is bound to, under the deployment's key, so that any node can
/// check what another has made.
pub(super) fn token(key: &Secret, bound: Bound<'_>) -> String {
    URL_SAFE_NO_PAD.encode(mac(key, bound).finalize().into_bytes())
}

/// Whether a form has the token of what it is bound to. In constant time.
pub(super) fn is_token(key: &Secret, bound: Bound<'_>, token: Option<&str>) -> bool {
    let bytes = token.and_then(|token| URL_SAFE_NO_PAD.decode(token).ok());
    bytes.is_some_and(|bytes| mac(key, bound).verify_slice(&bytes).is_ok())
}

/// Whether the browser says that the form was on a page of this very origin. `Sec-Fetch-Site` is a browser's
/// own word, which no page can set; older browsers have `Origin`. A page that keeps its address to itself
/// (`Referrer-Policy: no-referrer`, as ours do) has the origin `null`, and then the token decides alone.
pub(super) fn same_origin(headers: &HeaderMap, host: Option<&str>) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if let Some(site) = text("sec-fetch-site") {
        return site == "same-origin";
    }
    match text(header::ORIGIN.as_str()) {
        None | Some("null") => true,
        Some(origin) => {
            let origin = origin.split_once("://").map(|(_, authority)| authority);
            origin.is_some()
                && origin.map(str::to_ascii_lowercase) == host.map(str::to_ascii_lowercase)
        }
    }
}

fn mac(key: &Secret, bound: Bound<'_>) -> Hmac<Sha256> {
    let (purpose, value) = match bound {
        Bound::Before(cookie) => ("before", cookie),
        Bound::Session(hash) => ("session", hash),
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose())
        .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
    mac.update(purpose.as_bytes());
    mac.update(&[0]);
    mac.update(value.as_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_token_is_of_one_key_one_purpose_and_one_browser() {
        let (key, other) = (Secret::from("k"), Secret::from("l"));
        let token = token(&key, Bound::Before("a"));
        assert!(is_token(&key, Bound::Before("a"), Some(&token)));
        assert!(!is_token(&other, Bound::Before("a"), Some(&token)));
        assert!(!is_token(&key, Bound::Session("a"), Some(&token)));
        assert!(!is_token(&key, Bound::Before("b"), Some(&token)));
        for bad in [None, Some(""), Some("x"), Some(&token[1..]), Some("!")] {
            assert!(!is_token(&key, Bound::Before("a"), bad), "{bad:?}");
        }
    }

    fn from(pairs: &[(&'static str, &'static str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        same_origin(&headers, Some("login.example.com"))
    }

    #[test]
    fn another_site_is_told_by_the_browser() {
        assert!(from(&[]));
        assert!(from(&[("sec-fetch-site", "same-origin")]));
        assert!(from(&[("sec-fetch-site", "same-origin"), ("origin", "null")]));
        assert!(from(&[("origin", "https://Login.example.com")]));
        assert!(from(&[("origin", "null")]));
        for (name, value) in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "none"),
            ("origin", "https://evil.example"),
            ("origin", "https://login.example.com.evil.example"),
            ("origin", "https://login.example.com:8443"),
            ("origin", "login.example.com"),
        ] {
            assert!(!from(&[(name, value)]), "{name}: {value}");
        }
        assert!(!from(&[
            ("sec-fetch-site", "cross-site"),
            ("origin", "https://login.example.com")
        ]));
    }
}
