//! Where a peer's programs are.

use std::path::{Path, PathBuf};

use crate::{Outcome, Trouble};

/// Debian keeps daemons where a plain user's PATH does not look.
const EXTRA: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The path of an installed program.
///
/// # Errors
/// [`Trouble::NotRun`], naming the Debian `package` that has it.
pub fn need(program: &str, package: &str) -> Outcome<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(EXTRA.iter().map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .ok_or_else(|| {
            Trouble::not_run(format!("`{program}` is not here; install the package {package}"))
        })
}

/// Some peers change their user and cannot be started otherwise.
///
/// # Errors
/// [`Trouble::NotRun`] unless we are root.
pub fn need_root(what: &str) -> Outcome {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Trouble::not_run(format!("{what} can be started by root only")))
}

/// The folder where `cargo xtask test` unpacks packages that cannot be installed beside each
/// other: `COUNTERSIGN_PEERS`, else `peers` in the target folder that we were built into.
pub fn peers_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("COUNTERSIGN_PEERS") {
        return PathBuf::from(folder);
    }
    target_folder().join("peers")
}

/// The target folder of the running program: the one above `debug` or `release`.
pub(crate) fn target_folder() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    let profile = exe
        .ancestors()
        .find(|folder| folder.file_name().is_some_and(|name| name == "debug" || name == "release"));
    profile.and_then(Path::parent).map_or_else(|| PathBuf::from("target"), Path::to_path_buf)
}
