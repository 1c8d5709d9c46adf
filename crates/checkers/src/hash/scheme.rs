//! The table of schemes: names, and who reads the data behind each.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::limits::{Accept, Recipe};
use super::{Cost, HashError, Memory};
use super::{
    argon2id, blf_crypt, des_crypt, digest, md5_crypt, pbkdf2, plain, scrypt, sha_crypt, yescrypt,
};

/// One family of hashes, parsed: what a file of this folder implements.
pub(crate) trait Family: Send + Sync {
    /// The canonical name in the table.
    fn scheme(&self) -> &'static str;
    /// Where it may be verified.
    fn cost(&self) -> Cost;
    /// Compares in constant time. A password that the scheme cannot hold costs the same work as any
    /// other and is refused.
    fn verify(&self, password: &[u8], memory: &mut Memory) -> Result<bool, HashError>;
    /// The data behind `{SCHEME}`.
    fn data(&self) -> String;
    /// Everything that tells this hash from others of its scheme, in parts whose number is the scheme's.
    /// For those who only compare: it need not be text.
    fn each_part(&self, part: &mut dyn FnMut(&[u8])) {
        part(Zeroizing::new(self.data()).as_bytes());
    }
    /// Whether a hash made by this recipe is stronger.
    fn weaker_than(&self, recipe: &Recipe) -> bool;
}

/// What a row's reader gives.
pub(crate) type Parsed = Result<Arc<dyn Family>, HashError>;

/// A password scheme: a row of the table.
#[derive(Clone, Copy)]
pub struct Scheme(&'static Row);

struct Row {
    name: &'static str,
    aliases: &'static [&'static str],
    parse: fn(&Data<'_>, &Accept) -> Parsed,
}

/// Adding a scheme is adding a row, and a file for its family.
static ROWS: [Row; 24] = [
    row("ARGON2ID", &[], argon2id::parse),
    row("ARGON2I", &[], argon2id::parse_i),
    row("BLF-CRYPT", &["BCRYPT"], blf_crypt::parse),
    row("SHA512-CRYPT", &[], sha_crypt::parse_512),
    row("SHA256-CRYPT", &[], sha_crypt::parse_256),
    row("CRYPT", &[], crypt),
    row("SHA256", &[], |d, _| digest::parse(d, digest::SHA256, false)),
    row("SSHA256", &[], |d, _| digest::parse(d, digest::SHA256, true)),
    row("SHA512", &[], |d, _| digest::parse(d, digest::SHA512, false)),
    row("SSHA512", &[], |d, _| digest::parse(d, digest::SHA512, true)),
    row("PLAIN", &["CLEAR", "CLEARTEXT"], plain::parse),
    row("YESCRYPT", &[], yescrypt::parse),
    row("SCRYPT", &[], scrypt::parse),
    row("PBKDF2", &["PBKDF2-SHA1"], pbkdf2::parse),
    row("PBKDF2-SHA256", &[], pbkdf2::parse_256),
    row("PBKDF2-SHA512", &[], pbkdf2::parse_512),
    row("MD5-CRYPT", &[], md5_crypt::parse),
    row("DES-CRYPT", &[], des_crypt::parse),
    row("SHA", &["SHA1"], |d, _| digest::parse(d, digest::SHA1, false)),
    row("SSHA", &["SSHA1"], |d, _| digest::parse(d, digest::SHA1, true)),
    row("LDAP-MD5", &[], |d, _| digest::parse(d, digest::MD5, false)),
    row("PLAIN-MD5", &[], |d, _| digest::parse(d, digest::MD5, false)),
    row("SMD5", &[], |d, _| digest::parse(d, digest::MD5, true)),
    row("MD5", &[], md5),
];

const fn row(
    name: &'static str,
    aliases: &'static [&'static str],
    parse: fn(&Data<'_>, &Accept) -> Parsed,
) -> Row {
    Row { name, aliases, parse }
}

impl Scheme {
    /// crypt(3): the text's own prefix names the function. Dovecot's default too.
    pub const CRYPT: Self = Self(&ROWS[5]);
    /// Clear text.
    pub const PLAIN: Self = Self(&ROWS[10]);

    /// Finds a scheme by its name, in any case.
    ///
    /// # Errors
    /// [`HashError::UnknownScheme`] with the known names and the nearest of them.
    pub fn named(name: &str) -> Result<Self, HashError> {
        let known = |row: &&Row| {
            row.name.eq_ignore_ascii_case(name)
                || row.aliases.iter().any(|a| a.eq_ignore_ascii_case(name))
        };
        if let Some(row) = ROWS.iter().find(known) {
            return Ok(Self(row));
        }
        // The name may be the beginning of a clear-text password that happens to hold braces.
        let harmless = |c: &char| c.is_ascii_alphanumeric() || "-_.".contains(*c);
        let name: String = name.chars().filter(harmless).take(32).collect();
        Err(HashError::UnknownScheme { suggestion: nearest(&name), name })
    }

    /// The name, as it is written in braces.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Every scheme of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        ROWS.iter().map(Self)
    }

    pub(super) fn parse(self, data: &str, encoding: Encoding, accept: &Accept) -> Parsed {
        let data = Data { scheme: self.0.name, text: data, encoding };
        (self.0.parse)(&data, accept)
    }
}

impl fmt::Debug for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}}}", self.name())
    }
}

impl PartialEq for Scheme {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Scheme {}

/// Dovecot's name of MD5-CRYPT, and LDAP's of an MD5 digest.
fn md5(data: &Data<'_>, accept: &Accept) -> Parsed {
    match data.text.starts_with('$') {
        true => md5_crypt::parse(data, accept),
        false => digest::parse(data, digest::MD5, false),
    }
}

/// crypt(3): by prefix.
fn crypt(data: &Data<'_>, accept: &Accept) -> Parsed {
    let text = data.text()?;
    let unsupported = |what| Err(HashError::Unsupported { what });
    let name = match text.split('$').nth(1).filter(|_| text.starts_with('$')) {
        Some("argon2id") => "ARGON2ID",
        Some("argon2i") => "ARGON2I",
        Some("2a" | "2b" | "2x" | "2y") => "BLF-CRYPT",
        Some("5") => "SHA256-CRYPT",
        Some("6") => "SHA512-CRYPT",
        Some("y" | "gy") => "YESCRYPT",
        Some("7" | "scrypt") => "SCRYPT",
        Some("pbkdf2" | "pbkdf2-sha256" | "pbkdf2-sha512") => "PBKDF2",
        Some("1" | "apr1") => "MD5-CRYPT",
        Some("argon2d") => return unsupported("an argon2d hash"),
        Some(_) => return unsupported("a crypt hash with an unknown $prefix$"),
        None if text.starts_with("pbkdf2_") => "PBKDF2",
        None if text.starts_with("scrypt$") => "SCRYPT",
        None if des_crypt::looks(&text) => "DES-CRYPT",
        None => return unsupported("a crypt hash without a $prefix$ (BSD's DES?)"),
    };
    Scheme::named(name)?.parse(&text, Encoding::Native, accept)
}

/// How the data behind a scheme's name are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// As the scheme writes them.
    Native,
    Base64,
    Hex,
}

impl Encoding {
    /// Splits `SCHEME.b64` and `SCHEME.hex`.
    pub(super) fn split(name: &str) -> (&str, Self) {
        let Some((scheme, suffix)) = name.rsplit_once('.') else {
            return (name, Self::Native);
        };
        match suffix.to_ascii_lowercase().as_str() {
            "b64" | "base64" => (scheme, Self::Base64),
            "hex" => (scheme, Self::Hex),
            _ => (name, Self::Native),
        }
    }
}

/// What stands behind `{SCHEME}`.
pub(super) struct Data<'a> {
    pub(super) scheme: &'static str,
    text: &'a str,
    encoding: Encoding,
}

/// Padding is optional and stray bits at the end are ignored, as other readers of these files do.
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
pub(super) const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_encode_padding(false)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);

impl Data<'_> {
    pub(super) fn malformed(&self, reason: &'static str) -> HashError {
        HashError::Malformed { scheme: self.scheme, reason }
    }

    /// The data of a scheme that writes text. An encoding, if there is one, is undone first.
    pub(super) fn text(&self) -> Result<Zeroizing<String>, HashError> {
        let bytes = match self.encoding {
            Encoding::Native => return Ok(Zeroizing::new(self.text.to_owned())),
            _ => self.bytes(0)?,
        };
        let text = std::str::from_utf8(&bytes).map_err(|_| self.malformed("not UTF-8"))?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    /// The data of a scheme that writes bytes, in base64. Without a suffix, what
    /// is exactly as long as `hex_len` bytes in hexadecimal is that; 0 for never.
    pub(super) fn bytes(&self, hex_len: usize) -> Result<Zeroizing<Vec<u8>>, HashError> {
        let looks_hex =
            self.encoding == Encoding::Native && hex_len > 0 && self.text.len() == 2 * hex_len;
        if self.encoding == Encoding::Hex || looks_hex {
            return unhex(self.text)
                .ok_or_else(|| self.malformed("expected an even number of hexadecimal digits"));
        }
        BASE64
            .decode(self.text)
            .map(Zeroizing::new)
            .map_err(|_| self.malformed("expected base64 (for hexadecimal add .hex to the scheme)"))
    }
}

pub(super) fn base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// Base64 with `.` for `+` too, as passlib writes it. Padding is optional.
pub(super) fn unbase64(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let text = Zeroizing::new(text.replace('.', "+"));
    BASE64.decode(text.as_bytes()).ok().map(Zeroizing::new)
}

pub(super) fn unhex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(pairs.len()));
    for [high, low] in pairs {
        bytes.push(digit(*high)? << 4 | digit(*low)?);
    }
    Some(bytes)
}

pub(super) fn known() -> String {
    let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
    names.join(", ")
}

pub(super) fn did_you_mean(suggestion: Option<&'static str>) -> Cow<'static, str> {
    match suggestion {
        Some(name) => format!(" (did you mean {{{name}}}?)").into(),
        None => "".into(),
    }
}

/// The known name that needs the fewest changed letters, if they are few.
fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_uppercase();
    let far = (name.len() / 3).clamp(1, 3);
    ROWS.iter()
        .flat_map(|row| std::iter::once(&row.name).chain(row.aliases).map(move |n| (*n, row)))
        .map(|(written, row)| (distance(&name, written), row.name))
        .filter(|(d, _)| *d <= far)
        .min()
        .map(|(_, name)| name)
}

/// Levenshtein's. Both are short: the caller cuts at 32.
fn distance(a: &str, b: &str) -> usize {
    let mut line: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut line[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = line[j + 1];
            line[j + 1] = substituted.min(diagonal + 1).min(line[j] + 1);
        }
    }
    line[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case_and_constants_name_their_rows() {
        for scheme in Scheme::all() {
            let lower = scheme.name().to_ascii_lowercase();
            assert_eq!(Scheme::named(&lower), Ok(scheme));
        }
        assert_eq!(Scheme::CRYPT.name(), "CRYPT");
        assert_eq!(Scheme::PLAIN.name(), "PLAIN");
        assert_eq!(Scheme::named("bcrypt").map(Scheme::name), Ok("BLF-CRYPT"));
    }

    #[test]
    fn unknown_names_suggest_and_list() {
        let error = Scheme::named("ARGON2-ID").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("did you mean {ARGON2ID}?"), "{text}");
        assert!(text.contains("SHA512-CRYPT, SHA256-CRYPT"), "{text}");
        let text = Scheme::named("hunter2 my secret").unwrap_err().to_string();
        assert!(!text.contains("did you mean"), "{text}");
    }

    #[test]
    fn hexadecimal_and_distance() {
        assert_eq!(unhex("00fFa1").unwrap().as_slice(), [0, 0xff, 0xa1]);
        assert!(unhex("0").is_none() && unhex("0g").is_none() && unhex("ää").is_none());
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
