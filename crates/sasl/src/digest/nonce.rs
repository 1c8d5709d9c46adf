//! Nonces that prove by themselves that they are ours and how old they are, and how often each was used.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::{Secret, World};
use hmac::Hmac;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::scram::mac;

const RANDOM: usize = 9;
const TAG: usize = 16;
/// How far the clock of another process may be ahead of ours, in milliseconds.
const AHEAD_MS: u64 = 60_000;

/// When it was made, and what tells it from others of the moment.
type Name = (u64, [u8; RANDOM]);

#[derive(Debug)]
pub(super) struct Nonces {
    key: Secret,
    clock: Clock,
    lifetime_ms: u64,
    kept: usize,
    used: Mutex<Used>,
}

/// By which a nonce's age is told.
#[derive(Clone, Copy, Debug)]
enum Clock {
    /// The one that never steps, which is this process's own.
    Steady,
    /// The one that is the same everywhere, nearly, and is read in seconds.
    Wall {
        /// When this began.
        begun_ms: u64,
    },
}

#[derive(Debug, Default)]
struct Used {
    counts: BTreeMap<Name, Counts>,
    /// Nonces up to this moment that are not in the table may have been in it.
    forgotten_to: Option<u64>,
}

/// Which counts a client has used: a client sends several requests at a time, and they come as they come.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    highest: u32,
    /// Bit n: `highest - n` was used.
    recent: u64,
}

impl Nonces {
    pub(super) fn new(world: &dyn World) -> Self {
        let mut key = [0; 32];
        world.fill(&mut key);
        let key = Secret::from(&key[..]);
        let clock = Clock::Steady;
        Self { key, clock, lifetime_ms: 5 * 60 * 1000, kept: 65_536, used: Mutex::default() }
    }

    /// With a key that others have too.
    pub(super) fn shared(self, key: Secret, world: &dyn World) -> Self {
        let begun_ms = Clock::Wall { begun_ms: 0 }.now_ms(world);
        let clock = Clock::Wall { begun_ms };
        // What was used before this began, it cannot know.
        let used = Mutex::new(Used { forgotten_to: Some(begun_ms), ..Used::default() });
        Self { key, clock, used, ..self }
    }

    pub(super) fn bounded(self, lifetime_ms: u64, kept: usize) -> Self {
        Self { lifetime_ms, kept: kept.max(1), ..self }
    }

    pub(super) fn fresh(&self, world: &dyn World) -> String {
        let mut random = [0; RANDOM];
        world.fill(&mut random);
        let made = self.clock.made_ms(world);
        let mut bytes = made.to_be_bytes().to_vec();
        bytes.extend(random);
        bytes.extend(self.tag(&bytes));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Uses a nonce with a count, or for the one request of a client that does not count. `false`: it is not
    /// ours, or too old, or was used so before, or too much has been seen since to know.
    pub(super) fn count(&self, nonce: &str, count: Option<u32>, world: &dyn World) -> bool {
        let now = self.clock.now_ms(world);
        let Some(name) = self.name(nonce) else { return false };
        let (ahead, lifetime) = (self.clock.ahead_ms(), self.lifetime_ms);
        let alive =
            |made: u64| made.saturating_sub(now) <= ahead && now.saturating_sub(made) <= lifetime;
        if !alive(name.0) {
            return false;
        }
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let Used { counts, forgotten_to } = &mut *used;
        while let Some(oldest) = counts.first_entry().filter(|oldest| !alive(oldest.key().0)) {
            oldest.remove();
        }
        match counts.entry(name) {
            Entry::Occupied(mut entry) => entry.get_mut().take(count),
            Entry::Vacant(_) if forgotten_to.is_some_and(|to| name.0 <= to) => false,
            Entry::Vacant(entry) => {
                let taken = entry.insert(Counts::default()).take(count);
                if counts.len() > self.kept
                    && let Some(((made, _), _)) = counts.pop_first()
                {
                    *forgotten_to = Some(made);
                }
                taken
            }
        }
    }

    fn name(&self, nonce: &str) -> Option<Name> {
        let bytes = URL_SAFE_NO_PAD.decode(nonce).ok()?;
        let (made, rest) = bytes.split_first_chunk::<8>()?;
        let (random, tag) = rest.split_first_chunk::<RANDOM>()?;
        let ours = self.tag(&bytes[..bytes.len() - tag.len()]).ct_eq(tag);
        bool::from(ours).then_some((u64::from_be_bytes(*made), *random))
    }

    fn tag(&self, bytes: &[u8]) -> Vec<u8> {
        let mut tag = mac::<Hmac<Sha256>>(self.key.expose(), bytes);
        tag.truncate(TAG);
        tag
    }
}

impl Clock {
    fn now_ms(self, world: &dyn World) -> u64 {
        let now = world.now();
        match self {
            Self::Steady => now.steady_ms,
            Self::Wall { .. } => u64::try_from(now.unix).unwrap_or_default().saturating_mul(1000),
        }
    }

    /// The time of a new nonce. In the second in which this begins, its own are told from those before.
    fn made_ms(self, world: &dyn World) -> u64 {
        match self {
            Self::Steady => self.now_ms(world),
            Self::Wall { begun_ms } => self.now_ms(world).max(begun_ms.saturating_add(1)),
        }
    }

    fn ahead_ms(self) -> u64 {
        match self {
            Self::Steady => 0,
            Self::Wall { .. } => AHEAD_MS,
        }
    }
}

impl Counts {
    fn take(&mut self, count: Option<u32>) -> bool {
        let Some(count) = count else {
            // The only use of it, and the last.
            let unused = self.highest == 0;
            *self = Self { highest: u32::MAX, recent: u64::MAX };
            return unused;
        };
        if count == 0 {
            return false;
        }
        if count > self.highest {
            let ahead = count - self.highest;
            self.recent = self.recent.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = count;
            return true;
        }
        let bit = 1_u64.checked_shl(self.highest - count).unwrap_or(0);
        let unused = bit != 0 && self.recent & bit == 0;
        self.recent |= bit;
        unused
    }
}

#[cfg(test)]
mod tests {
    use countersign::testing::StillWorld;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_count_once_in_nearly_any_order() {
        let world = StillWorld::default();
        let nonces = Nonces::new(&world);
        let nonce = nonces.fresh(&world);
        for (count, fresh) in
            [(1, true), (1, false), (3, true), (2, true), (2, false), (0, false), (70, true)]
        {
            assert_eq!(nonces.count(&nonce, Some(count), &world), fresh, "{count}");
        }
        assert!(!nonces.count(&nonce, Some(6), &world), "too long ago to know");
        assert!(nonces.count(&nonce, Some(7), &world));
        assert!(!nonces.count(&nonce, None, &world));
        let other = nonces.fresh(&world);
        assert!(nonces.count(&other, None, &world));
        assert!(!nonces.count(&other, None, &world) && !nonces.count(&other, Some(9), &world));
    }

    #[test]
    fn only_ours_and_only_for_a_while() {
        let world = StillWorld::default();
        let nonces = Nonces::new(&world).bounded(1000, 9);
        let foreign = Nonces::new(&world).fresh(&world);
        assert!(!nonces.count(&foreign, Some(1), &world));
        let nonce = nonces.fresh(&world);
        for at in 0..nonce.len() {
            let mut changed = nonce.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(!nonces.count(std::str::from_utf8(&changed).unwrap(), Some(1), &world));
        }
        world.advance_ms(1000);
        assert!(nonces.count(&nonce, Some(1), &world));
        world.advance_ms(1);
        assert!(!nonces.count(&nonce, Some(2), &world));
    }

    #[test]
    fn those_with_the_same_key_take_each_other_s() {
        let world = StillWorld::default();
        world.set_unix(1_800_000_000);
        let node = || Nonces::new(&world).shared(Secret::from("of the deployment"), &world);
        let (one, other) = (node(), node());
        let old = one.fresh(&world);
        world.advance_ms(1000);
        let nonce = one.fresh(&world);
        assert!(one.count(&nonce, Some(1), &world) && !one.count(&nonce, Some(1), &world));
        assert!(other.count(&nonce, Some(2), &world) && !other.count(&nonce, Some(2), &world));
        let foreign = Nonces::new(&world).shared(Secret::from("of another"), &world);
        assert!(!foreign.count(&nonce, Some(3), &world));
        // One that begins later cannot know what was used before, not even in the same second.
        let late = node();
        assert!(!late.count(&nonce, Some(4), &world) && !late.count(&old, Some(1), &world));
        let fresh = late.fresh(&world);
        assert!(late.count(&fresh, Some(1), &world) && one.count(&fresh, Some(2), &world));
        // Clocks differ, but not by much.
        world.set_unix(1_800_000_001 - 60);
        assert!(one.count(&nonce, Some(5), &world));
        world.set_unix(1_800_000_001 - 61);
        assert!(!one.count(&nonce, Some(6), &world));
        world.set_unix(1_800_000_001 + 301);
        assert!(!one.count(&nonce, Some(7), &world));
    }

    #[test]
    fn what_is_forgotten_is_not_taken_again() {
        let world = StillWorld::default();
        let nonces = Nonces::new(&world).bounded(1_000_000, 2);
        let mut all = Vec::new();
        for _ in 0..5 {
            world.advance_ms(1);
            all.push(nonces.fresh(&world));
            assert!(nonces.count(&all[all.len() - 1], Some(1), &world));
        }
        let again: Vec<_> = all.iter().map(|n| nonces.count(n, Some(1), &world)).collect();
        assert_eq!(again, [false; 5]);
        let next: Vec<_> = all.iter().map(|n| nonces.count(n, Some(2), &world)).collect();
        assert_eq!(next, [false, false, false, true, true], "the table holds two");
        assert_eq!(nonces.used.lock().unwrap().counts.len(), 2);
    }

    proptest! {
        /// Whatever is sent in whatever order, nothing is taken twice.
        #[test]
        fn nothing_is_taken_twice(counts in prop::collection::vec(0_u32..200, 0..300)) {
            let mut taken = std::collections::BTreeSet::new();
            let mut window = Counts::default();
            for count in counts {
                if window.take(Some(count)) {
                    prop_assert!(taken.insert(count));
                }
            }
        }

        #[test]
        fn any_text_is_a_nonce_or_not(text: String) {
            let world = StillWorld::default();
            prop_assert!(!Nonces::new(&world).count(&text, Some(1), &world));
        }
    }
}
