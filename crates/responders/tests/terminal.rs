//! The terminal responder at a pseudo-terminal.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use countersign::{
    Answer, Answers, Cancelled, Challenge, CredentialKind, Feedback, Group, Level, Notice,
    Question, Responder, Round, Text,
};
use countersign_responders::terminal::Terminal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, tcgetattr};

const DEADLINE: Duration = Duration::from_secs(20);

/// A person: sees what the terminal shows, types into it.
struct Person {
    master: File,
    /// Open for as long as the person sits there, so that its modes can be looked at.
    slave: File,
    before: Termios,
    seen: String,
    asked: Option<JoinHandle<Result<Answers, Cancelled>>>,
}

impl Person {
    fn asked(round: Round) -> Self {
        Self::asked_with(round, Duration::from_secs(60))
    }

    fn asked_with(round: Round, patience: Duration) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true);
            std::os::unix::fs::OpenOptionsExt::custom_flags(
                &mut options,
                i32::try_from(rustix::fs::OFlags::NOCTTY.bits()).unwrap(),
            );
            options.open(&name).unwrap()
        };
        let (slave, theirs) = (open(), open());
        let before = tcgetattr(&slave).unwrap();
        let asked =
            thread::spawn(move || Terminal::on(theirs).unwrap().patience(patience).ask(&round));
        Self { master: master.into(), slave, before, seen: String::new(), asked: Some(asked) }
    }

    /// Waits until this is on the screen, after what was waited for before.
    fn sees(&mut self, what: &str) -> &mut Self {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(at) = self.seen.find(what) {
                self.seen.drain(..at + what.len());
                return self;
            }
            assert!(self.read(deadline), "no {what:?} in {:?}", self.seen);
        }
    }

    fn read(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
        let left = Timespec::try_from(left).unwrap();
        if poll(&mut fds, Some(&left)).unwrap() == 0 {
            return false;
        }
        let mut buffer = [0; 4096];
        let count = self.master.read(&mut buffer).unwrap_or(0);
        self.seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        count > 0
    }

    fn types(&mut self, keys: &str) -> &mut Self {
        self.master.write_all(keys.as_bytes()).unwrap();
        self
    }

    fn modes(&self) -> Termios {
        tcgetattr(&self.slave).unwrap()
    }

    /// The answers, and everything shown since the last look.
    fn done(&mut self) -> (Result<Answers, Cancelled>, String) {
        let answers = self.asked.take().unwrap().join().unwrap();
        while self.read(Instant::now()) {}
        (answers, std::mem::take(&mut self.seen))
    }
}

fn echoes(modes: &Termios) -> bool {
    modes.local_modes.contains(LocalModes::ECHO | LocalModes::ISIG | LocalModes::ICANON)
}

fn choice(default: Option<&'static str>) -> Question {
    let prompt = Text::verbatim("Second factor");
    let mut question = Question::new("factor", CredentialKind::Choice, prompt);
    question.options = vec![Text::verbatim("Code"), Text::verbatim("Key")];
    question.default = default.map(Into::into);
    question
}

#[test]
fn a_form_is_shown_and_a_secret_is_not() {
    let mut round = Round::of([
        Question::username().with_default("ada"),
        Question::password(),
        Question::authzid(),
    ])
    .notice(Level::Warning, Text::verbatim("down at \u{1b}[31mnoon"));
    round.title = Some(Text::verbatim("Mail"));
    round.instruction = Some(Text::verbatim("Sign in."));
    round.feedback = Some(Feedback {
        question: None,
        text: Text::verbatim("The password was wrong"),
        tries_left: Some(1),
    });
    let mut person = Person::asked(round);
    person.sees("Mail\r\nSign in.\r\nWarning: down at \u{fffd}[31mnoon\r\n");
    person.sees("The password was wrong (1 try left)\r\n");
    person.sees("User name [ada]: ").types("\r");
    person.sees("Password: ");
    assert!(!person.modes().local_modes.contains(LocalModes::ECHO));
    person.types("hunter3\u{7f}2\r").sees("Act as (optional): ").types("\r");
    let (answers, shown) = person.done();
    let answers = answers.unwrap();
    assert_eq!(answers.text("username"), Some("ada"));
    assert_eq!(answers.text("password"), Some("hunter2"));
    assert_eq!(answers.find("authzid"), None);
    assert!(!shown.contains("hunter"), "{shown:?}");
    assert!(echoes(&person.modes()));
}

#[test]
fn interrupting_a_secret_cancels_and_restores_the_terminal() {
    for keys in ["secr\u{3}", "\u{1c}", "\u{4}"] {
        let mut person = Person::asked(Round::of([Question::password()]));
        person.sees("Password: ").types(keys);
        let (answers, shown) = person.done();
        let why = answers.unwrap_err().to_string();
        assert!(why.contains("interrupted") || why.contains("input ended"), "{why}");
        assert!(!shown.contains("secr"), "{shown:?}");
        let after = person.modes();
        assert!(echoes(&after));
        assert_eq!(after.local_modes, person.before.local_modes);
        assert_eq!(after.input_modes, person.before.input_modes);
    }
}

#[test]
fn nobody_answers() {
    let mut person = Person::asked_with(Round::of([Question::otp()]), Duration::from_millis(30));
    let why = person.done().0.unwrap_err();
    assert!(why.to_string().contains("in time"), "{why}");
    assert!(echoes(&person.modes()));
}

#[test]
fn a_new_password_is_typed_twice() {
    let mut person = Person::asked(Round::of([Question::new_password()]));
    person.sees("New password: ").types("correct\r");
    person.sees("New password again: ").types("corect\r").sees("The two differ");
    person.sees("New password: ").types("correct\r");
    person.sees("New password again: ").types("correct\r");
    let (answers, shown) = person.done();
    assert_eq!(answers.unwrap().text("new-password"), Some("correct"));
    assert!(!shown.contains("cor"));
}

#[test]
fn trust_takes_the_whole_word() {
    for (typed, trusted) in [("yes\r", true), ("y\r", false), ("YES\r", false), ("\r", false)] {
        let prompt = Text::verbatim("Unknown host key");
        let mut question = Question::new("host-key", CredentialKind::Trust, prompt);
        question.challenge = Some(Challenge::Text("SHA256:abc".into()));
        question.default = Some("yes".into());
        let mut person = Person::asked(Round::of([question]));
        person.sees("SHA256:abc").sees("yes in full").types(typed);
        let answers = person.done().0.unwrap();
        assert_eq!(answers.find("host-key"), Some(&Answer::Confirmed(trusted)), "{typed:?}");
    }
}

#[test]
fn confirm_asks_until_it_is_an_answer() {
    let question = Question::new("go", CredentialKind::Confirm, Text::verbatim("Go on"));
    let mut person = Person::asked(Round::of([question.clone()]));
    person.sees("Go on [y/n]: ").types("\r").sees("y or n").sees("[y/n]: ").types("Yes\r");
    assert_eq!(person.done().0.unwrap().find("go"), Some(&Answer::Confirmed(true)));

    let mut person = Person::asked(Round::of([question.with_default("true")]));
    person.sees("Go on [y/N]: ").types("\r");
    assert_eq!(person.done().0.unwrap().find("go"), Some(&Answer::Confirmed(false)));
}

#[test]
fn options_are_numbered() {
    let mut person = Person::asked(Round::of([choice(None)]));
    person.sees("Second factor\r\n  1) Code\r\n  2) Key\r\n").sees("1 to 2: ").types("3\r");
    person.sees("a number from 1 to 2").sees("1 to 2: ").types("2\r");
    assert_eq!(person.done().0.unwrap().find("factor"), Some(&Answer::Choice(1)));

    let mut person = Person::asked(Round::of([choice(Some("1"))]));
    person.sees("1 to 2 [2]: ").types("\r");
    assert_eq!(person.done().0.unwrap().find("factor"), Some(&Answer::Choice(1)));

    let mut person = Person::asked(Round::of([choice(None).optional()]));
    person.sees("3) none of these").sees("1 to 3 [3]: ").types("\r");
    assert_eq!(person.done().0.unwrap().find("factor"), None);
}

#[test]
fn one_alternative_is_answered_and_the_round_takes_it() {
    let group = |id: &'static str, title: &'static str| Group {
        id: id.into(),
        title: Text::verbatim(title),
        mechanism: id.into(),
    };
    let mut round = Round::of([
        Question::username(),
        Question::password().in_group("password"),
        Question::otp().in_group("otp"),
        Question::token(None).in_group("passkey"),
    ]);
    round.groups =
        vec![group("password", "Password"), group("otp", "Code"), group("passkey", "Key")];
    let mut person = Person::asked(round.clone());
    // What no person can answer is not among the choices.
    person.sees("1) Password\r\n  2) Code\r\n1 to 2 [1]: ").types("2\r");
    person.sees("User name: ").types("ada\r");
    person.sees("One-time code: ").types("123 456\r").sees("does not fit");
    person.sees("One-time code: ").types("123456\r");
    let answers = round.accept(person.done().0.unwrap()).unwrap();
    assert_eq!(round.chosen(&answers).unwrap().id, "otp");
    assert!(answers.find("password").is_none());
}

#[test]
fn typing_ahead_is_kept_and_what_does_not_fit_is_given_up() {
    let mut person = Person::asked(Round::of([Question::username(), Question::password()]));
    person.types("ada\rhunter2\r").sees("Password: ");
    let answers = person.done().0.unwrap();
    assert_eq!(
        (answers.text("username"), answers.text("password")),
        (Some("ada"), Some("hunter2"))
    );

    let mut person = Person::asked(Round::of([Question::otp()]));
    person.types("-\r-\r-\r");
    assert!(person.done().0.unwrap_err().to_string().contains("`otp` after 3 tries"));
}

#[test]
fn a_line_longer_than_the_terminal_takes_is_refused_and_never_cut() {
    let mut person = Person::asked(Round::of([Question::password()]));
    person.sees("Password: ");
    person.types(&"x".repeat(5000)).types("\r").sees("longer than a terminal takes");
    person.sees("Password: ").types("short\r");
    assert_eq!(person.done().0.unwrap().text("password"), Some("short"));
}

#[test]
fn a_file_is_no_terminal() {
    let error = Terminal::on(tempfile::tempfile().unwrap()).unwrap_err();
    assert!(error.to_string().contains("--answers"));
}

#[test]
fn every_kind_that_it_supports_is_one_that_it_asks() {
    let terminal = Person::asked(Round::default()).done().0.unwrap();
    assert!(terminal.is_empty());
    let kinds = Terminal::kinds();
    assert!(kinds.contains(&CredentialKind::Passphrase) && !kinds.contains(&CredentialKind::Token));
    let notice = Round {
        notices: vec![Notice { level: Level::Error, text: Text::verbatim("closed") }],
        ..Round::default()
    };
    let mut person = Person::asked(notice);
    person.sees("Error: closed");
    assert!(person.done().0.unwrap().is_empty());
}

/// The two ways in are one.
#[test]
fn it_is_a_responder() {
    fn supports(responder: &impl Responder) -> bool {
        responder.supports() == Terminal::kinds()
    }
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    assert!(supports(&Terminal::on(master.into()).unwrap()));
}
