//! Names that cross lines, files and processes, and the session strings that users send.
//!
//! A value of these types holds nothing that could end a field or a line, so whoever writes it needs no escape.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use countersign::Secret;

use super::xml::is_char;

/// A user's name by the user pool's rules: 1 to 128 bytes of UTF-8 without blanks, control characters and
/// ``& | : \ " ; / ' # { } $ < >``.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserName(Box<str>);

/// A driver's name, which is a folder's name, too: 1 to 64 of `A`–`Z`, `a`–`z`, `0`–`9`, `_`, `-` and `.`,
/// beginning with a letter, a digit or `_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DriverName(Box<str>);

/// A group's number: 0 (the administrators, `oneadmin`) to 2³¹−1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(try_from = "u32")]
pub struct Gid(u32);

/// Why a name is none. The text repeats at most the one character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No byte at all.
    #[error("empty name")]
    Empty,
    /// More bytes than fit.
    #[error("name longer than {0} bytes")]
    TooLong(usize),
    /// Bytes that are not UTF-8.
    #[error("name is not UTF-8")]
    NotUtf8,
    /// A character that no name has.
    #[error("{0:?} is not allowed in a name")]
    Character(char),
}

/// Not a group's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a group is a decimal number from 0 to 2147483647, without sign or leading zeros")]
pub struct NotAGid;

impl UserName {
    /// The most bytes.
    pub const LIMIT: usize = 128;

    /// Reads a name from bytes.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NameError> {
        std::str::from_utf8(bytes).map_err(|_| NameError::NotUtf8)?.parse()
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        let forbidden = |c: char| {
            // oned lets other control characters pass. None is a name, and no line may have them.
            c == ' ' || c.is_control() || !is_char(c) || "&|:\\\";/'#{}$<>".contains(c)
        };
        checked(name, Self::LIMIT, forbidden).map(Self)
    }
}

impl DriverName {
    /// The most bytes.
    pub const LIMIT: usize = 64;

    /// Reads a name from bytes.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NameError> {
        std::str::from_utf8(bytes).map_err(|_| NameError::NotUtf8)?.parse()
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether oned takes it for a server that acts for others (its pattern is `server*`).
    pub fn acts_for_others(&self) -> bool {
        self.0.starts_with("server")
    }
}

impl FromStr for DriverName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        if let Some(first @ ('.' | '-')) = name.chars().next() {
            // A hidden folder, a folder above, or an option.
            return Err(NameError::Character(first));
        }
        let forbidden = |c: char| !c.is_ascii_alphanumeric() && !"_-.".contains(c);
        checked(name, Self::LIMIT, forbidden).map(Self)
    }
}

fn checked(
    name: &str,
    limit: usize,
    forbidden: impl Fn(char) -> bool,
) -> Result<Box<str>, NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > limit {
        return Err(NameError::TooLong(limit));
    }
    match name.chars().find(|&c| forbidden(c)) {
        Some(c) => Err(NameError::Character(c)),
        None => Ok(name.into()),
    }
}

macro_rules! text {
    ($name:ty) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        /// So that a map by name can be asked with text.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                *self.0 == *other
            }
        }
    };
}

text!(UserName);
text!(DriverName);

impl Gid {
    /// The administrators' group, `oneadmin`.
    pub const ONEADMIN: Self = Self(0);
    /// The group of users who have no other, `users`.
    pub const USERS: Self = Self(1);

    /// The number.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Gid {
    type Error = NotAGid;

    fn try_from(number: u32) -> Result<Self, NotAGid> {
        if number <= i32::MAX as u32 { Ok(Self(number)) } else { Err(NotAGid) }
    }
}

/// Digits only. `+100` and `0100` are two more spellings of 100, so neither is one here.
impl FromStr for Gid {
    type Err = NotAGid;

    fn from_str(text: &str) -> Result<Self, NotAGid> {
        let plain = !text.is_empty()
            && text.len() <= 10
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'));
        let number: u32 = plain.then(|| text.parse().ok()).flatten().ok_or(NotAGid)?;
        number.try_into()
    }
}

impl fmt::Display for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a user sends with each call: `user:secret`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Who.
    pub user: UserName,
    /// Everything after the first colon: a password, a token, or something that only a driver understands.
    /// It may be empty.
    pub secret: Secret,
}

/// What a server sends that acts for somebody: `server:target:token` or `server:target:EGID:token`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSession {
    /// For whom.
    pub target: UserName,
    /// The one group that the call is limited to.
    pub group: Option<Gid>,
    /// What proves the server. Not empty.
    pub token: Secret,
}

/// Why a session string is none. The text repeats nothing of the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// No colon.
    #[error("a session is user:secret, and there is no colon")]
    NoColon,
    /// The user's or the target's name is none.
    #[error("user: {0}")]
    User(NameError),
    /// The group of a server's session is not a number.
    #[error("wrong token format: {0}")]
    Group(NotAGid),
    /// The token of a server's session is empty or has a colon.
    #[error("wrong token format: expected target:token or target:group:token")]
    Token,
}

impl Session {
    /// Splits at the first colon.
    ///
    /// # Errors
    /// No colon, or no user's name.
    pub fn parse(text: &[u8]) -> Result<Self, SessionError> {
        let (user, secret) = split(text).ok_or(SessionError::NoColon)?;
        let user = UserName::from_bytes(user).map_err(SessionError::User)?;
        Ok(Self { user, secret: secret.into() })
    }

    /// Reads the secret as a server's that acts for somebody. For users of `server*` drivers only.
    ///
    /// # Errors
    /// No target, a group that is no number, or no token.
    pub fn for_target(&self) -> Result<ServerSession, SessionError> {
        let (target, rest) = split(self.secret.expose()).ok_or(SessionError::Token)?;
        let target = UserName::from_bytes(target).map_err(SessionError::User)?;
        let (group, token) = match split(rest) {
            Some((group, token)) => {
                let group = std::str::from_utf8(group).map_err(|_| SessionError::Group(NotAGid))?;
                (Some(group.parse().map_err(SessionError::Group)?), token)
            }
            None => (None, rest),
        };
        // Tokens are base64: another colon is an attempt at another meaning.
        if token.is_empty() || token.contains(&b':') {
            return Err(SessionError::Token);
        }
        Ok(ServerSession { target, group, token: token.into() })
    }
}

fn split(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', text)?;
    Some((&text[..colon], &text[colon + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names() {
        // N1: 1 to 128 bytes
        assert_eq!(UserName::from_str(""), Err(NameError::Empty));
        assert!(UserName::from_str(&"é".repeat(64)).is_ok());
        assert_eq!(UserName::from_str(&"é".repeat(65)), Err(NameError::TooLong(128)));
        for name in ["é", "a,b", "a@b.c", "a%20b", "..", "*100", "a\u{a0}b"] {
            assert_eq!(UserName::from_str(name).unwrap().as_str(), name);
        }
        for c in "&|:\\\";/'#{}$<> \t\n\x0b\x0c\r\0\x1b\x7f\u{85}\u{fffe}".chars() {
            let name = format!("a{c}b");
            assert_eq!(UserName::from_str(&name), Err(NameError::Character(c)));
        }
        assert_eq!(UserName::from_bytes(b"a\xff"), Err(NameError::NotUtf8));
    }

    #[test]
    fn driver_names() {
        for name in ["ssh", "server_cipher", "t_grp", "my-driver2", "v1.2", "_x"] {
            assert_eq!(DriverName::from_str(name).unwrap().as_str(), name);
        }
        for (name, c) in
            [("../../x", '.'), (".", '.'), ("-x", '-'), ("a/b", '/'), ("a b", ' '), ("ä", 'ä')]
        {
            assert_eq!(DriverName::from_str(name), Err(NameError::Character(c)), "{name}");
        }
        assert_eq!(DriverName::from_str(""), Err(NameError::Empty));
        assert_eq!(DriverName::from_str(&"x".repeat(65)), Err(NameError::TooLong(64)));
        assert!(DriverName::from_str("server_x509").unwrap().acts_for_others());
        assert!(!DriverName::from_str("x509").unwrap().acts_for_others());
    }

    #[test]
    fn groups() {
        for (text, number) in [("0", 0), ("1", 1), ("100", 100), ("2147483647", 2_147_483_647)] {
            assert_eq!(text.parse(), Ok(Gid(number)));
            assert_eq!(Gid(number).to_string(), text);
        }
        for text in ["", "+100", "0100", "00", "-1", "abc", "0x64", "100,101", "2147483648", "１"]
        {
            assert_eq!(text.parse::<Gid>(), Err(NotAGid), "{text}");
        }
        assert_eq!(Gid::try_from(u32::MAX), Err(NotAGid));
    }

    #[test]
    fn a_session_splits_at_the_first_colon() {
        let session = Session::parse(b"c1:a:b:c").unwrap();
        assert_eq!((session.user.as_str(), session.secret.expose()), ("c1", &b"a:b:c"[..]));
        assert!(Session::parse(b"user:").unwrap().secret.is_empty());
        assert_eq!(Session::parse(b"user"), Err(SessionError::NoColon));
        assert_eq!(Session::parse(b":secret"), Err(SessionError::User(NameError::Empty)));
        let blank = SessionError::User(NameError::Character(' '));
        assert_eq!(Session::parse(b"us er:secret"), Err(blank));
        assert!(!format!("{:?}", Session::parse(b"u:hunter2")).contains("hunter2"));
    }

    #[test]
    fn a_server_acts_for_a_target() {
        let read = |text: &str| Session::parse(text.as_bytes()).unwrap().for_target();
        let plain = read("serveradmin:alice:dG9rZW4=").unwrap();
        assert_eq!((plain.target.as_str(), plain.group), ("alice", None));
        assert_eq!(plain.token.expose(), b"dG9rZW4=");
        let scoped = read("serveradmin:alice:100:dG9rZW4=").unwrap();
        assert_eq!((scoped.group, scoped.token.expose()), (Some(Gid(100)), &b"dG9rZW4="[..]));
        assert_eq!(read("s:alice:abc:t"), Err(SessionError::Group(NotAGid)));
        assert_eq!(read("s::t"), Err(SessionError::User(NameError::Empty)));
        for bad in ["s:alice", "s:", "s:alice:", "s:alice:100:", "s:alice:100:t:u"] {
            assert_eq!(read(bad), Err(SessionError::Token), "{bad}");
        }
    }
}
