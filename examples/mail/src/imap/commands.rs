//! Which command does what, and in which state (RFC 3501, section 3).

use countersign::Realm;
use imap_codec::CommandCodec;
use imap_codec::decode::Decoder;
use imap_codec::imap_types::command::{Command, CommandBody};

use super::{Connection, ImapMailbox, Over};

/// How a command ended, for its tagged answer.
pub(super) enum Done {
    /// With this said; perhaps a code in brackets first.
    Ok(String),
    /// It could not be done.
    No(String),
    /// It was none, or not now.
    Bad(&'static str),
}

impl Done {
    pub(super) fn ok(text: &str) -> Self {
        Self::Ok(text.to_owned())
    }

    pub(super) fn no(text: &str) -> Self {
        Self::No(text.to_owned())
    }
}

impl<R: Realm<ImapMailbox>> Connection<'_, R> {
    /// Does what a command says.
    pub(super) async fn answer(mut self, bytes: &[u8]) -> Result<Self, Over> {
        let Ok((_, Command { tag, body })) = CommandCodec::new().decode(bytes) else {
            self.say("* BAD That is no command");
            return Ok(self);
        };
        let tag = tag.inner();
        if let CommandBody::StartTLS = body {
            return self.start_tls(tag).await;
        }
        // Numbers of messages stay what they are while a command uses them (RFC 3501, section 7.4.1).
        let numbers_stay = matches!(
            body,
            CommandBody::Fetch { uid: false, .. }
                | CommandBody::Store { uid: false, .. }
                | CommandBody::Search { uid: false, .. }
        );
        let done = match self.state(&body) {
            Ok(()) => self.does(tag, body).await?,
            Err(refused) => Done::Bad(refused),
        };
        self.hear_news();
        if self.changed && self.selected.is_some() {
            self.tell_changes(!numbers_stay).await;
        }
        match done {
            Done::Ok(text) => self.say(&format!("{tag} OK {text}")),
            Done::No(text) => self.say(&format!("{tag} NO {text}")),
            Done::Bad(text) => self.say(&format!("{tag} BAD {text}")),
        }
        if self.mail.is_none() && self.refusals >= self.server.limits.refusals {
            return self.bye("These were too many tries").await;
        }
        Ok(self)
    }

    fn state(&self, body: &CommandBody<'_>) -> Result<(), &'static str> {
        use CommandBody as C;
        match body {
            C::Capability | C::Noop | C::Logout => Ok(()),
            C::StartTLS | C::Authenticate { .. } | C::Login { .. } if self.mail.is_none() => Ok(()),
            C::StartTLS | C::Authenticate { .. } | C::Login { .. } => Err("You are logged in"),
            _ if self.mail.is_none() => Err("Log in first"),
            C::Check
            | C::Close
            | C::Unselect
            | C::Expunge
            | C::ExpungeUid { .. }
            | C::Search { .. }
            | C::Fetch { .. }
            | C::Store { .. }
            | C::Copy { .. }
            | C::Move { .. }
                if self.selected.is_none() =>
            {
                Err("Select a folder first")
            }
            _ => Ok(()),
        }
    }

    async fn does(&mut self, tag: &str, body: CommandBody<'_>) -> Result<Done, Over> {
        use CommandBody as C;
        Ok(match body {
            C::Capability => {
                self.say(&format!("* CAPABILITY {}", self.capabilities()));
                Done::ok("That is what there is")
            }
            C::Noop | C::Check => {
                self.changed = self.selected.is_some();
                Done::ok("Done")
            }
            C::Logout => {
                self.selected = None;
                // The mailbox is free before the client hears that it may come again.
                if let Some(session) = self.mail.take() {
                    session.logout().await;
                }
                self.say("* BYE");
                self.say(&format!("{tag} OK Bye"));
                let _ = self.wire.flush().await;
                return Err(Over);
            }
            C::Login { username, password } => {
                self.login(username.as_ref(), password.declassify().as_ref()).await?
            }
            C::Authenticate { mechanism, initial_response } => {
                let initial = initial_response.as_ref().map(|token| token.declassify().as_ref());
                self.authenticate(mechanism.as_ref(), initial).await?
            }
            C::Select { mailbox } => self.select(&mailbox, false).await,
            C::Examine { mailbox } => self.select(&mailbox, true).await,
            C::Unselect => {
                self.selected = None;
                Done::ok("Done")
            }
            C::Close => self.close().await,
            C::Create { mailbox } => self.create(&mailbox).await,
            C::Delete { mailbox } => self.delete(&mailbox).await,
            C::Rename { from, to } => self.rename(&from, &to).await,
            C::Subscribe { .. } | C::Unsubscribe { .. } => Done::ok("All folders are subscribed"),
            C::List { reference, mailbox_wildcard } => {
                self.list(&reference, &mailbox_wildcard, false).await
            }
            C::Lsub { reference, mailbox_wildcard } => {
                self.list(&reference, &mailbox_wildcard, true).await
            }
            C::Status { mailbox, item_names } => self.status(&mailbox, &item_names).await,
            C::Append { mailbox, flags, date, message } => {
                self.append(&mailbox, &flags, date, &message).await
            }
            C::Expunge => self.expunge(None).await,
            C::ExpungeUid { sequence_set } => self.expunge(Some(&sequence_set)).await,
            C::Search { charset, criteria, uid } => self.search(charset, criteria, uid).await,
            C::Fetch { sequence_set, macro_or_item_names, uid } => {
                self.fetch(&sequence_set, macro_or_item_names, uid).await?
            }
            C::Store { sequence_set, kind, response, flags, uid } => {
                self.store(&sequence_set, (kind, response), &flags, uid).await
            }
            C::Copy { sequence_set, mailbox, uid } => {
                self.copy(&sequence_set, &mailbox, uid, false).await
            }
            C::Move { sequence_set, mailbox, uid } => {
                self.copy(&sequence_set, &mailbox, uid, true).await
            }
            C::Idle => self.idle().await?,
            _ => Done::Bad("There is no such command"),
        })
    }
}
