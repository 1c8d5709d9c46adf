//! The application: everybody has a few commands, or runs the operator's program.

use std::sync::Arc;

use countersign::{
    Denial, Identity, Loan, Logout, MindLimits, Minds, Realm, Reason, Session, Verified,
};

use crate::commands;
use crate::permitted::Permitted;
use crate::program::Program;
use crate::shell::{Asked, Running, Seat, Shell, SshShell, Streams, Teller};

/// Everybody's shells.
#[derive(Debug)]
pub struct Shells {
    program: Option<Arc<Program>>,
    minds: Arc<Minds<Teller>>,
}

/// Whose shell it is, and what is known of them.
#[derive(Debug)]
pub struct User {
    /// Who.
    pub who: Identity,
    /// How it was proven: mechanisms, in order.
    pub proofs: Vec<String>,
    /// What they may do.
    pub permitted: Permitted,
    /// Everybody who is logged in, to be told something.
    pub minds: Arc<Minds<Teller>>,
}

impl Shells {
    /// Shells of our own commands, or of a program.
    pub fn new(program: Option<Program>) -> Self {
        let limits = MindLimits { each: 20, all: 10_000 };
        Self { program: program.map(Arc::new), minds: Arc::new(Minds::new(limits)) }
    }

    /// Says something on the terminals of everybody, or of one subject. Gives how many connections heard.
    pub fn say(&self, subject: Option<&str>, what: &str) -> usize {
        say(&self.minds, subject, what)
    }

    /// How many are logged in.
    pub fn sessions(&self) -> usize {
        self.minds.len()
    }
}

/// Says something on the terminals of everybody, or of one subject.
pub fn say(minds: &Minds<Teller>, subject: Option<&str>, what: &str) -> usize {
    let what: Arc<str> = what.into();
    minds.tell(subject, |teller| teller.tell(&what))
}

impl Realm<SshShell> for Shells {
    async fn admit(
        &self,
        who: &Verified<Identity>,
        mind: Teller,
    ) -> Result<Session<SshShell>, Denial> {
        let subject = who.subject.to_string();
        let full = || Denial::new(Reason::Realm).because("too many sessions at once");
        let loan = self.minds.lend(&subject, mind).ok_or_else(full)?;
        let user = User {
            who: Identity::clone(who),
            proofs: who.proofs().map(str::to_owned).collect(),
            permitted: Permitted::of(who),
            minds: Arc::clone(&self.minds),
        };
        tracing::info!("{subject} is logged in");
        let logout = Logout::new(move || tracing::info!("{subject} is logged out"));
        let program = self.program.clone();
        let avatar = UserShell { user: Arc::new(user), program, _loan: loan };
        Ok(Session::<SshShell>::new(Box::new(avatar)).at_logout(logout))
    }
}

struct UserShell {
    user: Arc<User>,
    program: Option<Arc<Program>>,
    _loan: Loan<Teller>,
}

impl Shell for UserShell {
    fn open(&mut self) -> Box<dyn Seat> {
        Box::new(UserSeat { user: Arc::clone(&self.user), program: self.program.clone() })
    }
}

struct UserSeat {
    user: Arc<User>,
    program: Option<Arc<Program>>,
}

impl Seat for UserSeat {
    fn permits_terminal(&self) -> bool {
        // A program runs on pipes: to give it a terminal is not for an example.
        self.user.permitted.terminal && self.program.is_none()
    }

    fn run(self: Box<Self>, asked: Asked, streams: Streams) -> Running {
        let Self { user, program } = *self;
        let original = asked.command.clone().filter(|_| user.permitted.command.is_some());
        let command = user.permitted.command.clone().or(asked.command);
        match program {
            Some(program) => {
                Box::pin(async move { program.run(&user, command, original, streams).await })
            }
            None => Box::pin(commands::run(user, command, asked.terminal, streams)),
        }
    }
}
