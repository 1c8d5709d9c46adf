//! What a program can do with a checker.

use std::borrow::Cow;

/// The mechanisms that a program takes: those that its protocol can begin with, or ask for as a further
/// factor. What it does not take is refused when the program starts, and not by every login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Takes(Option<Vec<Cow<'static, str>>>);

impl Takes {
    /// Whatever a checker offers.
    pub fn everything() -> Self {
        Self(None)
    }

    /// Nothing but passwords, in whatever clothing: `password`, and SASL's PLAIN and LOGIN that carry it.
    pub fn passwords() -> Self {
        Self::only([countersign::Mechanism::PASSWORD])
    }

    /// These mechanisms. `PLAIN` is not one of a checker: who carries passwords names `password`.
    pub fn only(mechanisms: impl IntoIterator<Item = impl Into<Cow<'static, str>>>) -> Self {
        Self(Some(mechanisms.into_iter().map(Into::into).collect()))
    }

    /// Whether one of these mechanisms is taken. Names are compared without regard to ASCII case.
    pub fn any<'a>(&self, offered: impl IntoIterator<Item = &'a str>) -> bool {
        let Some(taken) = &self.0 else { return true };
        let is_taken = |name: &str| taken.iter().any(|taken| taken.eq_ignore_ascii_case(name));
        offered.into_iter().any(is_taken)
    }

    /// Why none of these mechanisms is taken.
    pub(super) fn refusal(&self, offered: &[&str]) -> String {
        let taken = self.0.as_deref().unwrap_or_default().join(", ");
        let offered = if offered.is_empty() { "nothing".to_owned() } else { offered.join(", ") };
        format!("it proves who somebody is by {offered}, and this program takes only {taken}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_enough() {
        let takes = Takes::only(["password", "SCRAM-SHA-256"]);
        assert!(takes.any(["otp", "scram-sha-256"]) && !takes.any(["otp"]) && !takes.any([]));
        assert!(Takes::everything().any([]));
        assert_eq!(
            Takes::passwords().refusal(&["bearer"]),
            "it proves who somebody is by bearer, and this program takes only password"
        );
    }
}
