//! `[checker.memory.NAME]` and `memory:NAME:PASSWORD:…`. Reference: `docs/guide/memory.md`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use countersign::Secret;
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::{Building, CheckerSettings, Form, Kind, Parts, SettingsError, read};
use crate::memory::Memory;

pub(super) fn kind() -> Kind {
    Kind::new("memory", "users of the command line, for trying things out")
        .proving(crate::readable::MECHANISMS)
        .dangerous("passwords are kept in clear text, and every user of this machine can read a command line")
        .explained(
            "Users and their passwords, one after the other: memory:ada:countess:bob:builder.\n\
             \n\
             A colon in a name or a password is written `\\:`, a backslash `\\\\`.",
        )
        .shown("memory:ada:countess:bob:builder")
        .from_table(|value, _| {
            let place = value.span();
            Ok(Box::new(of_table(read(value)?, place)?))
        })
        .from_argument(Form::Required("NAME:PASSWORD:…"), |argument| {
            Ok(Box::new(of_argument(argument.text())?))
        })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MemoryTable {
    dangerous: Option<bool>,
    users: BTreeMap<Spanned<String>, Password>,
}

struct Password(Secret);

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self(Secret::from(String::deserialize(from)?.into_bytes())))
    }
}

fn of_table(table: MemoryTable, place: Range<usize>) -> Result<Memory, SettingsError> {
    if table.dangerous != Some(true) {
        let message = "the kind `memory` keeps passwords in clear text";
        let help = "say `dangerous = true` if that is what you want; or use `[checker.file.NAME]`";
        return Err(SettingsError::at(place, message).with_help(help));
    }
    let mut memory = Memory::dangerous();
    for (name, Password(password)) in table.users {
        add(&mut memory, name.get_ref(), password, name.span())?;
    }
    Ok(memory)
}

fn of_argument(text: &str) -> Result<Memory, SettingsError> {
    let mut memory = Memory::dangerous();
    let mut fields = fields(text)?.into_iter();
    while let Some((name, place)) = fields.next() {
        let Some((password, _)) = fields.next() else {
            return Err(SettingsError::at(place, "a name without a password").with_help(
                "names and passwords take turns, as in `memory:ada:countess:bob:builder`; a colon in \
                 a password is `\\:`",
            ));
        };
        add(&mut memory, &name, Secret::from(password.into_bytes()), place)?;
    }
    Ok(memory)
}

fn add(
    memory: &mut Memory,
    name: &str,
    password: Secret,
    place: Range<usize>,
) -> Result<(), SettingsError> {
    if name.is_empty() {
        let help = "names and passwords take turns, with a colon between them";
        return Err(SettingsError::at(place, "an empty name").with_help(help));
    }
    if password.is_empty() {
        let help = "whoever may log in without a password is `anonymous`";
        return Err(SettingsError::at(place, "the password of this name is empty").with_help(help));
    }
    let twice = "a name that is there before";
    memory.add(name, password).map_err(|_| SettingsError::at(place, twice).with_help("remove one"))
}

/// What stands between colons, each with its place.
fn fields(text: &str) -> Result<Vec<(String, Range<usize>)>, SettingsError> {
    let mut fields = vec![(String::new(), 0..0)];
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        let letter = match letter {
            ':' => {
                fields.push((String::new(), at + 1..at + 1));
                continue;
            }
            '\\' => match letters.next() {
                Some((_, escaped @ (':' | '\\'))) => escaped,
                _ => {
                    let message = "a backslash before neither a colon nor a backslash";
                    let help = "write a backslash as `\\\\`, and a colon as `\\:`";
                    return Err(SettingsError::at(at..at + 1, message).with_help(help));
                }
            },
            plain => plain,
        };
        if let Some((field, place)) = fields.last_mut() {
            field.push(letter);
            place.end = at + letter.len_utf8();
        }
    }
    Ok(fields)
}

impl CheckerSettings for Memory {
    fn build<'a>(&'a self, name: &'a str, parts: &'a Parts) -> Building<'a> {
        let checker = self.clone().readable(name, &*parts.world);
        Box::pin(async { Ok(Arc::new(checker) as _) })
    }

    fn describe(&self) -> String {
        match self.len() {
            1 => "one user, with the password in clear text".into(),
            n => format!("{n} users, with their passwords in clear text"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign::TextStore as _;
    use countersign::testing::now_or_never;

    #[test]
    fn names_and_passwords_take_turns() {
        let memory = of_argument(r"ada:a\:b\\:bob:bü ilder").unwrap();
        let password = |name| now_or_never(memory.password_text(name)).unwrap().unwrap();
        assert_eq!(memory.len(), 2);
        assert_eq!(password("ada"), Some(Secret::from(r"a:b\")));
        assert_eq!(password("bob"), Some(Secret::from("bü ilder")));
        assert!(!format!("{memory:?}").contains("ada"));
    }

    #[test]
    fn mistakes_are_told_with_their_place_and_without_secrets() {
        for (text, at, said) in [
            ("ada", 0, "a name without a password; names and passwords take turns"),
            ("ada:s3cret:bob", 11, "a name without a password"),
            ("ada:s3cret:", 11, "a name without a password"),
            (":s3cret", 0, "an empty name"),
            ("ada:", 0, "the password of this name is empty"),
            ("ada:s3cret:ada:s3cret", 11, "a name that is there before; remove one"),
            (r"ada:s3cret\n", 10, "a backslash before neither"),
            (r"ada:s3cret\", 10, "a backslash before neither"),
        ] {
            let error = of_argument(text).unwrap_err();
            assert_eq!(error.place().unwrap().start, at, "{text}");
            let error = error.in_argument(text);
            assert!(error.contains(said) && !error.contains("s3cret"), "{text}: {error}");
        }
    }
}
