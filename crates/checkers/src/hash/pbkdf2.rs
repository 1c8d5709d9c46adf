//! PBKDF2 (RFC 8018 §5.2) with HMAC-SHA-1, -256 and -512, as Dovecot, passlib, OpenLDAP's module, Django and
//! the PHC string format write it.

use std::sync::Arc;

use sha1::Sha1;
use sha2::{Sha256, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::limits::{Accept, Recipe, cap};
use super::scheme::{Data, Family, Parsed, unbase64, unhex};
use super::{Cost, HashError, Memory};

/// Tags shorter than this could be met by chance; longer ones than a digest only cost more rounds.
const TAG: std::ops::RangeInclusive<usize> = 16..=64;
const MAX_SALT: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Sha1,
    Sha256,
    Sha512,
}

struct Pbkdf2 {
    scheme: &'static str,
    function: Function,
    rounds: u32,
    salt: Box<[u8]>,
    tag: Zeroizing<Box<[u8]>>,
    /// As it was written: there are five ways.
    text: Zeroizing<Box<str>>,
}

/// What a text says, before it is checked.
struct Fields {
    function: Function,
    rounds: u32,
    salt: Vec<u8>,
    tag: Zeroizing<Vec<u8>>,
}

pub(super) fn parse(data: &Data<'_>, accept: &Accept) -> Parsed {
    parse_as(Function::Sha1, data, accept)
}

pub(super) fn parse_256(data: &Data<'_>, accept: &Accept) -> Parsed {
    parse_as(Function::Sha256, data, accept)
}

pub(super) fn parse_512(data: &Data<'_>, accept: &Accept) -> Parsed {
    parse_as(Function::Sha512, data, accept)
}

/// `unnamed` is the function of a text that names none.
fn parse_as(unnamed: Function, data: &Data<'_>, accept: &Accept) -> Parsed {
    let text = data.text()?;
    let fields = fields(unnamed, &text).ok_or_else(|| {
        data.malformed(
            "expected $1$salt$rounds$hex, $pbkdf2-sha256$rounds$salt$tag, \
             pbkdf2_sha256$rounds$salt$tag or rounds$salt$tag",
        )
    })?;
    let limit = accept.limits.pbkdf2_rounds;
    cap(data.scheme, "rounds", fields.rounds.into(), limit.into())?;
    if fields.rounds == 0 {
        return Err(data.malformed("rounds must be at least 1"));
    }
    if fields.salt.len() > MAX_SALT || !TAG.contains(&fields.tag.len()) {
        return Err(data.malformed("expected a salt of at most 128 bytes and a tag of 16 to 64"));
    }
    Ok(Arc::new(Pbkdf2 {
        scheme: data.scheme,
        function: fields.function,
        rounds: fields.rounds,
        salt: fields.salt.into(),
        tag: Zeroizing::new(fields.tag.as_slice().into()),
        text: Zeroizing::new(text.as_str().into()),
    }))
}

fn fields(unnamed: Function, text: &str) -> Option<Fields> {
    use Function::{Sha1, Sha256, Sha512};
    // Dovecot's: the salt is text, the tag hexadecimal, the function SHA-1.
    if let Some(rest) = text.strip_prefix("$1$") {
        let [salt, number, tag] = three(rest)?;
        let (rounds, salt) = (rounds(number)?, salt.as_bytes().to_vec());
        return Some(Fields { function: Sha1, rounds, salt, tag: unhex(tag)? });
    }
    // passlib's, and the PHC string format's, whose first field names its number.
    for (prefix, function) in
        [("$pbkdf2$", Sha1), ("$pbkdf2-sha256$", Sha256), ("$pbkdf2-sha512$", Sha512)]
    {
        if let Some(rest) = text.strip_prefix(prefix) {
            let [number, salt, tag] = three(rest)?;
            let (number, len) = match number.strip_prefix("i=") {
                Some(parameters) => match parameters.split_once(",l=") {
                    Some((number, len)) => (number, Some(rounds(len)?)),
                    None => (parameters, None),
                },
                None => (number, None),
            };
            let (rounds, salt, tag) = (rounds(number)?, unbase64(salt)?.to_vec(), unbase64(tag)?);
            let as_said = len.is_none_or(|len| len as usize == tag.len());
            return as_said.then_some(Fields { function, rounds, salt, tag });
        }
    }
    // Django's: the salt is text.
    for (prefix, function) in [("pbkdf2_sha1$", Sha1), ("pbkdf2_sha256$", Sha256)] {
        if let Some(rest) = text.strip_prefix(prefix) {
            let [number, salt, tag] = three(rest)?;
            let (rounds, salt) = (rounds(number)?, salt.as_bytes().to_vec());
            return Some(Fields { function, rounds, salt, tag: unbase64(tag)? });
        }
    }
    // OpenLDAP's: behind {PBKDF2-SHA256}.
    let [number, salt, tag] = three(text)?;
    let (rounds, salt, tag) = (rounds(number)?, unbase64(salt)?.to_vec(), unbase64(tag)?);
    Some(Fields { function: unnamed, rounds, salt, tag })
}

fn three(text: &str) -> Option<[&str; 3]> {
    let mut fields = text.split('$');
    let three = [fields.next()?, fields.next()?, fields.next()?];
    fields.next().is_none().then_some(three)
}

/// Too large for the type is above any limit; let the limit be named.
fn rounds(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u32::MAX))
}

impl Family for Pbkdf2 {
    fn scheme(&self) -> &'static str {
        self.scheme
    }

    fn cost(&self) -> Cost {
        Cost::Expensive
    }

    fn verify(&self, password: &[u8], _: &mut Memory) -> Result<bool, HashError> {
        let mut buffer = Zeroizing::new([0; *TAG.end()]);
        let tag = &mut buffer[..self.tag.len()];
        let derive = match self.function {
            Function::Sha1 => ::pbkdf2::pbkdf2_hmac::<Sha1>,
            Function::Sha256 => ::pbkdf2::pbkdf2_hmac::<Sha256>,
            Function::Sha512 => ::pbkdf2::pbkdf2_hmac::<Sha512>,
        };
        derive(password, &self.salt, self.rounds, tag);
        // HMAC fills a short key up with NULs: `a` and `a\0` have the same tag, and only one is a password.
        Ok(bool::from(tag.ct_eq(&self.tag)) && !password.contains(&0))
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
    use countersign::Secret;

    fn parse(text: &str) -> Result<Hash, HashError> {
        Hash::parse(text, &Accept::default())
    }

    /// Made by doveadm pw 2.3.19, passlib 1.7.4 and Django 5.
    const MADE: [&str; 9] = [
        "{PBKDF2}$1$LBWl/QakQZSmd8JZ$5$4dc5e7777b5c6a38ad09144fea95cf4bd93a0b07",
        "{PBKDF2.B64}JDEkUFN6MUFtc1Q3ZEQxSWFwbiQ1MDAwJDc1OTcyYzcxYWE1Y2UzOGUxYTIyY2M3MGUxMzNlMzRkODdjZDhiOTA=",
        "$pbkdf2$1000$nnPuvXcuxZhz7t2719rbOw$44nPd2o0hAJ7vwJYpubl3JBwpkU",
        "$pbkdf2-sha256$1000$lvIew1hr7T1HCMEY4xzD.A$PlAMSSM5peH5GJszQ0G7fV4uojj9PiGQbHxHIGTkp5I",
        "$pbkdf2-sha512$1000$KkVIydl7r3WOkZKS0vpfKw$ZxJE.UdrqigW1usebaPKiRxvJKQqLqtrHqYO2qLG8W9jKza6XMco6JZpqzdjgn7Y9h9ilM4WWXlJXbqFhs5pmA",
        "{PBKDF2-SHA256}1000$iNG6t9Yao1SKcS6llDLGGA$CwYR/erApPEwXF0/z86Am/rqvDKN4J536xgQfo3xu.I",
        "pbkdf2_sha256$1000$seasalt$mQnueSakb748zqBAC1tmWVZsZbi2zPGZarEzTGdfmso=",
        "pbkdf2_sha1$1000$seasalt$iQvkNOF1wEL4Khh8eogJ8rUhipM=",
        // The fourth in the PHC string format.
        "$pbkdf2-sha256$i=1000,l=32$lvIew1hr7T1HCMEY4xzD+A$PlAMSSM5peH5GJszQ0G7fV4uojj9PiGQbHxHIGTkp5I",
    ];

    #[test]
    fn vectors() {
        for text in MADE {
            let hash = parse(text).unwrap();
            assert!(hash.verify(&Secret::from("correct horse")), "{text}");
            for wrong in ["correct hors", "correct horse\0", "Correct horse", ""] {
                assert!(!hash.verify(&Secret::from(wrong)), "{text}");
            }
            let again = parse(&hash.expose_text()).unwrap();
            assert_eq!(again.expose_text(), hash.expose_text());
            assert!(again.verify(&Secret::from("correct horse")), "{text}");
            assert!(hash.outdated(&Recipe::default()));
        }
    }

    /// RFC 6070 and RFC 7914 §11.
    #[test]
    fn published_vectors() {
        for (password, text) in [
            ("password", "{PBKDF2}$1$salt$4096$4b007901b765489abead49d926f721d065a429c1"),
            ("passwd", "{PBKDF2-SHA256}1$c2FsdA$VawEblbjCJ/sFpHCJUS2BflBhSFt3gRl5oudV8INrLw"),
        ] {
            let hash = parse(text).unwrap();
            assert!(hash.verify(&Secret::from(password)), "{text}");
        }
    }

    #[test]
    fn limits_are_named_before_anything_is_computed() {
        for number in ["5000001", "4294967295", "99999999999999"] {
            let text = format!(
                "pbkdf2_sha256${number}$seasalt$mQnueSakb748zqBAC1tmWVZsZbi2zPGZarEzTGdfmso="
            );
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains("above the limit of 5000000"), "{error}");
        }
    }

    #[test]
    fn malformed_texts() {
        let tag = "PlAMSSM5peH5GJszQ0G7fV4uojj9PiGQbHxHIGTkp5I";
        for text in [
            format!("$pbkdf2-sha256$0$salt${tag}"),
            format!("$pbkdf2-sha256$+1$salt${tag}"),
            format!("$pbkdf2-sha256$$salt${tag}"),
            format!("$pbkdf2-sha256$1$salt${tag}$"),
            format!("$pbkdf2-sha256$1${tag}"),
            format!("$pbkdf2-sha256$i=1,l=20$salt${tag}"),
            format!("$pbkdf2-sha256$1$!${tag}"),
            "$pbkdf2-sha256$1$salt$PlAM".into(),
            format!("$pbkdf2-sha256$1$salt${tag}{tag}{tag}"),
            format!("$pbkdf2-sha256$1${}${tag}", "A".repeat(200)),
            "{PBKDF2}$1$salt$5$4dc5e7777b5c6a38ad09144fea95cf4bd93a0b0".into(),
            "{PBKDF2}$2$salt$5$4dc5e7777b5c6a38ad09144fea95cf4bd93a0b07".into(),
            "{PBKDF2}".into(),
        ] {
            assert!(matches!(parse(&text), Err(HashError::Malformed { .. })), "{text}");
        }
    }
}
