//! Why a case did not pass: it failed, or this machine cannot run it.

use std::fmt;

/// What a case, or a step of it, gives.
pub type Outcome<T = ()> = Result<T, Trouble>;

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The peer or the privilege is missing here; the text says which, and the remedy.
    NotRun(String),
    /// It was tried and it is wrong.
    Failed(String),
}

impl Trouble {
    /// The machine lacks something.
    pub fn not_run(why: impl fmt::Display) -> Self {
        Self::NotRun(why.to_string())
    }

    /// The thing under test, or the harness, did the wrong thing.
    pub fn failed(why: impl fmt::Display) -> Self {
        Self::Failed(why.to_string())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRun(why) => write!(f, "not run: {why}"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Trouble {}

/// Says what was being done when an error came.
pub trait Context<T> {
    /// Turns the error into [`Trouble::Failed`] with `doing` in front.
    fn during(self, doing: impl fmt::Display) -> Outcome<T>;
}

impl<T, E: fmt::Display> Context<T> for Result<T, E> {
    fn during(self, doing: impl fmt::Display) -> Outcome<T> {
        self.map_err(|error| Trouble::Failed(format!("{doing}: {error}")))
    }
}

impl<T> Context<T> for Option<T> {
    fn during(self, doing: impl fmt::Display) -> Outcome<T> {
        self.ok_or_else(|| Trouble::Failed(format!("{doing}: nothing there")))
    }
}

/// Fails the case with the formatted text unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err($crate::Trouble::Failed(format!($($text)+)));
        }
    };
}
