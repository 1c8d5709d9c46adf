//! MD5-CRYPT: `$1$` (Poul-Henning Kamp's, of FreeBSD 2.0) and Apache's `$apr1$`: a thousand rounds of MD5.

use std::sync::Arc;

use md5::{Digest as _, Md5};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::limits::{Accept, Recipe};
use super::scheme::{Data, Family, Parsed};
use super::{Cost, HashError, Memory, crypt64};

const SCHEME: &str = "MD5-CRYPT";
/// No crypt(3) has made a hash of a longer one, and each round reads all of it.
const MAX_PASSWORD: usize = 512;
const MAX_SALT: usize = 8;

struct Md5Crypt {
    magic: &'static str,
    salt: Box<str>,
    /// As text, 22 characters.
    tag: Zeroizing<Box<str>>,
}

pub(super) fn parse(data: &Data<'_>, _: &Accept) -> Parsed {
    let text = data.text()?;
    let bad = || data.malformed("expected $1$ or $apr1$, then salt$tag");
    let magic = ["$1$", "$apr1$"].into_iter().find(|magic| text.starts_with(magic));
    let magic = magic.ok_or_else(bad)?;
    let (salt, tag) = text[magic.len()..].split_once('$').ok_or_else(bad)?;
    if salt.len() > MAX_SALT || salt.bytes().any(|b| b.is_ascii_control()) {
        return Err(data.malformed("the salt must be at most 8 characters"));
    }
    if tag.len() != 22 || !crypt64::valid(tag) {
        return Err(data.malformed("the tag must be 22 of ./0-9A-Za-z"));
    }
    Ok(Arc::new(Md5Crypt { magic, salt: salt.into(), tag: Zeroizing::new(tag.into()) }))
}

impl Md5Crypt {
    fn derive(&self, password: &[u8]) -> Zeroizing<String> {
        let (magic, salt) = (self.magic.as_bytes(), self.salt.as_bytes());
        let inner = digest(&[password, salt, password]);
        let mut outer = Md5::new();
        for part in [password, magic, salt] {
            outer.update(part);
        }
        for chunk in password.chunks(16) {
            outer.update(&inner[..chunk.len()]);
        }
        // One byte for each bit of the length: a NUL for a one, the password's first byte for a zero.
        let mut bits = password.len();
        while bits > 0 {
            outer.update(if bits & 1 == 1 { &[0] } else { &password[..1] });
            bits >>= 1;
        }
        let mut state = Zeroizing::new(<[u8; 16]>::from(outer.finalize()));
        for round in 0..1000 {
            let odd = round % 2 == 1;
            let mut next = Md5::new();
            next.update(if odd { password } else { &state[..] });
            if round % 3 != 0 {
                next.update(salt);
            }
            if round % 7 != 0 {
                next.update(password);
            }
            next.update(if odd { &state[..] } else { password });
            *state = next.finalize().into();
        }
        let mut text = Zeroizing::new(String::with_capacity(22));
        let byte = |at: usize| u32::from(state[at]);
        for [high, mid, low] in [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]] {
            crypt64::push(&mut text, byte(high) << 16 | byte(mid) << 8 | byte(low), 4);
        }
        crypt64::push(&mut text, byte(11), 2);
        text
    }
}

fn digest(parts: &[&[u8]]) -> Zeroizing<[u8; 16]> {
    let mut md5 = Md5::new();
    parts.iter().for_each(|part| md5.update(part));
    Zeroizing::new(md5.finalize().into())
}

impl Family for Md5Crypt {
    fn scheme(&self) -> &'static str {
        SCHEME
    }

    fn cost(&self) -> Cost {
        Cost::Expensive
    }

    fn verify(&self, password: &[u8], _: &mut Memory) -> Result<bool, HashError> {
        // crypt(3) ends a password at a NUL. One that it would cut takes the work, and is refused.
        let whole = password.len() <= MAX_PASSWORD && !password.contains(&0);
        let tag = self.derive(&password[..password.len().min(MAX_PASSWORD)]);
        Ok(bool::from(tag.as_bytes().ct_eq(self.tag.as_bytes())) && whole)
    }

    fn data(&self) -> String {
        format!("{}{}${}", self.magic, self.salt, &**self.tag)
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

    fn parse(text: &str) -> Result<Hash, HashError> {
        Hash::parse(text, &Accept::default())
    }

    /// Made by doveadm pw, mkpasswd, openssl passwd and htpasswd, of Debian 12.
    #[test]
    fn vectors() {
        for text in [
            "{MD5}$1$Rt7Qk7Hy$aYfNJZj0uozabYHn/NHPz.",
            "{MD5-CRYPT}$1$C6hBFpi3$sqLZcIQQ9DH82Z3NBSuAo1",
            "$1$itj6ajGx$sBNAFb9.NS3ezjhCPdiHP/",
            "{CRYPT}$1$IS1NwcYa$De1LyBkWveHxvg43OVthN.",
            "$apr1$s0dm.ITk$Do3iSBSteQ.cqW7YI3SEp0",
            "$apr1$81ah58uA$3CQSfw3YYh3Vu831aG8Hz.",
        ] {
            let hash = parse(text).unwrap();
            assert!(hash.verify(&Secret::from("correct horse")), "{text}");
            for wrong in ["correct hors", "correct horse\0", "correct horse ", ""] {
                assert!(!hash.verify(&Secret::from(wrong)), "{text}");
            }
            assert_eq!(parse(&hash.expose_text()).unwrap().expose_text(), hash.expose_text());
            assert!(hash.outdated(&Recipe::default()));
        }
    }

    /// The same function in C, for every length up to some blocks.
    #[test]
    fn libxcrypt_agrees_on_every_length() {
        if !has_crypt("hash::md5_crypt::tests::libxcrypt_agrees_on_every_length") {
            return;
        }
        for len in (0..70).chain([127, 128, 129, 511]) {
            let password: Vec<u8> = (0..len).map(|n| (n % 255 + 1) as u8).collect();
            let theirs = countersign_hashlibs::crypt(&password, "$1$saltsalt").unwrap();
            let hash = parse(&theirs).unwrap();
            assert!(hash.verify(&Secret::from(password.as_slice())), "{len}");
        }
    }

    #[test]
    fn malformed_texts() {
        let tag = "De1LyBkWveHxvg43OVthN.";
        for text in [
            format!("$1$ninechars${tag}"),
            format!("$1$salt${tag}x"),
            format!("$1$salt${}", &tag[1..]),
            format!("$1$salt$!{}", &tag[1..]),
            format!("$1${tag}"),
            "{MD5-CRYPT}$5$salt$x".into(),
            "{MD5-CRYPT}".into(),
        ] {
            assert!(matches!(parse(&text), Err(HashError::Malformed { .. })), "{text}");
        }
        assert!(parse(&format!("$1$$${tag}")).is_err());
        let long = parse(&format!("$1$salt${tag}")).unwrap();
        assert!(!long.verify(&Secret::from("x".repeat(100_000))));
    }
}
