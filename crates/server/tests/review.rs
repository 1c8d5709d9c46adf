//! What a reviewer found, so that it stays found: records that must be there, and memory that must not.

mod support;

use std::sync::Arc;

use countersign_checkers::pool::{HashPool, PoolOptions};
use countersign_server::admin::{Admin, NewUser};
use countersign_server::config::Config;
use countersign_server::identity::GroupView;
use countersign_server::registry;
use countersign_server::run::Server;
use countersign_server::world::SystemWorld;
use countersign_store::{OpenOptions, Store};
use serde_json::{Value, json};
use support::http::Running;
use support::{PATIENCE, Place};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A server as `serve` starts it, over HTTP: the wiring is what is tested.
#[tokio::test]
async fn acts_over_http_and_logins_left_open_are_in_the_durable_record() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::without_file(folder.path(), &registry::built_in());
    config.listen_http("127.0.0.1:0".parse().unwrap());
    config.accounts.argon2_memory_kib = 8;
    config.accounts.argon2_passes = 1;
    let store = Store::open(&config.store, OpenOptions::create()).await.unwrap();
    let pool = Arc::new(HashPool::start(&PoolOptions::default()).unwrap());
    let admin = Admin::new(store.clone(), pool, config.recipe(), SystemWorld::new());
    let mut root = NewUser::named("root");
    root.password = Some("a long enough one".into());
    root.groups = vec![GroupView { name: "administrators".into(), admin: true }];
    root.create_groups = true;
    admin.add_user(root).await.unwrap();
    store.close().await;

    let server = Server::start(config).await.unwrap();
    let call = async |path: &str, bearer: &str, body: Value| {
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{bearer}\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let talk = async {
            let address = server.http_address().unwrap();
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut reply = String::new();
            stream.read_to_string(&mut reply).await.unwrap();
            reply
        };
        let reply = tokio::time::timeout(PATIENCE, talk).await.unwrap();
        let (_, body) = reply.split_once("\r\n\r\n").unwrap();
        serde_json::from_str::<Value>(body).unwrap_or_else(|_| panic!("{reply}"))
    };
    let answers = json!({"username": "root", "password": "a long enough one"});
    let granted = call("/v1/login", "", json!({"answers": answers})).await;
    let token = granted["session"]["token"].as_str().unwrap_or_else(|| panic!("{granted}"));
    let bearer = format!("authorization: Bearer {token}\r\n");
    call("/v1/users", &bearer, json!({"name": "mallory"})).await;
    // One that still waits when the server stops.
    let waits = call("/v1/login", "", json!({"service": "left open"})).await;
    assert_eq!(waits["status"], "ask");
    tokio::time::timeout(PATIENCE, server.stop()).await.unwrap();

    let record = std::fs::read_to_string(folder.path().join("audit.jsonl")).unwrap();
    let [_, act, left] = &record.lines().collect::<Vec<_>>()[..] else { panic!("{record}") };
    let left: Value = serde_json::from_str(left).unwrap();
    assert_eq!((&left["service"], &left["reason"]), (&json!("left open"), &json!("cancelled")));
    let act: Value = serde_json::from_str(act).unwrap();
    assert_eq!((&act["act"], &act["target"]), (&json!("user-add"), &json!("mallory")), "{record}");
    assert_eq!(act["actor"], "http root");
}

#[tokio::test]
async fn a_name_that_no_round_takes_is_not_kept_with_the_login() {
    let server = Running::new().await;
    let begun = server.call("POST", "/v1/login", json!({})).await.json();
    let path = format!("/v1/login/{}", begun["id"].as_str().unwrap());
    let answer = |name: &str| json!({"round": 1, "answers": {"username": name, "password": "x"}});
    let reply = server.call("POST", &path, answer(&"n".repeat(256))).await;
    assert_eq!(reply.status, 400, "{reply:?}");
    assert!(reply.error().contains("256 bytes and may have 255"), "{reply:?}");
    // The login still waits.
    assert_eq!(server.call("POST", &path, answer(&"n".repeat(255))).await.status, 401);
}

#[tokio::test]
async fn a_change_that_is_refused_changes_nothing() {
    let place = Place::new().await;
    let audit = place.engine.audit.clone();
    let admin = place.admin.clone().recorded_in(audit);
    let change = json!({"enabled": false, "labels": [" a label with blanks around it "]});
    admin.change_user("ada", serde_json::from_value(change).unwrap()).await.unwrap_err();
    assert!(place.engine.store.read_account("ada").await.unwrap().unwrap().enabled);
    assert!(place.audit().is_empty());
}
