//! SEARCH (RFC 3501, section 6.4.4).

use std::num::NonZeroU32;

use chrono::{DateTime, NaiveDate};
use countersign::Realm;
use imap_codec::ResponseCodec;
use imap_codec::encode::Encoder;
use imap_codec::imap_types::IntoStatic;
use imap_codec::imap_types::core::{AString, Charset, Vec1};
use imap_codec::imap_types::response::{Data, Response};
use imap_codec::imap_types::search::SearchKey;
use mail_parser::{HeaderForm, Message as Parsed, PartType};

use super::commands::Done;
use super::folders::error_words;
use super::mime::{Mail, each_field};
use super::selected::{Numbered, contains, count};
use super::{Connection, ImapMailbox};
use crate::maildir::Flags;

/// How deep conditions may be in each other, and how many there may be.
const DEPTH: usize = 32;
const MOST: usize = 200;

impl<R: Realm<ImapMailbox>> Connection<'_, R> {
    pub(super) async fn search(
        &mut self,
        charset: Option<Charset<'_>>,
        criteria: Vec1<SearchKey<'_>>,
        by_uid: bool,
    ) -> Done {
        let known = |charset: &Charset<'_>| {
            let wanted = match charset {
                Charset::Atom(name) => name.inner(),
                Charset::Quoted(name) => name.inner(),
            };
            ["UTF-8", "US-ASCII"].iter().any(|name| wanted.eq_ignore_ascii_case(name))
        };
        if !charset.as_ref().is_none_or(known) {
            return Done::no("[BADCHARSET (US-ASCII UTF-8)] Not in this character set");
        }
        let key = SearchKey::And(criteria).into_static();
        if size(&key, DEPTH).is_none_or(|size| size > MOST) {
            return Done::no("[LIMIT] These are too many conditions");
        }
        let (Some(selected), Some(mail)) = (&self.selected, &self.mail) else {
            return Done::Bad("Select a folder first");
        };
        let (avatar, folder) = (mail.avatar(), selected.folder.clone());
        let most = Most {
            seq: count(selected.messages.len()),
            uid: selected.messages.last().map_or(0, |message| message.uid),
        };
        let reads = reads(&key);
        let key = std::sync::Arc::new(key);
        let mut found = Vec::new();
        for numbered in selected.numbered() {
            let matched = if reads {
                let text = match avatar.read(folder.clone(), numbered.message.uid).await {
                    Ok(Some(text)) => text,
                    Ok(None) => continue,
                    Err(error) => return Done::No(error_words(&error)),
                };
                let key = std::sync::Arc::clone(&key);
                let look = move || matches(&key, &numbered, &most, Some(&Mail::of(&text)));
                match tokio::task::spawn_blocking(look).await {
                    Ok(matched) => matched,
                    Err(error) => {
                        tracing::error!("a message cannot be taken apart: {error}");
                        false
                    }
                }
            } else {
                matches(&key, &numbered, &most, None)
            };
            if matched {
                let uid = NonZeroU32::new(numbered.message.uid);
                found.extend(if by_uid { uid } else { Some(numbered.seq) });
            }
        }
        let response = Response::Data(Data::Search(found));
        self.wire.say(ResponseCodec::new().encode(&response).dump());
        Done::ok("Done")
    }
}

/// What `*` is.
#[derive(Clone, Copy)]
struct Most {
    seq: u32,
    uid: u32,
}

/// How many conditions there are; `None` if they are too deep in each other.
fn size(key: &SearchKey<'_>, depth: usize) -> Option<usize> {
    let deeper = depth.checked_sub(1)?;
    match key {
        SearchKey::And(all) => {
            all.as_ref().iter().try_fold(1, |sum, key| Some(sum + size(key, deeper)?))
        }
        SearchKey::Not(key) => Some(1 + size(key, deeper)?),
        SearchKey::Or(a, b) => Some(1 + size(a, deeper)? + size(b, deeper)?),
        _ => Some(1),
    }
}

/// Whether it takes the message itself to tell.
fn reads(key: &SearchKey<'_>) -> bool {
    use SearchKey as K;
    match key {
        K::And(all) => all.as_ref().iter().any(reads),
        K::Not(key) => reads(key),
        K::Or(a, b) => reads(a) || reads(b),
        K::Bcc(_) | K::Body(_) | K::Cc(_) | K::From(_) | K::Header(..) | K::Subject(_) => true,
        K::Text(_) | K::To(_) | K::SentBefore(_) | K::SentOn(_) | K::SentSince(_) => true,
        _ => false,
    }
}

fn matches(key: &SearchKey<'_>, of: &Numbered, most: &Most, mail: Option<&Mail<'_>>) -> bool {
    use SearchKey as K;
    let flag = |flag| of.message.flags.has(flag);
    let header = |name: &str, text: &AString<'_>| {
        mail.is_some_and(|mail| in_header(mail, name.as_bytes(), text.as_ref()))
    };
    let received = || DateTime::from_timestamp(of.message.received, 0).map(|at| at.date_naive());
    match key {
        K::And(all) => all.as_ref().iter().all(|key| matches(key, of, most, mail)),
        K::Or(a, b) => matches(a, of, most, mail) || matches(b, of, most, mail),
        K::Not(key) => !matches(key, of, most, mail),
        K::All => true,
        K::SequenceSet(set) => contains(set, of.seq.get(), most.seq),
        K::Uid(set) => contains(set, of.message.uid, most.uid),
        K::Answered => flag(Flags::ANSWERED),
        K::Unanswered => !flag(Flags::ANSWERED),
        K::Deleted => flag(Flags::DELETED),
        K::Undeleted => !flag(Flags::DELETED),
        K::Draft => flag(Flags::DRAFT),
        K::Undraft => !flag(Flags::DRAFT),
        K::Flagged => flag(Flags::FLAGGED),
        K::Unflagged => !flag(Flags::FLAGGED),
        K::Seen => flag(Flags::SEEN),
        K::Unseen => !flag(Flags::SEEN),
        K::Keyword(_) => false,
        K::Unkeyword(_) => true,
        K::Recent => of.message.recent,
        K::Old => !of.message.recent,
        K::New => of.message.recent && !flag(Flags::SEEN),
        K::Larger(size) => of.message.size > *size,
        K::Smaller(size) => of.message.size < *size,
        K::Before(date) => received().is_some_and(|at| at < *date.as_ref()),
        K::On(date) => received().is_some_and(|at| at == *date.as_ref()),
        K::Since(date) => received().is_some_and(|at| at >= *date.as_ref()),
        K::SentBefore(date) => sent(mail).is_some_and(|at| at < *date.as_ref()),
        K::SentOn(date) => sent(mail).is_some_and(|at| at == *date.as_ref()),
        K::SentSince(date) => sent(mail).is_some_and(|at| at >= *date.as_ref()),
        K::From(text) => header("From", text),
        K::To(text) => header("To", text),
        K::Cc(text) => header("Cc", text),
        K::Bcc(text) => header("Bcc", text),
        K::Subject(text) => header("Subject", text),
        K::Header(name, text) => {
            mail.is_some_and(|mail| in_header(mail, name.as_ref(), text.as_ref()))
        }
        K::Body(text) => mail.is_some_and(|mail| in_body(mail, text.as_ref())),
        K::Text(text) => mail.is_some_and(|mail| {
            holds(&String::from_utf8_lossy(mail.header()), text.as_ref())
                || in_header(mail, b"Subject", text.as_ref())
                || in_body(mail, text.as_ref())
        }),
    }
}

/// The date that a message says of itself, without regard to time and zone.
fn sent(mail: Option<&Mail<'_>>) -> Option<NaiveDate> {
    let date = mail?.message.as_ref()?.date()?;
    NaiveDate::from_ymd_opt(date.year.into(), date.month.into(), date.day.into())
}

/// Whether a header field has a text in it, as it is or as a person would read it. An empty text is in every one.
fn in_header(mail: &Mail<'_>, name: &[u8], text: &[u8]) -> bool {
    let mut fields =
        each_field(mail.header()).filter(|(field, _)| field.eq_ignore_ascii_case(name));
    let as_it_is = fields.any(|(_, field)| {
        let value = field.splitn(2, |byte| *byte == b':').nth(1).unwrap_or_default();
        holds(&String::from_utf8_lossy(value), text)
    });
    let read = |message: &Parsed<'_>| {
        let name = String::from_utf8_lossy(name).into_owned();
        message
            .header_as(name.as_str(), HeaderForm::Text)
            .iter()
            .any(|value| value.as_text().is_some_and(|value| holds(value, text)))
    };
    as_it_is || mail.message.as_ref().is_some_and(read)
}

fn in_body(mail: &Mail<'_>, text: &[u8]) -> bool {
    let Some(message) = &mail.message else { return text.is_empty() };
    text.is_empty()
        || message.parts.iter().any(|part| match &part.body {
            PartType::Text(body) | PartType::Html(body) => holds(body, text),
            PartType::Message(inner) => inner.parts.iter().any(|part| match &part.body {
                PartType::Text(body) | PartType::Html(body) => holds(body, text),
                _ => false,
            }),
            _ => false,
        })
}

/// Whether a text has another in it, without regard to case. What is no UTF-8 is in none.
fn holds(text: &str, wanted: &[u8]) -> bool {
    let Ok(wanted) = std::str::from_utf8(wanted) else { return false };
    text.to_lowercase().contains(&wanted.to_lowercase())
}

#[cfg(test)]
mod tests {
    use imap_codec::CommandCodec;
    use imap_codec::decode::Decoder;
    use imap_codec::imap_types::command::CommandBody;

    use super::*;
    use crate::maildir::Message;

    fn found(search: &str) -> bool {
        let command = format!("a SEARCH {search}\r\n");
        let (_, command) = CommandCodec::new().decode(command.as_bytes()).expect(search);
        let CommandBody::Search { criteria, .. } = command.body else { panic!("{search}") };
        let key = SearchKey::And(criteria);
        let text = "From: Ada Lovelace <ada@there.example>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\
             Date: Mon, 7 Feb 1994 21:52:25 -0800\r\nX-Mark:\r\n\r\nA Letter=20\r\n";
        let flags = Flags::SEEN.with(Flags::FLAGGED);
        let message = Message { uid: 9, size: 120, received: 760_686_745, flags, recent: true };
        let numbered = Numbered { seq: NonZeroU32::MIN, message };
        let most = Most { seq: 1, uid: 9 };
        let mail = Mail::of(text.as_bytes());
        matches(&key, &numbered, &most, reads(&key).then_some(&mail))
    }

    #[test]
    fn conditions() {
        for yes in [
            "ALL",
            "1",
            "*",
            "UID 5:20",
            "SEEN FLAGGED",
            "NOT DELETED",
            "OR DELETED SEEN",
            "RECENT",
            "(SEEN UNDELETED)",
            "LARGER 100 SMALLER 121",
            "ON 8-Feb-1994",
            "SINCE 8-Feb-1994",
            "BEFORE 9-Feb-1994",
            "SENTON 7-Feb-1994",
            "FROM lovelace",
            "SUBJECT gr=c3",
            "HEADER x-mark \"\"",
            "BODY letter",
            "TEXT ada@",
            "UNKEYWORD x",
            "UNDRAFT UNANSWERED",
        ] {
            assert!(found(yes), "{yes}");
        }
        for no in [
            "2",
            "UID 1:8",
            "UNSEEN",
            "OLD",
            "NEW",
            "LARGER 120",
            "BEFORE 8-Feb-1994",
            "TO ada",
            "SENTON 8-Feb-1994",
            "HEADER x-other \"\"",
            "BODY subject",
            "KEYWORD x",
        ] {
            assert!(!found(no), "{no}");
        }
        assert!(in_header(
            &Mail::of("Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\n".as_bytes()),
            b"subject",
            "GRÜSSE".replace("SS", "ß").as_bytes()
        ));
    }

    #[test]
    fn depth_has_an_end() {
        let mut key = SearchKey::All;
        for _ in 0..DEPTH {
            key = SearchKey::Not(Box::new(key));
        }
        assert_eq!(size(&key, DEPTH), None);
    }
}
