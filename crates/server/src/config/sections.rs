//! The sections of the configuration file, with their defaults.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use countersign::{DigestAlgorithm, Portal};
use countersign_checkers::accounts::KeptKeys;
use countersign_checkers::kinds::Span;
use countersign_http::Scheme;
use countersign_sasl::ScramHash;
use countersign_sasl::digest::Variant;
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use toml::Spanned;

use super::error::ConfigError;
use super::policy::NetworkWord;
use crate::audit::{Keeping, OnFailure};
use crate::front::dovecot::userdb::Userdb;
use crate::front::dovecot::{Announced, OnFault};
use crate::front::http::{
    CookieDomain, LoginPage, MailSection, Part, Parts, ReturnTo, TrustedProxies,
};
use crate::throttle::ThrottleRules;

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
    pub digest: DigestSwitch,
    /// Whether forward-auth takes bearer tokens (RFC 6750) that are no session's.
    pub bearer: Switch,
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
            digest: DigestSwitch::default(),
            bearer: Switch::default(),
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
        let (digest, bearer) = (&self.digest.0, &self.bearer.0);
        if let Some(digest) = digest.as_ref().filter(|said| !said.get_ref().is_empty())
            && !portal.offers(Scheme::Digest.mechanism())
        {
            let message = "no checker serves Digest, or the policy allows it nowhere";
            let help = "it needs passwords that can be read, such as those of a `file` checker with \
                        `allow_plain = true`, and accounts keep none; or leave it out";
            return Err(ConfigError::at(digest.span(), message).with_help(help));
        }
        if let Some(bearer) = bearer.as_ref().filter(|said| *said.get_ref())
            && !portal.offers(Scheme::Bearer.mechanism())
        {
            let message = "no checker serves bearer tokens, or the policy allows them nowhere";
            let help =
                "add a `[checker.jwt.NAME]`, or leave it out: tokens of sessions are taken always";
            return Err(ConfigError::at(bearer.span(), message).with_help(help));
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

/// Yes or no, and where that is said.
#[derive(Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct Switch(Option<Spanned<bool>>);

/// `true` for SHA-256, or algorithms by name.
#[derive(Clone, Default)]
pub struct DigestSwitch(Option<Spanned<Vec<Variant>>>);

impl Switch {
    /// Whether it is on.
    pub fn is_on(&self) -> bool {
        self.0.as_ref().is_some_and(|said| *said.get_ref())
    }
}

impl DigestSwitch {
    /// The algorithms, the most wanted first. None: it is off.
    pub fn offers(&self) -> &[Variant] {
        self.0.as_ref().map_or(&[], |said| said.get_ref())
    }
}

/// Without the place: a listener whose section moved in the file is unchanged.
impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.is_on().fmt(f)
    }
}

/// Without the place.
impl fmt::Debug for DigestSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.offers().fmt(f)
    }
}

impl<'de> Deserialize<'de> for DigestSwitch {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let said = Spanned::<Offered>::deserialize(from)?;
        let span = said.span();
        Ok(Self(Some(Spanned::new(span, said.into_inner().0))))
    }
}

/// The value of `digest`.
struct Offered(Vec<Variant>);

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
    pub mechanisms: Option<SaidMechanisms>,
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
            Some(SaidMechanisms(said)) => said.iter().map(|one| *one.get_ref()).collect(),
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
        let said = self.mechanisms.as_ref().map_or(&[][..], |said| &said.0);
        let unserved =
            said.iter().find(|one| !one.get_ref().served(portal, self.trust_client_certificates));
        let Some(one) = unserved else { return Ok(()) };
        let name = one.get_ref().name();
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

/// What a listener is told to announce, and where each is said.
#[derive(Clone, Deserialize)]
pub struct SaidMechanisms(Vec<Spanned<Announced>>);

/// Without the places: a listener whose section moved in the file is unchanged.
impl fmt::Debug for SaidMechanisms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(Spanned::get_ref)).finish()
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

/// `[audit]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditSection {
    /// Whether attempts are recorded at all.
    pub enabled: bool,
    /// The file of JSON lines.
    pub path: PathBuf,
    /// What to do when it cannot be written.
    pub on_failure: OnFailure,
    /// How many of the newest records are kept in the store for queries.
    pub keep: usize,
    /// Rotate the file when it is so large.
    pub rotate_size: Option<Size>,
    /// Rotate the file when its first record is so old.
    pub rotate_after: Option<Span>,
    /// How many rotated files are kept; absent: all.
    pub keep_files: Option<usize>,
    /// For how many days records are kept, in rotated files and in the store; absent: for ever.
    pub keep_days: Option<Spanned<u32>>,
}

impl AuditSection {
    /// How the file is kept.
    pub fn keeping(&self) -> Keeping {
        Keeping {
            on_failure: self.on_failure,
            rotate_size: self.rotate_size.map(|size| size.0),
            rotate_after: self.rotate_after.map(|span| span.0),
            keep_files: self.keep_files,
            keep_days: self.keep_days.as_ref().map(|days| *days.get_ref()),
        }
    }
}

impl Default for AuditSection {
    fn default() -> Self {
        Self {
            enabled: true,
            path: "audit.jsonl".into(),
            on_failure: OnFailure::default(),
            keep: 10_000,
            rotate_size: None,
            rotate_after: None,
            keep_files: None,
            keep_days: None,
        }
    }
}

/// `[metrics]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsSection {
    /// Whether logins are counted.
    pub enabled: bool,
}

impl Default for MetricsSection {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// `[limits]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsSection {
    /// How long a checker may take for one step. Postfix gives up after ten seconds.
    pub step_deadline: Span,
    /// Logins that wait between HTTP requests.
    pub conversations: usize,
    /// Threads that verify slow password hashes; absent: one for each core.
    pub hash_threads: Option<std::num::NonZeroUsize>,
    /// Slow hashes that wait for a thread.
    pub hash_queue: usize,
    /// Accounts kept in memory.
    pub cached_accounts: usize,
    /// Verified passwords that need not be hashed again, and as many wrong ones; 0: none. Kept as MACs under
    /// a key of the process.
    pub verified_cache: usize,
    /// For how long; wrong ones a minute at most.
    pub verified_for: Span,
}

impl Default for LimitsSection {
    fn default() -> Self {
        Self {
            step_deadline: Span(Duration::from_secs(9)),
            conversations: 200_000,
            hash_threads: None,
            hash_queue: 300,
            cached_accounts: 10_000,
            verified_cache: 20_000,
            verified_for: Span(Duration::from_secs(600)),
        }
    }
}

/// `[throttle]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ThrottleSection {
    /// Whether guessing is slowed down.
    pub enabled: bool,
    /// Wrong guesses of a user from one address that cost nothing.
    pub user_free: u32,
    /// Wrong guesses from one address, whoever is tried.
    pub address_free: u32,
    /// Wrong guesses from one network (/24, /48 in IPv6).
    pub network_free: u32,
    /// Wrong guesses at a user's second factor, wherever they come from.
    pub code_free: u32,
    /// The longest delay of those, except in networks where the user has logged in.
    pub code_longest: Span,
    /// The longest delay. Postfix gives up after ten seconds.
    pub longest: Span,
    /// The longest delay where it is not known where a guess comes from.
    pub longest_unknown: Span,
    /// How long failures are remembered after the last one.
    pub window: Span,
    /// Addresses behind which many users are: only users are slowed down there.
    pub shared: Vec<NetworkWord>,
}

impl Default for ThrottleSection {
    fn default() -> Self {
        let rules = ThrottleRules::default();
        Self {
            enabled: rules.enabled,
            user_free: rules.user_free,
            address_free: rules.address_free,
            network_free: rules.network_free,
            code_free: rules.code_free,
            code_longest: Span(rules.code_longest),
            longest: Span(rules.longest),
            longest_unknown: Span(rules.longest_unknown),
            window: Span(rules.window),
            shared: rules.shared.into_iter().map(NetworkWord).collect(),
        }
    }
}

impl ThrottleSection {
    /// What the throttle goes by.
    pub fn rules(&self) -> ThrottleRules {
        ThrottleRules {
            enabled: self.enabled,
            user_free: self.user_free,
            address_free: self.address_free,
            network_free: self.network_free,
            code_free: self.code_free,
            code_longest: self.code_longest.0,
            longest: self.longest.0,
            longest_unknown: self.longest_unknown.0,
            window: self.window.0,
            shared: self.shared.iter().map(|network| network.0).collect(),
        }
    }
}

/// `[sessions]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionsSection {
    /// How long a session of an HTTP login lasts.
    pub lifetime: Span,
}

impl Default for SessionsSection {
    fn default() -> Self {
        Self { lifetime: Span(Duration::from_secs(12 * 3600)) }
    }
}

/// `[accounts]`: how new passwords are hashed (argon2id, RFC 9106).
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccountsPolicy {
    /// Memory of one hash, in KiB.
    pub argon2_memory_kib: u32,
    /// Passes over the memory.
    pub argon2_passes: u32,
    /// What authenticator apps show beside a user's name.
    pub issuer: String,
    /// The SCRAM mechanisms that keys are kept for, made of passwords when they are set, and at logins by
    /// password.
    #[serde(deserialize_with = "scram_mechanisms")]
    pub scram: Vec<ScramHash>,
    /// How many iterations those keys are made with. Every client computes them at each login.
    #[serde(deserialize_with = "scram_iterations")]
    pub scram_iterations: u32,
}

impl Default for AccountsPolicy {
    fn default() -> Self {
        let kept = KeptKeys::default();
        Self {
            argon2_memory_kib: 19_456,
            argon2_passes: 2,
            issuer: "Countersign".to_owned(),
            scram: kept.hashes,
            scram_iterations: kept.iterations,
        }
    }
}

fn scram_mechanisms<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<ScramHash>, D::Error> {
    let mut hashes = Vec::new();
    for name in Vec::<String>::deserialize(from)? {
        let found = ScramHash::ALL.into_iter().find(|hash| hash.mechanism() == name);
        let hash = found.ok_or_else(|| {
            let known = ScramHash::ALL.map(ScramHash::mechanism).join("`, `");
            serde::de::Error::custom(format!("keys can be kept for `{known}`"))
        })?;
        if !hashes.contains(&hash) {
            hashes.push(hash);
        }
    }
    Ok(hashes)
}

fn scram_iterations<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let iterations = u32::deserialize(from)?;
    let fits = (ScramHash::FEWEST_ITERATIONS..=1_000_000).contains(&iterations);
    let told = "between 4096 (RFC 7677) and 1000000, which every client computes at each login";
    fits.then_some(iterations).ok_or_else(|| serde::de::Error::custom(told))
}

/// `[log]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSection {
    /// `text` or `json`.
    pub format: LogFormat,
    /// The least serious level that is written.
    pub level: LogLevel,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// How serious.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something is broken.
    Error,
    /// Something should be looked at.
    Warn,
    /// What the server does.
    #[default]
    Info,
    /// Everything.
    Debug,
}

/// A file mode, as in `"0660"`: quoted, for TOML has no octal number with a leading zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode(pub u32);

/// A number of bytes, as in `"64MiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text {
            expecting: "a size such as \"64MiB\"",
            parse: |text| {
                let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
                let size = units.iter().find_map(|(unit, shift)| {
                    let number = text.strip_suffix(unit)?.trim_end();
                    let number = number.bytes().all(|b| b.is_ascii_digit()).then_some(number)?;
                    number.parse::<u64>().ok()?.checked_mul(1 << shift)
                });
                size.filter(|size| *size > 0).map(Size).ok_or(
                    "a size is a whole number above zero of KiB, MiB or GiB, such as \"64MiB\"",
                )
            },
        })
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text {
            expecting: "a file mode such as \"0660\"",
            parse: |text| {
                let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
                mode.map(Mode).ok_or("a file mode is three or four octal digits, such as \"0660\"")
            },
        })
    }
}

struct Text<T> {
    expecting: &'static str,
    parse: fn(&str) -> Result<T, &'static str>,
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
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
            section.digest.offers().iter().map(|variant| variant.name()).collect::<Vec<_>>()
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
