//! `[checker.accounts.NAME]` and `accounts[:STORE]`. Reference: `docs/guide/accounts.md`.

use std::sync::Arc;

use countersign::{Fault, Mechanism, Secret};
use countersign_store::{Location, OpenOptions, Store};
use serde::Deserialize;

use super::{Building, CheckerSettings, Form, Kind, Misplaced, Parts, read};
use crate::accounts::Accounts;

pub(super) fn kind() -> Kind {
    Kind::new("accounts", "accounts in the store")
        .proving(&[
            Mechanism::PASSWORD,
            "EXTERNAL",
            Mechanism::OTP,
            Mechanism::PASSKEY,
            "SCRAM-SHA-512-PLUS",
            "SCRAM-SHA-512",
            "SCRAM-SHA-256-PLUS",
            "SCRAM-SHA-256",
            "SCRAM-SHA-1-PLUS",
            "SCRAM-SHA-1",
        ])
        .explained(
            "Users that `countersign user add` makes, with their passwords, one-time codes, application\n\
             passwords and passkeys.\n\
             \n\
             STORE is the path of an SQLite file (/var/lib/countersign/accounts.db), or the URL of a\n\
             PostgreSQL database; it must be there. Without it, the accounts of the program itself are\n\
             meant, if it has any. A URL with a password in it can be read by every user of the machine\n\
             while the program runs: write `file:PATH` for a URL in a file that only its owner can read.",
        )
        .shown("accounts:/var/lib/countersign/accounts.db")
        .from_table(|value, _| Ok(Box::new(read::<AccountsSettings>(value)?)))
        .from_argument(Form::Optional("STORE"), |argument| {
            let store = (!argument.text().is_empty()).then(|| Secret::from(argument.text()));
            Ok(Box::new(AccountsSettings { store }))
        })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountsSettings {
    #[serde(skip)]
    store: Option<Secret>,
}

impl AccountsSettings {
    async fn store(&self, parts: &Parts) -> Result<Store, Fault> {
        let Some(named) = &self.store else {
            return parts.store.clone().ok_or_else(|| {
                Fault::internal(
                    "this program has no accounts of its own: name the store, as in \
                     `accounts:/var/lib/countersign/accounts.db`",
                )
            });
        };
        let named = named.to_str().unwrap_or_default();
        let secret;
        let location = match named.strip_prefix("file:") {
            None => Location::from(named),
            Some(file) => {
                let told = |why| Fault::internal(format!("the file {file} {why}"));
                secret = super::secret_file("".as_ref(), file.as_ref()).map_err(told)?;
                Location::from(secret.to_str().unwrap_or_default().trim())
            }
        };
        let opened = Store::open(&location, OpenOptions::default()).await;
        opened.map_err(|error| Fault::unavailable("the accounts").caused_by(error))
    }
}

impl CheckerSettings for AccountsSettings {
    fn build<'a>(&'a self, name: &'a str, parts: &'a Parts) -> Building<'a> {
        Box::pin(async move {
            let store = self.store(parts).await?;
            let (pool, world) = (Arc::clone(&parts.pool), Arc::clone(&parts.world));
            let accounts = Accounts::new(name, store, pool, world, parts.recipe);
            let accounts = accounts.map_err(Misplaced::from)?;
            let accounts = accounts.keeping(parts.kept_keys.clone());
            #[cfg(feature = "passkeys")]
            let accounts = match &parts.passkeys {
                Some(passkeys) => accounts.with_passkeys(passkeys.clone()),
                None => accounts,
            };
            Ok(Arc::new(accounts) as _)
        })
    }

    fn describe(&self) -> String {
        match &self.store {
            None => "accounts in the store".into(),
            Some(_) => "accounts in a store of their own".into(),
        }
    }
}
