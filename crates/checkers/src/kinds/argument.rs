//! What stands after the colon of `TYPE:ARGUMENT`.

use std::ops::Range;
use std::str::FromStr;

use super::{SettingsError, suggestion};

/// An argument.
#[derive(Clone, Copy, Debug)]
pub struct Argument<'a> {
    text: &'a str,
}

/// The options of an argument, after its question mark: `key=value` with `&` between them. `%XX` stands for a
/// byte, as in URLs: `%26` for `&`, `%25` for `%`. A plus sign is one.
#[derive(Debug)]
pub struct Options<'a> {
    options: Vec<Given<'a>>,
    asked: Vec<&'static str>,
}

#[derive(Debug)]
struct Given<'a> {
    key: &'a str,
    key_place: Range<usize>,
    value: &'a str,
    value_place: Range<usize>,
    taken: bool,
}

/// The value of an option. Its debug format does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct OptionValue {
    /// Where it is in the argument, in bytes.
    pub place: Range<usize>,
    /// What it is, decoded.
    pub text: String,
}

impl<'a> Argument<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text }
    }

    /// All of it; empty when there is none.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Where all of it is.
    pub fn place(&self) -> Range<usize> {
        0..self.text.len()
    }

    /// What stands before the first question mark, decoded, and the options after it. A question mark before
    /// it is written `%3F`.
    ///
    /// # Errors
    ///
    /// An option without a value, one that is there twice, and bytes that are no UTF-8.
    pub fn split(self) -> Result<(OptionValue, Options<'a>), SettingsError> {
        let (before, after) = self.text.split_once('?').unwrap_or((self.text, ""));
        let first = decoded(before, 0)?;
        Ok((first, Options::read(after, before.len() + 1)?))
    }

    /// What stands before the first question mark as it is, and the options after it.
    ///
    /// # Errors
    ///
    /// As [`Argument::split`].
    pub fn split_raw(self) -> Result<(&'a str, Options<'a>), SettingsError> {
        let (before, after) = self.text.split_once('?').unwrap_or((self.text, ""));
        Ok((before, Options::read(after, before.len() + 1)?))
    }
}

impl<'a> Options<'a> {
    fn read(text: &'a str, start: usize) -> Result<Self, SettingsError> {
        let mut options: Vec<Given<'a>> = Vec::new();
        let mut at = start;
        for part in text.split('&') {
            let place = at..at + part.len();
            at = place.end + 1;
            if part.is_empty() {
                continue;
            }
            let Some((key, value)) = part.split_once('=') else {
                return Err(SettingsError::at(place, "an option without a value")
                    .with_help("write `option=value`, and `%26` for a `&` in a value"));
            };
            let key_place = place.start..place.start + key.len();
            if options.iter().any(|other| other.key == key) {
                let message = format!("the option `{key}` is there twice");
                return Err(SettingsError::at(key_place, message).with_help("leave one out"));
            }
            let value_place = key_place.end + 1..place.end;
            options.push(Given { key, key_place, value, value_place, taken: false });
        }
        Ok(Self { options, asked: Vec::new() })
    }

    /// The value of an option, if it is there.
    ///
    /// # Errors
    ///
    /// A value that is no UTF-8.
    pub fn take(&mut self, key: &'static str) -> Result<Option<OptionValue>, SettingsError> {
        self.asked.push(key);
        let Some(given) = self.options.iter_mut().find(|given| given.key == key) else {
            return Ok(None);
        };
        given.taken = true;
        decoded(given.value, given.value_place.start).map(Some)
    }

    /// The value of an option as text.
    ///
    /// # Errors
    ///
    /// As [`Options::take`].
    pub fn text(&mut self, key: &'static str) -> Result<Option<String>, SettingsError> {
        Ok(self.take(key)?.map(|value| value.text))
    }

    /// Whether an option is on: `yes` or `no`, or `usually` when it is not there.
    ///
    /// # Errors
    ///
    /// Another word.
    pub fn flag(&mut self, key: &'static str, usually: bool) -> Result<bool, SettingsError> {
        let Some(value) = self.take(key)? else { return Ok(usually) };
        match value.text.as_str() {
            "yes" | "true" => Ok(true),
            "no" | "false" => Ok(false),
            _ => Err(value.refused(format!("`{key}` is `yes` or `no`"))),
        }
    }

    /// The value of an option as a number, or whatever else is read of a text.
    ///
    /// # Errors
    ///
    /// A value that is no `what`.
    pub fn parsed<T: FromStr>(
        &mut self,
        key: &'static str,
        what: &str,
    ) -> Result<Option<T>, SettingsError> {
        let Some(value) = self.take(key)? else { return Ok(None) };
        match value.text.parse() {
            Ok(parsed) => Ok(Some(parsed)),
            Err(_) => Err(value.refused(format!("`{key}` is {what}"))),
        }
    }

    /// What was not asked for, as it was written: `key=value` with `&` between them.
    pub fn rest(&self) -> String {
        let rest = self.options.iter().filter(|given| !given.taken);
        rest.map(|given| format!("{}={}", given.key, given.value)).collect::<Vec<_>>().join("&")
    }

    /// Ends with the refusal of an option that was not asked for.
    ///
    /// # Errors
    ///
    /// The first one, with the known one that looks most like it.
    pub fn end(self) -> Result<(), SettingsError> {
        match self.options.into_iter().find(|given| !given.taken) {
            None => Ok(()),
            Some(Given { key, key_place, .. }) => {
                let message = format!("there is no option `{key}`");
                Err(SettingsError::at(key_place, message).with_help(suggestion(key, &self.asked)))
            }
        }
    }
}

impl OptionValue {
    /// The refusal of it, in words that do not show it.
    pub fn refused(&self, message: impl Into<String>) -> SettingsError {
        SettingsError::at(self.place.clone(), message)
    }
}

impl std::fmt::Debug for OptionValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OptionValue({:?})", self.place)
    }
}

pub(super) fn decoded(text: &str, start: usize) -> Result<OptionValue, SettingsError> {
    let place = start..start + text.len();
    let Some(bytes) = percent_decoded(text) else {
        return Err(SettingsError::at(place, "a `%` without two hexadecimal digits after it")
            .with_help("write `%25` for a percent sign"));
    };
    match String::from_utf8(bytes) {
        Ok(text) => Ok(OptionValue { place, text }),
        Err(_) => Err(SettingsError::at(place, "it is not UTF-8 when it is decoded")),
    }
}

/// The bytes that `%XX` stands for, among all others; nothing where one is incomplete.
fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found_decoded_and_told_with_their_places() {
        let text = "/etc/a%3Fb?delimiter=%26&user=2&on=yes";
        let (path, mut options) = Argument::new(text).split().unwrap();
        assert_eq!((path.text.as_str(), path.place.clone()), ("/etc/a?b", 0..10));
        let delimiter = options.take("delimiter").unwrap().unwrap();
        assert_eq!((delimiter.text.as_str(), &text[delimiter.place]), ("&", "%26"));
        assert_eq!(options.parsed::<usize>("user", "a number").unwrap(), Some(2));
        assert!(options.flag("on", false).unwrap() && !options.flag("off", false).unwrap());
        options.end().unwrap();
    }

    #[test]
    fn every_mistake_has_a_place_and_a_remedy() {
        let told = |text: &'static str| {
            let read = || {
                let (_, mut options) = Argument::new(text).split()?;
                options.parsed::<usize>("user", "a number, counted from 0")?;
                options.flag("plain", false)?;
                options.end()
            };
            let error: SettingsError = read().unwrap_err();
            (error.place().unwrap(), error.to_string())
        };
        for (text, at, said) in [
            ("p?usre=1", "usre", "there is no option `usre`; did you mean `user`?"),
            ("p?user", "user", "an option without a value; write `option=value`"),
            ("p?user=one", "one", "`user` is a number, counted from 0"),
            ("p?plain=maybe", "maybe", "`plain` is `yes` or `no`"),
            ("p?user=1&user=2", "user", "the option `user` is there twice"),
            ("p?user=%2", "%2", "a `%` without two hexadecimal digits"),
            ("p%ff?", "p%ff", "it is not UTF-8"),
        ] {
            let (place, error) = told(text);
            assert_eq!(&text[place], at, "{text}");
            assert!(error.starts_with(said), "{text}: {error}");
        }
    }

    #[test]
    fn what_nobody_asked_for_is_left_as_it_was() {
        let argument = Argument::new("pg://h/d?sslmode=require&query=a%20b&x=%41");
        let (url, mut options) = argument.split_raw().unwrap();
        assert_eq!(options.text("query").unwrap().as_deref(), Some("a b"));
        assert_eq!((url, options.rest().as_str()), ("pg://h/d", "sslmode=require&x=%41"));
    }
}
