//! What a process writes.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use tokio::net::unix::pipe::Receiver;
use zeroize::Zeroizing;

/// The most bytes that are read of an output, most of them for nothing. Who writes more is ended.
pub(super) const OUTPUT_LIMIT: u64 = 16 * 1024 * 1024;

/// One of a process's outputs: the beginning is kept, the rest read and dropped, so that the process does not wait.
#[derive(Debug)]
pub(super) struct Output {
    pipe: Pipe,
    kept: Zeroizing<Vec<u8>>,
    limit: usize,
    total: u64,
}

/// The pipe's other end. It waits for nobody; waiting is registered only where a process takes its time.
#[derive(Debug)]
enum Pipe {
    Quiet(OwnedFd),
    Watched(Receiver),
    Ended,
}

/// More was written than anybody reads.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMuch;

impl Output {
    /// An output of which the first `limit` bytes count, and one more, by which one sees that there is more.
    pub(super) fn new(pipe: OwnedFd, limit: usize) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(Self { pipe: Pipe::Quiet(pipe), kept: Zeroizing::default(), limit: limit + 1, total: 0 })
    }

    /// What was kept.
    pub(super) fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// Reads until the end, or until there is too much. It can be dropped and called again.
    pub(super) async fn drain(&mut self) -> Result<(), TooMuch> {
        if let Pipe::Quiet(_) = self.pipe {
            let Pipe::Quiet(fd) = std::mem::replace(&mut self.pipe, Pipe::Ended) else {
                return Ok(());
            };
            match Receiver::from_owned_fd(fd) {
                Ok(receiver) => self.pipe = Pipe::Watched(receiver),
                Err(error) => tracing::error!("cannot wait for a driver's output: {error}"),
            }
        }
        let mut buffer = [0; 4096];
        while let Pipe::Watched(receiver) = &self.pipe {
            match receiver.try_read(&mut buffer) {
                Ok(0) => self.pipe = Pipe::Ended,
                Ok(length) => self.take(&buffer[..length])?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if receiver.readable().await.is_err() {
                        self.pipe = Pipe::Ended;
                    }
                }
                Err(_) => self.pipe = Pipe::Ended,
            }
        }
        Ok(())
    }

    /// Reads what is there now: after a process has ended, all that it wrote itself. Whoever else holds the pipe
    /// is not waited for.
    pub(super) fn finish(&mut self) -> Result<(), TooMuch> {
        let fd = match std::mem::replace(&mut self.pipe, Pipe::Ended) {
            Pipe::Quiet(fd) => fd,
            // What tokio believes of it may be older than the process's end.
            Pipe::Watched(receiver) => match receiver.into_nonblocking_fd() {
                Ok(fd) => fd,
                Err(_) => return Ok(()),
            },
            Pipe::Ended => return Ok(()),
        };
        let mut buffer = [0; 4096];
        loop {
            match rustix::io::read(&fd, &mut buffer) {
                Ok(0) | Err(Errno::WOULDBLOCK) => return Ok(()),
                Ok(length) => self.take(&buffer[..length])?,
                Err(Errno::INTR) => {}
                Err(_) => return Ok(()),
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), TooMuch> {
        let room = self.limit - self.kept.len();
        let wanted = &bytes[..bytes.len().min(room)];
        if self.kept.capacity() - self.kept.len() < wanted.len() {
            // A vector that grows leaves its bytes behind, unwiped.
            let capacity = (2 * (self.kept.len() + wanted.len())).min(self.limit).max(256);
            let mut larger = Zeroizing::new(Vec::with_capacity(capacity));
            larger.extend_from_slice(&self.kept);
            self.kept = larger;
        }
        self.kept.extend_from_slice(wanted);
        self.total += bytes.len() as u64;
        if self.total > OUTPUT_LIMIT { Err(TooMuch) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn pipe(limit: usize) -> (Output, std::io::PipeWriter) {
        let (reader, writer) = std::io::pipe().unwrap();
        (Output::new(reader.into(), limit).unwrap(), writer)
    }

    #[test]
    fn what_is_there_at_the_end() {
        // The writer stays open: nobody waits for it.
        let (mut output, mut writer) = pipe(100);
        writer.write_all(b"yes\n").unwrap();
        assert_eq!(output.finish(), Ok(()));
        assert_eq!(output.kept(), b"yes\n");
    }

    #[tokio::test]
    async fn the_beginning_is_kept_and_the_rest_is_read() {
        let (mut output, mut writer) = pipe(10_000);
        let writing = std::thread::spawn(move || writer.write_all(&vec![b'x'; 300_000]));
        assert_eq!(output.drain().await, Ok(()));
        assert_eq!(output.kept().len(), 10_001);
        writing.join().unwrap().unwrap();
    }

    #[tokio::test]
    async fn there_can_be_too_much() {
        let (mut output, mut writer) = pipe(10);
        let writing = std::thread::spawn(move || {
            let block = vec![b'x'; 1 << 20];
            while writer.write_all(&block).is_ok() {}
        });
        assert_eq!(output.drain().await, Err(TooMuch));
        drop(output);
        writing.join().unwrap();
    }
}
