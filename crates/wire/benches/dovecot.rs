//! Time per login in the codec alone: split, parse, encode the reply. `cargo bench -p countersign-wire`

use std::hint::black_box;
use std::time::Instant;

use countersign_wire::dovecot::*;
use countersign_wire::saslauthd::{FIELD_LIMIT, Reply, parse_request};

const LOGINS: u32 = 256;

fn main() {
    let mut sent = Vec::new();
    for id in 1..=LOGINS {
        AuthWriter::new(&mut sent, id, "PLAIN", "smtp")
            .flag("nologin")
            .param("lip", b"192.0.2.1")
            .param("rip", b"198.51.100.7")
            .flag("secured")
            .respond(b"\0user0001@example.org\0correct horse battery");
    }
    println!("{} bytes a request", sent.len() / LOGINS as usize);
    let mut out = Vec::new();
    let dialect = Dialect::default();

    measure("split lines", || Lines::new(black_box(&sent), LINE_LIMIT).count());
    measure("split, parse", || {
        for line in Lines::new(black_box(&sent), LINE_LIMIT) {
            black_box(ClientLine::parse(line.unwrap(), &dialect)).unwrap();
        }
    });
    measure("split, parse, ask for five parameters, reply OK", || {
        out.clear();
        for line in Lines::new(black_box(&sent), LINE_LIMIT) {
            let Ok(ClientLine::Auth(auth)) = ClientLine::parse(line.unwrap(), &dialect) else {
                unreachable!()
            };
            black_box((auth.mechanism(), auth.service(), auth.secured()));
            black_box((auth.local_ip(), auth.remote_ip()));
            encode_ok(&mut out, auth.id(), b"user0001@example.org", &[], None);
        }
        out.len()
    });
    measure("client reads OK", || {
        for line in Lines::new(black_box(&out), LINE_LIMIT) {
            black_box(ServerLine::parse(line.unwrap())).unwrap();
        }
    });
    let request = b"\0\x03ann\0\x06secret\0\x04smtp\0\x0bexample.org";
    let mut reply = Vec::new();
    measure("saslauthd request and reply", || {
        for _ in 0..LOGINS {
            reply.clear();
            black_box(parse_request(black_box(request), FIELD_LIMIT)).unwrap();
            Reply::Ok.encode(&mut reply);
        }
    });
}

/// The best of many rounds, because other work on the machine only ever adds.
fn measure<T>(what: &str, mut round: impl FnMut() -> T) {
    let mut best = f64::INFINITY;
    for _ in 0..2000 {
        let start = Instant::now();
        black_box(round());
        best = best.min(start.elapsed().as_secs_f64());
    }
    println!("{:7.1} ns  {what}", best * 1e9 / f64::from(LOGINS));
}
