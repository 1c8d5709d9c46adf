//! Requests that are wrong, too large, too slow or too many, over a real listener.

mod support;

use std::time::Duration;

use countersign_server::front::http::HttpOptions;
use serde_json::{Value, json};
use support::Place;
use support::http::{Running, read_reply};
use tokio::io::AsyncWriteExt;

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

#[tokio::test]
async fn bodies_that_are_refused() {
    let server = Running::new().await;
    let deep = format!("{{\"answers\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
    let cases: &[(&[u8], u16, &str)] = &[
        (b"", 400, "EOF while parsing a value at line 1 column 0"),
        (b"{\n\"service\": web}", 400, "expected value at line 2 column 12"),
        (b"{} {}", 400, "trailing characters at line 1 column 4"),
        (b"[\"web\",null,{},null]", 400, "it must be an object"),
        (b" 7", 400, "it must be an object"),
        (b"{\"pasword\":1}", 400, "unknown field `pasword`"),
        (b"{\"service\":\"a\",\"service\":\"b\"}", 400, "duplicate field `service`"),
        (b"{\"answers\":{\"a\":\"x\",\"a\":\"y\"}}", 400, "duplicate field `a`"),
        (b"{\"answers\":{\"a\":\"x\",\"\\u0061\":\"y\"}}", 400, "duplicate field `a`"),
        (b"{\"answers\":{\"a\":7}}", 400, "invalid type: integer"),
        (b"{\"service\":\"\xff\"}", 400, "invalid unicode code point at line 1"),
        (b"{\"service\":\"\\ud800\"}", 400, "at line 1"),
        (b"{\"service\":\"a\\tb\"}", 400, "no control characters"),
        (b"{\"service\":\"\"}", 400, "1 to 255 bytes"),
        (b"{\"supports\":[\"\"]}", 400, "`supports` must have 1 to 255 bytes"),
        (deep.as_bytes(), 400, "nests deeper than 16 levels at line 1 column 27"),
        (&[b' '; 64 * 1024 + 1], 413, "longer than 65536 bytes"),
    ];
    for (body, status, why) in cases {
        let reply = server.send("POST", "/v1/login", JSON, body).await;
        assert_eq!(reply.status, *status, "{reply:?}");
        assert!(reply.error().contains(why), "{why}: {reply:?}");
    }
    let mut largest = b"{}".to_vec();
    largest.resize(64 * 1024, b' ');
    assert_eq!(server.send("POST", "/v1/login", JSON, &largest).await.status, 200);
}

#[tokio::test]
async fn only_json_is_read() {
    let server = Running::new().await;
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let reply = server.send("POST", "/v1/login", &[("content-type", kind)], b"{}").await;
        assert_eq!(reply.status, 415);
    }
    assert_eq!(server.send("POST", "/v1/login", &[], b"{}").await.status, 415);
    let kind = [("content-type", "application/json; charset=utf-8")];
    assert_eq!(server.send("POST", "/v1/login", &kind, b"{}").await.status, 200);
}

#[tokio::test]
async fn pieces_make_a_body_and_are_counted() {
    let server = Running::new().await;
    let head = "POST /v1/login HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\
                content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let whole = format!("{head}1\r\n{{\r\n1\r\n}}\r\n0\r\n\r\n");
    assert_eq!(server.raw(whole.as_bytes()).await.status, 200);
    let piece = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
    let endless = format!("{head}{}", piece.repeat(17));
    assert_eq!(server.raw(endless.as_bytes()).await.status, 413);
}

#[tokio::test]
async fn paths_and_methods() {
    let server = Running::new().await;
    assert_eq!(server.call("GET", "/healthz", Value::Null).await.body, "ok\n");
    assert_eq!(server.call("GET", "/v1/openapi.json", Value::Null).await.status, 200);
    assert_eq!(server.call("GET", "/nothing", Value::Null).await.status, 404);
    assert_eq!(server.call("GET", "/v1/login/", Value::Null).await.status, 404);
    let reply = server.call("PUT", "/v1/login", json!({})).await;
    assert_eq!((reply.status, reply.header("allow")), (405, Some("POST")));
}

#[tokio::test]
async fn heads_that_are_refused() {
    let server = Running::new().await;
    let long = format!("GET /healthz HTTP/1.1\r\nhost: test\r\nx: {}\r\n\r\n", "x".repeat(200_000));
    assert_eq!(server.raw(long.as_bytes()).await.status, 431);
    let many = format!("GET /healthz HTTP/1.1\r\nhost: test\r\n{}\r\n", "x: y\r\n".repeat(100));
    assert_eq!(server.raw(many.as_bytes()).await.status, 431);
    assert_eq!(server.raw(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n").await.status, 400);
    // Two lengths: whoever is in front of us may have counted by the other one.
    let smuggled = b"POST /v1/login HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n\
        content-length: 2\r\ncontent-length: 9\r\n\r\n{}GET / HT";
    assert_eq!(server.raw(smuggled).await.status, 400);
}

fn hurried() -> HttpOptions {
    let short = Duration::from_millis(50);
    HttpOptions { head_timeout: short, body_timeout: short, ..HttpOptions::default() }
}

#[tokio::test]
async fn slow_heads_and_idle_connections_are_closed() {
    use tokio::io::AsyncReadExt as _;
    let server = Running::over(Place::new().await, hurried()).await;
    for begun in ["", "GET /healthz HTTP/1.1\r\nhost: te"] {
        let mut stream = server.connect().await;
        stream.write_all(begun.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        let end = tokio::time::timeout(support::PATIENCE, stream.read_to_end(&mut said)).await;
        end.expect("the server closes").unwrap();
        assert!(!String::from_utf8_lossy(&said).contains("200"), "{said:?}");
    }
    // Kept alive after a request, and then idle.
    let mut stream = server.connect().await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    assert_eq!(read_reply(&mut stream).await.body, "ok\n");
}

#[tokio::test]
async fn slow_bodies_are_given_up() {
    let server = Running::over(Place::new().await, hurried()).await;
    let mut stream = server.connect().await;
    let begun = b"POST /v1/login HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n\
        content-length: 10\r\n\r\n{";
    stream.write_all(begun).await.unwrap();
    assert_eq!(read_reply(&mut stream).await.status, 408);
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let options = HttpOptions { connections: 1, ..HttpOptions::default() };
    let server = Running::over(Place::new().await, options).await;
    let mut first = server.connect().await;
    // Answered, so that it is counted.
    first.write_all(b"GET /healthz HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    first.readable().await.unwrap();
    let mut second = server.connect().await;
    let reply = read_reply(&mut second).await;
    assert_eq!(reply.status, 503);
    assert!(reply.error().contains("too many connections"));
    drop(first);
    support::eventually(|| async {
        let mut third = server.connect().await;
        let request = b"GET /healthz HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
        let _ = third.write_all(request).await;
        read_reply(&mut third).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn requests_have_a_deadline() {
    let request_timeout = Duration::from_millis(50);
    let options = HttpOptions { request_timeout, ..HttpOptions::default() };
    let server = Running::over(Place::new().await, options).await;
    let body = json!({"answers": {"username": "slow", "password": "countess"}});
    let reply = server.call("POST", "/v1/login", body).await;
    assert_eq!(reply.status, 503);
    assert!(reply.error().contains("too long"));
    server.place.gate.open.notify_one();
    let place = server.stop().await;
    assert_eq!(place.audit().len(), 1, "it is in the record all the same");
}
