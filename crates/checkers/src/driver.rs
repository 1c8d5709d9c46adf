//! `[checker.driver.NAME]`: any executable as a checker of passwords, in OpenNebula's way
//! (`docs/protocols/opennebula.md`), or one that stays (`docs/protocols/driver.md`).
//!
//! Drivers are processes of a [`Launcher`], which confines them and ends whatever they leave. [`Exec`] runs one for
//! each login; [`Persistent`] asks one that stays. How many run at a time, how many logins may wait and how long, and how long a driver may take, is each
//! driver's own ([`DriverLimits`]): one that hangs delays no other.

mod exec;
mod judged;
mod output;
mod persistent;
mod places;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

pub use countersign_worker::{Access, Confinement, Launcher, Launchers, Limits, Program, User};
pub use exec::{Exec, ExecSettings, Observed, Seen};
pub use judged::{Account, Belief, Driven};
pub use persistent::{Persistent, PersistentChecker, PersistentSettings};

/// How much of a driver there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriverLimits {
    /// Processes at a time; at least one.
    pub processes: usize,
    /// Logins that wait for a process. One more is refused at once.
    pub queue: usize,
    /// How long a login waits for a process.
    pub queue_time: Duration,
    /// How long a login may take, once there is a process for it. The process is then killed.
    pub time: Duration,
}

impl Default for DriverLimits {
    /// 15 processes, as OpenNebula's manager has; 1,000 that wait, for 4 seconds; and 5 for each: a mail server
    /// gives up after 10.
    fn default() -> Self {
        Self {
            processes: 15,
            queue: 1000,
            queue_time: Duration::from_secs(4),
            time: Duration::from_secs(5),
        }
    }
}

/// Whether a driver's executable is there.
///
/// # Errors
/// What is wrong with it, and what to do.
pub fn check(program: &Path) -> Result<(), String> {
    let path = program.display();
    if !program.is_absolute() {
        return Err(format!("{path} is no absolute path"));
    }
    let meta = program.metadata().map_err(|error| format!("{path}: {error}"))?;
    if !meta.is_file() {
        return Err(format!("{path} is no file"));
    }
    if meta.permissions().mode() & 0o111 == 0 {
        return Err(format!("{path} is not executable; `chmod +x` makes it so"));
    }
    Ok(())
}
