//! `[checker.unix.NAME]` and `unix[:FOLDER]`. Reference: `docs/guide/unix.md`.

use std::path::PathBuf;
use std::sync::Arc;

use countersign::Mechanism;
use serde::Deserialize;

use super::{Building, CheckerSettings, Form, Kind, Parts, read};
use crate::unix::Unix;

pub(super) fn kind() -> Kind {
    Kind::new("unix", "users of the machine, in passwd and shadow")
        .proving(&[Mechanism::PASSWORD])
        .explained(
            "Users of /etc/passwd with passwords in /etc/shadow, which only root and one group can read. Locked,\n\
             expired and aged accounts are refused, as shadow(5) says.\n\
             \n\
             FOLDER is another place of `passwd`, `shadow` and `group`.",
        )
        .shown("unix")
        .from_table(|value, base| {
            let settings: UnixSettings = read(value)?;
            Ok(Box::new(UnixSettings { folder: base.join(settings.folder) }))
        })
        .from_argument(Form::Optional("FOLDER"), |argument| {
            let folder = argument.text();
            let folder = if folder.is_empty() { etc() } else { folder.into() };
            Ok(Box::new(UnixSettings { folder }))
        })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UnixSettings {
    #[serde(default = "etc")]
    folder: PathBuf,
}

fn etc() -> PathBuf {
    "/etc".into()
}

impl CheckerSettings for UnixSettings {
    fn build<'a>(&'a self, name: &'a str, parts: &'a Parts) -> Building<'a> {
        Box::pin(async move {
            let (pool, world) = (Arc::clone(&parts.pool), Arc::clone(&parts.world));
            Ok(Arc::new(Unix::open(&self.folder, pool, world)?.checker(name)) as _)
        })
    }

    fn describe(&self) -> String {
        format!("users of the machine, in {}", self.folder.display())
    }
}
