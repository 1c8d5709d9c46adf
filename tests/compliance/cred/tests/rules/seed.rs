//! The examples of the page on Cred, here: a sketch of POP3, a realm with a remote object, a deployment.

use std::sync::{Arc, Mutex};

use countersign::testing::StillWorld;
use countersign::{Denial, Identity, Interface, Logout, Portal, Realm, Request, Session, Verified};
use countersign_interop::runner::{Case, case};
use countersign_interop::{Context, Outcome, Stage, ensure};
use serde_json::{Value, json};

use crate::beside::{differs, same};
use crate::stage::{given, ready, users};

pub(crate) const CASES: &[Case] = &[
    case("seed_pop3", pop3),
    case("seed_pop3_out_of_order", pop3_out_of_order),
    case("seed_pop3_with_a_wrong_password", pop3_with_a_wrong_password),
    case("seed_remote_object", remote_object),
];

/// Interface specification for mailbox.
trait DeletesMessages: Send {
    fn delete_message(&mut self, index: usize);
}

struct Mailbox;

impl Interface for Mailbox {
    const NAME: &'static str = "mailbox";
    type Avatar = dyn DeletesMessages;
    type Mind = ();
}

/// The protocol: it knows the portal, and the interface that it asks for.
struct Pop3<'a, R> {
    portal: &'a Portal<R>,
    user_is: Option<String>,
    mailbox: Option<Session<Mailbox>>,
}

impl<'a, R: Realm<Mailbox>> Pop3<'a, R> {
    fn new(portal: &'a Portal<R>) -> Self {
        Self { portal, user_is: None, mailbox: None }
    }

    fn line(&mut self, line: &str) -> &'static str {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("USER", name) => {
                self.user_is = Some(name.to_owned());
                "+OK USER accepted, send PASS"
            }
            ("PASS", password) => self.pass(password),
            ("DELE", number) => match (&mut self.mailbox, number.parse::<usize>()) {
                (Some(mailbox), Ok(number @ 1..)) => {
                    mailbox.avatar_mut().delete_message(number - 1);
                    "+OK"
                }
                _ => "-ERR log in first",
            },
            ("QUIT", _) => "+OK bye",
            _ => "-ERR no such command",
        }
    }

    fn pass(&mut self, password: &str) -> &'static str {
        let Some(user) = self.user_is.take() else { return "-ERR USER required before PASS" };
        let (mut peer, world) = (given(&user, password), StillWorld::default());
        let login = self.portal.login::<Mailbox>(Request::to("pop3"), &mut peer, (), &world);
        match ready(login) {
            Ok(mailbox) => {
                self.mailbox = Some(mailbox);
                "+OK Authentication succeeded"
            }
            Err(_) => "-ERR Authentication failed",
        }
    }
}

#[derive(Default)]
struct Log {
    deleted: Vec<usize>,
    mailboxes: usize,
    logouts: usize,
}

/// The application.
#[derive(Clone, Default)]
struct MailRealm(Arc<Mutex<Log>>);

impl DeletesMessages for MailRealm {
    fn delete_message(&mut self, index: usize) {
        self.0.lock().expect("nobody panics").deleted.push(index);
    }
}

impl Realm<Mailbox> for MailRealm {
    async fn admit(&self, _: &Verified<Identity>, _: ()) -> Result<Session<Mailbox>, Denial> {
        self.0.lock().expect("nobody panics").mailboxes += 1;
        let log = Arc::clone(&self.0);
        let logout = Logout::new(move || log.lock().expect("nobody panics").logouts += 1);
        Ok(Session::new(Box::new(self.clone()) as Box<dyn DeletesMessages>).at_logout(logout))
    }
}

/// The deployment: a protocol, a realm, a checker. The connection is lost after the last line.
fn mail(lines: &[&str]) -> Value {
    let realm = MailRealm::default();
    let portal = Portal::new(realm.clone()).checked_by(users("memory", &[("guest", "password")]));
    let mut pop3 = Pop3::new(&portal);
    let heard: Vec<_> =
        lines.iter().map(|line| pop3.line(line).split(' ').next().unwrap_or_default()).collect();
    drop(pop3);
    let log = realm.0.lock().expect("nobody panics");
    json!({
        "heard": heard,
        "deleted": log.deleted,
        "mailboxes": log.mailboxes,
        "logouts": log.logouts,
    })
}

fn pop3(_: &Stage) -> Outcome {
    same("seed_pop3", &mail(&["USER guest", "PASS password", "DELE 2", "QUIT"]))
}

fn pop3_out_of_order(_: &Stage) -> Outcome {
    let lines = ["PASS password", "DELE 1", "USER guest", "PASS password", "PASS password", "QUIT"];
    same("seed_pop3_out_of_order", &mail(&lines))
}

fn pop3_with_a_wrong_password(_: &Stage) -> Outcome {
    let result = |heard: &str| json!({ "heard": ["+OK", heard], "deleted": [], "mailboxes": 0, "logouts": 0 });
    let ours = mail(&["USER guest", "PASS wrong"]);
    let scenario = "seed_pop3_with_a_wrong_password";
    differs(scenario, &result("nothing at all"), &result("-ERR"), &ours)
}

/// What a remote client calls, and what it lends: whoever wants to hear what is said.
trait Perspective: Send {
    fn echo(&mut self, text: &str) -> String;
}

struct Perspectives;

impl Interface for Perspectives {
    const NAME: &'static str = "perspective";
    type Avatar = dyn Perspective;
    type Mind = ();
}

type Said = Arc<Mutex<Vec<String>>>;

struct SimplePerspective(Said);

impl Perspective for SimplePerspective {
    fn echo(&mut self, text: &str) -> String {
        self.0.lock().expect("nobody panics").push(format!("echoing {text}"));
        text.to_owned()
    }
}

struct SimpleRealm(Said);

impl Realm<Perspectives> for SimpleRealm {
    async fn admit(&self, _: &Verified<Identity>, _: ()) -> Result<Session<Perspectives>, Denial> {
        let (said, logout) = (Arc::clone(&self.0), Arc::clone(&self.0));
        let avatar: Box<dyn Perspective> = Box::new(SimplePerspective(said));
        Ok(Session::new(avatar).at_logout(Logout::new(move || {
            logout.lock().expect("nobody panics").push("logged out".to_owned());
        })))
    }
}

fn remote_object(_: &Stage) -> Outcome {
    let said = Said::default();
    let portal = Portal::new(SimpleRealm(Arc::clone(&said)))
        .checked_by(users("memory", &[("guest", "password")]));
    let world = StillWorld::default();
    let login = |word| {
        let mut peer = given("guest", word);
        ready(portal.login::<Perspectives>(Request::to("objects"), &mut peer, (), &world))
    };
    let mut session = login("password").during("the login")?;
    let echoed = session.avatar_mut().echo("hello");
    ready(session.logout());
    let wrong = login("wrong");
    ensure!(wrong.is_err(), "a wrong password was let in");
    let said = said.lock().during("what was said")?.clone();
    same("seed_remote_object", &json!({ "echoed": echoed, "said": said, "wrong": "refused" }))
}
