//! Dovecot's passwd-file: `user:{SCHEME}hash[:uid:gid:gecos:home:shell:extra]`, a user a line.
//!
//! Only the text; who opens the file, and reads it again when it changes, is elsewhere. Blank lines and
//! lines that begin with `#` are skipped, a carriage return at the end of a line too.
//!
//! A bad line is a [`Problem`] and costs its own user the login, nobody else's. Of two lines for one
//! user the first counts, as it does for Dovecot, also when the first is the bad one: a typing mistake
//! must not bring an old password back.

mod reader;
mod rows;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, PoisonError, RwLock};

use countersign::{Identity, Secret};
use hashbrown::HashTable;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::hash::{Accept, Hash, Scheme};
use reader::Reader;
use rows::{Kept, Row, Rows};

/// A line may be this long.
const MAX_LINE: usize = 8 * 1024;
/// A file may be this large: positions are kept in 32 bits.
pub(crate) const MAX_FILE: usize = 1 << 30;
/// More are counted, not kept.
const MAX_PROBLEMS: usize = 1000;

/// Of so many users the identity is kept, about a KiB each.
const MAX_REMEMBERED: usize = 4096;

/// The scheme of passwords that are kept readable.
pub(crate) const READABLE: &str = "PLAIN";

/// How the lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Format {
    /// What stands between fields: one ASCII character. Default `:`.
    pub delimiter: u8,
    /// The field with the user's name, counted from 0. Default 0.
    pub user: usize,
    /// The field with the password's hash. Default 1.
    pub password: usize,
    /// Whether names are compared without regard to case; they are then known in small letters. Default: no.
    pub folds_case: bool,
    /// Whether a line that begins with `#` is a comment. Default: yes.
    pub comments: bool,
    /// Whether what stands after the password has the meaning that it has in passwd(5) and for Dovecot, where
    /// the two are the first fields; else it has none. Default: yes.
    pub rest: bool,
}

impl Default for Format {
    fn default() -> Self {
        Self {
            delimiter: b':',
            user: 0,
            password: 1,
            folds_case: false,
            comments: true,
            rest: true,
        }
    }
}

impl Format {
    /// As Apache's htpasswd(1) writes it.
    pub fn htpasswd() -> Self {
        Self { rest: false, ..Self::default() }
    }

    /// A name as it is compared.
    fn folded<'a>(&self, name: &'a str) -> Cow<'a, str> {
        match self.folds_case {
            true => Cow::Owned(name.to_lowercase()),
            false => Cow::Borrowed(name),
        }
    }

    /// The name, the password and what stands after it; or which field is missing.
    fn split<'a>(&self, line: &'a str) -> Result<(&'a str, &'a str, &'a str), String> {
        let delimiter = self.delimiter as char;
        if (self.user, self.password) == (0, 1) {
            let Some((name, fields)) = line.split_once(delimiter) else {
                return Err(format!(
                    "no `{delimiter}` after the user name; expected user{delimiter}{{SCHEME}}hash"
                ));
            };
            let (password, rest) = fields.split_once(delimiter).unwrap_or((fields, ""));
            return Ok((name, password, if self.rest { rest } else { "" }));
        }
        let field = |n: usize, what| {
            let missing = || {
                format!(
                    "no field {n} with the {what}; fields are counted from 0, with `{delimiter}` between them"
                )
            };
            line.split(delimiter).nth(n).ok_or_else(missing)
        };
        Ok((field(self.user, "user name")?, field(self.password, "password")?, ""))
    }
}

/// A password file, read: users by name.
///
/// Some 200 bytes a user with argon2id hashes, some 30 beside name and password where they are readable. Debug shows no names and no hashes.
///
/// ```
/// use countersign::Secret;
/// use countersign_checkers::{hash::Accept, passwd_file::{Format, PasswdFile}};
///
/// let text = b"alice:{SHA256}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=:1000:1000::/home/alice";
/// let file = PasswdFile::parse(text, &Format::default(), &Accept::default());
/// let alice = file.find("alice").unwrap();
/// assert!(alice.hash().unwrap().verify(&Secret::from("secret")));
/// assert_eq!(alice.home(), Some("/home/alice"));
/// assert!(file.problems().is_empty());
/// ```
pub struct PasswdFile {
    /// Where each user's row is, by name.
    index: HashTable<u32>,
    rows: Rows,
    format: Format,
    hasher: RandomState,
    problems: Vec<Problem>,
    unlisted: usize,
    /// Identities of some users, by their row.
    remembered: RwLock<HashMap<u32, Arc<Identity>>>,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Counted from 1.
    pub line: usize,
    /// What it costs.
    pub effect: Effect,
    /// What is wrong and what to do; shows a user name at most.
    pub reason: String,
}

/// What a [`Problem`] costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The line's user cannot log in.
    Refused,
    /// The line is without effect; an earlier one counts.
    Ignored,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effect = match self.effect {
            Effect::Refused => "error",
            Effect::Ignored => "warning",
        };
        write!(f, "line {}: {effect}: {}", self.line, self.reason)
    }
}

impl PasswdFile {
    /// Reads a whole file.
    ///
    /// It always gives a table: whether [`PasswdFile::problems`] stop the server from starting is the
    /// caller's to say.
    pub fn parse(data: &[u8], format: &Format, accept: &Accept) -> Self {
        let mut reader = Reader::new(*format, accept);
        if !format.delimiter.is_ascii() {
            reader.refuse(1, "the delimiter must be one ASCII character".to_owned());
        } else if data.len() > MAX_FILE {
            reader.refuse(1, "the file is larger than 1 GiB; use a database".to_owned());
        } else {
            let data = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
            let mut from = 0;
            let ends = memchr::memchr_iter(b'\n', data).chain([data.len()]);
            for (index, end) in ends.enumerate() {
                reader.line(index + 1, &data[from..end]);
                from = end + 1;
            }
        }
        reader.finish()
    }

    /// The user's line. Names are compared as they are, byte by byte, unless the format says otherwise.
    pub fn find(&self, user: &str) -> Option<Entry<'_>> {
        let user = &*self.format.folded(user);
        let same = |at: &u32| self.rows.row(*at).name == user.as_bytes();
        let at = *self.index.find(self.hasher.hash_one(user.as_bytes()), same)?;
        Some(self.entry(at))
    }

    /// How many users.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no user.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Every user, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        self.index.iter().map(|at| self.entry(*at))
    }

    fn entry(&self, at: u32) -> Entry<'_> {
        Entry { file: self, row: self.rows.row(at), at }
    }

    /// The work of comparing a password with one that is kept readable.
    pub(crate) fn spend(&self, password: &Secret) {
        std::hint::black_box(self.hasher.hash_one(password.expose()));
    }

    /// What is wrong, in the order of the lines: the first thousand.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many problems there are beyond those that [`PasswdFile::problems`] lists.
    pub fn unlisted_problems(&self) -> usize {
        self.unlisted
    }
}

impl fmt::Debug for PasswdFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswdFile")
            .field("users", &self.len())
            .field("problems", &(self.problems.len() + self.unlisted))
            .finish_non_exhaustive()
    }
}

/// One user's line.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    file: &'a PasswdFile,
    row: Row<'a>,
    at: u32,
}

impl<'a> Entry<'a> {
    /// The user's name, as written, or in small letters where the format does not regard case.
    pub fn name(&self) -> &'a str {
        text(self.row.name)
    }

    /// The hash, if this user can log in with a password: there is none behind an empty field, `*` or
    /// `!`, nor where the line has a problem.
    pub fn hash(&self) -> Option<Hash> {
        match self.row.password {
            Kept::None => None,
            Kept::Readable { password, .. } => readable(password),
            Kept::Hash(_) => self.kept_hash().cloned(),
        }
    }

    /// The hash, where the password is not kept readable.
    pub(crate) fn kept_hash(&self) -> Option<&'a Hash> {
        let Kept::Hash(place) = self.row.password else { return None };
        self.file.rows.hashes.get(place)
    }

    /// The scheme of the hash.
    pub(crate) fn scheme(&self) -> Option<&'static str> {
        match self.row.password {
            Kept::None => None,
            Kept::Readable { .. } => Some(READABLE),
            Kept::Hash(_) => self.kept_hash().map(Hash::scheme),
        }
    }

    /// The password, where it is kept readable.
    pub(crate) fn password_text(&self) -> Option<Secret> {
        let Kept::Readable { password, .. } = self.row.password else { return None };
        Some(Secret::from(password))
    }

    /// Whether this is the user's password, where it is kept readable; nothing, where it is not.
    ///
    /// A keyed hash of both is compared first, so that the time tells nothing of one that is wrong, not even how
    /// long the right one is.
    pub(crate) fn is_readable(&self, password: &Secret) -> Option<bool> {
        let Kept::Readable { tag, password: right } = self.row.password else { return None };
        let alike = self.file.hasher.hash_one(password.expose()) == tag;
        Some(alike && password.expose().ct_eq(right).into())
    }

    /// The line, counted from 1.
    pub fn line(&self) -> usize {
        self.row.line as usize
    }

    /// The user id, as written: a number or a name.
    pub fn uid(&self) -> Option<&'a str> {
        self.field(0)
    }

    /// The group id, as written.
    pub fn gid(&self) -> Option<&'a str> {
        self.field(1)
    }

    /// The full name, or whatever the site keeps there.
    pub fn gecos(&self) -> Option<&'a str> {
        self.field(2)
    }

    /// The home directory.
    pub fn home(&self) -> Option<&'a str> {
        self.field(3)
    }

    /// The login shell.
    pub fn shell(&self) -> Option<&'a str> {
        self.field(4)
    }

    /// Dovecot's extra fields, `key=value` between spaces; a key alone has an empty value.
    pub fn extra(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        // Most lines have nothing after the password, which is told sooner than that they have no sixth field.
        let extra = if self.row.rest.is_empty() { None } else { self.field(5) };
        let fields = extra.unwrap_or("").split_ascii_whitespace();
        fields.map(|field| field.split_once('=').unwrap_or((field, "")))
    }

    /// What stands after the password, in order and as written: [`Entry::uid`] and so on to
    /// [`Entry::shell`], then everything else in one. Missing fields are left out at the end, empty ones
    /// are empty.
    pub fn fields(&self) -> impl Iterator<Item = &'a str> {
        // The last one goes to the end of the line, whatever it holds.
        text(self.row.rest).splitn(6, self.file.format.delimiter as char)
    }

    /// What `make` makes of this line. The first [`MAX_REMEMBERED`] users to log in of whom it says more than the
    /// name get the same one each time: a dozen small allocations cost more than the rest of a login by clear
    /// text. A name alone is made sooner than found.
    pub(crate) fn identity(&self, make: impl FnOnce() -> Identity) -> Arc<Identity> {
        if self.row.rest.is_empty() {
            return Arc::new(Identity::named(self.name()));
        }
        let remembered = &self.file.remembered;
        let known =
            remembered.read().unwrap_or_else(PoisonError::into_inner).get(&self.at).cloned();
        if let Some(known) = known {
            return known;
        }
        let made = Arc::new(make());
        let mut remembered = remembered.write().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() < MAX_REMEMBERED {
            // Another thread may have been quicker, with an equal one.
            return Arc::clone(remembered.entry(self.at).or_insert(made));
        }
        made
    }

    fn field(&self, index: usize) -> Option<&'a str> {
        self.fields().nth(index).filter(|field| !field.is_empty())
    }
}

impl fmt::Debug for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("name", &self.name())
            .field("line", &self.line())
            .field("hash", &self.hash())
            .finish_non_exhaustive()
    }
}

/// The hash that a readable password stands for.
fn readable(password: &[u8]) -> Option<Hash> {
    let accept = Accept { allow_plain: true, default_scheme: Scheme::PLAIN, ..Accept::default() };
    let password = std::str::from_utf8(password).ok()?;
    // Without its scheme, which made no text longer than it may be.
    match password.starts_with('{') {
        true => Hash::parse(&Zeroizing::new(format!("{{PLAIN}}{password}")), &accept),
        false => Hash::parse(password, &accept),
    }
    .ok()
}

fn text(bytes: &[u8]) -> &str {
    // They were a text when they were added.
    std::str::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "{SHA256}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=";

    fn parse(text: &str) -> PasswdFile {
        PasswdFile::parse(text.as_bytes(), &Format::default(), &Accept::default())
    }

    fn reasons(file: &PasswdFile) -> Vec<String> {
        file.problems().iter().map(Problem::to_string).collect()
    }

    #[test]
    fn fields_comments_and_line_ends() {
        let file = parse(&format!(
            "# people\n\nalice:{SECRET}:1000:users:Alice A.:/home/alice:/bin/sh:allow_nets=::1,10.0.0.0/8 userdb_mail=x:y nopassword\r\nbob@example.org:{SECRET}\n  \ncarol::1002"
        ));
        assert_eq!(reasons(&file), [""; 0]);
        assert_eq!(file.len(), 3);
        let alice = file.find("alice").unwrap();
        assert!(alice.hash().unwrap().verify(&Secret::from("secret")));
        assert_eq!((alice.uid(), alice.gid()), (Some("1000"), Some("users")));
        assert_eq!(alice.gecos(), Some("Alice A."));
        assert_eq!((alice.home(), alice.shell()), (Some("/home/alice"), Some("/bin/sh")));
        let extra: Vec<_> = alice.extra().collect();
        assert_eq!(
            extra,
            [("allow_nets", "::1,10.0.0.0/8"), ("userdb_mail", "x:y"), ("nopassword", "")]
        );
        assert_eq!(alice.line(), 3);
        let bob = file.find("bob@example.org").unwrap();
        assert!(bob.hash().unwrap().verify(&Secret::from("secret")) && bob.uid().is_none());
        assert_eq!(bob.extra().count(), 0);
        assert!(file.find("carol").unwrap().hash().is_none());
        assert!(file.find("Alice").is_none() && file.find("").is_none());
    }

    #[test]
    fn every_problem_names_its_line() {
        let mut text =
            format!("alice:{SECRET}\nnocolon\n:{SECRET}\nbob:{{SHA265}}x\na\tb:{SECRET}\n")
                .into_bytes();
        text.extend_from_slice(b"caf\xe9:x\n");
        text.extend_from_slice(
            format!("{}:x\ndave:{{PLAIN}}hunter2\n", "x".repeat(9000)).as_bytes(),
        );
        let file = PasswdFile::parse(&text, &Format::default(), &Accept::default());
        let reasons = reasons(&file);
        for (reason, expected) in reasons.iter().zip([
            "line 2: error: no `:` after the user name; expected user:{SCHEME}hash",
            "line 3: error: no user name before",
            "line 4: error: user bob: unknown password scheme {SHA265} (did you mean {SHA256}?)",
            "line 5: error: the user name holds a control character",
            "line 6: error: it is not UTF-8",
            "line 7: error: it is longer than 8192",
            "line 8: error: user dave: {PLAIN} is not allowed",
        ]) {
            assert!(reason.starts_with(expected), "{reason}");
        }
        assert_eq!(reasons.len(), 7);
        assert!(!reasons.concat().contains("hunter2"));
        // One bad line is one user's.
        assert!(file.find("alice").unwrap().hash().is_some());
    }

    #[test]
    fn the_first_line_counts_even_when_it_is_the_bad_one() {
        let file = parse(&format!("eve:{{SHA256}}oops\neve:{SECRET}\neve:{SECRET}\n"));
        assert_eq!(file.len(), 1);
        assert!(file.find("eve").unwrap().hash().is_none());
        let reasons = reasons(&file);
        assert!(reasons[0].starts_with("line 1: error: user eve: malformed {SHA256}"));
        assert_eq!(
            reasons[1],
            "line 2: warning: user eve is on line 1 already, which counts; remove one"
        );
        assert_eq!(file.problems()[2].effect, Effect::Ignored);
    }

    #[test]
    fn locked_users_have_no_hash() {
        let file = parse(&format!("a:*\nb:!{SECRET}\nc:\nd:!!:1:1\n"));
        assert_eq!((file.len(), file.problems().len()), (4, 0));
        assert!(file.iter().all(|entry| entry.hash().is_none()));
    }

    #[test]
    fn another_delimiter_and_a_byte_order_mark() {
        let format = Format { delimiter: b'|', ..Format::default() };
        let text = format!("\u{feff}a:b|{SECRET}|1|2||/home");
        let file = PasswdFile::parse(text.as_bytes(), &format, &Accept::default());
        assert_eq!(file.find("a:b").unwrap().home(), Some("/home"));
        let format = Format { delimiter: 0xe4, ..Format::default() };
        assert_eq!(PasswdFile::parse(b"a", &format, &Accept::default()).problems().len(), 1);
    }

    #[test]
    fn other_fields_in_another_order() {
        let format = Format { delimiter: b' ', user: 2, password: 0, ..Format::default() };
        let text = format!("{SECRET} x ada more\n{SECRET}\n{SECRET} x\n");
        let file = PasswdFile::parse(text.as_bytes(), &format, &Accept::default());
        let ada = file.find("ada").unwrap();
        assert!(ada.hash().unwrap().verify(&Secret::from("secret")));
        // What the others mean is not known.
        assert_eq!((file.len(), ada.uid(), ada.extra().count()), (1, None, 0));
        let said = reasons(&file);
        assert!(said[0].starts_with("line 2: error: no field 2 with the user name"), "{said:?}");
        assert_eq!(said.len(), 2);
    }

    #[test]
    fn names_without_regard_to_case() {
        let format = Format { folds_case: true, ..Format::default() };
        let text = format!("Ada:{SECRET}\nADA:*\nÄNNE:{SECRET}\n");
        let file = PasswdFile::parse(text.as_bytes(), &format, &Accept::default());
        for name in ["ada", "ADA", "aDa"] {
            let ada = file.find(name).unwrap();
            assert!(ada.hash().is_some(), "the first line counts");
            assert_eq!((ada.name(), ada.line()), ("ada", 1));
        }
        assert!(file.find("änne").is_some());
        let said = reasons(&file);
        assert_eq!(
            said,
            ["line 2: warning: user ada is on line 1 already, which counts; remove one"]
        );
    }

    #[test]
    fn a_hash_sign_can_begin_a_name() {
        let format = Format { comments: false, ..Format::default() };
        let text = format!("#ada:{SECRET}\n");
        let file = PasswdFile::parse(text.as_bytes(), &format, &Accept::default());
        assert!(file.find("#ada").is_some() && parse(&text).is_empty());
    }

    #[test]
    fn problems_are_bounded() {
        let file = parse(&"x\n".repeat(1500));
        assert_eq!((file.problems().len(), file.unlisted_problems()), (1000, 500));
    }

    #[test]
    fn many_users_are_all_found() {
        let text: String = (0..20_000).map(|n| format!("user{n}:{SECRET}:{n}\n")).collect();
        let file = parse(&text);
        assert_eq!((file.len(), file.problems().len()), (20_000, 0));
        for n in (0..20_000).step_by(7) {
            let entry = file.find(&format!("user{n}")).unwrap();
            assert_eq!(entry.uid(), Some(n.to_string().as_str()));
        }
    }
}
