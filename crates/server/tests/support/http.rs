//! A listener, and a client that writes requests byte by byte. Every reply is checked against the
//! description for machines.

use std::net::SocketAddr;

use countersign_server::front::http::{self, ANY, HttpOptions, OPENAPI, ROUTES};
use countersign_server::front::{Stop, Stopper};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::schema::Schemas;
use super::{PATIENCE, Place};

/// Whatever listens on a loopback port.
pub(crate) trait Served {
    fn address(&self) -> SocketAddr;
}

impl Served for Running {
    fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A server on a loopback port.
pub(crate) struct Running {
    pub(crate) place: Place,
    pub(crate) address: SocketAddr,
    pub(crate) stopper: Stopper,
    pub(crate) serving: JoinHandle<()>,
}

/// A reply.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Running {
    pub(crate) async fn new() -> Self {
        Self::over(Place::new().await, HttpOptions::default()).await
    }

    pub(crate) async fn over(place: Place, options: HttpOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stopper, stop): (_, Stop) = Stopper::new();
        let options = HttpOptions { admin: Some(place.admin.clone()), ..options };
        let engine = std::sync::Arc::clone(&place.engine);
        let serving = tokio::spawn(http::serve(listener, engine, options, stop));
        Self { place, address, stopper, serving }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        connect(self.address).await
    }

    /// Sends bytes and reads until the server closes.
    pub(crate) async fn raw(&self, request: &[u8]) -> Reply {
        raw(self.address, request).await
    }

    /// One request on a connection of its own.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += &format!("content-length: {}\r\n\r\n", body.len());
        let mut request = request.into_bytes();
        request.extend_from_slice(body);
        let reply = self.raw(&request).await;
        check(method, path, &reply);
        reply
    }

    /// A request with a JSON body, or with none for `null`.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> Reply {
        self.call_as("", method, path, body).await
    }

    /// The same, with a session's token.
    pub(crate) async fn call_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Value,
    ) -> Reply {
        let bearer = format!("Bearer {token}");
        let mut headers = Vec::new();
        if !token.is_empty() {
            headers.push(("authorization", bearer.as_str()));
        }
        if body.is_null() {
            return self.send(method, path, &headers, b"").await;
        }
        headers.push(("content-type", "application/json"));
        self.send(method, path, &headers, body.to_string().as_bytes()).await
    }

    /// Logs in with the password and gives the token.
    pub(crate) async fn token_of(&self, user: &str) -> String {
        let body =
            json!({"mechanism": "password", "answers": {"username": user, "password": "countess"}});
        let reply = self.call("POST", "/v1/login", body).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()["session"]["token"].as_str().unwrap().to_owned()
    }

    /// Stops the server and waits until everything that it does is done.
    pub(crate) async fn stop(self) -> Place {
        self.stopper.stop();
        timeout(PATIENCE, self.stopper.stopped()).await.unwrap();
        timeout(PATIENCE, self.serving).await.unwrap().unwrap();
        self.place
    }
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Of an error: its text.
    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

async fn connect(address: SocketAddr) -> TcpStream {
    timeout(PATIENCE, TcpStream::connect(address)).await.unwrap().unwrap()
}

/// Sends bytes and reads until the server closes.
pub(crate) async fn raw(address: SocketAddr, request: &[u8]) -> Reply {
    let mut stream = connect(address).await;
    // The server may close before it has read everything, which a write may notice.
    let _ = stream.write_all(request).await;
    read_reply(&mut stream).await
}

/// Reads a reply from a connection that the server closes after it.
pub(crate) async fn read_reply(stream: &mut TcpStream) -> Reply {
    let mut bytes = Vec::new();
    // A reset instead of an end: the server did not read all of the request. What it said counts.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("a reply in time");
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    if let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length: ")) {
        assert_eq!(length.parse(), Ok(body.len()), "{head}");
    }
    Reply { status, head: head.to_owned(), body: body.to_owned() }
}

/// Checks a reply against the description: the status is one of the operation's, and the body fits.
fn check(method: &str, path: &str, reply: &Reply) {
    let schemas = Schemas::of(OPENAPI);
    let path = path.split('?').next().unwrap();
    let fits = |pattern: &str| {
        let rest = pattern.contains("{*");
        let (parts, given) = (pattern.split('/').count(), path.split('/').count());
        (parts == given || rest && parts < given)
            && pattern.split('/').zip(path.split('/')).all(|(p, s)| p == s || p.starts_with('{'))
    };
    let route =
        ROUTES.iter().find(|route| [method, ANY].contains(&route.method) && fits(route.path));
    let Some(route) = route else {
        assert!([404, 405].contains(&reply.status), "{reply:?}");
        return schemas.check(&json!({"$ref": "#/components/schemas/Problem"}), &reply.json());
    };
    if path.starts_with("/v1") {
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{reply:?}");
    }
    let described = route.path.replace("{*", "{");
    let method = if route.method == ANY { "get".to_owned() } else { method.to_lowercase() };
    let operation = &schemas.document["paths"][described][method];
    let responses = operation["responses"].as_object().unwrap();
    let status = reply.status.to_string();
    let described = responses.get(&status).or_else(|| responses.get("default"));
    let described = schemas.resolved(described.unwrap_or_else(|| panic!("{route:?} {status}")));
    let content = reply.header("content-type").unwrap_or_default();
    match described["content"].as_object() {
        None => assert_eq!(reply.body, "", "{route:?} {status} has no body"),
        Some(contents) if content == "application/json" => {
            schemas.check(&contents["application/json"]["schema"], &reply.json());
        }
        Some(contents) => {
            let kind = content.split(';').next().unwrap();
            assert!(contents.contains_key(kind), "{route:?} {status}: {content}");
        }
    }
}
