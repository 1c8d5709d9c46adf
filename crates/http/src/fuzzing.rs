//! What a fuzzer calls, and what must hold of any bytes.

use http::{HeaderMap, HeaderValue, header};

use crate::{Cookie, Credentials};

/// Any bytes as `Authorization`: whatever is read has the shape that its scheme demands.
pub fn authorization(data: &[u8]) {
    let mut headers = HeaderMap::new();
    // Lines are headers of their own.
    for line in data.split(|byte| *byte == b'\n').take(4) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(header::AUTHORIZATION, value.clone());
            headers.append(header::COOKIE, value);
        }
    }
    match Credentials::read(&headers) {
        Ok(Some(Credentials::Basic { name, password })) => {
            assert!(!name.contains(':') && !name.chars().any(char::is_control));
            assert!(password.to_str().is_some());
        }
        Ok(Some(Credentials::Bearer(token))) => {
            assert!(token.expose().iter().all(u8::is_ascii_graphic) && !token.is_empty());
        }
        Ok(Some(Credentials::Digest(header))) => {
            assert!(header.response.bytes().all(|digit| digit.is_ascii_hexdigit()));
        }
        Ok(None) | Err(_) => {}
    }
    let cookie = Cookie::named("site");
    let _ = cookie.token(&headers, countersign::Transport::Tls);
}
