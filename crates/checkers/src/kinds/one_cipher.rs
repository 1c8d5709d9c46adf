//! `[checker.one-cipher.NAME]` and `one-cipher:PATH[?…]`. Reference: `docs/guide/one-cipher.md`.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use super::{Building, CheckerSettings, Form, Kind, Parts, Span, read};
use crate::one::cipher::{Cipher, CipherOptions};
use crate::one::{DriverChecker, StoredFile};

/// The kind, with how it is made.
pub(super) fn completed(kind: Kind) -> Kind {
    kind.explained(
        "PATH is a file with a line for each server: its name, a blank, and the SHA-256 of its password in 64\n\
         hexadecimal digits. Only its owner and group may read it. It is read again when it changes. A login's\n\
         password is `target:token` or `target:group:token`; who is let in is the server, and for whom is in its\n\
         attributes.\n\
         \n\
         Options, after a `?` and with `&` between them:\n\
         \x20 longest=TIME   for how long a token may be good (1h)\n\
         \x20 legacy=yes     dangerous: OpenNebula's own tokens count, too; whoever sees one can change it\n\
         \n\
         A `%` or `?` in the path is written %25 or %3F.",
    )
    .shown("one-cipher:/etc/countersign/one-secrets")
    .from_table(|value, base| {
        let settings: OneCipherSettings = read(value)?;
        let secrets = settings.secrets.as_ref().map(|file| base.join(file));
        Ok(Box::new(OneCipherSettings { secrets, ..settings }))
    })
    .from_argument(Form::Required("PATH[?OPTION=VALUE&…]"), |argument| {
        let (path, mut given) = argument.split()?;
        if path.text.is_empty() {
            return Err(path.refused("no path").with_help("write `one-cipher:/etc/countersign/one-secrets`"));
        }
        let longest = match given.take("longest")? {
            Some(value) => Some(Span::parse(&value.text).map_err(|why| value.refused(why))?),
            None => None,
        };
        let legacy = given.flag("legacy", false)?;
        given.end()?;
        Ok(Box::new(OneCipherSettings { secrets: Some(path.text.into()), longest, legacy }))
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OneCipherSettings {
    /// None where the user pool has the checker, and knows what is stored.
    secrets: Option<PathBuf>,
    longest: Option<Span>,
    #[serde(default)]
    legacy: bool,
}

impl CheckerSettings for OneCipherSettings {
    fn build<'a>(&'a self, name: &'a str, parts: &'a Parts) -> Building<'a> {
        Box::pin(async move {
            let usual = CipherOptions::default();
            let longest = self.longest.map_or(usual.longest, |Span(longest)| longest);
            let driver = Cipher::new(CipherOptions { longest, legacy: self.legacy });
            let Some(secrets) = self.secrets.as_ref().filter(|_| !parts.pools(name)) else {
                return Ok(parts.under_pool(name, Arc::new(driver))?);
            };
            let stored = StoredFile::open_secret(secrets)?;
            Ok(Arc::new(DriverChecker::of_servers(name, driver, stored)) as _)
        })
    }

    fn describe(&self) -> String {
        let secrets = self.secrets.as_ref();
        let place = secrets.map_or("accounts".into(), |secrets| secrets.to_string_lossy());
        format!("OpenNebula's servers by tokens of the secrets in {place}")
    }
}
