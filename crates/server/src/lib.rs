//! The Countersign server: front ends, policy, audit, configuration.
//!
//! A front end ([`front`]) turns its protocol's bytes into requests and answers for the [`engine`], and
//! the engine's turns into bytes. The engine holds a portal over the configured checkers
//! ([`registry`]), the store, and the audit record.
#![forbid(unsafe_code)]

pub mod admin;
pub mod audit;
pub mod config;
pub mod control;
pub mod engine;
pub mod front;
pub mod groups;
pub mod housekeeping;
pub mod identity;
mod listeners;
pub mod live;
pub mod metrics;
pub mod minds;
#[cfg(feature = "oidc")]
pub mod oidc;
pub mod paths;
pub mod realm;
pub mod registry;
pub mod run;
pub mod sessions;
pub mod status;
pub mod systemd;
pub mod telemetry;
pub mod throttle;
/// The machine's own clocks and entropy.
pub use countersign_checkers::world;
