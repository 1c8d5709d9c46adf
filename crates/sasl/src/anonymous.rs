//! ANONYMOUS (RFC 4505): nobody in particular, with a trace of who it says it is.

use std::sync::LazyLock;

use countersign::{
    Answers, BoxExchange, Checker, Denial, Exchange, Fault, Identity, Mechanism, Reason, Scene,
    Step, Verified, not_offered,
};

use crate::carried;

/// Lets in everybody who asks for it by name, as [`Subject::Anonymous`](countersign::Subject). To configure
/// it is the whole policy.
///
/// The trace that the peer gives is recorded as the name it claimed. It proves nothing.
#[derive(Debug)]
pub struct Anonymous {
    name: String,
}

impl Anonymous {
    /// A checker of that name.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// The exchange alone, for a checker that offers ANONYMOUS beside other mechanisms.
    pub fn exchange() -> BoxExchange {
        BoxExchange::new(AnonymousExchange { asked: false })
    }
}

/// The description of the mechanism.
pub static ANONYMOUS: LazyLock<Mechanism> = LazyLock::new(|| carried::mechanism("ANONYMOUS", &[]));

impl Checker for Anonymous {
    fn name(&self) -> &str {
        &self.name
    }

    fn mechanisms(&self) -> &[Mechanism] {
        std::slice::from_ref(&ANONYMOUS)
    }

    fn begin(&self, mechanism: &str, _: &Scene<'_>) -> Result<BoxExchange, Fault> {
        if !ANONYMOUS.is(mechanism) {
            return Err(not_offered(&self.name, mechanism));
        }
        Ok(Self::exchange())
    }
}

/// A trace (RFC 4505 §2 and §3): an address or a word, at most 255 characters, none of them a control
/// character or otherwise unfit to be shown.
///
/// # Errors
///
/// [`Reason::Malformed`].
pub fn trace(message: &[u8]) -> Result<&str, Denial> {
    const LONGEST: usize = 255;
    // What may not be in it (appendix A): control characters, surrogates and the like, marks that change how
    // text is shown, tags. The tables are those of SASLprep, and none of its mappings.
    let unfit = |letter: char| {
        use stringprep::tables;
        tables::ascii_control_character(letter)
            || tables::non_ascii_control_character(letter)
            || tables::private_use(letter)
            || tables::non_character_code_point(letter)
            || tables::inappropriate_for_plain_text(letter)
            || tables::inappropriate_for_canonical_representation(letter)
            || tables::change_display_properties_or_deprecated(letter)
            || tables::tagging_character(letter)
    };
    let bad = |detail| Denial::new(Reason::Malformed).because(detail);
    let text = std::str::from_utf8(message).map_err(|_| bad("the trace is not UTF-8"))?;
    if text.chars().count() > LONGEST {
        return Err(bad("the trace has more than 255 characters (RFC 4505)"));
    }
    if text.chars().any(unfit) {
        return Err(bad("the trace has characters that are not to be shown (RFC 4505)"));
    }
    Ok(text)
}

struct AnonymousExchange {
    asked: bool,
}

impl Exchange for AnonymousExchange {
    async fn step(&mut self, mut answers: Answers, _: &Scene<'_>) -> Result<Step, Fault> {
        if !std::mem::replace(&mut self.asked, true) {
            return Ok(Step::Ask(carried::token_round()));
        }
        let token = match carried::token(&mut answers) {
            Ok(token) => token,
            Err(denial) => return Ok(Step::Deny(denial)),
        };
        let step = Step::Grant(Verified::vouch(Identity::anonymous()));
        Ok(match trace(token.expose()) {
            Ok("") => step,
            Ok(trace) => step.claiming(trace),
            Err(denial) => Step::Deny(denial),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_short_and_can_be_shown() {
        assert_eq!(trace(b"sirhc").unwrap(), "sirhc");
        assert_eq!(trace("jo@exämple.com".as_bytes()).unwrap(), "jo@exämple.com");
        assert_eq!(trace(b"").unwrap(), "");
        assert!(trace("ä".repeat(255).as_bytes()).is_ok());
        for bad in ["a\nb", "a\0", "\u{202e}x", "\u{e000}", "\u{e0041}", &"a".repeat(256)] {
            assert_eq!(trace(bad.as_bytes()).unwrap_err().reason, Reason::Malformed, "{bad:?}");
        }
        assert!(trace(b"\xff").is_err());
    }
}
