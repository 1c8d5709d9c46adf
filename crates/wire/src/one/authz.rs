//! What an external authorizer gets: one user's number and the requests, each of one operation on one object.

use super::xml::{self, DocumentError};

/// A call to be authorized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authz<'a> {
    /// The user's number.
    pub user: u32,
    /// The requests as oned spells them, without the verdict.
    pub requests: &'a [&'a str],
    /// What oned's own rules say: the last REQUEST of the document, 1 or 0.
    pub verdict: bool,
}

impl Authz<'_> {
    /// The document, for standard input. `None` if a request has a character that XML 1.0 does not allow.
    pub fn encode(&self) -> Option<Vec<u8>> {
        if !self.requests.iter().all(|request| request.chars().all(xml::is_char)) {
            return None;
        }
        let mut out = b"<AUTHZ>\n".to_vec();
        xml::element("  ", "USERNAME", &self.user.to_string(), &mut out);
        out.extend_from_slice(b"  <REQUESTS>\n");
        for request in self.requests {
            xml::element("    ", "REQUEST", request, &mut out);
        }
        xml::element("    ", "REQUEST", if self.verdict { "1" } else { "0" }, &mut out);
        out.extend_from_slice(b"  </REQUESTS>\n</AUTHZ>");
        Some(out)
    }
}

/// A call to be authorized, as an authorizer of ours reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthzDocument {
    /// The user's number.
    pub user: u32,
    /// The requests as oned spells them, without the verdict.
    pub requests: Vec<String>,
    /// What oned's own rules say.
    pub verdict: bool,
}

impl AuthzDocument {
    /// Reads a document.
    ///
    /// # Errors
    /// Anything but one AUTHZ with one USERNAME, a number, and REQUESTS whose last is 0 or 1.
    pub fn parse(document: &[u8]) -> Result<Self, DocumentError> {
        let mut user = None;
        let mut requests = Vec::new();
        for (path, value) in
            xml::leaves(document, "AUTHZ", &[&["USERNAME"], &["REQUESTS", "REQUEST"]])?
        {
            let value = value.to_str().ok_or(DocumentError::NotUtf8)?;
            if path == 1 {
                requests.push(value.to_owned());
                continue;
            }
            let plain = value.bytes().all(|byte| byte.is_ascii_digit());
            let number = plain.then(|| value.parse().ok()).flatten();
            let number: u32 = number.ok_or(DocumentError::Value("USERNAME"))?;
            if user.replace(number).is_some() {
                return Err(DocumentError::Duplicate("USERNAME"));
            }
        }
        let verdict = match requests.pop().ok_or(DocumentError::Missing("REQUEST"))?.as_str() {
            "0" => false,
            "1" => true,
            _ => return Err(DocumentError::Value("REQUEST")),
        };
        Ok(Self { user: user.ok_or(DocumentError::Missing("USERNAME"))?, requests, verdict })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes() {
        // A5
        let call = Authz { user: 2, requests: &["VM:10:MANAGE:3:0"], verdict: false };
        let document = "<AUTHZ>\n  <USERNAME>2</USERNAME>\n  <REQUESTS>\n    <REQUEST>VM:10:MANAGE:3:0</REQUEST>\n    \
             <REQUEST>0</REQUEST>\n  </REQUESTS>\n</AUTHZ>";
        assert_eq!(call.encode().unwrap(), document.as_bytes());
        let read = AuthzDocument::parse(document.as_bytes()).unwrap();
        assert_eq!((read.user, read.verdict), (2, false));
        assert_eq!(read.requests, ["VM:10:MANAGE:3:0"]);
        assert_eq!(Authz { requests: &["\0"], ..call }.encode(), None);
    }

    #[test]
    fn a_document_without_a_verdict_is_none() {
        let parse = |inside: &str| {
            AuthzDocument::parse(format!("<AUTHZ>{inside}</AUTHZ>").as_bytes()).map(drop)
        };
        let user = "<USERNAME>2</USERNAME>";
        let missing = Err(DocumentError::Missing("REQUEST"));
        assert_eq!(parse(user), missing);
        assert_eq!(parse(&format!("{user}<REQUEST>1</REQUEST>")), missing, "not in REQUESTS");
        let bad = Err(DocumentError::Value("REQUEST"));
        for verdict in ["", "2", "01", "YES", " 1"] {
            let inside = format!("{user}<REQUESTS><REQUEST>{verdict}</REQUEST></REQUESTS>");
            assert_eq!(parse(&inside), bad, "{verdict}");
        }
        let verdict = "<REQUESTS><REQUEST>1</REQUEST></REQUESTS>";
        assert_eq!(parse(verdict), Err(DocumentError::Missing("USERNAME")));
        assert_eq!(
            parse(&format!("{user}{user}{verdict}")),
            Err(DocumentError::Duplicate("USERNAME"))
        );
        for bad in ["", "-1", "+2", "alice"] {
            let inside = format!("<USERNAME>{bad}</USERNAME>{verdict}");
            assert_eq!(parse(&inside), Err(DocumentError::Value("USERNAME")), "{bad}");
        }
    }
}
