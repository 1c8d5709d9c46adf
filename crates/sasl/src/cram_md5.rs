//! CRAM-MD5 (RFC 2195): a keyed MD5 of the server's challenge. Old, and still spoken by clients that speak
//! nothing better; it needs the password itself in the store, and proves nothing about the server.

use std::sync::{Arc, LazyLock};

use countersign::{
    Answers, BoxExchange, Denial, Exchange, Fault, Mechanism, Need, Reason, Scene, Step, TextStore,
};
use hmac::Hmac;
use md5::Md5;

use crate::{Decoys, carried, scram, text};

/// The description of the mechanism.
pub static CRAM_MD5: LazyLock<Mechanism> =
    LazyLock::new(|| carried::mechanism("CRAM-MD5", &[Need::PasswordText]));

/// The server's side of CRAM-MD5.
pub struct CramMd5<S> {
    store: Arc<S>,
    decoys: Arc<Decoys>,
    /// Empty before the challenge.
    challenge: Vec<u8>,
}

/// `NAME SP DIGEST`: what a client answers (RFC 2195 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CramMd5Message<'a> {
    /// The user name. It may hold blanks.
    pub name: &'a str,
    /// 32 hexadecimal digits.
    pub digest: &'a str,
}

impl<'a> CramMd5Message<'a> {
    /// Parses a message.
    ///
    /// # Errors
    ///
    /// [`Reason::Malformed`].
    pub fn parse(message: &'a [u8]) -> Result<Self, Denial> {
        let bad = || {
            let detail =
                "a CRAM-MD5 message is a name, a blank and 32 hexadecimal digits (RFC 2195)";
            Denial::new(Reason::Malformed).because(detail)
        };
        let blank = message.iter().rposition(|byte| *byte == b' ').ok_or_else(bad)?;
        let (name, digest) = (&message[..blank], &message[blank + 1..]);
        let name = carried::name(name, "the user name")?;
        let digest = text::hex_digits(digest, 32).ok_or_else(bad)?;
        Ok(Self { name, digest })
    }
}

impl<S: TextStore> CramMd5<S> {
    /// The exchange alone, for a checker that offers CRAM-MD5 beside other mechanisms.
    pub fn exchange(store: Arc<S>, decoys: Arc<Decoys>) -> BoxExchange {
        BoxExchange::new(Self { store, decoys, challenge: Vec::new() })
    }
}

/// `<RANDOM.TIME@localhost>`: a challenge as CRAM-MD5 and APOP want it, and never again. What stands behind
/// the `@` means nothing to anybody.
pub fn challenge(scene: &Scene<'_>) -> String {
    let mut random = [0; 16];
    scene.world.fill(&mut random);
    format!("<{}.{}@localhost>", crate::hex(&random), scene.now.unix)
}

impl<S: TextStore> Exchange for CramMd5<S> {
    async fn step(&mut self, mut answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        if self.challenge.is_empty() {
            let asked = scene.challenged.filter(|challenge| !challenge.is_empty());
            self.challenge = asked.map_or_else(|| challenge(scene).into_bytes(), <[u8]>::to_vec);
            return Ok(Step::Ask(carried::round_with(Some(&self.challenge))));
        }
        let token = match carried::token(&mut answers) {
            Ok(token) => token,
            Err(denial) => return Ok(Step::Deny(denial)),
        };
        let message = match CramMd5Message::parse(token.expose()) {
            Ok(message) => message,
            Err(denial) => return Ok(Step::Deny(denial)),
        };
        let hmac = |password: &[u8]| scram::mac::<Hmac<Md5>>(password, &self.challenge);
        text::check(&*self.store, &self.decoys, message.name, message.digest, hmac).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 2195 §2.
    #[test]
    fn the_example_of_the_rfc() {
        let challenge = b"<1896.697170952@postoffice.reston.mci.net>";
        let message = CramMd5Message::parse(b"tim b913a602c7eda7a495b4e6e7334d3890").unwrap();
        let digest = crate::hex(&scram::mac::<Hmac<Md5>>(b"tanstaaftanstaaf", challenge));
        assert_eq!((message.name, message.digest), ("tim", digest.as_str()));
    }

    #[test]
    fn a_name_may_hold_blanks_and_nothing_else_may_be_odd() {
        let digest = "b913a602c7eda7a495b4e6e7334d3890";
        let of = |text: String| CramMd5Message::parse(text.as_bytes()).map(|m| m.name.to_owned());
        assert_eq!(of(format!("t i m {digest}")).unwrap(), "t i m");
        for bad in [
            format!("tim{digest}"),
            format!(" {digest}"),
            format!("tim {digest}0"),
            format!("tim {}", &digest[1..]),
            format!("tim {}x", &digest[1..]),
            format!("t\tm {digest}"),
            String::new(),
        ] {
            assert_eq!(of(bad).unwrap_err().reason, Reason::Malformed);
        }
    }
}
