//! Why an administrator's request was not done.

use countersign_checkers::pool::PoolError;
use countersign_store::StoreError;

/// An administrator's request that was refused or failed. The text names the field and the remedy, and
/// holds no secret: it may be shown to the administrator as it is.
#[derive(Debug)]
#[non_exhaustive]
pub enum AdminError {
    /// A value breaks a rule.
    Invalid {
        /// The field as it is called in a request: `name`, `password`, `expires`.
        field: &'static str,
        /// The rule, and what to do.
        why: String,
    },
    /// The password could not be hashed now.
    Hash(PoolError),
    /// The store refused or failed.
    Store(StoreError),
}

/// What a front end tells of an [`AdminError`] in its own codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminErrorKind {
    /// The request itself is wrong.
    Invalid,
    /// What it is about does not exist.
    NotFound,
    /// What is there already is in the way, or what would be left is too little.
    Exists,
    /// The same request may succeed later.
    TryLater,
    /// Something is broken.
    Broken,
}

impl AdminError {
    pub(super) fn invalid(field: &'static str, why: impl Into<String>) -> Self {
        Self::Invalid { field, why: why.into() }
    }

    /// Which of five things went wrong.
    pub fn kind(&self) -> AdminErrorKind {
        match self {
            Self::Invalid { .. } | Self::Hash(PoolError::Hash(_)) => AdminErrorKind::Invalid,
            Self::Store(StoreError::Invalid { .. } | StoreError::TooMany { .. }) => {
                AdminErrorKind::Invalid
            }
            Self::Store(StoreError::NotFound { .. }) => AdminErrorKind::NotFound,
            Self::Store(StoreError::Exists { .. } | StoreError::LastAdministrator) => {
                AdminErrorKind::Exists
            }
            Self::Hash(PoolError::Busy | PoolError::TooLate | PoolError::Closed) => {
                AdminErrorKind::TryLater
            }
            Self::Store(error) if error.is_temporary() => AdminErrorKind::TryLater,
            Self::Hash(_) | Self::Store(_) => AdminErrorKind::Broken,
        }
    }
}

impl std::fmt::Display for AdminError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Invalid { field, why } => write!(f, "{field}: {why}"),
            Self::Hash(error) => error.fmt(f),
            Self::Store(error) => {
                error.fmt(f)?;
                f.write_str(match error {
                    StoreError::NotFound { what: "user", .. } => {
                        " (names are compared exactly, capitals included)"
                    }
                    StoreError::NotFound { what: "group", .. } => {
                        ": add it first, or have missing groups created"
                    }
                    StoreError::Exists { what: "user", .. } => {
                        ": choose another name, or change the one that is there"
                    }
                    _ => "",
                })
            }
        }
    }
}

impl std::error::Error for AdminError {}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<PoolError> for AdminError {
    fn from(error: PoolError) -> Self {
        Self::Hash(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_to_do() {
        let missing = AdminError::from(StoreError::NotFound { what: "user", name: "Ada".into() });
        assert_eq!(missing.kind(), AdminErrorKind::NotFound);
        assert!(missing.to_string().contains("`Ada` (names are compared exactly"));
        assert_eq!(AdminError::from(PoolError::Busy).kind(), AdminErrorKind::TryLater);
        let invalid = AdminError::invalid("password", "is too short");
        assert_eq!(invalid.to_string(), "password: is too short");
    }
}
