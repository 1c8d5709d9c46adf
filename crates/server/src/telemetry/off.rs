//! What a build without traces does instead: nothing.

use std::pin::Pin;
use std::sync::Arc;

use countersign::{Checker, Peer};

use super::TraceCounts;
use crate::audit::Record;
use crate::config::TelemetryOptions;
use crate::world::SystemWorld;

/// Where traces go: nowhere.
#[derive(Debug, Default)]
pub struct Telemetry;

/// The trace of one login: none.
#[derive(Clone, Debug)]
pub(crate) struct Trace;

/// Traces of logins that have ended: none.
#[derive(Debug, Default)]
pub(crate) struct Ended;

impl Telemetry {
    /// Begins to send traces, if it is to.
    ///
    /// # Errors
    ///
    /// None: a configuration that wants traces is refused when it is read.
    pub fn start(_: Option<&TelemetryOptions>, _: SystemWorld) -> Result<Self, String> {
        Ok(Self)
    }

    /// Whether any login is traced.
    pub fn is_on(&self) -> bool {
        false
    }

    /// What has become of the traces; none: there are none.
    pub fn counts(&self) -> Option<TraceCounts> {
        None
    }

    /// The checker, with its steps in the traces.
    pub fn watch(&self, checker: Arc<dyn Checker>) -> Arc<dyn Checker> {
        checker
    }

    /// Sends what is left.
    pub async fn stop(&self) {}

    pub(crate) fn begin(&self, _: &Peer) -> Trace {
        Trace
    }

    pub(crate) fn end(&self, _: &Trace, _: &Peer, _: &Record<'_>, _: &mut Ended) {}

    pub(crate) fn send(&self, _: &mut Ended, _recorded: bool) {}
}

impl Trace {
    pub(crate) fn none() -> Self {
        Self
    }

    pub(crate) fn during<F: Future>(&self, step: Pin<&mut F>) -> impl Future<Output = F::Output> {
        step
    }

    pub(crate) fn waits(&self) {}

    pub(crate) fn answered(&self) {}
}
