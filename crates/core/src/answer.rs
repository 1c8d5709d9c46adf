//! Answers: possibly partial, in any order, by question name.

use std::borrow::Cow;

use crate::Secret;

/// One answer. Four things are kept apart: a value that may be *empty*, a question that was *declined*,
/// one that is *absent* (not among the [`Answers`]), and a conversation that was cancelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Bytes, possibly none.
    Value(Secret),
    /// The index of an option.
    Choice(usize),
    /// Yes or no.
    Confirmed(bool),
    /// The peer does not want to answer this one.
    Declined,
}

impl From<&str> for Answer {
    #[inline]
    fn from(text: &str) -> Self {
        Self::Value(text.into())
    }
}

impl From<String> for Answer {
    fn from(text: String) -> Self {
        Self::Value(text.into())
    }
}

impl From<Secret> for Answer {
    fn from(secret: Secret) -> Self {
        Self::Value(secret)
    }
}

impl From<bool> for Answer {
    fn from(yes: bool) -> Self {
        Self::Confirmed(yes)
    }
}

/// The answers to a round, by question name. Few, so a list is the fastest map.
///
/// ```
/// use countersign::{Answer, Answers};
///
/// let answers = Answers::new().with("username", "ada").with("password", "").with("otp", Answer::Declined);
/// assert_eq!(answers.text("username"), Some("ada"));
/// // Empty, declined and absent are three things.
/// assert_eq!(answers.text("password"), Some(""));
/// assert_eq!(answers.find("otp"), Some(&Answer::Declined));
/// assert_eq!(answers.find("shell"), None);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Answers(Vec<(Cow<'static, str>, Answer)>);

impl Answers {
    /// No answers: what the first step of every exchange is given.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The answers, with one more.
    #[must_use]
    #[inline]
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, answer: impl Into<Answer>) -> Self {
        self.push(name, answer);
        self
    }

    /// Adds an answer. Two answers of one name are kept, and refused by
    /// [`Round::accept`](crate::Round::accept): nothing replaces anything silently.
    #[inline]
    pub fn push(&mut self, name: impl Into<Cow<'static, str>>, answer: impl Into<Answer>) {
        self.0.push((name.into(), answer.into()));
    }

    /// Adds these after those that there are.
    pub(crate) fn append(&mut self, mut more: Self) {
        self.0.append(&mut more.0);
    }

    /// The answer of that name, if it is there.
    pub fn find(&self, name: &str) -> Option<&Answer> {
        self.0.iter().find(|(n, _)| same(n, name)).map(|(_, answer)| answer)
    }

    /// The same, first looked for where the answer to a round's question of that place mostly is. Of two of one
    /// name it need not be the first.
    pub(crate) fn find_near(&self, index: usize, name: &str) -> Option<&Answer> {
        let there = self.0.get(index).filter(|(n, _)| same(n, name)).map(|(_, answer)| answer);
        there.or_else(|| self.find(name))
    }

    /// Takes the answer of that name out.
    pub fn take(&mut self, name: &str) -> Option<Answer> {
        let index = self.0.iter().position(|(n, _)| same(n, name))?;
        // In order, for two of one name: what `find` shows next must be what `take` gives next.
        Some(self.0.remove(index).1)
    }

    /// The value of that name; `None` when it is absent, declined or no value.
    #[inline]
    pub fn value(&self, name: &str) -> Option<&Secret> {
        match self.find(name) {
            Some(Answer::Value(value)) => Some(value),
            _ => None,
        }
    }

    /// The value of that name as text; `None` also when it is not UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.value(name).and_then(Secret::to_str)
    }

    /// All answers with their names, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Answer)> {
        self.0.iter().map(|(name, answer)| (&**name, answer))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many bytes all values have together.
    pub fn size(&self) -> usize {
        self.iter()
            .map(|(name, answer)| match answer {
                Answer::Value(value) => name.len() + value.len(),
                _ => name.len(),
            })
            .sum()
    }
}

/// Whether two names are one. Names of questions are short, and are compared some twenty times at each login: a call
/// that compares blocks of memory costs more than these bytes.
#[inline]
pub(crate) fn same(one: &str, two: &str) -> bool {
    let ((one, end_of_one), (two, end_of_two)) =
        (one.as_bytes().as_chunks::<8>(), two.as_bytes().as_chunks::<8>());
    let words = |word: &[u8; 8]| u64::from_ne_bytes(*word);
    one.len() == two.len()
        && end_of_one.len() == end_of_two.len()
        && one.iter().map(words).eq(two.iter().map(words))
        && end_of_one.iter().eq(end_of_two)
}

impl FromIterator<(Cow<'static, str>, Answer)> for Answers {
    fn from_iter<T: IntoIterator<Item = (Cow<'static, str>, Answer)>>(answers: T) -> Self {
        Self(answers.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_empty_and_declined_differ() {
        let answers = Answers::new().with("a", "").with("b", Answer::Declined);
        assert_eq!(answers.text("a"), Some(""));
        assert_eq!(answers.find("b"), Some(&Answer::Declined));
        assert_eq!(answers.text("b"), None);
        assert_eq!(answers.find("c"), None);
    }

    #[test]
    fn names_are_compared_whole() {
        let names =
            ["", "a", "otp", "username", "password", "passwort", "password2", "new-password"];
        for one in names {
            for two in names {
                assert_eq!(same(one, two), one == two, "{one} {two}");
            }
        }
    }

    #[test]
    fn two_of_one_name_keep_their_order() {
        let mut answers = Answers::new().with("b", "x").with("a", "1").with("a", "2");
        assert_eq!(answers.take("b"), Some(Answer::from("x")));
        assert_eq!(answers.text("a"), Some("1"));
        assert_eq!(answers.take("a"), Some(Answer::from("1")));
        assert_eq!(answers.take("a"), Some(Answer::from("2")));
        assert_eq!((answers.take("a"), answers.size()), (None, 0));
    }
}
