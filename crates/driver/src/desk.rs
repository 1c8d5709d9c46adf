//! Who waits for which line.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::Scope;

use serde_json::{Value, json};
use zeroize::{Zeroize as _, Zeroizing};

use crate::{Answer, Cancelled, Login};

/// The version of the contract.
const VERSION: u64 = 1;

pub(crate) struct Desk<'a> {
    output: Mutex<Box<dyn Write + Send + 'a>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Logins in flight, with whoever waits for answers.
    open: HashMap<u64, Option<Sender<Value>>>,
    cancelled: HashSet<u64>,
    /// Threads that wait for a login, at the queue's end.
    idle: usize,
}

/// The desk as a login sees it.
pub(crate) trait Counter {
    fn say(&self, message: &Value);
    fn is_cancelled(&self, id: u64) -> bool;
    fn ask(&self, id: u64, round: &Value) -> Result<Value, Cancelled>;
}

type Verify<'a> = dyn Fn(&Login<'_>) -> Answer + Sync + 'a;

pub(crate) fn serve<'a>(
    mut input: impl BufRead,
    output: impl Write + Send + 'a,
    verify: &Verify<'_>,
) -> io::Result<()> {
    let desk = Desk { output: Mutex::new(Box::new(output)), state: Mutex::default() };
    let (sender, jobs) = mpsc::channel::<Value>();
    let jobs = Mutex::new(jobs);
    std::thread::scope(|scope| {
        // Dropped before the scope ends: then the threads end.
        let sender = sender;
        let mut line = Zeroizing::new(Vec::new());
        loop {
            line.zeroize();
            if input.read_until(b'\n', &mut line)? == 0 {
                desk.leave();
                return Ok(());
            }
            let message: Value = serde_json::from_slice(&line)?;
            match message["type"].as_str() {
                Some("hello") => desk.say(&json!({ "type": "hello", "version": VERSION })),
                Some("login") => {
                    let Some(id) = message["id"].as_u64() else {
                        return Err(wrong("a login has no id"));
                    };
                    let mut state = desk.state();
                    state.open.insert(id, None);
                    let starts = state.idle == 0;
                    state.idle -= usize::from(!starts);
                    drop(state);
                    // Nobody else has the other end.
                    let _ = sender.send(message);
                    if starts {
                        work(scope, &desk, &jobs, verify)?;
                    }
                }
                Some("answers") => desk.answered(message),
                Some("cancel") => desk.cancel(message["id"].as_u64()),
                // Of a server that is newer.
                _ => {}
            }
        }
    })
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A thread for this login, and for others after it.
fn work<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    desk: &'scope Desk<'_>,
    jobs: &'scope Mutex<Receiver<Value>>,
    verify: &'scope Verify<'_>,
) -> io::Result<()> {
    let worker = move || {
        loop {
            let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else { return };
            one(desk, job, verify);
            desk.state().idle += 1;
        }
    };
    std::thread::Builder::new().spawn_scoped(scope, worker).map(drop)
}

fn one(desk: &Desk<'_>, mut job: Value, verify: &Verify<'_>) {
    let id = job["id"].as_u64().unwrap_or_default();
    let mut text = |name: &str| match job[name].take() {
        Value::String(text) => Some(Zeroizing::new(text)),
        _ => None,
    };
    let (user, secret, stored) = (text("user"), text("secret"), text("stored"));
    let answer = match (user, secret) {
        (Some(user), Some(secret)) if !secret.is_empty() => {
            let asks = job["asks"].as_array().into_iter().flatten();
            let login = Login {
                user: user.to_string(),
                stored,
                secret,
                now: job["now"].as_i64().unwrap_or_default(),
                asks: asks.filter_map(|kind| kind.as_str().map(str::to_owned)).collect(),
                id,
                desk,
            };
            // A panic is this login's end, and no other's.
            catch_unwind(AssertUnwindSafe(|| verify(&login))).unwrap_or_else(|_| {
                Answer::fail("the driver has a mistake in it; see its error output")
            })
        }
        _ => Answer::refuse("a login without a user or a secret"),
    };
    let cancelled = {
        let mut state = desk.state();
        state.open.remove(&id);
        state.cancelled.remove(&id)
    };
    match cancelled {
        true => desk.say(&json!({ "type": "cancelled", "id": id })),
        false => desk.say(&answer.json(id)),
    }
}

impl Desk<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answered(&self, mut message: Value) {
        let waiting = message["id"].as_u64().and_then(|id| self.state().open.get_mut(&id)?.take());
        if let Some(waiting) = waiting {
            // Whoever asked waits.
            let _ = waiting.send(message["answers"].take());
        }
    }

    /// Of a login that was answered meanwhile, nothing is said (C3).
    fn cancel(&self, id: Option<u64>) {
        let mut state = self.state();
        let Some(id) = id.filter(|id| state.open.contains_key(id)) else { return };
        state.cancelled.insert(id);
        state.open.insert(id, None);
    }

    /// The server has gone: nobody answers any more.
    fn leave(&self) {
        let mut state = self.state();
        let open: Vec<u64> = state.open.keys().copied().collect();
        for id in open {
            state.cancelled.insert(id);
            state.open.insert(id, None);
        }
    }
}

impl Counter for Desk<'_> {
    fn say(&self, message: &Value) {
        let mut line = message.to_string();
        line.push('\n');
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        // If nobody reads, the input ends soon.
        let _ = output.write_all(line.as_bytes()).and_then(|()| output.flush());
    }

    fn is_cancelled(&self, id: u64) -> bool {
        self.state().cancelled.contains(&id)
    }

    fn ask(&self, id: u64, round: &Value) -> Result<Value, Cancelled> {
        let (sender, receiver) = mpsc::channel();
        {
            let mut state = self.state();
            if state.cancelled.contains(&id) {
                return Err(Cancelled);
            }
            state.open.insert(id, Some(sender));
        }
        self.say(&json!({ "type": "ask", "id": id, "round": round }));
        receiver.recv().map_err(|_| Cancelled)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};

    use crate::{Account, Answer, Login, Question, serve_on};

    /// What is said until there are so many lines; then the input ends.
    fn told(
        lines: &str,
        count: usize,
        verify: impl Fn(&Login<'_>) -> Answer + Send + Sync,
    ) -> Vec<String> {
        let (input, mut writer) = std::io::pipe().unwrap();
        let (reader, output) = std::io::pipe().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| serve_on(BufReader::new(input), output, verify).unwrap());
            writer.write_all(lines.as_bytes()).unwrap();
            let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
            let mut said: Vec<_> = lines.by_ref().take(count).collect();
            drop(writer);
            said.extend(lines);
            said.sort();
            said
        })
    }

    fn login(id: u64, secret: &str) -> String {
        format!(
            "{{\"type\":\"login\",\"id\":{id},\"user\":\"ada\",\"secret\":\"{secret}\",\"new\":1}}\n"
        )
    }

    #[test]
    fn greets_and_answers() {
        let lines = format!(
            "{{\"type\":\"hello\",\"version\":1}}\n{}{}{}{{\"type\":\"news\"}}\n{{\"type\":\"cancel\",\"id\":9}}\n",
            login(1, "yes"),
            login(2, "no"),
            login(3, "panic")
        );
        let said = told(&lines, 4, |login| match login.secret.as_str() {
            "yes" => Answer::Accept(Account {
                groups: vec![(7, true), (8, false)],
                ..Account::default()
            }),
            "no" => Answer::refuse("wrong"),
            _ => panic!("a mistake"),
        });
        assert_eq!(said.len(), 4);
        for part in
            ["\"type\":\"hello\"", "[\"*7\",\"8\"]", "\"reason\":\"wrong\"", "\"type\":\"fail\""]
        {
            assert!(said.iter().any(|line| line.contains(part)), "{part}: {said:?}");
        }
    }

    #[test]
    fn the_end_of_input_is_everybodys() {
        let said = told(&login(1, "x"), 1, |login| match login.ask(&[Question::otp("Code")]) {
            Ok(_) => Answer::accept(),
            Err(cancelled) => cancelled.into(),
        });
        assert!(said.iter().any(|line| line.contains("\"cancelled\"")), "{said:?}");
        assert!(!said.iter().any(|line| line.contains("accept")), "{said:?}");
    }

    #[test]
    fn what_is_no_message_ends_it() {
        assert!(serve_on(&b"{\n"[..], Vec::new(), |_| Answer::accept()).is_err());
        assert!(
            serve_on(&b"{\"type\":\"login\"}\n"[..], Vec::new(), |_| Answer::accept()).is_err()
        );
    }
}
