//! What a directory's groups are called here, and who administers them: a file of OpenNebula's, `DN: group` a line.
//!
//! Of YAML exactly this is read: one mapping, a pair a line, plain or quoted. What else YAML can say (anchors, nesting,
//! several lines, types) has no place in such a file, and is an error with its line.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use countersign::Fault;

use crate::name::can_be_a_name;
use crate::watched::Watched;

/// What is made of the directory's groups.
#[derive(Default)]
pub struct GroupRules {
    mapping: Option<Watched<Result<Mapping, String>>>,
    otherwise: Option<String>,
    admins: Option<String>,
}

/// Groups by the name of their entry.
type Mapping = HashMap<String, String>;

/// A group's entry, and its name where it can be one.
pub(super) struct Group {
    pub(super) dn: String,
    pub(super) name: Option<String>,
}

impl GroupRules {
    /// Rules: a file of entries' names and what the groups are called, read again when it changes; the group of
    /// whoever would have none; the entry whose members administer all of their groups. With a file, whoever has no
    /// group of it and no other is not let in.
    ///
    /// # Errors
    ///
    /// A fault when the file cannot be read, or what is wrong in which line.
    pub fn new(
        mapping: Option<PathBuf>,
        otherwise: Option<String>,
        admins: Option<&str>,
    ) -> Result<Self, Fault> {
        let mapping = mapping.map(|path| {
            let file = Watched::open("mapping of groups", path, |path, bytes| {
                let mapping = read(bytes);
                if let Err(why) = &mapping {
                    tracing::error!(path = %path.display(), "{why}; nobody of it can log in until then");
                }
                mapping
            })?;
            match &*file.last() {
                Ok(_) => Ok(file),
                Err(why) => {
                    Err(Fault::internal(format!("{}: {why}", file.path().display())))
                }
            }
        });
        Ok(Self { mapping: mapping.transpose()?, otherwise, admins: admins.map(folded) })
    }

    /// The groups of somebody, and whether they administer them. `None`: they have none, and must.
    pub(super) async fn apply(
        &self,
        groups: Vec<Group>,
    ) -> Result<Option<(Vec<String>, bool)>, Fault> {
        let administers = self
            .admins
            .as_ref()
            .is_some_and(|admins| groups.iter().any(|group| folded(&group.dn) == *admins));
        let mut names: Vec<String> = match &self.mapping {
            None => groups.into_iter().filter_map(|group| group.name).collect(),
            Some(file) => {
                let read: Arc<Result<Mapping, String>> = file.current().await?;
                let mapping = read.as_ref().as_ref();
                let mapping = mapping.map_err(|why| {
                    Fault::unavailable(format!("{}: {why}", file.path().display()))
                })?;
                groups.iter().filter_map(|group| mapping.get(&folded(&group.dn)).cloned()).collect()
            }
        };
        if names.is_empty() {
            match &self.otherwise {
                Some(otherwise) => names.push(otherwise.clone()),
                None if self.mapping.is_some() => return Ok(None),
                None => {}
            }
        }
        Ok(Some((names, administers)))
    }
}

impl std::fmt::Debug for GroupRules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupRules")
            .field("mapping", &self.mapping.as_ref().map(Watched::path))
            .field("otherwise", &self.otherwise)
            .field("admins", &self.admins)
            .finish()
    }
}

/// A name as it is compared: without regard to case, and to blanks around commas and the first equals sign of a part.
/// What is escaped must be escaped in the same way.
fn folded(dn: &str) -> String {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for letter in dn.chars() {
        match letter {
            ',' if !escaped => parts.push(String::new()),
            _ => {
                if let Some(part) = parts.last_mut() {
                    part.push(letter);
                }
            }
        }
        escaped = letter == '\\' && !escaped;
    }
    let parts = parts.iter().map(|part| match part.split_once('=') {
        Some((kind, value)) => format!("{}={}", kind.trim(), value.trim()).to_lowercase(),
        None => part.trim().to_lowercase(),
    });
    parts.collect::<Vec<_>>().join(",")
}

/// Reads the file.
fn read(bytes: &[u8]) -> Result<Mapping, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
    let mut mapping = Mapping::new();
    for (number, line) in (1..).zip(text.lines()) {
        let at = |why: &str| format!("line {number}: {why}");
        let trimmed = line.trim_end();
        if trimmed.is_empty() || trimmed == "---" || trimmed.trim_start().starts_with('#') {
            continue;
        }
        if trimmed.starts_with([' ', '\t']) {
            return Err(at("a pair begins at the line's begin"));
        }
        let (dn, rest) = scalar(trimmed, true).map_err(at)?;
        let rest = rest.strip_prefix(':').filter(|rest| rest.starts_with([' ', '\t']));
        let rest = rest.ok_or_else(|| at("expected `DN: group`"))?.trim_start();
        let (group, rest) = scalar(rest, false).map_err(at)?;
        if !rest.trim_start().is_empty() && !rest.trim_start().starts_with('#') {
            return Err(at("there is something behind the group"));
        }
        if !can_be_a_name(&group) {
            return Err(at("a group needs a name or a number"));
        }
        if mapping.insert(folded(&dn), group).is_some() {
            return Err(at("the entry is there twice"));
        }
    }
    Ok(mapping)
}

/// One value, and what stands behind it. A plain key ends before `: `, another plain value at a comment or the line's end.
fn scalar(text: &str, is_key: bool) -> Result<(String, &str), &'static str> {
    let quote = match text.chars().next() {
        Some(quote @ ('\'' | '"')) => quote,
        Some('[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '%' | '@' | '`' | '?')
        | None => {
            return Err("a value of a kind that is not read here; put it in quotes");
        }
        Some(_) => {
            let end = match is_key {
                true => text.find(": ").or(text.find(":\t")).ok_or("expected `DN: group`")?,
                false => text.find(" #").unwrap_or(text.len()),
            };
            let (value, rest) = text.split_at(end);
            return Ok((value.trim().to_owned(), rest));
        }
    };
    let mut value = String::new();
    let mut letters = text[1..].char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\'' if quote == '\'' && letters.peek().is_some_and(|(_, next)| *next == '\'') => {
                letters.next();
                value.push('\'');
            }
            _ if letter == quote => return Ok((value, &text[1 + at + 1..])),
            '\\' if quote == '"' => match letters.next() {
                Some((_, escaped @ ('\\' | '"' | '/'))) => value.push(escaped),
                _ => return Err("an escape that is not read here; use single quotes"),
            },
            _ => value.push(letter),
        }
    }
    Err("the quotes do not end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_as_directories_do() {
        let one = "CN=Staff, OU = groups,DC=example";
        assert_eq!(folded(one), folded("cn=staff,ou=groups,dc=EXAMPLE"));
        assert_ne!(folded("cn=a\\, b,dc=x"), folded("cn=a,b,dc=x"));
        assert_ne!(folded("cn=a b,dc=x"), folded("cn=ab,dc=x"));
        assert_ne!(folded("cn=a\\\\,dc=x"), folded("cn=a\\,dc=x"));
    }

    #[test]
    fn a_mapping_is_pairs() {
        let text = "---\n# groups\ncn=staff,dc=example: 100\n'cn=it''s,dc=x': '101' # why\n\
                    \"CN=a: \\\"b\\\"\\\\,c,DC=x\":\t\"102\"\n\n";
        let mapping = read(text.as_bytes()).unwrap();
        assert_eq!(mapping.get("cn=staff,dc=example").map(String::as_str), Some("100"));
        assert_eq!(mapping.get("cn=it's,dc=x").map(String::as_str), Some("101"));
        assert_eq!(mapping.get("cn=a: \"b\"\\,c,dc=x").map(String::as_str), Some("102"));
        for (text, why) in [
            ("cn=a", "line 1: expected"),
            ("cn=a:1", "expected"),
            ("cn=a: ", "expected"),
            ("cn=a: ''", "needs a name"),
            ("cn=a: 1\nCN=A: 2", "line 2: the entry is there twice"),
            ("cn=a: [1, 2]", "not read here"),
            ("cn=a: &x 1", "not read here"),
            ("cn=a: |", "not read here"),
            ("  cn=a: 1", "line's begin"),
            ("'cn=a: 1", "do not end"),
            ("\"cn=\\x41\": 1", "escape"),
            ("cn=a: '1' 2", "behind the group"),
            ("{cn=a: 1}", "not read here"),
        ] {
            let error = read(text.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(read(b"\xff").is_err());
    }

    fn groups(dns: &[&str]) -> Vec<Group> {
        let group = |dn: &&str| Group { dn: (*dn).to_owned(), name: Some("own".to_owned()) };
        dns.iter().map(group).collect()
    }

    #[test]
    fn groups_are_called_as_the_file_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("groups.yaml");
        std::fs::write(&path, "cn=staff,dc=example: 100\ncn=ops,dc=example: 101\n").unwrap();
        let apply = |rules: &GroupRules, dns: &[&str]| {
            countersign::testing::now_or_never(rules.apply(groups(dns))).unwrap().unwrap()
        };
        let both = ["CN=Ops, DC=example", "cn=other,dc=example", "cn=staff,dc=example"];
        let rules = GroupRules::new(Some(path.clone()), None, Some("CN=OPS,dc=example")).unwrap();
        assert_eq!(apply(&rules, &both), Some((vec!["101".into(), "100".into()], true)));
        assert_eq!(apply(&rules, &both[1..]), Some((vec!["100".into()], false)));
        assert_eq!(apply(&rules, &both[1..2]), None);
        let rules = GroupRules::new(Some(path.clone()), Some("1".into()), None).unwrap();
        assert_eq!(apply(&rules, &both[1..2]), Some((vec!["1".into()], false)));
        let rules = GroupRules::new(None, Some("1".into()), None).unwrap();
        assert_eq!(apply(&rules, &both[1..2]), Some((vec!["own".into()], false)));
        assert_eq!(apply(&rules, &[]), Some((vec!["1".into()], false)));
        assert_eq!(apply(&GroupRules::default(), &[]), Some((Vec::new(), false)));
        std::fs::write(&path, "no pair").unwrap();
        assert!(
            GroupRules::new(Some(path), None, None).unwrap_err().to_string().contains("line 1")
        );
    }
}
