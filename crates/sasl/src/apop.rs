//! APOP (RFC 1939 §7): an MD5 of the timestamp in POP3's greeting and the password.

use std::sync::{Arc, LazyLock};

use countersign::{
    Answers, BoxExchange, Denial, Exchange, Fault, Mechanism, Need, Reason, Scene, Step, TextStore,
};
use md5::{Digest, Md5};

use crate::{Decoys, carried, text};

/// The description of the mechanism.
pub static APOP: LazyLock<Mechanism> =
    LazyLock::new(|| carried::mechanism("APOP", &[Need::PasswordText]));

/// The server's side of APOP.
///
/// The POP3 server draws a timestamp for each connection ([`challenge`](crate::challenge)), puts it into its
/// greeting and into [`Facts::greeting`](countersign::Facts). The name that the client says `APOP` with is
/// the request's `claimed`, and the one answer is the 32 hexadecimal digits after it.
pub struct Apop<S> {
    store: Arc<S>,
    decoys: Arc<Decoys>,
    asked: bool,
}

impl<S: TextStore> Apop<S> {
    /// The exchange alone, for a checker that offers APOP beside other mechanisms.
    pub fn exchange(store: Arc<S>, decoys: Arc<Decoys>) -> BoxExchange {
        BoxExchange::new(Self { store, decoys, asked: false })
    }
}

impl<S: TextStore> Exchange for Apop<S> {
    async fn step(&mut self, answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        let Some(greeting) = scene.peer.more.greeting.as_deref().filter(|text| !text.is_empty())
        else {
            let detail = "the greeting of this connection held no timestamp";
            return Ok(Step::Deny(Denial::new(Reason::Unsupported).because(detail)));
        };
        let challenge = Some(greeting.as_bytes());
        let (name, token) = match carried::named_message(&mut self.asked, challenge, answers, scene)
        {
            Ok(both) => both,
            Err(step) => return Ok(step),
        };
        let Some(digest) = text::hex_digits(token.expose(), 32) else {
            let detail = "an APOP digest has 32 hexadecimal digits (RFC 1939)";
            let denial = Denial::new(Reason::Malformed).because(detail);
            return Ok(Step::Deny(denial).claiming(name));
        };
        let hash = |password: &[u8]| {
            Md5::new_with_prefix(greeting).chain_update(password).finalize().to_vec()
        };
        text::check(&*self.store, &self.decoys, name, digest, hash).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1939 §7.
    #[test]
    fn the_example_of_the_rfc() {
        let digest = Md5::digest(b"<1896.697170952@dbc.mtview.ca.us>tanstaaf");
        assert_eq!(crate::hex(&digest), "c4c9334bac560ecc979e58001b3e22fb");
    }
}
