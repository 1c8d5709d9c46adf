//! Who somebody is, in the headers that proxies hand on: `Remote-User`, `Remote-Groups`, `Remote-Labels`,
//! `Remote-Name`, `Remote-Email`.
//!
//! All five are always there, empty where there is nothing to say: a proxy that copies what it finds then
//! replaces whatever the client wrote into its request.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::identity::IdentityView;

/// The headers, in this order everywhere.
static NAMES: [HeaderName; 5] = [
    HeaderName::from_static("remote-user"),
    HeaderName::from_static("remote-groups"),
    HeaderName::from_static("remote-labels"),
    HeaderName::from_static("remote-name"),
    HeaderName::from_static("remote-email"),
];

/// By which Envoy removes headers from the request (its HTTP authorization service).
const TO_REMOVE: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

/// What is said of every reply of forward-auth: it is about this request and this moment.
pub(super) const FOR_NOBODY_ELSE: [(HeaderName, HeaderValue); 2] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
];

/// Attributes that are somebody's name for people: the first that is there.
const NAME: [&str; 4] = ["name", "display-name", "displayName", "cn"];
/// Attributes that are somebody's mail address.
const EMAIL: [&str; 2] = ["email", "mail"];

/// The headers of one identity, as a whole reply: every request of a site has one, and to copy them together
/// is half the work of putting each in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityHeaders(HeaderMap);

impl IdentityHeaders {
    /// Those of an identity.
    pub fn of(identity: &IdentityView) -> Self {
        let attribute = |names: &[&str]| {
            let found = names.iter().find_map(|name| identity.attributes.get(*name)?.first());
            encoded(found.map_or("", String::as_str), false)
        };
        let texts = [
            encoded(identity.subject.as_deref().unwrap_or_default(), false),
            list(identity.groups.iter().map(|group| group.name.as_str())),
            list(identity.labels.iter().map(String::as_str)),
            attribute(&NAME),
            attribute(&EMAIL),
        ];
        let absent = NAMES.iter().zip(&texts).filter(|(_, text)| text.is_empty());
        let absent: Vec<_> = absent.map(|(name, _)| name.as_str()).collect();
        let to_remove = (!absent.is_empty()).then(|| (TO_REMOVE, value(&absent.join(","))));
        let all = NAMES.iter().cloned().zip(texts.iter().map(|text| value(text)));
        let mut headers = HeaderMap::with_capacity(NAMES.len() + 3);
        headers.extend(all.chain(to_remove).chain(FOR_NOBODY_ELSE));
        Self(headers)
    }

    /// Those of a reply that says who it is.
    pub(super) fn reply(&self) -> HeaderMap {
        self.0.clone()
    }
}

fn list<'a>(items: impl Iterator<Item = &'a str>) -> String {
    items.map(|item| encoded(item, true)).collect::<Vec<_>>().join(",")
}

/// Printable ASCII, everything else percent-encoded (RFC 3986, section 2.1): control characters, what is not
/// ASCII, `%` itself, a space at either end, and within a list the comma. Decoding gives the text again.
fn encoded(text: &str, in_list: bool) -> String {
    use std::fmt::Write as _;
    let last = text.len().saturating_sub(1);
    let mut out = String::with_capacity(text.len());
    for (index, byte) in text.bytes().enumerate() {
        let plain = match byte {
            b'%' => false,
            b',' => !in_list,
            b' ' => !in_list && index != 0 && index != last,
            byte => byte.is_ascii_graphic(),
        };
        if plain {
            out.push(char::from(byte));
        } else {
            // Writing to a text cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn value(text: &str) -> HeaderValue {
    // Printable ASCII is always a value.
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use countersign::Identity;
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    use super::*;

    fn written(identity: &Identity) -> HeaderMap {
        IdentityHeaders::of(&IdentityView::of(identity)).reply()
    }

    #[test]
    fn everything_is_said_or_is_empty() {
        let ada = Identity::named("ada")
            .in_group("staff", false)
            .in_group("a,b", true)
            .with("mail", "ada@example.com");
        let headers = written(&ada);
        assert_eq!(headers["remote-user"], "ada");
        assert_eq!(headers["remote-groups"], "a%2Cb,staff");
        assert_eq!(headers["remote-labels"], "");
        assert_eq!(headers["remote-name"], "");
        assert_eq!(headers["remote-email"], "ada@example.com");
        assert_eq!(headers["x-envoy-auth-headers-to-remove"], "remote-labels,remote-name");
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!(headers["x-content-type-options"], "nosniff");
    }

    #[test]
    fn names_of_people_are_readable_and_nothing_ends_a_line() {
        let text = |name: &str| {
            let headers = written(&Identity::named("x").with("name", name));
            headers["remote-name"].to_str().unwrap().to_owned()
        };
        assert_eq!(text("Ada Lovelace"), "Ada Lovelace");
        assert_eq!(text(" \u{c4}da\r\nRemote-User: root"), "%20%C3%84da%0D%0ARemote-User: root");
        assert_eq!(text("100%"), "100%25");
    }

    proptest! {
        #[test]
        fn decoding_gives_the_text_again(text in "\\PC{0,20}|[ ,%\r\n\0a]{0,9}", in_list: bool) {
            let there = encoded(&text, in_list);
            prop_assert!(HeaderValue::from_str(&there).is_ok());
            prop_assert!(!in_list || !there.contains([',', ' ']));
            prop_assert_eq!(there.trim(), there.as_str());
            prop_assert_eq!(percent_decode_str(&there).decode_utf8().unwrap(), text);
        }
    }
}
