//! One line from a terminal, with or without echo, and the terminal as it was afterwards.
//!
//! The line stays with the kernel's own line editor (erase, kill, UTF-8), so that typing a secret works
//! as typing does everywhere else. Only three things change while a line is read: echo, if it is a
//! secret; signals, which are off; and the interrupt and quit keys, which end the line instead. So Ctrl-C
//! is something that is read: no signal ends the program between switching echo off and on again.

use std::fs::File;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use countersign::Secret;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use zeroize::Zeroizing;

/// The longest line that the kernel's editor holds, its end included. What is typed beyond is lost, so a
/// line that fills it is refused and never cut.
const LINE: usize = 4096;

const INTERRUPT: u8 = 0x03;
const QUIT: u8 = 0x1c;

/// What came instead of a line.
#[derive(Debug)]
pub(super) enum Line {
    /// The line, without its end.
    Text(Secret),
    /// Ctrl-C or Ctrl-\.
    Interrupted,
    /// Ctrl-D on an empty line, or the terminal is gone.
    End,
    /// More than a terminal takes in one line.
    TooLong,
    /// Nothing within the time.
    Late,
}

/// A terminal that is read by lines.
#[derive(Debug)]
pub(super) struct Tty {
    file: File,
}

impl Tty {
    /// A terminal that is already open for reading and writing.
    pub(super) fn new(file: File) -> io::Result<Self> {
        tcgetattr(&file)?;
        Ok(Self { file })
    }

    /// Shows text.
    pub(super) fn write(&mut self, text: &str) -> io::Result<()> {
        self.file.write_all(text.as_bytes())?;
        self.file.flush()
    }

    /// Shows a prompt and reads a line. Echo is off before the prompt is there to be answered.
    pub(super) fn line(
        &mut self,
        prompt: &str,
        echo: bool,
        patience: Duration,
    ) -> io::Result<Line> {
        let mode = Mode::set(&self.file, echo)?;
        (&self.file).write_all(prompt.as_bytes())?;
        let line = self.read(patience);
        drop(mode);
        if !matches!(line, Ok(Line::Text(_))) {
            // The line's own end was not typed: what comes next begins on a new one.
            self.write("\n")?;
        }
        line
    }

    fn read(&self, patience: Duration) -> io::Result<Line> {
        let deadline = Instant::now() + patience;
        if !self.readable(deadline)? {
            return Ok(Line::Late);
        }
        let mut buffer = Zeroizing::new([0; LINE]);
        let count = loop {
            match (&self.file).read(&mut *buffer) {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What the other side of a pseudo-terminal leaves when it goes.
                Err(error)
                    if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) =>
                {
                    return Ok(Line::End);
                }
                Err(error) => return Err(error),
            }
        };
        Ok(match buffer[..count].split_last() {
            None => Line::End,
            Some((&(INTERRUPT | QUIT), _)) => Line::Interrupted,
            Some((b'\n', line)) if count < LINE => Line::Text(line.into()),
            Some((b'\n', _)) => Line::TooLong,
            // Ctrl-D after text hands the line over without its end. Taken as it is.
            Some(_) if count < LINE - 1 => Line::Text(buffer[..count].into()),
            Some(_) => Line::TooLong,
        })
    }

    fn readable(&self, deadline: Instant) -> io::Result<bool> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            let mut fds = [PollFd::new(&self.file, PollFlags::IN)];
            match poll(&mut fds, Some(&left)) {
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The terminal while a line is read. Dropped, it is as it was.
struct Mode<'a> {
    file: &'a File,
    before: Termios,
}

impl<'a> Mode<'a> {
    fn set(file: &'a File, echo: bool) -> io::Result<Self> {
        let before = tcgetattr(file)?;
        let mut now = before.clone();
        now.input_modes |= InputModes::ICRNL;
        now.local_modes |= LocalModes::ICANON;
        now.local_modes &= !LocalModes::ISIG;
        // The end of the line is shown even where the line is not.
        now.local_modes.set(LocalModes::ECHO, echo);
        now.local_modes.set(LocalModes::ECHONL, !echo);
        now.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT;
        now.special_codes[SpecialCodeIndex::VEOL2] = QUIT;
        // What was typed ahead is kept: people and scripts type ahead.
        tcsetattr(file, OptionalActions::Drain, &now)?;
        Ok(Self { file, before })
    }
}

impl Drop for Mode<'_> {
    fn drop(&mut self) {
        // Nothing more can be done for a terminal that is gone.
        let _ = tcsetattr(self.file, OptionalActions::Drain, &self.before);
    }
}
