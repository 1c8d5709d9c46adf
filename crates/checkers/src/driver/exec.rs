//! An executable for each login.

use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use countersign::Secret;
use countersign_wire::one::{
    Authn, CannotCross, DriverAnswer, DriverErrors, DriverInput, Field, Profile, REPLY_LIMIT,
    Reply, ReplyError, STDERR_LIMIT,
};
use countersign_worker::{Ended, Job, Launcher, Running};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::net::unix::pipe::Sender;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};
use zeroize::{Zeroize as _, Zeroizing};

use super::DriverLimits;
use super::output::{OUTPUT_LIMIT, Output, TooMuch};
use super::places::{Places, milliseconds};
use crate::one::{Attempt, Driver, Failure, Login, Outcome};

/// For so long nobody looks at what a driver writes: most have ended by then and written a line, and waiting for
/// each of their pipes would cost more than the login.
const QUIET: Duration = Duration::from_millis(20);

/// A pipe's usual size. What fits is written before the driver is there.
const PIPE: usize = 64 * 1024;

/// An executable for each login.
#[derive(Debug)]
pub struct Exec {
    settings: ExecSettings,
    command: OsString,
    launcher: Arc<Launcher>,
    places: Places,
}

/// Which executable, and how it is asked.
#[derive(Debug, Clone)]
pub struct ExecSettings {
    /// The driver's executable: an absolute path.
    pub program: PathBuf,
    /// Whose drivers it is one of: what it is given, and how its error output is read.
    pub profile: Profile,
    /// How much of it there may be.
    pub limits: DriverLimits,
}

impl Exec {
    /// A driver whose processes the launcher starts. Several may share a launcher, if they are to be confined alike.
    pub fn new(settings: ExecSettings, launcher: Arc<Launcher>) -> Self {
        let command = settings.program.clone().into_os_string();
        let places = Places::new(&settings.limits);
        Self { settings, command, launcher, places }
    }

    /// Whether there is such an executable now.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub fn check(&self) -> Result<(), String> {
        super::check(&self.settings.program)
    }

    async fn run(&self, login: Login<'_>) -> Attempt {
        // To a directory an empty password means "as nobody", and succeeds.
        if login.secret.is_empty() {
            return Attempt::refused("the secret is empty");
        }
        let sent = Authn {
            user: login.user,
            stored: login.stored.map(Secret::expose),
            secret: login.secret.expose(),
        };
        let input = match sent.encode(self.settings.profile) {
            Ok(input) => input,
            // What was typed is the user's doing, and no reason to look after the driver.
            Err(
                why @ (CannotCross::NotUtf8(Field::Secret)
                | CannotCross::Character(Field::Secret, _)
                | CannotCross::Nul(Field::Secret)
                | CannotCross::TooLong(..)),
            ) => return Attempt::refused(format!("cannot ask it: {why}")),
            Err(why) => return failed(Failure::Broken(format!("cannot ask it: {why}"))),
        };
        self.ask(&input, login.secret.expose(), answer_to(login.secret), None).await
    }

    /// One run with everything that can be seen of it, for who writes a driver. What it is given need not be a
    /// login; `secret` is what an answer may not repeat as a group, and what is taken out of the lines for the log.
    pub async fn observe(&self, input: &DriverInput, secret: &Secret) -> Observed {
        let mut seen = Seen::default();
        let begun = Instant::now();
        let attempt = self.ask(input, secret.expose(), answer_to(secret), Some(&mut seen)).await;
        Observed { seen, took: begun.elapsed(), attempt }
    }

    /// Asks something else than a login: the document is all of the standard input, and the exit status is the
    /// answer. What it writes to standard output does not count.
    pub async fn decide(&self, document: Secret) -> Attempt {
        self.ask(&DriverInput::Document(document), &[], |_| Ok(None), None).await
    }

    /// `secret` is taken out of what it writes for the log; `read` reads what it wrote when it said yes; `seen` is
    /// for who wants to see it all.
    async fn ask(
        &self,
        input: &DriverInput,
        secret: &[u8],
        read: impl FnOnce(&[u8]) -> Result<Option<Reply>, ReplyError>,
        seen: Option<&mut Seen>,
    ) -> Attempt {
        let place = match self.places.enter().await {
            Ok(place) => place,
            Err(failure) => return failed(failure),
        };
        let deadline = Instant::now() + self.settings.limits.time;
        let mut process = match self.start(input, place).await {
            Ok(process) => process,
            Err(why) => return failed(Failure::Broken(why)),
        };
        let ended = timeout_at(deadline, process.ended()).await;
        let Process { output, errors, .. } = &process;
        if let Some(seen) = seen {
            seen.output = Zeroizing::new(output.kept().to_vec());
            seen.errors = Zeroizing::new(errors.kept().to_vec());
            seen.status = match &ended {
                Ok(Ok(Ended::Exited(status))) => Some(*status),
                _ => None,
            };
        }
        let said = DriverErrors::read(self.settings.profile, errors.kept(), secret);
        let outcome = match ended {
            Ok(Ok(Ended::Exited(0))) => match read(output.kept()) {
                Ok(reply) => Outcome::Accepted(reply),
                Err(why) => broken(format!("its answer is none: {why}")),
            },
            Ok(Ok(Ended::Exited(status))) => {
                Outcome::Refused(said.reason.unwrap_or_else(|| format!("exit status {status}")))
            }
            Ok(Ok(Ended::Signalled(signal))) => broken(format!("ended by signal {signal}")),
            Ok(Ok(Ended::NotStarted(why))) => {
                broken(format!("cannot execute {}: {why}", self.settings.program.display()))
            }
            Ok(Ok(Ended::Lost)) => broken("its launcher ended, and it with it".into()),
            Ok(Err(TooMuch)) => {
                broken(format!("it wrote more than {OUTPUT_LIMIT} bytes, and was ended"))
            }
            Err(_) => Outcome::Failed(Failure::Late(milliseconds(self.settings.limits.time))),
        };
        let lines = match outcome {
            Outcome::Accepted(_) => {
                said.lines.into_iter().filter(|line| line.severity.is_some()).collect()
            }
            _ => said.lines,
        };
        Attempt { outcome, lines }
    }

    async fn start(
        &self,
        input: &DriverInput,
        place: OwnedSemaphorePermit,
    ) -> Result<Process, String> {
        let mut command = vec![self.command.clone()];
        let document = match input {
            DriverInput::Document(document) => document.expose(),
            DriverInput::Arguments(values) => {
                let words = values.iter().map(|value| OsString::from_vec(value.expose().to_vec()));
                command.extend(words);
                b""
            }
        };
        let pipes = "cannot make pipes";
        let made = |error: Errno| format!("{pipes}: {error}");
        let (their_input, our_input) = pipe_with(PipeFlags::CLOEXEC).map_err(made)?;
        let (our_output, their_output) = pipe_with(PipeFlags::CLOEXEC).map_err(made)?;
        let (our_errors, their_errors) = pipe_with(PipeFlags::CLOEXEC).map_err(made)?;
        let unread = |error: io::Error| format!("{pipes}: {error}");
        let output = Output::new(our_output, REPLY_LIMIT).map_err(unread)?;
        let errors = Output::new(our_errors, STDERR_LIMIT).map_err(unread)?;
        let input = Input::write(our_input, document).map_err(made)?;
        let stdio = [their_input.as_fd(), their_output.as_fd(), their_errors.as_fd()];
        let job = Job { command: &command, stdio, place: Some(place) };
        let started = self.launcher.start(job).await;
        command.drain(1..).for_each(|word| word.into_vec().zeroize());
        let running = started.map_err(|error| error.to_string())?;
        Ok(Process { running, input, output, errors })
    }
}

/// What can be seen of one run.
#[derive(Debug)]
pub struct Observed {
    /// What it wrote, and how it ended.
    pub seen: Seen,
    /// How long it took, waiting for its place included.
    pub took: Duration,
    /// What it comes to.
    pub attempt: Attempt,
}

/// What a process wrote, and how it ended. It may have secrets in it.
#[derive(Debug, Default)]
pub struct Seen {
    /// The beginning of its standard output: a little more than an answer may have.
    pub output: Zeroizing<Vec<u8>>,
    /// The beginning of its error output.
    pub errors: Zeroizing<Vec<u8>>,
    /// Its exit status, if it ended by itself.
    pub status: Option<i32>,
}

/// Reads the answer to a login with this secret.
fn answer_to(secret: &Secret) -> impl FnOnce(&[u8]) -> Result<Option<Reply>, ReplyError> {
    move |written: &[u8]| DriverAnswer::parse(written, secret.expose()).map(|answer| answer.reply)
}

impl Driver for Exec {
    fn authenticate<'a>(
        &'a self,
        login: Login<'a>,
    ) -> Pin<Box<dyn Future<Output = Attempt> + Send + 'a>> {
        Box::pin(self.run(login))
    }

    fn describe(&self) -> String {
        format!("runs {}", self.settings.program.display())
    }
}

fn failed(failure: Failure) -> Attempt {
    Attempt::of(Outcome::Failed(failure))
}

fn broken(why: String) -> Outcome {
    Outcome::Failed(Failure::Broken(why))
}

/// A driver at work on one login. Dropped, it is killed.
struct Process {
    running: Running,
    input: Option<Input>,
    output: Output,
    errors: Output,
}

impl Process {
    /// Until it has ended, and all that it wrote was read.
    async fn ended(&mut self) -> Result<Ended, TooMuch> {
        let ended = match timeout(QUIET, self.running.ended()).await {
            Ok(ended) => ended,
            Err(_) => {
                let Self { running, input, output, errors } = self;
                // It may end in the middle of any of them.
                let talk = async {
                    let feed = async {
                        if let Some(input) = input {
                            input.feed().await;
                        }
                        Ok(())
                    };
                    tokio::try_join!(feed, output.drain(), errors.drain())
                };
                tokio::pin!(talk);
                tokio::select! {
                    ended = running.ended() => ended,
                    talked = &mut talk => {
                        talked?;
                        // Its outputs are closed, and it still runs.
                        running.ended().await
                    }
                }
            }
        };
        self.output.finish()?;
        self.errors.finish()?;
        Ok(ended)
    }
}

/// What did not fit into the pipe at once.
#[derive(Debug)]
struct Input {
    pipe: Option<OwnedFd>,
    left: Secret,
}

impl Input {
    /// Writes what fits now, and closes the pipe if that is all.
    fn write(pipe: OwnedFd, document: &[u8]) -> Result<Option<Self>, Errno> {
        if document.len() > PIPE {
            // The kernel may have its reasons not to; then the rest is written later.
            let _ = rustix::pipe::fcntl_setpipe_size(&pipe, document.len());
        }
        rustix::io::ioctl_fionbio(&pipe, true)?;
        let mut left = document;
        while !left.is_empty() {
            match rustix::io::write(&pipe, left) {
                Ok(written) => left = &left[written..],
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => {
                    return Ok(Some(Self { pipe: Some(pipe), left: left.into() }));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Writes the rest. A driver that does not read it may still answer.
    async fn feed(&mut self) {
        let Some(pipe) = self.pipe.take() else { return };
        let Ok(sender) = Sender::from_owned_fd(pipe) else { return };
        let mut left = self.left.expose();
        while !left.is_empty() {
            if sender.writable().await.is_err() {
                return;
            }
            match sender.try_write(left) {
                Ok(written) => left = &left[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}
