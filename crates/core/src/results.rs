//! What each result of a checker comes to, where several are asked.

use crate::Reason;

/// What the answers of several checkers come to: the usual [`Results`] by one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Order {
    /// The first checker that knows the user decides.
    #[default]
    FirstKnown,
    /// The first success lets in; a wrong credential lets the next be asked. Any other refusal
    /// (disabled, expired, not allowed) is final.
    FirstSuccess,
    /// All must let in, and name the same subject. Groups, labels and attributes are joined.
    All,
}

/// What one result comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Then {
    /// It decides: nobody else is asked.
    End,
    /// It does not count: the next checker is asked.
    Next,
    /// It counts, and the next checker is asked as well: what was granted must not be refused by a later
    /// one, and what was refused stays so, whatever the later ones say.
    Count,
}

/// What each result of one checker comes to. When nobody is left to ask, whoever was granted by a result
/// that counts, and refused by none, is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Results {
    /// The proof is right. [`Then::Next`] is read as [`Then::Count`]: that a proof is right always counts.
    pub granted: Then,
    /// The proof is wrong.
    pub wrong: Then,
    /// The checker does not know the user.
    pub unknown: Then,
    /// Any other refusal: disabled, expired, not allowed.
    pub refused: Then,
    /// The checker could not be asked. [`Then::Next`]: another may let in; if none does, the login fails as a
    /// fault, for this one might have. [`Then::Count`] is read as [`Then::End`].
    pub fault: Then,
}

impl Order {
    /// The results that it stands for.
    pub const fn results(self) -> Results {
        use Then::{Count, End, Next};
        match self {
            Self::FirstKnown => {
                Results { granted: End, wrong: End, unknown: Next, refused: End, fault: End }
            }
            Self::FirstSuccess => {
                Results { granted: End, wrong: Next, unknown: Next, refused: End, fault: End }
            }
            // Where a refusal would end it, a proof that only a later checker refuses would take longer and
            // so be told to be right for the earlier ones.
            Self::All => {
                Results { granted: Count, wrong: Count, unknown: Count, refused: Count, fault: End }
            }
        }
    }
}

impl Results {
    /// What a refusal for this reason comes to.
    pub(crate) fn of(&self, reason: Reason) -> Then {
        match reason {
            Reason::UnknownUser => self.unknown,
            Reason::WrongCredential => self.wrong,
            _ => self.refused,
        }
    }

    /// Whether another checker is asked when this one does not know the user, and only then.
    pub(crate) fn only_unknown_goes_on(&self) -> bool {
        self.unknown == Then::Next && self.wrong == Then::End && self.granted == Then::End
    }
}
