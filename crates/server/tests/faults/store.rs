//! The store: locked by another program, slow, moved away, replaced, and back.

use std::time::Duration;

use countersign_store::{AccountChange, AccountUpdate, OpenOptions, Store};

use crate::site::{LATER, PASSWORD, Site, eventually};

/// How long the store has not been seen when its copies in memory are believed no more.
async fn not_believed(site: &Site) {
    eventually("copies are not believed", async || {
        site.dovecot("imap", "ada", PASSWORD).await != "OK\t1\tuser=ada"
    })
    .await;
}

#[tokio::test]
async fn locked_by_another_program() {
    let site = Site::new().await;
    site.works("before", &site.codes[0]).await;
    let token = site.token("ada").await;
    let mut other = site.intruder().await;
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();
    let before = site.audit().len();

    // What writes nothing goes on.
    assert_eq!(site.dovecot("imap", "ada", PASSWORD).await, "OK\t1\tuser=ada");
    assert_eq!(site.saslauthd("imap", "ada", PASSWORD).await, "OK");
    assert_eq!(site.session(&token).await, 200);
    assert_eq!(site.audit().len(), before + 2);
    // What has to write waits, and then says that something is broken.
    let (session, page, code, ()) = tokio::join!(
        site.login("imap", "ada", PASSWORD),
        site.page("ada", PASSWORD),
        site.code(&site.codes[1]),
        site.keeps_out("locked"),
    );
    Site::is_later(&session);
    Site::page_is_later(&page);
    Site::is_later(&code);
    assert_eq!(site.code(&site.codes[0]).await.status, 401, "a used code needs no write");
    // 12 refusals and a used code; three that something was broken for.
    let records = site.audit().split_off(before + 2);
    let outcomes = |wanted: &str| records.iter().filter(|r| r["outcome"] == wanted).count();
    assert_eq!((outcomes("denied"), outcomes("fault"), outcomes("granted")), (13, 3, 0));
    let log = site.log();
    let words = ["accounts.db was locked by another writer", "find who holds it open"];
    assert!(words.iter().all(|words| log.contains(words)), "{log}");

    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    // The code was not used up by the login that failed.
    site.works("after", &site.codes[1]).await;
    site.server.stop().await;
}

#[tokio::test]
async fn slow_is_waited_for() {
    let site = Site::new().await;
    let mut other = site.intruder().await;
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();
    let logins = async { tokio::join!(site.token("ada"), site.code(&site.codes[0])) };
    let mut logins = Box::pin(logins);
    let early = tokio::time::timeout(Duration::from_millis(50), &mut logins).await;
    assert!(early.is_err(), "let in before it was written down: {early:?}");
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    let (token, code) = logins.as_mut().await;
    drop(logins);
    assert_eq!((site.session(&token).await, code.status), (200, 200));
    site.keeps_out("slow").await;
    site.server.stop().await;
}

#[tokio::test]
async fn moved_away_replaced_and_back() {
    let site = Site::new().await;
    site.works("before", &site.codes[0]).await;
    let token = site.token("ada").await;
    let (here, away) = (site.path("accounts.db"), site.path("away"));
    for (round, replaced) in [false, true].into_iter().enumerate() {
        std::fs::rename(&here, &away).unwrap();
        if replaced {
            // An empty store would know nobody, and a forged one everybody.
            std::fs::write(&here, b"").unwrap();
        }
        not_believed(&site).await;
        let before = site.audit().len();
        assert_eq!(site.dovecot("imap", "ada", PASSWORD).await, LATER);
        assert_eq!(site.saslauthd("imap", "ada", PASSWORD).await, "");
        Site::is_later(&site.login("imap", "ada", PASSWORD).await);
        Site::is_later(&site.login("vpn", "grace", PASSWORD).await);
        Site::page_is_later(&site.page("ada", PASSWORD).await);
        assert_eq!(site.session(&token).await, 503);
        let ready = site.http("GET", "/readyz", "", serde_json::Value::Null).await;
        assert_eq!(ready.status, 503, "{ready:?}");
        site.keeps_out("away").await;
        // Whoever does not need it does not notice.
        assert_eq!(site.dovecot("relay", "hal", PASSWORD).await, "OK\t1\tuser=hal");
        assert_eq!(site.saslauthd("relay", "hal", "wrong").await, "NO");
        let records = site.audit().split_off(before);
        assert_eq!(records.len(), 5 + 12 + 2);
        let faults = records.iter().filter(|record| record["outcome"] == "fault").count();
        assert_eq!(faults, 5 + 12, "{records:#?}");
        let log = site.log();
        assert!(log.contains("accounts.db") && log.contains("put it back"), "{log}");

        std::fs::rename(&away, &here).unwrap();
        eventually("it is seen again", async || {
            site.dovecot("imap", "ada", PASSWORD).await == "OK\t1\tuser=ada"
        })
        .await;
        eventually("it is told", async || site.log().contains("store can be read again")).await;
        assert_eq!(site.session(&token).await, 200);
        site.works("back", &site.codes[round + 1]).await;
    }
    site.server.stop().await;
}

/// Disabled by another program while the server cannot see the store: its copy does not count when it is back.
#[tokio::test]
async fn who_was_disabled_meanwhile_stays_out() {
    let site = Site::new().await;
    site.works("before", &site.codes[0]).await;
    let token = site.token("ada").await;
    let moved = |from: &str, to: &str| {
        for suffix in ["-wal", "-shm", ""] {
            let path = |name: &str| site.path(&format!("{name}{suffix}"));
            std::fs::rename(path(from), path(to)).unwrap();
        }
    };
    moved("accounts.db", "away");
    not_believed(&site).await;
    let other = Store::open(&site.path("away"), OpenOptions::default()).await.unwrap();
    let fields = AccountUpdate { enabled: Some(false), ..AccountUpdate::default() };
    let disabled = AccountChange { fields, ..AccountChange::default() };
    other.change_account("ada", &disabled, 0).await.unwrap();
    other.close().await;
    moved("away", "accounts.db");
    eventually("it is seen again", async || {
        site.dovecot("imap", "bob", PASSWORD).await == "OK\t1\tuser=bob"
    })
    .await;
    let refused = site.dovecot("imap", "ada", PASSWORD).await;
    assert!(refused.starts_with("FAIL") && !refused.contains("temp"), "{refused}");
    assert_eq!(site.session(&token).await, 401);
    site.server.stop().await;
}
