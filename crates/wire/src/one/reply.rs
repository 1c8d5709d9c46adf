//! What a driver prints when it says yes: `driver user stored [*]gid…`, and nothing else.
//!
//! The line has no quoting, so a driver encodes values with blanks itself, and a driver that prints what the
//! user typed prints whatever the user wants. The grammar is therefore narrower than oned's; each difference
//! is a numbered statement of `docs/protocols/opennebula.md`.

use std::collections::BTreeMap;
use std::fmt;

use countersign::Secret;

use super::{DriverName, Gid, NameError, UserName};

/// The most bytes of the first line, without its end: the longest stored password is 64 KiB.
pub const REPLY_LIMIT: usize = 128 * 1024;

/// The most groups in a reply.
pub(super) const GROUP_LIMIT: usize = 4096;

/// Everything that a driver printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverAnswer {
    /// Its first line. `None`: it said nothing, or `-`. The login is good and nothing is to be changed.
    pub reply: Option<Reply>,
    /// Whether more came after the first line, which is ignored. (oned takes each further line for a message.)
    pub more: bool,
}

/// A driver's word on an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    driver: DriverName,
    user: UserName,
    stored: Secret,
    groups: Vec<GroupEntry>,
}

/// One group of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupEntry {
    /// Which.
    pub group: Gid,
    /// Whether the user administers it.
    pub admin: bool,
}

/// Why a line is no reply. The text repeats nothing of the stored password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// More than [`REPLY_LIMIT`] bytes.
    #[error("first line longer than {0} bytes")]
    TooLong(usize),
    /// Bytes that are not UTF-8.
    #[error("first line is not UTF-8")]
    NotUtf8,
    /// NUL, CR, an escape sequence and the like.
    #[error("character U+{0:04X} in the first line; a line ends in LF alone")]
    Control(u32),
    /// The first three fields, told by name, are not all there.
    #[error(
        "the {0} is missing or empty; expected: driver user password [group]…, a single blank between the first three"
    )]
    Missing(&'static str),
    /// The driver's name is none.
    #[error("driver: {0}")]
    Driver(NameError),
    /// The user's name is none.
    #[error("user: {0}; a driver encodes what no name has, such as a blank as %20")]
    User(NameError),
    /// A group that is no number, by its place among the groups, from 1.
    #[error(
        "group {0} is not a decimal number, perhaps with * before it; a driver encodes blanks in passwords"
    )]
    Group(usize),
    /// More groups than fit.
    #[error("more than {0} groups")]
    TooManyGroups(usize),
    /// A blank at the end: what should follow it is empty.
    #[error("blank at the end of the line")]
    TrailingBlank,
    /// The first group came out of a blank in what the user typed.
    #[error(
        "the secret that the user typed has blanks, and the driver prints it without encoding it"
    )]
    EchoedSecret,
}

impl DriverAnswer {
    /// Reads standard output of a driver that ended with status 0. `secret` is what the user typed.
    ///
    /// # Errors
    /// Anything that is neither nothing nor a reply. The login is then refused.
    pub fn parse(stdout: &[u8], secret: &[u8]) -> Result<Self, ReplyError> {
        let (line, more) = match memchr::memchr(b'\n', stdout) {
            Some(end) => (&stdout[..end], end + 1 < stdout.len()),
            None => (stdout, false),
        };
        if line.is_empty() || line == b"-" {
            return Ok(Self { reply: None, more });
        }
        let reply = Reply::parse(line)?;
        if reply.echoes(secret) {
            return Err(ReplyError::EchoedSecret);
        }
        Ok(Self { reply: Some(reply), more })
    }
}

impl Reply {
    /// A reply of a driver of ours.
    ///
    /// # Errors
    /// A stored password that is empty or has a blank or a control character, and too many groups.
    pub fn new(
        driver: DriverName,
        user: UserName,
        stored: Secret,
        groups: &[GroupEntry],
    ) -> Result<Self, ReplyError> {
        let text = stored.to_str().ok_or(ReplyError::NotUtf8)?;
        if text.is_empty() || text.contains(' ') {
            return Err(ReplyError::Missing("password"));
        }
        if let Some(c) = text.chars().find(|c| c.is_control()) {
            return Err(ReplyError::Control(c.into()));
        }
        if text.len() > REPLY_LIMIT / 2 {
            return Err(ReplyError::TooLong(REPLY_LIMIT / 2));
        }
        let groups = distinct(groups.iter().copied().map(Ok))?;
        Ok(Self { driver, user, stored, groups })
    }

    /// Reads the line, without its end.
    ///
    /// # Errors
    /// Says which field is wrong.
    pub fn parse(line: &[u8]) -> Result<Self, ReplyError> {
        if line.len() > REPLY_LIMIT {
            return Err(ReplyError::TooLong(REPLY_LIMIT));
        }
        let line = std::str::from_utf8(line).map_err(|_| ReplyError::NotUtf8)?;
        if let Some(c) = line.chars().find(|&c| c.is_control() && c != '\t') {
            return Err(ReplyError::Control(c.into()));
        }
        // Blanks before the driver are harmless: the field that follows is compared, not believed.
        let line = line.trim_start_matches(blank);
        let mut fields = line.split(blank);
        // A single blank between these three: of two, the second would be the mark of an empty field, and
        // what should be a group would be taken for the password.
        let mut field = |name| match fields.next() {
            Some(field) if !field.is_empty() => Ok(field),
            _ => Err(ReplyError::Missing(name)),
        };
        let driver = field("driver")?;
        let user = field("user")?;
        let stored = field("password")?;
        if line.ends_with(blank) {
            return Err(ReplyError::TrailingBlank);
        }
        let groups = fields.filter(|field| !field.is_empty()).enumerate().map(|(place, field)| {
            let (admin, number) = match field.strip_prefix('*') {
                Some(number) => (true, number),
                None => (false, field),
            };
            let group = number.parse().map_err(|_| ReplyError::Group(place + 1))?;
            Ok(GroupEntry { group, admin })
        });
        Ok(Self {
            driver: driver.parse().map_err(ReplyError::Driver)?,
            user: user.parse().map_err(ReplyError::User)?,
            stored: stored.into(),
            groups: distinct(groups)?,
        })
    }

    /// The driver that the account is to have. Whoever believes it looks first whether it is one that is enabled.
    pub fn driver(&self) -> &DriverName {
        &self.driver
    }

    /// The name that the account is to have, which need not be the one that was typed.
    pub fn user(&self) -> &UserName {
        &self.user
    }

    /// What is to be stored as the user's password: one word of UTF-8, not empty.
    pub fn stored(&self) -> &Secret {
        &self.stored
    }

    /// The groups, each once, in the order of the line; for a new user the first is the primary one. Of a group that
    /// is there twice, one star counts.
    pub fn groups(&self) -> &[GroupEntry] {
        &self.groups
    }

    /// Appends the line, without its end.
    pub fn encode(&self, out: &mut Vec<u8>) {
        // At most 11 bytes and a blank for each group; all at once, so that no copy is left behind.
        let fixed = self.driver.as_str().len() + self.user.as_str().len() + self.stored.len() + 2;
        out.reserve(fixed + 12 * self.groups.len());
        out.extend_from_slice(self.driver.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.user.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.stored.expose());
        for entry in &self.groups {
            out.extend_from_slice(format!(" {entry}").as_bytes());
        }
    }

    /// Whether the stored password ends, and the groups begin, as the words of the secret do: `a 0` typed, and a
    /// driver that prints `… a 0`, which would make the user an administrator.
    fn echoes(&self, secret: &[u8]) -> bool {
        let mut words =
            secret.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
        let (Some(first), Some(second), Some(group)) =
            (words.next(), words.next(), self.groups.first())
        else {
            return false;
        };
        self.stored.expose().ends_with(first) && second == group.to_string().as_bytes()
    }
}

fn blank(c: char) -> bool {
    c == ' ' || c == '\t'
}

fn distinct(
    entries: impl Iterator<Item = Result<GroupEntry, ReplyError>>,
) -> Result<Vec<GroupEntry>, ReplyError> {
    let mut places: BTreeMap<Gid, usize> = BTreeMap::new();
    let mut groups: Vec<GroupEntry> = Vec::new();
    for entry in entries {
        let entry = entry?;
        match places.get(&entry.group) {
            Some(&place) => groups[place].admin |= entry.admin,
            None if groups.len() == GROUP_LIMIT => {
                return Err(ReplyError::TooManyGroups(GROUP_LIMIT));
            }
            None => {
                places.insert(entry.group, groups.len());
                groups.push(entry);
            }
        }
    }
    Ok(groups)
}

/// `100`, or `*100`.
impl fmt::Display for GroupEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.admin {
            f.write_str("*")?;
        }
        self.group.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(tail: &str) -> Result<String, ReplyError> {
        let reply = Reply::parse(format!("t_grp tg pw{tail}").as_bytes())?;
        assert_eq!((reply.driver().as_str(), reply.user().as_str()), ("t_grp", "tg"));
        assert_eq!(reply.stored(), &Secret::from("pw"));
        Ok(reply.groups().iter().map(GroupEntry::to_string).collect::<Vec<_>>().join(","))
    }

    #[test]
    fn lines_that_oned_takes_too() {
        // R3, R5, R6
        for (tail, expected) in [
            ("", ""),
            (" 100", "100"),
            ("   100\t\t101", "100,101"),
            (" *100 101", "*100,101"),
            (" 101 *100", "101,*100"),
            (" 100 100 101", "100,101"),
            (" 100 101 *100", "*100,101"),
            (" 0", "0"),
        ] {
            assert_eq!(groups(tail).as_deref(), Ok(expected), "{tail:?}");
        }
        let ldap = b"ldap bob%20smith cn=Bob%20Smith,ou=people,dc=example,dc=org *100";
        let reply = Reply::parse(ldap).unwrap();
        assert_eq!(reply.user().as_str(), "bob%20smith");
        assert_eq!(reply.stored().to_str(), Some("cn=Bob%20Smith,ou=people,dc=example,dc=org"));
        assert!(Reply::parse(b"  ldap bob x").is_ok());
    }

    #[test]
    fn groups_that_are_none() {
        // R5
        for tail in [
            " abc",
            " 0x64",
            " 100,101",
            " *",
            " **100",
            " * 100",
            " -1",
            " +100",
            " 0100",
            " 2147483648",
        ] {
            assert_eq!(groups(tail), Err(ReplyError::Group(1)), "{tail:?}");
        }
        assert_eq!(groups(" 100 x"), Err(ReplyError::Group(2)));
        let many: String = (0..=GROUP_LIMIT).map(|gid| format!(" {gid}")).collect();
        assert_eq!(groups(&many), Err(ReplyError::TooManyGroups(GROUP_LIMIT)));
    }

    #[test]
    fn trailing_blanks_and_other_ends_are_refused() {
        // R4
        for tail in [" ", "  ", " 100 ", "\t"] {
            assert_eq!(groups(tail), Err(ReplyError::TrailingBlank), "{tail:?}");
        }
        for (tail, code) in [("\r", 13), (" 100\r", 13), ("\0", 0), ("\x1b[0m", 27), ("\x0b", 11)] {
            assert_eq!(groups(tail), Err(ReplyError::Control(code)), "{tail:?}");
        }
    }

    #[test]
    fn three_fields_and_none_of_them_empty() {
        // R3
        for (line, missing) in [
            (" ", "driver"),
            ("length", "user"),
            ("length ", "user"),
            ("length test", "password"),
            ("length test ", "password"),
            ("length  test 5", "user"),
            ("length test  100", "password"),
        ] {
            assert_eq!(
                Reply::parse(line.as_bytes()),
                Err(ReplyError::Missing(missing)),
                "{line:?}"
            );
        }
        let driver = ReplyError::Driver(NameError::Character('.'));
        assert_eq!(Reply::parse(b"../x u p"), Err(driver));
        let user = ReplyError::User(NameError::Character(';'));
        assert_eq!(Reply::parse(b"x u; p"), Err(user));
        assert_eq!(Reply::parse(b"x u \xff"), Err(ReplyError::NotUtf8));
        let long = [&b"x u "[..], &vec![b'p'; REPLY_LIMIT]].concat();
        assert_eq!(Reply::parse(&long), Err(ReplyError::TooLong(REPLY_LIMIT)));
        assert!(Reply::parse(&long[..REPLY_LIMIT]).is_ok());
    }

    #[test]
    fn the_first_line_counts() {
        // R1, R2
        for nothing in ["", "\n", "-", "-\n"] {
            let answer = DriverAnswer::parse(nothing.as_bytes(), b"");
            assert_eq!(answer, Ok(DriverAnswer { reply: None, more: false }), "{nothing:?}");
        }
        let answer = DriverAnswer::parse(b"x u p\nAUTHENTICATE SUCCESS 7 -\n", b"").unwrap();
        assert!(answer.more && answer.reply.unwrap().groups().is_empty());
        assert!(DriverAnswer::parse(b"\nx u p 0\n", b"").unwrap().reply.is_none());
        assert_eq!(DriverAnswer::parse(b" \n", b""), Err(ReplyError::Missing("driver")));
    }

    #[test]
    fn what_was_typed_is_no_group() {
        // R7: the manual's own example prints the secret as it is.
        for (secret, printed) in [("a 0", "a 0"), ("a\n *0", "a *0"), ("a 0 1", "x:a 0 1 100")] {
            let line = format!("length test {printed}\n");
            let answer = DriverAnswer::parse(line.as_bytes(), secret.as_bytes());
            assert_eq!(answer, Err(ReplyError::EchoedSecret), "{secret:?}");
        }
        let answer = DriverAnswer::parse(b"ldap u cn=u 100\n", b"correct horse").unwrap();
        assert_eq!(answer.reply.unwrap().groups().len(), 1);
        assert!(DriverAnswer::parse(b"length test a b\n", b"a b").is_err(), "not a group at all");
    }

    #[test]
    fn ours_are_written_so_that_they_can_be_read() {
        let entry = |gid: u32, admin| GroupEntry { group: gid.try_into().unwrap(), admin };
        let new = |stored: &str, groups: &[GroupEntry]| {
            Reply::new("x".parse().unwrap(), "u".parse().unwrap(), stored.into(), groups)
        };
        let reply = new("p", &[entry(1, false), entry(100, true), entry(1, true)]).unwrap();
        let mut line = Vec::new();
        reply.encode(&mut line);
        assert_eq!(line, b"x u p *1 *100");
        assert_eq!(Reply::parse(&line), Ok(reply));
        assert_eq!(new("", &[]), Err(ReplyError::Missing("password")));
        assert_eq!(new("a 0", &[]), Err(ReplyError::Missing("password")));
        assert_eq!(new("a\n", &[]), Err(ReplyError::Control(10)));
        assert!(!format!("{:?}", new("hunter2", &[])).contains("hunter2"));
    }
}
