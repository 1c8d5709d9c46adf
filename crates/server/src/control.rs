//! The control socket: how the command line tells a running server that it changed something.
//!
//! One line, one reply: `refresh` is answered with `ok` when what was committed before is in the server's
//! copy, `reopen` when the audit file is open by its name. Only the server's own user can connect (mode 0600).

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::engine::Engine;
use crate::front::Stop;
use crate::front::socket::Socket;
use crate::housekeeping;

const DEADLINE: Duration = Duration::from_secs(2);
const LINE_LIMIT: u64 = 256;

/// Where the control socket of a data folder is.
pub fn path(data: &Path) -> PathBuf {
    data.join("run/control")
}

/// Serves the control socket.
pub async fn serve(socket: Socket, engine: Arc<Engine>, mut stop: Stop) {
    loop {
        let accepted = tokio::select! {
            accepted = socket.listener.accept() => accepted,
            () = stop.requested() => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let engine = Arc::clone(&engine);
        tokio::spawn(async move {
            let _ = tokio::time::timeout(DEADLINE, answer(stream, &engine)).await;
        });
    }
}

async fn answer(mut stream: UnixStream, engine: &Arc<Engine>) -> io::Result<()> {
    let (reading, mut writing) = stream.split();
    let mut line = String::new();
    tokio::io::BufReader::new(reading.take(LINE_LIMIT)).read_line(&mut line).await?;
    let reply = match line.trim_end() {
        "refresh" => match engine.store.refresh().await {
            Ok(_) => "ok\n".to_owned(),
            Err(error) => format!("error {}\n", error.to_string().replace('\n', " ")),
        },
        "reopen" => {
            housekeeping::reopen(engine).await;
            "ok\n".to_owned()
        }
        _ => "error unknown command; there are: refresh, reopen\n".to_owned(),
    };
    writing.write_all(reply.as_bytes()).await
}

/// What a running server was told to do.
#[derive(Debug)]
pub enum Told {
    /// It is done.
    Done,
    /// No server runs on this folder.
    NoServer,
    /// One runs and could not be told.
    Not(io::Error),
}

/// Tells the server that runs on a data folder, if one does, that the store has changed. Without this it looks
/// by itself within a second. Blocks for two seconds at most.
pub fn refresh(data: &Path) -> Told {
    tell(data, "refresh")
}

/// Tells it to open the audit file by its name again, as after a rotation. It looks by itself within a second,
/// too. Blocks for two seconds at most.
pub fn reopen(data: &Path) -> Told {
    tell(data, "reopen")
}

fn tell(data: &Path, word: &str) -> Told {
    let stream = match BlockingStream::connect(path(data)) {
        Ok(stream) => stream,
        Err(error) if is_nobody(error.kind()) => return Told::NoServer,
        Err(error) => return Told::Not(error),
    };
    let told = || -> io::Result<()> {
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        (&stream).write_all(format!("{word}\n").as_bytes())?;
        let mut reply = String::new();
        BufReader::new((&stream).take(LINE_LIMIT)).read_line(&mut reply)?;
        match reply.trim_end() {
            "ok" => Ok(()),
            other => Err(io::Error::other(other.to_owned())),
        }
    };
    told().map_or_else(Told::Not, |()| Told::Done)
}

fn is_nobody(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}
