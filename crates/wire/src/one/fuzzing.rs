//! The bodies of this protocol's fuzz targets.

use super::conf::{CONF_LIMIT, ConfError, OnedConf};
use super::mad::{
    BadRequest, Line, LineSplitter, ManagerLine, Request, RequestFault, SecretEncoding,
};
use super::{
    Authn, AuthnDocument, Authz, AuthzDocument, DriverAnswer, DriverInput, Profile, REPLY_LIMIT,
    Reply,
};

/// What a driver printed. What comes before the first 0xff is the secret that the user typed.
pub fn one_reply(data: &[u8]) {
    let (secret, stdout) = match data.iter().position(|&byte| byte == 0xff) {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (&b""[..], data),
    };
    let Ok(DriverAnswer { reply: Some(reply), .. }) = DriverAnswer::parse(stdout, secret) else {
        return;
    };
    let mut line = Vec::new();
    reply.encode(&mut line);
    assert!(line.len() <= REPLY_LIMIT && !line.iter().any(|byte| byte.is_ascii_control()));
    assert_eq!(Reply::parse(&line).as_ref(), Ok(&reply));
    let own = Reply::new(
        reply.driver().clone(),
        reply.user().clone(),
        reply.stored().clone(),
        reply.groups(),
    );
    assert!(own.is_err() || own == Ok(reply));
}

/// A document for a driver, and the same bytes as a secret in one.
pub fn one_document(data: &[u8]) {
    if let Ok(call) = AuthzDocument::parse(data) {
        let requests: Vec<&str> = call.requests.iter().map(String::as_str).collect();
        let again = Authz { user: call.user, requests: &requests, verdict: call.verdict }.encode();
        assert_eq!(AuthzDocument::parse(&again.expect("read")).as_ref(), Ok(&call));
    }
    let user = "u".parse().expect("a name");
    let sent = Authn { user: &user, stored: None, secret: data }.encode(Profile::V6_4);
    if let Ok(DriverInput::Document(document)) = sent {
        let read = AuthnDocument::parse(document.expose()).expect("what is written can be read");
        assert_eq!((read.secret.expose(), read.stored), (data, None));
    }
    let Ok(login) = AuthnDocument::parse(data) else { return };
    let stored = login.stored.as_ref().map(|stored| stored.expose());
    let again = Authn { user: &login.user, stored, secret: login.secret.expose() };
    // References take more room than what they stand for, so a document near the limit may not fit again.
    if let Ok(DriverInput::Document(document)) = again.encode(Profile::V7_3_80) {
        assert_eq!(AuthnDocument::parse(document.expose()), Ok(login));
    } else {
        assert!(data.len() > 100_000);
    }
}

/// A stream of oned, under each spelling of secrets, and the same lines as a manager's. The first byte is the
/// size of a read.
pub fn one_mad(data: &[u8]) {
    let Some((&size, stream)) = data.split_first() else { return };
    let (mut pieces, mut whole) = (LineSplitter::new(256), LineSplitter::new(256));
    let mut cut = Vec::new();
    for piece in stream.chunks(usize::from(size).max(1)) {
        pieces.feed(piece);
        while let Some(line) = pieces.next_line() {
            cut.push(owned(line));
        }
    }
    whole.feed(stream);
    for line in cut {
        assert_eq!(whole.next_line().map(owned), Some(line.clone()));
        match line {
            Ok(line) => {
                mad_line(&line, SecretEncoding::Raw, Profile::V6_2);
                mad_line(&line, SecretEncoding::Base64, Profile::V6_4);
                mad_line(&line, SecretEncoding::ByFraming, Profile::V7_3_80);
                let _ = ManagerLine::parse(&line);
            }
            Err(head) => refused(&BadRequest::too_long(&head)),
        }
    }
    assert_eq!(whole.next_line(), None);
}

fn owned(line: Line<'_>) -> Result<Vec<u8>, Vec<u8>> {
    match line {
        Line::Whole(line) => Ok(line.to_vec()),
        Line::TooLong(head) => Err(head.to_vec()),
    }
}

fn mad_line(line: &[u8], encoding: SecretEncoding, profile: Profile) {
    match Request::parse(line, encoding) {
        Ok(Some(request)) => {
            let mut out = Vec::new();
            // What was read from a line has no LF but, decoded, in a secret.
            let Ok(()) = request.encode(profile, &mut out) else {
                assert!(matches!(request, Request::Authenticate(_)));
                return;
            };
            let end = out.iter().position(|&byte| byte == b'\n').expect("an end");
            let again = Request::parse(&out[..end], profile.into());
            // A decoded secret may have blanks, which raw messages cannot carry.
            match again {
                Err(BadRequest { why: RequestFault::Fields { .. }, .. }) => {
                    assert!(!profile.encodes_secrets());
                }
                again => assert_eq!(again, Ok(Some(request))),
            }
        }
        Ok(None) => assert!(line.iter().all(u8::is_ascii_whitespace)),
        Err(bad) => refused(&bad),
    }
}

/// An answer to a bad message is one line, and a no.
fn refused(bad: &BadRequest) {
    let mut out = Vec::new();
    assert_eq!(bad.refuse(&mut out), bad.waits.is_some());
    let Some((verb, id)) = bad.waits else { return assert!(out.is_empty()) };
    let line = out.strip_suffix(b"\n").expect("an end");
    match ManagerLine::parse(line) {
        Ok(ManagerLine::Answer { verb: v, id: i, success, info: Some(_) }) => {
            assert_eq!((v, i, success), (verb, id, false));
        }
        other => panic!("{other:?}"),
    }
}

/// An `oned.conf`.
pub fn one_conf(data: &[u8]) {
    let lines = 1 + data.iter().filter(|&&byte| byte == b'\n').count();
    match OnedConf::parse(data) {
        Ok(conf) => {
            assert!(data.len() <= CONF_LIMIT);
            assert!(conf.notes.iter().all(|note| (1..=lines).contains(&note.line)));
            for (driver, rules) in conf.configured() {
                assert_eq!(conf.rules(driver), *rules);
            }
            if let Some(authn) = conf.auth_mad.and_then(|mad| mad.authn) {
                assert!(!authn.is_empty());
            }
        }
        Err(ConfError { line, why }) => {
            assert!((1..=lines).contains(&line), "line {line} of {lines}: {why}");
        }
    }
}
