//! The control socket: how the command line tells a running server that it changed something.
//!
//! One line, one reply: `refresh` is answered with `ok` when what was committed before is in the server's
//! copy. Only the server's own user can connect (mode 0600).

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_store::Store;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::front::Stop;
use crate::front::socket::Socket;

const DEADLINE: Duration = Duration::from_secs(2);
const LINE_LIMIT: u64 = 256;

/// Where the control socket of a data folder is.
pub fn path(data: &Path) -> PathBuf {
    data.join("run/control")
}

/// Serves the control socket.
pub async fn serve(socket: Socket, store: Store, mut stop: Stop) {
    loop {
        let accepted = tokio::select! {
            accepted = socket.listener.accept() => accepted,
            () = stop.requested() => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let store = store.clone();
        tokio::spawn(async move {
            let _ = tokio::time::timeout(DEADLINE, answer(stream, &store)).await;
        });
    }
}

async fn answer(mut stream: UnixStream, store: &Store) -> io::Result<()> {
    let (reading, mut writing) = stream.split();
    let mut line = String::new();
    tokio::io::BufReader::new(reading.take(LINE_LIMIT)).read_line(&mut line).await?;
    let reply = match line.trim_end() {
        "refresh" => match store.refresh().await {
            Ok(_) => "ok\n".to_owned(),
            Err(error) => format!("error {}\n", error.to_string().replace('\n', " ")),
        },
        _ => "error unknown command; there is: refresh\n".to_owned(),
    };
    writing.write_all(reply.as_bytes()).await
}

/// What became of a [`refresh`].
#[derive(Debug)]
pub enum Refreshed {
    /// The running server knows.
    Told,
    /// No server runs on this folder.
    NoServer,
    /// One runs and could not be told; it looks by itself within a second.
    Untold(io::Error),
}

/// Tells the server that runs on a data folder, if one does, that the store has changed. Blocks for two
/// seconds at most.
pub fn refresh(data: &Path) -> Refreshed {
    let stream = match BlockingStream::connect(path(data)) {
        Ok(stream) => stream,
        Err(error) if is_nobody(error.kind()) => return Refreshed::NoServer,
        Err(error) => return Refreshed::Untold(error),
    };
    let told = || -> io::Result<()> {
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        (&stream).write_all(b"refresh\n")?;
        let mut reply = String::new();
        BufReader::new((&stream).take(LINE_LIMIT)).read_line(&mut reply)?;
        match reply.trim_end() {
            "ok" => Ok(()),
            other => Err(io::Error::other(other.to_owned())),
        }
    };
    told().map_or_else(Refreshed::Untold, |()| Refreshed::Told)
}

fn is_nobody(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}
