//! Who is at the other end: the connection's own facts, and what a trusted proxy says about the client
//! before it.
//!
//! What a proxy says is taken from exact header names. A request that has one of them twice, or under an
//! alias that another program might take for it (`X_Forwarded_Proto`), or that asks to have it removed on
//! the way (`Connection: X-Forwarded-Host`), was made to deceive somebody, and is refused whoever sent it.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use countersign::{KindSet, Peer, TraceParent, Transport};
use ipnet::IpNet;
use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::problem::Problem;
use crate::front::tls::Bindings;

/// Where a client was, according to a proxy.
pub(super) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// How its connection to the proxy was made.
pub(super) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Which host it asked for.
pub(super) const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The span that a request is part of (W3C Trace Context).
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
/// Which path and query it asked for.
pub(super) const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// Headers that decide something here or behind us: once at most, under this name only, and not to be
/// removed on the way.
const GUARDED: [&str; 13] = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-uri",
    "x-forwarded-method",
    "x-original-uri",
    "x-original-url",
    "x-original-method",
    "remote-user",
    "remote-groups",
    "remote-labels",
    "remote-name",
    "remote-email",
];

/// No list of proxies on a way is longer.
const HOPS: usize = 32;

/// Networks of proxies that are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

/// A connection, for all of its requests.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) remote: IpAddr,
    pub(super) local: Option<IpAddr>,
    /// The listener that it came to.
    pub(super) listener: Option<&'static String>,
    /// Whether logins are traced.
    pub(super) traced: bool,
    /// The channel bindings, if the connection has TLS of ours.
    pub(super) tls: Option<Bindings>,
}

/// The client of one request: the user's own machine, as far as it is known.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) remote: IpAddr,
    pub(super) local: Option<IpAddr>,
    pub(super) transport: Transport,
    /// Whether a trusted proxy speaks for it.
    pub(super) proxied: bool,
    /// The listener that it came to.
    pub(super) listener: Option<&'static String>,
    /// The span of a trusted proxy's that its requests are part of.
    trace: Option<TraceParent>,
    /// Of TLS that ends here: then there is nobody in between.
    bindings: Option<Bindings>,
}

impl TrustedProxies {
    /// The proxies in these networks, such as `10.0.0.0/8` or `127.0.0.1`.
    ///
    /// # Errors
    ///
    /// Which is no network.
    pub fn of(networks: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, String> {
        let parse = |text: &str| {
            let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            let net = net.map_err(|_| {
                format!("`{text}` is no address or network, such as `127.0.0.1` or `10.0.0.0/8`")
            })?;
            match net.trunc() == net {
                true => Ok(net),
                false => Err(format!("`{text}` has bits behind its mask; write `{}`", net.trunc())),
            }
        };
        networks.into_iter().map(|text| parse(text.as_ref())).collect::<Result<_, _>>().map(Self)
    }

    /// Whether this address is one of them.
    pub fn trust(&self, address: IpAddr) -> bool {
        self.0.iter().any(|net| net.contains(&address))
    }
}

impl<'de> Deserialize<'de> for TrustedProxies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(Vec::<String>::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl Connection {
    /// The client of a request with these headers.
    ///
    /// # Errors
    ///
    /// 400 when the headers are made to deceive, or say what cannot be.
    pub(super) fn client(
        &self,
        headers: &HeaderMap,
        trusted: &TrustedProxies,
    ) -> Result<Client, Problem> {
        honest(headers)?;
        let transport = match &self.tls {
            Some(_) => Transport::Tls,
            None if self.remote.is_loopback() => Transport::Local,
            None => Transport::Plain,
        };
        let client = Client {
            remote: self.remote,
            local: self.local,
            transport,
            proxied: false,
            listener: self.listener,
            trace: None,
            bindings: self.tls.clone(),
        };
        let trusts = trusted.trust(self.remote);
        let trace = match self.traced && trusts {
            true => headers.get(TRACE_PARENT).and_then(|value| value.to_str().ok()?.parse().ok()),
            false => None,
        };
        let client = Client { trace, ..client };
        // A request without these is the proxy's own, such as a look at our health.
        let said = [&FORWARDED_FOR, &FORWARDED_PROTO, &FORWARDED_HOST, &FORWARDED_URI];
        if !trusts || !said.iter().any(|name| headers.contains_key(*name)) {
            return Ok(client);
        }
        let remote = match headers.get(FORWARDED_FOR) {
            Some(value) => before_proxies(value, trusted)?.unwrap_or(self.remote),
            None => self.remote,
        };
        let transport = match headers.get(FORWARDED_PROTO) {
            Some(value) if is(value, &["https", "wss"]) => Transport::Tls,
            Some(value) if is(value, &["http", "ws"]) => Transport::Plain,
            Some(_) => return Err(Problem::bad("`X-Forwarded-Proto` is neither http nor https")),
            // What the proxy does not say is not taken for better than it may be.
            None => Transport::Plain,
        };
        let transport = match transport {
            Transport::Plain if remote.is_loopback() && self.remote.is_loopback() => {
                Transport::Local
            }
            transport => transport,
        };
        // Nobody binds to a connection that is not the client's.
        Ok(Client { remote, transport, proxied: true, bindings: None, ..client })
    }
}

impl Client {
    /// What a checker may know of it.
    pub(super) fn peer(&self, service: &str, supports: KindSet) -> Peer {
        let mut peer = Peer::new(service, supports);
        peer.front_end = "http";
        peer.listener = self.listener;
        peer.remote = Some(self.remote);
        peer.local = self.local;
        peer.transport = self.transport;
        if let Some(bindings) = &self.bindings {
            peer.more.channel_bindings = bindings.clone();
        }
        if self.trace.is_some() {
            peer.more.trace = self.trace;
        }
        peer
    }

    /// Whether the client's own connection has TLS.
    pub(super) fn secure(&self) -> bool {
        self.transport == Transport::Tls
    }
}

/// A host as a client or a proxy writes it, in one form: lower case, without a dot at the end, with its port
/// if it has one. `None`: it is none.
pub(super) fn canonical_host(value: &HeaderValue) -> Option<String> {
    let text = value.to_str().ok()?.to_ascii_lowercase();
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (literal, port) = rest.split_once(']')?;
            let address: std::net::Ipv6Addr = literal.parse().ok()?;
            (format!("[{address}]"), port)
        }
        None => {
            let end = text.find(':').unwrap_or(text.len());
            let (host, port) = text.split_at(end);
            let host = host.strip_suffix('.').unwrap_or(host);
            let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            let label = |label: &str| !label.is_empty() && label.bytes().all(letter);
            (host.len() <= 253 && host.split('.').all(label)).then(|| (host.to_owned(), port))?
        }
    };
    if port.is_empty() {
        return Some(host);
    }
    let digits = port.strip_prefix(':').filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    let port: u16 = digits.parse().ok().filter(|port| *port > 0)?;
    Some(format!("{host}:{port}"))
}

fn honest(headers: &HeaderMap) -> Result<(), Problem> {
    for name in headers.keys() {
        let text = name.as_str();
        if text.as_bytes().contains(&b'_') {
            let dashed = text.replace('_', "-");
            let also = ["authorization", "cookie"];
            if GUARDED.iter().chain(&also).any(|guarded| *guarded == dashed) {
                return Err(Problem::bad(format!("`{text}` looks like `{dashed}`, and is none")));
            }
        } else if text.starts_with("x-")
            && GUARDED.contains(&text)
            && headers.get_all(name).iter().nth(1).is_some()
        {
            return Err(Problem::bad(format!("`{text}` is there more than once")));
        }
    }
    for value in headers.get_all(header::CONNECTION) {
        let text = value.to_str().unwrap_or_default();
        let names =
            |guarded: &&&str| text.split(',').any(|name| name.trim().eq_ignore_ascii_case(guarded));
        if let Some(guarded) = GUARDED.iter().find(names) {
            return Err(Problem::bad(format!("`Connection` must not name `{guarded}`")));
        }
    }
    Ok(())
}

/// The address before the trusted proxies: the rightmost that is none of them. What is left of it, the
/// client may have written itself. `None`: all are proxies.
fn before_proxies(
    value: &HeaderValue,
    trusted: &TrustedProxies,
) -> Result<Option<IpAddr>, Problem> {
    let bad = || Problem::bad("`X-Forwarded-For` is no list of addresses");
    let text = value.to_str().map_err(|_| bad())?;
    let mut last = None;
    for (hop, part) in text.rsplit(',').enumerate() {
        let address = address(part.trim()).filter(|_| hop < HOPS).ok_or_else(bad)?;
        last = Some(address);
        if !trusted.trust(address) {
            break;
        }
    }
    Ok(last)
}

/// An address, perhaps with a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok();
    address
        .or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()))
        .map(|address| address.to_canonical())
}

fn is(value: &HeaderValue, words: &[&str]) -> bool {
    words.iter().any(|word| value.as_bytes().eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(remote: &str) -> Connection {
        let remote = remote.parse().unwrap();
        Connection { remote, local: None, listener: None, traced: true, tls: None }
    }

    fn client(remote: &str, headers: &[(&str, &str)]) -> Result<(String, Transport), u16> {
        let trusted = TrustedProxies::of(["127.0.0.1", "10.0.0.0/8", "2001:db8::/32"]).unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        match connection(remote).client(&map, &trusted) {
            Ok(client) => Ok((client.remote.to_string(), client.transport)),
            Err(problem) => Err(axum::response::Response::from(problem).status().as_u16()),
        }
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let said = [("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "https")];
        assert_eq!(client("10.1.2.3", &said), Ok(("192.0.2.7".into(), Transport::Tls)));
        assert_eq!(client("127.0.0.1", &said), Ok(("192.0.2.7".into(), Transport::Tls)));
        assert_eq!(client("192.0.2.1", &said), Ok(("192.0.2.1".into(), Transport::Plain)));
        assert_eq!(client("127.0.0.1", &[]), Ok(("127.0.0.1".into(), Transport::Local)));
    }

    #[test]
    fn the_rightmost_address_that_is_no_proxy_counts() {
        let of = |list: &str| client("10.0.0.1", &[("x-forwarded-for", list)]).map(|(ip, _)| ip);
        for (list, expected) in [
            ("203.0.113.9, 192.0.2.7", "192.0.2.7"),
            ("192.0.2.7, 10.9.9.9,127.0.0.1", "192.0.2.7"),
            ("rubbish, 192.0.2.7", "192.0.2.7"),
            ("10.0.0.5", "10.0.0.5"),
            ("192.0.2.7:4711", "192.0.2.7"),
            ("[2001:db9::1]:80, 2001:db8::2", "2001:db9::1"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
        ] {
            assert_eq!(of(list).as_deref(), Ok(expected), "{list}");
        }
        for list in ["", "rubbish", "192.0.2.7, unknown", "192.0.2.7,", "1.2.3", "0x7f.1"] {
            assert_eq!(of(list), Err(400), "{list}");
        }
        assert_eq!(of(&["10.0.0.1"; HOPS + 1].join(",")), Err(400));
    }

    #[test]
    fn what_the_proxy_does_not_say_is_not_taken_for_tls() {
        let of = |headers: &[(&str, &str)]| client("10.0.0.1", headers).map(|(_, how)| how);
        assert_eq!(of(&[("x-forwarded-for", "192.0.2.7")]), Ok(Transport::Plain));
        assert_eq!(of(&[("x-forwarded-proto", "HTTPS")]), Ok(Transport::Tls));
        assert_eq!(of(&[("x-forwarded-proto", "https,http")]), Err(400));
        assert_eq!(of(&[("x-forwarded-proto", "")]), Err(400));
    }

    #[test]
    fn headers_made_to_deceive_are_refused_whoever_sends_them() {
        for remote in ["10.0.0.1", "192.0.2.1"] {
            for headers in [
                [("x_forwarded_proto", "https"), ("a", "b")],
                [("X-Forwarded_For", "1.2.3.4"), ("a", "b")],
                [("remote_user", "root"), ("a", "b")],
                [("x-forwarded-for", "1.2.3.4"), ("X-Forwarded-For", "1.2.3.4")],
                [("x-forwarded-host", "a"), ("x-forwarded-host", "b")],
                [("connection", "close, X-Forwarded-Host"), ("a", "b")],
                [("connection", "Remote-Labels"), ("a", "b")],
                [("remote_labels", "x"), ("a", "b")],
            ] {
                assert_eq!(client(remote, &headers), Err(400), "{headers:?}");
            }
            assert!(client(remote, &[("x_custom", "1"), ("connection", "keep-alive")]).is_ok());
        }
    }

    #[test]
    fn a_host_has_one_form() {
        let canonical = |text: &str| canonical_host(&HeaderValue::from_str(text).unwrap());
        for (text, expected) in [
            ("Wiki.Example.COM.", "wiki.example.com"),
            ("wiki.example.com.:8443", "wiki.example.com:8443"),
            ("[2001:DB8::0]:80", "[2001:db8::]:80"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(canonical(text).as_deref(), Some(expected));
        }
        for text in
            ["", ".", "a..b", "a b", "a/b", "a@b", "a,b", "a:", "a:x", "a:0", "[::1", "a:1:2"]
        {
            assert_eq!(canonical(text), None, "{text}");
        }
    }

    #[test]
    fn networks() {
        assert!(TrustedProxies::of(["10.0.0.1/8"]).unwrap_err().contains("10.0.0.0/8"));
        assert!(TrustedProxies::of(["example.com"]).unwrap_err().contains("no address"));
        assert!(TrustedProxies::default().0.is_empty());
    }
}
