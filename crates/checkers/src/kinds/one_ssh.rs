//! `[checker.one-ssh.NAME]` and `one-ssh:PATH[?…]`. Reference: `docs/guide/one-ssh.md`.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use super::{Building, CheckerSettings, Form, Kind, Parts, Span, read};
use crate::one::ssh::{Ssh, SshOptions};
use crate::one::{DriverChecker, StoredFile};

/// The kind, with how it is made.
pub(super) fn completed(kind: Kind) -> Kind {
    kind.explained(
        "PATH is a file with a line for each user: the name, a blank, and the public key as OpenNebula's driver\n\
         `ssh` stores it, or as OpenSSH writes it. It is read again when it changes. A login's password is a token\n\
         that the user's key signed, by `countersign token ssh`, `oneuser login --ssh` or ssh-keygen.\n\
         \n\
         Options, after a `?` and with `&` between them:\n\
         \x20 longest=TIME   for how long a token may be good (24h)\n\
         \x20 original=no    only tokens of ours count: OpenNebula's own are signed without a hash\n\
         \n\
         A `%` or `?` in the path is written %25 or %3F.",
    )
    .shown("one-ssh:/etc/countersign/one-keys")
    .from_table(|value, base| {
        let settings: OneSshSettings = read(value)?;
        let keys = settings.keys.as_ref().map(|file| base.join(file));
        Ok(Box::new(OneSshSettings { keys, ..settings }))
    })
    .from_argument(Form::Required("PATH[?OPTION=VALUE&…]"), |argument| {
        let (path, mut given) = argument.split()?;
        if path.text.is_empty() {
            return Err(path.refused("no path").with_help("write `one-ssh:/etc/countersign/one-keys`"));
        }
        let longest = match given.take("longest")? {
            Some(value) => Some(Span::parse(&value.text).map_err(|why| value.refused(why))?),
            None => None,
        };
        let original = given.flag("original", true)?;
        given.end()?;
        Ok(Box::new(OneSshSettings { keys: Some(path.text.into()), longest, original }))
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OneSshSettings {
    /// None where the user pool has the checker, and knows what is stored.
    keys: Option<PathBuf>,
    longest: Option<Span>,
    #[serde(default = "yes")]
    original: bool,
}

fn yes() -> bool {
    true
}

impl CheckerSettings for OneSshSettings {
    fn build<'a>(&'a self, name: &'a str, parts: &'a Parts) -> Building<'a> {
        Box::pin(async move {
            let usual = SshOptions::default();
            let longest = self.longest.map_or(usual.longest, |Span(longest)| longest);
            let driver = Ssh::new(SshOptions { longest, original: self.original });
            let Some(keys) = self.keys.as_ref().filter(|_| !parts.pools(name)) else {
                return Ok(parts.under_pool(name, Arc::new(driver))?);
            };
            let stored = StoredFile::open(keys)?;
            Ok(Arc::new(DriverChecker::new(name, driver, stored)) as _)
        })
    }

    fn describe(&self) -> String {
        let place = self.keys.as_ref().map_or("accounts".into(), |keys| keys.to_string_lossy());
        format!("OpenNebula's users by tokens of the SSH keys in {place}")
    }
}
