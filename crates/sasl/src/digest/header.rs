//! The `Authorization` header (RFC 7616 §3.4), parsed and printed.

use std::fmt;

use super::Variant;

/// A header is at most so long, and has so many parameters.
const LONGEST: usize = 8192;
const PARAMETERS: usize = 24;
/// A client's nonce, which is a part of what is hashed.
const LONGEST_NONCE: usize = 512;

/// What a client answers a challenge with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// Who the client says it is, or the hash of it.
    pub username: String,
    /// Whether it is the hash.
    pub userhash: bool,
    /// The realm.
    pub realm: String,
    /// Our nonce.
    pub nonce: String,
    /// The request target.
    pub uri: String,
    /// The response: hexadecimal digits, 32 at least.
    pub response: String,
    /// The algorithm. MD5 where the header names none.
    pub variant: Variant,
    /// What is protected. None in RFC 2069.
    pub qop: Option<Qop>,
    /// The count, 8 hexadecimal digits as they were sent. Empty without a `qop`.
    pub nc: String,
    /// The client's nonce. Empty without a `qop`.
    pub cnonce: String,
}

/// What a response protects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qop {
    /// Method and URI.
    Auth,
    /// The body as well.
    AuthInt,
}

/// The header is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no Digest authorization: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

impl Qop {
    /// The word in headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::AuthInt => "auth-int",
        }
    }
}

impl Authorization {
    /// Whether a header's value is of the scheme `Digest`.
    pub fn is_digest(value: &[u8]) -> bool {
        value.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"Digest "))
    }

    /// Parses the value of a header.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(value: &[u8]) -> Result<Self, Malformed> {
        if !Self::is_digest(value) {
            return Err(Malformed("another scheme"));
        }
        if value.len() > LONGEST {
            return Err(Malformed("it is too long"));
        }
        let text = std::str::from_utf8(&value[7..]).map_err(|_| Malformed("it is not UTF-8"))?;
        let parameters = parameters(text)?;
        let find = |name: &str| {
            let found = parameters.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.as_str())
        };
        let need = |name, why| find(name).ok_or(Malformed(why));
        let said = |name| find(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let userhash = said("userhash");
        let username = match (find("username"), find("username*")) {
            (Some(name), None) => name.to_owned(),
            // A hash has no letters that would need it (RFC 7616 §3.4).
            (None, Some(name)) if !userhash => extended(name)?,
            _ => return Err(Malformed("it has no user name, or two")),
        };
        let variant = match find("algorithm") {
            None => "MD5",
            Some(name) => name,
        };
        let variant = Variant::from_name(variant).ok_or(Malformed("an unknown algorithm"))?;
        let response = need("response", "it has no response")?;
        let digits = |text: &str, count: usize| {
            text.len() == count && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        if !digits(response, variant.algorithm.digits()) {
            return Err(Malformed("its response is no hash of its algorithm"));
        }
        let qop = match find("qop") {
            None => None,
            Some("auth") => Some(Qop::Auth),
            Some("auth-int") => Some(Qop::AuthInt),
            Some(_) => return Err(Malformed("an unknown protection")),
        };
        let (nc, cnonce) = match qop {
            None => ("", ""),
            Some(_) => {
                let nc = need("nc", "it has no count")?;
                let cnonce = need("cnonce", "it has no nonce of the client's")?;
                if !digits(nc, 8) || !(1..=LONGEST_NONCE).contains(&cnonce.len()) {
                    return Err(Malformed("its count or its nonce is none"));
                }
                (nc, cnonce)
            }
        };
        Ok(Self {
            username,
            userhash,
            realm: need("realm", "it has no realm")?.to_owned(),
            nonce: need("nonce", "it has no nonce")?.to_owned(),
            uri: need("uri", "it has no URI")?.to_owned(),
            response: response.to_owned(),
            variant,
            qop,
            nc: nc.to_owned(),
            cnonce: cnonce.to_owned(),
        })
    }

    /// Whether the body must be hashed before the header can be judged.
    pub fn wants_body(&self) -> bool {
        self.qop == Some(Qop::AuthInt)
    }

    /// The count, where there is one.
    pub(super) fn count(&self) -> Option<u32> {
        self.qop?;
        u32::from_str_radix(&self.nc, 16).ok()
    }
}

impl fmt::Display for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { username, realm, nonce, uri, response, .. } = self;
        write!(f, "Digest username={}, realm={}", quoted(username), quoted(realm))?;
        write!(f, ", nonce={}, uri={}", quoted(nonce), quoted(uri))?;
        write!(f, ", response=\"{response}\", algorithm={}", self.variant.name())?;
        if let Some(qop) = self.qop {
            let (nc, cnonce) = (&self.nc, quoted(&self.cnonce));
            write!(f, ", qop={}, nc={nc}, cnonce={cnonce}", qop.name())?;
        }
        if self.userhash { f.write_str(", userhash=true") } else { Ok(()) }
    }
}

/// A quoted string (RFC 9110 §5.6.4).
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        if matches!(letter, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted.push('"');
    quoted
}

/// `name=value, name="value"`, each name once.
fn parameters(mut text: &str) -> Result<Vec<(&str, String)>, Malformed> {
    const BLANK: [char; 2] = [' ', '\t'];
    let mut found: Vec<(&str, String)> = Vec::new();
    loop {
        text = text.trim_start_matches(BLANK);
        // Empty elements of a list are allowed (RFC 9110 §5.6.1).
        if let Some(rest) = text.strip_prefix(',') {
            text = rest;
            continue;
        }
        if text.is_empty() {
            return Ok(found);
        }
        let (name, rest) = text.split_once('=').ok_or(Malformed("a parameter has no value"))?;
        let name = name.trim_end_matches(BLANK);
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(Malformed("a parameter has no name"));
        }
        let rest = rest.trim_start_matches(BLANK);
        let (value, rest) = match rest.strip_prefix('"') {
            Some(rest) => unquoted(rest)?,
            None => {
                let end = rest.bytes().position(|byte| !is_token(byte)).unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        let twice = found.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
        if twice || found.len() == PARAMETERS {
            return Err(Malformed("a parameter is there twice, or there are too many"));
        }
        found.push((name, value));
        text = rest.trim_start_matches(BLANK);
        if !text.is_empty() && !text.starts_with(',') {
            return Err(Malformed("something follows a value"));
        }
    }
}

/// What stands before the closing quote, and what after it.
fn unquoted(text: &str) -> Result<(String, &str), Malformed> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        let letter = match letter {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => letters.next().ok_or(Malformed("a value does not end"))?.1,
            other => other,
        };
        if letter.is_control() {
            return Err(Malformed("a value has control characters"));
        }
        value.push(letter);
    }
    Err(Malformed("a value does not end"))
}

/// `UTF-8'LANGUAGE'VALUE`, with bytes as `%41` (RFC 8187 §3.2).
fn extended(text: &str) -> Result<String, Malformed> {
    const BAD: Malformed = Malformed("its user name is wrongly encoded");
    let mut parts = text.splitn(3, '\'');
    let (Some(charset), Some(_), Some(value)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(BAD);
    };
    if !charset.eq_ignore_ascii_case("UTF-8") {
        return Err(BAD);
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => match (digit(rest.next()), digit(rest.next())) {
                (Some(high), Some(low)) => u8::try_from(high << 4 | low).map_err(|_| BAD)?,
                _ => return Err(BAD),
            },
            other => other,
        });
    }
    let name = String::from_utf8(bytes).map_err(|_| BAD)?;
    if name.chars().any(char::is_control) { Err(BAD) } else { Ok(name) }
}

/// The bytes of a token (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use countersign::DigestAlgorithm;
    use proptest::prelude::*;

    use super::*;

    const RFC: &str = "Digest username=\"Mufasa\",\r\n realm=\"http-auth@example.org\", uri=\"/dir/index.html\", \
        algorithm=MD5, nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001, \
        cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, \
        response=\"8ca523f5e9506fed4657c9700eebdbec\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"";

    fn rfc() -> String {
        RFC.replace("\r\n", "")
    }

    #[test]
    fn the_example_of_the_rfc() {
        let header = Authorization::parse(rfc().as_bytes()).unwrap();
        assert_eq!((&*header.username, &*header.realm), ("Mufasa", "http-auth@example.org"));
        assert_eq!((header.qop, header.count()), (Some(Qop::Auth), Some(1)));
        assert_eq!(header.variant.name(), "MD5");
        assert_eq!(Authorization::parse(header.to_string().as_bytes()), Ok(header));
    }

    #[test]
    fn names_in_other_letters() {
        let extended = |value: &str| {
            let text = rfc().replace("username=\"Mufasa\"", &format!("username*={value}"));
            Authorization::parse(text.as_bytes()).map(|header| header.username)
        };
        let name = extended("UTF-8''J%C3%A4s%C3%B8n%20Doe").unwrap();
        assert_eq!(name, "J\u{e4}s\u{f8}n Doe");
        for bad in ["J%C3%A4s", "latin1''x", "UTF-8''%C3", "UTF-8''%C", "UTF-8''%zz", "UTF-8''%0a"]
        {
            assert!(extended(bad).is_err(), "{bad}");
        }
        let both = rfc().replace("realm=", "username*=UTF-8''x, realm=");
        assert!(Authorization::parse(both.as_bytes()).is_err());
    }

    #[test]
    fn what_is_broken_is_refused() {
        let good = rfc();
        assert!(Authorization::parse(good.as_bytes()).is_ok());
        for (from, to) in [
            ("Digest ", "Basic "),
            ("Digest ", "Digest"),
            ("nc=00000001", "nc=1"),
            ("nc=00000001, ", ""),
            ("qop=auth", "qop=auth-conf"),
            ("algorithm=MD5", "algorithm=SHA-256"),
            ("algorithm=MD5", "algorithm=MD6"),
            ("ebdbec\"", "ebdbeg\""),
            ("realm=\"", "realm=\"a\", realm=\""),
            ("realm=\"", "realm=\"\n"),
            ("cnonce=\"", "cnonce=\"\", x=\""),
            ("opaque=\"", "opaque=\"x\"y\""),
            ("5tdS\"", "5tdS"),
            ("uri=", "ur i="),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good);
            assert!(Authorization::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let long = good.replace("Mufasa", &"x".repeat(LONGEST));
        assert!(Authorization::parse(long.as_bytes()).is_err());
        let many: String = (0..30).map(|n| format!("x{n}=y, ")).collect();
        assert!(
            Authorization::parse(good.replace("username", &format!("{many}username")).as_bytes())
                .is_err()
        );
    }

    #[test]
    fn quotes_and_blanks_are_understood() {
        let text = rfc().replace("\"Mufasa\"", " \"Mu\\\"fa\\\\sa\" ").replace(", ", " ,,\t");
        let header = Authorization::parse(text.as_bytes()).unwrap();
        assert_eq!(header.username, "Mu\"fa\\sa");
        let session = rfc().replace("=MD5", "=\"md5-SESS\"");
        let header = Authorization::parse(session.as_bytes()).unwrap();
        assert_eq!(header.variant, Variant { algorithm: DigestAlgorithm::Md5, session: true });
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "[Dd]igest [ -~]{0,80}", bytes: Vec<u8>) {
            let _ = (Authorization::parse(text.as_bytes()), Authorization::parse(&bytes));
        }

        #[test]
        fn what_is_printed_is_parsed(username in "[ -~äß]{0,9}", realm in "[ -~]{0,9}", nonce in "[ -~]{0,9}",
            uri in "[ -~]{0,9}", cnonce in "[ -~]{1,9}", nc in "[0-9a-fA-F]{8}", which in 0_usize..3, session: bool,
            qop in prop::option::of(prop::sample::select(vec![Qop::Auth, Qop::AuthInt])), userhash: bool) {
            let algorithm = DigestAlgorithm::ALL[which];
            let response = "0aF".chars().cycle().take(algorithm.digits()).collect();
            let (nc, cnonce) = if qop.is_some() { (nc, cnonce) } else { Default::default() };
            let header = Authorization {
                username, userhash, realm, nonce, uri, response, variant: Variant { algorithm, session }, qop, nc, cnonce,
            };
            prop_assert_eq!(Authorization::parse(header.to_string().as_bytes()), Ok(header));
        }
    }
}
