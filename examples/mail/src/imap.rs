//! IMAP4rev1: RFC 3501, with SASL-IR (RFC 4959), IDLE (RFC 2177), UIDPLUS (RFC 4315), UNSELECT (RFC 3691), MOVE
//! (RFC 6851), LITERAL- (RFC 7888) and response codes (RFC 5530). Commands and answers go through `imap-codec`.
//!
//! The protocol knows its commands, one portal and somebody's folders. How somebody proves who they are is not
//! here.

mod authenticate;
mod commands;
mod fetch;
mod folders;
mod idle;
mod mailbox;
mod messages;
mod mime;
mod search;
mod selected;
mod structure;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use countersign::{Peer, Realm, Session, Transport};
use imap_codec::CommandCodec;
use imap_codec::decode::{CommandDecodeError, Decoder};
use imap_codec::imap_types::core::LiteralMode;
use tokio::time::Instant;

use crate::maildir::LARGEST;
use crate::notice::{Notice, Notices, Teller};
use crate::server::{End, Server};
use crate::wire::{Line, Silence, Wire};

pub use mailbox::{Change, ImapMailbox, Letter, Look, Mailbox, Work};
use selected::Selected;

/// The folder that is always there.
pub const INBOX: &str = "INBOX";
/// The longest command without a message in it, literals included (RFC 2683, section 3.2.1.5, wants 8,000).
const COMMAND: usize = 64 * 1024;

/// What is sent away with, who comes when there is no place.
pub const FULL: &[u8] = b"* BYE [UNAVAILABLE] Too many connections\r\n";

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
    /// Whoever is logged in.
    mail: Option<Session<ImapMailbox>>,
    selected: Option<Selected>,
    /// Whether something came, or was changed, since the client was last told of such things.
    changed: bool,
    refusals: u32,
}

/// Why a connection ends: all is said.
struct Over;

impl From<std::io::Error> for Over {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

/// Serves one connection until it ends. Whoever is logged in then is logged out, once: at `LOGOUT`, when the
/// client leaves, when it is silent for too long, and when this future is dropped.
pub async fn serve<R: Realm<ImapMailbox>>(server: &Server<R>, wire: Wire, peer: Peer) {
    let (teller, notices) = Teller::new();
    let connection = Connection {
        server,
        wire,
        peer: Arc::new(peer),
        deadline: server.login_by(),
        end: server.end(),
        notices,
        teller,
        mail: None,
        selected: None,
        changed: false,
        refusals: 0,
    };
    let _ = Box::pin(connection.run()).await;
}

impl<R: Realm<ImapMailbox>> Connection<'_, R> {
    async fn run(mut self) -> Result<(), Over> {
        let greeting = format!("{} IMAP ready", self.server.host);
        self.say(&format!("* OK [CAPABILITY {}] {greeting}", self.capabilities()));
        loop {
            if self.mail.is_some() {
                self.deadline = self.server.idle_until();
            }
            let command = self.command().await?;
            self = self.answer(&command).await?;
            self.wire.flush_if_much().await?;
        }
    }

    fn say(&mut self, line: &str) {
        self.wire.say(line);
        self.wire.say(b"\r\n");
    }

    /// RFC 3501, section 7.2.1.
    fn capabilities(&self) -> String {
        let mut all = vec!["IMAP4rev1".to_owned(), "LITERAL-".to_owned()];
        if self.mail.is_some() {
            all.extend(["IDLE", "UIDPLUS", "UNSELECT", "MOVE"].map(str::to_owned));
            return all.join(" ");
        }
        all.push("SASL-IR".to_owned());
        let mechanisms = crate::login::mechanisms(&self.server.portal, &self.peer);
        all.extend(mechanisms.iter().map(|name| format!("AUTH={name}")));
        if self.may_secure() {
            all.push("STARTTLS".to_owned());
        }
        if !crate::login::takes_password(&self.server.portal, &self.peer) {
            all.push("LOGINDISABLED".to_owned());
        }
        all.join(" ")
    }

    fn may_secure(&self) -> bool {
        self.server.tls.is_some() && self.peer.transport != Transport::Tls
    }

    /// The next command, with its literals. Lines that are none are answered here.
    async fn command(&mut self) -> Result<Line, Over> {
        loop {
            if let Some(command) = self.one_command().await? {
                return Ok(command);
            }
            self.wire.flush_if_much().await?;
        }
    }

    async fn one_command(&mut self) -> Result<Option<Line>, Over> {
        let mut command = Line::default();
        loop {
            let line = match self.line().await? {
                Some(line) => line,
                None => {
                    self.say("* BAD The line is too long");
                    return Ok(None);
                }
            };
            grow(&mut command, &line);
            grow(&mut command, b"\r\n");
            let found = match CommandCodec::new().decode(&command) {
                Ok(_) => return Ok(Some(command)),
                Err(CommandDecodeError::LiteralFound { tag, length, mode }) => {
                    Some((tag.inner().to_owned(), u64::from(length), mode))
                }
                Err(CommandDecodeError::Incomplete | CommandDecodeError::Failed) => None,
            };
            let Some((tag, length, mode)) = found else {
                self.say(&format!("{} BAD That is no command", tag_of(&command)));
                return Ok(None);
            };
            let most = if self.mail.is_some() && is_append(&command) { LARGEST } else { 0 };
            let most = most.max((COMMAND as u64).saturating_sub(command.len() as u64));
            let too_long = length > most;
            match mode {
                LiteralMode::Sync if too_long => {
                    self.say(&format!("{tag} NO [TOOBIG] That is too long"));
                    return Ok(None);
                }
                LiteralMode::Sync => self.say("+ Go on"),
                // It is on its way already, and nobody wants to read all of it.
                LiteralMode::NonSync if too_long => {
                    return self.bye("[TOOBIG] That is too long").await;
                }
                LiteralMode::NonSync => {}
            }
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let literal = tokio::select! {
                biased;
                () = &mut self.end => Err(Silence::Left),
                literal = self.wire.exactly(length, self.deadline) => literal,
            };
            grow(&mut command, &literal.map_err(|_| Over)?);
        }
    }

    /// A line; `None` for one that is too long.
    async fn line(&mut self) -> Result<Option<Line>, Over> {
        let heard = tokio::select! {
            biased;
            () = &mut self.end => None,
            heard = self.wire.line(COMMAND, self.deadline) => Some(heard),
        };
        match heard {
            Some(Ok(line)) => Ok(Some(line)),
            Some(Err(Silence::TooLong)) => Ok(None),
            Some(Err(Silence::Left)) => Err(Over),
            Some(Err(Silence::TimedOut)) => self.bye("You said nothing for too long").await,
            None => {
                self.hear_news();
                self.bye("[UNAVAILABLE] The server ends now").await
            }
        }
    }

    /// The end (RFC 3501, section 7.1.5).
    async fn bye<T>(&mut self, text: &str) -> Result<T, Over> {
        self.say(&format!("* BYE {text}"));
        let _ = self.wire.flush().await;
        Err(Over)
    }

    /// Takes in what the realm has said, and passes on what is for the person (RFC 3501, section 7.1).
    fn hear_news(&mut self) {
        while let Some(notice) = self.notices.waiting() {
            self.hear(&notice);
        }
    }

    fn hear(&mut self, notice: &Notice) {
        match notice {
            Notice::Changed => self.changed = true,
            Notice::Say(text) => {
                let printable = text.chars().filter(|c| (' '..='~').contains(c)).take(200);
                let text = printable.collect::<String>();
                self.say(&format!("* OK [ALERT] {text}"));
            }
        }
    }
}

/// Adds to what may hold a password, and leaves no copy of it behind.
fn grow(command: &mut Line, bytes: &[u8]) {
    if command.capacity() - command.len() < bytes.len() {
        let mut larger = Vec::with_capacity((command.len() + bytes.len()) * 2);
        larger.extend_from_slice(command);
        *command = larger.into();
    }
    command.extend_from_slice(bytes);
}

/// The tag of what is otherwise no command, or `*`.
fn tag_of(command: &[u8]) -> &str {
    let end = command.iter().position(|byte| *byte == b' ').unwrap_or_default();
    let tag = command.get(..end).unwrap_or_default();
    let good = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
    match std::str::from_utf8(tag) {
        Ok(tag) if !tag.is_empty() && tag.len() <= 64 && tag.bytes().all(|byte| good(&byte)) => tag,
        _ => "*",
    }
}

fn is_append(command: &[u8]) -> bool {
    let word = command.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    word.eq_ignore_ascii_case(b"APPEND")
}
