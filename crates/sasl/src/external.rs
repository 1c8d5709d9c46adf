//! EXTERNAL (RFC 4422 appendix A): the proof was made by a lower layer.

use std::sync::{Arc, LazyLock};

use countersign::{
    Answers, BoxExchange, Checker, Denial, Directory, Exchange, Fault, Mechanism, Need, Reason,
    Scene, Step, not_offered,
};

use crate::carried;

/// Lets in whom a lower layer has authenticated ([`Peer::external`](countersign::Peer)), if the
/// directory knows the name.
#[derive(Debug)]
pub struct External<D> {
    name: String,
    directory: Arc<D>,
}

impl<D: Directory> External<D> {
    /// The mechanism's name.
    pub const NAME: &'static str = "EXTERNAL";

    /// A checker of that name over a directory.
    pub fn new(name: impl Into<String>, directory: Arc<D>) -> Self {
        Self { name: name.into(), directory }
    }

    /// The exchange alone, for a checker that offers EXTERNAL beside other mechanisms.
    pub fn exchange(directory: Arc<D>) -> BoxExchange {
        BoxExchange::new(ExternalExchange { directory, asked: false })
    }
}

/// The description of the mechanism.
pub static EXTERNAL: LazyLock<Mechanism> =
    LazyLock::new(|| carried::mechanism("EXTERNAL", &[Need::Directory]));

impl<D: Directory> Checker for External<D> {
    fn name(&self) -> &str {
        &self.name
    }

    fn mechanisms(&self) -> &[Mechanism] {
        std::slice::from_ref(&EXTERNAL)
    }

    fn begin(&self, mechanism: &str, _: &Scene<'_>) -> Result<BoxExchange, Fault> {
        if !EXTERNAL.is(mechanism) {
            return Err(not_offered(&self.name, mechanism));
        }
        Ok(Self::exchange(Arc::clone(&self.directory)))
    }
}

struct ExternalExchange<D> {
    directory: Arc<D>,
    asked: bool,
}

impl<D: Directory> Exchange for ExternalExchange<D> {
    async fn step(&mut self, mut answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        if !std::mem::replace(&mut self.asked, true) {
            return Ok(Step::Ask(carried::token_round()));
        }
        let token = match carried::token(&mut answers) {
            Ok(token) => token,
            Err(denial) => return Ok(Step::Deny(denial)),
        };
        // The name comes from the lower layer and never from the peer, whose message may only repeat it.
        let Some(proven) = &scene.peer.more.external else {
            let detail = "no lower layer has authenticated this peer";
            return Ok(Step::Deny(Denial::new(Reason::NotAllowed).because(detail)));
        };
        if !token.is_empty() && token.expose() != proven.as_bytes() {
            let detail = format!("{proven} may not act as another");
            return Ok(Step::Deny(Denial::new(Reason::NotAllowed).because(detail)));
        }
        if let Err(denial) = carried::name(proven.as_bytes(), "the name that the lower layer gives")
        {
            return Ok(Step::Deny(denial));
        }
        Ok(Step::from(self.directory.find(proven).await?).claiming(proven))
    }
}
