//! Lengths of time in settings.

use std::fmt;
use std::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

/// A length of time, as in `"9s"` or `"12h"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Span {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// What a length of time looks like.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let span = text.parse::<jiff::SignedDuration>().ok();
        let span = span.and_then(|span| Duration::try_from(span).ok());
        span.filter(|span| !span.is_zero())
            .map(Span)
            .ok_or("a length of time is above zero, such as \"9s\", \"5m\" or \"12h\"")
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text)
    }
}

/// For `deserialize_with`: a length of time without its type.
#[cfg(any(feature = "one-cipher", feature = "one-ssh"))]
pub(crate) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Span::deserialize(deserializer).map(|Span(duration)| duration)
}

struct Text;

impl Visitor<'_> for Text {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a length of time such as \"9s\", \"5m\" or \"12h\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
        Span::parse(text).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        assert_eq!(Span::parse("9s"), Ok(Span(Duration::from_secs(9))));
        assert_eq!(Span::parse("1h30m"), Ok(Span(Duration::from_secs(5400))));
        for wrong in ["", "0s", "-1s", "soon", "9"] {
            assert!(Span::parse(wrong).unwrap_err().contains("\"12h\""), "{wrong}");
        }
    }
}
