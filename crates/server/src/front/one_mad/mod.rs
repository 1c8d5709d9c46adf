//! The driver manager of OpenNebula, in the place of its `one_auth_mad`. Contract:
//! `docs/protocols/opennebula.md`, statements M1 to M20.
//!
//! oned starts it, writes requests to its standard input and reads the answers. A request that is not answered
//! costs a user of oned 90 seconds, so each is, within a deadline of ours; a message that is wrong is answered at once.

mod manager;

pub use manager::{Ended, Manager, ManagerLimits};
