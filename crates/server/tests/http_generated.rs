//! Requests made from the description for machines: every operation, with what it says is right and with
//! what is not. Every reply is one that is described, whatever was sent, and none says that something broke.

mod support;

use std::fmt::Write as _;

use countersign_server::front::http::OPENAPI;
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use serde_json::{Map, Value, json};
use support::http::Running;
use support::schema::Schemas;

/// Requests of each operation.
const CASES: usize = 40;
/// What a request is refused with before it is looked at by its operation: the description's `Problem`.
const PROBLEMS: [u16; 11] = [400, 401, 403, 404, 405, 408, 409, 413, 415, 421, 503];

/// Texts that mean something somewhere.
const TEXTS: [&str; 20] = [
    "ada",
    "staff",
    "countess",
    "",
    " ",
    "password",
    "Ümit",
    "a\0b",
    "a\nb\r\nx: y",
    "../../etc/passwd",
    "%2e%2e%2f",
    "*)(uid=*",
    "' OR 1=1 --",
    "$(id)",
    "-s",
    "]]>",
    "\u{202e}\u{feff}\u{10ffff}",
    "2026-11-22T18:00:00Z",
    "192.0.2.1/24",
    "otp",
];

struct Maker {
    rng: TestRng,
    schemas: Schemas,
}

impl Maker {
    fn new() -> Self {
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        Self { rng, schemas: Schemas::of(OPENAPI) }
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.rng.next_u64() % bound as u64).unwrap()
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn text(&mut self) -> String {
        match self.below(24) {
            23 => "x".repeat(1 + self.below(5000)),
            index => TEXTS[index % TEXTS.len()].to_owned(),
        }
    }

    /// A value that fits the schema, as far as its keywords say.
    fn fitting(&mut self, schema: &Value) -> Value {
        let schema = self.schemas.resolved(schema).clone();
        if let Some(all) = schema["oneOf"].as_array() {
            let index = self.below(all.len());
            return self.fitting(&all[index]);
        }
        if let Some(all) = schema["enum"].as_array() {
            return all[self.below(all.len())].clone();
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => kinds[self.below(kinds.len())].clone(),
            kind => kind.clone(),
        };
        match kind.as_str().unwrap() {
            "null" => Value::Null,
            "boolean" => json!(self.one_in(2)),
            "integer" => {
                let most = schema["maximum"].as_i64().unwrap_or(i64::MAX);
                let least = schema["minimum"].as_i64().unwrap_or(i64::MIN);
                let all = [0, 1, 2, -1, 1000, least, most, 1 << 32];
                json!(all[self.below(all.len())].clamp(least, most))
            }
            "string" => {
                let text = self.text();
                let most = schema["maxLength"].as_u64().unwrap_or(u64::MAX);
                let most = usize::try_from(most).unwrap_or(usize::MAX);
                let text: String = text.chars().take(most).collect();
                json!(if text.is_empty() && schema["minLength"] == 1 { "a".into() } else { text })
            }
            "array" => {
                let count = self.below(4);
                (0..count).map(|_| self.fitting(&schema["items"])).collect()
            }
            "object" => {
                let mut object = Map::new();
                let required = schema["required"].as_array().cloned().unwrap_or_default();
                for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
                    if required.contains(&json!(name)) || self.one_in(2) {
                        object.insert(name.clone(), self.fitting(schema));
                    }
                }
                if schema["additionalProperties"].is_object() {
                    for _ in 0..self.below(4) {
                        let name = self.text();
                        let value = self.fitting(&schema["additionalProperties"]);
                        object.insert(name, value);
                    }
                }
                Value::Object(object)
            }
            other => panic!("the type `{other}` is not made by anything"),
        }
    }

    /// Anything at all, not too deep.
    fn anything(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 6 } else { 8 }) {
            0 => Value::Null,
            1 => json!(self.one_in(2)),
            2 => json!(self.rng.next_u64()),
            3 => json!(-1.5e300),
            4 | 5 => json!(self.text()),
            6 => (0..self.below(3)).map(|_| self.anything(depth - 1)).collect(),
            _ => {
                let count = self.below(3);
                let pair = |maker: &mut Self| (maker.text(), maker.anything(depth - 1));
                Value::Object((0..count).map(|_| pair(self)).collect())
            }
        }
    }

    /// The value with something about it changed.
    fn mutated(&mut self, mut value: Value) -> Value {
        match &mut value {
            Value::Object(object) if !object.is_empty() && !self.one_in(4) => {
                let names: Vec<_> = object.keys().cloned().collect();
                let name = &names[self.below(names.len())];
                match self.below(3) {
                    0 => drop(object.remove(name)),
                    1 => drop(object.insert(self.text(), self.anything(2))),
                    _ => {
                        let inner = object[name].clone();
                        object.insert(name.clone(), self.mutated(inner));
                    }
                }
                value
            }
            Value::Array(items) if !items.is_empty() && !self.one_in(4) => {
                let index = self.below(items.len());
                items[index] = self.mutated(items[index].take());
                value
            }
            _ => self.anything(3),
        }
    }

    /// The bytes of a body, and whether they are JSON.
    fn bytes(&mut self, value: &Value) -> (Vec<u8>, bool) {
        let mut bytes = value.to_string().into_bytes();
        if !self.one_in(8) {
            return (bytes, true);
        }
        match self.below(4) {
            0 => bytes.truncate(bytes.len() / 2),
            1 => bytes = vec![b'['; 1 + self.below(3000)],
            2 => bytes.push(0xff),
            _ => bytes.clear(),
        }
        let is_json = serde_json::from_slice::<Value>(&bytes).is_ok();
        (bytes, is_json)
    }

    fn path(&mut self, path: &str, operation: &Value, login: &str) -> String {
        let mut made = path.to_owned();
        let mut query = String::new();
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap();
            let value = match self.fitting(&parameter["schema"]) {
                Value::String(text) => text,
                Value::Array(all) => all.first().and_then(Value::as_str).unwrap_or("").to_owned(),
                other => other.to_string(),
            };
            let value = if self.one_in(6) { self.text() } else { value };
            match parameter["in"].as_str().unwrap() {
                "path" if path == "/v1/login/{id}" && !self.one_in(3) => {
                    made = made.replace("{id}", login);
                }
                // One part of a path is never empty.
                "path" => {
                    let value = if value.is_empty() { "x" } else { &value };
                    made = made.replace(&format!("{{{name}}}"), &encoded(value));
                }
                "query" if self.one_in(2) => {
                    let _ = write!(query, "&{name}={}", encoded(&value));
                }
                _ => {}
            }
        }
        if self.one_in(12) {
            let _ = write!(query, "&{}={}", encoded(&self.text()), encoded(&self.text()));
        }
        match query.strip_prefix('&') {
            Some(query) => format!("{made}?{query}"),
            None => made,
        }
    }
}

fn encoded(text: &str) -> String {
    let byte = |byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(*byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.as_bytes().iter().map(byte).collect()
}

#[tokio::test]
async fn every_reply_is_described_whatever_is_sent() {
    let server = Running::new().await;
    let mut maker = Maker::new();
    let paths = maker.schemas.document["paths"].as_object().unwrap().clone();
    let mut token = server.token_of("root").await;
    let (mut requests, mut done, mut refused) = (0, 0, 0);
    for (path, methods) in &paths {
        for (method, operation) in methods.as_object().unwrap() {
            // A stream has no end to wait for: only who may not listen is sent there.
            let streams = operation["responses"]["200"]["content"]["text/event-stream"].is_object();
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            for _ in 0..CASES {
                let login = server.call("POST", "/v1/login", json!({})).await.json();
                let login = login["id"].as_str().unwrap();
                let target = maker.path(path, operation, login);
                let right = !streams && !maker.one_in(10);
                let bearer = format!("Bearer {}", if right { &token } else { "x" });
                let mut headers = vec![("authorization", bearer.as_str())];
                let mut fits = true;
                let mut bytes = Vec::new();
                if schema.is_object() {
                    let mut body = maker.fitting(schema);
                    if maker.one_in(2) {
                        body = maker.mutated(body);
                    }
                    let (made, is_json) = maker.bytes(&body);
                    fits = is_json && maker.schemas.fits(schema, &body).is_ok();
                    bytes = made;
                    let odd = maker.one_in(12);
                    headers.push((
                        "content-type",
                        if odd { "text/plain" } else { "application/json" },
                    ));
                }
                let method = method.to_uppercase();
                let reply = server.send(&method, &target, &headers, &bytes).await;
                let case = || format!("{method} {target} {}", String::from_utf8_lossy(&bytes));
                let listed = &operation["responses"][reply.status.to_string()];
                let known = listed.is_object() || PROBLEMS.contains(&reply.status);
                assert!(known && reply.status != 500, "{}: {reply:?}", case());
                assert!(fits || reply.status >= 400, "taken, and not as described: {}", case());
                requests += 1;
                match reply.status {
                    ..400 => done += 1,
                    _ => refused += 1,
                }
                let ended = server.call_as(&token, "GET", "/v1/session", Value::Null).await;
                if ended.status == 401 {
                    token = server.token_of("root").await;
                }
            }
        }
    }
    // Not everything was refused for the same first reason.
    assert!(requests > 1000 && done > requests / 8 && refused > requests / 8, "{done} {refused}");
    let place = server.stop().await;
    assert!(place.engine.store.read_account("root").await.unwrap().is_some());
}
