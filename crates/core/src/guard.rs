//! A guard: hears of every guess, and can refuse one before any checker is asked.

use crate::{Denial, Scene};

/// What stands before the checkers and counts guesses: a throttle.
///
/// It is asked without waiting: a guard that needs a database keeps a copy in memory. Each proof that a peer
/// offers is a guess; every guess that was admitted ends with one call of [`Guard::ended`].
pub trait Guard: Send + Sync + 'static {
    /// Whether this guess may be made. `login` is the name that the peer claims, or has proven with an
    /// earlier factor; it is empty where a token comes without one. `proof` is what it offers, where that is
    /// the same each time it is offered: a password, and not a signature.
    ///
    /// Gives a mark that tells equal proofs from different ones, for [`Guard::ended`].
    ///
    /// # Errors
    ///
    /// The refusal: [`Reason::Throttled`](crate::Reason), with the time to wait.
    fn admit(&self, scene: &Scene<'_>, login: &str, proof: Option<&[u8]>) -> Result<u64, Denial>;

    /// How an admitted guess ended.
    fn ended(&self, scene: &Scene<'_>, login: &str, mark: u64, end: GuessEnd);
}

/// How a guess ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuessEnd {
    /// Proven, and the login is granted.
    Granted,
    /// Proven, and more is asked.
    Proven,
    /// Wrong: the user is unknown, or the proof is.
    Wrong,
    /// Neither: something broke, the account is disabled, the peer gave up.
    Undecided,
}
