//! PLAIN: the password itself. Read only where it is allowed.

use std::sync::Arc;

use countersign::Secret;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroize as _;

use super::limits::{Accept, Recipe};
use super::scheme::{Data, Family, Parsed};
use super::{Cost, HashError, Memory};

struct Plain {
    password: Secret,
    /// Of the password, so that a login computes one and not two.
    digest: [u8; 32],
}

pub(super) fn parse(data: &Data<'_>, accept: &Accept) -> Parsed {
    if !accept.allow_plain {
        return Err(HashError::PlainForbidden);
    }
    let text = data.text()?;
    if text.is_empty() {
        // Somebody forgot to fill it in, more likely than that anybody may log in without one.
        return Err(data.malformed("the password is empty"));
    }
    let digest = Sha256::digest(text.as_bytes()).into();
    Ok(Arc::new(Plain { password: Secret::from(text.as_str()), digest }))
}

/// The digest of a password gives it away as well as a fast hash does.
impl Drop for Plain {
    fn drop(&mut self) {
        self.digest.zeroize();
    }
}

impl Family for Plain {
    fn scheme(&self) -> &'static str {
        "PLAIN"
    }

    fn cost(&self) -> Cost {
        Cost::Cheap
    }

    fn verify(&self, password: &[u8], _: &mut Memory) -> Result<bool, HashError> {
        // A comparison of the two as they are ends early when their lengths differ.
        Ok(Sha256::digest(password).as_slice().ct_eq(&self.digest[..]).into())
    }

    fn data(&self) -> String {
        // Made from text, so it is text.
        self.password.to_str().unwrap_or_default().to_owned()
    }

    fn weaker_than(&self, _: &Recipe) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Hash, Scheme};
    use super::*;

    #[test]
    fn only_where_allowed_and_compared_whole() {
        let mut accept = Accept::default();
        let refused = Hash::parse("{PLAIN}hunter2", &accept).unwrap_err();
        assert_eq!(refused, HashError::PlainForbidden);
        assert!(!refused.to_string().contains("hunter2"));
        accept.allow_plain = true;
        let hash = Hash::parse("{PLAIN}hunter2", &accept).unwrap();
        assert!(hash.verify(&Secret::from("hunter2")));
        for wrong in ["hunter", "hunter2\0", "hunter22", "", "Hunter2"] {
            assert!(!hash.verify(&Secret::from(wrong)), "{wrong}");
        }
        assert!(!format!("{hash:?}").contains("hunter2"));
        assert!(Hash::parse("{PLAIN}", &accept).is_err());
        // .b64 lets a password hold what a line cannot.
        let nul = Hash::parse("{PLAIN.b64}YTpiAGM=", &accept).unwrap();
        assert!(nul.verify(&Secret::from("a:b\0c")) && !nul.verify(&Secret::from("a:b")));
    }

    #[test]
    fn as_the_default_it_takes_dollars_literally() {
        let accept =
            Accept { default_scheme: Scheme::PLAIN, allow_plain: true, ..Accept::default() };
        let hash = Hash::parse("$6$money", &accept).unwrap();
        assert!(hash.verify(&Secret::from("$6$money")));
    }
}
