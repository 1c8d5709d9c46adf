//! The checker's half of HTTP Digest.

use std::sync::{Arc, LazyLock};

use countersign::{
    Answers, BoxExchange, Denial, DigestStore, Exchange, Fault, Mechanism, Need, Reason, Scene,
    Secret, Step, Verdict,
};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::hash;
use crate::{Decoys, carried, text};

/// The description of the mechanism.
pub static DIGEST: LazyLock<Mechanism> =
    LazyLock::new(|| carried::mechanism("DIGEST", &[Need::DigestKeys]));

/// Compares a response with what a user's key would make it.
///
/// The name is the request's `claimed`, what the response was computed over is a fact about the peer
/// ([`Facts::digest`](countersign::Facts)), and the response is the answer to the one question. So it works only
/// behind a front end that has a [`Digest`](super::Digest).
pub struct DigestExchange<S> {
    store: Arc<S>,
    decoys: Arc<Decoys>,
    asked: bool,
}

impl<S: DigestStore> DigestExchange<S> {
    /// The exchange alone, for a checker that offers DIGEST beside other mechanisms.
    pub fn exchange(store: Arc<S>, decoys: Arc<Decoys>) -> BoxExchange {
        BoxExchange::new(Self { store, decoys, asked: false })
    }
}

impl<S: DigestStore> Exchange for DigestExchange<S> {
    async fn step(&mut self, answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        let Some(claim) = &scene.peer.more.digest else {
            let detail = "no HTTP Digest header has come with this login";
            return Ok(Step::Deny(Denial::new(Reason::Unsupported).because(detail)));
        };
        let (name, response) = match carried::named_message(&mut self.asked, None, answers, scene) {
            Ok(both) => both,
            Err(step) => return Ok(step),
        };
        let (algorithm, realm) = (claim.algorithm, claim.realm.as_str());
        let unhashed = match claim.userhash {
            true => self.store.unhashed(&name.to_ascii_lowercase(), realm, algorithm).await?,
            false => None,
        };
        let login = unhashed.as_deref().unwrap_or(name);
        let named = !claim.userhash || unhashed.is_some();
        let found = self.store.digest_key(login, realm, algorithm).await?;
        let known = named && found.is_some();
        let key = found.unwrap_or_else(|| self.decoys.digest(login, algorithm));
        let ours = proof(claim, &claim.rest, &key);
        let right = bool::from(ours.expose().ct_eq(response.expose()));
        // Whatever came of it, the store is asked once more.
        let verdict = self.store.find(login).await?;
        let step = match known & right {
            true => {
                if matches!(verdict, Verdict::Is(_)) && !claim.reply.is_empty() {
                    let ours = proof(claim, &claim.reply, &key);
                    // Another checker has said so before: what it said stays.
                    let _ = claim.rspauth.set(ours.to_str().unwrap_or_default().to_owned());
                }
                Step::from(verdict)
            }
            false => {
                Step::Deny(text::wrong(verdict, known, "no key for Digest is kept of this user"))
            }
        };
        Ok(step.claiming(login))
    }
}

/// `H(key ":" rest)` with the key of this claim, in lowercase digits.
fn proof(claim: &countersign::DigestClaim, rest: &str, key: &Secret) -> Secret {
    let join = |key: &Secret, rest: &str| {
        let text = Zeroizing::new([key.expose(), b":", rest.as_bytes()].concat());
        Secret::from(hash::of(claim.algorithm, &text))
    };
    match &claim.session {
        Some(session) => join(&join(key, session), rest),
        None => join(key, rest),
    }
}
