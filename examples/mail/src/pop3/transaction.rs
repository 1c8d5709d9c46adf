//! The TRANSACTION state: what is there? And the UPDATE state, in which what is marked is removed.

use std::borrow::Cow;
use std::io;

use countersign::Realm;

use super::{Command, Connection, Letter, Mail, Maildrop, Over, Pop3Mailbox, closed};
use crate::notice::Notice;

/// What is in the maildrop of a session, and what is to be removed at its end.
struct Contents {
    letters: Vec<Letter>,
    deleted: Vec<bool>,
}

impl<R: Realm<Pop3Mailbox>> Connection<'_, R> {
    /// Until `QUIT`, and only then is anything removed (RFC 1939, section 6).
    pub(super) async fn transaction(mut self, mut session: Mail) -> Result<(), Over> {
        // Not looked at before somebody asks: most clients come often, and find nothing to ask for.
        let mut looked: Option<Contents> = None;
        loop {
            self.deadline = self.server.idle_until();
            let command = self.command().await?;
            if looked.is_none() && command.wants_contents() {
                match session.avatar_mut().list().await {
                    Ok(letters) => looked = Some(Contents::of(letters)),
                    Err(error) => {
                        let refused = closed(&error);
                        self.say(&format!("-ERR {refused}"));
                        continue;
                    }
                }
            }
            let avatar = session.avatar();
            match (command.word.as_str(), &mut looked) {
                ("QUIT", _) => break,
                ("CAPA", _) => {
                    let all = self.capabilities(true);
                    self.say_all("+OK Capability list follows", all);
                }
                ("NOOP", _) => {
                    let text = self.news().unwrap_or_else(|| "Nothing done".into());
                    self.say(&format!("+OK {text}"));
                }
                ("RSET", looked) => {
                    looked.iter_mut().for_each(|mail| mail.deleted.fill(false));
                    self.say("+OK Nothing is to be removed");
                }
                ("RETR", Some(mail)) => self.send(mail, avatar, &command, false).await?,
                ("TOP", Some(mail)) => self.send(mail, avatar, &command, true).await?,
                ("LIST" | "UIDL", Some(mail)) => match mail.table(&command) {
                    Ok(Table::One(line)) => self.say(&line),
                    Ok(Table::All(first, lines)) => self.say_all(&first, lines),
                    Err(refused) => self.say(refused),
                },
                ("STAT", Some(mail)) => {
                    let (count, size) = mail.count();
                    self.say(&format!("+OK {count} {size}"));
                }
                ("DELE", Some(mail)) => match mail.delete(&command) {
                    Ok(index) => self.say(&format!("+OK Message {} deleted", index + 1)),
                    Err(refused) => self.say(refused),
                },
                ("USER" | "PASS" | "APOP" | "AUTH" | "STLS" | "UTF8", _) => {
                    self.say("-ERR You are logged in");
                }
                _ => self.say("-ERR There is no such command"),
            }
            self.wire.flush_if_much().await?;
        }
        let marked = looked.map(|mail| mail.marked().collect::<Vec<_>>()).unwrap_or_default();
        let removed = match marked.is_empty() {
            true => Ok(()),
            false => session.avatar_mut().remove(marked).await,
        };
        let text = self.news().unwrap_or_else(|| "Bye".into());
        match removed {
            Ok(()) => self.say(&format!("+OK {text}")),
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                self.say("-ERR [SYS/PERM] Only to be read: nothing was removed");
            }
            Err(error) => {
                tracing::error!("messages cannot be removed: {error}");
                self.say("-ERR [SYS/TEMP] Some deleted messages were not removed");
            }
        }
        // The mailbox is free before the client hears that it may come again.
        session.logout().await;
        self.wire.close().await;
        Ok(())
    }

    /// Sends a message, whole or its beginning (RFC 1939, sections 5 and 7).
    async fn send(
        &mut self,
        mail: &Contents,
        avatar: &dyn Maildrop,
        command: &Command,
        top: bool,
    ) -> Result<(), Over> {
        let argument = command.argument().unwrap_or_default();
        let (number, lines) = match argument.split_once(' ') {
            Some((number, lines)) if top => (number, lines.trim().parse().ok()),
            _ if top => (argument, None),
            _ => (argument, Some(usize::MAX)),
        };
        let Some(lines) = lines else {
            self.say("-ERR TOP needs a message and a number of lines");
            return Ok(());
        };
        let index = match mail.find(number) {
            Ok(index) => index,
            Err(refused) => {
                self.say(refused);
                return Ok(());
            }
        };
        match avatar.read(index).await {
            Ok(text) => {
                self.say(&format!("+OK {} octets", text.len()));
                self.wire.say(stuffed(beginning(&text, lines)));
                self.say(".");
                self.wire.flush_if_much().await?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.say("-ERR That message went away");
            }
            Err(error) => {
                tracing::error!("a message cannot be read: {error}");
                self.say("-ERR [SYS/TEMP] The message cannot be read now");
            }
        }
        Ok(())
    }

    /// What the realm has to say. POP3 has no place for it but the text of an answer.
    fn news(&mut self) -> Option<String> {
        let mut said = None;
        while let Some(notice) = self.notices.waiting() {
            if let Notice::Say(text) = notice {
                said = Some(text.chars().filter(|c| !c.is_control()).take(200).collect());
            }
        }
        said
    }
}

enum Table {
    One(String),
    All(String, Vec<String>),
}

impl Command {
    /// Whether it is about messages, or about a mailbox as a whole.
    fn wants_contents(&self) -> bool {
        matches!(self.word.as_str(), "STAT" | "LIST" | "UIDL" | "RETR" | "TOP" | "DELE")
    }
}

impl Contents {
    fn of(letters: Vec<Letter>) -> Self {
        let deleted = vec![false; letters.len()];
        Self { letters, deleted }
    }

    /// A message's place, by the number that clients know it by.
    fn find(&self, number: &str) -> Result<usize, &'static str> {
        let index = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        match index.and_then(|index| Some((index, self.deleted.get(index)?))) {
            Some((index, false)) => Ok(index),
            Some((_, true)) => Err("-ERR That message is deleted"),
            None => Err("-ERR There is no such message"),
        }
    }

    fn delete(&mut self, command: &Command) -> Result<usize, &'static str> {
        let index = self.find(command.argument().unwrap_or_default())?;
        if let Some(deleted) = self.deleted.get_mut(index) {
            *deleted = true;
        }
        Ok(index)
    }

    fn marked(&self) -> impl Iterator<Item = usize> + '_ {
        let marked = self.deleted.iter().enumerate().filter(|(_, deleted)| **deleted);
        marked.map(|(index, _)| index)
    }

    fn left(&self) -> impl Iterator<Item = usize> + '_ {
        let left = self.deleted.iter().enumerate().filter(|(_, deleted)| !**deleted);
        left.map(|(index, _)| index)
    }

    fn count(&self) -> (usize, u64) {
        self.left().fold((0, 0), |(count, size), index| (count + 1, size + self.size(index)))
    }

    fn size(&self, index: usize) -> u64 {
        self.letters.get(index).map_or(0, |letter| letter.size)
    }

    fn table(&self, command: &Command) -> Result<Table, &'static str> {
        let sizes = command.word == "LIST";
        let row = |index: usize| match self.letters.get(index) {
            Some(letter) if sizes => format!("{} {}", index + 1, letter.size),
            Some(letter) => format!("{} {}", index + 1, letter.uid),
            None => String::new(),
        };
        if let Some(number) = command.argument() {
            return Ok(Table::One(format!("+OK {}", row(self.find(number)?))));
        }
        let (count, size) = self.count();
        Ok(Table::All(
            format!("+OK {count} messages ({size} octets)"),
            self.left().map(row).collect(),
        ))
    }
}

/// The header, the empty line, and so many lines of the body.
fn beginning(text: &[u8], lines: usize) -> &[u8] {
    if lines == usize::MAX {
        return text;
    }
    let (mut at, mut left) = (0, None);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        match &mut left {
            None if line == b"\r\n" => left = Some(lines),
            None => {}
            Some(0) => break,
            Some(left) => *left -= 1,
        }
        at += line.len();
    }
    text.get(..at).unwrap_or(text)
}

/// With a dot before each line that begins with one, and a whole last line (RFC 1939, section 3).
fn stuffed(text: &[u8]) -> Cow<'_, [u8]> {
    let whole = text.is_empty() || text.ends_with(b"\r\n");
    let dots = text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.starts_with(b"."));
    let more = dots.count() + if whole { 0 } else { 2 };
    if more == 0 {
        return Cow::Borrowed(text);
    }
    let mut sent = Vec::with_capacity(text.len() + more);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            sent.push(b'.');
        }
        sent.extend_from_slice(line);
    }
    if !whole {
        sent.extend_from_slice(b"\r\n");
    }
    Cow::Owned(sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_doubled_and_the_last_line_is_ended() {
        assert_eq!(*stuffed(b"a\r\n.\r\n..b\r\n"), *b"a\r\n..\r\n...b\r\n");
        assert_eq!(*stuffed(b"a"), *b"a\r\n");
        assert_eq!(*stuffed(b""), *b"");
        assert!(matches!(stuffed(b"a.\r\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn top_gives_the_header_and_some_lines() {
        let text = b"A: 1\r\nB: 2\r\n\r\n1\r\n\r\n3\r\n";
        assert_eq!(beginning(text, 0), b"A: 1\r\nB: 2\r\n\r\n");
        assert_eq!(beginning(text, 2), b"A: 1\r\nB: 2\r\n\r\n1\r\n\r\n");
        assert_eq!(beginning(text, 9), text);
        assert_eq!(beginning(b"A: 1\r\n", 0), b"A: 1\r\n");
    }
}
