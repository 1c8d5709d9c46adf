//! `docs/protocols/http.md`: the events of a session, notices, readiness and metrics.

mod support;

use std::sync::Arc;

use countersign_server::front::http::{HttpOptions, Part};
use countersign_server::minds;
use serde_json::json;
use support::http::Running;
use support::{PATIENCE, Place, eventually};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::time::timeout;

struct Listener(Lines<BufReader<TcpStream>>);

impl Listener {
    async fn new(server: &Running, token: &str) -> Self {
        Self::with(server, &format!("authorization: Bearer {token}\r\n")).await
    }

    async fn with(server: &Running, headers: &str) -> Self {
        let mut stream = server.connect().await;
        let request = format!("GET /v1/session/events HTTP/1.1\r\nhost: test\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut listener = Self(BufReader::new(stream).lines());
        assert_eq!(listener.line().await.unwrap(), "HTTP/1.1 200 OK");
        listener.until(": listening").await;
        listener
    }

    async fn line(&mut self) -> Option<String> {
        timeout(PATIENCE, self.0.next_line()).await.expect("in time").unwrap()
    }

    /// Reads up to a line.
    async fn until(&mut self, wanted: &str) {
        loop {
            match self.line().await {
                Some(line) if line == wanted => return,
                Some(_) => {}
                None => panic!("the end before {wanted:?}"),
            }
        }
    }

    /// Reads the rest.
    async fn end(&mut self) {
        while self.line().await.is_some_and(|line| line != "0") {}
    }
}

async fn attended() -> Running {
    let server = Running::new().await;
    let (stopper, stop) = countersign_server::front::Stopper::new();
    // Stops with the runtime.
    std::mem::forget(stopper);
    tokio::spawn(minds::attend(Arc::clone(&server.place.engine), stop));
    server
}

/// H70, H71.
#[tokio::test]
async fn notices_reach_whom_they_are_for_and_an_end_is_told_at_once() {
    let server = attended().await;
    let (ada, root) = (server.token_of("ada").await, server.token_of("root").await);
    let (mut one, mut other) =
        (Listener::new(&server, &ada).await, Listener::new(&server, &root).await);
    let notice = json!({"user": "ada", "level": "warning", "text": "down at noon"});
    let reply = server.call_as(&root, "POST", "/v1/notices", notice).await;
    assert_eq!((reply.status, reply.json()), (200, json!({"reached": 1})));
    one.until("event: notice").await;
    assert_eq!(one.line().await.unwrap(), r#"data: {"level":"warning","text":"down at noon"}"#);
    let all = json!({"text": "hello"});
    let reply = server.call_as(&root, "POST", "/v1/notices", all).await;
    assert_eq!(reply.json(), json!({"reached": 2}));
    other.until("event: notice").await;
    assert_eq!(other.line().await.unwrap(), r#"data: {"level":"info","text":"hello"}"#);

    for (token, body, status) in [
        (&ada, json!({"text": "x"}), 403),
        (&root, json!({"text": ""}), 400),
        (&root, json!({"text": "a\nb"}), 400),
        (&root, json!({"text": "x", "level": "fatal"}), 400),
        (&root, json!({"text": "x", "user": "nobody"}), 404),
    ] {
        let reply = server.call_as(token, "POST", "/v1/notices", body.clone()).await;
        assert_eq!(reply.status, status, "{body}");
    }

    assert_eq!(server.call_as(&ada, "DELETE", "/v1/session", json!(null)).await.status, 204);
    one.until("event: revoked").await;
    one.end().await;
    // Disabled, and on another node.
    let path = server.place.folder.path().join("accounts.db");
    let elsewhere = countersign_store::Store::open(path, Default::default()).await.unwrap();
    let update = countersign_store::AccountUpdate { enabled: Some(false), ..Default::default() };
    let mut deputy = countersign_store::NewAccount::new("deputy");
    deputy.groups.push(("administrators".to_owned(), false));
    elsewhere.add_account(&deputy, 0).await.unwrap();
    elsewhere.update_account("root", &update).await.unwrap();
    server.place.engine.store.watch().await.unwrap();
    other.until("event: revoked").await;
    other.end().await;
    eventually(async || server.place.engine.minds.is_empty()).await;
    server.stop().await;
}

/// H72.
#[tokio::test]
async fn listeners_are_bounded_and_end_with_the_server() {
    let server = attended().await;
    let token = server.token_of("ada").await;
    let mut listeners = Vec::new();
    for _ in 0..minds::MINDS_EACH {
        listeners.push(Listener::new(&server, &token).await);
    }
    let reply = server.call_as(&token, "GET", "/v1/session/events", json!(null)).await;
    assert_eq!((reply.status, reply.header("retry-after")), (429, Some("30")));
    assert_eq!(server.call("GET", "/v1/session/events", json!(null)).await.status, 401);
    drop(listeners.pop());
    eventually(async || server.place.engine.minds.len() < minds::MINDS_EACH).await;
    server.stop().await;
    for mut listener in listeners {
        listener.end().await;
    }
}

/// H73.
#[tokio::test]
async fn a_browser_s_cookie_counts_for_pages_of_the_same_origin() {
    let server = attended().await;
    let token = server.token_of("ada").await;
    let cookie = format!("countersign={token}");
    for page in ["sec-fetch-site: same-origin", "origin: http://test"] {
        let headers = format!("cookie: {cookie}\r\n{page}\r\n");
        drop(Listener::with(&server, &headers).await);
    }
    let bearer = "Bearer nobody-s";
    for others in [
        &[][..],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "cross-site"), ("origin", "http://test")],
        &[("sec-fetch-site", "none")],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("sec-fetch-site", "same-origin"), ("authorization", bearer)],
    ] {
        let headers = [&[("cookie", cookie.as_str())], others].concat();
        let reply = server.send("GET", "/v1/session/events", &headers, b"").await;
        assert_eq!(reply.status, 401, "{others:?}");
    }
    // Nothing else of the API takes it.
    let headers = [("cookie", cookie.as_str()), ("sec-fetch-site", "same-origin")];
    assert_eq!(server.send("DELETE", "/v1/session", &headers, b"").await.status, 401);
    server.stop().await;
}

/// H80, H81.
#[tokio::test]
async fn readiness_and_metrics() {
    let server = Running::new().await;
    let reply = server.call("GET", "/readyz", json!(null)).await;
    assert_eq!((reply.status, reply.json()), (200, json!({"ready": true})));
    server.token_of("ada").await;
    let reply = server.call("GET", "/metrics", json!(null)).await;
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for line in [
        "# TYPE countersign_logins_total counter",
        "countersign_logins_total{front_end=\"http\",outcome=\"granted\"} 1",
        "countersign_login_duration_seconds_bucket{le=\"+Inf\"} 1",
        "countersign_login_duration_seconds_count 1",
        "countersign_connections 1",
        "countersign_store_up 1",
    ] {
        assert!(reply.body.lines().any(|found| found == line), "no {line:?} in\n{}", reply.body);
    }
    server.place.engine.store.close().await;
    let reply = server.call("GET", "/readyz", json!(null)).await;
    let away = json!({"ready": false, "wrong": ["the account store is away"]});
    assert_eq!((reply.status, reply.json()), (503, away));
    let reply = server.call("GET", "/metrics", json!(null)).await;
    assert!(reply.body.contains("\ncountersign_store_up 0\n"));
    assert_eq!(server.call("GET", "/healthz", json!(null)).await.status, 200);
    server.stop().await;

    let parts = [Part::Api].into_iter().collect();
    let options = HttpOptions { parts, ..HttpOptions::default() };
    let server = Running::over(Place::new().await, options).await;
    for (path, status) in [("/readyz", 200), ("/v1/session", 401)] {
        assert_eq!(server.call("GET", path, json!(null)).await.status, status, "{path}");
    }
    for path in ["/metrics", "/forward-auth", "/v1/users"] {
        let reply = server
            .raw(format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").as_bytes())
            .await;
        assert_eq!(reply.status, 404, "{path}");
    }
    server.stop().await;
}
