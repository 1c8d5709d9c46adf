//! What FETCH gives of a message (RFC 3501, sections 6.4.5 and 7.4.2).

use std::num::NonZeroU32;

use imap_codec::ResponseCodec;
use imap_codec::encode::Encoder;
use imap_codec::imap_types::core::{Literal, NString, Vec1};
use imap_codec::imap_types::datetime::DateTime;
use imap_codec::imap_types::fetch::{MessageDataItem, MessageDataItemName, Section};
use imap_codec::imap_types::response::{Data, Response};

use super::messages::reads;
use super::mime::Mail;
use super::selected::{Numbered, flags_of};
use super::structure;

/// The items that were asked for.
#[derive(Clone, Debug)]
pub(super) struct Items(Vec<MessageDataItemName<'static>>);

impl Items {
    /// Whoever names messages by uid is told the uid (RFC 3501, section 6.4.8).
    pub(super) fn new(mut names: Vec<MessageDataItemName<'static>>, by_uid: bool) -> Self {
        if by_uid && !names.contains(&MessageDataItemName::Uid) {
            names.insert(0, MessageDataItemName::Uid);
        }
        Self(names)
    }

    pub(super) fn need_text(&self) -> bool {
        self.0.iter().any(reads)
    }

    /// Whether a message counts as seen by this.
    pub(super) fn see(&self) -> bool {
        use MessageDataItemName as M;
        self.0
            .iter()
            .any(|name| matches!(name, M::BodyExt { peek: false, .. } | M::Rfc822 | M::Rfc822Text))
    }
}

/// The answer about one message, as it goes out.
pub(super) fn render(
    numbered: &Numbered,
    text: Option<Vec<u8>>,
    items: &Items,
    with_flags: bool,
) -> Vec<u8> {
    use MessageDataItemName as M;
    let text = text.unwrap_or_default();
    let mail = Mail::of(&text);
    let message = &numbered.message;
    let mut all: Vec<MessageDataItem<'_>> = Vec::with_capacity(items.0.len());
    for name in &items.0 {
        let item = match name {
            M::Uid => NonZeroU32::new(message.uid).map(MessageDataItem::Uid),
            M::Flags => Some(MessageDataItem::Flags(flags_of(message))),
            M::Rfc822Size => Some(MessageDataItem::Rfc822Size(message.size)),
            M::InternalDate => date(message.received).map(MessageDataItem::InternalDate),
            M::Envelope => Some(MessageDataItem::Envelope(structure::envelope(&mail))),
            M::Body => Some(MessageDataItem::Body(structure::of(&mail, false))),
            M::BodyStructure => Some(MessageDataItem::BodyStructure(structure::of(&mail, true))),
            M::Rfc822 => Some(MessageDataItem::Rfc822(string(mail.raw))),
            M::Rfc822Header => Some(MessageDataItem::Rfc822Header(string(mail.header()))),
            M::Rfc822Text => Some(MessageDataItem::Rfc822Text(string(mail.text()))),
            M::BodyExt { section, partial, .. } => Some(section_of(&mail, section, *partial)),
            _ => None,
        };
        all.extend(item);
    }
    if with_flags && !items.0.contains(&M::Flags) {
        all.push(MessageDataItem::Flags(flags_of(message)));
    }
    match Vec1::try_from(all) {
        Ok(items) => {
            let response = Response::Data(Data::Fetch { seq: numbered.seq, items });
            ResponseCodec::new().encode(&response).dump()
        }
        Err(_) => Vec::new(),
    }
}

fn section_of<'a>(
    mail: &Mail<'a>,
    section: &Option<Section<'static>>,
    partial: Option<(u32, NonZeroU32)>,
) -> MessageDataItem<'a> {
    let found = mail.section(section.as_ref());
    let data = match (found, partial) {
        (None, _) => NString(None),
        (Some(found), None) => string(&found),
        (Some(found), Some((from, most))) => {
            let from = usize::try_from(from).unwrap_or(usize::MAX).min(found.len());
            let most = usize::try_from(most.get()).unwrap_or(usize::MAX);
            let to = from.saturating_add(most).min(found.len());
            string(found.get(from..to).unwrap_or_default())
        }
    };
    let origin = partial.map(|(from, _)| from);
    MessageDataItem::BodyExt { section: section.clone(), origin, data }
}

/// Always a literal, as every client expects of what may be anything. A NUL cannot be sent (RFC 3501, section 9),
/// and has no business in mail.
fn string(bytes: &[u8]) -> NString<'static> {
    let mut bytes = bytes.to_vec();
    for byte in bytes.iter_mut().filter(|byte| **byte == 0) {
        *byte = 0x80;
    }
    Literal::try_from(bytes).map_or(NString(None), NString::from)
}

/// Seconds since 1970, as IMAP writes it.
fn date(received: i64) -> Option<DateTime> {
    let date = chrono::DateTime::from_timestamp(received, 0)?;
    DateTime::try_from(date.fixed_offset()).ok()
}

#[cfg(test)]
mod tests {
    use imap_codec::CommandCodec;
    use imap_codec::decode::Decoder;
    use imap_codec::imap_types::IntoStatic;
    use imap_codec::imap_types::command::CommandBody;
    use imap_codec::imap_types::fetch::MacroOrMessageDataItemNames;

    use super::*;
    use crate::maildir::{Flags, Message};

    const TEXT: &str = "From: Ada <ada@there.example>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\
        Date: Mon, 7 Feb 1994 21:52:25 -0800\r\nMIME-Version: 1.0\r\n\
        Content-Type: multipart/mixed; boundary=b\r\n\r\npreface\r\n--b\r\n\
        Content-Type: text/plain; charset=utf-8\r\n\r\none\r\ntwo\r\n--b\r\n\
        Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nwithin\r\n--b--\r\n";

    fn fetched(what: &str, text: &str) -> String {
        let command = format!("a FETCH 1 {what}\r\n");
        let (_, command) = CommandCodec::new().decode(command.as_bytes()).unwrap();
        let CommandBody::Fetch { macro_or_item_names, .. } = command.body.into_static() else {
            panic!("a fetch");
        };
        let names = match macro_or_item_names {
            MacroOrMessageDataItemNames::MessageDataItemNames(names) => names,
            MacroOrMessageDataItemNames::Macro(all) => all.expand().into_static(),
        };
        let size = u32::try_from(text.len()).unwrap();
        let message =
            Message { uid: 7, size, received: 760_686_745, flags: Flags::SEEN, recent: true };
        let numbered = Numbered { seq: NonZeroU32::MIN, message };
        let all = render(&numbered, Some(text.into()), &Items::new(names, false), false);
        let text = String::from_utf8(all).unwrap();
        text.strip_prefix("* 1 FETCH (").unwrap().strip_suffix(")\r\n").unwrap().to_owned()
    }

    #[test]
    fn small_items() {
        assert_eq!(
            fetched("(UID FLAGS INTERNALDATE RFC822.SIZE)", "x"),
            "UID 7 FLAGS (\\Seen \\Recent) INTERNALDATE \"08-Feb-1994 05:52:25 +0000\" RFC822.SIZE 1"
        );
    }

    #[test]
    fn sections() {
        for (section, content) in [
            ("BODY[1]", "one\r\ntwo"),
            ("BODY[1.MIME]", "Content-Type: text/plain; charset=utf-8\r\n\r\n"),
            ("BODY[2]", "Subject: inner\r\n\r\nwithin"),
            ("BODY[2.HEADER]", "Subject: inner\r\n\r\n"),
            ("BODY[2.TEXT]", "within"),
            ("BODY[2.1]", "within"),
            (
                "BODY[HEADER.FIELDS (subject Nothing)]",
                "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\n",
            ),
        ] {
            let item = fetched(section, TEXT);
            let wanted = format!(" {{{}}}\r\n{content}", content.len());
            assert!(item.ends_with(&wanted), "{section}: {item:?}, not {wanted:?}");
        }
        assert!(fetched("BODY[9]", TEXT).ends_with(" NIL"));
        assert!(fetched("BODY[1.2]", TEXT).ends_with(" NIL"));
        assert_eq!(fetched("BODY[]<5.4>", TEXT), " {4}\r\n Ada".replacen(' ', "BODY[]<5> ", 1));
        assert!(fetched("BODY[]<99999.4>", TEXT).ends_with("{0}\r\n"));
        assert!(fetched("BODY[TEXT]", TEXT).contains("preface"));
        assert_eq!(fetched("BODY[1]", "A: b\r\n\r\nbody\r\n"), "BODY[1] {6}\r\nbody\r\n");
        assert_eq!(fetched("BODY[HEADER]", ""), "BODY[HEADER] {0}\r\n");
    }

    #[test]
    fn envelope_and_structure() {
        assert_eq!(
            fetched("ENVELOPE", TEXT),
            "ENVELOPE (\"Mon, 7 Feb 1994 21:52:25 -0800\" \"=?utf-8?q?Gr=C3=BC=C3=9Fe?=\" \
             ((\"Ada\" NIL \"ada\" \"there.example\")) ((\"Ada\" NIL \"ada\" \"there.example\")) \
             ((\"Ada\" NIL \"ada\" \"there.example\")) NIL NIL NIL NIL NIL)"
        );
        assert_eq!(
            fetched("BODY", TEXT),
            "BODY ((\"TEXT\" \"plain\" (\"charset\" \"utf-8\") NIL NIL \"7bit\" 8 2)\
             (\"MESSAGE\" \"RFC822\" NIL NIL NIL \"7bit\" 24 \
             (NIL \"inner\" NIL NIL NIL NIL NIL NIL NIL NIL) \
             (\"TEXT\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 6 1) 3) \"mixed\")"
        );
    }

    #[test]
    fn no_message_is_too_strange() {
        for text in
            ["", "\r\n", "no header at all", "A: 1", "Content-Type: multipart/mixed\r\n\r\nx"]
        {
            for what in ["(ENVELOPE BODYSTRUCTURE BODY[1] BODY[1.MIME] BODY[TEXT])", "FULL"] {
                assert!(!fetched(what, text).is_empty(), "{text:?} {what}");
            }
        }
    }
}
