//! The languages of the pages: a catalogue each, by message id, and which one somebody reads.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use countersign::Text;

/// A language with all its messages.
#[derive(Debug)]
pub(super) struct Language {
    /// Its tag (RFC 5646), as `lang` takes it.
    pub(super) tag: &'static str,
    /// What it calls itself.
    pub(super) name: &'static str,
    /// Which way it is written, as `dir` takes it.
    pub(super) dir: &'static str,
    messages: BTreeMap<String, String>,
}

/// All languages, the one for everybody else first.
pub(super) static LANGUAGES: LazyLock<[Language; 3]> = LazyLock::new(|| {
    [
        Language::new("en", "English", include_str!("messages/en.toml")),
        Language::new("de", "Deutsch", include_str!("messages/de.toml")),
        Language::new("fr", "Français", include_str!("messages/fr.toml")),
    ]
});

/// How many entries of a list of languages are looked at.
const WISHES: usize = 32;

impl Language {
    fn new(tag: &'static str, name: &'static str, toml: &str) -> Self {
        let messages = toml::from_str(toml)
            .unwrap_or_else(|error| unreachable!("the catalogue `{tag}` is wrong: {error}"));
        Self { tag, name, dir: "ltr", messages }
    }

    /// The language of that tag, or of its first part.
    pub(super) fn of_tag(tag: &str) -> Option<&'static Self> {
        let tag = tag.trim();
        let first = tag.split(['-', '_']).next().unwrap_or_default();
        let is = |language: &&Self| language.tag.eq_ignore_ascii_case(first);
        LANGUAGES.iter().find(is).filter(|_| tag.len() <= 64)
    }

    /// The language of somebody: what they asked for, by whichever way comes first in `wished`, else what
    /// their browser accepts (RFC 9110, section 12.5.4), else English.
    pub(super) fn choose<'a>(
        wished: impl IntoIterator<Item = Option<&'a str>>,
        accepted: Option<&str>,
    ) -> &'static Self {
        let wished = wished.into_iter().flatten().find_map(Self::of_list);
        let accepted = || Self::of_list(accepted?);
        wished.or_else(accepted).unwrap_or_else(|| &LANGUAGES[0])
    }

    /// The best of a list such as `fr-CH, de;q=0.8`, of which the first of equals counts. A plain tag is a
    /// list too, and so is the answer to a question of the kind `language`.
    pub(super) fn of_list(list: &str) -> Option<&'static Self> {
        let mut best: Option<(f32, &'static Self)> = None;
        for entry in list.split(',').take(WISHES) {
            let mut parts = entry.split(';');
            let tag = parts.next().unwrap_or_default();
            let weight = parts.find_map(|part| part.trim().strip_prefix("q="));
            let weight = weight.map_or(Some(1.0), |weight| weight.trim().parse().ok());
            let weight: f32 = weight.unwrap_or(0.0);
            if let Some(language) = Self::of_tag(tag)
                && weight > best.map_or(0.0, |(so_far, _)| so_far)
            {
                best = Some((weight, language));
            }
        }
        best.map(|(_, language)| language)
    }

    /// A text in this language; one that is not ours, or not known here, as it is.
    pub(super) fn text<'a>(&'a self, text: &'a Text) -> &'a str {
        let translated = text.id().and_then(|id| self.messages.get(id));
        translated.map_or(text.as_str(), String::as_str)
    }

    /// A message of the pages.
    pub(super) fn say(&self, id: &str) -> Cow<'_, str> {
        match self.messages.get(id) {
            Some(message) => Cow::Borrowed(message),
            // A test looks for every id in every catalogue.
            None => Cow::Owned(id.to_owned()),
        }
    }

    /// A message of the pages about a number or a name, which stands in it as `{}`.
    pub(super) fn say_of(&self, id: &str, what: impl std::fmt::Display) -> String {
        self.say(id).replace("{}", &what.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    fn chosen(wished: Option<&str>, accepted: &str) -> &'static str {
        Language::choose([wished], Some(accepted)).tag
    }

    #[test]
    fn the_wish_before_the_browser_before_english() {
        assert_eq!(chosen(Some("de"), "fr"), "de");
        assert_eq!(chosen(Some("de-CH"), ""), "de");
        assert_eq!(chosen(Some("tlh"), "fr"), "fr");
        assert_eq!(chosen(None, "es, fr-CH;q=0.5, de;q=0.8"), "de");
        assert_eq!(chosen(None, "de;q=0, en;q=0.1"), "en");
        assert_eq!(chosen(None, "fr;q=0.9,en;q=0.9"), "fr");
        assert_eq!(chosen(None, "*"), "en");
        assert_eq!(chosen(None, "fr;q=x"), "en");
        assert_eq!(chosen(None, &"x,".repeat(100)), "en");
        assert_eq!(Language::choose([], None).tag, "en");
    }

    #[test]
    fn ours_is_translated_and_theirs_is_not() {
        let german = Language::of_tag("de").unwrap();
        assert_eq!(german.text(&Text::message("prompt.password", "Password")), "Passwort");
        assert_eq!(german.text(&Text::message("no.such", "As it is")), "As it is");
        assert_eq!(german.text(&Text::verbatim("PASSCODE:")), "PASSCODE:");
        assert!(german.say_of("again.minutes", 7).contains('7'));
    }

    /// Every message of the program's own, with its English where the code has it.
    fn used() -> BTreeSet<(String, Option<String>)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut used = BTreeSet::new();
        for file in files(&root) {
            let text = std::fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            for call in code.split("Text::message(").skip(1) {
                let mut literals = call.split('"');
                // A call with something else than two literals is the constructor itself.
                let (Some(gap), Some(id)) = (literals.next(), literals.next()) else { continue };
                if !gap.trim().is_empty() {
                    continue;
                }
                let english = literals.nth(1).unwrap_or_default();
                used.insert((id.to_owned(), Some(english.to_owned())));
            }
            for begin in ["say(\"", "say_of(\"", "t(\"", "t_of(\""] {
                let preceded = |before: &str| before.ends_with(|c: char| c.is_alphanumeric());
                let mut before = "";
                for part in code.split(begin) {
                    if !before.is_empty() && !preceded(before) {
                        let id = part.split('"').next().unwrap();
                        if id.contains('.') && !id.contains([' ', '/']) {
                            used.insert((id.to_owned(), None));
                        }
                    }
                    before = part;
                }
            }
        }
        used
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !matches!(&*name, "tests" | "benches" | "target") {
                found.extend(files(&path));
            } else if name.ends_with(".rs") || name.ends_with(".html") {
                found.push(path);
            }
        }
        found
    }

    /// Of a message: the numbers and names that stand in it.
    fn holes(message: &str) -> usize {
        message.matches("{}").count()
    }

    #[test]
    fn every_message_is_in_every_language_and_none_is_left_over() {
        let used = used();
        assert!(used.len() > 60, "the search has found only {}", used.len());
        for language in LANGUAGES.iter() {
            for (id, english) in &used {
                let Some(message) = language.messages.get(id) else {
                    panic!("`{id}` is not in messages/{}.toml", language.tag);
                };
                if let (Some(english), "en") = (english, language.tag) {
                    assert_eq!(message, english, "{id}");
                }
            }
            let ids: BTreeSet<_> = used.iter().map(|(id, _)| id).collect();
            for (id, message) in &language.messages {
                assert!(ids.contains(id), "`{id}` of messages/{}.toml is unused", language.tag);
                assert!(!message.trim().is_empty(), "{id}");
                let english = &LANGUAGES[0].messages[id];
                assert_eq!(holes(message), holes(english), "{id} in {}", language.tag);
            }
        }
    }
}
