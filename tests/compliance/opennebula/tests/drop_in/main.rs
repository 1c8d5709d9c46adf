//! Countersign in the place of OpenNebula's `one_auth_mad`: started, asked and ended by a scripted oned, which says
//! byte for byte what the oned of each generation says. The drivers are executables in several languages.
//!
//! Alone: `cargo test -p countersign-compliance-opennebula --test drop_in [NAME-PART]`.

mod calls;
mod drivers;
mod generations;
mod limits;
mod oned;

use std::process::ExitCode;

use countersign_interop::{Profile, binary, runner};

fn main() -> ExitCode {
    let cases: Vec<_> = [generations::CASES, drivers::CASES, limits::CASES, calls::CASES].concat();
    // Before the first case's deadline begins. That it cannot be built is for the cases to say.
    if !std::env::args().any(|word| word == "--list") {
        let _ = binary(Profile::Debug);
    }
    runner::main(&cases)
}
