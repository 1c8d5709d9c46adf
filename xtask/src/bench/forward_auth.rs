//! Forward-auth with a session's cookie, beside a handler that does nothing on the same HTTP stack.

use std::process::Command;
use std::time::Duration;

use countersign_interop::{Config, Context, Outcome, Peer, Stage, Trouble, passwd_file};

use super::http::{Client, Sample, load, post, text};
use super::{Effort, USERS, median, ours};
use crate::figures::{Figure, Figures, Promise};
use crate::steps::{LONG, cargo, must, target};

const CONNECTIONS: usize = 32;
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn measure(effort: &Effort) -> Outcome<Vec<Figures>> {
    let stage = Stage::new()?;
    let words = ["build", "--quiet", "--release", "--package", "countersign-server"];
    must(cargo(&words).args(["--example", "bare"]), LONG).map_err(Trouble::failed)?;
    let mut command = Command::new(target().join("release/examples/bare"));
    let mut bare = Peer::start(&stage, "bare", &mut command)?;
    let log = stage.at("bare.log");
    let address = bare.until("the bare handler being ready", LIMIT, || {
        let text = std::fs::read_to_string(&log).ok()?;
        Some(text.strip_suffix('\n')?.to_owned())
    })?;
    let nothing = b"GET / HTTP/1.1\r\nhost: bench\r\n\r\n".to_vec();

    let config =
        Config { passwd: Some(stage.file("passwd", &passwd_file(USERS))?), ..Config::default() };
    let server = if effort.ours { Some(ours(&stage, &config)?) } else { None };
    let request = match &server {
        Some(server) => forward_auth(&server.http)?,
        None => Vec::new(),
    };
    let (mut theirs, mut mine): (Vec<Sample>, Vec<Sample>) = (Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        theirs.push(load(&address, bare.pid(), &nothing, CONNECTIONS, effort.time)?);
        if let Some(server) = &server {
            mine.push(load(&server.http, server.pid(), &request, CONNECTIONS, effort.time)?);
        }
    }
    let middle = |samples: &[Sample], of: fn(&Sample) -> f64| {
        (!samples.is_empty()).then(|| median(samples.iter().map(of).collect()))
    };
    let line = |name: &str, unit, of: fn(&Sample) -> f64, promise| Figure {
        name: name.to_owned(),
        peer: middle(&theirs, of),
        ours: middle(&mine, of),
        unit,
        promise,
    };
    Ok(vec![Figures {
        title: "Forward-auth with a session's cookie".into(),
        peer: "bare handler",
        lines: vec![
            line("requests", "1/s", |s| s.rate, Some(Promise::AtLeast(0.8))),
            line("server CPU for each", "µs", |s| s.cpu, None),
        ],
        notes: vec![format!(
            "{CONNECTIONS} connections of two threads, medians of {} alternating measurements of \
             {:?}. The bare handler is axum and hyper with an empty reply; the load generator is \
             on the same cores.",
            effort.rounds, effort.time
        )],
    }])
}

/// Logs in, and gives the request that a proxy would send for this session.
fn forward_auth(address: &str) -> Outcome<Vec<u8>> {
    let body = r#"{"answers":{"username":"u1","password":"secret1"}}"#;
    let (status, reply) = Client::connect(address)?.call(&post("/v1/login", "", body))?;
    let token = text(&reply, "token").filter(|_| status == 200);
    let token = token.during(format!("logging in: {status} {reply}"))?;
    let request =
        format!("GET /forward-auth HTTP/1.1\r\nhost: bench\r\ncookie: countersign={token}\r\n\r\n");
    Ok(request.into_bytes())
}
