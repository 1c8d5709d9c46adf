//! Words for people: a message id for translators, and English for everybody else.

use std::borrow::Cow;
use std::fmt;

/// A piece of text that a person will read.
///
/// Text of ours carries a message id, so that a renderer can say it in another language; text from a
/// backend (a PAM module's prompt, a KDC's banner) is verbatim and has none. Punctuation belongs to the
/// renderer: a prompt is `Password`, not `Password: `.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    id: Cow<'static, str>,
    english: Cow<'static, str>,
}

impl Text {
    /// Text that can be translated: a stable id such as `prompt.password`, and its English.
    pub const fn message(id: &'static str, english: &'static str) -> Self {
        Self { id: Cow::Borrowed(id), english: Cow::Borrowed(english) }
    }

    /// Text from elsewhere, shown as it is.
    pub fn verbatim(text: impl Into<Cow<'static, str>>) -> Self {
        Self { id: Cow::Borrowed(""), english: text.into() }
    }

    /// The message id, if this text has one.
    pub fn id(&self) -> Option<&str> {
        (!self.id.is_empty()).then_some(&*self.id)
    }

    /// The English (or verbatim) text.
    pub fn as_str(&self) -> &str {
        &self.english
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.english)
    }
}
