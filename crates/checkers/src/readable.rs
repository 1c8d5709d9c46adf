//! What a store can serve that has passwords readable.

use countersign::{PasswordStore, TextStore, World};
use countersign_sasl::{Decoys, ScramHash, Stored};

/// The mechanisms of [`checker`].
#[cfg(any(feature = "kinds", test))]
pub(crate) const MECHANISMS: &[&str] = &[
    "password",
    "SCRAM-SHA-512-PLUS",
    "SCRAM-SHA-512",
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-256",
    "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-1",
    "CRAM-MD5",
    "APOP",
    "DIGEST",
    "EXTERNAL",
];

/// The checker of that name over a store of passwords: the mechanism `password`, and all that need the
/// password itself. The salts that it shows, of users and of names that nobody has, are this process's.
pub(crate) fn checker<S: PasswordStore + TextStore>(
    name: impl Into<String>,
    store: S,
    world: &dyn World,
) -> Stored<S> {
    Stored::new(name, store, Decoys::random(world))
        .by_password()
        .by_derived_scram(ScramHash::ALL)
        .by_cram_md5()
        .by_apop()
        .by_derived_digest()
        .by_external()
}

#[cfg(test)]
mod tests {
    use countersign::{Checker, testing::StillWorld};

    use super::*;
    use crate::memory::Memory;

    #[test]
    fn the_list_is_what_is_offered() {
        let checker = checker("m", Memory::dangerous(), &StillWorld::default());
        let offered: Vec<_> = checker.mechanisms().iter().map(|m| &*m.name).collect();
        assert_eq!(offered, MECHANISMS);
    }
}
