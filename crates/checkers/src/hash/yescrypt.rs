//! YESCRYPT: `$y$`, the default of Debian's and Fedora's shadow files, and gost-yescrypt's `$gy$`. By libxcrypt
//! where the system has it: it is twice as fast, and knows both; otherwise `$y$` by Rust.

use std::sync::Arc;

use ::yescrypt::{Mode, Params};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::limits::{Accept, Recipe, cap};
use super::scheme::{Data, Family, Parsed};
use super::{Cost, HashError, Memory, crypt64};

const SCHEME: &str = "YESCRYPT";
/// libxcrypt's.
const MAX_PASSWORD: usize = 511;
/// Bytes, and so 86 characters.
const MAX_SALT: usize = 64;

struct Yescrypt {
    settings: Settings,
    /// The whole of it.
    text: Zeroizing<Box<str>>,
    /// Where the tag begins in it.
    tag: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Settings {
    /// 0: scrypt, 1: read-many, and then the read-write ones.
    flavour: u32,
    log_n: u32,
    r: u32,
    p: u32,
    t: u32,
    g: u32,
    rom: bool,
}

pub(super) fn parse(data: &Data<'_>, accept: &Accept) -> Parsed {
    let text = data.text()?;
    let bad = || data.malformed("expected $y$ or $gy$, then parameters$salt$tag");
    let (gost, rest) = match (text.strip_prefix("$y$"), text.strip_prefix("$gy$")) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        (None, None) => return Err(bad()),
    };
    let mut fields = rest.split('$');
    let (Some(settings), Some(salt), Some(tag), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(bad());
    };
    let settings = Settings::parse(settings).ok_or_else(bad)?;
    cap(SCHEME, "t", settings.t.into(), 8)?;
    let [r, p, t] = [settings.r, settings.p, settings.t].map(u64::from);
    // Each step of t adds less than the first pass again.
    super::scrypt::check_work(SCHEME, settings.log_n.into(), r, p * (t + 1), accept)?;
    let salt_len = crypt64::decode(salt).ok_or_else(bad)?.len();
    if salt_len > MAX_SALT || crypt64::decode(tag).is_none_or(|tag| tag.len() != 32) {
        return Err(data.malformed("expected a salt of at most 64 bytes and a tag of 32"));
    }
    if !countersign_hashlibs::has_crypt() && (gost || settings.params().is_none()) {
        let what = "a yescrypt hash of this kind, without libxcrypt (libcrypt.so.1),";
        return Err(HashError::Unsupported { what });
    }
    let tag = text.len() - tag.len();
    Ok(Arc::new(Yescrypt { settings, text: Zeroizing::new(text.as_str().into()), tag }))
}

impl Settings {
    fn parse(text: &str) -> Option<Self> {
        let mut rest = text.as_bytes();
        let mut next = |least| number(&mut rest, least);
        let (flavour, log_n, r) = (next(0)?, next(1)?, next(1)?);
        let mut settings = Self { flavour, log_n, r, p: 1, t: 0, g: 0, rom: false };
        if !rest.is_empty() {
            // A bit for each of the rarer ones.
            let mut next = |least| number(&mut rest, least);
            let have = next(1)?;
            if have & 1 != 0 {
                settings.p = next(2)?;
            }
            if have & 2 != 0 {
                settings.t = next(1)?;
            }
            if have & 4 != 0 {
                settings.g = next(1)?;
            }
            settings.rom = have & !7 != 0;
        }
        // A read-only memory is another's to set up, and would be read from a file.
        (rest.is_empty() && settings.log_n < 64 && !settings.rom).then_some(settings)
    }

    /// For the implementation in Rust, which knows the flavours that are in use.
    fn params(&self) -> Option<Params> {
        let mode = match self.flavour {
            0 => Mode::Classic,
            1 => Mode::Worm,
            47 => Mode::Rw,
            _ => return None,
        };
        let n = 1u64.checked_shl(self.log_n)?;
        Params::new_with_all_params(mode, n, self.r, self.p, self.t, self.g).ok()
    }
}

/// A number as yescrypt's settings write it: the first character tells how many follow, and those below 48
/// stand alone.
fn number(rest: &mut &[u8], least: u32) -> Option<u32> {
    let mut take = || {
        let (first, behind) = rest.split_first()?;
        *rest = behind;
        crypt64::value(*first)
    };
    let first = take()?;
    let (mut start, mut end, mut bits, mut value) = (0, 47, 0, least);
    while first > end {
        value = value.checked_add((end + 1 - start) << bits)?;
        start = end + 1;
        end = start + (62 - end) / 2;
        bits += 6;
        if bits > 24 {
            return None;
        }
    }
    value = value.checked_add((first - start) << bits)?;
    while bits > 0 {
        bits -= 6;
        value = value.checked_add(take()? << bits)?;
    }
    Some(value)
}

impl Yescrypt {
    fn by_rust(&self, password: &[u8]) -> Option<Zeroizing<String>> {
        let params = self.settings.params()?;
        let salt = self.text[..self.tag].split('$').nth(3)?;
        let mut tag = Zeroizing::new([0; 32]);
        ::yescrypt::yescrypt(password, &crypt64::decode(salt)?, &params, &mut *tag).ok()?;
        Some(crypt64::encode(&*tag))
    }

    fn kib(&self) -> u64 {
        (128 * u64::from(self.settings.r)) << self.settings.log_n >> 10
    }
}

impl Family for Yescrypt {
    fn scheme(&self) -> &'static str {
        SCHEME
    }

    fn cost(&self) -> Cost {
        Cost::Expensive
    }

    fn verify(&self, password: &[u8], _: &mut Memory) -> Result<bool, HashError> {
        // crypt(3) ends a password at a NUL. One that it would cut takes the work, and is refused.
        let whole = password.len() <= MAX_PASSWORD && !password.contains(&0);
        let password: &[u8] = if whole { password } else { b"unfit" };
        let refused = HashError::OutOfMemory { kib: self.kib() };
        let tag = match countersign_hashlibs::crypt(password, &self.text) {
            Some(hash) => Zeroizing::new(hash.get(self.tag..).unwrap_or_default().to_owned()),
            None if self.text.starts_with("$y$") => {
                let there = Vec::<u8>::new().try_reserve_exact(self.kib() as usize * 1024);
                there.map_err(|_| refused.clone())?;
                self.by_rust(password).ok_or(refused)?
            }
            None => return Err(refused),
        };
        Ok(bool::from(tag.as_bytes().ct_eq(&self.text.as_bytes()[self.tag..])) && whole)
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

    /// By mkpasswd of Debian 12.
    const MADE: &str = "$y$j9T$TgGz6WDqjECuOt53RbO8K1$NOkG70P2.TjkyA2NZQ2rHNVbuhs6ckx18/.GnxuFGTB";
    const GOST: &str = "$gy$j9T$3C257hFRsOqBslyyX3/zW/$U.FSu//2TK80ZU2tGKIjxWwcDHgTqDk68yKkyDI6E66";

    #[test]
    fn vectors() {
        let has_crypt = has_crypt("hash::yescrypt::tests::vectors");
        for text in [MADE, GOST] {
            let hash = match parse(text) {
                Err(HashError::Unsupported { .. }) if !has_crypt => continue,
                parsed => parsed.unwrap(),
            };
            assert!(hash.verify(&Secret::from("correct horse")), "{text}");
            for wrong in ["correct hors", "correct horse\0", "unfit\0", ""] {
                assert!(!hash.verify(&Secret::from(wrong)), "{text}");
            }
            assert_eq!(hash.expose_text(), format!("{{YESCRYPT}}{text}"));
            assert!(parse(&hash.expose_text()).is_ok() && hash.outdated(&Recipe::default()));
        }
    }

    fn read(text: &str) -> Yescrypt {
        let (settings, tag) = (text.split('$').nth(2).unwrap(), text.rfind('$').unwrap() + 1);
        let settings = Settings::parse(settings).unwrap();
        Yescrypt { settings, text: Zeroizing::new(text.into()), tag }
    }

    /// The way without libxcrypt, which no machine of ours would take otherwise.
    #[test]
    fn rust_computes_the_same() {
        let by_rust = |text: &str, password: &str| {
            let hash = read(text);
            *hash.by_rust(password.as_bytes()).unwrap() == text[hash.tag..]
        };
        assert!(by_rust(MADE, "correct horse") && !by_rust(MADE, "correct hors"));
        if !has_crypt("hash::yescrypt::tests::rust_computes_the_same") {
            return;
        }
        for setting in ["$y$j/.5$LdJMENpBABJJ3hIHj/1/$", "$y$j75$abcd$", "$y$/75$abcd$"] {
            let theirs = countersign_hashlibs::crypt(b"secret", setting);
            if let Some(theirs) = theirs {
                assert!(by_rust(&theirs, "secret"), "{setting}");
            }
        }
    }

    #[test]
    fn settings_are_read() {
        let settings = |text| Settings::parse(text);
        let plain = Settings { flavour: 47, log_n: 12, r: 32, p: 1, t: 0, g: 0, rom: false };
        assert_eq!(settings("j9T"), Some(plain));
        // p = 2, t = 1.
        assert_eq!(settings("j9T0.."), Some(Settings { p: 2, t: 1, ..plain }));
        // Two characters: the first counts from 48 on.
        assert_eq!(settings("j9k."), Some(Settings { r: 49, ..plain }));
        assert_eq!(settings("j9k/"), Some(Settings { r: 50, ..plain }));
        for wrong in ["", "j", "j9", "j9!", "j9T.x", "j9T5.", "jzzzzzzzzz", "j9T00.."] {
            assert_eq!(settings(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn limits_are_named_before_anything_is_computed() {
        for settings in ["jFT", "j9zzzzzz", "jzT"] {
            let text = format!("$y${settings}${}", &MADE[7..]);
            let error = parse(&text).unwrap_err();
            let known = matches!(error, HashError::TooCostly { .. } | HashError::Malformed { .. });
            assert!(known, "{settings}: {error}");
        }
        let large = parse(&format!("$y$jFT${}", &MADE[7..])).unwrap_err();
        assert!(large.to_string().contains("N × r × p × 128 (KiB) = 1048576"), "{large}");
    }

    #[test]
    fn malformed_texts() {
        for text in [
            "$y$j9T$salt",
            "$y$j9T$",
            "$y$",
            "$y$j9T$!!$NOkG70P2.TjkyA2NZQ2rHNVbuhs6ckx18/.GnxuFGTB",
            "$y$j9T$TgGz6WDqjECuOt53RbO8K1$NOkG",
            "$y$j9T$TgGz6WDqjECuOt53RbO8K1$NOkG70P2.TjkyA2NZQ2rHNVbuhs6ckx18/.GnxuFGTB$x",
            "{YESCRYPT}$7$x",
        ] {
            assert!(matches!(parse(text), Err(HashError::Malformed { .. })), "{text}");
        }
    }
}
