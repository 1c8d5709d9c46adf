//! Reading the record: newest first over its rotated files, or as it grows.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use countersign_store::AuditEvent;
use ipnet::IpNet;

use super::rotation::rotated;

/// What is read at a time.
const CHUNK: u64 = 64 * 1024;
/// No record is longer; what is, is none, and is skipped.
const LONGEST: usize = 1024 * 1024;
/// Records are in the order of their times but for a clock that was set back: so far, at most.
const SET_BACK: i64 = 3600;

/// One record, as it stands in the file and as the store would keep it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The line, without its end.
    pub line: String,
    /// What it says.
    pub event: AuditEvent,
    /// The front end; an administrator's act has none.
    pub front_end: String,
}

/// Which records. What is not set lets everything through.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Claimed or proven name, exactly.
    pub user: Option<String>,
    /// What the login was for.
    pub service: Option<String>,
    /// `granted`, `denied`, `fault` or `changed`.
    pub outcome: Option<String>,
    /// The true reason, or an administrator's act.
    pub reason: Option<String>,
    /// The front end.
    pub front_end: Option<String>,
    /// Where the person was.
    pub remote: Option<IpNet>,
    /// Not before this second since 1970.
    pub since: Option<i64>,
    /// Not after this one.
    pub until: Option<i64>,
}

impl Filter {
    /// Whether an event gets through. Says nothing of the front end, which the store does not keep.
    pub fn admits(&self, event: &AuditEvent) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        let user = self
            .user
            .as_deref()
            .is_none_or(|user| event.claimed == user || event.subject.as_deref() == Some(user));
        let remote = self.remote.is_none_or(|network| {
            event.peer.parse::<IpAddr>().is_ok_and(|peer| network.contains(&peer.to_canonical()))
        });
        user && remote
            && is(&self.service, &event.service)
            && is(&self.outcome, &event.outcome)
            && is(&self.reason, &event.reason)
            && self.since.is_none_or(|since| event.at >= since)
            && self.until.is_none_or(|until| event.at <= until)
    }

    /// Whether a record gets through.
    pub fn admits_entry(&self, entry: &Entry) -> bool {
        self.front_end.as_deref().is_none_or(|wanted| entry.front_end == wanted)
            && self.admits(&entry.event)
    }

    /// Whether nothing older than this event can get through.
    fn ends_at(&self, event: &AuditEvent) -> bool {
        self.since.is_some_and(|since| event.at < since.saturating_sub(SET_BACK))
    }
}

/// A line of the record. `None`: it is none, because it is torn or from something else.
pub fn entry(line: &[u8]) -> Option<Entry> {
    let record: serde_json::Value = serde_json::from_slice(line).ok()?;
    let text = |key: &str| record.get(key).and_then(|value| value.as_str()).map(str::to_owned);
    let (subject, outcome) = (text("subject"), text("outcome")?);
    let at = text("time")?.parse::<jiff::Timestamp>().ok()?.as_second();
    let tried = record.get("tried").map(ToString::to_string);
    let detail = [text("detail"), tried].into_iter().flatten().collect::<Vec<_>>().join("; ");
    let or_nothing = |key| text(key).unwrap_or_default();
    let event = match outcome == "changed" {
        true => AuditEvent {
            at,
            claimed: or_nothing("target"),
            service: "admin".into(),
            peer: or_nothing("actor"),
            outcome,
            reason: or_nothing("act"),
            detail,
            ..AuditEvent::default()
        },
        false => AuditEvent {
            at,
            claimed: text("claimed").or_else(|| subject.clone()).unwrap_or_default(),
            subject,
            service: or_nothing("service"),
            peer: or_nothing("remote"),
            checker: text("checker"),
            mechanism: text("mechanism"),
            outcome,
            reason: or_nothing("reason"),
            detail,
            ..AuditEvent::default()
        },
    };
    let line = String::from_utf8(line.to_vec()).ok()?;
    Some(Entry { line, event, front_end: or_nothing("front_end") })
}

/// The newest `limit` records that the filter lets through, oldest first, and whatever comes after them.
///
/// # Errors
///
/// When the file is not there, or cannot be read.
pub fn newest(path: &Path, filter: &Filter, limit: usize) -> io::Result<(Vec<Entry>, Follow)> {
    let file = File::open(path)?;
    let identity = identity(&file)?;
    let mut lines = Backwards::new(file.try_clone()?)?;
    let follow = Follow {
        path: path.to_owned(),
        at: lines.at + lines.held.len() as u64,
        file,
        identity,
        partial: Vec::new(),
    };
    let mut found = Vec::new();
    let mut read = vec![identity];
    'files: loop {
        while let Some(line) = lines.next()? {
            let Some(entry) = entry(&line) else { continue };
            if found.len() == limit || filter.ends_at(&entry.event) {
                break 'files;
            }
            if filter.admits_entry(&entry) {
                found.push(entry);
            }
        }
        // Looked for by what they are and not by their numbers, which a rotation changes meanwhile.
        let next = rotated(path).into_iter().find_map(|(_, path)| {
            let file = File::open(path).ok()?;
            let identity = self::identity(&file).ok()?;
            (!read.contains(&identity)).then_some((file, identity))
        });
        let Some((file, identity)) = next else { break };
        read.push(identity);
        lines = Backwards::new(file)?;
    }
    found.reverse();
    Ok((found, follow))
}

/// The record as it grows, over rotations, whoever rotates.
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    file: File,
    identity: (u64, u64),
    at: u64,
    /// The beginning of a line whose end is not there yet.
    partial: Vec<u8>,
}

impl Follow {
    /// Gives the records that came since the last call. Does not wait.
    ///
    /// # Errors
    ///
    /// When the file cannot be read. One that is gone is waited for.
    pub fn read(&mut self, mut each: impl FnMut(Entry)) -> io::Result<()> {
        loop {
            self.read_this(&mut each)?;
            let there = match std::fs::symlink_metadata(&self.path) {
                Ok(there) => (there.dev(), there.ino()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            };
            if there == self.identity {
                // Copied and truncated.
                if self.file.metadata()?.len() >= self.at {
                    return Ok(());
                }
                self.at = 0;
                self.partial.clear();
                continue;
            }
            // Who writes has gone over to the next file, so what is here by now is all.
            self.read_this(&mut each)?;
            let Some(next) = self.next_file()? else { return Ok(()) };
            self.identity = identity(&next)?;
            self.file = next;
            self.at = 0;
            self.partial.clear();
        }
    }

    fn read_this(&mut self, each: &mut impl FnMut(Entry)) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK as usize];
        loop {
            let count = self.file.read_at(&mut chunk, self.at)?;
            if count == 0 {
                return Ok(());
            }
            self.at += count as u64;
            for piece in chunk[..count].split_inclusive(|byte| *byte == b'\n') {
                self.partial.extend_from_slice(piece);
                if let Some(line) = self.partial.strip_suffix(b"\n") {
                    if let Some(entry) = entry(line) {
                        each(entry);
                    }
                    self.partial.clear();
                } else if self.partial.len() > LONGEST {
                    self.partial.truncate(1);
                }
            }
        }
    }

    /// The file that followed this one.
    fn next_file(&self) -> io::Result<Option<File>> {
        loop {
            let position = self.position();
            let path = match position {
                Some(position) if position > 0 => rotated(&self.path)
                    .into_iter()
                    .nth(position - 1)
                    .map_or_else(|| self.path.clone(), |(_, path)| path),
                // Moved elsewhere, or removed by now.
                _ => self.path.clone(),
            };
            match File::open(path) {
                // Rotated while it was looked for.
                _ if self.position() != position => {}
                Ok(file) => return Ok(Some(file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Where among the rotated files this one is by now.
    fn position(&self) -> Option<usize> {
        rotated(&self.path).iter().position(|(_, path)| {
            std::fs::symlink_metadata(path)
                .is_ok_and(|found| (found.dev(), found.ino()) == self.identity)
        })
    }
}

/// The whole lines of a file, the last one first.
struct Backwards {
    file: File,
    /// Where `held` begins in the file.
    at: u64,
    /// Lines that were read and not given yet.
    held: Vec<u8>,
}

impl Backwards {
    fn new(file: File) -> io::Result<Self> {
        let mut lines = Self { at: file.metadata()?.len(), file, held: Vec::new() };
        // A line without an end is being written, or torn.
        while lines.at > 0 && !lines.held.contains(&b'\n') {
            lines.held.clear();
            lines.read_more()?;
        }
        let end = lines.held.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        lines.held.truncate(end);
        Ok(lines)
    }

    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let before_end = self.held.len().saturating_sub(1);
            if let Some(end) = self.held[..before_end].iter().rposition(|byte| *byte == b'\n') {
                let mut line = self.held.split_off(end + 1);
                line.pop();
                return Ok(Some(line));
            }
            if self.at == 0 {
                let mut line = std::mem::take(&mut self.held);
                return Ok(line.pop().map(|_| line));
            }
            if self.held.len() > LONGEST {
                // What is left of it will be no JSON.
                self.held = vec![b'\n'];
            }
            self.read_more()?;
        }
    }

    fn read_more(&mut self) -> io::Result<()> {
        let count = CHUNK.min(self.at);
        let mut chunk = vec![0; usize::try_from(count).unwrap_or(0)];
        self.file.read_exact_at(&mut chunk, self.at - count)?;
        self.at -= count;
        chunk.append(&mut self.held);
        self.held = chunk;
        Ok(())
    }
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    let found = file.metadata()?;
    Ok((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::audit::{Act, Audit, Keeping};

    fn line(n: usize, pad: usize) -> String {
        format!(
            "{{\"time\":\"2026-01-01T00:00:{:02}.000Z\",\"outcome\":\"denied\",\"front_end\":\"http\",\
             \"service\":\"s{n}\",\"claimed\":\"{}\",\"remote\":\"192.0.2.{}\",\"took_us\":0}}\n",
            n % 60,
            "x".repeat(pad),
            n % 256,
        )
    }

    fn services(entries: &[Entry]) -> Vec<String> {
        entries.iter().map(|entry| entry.event.service.clone()).collect()
    }

    #[test]
    fn the_newest_come_over_files_and_chunks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        // Longer than what is read at a time, and a torn one.
        let text = line(3, 100_000) + &line(4, 10) + "{\"torn\n" + &line(5, 0) + "{\"time\":\"20";
        std::fs::write(&path, text).unwrap();
        std::fs::write(folder.path().join("a.1"), line(2, 0)).unwrap();
        std::fs::write(folder.path().join("a.2"), line(0, 0) + &line(1, 0)).unwrap();
        let all = |limit| services(&newest(&path, &Filter::default(), limit).unwrap().0);
        assert_eq!(all(100), ["s0", "s1", "s2", "s3", "s4", "s5"]);
        assert_eq!(all(3), ["s3", "s4", "s5"]);
        assert!(all(0).is_empty());
        let remote = Some("192.0.2.2/31".parse().unwrap());
        let filter = Filter { remote, ..Filter::default() };
        assert_eq!(services(&newest(&path, &filter, 9).unwrap().0), ["s2", "s3"]);
    }

    #[test]
    fn each_filter_holds_back_what_is_another() {
        let found = entry(line(7, 3).trim_end().as_bytes()).unwrap();
        let all = Filter::default();
        let text = |text: &str| Some(text.to_owned());
        let at = found.event.at;
        for (fits, filter) in [
            (true, all.clone()),
            (true, Filter { user: text("xxx"), ..all.clone() }),
            (false, Filter { user: text("xx"), ..all.clone() }),
            (false, Filter { service: text("s"), ..all.clone() }),
            (false, Filter { outcome: text("granted"), ..all.clone() }),
            (false, Filter { reason: text("expired"), ..all.clone() }),
            (false, Filter { front_end: text("dovecot"), ..all.clone() }),
            (false, Filter { remote: Some("192.0.2.8/32".parse().unwrap()), ..all.clone() }),
            (false, Filter { since: Some(at + 1), ..all.clone() }),
            (true, Filter { since: Some(at), until: Some(at), ..all.clone() }),
            (false, Filter { until: Some(at - 1), ..all.clone() }),
        ] {
            assert_eq!(filter.admits_entry(&found), fits, "{filter:?}");
        }
    }

    #[test]
    fn an_act_is_read_as_the_store_keeps_it() {
        let mut out = Vec::new();
        Act { actor: "http root", act: "user-add", target: "ada", detail: "d" }.write(&mut out);
        let Entry { event, .. } = entry(&out).unwrap();
        let found = [&*event.claimed, &*event.peer, &*event.reason, &*event.service];
        assert_eq!(found, ["ada", "http root", "user-add", "admin"]);
        assert!(entry(b"{\"time\":\"2026").is_none() && entry(b"{}").is_none());
    }

    #[test]
    fn it_is_followed_over_every_kind_of_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        // Every file is too large.
        let keeping = Keeping { rotate_size: Some(1), ..Keeping::default() };
        let audit = Audit::kept(&path, keeping).unwrap();
        let act =
            |target: &str| audit.act(&Act { actor: "", act: "", target, detail: "" }).unwrap();
        act("before");
        let (found, mut follow) = newest(&path, &Filter::default(), 9).unwrap();
        assert_eq!(found.len(), 1);
        let mut read = || {
            let mut targets = Vec::new();
            follow.read(|entry| targets.push(entry.event.claimed)).unwrap();
            targets
        };
        assert!(read().is_empty());
        // By us, more than once between two looks.
        for n in ["1", "2", "3"] {
            act(n);
            audit.tend(0);
        }
        act("4");
        assert_eq!(read(), ["1", "2", "3", "4"]);
        // Moved by another program: written on until that is noticed.
        std::fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        act("5");
        assert_eq!(read(), ["5"]);
        act("6");
        audit.tend(0);
        act("7");
        assert_eq!(read(), ["6", "7"]);
        // Copied and truncated.
        act("8");
        assert_eq!(read(), ["8"]);
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        assert!(read().is_empty());
        act("9");
        assert_eq!(read(), ["9"]);
        // A line in two pieces.
        let mut file = File::options().append(true).open(&path).unwrap();
        let text = line(1, 0);
        file.write_all(&text.as_bytes()[..30]).unwrap();
        assert!(read().is_empty());
        file.write_all(&text.as_bytes()[30..]).unwrap();
        assert_eq!(read(), [""]);
    }
}
