//! What the driver of a login gets, by version, and the reader for a driver of ours.

use std::fmt;

use countersign::Secret;

use super::xml::{self, DocumentError};
use super::{Profile, UserName};

/// A login for a driver.
#[derive(Clone, Copy)]
pub struct Authn<'a> {
    /// Who.
    pub user: &'a UserName,
    /// What is stored as the user's password. `None`, empty and `-` are the same: nothing, or an unknown user.
    pub stored: Option<&'a [u8]>,
    /// What the user sent.
    pub secret: &'a [u8],
}

/// How a driver gets its login.
#[derive(Debug, PartialEq, Eq)]
pub enum DriverInput {
    /// User, stored password, secret: arguments, up to 5.4. **Every user of the machine can read them.**
    Arguments([Secret; 3]),
    /// All of its standard input, from 5.6.
    Document(Secret),
}

/// A value cannot come to the driver as it is. It is refused, never changed: an emptied secret is what an
/// LDAP server takes for an anonymous bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotCross {
    /// A document is text.
    #[error("{0} is not UTF-8")]
    NotUtf8(Field),
    /// A character that XML 1.0 cannot hold in any spelling: below U+0020 all but TAB, LF and CR, and U+FFFE and U+FFFF.
    #[error("{0} has the character U+{1:04X}, which XML 1.0 does not allow")]
    Character(Field, u32),
    /// An argument ends at a NUL.
    #[error("{0} has a NUL byte, where an argument would end")]
    Nul(Field),
    /// An argument has at most 128 KiB, a document what a reader takes.
    #[error("{0} is longer than {1} bytes")]
    TooLong(Field, usize),
}

/// Which value of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The user's name.
    User,
    /// The stored password.
    Stored,
    /// The secret.
    Secret,
    /// The document as a whole.
    Document,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "user name",
            Self::Stored => "stored password",
            Self::Secret => "secret",
            Self::Document => "document",
        })
    }
}

/// The secret is not printed.
impl fmt::Debug for Authn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authn").field("user", self.user).finish_non_exhaustive()
    }
}

/// The kernel's `MAX_ARG_STRLEN`, with its NUL.
const ARGUMENT_LIMIT: usize = 128 * 1024 - 1;

impl Authn<'_> {
    /// What a driver of this version gets.
    ///
    /// # Errors
    /// A value that would not come through as it is.
    pub fn encode(&self, profile: Profile) -> Result<DriverInput, CannotCross> {
        let stored = match self.stored {
            None | Some(b"" | b"-") => profile.nothing_stored().as_bytes(),
            Some(stored) => stored,
        };
        if profile.passes_arguments() {
            return Ok(DriverInput::Arguments([
                argument(Field::User, self.user.as_str().as_bytes())?,
                argument(Field::Stored, stored)?,
                argument(Field::Secret, self.secret)?,
            ]));
        }
        document(
            self.user.as_str(),
            text(Field::Stored, stored)?,
            text(Field::Secret, self.secret)?,
        )
        .map(DriverInput::Document)
    }
}

fn argument(field: Field, value: &[u8]) -> Result<Secret, CannotCross> {
    if value.contains(&0) {
        return Err(CannotCross::Nul(field));
    }
    if value.len() > ARGUMENT_LIMIT {
        return Err(CannotCross::TooLong(field, ARGUMENT_LIMIT));
    }
    Ok(value.into())
}

fn text(field: Field, value: &[u8]) -> Result<&str, CannotCross> {
    let text = std::str::from_utf8(value).map_err(|_| CannotCross::NotUtf8(field))?;
    match text.chars().find(|&c| !xml::is_char(c)) {
        Some(c) => Err(CannotCross::Character(field, c.into())),
        None => Ok(text),
    }
}

fn document(user: &str, stored: &str, secret: &str) -> Result<Secret, CannotCross> {
    let values = [user, stored, secret].map(xml::escaped_len).iter().sum::<usize>();
    // Room for all at once: what a growing vector leaves behind is not wiped.
    let room = values + 128;
    if room > xml::DOCUMENT_LIMIT {
        return Err(CannotCross::TooLong(Field::Document, xml::DOCUMENT_LIMIT));
    }
    let mut out = Vec::with_capacity(room);
    out.extend_from_slice(b"<AUTHN>\n");
    xml::element("  ", "USERNAME", user, &mut out);
    xml::element("  ", "PASSWORD", stored, &mut out);
    xml::element("  ", "SECRET", secret, &mut out);
    out.extend_from_slice(b"</AUTHN>");
    debug_assert!(out.len() <= room);
    Ok(out.into())
}

/// A login as a driver of ours reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthnDocument {
    /// Who.
    pub user: UserName,
    /// What is stored as the user's password; `None` if it is missing, empty or `-`.
    pub stored: Option<Secret>,
    /// What the user sent. It may be empty.
    pub secret: Secret,
}

impl AuthnDocument {
    /// Reads a document of any version, and what the manual's examples pipe into a driver.
    ///
    /// # Errors
    /// Anything but one AUTHN with one USERNAME, at most one PASSWORD and one SECRET. Where the shipped
    /// drivers would go on (elements that are there twice, a document that is cut off), this refuses.
    pub fn parse(document: &[u8]) -> Result<Self, DocumentError> {
        const NAMES: [&str; 3] = ["USERNAME", "PASSWORD", "SECRET"];
        let mut values = [None, None, None];
        for (path, value) in
            xml::leaves(document, "AUTHN", &[&["USERNAME"], &["PASSWORD"], &["SECRET"]])?
        {
            if values[path].replace(value).is_some() {
                return Err(DocumentError::Duplicate(NAMES[path]));
            }
        }
        let [user, stored, secret] = values;
        let user = user.ok_or(DocumentError::Missing("USERNAME"))?;
        Ok(Self {
            user: UserName::from_bytes(user.expose())
                .map_err(|_| DocumentError::Value("USERNAME"))?,
            stored: stored.filter(|stored| !matches!(stored.expose(), b"" | b"-")),
            secret: secret.ok_or(DocumentError::Missing("SECRET"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserName {
        name.parse().unwrap()
    }

    fn sent(profile: Profile, name: &str, stored: Option<&str>, secret: &str) -> String {
        let login = Authn {
            user: &user(name),
            stored: stored.map(str::as_bytes),
            secret: secret.as_bytes(),
        };
        match login.encode(profile).unwrap() {
            DriverInput::Document(document) => document.to_str().unwrap().to_owned(),
            DriverInput::Arguments(values) => {
                values.map(|value| value.to_str().unwrap().to_owned()).join("|")
            }
        }
    }

    #[test]
    fn the_bytes_of_each_version() {
        // A1, A2
        assert_eq!(
            sent(Profile::V7_3_80, "alice", None, "x"),
            "<AUTHN>\n  <USERNAME>alice</USERNAME>\n  <PASSWORD/>\n  <SECRET>x</SECRET>\n</AUTHN>"
        );
        for profile in [Profile::V5_6, Profile::V6_0, Profile::V6_2, Profile::V6_4, Profile::V7_0] {
            for nothing in [None, Some(""), Some("-")] {
                assert_eq!(
                    sent(profile, "alice", nothing, ""),
                    "<AUTHN>\n  <USERNAME>alice</USERNAME>\n  <PASSWORD>-</PASSWORD>\n  <SECRET/>\n</AUTHN>"
                );
            }
        }
        assert_eq!(
            sent(Profile::V7_0, "zoë", Some("/CN=A & B"), "<ä→\"']]>"),
            "<AUTHN>\n  <USERNAME>zo&#xEB;</USERNAME>\n  <PASSWORD>/CN=A &amp; B</PASSWORD>\n  \
             <SECRET>&lt;&#xE4;&#x2192;\"']]&gt;</SECRET>\n</AUTHN>"
        );
        assert_eq!(sent(Profile::V5_4, "alice", None, "a <b>"), "alice|-|a <b>");
    }

    #[test]
    fn what_cannot_cross_is_refused() {
        // A4
        let encode = |stored: &[u8], secret: &[u8], profile| {
            Authn { user: &user("u"), stored: Some(stored), secret }.encode(profile).map(drop)
        };
        let v7 = Profile::V7_3_80;
        assert_eq!(encode(b"s", b"\xff", v7), Err(CannotCross::NotUtf8(Field::Secret)));
        assert_eq!(encode(b"\xff", b"s", v7), Err(CannotCross::NotUtf8(Field::Stored)));
        for code in (0..0x20).filter(|code| ![9, 10, 13].contains(code)) {
            let refused = Err(CannotCross::Character(Field::Secret, code.into()));
            assert_eq!(encode(b"s", &[b'a', code, b'b'], v7), refused);
        }
        let last = "\u{ffff}".as_bytes();
        assert_eq!(encode(b"s", last, v7), Err(CannotCross::Character(Field::Secret, 0xffff)));
        assert_eq!(encode(b"s", b"a\0", Profile::V5_4), Err(CannotCross::Nul(Field::Secret)));
        assert_eq!(encode(b"s", b"\xff\x01", Profile::V5_4), Ok(()));
        let long = vec![b'<'; xml::DOCUMENT_LIMIT / 4];
        let limit = CannotCross::TooLong(Field::Document, xml::DOCUMENT_LIMIT);
        assert_eq!(encode(b"s", &long, v7), Err(limit));
        let limit = CannotCross::TooLong(Field::Secret, ARGUMENT_LIMIT);
        assert_eq!(encode(b"s", &long, Profile::V5_4), Err(limit));
        assert_eq!(
            CannotCross::Character(Field::Secret, 0).to_string(),
            "secret has the character U+0000, which XML 1.0 does not allow"
        );
    }

    #[test]
    fn reads_what_it_writes_and_what_the_manual_shows() {
        let manual = b"<AUTHN><USERNAME>test</USERNAME><PASSWORD>5</PASSWORD><SECRET>12345</SECRET></AUTHN>\n";
        let read = AuthnDocument::parse(manual).unwrap();
        assert_eq!((read.user.as_str(), read.stored), ("test", Some(Secret::from("5"))));
        assert_eq!(read.secret, Secret::from("12345"));
        let text = "a&b<c>\"'ä→\u{10ffff}\r\n\r\t ]]>\x7f\u{85}";
        let read =
            AuthnDocument::parse(sent(Profile::V7_0, "zoë", Some(text), text).as_bytes()).unwrap();
        assert_eq!(read.user.as_str(), "zoë");
        assert_eq!((read.stored, read.secret), (Some(Secret::from(text)), Secret::from(text)));
    }

    fn secret_of(secret: &str) -> Result<Secret, DocumentError> {
        let document = format!("<AUTHN><USERNAME>u</USERNAME><SECRET>{secret}</SECRET></AUTHN>");
        AuthnDocument::parse(document.as_bytes()).map(|read| read.secret)
    }

    #[test]
    fn values_however_they_are_spelt() {
        // A6
        for (spelt, value) in [
            ("", ""),
            ("<![CDATA[a<b&amp;]]>c", "a<b&amp;c"),
            ("&lt;&#60;&#x3c;&amp;lt;&quot;&apos;", "<<<&lt;\"'"),
            ("&#xE4;ä", "ää"),
            (" a\r\nb\rc ", " a\nb\nc "),
            ("a<!-- no -->b", "ab"),
        ] {
            assert_eq!(secret_of(spelt), Ok(Secret::from(value)), "{spelt}");
        }
        let document = "<?xml version='1.0' encoding='UTF-8'?>\n<!-- x --><AUTHN v='1'><NEW><SECRET>no</SECRET></NEW>\
             <USERNAME a='b'>u</USERNAME><PASSWORD>-</PASSWORD><SECRET/></AUTHN>\n\n";
        let read = AuthnDocument::parse(document.as_bytes()).unwrap();
        assert_eq!((read.stored, read.secret), (None, Secret::default()));
    }

    #[test]
    fn refuses_what_the_shipped_drivers_guess_at() {
        // A7
        for (spelt, error) in [
            ("a&#0;", DocumentError::Character),
            ("a&#x1;", DocumentError::Character),
            ("a&#xFFFF;", DocumentError::Character),
            ("a&#xD800;", DocumentError::Character),
            ("a\u{1}", DocumentError::Character),
            ("a\0", DocumentError::Character),
            ("&nbsp;", DocumentError::Entity),
            ("<b/>", DocumentError::Nested("SECRET")),
            ("a&b", DocumentError::Malformed),
            ("a</SECRET><SECRET>b", DocumentError::Duplicate("SECRET")),
            ("a</SECRET>x<SECRET>", DocumentError::StrayText),
            ("<?php?>", DocumentError::Instruction),
        ] {
            assert_eq!(secret_of(spelt), Err(error), "{spelt:?}");
        }
        for (document, error) in [
            ("", DocumentError::Root("AUTHN")),
            ("hello", DocumentError::StrayText),
            ("<AUTHZ/>", DocumentError::Root("AUTHN")),
            ("<AUTHN/>", DocumentError::Missing("USERNAME")),
            ("<AUTHN><USERNAME>u</USERNAME></AUTHN>", DocumentError::Missing("SECRET")),
            ("<AUTHN><USERNAME>a b</USERNAME><SECRET/></AUTHN>", DocumentError::Value("USERNAME")),
            ("<AUTHN><USERNAME>u</USERNAME><SECRET>x</SECRET>", DocumentError::Malformed),
            ("<AUTHN><USERNAME>u</USERNAME><SECRET>x", DocumentError::Malformed),
            ("<AUTHN></AUTHN><AUTHN/>", DocumentError::Root("AUTHN")),
            ("<AUTHN></AUTHZ>", DocumentError::Malformed),
            ("<!DOCTYPE AUTHN [<!ENTITY a 'b'>]><AUTHN/>", DocumentError::DocType),
            ("<?xml version='1.0' encoding='ISO-8859-1'?><AUTHN/>", DocumentError::NotUtf8),
        ] {
            assert_eq!(AuthnDocument::parse(document.as_bytes()), Err(error), "{document}");
        }
        assert_eq!(AuthnDocument::parse(b"<AUTHN>\xff</AUTHN>"), Err(DocumentError::NotUtf8));
        let long = vec![b' '; xml::DOCUMENT_LIMIT + 1];
        let error = DocumentError::TooLong(xml::DOCUMENT_LIMIT);
        assert_eq!(AuthnDocument::parse(&long), Err(error));
    }
}
