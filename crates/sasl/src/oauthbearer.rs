//! OAUTHBEARER (RFC 7628): a bearer token in one message, and what is wrong with it in one more.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use countersign::{
    Answers, BoxExchange, Carrier, Denial, Exchange, Fault, Mechanism, Public, Reason, Scene,
    Secret, Step,
};

use crate::{carried, scram};

/// Separates the pairs (RFC 7628 §3.1), and is all of a client's answer to an error.
pub(crate) const SEPARATOR: u8 = 1;

/// Carries the mechanism `bearer` in one message.
#[derive(Clone, Debug, Default)]
pub struct OAuthBearer {
    scope: Option<String>,
    discovery: Option<String>,
}

impl OAuthBearer {
    /// With nothing to say about where tokens come from.
    pub fn new() -> Self {
        Self::default()
    }

    /// The carrier, telling whom it refuses which scope a token must have.
    #[must_use]
    pub fn scoped(self, scope: impl Into<String>) -> Self {
        Self { scope: Some(scope.into()), ..self }
    }

    /// The carrier, telling whom it refuses where the issuer describes itself: an address that ends in
    /// `/.well-known/openid-configuration`.
    #[must_use]
    pub fn discoverable(self, address: impl Into<String>) -> Self {
        Self { discovery: Some(address.into()), ..self }
    }

    /// What is said to whom is refused (RFC 7628 §3.2.2).
    fn error(&self) -> String {
        let mut json = String::from("{\"status\":\"invalid_token\"");
        for (name, value) in [("scope", &self.scope), ("openid-configuration", &self.discovery)] {
            if let Some(value) = value {
                json += &format!(",\"{name}\":{}", quoted(value));
            }
        }
        json + "}"
    }
}

impl Carrier for OAuthBearer {
    fn name(&self) -> &str {
        "OAUTHBEARER"
    }

    fn carries(&self) -> &str {
        Mechanism::BEARER
    }

    fn carry(&self, inner: BoxExchange) -> BoxExchange {
        TokenExchange::begin(inner, self.error(), |message| {
            let message = OAuthBearerMessage::parse(message)?;
            Ok(Shown {
                claimed: message.authzid.map(Cow::into_owned),
                token: message.token.map(Secret::from),
            })
        })
    }
}

/// A client's message (RFC 7628 §3.1).
#[derive(Clone, PartialEq, Eq)]
pub struct OAuthBearerMessage<'a> {
    /// Whether the client says that it could bind to the channel: `y` in place of `n`.
    pub could_bind: bool,
    /// Whom to act as.
    pub authzid: Option<Cow<'a, str>>,
    /// Where the client believes to be connected to: `host` and `port`, as they were sent.
    pub host: Option<&'a str>,
    /// See [`OAuthBearerMessage::host`].
    pub port: Option<&'a str>,
    /// The token; none: the client has none yet, and asks where to get one.
    pub token: Option<&'a str>,
}

impl<'a> OAuthBearerMessage<'a> {
    /// Parses a message.
    ///
    /// # Errors
    ///
    /// [`Reason::Malformed`] when the message breaks the grammar, has a pair twice, or shows something else than
    /// a bearer token.
    pub fn parse(message: &'a [u8]) -> Result<Self, Denial> {
        let bad = malformed;
        let text = text(message)?;
        let (header, pairs) = text.split_once('\u{1}').ok_or_else(|| bad("no pairs"))?;
        let (flag, rest) = header.split_once(',').ok_or_else(|| bad("no GS2 header"))?;
        let could_bind = match flag {
            "n" => false,
            "y" => true,
            // There is no variant that binds (RFC 7628 §3.1).
            _ => return Err(bad("a channel binding, which it has none of")),
        };
        let authzid = match rest.strip_suffix(',').ok_or_else(|| bad("no GS2 header"))? {
            "" => None,
            some => {
                let escaped = some.strip_prefix("a=").ok_or_else(|| bad("no GS2 header"))?;
                let name = scram::unescape(escaped)?;
                carried::name(name.as_bytes(), "the name to act as")?;
                Some(name)
            }
        };
        let mut found = Self { could_bind, authzid, host: None, port: None, token: None };
        let mut auth = None;
        each_pair(pairs, |key, value| {
            let known = match key {
                "host" => &mut found.host,
                "port" => &mut found.port,
                "auth" => &mut auth,
                // Others may come with other tokens (§3.1).
                _ => return Ok(()),
            };
            match known.replace(value) {
                None => Ok(()),
                Some(_) => Err(bad("a pair is there twice")),
            }
        })?;
        let auth = auth.ok_or_else(|| bad("no `auth`"))?;
        found.token = if auth.is_empty() { None } else { Some(bearer(auth)?) };
        Ok(found)
    }
}

/// As it is sent, but for pairs that nothing here knows.
impl fmt::Display for OAuthBearerMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.could_bind { "y," } else { "n," })?;
        if let Some(authzid) = &self.authzid {
            write!(f, "a={}", scram::escape(authzid))?;
        }
        f.write_str(",\u{1}")?;
        for (key, value) in [("host", self.host), ("port", self.port)] {
            value.iter().try_for_each(|value| write!(f, "{key}={value}\u{1}"))?;
        }
        match self.token {
            Some(token) => write!(f, "auth=Bearer {token}\u{1}\u{1}"),
            None => f.write_str("auth=\u{1}\u{1}"),
        }
    }
}

impl fmt::Debug for OAuthBearerMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OAuthBearerMessage(as {:?})", self.authzid)
    }
}

/// What a message has shown.
pub(crate) struct Shown {
    /// Who the peer says it is.
    pub(crate) claimed: Option<String>,
    /// What it shows for it.
    pub(crate) token: Option<Secret>,
}

type Read = fn(&[u8]) -> Result<Shown, Denial>;

/// The exchange of both carriers: a message, and for who is refused an error that it acknowledges.
pub(crate) struct TokenExchange {
    inner: Option<BoxExchange>,
    error: Arc<str>,
    read: Read,
    waits_for: WaitsFor,
}

enum WaitsFor {
    Beginning,
    Message,
    Acknowledgement(Denial),
}

impl TokenExchange {
    pub(crate) fn begin(inner: BoxExchange, error: String, read: Read) -> BoxExchange {
        let waits_for = WaitsFor::Beginning;
        BoxExchange::new(Self { inner: Some(inner), error: error.into(), read, waits_for })
    }

    async fn shown(&mut self, shown: Shown, scene: &Scene<'_>) -> Result<Step, Fault> {
        let Some(inner) = self.inner.take() else {
            return Err(Fault::internal("a token's exchange was stepped after its end"));
        };
        let Some(token) = shown.token else {
            let denial = Denial::new(Reason::Declined).because("no token; asked where to get one");
            return Ok(self.refuse(denial));
        };
        let claimed = shown.claimed.as_deref();
        let scene = Scene { claimed: claimed.or(scene.claimed), ..*scene };
        let end = carried::Carried::bearer(inner, token).drive(&scene).await?;
        Ok(match (end, claimed) {
            (Step::Deny(denial), Some(name)) => match Step::Deny(denial).claiming(name) {
                Step::Deny(denial) => self.refuse(denial),
                other => other,
            },
            (Step::Deny(denial), None) => self.refuse(denial),
            (end, _) => end,
        })
    }

    /// Who may have another token is told so first. That now is not the time, no token changes.
    fn refuse(&mut self, denial: Denial) -> Step {
        if denial.public() != Public::Denied {
            return Step::Deny(denial);
        }
        self.waits_for = WaitsFor::Acknowledgement(denial);
        Step::Ask(carried::round_with(Some(self.error.as_bytes())))
    }
}

impl Exchange for TokenExchange {
    async fn step(&mut self, mut answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        match std::mem::replace(&mut self.waits_for, WaitsFor::Message) {
            WaitsFor::Beginning => Ok(Step::Ask(carried::token_round())),
            WaitsFor::Message => {
                let token = match carried::token(&mut answers) {
                    Ok(token) => token,
                    Err(denial) => return Ok(Step::Deny(denial)),
                };
                match (self.read)(token.expose()) {
                    Ok(shown) => self.shown(shown, scene).await,
                    Err(denial) => Ok(Step::Deny(denial)),
                }
            }
            // Whatever it answers: RFC 7628 §3.2.3 wants one byte, Google's clients send none.
            WaitsFor::Acknowledgement(denial) => Ok(Step::Deny(denial)),
        }
    }
}

/// A message that is all text.
pub(crate) fn text(message: &[u8]) -> Result<&str, Denial> {
    std::str::from_utf8(message).map_err(|_| malformed("the message is not UTF-8"))
}

/// Calls with each `KEY=VALUE SEPARATOR`; one more separator is the end.
pub(crate) fn each_pair<'a>(
    pairs: &'a str,
    mut with: impl FnMut(&'a str, &'a str) -> Result<(), Denial>,
) -> Result<(), Denial> {
    let end = char::from(SEPARATOR);
    let mut rest = pairs;
    while let Some((pair, after)) = rest.split_once(end) {
        if pair.is_empty() {
            return if after.is_empty() { Ok(()) } else { Err(malformed("something at the end")) };
        }
        let (key, value) = pair.split_once('=').ok_or_else(|| malformed("a pair without `=`"))?;
        let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphabetic());
        let is_value = |byte: u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~');
        if !is_key || !value.bytes().all(is_value) {
            return Err(malformed("a pair that is none"));
        }
        with(key, value)?;
        rest = after;
    }
    Err(malformed("no end"))
}

/// The token of `Bearer TOKEN` (RFC 6750 §2.1).
pub(crate) fn bearer(auth: &str) -> Result<&str, Denial> {
    let (scheme, token) = auth.split_once(' ').ok_or_else(|| malformed("no token"))?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(malformed("the token is no bearer token"));
    }
    let body = token.trim_end_matches('=');
    let legal = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
    };
    match !body.is_empty() && body.bytes().all(legal) {
        true => Ok(token),
        false => Err(malformed("the token has bytes that no token has (RFC 6750)")),
    }
}

pub(crate) fn malformed(detail: &'static str) -> Denial {
    Denial::new(Reason::Malformed).because(detail)
}

/// A text in JSON's quotes.
pub(crate) fn quoted(text: &str) -> String {
    let mut json = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => json.extend(['\\', letter]),
            control if control.is_control() => json += &format!("\\u{:04x}", u32::from(control)),
            plain => json.push(plain),
        }
    }
    json + "\""
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    /// RFC 7628 §4.1 and §4.2.
    #[test]
    fn the_messages_of_the_rfc() {
        let message = "bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9MTQzAWF1dGg9QmVhcmVyI\
                       HZGOWRmdDRxbVRjMk52YjNSbGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB";
        let message = STANDARD.decode(message).unwrap();
        let read = OAuthBearerMessage::parse(&message).unwrap();
        assert_eq!(read.authzid.as_deref(), Some("user@example.com"));
        assert_eq!((read.host, read.port), (Some("server.example.com"), Some("143")));
        assert_eq!(read.token, Some("vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="));
        assert_eq!(read.to_string().as_bytes(), message);
        let carrier = OAuthBearer::new()
            .scoped("example_scope")
            .discoverable("https://example.com/.well-known/openid-configuration");
        assert_eq!(
            carrier.error(),
            "{\"status\":\"invalid_token\",\"scope\":\"example_scope\",\
             \"openid-configuration\":\"https://example.com/.well-known/openid-configuration\"}"
        );
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let good = "n,,\u{1}auth=Bearer a.b-c_d~e+f/g==\u{1}\u{1}";
        assert!(OAuthBearerMessage::parse(good.as_bytes()).is_ok());
        for (from, to) in [
            ("n,,", "p=tls-exporter,,"),
            ("n,,", "n,"),
            ("n,,", "n,a=,"),
            ("n,,", "n,a=x=2,"),
            ("n,,", "n,b=x,"),
            ("n,,", "n,a=x\n,"),
            ("auth=", "host=a\u{1}host=b\u{1}auth="),
            ("auth=", "auth=Bearer a\u{1}auth="),
            ("auth=", "x1=a\u{1}auth="),
            ("auth=", "x=\u{e4}\u{1}auth="),
            ("auth=", "uath="),
            ("auth=", "auth"),
            ("Bearer ", "MAC "),
            ("Bearer ", "Bearer"),
            ("a.b", "a b"),
            ("a.b", "a=b"),
            ("a.b-c_d~e+f/g", ""),
            ("\u{1}\u{1}", "\u{1}"),
            ("\u{1}\u{1}", "\u{1}\u{1}x"),
        ] {
            let bad = good.replace(from, to);
            let denial = OAuthBearerMessage::parse(bad.as_bytes()).unwrap_err();
            assert_eq!(denial.reason, Reason::Malformed, "{bad:?}");
            assert!(!format!("{denial:?}").contains("c_d~e"), "{denial:?}");
        }
        for bad in [&b""[..], b"\x01", b"n,,", b"\xff"] {
            assert!(OAuthBearerMessage::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn nothing_breaks_out_of_quotes() {
        assert_eq!(quoted("a\"b\\c\n\u{e4}"), "\"a\\\"b\\\\c\\u000a\u{e4}\"");
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = OAuthBearerMessage::parse(&bytes);
        }

        #[test]
        fn what_is_printed_is_parsed(
            could_bind: bool,
            authzid in prop::option::of("[^\\p{C}]{1,20}"),
            host in prop::option::of("[ -~]{0,9}"),
            token in prop::option::of("[-._~+/a-zA-Z0-9]{1,20}={0,2}"),
        ) {
            let message = OAuthBearerMessage {
                could_bind,
                authzid: authzid.map(Cow::Owned),
                host: host.as_deref(),
                port: None,
                token: token.as_deref(),
            };
            let written = message.to_string();
            prop_assert_eq!(OAuthBearerMessage::parse(written.as_bytes()).unwrap(), message);
        }
    }
}
