//! The audit file: full, gone, and back. Without a record nobody gets in, unless it is configured otherwise.

use countersign_server::world::SystemWorld;
use serde_json::Value;

use crate::site::{PASSWORD, Site, eventually};

/// What the log says, once.
const REMEDY: &str = "cannot write the audit file: free some space, or see to its folder";

/// The device that is always full.
const FULL: &str = "[audit]\npath = \"/dev/full\"\n";

async fn ready(site: &Site) -> u16 {
    site.http("GET", "/readyz", "", Value::Null).await.status
}

async fn lets_ada_in(site: &Site) -> bool {
    site.dovecot("imap", "ada", PASSWORD).await == "OK\t1\tuser=ada"
}

/// Neither yes nor no (A6, D45), whoever asks.
async fn says_nothing(site: &Site) {
    for (user, password) in [("ada", PASSWORD), ("ada", "wrong"), ("eve", PASSWORD)] {
        assert_eq!(site.dovecot("imap", user, password).await, "", "closed");
        assert_eq!(site.saslauthd("imap", user, password).await, "", "closed");
        Site::is_later(&site.login("imap", user, password).await);
        Site::page_is_later(&site.page(user, password).await);
    }
    assert_eq!(ready(site).await, 503);
}

#[tokio::test]
async fn full_refuses_everybody_and_recovers() {
    let site = Site::new().await;
    site.works("before", &site.codes[0]).await;
    let token = site.token("ada").await;
    let known = site.server.engine().store.sessions_of("ada", 0).await.unwrap().len();
    let before = site.audit().len();
    site.reload(FULL).await;
    says_nothing(&site).await;
    Site::is_later(&site.code(&site.codes[1]).await);
    assert_eq!(site.session(&token).await, 200, "who is in stays in");
    let log = site.log();
    assert_eq!(log.matches(REMEDY).count(), 1, "logged once: {log}");
    assert!(
        ["/dev/full", "No space left", "free some space"].iter().all(|part| log.contains(part)),
        "{log}"
    );
    // A session that nobody was told of ends.
    eventually("no session is left over", async || {
        site.server.engine().store.sessions_of("ada", 0).await.unwrap().len() == known
    })
    .await;

    site.reload("").await;
    assert_eq!(ready(&site).await, 200);
    // Nothing of what was not told is in the record.
    let records = site.audit().split_off(before);
    assert!(records.iter().all(|record| record["act"] == "reload"), "{records:#?}");
    // The code was used up all the same: better than twice good.
    assert_eq!(site.code(&site.codes[1]).await.status, 401);
    site.works("after", &site.codes[2]).await;
    site.server.stop().await;
}

#[tokio::test]
async fn full_goes_on_where_that_is_configured() {
    let site = Site::new().await;
    site.reload(&format!("{FULL}on_failure = \"continue\"\n")).await;
    site.works("full", &site.codes[0]).await;
    assert_eq!(ready(&site).await, 503, "which the operator is told");
    let log = site.log();
    assert_eq!(log.matches(REMEDY).count(), 1, "logged once: {log}");
    site.reload("").await;
    site.works("after", &site.codes[1]).await;
    assert_eq!(ready(&site).await, 200);
    site.server.stop().await;
}

#[tokio::test]
async fn gone_with_its_folder_and_back() {
    let more = "[audit]\npath = \"record/audit.jsonl\"\n";
    let folder = |site: &Site| site.path("record");
    let site = Site::prepared(more, SystemWorld::new(), |data| {
        std::fs::create_dir(data.join("record")).unwrap();
    })
    .await;
    assert!(lets_ada_in(&site).await);
    std::fs::remove_dir_all(folder(&site)).unwrap();
    // Within a second, as a file that another program moves away (A9).
    eventually("it is missed", async || !lets_ada_in(&site).await).await;
    says_nothing(&site).await;
    let log = site.log();
    assert!(log.contains("record/audit.jsonl") && log.contains("see to its folder"), "{log}");

    std::fs::create_dir(folder(&site)).unwrap();
    eventually("it is made anew", async || lets_ada_in(&site).await).await;
    let text = std::fs::read_to_string(folder(&site).join("audit.jsonl")).unwrap();
    assert!(text.lines().all(|line| line.contains("\"outcome\":\"granted\"")), "{text}");
    site.works("after", &site.codes[0]).await;
    site.server.stop().await;
}
