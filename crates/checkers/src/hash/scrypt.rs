//! SCRYPT (RFC 7914): crypt(3)'s `$7$`, the PHC string format's `$scrypt$`, and Django's `scrypt$`.

use std::sync::Arc;

use ::scrypt::Params;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::limits::{Accept, Recipe, cap};
use super::scheme::{Data, Family, Parsed, unbase64};
use super::{Cost, HashError, Memory, crypt64};

const SCHEME: &str = "SCRYPT";
/// Tags shorter than this could be met by chance.
const TAG: std::ops::RangeInclusive<usize> = 16..=64;
const MAX_SALT: usize = 128;

struct Scrypt {
    log_n: u8,
    r: u32,
    p: u32,
    salt: Box<[u8]>,
    tag: Zeroizing<Box<[u8]>>,
    /// As it was written: there are three ways.
    text: Zeroizing<Box<str>>,
}

struct Fields {
    log_n: u64,
    r: u64,
    p: u64,
    salt: Vec<u8>,
    tag: Zeroizing<Vec<u8>>,
}

pub(super) fn parse(data: &Data<'_>, accept: &Accept) -> Parsed {
    let text = data.text()?;
    let Fields { log_n, r, p, salt, tag } = fields(&text).ok_or_else(|| {
        data.malformed("expected $7$…, $scrypt$ln=…,r=…,p=…$salt$tag or scrypt$N$salt$r$p$tag")
    })?;
    if log_n == 0 || r == 0 || p == 0 {
        return Err(data.malformed("N must be at least 2, and r and p at least 1"));
    }
    check_work(data.scheme, log_n, r, p, accept)?;
    if salt.len() > MAX_SALT || !TAG.contains(&tag.len()) {
        return Err(data.malformed("expected a salt of at most 128 bytes and a tag of 16 to 64"));
    }
    // They are small now: the work has a limit.
    let (log_n, r, p) = (log_n as u8, r as u32, p as u32);
    Params::new(log_n, r, p).map_err(|_| data.malformed("N, r and p do not fit together"))?;
    Ok(Arc::new(Scrypt {
        log_n,
        r,
        p,
        salt: salt.into(),
        tag: Zeroizing::new(tag.as_slice().into()),
        text: Zeroizing::new(text.as_str().into()),
    }))
}

/// Refuses what mixes more than the limit; what takes much memory does that too.
pub(super) fn check_work(
    scheme: &'static str,
    log_n: u64,
    r: u64,
    p: u64,
    accept: &Accept,
) -> Result<(), HashError> {
    let n = 1u64.checked_shl(u32::try_from(log_n).unwrap_or(u32::MAX)).unwrap_or(u64::MAX);
    let bytes = n.saturating_mul(128).saturating_mul(r).saturating_mul(p);
    let limit = accept.limits.scrypt_work_kib;
    cap(scheme, "N × r × p × 128 (KiB)", bytes.div_ceil(1024), limit)
}

fn fields(text: &str) -> Option<Fields> {
    if let Some(rest) = text.strip_prefix("$7$") {
        // One character for log N, five for each of r and p, then the salt as it is.
        let bytes = rest.as_bytes();
        let number = |from: usize| -> Option<u64> {
            let digits = bytes.get(from..from + 5)?.iter().enumerate();
            digits.map(|(i, digit)| Some(u64::from(crypt64::value(*digit)?) << (6 * i))).sum()
        };
        let (log_n, r, p) = (crypt64::value(*bytes.first()?)?, number(1)?, number(6)?);
        let (salt, tag) = rest.get(11..)?.split_once('$')?;
        let (salt, tag) = (salt.as_bytes().to_vec(), crypt64::decode(tag)?);
        return (tag.len() == 32).then_some(Fields { log_n: log_n.into(), r, p, salt, tag });
    }
    if let Some(rest) = text.strip_prefix("$scrypt$") {
        let mut fields = rest.split('$');
        let (parameters, salt, tag) = (fields.next()?, fields.next()?, fields.next()?);
        let mut parameters = parameters.split(',');
        let mut named = |name| number(parameters.next()?.strip_prefix(name)?);
        let (log_n, r, p) = (named("ln=")?, named("r=")?, named("p=")?);
        if fields.next().is_some() || parameters.next().is_some() {
            return None;
        }
        return Some(Fields { log_n, r, p, salt: unbase64(salt)?.to_vec(), tag: unbase64(tag)? });
    }
    let mut fields = text.strip_prefix("scrypt$")?.split('$');
    let n = number(fields.next()?)?;
    let salt = fields.next()?.as_bytes().to_vec();
    let (r, p, tag) = (number(fields.next()?)?, number(fields.next()?)?, fields.next()?);
    if fields.next().is_some() || !n.is_power_of_two() {
        return None;
    }
    Some(Fields { log_n: n.trailing_zeros().into(), r, p, salt, tag: unbase64(tag)? })
}

/// Too large for the type is above any limit; let the limit be named.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(1 << 63))
}

impl Scrypt {
    fn derive(&self, password: &[u8], tag: &mut [u8]) -> Result<(), HashError> {
        let unusable = HashError::Malformed { scheme: SCHEME, reason: "N, r or p is unusable" };
        let params = Params::new(self.log_n, self.r, self.p).map_err(|_| unusable.clone())?;
        // What it cannot have, it would end the process for: so it is asked for here, where that is an
        // error.
        let bytes = (128usize * self.r as usize) << self.log_n;
        let there = Vec::<u8>::new().try_reserve_exact(bytes);
        there.map_err(|_| HashError::OutOfMemory { kib: bytes as u64 / 1024 })?;
        ::scrypt::scrypt(password, &self.salt, &params, tag).map_err(|_| unusable)
    }
}

impl Family for Scrypt {
    fn scheme(&self) -> &'static str {
        SCHEME
    }

    fn cost(&self) -> Cost {
        Cost::Expensive
    }

    fn verify(&self, password: &[u8], _: &mut Memory) -> Result<bool, HashError> {
        let mut buffer = Zeroizing::new([0; *TAG.end()]);
        let tag = &mut buffer[..self.tag.len()];
        self.derive(password, tag)?;
        // Its HMAC fills a short key up with NULs: `a` and `a\0` have the same tag.
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
    use crate::hash::tests::has_crypt;
    use countersign::Secret;

    fn parse(text: &str) -> Result<Hash, HashError> {
        Hash::parse(text, &Accept::default())
    }

    /// By mkpasswd of Debian 12, passlib 1.7.4, Django 5, and RFC 7914 §12.
    #[test]
    fn vectors() {
        for (password, text) in [
            (
                "correct horse",
                "$7$CU..../....tNwksS3kICEvszFNDbbP/.$2uJ9XfdBG3egGLk7fXPfC9CZYRteRIkTzAvS/Cm/9F3",
            ),
            (
                "correct horse",
                "$scrypt$ln=4,r=8,p=1$894bQ0hp7b1XyvmfU8p5Lw$taldZY3tKKADQOSHSCVSwlARl2S9vipVEeYH7rgxkNw",
            ),
            (
                "correct horse",
                "scrypt$16$seasalt$8$5$VBIK7Th4LcTBl6yHoTk2/LZfB/CjEGs0i+R5znssQ0seo4hWtstM1gN4Bly0e7O0ILSX9F1oQYX+frYPtQvNOg==",
            ),
            (
                "password",
                "$scrypt$ln=10,r=8,p=16$TmFDbA$/bq+HJ00cgB4VucZDQHp/nxq18vII3gw53N2Y0s3MWIurzDZLiKjiG/xCSedmDDaxyevuUqD7m2DYMvfoswGQA",
            ),
        ] {
            let hash = parse(text).unwrap();
            assert!(hash.verify(&Secret::from(password)), "{text}");
            for wrong in ["correct hors".to_owned(), format!("{password}\0"), String::new()] {
                assert!(!hash.verify(&Secret::from(wrong)), "{text}");
            }
            let again = parse(&hash.expose_text()).unwrap();
            assert_eq!(again.expose_text(), hash.expose_text());
            assert!(hash.outdated(&Recipe::default()));
        }
    }

    #[test]
    fn libxcrypt_agrees() {
        if !has_crypt("hash::scrypt::tests::libxcrypt_agrees") {
            return;
        }
        // N = 16, r = 1 and 3, p = 1 and 2.
        for setting in
            ["$7$2/..../....salt", "$7$2/....0....", "$7$21..../....longer.salt/than.that"]
        {
            let theirs = countersign_hashlibs::crypt(b"secret", setting).unwrap();
            assert!(parse(&theirs).unwrap().verify(&Secret::from("secret")), "{setting}");
        }
    }

    #[test]
    fn limits_are_named_before_anything_is_computed() {
        let tag = "taldZY3tKKADQOSHSCVSwlARl2S9vipVEeYH7rgxkNw";
        for text in [
            format!("$scrypt$ln=20,r=8,p=1$c2FsdA${tag}"),
            format!("$scrypt$ln=63,r=8,p=1$c2FsdA${tag}"),
            format!("$scrypt$ln=99999999999999999999,r=1,p=1$c2FsdA${tag}"),
            format!("$scrypt$ln=10,r=99999999999999999999,p=1$c2FsdA${tag}"),
            format!("$scrypt$ln=10,r=8,p=4294967296$c2FsdA${tag}"),
            "$7$zU..../....tNwksS3kICEvszFNDbbP/.$2uJ9XfdBG3egGLk7fXPfC9CZYRteRIkTzAvS/Cm/9F3"
                .into(),
            format!("scrypt$9223372036854775808$salt$8$1${tag}"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(matches!(error, HashError::TooCostly { .. }), "{text}: {error}");
        }
    }

    #[test]
    fn malformed_texts() {
        let tag = "taldZY3tKKADQOSHSCVSwlARl2S9vipVEeYH7rgxkNw";
        for text in [
            format!("$scrypt$ln=0,r=8,p=1$c2FsdA${tag}"),
            format!("$scrypt$ln=4,r=0,p=1$c2FsdA${tag}"),
            format!("$scrypt$ln=4,r=8,p=1,x=1$c2FsdA${tag}"),
            format!("$scrypt$r=8,ln=4,p=1$c2FsdA${tag}"),
            format!("$scrypt$ln=4,r=8,p=1$c2FsdA${tag}$"),
            "$scrypt$ln=4,r=8,p=1$c2FsdA$tald".into(),
            format!("$7$CU..../....${tag}x"),
            "$7$CU..../...".into(),
            "$7$C!..../....salt$2uJ9XfdBG3egGLk7fXPfC9CZYRteRIkTzAvS/Cm/9F3".into(),
            "$7$".into(),
            format!("scrypt$17$salt$8$1${tag}"),
            format!("scrypt$16$salt$8${tag}"),
        ] {
            assert!(matches!(parse(&text), Err(HashError::Malformed { .. })), "{text}");
        }
    }
}
