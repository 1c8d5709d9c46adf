//! DES-CRYPT: traditional crypt(3), thirteen characters, by libxcrypt. Read only where weak hashes are allowed:
//! it knows no more than seven bits of eight characters, so that everything behind them is not compared.

use std::sync::Arc;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::limits::{Accept, Recipe};
use super::scheme::{Data, Family, Parsed};
use super::{Cost, HashError, Memory, crypt64};

const SCHEME: &str = "DES-CRYPT";
const LEN: usize = 13;
/// Longer ones are not what was hashed, whatever their beginning.
const MAX_PASSWORD: usize = 511;

struct DesCrypt {
    text: Zeroizing<Box<str>>,
}

/// Whether a text looks like one.
pub(super) fn looks(text: &str) -> bool {
    text.len() == LEN && crypt64::valid(text)
}

pub(super) fn parse(data: &Data<'_>, accept: &Accept) -> Parsed {
    let text = data.text()?;
    if !looks(&text) {
        return Err(data.malformed("expected 13 of ./0-9A-Za-z"));
    }
    if !accept.allow_weak {
        let what = "a traditional DES hash, which ignores all but eight characters,";
        return Err(HashError::WeakForbidden { what });
    }
    if !countersign_hashlibs::has_crypt() {
        let what = "a traditional DES hash, without libxcrypt (libcrypt.so.1),";
        return Err(HashError::Unsupported { what });
    }
    Ok(Arc::new(DesCrypt { text: Zeroizing::new(text.as_str().into()) }))
}

impl Family for DesCrypt {
    fn scheme(&self) -> &'static str {
        SCHEME
    }

    fn cost(&self) -> Cost {
        Cost::Expensive
    }

    fn verify(&self, password: &[u8], _: &mut Memory) -> Result<bool, HashError> {
        let whole = password.len() <= MAX_PASSWORD && !password.contains(&0);
        let password: &[u8] = if whole { password } else { b"unfit" };
        let hash = countersign_hashlibs::crypt(password, &self.text);
        let same = hash.is_some_and(|hash| hash.as_bytes().ct_eq(self.text.as_bytes()).into());
        Ok(same && whole)
    }

    fn data(&self) -> String {
        self.text.to_string()
    }

    fn weaker_than(&self, _: &Recipe) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Accept, Hash};
    use super::*;
    use crate::hash::tests::has_crypt;
    use countersign::Secret;

    /// By doveadm pw, htpasswd -d and mkpasswd of Debian 12.
    #[test]
    fn vectors_where_they_are_allowed() {
        let accept = Accept { allow_weak: true, ..Accept::default() };
        let has_crypt = has_crypt("hash::des_crypt::tests::vectors_where_they_are_allowed");
        for text in ["{DES-CRYPT}tqxJoNb5cG7vY", "bJUgdz4dgXTA.", "{CRYPT}L0RoMZba4LxTY"] {
            let refused = Hash::parse(text, &Accept::default()).unwrap_err().to_string();
            assert!(refused.contains("DES") && refused.contains("allow_weak"), "{refused}");
            if !has_crypt {
                continue;
            }
            let hash = Hash::parse(text, &accept).unwrap();
            assert!(hash.verify(&Secret::from("correct horse")), "{text}");
            // That is what makes it weak.
            assert!(hash.verify(&Secret::from("correct ")), "{text}");
            for wrong in ["correct", "correct horse\0", "unfit\0", ""] {
                assert!(!hash.verify(&Secret::from(wrong)), "{text}");
            }
            assert!(!hash.verify(&Secret::from("correct horse".repeat(100))));
            assert!(hash.outdated(&Recipe::default()));
        }
        for text in ["{DES-CRYPT}tqxJoNb5cG7v", "{DES-CRYPT}tqxJoNb5cG7v!", "{DES-CRYPT}"] {
            let error = Hash::parse(text, &accept).unwrap_err();
            assert!(matches!(error, HashError::Malformed { .. }), "{text}");
        }
    }
}
