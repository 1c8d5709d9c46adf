//! The database goes away under load, and a node is cut off from it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use countersign_interop::{Countersign, Outcome, Stage, Trouble, Wire, ensure, eventually};
use serde_json::json;

use super::client::{Mail, call, forward_auth, login};
use super::{PASSWORD, PROMISE, Site};

/// What one who logs in again and again has seen.
#[derive(Default)]
struct Seen {
    granted: AtomicUsize,
    later: AtomicUsize,
}

impl Seen {
    fn note(&self, granted: bool) {
        let counter = if granted { &self.granted } else { &self.later };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn both(&self) -> (usize, usize) {
        (self.granted.load(Ordering::Relaxed), self.later.load(Ordering::Relaxed))
    }
}

/// Logs in until it is over: who may, who is disabled, and who has the wrong password. Gives when somebody
/// was let in over HTTP: each login's beginning and end.
fn load(node: &Countersign, over: &AtomicBool, seen: &Seen) -> Outcome<Vec<(Instant, Instant)>> {
    let mut grants = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let right = login(node, "ada", PASSWORD)?;
        ensure!(right.granted() || right.later(), "the right password: {right:?}");
        seen.note(right.granted());
        if right.granted() {
            grants.push((begun, Instant::now()));
        }
        for (user, password) in [("ben", PASSWORD), ("ada", "wrong"), ("nobody", PASSWORD)] {
            let wrong = login(node, user, password)?;
            ensure!(wrong.denied() || wrong.later(), "{user}, {password}: {wrong:?}");
        }
    }
    Ok(grants)
}

/// Adds users until it is over. Gives those of whom the server said that they are there.
fn adding(
    node: &Countersign,
    token: &str,
    over: &AtomicBool,
    seen: &Seen,
) -> Outcome<BTreeSet<String>> {
    let mut there = BTreeSet::new();
    for number in 0.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("new{number}");
        let reply = call(node, "POST", "/v1/users", Some(token), Some(&json!({ "name": name })))?;
        ensure!(matches!(reply.status, 201 | 503), "adding {name}: {reply:?}");
        seen.note(reply.status == 201);
        if reply.status == 201 {
            there.insert(name);
        }
    }
    Ok(there)
}

pub(super) fn stopped_under_load(stage: &Stage) -> Outcome {
    let mut site = Site::new(stage, false, Ok)?;
    site.add("ada", &[])?;
    site.add("ben", &["--disabled"])?;
    site.add("boss", &["--group", "administrators"])?;
    let boss = login(&site.a, "boss", PASSWORD)?.token()?;
    let Site { a, b, postgres, database, .. } = &mut site;
    let (over, seen) = (AtomicBool::new(false), [(); 3].map(|()| Seen::default()));
    let mut away = Vec::new();
    let (grants, added) = thread::scope(|scope| {
        let (a, b, over, seen, boss) = (&*a, &*b, &over, &seen, &boss);
        let logins = [(a, &seen[0]), (b, &seen[1])];
        let logins = logins.map(|(node, seen)| scope.spawn(move || load(node, over, seen)));
        let adding = scope.spawn(move || adding(a, boss, over, &seen[2]));
        let failed = || logins.iter().any(|thread| thread.is_finished()) || adding.is_finished();
        // On both nodes, and for changes: more of it than there was.
        let more = |what: &str, of: fn((usize, usize)) -> usize| {
            let before = seen.each_ref().map(|seen| of(seen.both()));
            eventually(what, || {
                let now = seen.iter().zip(before).all(|(seen, was)| of(seen.both()) > was + 2);
                now || failed()
            })
        };
        let cycles = (|| -> Outcome {
            for immediate in [true, false, true] {
                more("logins on both nodes, and changes", |(granted, _)| granted)?;
                postgres.stop(immediate)?;
                let since = Instant::now();
                more("words to try later", |(_, later)| later)?;
                ensure!(
                    call(b, "GET", "/readyz", None, None)?.status == 503,
                    "it says it is ready"
                );
                away.push((since, Instant::now()));
                postgres.resume()?;
            }
            more("logins again, and changes", |(granted, _)| granted)
        })();
        over.store(true, Ordering::Relaxed);
        let panicked = |_| Err(Trouble::failed("a panic"));
        let mut grants = Vec::new();
        for thread in logins {
            grants.extend(thread.join().unwrap_or_else(panicked)?);
        }
        let added = adding.join().unwrap_or_else(|_| Err(Trouble::failed("a panic")))?;
        cycles.map(|()| (grants, added))
    })?;
    // A session cannot have been made while there was nothing to keep it in.
    for (since, until) in away {
        let wrong = grants.iter().find(|(begun, ended)| *begun >= since && *ended <= until);
        ensure!(wrong.is_none(), "somebody was let in while the database was away");
    }
    let there = postgres.sql(database, "SELECT name FROM accounts")?;
    let there: BTreeSet<String> = there.lines().map(str::to_owned).collect();
    let lost: Vec<_> = added.difference(&there).collect();
    ensure!(lost.is_empty(), "{} of {} were lost: {lost:?}", lost.len(), added.len());
    eventually("readiness", || {
        call(b, "GET", "/readyz", None, None).is_ok_and(|reply| reply.status == 200)
    })
}

/// Asks until somebody is no longer let in, and some more. Whoever was let in must have asked before the
/// copies in memory are believed no more.
fn outlived(what: &str, cut: Instant, mut ask: impl FnMut() -> Outcome<bool>) -> Outcome {
    let mut refused = 0;
    eventually(what, || {
        let begun = Instant::now();
        match ask() {
            Ok(true) if begun > cut + PROMISE => true,
            Ok(true) => false,
            Ok(false) => {
                refused += 1;
                refused > 2
            }
            Err(_) => true,
        }
    })?;
    ensure!(refused > 2, "{what}: still let in, or no answer, after {:?}", cut.elapsed());
    Ok(())
}

pub(super) fn cut_off(stage: &Stage) -> Outcome {
    let mut wire = None;
    let site = Site::new(stage, false, |port| {
        let made = Wire::to(port)?;
        let own = made.port;
        wire = Some(made);
        Ok(own)
    })?;
    let Some(wire) = wire else { return Err(Trouble::failed("there is no wire")) };
    for user in ["ada", "ben"] {
        site.add(user, &[])?;
    }
    let token = login(&site.a, "ada", PASSWORD)?.token()?;
    ensure!(forward_auth(&site.b, &token)? == 200, "a session of the other node's");
    ensure!(site.mail("b", "ada", PASSWORD)? == Mail::Ok, "by mail");

    wire.cut();
    let cut = Instant::now();
    site.run("a", &["user", "set", "ada", "--disable"], "")?;
    ensure!(site.mail("a", "ada", PASSWORD)? == Mail::No, "where it was said");
    thread::scope(|scope| -> Outcome {
        let (site, token) = (&site, &token);
        let session = scope
            .spawn(move || outlived("a session", cut, || Ok(forward_auth(&site.b, token)? == 200)));
        outlived("a login", cut, || match site.mail("b", "ada", PASSWORD)? {
            Mail::Ok => Ok(true),
            Mail::Later => Ok(false),
            Mail::No => Err(Trouble::failed("it cannot know")),
        })?;
        session.join().unwrap_or_else(|_| Err(Trouble::failed("a panic")))
    })?;
    ensure!(site.mail("a", "ben", PASSWORD)? == Mail::Ok, "the other node goes on");

    wire.mend();
    eventually("the node back", || site.mail("b", "ben", PASSWORD).is_ok_and(|m| m == Mail::Ok))?;
    ensure!(site.mail("b", "ada", PASSWORD)? == Mail::No, "who was disabled meanwhile");
    ensure!(forward_auth(&site.b, &token)? == 401, "and their session");
    Ok(())
}
