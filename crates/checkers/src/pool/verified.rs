//! What was verified a moment ago, so that the same login need not be hashed again.
//!
//! An entry is a MAC, under a key that this process drew when it started and never shows, over everything
//! that the answer depends on: who logs in, the stored hash as it is stored, how it is read, and the
//! password. A changed password has another stored hash, and so never meets an old entry; whether the
//! account may be used at all is its checker's to say, each time. No password is kept, in no form that says
//! anything without the key.

use std::fmt;
use std::hash::{Hash as HashOf, Hasher};
use std::io;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use quick_cache::sync::Cache;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::hash::{Accept, Hash};

/// How much is remembered, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remember {
    /// How many right passwords, and as many wrong ones, by estimate 100 bytes each; those that were not used for
    /// longest make room. 0: none. Default 20,000.
    pub entries: usize,
    /// For how long a right password need not be hashed again. Default 10 minutes.
    pub right_for: Duration,
    /// For how long a wrong one is known to be wrong. Default one minute.
    pub wrong_for: Duration,
}

impl Default for Remember {
    fn default() -> Self {
        Self {
            entries: 20_000,
            right_for: Duration::from_secs(600),
            wrong_for: Duration::from_secs(60),
        }
    }
}

impl Remember {
    /// Every login is hashed.
    pub const NOTHING: Self =
        Self { entries: 0, right_for: Duration::ZERO, wrong_for: Duration::ZERO };
}

/// An attempt: who, against which stored hash, with which password. Equal attempts have equal answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Attempt([u8; 32]);

/// It is a MAC already: the table needs no more of it, and nobody without the key can choose one.
impl HashOf for Attempt {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [first, ..] = self.0.as_chunks::<8>().0 else { return };
        state.write_u64(u64::from_le_bytes(*first));
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attempt(…)")
    }
}

/// Turns attempts into MACs.
pub(super) struct Key(Hmac<Sha256>);

impl Key {
    /// A key for this process.
    pub(super) fn draw() -> io::Result<Self> {
        let mut key = Zeroizing::new([0; 64]);
        getrandom::fill(&mut *key).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self::new(&key))
    }

    fn new(key: &[u8; 64]) -> Self {
        Self(Hmac::<Sha256>::new(key.into()))
    }

    /// An attempt at a stored text. How it is read is a part of it: `$1$x` is one thing as a hash, and
    /// another as a clear-text password.
    pub(super) fn of_text(
        &self,
        login: &str,
        stored: &str,
        accept: &Accept,
        password: &[u8],
    ) -> Attempt {
        let mut fields = Fields::begin(self, b'T', login);
        fields.add(stored.as_bytes());
        accept.each_field(|field| fields.add(field));
        fields.end(password)
    }

    /// An attempt at a hash that has been read.
    pub(super) fn of_hash(&self, login: &str, hash: &Hash, password: &[u8]) -> Attempt {
        let mut fields = Fields::begin(self, b'H', login);
        hash.each_part(|part| fields.add(part));
        fields.end(password)
    }
}

/// Fields under a MAC, each with its length before it: `ab` and `c` are not `a` and `bc`.
struct Fields(Hmac<Sha256>);

impl Fields {
    fn begin(key: &Key, kind: u8, login: &str) -> Self {
        let mut fields = Self(key.0.clone());
        fields.0.update(&[kind]);
        fields.add(login.as_bytes());
        fields
    }

    fn add(&mut self, field: &[u8]) {
        self.0.update(&(field.len() as u64).to_le_bytes());
        self.0.update(field);
    }

    fn end(mut self, password: &[u8]) -> Attempt {
        self.add(password);
        Attempt(self.0.finalize().into_bytes().into())
    }
}

/// The table. Right and wrong passwords have a bound each, so that guessing drives out nobody who logs in.
pub(super) struct Verified {
    right: Option<Cache<Attempt, Instant>>,
    wrong: Option<Cache<Attempt, Instant>>,
    right_for: Duration,
    wrong_for: Duration,
}

impl Verified {
    pub(super) fn new(remember: &Remember) -> Self {
        let table = |time: Duration| {
            let some = remember.entries > 0 && !time.is_zero();
            some.then(|| Cache::new(remember.entries))
        };
        Self {
            right: table(remember.right_for),
            wrong: table(remember.wrong_for),
            right_for: remember.right_for,
            wrong_for: remember.wrong_for,
        }
    }

    /// What the answer was, if it is known.
    pub(super) fn answer(&self, attempt: &Attempt, now: Instant) -> Option<bool> {
        let holds = |table: &Option<Cache<Attempt, Instant>>| {
            table.as_ref()?.get(attempt).filter(|until| now < *until)
        };
        if holds(&self.right).is_some() {
            return Some(true);
        }
        holds(&self.wrong).map(|_| false)
    }

    /// Remembers an answer that was computed. What it replaces was the same answer.
    pub(super) fn remember(&self, attempt: Attempt, right: bool, now: Instant) {
        let (table, time) = match right {
            true => (&self.right, self.right_for),
            false => (&self.wrong, self.wrong_for),
        };
        if let (Some(table), Some(until)) = (table, now.checked_add(time)) {
            table.insert(attempt, until);
        }
    }

    /// How many answers are remembered, some of which may be too old to be used.
    pub(super) fn len(&self) -> usize {
        [&self.right, &self.wrong].into_iter().flatten().map(Cache::len).sum()
    }

    pub(super) fn clear(&self) {
        [&self.right, &self.wrong].into_iter().flatten().for_each(Cache::clear);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::hash::{Limits, Recipe, Scheme};
    use countersign::Secret;
    use proptest::prelude::*;

    fn key() -> Key {
        Key::new(&[7; 64])
    }

    /// Few letters, and those that separate fields elsewhere, so that joined fields would often meet.
    fn field() -> impl Strategy<Value = String> {
        "[a\0:${}]{0,3}"
    }

    fn accepts() -> impl Strategy<Value = Accept> {
        (any::<bool>(), any::<bool>(), 0..2u32).prop_map(|(plain, allow_plain, cost)| {
            let default_scheme = if plain { Scheme::PLAIN } else { Scheme::CRYPT };
            let limits = Limits { bcrypt_cost: cost, ..Limits::default() };
            Accept { default_scheme, allow_plain, allow_weak: !allow_plain, limits }
        })
    }

    proptest! {
        /// Attempts that differ in anything never share an entry; equal ones always do.
        #[test]
        fn attempts_that_differ_never_meet(
            one in (field(), field(), accepts(), field()),
            two in (field(), field(), accepts(), field()),
        ) {
            let key = key();
            let attempt = |of: &(String, String, Accept, String)| {
                key.of_text(&of.0, &of.1, &of.2, of.3.as_bytes())
            };
            let same = one.0 == two.0
                && one.1 == two.1
                && format!("{:?}", one.2) == format!("{:?}", two.2)
                && one.3 == two.3;
            prop_assert_eq!(attempt(&one) == attempt(&two), same);
            prop_assert_eq!(attempt(&one), attempt(&one.clone()));
        }

        /// No field is cut off, however long it is.
        #[test]
        fn the_last_byte_of_long_fields_counts(len in 50..9000usize, which in 0..3usize) {
            let key = key();
            let attempt = |last: char| {
                let mut fields = [const { String::new() }; 3];
                fields[which] = "a".repeat(len);
                fields[which].push(last);
                let [login, stored, password] = fields;
                key.of_text(&login, &stored, &Accept::default(), password.as_bytes())
            };
            prop_assert_ne!(attempt('b'), attempt('c'));
        }

        /// Never more than the bound, and what is in it is never another's answer.
        #[test]
        fn the_table_is_bounded_and_true(
            attempts in proptest::collection::vec((0..200u8, any::<bool>()), 0..400),
            entries in 0..40usize,
        ) {
            let verified = Verified::new(&Remember { entries, ..Remember::default() });
            let (now, mut truth) = (Instant::now(), HashMap::new());
            for (name, right) in attempts {
                // A password does not turn from right to wrong: its hash would be another.
                let right = *truth.entry(name).or_insert(right);
                let attempt = Attempt([name; 32]);
                prop_assert!(verified.answer(&attempt, now).is_none_or(|known| known == right));
                verified.remember(attempt, right, now);
                prop_assert!(verified.len() <= 2 * entries);
            }
        }
    }

    #[test]
    fn every_setting_of_how_a_text_is_read_is_a_part() {
        let key = key();
        let settings = [
            Accept::default(),
            Accept { allow_plain: true, ..Accept::default() },
            Accept { allow_weak: true, ..Accept::default() },
            Accept { default_scheme: Scheme::PLAIN, ..Accept::default() },
            Accept {
                limits: Limits { scrypt_work_kib: 1, ..Limits::default() },
                ..Accept::default()
            },
            Accept {
                limits: Limits { argon2_work_kib: 1, ..Limits::default() },
                ..Accept::default()
            },
        ];
        for (i, one) in settings.iter().enumerate() {
            for (j, two) in settings.iter().enumerate() {
                let attempt = |accept| key.of_text("a", "b", accept, b"c");
                assert_eq!(attempt(one) == attempt(two), i == j);
            }
        }
    }

    #[test]
    fn read_hashes_are_told_apart_by_all_of_their_parts() {
        let key = key();
        let hash = |salt: u8, recipe| {
            let made = Hash::create(&recipe, &Secret::from("x"), [salt; 16]).unwrap();
            key.of_hash("a", &made, b"x")
        };
        let cheap = Recipe::Argon2id { memory_kib: 8, passes: 1, lanes: 1 };
        let dearer = Recipe::Argon2id { memory_kib: 8, passes: 2, lanes: 1 };
        let larger = Recipe::Argon2id { memory_kib: 9, passes: 1, lanes: 1 };
        assert_eq!(hash(1, cheap), hash(1, cheap));
        assert_ne!(hash(1, cheap), hash(2, cheap));
        assert_ne!(hash(1, cheap), hash(1, dearer));
        assert_ne!(hash(1, cheap), hash(1, larger));
        assert_ne!(hash(1, Recipe::Bcrypt { cost: 4 }), hash(2, Recipe::Bcrypt { cost: 4 }));
        assert_ne!(hash(1, Recipe::Bcrypt { cost: 4 }), hash(1, Recipe::Bcrypt { cost: 5 }));
        let made = Hash::create(&cheap, &Secret::from("x"), [1; 16]).unwrap();
        let text = made.expose_text();
        assert_ne!(hash(1, cheap), key.of_text("a", &text, &Accept::default(), b"x"));
        assert_ne!(hash(1, cheap), Key::new(&[8; 64]).of_hash("a", &made, b"x"));
    }

    #[test]
    fn answers_expire() {
        let remember = Remember {
            entries: 10,
            right_for: Duration::from_secs(600),
            wrong_for: Duration::from_secs(60),
        };
        let verified = Verified::new(&remember);
        let (start, right, wrong) = (Instant::now(), Attempt([1; 32]), Attempt([2; 32]));
        let after = |seconds| start + Duration::from_secs(seconds);
        verified.remember(right, true, start);
        verified.remember(wrong, false, start);
        assert_eq!(verified.answer(&right, after(599)), Some(true));
        assert_eq!(verified.answer(&wrong, after(59)), Some(false));
        // Being used does not make it last.
        assert_eq!(verified.answer(&right, after(600)), None);
        assert_eq!(verified.answer(&wrong, after(60)), None);
        verified.remember(right, true, after(700));
        assert_eq!(verified.answer(&right, after(1299)), Some(true));
        verified.clear();
        assert_eq!((verified.answer(&right, after(701)), verified.len()), (None, 0));
    }

    #[test]
    fn nothing_is_remembered_where_nothing_is_to_be() {
        let off = Verified::new(&Remember::NOTHING);
        let no_wrong =
            Verified::new(&Remember { wrong_for: Duration::ZERO, ..Remember::default() });
        let (now, attempt) = (Instant::now(), Attempt([1; 32]));
        for right in [true, false] {
            off.remember(attempt, right, now);
            assert_eq!((off.answer(&attempt, now), off.len()), (None, 0));
        }
        no_wrong.remember(attempt, false, now);
        assert_eq!(no_wrong.answer(&attempt, now), None);
    }
}
