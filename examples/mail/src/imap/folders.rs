//! Folders: LIST, LSUB, STATUS, CREATE, DELETE, RENAME (RFC 3501, sections 6.3.3 to 6.3.10).

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU32;

use countersign::Realm;
use imap_codec::ResponseCodec;
use imap_codec::encode::Encoder;
use imap_codec::imap_types::core::QuotedChar;
use imap_codec::imap_types::flag::FlagNameAttribute;
use imap_codec::imap_types::mailbox::{ListMailbox, Mailbox as MailboxName};
use imap_codec::imap_types::response::{Data, Response};
use imap_codec::imap_types::status::{StatusDataItem, StatusDataItemName};

use super::commands::Done;
use super::selected::count;
use super::{Connection, INBOX, ImapMailbox, Look};
use crate::maildir::Flags;

/// The longest pattern that is looked for.
const PATTERN: usize = 1000;

impl<R: Realm<ImapMailbox>> Connection<'_, R> {
    pub(super) async fn list(
        &mut self,
        reference: &MailboxName<'_>,
        wildcard: &ListMailbox<'_>,
        subscribed: bool,
    ) -> Done {
        let pattern = match wildcard {
            ListMailbox::Token(token) => String::from_utf8_lossy(token.as_ref()).into_owned(),
            ListMailbox::String(text) => {
                String::from_utf8_lossy(text.clone().into_inner().as_ref()).into_owned()
            }
        };
        if pattern.is_empty() {
            // What is between the steps of names.
            self.say("* LIST (\\Noselect) \".\" \"\"");
            return Done::ok("Done");
        }
        let pattern = format!("{}{pattern}", name_of(reference));
        if pattern.len() > PATTERN {
            return Done::no("That name is too long");
        }
        let Some(mail) = &self.mail else { return Done::Bad("Log in first") };
        let names = match mail.avatar().folders().await {
            Ok(names) => names,
            Err(error) => return Done::No(error_words(&error)),
        };
        for (name, is_there) in with_parents(names) {
            let as_inbox = name == INBOX && matches(&pattern.to_ascii_uppercase(), INBOX);
            if !as_inbox && !matches(&pattern, &name) {
                continue;
            }
            let Ok(mailbox) = MailboxName::try_from(name) else { continue };
            let items = if is_there { vec![] } else { vec![FlagNameAttribute::Noselect] };
            let delimiter = QuotedChar::try_from('.').ok();
            let data = match subscribed {
                true => Data::Lsub { items, delimiter, mailbox },
                false => Data::List { items, delimiter, mailbox },
            };
            self.wire.say(ResponseCodec::new().encode(&Response::Data(data)).dump());
        }
        Done::ok("Done")
    }

    pub(super) async fn status(
        &mut self,
        name: &MailboxName<'_>,
        wanted: &[StatusDataItemName],
    ) -> Done {
        let Some(mail) = &self.mail else { return Done::Bad("Log in first") };
        let listing = match mail.avatar().list(name_of(name), Look::Glance).await {
            Ok(listing) => listing,
            Err(error) => return Done::No(error_words(&error)),
        };
        let with = |wanted: fn(&crate::maildir::Message) -> bool| {
            count(listing.messages.iter().filter(|message| wanted(message)).count())
        };
        let mut items = Vec::new();
        for name in wanted {
            items.extend(match name {
                StatusDataItemName::Messages => {
                    Some(StatusDataItem::Messages(count(listing.messages.len())))
                }
                StatusDataItemName::Recent => Some(StatusDataItem::Recent(with(|m| m.recent))),
                StatusDataItemName::UidNext => {
                    NonZeroU32::new(listing.next).map(StatusDataItem::UidNext)
                }
                StatusDataItemName::UidValidity => {
                    NonZeroU32::new(listing.validity).map(StatusDataItem::UidValidity)
                }
                StatusDataItemName::Unseen => {
                    Some(StatusDataItem::Unseen(with(|m| !m.flags.has(Flags::SEEN))))
                }
                StatusDataItemName::Deleted => {
                    Some(StatusDataItem::Deleted(with(|m| m.flags.has(Flags::DELETED))))
                }
                StatusDataItemName::DeletedStorage => None,
            });
        }
        let Ok(mailbox) = MailboxName::try_from(name_of(name)) else {
            return Done::no("[NONEXISTENT] There is no such folder");
        };
        let data = Data::Status { mailbox, items: items.into() };
        self.wire.say(ResponseCodec::new().encode(&Response::Data(data)).dump());
        Done::ok("Done")
    }

    pub(super) async fn create(&mut self, name: &MailboxName<'_>) -> Done {
        let Some(mail) = &self.mail else { return Done::Bad("Log in first") };
        // A delimiter at the end says that others will be made below (RFC 3501, section 6.3.3).
        let name = name_of(name);
        let name = name.strip_suffix('.').unwrap_or(&name).to_owned();
        done(mail.avatar().create(name).await)
    }

    pub(super) async fn delete(&mut self, name: &MailboxName<'_>) -> Done {
        let Some(mail) = &self.mail else { return Done::Bad("Log in first") };
        let name = name_of(name);
        if name == INBOX {
            return Done::no("[CANNOT] INBOX stays");
        }
        if self.selected.as_ref().is_some_and(|selected| selected.folder == name) {
            self.selected = None;
        }
        done(mail.avatar().delete(name).await)
    }

    pub(super) async fn rename(&mut self, from: &MailboxName<'_>, to: &MailboxName<'_>) -> Done {
        let Some(mail) = &self.mail else { return Done::Bad("Log in first") };
        let (from, to) = (name_of(from), name_of(to));
        if from == INBOX || to == INBOX {
            return Done::no("[CANNOT] INBOX stays");
        }
        if self.selected.as_ref().is_some_and(|selected| selected.folder.starts_with(&from)) {
            self.selected = None;
        }
        done(mail.avatar().rename(from, to).await)
    }
}

fn done(result: io::Result<()>) -> Done {
    match result {
        Ok(()) => Done::ok("Done"),
        Err(error) => Done::No(error_words(&error)),
    }
}

/// A folder's name as the client says it; bytes that are no text become a name that nothing has.
pub(super) fn name_of(name: &MailboxName<'_>) -> String {
    match name {
        MailboxName::Inbox => INBOX.to_owned(),
        MailboxName::Other(other) => String::from_utf8_lossy(other.as_ref()).into_owned(),
    }
}

/// What a client is told of a failure (RFC 5530, section 3); the rest is for the operator.
pub(super) fn error_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "[NONEXISTENT] There is no such folder",
        io::ErrorKind::AlreadyExists => "[ALREADYEXISTS] There is one of that name",
        io::ErrorKind::InvalidInput => "[CANNOT] A folder cannot have that name",
        io::ErrorKind::ReadOnlyFilesystem => "[NOPERM] Only to be read",
        io::ErrorKind::QuotaExceeded | io::ErrorKind::StorageFull => "[OVERQUOTA] There is no room",
        _ => {
            tracing::error!("a mailbox: {error}");
            "[UNAVAILABLE] Not now, try again later"
        }
    }
    .to_owned()
}

/// All names in order, `INBOX` among them, and whether each is a folder; a step above one that is none is listed,
/// too, or nobody would find the one below.
fn with_parents(names: Vec<String>) -> BTreeMap<String, bool> {
    let mut all = BTreeMap::from([(INBOX.to_owned(), true)]);
    for name in names {
        for (at, _) in name.match_indices('.') {
            all.entry(name.get(..at).unwrap_or_default().to_owned()).or_insert(false);
        }
        all.insert(name, true);
    }
    all
}

/// Whether a name is what a pattern says: `*` is anything, `%` anything within one step.
fn matches(pattern: &str, name: &str) -> bool {
    let name = name.as_bytes();
    // Where in the name a match of the pattern so far may end.
    let mut ends = vec![false; name.len() + 1];
    if let Some(first) = ends.first_mut() {
        *first = true;
    }
    for wanted in pattern.bytes() {
        let mut next = vec![false; ends.len()];
        let mut reached = false;
        for at in 0..ends.len() {
            let before = at.checked_sub(1).and_then(|before| name.get(before)).copied();
            let from_before = at > 0 && ends.get(at - 1) == Some(&true);
            let here = match wanted {
                b'*' => {
                    reached |= ends.get(at) == Some(&true);
                    reached
                }
                b'%' => {
                    reached = ends.get(at) == Some(&true) || reached && before != Some(b'.');
                    reached
                }
                byte => from_before && before == Some(byte),
            };
            if let Some(slot) = next.get_mut(at) {
                *slot = here;
            }
        }
        ends = next;
    }
    ends.last() == Some(&true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*", "a.b", true),
            ("%", "a.b", false),
            ("%", "a", true),
            ("a.%", "a.b", true),
            ("a.%", "a.b.c", false),
            ("a*c", "a.b.c", true),
            ("%.%", "a.b", true),
            ("INBOX", "INBOX", true),
            ("INBO", "INBOX", false),
            ("*x", "INBOX", false),
            ("%%", "ab", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        assert!(!matches(&"*a".repeat(400), &"b".repeat(200)), "and soon");
    }

    #[test]
    fn steps_above_are_listed() {
        let all = with_parents(vec!["a.b.c".into(), "a".into()]);
        let all: Vec<_> = all.iter().map(|(name, there)| (name.as_str(), *there)).collect();
        assert_eq!(all, [("INBOX", true), ("a", true), ("a.b", false), ("a.b.c", true)]);
    }
}
