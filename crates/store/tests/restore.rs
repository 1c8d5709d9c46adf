//! A backup that is brought back.

mod common;

use std::fs;

use common::*;
use countersign_store::*;

fn session(hash: &str) -> SessionRecord {
    SessionRecord {
        hash: hash.into(),
        subject: "alice".into(),
        service: "web".into(),
        peer: String::new(),
        data: "{}".into(),
        created: NOW,
        last_seen: NOW,
        expires: NOW + 1000,
    }
}

#[tokio::test]
async fn a_backup_takes_the_place_of_the_store_and_the_old_one_is_kept() {
    let place = Place::file();
    let backup = place.folder.path().join("backup.db");
    let store = place.open().await;
    add(&store, &["alice"]).await;
    store.create_session(&session("s1"), 9, i64::MAX).await.unwrap();
    let secret = store.secret("cookie").await.unwrap();
    store.backup(&backup).await.unwrap();
    add(&store, &["bob"]).await;
    let bob = store.account("bob").await.unwrap().unwrap();
    let revision = store.revision();

    // Not under a server's feet.
    let error = Store::restore(&backup, &place.path).await.unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }), "{error}");
    assert!(store.read_account("bob").await.unwrap().is_some());
    store.close().await;

    let done = Store::restore(&backup, &place.path).await.unwrap();
    assert_eq!(done.accounts, 1);
    let store = place.open().await;
    assert!(store.account("alice").await.unwrap().is_some());
    assert!(store.account("bob").await.unwrap().is_none());
    assert_eq!(store.secret("cookie").await.unwrap(), secret);
    assert_eq!(store.session("s1", NOW).await.unwrap(), None, "it may have been ended since");
    assert!(store.revision() > revision);
    add(&store, &["carol"]).await;
    assert!(store.account("carol").await.unwrap().unwrap().id > bob.id);

    let kept = Store::open(done.kept.unwrap(), OpenOptions::default()).await.unwrap();
    assert!(kept.account("bob").await.unwrap().is_some());
    kept.close().await;
    store.close().await;
    let again = Store::restore(&backup, &place.path).await.unwrap();
    assert!(again.kept.unwrap().to_str().unwrap().ends_with("accounts.db.replaced-2"));
}

#[tokio::test]
async fn a_backup_is_brought_back_where_nothing_is_left() {
    let place = Place::file();
    let backup = place.folder.path().join("backup.db");
    let store = place.open().await;
    add(&store, &["alice"]).await;
    store.backup(&backup).await.unwrap();
    store.close().await;
    fs::remove_file(&place.path).unwrap();
    let done = Store::restore(&backup, &place.path).await.unwrap();
    assert_eq!(done, Restored { accounts: 1, kept: None });
    // Over what is damaged, which is kept as it is.
    let mut content = fs::read(&place.path).unwrap();
    content[4096..].fill(0xa5);
    fs::write(&place.path, &content).unwrap();
    let done = Store::restore(&backup, &place.path).await.unwrap();
    assert_eq!(fs::read(done.kept.unwrap()).unwrap()[4096..], content[4096..]);
    assert!(place.open().await.account("alice").await.unwrap().is_some());
}

#[tokio::test]
async fn what_is_no_whole_store_replaces_nothing() {
    let place = Place::file();
    let store = place.open().await;
    let many: Vec<_> = (0..500).map(|n| user(&format!("user{n}"))).collect();
    store.add_accounts(&many, NOW).await.unwrap();
    let backup = place.folder.path().join("backup.db");
    store.backup(&backup).await.unwrap();
    store.close().await;
    let before = fs::read(&place.path).unwrap();
    let whole = fs::read(&backup).unwrap();

    let refused = async |content: &[u8]| {
        fs::write(&backup, content).unwrap();
        let error = Store::restore(&backup, &place.path).await.unwrap_err();
        assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");
        let left: Vec<_> = fs::read_dir(place.folder.path()).unwrap().flatten().collect();
        assert!(left.iter().all(|f| !f.file_name().to_string_lossy().contains(".re")), "{left:?}");
    };
    let mut damaged = whole.clone();
    damaged[whole.len() / 2..][..8192].fill(0xa5);
    refused(&damaged).await;
    refused(&whole[..whole.len() / 2]).await;
    refused(b"alice:{PLAIN}secret\n").await;
    refused(b"").await;
    fs::remove_file(&backup).unwrap();
    let error = Store::restore(&backup, &place.path).await.unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }), "{error}");
    let now = place.open().await;
    assert_eq!(now.count_accounts().await.unwrap(), 500);
    now.close().await;
    assert_eq!(fs::read(&place.path).unwrap().len(), before.len());
}
