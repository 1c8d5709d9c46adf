//! OpenNebula: what oned and its driver manager start.

pub(crate) mod authenticate;
pub(crate) mod manager;

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

/// OpenNebula starts programs by their file's name and with arguments of its own, so a link to this program is
/// told by what it is called. `None`: it is called otherwise.
pub(crate) fn by_name(called: Option<&OsStr>) -> Option<ExitCode> {
    match Path::new(called?).file_name()?.to_str()? {
        "authenticate" => Some(authenticate::run_as_driver()),
        "one_auth_mad" => Some(manager::run_as_manager()),
        _ => None,
    }
}
