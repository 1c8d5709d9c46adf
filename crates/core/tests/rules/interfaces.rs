//! One realm with several interfaces, sum types of them, and minds of another shape.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use countersign::testing::{StillWorld, now_or_never};
use countersign::{
    Adapted, Answers, Application, Denial, Fault, Identity, Interface, Known, Loan, Logout, Minds,
    Password, PasswordStore, Portal, Realm, Request, Secret, Session, Told, Verdict, Verified,
};

/// How the realm tells its people something.
type Tell = Box<dyn FnMut(&str) -> bool + Send>;

/// The realm's own interface: mail, and somebody who hears of more.
struct Notified;
impl Interface for Notified {
    const NAME: &'static str = "notified mail";
    type Avatar = Mail;
    type Mind = (Tell, &'static str);
}

/// POP3 asks for mail, and has a queue of lines.
struct Pop3;
impl Interface for Pop3 {
    const NAME: &'static str = "pop3";
    type Avatar = Mail;
    type Mind = Arc<Mutex<Vec<String>>>;
}

/// Remote objects ask for the same mail, and have somebody at the other end.
struct Objects;
impl Interface for Objects {
    const NAME: &'static str = "objects";
    type Avatar = Mail;
    type Mind = std::sync::mpsc::Sender<String>;
}

/// Something else.
struct Shell;
impl Interface for Shell {
    const NAME: &'static str = "shell";
    type Avatar = Vec<String>;
    type Mind = ();
}

struct Mail {
    owner: String,
    /// Read from the mind at login.
    client: &'static str,
    _mind: Loan<Tell>,
}

#[derive(Default)]
struct Post {
    minds: Arc<Minds<Tell>>,
    logouts: Arc<AtomicUsize>,
}

impl Post {
    fn deliver(&self, to: &str, text: &str) -> usize {
        self.minds.tell(Some(to), |tell| if tell(text) { Told::Heard } else { Told::Gone })
    }
}

impl Realm<Notified> for Post {
    async fn admit(
        &self,
        who: &Verified<Identity>,
        (tell, client): (Tell, &'static str),
    ) -> Result<Session<Notified>, Denial> {
        let owner = who.subject.to_string();
        let Some(mind) = self.minds.lend(&owner, tell) else {
            return Err(Denial::new(countersign::Reason::Realm).because("too many clients"));
        };
        let logouts = Arc::clone(&self.logouts);
        Ok(Session::new(Box::new(Mail { owner, client, _mind: mind })).at_logout(Logout::new(
            move || {
                logouts.fetch_add(1, SeqCst);
            },
        )))
    }
}

impl Realm<Shell> for Post {
    async fn admit(&self, _: &Verified<Identity>, (): ()) -> Result<Session<Shell>, Denial> {
        let logouts = Arc::clone(&self.logouts);
        Ok(Session::new(Box::default()).at_logout(Logout::new(move || {
            logouts.fetch_add(1, SeqCst);
        })))
    }
}

struct Everybody;
impl PasswordStore for Everybody {
    async fn check(&self, login: &str, _: &Secret) -> Result<Verdict, Fault> {
        Ok(Verdict::Is(Verified::vouch(Identity::named(login))))
    }
}

fn login<I: Interface, R: Realm<I>>(portal: &Portal<R>, mind: I::Mind) -> Session<I> {
    let mut known = Known::new(Answers::new().with("username", "ada").with("password", "x"));
    let world = StillWorld::default();
    let login = portal.login::<I>(Request::to(I::NAME), &mut known, mind, &world);
    now_or_never(login).unwrap().unwrap()
}

/// The realm as POP3 and remote objects reach it.
fn application(post: &Arc<Post>) -> Application {
    let pop3 = |lines: Arc<Mutex<Vec<String>>>| -> (Tell, &'static str) {
        let tell = move |text: &str| {
            lines.lock().unwrap().push(format!("* {text}"));
            true
        };
        (Box::new(tell), "POP3")
    };
    let objects = |there: std::sync::mpsc::Sender<String>| -> (Tell, &'static str) {
        (Box::new(move |text: &str| there.send(text.to_owned()).is_ok()), "objects")
    };
    Application::new()
        .serving::<Pop3>(Adapted::<_, Notified, _>::new(Arc::clone(post), pop3))
        .and_then(|app| {
            app.serving::<Objects>(Adapted::<_, Notified, _>::new(Arc::clone(post), objects))
        })
        .unwrap()
}

#[test]
fn one_realm_notifies_two_protocols_through_two_minds() {
    let post = Arc::new(Post::default());
    let portal = Portal::new(application(&post)).checked_by(Password::new("everybody", Everybody));
    let (pop3, objects) = (portal.serving::<Pop3>().unwrap(), portal.serving::<Objects>().unwrap());

    let lines = Arc::new(Mutex::new(Vec::new()));
    let one = login::<Pop3, _>(&pop3, Arc::clone(&lines));
    let (there, hears) = std::sync::mpsc::channel();
    let two = login::<Objects, _>(&objects, there);
    assert_eq!((&*one.avatar().owner, one.avatar().client), ("ada", "POP3"));
    assert_eq!(two.avatar().client, "objects");

    assert_eq!(post.deliver("ada", "a letter"), 2);
    assert_eq!(*lines.lock().unwrap(), ["* a letter"]);
    assert_eq!(hears.recv().unwrap(), "a letter");

    // A mind that went away is dropped; its owner is still logged in.
    drop(hears);
    assert_eq!(post.deliver("ada", "another"), 1);
    assert_eq!((post.minds.len(), post.logouts.load(SeqCst)), (1, 0));
    drop(two);
    assert_eq!((post.minds.len(), post.logouts.load(SeqCst)), (1, 1));
    drop(one);
    assert_eq!((post.minds.len(), post.logouts.load(SeqCst)), (0, 2));
}

#[test]
fn a_missing_interface_is_an_error_of_the_start() {
    let post = Arc::new(Post::default());
    let portal = Portal::new(application(&post));
    let error = portal.serving::<Shell>().map(|_| ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the application has no interface `shell`; it has: pop3, objects"
    );
    let error = Portal::new(Application::new()).serving::<Shell>().map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "the application has no interface `shell`, nor any other");
    let twice = application(&post).serving::<Shell>(Arc::clone(&post)).unwrap();
    let error = twice.serving::<Shell>(post).unwrap_err();
    assert_eq!(error.to_string(), "the application has an interface `shell` already");
}

/// A protocol that takes either: a sum type is its interface, and the realm, or what wraps it, says which.
struct Either;
enum Side {
    Mail(Box<Mail>),
    Shell(Vec<String>),
}
impl Interface for Either {
    const NAME: &'static str = "either";
    type Avatar = Side;
    type Mind = bool;
}

struct Chooses(Arc<Post>);
impl Realm<Either> for Chooses {
    async fn admit(&self, who: &Verified<Identity>, mail: bool) -> Result<Session<Either>, Denial> {
        if mail {
            let mind: (Tell, _) = (Box::new(|_: &str| true), "either");
            let session = Realm::<Notified>::admit(&self.0, who, mind).await?;
            return Ok(session.map(|mail| Box::new(Side::Mail(mail))));
        }
        let session = Realm::<Shell>::admit(&self.0, who, ()).await?;
        Ok(session.map(|shell| Box::new(Side::Shell(*shell))))
    }
}

#[test]
fn a_protocol_takes_any_of_several_and_what_it_refuses_is_logged_out_once() {
    let post = Arc::new(Post::default());
    let portal =
        Portal::new(Chooses(Arc::clone(&post))).checked_by(Password::new("everybody", Everybody));
    let session = login::<Either, _>(&portal, true);
    assert!(matches!(session.avatar(), Side::Mail(mail) if mail.owner == "ada"));
    now_or_never(session.logout()).unwrap();
    assert_eq!(post.logouts.load(SeqCst), 1);

    // It has no use for a shell.
    let session = login::<Either, _>(&portal, false);
    assert!(matches!(session.avatar(), Side::Shell(lines) if lines.is_empty()));
    drop(session);
    assert_eq!(post.logouts.load(SeqCst), 2);
}

#[test]
fn a_map_that_panics_logs_out_once() {
    let post = Arc::new(Post::default());
    let portal = Portal::new(Arc::clone(&post)).checked_by(Password::new("everybody", Everybody));
    let session = login::<Shell, _>(&portal, ());
    let mapped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        session.map::<Shell>(|_| panic!("no use for it"))
    }));
    assert!(mapped.is_err());
    assert_eq!(post.logouts.load(SeqCst), 1);
}
