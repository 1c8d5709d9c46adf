//! What was signed with an RSA key by itself, without a hash: RSASP1 over a block of type 1 (RFC 8017 §8.2, §9.2
//! without its `DigestInfo`). OpenNebula's tokens are made so; OpenSSL calls it `-verifyrecover`.
//!
//! Only public keys come here: nothing that is computed is secret.

use rsa::pkcs1::der::Decode;
use rsa::pkcs8::{ObjectIdentifier, SubjectPublicKeyInfoRef};
use rsa::traits::PublicKeyParts;
use rsa::{BigUint, RsaPublicKey};

/// A shorter modulus is no key.
const LEAST_BITS: usize = 2048;
/// A longer one only costs.
const MOST_BITS: usize = 8192;
/// Everybody's. With a small one, what is signed without a hash could be chosen to be a power.
const LEAST_EXPONENT: u32 = 65_537;
/// So many bytes of padding at least, by the standard.
const LEAST_PADDING: usize = 8;
/// rsaEncryption.
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// A public RSA key that is good enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RsaKey {
    key: RsaPublicKey,
}

impl RsaKey {
    /// Of a SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) fn from_spki(der: &[u8]) -> Result<Self, &'static str> {
        let spki = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| "no public key in DER")?;
        if spki.algorithm.oid != RSA {
            return Err("a key in DER that is no RSA key; write others as OpenSSH does");
        }
        let bytes = spki.subject_public_key.as_bytes().ok_or("no RSA key")?;
        let key = rsa::pkcs1::RsaPublicKey::from_der(bytes).map_err(|_| "no RSA key")?;
        Self::from_parts(key.modulus.as_bytes(), key.public_exponent.as_bytes())
    }

    /// Of the modulus and the exponent, the most significant byte first.
    ///
    /// # Errors
    ///
    /// Why the key is not good enough.
    pub(crate) fn from_parts(modulus: &[u8], exponent: &[u8]) -> Result<Self, &'static str> {
        let (n, e) = (BigUint::from_bytes_be(modulus), BigUint::from_bytes_be(exponent));
        match n.bits() {
            ..LEAST_BITS => return Err("an RSA key of less than 2048 bits"),
            LEAST_BITS..=MOST_BITS => {}
            _ => return Err("an RSA key of more than 8192 bits"),
        }
        if e < BigUint::from(LEAST_EXPONENT) {
            return Err("an RSA key with an exponent below 65537; make a new one");
        }
        let odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
        if !odd(modulus) || !odd(exponent) {
            return Err("no RSA key: its numbers are even");
        }
        let key = RsaPublicKey::new_with_max_size(n, e, MOST_BITS);
        Ok(Self { key: key.map_err(|_| "no RSA key: its numbers do not fit")? })
    }

    /// The modulus and the exponent.
    #[cfg(feature = "one-ssh")]
    pub(crate) fn parts(&self) -> (Vec<u8>, Vec<u8>) {
        (self.key.n().to_bytes_be(), self.key.e().to_bytes_be())
    }

    /// RSAVP1: the number to the key's exponent. Square and multiply, for the exponent has two bits that are set: the
    /// library prepares sixteen powers for any exponent, and takes more than twice as long.
    fn raised(&self, number: &BigUint) -> BigUint {
        let (n, e) = (self.key.n(), self.key.e().to_bytes_be());
        let bits = e.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1));
        let mut result = number.clone();
        for bit in bits.skip_while(|bit| !bit).skip(1) {
            result = &result * &result % n;
            if bit {
                result = result * number % n;
            }
        }
        result
    }

    /// What the owner of the key has signed: all that stands behind the padding, which fills the rest of the
    /// modulus. Nothing where it is no signature.
    pub(crate) fn recover(&self, signature: &[u8]) -> Option<Vec<u8>> {
        // One spelling: as long as the modulus, and below it.
        if signature.len() != self.key.size() {
            return None;
        }
        let number = BigUint::from_bytes_be(signature);
        if number >= *self.key.n() {
            return None;
        }
        let block = self.raised(&number).to_bytes_be();
        // 00 01 FF…FF 00 text; the number has no leading zero, and so must lack exactly one byte.
        if block.len() + 1 != signature.len() {
            return None;
        }
        let padded = block.strip_prefix(&[1])?;
        let padding = padded.iter().take_while(|byte| **byte == 0xff).count();
        if padding < LEAST_PADDING {
            return None;
        }
        padded[padding..].strip_prefix(&[0]).map(<[u8]>::to_vec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::one::signing::tests::{RSA_2048, rsa_key};
    use rsa::RsaPrivateKey;

    fn public(key: &RsaPrivateKey) -> RsaKey {
        RsaKey::from_parts(&key.n().to_bytes_be(), &key.e().to_bytes_be()).unwrap()
    }

    /// What the private key makes of a block, whatever is in it.
    fn raised(key: &RsaPrivateKey, block: &[u8]) -> Vec<u8> {
        let number = BigUint::from_bytes_be(block);
        let raised = rsa::hazmat::rsa_decrypt(None::<&mut rsa::rand_core::OsRng>, key, &number);
        let bytes = raised.unwrap().to_bytes_be();
        [vec![0; key.size() - bytes.len()], bytes].concat()
    }

    fn block(size: usize, start: &[u8], end: &[u8]) -> Vec<u8> {
        [start.to_vec(), vec![0xff; size - start.len() - end.len()], end.to_vec()].concat()
    }

    #[test]
    fn only_the_exact_padding_is_one() {
        let key = rsa_key(RSA_2048);
        let (public, size) = (public(&key), key.size());
        let right = raised(&key, &block(size, &[0, 1], b"\0alice:1800000000"));
        assert_eq!(public.recover(&right).as_deref(), Some(&b"alice:1800000000"[..]));
        // The shortest padding, and an empty text.
        let long = [&[0][..], &vec![b'x'; size - 11]].concat();
        assert_eq!(
            public.recover(&raised(&key, &block(size, &[0, 1], &long))).unwrap(),
            &long[1..]
        );
        assert_eq!(public.recover(&raised(&key, &block(size, &[0, 1], b"\0"))).unwrap(), b"");
        let seven = [&[0][..], &vec![b'x'; size - 10]].concat();
        let wrong = [
            block(size, &[0, 2], b"\0alice:1800000000"),
            block(size, &[0, 0], b"\0alice:1800000000"),
            block(size, &[1, 1], b"\0alice:1800000000"),
            block(size, &[0, 1], b"alice:1800000000"),
            block(size, &[0, 1], &[0xfe, 0, b'a']),
            block(size, &[0, 1, 0xfe], b"\0alice:1800000000"),
            block(size, &[0, 1, 0], b"\0alice:1800000000"),
            block(size, &[0, 1], b""),
            block(size, &[0, 1], &seven),
            // Garbage behind the text is text: it is the caller's to refuse. Behind a short padding it is none.
            [&[0, 1, 0xff, 0xff, 0][..], b"alice:1800000000", &vec![0; size - 21]].concat(),
        ];
        for block in wrong {
            assert_eq!(public.recover(&raised(&key, &block)), None, "{:?}", &block[..20]);
        }
    }

    /// The library's own way comes to the same, for any exponent.
    #[test]
    fn raising_is_the_library_s() {
        let key = rsa_key(RSA_2048);
        let n = key.n().to_bytes_be();
        for exponent in [&[1, 0, 1][..], &[1, 0, 3], &[0xff, 0xff, 0xff, 0xff], &[1, 0, 0, 0, 1]] {
            let public = RsaKey::from_parts(&n, exponent).unwrap();
            for number in [&n[1..], &[0x80; 256], &[2], &[1], &[]] {
                let number = BigUint::from_bytes_be(number);
                let theirs = rsa::hazmat::rsa_encrypt(&public.key, &number).unwrap();
                assert_eq!(public.raised(&number), theirs, "{exponent:?}");
            }
        }
    }

    #[test]
    fn a_signature_has_one_spelling() {
        let key = rsa_key(RSA_2048);
        let (public, size) = (public(&key), key.size());
        let right = raised(&key, &block(size, &[0, 1], b"\0alice:1800000000"));
        let n = key.n().to_bytes_be();
        let shifted = (BigUint::from_bytes_be(&right) + key.n()).to_bytes_be();
        for wrong in [
            &right[1..],
            &[&[0], &right[..]].concat(),
            &[&right[..], &[0]].concat(),
            &shifted,
            &n,
            &vec![0; size],
            &vec![0xff; size],
            &[],
        ] {
            assert_eq!(public.recover(wrong), None);
        }
        for bit in (0..size * 8).step_by(61) {
            let mut flipped = right.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(public.recover(&flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn keys_that_are_not_good_enough() {
        let key = rsa_key(RSA_2048);
        let (n, e) = (key.n().to_bytes_be(), key.e().to_bytes_be());
        assert!(RsaKey::from_parts(&n, &e).is_ok());
        let small = RsaKey::from_parts(&n[128..], &e).unwrap_err();
        assert!(small.contains("less than 2048"), "{small}");
        let large = RsaKey::from_parts(&n.repeat(5), &e).unwrap_err();
        assert!(large.contains("more than 8192"), "{large}");
        for exponent in [&[3][..], &[1], &[0], &[0, 0xff, 0xff]] {
            assert!(RsaKey::from_parts(&n, exponent).unwrap_err().contains("exponent"));
        }
        let even = [&n[..n.len() - 1], &[n[n.len() - 1] & 0xfe]].concat();
        assert!(RsaKey::from_parts(&even, &e).is_err());
        assert!(RsaKey::from_parts(&n, &[1, 0, 2]).is_err());
        assert!(RsaKey::from_spki(b"").is_err() && RsaKey::from_spki(&[0x30, 0x80]).is_err());
    }
}
