//! Whom drivers run as.

use std::path::Path;

use crate::driver::User;

/// `NAME`, with the groups of passwd(5) and group(5) in that folder; or `UID:GID`, with no others.
///
/// # Errors
/// That there is none, and what to write.
pub(super) fn user(text: &str, folder: &Path) -> Result<User, String> {
    if let Some((uid, gid)) = text.split_once(':') {
        return match (uid.parse(), gid.parse()) {
            (Ok(uid), Ok(gid)) => Ok(User { uid, gid, groups: Vec::new() }),
            _ => Err("numbers are written UID:GID, such as \"9869:9869\"".into()),
        };
    }
    let read = |file: &str| {
        let path = folder.join(file);
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let passwd = read("passwd")?;
    let row = |line: &str| {
        let mut fields = line.split(':');
        let (name, uid, gid) = (fields.next()?, fields.nth(1)?, fields.next()?);
        (name == text).then_some((uid.parse().ok()?, gid.parse().ok()?))
    };
    let (uid, gid) = passwd.lines().find_map(row).ok_or_else(|| {
        format!("there is no user `{text}` in {}/passwd; write UID:GID", folder.display())
    })?;
    let group = read("group")?;
    let of = |line: &str| {
        let mut fields = line.split(':');
        let (number, members) = (fields.nth(2)?, fields.next()?);
        members.split(',').any(|member| member == text).then(|| number.parse().ok())?
    };
    let groups = group.lines().filter_map(of).filter(|&other| other != gid).collect();
    Ok(User { uid, gid, groups })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_name_or_number() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("passwd"),
            "root:x:0:0::/:\none:x:9869:9869:One:/:/bin/sh\n",
        )
        .unwrap();
        std::fs::write(
            folder.path().join("group"),
            "disk:x:6:a,one\none:x:9869:one\nkvm:x:7:onetwo\n",
        )
        .unwrap();
        let found = |text| user(text, folder.path());
        assert_eq!(found("one"), Ok(User { uid: 9869, gid: 9869, groups: vec![6] }));
        assert_eq!(found("7:8"), Ok(User { uid: 7, gid: 8, groups: vec![] }));
        assert!(found("two").unwrap_err().contains("write UID:GID"));
        assert!(found("one:one").unwrap_err().contains("UID:GID"));
    }
}
