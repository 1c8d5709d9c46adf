//! Password hashes by the system's C libraries, where they are: argon2id by libsodium, everything that
//! crypt(3) knows by libxcrypt.
//!
//! Both are faster than what is written in Rust today, and libxcrypt knows schemes that nothing else does.
//! Neither is needed: they are opened at run time, tried on a known answer, and left alone when they are not
//! there or answer anything else. All `unsafe` is in `sys.rs`.
#![deny(unsafe_code)]

use zeroize::Zeroizing;

#[allow(unsafe_code)]
mod sys;

/// The parameters of an argon2id hash (RFC 9106, version 19) with one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argon2id<'a> {
    /// `m`, in KiB: 8 and more.
    pub memory_kib: u32,
    /// `t`: 1 and more.
    pub passes: u32,
    /// The salt.
    pub salt: &'a [u8; 16],
}

/// Computes an argon2id tag of 16 bytes and more with libsodium. It takes its memory anew for each hash, and
/// gives it back.
///
/// False when it could not: there is no libsodium, it does not take these parameters, or it did not get its
/// memory. Nothing is known of the tag then.
#[must_use]
pub fn argon2id(parameters: Argon2id<'_>, password: &[u8], tag: &mut [u8]) -> bool {
    sys::sodium().is_some_and(|sodium| sodium.argon2id(parameters, password, tag))
}

/// Whether [`argon2id`] has a library.
pub fn has_argon2id() -> bool {
    sys::sodium().is_some()
}

/// crypt(3): hashes a password as a setting says, which may be a whole hash. The result begins with the
/// setting.
///
/// The caller has checked what the setting costs. None when there is no libxcrypt, when it does not know or
/// not accept the setting, or when the password holds a NUL or is longer than 511 bytes, which is
/// libxcrypt's limit.
pub fn crypt(password: &[u8], setting: &str) -> Option<Zeroizing<String>> {
    if password.len() > 511 || password.contains(&0) || setting.as_bytes().contains(&0) {
        return None;
    }
    sys::xcrypt()?.crypt(password, setting)
}

/// Whether [`crypt`] has a library.
pub fn has_crypt() -> bool {
    sys::xcrypt().is_some()
}

/// What was found, for a start's log: such as `libsodium 1.0.18, libxcrypt`.
pub fn found() -> String {
    let sodium = sys::sodium().map(|sodium| format!("libsodium {}", sodium.version));
    let xcrypt = sys::xcrypt().map(|_| "libxcrypt".to_owned());
    let names: Vec<String> = sodium.into_iter().chain(xcrypt).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::{Algorithm, Argon2, Params, Version};
    use proptest::prelude::*;

    /// Says, to people and to `cargo xtask test`, which test did not run for want of a library: nothing here may
    /// pass in silence.
    fn there(has: bool, library: &str, test: &str) -> bool {
        use std::io::Write;
        if has {
            return true;
        }
        eprintln!("not run: {test}: this machine has no {library}");
        if let Some(file) = std::env::var_os("COUNTERSIGN_NOT_RUN") {
            let mut file = std::fs::File::options().append(true).open(file).unwrap();
            writeln!(file, "tests::{test}\tthis machine has no {library}").unwrap();
        }
        false
    }

    fn by_rust(of: Argon2id<'_>, password: &[u8], tag: &mut [u8]) {
        let params = Params::new(of.memory_kib, of.passes, 1, None).unwrap();
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon2.hash_password_into(password, of.salt, tag).unwrap();
    }

    /// Two implementations that share nothing agree.
    #[test]
    fn libsodium_and_rust_agree_on_argon2id() {
        if !there(has_argon2id(), "libsodium", "libsodium_and_rust_agree_on_argon2id") {
            return;
        }
        let bytes = proptest::collection::vec(any::<u8>(), 0..200);
        let all = (8..300u32, 1..5u32, any::<[u8; 16]>(), bytes, 16..65usize);
        proptest!(ProptestConfig::with_cases(64), |((memory_kib, passes, salt, password, len) in all)| {
            let parameters = Argon2id { memory_kib, passes, salt: &salt };
            let (mut one, mut two) = (vec![0; len], vec![0; len]);
            prop_assert!(argon2id(parameters, &password, &mut one));
            by_rust(parameters, &password, &mut two);
            prop_assert_eq!(one, two);
        });
    }

    /// The same for bcrypt, all of whose bytes count: there is no sign to extend and nothing cut off.
    #[test]
    fn libxcrypt_and_rust_agree_on_bcrypt() {
        if !there(has_crypt(), "libxcrypt", "libxcrypt_and_rust_agree_on_bcrypt") {
            return;
        }
        let all = (any::<[u8; 16]>(), proptest::collection::vec(1..=255u8, 0..73));
        proptest!(ProptestConfig::with_cases(64), |((salt, password) in all)| {
            let theirs = bcrypt::hash_with_salt(&password, 4, salt).unwrap();
            let setting = theirs.format_for_version(bcrypt::Version::TwoB);
            let ours = crypt(&password, &setting[..29]).unwrap();
            prop_assert_eq!(ours.as_str(), setting);
        });
    }

    #[test]
    fn what_libsodium_is_tried_with_is_right() {
        let mut tag = [0; 16];
        by_rust(sys::KNOWN, sys::KNOWN_PASSWORD, &mut tag);
        assert_eq!(tag, sys::KNOWN_TAG);
    }

    /// What libsodium would round or refuse is not given to it.
    #[test]
    fn parameters_that_do_not_fit_are_refused() {
        if !there(has_argon2id(), "libsodium", "parameters_that_do_not_fit_are_refused") {
            return;
        }
        let salt = &[1; 16];
        for (memory_kib, passes, len) in [(7, 1, 32), (8, 0, 32), (8, 1, 15), (8, 1, 0)] {
            let parameters = Argon2id { memory_kib, passes, salt };
            assert!(!argon2id(parameters, b"password", &mut vec![0; len]));
        }
    }

    #[test]
    fn settings_and_passwords_that_crypt_does_not_take() {
        if !there(has_crypt(), "libxcrypt", "settings_and_passwords_that_crypt_does_not_take") {
            return;
        }
        let good = "$2b$04$abcdefghijklmnopqrstuu";
        assert!(crypt(b"x", good).is_some());
        for setting in
            ["", "*0", "*", "$nothing$", "$2b$99$abcdefghijklmnopqrstuu", "\0", "$2b$04\0"]
        {
            assert_eq!(crypt(b"x", setting), None, "{setting}");
        }
        for password in [&b"a\0b"[..], &[b'a'; 512]] {
            assert_eq!(crypt(password, good), None);
        }
        let long = crypt(&[b'a'; 511], "$6$saltstring").unwrap();
        assert!(long.starts_with("$6$saltstring$"));
    }
}
