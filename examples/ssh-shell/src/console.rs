//! Lines from a client: as they come, or typed at a terminal that shows what is sent back.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// No line is longer, in bytes.
const LONGEST: usize = 4096;

/// Reads lines.
pub struct Console<I, O> {
    input: I,
    output: O,
    terminal: bool,
    buffer: Vec<u8>,
    /// What of the buffer was taken.
    at: usize,
    /// The last was a carriage return: a line feed behind it is none of its own.
    returned: bool,
}

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed {
    /// A line.
    Line(String),
    /// Control-C: nothing of it.
    Dropped,
    /// The end.
    End,
}

impl<I: AsyncRead + Unpin, O: AsyncWrite + Unpin> Console<I, O> {
    /// A console; at a terminal, what is typed is sent back.
    pub fn new(input: I, output: O, terminal: bool) -> Self {
        Self { input, output, terminal, buffer: Vec::new(), at: 0, returned: false }
    }

    /// Writes text; at a terminal with carriage returns.
    ///
    /// # Errors
    ///
    /// The client is gone.
    pub async fn say(&mut self, text: &str) -> io::Result<()> {
        match self.terminal {
            true => self.output.write_all(text.replace('\n', "\r\n").as_bytes()).await?,
            false => self.output.write_all(text.as_bytes()).await?,
        }
        self.output.flush().await
    }

    /// Shows a prompt at a terminal, and reads a line.
    ///
    /// # Errors
    ///
    /// The client is gone, or its line is too long.
    pub async fn line(&mut self, prompt: &str) -> io::Result<Typed> {
        if self.terminal {
            self.say(prompt).await?;
        }
        let mut line = Vec::new();
        loop {
            let Some(byte) = self.byte().await? else {
                return Ok(match line.is_empty() {
                    true => Typed::End,
                    false => Typed::Line(text(&line)),
                });
            };
            let after_return = std::mem::replace(&mut self.returned, byte == b'\r');
            match byte {
                b'\n' if after_return => {}
                b'\r' | b'\n' => {
                    self.echo(b"\r\n").await?;
                    return Ok(Typed::Line(text(&line)));
                }
                // What a terminal sends for its keys.
                0x03 if self.terminal => {
                    self.echo(b"^C\r\n").await?;
                    return Ok(Typed::Dropped);
                }
                0x04 if self.terminal && line.is_empty() => return Ok(Typed::End),
                0x08 | 0x7f if self.terminal => self.back(&mut line).await?,
                0x00..0x20 if self.terminal => {}
                _ if line.len() >= LONGEST => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "the line is too long"));
                }
                byte => {
                    line.push(byte);
                    self.echo(&[byte]).await?;
                }
            }
        }
    }

    /// Takes the last letter back.
    async fn back(&mut self, line: &mut Vec<u8>) -> io::Result<()> {
        let is_inside = |byte: &u8| byte & 0xc0 == 0x80;
        while line.last().is_some_and(is_inside) {
            line.pop();
        }
        match line.pop() {
            Some(_) => self.echo(b"\x08 \x08").await,
            None => Ok(()),
        }
    }

    async fn echo(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.terminal {
            return Ok(());
        }
        self.output.write_all(bytes).await?;
        self.output.flush().await
    }

    async fn byte(&mut self) -> io::Result<Option<u8>> {
        if self.at == self.buffer.len() {
            self.buffer.resize(1024, 0);
            let read = self.input.read(&mut self.buffer).await?;
            self.buffer.truncate(read);
            self.at = 0;
        }
        let byte = self.buffer.get(self.at).copied();
        self.at = self.buffer.len().min(self.at + 1);
        Ok(byte)
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn typed(terminal: bool, input: &[u8]) -> (Vec<Typed>, String) {
        let mut output = Vec::new();
        let mut console = Console::new(input, &mut output, terminal);
        let mut lines = Vec::new();
        loop {
            let line = console.line("> ").await.unwrap();
            let end = line == Typed::End;
            lines.push(line);
            if end {
                break;
            }
        }
        (lines, String::from_utf8(output).unwrap())
    }

    #[tokio::test]
    async fn lines_end_in_every_way_that_they_end() {
        let line = |text: &str| Typed::Line(text.to_owned());
        let (lines, shown) = typed(false, b"one\ntwo\r\n\nthree").await;
        assert_eq!(lines, [line("one"), line("two"), line(""), line("three"), Typed::End]);
        assert_eq!(shown, "");
    }

    #[tokio::test]
    async fn a_terminal_shows_what_is_typed() {
        let line = |text: &str| Typed::Line(text.to_owned());
        let input = "wha\u{e9}\u{7f}x\u{7f}t\u{1b}\rabc\u{3}\u{4}rest".as_bytes();
        let (lines, shown) = typed(true, input).await;
        assert_eq!(lines, [line("what"), Typed::Dropped, Typed::End]);
        let back = "\u{8} \u{8}";
        assert_eq!(shown, format!("> wha\u{e9}{back}x{back}t\r\n> abc^C\r\n> "));
    }

    #[tokio::test]
    async fn a_line_has_an_end() {
        let long = vec![b'x'; LONGEST + 1];
        let mut console = Console::new(&long[..], Vec::new(), false);
        assert!(console.line("").await.is_err());
    }
}
