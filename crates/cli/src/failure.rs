//! How a command ends that did not do what it was asked for.

use std::process::ExitCode;

use countersign::{Cancelled, Fault};
use countersign_checkers::kinds::AuthError;
use countersign_server::admin::{AdminError, AdminErrorKind};
use countersign_server::config::ConfigError;
use countersign_store::StoreError;

/// One clear message for standard error, and an exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// 1: refused. What was asked for is not so, not there, or not allowed.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }

    /// 2: the command line, or what was given with it, is not what it should be.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, message: message.into() }
    }

    /// 3: something is broken or out of reach.
    pub(crate) fn broken(message: impl Into<String>) -> Self {
        Self { code: 3, message: message.into() }
    }

    /// Tells it.
    pub(crate) fn report(self) -> ExitCode {
        // The configuration's errors are drawn, and say so themselves.
        let mark = if self.message.starts_with("error") { "" } else { "error: " };
        eprintln!("{mark}{}", self.message);
        ExitCode::from(self.code)
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        match error.kind() {
            AdminErrorKind::TryLater | AdminErrorKind::Broken => Self::broken(error.to_string()),
            _ => Self::refused(error.to_string()),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        AdminError::from(error).into()
    }
}

impl From<AuthError> for Failure {
    fn from(error: AuthError) -> Self {
        let message = format!("--auth: {error}");
        match error {
            AuthError::Broken { .. } => Self::broken(message),
            _ => Self::usage(message),
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::broken(fault.to_string())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::refused(error.to_string())
    }
}

impl From<Cancelled> for Failure {
    fn from(cancelled: Cancelled) -> Self {
        Self::refused(cancelled.to_string())
    }
}
