//! The client's two messages (RFC 5802 §7), parsed and printed.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::{Denial, Reason};

/// A message is at most so long: a name of 255 bytes, escaped, and a nonce are far from it.
const LONGEST: usize = 4096;
const LONGEST_NONCE: usize = 512;

/// Why an exchange fails, as the server's last message names it (`server-error-value`, RFC 5802 §7).
///
/// SMTP, IMAP, POP3 and the Dovecot protocol have no room for it: a failure is a failure. It begins the detail
/// of the refusal, which the audit record has; a protocol with room for it asks [`ServerError::of`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerError {
    /// Not UTF-8, not base64, not the grammar.
    InvalidEncoding,
    /// An extension that must be understood (`m=`).
    ExtensionsNotSupported,
    /// The proof is wrong, or the user unknown: which one, nobody is told.
    InvalidProof,
    /// The channel at the client's end is another than ours.
    ChannelBindingsDontMatch,
    /// The client saw no `-PLUS` where we offer one: somebody in between took it away.
    ServerDoesSupportChannelBinding,
    /// The client binds to a channel where there is none.
    ChannelBindingNotSupported,
    /// A binding of a type that is not known of this connection.
    UnsupportedChannelBindingType,
    /// The name is none.
    InvalidUsernameEncoding,
    /// Anything else.
    OtherError,
}

impl ServerError {
    const ALL: [Self; 9] = [
        Self::InvalidEncoding,
        Self::ExtensionsNotSupported,
        Self::InvalidProof,
        Self::ChannelBindingsDontMatch,
        Self::ServerDoesSupportChannelBinding,
        Self::ChannelBindingNotSupported,
        Self::UnsupportedChannelBindingType,
        Self::InvalidUsernameEncoding,
        Self::OtherError,
    ];

    /// The value after `e=`.
    pub fn value(self) -> &'static str {
        match self {
            Self::InvalidEncoding => "invalid-encoding",
            Self::ExtensionsNotSupported => "extensions-not-supported",
            Self::InvalidProof => "invalid-proof",
            Self::ChannelBindingsDontMatch => "channel-bindings-dont-match",
            Self::ServerDoesSupportChannelBinding => "server-does-support-channel-binding",
            Self::ChannelBindingNotSupported => "channel-binding-not-supported",
            Self::UnsupportedChannelBindingType => "unsupported-channel-binding-type",
            Self::InvalidUsernameEncoding => "invalid-username-encoding",
            Self::OtherError => "other-error",
        }
    }

    /// The value for a refusal: what the peer did itself, or else no more than "wrong".
    pub fn of(denial: &Denial) -> Self {
        let word = denial.detail.split(':').next().unwrap_or_default();
        match denial.reason {
            Reason::UnknownUser | Reason::WrongCredential => Self::InvalidProof,
            Reason::Malformed | Reason::NotAllowed => {
                let named = Self::ALL.into_iter().find(|error| error.value() == word);
                named.unwrap_or(Self::OtherError)
            }
            _ => Self::OtherError,
        }
    }

    /// The refusal, with words for the operator.
    pub(crate) fn denial(self, detail: &str) -> Denial {
        let reason = match self {
            Self::InvalidProof => Reason::WrongCredential,
            Self::ChannelBindingsDontMatch
            | Self::ServerDoesSupportChannelBinding
            | Self::ChannelBindingNotSupported
            | Self::UnsupportedChannelBindingType => Reason::NotAllowed,
            _ => Reason::Malformed,
        };
        Denial::new(reason).because(format!("{}: {detail}", self.value()))
    }
}

/// Whether and how a client binds to the channel (`gs2-cbind-flag`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding<'a> {
    /// `n`: the client cannot.
    Cannot,
    /// `y`: it can, and believes that the server cannot.
    Unoffered,
    /// `p=`: it does, by this type.
    To(&'a str),
}

/// The client's first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFirst<'a> {
    /// About the channel.
    pub binding: Binding<'a>,
    /// Whom to act as, as it was sent but for the escapes. Empty or absent: as oneself.
    pub authzid: Option<Cow<'a, str>>,
    /// The user name, as it was sent but for the escapes.
    pub name: Cow<'a, str>,
    /// The client's nonce.
    pub nonce: &'a str,
    /// Optional extensions, which nothing here knows, each with its comma before.
    pub extensions: &'a str,
    /// What came before the name: it returns in the client's next message.
    pub(crate) header: &'a str,
    /// All but that.
    pub(crate) bare: &'a str,
}

/// The client's last message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFinal<'a> {
    /// The header of the first message, and the channel binding.
    pub binding: Vec<u8>,
    /// Both nonces.
    pub nonce: &'a str,
    /// Optional extensions, which nothing here knows, each with its comma before.
    pub extensions: &'a str,
    /// The proof.
    pub proof: Vec<u8>,
    /// All but the proof.
    pub(crate) without_proof: &'a str,
}

impl<'a> ClientFirst<'a> {
    /// Parses a message.
    ///
    /// # Errors
    ///
    /// [`Reason::Malformed`], beginning with the server error's value.
    pub fn parse(message: &'a [u8]) -> Result<Self, Denial> {
        let text = text(message)?;
        let bad = |detail| ServerError::InvalidEncoding.denial(detail);
        let (flag, rest) = text.split_once(',').ok_or_else(|| bad("no GS2 header"))?;
        let binding = match flag {
            "n" => Binding::Cannot,
            "y" => Binding::Unoffered,
            _ => match flag.strip_prefix("p=") {
                Some(kind) if is_binding_name(kind) => Binding::To(kind),
                _ => return Err(bad("no channel binding flag")),
            },
        };
        let (authzid, bare) = rest.split_once(',').ok_or_else(|| bad("no GS2 header"))?;
        let header = &text[..text.len() - bare.len()];
        let authzid = match authzid {
            "" => None,
            some => {
                let escaped = some.strip_prefix("a=").ok_or_else(|| bad("no GS2 header"))?;
                Some(unescape(escaped)?)
            }
        };
        if bare.starts_with("m=") {
            let detail = "an extension that must be understood";
            return Err(ServerError::ExtensionsNotSupported.denial(detail));
        }
        let escaped = bare.strip_prefix("n=").ok_or_else(|| bad("no user name"))?;
        let (name, rest) = escaped.split_once(',').ok_or_else(|| bad("no nonce"))?;
        let (nonce, extensions) = nonce(rest)?;
        check_extensions(extensions)?;
        let name = unescape(name)?;
        Ok(Self { binding, authzid, name, nonce, extensions, header, bare })
    }
}

impl fmt::Display for ClientFirst<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.binding {
            Binding::Cannot => f.write_str("n,")?,
            Binding::Unoffered => f.write_str("y,")?,
            Binding::To(kind) => write!(f, "p={kind},")?,
        }
        if let Some(authzid) = &self.authzid {
            write!(f, "a={}", escape(authzid))?;
        }
        write!(f, ",n={},r={}{}", escape(&self.name), self.nonce, self.extensions)
    }
}

impl<'a> ClientFinal<'a> {
    /// Parses a message.
    ///
    /// # Errors
    ///
    /// [`Reason::Malformed`], beginning with the server error's value.
    pub fn parse(message: &'a [u8]) -> Result<Self, Denial> {
        let text = text(message)?;
        let bad = |detail| ServerError::InvalidEncoding.denial(detail);
        let (binding, rest) = text
            .strip_prefix("c=")
            .and_then(|rest| rest.split_once(','))
            .ok_or_else(|| bad("no channel binding"))?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or_else(|| bad("no proof"))?;
        // The proof comes last, and its letters are no comma.
        let rest = rest.strip_suffix(proof).and_then(|rest| rest.strip_suffix(",p="));
        let (nonce, extensions) = nonce(rest.ok_or_else(|| bad("no nonce"))?)?;
        check_extensions(extensions)?;
        let decoded = |text: &str| STANDARD.decode(text).map_err(|_| bad("no base64"));
        let (binding, proof) = (decoded(binding)?, decoded(proof)?);
        Ok(Self { binding, nonce, extensions, proof, without_proof })
    }
}

impl fmt::Display for ClientFinal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoded = |bytes: &[u8]| STANDARD.encode(bytes);
        let (binding, proof) = (encoded(&self.binding), encoded(&self.proof));
        write!(f, "c={binding},r={}{},p={proof}", self.nonce, self.extensions)
    }
}

fn text(message: &[u8]) -> Result<&str, Denial> {
    let bad = |detail| Err(ServerError::InvalidEncoding.denial(detail));
    match std::str::from_utf8(message) {
        _ if message.len() > LONGEST => bad("the message is too long"),
        Ok(text) if !text.contains('\0') => Ok(text),
        Ok(_) => bad("the message holds a NUL"),
        Err(_) => bad("the message is not UTF-8"),
    }
}

/// `r=NONCE`, and what follows.
fn nonce(text: &str) -> Result<(&str, &str), Denial> {
    let bad = || ServerError::InvalidEncoding.denial("no nonce");
    let rest = text.strip_prefix("r=").ok_or_else(bad)?;
    let (nonce, extensions) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
    let printable = nonce.bytes().all(|byte| byte.is_ascii_graphic());
    let fits = printable && (1..=LONGEST_NONCE).contains(&nonce.len());
    fits.then_some((nonce, extensions)).ok_or_else(bad)
}

/// `,x=VALUE` any number of times.
fn check_extensions(text: &str) -> Result<(), Denial> {
    for extension in text.split(',').skip(1) {
        let mut letters = extension.chars();
        match (letters.next(), letters.next(), letters.next()) {
            (Some('m'), Some('='), _) => {
                let detail = "an extension that must be understood";
                return Err(ServerError::ExtensionsNotSupported.denial(detail));
            }
            (Some(name), Some('='), Some(_)) if name.is_ascii_alphabetic() => {}
            _ => return Err(ServerError::InvalidEncoding.denial("an extension that is none")),
        }
    }
    Ok(())
}

fn is_binding_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    (1..=64).contains(&name.len()) && name.bytes().all(legal)
}

/// A name without its escapes: `=2C` is a comma, `=3D` an equals sign, and nothing else begins with one.
pub(crate) fn unescape(escaped: &str) -> Result<Cow<'_, str>, Denial> {
    let bad = || ServerError::InvalidUsernameEncoding.denial("the name is wrongly escaped");
    if escaped.is_empty() {
        return Err(bad());
    }
    let mut parts = escaped.split('=');
    let first = parts.next().unwrap_or_default();
    if first.len() == escaped.len() {
        return Ok(Cow::Borrowed(escaped));
    }
    let mut name = first.to_owned();
    for part in parts {
        let (letter, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return Err(bad()),
        };
        name.push(letter);
        name.push_str(rest);
    }
    Ok(Cow::Owned(name))
}

pub(crate) fn escape(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(parsed: Result<impl fmt::Debug, Denial>) -> ServerError {
        ServerError::of(&parsed.unwrap_err())
    }

    #[test]
    fn the_message_of_the_rfc() {
        let first = ClientFirst::parse(b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL").unwrap();
        assert_eq!((&*first.name, first.nonce), ("user", "fyko+d2lbbFgONRv9qkxdawL"));
        assert_eq!((first.header, first.bare), ("n,,", "n=user,r=fyko+d2lbbFgONRv9qkxdawL"));
        let last = ClientFinal::parse(b"c=biws,r=abc,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=").unwrap();
        assert_eq!((&*last.binding, last.nonce, last.proof.len()), (&b"n,,"[..], "abc", 20));
        assert_eq!(last.without_proof, "c=biws,r=abc");
    }

    #[test]
    fn names_are_unescaped() {
        let first = ClientFirst::parse(b"p=tls-exporter,a=a=2Cb,n==3Dx=2C,r=1,x=y,z=1").unwrap();
        assert_eq!((&*first.name, first.authzid.as_deref()), ("=x,", Some("a,b")));
        assert_eq!((first.binding, first.extensions), (Binding::To("tls-exporter"), ",x=y,z=1"));
        for bad in ["n,,n=a=2cb,r=1", "n,,n=a=,r=1", "n,,n==4A,r=1", "n,,n=,r=1", "n,a=,n=u,r=1"] {
            let parsed = ClientFirst::parse(bad.as_bytes());
            assert_eq!(error(parsed), ServerError::InvalidUsernameEncoding, "{bad}");
        }
    }

    #[test]
    fn what_must_be_understood_is_refused() {
        for bad in ["n,,m=x,n=u,r=1", "n,,n=u,r=1,m=x", "n,,n=u,r=1,a=b,m=x"] {
            let parsed = ClientFirst::parse(bad.as_bytes());
            assert_eq!(error(parsed), ServerError::ExtensionsNotSupported, "{bad}");
        }
        let parsed = ClientFinal::parse(b"c=biws,r=abc,m=x,p=AAAA");
        assert_eq!(error(parsed), ServerError::ExtensionsNotSupported);
    }

    #[test]
    fn broken_messages_are_refused() {
        for bad in [
            "",
            "n",
            "n,",
            "n,,",
            "n,,n=u",
            "n,,n=u,",
            "n,,n=u,r=",
            "n,,r=1,n=u",
            "x,,n=u,r=1",
            "p=,,n=u,r=1",
            "p=a b,,n=u,r=1",
            "n,b=x,n=u,r=1",
            "n,,n=u,r=a b",
            "n,,n=u,r=1,",
            "n,,n=u,r=1,xy",
            "n,,n=u,r=1,x=",
            "n,,n=u\0,r=1",
        ] {
            assert_eq!(
                error(ClientFirst::parse(bad.as_bytes())),
                ServerError::InvalidEncoding,
                "{bad}"
            );
        }
        for bad in [
            "",
            "c=",
            "c=biws",
            "c=biws,r=1",
            "c=biws,p=AAAA",
            "c=!,r=1,p=AAAA",
            "c=biws,r=1,p=A",
            "r=1,c=biws,p=AAAA",
            "c=biws,r=1,p=AAAA,",
            "c=biws,r=1,p=AAAA,x=y",
        ] {
            assert_eq!(
                error(ClientFinal::parse(bad.as_bytes())),
                ServerError::InvalidEncoding,
                "{bad}"
            );
        }
        assert!(ClientFirst::parse(&[b'a'; LONGEST + 1]).is_err());
        assert!(ClientFirst::parse(b"n,,n=\xff,r=1").is_err());
    }

    #[test]
    fn what_a_peer_hears_does_not_tell_a_wrong_proof_from_an_unknown_name() {
        let of = |reason| ServerError::of(&Denial::new(reason).because("channel: x"));
        assert_eq!(of(Reason::UnknownUser), of(Reason::WrongCredential));
        assert_eq!(of(Reason::Disabled), ServerError::OtherError);
        for error in ServerError::ALL {
            assert_eq!(ServerError::of(&error.denial("words")), error);
        }
    }

    fn name() -> impl Strategy<Value = String> {
        "[a-z=,ä ]{1,12}"
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = (ClientFirst::parse(&bytes), ClientFinal::parse(&bytes));
        }

        #[test]
        fn what_is_parsed_prints_as_it_was(text in "(n|y|p=[a-z-]{1,5}),(a=[a-z]{0,4}(=2C)?)?,n=[a-z]{0,3}(=3D|=2C)?,r=[!-+a-z]{1,9}(,[a-z]=[a-z]{1,3}){0,2}") {
            if let Ok(first) = ClientFirst::parse(text.as_bytes()) {
                prop_assert_eq!(first.to_string(), text.as_str());
                prop_assert_eq!([first.header, first.bare].concat(), text);
            }
        }

        #[test]
        fn what_is_printed_is_parsed(name in name(), authzid in prop::option::of(name()), proof: Vec<u8>, binding: Vec<u8>) {
            let first = ClientFirst {
                binding: Binding::Unoffered, authzid: authzid.map(Into::into), name: name.into(), nonce: "abc",
                extensions: "", header: "", bare: "",
            };
            let text = first.to_string();
            let parsed = ClientFirst::parse(text.as_bytes()).unwrap();
            prop_assert_eq!((&parsed.name, &parsed.authzid), (&first.name, &first.authzid));
            let last = ClientFinal { binding, nonce: "abc", extensions: ",x=y", proof, without_proof: "" };
            let text = last.to_string();
            let parsed = ClientFinal::parse(text.as_bytes());
            if last.proof.len() < 1024 && last.binding.len() < 1024 {
                let parsed = parsed.unwrap();
                prop_assert_eq!((&parsed.proof, &parsed.binding), (&last.proof, &last.binding));
            }
        }
    }
}
