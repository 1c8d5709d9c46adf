//! SHA256-CRYPT and SHA512-CRYPT: `$5$` and `$6$` (Drepper, "Unix crypt using SHA-256 and SHA-512").

use std::sync::Arc;

use ::sha_crypt::{Params, sha256_crypt, sha512_crypt};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::crypt64::{self, ALPHABET};
use super::limits::{Accept, Limits, Recipe, cap};
use super::scheme::{Data, Family, Parsed};
use super::{Cost, HashError, Memory};

const DEFAULT_ROUNDS: u32 = 5_000;
/// The work grows with the square of the password's length, so there must be an end. This is
/// libxcrypt's: no crypt(3) has made a hash of a longer one.
const MAX_PASSWORD: usize = 512;
const MAX_SALT: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    Sha256,
    Sha512,
}
use Variant::{Sha256, Sha512};

struct ShaCrypt {
    variant: Variant,
    rounds: u32,
    salt: Box<str>,
    /// As text, 43 or 86 characters: two texts that are told apart are two hashes.
    tag: Zeroizing<Box<str>>,
}

impl Variant {
    fn scheme(self) -> &'static str {
        match self {
            Sha256 => "SHA256-CRYPT",
            Sha512 => "SHA512-CRYPT",
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Sha256 => "$5$",
            Sha512 => "$6$",
        }
    }

    fn tag_len(self) -> usize {
        match self {
            Sha256 => 43,
            Sha512 => 86,
        }
    }
}

pub(super) fn parse_256(data: &Data<'_>, accept: &Accept) -> Parsed {
    parse(Sha256, data, &accept.limits)
}

pub(super) fn parse_512(data: &Data<'_>, accept: &Accept) -> Parsed {
    parse(Sha512, data, &accept.limits)
}

fn parse(variant: Variant, data: &Data<'_>, limits: &Limits) -> Parsed {
    let text = data.text()?;
    let bad =
        || data.malformed("expected $5$ or $6$, as the scheme says, then [rounds=N$]salt$tag");
    let mut rest = text.strip_prefix(variant.prefix()).ok_or_else(bad)?;
    let mut rounds = DEFAULT_ROUNDS;
    if let Some((written, after)) = rest.strip_prefix("rounds=").and_then(|r| r.split_once('$')) {
        if written.is_empty() || !written.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        rounds = written.parse().unwrap_or(u32::MAX);
        rest = after;
    }
    cap(data.scheme, "rounds", rounds.into(), limits.sha_crypt_rounds.into())?;
    if Params::new(rounds).is_err() {
        return Err(data.malformed("rounds must be 1000 to 999999999"));
    }
    let (salt, tag) = rest.split_once('$').ok_or_else(bad)?;
    if salt.len() > MAX_SALT || salt.bytes().any(|b| b.is_ascii_control()) {
        return Err(data.malformed("the salt must be at most 16 characters"));
    }
    if tag.len() != variant.tag_len() || !crypt64::valid(tag) {
        return Err(data.malformed("the tag must be 43 ($5$) or 86 ($6$) of ./0-9A-Za-z"));
    }
    Ok(Arc::new(ShaCrypt { variant, rounds, salt: salt.into(), tag: Zeroizing::new(tag.into()) }))
}

pub(super) fn create(
    variant: Variant,
    rounds: u32,
    password: Option<&[u8]>,
    salt: [u8; 16],
) -> Parsed {
    let scheme = variant.scheme();
    if Params::new(rounds).is_err() {
        let reason = "rounds must be 1000 to 999999999";
        return Err(HashError::Malformed { scheme, reason });
    }
    let text: String = salt.iter().map(|b| ALPHABET[usize::from(b & 63)] as char).collect();
    let mut hash = ShaCrypt { variant, rounds, salt: text.into(), tag: Zeroizing::new("".into()) };
    hash.tag = match password {
        Some(password) => {
            if let Some(reason) = unfit(password) {
                return Err(HashError::Password { scheme, reason });
            }
            hash.derive(password)
        }
        None => encode(&super::unreachable_tag(&salt)[..], variant),
    };
    Ok(Arc::new(hash))
}

/// Why crypt(3) could not have hashed this password whole.
fn unfit(password: &[u8]) -> Option<&'static str> {
    if password.len() > MAX_PASSWORD {
        return Some("it is longer than 512 bytes");
    }
    if password.contains(&0) {
        return Some("it holds a NUL, where other readers of the hash end the password");
    }
    None
}

impl ShaCrypt {
    /// The tag of a password, or of its first 512 bytes.
    fn derive(&self, password: &[u8]) -> Zeroizing<Box<str>> {
        let password = &password[..password.len().min(MAX_PASSWORD)];
        // Both makers of this type have checked the rounds.
        let params = Params::new(self.rounds).unwrap_or_default();
        let mut digest = [0; 64];
        match self.variant {
            Sha256 => {
                digest[..32].copy_from_slice(&sha256_crypt(password, self.salt.as_bytes(), params));
            }
            Sha512 => digest = sha512_crypt(password, self.salt.as_bytes(), params),
        }
        let tag = encode(&digest, self.variant);
        digest.zeroize();
        tag
    }
}

/// crypt(3)'s base64: three bytes a time from three strides that rotate, lowest bits first.
fn encode(digest: &[u8], variant: Variant) -> Zeroizing<Box<str>> {
    let mut text = String::with_capacity(variant.tag_len());
    let mut push = |[high, mid, low]: [u8; 3], characters: u32| {
        let word = u32::from_be_bytes([0, high, mid, low]);
        crypt64::push(&mut text, word, characters);
    };
    let (stride, turn) = match variant {
        Sha256 => (10, 2),
        Sha512 => (21, 1),
    };
    for i in 0..stride {
        let mut triple = [digest[i], digest[i + stride], digest[i + 2 * stride]];
        triple.rotate_left(i * turn % 3);
        push(triple, 4);
    }
    match variant {
        Sha256 => push([0, digest[31], digest[30]], 3),
        Sha512 => push([0, 0, digest[63]], 2),
    }
    Zeroizing::new(text.into_boxed_str())
}

impl Family for ShaCrypt {
    fn scheme(&self) -> &'static str {
        self.variant.scheme()
    }

    fn cost(&self) -> Cost {
        Cost::Expensive
    }

    fn verify(&self, password: &[u8], _: &mut Memory) -> Result<bool, HashError> {
        // A password that is too long is hashed as well, in part, so that it takes its time.
        let same: bool = self.derive(password).as_bytes().ct_eq(self.tag.as_bytes()).into();
        Ok(same && password.len() <= MAX_PASSWORD)
    }

    fn data(&self) -> String {
        let rounds = match self.rounds {
            DEFAULT_ROUNDS => String::new(),
            rounds => format!("rounds={rounds}$"),
        };
        format!("{}{rounds}{}${}", self.variant.prefix(), self.salt, &**self.tag)
    }

    fn weaker_than(&self, recipe: &Recipe) -> bool {
        let (variant, rounds) = match recipe {
            Recipe::Sha256Crypt { rounds } => (Sha256, *rounds),
            Recipe::Sha512Crypt { rounds } => (Sha512, *rounds),
            _ => return true,
        };
        self.variant != variant || self.rounds < rounds || self.salt.len() < 8
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Accept, Hash};
    use super::*;
    use countersign::Secret;

    fn parse(text: &str) -> Result<Hash, HashError> {
        Hash::parse(text, &Accept::default())
    }

    /// Made by `openssl passwd -5` and `-6` (the first four; the salts and password are Drepper's) and by
    /// libxcrypt's crypt().
    #[test]
    fn vectors() {
        let long = "x".repeat(300);
        for (password, text) in [
            ("Hello world!", "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"),
            (
                "Hello world!",
                "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
            ),
            (
                "Hello world!",
                "$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA",
            ),
            (
                "Hello world!",
                "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.",
            ),
            (long.as_str(), "$5$rounds=1000$s$NMXyMwRPKiNz7CiHr41.MjmwTapwRIaUpNLpt1nWyb."),
            (
                "y",
                "$6$rounds=1000$$o2fvQSjinZKI9zX3H67TZ6wqSBj94snQFlwPN4XhXzF.pwbqKruhuKg9VHDpz6YdCJJH82RSUsJyGFh/ssoZS1",
            ),
        ] {
            let hash = parse(text).unwrap();
            assert!(hash.verify(&Secret::from(password)), "{text}");
            assert!(!hash.verify(&Secret::from("Hello world?")), "{text}");
            assert!(hash.expose_text().ends_with(text), "{text}");
        }
    }

    #[test]
    fn passwords_are_compared_whole() {
        let hash = create(Sha512, 1000, Some(&[b'x'; 512]), [3; 16]).unwrap();
        let mut memory = Memory::default();
        assert_eq!(hash.verify(&[b'x'; 512], &mut memory), Ok(true));
        assert_eq!(hash.verify(&[b'x'; 513], &mut memory), Ok(false));
        let hash = create(Sha256, 1000, Some(b"secret"), [3; 16]).unwrap();
        assert_eq!(hash.verify(b"secret\0more", &mut memory), Ok(false));
        assert!(create(Sha256, 1000, Some(b"a\0b"), [3; 16]).is_err());
        assert!(create(Sha256, 1000, Some(&[b'x'; 513]), [3; 16]).is_err());
    }

    #[test]
    fn malformed_and_costly_texts() {
        let tag = "5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc8";
        let costly = parse(&format!("$5$rounds=1000001$s${tag}")).unwrap_err().to_string();
        assert!(costly.contains("rounds = 1000001 is above the limit of 1000000"), "{costly}");
        assert!(matches!(
            parse(&format!("$5$rounds=99999999999999$s${tag}")),
            Err(HashError::TooCostly { .. })
        ));
        for text in [
            format!("$5$rounds=999$s${tag}"),
            format!("$5$rounds=$s${tag}"),
            format!("$5$rounds=+5000$s${tag}"),
            format!("$5$seventeencharacte${tag}"),
            format!("$5$s${tag}x"),
            format!("$5$s${}", &tag[1..]),
            format!("$6$s${tag}"),
            format!("$5${tag}"),
            format!("{{SHA512-CRYPT}}$5$s${tag}"),
        ] {
            assert!(matches!(parse(&text), Err(HashError::Malformed { .. })), "{text}");
        }
    }
}
