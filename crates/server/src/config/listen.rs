//! The sections of listeners, `[listen.KIND.NAME]`.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use countersign::{DigestAlgorithm, Portal};
use countersign_http::Scheme;
use countersign_sasl::digest::Variant;
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use super::error::ConfigError;
use super::placed::Placed;
use super::sections::Mode;
use crate::front::dovecot::userdb::Userdb;
use crate::front::dovecot::{Announced, OnFault};
use crate::front::http::{
    CookieDomain, LoginPage, MailSection, Part, Parts, ReturnTo, TrustedProxies,
};

/// `[listen.http.NAME]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSection {
    /// Address and port.
    pub address: SocketAddr,
    /// Connections at a time.
    pub connections: usize,
    /// Where a login may return to, besides paths of its own host.
    pub return_to: ReturnTo,
    /// The domain whose hosts all get the session; absent: the own host alone.
    pub cookie_domain: Option<CookieDomain>,
    /// A style sheet of the site for the pages, beside the configuration file.
    pub theme: Option<PathBuf>,
    /// TLS; absent: none.
    pub tls: Option<TlsSection>,
    /// Proxies whose `X-Forwarded-For`, `-Proto`, `-Host` and `-Uri` are believed.
    pub trusted_proxies: TrustedProxies,
    /// The parts that are served; absent: all, and `metrics` on loopback only.
    pub serve: Option<Vec<Part>>,
    /// Whether forward-auth takes HTTP Basic (RFC 7617).
    pub basic: bool,
    /// Whether forward-auth takes HTTP Digest (RFC 7616), by these algorithms.
    pub digest: Placed<Offered>,
    /// Whether forward-auth takes bearer tokens (RFC 6750) that are no session's.
    pub bearer: Placed<bool>,
    /// Where forward-auth sends a browser to log in: the public address of the login page.
    pub login_page: Option<LoginPage>,
    /// What nginx is told of mail servers.
    pub mail: Option<MailSection>,
}

/// `tls = { … }` of a listener. Relative paths are below the folder of the configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSection {
    /// The certificate and those after it, in PEM.
    pub certificate: PathBuf,
    /// Its key, in PEM.
    pub key: PathBuf,
}

impl HttpSection {
    /// A listener with the usual limits.
    pub fn at(address: SocketAddr) -> Self {
        Self {
            address,
            connections: 4096,
            return_to: ReturnTo::default(),
            cookie_domain: None,
            theme: None,
            tls: None,
            trusted_proxies: TrustedProxies::default(),
            serve: None,
            basic: false,
            digest: Placed::default(),
            bearer: Placed::default(),
            login_page: None,
            mail: None,
        }
    }

    /// Refuses what forward-auth is to take and no checker can prove: whoever came with it would be told that it
    /// is wrong.
    ///
    /// # Errors
    ///
    /// Which, and what would serve it.
    pub(super) fn check<R>(&self, portal: &Portal<R>) -> Result<(), ConfigError> {
        if !self.digest.0.is_empty() && !portal.offers(Scheme::Digest.mechanism()) {
            let message = "no checker serves Digest, or the policy allows it nowhere";
            let help = "it needs passwords that can be read, such as those of a `file` checker with \
                        `allow_plain = true`, and accounts keep none; or leave it out";
            return Err(ConfigError::at(self.digest.span(), message).with_help(help));
        }
        if *self.bearer && !portal.offers(Scheme::Bearer.mechanism()) {
            let message = "no checker serves bearer tokens, or the policy allows them nowhere";
            let help =
                "add a `[checker.jwt.NAME]`, or leave it out: tokens of sessions are taken always";
            return Err(ConfigError::at(self.bearer.span(), message).with_help(help));
        }
        Ok(())
    }

    /// The parts that it serves.
    pub fn parts(&self) -> Parts {
        match &self.serve {
            Some(parts) => parts.iter().copied().collect(),
            // Counts say how much a site is used, and by whom not; they are for its own machines.
            None if self.address.ip().to_canonical().is_loopback() => Parts::all(),
            None => Parts::all().without(Part::Metrics),
        }
    }
}

/// The algorithms of Digest that are offered, the most wanted first. None: it is off. In the file: `true` for
/// SHA-256, or algorithms by name.
#[derive(Debug, Clone, Default)]
pub struct Offered(pub Vec<Variant>);

impl<'de> Deserialize<'de> for Offered {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Said;

        impl<'de> Visitor<'de> for Said {
            type Value = Offered;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`true`, `false`, or algorithms such as [\"SHA-256\", \"MD5\"]")
            }

            fn visit_bool<E: Error>(self, on: bool) -> Result<Offered, E> {
                let usual = Variant { algorithm: DigestAlgorithm::Sha256, session: false };
                Ok(Offered(if on { vec![usual] } else { Vec::new() }))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Offered, A::Error> {
                let mut offers = Vec::new();
                while let Some(name) = all.next_element::<String>()? {
                    let known = Variant::from_name(&name);
                    offers.push(known.ok_or_else(|| {
                        let names = DigestAlgorithm::ALL.map(DigestAlgorithm::name).join("`, `");
                        A::Error::custom(format!(
                            "`{name}` is no algorithm of Digest; `{names}` are"
                        ))
                    })?);
                }
                Ok(Offered(offers))
            }
        }

        from.deserialize_any(Said)
    }
}

impl Default for HttpSection {
    fn default() -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 8080).into())
    }
}

/// `[listen.dovecot.NAME]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DovecotSection {
    /// The socket.
    pub path: PathBuf,
    /// Its mode.
    pub mode: Mode,
    /// Its owner.
    pub owner: Option<String>,
    /// Its group.
    pub group: Option<String>,
    /// What to do when a backend is away.
    pub on_fault: OnFault,
    /// Whether its clients are believed when they name a client certificate's user.
    pub trust_client_certificates: bool,
    /// The mechanisms to announce, in this order. Not said: [`Announced::USUAL`], as far as they are served.
    pub mechanisms: Option<Vec<Placed<Announced>>>,
    /// Connections at a time.
    pub connections: usize,
    /// Logins of a connection at a time.
    pub pending: usize,
}

impl Default for DovecotSection {
    fn default() -> Self {
        Self {
            path: "run/dovecot-auth".into(),
            mode: Mode(0o660),
            owner: None,
            group: None,
            on_fault: OnFault::default(),
            trust_client_certificates: false,
            mechanisms: None,
            connections: 4096,
            pending: 1024,
        }
    }
}

impl DovecotSection {
    /// The mechanisms to announce, as far as they are served.
    pub fn announced(&self) -> Vec<Announced> {
        match &self.mechanisms {
            Some(said) => said.iter().map(|one| **one).collect(),
            None => Announced::USUAL.to_vec(),
        }
    }

    /// Refuses a mechanism that is asked for and that no checker serves: mail programs would find less than
    /// the file says.
    ///
    /// # Errors
    ///
    /// The mechanism's place, and what would serve it.
    pub(super) fn check<R>(&self, portal: &Portal<R>) -> Result<(), ConfigError> {
        let mut said = self.mechanisms.iter().flatten();
        let unserved = said.find(|one| !one.served(portal, self.trust_client_certificates));
        let Some(one) = unserved else { return Ok(()) };
        let name = one.name();
        let help = match name {
            "EXTERNAL" => "write `trust_client_certificates = true`, or leave it out".to_owned(),
            "ANONYMOUS" => "add a `[checker.anonymous.NAME]`, or leave it out".to_owned(),
            "OAUTHBEARER" | "XOAUTH2" => "add a `[checker.jwt.NAME]`, or leave it out".to_owned(),
            "CRAM-MD5" => {
                "it needs passwords that can be read, such as a `memory` checker's; or leave it out"
                    .to_owned()
            }
            scram if scram.starts_with("SCRAM-") => {
                format!(
                    "`[accounts] scram = [\"{name}\"]` keeps the keys that it needs; or leave it out"
                )
            }
            _ => "add a checker that serves it, or leave it out".to_owned(),
        };
        let message = format!("no checker serves `{name}`, or the policy allows it nowhere");
        Err(ConfigError::at(one.span(), message).with_help(help))
    }
}

/// `[listen.dovecot-master.NAME]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DovecotMasterSection {
    /// The socket.
    pub path: PathBuf,
    /// Its mode.
    pub mode: Mode,
    /// Its owner.
    pub owner: Option<String>,
    /// Its group.
    pub group: Option<String>,
    /// Who may ask everything, by name or number, besides root and the server's own user.
    pub owners: Vec<String>,
    /// What is told of a user where the account itself does not say it.
    pub fields: Userdb,
    /// Connections at a time.
    pub connections: usize,
}

impl Default for DovecotMasterSection {
    fn default() -> Self {
        Self {
            path: "run/dovecot-master".into(),
            mode: Mode(0o600),
            owner: None,
            group: None,
            owners: Vec::new(),
            fields: Userdb::default(),
            connections: 1024,
        }
    }
}

/// `[listen.saslauthd.NAME]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SaslauthdSection {
    /// The socket.
    pub path: PathBuf,
    /// Its mode.
    pub mode: Mode,
    /// Its owner.
    pub owner: Option<String>,
    /// Its group.
    pub group: Option<String>,
    /// Connections at a time.
    pub connections: usize,
}

impl Default for SaslauthdSection {
    fn default() -> Self {
        Self {
            path: "run/saslauthd/mux".into(),
            mode: Mode(0o660),
            owner: None,
            group: None,
            connections: 8192,
        }
    }
}

#[cfg(test)]
mod tests {
    use countersign::Secret;
    use countersign_checkers::memory::Memory;
    use countersign_sasl::{Decoys, Stored};

    use super::*;

    fn section(text: &str) -> Result<HttpSection, toml::de::Error> {
        toml::from_str(text)
    }

    /// What would be taken and nobody could prove is an error of the start.
    #[test]
    fn what_no_checker_serves_is_not_taken() {
        let refused = |text: &str, portal: &Portal<()>| {
            section(text).unwrap().check(portal).err().map(|error| error.to_string())
        };
        let nobody = Portal::new(());
        for (text, said) in [
            ("digest = true", "it needs passwords that can be read"),
            ("digest = [\"MD5\"]", "no checker serves Digest"),
            ("bearer = true", "add a `[checker.jwt.NAME]`"),
        ] {
            let error = refused(text, &nobody).expect(text);
            assert!(error.contains(said), "{text}: {error}");
        }
        let checker = Stored::new("m", Memory::dangerous(), Decoys::new(Secret::from("key")));
        let readable = Portal::new(()).checked_by(checker.by_derived_digest());
        for text in ["", "digest = false", "digest = []", "bearer = false", "digest = true"] {
            assert_eq!(refused(text, &readable), None, "{text}");
        }
    }

    #[test]
    fn algorithms_of_digest_are_named() {
        let offers = |text: &str| {
            let section = section(text).unwrap();
            section.digest.0.iter().map(|variant| variant.name()).collect::<Vec<_>>()
        };
        assert_eq!(offers("digest = true"), ["SHA-256"]);
        let two = "digest = [\"SHA-512-256\", \"md5-sess\"]";
        assert_eq!(offers(two), ["SHA-512-256", "MD5-sess"]);
        assert!(section("digest = [\"SHA-1\"]").unwrap_err().message().contains("SHA-512-256"));
        assert!(section("digest = 1").is_err() && section("bearer = 1").is_err());
        let shown = |text: &str| format!("{:?}", section(text).unwrap());
        assert_eq!(
            shown("digest = true"),
            shown("\n\ndigest = true"),
            "its place is nothing of it"
        );
    }
}
