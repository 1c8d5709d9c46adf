//! The loop between oned's pipe and the drivers.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use countersign_checkers::driver::Belief;
use countersign_checkers::one::{Attempt, Driver, Failure, Login, Outcome};
use countersign_checkers::world::SystemWorld;
use countersign_wire::one::mad::{
    Answer, Authenticate, Authorize, BadRequest, LINE_LIMIT, Line, LineSplitter, Request, Response,
    SecretEncoding, Severity, Verb,
};
use countersign_wire::one::{DriverName, ErrorLine, UserName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::Instant;
use zeroize::Zeroize as _;

/// Decides about calls in the place of oned's own rules.
pub trait Authorizer: Send + Sync + fmt::Debug + 'static {
    /// Decides about one call. What it says replaces oned's own verdict.
    fn authorize<'a>(
        &'a self,
        call: &'a Authorize,
    ) -> Pin<Box<dyn Future<Output = Ruling> + Send + 'a>>;
}

/// What an authorizer says of a call.
#[derive(Debug)]
pub struct Ruling {
    /// Yes, or why not, for oned's log.
    pub verdict: Result<(), String>,
    /// What it wrote for the log.
    pub lines: Vec<ErrorLine>,
}

/// How much a manager takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ManagerLimits {
    /// When a request is answered with a failure at the latest, counted from its coming. oned waits for 90 seconds.
    pub answer_within: Duration,
    /// Requests that wait or run at a time, of all drivers. Further ones are refused at once.
    pub requests: usize,
    /// How long requests may still run after `FINALIZE`. oned kills the manager after ten seconds.
    pub last: Duration,
}

impl Default for ManagerLimits {
    fn default() -> Self {
        Self {
            answer_within: Duration::from_secs(60),
            requests: 4096,
            last: Duration::from_secs(8),
        }
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// oned said `FINALIZE`, and everything that ran was answered or had its time.
    Finalized,
    /// oned is gone: its end of either pipe is closed. What ran was ended.
    Gone,
}

/// A driver, and what is believed of its answers. oned believes them all.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Who verifies.
    pub driver: Arc<dyn Driver>,
    /// What its answers may say.
    pub belief: Arc<Belief>,
}

/// Answers that oned has not read yet, in bytes. Above it nothing more is read from oned, and what has ended waits.
const OUT_LIMIT: usize = 1024 * 1024;

/// More than the lines of one answer can have: then what is to be stored is never left behind by a vector that grew.
const OUT_ROOM: usize = OUT_LIMIT + 512 * 1024;

/// Bytes of one read.
const READ: usize = 64 * 1024;

/// The manager.
#[derive(Debug)]
pub struct Manager {
    drivers: HashMap<DriverName, Asked>,
    authorizer: Option<Arc<dyn Authorizer>>,
    encoding: SecretEncoding,
    limits: ManagerLimits,
    world: SystemWorld,
    /// Why it can do nothing.
    broken: Option<String>,
}

/// What a task came to.
enum Done {
    Login(Attempt),
    Call(Ruling),
    /// Its time was over.
    Late,
}

/// A request that runs.
struct Running {
    verb: Verb,
    id: u64,
    task: AbortHandle,
}

impl Manager {
    /// A manager of these drivers, by the names by which oned asks for them.
    pub fn new(drivers: HashMap<DriverName, Asked>, encoding: SecretEncoding) -> Self {
        let world = SystemWorld::new();
        let limits = ManagerLimits::default();
        Self { drivers, authorizer: None, encoding, limits, world, broken: None }
    }

    /// A manager that cannot work, and refuses everything with the reason. It answers `INIT` with success: oned
    /// shows nothing of why a manager does not start, but it logs what a running one says.
    pub fn broken(why: String) -> Self {
        Self { broken: Some(why), ..Self::new(HashMap::new(), SecretEncoding::ByFraming) }
    }

    /// Somebody else decides about calls (`--authz`).
    #[must_use]
    pub fn with_authorizer(self, authorizer: Arc<dyn Authorizer>) -> Self {
        Self { authorizer: Some(authorizer), ..self }
    }

    /// How much it takes on.
    #[must_use]
    pub fn with_limits(self, limits: ManagerLimits) -> Self {
        Self { limits, ..self }
    }

    /// Serves oned until it says `FINALIZE` or is gone. Nothing is written before `INIT` is answered.
    ///
    /// # Errors
    /// A pipe that breaks otherwise than by being closed.
    pub async fn serve(
        &self,
        mut input: impl AsyncRead + Unpin,
        mut output: impl AsyncWrite + Unpin,
    ) -> io::Result<Ended> {
        let mut table = Table::new(self);
        let mut lines = LineSplitter::new(LINE_LIMIT);
        let mut read = vec![0; READ];
        // Far away until `FINALIZE`.
        let mut end = Instant::now() + Duration::from_secs(86_400 * 365);
        loop {
            if table.finalized && table.tasks.is_empty() && table.out.is_empty() {
                return Ok(Ended::Finalized);
            }
            let room = table.out.len() < OUT_LIMIT;
            tokio::select! {
                filled = input.read(&mut read), if room && !table.finalized => {
                    let filled = filled?;
                    if filled == 0 {
                        return Ok(Ended::Gone);
                    }
                    lines.feed(&read[..filled]);
                    read[..filled].zeroize();
                    while let Some(line) = lines.next_line() {
                        table.take(line);
                        if table.finalized {
                            end = Instant::now() + self.limits.last;
                            break;
                        }
                    }
                }
                Some(done) = table.tasks.join_next_with_id(), if room => {
                    table.settle(done);
                    while table.out.len() < OUT_LIMIT
                        && let Some(done) = table.tasks.try_join_next_with_id()
                    {
                        table.settle(done);
                    }
                }
                written = output.write(&table.out), if !table.out.is_empty() => match written {
                    Ok(0) => return Ok(Ended::Gone),
                    Ok(written) => table.wrote(written),
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Ended::Gone),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                },
                () = tokio::time::sleep_until(end), if table.finalized => {
                    table.out_of_time();
                    // What oned does not read now it never will: it kills the manager soon.
                    let rest = output.write_all(&table.out);
                    let _ = tokio::time::timeout(Duration::from_millis(500), rest).await;
                    return Ok(Ended::Finalized);
                }
            }
        }
    }

    fn driver(&self, name: &DriverName) -> Option<Asked> {
        self.drivers.get(name).cloned()
    }
}

/// What a manager has in hand.
struct Table<'m> {
    manager: &'m Manager,
    tasks: JoinSet<Done>,
    running: HashMap<Id, Running>,
    /// The same by the ids of the requests.
    by_id: HashMap<u64, Id>,
    /// Lines that oned has not read yet.
    out: Vec<u8>,
    finalized: bool,
}

impl<'m> Table<'m> {
    fn new(manager: &'m Manager) -> Self {
        Self {
            manager,
            tasks: JoinSet::new(),
            running: HashMap::new(),
            by_id: HashMap::new(),
            out: Vec::with_capacity(OUT_ROOM),
            finalized: false,
        }
    }

    /// Takes a line of oned's.
    fn take(&mut self, line: Line<'_>) {
        let request = match line {
            Line::Whole(line) => Request::parse(line, self.manager.encoding),
            Line::TooLong(head) => Err(BadRequest::too_long(head)),
        };
        match request {
            Ok(None) => {}
            Ok(Some(Request::Init)) => {
                Response::Init { ready: true }.encode(&mut self.out);
                for line in self.manager.broken.iter().flat_map(|why| why.lines()) {
                    self.log(Severity::Error, None, line);
                }
            }
            Ok(Some(Request::Authenticate(login))) => self.authenticate(login),
            Ok(Some(Request::Authorize(call))) => self.authorize(call),
            Ok(Some(Request::Cancel { id })) => self.cancel(id),
            Ok(Some(Request::Finalize)) => self.finalized = true,
            // A kind of request that this version of ours does not know yet: nobody waits for it.
            Ok(Some(_)) => {}
            Err(bad) => {
                // A second request of an id that runs is not answered here: its answer would be taken for the
                // first one's.
                let runs = bad.waits.is_some_and(|(_, id)| self.by_id.contains_key(&id));
                if runs || !bad.refuse(&mut self.out) {
                    self.log(Severity::Warning, None, &format!("message ignored: {bad}"));
                }
            }
        }
    }

    fn authenticate(&mut self, login: Authenticate) {
        let id = login.id;
        if !self.may_begin(id) {
            return;
        }
        let Asked { driver, belief } =
            match self.room().map(|()| self.manager.driver(&login.driver)) {
                Ok(Some(asked)) => asked,
                Ok(None) => {
                    let why = format!("Authentication driver '{}' not available", login.driver);
                    return self.refuse(Verb::Authenticate, id, &why);
                }
                Err(why) => return self.refuse(Verb::Authenticate, id, &why),
            };
        let now = self.manager.world.unix_ms().0;
        let within = self.manager.limits.answer_within;
        let task = self.tasks.spawn(async move {
            let asked = Login::new(&login.user, login.stored.as_ref(), &login.secret, now);
            match tokio::time::timeout(within, driver.authenticate(asked)).await {
                Ok(attempt) => Done::Login(believed(attempt, &belief, &login.user)),
                Err(_) => Done::Late,
            }
        });
        self.began(Verb::Authenticate, id, task);
    }

    fn authorize(&mut self, call: Authorize) {
        let id = call.id;
        if !self.may_begin(id) {
            return;
        }
        if let Err(why) = self.room() {
            return self.refuse(Verb::Authorize, id, &why);
        }
        let Some(authorizer) = self.manager.authorizer.clone() else {
            let answer = if call.verdict { Ok(()) } else { Err("") };
            return Response::Authorize { id, answer }.encode(&mut self.out);
        };
        let within = self.manager.limits.answer_within;
        let task = self.tasks.spawn(async move {
            match tokio::time::timeout(within, authorizer.authorize(&call)).await {
                Ok(ruling) => Done::Call(ruling),
                Err(_) => Done::Late,
            }
        });
        self.began(Verb::Authorize, id, task);
    }

    /// oned counts its requests, so no two have one id.
    fn may_begin(&mut self, id: u64) -> bool {
        let runs = self.by_id.contains_key(&id);
        if runs {
            self.log(Severity::Warning, Some(id), "message ignored: a request with its id runs");
        }
        !runs
    }

    /// Whether another request can begin, or why not.
    fn room(&self) -> Result<(), String> {
        if let Some(why) = &self.manager.broken {
            return Err(why.clone());
        }
        match self.tasks.len() >= self.manager.limits.requests {
            true => Err(format!("{} requests are worked on already", self.tasks.len())),
            false => Ok(()),
        }
    }

    fn began(&mut self, verb: Verb, id: u64, task: AbortHandle) {
        self.by_id.insert(id, task.id());
        self.running.insert(task.id(), Running { verb, id, task });
    }

    /// Nobody waits for the request any more: it ends, its processes too.
    fn cancel(&mut self, id: u64) {
        let Some(task) = self.by_id.remove(&id) else { return };
        if let Some(running) = self.running.remove(&task) {
            running.task.abort();
        }
    }

    /// Answers what has ended.
    fn settle(&mut self, done: Result<(Id, Done), JoinError>) {
        let (task, done) = match done {
            Ok((task, done)) => (task, Ok(done)),
            Err(error) => (error.id(), Err(error)),
        };
        // Cancelled requests are in no table any more.
        let Some(Running { verb, id, .. }) = self.running.remove(&task) else { return };
        self.by_id.remove(&id);
        match done {
            Ok(Done::Login(attempt)) => self.answer_login(id, attempt),
            Ok(Done::Call(Ruling { verdict, lines })) => {
                self.lines(id, &lines, verdict.is_err());
                let answer = verdict.as_ref().map_err(String::as_str).copied();
                Response::Authorize { id, answer }.encode(&mut self.out);
            }
            Ok(Done::Late) => {
                let ms = self.manager.limits.answer_within.as_millis();
                self.fail(verb, id, &format!("no answer within {ms} ms"));
            }
            Err(error) => {
                // A flaw of ours. The login is refused like any other that could not be decided.
                let panicked = error.is_panic();
                let why = if panicked { "the login broke off" } else { "the login was ended" };
                self.fail(verb, id, why);
            }
        }
    }

    fn answer_login(&mut self, id: u64, Attempt { outcome, lines }: Attempt) {
        self.lines(id, &lines, !matches!(outcome, Outcome::Accepted(_)));
        let answer = match &outcome {
            Outcome::Accepted(reply) => Answer::Yes(reply.as_ref()),
            Outcome::Refused(why) => Answer::No(why),
            Outcome::Failed(failure) => {
                return self.fail(Verb::Authenticate, id, &failure.to_string());
            }
        };
        Response::Authenticate { id, answer }.encode(&mut self.out);
    }

    /// Refuses what could not be decided, and says so louder than of a wrong password.
    fn fail(&mut self, verb: Verb, id: u64, why: &str) {
        self.log(Severity::Error, Some(id), why);
        self.refuse(verb, id, why);
    }

    fn refuse(&mut self, verb: Verb, id: u64, why: &str) {
        match verb {
            Verb::Authenticate => Response::Authenticate { id, answer: Answer::No(why) },
            Verb::Authorize => Response::Authorize { id, answer: Err(why) },
        }
        .encode(&mut self.out);
    }

    /// What a driver wrote: lines with a severity always, the others when it said no.
    fn lines(&mut self, id: u64, lines: &[ErrorLine], all: bool) {
        for ErrorLine { severity, about, text } in lines {
            match severity {
                Some(severity) => self.log(*severity, *about, text),
                None if all => self.log(Severity::Info, Some(id), text),
                None => {}
            }
        }
    }

    fn log(&mut self, severity: Severity, about: Option<u64>, text: &str) {
        Response::Log { severity, about, text }.encode(&mut self.out);
    }

    fn wrote(&mut self, written: usize) {
        // Stored passwords are among it.
        self.out[..written].zeroize();
        self.out.drain(..written);
    }

    /// Refuses what still runs.
    fn out_of_time(&mut self) {
        let running = std::mem::take(&mut self.running);
        self.by_id.clear();
        for Running { verb, id, task } in running.into_values() {
            task.abort();
            self.fail(verb, id, "ended with its manager");
        }
    }
}

/// The attempt, as far as its answer may say what it says.
fn believed(attempt: Attempt, belief: &Belief, user: &UserName) -> Attempt {
    let Outcome::Accepted(reply) = &attempt.outcome else { return attempt };
    match belief.identity(user, reply.as_ref()) {
        Ok(_) => attempt,
        Err(why) => {
            Attempt { outcome: Outcome::Failed(Failure::Broken(why)), lines: attempt.lines }
        }
    }
}

impl Drop for Table<'_> {
    fn drop(&mut self) {
        self.out.zeroize();
    }
}

#[cfg(test)]
mod tests;
