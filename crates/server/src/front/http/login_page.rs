//! Where a browser is sent to log in.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer};

/// The public address of the login page, such as `https://login.example.com/login`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginPage(String);

impl LoginPage {
    /// The address.
    ///
    /// # Errors
    ///
    /// Why it is none.
    pub fn of(text: &str) -> Result<Self, String> {
        let after = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let host = after.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
        let path = text.starts_with('/') && !text.starts_with("//");
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#\\\"<>@".contains(&byte);
        if !(host || path) || !text.bytes().all(plain) {
            return Err(format!(
                "`{text}` is no address of a login page; give one without a query, such as \
                 `https://login.example.com/login`"
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// The page, told what the login is for, and where to return to: an address that was checked.
    pub(super) fn returning_to(&self, address: Option<&str>, service: &str) -> String {
        use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
        let service = Some(service).filter(|service| *service != "web");
        let asked = [("service", service), ("return_to", address)];
        let asked = asked.into_iter().filter_map(|(name, value)| {
            Some(format!("{name}={}", utf8_percent_encode(value?, NON_ALPHANUMERIC)))
        });
        let asked: Vec<_> = asked.collect();
        let mark = if asked.is_empty() { "" } else { "?" };
        format!("{}{mark}{}", self.0, asked.join("&"))
    }
}

impl fmt::Display for LoginPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for LoginPage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_return_address_is_one_value_of_the_query() {
        let page = LoginPage::of("https://login.example.com/login").unwrap();
        assert_eq!(page.returning_to(None, "web"), "https://login.example.com/login");
        assert_eq!(
            page.returning_to(Some("https://a.example.com/x?y=1&z"), "web"),
            "https://login.example.com/login?return_to=https%3A%2F%2Fa%2Eexample%2Ecom%2Fx%3Fy%3D1%26z"
        );
        let page = LoginPage::of("/login").unwrap();
        assert_eq!(page.returning_to(Some("/x"), "a b"), "/login?service=a%20b&return_to=%2Fx");
        for bad in
            ["", "login", "//evil.example", "https://", "https:///x", "ftp://x", "/a?b", "/a b"]
        {
            assert!(LoginPage::of(bad).is_err(), "{bad}");
        }
    }
}
