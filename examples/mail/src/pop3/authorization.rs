//! The AUTHORIZATION state: who is there?

use std::sync::Arc;

use countersign::{Realm, Request, Secret, Transport};

use super::{Command, Connection, Mail, Over, Pop3Mailbox, closed};
use crate::login::{self, First, Refused, Told};

impl<R: Realm<Pop3Mailbox>> Connection<'_, R> {
    /// Until somebody is logged in; `None` after `QUIT`.
    pub(super) async fn authorization(mut self) -> Result<Option<(Self, Mail)>, Over> {
        let mut user = None;
        let mut refusals = 0;
        loop {
            let command = self.command().await?;
            // A name counts for the command that follows it, whatever comes of that.
            let user_before = user.take();
            let refused = match command.word.as_str() {
                "CAPA" => {
                    let all = self.capabilities(false);
                    self.say_all("+OK Capability list follows", all);
                    continue;
                }
                "QUIT" => {
                    self.say("+OK Bye");
                    self.wire.close().await;
                    return Ok(None);
                }
                "STLS" if self.may_secure() => {
                    self.say("+OK Begin TLS");
                    self.wire.flush().await?;
                    self = self.secure().await?;
                    continue;
                }
                "STLS" => {
                    self.say("-ERR There is no TLS to begin");
                    continue;
                }
                "UTF8" => {
                    // Messages are sent as they are in any case (RFC 6856, section 2).
                    self.say("+OK UTF-8 as it is");
                    continue;
                }
                "USER" => {
                    user = self.user(&command);
                    continue;
                }
                "PASS" => match user_before {
                    Some(name) => self.pass(name, &command).await,
                    None => {
                        self.say("-ERR USER required before PASS");
                        continue;
                    }
                },
                "APOP" => self.apop(&command).await,
                "AUTH" if command.rest.is_empty() => {
                    let names = login::mechanisms(&self.server.portal, &self.peer);
                    self.say_all("+OK Mechanisms follow", names);
                    continue;
                }
                "AUTH" => self.auth(&command).await,
                "STAT" | "LIST" | "RETR" | "DELE" | "NOOP" | "RSET" | "TOP" | "UIDL" => {
                    self.say("-ERR Log in first");
                    continue;
                }
                _ => {
                    self.say("-ERR There is no such command");
                    continue;
                }
            };
            let refused = match refused {
                Ok(session) => match self.take(session).await {
                    Ok(session) => return Ok(Some((self, session))),
                    Err(told) => told,
                },
                Err(Refused::Told(told)) => words(told),
                Err(Refused::Over) => return Err(Over),
            };
            self.say(&format!("-ERR {refused}"));
            refusals += 1;
            if refusals >= self.server.limits.refusals {
                self.wire.close().await;
                return Err(Over);
            }
        }
    }

    /// Whether there is such a user is not said here, nor later.
    fn user(&mut self, command: &Command) -> Option<String> {
        if !login::takes_password(&self.server.portal, &self.peer) {
            let refused = words(self.no_password());
            self.say(&format!("-ERR {refused}"));
            return None;
        }
        match command.argument() {
            Some(name) => {
                self.say("+OK USER accepted, send PASS");
                Some(name.to_owned())
            }
            None => {
                self.say("-ERR USER needs a name");
                None
            }
        }
    }

    fn no_password(&self) -> Told {
        match self.peer.transport {
            Transport::Tls => Told::OtherWay,
            _ => Told::Unsafe,
        }
    }

    async fn pass(&mut self, name: String, command: &Command) -> Result<Mail, Refused> {
        let password = Secret::from(command.rest.as_slice());
        let (mind, peer) = (self.teller.clone(), Arc::clone(&self.peer));
        login::by_password(self.server, &mut self.wire, &peer, (name, password), mind).await
    }

    /// RFC 1939, section 7: the digest answers the timestamp of our greeting.
    async fn apop(&mut self, command: &Command) -> Result<Mail, Refused> {
        if self.peer.more.greeting.is_none() || !self.may_begin("APOP") {
            return Err(Refused::Told(Told::OtherWay));
        }
        let Some((name, digest)) = command.argument().and_then(|text| text.rsplit_once(' ')) else {
            return Err(Refused::Told(Told::Garbled));
        };
        let mut request = self.request("APOP");
        request.claimed = Some(name.into());
        let first = First::Sent(Secret::from(digest));
        let (mind, deadline) = (self.teller.clone(), self.deadline);
        login::by_mechanism(self.server, &mut self.wire, request, first, mind, deadline).await
    }

    /// RFC 5034, section 4: a mechanism, perhaps with its first message.
    async fn auth(&mut self, command: &Command) -> Result<Mail, Refused> {
        let argument = command.argument().unwrap_or_default();
        let (mechanism, initial) = match argument.split_once(' ') {
            Some((mechanism, initial)) => (mechanism, Some(initial.trim())),
            None => (argument, None),
        };
        let offered = login::mechanisms(&self.server.portal, &self.peer);
        if !offered.iter().any(|name| name.eq_ignore_ascii_case(mechanism)) {
            return Err(Refused::Told(Told::OtherWay));
        }
        let first = match initial {
            None => First::Asked,
            Some("=") => First::Sent(Secret::default()),
            Some(text) => match login::decoded(text.as_bytes()) {
                Some(token) => First::Sent(token),
                None => return Err(Refused::Told(Told::Garbled)),
            },
        };
        let request = self.request(mechanism);
        let (mind, deadline) = (self.teller.clone(), self.deadline);
        login::by_mechanism(self.server, &mut self.wire, request, first, mind, deadline).await
    }

    fn may_begin(&self, mechanism: &str) -> bool {
        login::begins(&self.server.portal, &self.peer, mechanism)
    }

    fn request(&self, mechanism: &str) -> Request {
        Request::from_peer(Arc::clone(&self.peer)).by(mechanism.to_owned())
    }

    /// Takes the maildrop. If that cannot be, whoever was logged in is logged out again.
    async fn take(&mut self, mut session: Mail) -> Result<Mail, &'static str> {
        match session.avatar_mut().take().await {
            Ok(()) => {
                self.say("+OK Authentication succeeded");
                Ok(session)
            }
            Err(error) => {
                session.logout().await;
                Err(closed(&error))
            }
        }
    }
}

/// What is said about a refusal (RFC 2449, section 8; RFC 3206, sections 4 and 5). An unknown user and a wrong
/// password are one.
fn words(told: Told) -> &'static str {
    match told {
        Told::No => "[AUTH] Authentication failed",
        Told::Change => "[AUTH] The password must be changed first",
        Told::Later => "[SYS/TEMP] Not now, try again later",
        Told::OtherWay => "[AUTH] Not by this mechanism",
        Told::Unsafe => "[AUTH] Begin TLS first (STLS)",
        Told::Cancelled => "[AUTH] Cancelled",
        Told::Garbled => "[AUTH] That is no message of this mechanism",
    }
}
