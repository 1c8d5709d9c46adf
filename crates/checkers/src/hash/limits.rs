//! What a stored hash may cost, and what a new one should cost.

use super::HashError;
use super::scheme::Scheme;

/// What [`Hash::parse`](super::Hash::parse) accepts.
#[derive(Debug, Clone)]
pub struct Accept {
    /// The scheme of a text without `{SCHEME}`. A text that begins with `$` is always crypt's,
    /// unless the default is PLAIN.
    pub default_scheme: Scheme,
    /// Whether clear-text passwords are accepted. Off by default.
    pub allow_plain: bool,
    /// Whether traditional DES hashes are accepted, which ignore all but eight characters. Off by default.
    pub allow_weak: bool,
    /// What a verification may cost.
    pub limits: Limits,
}

impl Default for Accept {
    fn default() -> Self {
        Self {
            default_scheme: Scheme::CRYPT,
            allow_plain: false,
            allow_weak: false,
            limits: Limits::default(),
        }
    }
}

impl Accept {
    /// Every setting, one after the other and always in the same order: two that read some text differently
    /// differ here. Taken apart without `..`, so that a setting more cannot be forgotten.
    pub(crate) fn each_field(&self, mut field: impl FnMut(&[u8])) {
        let Self { default_scheme, allow_plain, allow_weak, limits } = self;
        let Limits {
            argon2_memory_kib,
            argon2_passes,
            argon2_lanes,
            argon2_work_kib,
            bcrypt_cost,
            sha_crypt_rounds,
            pbkdf2_rounds,
            scrypt_work_kib,
        } = *limits;
        field(default_scheme.name().as_bytes());
        field(&[u8::from(*allow_plain), u8::from(*allow_weak)]);
        let all = [
            argon2_memory_kib.into(),
            argon2_passes.into(),
            argon2_lanes.into(),
            argon2_work_kib,
            bcrypt_cost.into(),
            sha_crypt_rounds.into(),
            pbkdf2_rounds.into(),
            scrypt_work_kib,
        ];
        let mut numbers = [0; 64];
        for (place, number) in numbers.as_chunks_mut::<8>().0.iter_mut().zip(all) {
            *place = number.to_le_bytes();
        }
        field(&numbers);
    }
}

/// Upper bounds of cost parameters, checked when a hash is read, before anything is computed.
///
/// Who can write a hash (an import, a directory, a user's own record) must not be able to stop the
/// server with one line: `m=4194304`, `$2b$31$` and `rounds=999999999` are all valid texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// argon2 `m`: memory of one hash in KiB. Default 1 GiB.
    pub argon2_memory_kib: u32,
    /// argon2 `t`: passes over the memory. Default 32.
    pub argon2_passes: u32,
    /// argon2 `p`: lanes; they are computed one after the other. Default 16.
    pub argon2_lanes: u32,
    /// argon2 `m × t`: KiB that are written in all, which is what the time depends on.
    /// Default 4 GiB, some three to five seconds.
    pub argon2_work_kib: u64,
    /// bcrypt's cost: 2^cost rounds. Default 15, some two seconds.
    pub bcrypt_cost: u32,
    /// Rounds of SHA256-CRYPT and SHA512-CRYPT. Default 1,000,000, some 0.3 seconds.
    pub sha_crypt_rounds: u32,
    /// Rounds of PBKDF2. Default 5,000,000, by estimate some seconds.
    pub pbkdf2_rounds: u32,
    /// scrypt and yescrypt `N × r × p × 128` bytes, in KiB: what is mixed, and no less than the memory of
    /// one hash. Default 512 MiB, by estimate a second or two.
    pub scrypt_work_kib: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            argon2_memory_kib: 1024 * 1024,
            argon2_passes: 32,
            argon2_lanes: 16,
            argon2_work_kib: 4 * 1024 * 1024,
            bcrypt_cost: 15,
            sha_crypt_rounds: 1_000_000,
            pbkdf2_rounds: 5_000_000,
            scrypt_work_kib: 512 * 1024,
        }
    }
}

/// Refuses a parameter above its limit.
pub(super) fn cap(
    scheme: &'static str,
    parameter: &'static str,
    value: u64,
    limit: u64,
) -> Result<(), HashError> {
    if value <= limit {
        return Ok(());
    }
    Err(HashError::TooCostly { scheme, parameter, value, limit })
}

/// How new passwords are hashed, and so also the measure of old ones:
/// see [`Hash::outdated`](super::Hash::outdated).
///
/// ```
/// use countersign_checkers::hash::Recipe;
/// assert_eq!(Recipe::default(), Recipe::Argon2id { memory_kib: 19_456, passes: 2, lanes: 1 });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recipe {
    /// RFC 9106. The default, with OWASP's parameters: 19 MiB, two passes, one lane.
    Argon2id {
        /// `m`, in KiB.
        memory_kib: u32,
        /// `t`.
        passes: u32,
        /// `p`.
        lanes: u32,
    },
    /// For readers of the same table that know nothing better. Passwords of at most 72 bytes.
    Bcrypt {
        /// 4 to 31: 2^cost rounds.
        cost: u32,
    },
    /// `$5$`.
    Sha256Crypt {
        /// 1,000 to 999,999,999.
        rounds: u32,
    },
    /// `$6$`.
    Sha512Crypt {
        /// 1,000 to 999,999,999.
        rounds: u32,
    },
    /// One salted SHA-256: fast for whoever guesses, too. For secrets that are random already.
    SaltedSha256,
    /// One salted SHA-512; see [`Recipe::SaltedSha256`].
    SaltedSha512,
}

impl Default for Recipe {
    fn default() -> Self {
        Self::Argon2id { memory_kib: 19_456, passes: 2, lanes: 1 }
    }
}
