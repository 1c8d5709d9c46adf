//! XOAUTH2: Google's form of a bearer token in one message, which many mail clients speak and nothing else.
//! <https://developers.google.com/workspace/gmail/imap/xoauth2-protocol>

use std::fmt;

use countersign::{BoxExchange, Carrier, Denial, Mechanism, Secret};

use crate::carried;
use crate::oauthbearer::{Shown, TokenExchange, bearer, each_pair, malformed, quoted, text};

/// Carries the mechanism `bearer` in one message.
#[derive(Clone, Debug, Default)]
pub struct XOAuth2 {
    scope: Option<String>,
}

impl XOAuth2 {
    /// With nothing to say about scopes.
    pub fn new() -> Self {
        Self::default()
    }

    /// The carrier, telling whom it refuses which scope a token must have.
    #[must_use]
    pub fn scoped(self, scope: impl Into<String>) -> Self {
        Self { scope: Some(scope.into()) }
    }

    fn error(&self) -> String {
        let scope = quoted(self.scope.as_deref().unwrap_or_default());
        format!("{{\"status\":\"401\",\"schemes\":\"bearer\",\"scope\":{scope}}}")
    }
}

impl Carrier for XOAuth2 {
    fn name(&self) -> &str {
        "XOAUTH2"
    }

    fn carries(&self) -> &str {
        Mechanism::BEARER
    }

    fn carry(&self, inner: BoxExchange) -> BoxExchange {
        TokenExchange::begin(inner, self.error(), |message| {
            let message = XOAuth2Message::parse(message)?;
            let token = Some(Secret::from(message.token));
            Ok(Shown { claimed: Some(message.user.to_owned()), token })
        })
    }
}

/// `user=NAME ^A auth=Bearer TOKEN ^A ^A`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct XOAuth2Message<'a> {
    /// Who the client says it is.
    pub user: &'a str,
    /// The token.
    pub token: &'a str,
}

impl<'a> XOAuth2Message<'a> {
    /// Parses a message.
    ///
    /// # Errors
    ///
    /// [`Reason::Malformed`](countersign::Reason).
    pub fn parse(message: &'a [u8]) -> Result<Self, Denial> {
        // The name may be any text, so it is read before the pairs.
        let rest = text(message)?.strip_prefix("user=").ok_or_else(|| malformed("no `user`"))?;
        let (user, pairs) = rest.split_once('\u{1}').ok_or_else(|| malformed("no `auth`"))?;
        carried::name(user.as_bytes(), "the user name")?;
        let mut auth = None;
        each_pair(pairs, |key, value| match key {
            "auth" if auth.replace(value).is_none() => Ok(()),
            _ => Err(malformed("a pair that is not to be there")),
        })?;
        let token = bearer(auth.ok_or_else(|| malformed("no `auth`"))?)?;
        Ok(Self { user, token })
    }
}

/// As it is sent.
impl fmt::Display for XOAuth2Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user={}\u{1}auth=Bearer {}\u{1}\u{1}", self.user, self.token)
    }
}

impl fmt::Debug for XOAuth2Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "XOAuth2Message({:?})", self.user)
    }
}

#[cfg(test)]
mod tests {
    use countersign::Reason;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_message_that_google_shows() {
        let message = "user=someuser@example.com\u{1}auth=Bearer ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg\u{1}\u{1}";
        let read = XOAuth2Message::parse(message.as_bytes()).unwrap();
        assert_eq!(read.user, "someuser@example.com");
        assert_eq!(read.token, "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg");
        assert_eq!(read.to_string(), message);
        assert_eq!(XOAuth2::new().error(), r#"{"status":"401","schemes":"bearer","scope":""}"#);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let good = "user=ada\u{1}auth=Bearer x\u{1}\u{1}";
        for (from, to) in [
            ("user=ada", "user="),
            ("user=", "User="),
            ("user=ada", "user=a\nb"),
            ("user=ada\u{1}", ""),
            ("auth=", "user=bob\u{1}auth="),
            ("Bearer x", ""),
            ("Bearer x", "Bearer "),
            ("Bearer x\u{1}\u{1}", "Bearer x\u{1}auth=Bearer y\u{1}\u{1}"),
            ("\u{1}\u{1}", "\u{1}"),
            ("\u{1}\u{1}", "\u{1}\u{1}\u{1}"),
        ] {
            let bad = good.replace(from, to);
            let denial = XOAuth2Message::parse(bad.as_bytes()).unwrap_err();
            assert_eq!(denial.reason, Reason::Malformed, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = XOAuth2Message::parse(&bytes);
        }

        #[test]
        fn what_is_printed_is_parsed(user in "[^\\p{C}]{1,20}", token in "[-._~+/a-z]{1,9}=?") {
            let message = XOAuth2Message { user: &user, token: &token };
            let written = message.to_string();
            prop_assert_eq!(XOAuth2Message::parse(written.as_bytes()).unwrap(), message);
        }
    }
}
