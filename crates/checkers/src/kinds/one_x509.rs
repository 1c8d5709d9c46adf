//! `[checker.one-x509.NAME]` and `one-x509:PATH?authorities=FOLDER`. Reference: `docs/guide/one-x509.md`.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use super::{Building, CheckerSettings, Form, Kind, Parts, SettingsError, Span, read};
use crate::one::x509::{X509, X509Options};
use crate::one::{DriverChecker, StoredFile};
use crate::pki::{AuthoritiesFolder, Revocation};

/// The kind, with how it is made.
pub(super) fn completed(kind: Kind) -> Kind {
    kind.explained(
        "PATH is a file with a line for each user: the name, a blank, and the name of the user's certificate as\n\
         OpenNebula's driver `x509` stores it, `/C=ES/CN=Alice\\20In\\20Chains`; several have `|` between them. It is\n\
         read again when it changes. A login's password is a token that the certificate's key signed, by\n\
         `countersign token x509` or `oneuser login --x509`.\n\
         \n\
         Options, after a `?` and with `&` between them:\n\
         \x20 authorities=FOLDER  certificates that are trusted, and lists of revoked ones, in PEM (needed)\n\
         \x20 crl=required        nobody gets in without a list of each authority; `if-present` where nothing is said\n\
         \x20 longest=TIME        for how long a token may be good (24h)\n\
         \n\
         A `%` or `?` in the path is written %25 or %3F.",
    )
    .shown("one-x509:/etc/countersign/one-names?authorities=/etc/one/auth/certificates")
    .from_table(|value, base| {
        let settings: OneX509Settings = read(value)?;
        let names = settings.names.as_ref().map(|file| base.join(file));
        let authorities = base.join(&settings.authorities);
        Ok(Box::new(OneX509Settings { names, authorities, ..settings }))
    })
    .from_argument(Form::Required("PATH?authorities=FOLDER[&OPTION=VALUE…]"), |argument| {
        let place = argument.place();
        let (path, mut given) = argument.split()?;
        let authorities = given.text("authorities")?.map(PathBuf::from);
        let crl = match given.take("crl")? {
            None => Revocation::default(),
            Some(value) => match value.text.as_str() {
                "required" => Revocation::Required,
                "if-present" => Revocation::IfPresent,
                _ => return Err(value.refused("`crl` is `required` or `if-present`")),
            },
        };
        let longest = match given.take("longest")? {
            Some(value) => Some(Span::parse(&value.text).map_err(|why| value.refused(why))?),
            None => None,
        };
        given.end()?;
        let (false, Some(authorities)) = (path.text.is_empty(), authorities) else {
            let help = "write `one-x509:PATH?authorities=FOLDER`";
            return Err(SettingsError::at(place, "a path or `authorities` is missing").with_help(help));
        };
        Ok(Box::new(OneX509Settings { names: Some(path.text.into()), authorities, crl, longest }))
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OneX509Settings {
    /// None where the user pool has the checker, and knows what is stored.
    names: Option<PathBuf>,
    authorities: PathBuf,
    #[serde(default)]
    crl: Revocation,
    longest: Option<Span>,
}

impl CheckerSettings for OneX509Settings {
    fn build<'a>(&'a self, name: &'a str, parts: &'a Parts) -> Building<'a> {
        Box::pin(async move {
            let usual = X509Options::default();
            let longest = self.longest.map_or(usual.longest, |Span(longest)| longest);
            let authorities = AuthoritiesFolder::open(&self.authorities)?;
            let driver = X509::new(X509Options { longest, revocation: self.crl }, authorities);
            let Some(names) = self.names.as_ref().filter(|_| !parts.pools(name)) else {
                return Ok(parts.under_pool(name, Arc::new(driver))?);
            };
            let stored = StoredFile::open(names)?;
            Ok(Arc::new(DriverChecker::new(name, driver, stored)) as _)
        })
    }

    fn describe(&self) -> String {
        let names = self.names.as_ref();
        let names = names.map_or("accounts".into(), |names| names.to_string_lossy());
        let authorities = self.authorities.display();
        format!(
            "OpenNebula's users by certificates, named in {names}, of the authorities in {authorities}"
        )
    }
}
