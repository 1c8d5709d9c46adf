//! `[checker.sshkey.NAME]` and `sshkey:PATTERN[?…]`. Reference: `docs/guide/ssh-keys.md`.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use countersign::Fault;
use serde::Deserialize;

use super::{Building, CheckerSettings, Form, Kind, Misplaced, Parts, SettingsError, Span, read};
use crate::sshkey::{SshKeyOptions, SshKeys};

/// The kind, with how it is made.
pub(super) fn completed(kind: Kind) -> Kind {
    kind.explained(
        "PATTERN is a file of keys as sshd's AuthorizedKeysFile: %u is the user's name, %h the home folder, and\n\
         a relative path is below the home folder. As everywhere in such a string `%25` may be written for `%`.\n\
         \n\
         Options, after a `?` and with `&` between them:\n\
         \x20 authorities=PATH  keys whose certificates are good for the users that they name\n\
         \x20 revoked=PATH      keys, fingerprints, serials and ids that count no more\n\
         \x20 strict=no         also read files that others can write\n\
         \x20 timeout=TIME      how long reading may take (5s)",
    )
    .shown("sshkey:/home/%u/.ssh/authorized_keys")
    .from_table(|value, base| {
        let place = value.span();
        let table: Table = read(value)?;
        Ok(Box::new(table.settings(base, place)))
    })
    .from_argument(Form::Required("PATTERN[?OPTION=VALUE&…]"), |argument| {
        let place = argument.place();
        let (pattern, mut given) = argument.split_raw()?;
        let mut options = SshKeyOptions {
            files: vec![pattern.replace("%25", "%")],
            authorities: given.text("authorities")?.map(PathBuf::from),
            revoked: given.text("revoked")?.map(PathBuf::from),
            strict: given.flag("strict", true)?,
            ..SshKeyOptions::default()
        };
        if let Some(value) = given.take("timeout")? {
            options.timeout = Span::parse(&value.text).map_err(|why| value.refused(why))?.0;
        }
        given.end()?;
        if pattern.is_empty() {
            let help = "write `sshkey:/etc/keys/%u` or the like";
            return Err(SettingsError::at(place, "no file of keys").with_help(help));
        }
        Ok(Box::new(Settings { options, place }))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    files: Vec<String>,
    command: Option<Vec<String>>,
    authorities: Option<PathBuf>,
    revoked: Option<PathBuf>,
    strict: Option<bool>,
    timeout: Option<Span>,
}

impl Table {
    fn settings(self, base: &Path, place: Range<usize>) -> Settings {
        let usual = SshKeyOptions::default();
        let options = SshKeyOptions {
            files: self.files,
            command: self.command,
            authorities: self.authorities.map(|path| base.join(path)),
            revoked: self.revoked.map(|path| base.join(path)),
            strict: self.strict.unwrap_or(usual.strict),
            timeout: self
                .timeout
                .map_or(usual.timeout, |Span(timeout): Span| -> Duration { timeout }),
            ..usual
        };
        Settings { options, place }
    }
}

#[derive(Debug)]
struct Settings {
    options: SshKeyOptions,
    place: Range<usize>,
}

impl CheckerSettings for Settings {
    fn build<'a>(&'a self, name: &'a str, _: &'a Parts) -> Building<'a> {
        Box::pin(async move {
            let keys = SshKeys::new(self.options.clone()).map_err(|error| Misplaced {
                place: Some(self.place.clone()),
                fault: Fault::internal(error.to_string()),
            })?;
            Ok(Arc::new(keys.checker(name)) as _)
        })
    }

    fn describe(&self) -> String {
        "users by their SSH keys".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_keeps_its_percent_signs() {
        let kind = completed(Kind::new("sshkey", ""));
        let read = |text: &str| kind.argument(Some(text)).map(|settings| format!("{settings:?}"));
        let settings =
            read("/home/%u/.ssh/authorized_keys?revoked=/etc/ssh/revoked&strict=no").unwrap();
        assert!(settings.contains("\"/home/%u/.ssh/authorized_keys\""), "{settings}");
        assert!(settings.contains("strict: false") && settings.contains("/etc/ssh/revoked"));
        for (text, said) in [
            ("?strict=no", "no file of keys"),
            ("/k?revokde=x", "did you mean `revoked`?"),
            ("/k?timeout=x", "a length of time"),
        ] {
            let error = kind.argument(Some(text)).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
