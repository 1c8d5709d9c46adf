//! `[checker.htpasswd.NAME]` and `htpasswd:PATH`. Reference: `docs/guide/htpasswd.md`.

use std::path::PathBuf;
use std::sync::Arc;

use countersign::Mechanism;
use serde::Deserialize;

use super::{Building, CheckerSettings, Form, Kind, Parts, read};
use crate::file::File;
use crate::hash::Accept;
use crate::passwd_file::Format;

pub(super) fn kind() -> Kind {
    Kind::new("htpasswd", "users in a file of Apache's htpasswd")
        .proving(&[Mechanism::PASSWORD])
        .explained(
            "PATH is a file that htpasswd(1) writes: bcrypt (`htpasswd -B`), MD5 (`-m`, `$apr1$`), `{SHA}` (`-s`).\n\
             It is read again when it changes.\n\
             \n\
             Options, after a `?` and with `&` between them:\n\
             \x20 allow_weak=yes   accept crypt(3)'s old hashes (`-d`), which ignore all but eight characters\n\
             \n\
             A `%` or `?` in the path is written %25 or %3F.",
        )
        .shown("htpasswd:/etc/apache2/users")
        .from_table(|value, base| {
            let settings: HtpasswdSettings = read(value)?;
            Ok(Box::new(HtpasswdSettings { path: base.join(&settings.path), ..settings }))
        })
        .from_argument(Form::Required("PATH[?allow_weak=yes]"), |argument| {
            let (path, mut options) = argument.split()?;
            if path.text.is_empty() {
                return Err(path.refused("no path").with_help("write `htpasswd:/etc/apache2/users`"));
            }
            let allow_weak = options.flag("allow_weak", false)?;
            options.end()?;
            Ok(Box::new(HtpasswdSettings { path: path.text.into(), allow_weak }))
        })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HtpasswdSettings {
    path: PathBuf,
    #[serde(default)]
    allow_weak: bool,
}

impl CheckerSettings for HtpasswdSettings {
    fn build<'a>(&'a self, name: &'a str, parts: &'a Parts) -> Building<'a> {
        Box::pin(async move {
            let accept = Accept { allow_weak: self.allow_weak, ..Accept::default() };
            let pool = Arc::clone(&parts.pool);
            let file = File::open(&self.path, Format::htpasswd(), accept, pool)?;
            Ok(Arc::new(file.checker(name)) as _)
        })
    }

    fn describe(&self) -> String {
        format!("users in {}, as htpasswd writes it", self.path.display())
    }
}
