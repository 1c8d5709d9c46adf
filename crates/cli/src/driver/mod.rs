//! `countersign driver`: for who writes one.

mod new;
mod run;
mod test;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use countersign::{Answer, Question, Round, Secret, Text};
use countersign_checkers::driver::{
    Confinement, DriverLimits, Exec, ExecSettings, Launcher, Program,
};
use countersign_responders::terminal::Terminal;
use countersign_wire::one::{Profile, UserName, escape};
use zeroize::Zeroizing;

use crate::LAUNCHER;
use crate::args::driver::{DriverCommand, RunArgs};
use crate::failure::Failure;
use crate::user::first_line;

pub(crate) fn run(command: DriverCommand) -> Result<(), Failure> {
    match command {
        DriverCommand::Run(args) => run::run(&Trial::of(&args)?),
        DriverCommand::Test(args) => test::run(&Trial::of(&args)?),
        DriverCommand::New(args) => new::run(&args),
    }
}

/// A driver, and a login to try it with.
struct Trial {
    program: PathBuf,
    exec: Arc<Exec>,
    user: UserName,
    stored: Option<Secret>,
    secret: Secret,
    profile: Profile,
    timeout: Duration,
}

/// What is stored has at most so many bytes.
const LONGEST_STORED: u64 = 128 * 1024;

impl Trial {
    fn of(args: &RunArgs) -> Result<Self, Failure> {
        let program = std::path::absolute(&args.program)
            .map_err(|error| Failure::usage(format!("{}: {error}", args.program.display())))?;
        let timeout = Duration::from_secs(args.timeout.into());
        let limits = DriverLimits { time: timeout, ..DriverLimits::default() };
        let settings = ExecSettings { program: program.clone(), profile: args.profile, limits };
        let launcher = Launcher::new(Program::this([LAUNCHER]), Confinement::default());
        let exec = Arc::new(Exec::new(settings, Arc::new(launcher)));
        exec.check().map_err(Failure::usage)?;
        Ok(Self {
            program,
            exec,
            user: args.user.clone(),
            stored: args.stored.as_deref().map(stored).transpose()?,
            secret: match args.password_stdin {
                true => first_line()?,
                false => ask(&args.user)?,
            },
            profile: args.profile,
            timeout,
        })
    }

    /// A secret as it stands in a document.
    fn in_document(secret: &Secret) -> Zeroizing<String> {
        let text = secret.to_str().unwrap_or_default();
        // No character is written in more: growing would leave a copy behind, unwiped.
        let mut written = Vec::with_capacity(text.len() * 8);
        escape(text, &mut written);
        Zeroizing::new(String::from_utf8(written).unwrap_or_default())
    }
}

fn stored(path: &Path) -> Result<Secret, Failure> {
    let cannot = |error| Failure::usage(format!("cannot read {}: {error}", path.display()));
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST_STORED as usize));
    File::open(path)
        .map_err(cannot)?
        .take(LONGEST_STORED)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    Ok(Secret::from(bytes.split(|byte| *byte == b'\n').next().unwrap_or_default()))
}

fn ask(user: &UserName) -> Result<Secret, Failure> {
    let mut terminal = Terminal::open().map_err(|_| {
        Failure::usage("no terminal to ask for the password at: give --password-stdin")
    })?;
    let mut question = Question::password();
    question.prompt = Text::verbatim(format!("Password of {user}"));
    let name = question.name.clone();
    let mut answers = terminal.ask(&Round::of([question]))?;
    match answers.take(&name) {
        Some(Answer::Value(password)) if !password.is_empty() => Ok(password),
        _ => Err(Failure::usage("a driver is asked about no empty password")),
    }
}
