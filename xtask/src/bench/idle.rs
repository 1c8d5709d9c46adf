//! What the server needs when nobody logs in, and how soon the first one can.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use countersign_interop::{
    Config, Context, Outcome, Stage, Trouble, binary, passwd_file, wait_for,
};

use super::dovecot::Client;
use super::{Effort, USERS, cpu, median, ours, saslauthd};
use crate::figures::{Figure, Figures, Promise};

/// Connections that say nothing.
const IDLE: usize = 1000;
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn measure(effort: &Effort) -> Outcome<Vec<Figures>> {
    if !effort.ours {
        return Err(Trouble::not_run("this part is about ours only"));
    }
    let stage = Stage::new()?;
    // Built before anything is timed.
    binary(countersign_interop::Profile::Release)?;
    let config = Config {
        passwd: Some(stage.file("passwd", &passwd_file(USERS))?),
        dovecot: Some(stage.folder("sockets")?.join("auth")),
        saslauthd: Some(stage.at("sockets/mux")),
        ..Config::default()
    };
    let (Some(auth), Some(mux)) = (&config.dovecot, &config.saslauthd) else {
        return Err(Trouble::failed("the sockets have paths"));
    };

    // The first start makes the store; it is a figure of its own, as people feel it too.
    let mut starts = Vec::new();
    for _ in 0..=effort.rounds {
        let _ = std::fs::remove_file(stage.at("data/run/ready"));
        let begun = Instant::now();
        let server = std::thread::scope(|scope| {
            let server = scope.spawn(|| ours(&stage, &config));
            wait_for("the first login", LIMIT, || Client::connect(auth).ok()?.once().ok())?;
            let taken = begun.elapsed();
            starts.push(taken.as_secs_f64() * 1e3);
            server.join().map_err(|_| Trouble::failed("starting panicked"))?
        })?;
        server.stop()?;
    }
    let fresh = starts.remove(0);

    let server = ours(&stage, &config)?;
    Client::connect(auth)?.once()?;
    let resident = cpu::resident(server.pid()).during("its memory")? as f64 / 1024.0;

    let time = effort.time.min(Duration::from_secs(2));
    let asked = saslauthd::plain_requests();
    let alone = saslauthd::load(mux, server.pid(), &asked, (4, 4), time)?;
    let idle: Vec<UnixStream> = (0..IDLE)
        .map(|_| UnixStream::connect(mux).during("an idle connection"))
        .collect::<Outcome<_>>()?;
    saslauthd::once(mux)?;
    let among = saslauthd::load(mux, server.pid(), &asked, (4, 4), time)?;
    let crowded = cpu::resident(server.pid()).during("its memory")? as f64 / 1024.0;
    drop(idle);

    let own = |name: &str, unit, value, promise| Figure {
        name: name.into(),
        peer: None,
        ours: Some(value),
        unit,
        promise,
    };
    Ok(vec![Figures {
        title: "Idle and start".into(),
        peer: "–",
        lines: vec![
            own("resident after the first login", "MiB", resident, Some(Promise::AtMost(25.0))),
            own("start to first login", "ms", median(starts), Some(Promise::AtMost(100.0))),
            own("the same with a new store", "ms", fresh, None),
            own(
                "resident with 1,000 idle connections on the saslauthd socket",
                "MiB",
                crowded,
                None,
            ),
            own(
                "logins/s among them, as part of the rate without them",
                "",
                among.rate / alone.rate,
                Some(Promise::AtLeast(0.9)),
            ),
        ],
        notes: Vec::new(),
    }])
}
