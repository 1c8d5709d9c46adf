//! `countersign backup` and `countersign restore`: the account store as one file.

use std::fs;
use std::io;
use std::path::Path;

use countersign_server::run::lock;
use countersign_store::Store;

use crate::args::{BackupArgs, RestoreArgs};
use crate::failure::Failure;
use crate::place::{Place, block_on};

pub(crate) fn backup(args: &BackupArgs) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    let users = block_on(async {
        let store = place.store().await?;
        let users = store.count_accounts().await?;
        store.backup(&args.file).await?;
        store.close().await;
        let admin = place.admin().await?;
        admin.record_of_store("backup", &args.file.display().to_string()).await;
        Ok(users)
    })?;
    println!("wrote {} with {users} users", args.file.display());
    Ok(())
}

pub(crate) fn restore(args: &RestoreArgs) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    let Some(store) = place.config.store.file() else {
        return Err(Failure::usage(
            "the store is a PostgreSQL database: restore it with `pg_restore` or `psql`",
        ));
    };
    // Held until the end: no server starts on half a store.
    let folder = &place.config.data;
    fs::create_dir_all(folder.join("run")).map_err(|error| cannot("make", folder, &error))?;
    let _lock = lock(folder).map_err(|error| Failure::refused(error.to_string()))?;
    // Checked before anything is touched; what is there is kept, and its sessions do not come back.
    let done = block_on(async { Ok(Store::restore(&args.file, store).await?) })?;
    block_on(async {
        let admin = place.admin().await?;
        admin.record_of_store("restore", &args.file.display().to_string()).await;
        Ok(())
    })?;
    println!("restored {} users from {}", done.accounts, args.file.display());
    if let Some(kept) = done.kept {
        println!("what was there is now {}", kept.display());
    }
    Ok(())
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::broken(format!("cannot {what} {}: {error}", path.display()))
}
