//! Not authenticated: who is there?

use std::sync::Arc;

use countersign::{Realm, Request, Secret, Session, Transport};

use super::commands::Done;
use super::{Connection, ImapMailbox, Over};
use crate::login::{self, First, Refused, Told};

impl<R: Realm<ImapMailbox>> Connection<'_, R> {
    /// RFC 3501, section 6.2.1.
    pub(super) async fn start_tls(mut self, tag: &str) -> Result<Self, Over> {
        if self.mail.is_some() || !self.may_secure() {
            self.say(&format!("{tag} BAD There is no TLS to begin"));
            return Ok(self);
        }
        let Some(tls) = &self.server.tls else { return Err(Over) };
        self.say(&format!("{tag} OK Begin TLS"));
        self.wire.flush().await?;
        let (wire, channel) = self.wire.secure(tls).await?;
        let mut peer = Arc::unwrap_or_clone(self.peer);
        channel.tell(&mut peer);
        Ok(Self { wire, peer: Arc::new(peer), ..self })
    }

    /// RFC 3501, section 6.2.3.
    pub(super) async fn login(&mut self, name: &[u8], password: &[u8]) -> Result<Done, Over> {
        if !login::takes_password(&self.server.portal, &self.peer) {
            let told = match self.peer.transport {
                Transport::Tls => Told::OtherWay,
                _ => Told::Unsafe,
            };
            return self.end(Err(Refused::Told(told))).await;
        }
        let Ok(name) = std::str::from_utf8(name) else {
            return self.end(Err(Refused::Told(Told::No))).await;
        };
        let who = (name.to_owned(), Secret::from(password));
        let (mind, peer) = (self.teller.clone(), Arc::clone(&self.peer));
        let session = login::by_password(self.server, &mut self.wire, &peer, who, mind).await;
        self.end(session).await
    }

    /// RFC 3501, section 6.2.2, and RFC 4959 for a first message with it.
    pub(super) async fn authenticate(
        &mut self,
        mechanism: &str,
        initial: Option<&[u8]>,
    ) -> Result<Done, Over> {
        let offered = login::mechanisms(&self.server.portal, &self.peer);
        if !offered.iter().any(|name| name.eq_ignore_ascii_case(mechanism)) {
            return self.end(Err(Refused::Told(Told::OtherWay))).await;
        }
        let first = initial.map_or(First::Asked, |token| First::Sent(Secret::from(token)));
        let request = Request::from_peer(Arc::clone(&self.peer)).by(mechanism.to_owned());
        let (mind, deadline) = (self.teller.clone(), self.deadline);
        let session =
            login::by_mechanism(self.server, &mut self.wire, request, first, mind, deadline).await;
        self.end(session).await
    }

    /// Whether somebody got in, in IMAP's words (RFC 5530, section 3). An unknown user and a wrong password are
    /// one.
    async fn end(&mut self, session: Result<Session<ImapMailbox>, Refused>) -> Result<Done, Over> {
        let told = match session {
            Ok(session) => {
                self.mail = Some(session);
                let text = format!("[CAPABILITY {}] Authentication succeeded", self.capabilities());
                return Ok(Done::Ok(text));
            }
            Err(Refused::Over) => return Err(Over),
            Err(Refused::Told(told)) => told,
        };
        self.refusals += 1;
        let done = match told {
            Told::No => Done::no("[AUTHENTICATIONFAILED] Authentication failed"),
            Told::Change => Done::no("[EXPIRED] The password must be changed first"),
            Told::Later => Done::no("[UNAVAILABLE] Not now, try again later"),
            Told::OtherWay => Done::no("[CANNOT] Not by this mechanism"),
            Told::Unsafe => Done::no("[PRIVACYREQUIRED] Begin TLS first (STARTTLS)"),
            Told::Cancelled => Done::Bad("Cancelled"),
            Told::Garbled => Done::Bad("That is no message of this mechanism"),
        };
        Ok(done)
    }
}
