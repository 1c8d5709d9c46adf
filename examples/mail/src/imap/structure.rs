//! ENVELOPE, BODY and BODYSTRUCTURE (RFC 3501, section 7.4.2).

use base64::prelude::{BASE64_STANDARD, Engine as _};
use imap_codec::imap_types::body::{
    BasicFields, Body, BodyStructure, Disposition, Language, MultiPartExtensionData,
    SinglePartExtensionData, SpecificFields,
};
use imap_codec::imap_types::core::{IString, NString, Quoted, Vec1};
use imap_codec::imap_types::envelope::{Address, Envelope};
use mail_parser::{
    Addr, Address as Parsed, ContentType, HeaderName, HeaderValue, Message, MessagePart,
    MimeHeaders, PartType,
};

use super::mime::{Mail, value};
use super::selected::count;

/// How deep parts may be in each other: a client follows as deep.
const DEPTH: usize = 32;

pub(super) fn envelope(mail: &Mail<'_>) -> Envelope<'static> {
    envelope_of(mail.header(), mail.message.as_ref())
}

fn envelope_of(header: &[u8], message: Option<&Message<'_>>) -> Envelope<'static> {
    let text = |name| nstring(value(header, name));
    let addresses = |name: HeaderName<'_>| {
        let found = message.and_then(|message| message.header(name));
        found.and_then(HeaderValue::as_address).map_or_else(Vec::new, addresses_of)
    };
    let from = addresses(HeaderName::From);
    // Who sends and who is answered is who it is from, unless it says otherwise.
    let or_from =
        |found: Vec<Address<'static>>| if found.is_empty() { from.clone() } else { found };
    Envelope {
        date: text("Date"),
        subject: text("Subject"),
        sender: or_from(addresses(HeaderName::Sender)),
        reply_to: or_from(addresses(HeaderName::ReplyTo)),
        to: addresses(HeaderName::To),
        cc: addresses(HeaderName::Cc),
        bcc: addresses(HeaderName::Bcc),
        in_reply_to: text("In-Reply-To"),
        message_id: text("Message-ID"),
        from,
    }
}

fn addresses_of(parsed: &Parsed<'_>) -> Vec<Address<'static>> {
    let nil = || NString(None);
    match parsed {
        Parsed::List(list) => list.iter().map(address).collect(),
        Parsed::Group(groups) => {
            let mut all = Vec::new();
            for group in groups {
                let name = group.name.as_deref().map(|name| encoded(name).into_bytes());
                let (mailbox, named) = (nstring(name.clone()), name.is_some());
                let edge = |mailbox| Address { name: nil(), adl: nil(), mailbox, host: nil() };
                if named {
                    all.push(edge(mailbox));
                }
                all.extend(group.addresses.iter().map(address));
                if named {
                    all.push(edge(nil()));
                }
            }
            all
        }
    }
}

fn address(parsed: &Addr<'_>) -> Address<'static> {
    let text = |text: &str| nstring(Some(text.as_bytes().to_vec()));
    let whole = parsed.address.as_deref().unwrap_or_default();
    let (mailbox, host) = whole.rsplit_once('@').unwrap_or((whole, ""));
    Address {
        name: nstring(parsed.name.as_deref().map(|name| encoded(name).into_bytes())),
        adl: NString(None),
        mailbox: text(mailbox),
        host: text(host),
    }
}

/// A name as a header would have it: what is not ASCII in an encoded word (RFC 2047).
fn encoded(name: &str) -> String {
    if name.is_ascii() {
        return name.to_owned();
    }
    format!("=?utf-8?B?{}?=", BASE64_STANDARD.encode(name))
}

/// The structure, with extension data or without.
pub(super) fn of(mail: &Mail<'_>, extended: bool) -> BodyStructure<'static> {
    match &mail.message {
        Some(message) => structure(mail, message, message.root_part(), extended, DEPTH),
        None => nothing(extended),
    }
}

fn structure(
    mail: &Mail<'_>,
    message: &Message<'_>,
    part: &MessagePart<'_>,
    extended: bool,
    depth: usize,
) -> BodyStructure<'static> {
    let Some(deeper) = depth.checked_sub(1) else { return nothing(extended) };
    let kind = part.content_type();
    if let PartType::Multipart(below) = &part.body {
        let at = |id: &u32| message.parts.get(usize::try_from(*id).ok()?);
        let bodies = below.iter().filter_map(at);
        let bodies: Vec<_> =
            bodies.map(|part| structure(mail, message, part, extended, deeper)).collect();
        return BodyStructure::Multi {
            bodies: Vec1::try_from(bodies).unwrap_or_else(|_| Vec1::from(nothing(extended))),
            subtype: istring(kind.and_then(ContentType::subtype).unwrap_or("mixed")),
            extension_data: extended.then(|| MultiPartExtensionData {
                parameter_list: parameters(kind),
                tail: Some(disposition(part)),
            }),
        };
    }
    let body = mail.bytes(part.offset_body, part.offset_end);
    let lines = || count(body.split_inclusive(|byte| *byte == b'\n').count());
    let c_type = kind.map_or("text", ContentType::ctype);
    let subtype = kind.map_or(Some("plain"), ContentType::subtype).unwrap_or("plain");
    let specific = match mail.within(part) {
        Some(inner) => {
            let root = inner.root_part();
            let header = mail.bytes(root.offset_header, root.offset_body);
            SpecificFields::Message {
                envelope: Box::new(envelope_of(header, Some(inner))),
                body_structure: Box::new(structure(mail, inner, root, extended, deeper)),
                number_of_lines: lines(),
            }
        }
        None if c_type.eq_ignore_ascii_case("text") => {
            SpecificFields::Text { subtype: istring(subtype), number_of_lines: lines() }
        }
        // The words are for those whose parts can be asked for.
        None if c_type.eq_ignore_ascii_case("message") => SpecificFields::Basic {
            r#type: istring("application"),
            subtype: istring("octet-stream"),
        },
        None => SpecificFields::Basic { r#type: istring(c_type), subtype: istring(subtype) },
    };
    let header = mail.bytes(part.offset_header, part.offset_body);
    let parameter_list = match kind {
        None if matches!(specific, SpecificFields::Text { .. }) => default_charset(),
        kind => parameters(kind),
    };
    let basic = BasicFields {
        parameter_list,
        id: nstring(value(header, "Content-ID")),
        description: nstring(value(header, "Content-Description")),
        content_transfer_encoding: istring(part.content_transfer_encoding().unwrap_or("7bit")),
        size: count(body.len()),
    };
    BodyStructure::Single {
        body: Body { basic, specific },
        extension_data: extended
            .then(|| SinglePartExtensionData { md5: NString(None), tail: Some(disposition(part)) }),
    }
}

/// An empty text.
fn nothing(extended: bool) -> BodyStructure<'static> {
    let basic = BasicFields {
        parameter_list: default_charset(),
        id: NString(None),
        description: NString(None),
        content_transfer_encoding: istring("7bit"),
        size: 0,
    };
    let specific = SpecificFields::Text { subtype: istring("plain"), number_of_lines: 0 };
    let extension_data =
        extended.then_some(SinglePartExtensionData { md5: NString(None), tail: None });
    BodyStructure::Single { body: Body { basic, specific }, extension_data }
}

/// RFC 2045, section 5.2.
fn default_charset() -> Vec<(IString<'static>, IString<'static>)> {
    vec![(istring("charset"), istring("us-ascii"))]
}

fn parameters(kind: Option<&ContentType<'_>>) -> Vec<(IString<'static>, IString<'static>)> {
    let all = kind.and_then(ContentType::attributes).unwrap_or_default();
    all.iter().map(|one| (istring(&one.name), istring(&encoded(&one.value)))).collect()
}

fn disposition(part: &MessagePart<'_>) -> Disposition<'static> {
    let found = part.content_disposition();
    let language = part.content_language().as_text().map(istring);
    Disposition {
        disposition: found.map(|found| (istring(found.ctype()), parameters(Some(found)))),
        tail: Some(Language { language: language.into_iter().collect(), tail: None }),
    }
}

fn istring(text: &str) -> IString<'static> {
    let clean: String = text.chars().filter(|c| *c != '\0').collect();
    IString::try_from(clean).unwrap_or_else(|_| IString::Quoted(Quoted::unvalidated("")))
}

fn nstring(text: Option<Vec<u8>>) -> NString<'static> {
    text.map_or(NString(None), |text| NString::try_from(text).unwrap_or(NString(None)))
}
