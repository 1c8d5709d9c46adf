//! The saslauthd front end over a real socket, statement by statement of `docs/protocols/saslauthd.md`.

mod sockets;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use countersign_server::audit::{Audit, OnFailure};
use countersign_server::front::saslauthd::{self, SaslauthdOptions};
use sockets::{PATIENCE, Place, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

impl Place {
    fn serve_saslauthd(&mut self, options: SaslauthdOptions) {
        let (socket, stop) = (self.socket(), self.take_stop());
        let engine = Arc::clone(&self.engine);
        tokio::spawn(async move { saslauthd::serve(socket, engine, options, stop).await.unwrap() });
    }

    async fn saslauthd() -> Self {
        let mut place = Self::new().await;
        place.serve_saslauthd(SaslauthdOptions::default());
        place
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.path()).await.unwrap()
    }

    /// Sends these pieces, with the server reading in between, and reads to the end.
    async fn ask(&self, pieces: impl IntoIterator<Item = &[u8]>) -> String {
        let mut stream = self.connect().await;
        for piece in pieces {
            // A server that has answered already reads no further (S21).
            if stream.write_all(piece).await.is_err() {
                break;
            }
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        }
        rest(&mut stream).await
    }
}

/// The reply, without its length, up to the end, which must come. Empty: closed without a word.
async fn rest(stream: &mut UnixStream) -> String {
    let mut reply = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut reply)).await;
    match read.expect("the server does not close") {
        // What the server has not read when it closes is how the kernel puts it.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        read => drop(read.unwrap()),
    }
    let Some((length, text)) = reply.split_first_chunk::<2>() else { return String::new() };
    assert_eq!(usize::from(u16::from_be_bytes(*length)), text.len(), "one reply and no more (S1)");
    String::from_utf8(text.to_vec()).unwrap()
}

fn counted(strings: &[&[u8]]) -> Vec<Vec<u8>> {
    let counted = |string: &&[u8]| {
        let length = u16::try_from(string.len()).unwrap().to_be_bytes();
        [&length[..], string].concat()
    };
    strings.iter().map(counted).collect()
}

fn request(strings: &[&[u8]]) -> Vec<u8> {
    counted(strings).concat()
}

const ADA: [&[u8]; 4] = [b"ada", b"countess", b"smtp", b""];

#[tokio::test]
async fn s1_to_s5_however_the_bytes_are_cut() {
    let place = Place::saslauthd().await;
    let five: Vec<&[u8]> = [&ADA[..], &[b"192.0.2.7;4711"]].concat();
    for strings in [&ADA[..], &five] {
        // In one write, as libsasl2; one for each string, as Exim; and byte by byte.
        let whole = request(strings);
        assert_eq!(place.ask([&whole[..]]).await, "OK");
        let each = counted(strings);
        assert_eq!(place.ask(each.iter().map(|string| &string[..])).await, "OK");
        assert_eq!(place.ask(whole.chunks(1)).await, "OK");
        for cut in 1..whole.len() {
            let (head, tail) = whole.split_at(cut);
            assert_eq!(place.ask([head, tail]).await, "OK", "cut at {cut}");
        }
    }
    let wrong = request(&[b"ada", b"wrong", b"smtp", b"", b"192.0.2.7;4711"]);
    assert_eq!(place.ask(wrong.chunks(1)).await, "NO");
}

#[tokio::test]
async fn s5_s6_a_fifth_string_is_waited_for_when_its_length_is_there() {
    let place = Place::saslauthd().await;
    let four = request(&ADA);
    // One byte of a length may come from nobody knows where; the login has four strings.
    assert_eq!(place.ask([&four[..], b"\0"]).await, "OK");
    let mut stream = place.connect().await;
    stream.write_all(&[&four[..], b"\0\x09192.0."].concat()).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(50), stream.read_u8()).await;
    assert!(early.is_err(), "it does not wait for the rest of the fifth: {early:?}");
    stream.write_all(b"2.7and more that nobody reads").await.unwrap();
    assert_eq!(rest(&mut stream).await, "OK");
    let record = place.audit().pop().unwrap();
    assert_eq!(record["remote"], "192.0.2.7");
}

#[tokio::test]
async fn s10_s11_wrong_and_unknown_are_the_same() {
    let place = Place::saslauthd().await;
    for (user, password) in [
        ("ada", "wrong"),
        ("nobody", "countess"),
        ("disabled", "countess"),
        ("expired", "countess"),
        ("forbidden", "countess"),
    ] {
        let asked = request(&[user.as_bytes(), password.as_bytes(), b"smtp", b""]);
        assert_eq!(place.ask([&asked[..]]).await, "NO", "{user}");
    }
    let records = place.records(5).await;
    let reasons: Vec<_> = records.iter().map(|record| record["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["wrong-credential", "unknown-user", "disabled", "expired", "not-allowed"]);
    assert!(records.iter().all(|record| record["front_end"] == "saslauthd"));
}

#[tokio::test]
async fn s13_what_is_temporary_closes_without_a_word() {
    let mut place = Place::with(Duration::from_millis(30), None).await;
    place.serve_saslauthd(SaslauthdOptions::default());
    for user in ["broken", "never", "panics", "hasty"] {
        let asked = request(&[user.as_bytes(), b"countess", b"smtp", b""]);
        assert_eq!(place.ask([&asked[..]]).await, "", "{user}");
        assert_eq!(place.ask(asked.chunks(3)).await, "", "{user}");
    }
    assert_eq!(place.ask([&request(&ADA)[..]]).await, "OK");
    let records = place.records(9).await;
    assert!(records[..6].iter().all(|record| record["outcome"] == "fault"), "{records:#?}");
    assert_eq!(records[6]["told"], "try-later");
}

#[tokio::test]
async fn s20_a_nul_is_never_cut_at() {
    let place = Place::saslauthd().await;
    for (strings, name) in [
        ([&b"ada\0x"[..], b"countess", b"smtp", b""], "login"),
        ([b"ada", b"countess\0", b"smtp", b""], "password"),
        ([b"ada", b"countess\0junk", b"smtp", b""], "password"),
        ([b"ada", b"countess", b"\0", b""], "service"),
        ([b"ada", b"countess", b"smtp", b"\0"], "realm"),
    ] {
        let asked = request(&strings);
        let no = format!("NO NUL byte in {name}");
        assert_eq!(place.ask([&asked[..]]).await, no);
        assert_eq!(place.ask(asked.chunks(1)).await, no);
    }
    let client = request(&[&ADA[..], &[b"1.2.3.4\0;5"]].concat());
    assert_eq!(place.ask([&client[..]]).await, "NO NUL byte in client address");
    // Each has a record.
    let records = place.records(11).await;
    assert!(records.iter().all(|record| record["reason"] == "malformed"));
}

#[tokio::test]
async fn s7_s21_a_string_has_1024_bytes_at_most() {
    let place = Place::saslauthd().await;
    for (position, name) in
        ["login", "password", "service", "realm", "client address"].iter().enumerate()
    {
        let long = vec![b'x'; 1025];
        let mut strings: Vec<&[u8]> = vec![b"ada", b"countess", b"smtp", b"", b"192.0.2.7"];
        strings[position] = &long[..1024];
        let fits = place.ask([&request(&strings)[..]]).await;
        assert!(["OK", "NO"].contains(&&*fits), "{name}: {fits}");
        strings[position] = &long;
        let no = format!("NO {name} longer than 1024 bytes");
        let asked = request(&strings);
        assert_eq!(place.ask([&asked[..]]).await, no);
        // At once: the length is enough.
        let length = request(&strings[..position]).len() + 2;
        assert_eq!(place.ask([&asked[..length]]).await, no);
    }
    // The most that can be right.
    let most = vec![b'x'; 1024];
    assert_eq!(place.ask(request(&[&most[..]; 5]).chunks(100)).await, "NO");
    assert_eq!(place.ask([&b"\xff\xff"[..]]).await, "NO login longer than 1024 bytes");
}

#[tokio::test]
async fn s22_s23_empty_and_not_text() {
    let place = Place::saslauthd().await;
    for strings in
        [[&b""[..], b"countess", b"smtp", b""], [b"ada", b"", b"smtp", b""], [b"", b"", b"", b""]]
    {
        assert_eq!(place.ask([&request(&strings)[..]]).await, "NO empty login or password");
    }
    for strings in
        [[&b"\xff"[..], b"countess", b"smtp", b""], [b"ada", b"countess", b"smtp", b"\xff"]]
    {
        assert_eq!(place.ask([&request(&strings)[..]]).await, "NO");
    }
    // A password need not be text, nor a service, nor the client's address.
    assert_eq!(place.ask([&request(&[b"ada", b"\xff\xfe", b"smtp", b""])[..]]).await, "NO");
    let odd = request(&[b"ada", b"countess", b"\xff", b"", b"\xff;"]);
    assert_eq!(place.ask([&odd[..]]).await, "OK");
    // A name that can be nobody's is answered as any other that is nobody's.
    assert_eq!(place.ask([&request(&[b"ada\n", b"countess", b"smtp", b""])[..]]).await, "NO");
    assert_eq!(place.records(8).await[7]["reason"], "malformed");
}

#[tokio::test]
async fn s30_s31_realm_service_and_address() {
    let place = Place::saslauthd().await;
    for (strings, subject, remote) in [
        (
            [&b"ada"[..], b"countess", b"imap", b"example.org", b"2001:db8::1;4711"],
            "ada@example.org",
            Some("2001:db8::1"),
        ),
        (
            [b"ada@example.org", b"countess", b"imap", b"", b"192.0.2.7"],
            "ada@example.org",
            Some("192.0.2.7"),
        ),
        ([b"ada", b"countess", b"imap", b"", b"unknown;1"], "ada", None),
        ([b"ada", b"countess", b"imap", b"", b""], "ada", None),
    ] {
        assert_eq!(place.ask([&request(&strings)[..]]).await, "OK");
        let record = place.audit().pop().unwrap();
        assert_eq!((&record["subject"], &record["service"]), (&subject.into(), &"imap".into()));
        assert_eq!(record.get("remote").and_then(|remote| remote.as_str()), remote);
    }
}

#[tokio::test]
async fn s32_what_would_take_another_round_is_refused() {
    let place = Place::saslauthd().await;
    let changer = request(&[b"changer", b"countess", b"smtp", b""]);
    assert_eq!(place.ask([&changer[..]]).await, "NO the password must be changed");
    assert_eq!(place.records(1).await[0]["told"], "change-needed");
}

#[tokio::test]
async fn s24_incomplete_requests_end_with_their_deadline() {
    let mut place = Place::new().await;
    // Short for a server, and long for a busy machine.
    let patience = Duration::from_millis(250);
    place.serve_saslauthd(SaslauthdOptions { patience, ..Default::default() });
    let whole = request(&ADA);
    for begun in [&b""[..], &whole[..1], &whole[..whole.len() - 1]] {
        assert_eq!(place.ask([begun]).await, "", "{} bytes", begun.len());
    }
    // A checker's time is not the client's.
    let mut slow = place.connect().await;
    slow.write_all(&request(&[b"slow", b"countess", b"smtp", b""])).await.unwrap();
    place.gate.reached(1).await;
    tokio::time::sleep(patience * 2).await;
    place.gate.open(1);
    assert_eq!(rest(&mut slow).await, "OK");
    place.records(1).await;
}

/// 500, or as many as the descriptors suffice for: both ends are in this process, and other tests beside.
fn idle_pairs() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = files.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    soft.map_or(500, |soft: usize| (soft.saturating_sub(400) / 4).min(500))
}

#[tokio::test]
async fn s24_a_thousand_idle_connections_delay_nobody() {
    let place = Place::saslauthd().await;
    let mut idle = Vec::new();
    for _ in 0..idle_pairs() {
        idle.push(place.connect().await);
        let mut begun = place.connect().await;
        begun.write_all(b"\0\x03ad").await.unwrap();
        idle.push(begun);
    }
    let asked = request(&ADA);
    for _ in 0..20 {
        assert_eq!(place.ask([&asked[..]]).await, "OK");
    }
    // They are alive, all of them,
    let mut begun = idle.pop().unwrap();
    begun.write_all(&asked[4..]).await.unwrap();
    assert_eq!(rest(&mut begun).await, "OK");
    // and keep no stop waiting.
    place.stop().await;
    for mut stream in idle {
        assert_eq!(rest(&mut stream).await, "");
    }
}

#[tokio::test]
async fn s24_the_number_of_connections_is_bounded() {
    let mut place = Place::new().await;
    place.serve_saslauthd(SaslauthdOptions { connections: 1, ..Default::default() });
    let first = place.connect().await;
    let mut second = place.connect().await;
    second.write_all(&request(&ADA)).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(50), second.read_u8()).await;
    assert!(early.is_err(), "{early:?}");
    drop(first);
    assert_eq!(rest(&mut second).await, "OK");
    // One that waits for its place keeps no stop waiting either.
    let (_first, _second) = (place.connect().await, place.connect().await);
    place.stop().await;
}

#[tokio::test]
async fn clients_that_leave() {
    let place = Place::saslauthd().await;
    // In the middle of the request, which is none then; and before the answer, which is in the record.
    let mut half = place.connect().await;
    half.write_all(&request(&ADA)[..5]).await.unwrap();
    drop(half);
    for password in [&b"countess"[..], b"wrong"] {
        let mut slow = place.connect().await;
        slow.write_all(&request(&[b"slow", password, b"smtp", b""])).await.unwrap();
        place.gate.reached(1).await;
        drop(slow);
        place.gate.open(1);
    }
    eventually(|| place.audit().len() == 2).await;
    // Who only stops sending still hears the answer.
    let mut stream = place.connect().await;
    stream.write_all(&request(&ADA)).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await, "OK");
}

#[tokio::test]
async fn a_stop_answers_what_has_begun() {
    let place = Place::saslauthd().await;
    let mut slow = place.connect().await;
    slow.write_all(&request(&[b"slow", b"countess", b"smtp", b""])).await.unwrap();
    place.gate.reached(1).await;
    let mut idle = place.connect().await;
    place.stopper.stop();
    assert_eq!(rest(&mut idle).await, "");
    place.gate.open(1);
    assert_eq!(rest(&mut slow).await, "OK");
    place.stop().await;
    assert!(!place.path().exists());
}

#[tokio::test]
async fn without_a_record_nobody_gets_in() {
    for (on_failure, reply, refused) in
        [(OnFailure::Refuse, "", ""), (OnFailure::Continue, "OK", "NO empty login or password")]
    {
        let audit = Audit::open(Path::new("/dev/full"), on_failure).unwrap();
        let mut place = Place::with(PATIENCE, Some(audit)).await;
        place.serve_saslauthd(SaslauthdOptions::default());
        let asked = request(&ADA);
        assert_eq!(place.ask([&asked[..]]).await, reply);
        assert_eq!(place.ask(asked.chunks(2)).await, reply);
        let mut slow = place.connect().await;
        slow.write_all(&request(&[b"slow", b"countess", b"smtp", b""])).await.unwrap();
        place.gate.reached(1).await;
        place.gate.open(1);
        assert_eq!(rest(&mut slow).await, reply);
        assert_eq!(place.ask([&request(&[b"", b"", b"", b""])[..]]).await, refused);
    }
}
