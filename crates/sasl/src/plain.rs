//! PLAIN (RFC 4616): authorization identity, user name and password in one message.

use countersign::{
    Answers, BoxExchange, Carrier, Denial, Exchange, Fault, Mechanism, Reason, Scene, Secret, Step,
};

use crate::carried;

/// Carries the mechanism `password` in one message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Carrier for Plain {
    fn name(&self) -> &str {
        "PLAIN"
    }

    fn carries(&self) -> &str {
        Mechanism::PASSWORD
    }

    fn carry(&self, inner: BoxExchange) -> BoxExchange {
        BoxExchange::new(PlainExchange { inner: Some(inner), asked: false })
    }

    fn claimed<'a>(&self, message: &'a Secret) -> Option<&'a str> {
        Some(PlainMessage::parse(message.expose()).ok()?.authcid)
    }
}

/// `[authzid] NUL authcid NUL password`, checked (RFC 4616 §2).
#[derive(Clone, Copy)]
pub struct PlainMessage<'a> {
    /// Whom to act as; empty: as oneself.
    pub authzid: &'a str,
    /// The user name.
    pub authcid: &'a str,
    /// The password. Any bytes but NUL, which would be a separator.
    pub password: &'a [u8],
}

impl<'a> PlainMessage<'a> {
    /// Parses a message.
    ///
    /// # Errors
    ///
    /// [`Reason::Malformed`] when there are not exactly two NULs, or a name is no legal name.
    pub fn parse(message: &'a [u8]) -> Result<Self, Denial> {
        let mut parts = message.split(|byte| *byte == 0);
        let (Some(authzid), Some(authcid), Some(password), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            let detail = "a PLAIN message has exactly two NULs (RFC 4616)";
            return Err(Denial::new(Reason::Malformed).because(detail));
        };
        let authcid = carried::name(authcid, "the user name")?;
        let authzid = match authzid {
            [] => "",
            some => carried::name(some, "the name to act as")?,
        };
        Ok(Self { authzid, authcid, password })
    }
}

impl std::fmt::Debug for PlainMessage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PlainMessage({:?} as {:?})", self.authcid, self.authzid)
    }
}

struct PlainExchange {
    inner: Option<BoxExchange>,
    asked: bool,
}

impl Exchange for PlainExchange {
    async fn step(&mut self, mut answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        if !std::mem::replace(&mut self.asked, true) {
            return Ok(Step::Ask(carried::token_round()));
        }
        let token = match carried::token(&mut answers) {
            Ok(token) => token,
            Err(denial) => return Ok(Step::Deny(denial)),
        };
        let message = match PlainMessage::parse(token.expose()) {
            Ok(message) => message,
            Err(denial) => return Ok(Step::Deny(denial)),
        };
        if !message.authzid.is_empty() && message.authzid != message.authcid {
            let detail = format!("{} may not act as {}", message.authcid, message.authzid);
            let denial = Denial::new(Reason::NotAllowed).because(detail);
            return Ok(Step::Deny(denial).claiming(message.authcid));
        }
        let Some(inner) = self.inner.take() else {
            return Err(Fault::internal("PLAIN was stepped after its end"));
        };
        let password = Secret::from(message.password);
        carried::Carried::new(inner, message.authcid, password).drive(scene).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_exactly_two_nuls() {
        let good = PlainMessage::parse(b"\0tim\0tanstaaftanstaaf").unwrap();
        assert_eq!((good.authzid, good.authcid), ("", "tim"));
        assert_eq!(good.password, b"tanstaaftanstaaf");
        let with_authzid = PlainMessage::parse(b"Ursel\0Kurt\0xipj3plmq").unwrap();
        assert_eq!((with_authzid.authzid, with_authzid.authcid), ("Ursel", "Kurt"));
        assert_eq!(PlainMessage::parse(b"\0a\0").unwrap().password, b"");
        for bad in [&b""[..], b"a", b"\0a", b"\0a\0b\0c", b"\0\0b", b"\0a\nb\0c", b"\0\xff\0c"] {
            let denial = PlainMessage::parse(bad).unwrap_err();
            assert_eq!(denial.reason, Reason::Malformed, "{bad:?}");
        }
    }
}
