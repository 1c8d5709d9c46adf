//! What the header `Authorization` carries.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::{Question, Secret};
use countersign_sasl::digest::Authorization;
use http::{HeaderMap, header};
use zeroize::Zeroizing;

/// No name and password are longer together, in bytes of base64.
const LONGEST_BASIC: usize = 8192;

/// What a client proves itself with, read and not judged.
#[derive(Debug)]
#[non_exhaustive]
pub enum Credentials {
    /// A name and a password (RFC 7617).
    Basic {
        /// Who it says it is.
        name: String,
        /// The password.
        password: Secret,
    },
    /// A response to one of our challenges (RFC 7616).
    Digest(Box<Authorization>),
    /// A token (RFC 6750).
    Bearer(Secret),
}

/// A scheme of HTTP authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// RFC 7617.
    Basic,
    /// RFC 7616.
    Digest,
    /// RFC 6750.
    Bearer,
}

/// A header that says it is of a scheme, and is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The scheme that it names; none: there are several headers.
    pub scheme: Option<Scheme>,
    /// What is wrong.
    pub why: &'static str,
}

impl Credentials {
    /// The scheme that a request's first `Authorization` names, if it is one of these.
    pub fn scheme(headers: &HeaderMap) -> Option<Scheme> {
        Scheme::of(headers.get(header::AUTHORIZATION)?.as_bytes())
    }

    /// What is in a request's one `Authorization`. None: there is no such header, or one of another scheme.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn read(headers: &HeaderMap) -> Result<Option<Self>, Malformed> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let Some(scheme) = Scheme::of(value.as_bytes()) else { return Ok(None) };
        let wrong = |why| Malformed { scheme: Some(scheme), why };
        if values.next().is_some() {
            return Err(Malformed { scheme: None, why: "it is there twice" });
        }
        let rest = &value.as_bytes()[scheme.name().len()..];
        let read = match scheme {
            Scheme::Basic => basic(rest.trim_ascii()).map_err(wrong)?,
            Scheme::Bearer => Self::Bearer(token(rest.trim_ascii()).map_err(wrong)?),
            Scheme::Digest => {
                let header = Authorization::parse(value.as_bytes());
                Self::Digest(Box::new(header.map_err(|malformed| wrong(malformed.0))?))
            }
        };
        Ok(Some(read))
    }

    /// The scheme that they are of.
    pub fn own_scheme(&self) -> Scheme {
        match self {
            Self::Basic { .. } => Scheme::Basic,
            Self::Digest(_) => Scheme::Digest,
            Self::Bearer(_) => Scheme::Bearer,
        }
    }

    /// The name that the client says, unproven, where it says one.
    pub fn claimed(&self) -> Option<&str> {
        match self {
            Self::Basic { name, .. } => Some(name),
            Self::Digest(header) => Some(&header.username),
            Self::Bearer(_) => None,
        }
    }
}

impl Scheme {
    const ALL: [Self; 3] = [Self::Basic, Self::Digest, Self::Bearer];

    /// The name in headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Basic => "Basic",
            Self::Digest => "Digest",
            Self::Bearer => "Bearer",
        }
    }

    fn of(value: &[u8]) -> Option<Self> {
        let is = |scheme: &Self| {
            let (name, rest) = value.split_at_checked(scheme.name().len()).unwrap_or_default();
            let ends = rest.first().is_none_or(|byte| *byte == b' ');
            ends && name.eq_ignore_ascii_case(scheme.name().as_bytes())
        };
        Self::ALL.into_iter().find(is)
    }
}

/// The name has no colon; the password may have. Neither has control characters (RFC 7617 §2).
fn basic(text: &[u8]) -> Result<Credentials, &'static str> {
    if text.len() > LONGEST_BASIC {
        return Err("it is too long");
    }
    let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| "it is not base64")?);
    let both = std::str::from_utf8(&bytes).map_err(|_| "it is not UTF-8")?;
    if both.chars().any(char::is_control) {
        return Err("it has control characters");
    }
    let (name, password) = both.split_once(':').ok_or("it has no colon")?;
    Ok(Credentials::Basic { name: name.to_owned(), password: Secret::from(password) })
}

/// `b64token` of RFC 6750 §2.1.
fn token(text: &[u8]) -> Result<Secret, &'static str> {
    let end = text.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte);
    match text.len() {
        _ if end == 0 => Err("it has no token"),
        length if length > Question::LONGEST_BEARER as usize => Err("its token is too long"),
        _ if !text[..end].iter().all(letter) => Err("its token has other letters than tokens have"),
        _ => Ok(Secret::from(text)),
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme {
            Some(scheme) => write!(f, "`Authorization: {}` is none: {}", scheme.name(), self.why),
            None => write!(f, "`Authorization`: {}", self.why),
        }
    }
}

impl std::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn read(values: &[&[u8]]) -> Result<Option<Credentials>, Malformed> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        }
        Credentials::read(&headers)
    }

    fn why(value: &str) -> &'static str {
        read(&[value.as_bytes()]).unwrap_err().why
    }

    #[test]
    fn a_name_and_a_password() {
        // RFC 7617 §2, and "ada:count:ess".
        for (value, expected) in [
            ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", ("Aladdin", "open sesame")),
            ("basic  YWRhOmNvdW50OmVzcw== ", ("ada", "count:ess")),
            // RFC 7617 §2.1: UTF-8.
            ("BASIC dGVzdDoxMjPCow==", ("test", "123£")),
            ("Basic Og==", ("", "")),
        ] {
            let Ok(Some(Credentials::Basic { name, password })) = read(&[value.as_bytes()]) else {
                panic!("{value}")
            };
            assert_eq!((&*name, password.to_str().unwrap()), expected);
        }
        assert_eq!(why("Basic"), "it has no colon");
        assert_eq!(why("Basic YWRh"), "it has no colon");
        assert_eq!(why("Basic !"), "it is not base64");
        assert_eq!(why("Basic YQ"), "it is not base64");
        assert_eq!(why("Basic /w=="), "it is not UTF-8");
        assert_eq!(why("Basic YTpiCg=="), "it has control characters");
        assert_eq!(why(&format!("Basic {}", "YWRh".repeat(2049))), "it is too long");
    }

    #[test]
    fn a_token() {
        for (value, expected) in
            [("Bearer mF_9.B5f-4.1JqM", "mF_9.B5f-4.1JqM"), ("bEARER  a==", "a==")]
        {
            let Ok(Some(Credentials::Bearer(token))) = read(&[value.as_bytes()]) else {
                panic!("{value}")
            };
            assert_eq!(token.to_str(), Some(expected));
        }
        assert_eq!(why("Bearer"), "it has no token");
        assert_eq!(why("Bearer =="), "it has no token");
        assert_eq!(why("Bearer a=b"), "its token has other letters than tokens have");
        assert_eq!(why("Bearer a b"), "its token has other letters than tokens have");
        assert_eq!(why(&format!("Bearer {}", "x".repeat(16 * 1024 + 1))), "its token is too long");
    }

    #[test]
    fn one_header_of_one_scheme() {
        assert!(read(&[]).unwrap().is_none());
        for other in ["Negotiate YII", "Basically x", "Bearers", "", "Hawk id=\"x\""] {
            assert!(read(&[other.as_bytes()]).unwrap().is_none(), "{other}");
        }
        let twice = read(&[b"Basic Og==", b"Basic Og=="]).unwrap_err();
        assert_eq!(twice, Malformed { scheme: None, why: "it is there twice" });
        let digest = read(&[b"Digest username=\"x\""]).unwrap_err();
        assert_eq!(digest.scheme, Some(Scheme::Digest));
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(scheme in "(Basic|Bearer|Digest|x)? ?", rest: Vec<u8>) {
            let value = HeaderValue::from_bytes(&[scheme.as_bytes(), &rest].concat());
            if let Ok(value) = value {
                let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
                let _ = Credentials::read(&headers);
            }
        }

        #[test]
        fn whatever_a_client_says_is_read(name in "[^:\\p{Cc}]{0,20}", password in "[^\\p{Cc}]{0,20}") {
            let value = format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
            let Ok(Some(Credentials::Basic { name: read_name, password: read })) = read(&[value.as_bytes()])
            else { panic!("{value}") };
            prop_assert_eq!((read_name, read.to_str().unwrap()), (name, &*password));
        }
    }
}
