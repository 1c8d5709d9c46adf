//! Logging in over a line protocol: a password that was given, or a SASL mechanism a message at a time.
//!
//! What the mechanisms are called and what they say is nobody's business here: the portal says which a peer may
//! begin with, and each question is a line.

use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use countersign::{
    Answers, Challenge, Denial, Fault, Halt, Identity, Interface, Known, LoginError, Mechanism,
    Peer, Portal, Public, Realm, Reason, Reply, Request, Secret, Session, Verified,
};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::server::Server;
use crate::wire::{Silence, Wire};

/// How much of what a client says ahead is kept while its login is under way.
const AHEAD: usize = 16 * 1024;
/// The longest line of a SASL message: 12,288 bytes (RFC 5034, section 4), and more for tickets.
const LINE: usize = 64 * 1024;

/// Not SASL's, although it asks for one token: POP3 has a command of its own for it.
const APOP: &str = "APOP";
/// Lets in whom a lower layer has authenticated, and is of no use where none has.
const EXTERNAL: &str = "EXTERNAL";

/// Why nobody got in.
#[derive(Debug)]
pub enum Refused {
    /// The peer may try again: what it may learn.
    Told(Told),
    /// The connection is over.
    Over,
}

/// What a peer may learn about its login, for each protocol to say in its own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// No.
    No,
    /// The password must be changed first.
    Change,
    /// Not now.
    Later,
    /// Not by this mechanism.
    OtherWay,
    /// Only over TLS.
    Unsafe,
    /// The client cancelled.
    Cancelled,
    /// What it sent is not base64, or too long.
    Garbled,
}

/// How a mechanism is begun.
#[derive(Debug)]
pub enum First {
    /// The client waits to be asked.
    Asked,
    /// It sent its first message along with the command. That answers the first question, also one that has a
    /// challenge: clients that speak LOGIN send the name so, and APOP's challenge is in the greeting. Whoever has
    /// not seen a challenge that is drawn cannot answer it.
    Sent(Secret),
}

/// The SASL mechanisms that a peer may begin with, in the portal's order.
pub fn mechanisms<R>(portal: &Portal<R>, peer: &Peer) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in portal.begins_by_token(peer) {
        let usable = !name.eq_ignore_ascii_case(APOP)
            && (!name.eq_ignore_ascii_case(EXTERNAL) || peer.more.external.is_some());
        if usable && !names.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
            names.push(name.to_ascii_uppercase());
        }
    }
    names
}

/// Whether a peer may begin with a mechanism, by name.
pub fn begins<R>(portal: &Portal<R>, peer: &Peer, mechanism: &str) -> bool {
    portal.begins(peer).iter().any(|name| name.eq_ignore_ascii_case(mechanism))
}

/// Whether a password may be given as it is.
pub fn takes_password<R>(portal: &Portal<R>, peer: &Peer) -> bool {
    begins(portal, peer, Mechanism::PASSWORD)
}

/// Logs in with a name and a password.
///
/// # Errors
///
/// [`Refused`].
pub async fn by_password<I: Interface, R: Realm<I>>(
    server: &Server<R>,
    wire: &mut Wire,
    peer: &Arc<Peer>,
    (name, password): (String, Secret),
    mind: I::Mind,
) -> Result<Session<I>, Refused> {
    let request = Request::from_peer(Arc::clone(peer)).by(Mechanism::PASSWORD);
    let mut known = Known::new(Answers::new().with("username", name).with("password", password));
    let login = server.portal.login::<I>(request, &mut known, mind, &*server.world);
    let session = unless_left(server, wire, login).await?;
    session.map_err(|error| match error {
        LoginError::Denied(denial) => told(peer, &denial),
        LoginError::Fault(fault) => broken(&fault),
    })
}

/// Logs in by a mechanism, its messages in base64 on lines of their own (RFC 5034, section 4; RFC 3501,
/// section 6.2.2).
///
/// # Errors
///
/// [`Refused`].
pub async fn by_mechanism<I: Interface, R: Realm<I>>(
    server: &Server<R>,
    wire: &mut Wire,
    request: Request,
    first: First,
    mind: I::Mind,
    deadline: Instant,
) -> Result<Session<I>, Refused> {
    let peer = Arc::clone(&request.peer);
    let who = converse(server, wire, request, first, deadline).await?;
    let admitted = unless_left(server, wire, server.portal.realm().admit(&who, mind)).await?;
    admitted.map_err(|denial| told(&peer, &denial))
}

async fn converse<R: Send + Sync>(
    server: &Server<R>,
    wire: &mut Wire,
    request: Request,
    first: First,
    deadline: Instant,
) -> Result<Verified<Identity>, Refused> {
    let (peer, world) = (Arc::clone(&request.peer), &*server.world);
    let begun = unless_left(server, wire, server.portal.begin(request, world)).await?;
    let (mut conversation, mut reply) = begun.map_err(|fault| broken(&fault))?;
    let mut first = Some(first);
    loop {
        let ask = match reply {
            Reply::Granted(who) => return Ok(who),
            Reply::Denied(denial) => return Err(told(&peer, &denial)),
            Reply::Ask(ask) => ask,
        };
        // A peer that supports tokens only is asked one, and nothing else that must be answered.
        let Some(question) = ask.round.questions.iter().find(|q| q.must_be_answered()) else {
            let denial = conversation.cancel().because("a round without a question");
            return Err(told(&peer, &denial));
        };
        let challenge: Option<&[u8]> =
            question.challenge.as_ref().map(|challenge| match challenge {
                Challenge::Bytes(bytes) => bytes,
                Challenge::Text(text) | Challenge::Json(text) => text.as_bytes(),
            });
        let token = match first.take() {
            Some(First::Sent(token)) => token,
            Some(First::Asked) | None => {
                match ask_for(server, wire, challenge.unwrap_or_default(), deadline).await? {
                    Ok(token) => token,
                    Err(why) => {
                        let denial = conversation.cancel();
                        tracing::info!(service = &*peer.service, "login ended: {denial}");
                        return Err(Refused::Told(why));
                    }
                }
            }
        };
        let answers = Answers::new().with(question.name.clone(), token);
        let answered = conversation.answer(ask.number, answers, world);
        reply = match unless_left(server, wire, answered).await? {
            Ok(reply) => reply,
            Err(Halt::Fault(fault)) => return Err(broken(&fault)),
            Err(Halt::Misuse(misuse)) => {
                let denial = Denial::new(Reason::Malformed).because(misuse.to_string());
                return Err(told(&peer, &denial));
            }
        };
    }
}

/// Puts a challenge to the client and hears its message.
async fn ask_for<R>(
    server: &Server<R>,
    wire: &mut Wire,
    challenge: &[u8],
    deadline: Instant,
) -> Result<Result<Secret, Told>, Refused> {
    wire.say(b"+ ");
    wire.say(BASE64_STANDARD.encode(challenge));
    wire.say(b"\r\n");
    if wire.flush().await.is_err() {
        return Err(Refused::Over);
    }
    let heard = tokio::select! {
        biased;
        () = server.stopping() => return Err(Refused::Over),
        heard = wire.line(LINE, deadline) => heard,
    };
    match heard {
        Ok(line) if *line == b"*" => Ok(Err(Told::Cancelled)),
        Ok(line) => Ok(decoded(&line).ok_or(Told::Garbled)),
        Err(Silence::TooLong) => Ok(Err(Told::Garbled)),
        Err(Silence::Left | Silence::TimedOut) => Err(Refused::Over),
    }
}

/// A message in base64; `=` alone is an empty one that is sent along with a command (RFC 4422, RFC 4959).
pub fn decoded(text: &[u8]) -> Option<Secret> {
    // Decoded into room that is there already, so that no half of it is left behind.
    let mut bytes = Zeroizing::new(vec![0; text.len()]);
    let length = BASE64_STANDARD.decode_slice(text, &mut bytes).ok()?;
    bytes.get(..length).map(Secret::from)
}

/// The future, unless the client leaves or the server ends before it does: then it is dropped, and whoever it
/// would have let in is not in, or out again.
async fn unless_left<R, F: Future>(
    server: &Server<R>,
    wire: &mut Wire,
    future: F,
) -> Result<F::Output, Refused> {
    tokio::select! {
        biased;
        output = future => Ok(output),
        () = wire.left(AHEAD) => Err(Refused::Over),
        () = server.stopping() => Err(Refused::Over),
    }
}

/// The one place that decides what a peer learns about a refusal.
fn told(peer: &Peer, denial: &Denial) -> Refused {
    tracing::info!(service = &*peer.service, remote = ?peer.remote, "login refused: {denial}");
    Refused::Told(match denial.public() {
        Public::Denied => Told::No,
        Public::ChangeNeeded => Told::Change,
        Public::TryLater => Told::Later,
        Public::Unsupported => Told::OtherWay,
    })
}

fn broken(fault: &Fault) -> Refused {
    tracing::error!("a login could not be decided: {fault}");
    Refused::Told(Told::Later)
}
