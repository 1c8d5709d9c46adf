//! What a mail server is told of a user: fields made of the account's attributes and of templates.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

/// Attributes that are told under their own names without being configured: what Dovecot must know to open
/// a mailbox (Dovecot, "User database").
const FIELDS: [&str; 5] = ["uid", "gid", "home", "mail", "quota_rule"];
/// The longest text that a template may come to.
const VALUE_LIMIT: usize = 4096;

/// Which fields a user has, and what they are where the account says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Userdb {
    templates: BTreeMap<String, Template>,
}

/// Text with parts to be filled in: `/srv/mail/{domain}/{local}`.
///
/// `{user}` is the whole name, `{local}` what is before its last `@`, `{domain}` what is behind it, and any
/// other word is the first value of the attribute of that name. `{{` and `}}` are braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    /// Whether it makes a path, so that names in it must be names of files.
    path: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    User,
    Local,
    Domain,
    Attribute(String),
}

/// A user for whom a template cannot be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the field `{field}` cannot be made for this user: {why}")]
pub struct Unfit {
    field: String,
    why: &'static str,
}

impl Userdb {
    /// The fields of a user, by name. An attribute of a field's name wins over the field's template. A
    /// template with an attribute that the user does not have is left out.
    ///
    /// # Errors
    /// When a part of the name or an attribute cannot be part of a path: nobody is told of half a user.
    pub fn fields(
        &self,
        user: &str,
        attributes: &BTreeMap<String, Vec<String>>,
    ) -> Result<BTreeMap<String, String>, Unfit> {
        let first = |name: &str| attributes.get(name).and_then(|values| values.first());
        let mut fields = BTreeMap::new();
        for (name, template) in &self.templates {
            let value = match first(name) {
                Some(value) => Some(value.clone()),
                None => template
                    .fill(user, |name| first(name).map(String::as_str))
                    .map_err(|why| Unfit { field: name.clone(), why })?,
            };
            fields.extend(value.map(|value| (name.clone(), value)));
        }
        for name in FIELDS {
            if let (false, Some(value)) = (fields.contains_key(name), first(name)) {
                fields.insert(name.to_owned(), value.clone());
            }
        }
        Ok(fields)
    }
}

impl Template {
    /// The text for a user. `None`: an attribute is missing.
    fn fill<'a>(
        &self,
        user: &'a str,
        attribute: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<Option<String>, &'static str> {
        let (local, domain) = user.rsplit_once('@').unwrap_or((user, ""));
        let (mut filled, mut written) = (String::new(), String::new());
        for part in &self.parts {
            let value = match part {
                Part::Text(text) => {
                    filled.push_str(text);
                    written.push_str(text);
                    continue;
                }
                Part::User => user,
                Part::Local => local,
                Part::Domain => domain,
                Part::Attribute(name) => match attribute(name) {
                    Some(value) => value,
                    None => return Ok(None),
                },
            };
            if self.path {
                if value.is_empty() {
                    return Err("a part of its path would be empty");
                }
                if value.contains(['/', '\0']) {
                    return Err("a part of its path has a slash in it");
                }
            }
            filled.push_str(value);
            written.push('x');
        }
        if filled.len() > VALUE_LIMIT {
            return Err("it would be longer than 4096 bytes");
        }
        // The dots of a path may come from the name, or from the name and the template together.
        // Those that the template has of its own (Dovecot's `/chroot/./home`) are meant.
        let dots = |path: &str| path.split('/').filter(|step| matches!(*step, "." | "..")).count();
        if self.path && dots(&filled) != dots(&written) {
            return Err("a step of its path would be `.` or `..`");
        }
        Ok(Some(filled))
    }
}

impl FromStr for Template {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const UNEVEN: &str = "a template has its words in braces, such as \"/srv/mail/{user}\"; \
                              a brace of its own is written twice";
        let (mut parts, mut plain) = (Vec::new(), String::new());
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let (brace, behind) = rest[at..].split_at(1);
            if let Some(behind) = behind.strip_prefix(brace) {
                plain.push_str(brace);
                rest = behind;
                continue;
            }
            let (word, behind) = behind.split_once('}').filter(|_| brace == "{").ok_or(UNEVEN)?;
            let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if word.is_empty() || !word.chars().all(fits) {
                return Err(UNEVEN);
            }
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(match word {
                "user" => Part::User,
                "local" => Part::Local,
                "domain" => Part::Domain,
                other => Part::Attribute(other.to_owned()),
            });
            rest = behind;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { path: text.contains('/'), parts })
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Template;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text such as \"/srv/mail/{user}\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Template, E> {
                text.parse().map_err(E::custom)
            }

            // `uid = 5000` is how everybody writes it first.
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Template, E> {
                Ok(Template { parts: vec![Part::Text(number.to_string())], path: false })
            }
        }
        from.deserialize_any(Text).map_err(D::Error::custom)
    }
}

/// Whether a name fits a mask: `*` stands for anything, `?` for one character.
pub(super) fn matches(mask: &str, name: &str) -> bool {
    let (mask, name): (Vec<char>, Vec<char>) = (mask.chars().collect(), name.chars().collect());
    let (mut m, mut n) = (0, 0);
    // Where the last star was, and how much it stands for: one place to come back to is enough.
    let mut star = None;
    while n < name.len() {
        match mask.get(m) {
            Some('*') => {
                star = Some((m, n));
                m += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                m += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (m, n) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    mask[m..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn userdb(pairs: &[(&str, &str)]) -> Userdb {
        let template = |(name, text): &(&str, &str)| ((*name).to_owned(), text.parse().unwrap());
        Userdb { templates: pairs.iter().map(template).collect() }
    }

    fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<String>> {
        pairs.iter().map(|(name, value)| ((*name).into(), vec![(*value).into()])).collect()
    }

    #[test]
    fn attributes_win_over_templates() {
        let userdb = userdb(&[
            ("uid", "5000"),
            ("home", "/srv/mail/{domain}/{local}"),
            ("quota_rule", "*:storage={quota}M"),
            ("braces", "{{{user}}}"),
        ]);
        let fields = userdb.fields("ann@example.org", &attributes(&[])).unwrap();
        let expected = [
            ("braces", "{ann@example.org}"),
            ("home", "/srv/mail/example.org/ann"),
            ("uid", "5000"),
        ];
        assert_eq!(fields.iter().map(|(a, b)| (&**a, &**b)).collect::<Vec<_>>(), expected);

        let own = attributes(&[("home", "/home/a"), ("quota", "7"), ("gid", "9"), ("phone", "1")]);
        let fields = userdb.fields("ann", &own).unwrap();
        assert_eq!(fields["home"], "/home/a");
        assert_eq!(fields["quota_rule"], "*:storage=7M");
        assert_eq!(fields["gid"], "9");
        assert!(!fields.contains_key("phone"), "only what mail servers are meant to know is told");
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let userdb = userdb(&[("home", "/srv/{domain}/{local}")]);
        for name in ["a/b@x", "..@x", ".@x", "a@..", "a@x/y", "ann", "@x", "a@", "/", ".."] {
            let unfit = userdb.fields(name, &attributes(&[])).unwrap_err().to_string();
            assert!(unfit.contains("`home`"), "{name}: {unfit}");
        }
        assert_eq!(userdb.fields("...@x", &attributes(&[])).unwrap()["home"], "/srv/x/...");
        let two = userdb_of("/srv/{local}{domain}");
        assert!(two.fields(".@.", &attributes(&[])).is_err(), "two harmless parts make `..`");
        let chroot = userdb_of("/srv/./{local}");
        assert_eq!(chroot.fields("ann", &attributes(&[])).unwrap()["home"], "/srv/./ann");
        let dir = userdb_of("/srv/{dir}");
        assert!(dir.fields("a", &attributes(&[("dir", "../etc")])).is_err());
        assert_eq!(dir.fields("a", &attributes(&[("dir", "b")])).unwrap()["home"], "/srv/b");
    }

    fn userdb_of(home: &str) -> Userdb {
        userdb(&[("home", home)])
    }

    #[test]
    fn templates_that_cannot_be_read() {
        for text in ["{", "}", "{user", "user}", "{}", "{a b}", "{{user}", "{user}}"] {
            assert!(text.parse::<Template>().is_err(), "{text}");
        }
        let number: Userdb = toml::from_str("uid = 5000\nhome = \"/h/{user}\"").unwrap();
        assert_eq!(number, userdb(&[("uid", "5000"), ("home", "/h/{user}")]));
        assert!(toml::from_str::<Userdb>("uid = [1]").is_err());
    }

    #[test]
    fn masks() {
        for (mask, name, fits) in [
            ("*", "", true),
            ("*", "ann", true),
            ("a*", "ann", true),
            ("a*n", "ann", true),
            ("a*b", "ann", false),
            ("a?n", "ann", true),
            ("a?", "ann", false),
            ("*@example.org", "ann@example.org", true),
            ("*a*a*", "banana", true),
            ("*a*c*", "banana", false),
            ("?", "ü", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(mask, name), fits, "{mask} {name}");
        }
        // A mask that makes a careless matcher take for ever.
        assert!(!matches(&"*a".repeat(100), &"a".repeat(99)));
    }
}
