//! The bodies of this protocol's fuzz targets.

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
