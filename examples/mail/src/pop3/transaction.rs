//! The TRANSACTION state: what is there? And the UPDATE state, in which what is marked is removed.

use std::borrow::Cow;
use std::io;

use countersign::Realm;

use super::authorization::Opened;
use super::{Command, Connection, Letter, Maildrop, Over, Pop3Mailbox};
use crate::notice::Notice;

/// What is in the maildrop of a session, and what is to be removed at its end.
struct Contents<'a> {
    letters: &'a [Letter],
    avatar: &'a dyn Maildrop,
    deleted: &'a mut Vec<bool>,
}

impl<R: Realm<Pop3Mailbox>> Connection<'_, R> {
    /// Until `QUIT`, and only then is anything removed (RFC 1939, section 6).
    pub(super) async fn transaction(mut self, mut opened: Opened) -> Result<(), Over> {
        let mut deleted = vec![false; opened.letters.len()];
        loop {
            self.deadline = self.server.idle_until();
            let command = self.command().await?;
            let (letters, avatar) = (opened.letters.as_slice(), opened.session.avatar());
            let mut mail = Contents { letters, avatar, deleted: &mut deleted };
            match command.word.as_str() {
                "QUIT" => break,
                "CAPA" => {
                    let all = self.capabilities(true);
                    self.say_all("+OK Capability list follows", all);
                }
                "RETR" => self.send(&mail, &command, false).await?,
                "TOP" => self.send(&mail, &command, true).await?,
                "NOOP" => {
                    let text = self.news().unwrap_or_else(|| "Nothing done".into());
                    self.say(&format!("+OK {text}"));
                }
                "LIST" | "UIDL" => match mail.table(&command) {
                    Ok(Table::One(line)) => self.say(&line),
                    Ok(Table::All(first, lines)) => self.say_all(&first, lines),
                    Err(refused) => self.say(refused),
                },
                _ => match mail.line(&command) {
                    Ok(line) => self.say(&line),
                    Err(refused) => self.say(refused),
                },
            }
            self.wire.flush_if_much().await?;
        }
        let marked = deleted.iter().enumerate().filter(|(_, deleted)| **deleted);
        let marked = marked.map(|(index, _)| index).collect();
        let removed = opened.session.avatar_mut().remove(marked).await;
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
        opened.session.logout().await;
        self.wire.close().await;
        Ok(())
    }

    /// Sends a message, whole or its beginning (RFC 1939, sections 5 and 7).
    async fn send(
        &mut self,
        mail: &Contents<'_>,
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
        match mail.avatar.read(index).await {
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
        while let Ok(notice) = self.notices.try_recv() {
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

impl Contents<'_> {
    /// A message's place, by the number that clients know it by.
    fn find(&self, number: &str) -> Result<usize, &'static str> {
        let index = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        match index.and_then(|index| Some((index, self.deleted.get(index)?))) {
            Some((index, false)) => Ok(index),
            Some((_, true)) => Err("-ERR That message is deleted"),
            None => Err("-ERR There is no such message"),
        }
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

    fn line(&mut self, command: &Command) -> Result<String, &'static str> {
        match command.word.as_str() {
            "STAT" => {
                let (count, size) = self.count();
                Ok(format!("+OK {count} {size}"))
            }
            "DELE" => {
                let index = self.find(command.argument().unwrap_or_default())?;
                if let Some(deleted) = self.deleted.get_mut(index) {
                    *deleted = true;
                }
                Ok(format!("+OK Message {} deleted", index + 1))
            }
            "RSET" => {
                self.deleted.fill(false);
                Ok(format!("+OK {} messages", self.letters.len()))
            }
            "USER" | "PASS" | "APOP" | "AUTH" | "STLS" | "UTF8" => Err("-ERR You are logged in"),
            _ => Err("-ERR There is no such command"),
        }
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
