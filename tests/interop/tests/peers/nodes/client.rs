//! Who asks the nodes: over HTTP, a connection for each request, and over Dovecot's protocol.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Barrier;
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use countersign_interop::{Context, Countersign, Outcome, Trouble, ensure};
use serde_json::{Value, json};

/// Above the server's own limits for a call of the store and a step of a login.
const PATIENCE: Duration = Duration::from_secs(20);

/// A reply over HTTP.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) fn granted(&self) -> bool {
        self.status == 200 && self.body["status"] == "granted"
    }

    pub(crate) fn denied(&self) -> bool {
        self.status == 401 && self.body["reason"] == "denied"
    }

    /// Nobody decided: the client may ask again.
    pub(crate) fn later(&self) -> bool {
        matches!(self.status, 429 | 503) && self.body["status"] != "granted"
    }

    pub(crate) fn token(&self) -> Outcome<String> {
        ensure!(self.granted(), "not let in: {self:?}");
        Ok(self.body["session"]["token"].as_str().during("a token")?.to_owned())
    }
}

/// A request on a connection that is made already.
pub(crate) struct Ready {
    stream: TcpStream,
    text: String,
}

impl Ready {
    pub(crate) fn to(
        node: &Countersign,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Outcome<Self> {
        let stream = TcpStream::connect(&node.http).during("connecting")?;
        stream.set_read_timeout(Some(PATIENCE)).during("a deadline")?;
        let mut text = format!("{method} {path} HTTP/1.1\r\nhost: nodes\r\nconnection: close\r\n");
        if let Some(token) = token {
            text += &format!("authorization: Bearer {token}\r\n");
        }
        match body.map(Value::to_string) {
            Some(body) => {
                let length = body.len();
                text += "content-type: application/json\r\n";
                text += &format!("content-length: {length}\r\n\r\n{body}");
            }
            None => text += "\r\n",
        }
        Ok(Self { stream, text })
    }

    pub(crate) fn send(mut self) -> Outcome<Reply> {
        self.stream.write_all(self.text.as_bytes()).during("a request")?;
        let mut reply = String::new();
        self.stream.read_to_string(&mut reply).during("a reply")?;
        let (head, body) = reply.split_once("\r\n\r\n").during("the end of a head")?;
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        let body = serde_json::from_str(body).unwrap_or_else(|_| body.into());
        Ok(Reply { status: status.during("a status")?, head: head.to_ascii_lowercase(), body })
    }
}

/// Sends requests at the same moment, and gives the replies in the same order.
pub(crate) fn all_at_once(requests: Vec<Ready>) -> Outcome<Vec<Reply>> {
    let start = Barrier::new(requests.len());
    let send = |ready: Ready| {
        start.wait();
        ready.send()
    };
    thread::scope(|scope| {
        let threads: Vec<_> =
            requests.into_iter().map(|ready| scope.spawn(|| send(ready))).collect();
        let join = |thread: ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_| Err(Trouble::failed("a panic")))
        };
        threads.into_iter().map(join).collect()
    })
}

pub(crate) fn call(
    node: &Countersign,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Option<&Value>,
) -> Outcome<Reply> {
    Ready::to(node, method, path, token, body)?.send()
}

/// A login with a password, over HTTP.
pub(crate) fn login(node: &Countersign, user: &str, password: &str) -> Outcome<Reply> {
    attempt(node, user, password)?.send()
}

/// The same, ready to be sent.
pub(crate) fn attempt(node: &Countersign, user: &str, password: &str) -> Outcome<Ready> {
    let body = json!({ "answers": { "username": user, "password": password } });
    Ready::to(node, "POST", "/v1/login", None, Some(&body))
}

/// What a proxy is told about a session.
pub(crate) fn forward_auth(node: &Countersign, token: &str) -> Outcome<u16> {
    Ok(call(node, "GET", "/forward-auth", Some(token), None)?.status)
}

/// What a mail server is told about a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mail {
    Ok,
    /// Wrong, for good.
    No,
    /// Try again later.
    Later,
}

/// A login over Dovecot's protocol, on a connection of its own.
pub(crate) fn mail_login(socket: &Path, user: &str, password: &str) -> Outcome<Mail> {
    let mut stream = UnixStream::connect(socket).during(socket.display())?;
    stream.set_read_timeout(Some(PATIENCE)).during("a deadline")?;
    let resp = BASE64_STANDARD.encode(format!("\0{user}\0{password}"));
    let lines = format!(
        "VERSION\t1\t2\nCPID\t1\nAUTH\t1\tPLAIN\tservice=imap\tsecured\trip=127.0.0.1\tresp={resp}\n"
    );
    stream.write_all(lines.as_bytes()).during("a login")?;
    for line in BufReader::new(stream).lines() {
        let line = line.during("a reply")?;
        let mut words = line.split('\t');
        match words.next() {
            Some("OK") => return Ok(Mail::Ok),
            Some("FAIL") if words.any(|word| word == "temp") => return Ok(Mail::Later),
            Some("FAIL") => return Ok(Mail::No),
            _ => {}
        }
    }
    Err(Trouble::failed("the connection was closed on a login"))
}
