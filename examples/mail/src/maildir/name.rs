//! The names of a Maildir's files: a unique part, and flags behind `:2,`.

use std::fmt;

/// What is marked of a message. Maildir knows these six, each by a letter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(u8);

impl Flags {
    /// A draft.
    pub const DRAFT: Self = Self(1);
    /// Marked by its reader.
    pub const FLAGGED: Self = Self(1 << 1);
    /// Passed on to somebody.
    pub const PASSED: Self = Self(1 << 2);
    /// Answered.
    pub const ANSWERED: Self = Self(1 << 3);
    /// Read.
    pub const SEEN: Self = Self(1 << 4);
    /// To be removed.
    pub const DELETED: Self = Self(1 << 5);

    /// In the order of the letters, which is the order in a name.
    const LETTERS: [(Self, char); 6] = [
        (Self::DRAFT, 'D'),
        (Self::FLAGGED, 'F'),
        (Self::PASSED, 'P'),
        (Self::ANSWERED, 'R'),
        (Self::SEEN, 'S'),
        (Self::DELETED, 'T'),
    ];

    /// No flag.
    pub const fn none() -> Self {
        Self(0)
    }

    /// Whether all of these are set.
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// These and those.
    #[must_use]
    pub const fn with(self, flags: Self) -> Self {
        Self(self.0 | flags.0)
    }

    /// These without those.
    #[must_use]
    pub const fn without(self, flags: Self) -> Self {
        Self(self.0 & !flags.0)
    }

    fn of_letters(letters: &str) -> Self {
        let known = |(flag, letter): &(Self, char)| letters.contains(*letter).then_some(*flag);
        Self::LETTERS.iter().filter_map(known).fold(Self::none(), Self::with)
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut set = Self::LETTERS.iter().filter(|(flag, _)| self.has(*flag));
        set.try_for_each(|(_, letter)| fmt::Write::write_char(f, *letter))
    }
}

/// The name of a file, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileName<'a> {
    /// What stays the same while flags change.
    pub(super) base: &'a str,
    pub(super) flags: Flags,
    /// Letters that others may understand; they stay.
    others: &'a str,
}

impl<'a> FileName<'a> {
    pub(super) fn of(name: &'a str) -> Self {
        let (base, letters) = name.split_once(":2,").unwrap_or((name, ""));
        Self { base, flags: Flags::of_letters(letters), others: letters }
    }

    /// The same message with other flags.
    pub(super) fn flagged(&self, flags: Flags) -> String {
        let known = |letter: &char| Flags::LETTERS.iter().any(|(_, known)| known == letter);
        let mut letters: Vec<char> = flags.to_string().chars().collect();
        letters.extend(self.others.chars().filter(|letter| !known(letter)));
        letters.sort_unstable();
        format!("{}:2,{}", self.base, letters.into_iter().collect::<String>())
    }

    /// When it was delivered, as far as its name tells: seconds since 1970.
    pub(super) fn delivered(&self) -> u64 {
        let digits = self.base.split('.').next().unwrap_or_default();
        digits.parse().unwrap_or(u64::MAX)
    }
}

/// Whether a name can be a message: neither hidden nor what would break the list of them.
pub(super) fn is_message(name: &str) -> bool {
    !name.starts_with('.') && !name.chars().any(|c| c.is_control() || c == ' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_come_and_go_and_strangers_stay() {
        let name = FileName::of("1.a.host:2,SaT");
        assert_eq!((name.base, name.delivered()), ("1.a.host", 1));
        assert!(name.flags.has(Flags::SEEN.with(Flags::DELETED)) && !name.flags.has(Flags::DRAFT));
        assert_eq!(name.flagged(name.flags.with(Flags::DRAFT)), "1.a.host:2,DSTa");
        assert_eq!(name.flagged(Flags::none()), "1.a.host:2,a");
        assert_eq!(FileName::of("new").flagged(Flags::FLAGGED), "new:2,F");
    }

    #[test]
    fn names_that_would_break_the_list_are_none() {
        assert!(is_message("1.a.host:2,S"));
        assert!(!is_message(".hidden") && !is_message("a b") && !is_message("a\nb"));
    }
}
