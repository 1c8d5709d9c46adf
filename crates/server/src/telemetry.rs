//! Traces of logins for an OpenTelemetry collector, in builds with the feature `otel`.
//!
//! One login is one span, with a child for each step of a checker and for each wait for the peer. While it
//! is under way it holds their names and times, and when it is in the record they go into a bounded queue,
//! which a task of its own empties: no login waits for a collector. What a trace holds is in
//! `docs/guide/telemetry.md`. Without the feature everything here does nothing and takes no room.

#[cfg(feature = "otel")]
mod export;
#[cfg(not(feature = "otel"))]
mod off;
#[cfg(feature = "otel")]
mod span;
#[cfg(feature = "otel")]
mod trace;

#[cfg(not(feature = "otel"))]
pub use off::Telemetry;
#[cfg(not(feature = "otel"))]
pub(crate) use off::{Ended, Trace};
#[cfg(feature = "otel")]
pub use trace::Telemetry;
#[cfg(feature = "otel")]
pub(crate) use trace::{Ended, Trace};

/// How many logins' traces became what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceCounts {
    /// Taken by the collector.
    pub sent: u64,
    /// Lost: the collector was away or too slow.
    pub lost: u64,
}
