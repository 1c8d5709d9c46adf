//! Where things are when nobody says where.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The data folder of a service that runs as root.
const SYSTEM: &str = "/var/lib/countersign";

/// The account store within a data folder.
pub fn accounts(data: &Path) -> PathBuf {
    data.join("accounts.db")
}

/// The data folder of this process: systemd's `STATE_DIRECTORY`, else `/var/lib/countersign` for root,
/// else the user's own (`XDG_DATA_HOME`, or `.local/share` at home). `None`: the user has no home.
pub fn default_data() -> Option<PathBuf> {
    data_of(|name| std::env::var_os(name), nix::unistd::geteuid().is_root())
}

fn data_of(variable: impl Fn(&str) -> Option<OsString>, root: bool) -> Option<PathBuf> {
    // The XDG base directory specification: a path that is not absolute is to be ignored.
    let folder = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(state) = variable("STATE_DIRECTORY") {
        // systemd separates several by colons; the first is ours.
        let bytes = std::os::unix::ffi::OsStringExt::into_vec(state);
        let first = bytes.split(|byte| *byte == b':').next().unwrap_or_default();
        let first: OsString = std::os::unix::ffi::OsStringExt::from_vec(first.to_vec());
        let first = PathBuf::from(first);
        if first.is_absolute() {
            return Some(first);
        }
    }
    if root {
        return Some(SYSTEM.into());
    }
    folder("XDG_DATA_HOME")
        .or_else(|| folder("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("countersign"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)], root: bool) -> Option<String> {
        let variable = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        };
        data_of(variable, root).map(|path| path.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_platform_says_where() {
        let home = ("HOME", "/home/ada");
        assert_eq!(found(&[home], false).unwrap(), "/home/ada/.local/share/countersign");
        assert_eq!(found(&[home, ("XDG_DATA_HOME", "/x")], false).unwrap(), "/x/countersign");
        let relative = ("XDG_DATA_HOME", "data");
        assert_eq!(found(&[home, relative], false).unwrap(), "/home/ada/.local/share/countersign");
        assert_eq!(found(&[home], true).unwrap(), "/var/lib/countersign");
        let state = ("STATE_DIRECTORY", "/var/lib/private/cs:/var/lib/other");
        assert_eq!(found(&[home, state], false).unwrap(), "/var/lib/private/cs");
        assert_eq!(found(&[("STATE_DIRECTORY", ""), home], true).unwrap(), "/var/lib/countersign");
        assert_eq!(found(&[], false), None);
    }
}
