//! Our side of `cargo xtask bench cred`: logins at a portal, one after the other, as `twisted/bench.py` does them.
//!
//! `logins CASE SECONDS [FILE]`, where CASE is `memory`, `file` or `file-cached`; prints
//! `{"rate": 1/s, "cpu": µs each}`.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::testing::now_or_never;
use countersign::{
    Answers, Checker, Denial, Identity, Interface, KindSet, Known, Mechanism, Peer, Portal, Realm,
    Request, Secret, Session, Verified,
};
use countersign_checkers::file::File;
use countersign_checkers::hash::Accept;
use countersign_checkers::memory::Memory;
use countersign_checkers::passwd_file::Format;
use countersign_checkers::pool::{HashPool, PoolOptions};
use countersign_checkers::world::SystemWorld;
use rustix::time::{ClockId, clock_gettime};

const USERS: usize = 1000;
const BATCH: usize = 200;

struct Mailbox;

impl Interface for Mailbox {
    const NAME: &'static str = "mailbox";
    type Avatar = Arc<Identity>;
    type Mind = ();
}

struct Mail;

impl Realm<Mailbox> for Mail {
    async fn admit(&self, who: &Verified<Identity>, _: ()) -> Result<Session<Mailbox>, Denial> {
        Ok(Session::new(Box::new(who.shared())))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [case, seconds, file @ ..] = words.as_slice() else {
        return Err("logins CASE SECONDS [FILE]".into());
    };
    let time = Duration::from_secs_f64(seconds.parse()?);
    match (case.as_str(), file) {
        ("memory", []) => {
            let mut memory = Memory::dangerous();
            for number in 1..=USERS {
                memory.add(format!("u{number}"), Secret::from(format!("secret{number}")))?;
            }
            measure(memory.checker("memory"), USERS, time)
        }
        ("file" | "file-cached", [file]) => {
            let accept = Accept { allow_plain: true, ..Accept::default() };
            let pool = Arc::new(HashPool::start(&PoolOptions::default())?);
            let file = File::open(file, Format::default(), accept, pool)?;
            // Uncached: what is in the file counts at every login.
            let file = match case.as_str() {
                "file" => file.looking_every(Duration::ZERO),
                _ => file,
            };
            let users = file.len();
            measure(file.checker("file"), users, time)
        }
        _ => Err(format!("there is no case `{case}`").into()),
    }
}

fn measure(checker: impl Checker, users: usize, time: Duration) -> Result<(), Box<dyn Error>> {
    let portal = Portal::new(Mail).checked_by(checker);
    let world = SystemWorld::new();
    let peer = Arc::new(Peer::new("pop3", KindSet::all()));
    // All of them in turn, in the order in which they come.
    let users_in_turn = (0..users).map(|number| 1 + number * 7919 % users);
    let wanted: Vec<_> = users_in_turn.map(Wanted::user).collect::<Result<_, _>>()?;
    let enter = |number: usize| {
        let (name, word) = wanted[number % users].both();
        let answers = Answers::new().with("username", name).with("password", word);
        let request = Request::from_peer(Arc::clone(&peer)).by(Mechanism::PASSWORD);
        let mut known = Known::new(answers);
        let login = portal.login::<Mailbox>(request, &mut known, (), &world);
        match now_or_never(login) {
            Some(Ok(session)) if session.avatar().subject.name() == Some(name) => Ok(()),
            Some(outcome) => Err(format!("{name}: {outcome:?}")),
            None => Err(format!("{name}: nothing here waits")),
        }
    };
    (0..BATCH).try_for_each(enter)?;
    let (begun, before, mut done) = (Instant::now(), used(), 0);
    while begun.elapsed() < time {
        (done..done + BATCH).try_for_each(enter)?;
        done += BATCH;
    }
    let (took, used) = (begun.elapsed().as_secs_f64(), used() - before);
    let count = done as f64;
    println!("{{\"rate\": {}, \"cpu\": {}}}", count / took, used.as_secs_f64() / count * 1e6);
    Ok(())
}

/// Who logs in: a name and a password side by side, as they are in what a server has just read from a peer.
struct Wanted {
    text: [u8; 22],
    name: u8,
    all: u8,
}

impl Wanted {
    fn user(number: usize) -> Result<Self, Box<dyn Error>> {
        let (name, all) = (format!("u{number}"), format!("u{number}secret{number}"));
        let mut text = [0; 22];
        text.get_mut(..all.len()).ok_or("too many users")?.copy_from_slice(all.as_bytes());
        Ok(Self { text, name: u8::try_from(name.len())?, all: u8::try_from(all.len())? })
    }

    fn both(&self) -> (&str, &str) {
        let all = std::str::from_utf8(&self.text[..self.all.into()]).unwrap_or_default();
        all.split_at(self.name.into())
    }
}

/// The CPU time of this process.
fn used() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec.unsigned_abs(), u32::try_from(used.tv_nsec).unwrap_or(0))
}
