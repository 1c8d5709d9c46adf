//! What a driver writes to standard error: a reason for a failure, and lines for the log.
//!
//! It is written for the operator. A driver may repeat there what the user typed, so it goes to logs of the
//! operator and never to the user, and [`DriverErrors::read`] is told the secret so that it can take it out.

use super::mad::Severity;
use super::{FailureText, Profile};

/// The most bytes of standard error that are looked at; whoever reads the pipe goes on reading and drops the rest.
pub const STDERR_LIMIT: usize = 64 * 1024;
/// The most lines that are kept.
pub const STDERR_LINES: usize = 200;
/// The most bytes of a line, and of the reason.
pub const STDERR_LINE_LIMIT: usize = 1000;

const BLOCK_BEGIN: &str = "ERROR MESSAGE --8<------";
const BLOCK_END: &str = "ERROR MESSAGE ------>8--";

/// Standard error of a driver that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverErrors {
    /// Why the login failed, by the convention of the version; `None` if the driver does not say. Not for the user.
    pub reason: Option<String>,
    /// Its lines, without the empty ones.
    pub lines: Vec<ErrorLine>,
    /// Whether a limit cut something off.
    pub truncated: bool,
}

/// A line without blanks at its ends and without control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorLine {
    /// `ERROR:`, `WARN:`, `INFO:` or `DEBUG:`, where it begins so, in every version. Lines with one are for the
    /// log, also when the login succeeds; the others count when it fails.
    pub severity: Option<Severity>,
    /// The number after it: what the line is about.
    pub about: Option<u64>,
    /// The rest, or the whole line.
    pub text: String,
}

impl DriverErrors {
    /// Reads what a driver wrote. Where `secret` has at least four bytes, `…` stands in its place.
    pub fn read(profile: Profile, stderr: &[u8], secret: &[u8]) -> Self {
        let mut truncated = stderr.len() > STDERR_LIMIT;
        let stderr = &stderr[..stderr.len().min(STDERR_LIMIT)];
        let text = without(&String::from_utf8_lossy(stderr), secret);
        let mut whole = Vec::new();
        for line in text.split(['\n', '\r']) {
            let clean: String =
                line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let clean = clean.trim();
            if clean.is_empty() {
                continue;
            }
            if whole.len() == STDERR_LINES {
                truncated = true;
                break;
            }
            let cut = cut(clean, STDERR_LINE_LIMIT);
            truncated |= cut.len() < clean.len();
            whole.push(cut.to_owned());
        }
        let lines: Vec<ErrorLine> = whole.iter().map(|line| ErrorLine::parse(line)).collect();
        let reason = match profile.failure_text() {
            FailureText::Block => block(&whole),
            FailureText::Joined => whole.join(" "),
            FailureText::Unprefixed => lines
                .iter()
                .filter(|line| line.severity.is_none())
                .map(|line| &*line.text)
                .collect(),
        };
        let kept = cut(&reason, STDERR_LINE_LIMIT);
        truncated |= kept.len() < reason.len();
        Self { reason: (!kept.is_empty()).then(|| kept.to_owned()), lines, truncated }
    }
}

impl ErrorLine {
    /// `ERROR: 12 text`: a severity, a colon, at least one blank, perhaps a number. `ERROR:text` and `WARNING:`
    /// are no severities.
    fn parse(line: &str) -> Self {
        let plain = || Self { severity: None, about: None, text: line.to_owned() };
        let Some((word, rest)) = line.split_once(':') else { return plain() };
        let severity = match word {
            "ERROR" => Severity::Error,
            "WARN" => Severity::Warning,
            "INFO" => Severity::Info,
            "DEBUG" => Severity::Debug,
            _ => return plain(),
        };
        let text = rest.trim_start();
        if text.len() == rest.len() {
            return plain();
        }
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        match text[..digits].parse() {
            Ok(number) => Self {
                severity: Some(severity),
                about: Some(number),
                text: text[digits..].trim_start().to_owned(),
            },
            Err(_) => Self { severity: Some(severity), about: None, text: text.to_owned() },
        }
    }
}

/// What stands between the first pair of marks, joined by blanks.
fn block(lines: &[String]) -> String {
    let mut inside = lines.iter().skip_while(|line| *line != BLOCK_BEGIN).skip(1);
    let mut block = Vec::new();
    loop {
        match inside.next() {
            Some(line) if line == BLOCK_END => return block.join(" "),
            Some(line) => block.push(line.as_str()),
            None => return String::new(),
        }
    }
}

/// A shorter secret is not looked for: what is left would tell where it was, and text would be torn to pieces.
fn without(text: &str, secret: &[u8]) -> String {
    match std::str::from_utf8(secret) {
        Ok(secret) if secret.len() >= 4 => text.replace(secret, "…"),
        _ => text.to_owned(),
    }
}

fn cut(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(profile: Profile, stderr: &str) -> Option<String> {
        DriverErrors::read(profile, stderr.as_bytes(), b"").reason
    }

    #[test]
    fn the_reason_by_version() {
        // E1, E2, E3
        let stderr = "Trying LDAP server server 1\nERROR: 12 down\n  Bad user/password\n";
        for profile in [Profile::V7_0, Profile::V7_3_80] {
            let expected = "Trying LDAP server server 1Bad user/password";
            assert_eq!(reason(profile, stderr).as_deref(), Some(expected));
        }
        for profile in [Profile::V6_2, Profile::V6_4] {
            let expected = "Trying LDAP server server 1 ERROR: 12 down Bad user/password";
            assert_eq!(reason(profile, stderr).as_deref(), Some(expected));
        }
        let block = format!(
            "noise\n{BLOCK_BEGIN}\nBad\nuser\n{BLOCK_END}\nnoise\n{BLOCK_BEGIN}\nx\n{BLOCK_END}\n"
        );
        for profile in [Profile::V5_4, Profile::V5_6, Profile::V6_0] {
            assert_eq!(reason(profile, stderr), None);
            assert_eq!(reason(profile, &block).as_deref(), Some("Bad user"));
            assert_eq!(reason(profile, &format!("{BLOCK_BEGIN}\nnever ended")), None);
        }
        for profile in Profile::ALL {
            assert_eq!(reason(profile, " \n\r\n"), None);
        }
        assert_eq!(reason(Profile::V7_0, "INFO: only for the log\n"), None);
    }

    #[test]
    fn severities() {
        // E4
        let read = |line: &str| {
            let errors = DriverErrors::read(Profile::V7_0, line.as_bytes(), b"");
            let ErrorLine { severity, about, text } = errors.lines[0].clone();
            (severity, about, text)
        };
        assert_eq!(read("ERROR: 12 down"), (Some(Severity::Error), Some(12), "down".into()));
        assert_eq!(read("WARN:  slow"), (Some(Severity::Warning), None, "slow".into()));
        assert_eq!(read("INFO:\t7"), (Some(Severity::Info), Some(7), String::new()));
        assert_eq!(read("DEBUG: 5x"), (Some(Severity::Debug), Some(5), "x".into()));
        for plain in ["ERROR:down", "WARNING: slow", "error: x", "INFO :x", "INFO:", "x ERROR: y"] {
            assert_eq!(read(plain), (None, None, plain.to_owned()), "{plain}");
        }
        let huge = "ERROR: 99999999999999999999999 x";
        assert_eq!(read(huge), (Some(Severity::Error), None, huge[7..].to_owned()));
    }

    #[test]
    fn bounded_and_clean() {
        // E5
        let errors = DriverErrors::read(Profile::V7_0, "x\n".repeat(300).as_bytes(), b"");
        assert_eq!((errors.lines.len(), errors.truncated), (STDERR_LINES, true));
        let errors = DriverErrors::read(Profile::V7_0, "ä".repeat(1000).as_bytes(), b"");
        assert_eq!((errors.reason.unwrap().len(), errors.truncated), (STDERR_LINE_LIMIT, true));
        let errors = DriverErrors::read(Profile::V7_0, &vec![b'\n'; STDERR_LIMIT + 1], b"");
        assert_eq!((errors.reason, errors.truncated), (None, true));
        let errors = DriverErrors::read(Profile::V7_0, b"a\x1b[31m\xff\0b", b"");
        assert_eq!(errors.reason.as_deref(), Some("a [31m\u{fffd} b"));
        assert!(!errors.truncated);
    }

    #[test]
    fn the_secret_is_taken_out() {
        // E6
        let errors = DriverErrors::read(Profile::V6_4, b"bind failed: hunter2\n", b"hunter2");
        assert_eq!(errors.reason.as_deref(), Some("bind failed: …"));
        assert_eq!(errors.lines[0].text, "bind failed: …");
        let errors = DriverErrors::read(Profile::V6_4, b"a bad day\n", b"a");
        assert_eq!(errors.reason.as_deref(), Some("a bad day"));
    }
}
