//! The bodies of the fuzz targets, replayed over their corpora on the stable toolchain.

use crate::{
    ClientFinal, ClientFirst, CramMd5Message, OAuthBearerMessage, PlainMessage, XOAuth2Message,
    digest,
};

/// Any bytes as a PLAIN message: never a panic, and what is accepted is what was sent.
pub fn plain(data: &[u8]) {
    if let Ok(message) = PlainMessage::parse(data) {
        let parts = [message.authzid, message.authcid];
        let names = parts.map(str::as_bytes).join(&0);
        assert_eq!([&names, message.password].join(&0), data);
    }
}

/// Any bytes as a CRAM-MD5 message: what is accepted is what was sent.
pub fn cram_md5(data: &[u8]) {
    if let Ok(CramMd5Message { name, digest }) = CramMd5Message::parse(data) {
        assert_eq!(format!("{name} {digest}").as_bytes(), data);
    }
}

/// Any bytes as either message of a SCRAM client: what is accepted is what was sent, and its parts are the
/// whole.
pub fn scram(data: &[u8]) {
    if let Ok(first) = ClientFirst::parse(data) {
        assert_eq!(first.to_string().as_bytes(), data);
        assert_eq!([first.header, first.bare].concat().as_bytes(), data);
    }
    if let Ok(last) = ClientFinal::parse(data) {
        assert_eq!(last.to_string().as_bytes(), data);
        assert!(data.starts_with(last.without_proof.as_bytes()));
    }
}

/// Any bytes as an OAUTHBEARER or an XOAUTH2 message: what is accepted can be written and read again.
pub fn bearer(data: &[u8]) {
    if let Ok(message) = OAuthBearerMessage::parse(data) {
        let written = message.to_string();
        assert_eq!(OAuthBearerMessage::parse(written.as_bytes()).as_ref(), Ok(&message));
    }
    if let Ok(message) = XOAuth2Message::parse(data) {
        let written = message.to_string();
        assert_eq!(XOAuth2Message::parse(written.as_bytes()), Ok(message));
    }
}

/// Any bytes as the trace of ANONYMOUS: what is accepted fits a line of a record.
pub fn anonymous(data: &[u8]) {
    if let Ok(trace) = crate::trace(data) {
        assert!(trace.chars().count() <= 255 && !trace.chars().any(char::is_control));
    }
}

/// Any bytes as an HTTP Digest header: what is accepted can be written and read again.
pub fn digest(data: &[u8]) {
    if let Ok(header) = digest::Authorization::parse(data) {
        let written = header.to_string();
        let again = digest::Authorization::parse(written.as_bytes());
        assert_eq!(again.as_ref(), Ok(&header), "{written}");
    }
}
