//! Messages of the selected folder: FETCH, STORE, COPY, MOVE, EXPUNGE; and APPEND (RFC 3501, sections 6.3.11 and
//! 6.4; RFC 4315; RFC 6851).

use countersign::Realm;
use imap_codec::ResponseCodec;
use imap_codec::encode::Encoder;
use imap_codec::imap_types::IntoStatic;
use imap_codec::imap_types::datetime::DateTime;
use imap_codec::imap_types::extensions::binary::LiteralOrLiteral8;
use imap_codec::imap_types::fetch::{MacroOrMessageDataItemNames, MessageDataItemName};
use imap_codec::imap_types::flag::{Flag, StoreResponse, StoreType};
use imap_codec::imap_types::mailbox::Mailbox as MailboxName;
use imap_codec::imap_types::sequence::SequenceSet;

use super::commands::Done;
use super::fetch::{Items, render};
use super::folders::{error_words, name_of};
use super::mailbox::{Change, Letter};
use super::selected::{Numbered, flags_response, known_flags};
use super::{Connection, ImapMailbox, Look, Over};
use crate::maildir::Flags;

impl<R: Realm<ImapMailbox>> Connection<'_, R> {
    pub(super) async fn fetch(
        &mut self,
        set: &SequenceSet,
        names: MacroOrMessageDataItemNames<'_>,
        by_uid: bool,
    ) -> Result<Done, Over> {
        let Some(selected) = &self.selected else { return Ok(Done::Bad("Select a folder first")) };
        let chosen = match selected.chosen(set, by_uid) {
            Ok(chosen) => chosen,
            Err(refused) => return Ok(Done::Bad(refused)),
        };
        let (folder, read_only) = (selected.folder.clone(), selected.read_only);
        let names = match names.into_static() {
            MacroOrMessageDataItemNames::Macro(all) => all.expand().into_static(),
            MacroOrMessageDataItemNames::MessageDataItemNames(names) => names,
        };
        let items = Items::new(names, by_uid);
        let mut gone = false;
        for mut numbered in chosen {
            let mut text = None;
            if items.need_text() {
                let Some(mail) = &self.mail else { return Err(Over) };
                match mail.avatar().read(folder.clone(), numbered.message.uid).await {
                    Ok(Some(read)) => text = Some(read),
                    Ok(None) => {
                        gone = true;
                        continue;
                    }
                    Err(error) => return Ok(Done::No(error_words(&error))),
                }
            }
            let sees = items.see() && !read_only && !numbered.message.flags.has(Flags::SEEN);
            if sees {
                let seen = Change::Add(Flags::SEEN);
                let Some(mail) = &self.mail else { return Err(Over) };
                let uids = vec![numbered.message.uid];
                match mail.avatar().mark(folder.clone(), uids, seen).await {
                    Ok(marked) => self.take_in(&mut numbered, &marked),
                    Err(error) => return Ok(Done::No(error_words(&error))),
                }
            }
            let items = items.clone();
            // Taking a message apart is work, and a message is a stranger's: it must not hold up others.
            let rendered =
                tokio::task::spawn_blocking(move || render(&numbered, text, &items, sees)).await;
            match rendered {
                Ok(rendered) => self.wire.say(rendered),
                Err(error) => {
                    tracing::error!("a message cannot be taken apart: {error}");
                    return Ok(Done::no("[CANNOT] A message cannot be taken apart"));
                }
            }
            self.wire.flush_if_much().await?;
        }
        Ok(match gone {
            false => Done::ok("Done"),
            // RFC 2180, section 4.1.3
            true => Done::no("[EXPUNGEISSUED] Some messages went away"),
        })
    }

    pub(super) async fn store(
        &mut self,
        set: &SequenceSet,
        (kind, response): (StoreType, StoreResponse),
        flags: &[Flag<'_>],
        by_uid: bool,
    ) -> Done {
        let (Some(selected), Some(mail)) = (&self.selected, &self.mail) else {
            return Done::Bad("Select a folder first");
        };
        if selected.read_only {
            return Done::no("[READ-ONLY] Only looked at");
        }
        let chosen = match selected.chosen(set, by_uid) {
            Ok(chosen) => chosen,
            Err(refused) => return Done::Bad(refused),
        };
        let flags = known_flags(flags);
        let change = match kind {
            StoreType::Replace => Change::To(flags),
            StoreType::Add => Change::Add(flags),
            StoreType::Remove => Change::Remove(flags),
        };
        let uids = uids_of(&chosen);
        let marked = match mail.avatar().mark(selected.folder.clone(), uids, change).await {
            Ok(marked) => marked,
            Err(error) => return Done::No(error_words(&error)),
        };
        for mut numbered in chosen {
            self.take_in(&mut numbered, &marked);
            let there = marked.iter().any(|(uid, _)| *uid == numbered.message.uid);
            if there && response == StoreResponse::Answer {
                let told = flags_response(numbered.seq, &numbered.message, by_uid);
                self.wire.say(ResponseCodec::new().encode(&told).dump());
            }
        }
        Done::ok("Done")
    }

    /// What the client knows of a message's flags, or is about to hear.
    fn take_in(&mut self, numbered: &mut Numbered, marked: &[(u32, Flags)]) {
        let uid = numbered.message.uid;
        let Some((_, flags)) = marked.iter().find(|(marked, _)| *marked == uid) else { return };
        numbered.message.flags = *flags;
        let known = self.selected.as_mut().and_then(|selected| {
            let at = selected.messages.binary_search_by_key(&uid, |message| message.uid).ok()?;
            selected.messages.get_mut(at)
        });
        if let Some(known) = known {
            known.flags = *flags;
        }
    }

    pub(super) async fn copy(
        &mut self,
        set: &SequenceSet,
        to: &MailboxName<'_>,
        by_uid: bool,
        moving: bool,
    ) -> Done {
        let (Some(selected), Some(mail)) = (&self.selected, &self.mail) else {
            return Done::Bad("Select a folder first");
        };
        if moving && selected.read_only {
            return Done::no("[READ-ONLY] Only looked at");
        }
        let chosen = match selected.chosen(set, by_uid) {
            Ok(chosen) => chosen,
            Err(refused) => return Done::Bad(refused),
        };
        let (avatar, from, to) = (mail.avatar(), selected.folder.clone(), name_of(to));
        let mut validity = 0;
        let mut copied = Vec::new();
        for Numbered { message, .. } in &chosen {
            let read = match avatar.read(from.clone(), message.uid).await {
                Ok(Some(text)) => {
                    let (flags, received) = (message.flags, Some(message.received));
                    let letter = Letter { text, flags, received };
                    avatar.add(to.clone(), vec![letter]).await
                }
                Ok(None) => continue,
                Err(error) => Err(error),
            };
            match read {
                Ok((valid, new)) => {
                    validity = valid;
                    copied.extend(new.into_iter().map(|new| (message.uid, new)));
                }
                Err(error) => {
                    // All or none (RFC 3501, section 6.4.7).
                    let new = copied.into_iter().map(|(_, new)| new).collect();
                    let _ = avatar.remove(to.clone(), new).await;
                    return no_such_place(&error);
                }
            }
        }
        if copied.is_empty() {
            return Done::ok("There was nothing to copy");
        }
        let list = |uids: Vec<u32>| uids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let (old, new): (Vec<u32>, Vec<u32>) = copied.into_iter().unzip();
        let code = format!("[COPYUID {validity} {} {}]", list(old.clone()), list(new));
        if !moving {
            return Done::Ok(format!("{code} Copied"));
        }
        if let Err(error) = avatar.remove(from, old).await {
            return Done::No(error_words(&error));
        }
        self.say(&format!("* OK {code} Moved"));
        self.tell_changes(true).await;
        Done::ok("Done")
    }

    /// Removes what is marked; with a set, only of those (RFC 4315, section 2.1).
    pub(super) async fn expunge(&mut self, set: Option<&SequenceSet>) -> Done {
        match self.remove_deleted(set).await {
            Ok(()) => {
                self.tell_changes(true).await;
                Done::ok("Done")
            }
            Err(done) => done,
        }
    }

    /// RFC 3501, section 6.4.2.
    pub(super) async fn close(&mut self) -> Done {
        let read_only = self.selected.as_ref().is_some_and(|selected| selected.read_only);
        let removed = if read_only { Ok(()) } else { self.remove_deleted(None).await };
        self.selected = None;
        match removed {
            Ok(()) => Done::ok("Done"),
            Err(done) => done,
        }
    }

    async fn remove_deleted(&mut self, set: Option<&SequenceSet>) -> Result<(), Done> {
        let (Some(selected), Some(mail)) = (&self.selected, &self.mail) else {
            return Err(Done::Bad("Select a folder first"));
        };
        if selected.read_only {
            return Err(Done::no("[READ-ONLY] Only looked at"));
        }
        let (avatar, folder) = (mail.avatar(), selected.folder.clone());
        let chosen = match set {
            Some(set) => Some(uids_of(&selected.chosen(set, true).map_err(Done::Bad)?)),
            None => None,
        };
        let said = |error| Done::No(error_words(&error));
        // Another session may have marked some.
        let listing = avatar.list(folder.clone(), Look::Glance).await.map_err(said)?;
        let marked = listing.messages.iter().filter(|m| m.flags.has(Flags::DELETED));
        let uids = marked.map(|message| message.uid);
        let uids: Vec<u32> =
            uids.filter(|uid| chosen.as_ref().is_none_or(|chosen| chosen.contains(uid))).collect();
        avatar.remove(folder, uids).await.map(drop).map_err(said)
    }

    pub(super) async fn append(
        &mut self,
        name: &MailboxName<'_>,
        flags: &[Flag<'_>],
        date: Option<DateTime>,
        message: &LiteralOrLiteral8<'_>,
    ) -> Done {
        let Some(mail) = &self.mail else { return Done::Bad("Log in first") };
        let LiteralOrLiteral8::Literal(message) = message else {
            return Done::no("[UNKNOWN-CTE] Messages are text here");
        };
        let letter = Letter {
            text: message.data().to_vec(),
            flags: known_flags(flags),
            received: date.map(|date| date.as_ref().timestamp()),
        };
        match mail.avatar().add(name_of(name), vec![letter]).await {
            Ok((validity, uids)) => {
                self.changed = self.selected.is_some();
                let uid = uids.first().copied().unwrap_or_default();
                Done::Ok(format!("[APPENDUID {validity} {uid}] Done"))
            }
            Err(error) => no_such_place(&error),
        }
    }
}

/// What is to be done about it: make the folder (RFC 3501, section 6.3.11).
fn no_such_place(error: &std::io::Error) -> Done {
    match error.kind() {
        std::io::ErrorKind::NotFound => Done::no("[TRYCREATE] There is no such folder"),
        _ => Done::No(error_words(error)),
    }
}

fn uids_of(chosen: &[Numbered]) -> Vec<u32> {
    chosen.iter().map(|numbered| numbered.message.uid).collect()
}

/// Whether an item reads the message.
pub(super) fn reads(name: &MessageDataItemName<'_>) -> bool {
    use MessageDataItemName as M;
    !matches!(name, M::Flags | M::InternalDate | M::Rfc822Size | M::Uid)
}
