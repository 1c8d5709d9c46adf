//! Where a directory's server is: `ldaps://host`, `ldap://host:port`, `ldapi://%2Frun%2Fslapd%2Fldapi`.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

/// A server's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// TCP; `tls` from the first byte.
    Net { host: String, port: u16, tls: bool },
    /// A socket of this machine.
    Local(PathBuf),
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// What is wrong with it, with the remedy.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(format!("`{url}` has no scheme; write `ldaps://{url}`"));
        };
        let (tls, standard) = match scheme.to_ascii_lowercase().as_str() {
            "ldap" => (false, 389),
            "ldaps" => (true, 636),
            "ldapi" => return local(rest),
            _ => return Err(format!("`{scheme}` is none of `ldaps`, `ldap` and `ldapi`")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(six) => {
                let (host, after) = six.split_once(']').ok_or("`]` is missing")?;
                (host, after.strip_prefix(':').or(after.is_empty().then_some("")))
            }
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, Some("")),
            },
        };
        let port = match port {
            Some("") => Some(standard),
            Some(digits) => digits.parse().ok().filter(|port| *port != 0),
            None => None,
        };
        let port = port.ok_or_else(|| format!("`{url}` has no port between 1 and 65535"))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '_');
        if host.is_empty() || !host.chars().all(plain) {
            return Err(format!(
                "`{url}` is no server; write `{scheme}://host` or `{scheme}://host:port`, \
                 and give the base and the filter as settings of their own"
            ));
        }
        Ok(Self::Net { host: host.to_owned(), port, tls })
    }

    /// Whether nobody on a network can listen, whatever is sent.
    pub(super) fn stays_here(&self) -> bool {
        match self {
            Self::Local(_) => true,
            Self::Net { host, .. } => {
                let literal = host.parse::<IpAddr>();
                host.eq_ignore_ascii_case("localhost") || literal.is_ok_and(|ip| ip.is_loopback())
            }
        }
    }

    /// Whether TLS begins with the first byte.
    pub(super) fn tls(&self) -> bool {
        matches!(self, Self::Net { tls: true, .. })
    }
}

fn local(path: &str) -> Result<Address, String> {
    let mut bytes = Vec::new();
    let mut rest = path.strip_suffix('/').unwrap_or(path).bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(format!("`{path}`: `%` is followed by two hexadecimal digits"));
        };
        bytes.push((high << 4 | low) as u8);
    }
    match String::from_utf8(bytes) {
        Ok(path) if path.starts_with('/') => Ok(Address::Local(path.into())),
        _ => Err("write the whole path of the socket, with `%2F` for `/`: \
                  `ldapi://%2Frun%2Fslapd%2Fldapi`"
            .to_owned()),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => write!(f, "ldapi at {}", path.display()),
            Self::Net { host, port, tls } => {
                let scheme = if *tls { "ldaps" } else { "ldap" };
                if host.contains(':') {
                    return write!(f, "{scheme}://[{host}]:{port}");
                }
                write!(f, "{scheme}://{host}:{port}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (url, shown, here) in [
            ("ldap://a.example", "ldap://a.example:389", false),
            ("LDAPS://a.example/", "ldaps://a.example:636", false),
            ("ldap://localhost:3890", "ldap://localhost:3890", true),
            ("ldap://127.0.0.2", "ldap://127.0.0.2:389", true),
            ("ldap://[::1]:3890", "ldap://[::1]:3890", true),
            ("ldaps://[2001:db8::1]", "ldaps://[2001:db8::1]:636", false),
            ("ldapi://%2Frun%2Fslapd%2fldapi", "ldapi at /run/slapd/ldapi", true),
        ] {
            let address = Address::parse(url).unwrap();
            assert_eq!((address.to_string().as_str(), address.stays_here()), (shown, here));
        }
    }

    #[test]
    fn what_is_no_address_is_told_with_the_remedy() {
        for (url, part) in [
            ("a.example", "`ldaps://a.example`"),
            ("http://a", "none of"),
            ("ldap://a:0", "port"),
            ("ldap://a:x", "port"),
            ("ldap://[::1", "`]`"),
            ("ldap://[::1]x", "port"),
            ("ldap:///dc=example", "no server"),
            ("ldap://a/dc=example??sub", "no server"),
            ("ldap://user@a", "no server"),
            ("ldapi://", "whole path"),
            ("ldapi://%zz", "hexadecimal"),
        ] {
            let error = Address::parse(url).unwrap_err();
            assert!(error.contains(part), "{url}: {error}");
        }
        // A name that merely begins like loopback is somebody else's.
        assert!(!Address::parse("ldap://127.0.0.1.example").unwrap().stays_here());
        assert!(!Address::parse("ldap://localhost.example").unwrap().stays_here());
    }
}
