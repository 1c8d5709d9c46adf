//! `countersign backup` and `countersign restore`: the account store as one file.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use countersign_server::run::lock;
use countersign_store::{OpenOptions, Store};

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
    let new = beside(store, "~restoring");
    let users = block_on(prepare(&args.file, &new));
    let users = users.inspect_err(|_| drop(fs::remove_file(&new)))?;
    let old = block_on(put_aside(store))?;
    fs::rename(&new, store).map_err(|error| cannot("make", store, &error))?;
    let folder = store.parent().unwrap_or(Path::new("."));
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| cannot("write", folder, &error))?;
    block_on(async {
        let admin = place.admin().await?;
        admin.record_of_store("restore", &args.file.display().to_string()).await;
        Ok(())
    })?;
    println!("restored {users} users from {}", args.file.display());
    if let Some(old) = old {
        println!("what was there is now {}", old.display());
    }
    Ok(())
}

/// Copies the backup next to the store, and opens the copy as the server would: what cannot be used is
/// refused before anything is touched.
async fn prepare(backup: &Path, new: &Path) -> Result<u64, Failure> {
    let mut from = File::open(backup).map_err(|error| cannot("read", backup, &error))?;
    let _ = fs::remove_file(new);
    let mut options = File::options();
    let to = options.write(true).create_new(true).mode(0o600).open(new);
    let mut to = to.map_err(|error| cannot("make", new, &error))?;
    let copied = io::copy(&mut from, &mut to).and_then(|_| to.sync_all());
    copied.map_err(|error| cannot("write", new, &error))?;
    drop(to);
    let store = Store::open(new, OpenOptions::default().cache_capacity(0).readers(1)).await?;
    let users = store.count_accounts().await;
    store.close().await;
    Ok(users?)
}

/// Moves the store that is there aside, with what SQLite keeps beside it; says where it is then.
async fn put_aside(store: &Path) -> Result<Option<PathBuf>, Failure> {
    if !store.exists() {
        return Ok(None);
    }
    // Opened and closed, it is one file. One that is damaged, which may be why, is moved as it is.
    if let Ok(open) = Store::open(store, OpenOptions::default().readers(1)).await {
        open.close().await;
    }
    let aside = (1..).map(|n| beside(store, &format!(".before-restore-{n}")));
    let Some(aside) = aside.into_iter().find(|path| !path.exists()) else { return Ok(None) };
    for suffix in ["", "-wal", "-shm"] {
        let (from, to) = (beside(store, suffix), beside(&aside, suffix));
        match fs::rename(&from, &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(cannot("move", &from, &error));
            }
            _ => {}
        }
    }
    Ok(Some(aside))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::broken(format!("cannot {what} {}: {error}", path.display()))
}
