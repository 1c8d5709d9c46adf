//! A session channel (RFC 4254 §6): what is asked for in it, and the program that then runs.

use std::sync::Arc;
use std::time::Duration;

use russh::server::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf};
use tokio::io::{AsyncWriteExt, duplex};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use crate::server::{Limits, Server};
use crate::shell::{Asked, Seat, Streams, Teller};

/// How much of what a client sends may wait for the program, in bytes.
const AHEAD: usize = 64 * 1024;
/// Until a client has closed what is closed here.
const LEAVING: Duration = Duration::from_secs(1);
/// The stream of errors (RFC 4254 §5.2).
const ERRORS: u32 = 1;

/// Serves a channel until the program in it has ended, the client has closed it, or the server ends: then the
/// program is dropped. What the client asks for, [`Connection`](crate::connection) has answered already.
pub async fn serve<R>(
    channel: Channel<Msg>,
    seat: Box<dyn Seat>,
    teller: Teller,
    server: Arc<Server<R>>,
) {
    let limits = server.limits;
    let (mut read, write) = channel.split();
    let wanted = asked(&mut read, seat.permits_terminal());
    let asked = tokio::select! {
        biased;
        asked = timeout(limits.channel, wanted) => asked,
        () = server.stopping() => Ok(None),
    };
    let Ok(Some(asked)) = asked else {
        let _ = write.close().await;
        return;
    };
    let (mut to_program, input) = duplex(AHEAD);
    let mut said = Box::pin(write.make_writer());
    // Who runs one command is not to find something else in what it prints.
    let shell = asked.command.is_none();
    let (start, end) = if asked.terminal { ("\r\n* ", "\r\n") } else { ("* ", "\n") };
    let mut heard = teller.listen();
    let streams = Streams {
        input: Box::new(input),
        output: Box::new(Box::pin(write.make_writer())),
        errors: Box::new(Box::pin(write.make_writer_ext(Some(ERRORS)))),
    };
    let mut program = seat.run(asked, streams);
    let reading = pump(&mut read, &mut to_program, limits);
    // What was told before the server ends is said before it does.
    let telling = async {
        loop {
            let word = tokio::select! {
                biased;
                word = hear(&mut heard) => word,
                () = server.stopping() => None,
            };
            let Some(word) = word else { break };
            let line = format!("{start}{word}{end}");
            if shell
                && !matches!(
                    timeout(limits.stuck, said.write_all(line.as_bytes())).await,
                    Ok(Ok(()))
                )
            {
                break;
            }
        }
    };
    let (status, left) = tokio::select! {
        biased;
        status = &mut program => (Some(status), false),
        () = reading => (None, true),
        () = telling => (None, false),
    };
    drop(program);
    if let Some(status) = status {
        let _ = write.exit_status(status).await;
    }
    let _ = write.eof().await;
    let _ = write.close().await;
    // A client that hears of the end of its connection at once shows nothing of what came before.
    let heard = async {
        while read.wait().await.is_some_and(|message| !matches!(message, ChannelMsg::Close)) {}
    };
    if !left {
        let _ = timeout(LEAVING, heard).await;
    }
}

/// What the client wants to run. Nothing: it has closed the channel.
async fn asked(read: &mut ChannelReadHalf, permits_terminal: bool) -> Option<Asked> {
    let mut terminal = false;
    loop {
        match read.wait().await? {
            ChannelMsg::RequestPty { .. } => terminal = permits_terminal,
            ChannelMsg::RequestShell { .. } => return Some(Asked { command: None, terminal }),
            ChannelMsg::Exec { command, .. } => {
                if let Ok(command) = String::from_utf8(command) {
                    return Some(Asked { command: Some(command), terminal });
                }
            }
            ChannelMsg::Close => return None,
            _ => {}
        }
    }
}

/// Hands the program what the client sends, until the client closes the channel, or the program takes nothing for
/// too long: what it leaves would keep the whole connection waiting.
async fn pump(
    read: &mut ChannelReadHalf,
    to_program: &mut tokio::io::DuplexStream,
    limits: Limits,
) {
    let mut open = true;
    while let Some(message) = read.wait().await {
        match message {
            ChannelMsg::Data { data } if open => {
                match timeout(limits.stuck, to_program.write_all(&data)).await {
                    Ok(written) => open = written.is_ok(),
                    Err(_) => {
                        tracing::info!("a program does not read what its client sends");
                        return;
                    }
                }
            }
            ChannelMsg::Eof if open => open = to_program.shutdown().await.is_err(),
            ChannelMsg::Close => return,
            _ => {}
        }
    }
}

/// The next thing that is told. Nothing: nobody can tell any more.
async fn hear(heard: &mut broadcast::Receiver<Arc<str>>) -> Option<Arc<str>> {
    loop {
        match heard.recv().await {
            Ok(word) => return Some(word),
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return None,
        }
    }
}
