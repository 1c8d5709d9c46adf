//! Password hashes: what a table stores so that it need not store passwords.
//!
//! ```
//! use countersign::Secret;
//! use countersign_checkers::hash::{Accept, Cost, Hash};
//!
//! let text = "{SHA256-CRYPT}$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA";
//! let hash = Hash::parse(text, &Accept::default())?;
//! assert!(hash.verify(&Secret::from("Hello world!")));
//! assert_eq!(hash.cost(), Cost::Expensive); // so: through the pool, not in a runtime's thread
//! # Ok::<(), countersign_checkers::hash::HashError>(())
//! ```
//!
//! The texts are Dovecot's `{SCHEME}data`, `{SCHEME.b64}data` and `{SCHEME.hex}data`, crypt(3)'s and the PHC
//! string format's `$id$…`, or Django's. One file for each family; `scheme.rs` holds the table.

use std::fmt;
use std::sync::Arc;

use countersign::Secret;
use sha2::{Digest as _, Sha512};

mod argon2id;
mod blf_crypt;
mod crypt64;
mod des_crypt;
mod digest;
mod error;
mod limits;
mod md5_crypt;
mod memory;
mod pbkdf2;
mod plain;
mod scheme;
mod scrypt;
mod sha_crypt;
mod yescrypt;

pub use error::HashError;
pub use limits::{Accept, Limits, Recipe};
pub use memory::Memory;
pub use scheme::Scheme;

use scheme::{Encoding, Family};

/// Longer texts are refused unread. The longest that a scheme of the table writes is about 250.
const MAX_TEXT: usize = 1024;

/// A stored password hash, parsed and within its limits. Cheap to clone.
#[derive(Clone)]
pub struct Hash(Arc<dyn Family>);

/// Where a hash may be verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// About a microsecond: on the spot.
    Cheap,
    /// Half a millisecond to seconds: never in a thread that others wait for.
    Expensive,
}

impl Hash {
    /// Reads a stored hash. Cost parameters are checked here, so that whatever was parsed may be
    /// verified.
    ///
    /// # Errors
    /// [`HashError`], which names the scheme or parameter and never shows the data.
    pub fn parse(text: &str, accept: &Accept) -> Result<Self, HashError> {
        let (scheme, encoding, data) = split(text, accept)?;
        if text.len() > MAX_TEXT {
            return Err(HashError::Malformed {
                scheme: scheme.name(),
                reason: "it is longer than 1024 bytes",
            });
        }
        scheme.parse(data, encoding, accept).map(Self)
    }

    /// Hashes a new password.
    ///
    /// `salt` is 16 bytes from the system's generator, fresh for each call. Takes as long as
    /// [`Hash::verify`] will, which is why the pool offers it too.
    ///
    /// # Errors
    /// [`HashError::Password`] when the scheme would cut the password off; [`HashError::Malformed`]
    /// when the recipe is outside of what its scheme allows; [`HashError::OutOfMemory`].
    pub fn create(recipe: &Recipe, password: &Secret, salt: [u8; 16]) -> Result<Self, HashError> {
        Self::create_in(recipe, password, salt, &mut Memory::default())
    }

    /// [`Hash::create`] in memory that is already there.
    ///
    /// # Errors
    /// As [`Hash::create`].
    pub fn create_in(
        recipe: &Recipe,
        password: &Secret,
        salt: [u8; 16],
        memory: &mut Memory,
    ) -> Result<Self, HashError> {
        Self::make(recipe, Some(password.expose()), salt, memory)
    }

    /// A hash that takes the work of this recipe and that no password has: what an unknown user's
    /// password is verified against, so that being unknown takes as long as being wrong.
    ///
    /// # Errors
    /// As [`Hash::create`], for the recipe only.
    pub fn decoy(recipe: &Recipe, salt: [u8; 16]) -> Result<Self, HashError> {
        Self::make(recipe, None, salt, &mut Memory::default())
    }

    fn make(
        recipe: &Recipe,
        password: Option<&[u8]>,
        salt: [u8; 16],
        memory: &mut Memory,
    ) -> Result<Self, HashError> {
        let family = match *recipe {
            Recipe::Argon2id { memory_kib, passes, lanes } => {
                argon2id::create([memory_kib, passes, lanes], password, salt, memory)?
            }
            Recipe::Bcrypt { cost } => blf_crypt::create(cost, password, salt)?,
            Recipe::Sha256Crypt { rounds } => {
                sha_crypt::create(sha_crypt::Variant::Sha256, rounds, password, salt)?
            }
            Recipe::Sha512Crypt { rounds } => {
                sha_crypt::create(sha_crypt::Variant::Sha512, rounds, password, salt)?
            }
            Recipe::SaltedSha256 => digest::create(digest::SHA256, password, salt),
            Recipe::SaltedSha512 => digest::create(digest::SHA512, password, salt),
        };
        Ok(Self(family))
    }

    /// Whether this is the password. Compares in constant time and all of the password: what a
    /// scheme cannot hold (for bcrypt more than 72 bytes, or a NUL) is hashed and refused.
    ///
    /// A hash that could not be computed for lack of memory is refused too; [`Hash::verify_in`]
    /// tells the two apart.
    pub fn verify(&self, password: &Secret) -> bool {
        self.verify_in(password, &mut Memory::default()) == Ok(true)
    }

    /// [`Hash::verify`] in memory that is already there: saves a tenth of argon2's time.
    ///
    /// # Errors
    /// [`HashError::OutOfMemory`].
    pub fn verify_in(&self, password: &Secret, memory: &mut Memory) -> Result<bool, HashError> {
        let result = self.0.verify(password.expose(), memory);
        memory.shrink();
        result
    }

    /// Where it may be verified.
    pub fn cost(&self) -> Cost {
        self.0.cost()
    }

    /// Whether a hash by `recipe` would be stronger: then the next successful login should store a
    /// new one. Another scheme than the recipe's is outdated by definition.
    pub fn outdated(&self, recipe: &Recipe) -> bool {
        self.0.weaker_than(recipe)
    }

    /// The scheme, without data: for logs and lists.
    pub fn scheme(&self) -> &'static str {
        self.0.scheme()
    }

    /// The password, where it is no hash at all but the password.
    pub(crate) fn password_text(&self) -> Option<Secret> {
        (self.0.scheme() == "PLAIN").then(|| Secret::from(self.0.data()))
    }

    /// What tells this hash from every other one: the scheme, then [`Family::each_part`].
    pub(crate) fn each_part(&self, mut part: impl FnMut(&[u8])) {
        part(self.0.scheme().as_bytes());
        self.0.each_part(&mut part);
    }

    /// `{SCHEME}data`, to be stored. The name is long so that a search finds every place that shows a
    /// hash.
    pub fn expose_text(&self) -> String {
        format!("{{{}}}{}", self.0.scheme(), self.0.data())
    }

    #[cfg(test)]
    pub(crate) fn of_family(family: Arc<dyn Family>) -> Self {
        Self(family)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({{{}}}…)", self.scheme())
    }
}

/// Takes `{SCHEME.encoding}` off.
fn split<'a>(text: &'a str, accept: &Accept) -> Result<(Scheme, Encoding, &'a str), HashError> {
    if let Some((name, data)) = text.strip_prefix('{').and_then(|t| t.split_once('}')) {
        let (name, encoding) = Encoding::split(name);
        return Ok((Scheme::named(name)?, encoding, data));
    }
    let crypt = text.starts_with('$') && accept.default_scheme != Scheme::PLAIN;
    let scheme = match crypt {
        true => Scheme::CRYPT,
        false => accept.default_scheme,
    };
    Ok((scheme, Encoding::Native, text))
}

/// A password's hash as OpenNebula's `core` stores it, as a text that names its scheme: hexadecimal digits alone,
/// 64 of an unsalted SHA-256, or 40 of an unsalted SHA-1 up to its version 5.8. Nothing: it is none.
///
/// For accounts that are known to come from there, and nowhere else: a password in clear text may look the same.
pub fn of_opennebula(text: &str) -> Option<String> {
    let scheme = match text.len() {
        40 => "SHA",
        64 => "SHA256",
        _ => return None,
    };
    let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| format!("{{{scheme}.hex}}{text}"))
}

/// The system's libraries that compute hashes here, such as `libsodium 1.0.18, libxcrypt`, or `none`. Opens
/// them if nobody has yet, which takes some milliseconds.
pub fn libraries() -> String {
    countersign_hashlibs::found()
}

/// The tag of a decoy: to be met, a password would have to hash to a value that was chosen without it.
fn unreachable_tag(salt: &[u8; 16]) -> [u8; 64] {
    let digest = Sha512::new().chain_update(b"decoy").chain_update(salt);
    digest.finalize().into()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) use super::scheme::Family;

    /// Whether the system's libcrypt is there. If not, says to people and to `cargo xtask test` which test
    /// could not run, or not wholly.
    pub(crate) fn has_crypt(test: &str) -> bool {
        use std::io::Write;
        if countersign_hashlibs::has_crypt() {
            return true;
        }
        eprintln!("not run: {test}: this machine has no libxcrypt");
        if let Some(file) = std::env::var_os("COUNTERSIGN_NOT_RUN") {
            let mut file = std::fs::File::options().append(true).open(file).unwrap();
            writeln!(file, "{test}\tthis machine has no libxcrypt").unwrap();
        }
        false
    }

    /// One recipe of every kind, as cheap as it goes.
    const RECIPES: [Recipe; 6] = [
        Recipe::Argon2id { memory_kib: 8, passes: 1, lanes: 1 },
        Recipe::Bcrypt { cost: 4 },
        Recipe::Sha256Crypt { rounds: 1000 },
        Recipe::Sha512Crypt { rounds: 1000 },
        Recipe::SaltedSha256,
        Recipe::SaltedSha512,
    ];

    /// `printf ada | sha256sum`, and `sha1sum`.
    #[test]
    fn opennebula_stores_digits_alone() {
        for text in [
            "fdee430d40bd57deeac186cd9790033d0f06f909a8806e7ce6e717ab7c7d5029",
            "e4ea294c062c525643df036a35ca579b905fa400",
        ] {
            let text = of_opennebula(text).unwrap();
            let hash = Hash::parse(&text, &Accept::default()).unwrap();
            assert!(hash.verify(&Secret::from("ada")) && !hash.verify(&Secret::from("Ada")));
        }
        let long = "0".repeat(65);
        for text in ["", "ada", "{SHA256}x", &long, &long[..63], &"g".repeat(64), &"é".repeat(20)]
        {
            assert_eq!(of_opennebula(text), None, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// What was created verifies, also after a round through its text; nothing else does.
        #[test]
        fn created_hashes_verify(
            password in proptest::collection::vec(any::<u8>(), 0..100),
            other in proptest::collection::vec(any::<u8>(), 0..100),
            salt: [u8; 16],
            kind in 0..RECIPES.len(),
        ) {
            let recipe = RECIPES[kind];
            let secret = Secret::from(password.as_slice());
            let hash = match Hash::create(&recipe, &secret, salt) {
                Ok(hash) => hash,
                Err(error) => {
                    let unfit = password.contains(&0) || password.len() > 72;
                    let refused = matches!(error, HashError::Password { .. });
                    prop_assert!(unfit && refused, "{}", error);
                    return Ok(());
                }
            };
            let again = Hash::parse(&hash.expose_text(), &Accept::default()).unwrap();
            prop_assert_eq!(again.expose_text(), hash.expose_text());
            for hash in [hash, again] {
                prop_assert!(hash.verify(&secret));
                prop_assert!(!hash.outdated(&recipe));
                if other != password {
                    prop_assert!(!hash.verify(&Secret::from(other.as_slice())));
                }
                let mut longer = password.clone();
                longer.push(0);
                prop_assert!(!hash.verify(&Secret::from(longer.as_slice())));
            }
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in ".{0,80}", data in "[ -~]{0,120}", row in 0..Scheme::all().count()) {
            let accept = Accept { allow_plain: true, allow_weak: true, ..Accept::default() };
            let _ = Hash::parse(&text, &accept);
            let scheme = Scheme::all().nth(row).unwrap();
            for text in [
                format!("{{{}}}{data}", scheme.name()),
                format!("{{{}.hex}}{data}", scheme.name()),
                format!("$2b$10${data}"),
                format!("$6$rounds={data}"),
                format!("$argon2id$v=19$m={data}"),
                format!("$y$j9T${data}"),
                format!("$y${data}"),
                format!("$7${data}"),
                format!("$scrypt$ln={data}"),
                format!("$pbkdf2-sha256${data}"),
                format!("pbkdf2_sha256${data}"),
                format!("$apr1${data}"),
            ] {
                let _ = Hash::parse(&text, &accept);
            }
        }
    }

    #[test]
    fn decoys_match_nothing_and_cost_the_same() {
        for recipe in RECIPES {
            let decoy = Hash::decoy(&recipe, [9; 16]).unwrap();
            let real = Hash::create(&recipe, &Secret::from("x"), [9; 16]).unwrap();
            assert_eq!(decoy.cost(), real.cost());
            assert_eq!(decoy.expose_text().len(), real.expose_text().len());
            assert!(!decoy.verify(&Secret::from("x")) && !decoy.verify(&Secret::default()));
        }
    }

    #[test]
    fn what_is_recognised_and_not_verified_says_so() {
        for (text, part) in [
            ("$md5$salt$hash", "an unknown $prefix$"),
            ("$argon2d$x", "argon2d"),
            ("abJnggxhB/yWI", "allow_weak"),
            ("{CRYPT}abJnggxhB/yWI", "allow_weak"),
            ("_J9..F3ePYmH79S1mwmE", "BSD's DES"),
            ("{CRAM-MD5}x", "unknown password scheme {CRAM-MD5}"),
            ("{SHA265}x", "did you mean {SHA256}?"),
        ] {
            let error = Hash::parse(text, &Accept::default()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let long = format!("{{SHA256}}{}", "A".repeat(2000));
        let error = Hash::parse(&long, &Accept::default()).unwrap_err();
        assert!(error.to_string().contains("longer than 1024"));
    }

    #[test]
    fn impossible_recipes_are_errors() {
        for recipe in [
            Recipe::Argon2id { memory_kib: 7, passes: 1, lanes: 1 },
            Recipe::Argon2id { memory_kib: 8, passes: 0, lanes: 1 },
            Recipe::Bcrypt { cost: 3 },
            Recipe::Bcrypt { cost: 300 },
            Recipe::Sha512Crypt { rounds: 10 },
        ] {
            let made = Hash::create(&recipe, &Secret::from("x"), [0; 16]);
            assert!(matches!(made, Err(HashError::Malformed { .. })), "{recipe:?}");
            let decoy = Hash::decoy(&recipe, [0; 16]);
            assert!(matches!(decoy, Err(HashError::Malformed { .. })), "{recipe:?}");
        }
    }
}
