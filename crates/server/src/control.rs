//! The control socket: how the command line tells a running server that it changed something.
//!
//! One line, one reply: `refresh` is answered with `ok` when what was committed before is in the server's
//! copy, `reopen` when the audit file is open by its name, `reload` when the configuration was read anew, and
//! `status` at once. After the `ok` comes what there is to say, as JSON, and after `error` the text as a JSON
//! string. Only the server's own user can connect (mode 0600).

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use countersign_store::StoreError;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::engine::Engine;
use crate::front::Stop;
use crate::front::socket::Socket;
use crate::housekeeping;
use crate::live::Live;
use crate::status::Status;

const DEADLINE: Duration = Duration::from_secs(2);
/// A reload may have to wait for other machines.
const SLOW: Duration = Duration::from_secs(30);
const LINE_LIMIT: u64 = 256;
const REPLY_LIMIT: u64 = 1024 * 1024;

/// Where the control socket of a data folder is.
pub fn path(data: &Path) -> PathBuf {
    data.join("run/control")
}

/// Serves the control socket.
pub async fn serve(socket: Socket, live: Arc<Live>, mut stop: Stop) {
    loop {
        let accepted = tokio::select! {
            accepted = socket.listener.accept() => accepted,
            () = stop.requested() => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let live = Arc::clone(&live);
        tokio::spawn(async move {
            let _ = tokio::time::timeout(SLOW, answer(stream, &live)).await;
        });
    }
}

async fn answer(mut stream: UnixStream, live: &Arc<Live>) -> io::Result<()> {
    let (reading, mut writing) = stream.split();
    let mut line = String::new();
    let mut reading = tokio::io::BufReader::new(reading.take(LINE_LIMIT));
    tokio::time::timeout(DEADLINE, reading.read_line(&mut line)).await??;
    let reply = match line.trim_end() {
        "refresh" => refreshed(&live.engine).await.map(|()| None).map_err(|e| e.to_string()),
        "reopen" => {
            housekeeping::reopen(&live.engine).await;
            Ok(None)
        }
        "reload" => live.ask_for_reload().await.map(|changed| Some(serde_json::json!(changed))),
        "status" => Ok(Some(serde_json::json!(Status::of(live)))),
        _ => Err("unknown command; there are: refresh, reopen, reload, status".into()),
    };
    let reply = match reply {
        Ok(None) => "ok\n".to_owned(),
        Ok(Some(said)) => format!("ok {said}\n"),
        Err(error) => format!("error {}\n", serde_json::json!(error)),
    };
    writing.write_all(reply.as_bytes()).await
}

/// Brings the copies up to date, and what is throttled with them.
async fn refreshed(engine: &Engine) -> Result<(), StoreError> {
    let mut changes = engine.store.changes();
    engine.store.refresh().await?;
    while let Ok(batch) = changes.try_recv() {
        batch.iter().for_each(|change| engine.throttle.hear(change));
    }
    Ok(())
}

/// What a running server was told to do.
#[derive(Debug)]
pub enum Told {
    /// It is done, and this is what it says.
    Done(serde_json::Value),
    /// It cannot be done, for this reason.
    Refused(String),
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

/// Asks it to read its configuration anew. Blocks for half a minute at most.
pub fn reload(data: &Path) -> Told {
    ask(data, "reload", SLOW)
}

/// Asks it how it is: a [`Status`]. Blocks for two seconds at most.
pub fn status(data: &Path) -> Told {
    ask(data, "status", DEADLINE)
}

fn tell(data: &Path, word: &str) -> Told {
    ask(data, word, DEADLINE)
}

fn ask(data: &Path, word: &str, deadline: Duration) -> Told {
    let stream = match BlockingStream::connect(path(data)) {
        Ok(stream) => stream,
        Err(error) if is_nobody(error.kind()) => return Told::NoServer,
        Err(error) => return Told::Not(error),
    };
    let told = || -> io::Result<Told> {
        stream.set_read_timeout(Some(deadline))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        (&stream).write_all(format!("{word}\n").as_bytes())?;
        let mut reply = String::new();
        BufReader::new((&stream).take(REPLY_LIMIT)).read_line(&mut reply)?;
        let reply = reply.trim_end();
        let (word, said) = reply.split_once(' ').unwrap_or((reply, "null"));
        match word {
            "ok" => Ok(Told::Done(serde_json::from_str(said)?)),
            "error" => Ok(Told::Refused(serde_json::from_str(said)?)),
            _ => Err(io::Error::other("it hung up, or answers in another way than this version")),
        }
    };
    told().unwrap_or_else(Told::Not)
}

fn is_nobody(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}
