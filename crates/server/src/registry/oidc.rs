//! `[checker.oidc.NAME]`. Reference: `docs/guide/oidc.md`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use countersign::{Checker, Fault};
use countersign_checkers::kinds::{Span, read, secret_file};
use serde::Deserialize;
use toml::Spanned;

use super::{Building, CheckerSettings, Kind, Misplaced, Parts};
use crate::oidc::{Known, Oidc, OidcOptions};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OidcSettings {
    title: Option<String>,
    issuer: Spanned<String>,
    client_id: String,
    client_secret_file: Option<Spanned<PathBuf>>,
    redirect_uri: Spanned<String>,
    #[serde(default)]
    scopes: Vec<String>,
    subject: String,
    domain: Option<String>,
    #[serde(default)]
    accounts: Known,
    groups: Option<String>,
    ca: Option<Spanned<PathBuf>>,
    timeout: Option<Span>,
    /// The folder that relative paths are below.
    #[serde(skip)]
    below: PathBuf,
}

/// The kind, with how it is made.
pub(super) fn completed(kind: Kind) -> Kind {
    kind.from_table(|value, base| {
        let mut settings: OidcSettings = read(value)?;
        base.clone_into(&mut settings.below);
        Ok(Box::new(settings))
    })
}

impl CheckerSettings for OidcSettings {
    fn build<'a>(&'a self, name: &'a str, parts: &'a Parts) -> Building<'a> {
        Box::pin(async { self.checker(name, parts) })
    }

    fn describe(&self) -> String {
        format!("users of {}", self.issuer.get_ref())
    }
}

impl OidcSettings {
    fn checker(&self, name: &str, parts: &Parts) -> Result<Arc<dyn Checker>, Misplaced> {
        let store = parts.store.clone();
        let store =
            store.ok_or_else(|| Fault::internal("a provider needs the store of accounts"))?;
        let secret = self.client_secret_file.as_ref().map(|file| {
            secret_file(&self.below, file.get_ref()).map_err(|why| {
                let what = format!("`client_secret_file` {} {why}", file.get_ref().display());
                Misplaced::at(file.span(), what)
            })
        });
        let short = name.rsplit('.').next().unwrap_or(name);
        let options = OidcOptions {
            title: self.title.clone().unwrap_or_else(|| short.to_owned()),
            issuer: self.issuer.get_ref().clone(),
            client_id: self.client_id.clone(),
            client_secret: secret.transpose()?,
            redirect_uri: self.redirect_uri.get_ref().clone(),
            scopes: self.scopes.clone(),
            subject: self.subject.clone(),
            domain: self.domain.clone(),
            accounts: self.accounts,
            groups: self.groups.clone(),
            ca: self.ca.as_ref().map(|path| self.below.join(path.get_ref())),
            timeout: self.timeout.map_or(Duration::from_secs(4), |span| span.0),
        };
        let oidc = Oidc::new(name, options, store).map_err(|error| {
            let place = match error.option {
                "issuer" => Some(self.issuer.span()),
                "redirect_uri" => Some(self.redirect_uri.span()),
                _ => self.ca.as_ref().map(Spanned::span),
            };
            let fault = Fault::internal(error.to_string());
            Misplaced { place, fault }
        })?;
        Ok(Arc::new(oidc))
    }
}
