//! The sections of the configuration file that belong to the whole server, with their defaults.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use toml::Spanned;

use countersign_checkers::accounts::KeptKeys;
use countersign_checkers::kinds::Span;
use countersign_sasl::ScramHash;
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::policy::NetworkWord;
use crate::audit::{Keeping, OnFailure};
use crate::throttle::ThrottleRules;

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
