//! SCRAM (RFC 5802, RFC 7677): both sides prove that they know keys of a password, which crosses no wire.

mod hash;
mod message;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::{
    Answers, BoxExchange, Denial, Exchange, Fault, Mechanism, Need, Reason, Round, Scene,
    ScramKeys, ScramStore, Step, Verdict,
};
use subtle::ConstantTimeEq;

pub(crate) use self::hash::mac;
pub use self::hash::{ScramHash, keys_from_text, keys_to_text};
pub use self::message::{Binding, ClientFinal, ClientFirst, ServerError};
pub(crate) use self::message::{escape, unescape};
use crate::{Decoys, carried, prep, text};

/// Random bytes in a nonce of ours; a multiple of three, so that base64 has no padding.
const NONCE: usize = 18;

impl ScramHash {
    /// The description of the mechanism, with channel binding or without.
    pub fn description(self, plus: bool) -> Mechanism {
        let name = if plus { self.plus() } else { self.mechanism() };
        carried::mechanism(name, &[Need::ScramKeys])
    }
}

/// The server's side of SCRAM.
///
/// Channel bindings are those of [`Facts::channel_bindings`](countersign::Facts). A client that takes us for
/// one without `-PLUS` where the connection has any is refused: somebody has removed it from the list. So
/// whoever offers SCRAM on such a connection offers both.
pub struct Scram<S> {
    store: Arc<S>,
    decoys: Arc<Decoys>,
    hash: ScramHash,
    plus: bool,
    waits_for: WaitsFor,
}

enum WaitsFor {
    Beginning,
    First,
    Final(Box<Challenged>),
    /// The peer's empty answer to our signature.
    Acknowledgement(Box<Proven>),
    Over,
}

/// Who was shown a salt.
struct Challenged {
    login: String,
    /// Keys of a user, or decoys.
    keys: ScramKeys,
    known: bool,
    /// What the client must repeat: the header, and the channel binding.
    binding: Vec<u8>,
    nonce: String,
    /// The client's first message without its header, a comma, and ours.
    so_far: String,
}

/// Who has proven to know the keys.
struct Proven {
    login: String,
    keys: ScramKeys,
}

impl<S: ScramStore> Scram<S> {
    /// The exchange alone, for a checker that offers SCRAM beside other mechanisms.
    pub fn exchange(
        store: Arc<S>,
        decoys: Arc<Decoys>,
        hash: ScramHash,
        plus: bool,
    ) -> BoxExchange {
        BoxExchange::new(Self { store, decoys, hash, plus, waits_for: WaitsFor::Beginning })
    }

    async fn first(&mut self, message: &[u8], scene: &Scene<'_>) -> Result<Step, Fault> {
        let first = match ClientFirst::parse(message) {
            Ok(first) => first,
            Err(denial) => return Ok(Step::Deny(denial)),
        };
        let Some(login) = prep::name(&first.name).map(|name| name.into_owned()) else {
            let error = ServerError::InvalidUsernameEncoding;
            return Ok(Step::Deny(error.denial("no user can have the name")));
        };
        let refuse = |denial| Ok(Step::Deny(denial).claiming(&login));
        let mut binding = first.header.as_bytes().to_vec();
        match self.bound(&first.binding, scene) {
            Ok(bytes) => binding.extend_from_slice(bytes),
            Err(denial) => return refuse(denial),
        }
        let oneself = |authzid: &str| prep::name(authzid).as_deref() == Some(login.as_str());
        if first.authzid.as_deref().is_some_and(|authzid| !oneself(authzid)) {
            let detail = format!("{login} may not act as another");
            return refuse(Denial::new(Reason::NotAllowed).because(detail));
        }
        let found = self.store.keys(&login, self.hash.name()).await?;
        if found.is_none()
            && scene.followed
            && let Verdict::Not(denial) = self.store.find(&login).await?
            && denial.reason.is_unknown()
        {
            // The next checker is shown the same message.
            return refuse(denial);
        }
        let decoys = self.decoys.keys(&login, self.hash);
        let known = found.is_some();
        let keys = found.unwrap_or(decoys);
        let mut random = [0; NONCE];
        scene.world.fill(&mut random);
        let nonce = format!("{}{}", first.nonce, STANDARD.encode(random));
        let ours = format!("r={nonce},s={},i={}", STANDARD.encode(&keys.salt), keys.iterations);
        let so_far = format!("{},{ours}", first.bare);
        let challenged = Challenged { login, keys, known, binding, nonce, so_far };
        self.waits_for = WaitsFor::Final(Box::new(challenged));
        Ok(Step::Ask(carried::round_with(Some(ours.as_bytes()))))
    }

    /// The channel binding that the client says it uses.
    fn bound<'a>(&self, binding: &Binding<'_>, scene: &Scene<'a>) -> Result<&'a [u8], Denial> {
        let bindings = &scene.peer.more.channel_bindings;
        match (binding, self.plus) {
            (Binding::To(kind), true) => {
                let known =
                    bindings.get::<str>(kind).map(Vec::as_slice).filter(|bytes| !bytes.is_empty());
                known.ok_or_else(|| {
                    let detail = format!("`{kind}` is not known of this connection");
                    ServerError::UnsupportedChannelBindingType.denial(&detail)
                })
            }
            (_, true) => {
                let detail = "the client chose a mechanism with channel binding and does not bind";
                Err(ServerError::ChannelBindingsDontMatch.denial(detail))
            }
            (Binding::To(_), false) => {
                let detail = "the client binds, and chose a mechanism that does not";
                Err(ServerError::ChannelBindingNotSupported.denial(detail))
            }
            (Binding::Unoffered, false) if !bindings.is_empty() => {
                let detail = "the client was not offered the channel binding that we have";
                Err(ServerError::ServerDoesSupportChannelBinding.denial(detail))
            }
            (Binding::Unoffered | Binding::Cannot, false) => Ok(&[]),
        }
    }

    async fn last(&mut self, message: &[u8], challenged: Challenged) -> Result<Step, Fault> {
        let Challenged { login, keys, known, binding, nonce, so_far } = challenged;
        let refuse = |denial| Ok(Step::Deny(denial).claiming(&login));
        let last = match ClientFinal::parse(message) {
            Ok(last) => last,
            Err(denial) => return refuse(denial),
        };
        if last.nonce != nonce {
            return refuse(ServerError::OtherError.denial("another nonce than ours"));
        }
        if !bool::from(last.binding.ct_eq(&binding)) {
            let detail = "the channel, or the first message, is another at the client's end";
            return refuse(ServerError::ChannelBindingsDontMatch.denial(detail));
        }
        let auth_message = format!("{so_far},{}", last.without_proof);
        let right = self.hash.proves(&last.proof, &keys, auth_message.as_bytes());
        let signature = self.hash.hmac(keys.server_key.expose(), auth_message.as_bytes());
        if !(right & known) {
            // Whether there is such a user is for the record, and asked in either case.
            let verdict = self.store.find(&login).await?;
            return refuse(text::wrong(verdict, known, "no keys for SCRAM are kept of this user"));
        }
        let message = format!("v={}", STANDARD.encode(signature));
        let round = Round::telling(message.into_bytes(), &login);
        self.waits_for = WaitsFor::Acknowledgement(Box::new(Proven { login, keys }));
        Ok(Step::ask(round))
    }

    /// What was verified must still be what counts.
    async fn settle(&self, proven: Proven) -> Result<Step, Fault> {
        let Proven { login, keys } = proven;
        let now = self.store.keys(&login, self.hash.name()).await?;
        let same = now.is_some_and(|now| now.stored_key == keys.stored_key);
        if !same {
            let detail = "the password was changed during this login";
            let denial = Denial::new(Reason::WrongCredential).because(detail);
            return Ok(Step::Deny(denial).claiming(&login));
        }
        Ok(Step::from(self.store.find(&login).await?).claiming(&login))
    }
}

impl<S: ScramStore> Exchange for Scram<S> {
    async fn step(&mut self, mut answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        let waits_for = std::mem::replace(&mut self.waits_for, WaitsFor::Over);
        if let WaitsFor::Beginning = waits_for {
            self.waits_for = WaitsFor::First;
            return Ok(Step::Ask(carried::token_round()));
        }
        let token = match carried::token(&mut answers) {
            Ok(token) => token,
            Err(denial) => return Ok(Step::Deny(denial)),
        };
        match waits_for {
            WaitsFor::First => self.first(token.expose(), scene).await,
            WaitsFor::Final(challenged) => self.last(token.expose(), *challenged).await,
            WaitsFor::Acknowledgement(proven) if token.is_empty() => self.settle(*proven).await,
            WaitsFor::Acknowledgement(proven) => {
                let denial = ServerError::OtherError.denial("words after the last message");
                Ok(Step::Deny(denial).claiming(&proven.login))
            }
            WaitsFor::Beginning | WaitsFor::Over => {
                Err(Fault::internal("SCRAM was stepped after its end"))
            }
        }
    }
}
