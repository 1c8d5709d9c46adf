//! A client of HTTP/1.1 that is quick and knows little: requests as bytes, replies with a length.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use countersign_interop::{Context, Outcome, Trouble};

use super::cpu;

/// No answer within this: the server is stuck, and so is the measurement.
const STUCK: Duration = Duration::from_secs(30);
/// Not counted: connections and caches settle.
const WARM_UP: Duration = Duration::from_millis(300);

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

/// One measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Requests in a second.
    pub(crate) rate: f64,
    /// Server's CPU microseconds for each.
    pub(crate) cpu: f64,
}

impl Client {
    pub(crate) fn connect(address: &str) -> Outcome<Self> {
        let stream = TcpStream::connect(address).during(address)?;
        stream.set_read_timeout(Some(STUCK)).during("a deadline")?;
        stream.set_nodelay(true).during("a connection")?;
        Ok(Self { stream, read: Vec::with_capacity(16 * 1024) })
    }

    pub(crate) fn send(&mut self, request: &[u8]) -> Outcome<()> {
        self.stream.write_all(request).during("sending a request")
    }

    /// The next reply: its status and its body.
    pub(crate) fn receive(&mut self) -> Outcome<(u16, String)> {
        loop {
            if let Some((status, head, length)) = head_of(&self.read)
                && self.read.len() >= head + length
            {
                let body = String::from_utf8_lossy(&self.read[head..head + length]).into_owned();
                self.read.drain(..head + length);
                return Ok((status, body));
            }
            let mut piece = [0; 16 * 1024];
            let count = self.stream.read(&mut piece).during("a reply")?;
            if count == 0 {
                return Err(Trouble::failed("the server closed the connection"));
            }
            self.read.extend_from_slice(&piece[..count]);
        }
    }

    pub(crate) fn call(&mut self, request: &[u8]) -> Outcome<(u16, String)> {
        self.send(request)?;
        self.receive()
    }
}

/// A request with a body of JSON.
pub(crate) fn post(path: &str, more: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\n{more}content-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// What follows `"name":"` in a text of JSON, up to the quote.
pub(crate) fn text<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = json.split_once(&format!("\"{name}\":\""))?;
    rest.split_once('"').map(|(text, _)| text)
}

/// Status, bytes of the head, and bytes of the body.
fn head_of(read: &[u8]) -> Option<(u16, usize, usize)> {
    let end = memchr::memmem::find(read, b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&read[..end]).ok()?;
    let status = head.get(9..12)?.parse().ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    Some((status, end, length.unwrap_or(0)))
}

/// Loads a server for a time, over several connections in each of two threads. Every reply must be 200.
pub(crate) fn load(
    address: &str,
    pid: u32,
    request: &[u8],
    connections: usize,
    time: Duration,
) -> Outcome<Sample> {
    const THREADS: usize = 2;
    let (counting, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let ready = Barrier::new(THREADS + 1);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let (counting, over, ready) = (&counting, &over, &ready);
                scope.spawn(move || {
                    let clients: Outcome<Vec<_>> =
                        (0..connections / THREADS).map(|_| Client::connect(address)).collect();
                    // Also when it did not succeed: the others are waiting.
                    ready.wait();
                    let mut clients = clients?;
                    let mut count = 0_u64;
                    while !over.load(Ordering::Relaxed) {
                        for client in &mut clients {
                            client.send(request)?;
                        }
                        for client in &mut clients {
                            let (status, body) = client.receive()?;
                            if status != 200 {
                                return Err(Trouble::failed(format!("{status}: {body}")));
                            }
                        }
                        if counting.load(Ordering::Relaxed) {
                            count += clients.len() as u64;
                        }
                    }
                    Ok(count)
                })
            })
            .collect();
        ready.wait();
        thread::sleep(WARM_UP);
        let (server, start) = (cpu::used(pid), Instant::now());
        counting.store(true, Ordering::Relaxed);
        thread::sleep(time);
        counting.store(false, Ordering::Relaxed);
        let (elapsed, server) = (start.elapsed(), cpu::used(pid) - server);
        over.store(true, Ordering::Relaxed);
        let mut count = 0;
        for thread in threads {
            count += thread.join().map_err(|_| Trouble::failed("a client panicked"))??;
        }
        if count == 0 {
            return Err(Trouble::failed("not one request was answered"));
        }
        let rate = count as f64 / elapsed.as_secs_f64();
        Ok(Sample { rate, cpu: server.as_secs_f64() * 1e6 / count as f64 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_and_texts() {
        let reply = b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\na: b\r\n\r\nabc";
        assert_eq!(head_of(reply), Some((201, 49, 3)));
        assert_eq!(head_of(&reply[..20]), None);
        assert_eq!(text(r#"{"a":{"token":"x"}}"#, "token"), Some("x"));
    }
}
