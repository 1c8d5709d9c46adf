//! The selected folder, as the client knows it, and what it is told when that changes.

use std::num::NonZeroU32;

use countersign::Realm;
use imap_codec::ResponseCodec;
use imap_codec::encode::Encoder;
use imap_codec::imap_types::core::Vec1;
use imap_codec::imap_types::fetch::MessageDataItem;
use imap_codec::imap_types::flag::{Flag, FlagFetch};
use imap_codec::imap_types::mailbox::Mailbox as MailboxName;
use imap_codec::imap_types::response::{Data, Response};
use imap_codec::imap_types::sequence::{SeqOrUid, Sequence, SequenceSet};

use super::commands::Done;
use super::folders::{error_words, name_of};
use super::{Connection, ImapMailbox, Look};
use crate::maildir::{Flags, Listing, Message};

/// The selected folder, as the client knows it.
#[derive(Debug)]
pub(super) struct Selected {
    pub(super) folder: String,
    pub(super) read_only: bool,
    /// By number: the first is 1. Some may be gone without the client knowing yet.
    pub(super) messages: Vec<Message>,
}

/// A message of the selected folder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbered {
    pub(super) seq: NonZeroU32,
    pub(super) message: Message,
}

impl Selected {
    fn look(&self) -> Look {
        if self.read_only { Look::Read } else { Look::Take }
    }

    pub(super) fn numbered(&self) -> impl Iterator<Item = Numbered> + '_ {
        self.messages.iter().zip(1..).filter_map(|(message, seq)| {
            Some(Numbered { seq: NonZeroU32::new(seq)?, message: *message })
        })
    }

    /// The messages of a set of numbers, or of uids.
    ///
    /// # Errors
    ///
    /// For numbers that are not there. Uids that are not are no mistake (RFC 3501, section 6.4.8).
    pub(super) fn chosen(
        &self,
        set: &SequenceSet,
        by_uid: bool,
    ) -> Result<Vec<Numbered>, &'static str> {
        let count = u32::try_from(self.messages.len()).unwrap_or(u32::MAX);
        let last = self.messages.last().map_or(0, |message| message.uid);
        if !by_uid && !set.0.as_ref().iter().all(|part| largest(part, count) <= count && count > 0)
        {
            return Err("There is no message of such a number");
        }
        let most = if by_uid { last } else { count };
        let wanted = |numbered: &Numbered| {
            let number = if by_uid { numbered.message.uid } else { numbered.seq.get() };
            contains(set, number, most)
        };
        Ok(self.numbered().filter(wanted).collect())
    }

    /// Takes in what is there now, and gives what to tell the client of it.
    fn update(&mut self, listing: &Listing, may_expunge: bool) -> Vec<Response<'static>> {
        let mut told = Vec::new();
        let now = |uid: u32| {
            let found = listing.messages.binary_search_by_key(&uid, |message| message.uid);
            found.ok().and_then(|at| listing.messages.get(at))
        };
        if may_expunge {
            // From the end, so that a number means what it meant.
            for at in (0..self.messages.len()).rev() {
                let uid = self.messages.get(at).map_or(0, |message| message.uid);
                if now(uid).is_none() {
                    self.messages.remove(at);
                    let seq = u32::try_from(at + 1).ok().and_then(NonZeroU32::new);
                    told.extend(seq.map(|seq| Response::Data(Data::Expunge(seq))));
                }
            }
        }
        for (known, seq) in self.messages.iter_mut().zip(1..) {
            let Some(now) = now(known.uid).filter(|now| now.flags != known.flags) else { continue };
            known.flags = now.flags;
            told.extend(NonZeroU32::new(seq).map(|seq| flags_response(seq, known, false)));
        }
        let last = self.messages.last().map_or(0, |message| message.uid);
        let before = self.messages.len();
        self.messages.extend(listing.messages.iter().filter(|message| message.uid > last));
        if self.messages.len() != before {
            let recent = self.messages.iter().filter(|message| message.recent).count();
            for data in [Data::Exists(count(self.messages.len())), Data::Recent(count(recent))] {
                told.push(Response::Data(data));
            }
        }
        told
    }
}

impl<R: Realm<ImapMailbox>> Connection<'_, R> {
    /// RFC 3501, sections 6.3.1 and 6.3.2.
    pub(super) async fn select(&mut self, name: &MailboxName<'_>, read_only: bool) -> Done {
        self.selected = None;
        let Some(mail) = &self.mail else { return Done::Bad("Log in first") };
        let folder = name_of(name);
        let read_only = read_only || !mail.avatar().may_change();
        let look = if read_only { Look::Read } else { Look::Take };
        let listed = mail.avatar().list(folder.clone(), look);
        let listing = match listed.await {
            Ok(listing) => listing,
            Err(error) => return Done::No(error_words(&error)),
        };
        let recent = listing.messages.iter().filter(|message| message.recent).count();
        self.say("* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)");
        self.say(&format!("* {} EXISTS", listing.messages.len()));
        self.say(&format!("* {recent} RECENT"));
        let unseen = listing.messages.iter().position(|m| !m.flags.has(Flags::SEEN));
        if let Some(unseen) = unseen {
            self.say(&format!("* OK [UNSEEN {}] The first one", unseen + 1));
        }
        let flags = match read_only {
            true => "",
            false => "\\Answered \\Flagged \\Deleted \\Seen \\Draft",
        };
        self.say(&format!("* OK [PERMANENTFLAGS ({flags})] What can be marked"));
        self.say(&format!("* OK [UIDNEXT {}] Next", listing.next));
        self.say(&format!("* OK [UIDVALIDITY {}] Valid", listing.validity));
        self.selected = Some(Selected { folder, read_only, messages: listing.messages });
        self.changed = false;
        Done::ok(if read_only { "[READ-ONLY] Selected" } else { "[READ-WRITE] Selected" })
    }

    /// Looks at the selected folder, and tells what has changed in it.
    pub(super) async fn tell_changes(&mut self, may_expunge: bool) {
        let (Some(mail), Some(selected)) = (&self.mail, &mut self.selected) else { return };
        let listed = mail.avatar().list(selected.folder.clone(), selected.look());
        match listed.await {
            Ok(listing) => {
                for response in selected.update(&listing, may_expunge) {
                    self.wire.say(ResponseCodec::new().encode(&response).dump());
                }
                // What may not be told yet is told after another command.
                self.changed = !may_expunge;
            }
            Err(error) => tracing::error!("the folder cannot be looked at: {error}"),
        }
    }
}

/// What the client is told of a message's flags.
pub(super) fn flags_response(
    seq: NonZeroU32,
    message: &Message,
    with_uid: bool,
) -> Response<'static> {
    let mut items = vec![MessageDataItem::Flags(flags_of(message))];
    if let (true, Some(uid)) = (with_uid, NonZeroU32::new(message.uid)) {
        items.push(MessageDataItem::Uid(uid));
    }
    let items =
        Vec1::try_from(items).unwrap_or_else(|_| Vec1::from(MessageDataItem::Flags(vec![])));
    Response::Data(Data::Fetch { seq, items })
}

/// Flags in IMAP's words. `$Forwarded` is not told: a client could not set it.
pub(super) fn flags_of(message: &Message) -> Vec<FlagFetch<'static>> {
    let set = FLAGS.iter().filter(|(flag, _)| message.flags.has(*flag));
    let mut all: Vec<_> = set.map(|(_, flag)| FlagFetch::Flag(flag.clone())).collect();
    if message.recent {
        all.push(FlagFetch::Recent);
    }
    all
}

/// The flags that can be set among these; others are forgotten (RFC 3501, section 2.3.2: as the folder permits).
pub(super) fn known_flags(flags: &[Flag<'_>]) -> Flags {
    let known = FLAGS.iter().filter(|(_, name)| flags.contains(name));
    known.fold(Flags::none(), |all, (flag, _)| all.with(*flag))
}

const FLAGS: [(Flags, Flag<'static>); 5] = [
    (Flags::ANSWERED, Flag::Answered),
    (Flags::FLAGGED, Flag::Flagged),
    (Flags::DELETED, Flag::Deleted),
    (Flags::SEEN, Flag::Seen),
    (Flags::DRAFT, Flag::Draft),
];

pub(super) fn count(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

/// Whether a number is in a set, where `*` is the largest in use.
pub(super) fn contains(set: &SequenceSet, number: u32, most: u32) -> bool {
    set.0.as_ref().iter().any(|part| match part {
        Sequence::Single(one) => value(one, most) == number,
        Sequence::Range(a, b) => {
            let (a, b) = (value(a, most), value(b, most));
            (a.min(b)..=a.max(b)).contains(&number)
        }
    })
}

fn largest(part: &Sequence, most: u32) -> u32 {
    match part {
        Sequence::Single(one) => value(one, most),
        Sequence::Range(a, b) => value(a, most).max(value(b, most)),
    }
}

fn value(of: &SeqOrUid, most: u32) -> u32 {
    match of {
        SeqOrUid::Value(value) => value.get(),
        SeqOrUid::Asterisk => most,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(uid: u32, flags: Flags) -> Message {
        Message { uid, size: 1, received: 0, flags, recent: false }
    }

    fn listing(uids: &[u32]) -> Listing {
        let messages = uids.iter().map(|uid| message(*uid, Flags::none())).collect();
        Listing { validity: 1, next: 100, messages }
    }

    fn told(selected: &mut Selected, listing: &Listing, may_expunge: bool) -> String {
        let all = selected.update(listing, may_expunge);
        let bytes: Vec<u8> =
            all.iter().flat_map(|one| ResponseCodec::new().encode(one).dump()).collect();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn numbers_and_their_ends() {
        let set = |text: &str| SequenceSet::try_from(text).unwrap();
        let mut selected = Selected {
            folder: String::new(),
            read_only: false,
            messages: listing(&[3, 5, 9]).messages,
        };
        let uids = |selected: &Selected, text: &str, by_uid| {
            let chosen = selected.chosen(&set(text), by_uid)?;
            Ok::<_, &str>(chosen.iter().map(|n| n.message.uid).collect::<Vec<_>>())
        };
        assert_eq!(uids(&selected, "1:2", false).unwrap(), [3, 5]);
        assert_eq!(uids(&selected, "*", false).unwrap(), [9]);
        assert!(uids(&selected, "4", false).is_err() && uids(&selected, "1:7", false).is_err());
        assert_eq!(uids(&selected, "5:*", true).unwrap(), [5, 9]);
        assert_eq!(uids(&selected, "40:*", true).unwrap(), [9], "the last, whatever its number");
        assert_eq!(uids(&selected, "4", true).unwrap(), [0; 0]);
        selected.messages.clear();
        assert!(uids(&selected, "1:*", false).is_err());
        assert_eq!(uids(&selected, "1:*", true).unwrap(), [0; 0]);
    }

    #[test]
    fn changes_are_told_once_and_numbers_stay_where_they_must() {
        let mut selected = Selected {
            folder: String::new(),
            read_only: false,
            messages: listing(&[1, 2, 3]).messages,
        };
        let mut now = listing(&[2, 4]);
        now.messages[0].flags = Flags::SEEN;
        now.messages[1].recent = true;
        let text = told(&mut selected, &now, false);
        assert_eq!(text, "* 2 FETCH (FLAGS (\\Seen))\r\n* 4 EXISTS\r\n* 1 RECENT\r\n");
        let text = told(&mut selected, &now, true);
        assert_eq!(text, "* 3 EXPUNGE\r\n* 1 EXPUNGE\r\n");
        assert_eq!(told(&mut selected, &now, true), "");
    }
}
