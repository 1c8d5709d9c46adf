//! A mail server, line by line.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_server::front::dovecot::{self, DovecotOptions};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::sockets::{PATIENCE, Place};

pub(crate) const HELLO: &str = "VERSION\t1\t0\nCPID\t4711\n";

impl Place {
    /// Serves the protocol on the place's socket.
    pub(crate) fn serve_dovecot(&mut self, options: DovecotOptions) {
        let (socket, stop) = (self.socket(), self.take_stop());
        tokio::spawn(dovecot::serve(socket, Arc::clone(&self.engine), options, stop));
    }

    pub(crate) async fn dovecot() -> Self {
        let mut place = Self::new().await;
        place.serve_dovecot(DovecotOptions::default());
        place
    }

    pub(crate) async fn client(&self) -> Client {
        let mut client = self.silent_client().await;
        client.send(HELLO).await;
        client.greeting().await;
        client
    }

    pub(crate) async fn silent_client(&self) -> Client {
        Client(BufReader::new(UnixStream::connect(self.path()).await.unwrap()))
    }
}

pub(crate) struct Client(pub(crate) BufReader<UnixStream>);

impl Client {
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = tokio::time::timeout(PATIENCE, self.0.get_mut().write_all(bytes.as_ref())).await;
        sent.expect("the server does not read").unwrap();
    }

    /// The next line, without its end.
    pub(crate) async fn line(&mut self) -> String {
        let mut line = Vec::new();
        let read = tokio::time::timeout(PATIENCE, self.0.read_until(b'\n', &mut line)).await;
        read.expect("the server says nothing").unwrap();
        assert_eq!(line.pop(), Some(b'\n'), "the server has closed");
        String::from_utf8(line).unwrap()
    }

    pub(crate) async fn greeting(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.last().is_none_or(|line| line != "DONE") {
            lines.push(self.line().await);
        }
        lines
    }

    pub(crate) async fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\n")).await;
        self.line().await
    }

    /// Everything up to the end, which must come.
    pub(crate) async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut rest)).await;
        match read.expect("the server does not close") {
            // What the server has not read when it closes is how the kernel puts it.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            read => drop(read.unwrap()),
        }
        String::from_utf8(rest).unwrap()
    }
}

/// An AUTH line for PLAIN.
pub(crate) fn plain(id: u32, user: &str, password: &str) -> String {
    let message = b64(format!("\0{user}\0{password}"));
    format!("AUTH\t{id}\tPLAIN\tservice=smtp\tresp={message}")
}

pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}
