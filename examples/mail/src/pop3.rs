//! POP3: RFC 1939, with CAPA (RFC 2449), STLS (RFC 2595), AUTH (RFC 5034), response codes (RFC 3206) and UTF-8
//! names (RFC 6856).
//!
//! The protocol knows its commands, one portal and a maildrop. How somebody proves who they are is not here.

mod authorization;
mod maildrop;
mod transaction;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use countersign::{Peer, Realm, Session, Transport};
use tokio::time::Instant;

use crate::notice::{Notices, Teller};
use crate::server::{End, Server};
use crate::wire::{Line, Silence, Wire};

pub use maildrop::{Letter, Maildrop, Pop3Mailbox, Work};

/// The longest line of a command. The RFC demands 255 (RFC 2449, section 4); an AUTH command may bring more.
const LINE: usize = 16 * 1024;

/// What is sent away with, who comes when there is no place.
pub const FULL: &[u8] = b"-ERR [SYS/TEMP] Too many connections\r\n";

/// One connection.
struct Connection<'a, R> {
    server: &'a Server<R>,
    wire: Wire,
    peer: Arc<Peer>,
    deadline: Instant,
    /// The server's.
    end: End<'a>,
    /// What the realm has to say to this client, once it is logged in.
    notices: Notices,
    teller: Teller,
}

/// Why a connection ends: there is nobody to tell.
struct Over;

impl From<std::io::Error> for Over {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

/// A command: its word in capitals, and what follows.
struct Command {
    word: String,
    /// The rest of the line, as it came. A password may begin with a space.
    rest: Line,
}

/// Serves one connection until it ends. Whoever is logged in then is logged out, once: at `QUIT`, when the client
/// leaves, when it is silent for too long, and when this future is dropped.
pub async fn serve<R: Realm<Pop3Mailbox>>(server: &Server<R>, wire: Wire, mut peer: Peer) {
    // Drawn for each connection, and only where somebody could use it (RFC 1939, section 7).
    if server.portal.offers("APOP") {
        peer.more.greeting = Some(timestamp(server).into());
    }
    let (teller, notices) = Teller::new();
    let deadline = server.login_by();
    let peer = Arc::new(peer);
    let end = server.end();
    let connection = Connection { server, wire, peer, deadline, end, notices, teller };
    // In a box: the whole conversation, and each connection waits with one.
    let _ = Box::pin(connection.run()).await;
}

impl<R: Realm<Pop3Mailbox>> Connection<'_, R> {
    async fn run(mut self) -> Result<(), Over> {
        let greeting = self.peer.more.greeting.as_deref().unwrap_or_default();
        let greeting = format!("+OK {} POP3 ready {greeting}", self.server.host);
        self.say(greeting.trim_end());
        let Some((connection, session)) = self.authorization().await? else { return Ok(()) };
        connection.transaction(session).await
    }

    fn say(&mut self, line: &str) {
        self.wire.say(line);
        self.wire.say(b"\r\n");
    }

    fn say_all(&mut self, first: &str, lines: impl IntoIterator<Item = String>) {
        self.say(first);
        for line in lines {
            self.say(&line);
        }
        self.say(".");
    }

    /// The next command. Lines that are none are answered here.
    async fn command(&mut self) -> Result<Command, Over> {
        loop {
            let heard = tokio::select! {
                biased;
                () = &mut self.end => {
                    // Nothing says so in POP3, and nothing is removed.
                    let _ = self.wire.flush().await;
                    return Err(Over);
                }
                heard = self.wire.line(LINE, self.deadline) => heard,
            };
            let line = match heard {
                Ok(line) => line,
                Err(Silence::TooLong) => {
                    self.say("-ERR The line is too long");
                    continue;
                }
                // RFC 1939, section 3: the connection is closed without a word, and nothing is removed.
                Err(Silence::TimedOut | Silence::Left) => return Err(Over),
            };
            let end = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
            let (word, rest) = line.split_at(end);
            if word.is_empty() || !word.iter().all(u8::is_ascii_alphanumeric) {
                self.say("-ERR That is no command");
                continue;
            }
            let word = String::from_utf8_lossy(word).to_ascii_uppercase();
            let rest = rest.get(1..).unwrap_or_default().to_vec();
            return Ok(Command { word, rest: rest.into() });
        }
    }

    async fn secure(self) -> Result<Self, Over> {
        let Some(tls) = &self.server.tls else { return Err(Over) };
        let (wire, channel) = self.wire.secure(tls).await?;
        let mut peer = Arc::unwrap_or_clone(self.peer);
        channel.tell(&mut peer);
        // What was said before counts for nothing now (RFC 2595, section 4).
        Ok(Self { wire, peer: Arc::new(peer), ..self })
    }

    /// RFC 2449, section 5.
    fn capabilities(&self, logged_in: bool) -> Vec<String> {
        let mut all = ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "UTF8 USER"]
            .map(str::to_owned)
            .to_vec();
        all.push("EXPIRE NEVER".into());
        all.push("IMPLEMENTATION countersign-example-mail".into());
        let mechanisms = crate::login::mechanisms(&self.server.portal, &self.peer);
        if !mechanisms.is_empty() {
            all.push(format!("SASL {}", mechanisms.join(" ")));
        }
        if crate::login::takes_password(&self.server.portal, &self.peer) {
            all.push("USER".into());
        }
        if !logged_in && self.may_secure() {
            all.push("STLS".into());
        }
        all
    }

    fn may_secure(&self) -> bool {
        self.server.tls.is_some() && self.peer.transport != Transport::Tls
    }
}

impl Command {
    /// The rest as text, if there is one.
    fn argument(&self) -> Option<&str> {
        std::str::from_utf8(&self.rest).ok().map(str::trim).filter(|text| !text.is_empty())
    }
}

/// `<random.seconds@host>`: never twice, and not to be foreseen.
fn timestamp<R>(server: &Server<R>) -> String {
    let mut random = [0; 16];
    server.world.fill(&mut random);
    let seconds = server.world.now().unix;
    format!("<{}.{seconds}@{}>", BASE64_URL_SAFE_NO_PAD.encode(random), server.host)
}

/// Why somebody does not get at a maildrop (RFC 2449, section 8.1.1; RFC 3206, section 4).
fn closed(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ResourceBusy => "[IN-USE] Another session has this mailbox",
        _ => {
            tracing::error!("a mailbox cannot be opened: {error}");
            "[SYS/TEMP] The mailbox cannot be opened now"
        }
    }
}

/// A session of POP3's.
type Mail = Session<Pop3Mailbox>;
