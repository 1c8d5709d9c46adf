//! A hundred thousand people who have been asked for their password and think about it.

use std::time::{Duration, Instant};

use countersign_interop::{Config, Context, Outcome, Stage, Trouble, passwd_file};

use super::http::{Client, post, text};
use super::{Effort, USERS, cpu, ours};
use crate::figures::{Figure, Figures, Promise};

const PENDING: usize = 100_000;
/// Requests that are sent before the first is answered.
const WINDOW: usize = 50;
/// Logins that are gone on with.
const RESUMED: usize = 2000;
/// One source may have a quarter of the table.
const SOURCES: usize = 100;

pub(crate) fn measure(effort: &Effort) -> Outcome<Vec<Figures>> {
    if !effort.ours {
        return Err(Trouble::not_run("this part is about ours only"));
    }
    let stage = Stage::new()?;
    let config = Config {
        passwd: Some(stage.file("passwd", &passwd_file(USERS))?),
        http: "trusted_proxies = [\"127.0.0.1\"]\n".into(),
        ..Config::default()
    };
    let server = ours(&stage, &config)?;
    let mut client = Client::connect(&server.http)?;
    let known = r#"{"answers":{"username":"u1","password":"secret1"}}"#;
    let (status, reply) = client.call(&post("/v1/login", "", known))?;
    if status != 200 {
        return Err(Trouble::failed(format!("the first login: {status} {reply}")));
    }
    let idle = memory(server.pid())?;
    let begun = Instant::now();
    let mut ids = Vec::with_capacity(PENDING);
    while ids.len() < PENDING {
        for number in 0..WINDOW {
            let source = (ids.len() + number) % SOURCES;
            let from = format!("x-forwarded-for: 192.0.2.{source}\r\nx-forwarded-proto: https\r\n");
            client.send(&post("/v1/login", &from, r#"{"mechanism":"password"}"#))?;
        }
        for _ in 0..WINDOW {
            let (status, reply) = client.receive()?;
            let id = text(&reply, "id").filter(|_| status == 200 && reply.contains("\"ask\""));
            ids.push(id.during(format!("beginning: {status} {reply}"))?.to_owned());
        }
    }
    let rate = PENDING as f64 / begun.elapsed().as_secs_f64();
    let full = memory(server.pid())?;

    let mut took = Vec::with_capacity(RESUMED);
    for number in 0..RESUMED {
        // All over the table.
        let id = &ids[number * (PENDING / RESUMED)];
        let user = number % USERS + 1;
        let answers = format!(
            r#"{{"round":1,"answers":{{"username":"u{user}","password":"secret{user}"}}}}"#
        );
        let request = post(&format!("/v1/login/{id}"), "", &answers);
        let begun = Instant::now();
        let (status, reply) = client.call(&request)?;
        took.push(begun.elapsed());
        if status != 200 || !reply.contains("\"granted\"") {
            return Err(Trouble::failed(format!("going on: {status} {reply}")));
        }
    }
    took.sort();
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let own = |name: &str, unit, value, promise| Figure {
        name: name.into(),
        peer: None,
        ours: Some(value),
        unit,
        promise,
    };
    Ok(vec![Figures {
        title: format!("{PENDING} logins that wait between two HTTP requests"),
        peer: "–",
        lines: vec![
            own("resident above idle", "MiB", full - idle, Some(Promise::AtMost(64.0))),
            own("resident before", "MiB", idle, None),
            own("begun", "1/s", rate, None),
            own("going on with one, p50", "ms", millis(took[RESUMED / 2]), None),
            own(
                "going on with one, p99",
                "ms",
                millis(took[RESUMED * 99 / 100]),
                Some(Promise::AtMost(5.0)),
            ),
        ],
        notes: vec!["A login over HTTP ends with a session in the store.".into()],
    }])
}

fn memory(pid: u32) -> Outcome<f64> {
    Ok(cpu::resident(pid).during("its memory")? as f64 / 1024.0)
}
