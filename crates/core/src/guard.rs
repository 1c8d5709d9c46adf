//! A guard: hears of every guess, and can refuse one before any checker is asked.

use crate::{Denial, Scene};

/// What stands before the checkers and counts guesses: a throttle.
///
/// It is asked without waiting: a guard that needs a database keeps a copy in memory. One attempt is
/// asked for at [`Guard::admit`] once for every proof that the peer offers, and ends with one call of
/// [`Guard::ended`] for each that was admitted.
pub trait Guard: Send + Sync + 'static {
    /// Whether this guess may be made at all.
    ///
    /// # Errors
    ///
    /// The refusal; [`Reason::Throttled`](crate::Reason) with the time to wait.
    fn admit(&self, guess: &Guess<'_>) -> Result<(), Denial>;

    /// How an admitted guess ended.
    fn ended(&self, guess: &Guess<'_>, end: GuessEnd);
}

/// One proof that a peer offers.
#[derive(Clone, Copy, Debug)]
pub struct Guess<'a> {
    /// The world and the peer.
    pub scene: &'a Scene<'a>,
    /// The name that the peer claims, or has proven with an earlier factor.
    pub login: &'a str,
    /// Tells equal proofs apart from different ones: a hash, keyed for this process, of what was offered.
    /// None where the proof never is twice the same.
    pub mark: Option<u64>,
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
