//! What the manager says to oned. Each response is one line, whatever is in it.

use countersign::Secret;

use super::super::Reply;
use super::request::{Verb, id};

/// The most bytes of a reason or of a text for the log; more is cut off.
pub const TEXT_LIMIT: usize = 1000;

/// A response.
#[derive(Debug, Clone, Copy)]
pub enum Response<'a> {
    /// To `INIT`. oned reads 31 bytes at once and looks for `INIT SUCCESS`, so nothing may come before it.
    Init {
        /// Whether the manager can work.
        ready: bool,
    },
    /// To a login.
    Authenticate {
        /// The id of the request.
        id: u64,
        /// Yes or no.
        answer: Answer<'a>,
    },
    /// To a call.
    Authorize {
        /// The id of the request.
        id: u64,
        /// Yes, or no and why.
        answer: Result<(), &'a str>,
    },
    /// A line for oned's log.
    Log {
        /// How bad.
        severity: Severity,
        /// What it is about: a request, or an object of OpenNebula.
        about: Option<u64>,
        /// What there is to say.
        text: &'a str,
    },
}

/// To a login.
#[derive(Debug, Clone, Copy)]
pub enum Answer<'a> {
    /// Yes, and what the driver said about the account. It has gone through its grammar, so it is one line.
    Yes(Option<&'a Reply>),
    /// No. The reason goes to oned's log and never to the user.
    No(&'a str),
}

/// How bad a line for the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// `D`
    Debug,
    /// `I`
    Info,
    /// `W`
    Warning,
    /// `E`
    Error,
}

impl Severity {
    /// Its letter in LOG.
    pub fn letter(self) -> char {
        match self {
            Self::Debug => 'D',
            Self::Info => 'I',
            Self::Warning => 'W',
            Self::Error => 'E',
        }
    }
}

impl Response<'_> {
    /// Appends the line.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Init { ready } => {
                out.extend_from_slice(format!("INIT {} - -", status(ready)).as_bytes());
            }
            Self::Authenticate { id, answer } => {
                let yes = matches!(answer, Answer::Yes(_));
                out.extend_from_slice(format!("AUTHENTICATE {} {id} ", status(yes)).as_bytes());
                match answer {
                    Answer::Yes(Some(reply)) => reply.encode(out),
                    Answer::Yes(None) => out.push(b'-'),
                    Answer::No(why) => push_text(why, out),
                }
            }
            Self::Authorize { id, answer } => {
                let status = status(answer.is_ok());
                out.extend_from_slice(format!("AUTHORIZE {status} {id} ").as_bytes());
                push_text(answer.err().unwrap_or_default(), out);
            }
            Self::Log { severity, about, text } => {
                out.extend_from_slice(format!("LOG {} ", severity.letter()).as_bytes());
                match about {
                    Some(number) => out.extend_from_slice(number.to_string().as_bytes()),
                    None => out.extend_from_slice(b"-1"),
                }
                out.push(b' ');
                push_text(text, out);
            }
        }
        out.push(b'\n');
    }
}

fn status(success: bool) -> &'static str {
    if success { "SUCCESS" } else { "FAILURE" }
}

/// Appends `text` as one line without control characters or blanks at its ends, `-` if nothing is left.
fn push_text(text: &str, out: &mut Vec<u8>) {
    let start = out.len();
    for c in text.chars().skip_while(|c| c.is_whitespace() || c.is_control()) {
        let c = if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { ' ' } else { c };
        if out.len() - start + c.len_utf8() > TEXT_LIMIT {
            break;
        }
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    while out.len() > start && out.last() == Some(&b' ') {
        out.pop();
    }
    if out.len() == start {
        out.push(b'-');
    }
}

/// A line of a manager as oned takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManagerLine {
    /// `INIT STATUS - -`
    Init {
        /// `SUCCESS`, and nothing else.
        success: bool,
    },
    /// `AUTHENTICATE STATUS id info` and `AUTHORIZE STATUS id info`
    Answer {
        /// To what.
        verb: Verb,
        /// To which.
        id: u64,
        /// `SUCCESS`, and nothing else.
        success: bool,
        /// The rest of the line: for a login what the driver printed, which may hold what is to be stored. `None`: `-`.
        info: Option<Secret>,
    },
    /// `LOG severity number text`
    Log {
        /// How bad.
        severity: Severity,
        /// What it is about.
        about: Option<u64>,
        /// The rest of the line.
        text: Vec<u8>,
    },
}

/// A line that oned logs as `UNDEFINED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a response of a driver manager")]
pub struct UndefinedLine;

impl ManagerLine {
    /// Reads a line without its LF.
    ///
    /// # Errors
    /// Another type, or no id.
    pub fn parse(line: &[u8]) -> Result<Self, UndefinedLine> {
        let mut fields = line.splitn(4, |&byte| byte == b' ');
        let mut field = || fields.next().ok_or(UndefinedLine);
        let (kind, status, number) = (field()?, field()?, field()?);
        let rest = field().unwrap_or_default();
        let success = status == b"SUCCESS";
        let verb = match kind {
            b"INIT" => return Ok(Self::Init { success }),
            b"AUTHENTICATE" => Verb::Authenticate,
            b"AUTHORIZE" => Verb::Authorize,
            b"LOG" => {
                let severity = match status {
                    b"D" => Severity::Debug,
                    b"I" => Severity::Info,
                    b"W" => Severity::Warning,
                    b"E" => Severity::Error,
                    _ => return Err(UndefinedLine),
                };
                return Ok(Self::Log { severity, about: id(number), text: rest.to_vec() });
            }
            _ => return Err(UndefinedLine),
        };
        let id = id(number).ok_or(UndefinedLine)?;
        let info = (!matches!(rest, b"" | b"-")).then(|| rest.into());
        Ok(Self::Answer { verb, id, success, info })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(response: Response<'_>) -> String {
        let mut out = Vec::new();
        response.encode(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_bytes() {
        // M10, M11
        let init = line(Response::Init { ready: true });
        assert_eq!(init, "INIT SUCCESS - -\n");
        assert!(init.len() <= 31);
        assert_eq!(line(Response::Init { ready: false }), "INIT FAILURE - -\n");
        let login = |answer| line(Response::Authenticate { id: 7, answer });
        assert_eq!(login(Answer::Yes(None)), "AUTHENTICATE SUCCESS 7 -\n");
        let reply = Reply::parse(b" ldap bob cn=bob  *100").unwrap();
        assert_eq!(
            login(Answer::Yes(Some(&reply))),
            "AUTHENTICATE SUCCESS 7 ldap bob cn=bob *100\n"
        );
        assert_eq!(
            login(Answer::No("Bad user/password")),
            "AUTHENTICATE FAILURE 7 Bad user/password\n"
        );
        let call = |answer| line(Response::Authorize { id: 8, answer });
        assert_eq!(call(Ok(())), "AUTHORIZE SUCCESS 8 -\n");
        assert_eq!(call(Err("no")), "AUTHORIZE FAILURE 8 no\n");
        let log = |about| line(Response::Log { severity: Severity::Warning, about, text: "slow" });
        assert_eq!(log(Some(7)), "LOG W 7 slow\n");
        assert_eq!(log(None), "LOG W -1 slow\n");
    }

    #[test]
    fn nothing_makes_a_second_line() {
        // M12
        let no = |text: &str| line(Response::Authenticate { id: 7, answer: Answer::No(text) });
        for text in ["", " \n\t", "\r\n", "-"] {
            assert_eq!(no(text), "AUTHENTICATE FAILURE 7 -\n", "{text:?}");
        }
        assert_eq!(
            no("a\nAUTHENTICATE SUCCESS 7 -\n"),
            "AUTHENTICATE FAILURE 7 a AUTHENTICATE SUCCESS 7 -\n"
        );
        assert_eq!(no("a\0b\u{85}c\u{2028}d\x1b[0m "), "AUTHENTICATE FAILURE 7 a b c d [0m\n");
        let long = no(&"ä".repeat(2000));
        assert_eq!(long.trim_end().len(), "AUTHENTICATE FAILURE 7 ".len() + TEXT_LIMIT);
    }

    #[test]
    fn oned_reads_them() {
        // M13
        let answer = |line: &[u8]| match ManagerLine::parse(line) {
            Ok(ManagerLine::Answer { success, id, info, .. }) => (success, id, info),
            other => panic!("{other:?}"),
        };
        assert_eq!(answer(b"AUTHENTICATE SUCCESS 7 -"), (true, 7, None));
        let (success, _, info) = answer(b"AUTHENTICATE SUCCESS 7 ldap bob x 100");
        assert_eq!((success, info), (true, Some(Secret::from("ldap bob x 100"))));
        for status in ["FAILURE", "success", "OK", "", "SUCCESSFUL"] {
            assert!(!answer(format!("AUTHORIZE {status} 7 -").as_bytes()).0, "{status}");
        }
        assert_eq!(
            ManagerLine::parse(b"INIT SUCCESS - -"),
            Ok(ManagerLine::Init { success: true })
        );
        let log =
            ManagerLine::Log { severity: Severity::Error, about: None, text: b"a b".to_vec() };
        assert_eq!(ManagerLine::parse(b"LOG E -1 a b"), Ok(log));
        for line in [
            "",
            "hello",
            "AUTHENTICATE SUCCESS",
            "AUTHENTICATE SUCCESS x -",
            "LOG X 1 a",
            "VM SUCCESS 1 -",
        ] {
            assert_eq!(ManagerLine::parse(line.as_bytes()), Err(UndefinedLine), "{line}");
        }
    }
}
