//! A store on a temporary file.
#![allow(dead_code)] // each test file uses its part

use std::path::PathBuf;
use std::time::Duration;

use countersign::Secret;
use countersign_store::*;

pub(crate) const NOW: i64 = 1_800_000_000;

/// A folder that goes away at the end, and the path of a store in it.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accounts.db");
        Self { folder, path }
    }

    /// Another handle on the same file: another process, as far as the store can tell.
    pub(crate) async fn open(&self) -> Store {
        Store::open(&self.path, OpenOptions::create().deadline(Duration::from_secs(20)))
            .await
            .unwrap()
    }
}

pub(crate) fn user(name: &str) -> NewAccount {
    let mut new = NewAccount::new(name);
    new.credentials.push(password("$first$"));
    new
}

pub(crate) fn password(hash: &str) -> NewCredential {
    NewCredential::new(CredentialType::Password, Secret::from(hash))
}

pub(crate) async fn add(store: &Store, names: &[&str]) {
    for name in names {
        store.add_account(&user(name), NOW).await.unwrap();
    }
}

pub(crate) fn group(name: &str, gid: Option<u32>) -> Group {
    Group { name: name.into(), gid, description: String::new() }
}

/// A plain connection to the file, for doing what the store never does.
pub(crate) async fn raw(place: &Place) -> sqlx::SqliteConnection {
    use sqlx::ConnectOptions;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&place.path);
    options.create_if_missing(true).connect().await.unwrap()
}
