//! A log on standard error that hardly anybody waits for: where much is said at a time, it is gathered, and a thread
//! writes it.
//!
//! A server that says two lines for each login would otherwise go to the system as often. Who has little to say
//! writes it at once, as ever; nothing is lost at the end; and a warning or worse is written at once, with all that
//! came before it. If the process is killed, what may be missing is what it said of the good in its last moments.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::{Level, Metadata};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// In so long a time
const WHILE: Duration = Duration::from_millis(250);
/// so many lines are few, and each is written at once. What is more waits for the end of that time: who is served
/// while it is written waits, too, where there is one processor, and that is not to be one in a hundred.
const FEW: usize = 16;
/// How much may wait; whoever would have more wait writes it first.
const MOST: usize = 64 * 1024;

/// The log, until it is dropped: then all is written.
#[derive(Debug)]
pub(crate) struct Log {
    lines: Arc<Lines<io::Stderr>>,
    writer: Option<JoinHandle<()>>,
}

impl Log {
    /// Takes what is said from now on, but the words of libraries below `info`, which are for their makers.
    pub(crate) fn begin() -> Self {
        let lines = Arc::new(Lines::to(io::stderr()));
        tracing_subscriber::fmt()
            .with_writer(Gathered(Arc::clone(&lines)))
            .with_target(false)
            .with_max_level(LevelFilter::INFO)
            .init();
        let write = {
            let lines = Arc::clone(&lines);
            move || lines.write_what_comes()
        };
        let writer = std::thread::Builder::new().name("log".into()).spawn(write);
        // Where there can be no thread, each line is written by whoever says it.
        let writer = writer.map_err(|_| lines.end()).ok();
        Self { lines, writer }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.lines.end();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// Lines on their way to `W`.
#[derive(Debug)]
struct Lines<W> {
    waiting: Mutex<Waiting<W>>,
    /// There is something, where there was nothing; or it is the end.
    come: Condvar,
}

#[derive(Debug)]
struct Waiting<W> {
    text: Vec<u8>,
    to: W,
    /// How many lines were said since then.
    lines: usize,
    since: Instant,
    ended: bool,
}

impl<W: Write> Lines<W> {
    fn to(to: W) -> Self {
        let since = Instant::now();
        let waiting = Waiting { text: Vec::new(), to, lines: 0, since, ended: false };
        Self { waiting: Mutex::new(waiting), come: Condvar::new() }
    }

    fn add(&self, line: &[u8], at_once: bool, now: Instant) {
        let mut waiting = self.lock();
        if now.duration_since(waiting.since) >= WHILE {
            (waiting.lines, waiting.since) = (0, now);
        }
        waiting.lines += 1;
        let first = waiting.text.is_empty();
        waiting.text.extend_from_slice(line);
        let few = waiting.lines <= FEW;
        if at_once || few || waiting.ended || waiting.text.len() >= MOST {
            waiting.write();
        } else if first {
            self.come.notify_one();
        }
    }

    /// Until the end.
    fn write_what_comes(&self) {
        let mut waiting = self.lock();
        while !waiting.ended {
            let nothing = |waiting: &mut Waiting<W>| !waiting.ended && waiting.text.is_empty();
            waiting =
                self.come.wait_while(waiting, nothing).unwrap_or_else(PoisonError::into_inner);
            let more = self.come.wait_timeout_while(waiting, WHILE, |waiting| !waiting.ended);
            waiting = more.unwrap_or_else(PoisonError::into_inner).0;
            waiting.write();
        }
    }

    /// What waits is written, and nothing waits any more.
    fn end(&self) {
        let mut waiting = self.lock();
        waiting.ended = true;
        waiting.write();
        self.come.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<W>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Write> Waiting<W> {
    fn write(&mut self) {
        // Whom should a log that cannot be written be told?
        let _ = self.to.write_all(&self.text);
        self.text.clear();
    }
}

/// One line that is being said.
struct Line<'a, W> {
    lines: &'a Lines<W>,
    at_once: bool,
}

impl<W: Write> Write for Line<'_, W> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.lines.add(text, self.at_once, Instant::now());
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What says which lines are written at once.
struct Gathered(Arc<Lines<io::Stderr>>);

impl<'a> MakeWriter<'a> for Gathered {
    type Writer = Line<'a, io::Stderr>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { lines: &self.0, at_once: true }
    }

    fn make_writer_for(&'a self, about: &Metadata<'_>) -> Self::Writer {
        Line { lines: &self.0, at_once: *about.level() <= Level::WARN }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of which so many were said already that the next would wait.
    fn busy() -> (Lines<Vec<u8>>, Instant) {
        let (lines, now) = (Lines::to(Vec::new()), Instant::now());
        (0..FEW).for_each(|_| lines.add(b".", false, now));
        assert_eq!(written(&lines), ".".repeat(FEW), "few are written at once");
        lines.lock().to.clear();
        (lines, now)
    }

    fn written(lines: &Lines<Vec<u8>>) -> String {
        String::from_utf8(lines.lock().to.clone()).unwrap()
    }

    #[test]
    fn what_is_bad_is_written_at_once_after_what_came_before_it() {
        let (lines, now) = busy();
        lines.add(b"good\n", false, now);
        assert_eq!(written(&lines), "");
        lines.add(b"bad\n", true, now);
        assert_eq!(written(&lines), "good\nbad\n");
    }

    #[test]
    fn who_has_said_little_of_late_writes_at_once_again() {
        let (lines, now) = busy();
        lines.add(b"many\n", false, now);
        assert_eq!(written(&lines), "");
        lines.add(b"few\n", false, now + WHILE);
        assert_eq!(written(&lines), "many\nfew\n");
    }

    #[test]
    fn no_more_waits_than_may() {
        let (lines, now) = busy();
        lines.add(&[b'x'; MOST - 1], false, now);
        assert_eq!(written(&lines), "");
        lines.add(b"y\n", false, now);
        assert_eq!(written(&lines).len(), MOST + 1);
    }

    #[test]
    fn nothing_is_lost_at_the_end() {
        let (lines, now) = busy();
        let lines = Arc::new(lines);
        let writer = {
            let lines = Arc::clone(&lines);
            std::thread::spawn(move || lines.write_what_comes())
        };
        for _ in 0..1000 {
            lines.add(b"one\n", false, now);
        }
        lines.end();
        writer.join().unwrap();
        lines.add(b"late\n", false, now);
        assert_eq!(written(&lines), format!("{}late\n", "one\n".repeat(1000)));
    }
}
