//! One audit record as one line of JSON.

use std::io::Write as _;
use std::net::IpAddr;

use countersign::{Denial, Fault, Transport};

use crate::world::SystemWorld;

/// One attempt. Holds no secret: there is no field that could.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// `granted`, `denied` or `fault`.
    pub outcome: Outcome<'a>,
    /// The front end.
    pub front_end: &'a str,
    /// What the login was for.
    pub service: &'a str,
    /// The mechanism, if the peer chose one.
    pub mechanism: Option<&'a str>,
    /// Who the peer said it was.
    pub claimed: Option<&'a str>,
    /// Where the user is.
    pub remote: Option<IpAddr>,
    /// How the user's connection is protected.
    pub transport: Transport,
    /// How long it took, in microseconds, waiting for the peer included.
    pub took_us: u64,
    /// The peer's own name for its session, if it gave one.
    pub session: Option<&'a str>,
}

/// What an administrator did.
#[derive(Clone, Copy, Debug)]
pub struct Act<'a> {
    /// Who did it, such as `http admin` or `command line, uid 0`.
    pub actor: &'a str,
    /// What was done, such as `user-add`.
    pub act: &'a str,
    /// To which user or group.
    pub target: &'a str,
    /// What exactly. Never a secret.
    pub detail: &'a str,
}

impl Act<'_> {
    /// Appends the act as a line, as of now.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_in(&SystemWorld::new(), out);
    }

    pub(super) fn write_in(&self, world: &SystemWorld, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        write_time(world, out);
        out.extend_from_slice(b"\",\"outcome\":\"changed\"");
        text(out, "actor", self.actor);
        text(out, "act", self.act);
        text(out, "target", self.target);
        if !self.detail.is_empty() {
            text(out, "detail", self.detail);
        }
        out.extend_from_slice(b"}\n");
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// Let in.
    Granted {
        /// Who it was proven to be; none: anonymous.
        subject: Option<&'a str>,
        /// The checker that said so.
        checker: Option<&'a str>,
    },
    /// Refused.
    Denied(&'a Denial),
    /// Something broke.
    Fault(&'a Fault),
}

impl Record<'_> {
    /// Appends the record as a line, as of now. The keys and their order are a contract:
    /// `docs/protocols/audit.md`.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_in(&SystemWorld::new(), out);
    }

    pub(super) fn write_in(&self, world: &SystemWorld, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        write_time(world, out);
        out.extend_from_slice(b"\",\"outcome\":\"");
        match self.outcome {
            Outcome::Granted { .. } => out.extend_from_slice(b"granted\""),
            Outcome::Denied(_) => out.extend_from_slice(b"denied\""),
            Outcome::Fault(_) => out.extend_from_slice(b"fault\""),
        }
        text(out, "front_end", self.front_end);
        text(out, "service", self.service);
        optional(out, "mechanism", self.mechanism);
        optional(out, "claimed", self.claimed);
        match self.outcome {
            Outcome::Granted { subject, checker } => {
                match subject {
                    Some(subject) => text(out, "subject", subject),
                    None => out.extend_from_slice(b",\"anonymous\":true"),
                }
                optional(out, "checker", checker);
            }
            Outcome::Denied(denial) => {
                text(out, "reason", denial.reason.word());
                text(out, "told", denial.public().word());
                if !denial.detail.is_empty() {
                    text(out, "detail", &denial.detail);
                }
                if !denial.tried.is_empty() {
                    out.extend_from_slice(b",\"tried\":{");
                    for (index, (checker, reason)) in denial.tried.iter().enumerate() {
                        if index > 0 {
                            out.push(b',');
                        }
                        string(out, checker);
                        out.push(b':');
                        string(out, reason.word());
                    }
                    out.push(b'}');
                }
            }
            Outcome::Fault(fault) => text(out, "detail", &fault.to_string()),
        }
        if let Some(remote) = self.remote {
            let _ = write!(out, ",\"remote\":\"{remote}\"");
        }
        match self.transport {
            Transport::Plain => {}
            Transport::Local => out.extend_from_slice(b",\"transport\":\"local\""),
            Transport::Tls => out.extend_from_slice(b",\"transport\":\"tls\""),
        }
        optional(out, "session", self.session);
        let _ = writeln!(out, ",\"took_us\":{}}}", self.took_us);
    }
}

fn optional(out: &mut Vec<u8>, key: &str, value: Option<&str>) {
    if let Some(value) = value {
        text(out, key, value);
    }
}

fn text(out: &mut Vec<u8>, key: &str, value: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
    string(out, value);
}

fn string(out: &mut Vec<u8>, value: &str) {
    // Writing to a vector cannot fail.
    let _ = serde_json::to_writer(out, value);
}

/// RFC 3339 in UTC with milliseconds. The part up to the second is made once a second.
fn write_time(world: &SystemWorld, out: &mut Vec<u8>) {
    thread_local! {
        static SECOND: std::cell::RefCell<(i64, String)> = const {
            std::cell::RefCell::new((i64::MIN, String::new()))
        };
    }
    let (unix, ms) = world.unix_ms();
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != unix {
            *second = unix;
            *text = jiff::Timestamp::from_second(unix).map_or_else(
                |_| unix.to_string(),
                |at| at.strftime("%Y-%m-%dT%H:%M:%S").to_string(),
            );
        }
        let _ = write!(out, "{text}.{ms:03}Z");
    });
}

#[cfg(test)]
mod tests {
    use countersign::Reason;

    use super::*;

    fn line(record: &Record<'_>) -> serde_json::Value {
        let mut out = Vec::new();
        record.write(&mut out);
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn an_act_is_a_line() {
        let mut out = Vec::new();
        Act { actor: "http admin", act: "user-add", target: "a\nb", detail: "" }.write(&mut out);
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((&json["outcome"], &json["target"]), (&"changed".into(), &"a\nb".into()));
        assert!(json.get("detail").is_none());
    }

    #[test]
    fn hostile_names_stay_in_their_field() {
        let mut denial = Denial::new(Reason::WrongCredential).because("a \"quoted\"\nline");
        denial.tried.push(("file.mail".into(), Reason::UnknownUser));
        let record = Record {
            outcome: Outcome::Denied(&denial),
            front_end: "dovecot",
            service: "smtp",
            mechanism: Some("PLAIN"),
            claimed: Some("x\",\"outcome\":\"granted\"\u{2028}"),
            remote: Some([192, 0, 2, 1].into()),
            transport: Transport::Tls,
            took_us: 12,
            session: None,
        };
        let json = line(&record);
        assert_eq!(json["outcome"], "denied");
        assert_eq!(json["claimed"], "x\",\"outcome\":\"granted\"\u{2028}");
        assert_eq!(json["tried"]["file.mail"], "unknown-user");
        assert_eq!(json["told"], "denied");
        assert_eq!(json["remote"], "192.0.2.1");
        assert_eq!(json["time"].as_str().unwrap().len(), "2026-01-01T00:00:00.000Z".len());
    }
}
