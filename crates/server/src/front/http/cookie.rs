//! The cookies that a browser keeps for us: which names, with which attributes.
//!
//! A name says what a browser enforces (RFC 6265bis, section 4.1.3): `__Host-` was set by this very host
//! over TLS, `__Secure-` over TLS by a host of the same domain. Without TLS there is only the plain name,
//! and it is used on loopback alone.

use std::fmt;

use axum::http::{HeaderMap, HeaderValue, header};
use cookie::{Cookie, SameSite, time};
use serde::Deserialize;
use serde::de::{self, Deserializer};

/// No cookie of ours has a longer value, in bytes.
const VALUE_BYTES: usize = 3800;

/// The session: its token is what `Authorization: Bearer` takes as well.
pub(super) const SESSION: &str = "countersign";
/// Who is about to log in: a random value that forms are bound to, worth nothing else.
pub(super) const BEFORE: &str = "countersign-before";
/// Which login waits for the browser to come back from an identity provider.
pub(super) const AWAY: &str = "countersign-away";
/// The language that somebody asked for.
pub(super) const LANGUAGE: &str = "countersign-language";

/// How cookies are set for one client on one listener.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cookies<'a> {
    /// Whether the client's own connection has TLS.
    pub(super) secure: bool,
    /// Hosts that get the session too, if it is not for this host alone.
    pub(super) domain: Option<&'a CookieDomain>,
}

/// The domain of the session's cookie: every host of it gets the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieDomain(String);

impl Cookies<'_> {
    /// The session's cookie, for so many seconds. It is sent when somebody follows a link from elsewhere,
    /// and never with what a page of elsewhere sends.
    pub(super) fn set_session(&self, token: &str, seconds: i64) -> HeaderValue {
        self.written(SESSION, token, Some(seconds))
    }

    /// The end of the session's cookie.
    pub(super) fn clear_session(&self) -> HeaderValue {
        self.written(SESSION, "", Some(0))
    }

    /// Another cookie of ours, until the browser is closed. For this host alone.
    pub(super) fn set(&self, base: &str, value: &str) -> HeaderValue {
        self.written(base, value, None)
    }

    /// Another cookie of ours, for so many seconds. For this host alone.
    pub(super) fn set_for(&self, base: &str, value: &str, seconds: i64) -> HeaderValue {
        self.written(base, value, Some(seconds))
    }

    /// The value of a cookie of ours. Of two with the same name none counts: one of them was set by somebody
    /// else.
    pub(super) fn read<'h>(&self, base: &str, headers: &'h HeaderMap) -> Option<&'h str> {
        let prefix = self.prefix(base);
        let pairs = headers
            .get_all(header::COOKIE)
            .into_iter()
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(';'));
        let mut values = pairs
            .filter_map(|pair| pair.trim_matches([' ', '\t']).split_once('='))
            .filter(|(found, _)| found.strip_prefix(prefix) == Some(base))
            .map(|(_, value)| value);
        let (value, None) = (values.next()?, values.next()) else { return None };
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let sound = (1..=VALUE_BYTES).contains(&value.len()) && value.bytes().all(letter);
        sound.then_some(value)
    }

    /// The full name of a cookie of ours.
    pub(super) fn name(&self, base: &str) -> String {
        format!("{}{base}", self.prefix(base))
    }

    fn prefix(&self, base: &str) -> &'static str {
        match (self.secure, self.shared(base)) {
            (false, _) => "",
            (true, None) => "__Host-",
            (true, Some(_)) => "__Secure-",
        }
    }

    /// Only the session is for other hosts.
    fn shared(&self, base: &str) -> Option<&CookieDomain> {
        self.domain.filter(|_| self.secure && base == SESSION)
    }

    fn written(&self, base: &str, value: &str, seconds: Option<i64>) -> HeaderValue {
        let mut cookie = Cookie::build((self.name(base), value))
            .path("/")
            .http_only(true)
            .same_site(SameSite::Lax)
            .secure(self.secure);
        if let Some(CookieDomain(domain)) = self.shared(base) {
            cookie = cookie.domain(domain.as_str());
        }
        if let Some(seconds) = seconds {
            cookie = cookie.max_age(time::Duration::seconds(seconds.max(0)));
        }
        // Names, domains and values of ours have no other letters.
        HeaderValue::try_from(cookie.build().to_string())
            .unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

impl CookieDomain {
    /// The domain, in lower case.
    ///
    /// # Errors
    ///
    /// Why it can be none.
    pub fn of(text: &str) -> Result<Self, String> {
        let domain = text.strip_prefix('.').unwrap_or(text).to_ascii_lowercase();
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(letter);
        let numbers = domain.split('.').all(|label| label.bytes().all(|b| b.is_ascii_digit()));
        if !domain.contains('.') || numbers || domain.len() > 253 || !domain.split('.').all(label) {
            return Err(format!(
                "`{text}` is no domain of a cookie; give one that all hosts share, such as \
                 `example.com`, or leave `cookie_domain` out"
            ));
        }
        Ok(Self(domain))
    }
}

impl fmt::Display for CookieDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for CookieDomain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &HeaderValue) -> &str {
        value.to_str().unwrap()
    }

    #[test]
    fn three_places_three_names() {
        let domain = CookieDomain::of(".Example.com").unwrap();
        let plain = Cookies { secure: false, domain: Some(&domain) };
        let host = Cookies { secure: true, domain: None };
        let shared = Cookies { secure: true, domain: Some(&domain) };
        assert_eq!(
            text(&plain.set_session("t", 60)),
            "countersign=t; HttpOnly; SameSite=Lax; Path=/; Max-Age=60"
        );
        assert_eq!(
            text(&host.set_session("t", 60)),
            "__Host-countersign=t; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=60"
        );
        assert_eq!(
            text(&shared.set_session("t", 60)),
            "__Secure-countersign=t; HttpOnly; SameSite=Lax; Secure; Path=/; Domain=example.com; \
             Max-Age=60"
        );
        assert!(
            text(&shared.clear_session()).contains("=; ") && shared.name(BEFORE).contains("Host")
        );
        assert!(text(&shared.clear_session()).contains("Max-Age=0"));
        assert_eq!(
            text(&shared.set(BEFORE, "x")),
            "__Host-countersign-before=x; HttpOnly; SameSite=Lax; Secure; Path=/"
        );
    }

    #[test]
    fn one_sound_value_or_none() {
        let read = |lines: &[&str], secure| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::COOKIE, HeaderValue::from_str(line).unwrap());
            }
            let cookies = Cookies { secure, domain: None };
            cookies.read(SESSION, &headers).map(str::to_owned)
        };
        let some = Some("a-B_1".to_owned());
        assert_eq!(read(&["x=y; countersign=a-B_1; z=w"], false), some);
        assert_eq!(read(&["x=y", "__Host-countersign=a-B_1;countersign=other"], true), some);
        assert_eq!(read(&["countersign=a-B_1"], true), None, "set without TLS");
        assert_eq!(read(&["__Host-countersign=a"], false), None);
        assert_eq!(read(&["countersign=a; countersign=b"], false), None);
        assert_eq!(read(&["countersign=a", "countersign=a"], false), None);
        assert_eq!(read(&["countersign="], false), None);
        assert_eq!(read(&["countersign=\"a\""], false), None);
        assert_eq!(read(&[&format!("countersign={}", "a".repeat(3801))], false), None);
        assert_eq!(read(&["xcountersign=a; countersignx=a; Countersign=a"], false), None);
        assert_eq!(read(&[], false), None);
    }

    #[test]
    fn domains() {
        assert_eq!(CookieDomain::of("a.example.com").unwrap().to_string(), "a.example.com");
        for bad in ["", ".", "com", "localhost", "127.0.0.1", "a..b", "a b.c", "a.b;", "a.b/"] {
            assert!(CookieDomain::of(bad).is_err(), "{bad}");
        }
    }
}
