//! The names of a record's older parts: `audit.jsonl.1` is the newest of them.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// The rotated files of a record that are there, newest first, with their numbers.
pub(super) fn rotated(path: &Path) -> Vec<(u64, PathBuf)> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .flatten()
        .filter_map(|entry| Some((number(&entry.file_name(), name)?, entry.path())))
        .collect();
    found.sort();
    found
}

/// Renames every rotated file to the next number, so that the first is free.
pub(super) fn make_room(path: &Path) -> io::Result<()> {
    // Those after a gap stay: a try before this one got so far.
    let run = rotated(path).into_iter().zip(1..).take_while(|((number, _), n)| number == n);
    let run: Vec<_> = run.map(|((number, file), _)| (number, file)).collect();
    for (number, file) in run.iter().rev() {
        std::fs::rename(file, numbered(path, number + 1))?;
    }
    Ok(())
}

/// Makes the next file beside the one in place, with its mode and, where that is allowed, its group.
pub(super) fn fresh(path: &Path) -> io::Result<File> {
    let new = being_made(path);
    match std::fs::symlink_metadata(&new) {
        // A server that was killed left it.
        Ok(found) if found.is_file() && found.len() == 0 => std::fs::remove_file(&new)?,
        Ok(_) => {
            let why = format!("{} is in the way; move it away", new.display());
            return Err(io::Error::new(ErrorKind::AlreadyExists, why));
        }
        Err(_) => {}
    }
    let mut options = OpenOptions::new();
    options.append(true).create_new(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
    let file = options.open(&new)?;
    let old = std::fs::symlink_metadata(path)?;
    // First the group: changing it would take away bits of the mode.
    let _ = std::os::unix::fs::fchown(&file, None, Some(old.gid()));
    file.set_permissions(std::fs::Permissions::from_mode(old.mode() & 0o777))?;
    Ok(file)
}

/// Gives the file in place its number, and the one that was made beside it its name.
pub(super) fn put_in_place(path: &Path) -> io::Result<()> {
    let (first, new) = (numbered(path, 1), being_made(path));
    // Two names for a moment, so that there is never none.
    if std::fs::hard_link(path, &first).is_err() {
        // A file system without links.
        std::fs::rename(path, &first)?;
    }
    std::fs::rename(&new, path).inspect_err(|_| {
        let _ = match path.exists() {
            true => std::fs::remove_file(&first),
            false => std::fs::rename(&first, path),
        };
    })
}

/// Takes back the number of a file that is still in its place: a server was killed between the two.
pub(super) fn undo_half_done(path: &Path) {
    let first = numbered(path, 1);
    let identity = |path: &Path| {
        let found = std::fs::symlink_metadata(path).ok()?;
        Some((found.dev(), found.ino()))
    };
    if let (Some(here), Some(there)) = (identity(path), identity(&first))
        && here == there
    {
        let _ = std::fs::remove_file(&first);
    }
}

/// Removes rotated files that are too many, or whose last record is too old.
pub(super) fn remove_old(path: &Path, files: Option<usize>, days: Option<u32>, unix: i64) {
    for (position, (_, file)) in rotated(path).into_iter().enumerate() {
        let too_many = files.is_some_and(|files| position >= files);
        let too_old = || {
            let modified = std::fs::symlink_metadata(&file).and_then(|found| found.modified());
            let Some(written) = modified.ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok())
            else {
                return false;
            };
            let written = i64::try_from(written.as_secs()).unwrap_or(i64::MAX);
            days.is_some_and(|days| unix.saturating_sub(written) > i64::from(days) * 86_400)
        };
        if (too_many || too_old())
            && let Err(error) = std::fs::remove_file(&file)
        {
            tracing::error!(path = %file.display(), %error, "cannot remove an old audit file");
        }
    }
}

pub(super) fn numbered(path: &Path, number: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn being_made(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// The number of a rotated file, if it is one of this record's.
fn number(found: &OsStr, name: &OsStr) -> Option<u64> {
    let digits = found.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b".")?;
    let digits = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with(['0', '+']))?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn rotate(path: &Path, text: &str) {
        std::fs::write(path, text).unwrap();
        make_room(path).unwrap();
        fresh(path).unwrap();
        put_in_place(path).unwrap();
    }

    #[test]
    fn numbers_rise_with_age_and_others_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        for stranger in ["a.01", "a.1x", "a.", "b.1", "a.gz"] {
            std::fs::write(folder.path().join(stranger), "stranger").unwrap();
        }
        for text in ["one", "two", "three"] {
            rotate(&path, text);
        }
        let read = |number| std::fs::read_to_string(numbered(&path, number)).unwrap();
        assert_eq!([read(1), read(2), read(3)], ["three", "two", "one"]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
        remove_old(&path, Some(2), None, i64::MAX);
        let left = ["a", "a.", "a.01", "a.1", "a.1x", "a.2", "a.gz", "b.1"];
        assert_eq!(names(folder.path()), left);
        remove_old(&path, None, Some(1), 0);
        assert_eq!(rotated(&path).len(), 2);
        remove_old(&path, None, Some(1), i64::MAX);
        assert!(rotated(&path).is_empty());
    }

    #[test]
    fn the_mode_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "one").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        rotate(&path, "two");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
    }

    #[test]
    fn what_was_killed_half_way_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "one").unwrap();
        fresh(&path).unwrap();
        std::fs::hard_link(&path, numbered(&path, 1)).unwrap();
        undo_half_done(&path);
        assert_eq!(names(folder.path()), ["a", "a.new"]);
        rotate(&path, "one");
        assert_eq!(names(folder.path()), ["a", "a.1"]);
        // One that somebody else put there is not thrown away.
        std::fs::write(being_made(&path), "mine").unwrap();
        assert!(fresh(&path).unwrap_err().to_string().contains("in the way"));
    }
}
