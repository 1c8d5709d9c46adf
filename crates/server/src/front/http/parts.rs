//! What a listener can serve, in parts: each may be left out where nobody should reach it.

use serde::Deserialize;

/// A part of what is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Part {
    /// The JSON conversation and sessions.
    Api,
    /// The administrator's API.
    Admin,
    /// The login page and the account page.
    Pages,
    /// `/forward-auth` for proxies.
    ForwardAuth,
    /// nginx's `auth_http` of mail.
    MailAuth,
    /// `/metrics`.
    Metrics,
    /// `/healthz` and `/readyz`; served by every listener.
    #[serde(skip)]
    Health,
}

/// A set of parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts(u8);

impl Part {
    /// Every part that can be named, with its word.
    pub const NAMED: [(Self, &'static str); 6] = [
        (Self::Api, "api"),
        (Self::Admin, "admin"),
        (Self::Pages, "pages"),
        (Self::ForwardAuth, "forward-auth"),
        (Self::MailAuth, "mail-auth"),
        (Self::Metrics, "metrics"),
    ];
}

impl Parts {
    /// Everything.
    pub const fn all() -> Self {
        Self(u8::MAX)
    }

    /// The set without a part.
    #[must_use]
    pub const fn without(self, part: Part) -> Self {
        Self(self.0 & !(1 << part as u8))
    }

    /// Whether a part is served.
    pub const fn serve(self, part: Part) -> bool {
        self.0 & (1 << part as u8) != 0
    }

    /// The words of the set.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        Part::NAMED.into_iter().filter(move |(part, _)| self.serve(*part)).map(|(_, word)| word)
    }
}

impl FromIterator<Part> for Parts {
    fn from_iter<T: IntoIterator<Item = Part>>(parts: T) -> Self {
        // Who asks whether the process is alive is answered by every listener.
        let none = Self(1 << Part::Health as u8);
        parts.into_iter().fold(none, |set, part| Self(set.0 | 1 << part as u8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_sets() {
        let some: Parts = [Part::Api, Part::ForwardAuth].into_iter().collect();
        assert_eq!(some.words().collect::<Vec<_>>(), ["api", "forward-auth"]);
        assert!(some.serve(Part::Health) && !some.serve(Part::Metrics));
        assert!(!Parts::all().without(Part::Metrics).serve(Part::Metrics));
        assert_eq!(Parts::all().words().count(), Part::NAMED.len());
    }
}
