//! Lines of passwd(5) and shadow(5).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;

use countersign::{Denial, Reason};

use super::accepted;
use crate::hash::Hash;

/// A password field.
pub(super) enum Field {
    /// It is in the shadow file: `x`.
    Shadowed,
    /// Nobody logs in by a password, and why.
    Locked(&'static str),
    /// One that is not understood.
    Unusable(&'static str),
    /// A hash.
    Hash(Hash),
}

/// A user of passwd(5).
pub(super) struct User {
    pub(super) password: Field,
    /// `uid:gid:gecos:home:shell`.
    rest: Box<str>,
}

/// What shadow(5) says about an account's age, in days, since 1970 where they are dates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Aging {
    changed: Option<i64>,
    maximum: Option<i64>,
    inactive: Option<i64>,
    expires: Option<i64>,
}

impl Field {
    fn read(text: &str) -> Self {
        match text {
            "x" => Self::Shadowed,
            // Anybody could be this one.
            "" => Self::Locked("it has no password, and nobody logs in without one"),
            _ if text.starts_with('!') => Self::Locked("the account is locked (`!`)"),
            _ if text.starts_with('*') => Self::Locked("it has no password (`*`)"),
            _ => match Hash::parse(text, &accepted()) {
                Ok(hash) => Self::Hash(hash),
                Err(_) => Self::Unusable("its hash is of no scheme that is known, or too costly"),
            },
        }
    }
}

impl User {
    /// Reads what follows the name.
    pub(super) fn read(fields: &str) -> Option<Self> {
        let (password, rest) = fields.split_once(':')?;
        // uid, gid, gecos, home, shell.
        (rest.split(':').count() == 5)
            .then(|| Self { password: Field::read(password), rest: rest.into() })
    }

    pub(super) fn attributes(&self) -> impl Iterator<Item = (&'static str, &str)> {
        ["uid", "gid", "gecos", "home", "shell"].into_iter().zip(self.rest.split(':'))
    }

    pub(super) fn gid(&self) -> Option<u32> {
        self.rest.split(':').nth(1)?.parse().ok()
    }
}

/// Reads what follows the name in shadow(5): `password:changed:minimum:maximum:warning:inactive:expires:`.
pub(super) fn shadow(fields: &str) -> Option<(Field, Aging)> {
    let fields: Vec<_> = fields.split(':').collect();
    let [password, changed, _minimum, maximum, _warning, inactive, expires, ..] = fields[..] else {
        return None;
    };
    // An empty field says nothing, and so does -1.
    let day = |text: &str| match text {
        "" => Some(None),
        _ => text.parse::<i64>().ok().map(|day| Some(day).filter(|day| *day >= 0)),
    };
    let aging = Aging {
        changed: day(changed)?,
        maximum: day(maximum)?,
        inactive: day(inactive)?,
        expires: day(expires)?,
    };
    Some((Field::read(password), aging))
}

impl Aging {
    pub(super) const NONE: Self =
        Self { changed: None, maximum: None, inactive: None, expires: None };

    /// Why the account cannot be used on a day, as pam_unix(8) has it.
    pub(super) fn refusal(&self, today: i64) -> Option<Denial> {
        if self.expires.is_some_and(|day| today >= day) {
            return Some(Denial::new(Reason::Expired).because("the account has expired"));
        }
        let change = |why| Some(Denial::new(Reason::ChangeNeeded).because(why));
        let changed = self.changed?;
        if changed == 0 {
            return change("an administrator wants a new password");
        }
        let last = changed.saturating_add(self.maximum?);
        if today <= last {
            return None;
        }
        if self.inactive.is_some_and(|days| today > last.saturating_add(days)) {
            let why = "the password is too old, and was not changed in time";
            return Some(Denial::new(Reason::Expired).because(why));
        }
        change("the password is too old")
    }
}

/// Reads a file of lines that begin with a name; each is given with its line, counted from 1. The first of two
/// for one name counts, and the second is logged, as is one that cannot be read: it refuses its own user only.
pub(super) fn lines<T>(
    path: &Path,
    data: &[u8],
    read: impl Fn(&str) -> Option<T>,
) -> HashMap<Box<str>, (T, usize)> {
    let mut users = HashMap::new();
    let path = path.display();
    for (index, line) in data.split(|byte| *byte == b'\n').enumerate() {
        let line_number = index + 1;
        if line.trim_ascii().is_empty() || line.starts_with(b"#") {
            continue;
        }
        let parts = std::str::from_utf8(line).ok().and_then(|line| line.split_once(':'));
        // `+` and `-` are NIS, which is not asked.
        let parts = parts.filter(|(name, _)| !name.is_empty() && !name.starts_with(['+', '-']));
        let Some((name, fields)) = parts else {
            tracing::warn!("{path}: line {line_number} is not understood, and skipped");
            continue;
        };
        match (users.entry(name.into()), read(fields)) {
            (Entry::Occupied(_), _) => {
                tracing::warn!("{path}: line {line_number}: {name} is there before, which counts");
            }
            (Entry::Vacant(vacant), Some(user)) => drop(vacant.insert((user, line_number))),
            (Entry::Vacant(_), None) => {
                tracing::warn!("{path}: line {line_number}: {name} is not understood, and skipped");
            }
        }
    }
    users
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(line: &str, today: i64) -> Option<Reason> {
        let (_, aging) = shadow(line).unwrap();
        aging.refusal(today).map(|denial| denial.reason)
    }

    #[test]
    fn age_is_judged_as_shadow_says() {
        for (line, today, expected) in [
            ("x:100:0:99999:7:::", 20_000, None),
            ("x:::::::", 20_000, None),
            ("x:100:0:-1:7:-1:-1:", 20_000, None),
            // Changed on day 100, good for 30 days: the last one is 130.
            ("x:100:0:30:7:::", 130, None),
            ("x:100:0:30:7:::", 131, Some(Reason::ChangeNeeded)),
            ("x:100:0:30:7:5::", 135, Some(Reason::ChangeNeeded)),
            ("x:100:0:30:7:5::", 136, Some(Reason::Expired)),
            ("x:0:0:99999:7:::", 20_000, Some(Reason::ChangeNeeded)),
            ("x:100:0:99999:7::500:", 499, None),
            ("x:100:0:99999:7::500:", 500, Some(Reason::Expired)),
            // Changed in the future: a clock was wrong, and nothing is too old.
            ("x:30000:0:30:7:::", 20_000, None),
            ("x:9223372036854775807:0:9223372036854775807:7:9::", 20_000, None),
        ] {
            assert_eq!(reason(line, today), expected, "{line} on day {today}");
        }
        for bad in ["x:1:2:3", "x:soon::::::", ""] {
            assert!(shadow(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn fields_that_let_nobody_in() {
        for field in ["", "!", "!!", "*", "!$6$x$y", "*LK*"] {
            assert!(matches!(Field::read(field), Field::Locked(_)), "{field:?}");
        }
        assert!(matches!(Field::read("x"), Field::Shadowed));
        assert!(matches!(Field::read("$99$what"), Field::Unusable(_)));
        // Clear text is nobody's hash.
        assert!(matches!(Field::read("secret"), Field::Unusable(_)));
    }

    #[test]
    fn the_first_line_counts() {
        let data = b"# users\nada:x:1:2:A:/a:/sh\nada:x:9:9::/:/\n+::::::\nbad:x\n\nbob:x:3:4:::\n";
        let users = lines(Path::new("passwd"), data, User::read);
        assert_eq!(users.len(), 2);
        let (ada, line) = &users["ada"];
        assert_eq!((ada.gid(), *line), (Some(2), 2));
        assert_eq!(ada.attributes().next(), Some(("uid", "1")));
    }
}
