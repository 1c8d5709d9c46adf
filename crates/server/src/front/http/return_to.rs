//! Where a browser may be sent after a login: the list of addresses that the operator gave, and no other.
//!
//! A login page that sends people anywhere is a tool for whoever wants to look like it. An address is
//! therefore taken apart here, compared, and **written anew** from its parts: what the browser gets is what
//! was compared, so that no two readers can understand it differently.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Deserialize;
use serde::de::{self, Deserializer};

/// No address that a person comes from is longer, in bytes.
const ADDRESS_BYTES: usize = 2048;

/// The origins that a login may return to, besides paths of its own host.
///
/// ```
/// use countersign_server::front::http::ReturnTo;
/// let list = ReturnTo::of(["https://*.example.com", "https://example.org:8443"]).unwrap();
/// let checked = list.check("https://Wiki.Example.com/a?b").unwrap();
/// assert_eq!(checked.as_str(), "https://wiki.example.com/a?b");
/// assert!(list.check("https://example.com/").is_none());
/// assert!(list.check("//evil.example").is_none());
/// assert_eq!(list.check("/account").unwrap().as_str(), "/account");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReturnTo(Vec<Pattern>);

/// An address that the list allows, in the form in which it was compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed(String);

/// An origin, with any part of the host before a `*.`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    below: bool,
    origin: Origin,
}

/// A scheme, a host and a port, all exact (RFC 6454).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    secure: bool,
    host: String,
    port: u16,
}

impl ReturnTo {
    /// The list of these origins, such as `https://wiki.example.com`, `https://*.example.com` (any host
    /// below, at any depth, and not `example.com` itself) or `http://localhost:3000`.
    ///
    /// # Errors
    ///
    /// Which is no origin, and why.
    pub fn of(patterns: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, String> {
        let parse = |text: &str| {
            Pattern::parse(text)
                .map_err(|why| format!("`{text}` is no address to return to: {why}"))
        };
        patterns.into_iter().map(|text| parse(text.as_ref())).collect::<Result<_, _>>().map(Self)
    }

    /// The address, written anew, if a login may return to it: a path of the own host, or an address of a
    /// listed origin. None for everything else, whatever a browser would make of it.
    pub fn check(&self, address: &str) -> Option<Allowed> {
        if address.len() > ADDRESS_BYTES || address.chars().any(|c| c.is_control() || c == '\\') {
            return None;
        }
        if address.starts_with('/') {
            // Two slashes begin a host.
            return (!address.starts_with("//")).then(|| Allowed(encoded(address)));
        }
        let (origin, rest) = Origin::split(address).ok()?;
        let listed = self.0.iter().any(|pattern| pattern.covers(&origin));
        let slash = if rest.starts_with('/') { "" } else { "/" };
        listed.then(|| Allowed(format!("{origin}{slash}{}", encoded(rest))))
    }

    /// Whether no other host is listed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Allowed {
    /// The address, as it may stand in a `Location` header: printable ASCII.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host, if it is another than the own.
    pub fn host(&self) -> Option<&str> {
        let (_, rest) = self.0.split_once("://").filter(|_| !self.0.starts_with('/'))?;
        rest.split('/').next()
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        // Taken out before the rest is read as any address is: `*` is no letter of a host.
        let (below, address) = match text.split_once("://*.") {
            Some((scheme, rest)) => (true, format!("{scheme}://{rest}")),
            None => (false, text.to_owned()),
        };
        let (origin, rest) = Origin::split(&address)?;
        if !matches!(rest, "" | "/") {
            return Err("give scheme, host and port only; every path of it is allowed".to_owned());
        }
        let dots = origin.host.contains('.') || origin.host == "localhost";
        if below && (!dots || origin.is_number()) {
            return Err("`*.` needs a domain of your own behind it, such as `*.example.com`".into());
        }
        Ok(Self { below, origin })
    }

    fn covers(&self, origin: &Origin) -> bool {
        let Origin { secure, host, port } = &self.origin;
        let hosts = if self.below {
            let before = origin.host.strip_suffix(host.as_str()).and_then(|b| b.strip_suffix('.'));
            before.is_some_and(|before| !before.is_empty())
        } else {
            origin.host == *host
        };
        hosts && origin.secure == *secure && origin.port == *port
    }
}

impl Origin {
    /// The origin of an absolute address, and what follows it.
    fn split(address: &str) -> Result<(Self, &str), String> {
        let (scheme, rest) =
            address.split_once("://").ok_or("it does not begin with `https://`")?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err("its scheme is neither `https` nor `http`".to_owned()),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let (host, port) = match authority.strip_prefix('[') {
            Some(literal) => {
                let (literal, port) = literal.split_once(']').ok_or("`[` is not closed")?;
                let address: Ipv6Addr =
                    literal.parse().map_err(|_| "it has no IPv6 address within `[` and `]`")?;
                (format!("[{address}]"), port)
            }
            None => {
                let end = authority.find(':').unwrap_or(authority.len());
                let (host, port) = authority.split_at(end);
                (host_name(host)?, port)
            }
        };
        let port = match port {
            "" => Self::usual_port(secure),
            port => port
                .strip_prefix(':')
                .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|digits| digits.parse().ok())
                .filter(|port| *port > 0)
                .ok_or("its port is no number from 1 to 65535")?,
        };
        Ok((Self { secure, host, port }, rest))
    }

    fn usual_port(secure: bool) -> u16 {
        if secure { 443 } else { 80 }
    }

    /// Whether the host is an address: then nothing is below it.
    fn is_number(&self) -> bool {
        let last = self.host.rsplit('.').next().unwrap_or_default();
        self.host.starts_with('[') || last.bytes().all(|byte| byte.is_ascii_digit())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { secure, host, port } = self;
        write!(f, "{}://{host}", if *secure { "https" } else { "http" })?;
        if *port != Self::usual_port(*secure) {
            write!(f, ":{port}")?;
        }
        Ok(())
    }
}

/// A host's name in lower case, without the dot at the end; or an IPv4 address in its one usual form.
fn host_name(host: &str) -> Result<String, String> {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if !host.is_ascii() {
        return Err("write the host in its `xn--` form".to_owned());
    }
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(letter);
    if host.len() > 253 || !host.split('.').all(label) {
        return Err("its host is none".to_owned());
    }
    // A browser reads `1`, `0x7f.1` and `127.1` as addresses (WHATWG URL, "ends in a number").
    let last = host.rsplit('.').next().unwrap_or_default();
    let number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
    if number && host.parse::<Ipv4Addr>().is_err() {
        return Err("its host is a number that is no IPv4 address".to_owned());
    }
    Ok(host)
}

/// What a `Location` header may hold: everything else is percent-encoded (RFC 3986, section 2.1).
fn encoded(rest: &str) -> String {
    use std::fmt::Write as _;
    rest.bytes().fold(String::with_capacity(rest.len()), |mut text, byte| {
        if byte.is_ascii_graphic() && !br#""<>`{|}^"#.contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a text cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

impl<'de> Deserialize<'de> for ReturnTo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(Vec::<String>::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list() -> ReturnTo {
        ReturnTo::of(["https://*.example.com", "http://localhost:3000", "https://[2001:db8::1]"])
            .unwrap()
    }

    fn checked(address: &str) -> Option<String> {
        list().check(address).map(|allowed| allowed.as_str().to_owned())
    }

    #[test]
    fn listed_origins_and_own_paths() {
        for (address, wanted) in [
            ("/", "/"),
            ("/account?x=/\u{e4}#y", "/account?x=/%C3%A4#y"),
            ("https://wiki.example.com", "https://wiki.example.com/"),
            ("HTTPS://A.B.EXAMPLE.com.:443/x y?z", "https://a.b.example.com/x%20y?z"),
            ("https://wiki.example.com?q", "https://wiki.example.com/?q"),
            ("http://localhost:3000/a//b", "http://localhost:3000/a//b"),
            ("https://[2001:DB8:0::1]/", "https://[2001:db8::1]/"),
        ] {
            assert_eq!(checked(address).as_deref(), Some(wanted), "{address}");
        }
        assert_eq!(list().check("https://a.example.com/x").unwrap().host(), Some("a.example.com"));
        assert_eq!(list().check("/x://y").unwrap().host(), None);
    }

    #[test]
    fn everything_else_is_refused() {
        for address in [
            "",
            "account",
            "//evil.example",
            "//wiki.example.com",
            "/\\evil.example",
            "\\\\evil.example",
            "/\t/evil.example",
            "\n/account",
            "/a\r\nSet-Cookie: x",
            "javascript:alert(1)",
            "javascript://wiki.example.com/%0aalert(1)",
            "data:text/html,x",
            "https:wiki.example.com",
            "https:///wiki.example.com",
            "https://example.com/",
            "https://.example.com/",
            "https://a..example.com/",
            "https://evilexample.com/",
            "https://wiki.example.com.evil.example/",
            "https://evil.example/wiki.example.com",
            "https://evil.example#.example.com",
            "https://evil.example?.example.com",
            "https://evil.example\\.example.com",
            "https://wiki.example.com@evil.example/",
            "https://evil.example@wiki.example.com/",
            "https://user:pass@wiki.example.com/",
            "https://wiki.example.com:8443/",
            "https://wiki.example.com:/",
            "https://wiki.example.com:+443/",
            "https://wiki.example.com:00/",
            "http://wiki.example.com/",
            "https://wiki%2eexample.com/",
            "https://wiki.example.com%2f.evil.example/",
            "https://w\u{12b}ki.example.com/",
            "https://localhost:3000/",
            "http://localhost/",
            "http://2130706433:3000/",
            "https://[2001:db8::2]/",
            "https://[2001:db8::1/",
            "https://[2001:db8::1]evil/",
        ] {
            assert_eq!(checked(address), None, "{address:?}");
        }
        assert_eq!(checked(&format!("/{}", "a".repeat(ADDRESS_BYTES))), None);
        assert!(ReturnTo::default().check("https://wiki.example.com/").is_none());
    }

    #[test]
    fn patterns_that_would_let_everybody_in_are_refused() {
        for (pattern, why) in [
            ("example.com", "does not begin"),
            ("ftp://example.com", "scheme"),
            ("https://*.com", "domain of your own"),
            ("https://*.0.0.1", "no IPv4 address"),
            ("https://*.127.0.0.1", "domain of your own"),
            ("https://*", "host is none"),
            ("https://a.*.example.com", "host is none"),
            ("https://example.com/app", "scheme, host and port only"),
            ("https://user@example.com", "host is none"),
            ("https://example.com:0", "port"),
            ("https://b\u{fc}cher.example", "xn--"),
        ] {
            let error = ReturnTo::of([pattern]).unwrap_err();
            assert!(error.contains(why) && error.contains(pattern), "{error}");
        }
    }

    /// The characters that readers of addresses disagree about.
    const TRICKS: &str = r"[htps:/\\@.?#a-c%0-9\[\]x*\t \u{0}\u{a0}\u{3002}\u{ff0f}-]{0,40}";

    proptest! {
        #[test]
        fn what_is_allowed_is_plain_and_stays_allowed(text in TRICKS, listed in any::<bool>()) {
            let text = if listed { format!("https://{text}.example.com{text}") } else { text };
            if let Some(allowed) = list().check(&text) {
                let allowed = allowed.as_str();
                prop_assert!(allowed.bytes().all(|b| b.is_ascii_graphic() && b != b'\\'));
                prop_assert!(!allowed.starts_with("//"));
                let again = checked(allowed);
                prop_assert_eq!(again.as_deref(), Some(allowed));
                if !allowed.starts_with('/') {
                    let authority = allowed.split('/').nth(2).unwrap();
                    prop_assert!(!authority.contains(['@', '%', '?', '#']));
                    let own = authority.ends_with(".example.com");
                    prop_assert!(own || ["localhost:3000", "[2001:db8::1]"].contains(&authority));
                }
            }
        }

        #[test]
        fn no_other_host_is_ever_allowed(
            host in "[a-z0-9.-]{1,20}",
            before in TRICKS,
            path in TRICKS,
        ) {
            prop_assume!(!host.ends_with(".example.com") && host != "localhost");
            let address = format!("https://{before}@{host}/{path}");
            prop_assert_eq!(checked(&address), None);
            prop_assert_eq!(checked(&format!("https://{host}/{path}")), None);
            prop_assert_eq!(checked(&format!("//{host}/{path}")), None);
        }
    }
}
