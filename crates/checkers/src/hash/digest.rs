//! SHA256, SHA512, SHA (SHA-1), LDAP-MD5 and their salted forms: one digest of password and salt, in base64 or hexadecimal.
//! Cheap to verify, and as cheap to guess.

use std::sync::Arc;

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::limits::Recipe;
use super::scheme::{Data, Family, Parsed, base64};
use super::{Cost, HashError, Memory};

/// A longer one is not a salt but a way to make a cheap hash dear.
const MAX_SALT: usize = 64;

/// One digest function and its two names.
pub(super) struct Function {
    len: usize,
    unsalted: &'static str,
    salted: &'static str,
    sum: fn(&[u8], &[u8], &mut [u8; 64]),
}

pub(super) const SHA256: &Function = &Function {
    len: 32,
    unsalted: "SHA256",
    salted: "SSHA256",
    sum: |password, salt, out| {
        let digest = Sha256::new().chain_update(password).chain_update(salt);
        out[..32].copy_from_slice(&digest.finalize());
    },
};

pub(super) const SHA512: &Function = &Function {
    len: 64,
    unsalted: "SHA512",
    salted: "SSHA512",
    sum: |password, salt, out| {
        let digest = Sha512::new().chain_update(password).chain_update(salt);
        out.copy_from_slice(&digest.finalize());
    },
};

/// For hashes that were made elsewhere.
pub(super) const SHA1: &Function = &Function {
    len: 20,
    unsalted: "SHA",
    salted: "SSHA",
    sum: |password, salt, out| {
        let digest = Sha1::new().chain_update(password).chain_update(salt);
        out[..20].copy_from_slice(&digest.finalize());
    },
};

/// For hashes that were made elsewhere.
pub(super) const MD5: &Function = &Function {
    len: 16,
    unsalted: "LDAP-MD5",
    salted: "SMD5",
    sum: |password, salt, out| {
        let digest = Md5::new().chain_update(password).chain_update(salt);
        out[..16].copy_from_slice(&digest.finalize());
    },
};

struct Digest {
    function: &'static Function,
    /// The digest, then the salt, as the scheme writes them.
    digest_and_salt: Zeroizing<Box<[u8]>>,
}

pub(super) fn parse(data: &Data<'_>, function: &'static Function, salted: bool) -> Parsed {
    // Salted data of just that length may be base64: 32 + 16 bytes are 64 characters.
    let bytes = data.bytes(if salted { 0 } else { function.len })?;
    let expected = match salted {
        false => function.len..=function.len,
        true => function.len + 1..=function.len + MAX_SALT,
    };
    if !expected.contains(&bytes.len()) {
        return Err(data.malformed(match salted {
            false => "the digest has the wrong length",
            true => "expected the digest and 1 to 64 bytes of salt",
        }));
    }
    Ok(Arc::new(Digest { function, digest_and_salt: Zeroizing::new(bytes.as_slice().into()) }))
}

pub(super) fn create(
    function: &'static Function,
    password: Option<&[u8]>,
    salt: [u8; 16],
) -> Arc<dyn Family> {
    let mut digest = super::unreachable_tag(&salt);
    if let Some(password) = password {
        (function.sum)(password, &salt, &mut digest);
    }
    let bytes = [&digest[..function.len], &salt].concat();
    digest.zeroize();
    Arc::new(Digest { function, digest_and_salt: Zeroizing::new(bytes.into_boxed_slice()) })
}

impl Family for Digest {
    fn scheme(&self) -> &'static str {
        match self.digest_and_salt.len() == self.function.len {
            true => self.function.unsalted,
            false => self.function.salted,
        }
    }

    fn cost(&self) -> Cost {
        Cost::Cheap
    }

    fn verify(&self, password: &[u8], _: &mut Memory) -> Result<bool, HashError> {
        let (expected, salt) = self.digest_and_salt.split_at(self.function.len);
        let mut digest = [0; 64];
        (self.function.sum)(password, salt, &mut digest);
        let same = digest[..self.function.len].ct_eq(expected);
        digest.zeroize();
        Ok(same.into())
    }

    fn data(&self) -> String {
        base64(&self.digest_and_salt)
    }

    fn weaker_than(&self, recipe: &Recipe) -> bool {
        let function = match recipe {
            Recipe::SaltedSha256 => SHA256,
            Recipe::SaltedSha512 => SHA512,
            _ => return true,
        };
        self.function.len != function.len || self.digest_and_salt.len() < function.len + 8
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Accept, Hash};
    use super::*;
    use countersign::Secret;

    /// Made by Python's hashlib and base64, password `secret`, salt `NaCl`.
    #[test]
    fn vectors_in_every_spelling() {
        for text in [
            "{SHA256}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=",
            "{SHA256}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols",
            "{sha256.b64}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=",
            "{SHA256.hex}2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b",
            "{SHA256.HEX}2BB80D537B1DA3E38BD30361AA855686BDE0EACD7162FEF6A25FE97BF527A25B",
            "{SHA256}2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b",
            "{SSHA256}MiBKWPJ1JQtCfn9IyOCVrjIVaDjvjq7QEJ2338bLy6lOYUNs",
            "{SHA512}vSsar3708Jvp9Szi2NWZZ02Bqp1qRCFpbcTZPdBhnWgs5WtNZKnvCXdhztmeD2cmW192CF5bDufKRpayrW/isg==",
            "{SSHA512}iRjXxi6rhPYpuxX1j9XfoMia+YOZ6MBLltGn46bREX+b3os6Fh/Dl8WNN5YGrc4n7fSBhWch1IoYiLBEukHNAE5hQ2w=",
        ] {
            let hash = Hash::parse(text, &Accept::default()).unwrap();
            assert!(hash.verify(&Secret::from("secret")), "{text}");
            assert!(!hash.verify(&Secret::from("secret\0")), "{text}");
            assert!(!hash.verify(&Secret::from("secre")), "{text}");
            assert_eq!(hash.cost(), Cost::Cheap);
        }
    }

    /// Made by doveadm pw 2.3.19, htpasswd -s and passlib 1.7.4.
    #[test]
    fn older_vectors() {
        for text in [
            "{SHA}L55TUjtiq8FBorTWAZ0jy6g129A=",
            "{SHA1.B64}L55TUjtiq8FBorTWAZ0jy6g129A=",
            "{SHA.HEX}2f9e53523b62abc141a2b4d6019d23cba835dbd0",
            "{SHA1}2f9e53523b62abc141a2b4d6019d23cba835dbd0",
            "{SHA256}QQTTb42iwlQ0n4WDZ5Pr4CngyVcGOjTJHC6SAxh7VjE=",
            "{SHA512}VraY3v7bWkNbY0r+MyC7rz/c2SC2xQOkRvx7endrKY1HnRumqLYXgI6wv1ec6aldZoNHvKtxSQhayTyyeZUZew==",
            "{SSHA}a6jvcjvLBPtQHTCMjpnsadkzVudV5T+x",
            "{SSHA}T87F5oxW7NStYn2sbshop5boecIcg3Bu",
            "{SSHA.HEX}cc3b5defcfff2a6bdc1b475dbbff3f105089b31670982a3d",
            "{SSHA256}8VGi97nFV3E4V2u58jerl1F9+rnS8nel+K7gwU3O7bCYLI/l",
            "{SSHA256}Q/vIYMWslbygGn2T+17DjFAYAaPxkBqhZqNEOa3KSiWwNsYYwxjDWA==",
            "{SSHA256.HEX}c23245f43630e77834180ea28e3d706129a9aa8b95e65ccc740fafc1fef38838153af609",
            "{SSHA512}Et9UfO5/J00PHnYwbCJvi0yhY00mBU2tviXqWDF6JXDut32O8ZXIUWf2LxO4orFQjLxJnCPs/YGYcWzyr4RnNeHCOW0=",
            "{SMD5}0pPdxvR7FPZYOGzuGUv/Z83Bl6I=",
            "{SMD5.HEX}08cc392e6196916e14de61e8e685ed47621a6773",
            "{LDAP-MD5}PLTnMmMfR+brlh80VUt83g==",
            "{LDAP-MD5.HEX}3cb4e732631f47e6eb961f34554b7cde",
            "{PLAIN-MD5}3cb4e732631f47e6eb961f34554b7cde",
            "{PLAIN-MD5.B64}PLTnMmMfR+brlh80VUt83g==",
            "{MD5}PLTnMmMfR+brlh80VUt83g==",
        ] {
            let hash = Hash::parse(text, &Accept::default()).unwrap();
            assert!(hash.verify(&Secret::from("correct horse")), "{text}");
            for wrong in ["correct hors", "correct horse\0", ""] {
                assert!(!hash.verify(&Secret::from(wrong)), "{text}");
            }
            let again = Hash::parse(&hash.expose_text(), &Accept::default()).unwrap();
            assert_eq!(again.expose_text(), hash.expose_text());
            assert!(again.verify(&Secret::from("correct horse")));
            assert!(again.outdated(&Recipe::default()));
        }
    }

    /// Bare digests, in hexadecimal as programs of old write them, are read only where that is configured.
    #[test]
    fn bare_digests_only_where_they_are_configured() {
        use super::super::Scheme;
        for (scheme, text) in [
            ("SHA1", "2f9e53523b62abc141a2b4d6019d23cba835dbd0"),
            ("SHA256", "4104d36f8da2c254349f85836793ebe029e0c957063a34c91c2e9203187b5631"),
        ] {
            assert!(Hash::parse(text, &Accept::default()).is_err());
            let default_scheme = Scheme::named(scheme).unwrap();
            let accept = Accept { default_scheme, ..Accept::default() };
            let hash = Hash::parse(text, &accept).unwrap();
            assert!(hash.verify(&Secret::from("correct horse")));
            // What names its scheme is still that.
            assert!(Hash::parse("{SHA512.hex}00", &accept).is_err());
        }
    }

    #[test]
    fn lengths_are_checked() {
        for text in [
            "{SHA256}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Uno",
            "{SHA256}MiBKWPJ1JQtCfn9IyOCVrjIVaDjvjq7QEJ2338bLy6lOYUNs",
            "{SSHA256}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=",
            "{SHA256.hex}2bb8",
            "{SHA256}",
            "{SHA256}not base64",
        ] {
            let error = Hash::parse(text, &Accept::default()).unwrap_err();
            assert!(matches!(error, HashError::Malformed { .. }), "{text}");
        }
    }
}
