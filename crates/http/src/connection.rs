//! Who is at the other end of a request's connection, and what a request says about where it came from.

use std::net::{IpAddr, SocketAddr};

use countersign::{KindSet, Peer, Transport};
use http::header::{self, HeaderName};
use http::{HeaderMap, Method, Uri};

/// The facts about a request's connection, as far as they are known. Whoever serves the application puts them into
/// a request's extensions, or says with [`Authenticated::connection`](crate::Authenticated::connection) how they
/// are found. Where nobody says anything, nothing secret is taken readable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// Where the client is.
    pub remote: Option<IpAddr>,
    /// How its connection is protected, to the client itself: before a proxy that ends TLS, as that says.
    pub transport: Transport,
}

impl Connection {
    /// A connection without TLS from this address: one that does not leave the machine if it is a loopback
    /// address.
    pub fn from_address(address: SocketAddr) -> Self {
        let remote = address.ip().to_canonical();
        let transport = if remote.is_loopback() { Transport::Local } else { Transport::Plain };
        Self { remote: Some(remote), transport }
    }

    /// The same within TLS.
    #[must_use]
    pub fn within_tls(self) -> Self {
        Self { transport: Transport::Tls, ..self }
    }

    /// What a request's extensions say.
    pub(crate) fn of(parts: &http::request::Parts) -> Self {
        if let Some(said) = parts.extensions.get::<Self>() {
            return *said;
        }
        #[cfg(feature = "axum")]
        if let Some(info) = parts.extensions.get::<axum::extract::ConnectInfo<SocketAddr>>() {
            return Self::from_address(info.0);
        }
        Self::default()
    }

    pub(crate) fn peer(self, service: &std::sync::Arc<str>) -> Peer {
        let mut peer = Peer::new(std::sync::Arc::clone(service), KindSet::none());
        (peer.front_end, peer.remote, peer.transport) = ("http", self.remote, self.transport);
        peer
    }
}

/// Whether a request that changes something comes from a page of this very site, or from no browser: what no
/// other site can make a browser send. `Sec-Fetch-Site` is the browser's own word, which no page can write; browsers
/// that do not have it, or do not send it to a site without TLS, say with `Origin` where a form or a script is from.
pub(crate) fn is_from_here(headers: &HeaderMap, uri: &Uri) -> bool {
    const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    let mut sites = headers.get_all(SITE).iter();
    match (sites.next().map(|site| site.as_bytes()), sites.next()) {
        (Some(b"same-origin" | b"none"), None) => return true,
        (Some(_), _) => return false,
        (None, _) => {}
    }
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let (Some(origin), None) = (origins.next(), origins.next()) else {
        return !headers.contains_key(header::ORIGIN);
    };
    let host = uri.authority().map(|authority| authority.as_str().as_bytes());
    let host = host.or_else(|| Some(headers.get(header::HOST)?.as_bytes()));
    let origin = origin.as_bytes();
    let origin =
        [&b"http://"[..], b"https://"].iter().find_map(|scheme| origin.strip_prefix(*scheme));
    origin.zip(host).is_some_and(|(origin, host)| origin.eq_ignore_ascii_case(host))
}

/// Whether a method changes nothing (RFC 9110 §9.2.1).
pub(crate) fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

/// Whether somebody is there who can be shown a page: a browser that asks for one.
pub(crate) fn shows_pages(method: &Method, headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let pages = accepts.flat_map(|value| value.split(',')).any(|kind| {
        let kind = kind.split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("text/html")
    });
    pages && matches!(*method, Method::GET | Method::HEAD)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn loopback_does_not_leave_the_machine() {
        let of = |address: &str| Connection::from_address(address.parse().unwrap()).transport;
        assert_eq!(of("127.0.0.1:1"), Transport::Local);
        assert_eq!(of("[::1]:1"), Transport::Local);
        assert_eq!(of("[::ffff:127.0.0.1]:1"), Transport::Local);
        assert_eq!(of("192.0.2.1:1"), Transport::Plain);
        assert_eq!(Connection::default().transport, Transport::Plain, "nobody said anything");
    }

    #[test]
    fn pages_of_others_are_told_from_ours() {
        let here = |all: &[(&'static str, &'static str)]| {
            is_from_here(&headers(all), &Uri::from_static("/logout"))
        };
        assert!(here(&[]), "no browser");
        assert!(here(&[("sec-fetch-site", "same-origin"), ("origin", "https://elsewhere")]));
        assert!(here(&[("sec-fetch-site", "none")]));
        assert!(!here(&[("sec-fetch-site", "same-site")]));
        assert!(!here(&[("sec-fetch-site", "cross-site"), ("origin", "https://a"), ("host", "a")]));
        assert!(!here(&[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")]));
        assert!(here(&[("origin", "https://A.example"), ("host", "a.example")]));
        assert!(here(&[("origin", "http://a:8080"), ("host", "a:8080")]));
        assert!(!here(&[("origin", "http://a:8081"), ("host", "a:8080")]));
        assert!(!here(&[("origin", "null"), ("host", "a")]));
        assert!(!here(&[("origin", "https://a"), ("origin", "https://b"), ("host", "a")]));
        assert!(!here(&[("origin", "https://a")]), "no host");
        let uri = Uri::from_static("https://a.example/logout");
        assert!(is_from_here(&headers(&[("origin", "https://a.example")]), &uri), "HTTP/2");
    }

    #[test]
    fn browsers_ask_for_pages() {
        let shows = |method, accept| shows_pages(&method, &headers(&[("accept", accept)]));
        assert!(shows(Method::GET, "text/html,application/xhtml+xml;q=0.9"));
        assert!(shows(Method::HEAD, "image/png, TEXT/HTML;level=1"));
        assert!(!shows(Method::POST, "text/html") && !shows(Method::GET, "*/*"));
    }
}
