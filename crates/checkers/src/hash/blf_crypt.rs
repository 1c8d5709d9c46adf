//! BLF-CRYPT, bcrypt: `$2b$10$` and 53 characters of salt and tag.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::GeneralPurpose;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::limits::{Accept, Recipe, cap};
use super::scheme::{Data, Family, LENIENT, Parsed};
use super::{Cost, HashError, Memory};

const SCHEME: &str = "BLF-CRYPT";
/// Old PHP wrote salts whose last character has bits to spare.
const BASE64: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::BCRYPT, LENIENT);
/// The key schedule reads no more.
const MAX_PASSWORD: usize = 72;

struct Bcrypt {
    /// `a`, `b` or `y`: three names of one function, but for 2a in an OpenBSD before 2014 and
    /// passwords past 255 bytes, which are refused here anyway.
    minor: u8,
    cost: u8,
    salt: [u8; 16],
    tag: [u8; 23],
}

pub(super) fn parse(data: &Data<'_>, accept: &Accept) -> Parsed {
    let text = data.text()?;
    let bad = || data.malformed("expected $2b$NN$ and 53 characters (also $2a$, $2y$)");
    let minor = match text.get(..4) {
        Some("$2a$") => b'a',
        Some("$2b$") => b'b',
        Some("$2y$") => b'y',
        // The sign bug: different passwords with one hash.
        Some("$2x$") => {
            return Err(HashError::Unsupported {
                what: "a bcrypt hash of the broken variant $2x$",
            });
        }
        _ => return Err(bad()),
    };
    let (Some(cost), Some("$"), Some(salt), Some(tag), 60) =
        (text.get(4..6), text.get(6..7), text.get(7..29), text.get(29..60), text.len())
    else {
        return Err(bad());
    };
    if !cost.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let cost: u8 = cost.parse().map_err(|_| bad())?;
    if !(4..=31).contains(&cost) {
        return Err(data.malformed("the cost must be 04 to 31"));
    }
    cap(SCHEME, "cost", cost.into(), accept.limits.bcrypt_cost.into())?;
    let salt = BASE64.decode(salt).map_err(|_| bad())?;
    let tag = BASE64.decode(tag).map_err(|_| bad())?;
    Ok(Arc::new(Bcrypt {
        minor,
        cost,
        salt: salt.try_into().map_err(|_| bad())?,
        tag: tag.try_into().map_err(|_| bad())?,
    }))
}

pub(super) fn create(cost: u32, password: Option<&[u8]>, salt: [u8; 16]) -> Parsed {
    let out_of_range = HashError::Malformed { scheme: SCHEME, reason: "the cost must be 4 to 31" };
    let cost = u8::try_from(cost).ok().filter(|c| (4..=31).contains(c));
    let cost = cost.ok_or(out_of_range)?;
    let tag = match password {
        Some(password) => {
            let reason = unfit(password);
            let scheme = SCHEME;
            if let Some(reason) = reason {
                return Err(HashError::Password { scheme, reason });
            }
            derive(cost, salt, password)
        }
        None => {
            let mut tag = [0; 23];
            tag.copy_from_slice(&super::unreachable_tag(&salt)[..23]);
            tag
        }
    };
    Ok(Arc::new(Bcrypt { minor: b'b', cost, salt, tag }))
}

/// Why bcrypt would mix up this password with another one.
fn unfit(password: &[u8]) -> Option<&'static str> {
    if password.len() > MAX_PASSWORD {
        return Some("it is longer than 72 bytes, and bcrypt ignores the rest");
    }
    // The key is repeated with a NUL between: `a` and `a\0a` have the same hashes.
    if password.contains(&0) {
        return Some("it holds a NUL, which is bcrypt's end mark");
    }
    None
}

/// By libxcrypt where the system has it: it is a fifth faster than what is written in Rust.
fn derive(cost: u8, salt: [u8; 16], password: &[u8]) -> [u8; 23] {
    // As much of an unfit password as takes the same work.
    let password = &password[..password.len().min(MAX_PASSWORD)];
    let setting = format!("$2b${cost:02}${}", BASE64.encode(salt));
    if let Some(tag) = countersign_hashlibs::crypt(password, &setting)
        .and_then(|hash| BASE64.decode(hash.get(setting.len()..)?).ok()?.try_into().ok())
    {
        return tag;
    }
    let mut key = Zeroizing::new([0; MAX_PASSWORD]);
    key[..password.len()].copy_from_slice(password);
    let end = (password.len() + 1).min(MAX_PASSWORD);
    let mut output = bcrypt::bcrypt(cost.into(), salt, &key[..end]);
    let mut tag = [0; 23];
    tag.copy_from_slice(&output[..23]);
    output.zeroize();
    tag
}

impl Family for Bcrypt {
    fn scheme(&self) -> &'static str {
        SCHEME
    }

    fn cost(&self) -> Cost {
        Cost::Expensive
    }

    fn verify(&self, password: &[u8], _: &mut Memory) -> Result<bool, HashError> {
        // An unfit password is hashed as well: an early answer would tell who has a bcrypt hash.
        let mut tag = derive(self.cost, self.salt, password);
        let same: bool = tag.ct_eq(&self.tag).into();
        tag.zeroize();
        Ok(same && unfit(password).is_none())
    }

    fn data(&self) -> String {
        format!(
            "$2{}${:02}${}{}",
            self.minor as char,
            self.cost,
            BASE64.encode(self.salt),
            BASE64.encode(self.tag)
        )
    }

    fn weaker_than(&self, recipe: &Recipe) -> bool {
        !matches!(recipe, Recipe::Bcrypt { cost } if u32::from(self.cost) >= *cost)
    }
}

impl Drop for Bcrypt {
    fn drop(&mut self) {
        self.tag.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Accept, Hash};
    use super::*;
    use countersign::Secret;

    /// The first is from the test suite of crypt_blowfish; the others were made by libxcrypt's crypt().
    #[test]
    fn vectors() {
        let long = "a".repeat(72);
        for (password, text) in [
            ("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
            ("countersign", "$2b$04$abcdefghijklmnopqrstuudddpGeHcF9lru7.P1k2UXa2EAymSRK."),
            (long.as_str(), "$2b$04$abcdefghijklmnopqrstuuBzzIgyKkz7xMWYSzkIjUSnxEQFQ0WNe"),
            ("", "$2y$04$abcdefghijklmnopqrstuubyCG3zY1GIXMyxfivm.ClDiInHzxjiq"),
        ] {
            for form in
                [text.to_owned(), format!("{{blf-crypt}}{text}"), format!("{{CRYPT}}{text}")]
            {
                let hash = Hash::parse(&form, &Accept::default()).unwrap();
                assert!(hash.verify(&Secret::from(password)), "{form}");
                assert!(!hash.verify(&Secret::from("other")), "{form}");
            }
        }
    }

    #[test]
    fn nothing_is_cut_off() {
        let seventy_two = "a".repeat(72);
        let hash = create(4, Some(seventy_two.as_bytes()), [7; 16]).unwrap();
        let mut memory = Memory::default();
        let mut verify = |password: &[u8]| hash.verify(password, &mut memory).unwrap();
        assert!(verify(seventy_two.as_bytes()));
        assert!(!verify("a".repeat(73).as_bytes()));
        assert!(!verify("a".repeat(8000).as_bytes()));
        let long = create(4, Some("a".repeat(73).as_bytes()), [7; 16]);
        assert!(matches!(long, Err(HashError::Password { .. })));
    }

    /// bcrypt's cyclic key makes these one: a verifier that passed the bytes on would accept them.
    #[test]
    fn a_nul_is_no_end_mark() {
        let hash = create(4, Some(b"a"), [7; 16]).unwrap();
        let mut memory = Memory::default();
        assert_eq!(derive(4, [7; 16], b"a"), derive(4, [7; 16], b"a\0a"));
        assert_eq!(hash.verify(b"a", &mut memory), Ok(true));
        assert_eq!(hash.verify(b"a\0a", &mut memory), Ok(false));
        assert_eq!(hash.verify(b"a\0", &mut memory), Ok(false));
        assert!(create(4, Some(b"a\0a"), [7; 16]).is_err());
    }

    #[test]
    fn malformed_and_costly_texts() {
        let parse = |text: &str| Hash::parse(text, &Accept::default()).unwrap_err();
        let rest = "abcdefghijklmnopqrstuudddpGeHcF9lru7.P1k2UXa2EAymSRK.";
        let costly = parse(&format!("$2b$31${rest}")).to_string();
        assert!(costly.contains("cost = 31 is above the limit of 15"), "{costly}");
        for text in [
            format!("$2b$03${rest}"),
            format!("$2b$+5${rest}"),
            format!("$2b$05${rest}x"),
            format!("$2b$05${}", &rest[1..]),
            format!("$2b$05$ä{}", &rest[2..]),
            format!("$2b$05$!{}", &rest[1..]),
        ] {
            assert!(matches!(parse(&text), HashError::Malformed { .. }), "{text}");
        }
        assert!(matches!(parse(&format!("$2x$05${rest}")), HashError::Unsupported { .. }));
    }
}
