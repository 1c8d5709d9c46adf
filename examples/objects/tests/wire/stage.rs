//! A server with a realm that counts, and clients of it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::twoparty::VatNetwork;
use capnp_rpc::{RpcSystem, new_client};
use countersign::testing::StillWorld;
use countersign::{
    Denial, Fault, Identity, KindSet, Logout, Password, PasswordStore, Peer, Portal, Realm, Reason,
    Secret, Session, Transport, Verdict, Verified,
};
use countersign_example_objects::objects_capnp::{
    Refusal, answer, conversation, login, mind, session, step,
};
use countersign_example_objects::{Desk, Limits, Mind, Objects, Server, Trouble, Work, serve};
use tokio::io::DuplexStream;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use crate::plug::Plug;

/// What happened.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) checks: AtomicUsize,
    pub(crate) logins: AtomicUsize,
    /// Counted at the end of what a logout does.
    pub(crate) logouts: AtomicUsize,
    /// Whether somebody else had to finish a logout.
    pub(crate) handed_on: AtomicBool,
    /// What waits waits for this.
    pub(crate) go: Notify,
    /// Told when something waits.
    pub(crate) waits: Notify,
    /// Who is in, to be told something.
    pub(crate) minds: Mutex<Vec<Mind>>,
}

/// The checker: everybody's password is `countess`.
struct Known(Arc<Log>);

/// The realm. What it does goes by name.
pub(crate) struct Counting(pub(crate) Arc<Log>);

struct Place(Arc<Log>);

impl PasswordStore for Known {
    async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
        self.0.checks.fetch_add(1, Ordering::SeqCst);
        match login {
            "eve" => return Ok(Verdict::UNKNOWN),
            "broken" => return Err(Fault::unavailable("the database is away")),
            "slow" => {
                self.0.waits.notify_one();
                self.0.go.notified().await;
            }
            _ => {}
        }
        Ok(match *password == Secret::from("countess") {
            true => Verdict::Is(Verified::vouch(Identity::named(login).in_group("staff", false))),
            false => Verdict::WRONG,
        })
    }
}

impl Realm<Objects> for Counting {
    async fn admit(
        &self,
        who: &Verified<Identity>,
        mind: Mind,
    ) -> Result<Session<Objects>, Denial> {
        match who.subject.name() {
            Some("full") => return Err(Denial::new(Reason::Realm).because("over quota")),
            Some("panic") => panic!("in the realm"),
            Some("late") => {
                self.0.waits.notify_one();
                self.0.go.notified().await;
            }
            _ => {}
        }
        self.0.minds.lock().unwrap().push(mind);
        self.0.logins.fetch_add(1, Ordering::SeqCst);
        let (done, handed) = (Arc::clone(&self.0), Arc::clone(&self.0));
        let logout = Logout::lasting(
            move || async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                done.logouts.fetch_add(1, Ordering::SeqCst);
            },
            move |rest| {
                handed.handed_on.store(true, Ordering::SeqCst);
                tokio::spawn(rest);
            },
        );
        Ok(Session::<Objects>::new(Box::new(Place(Arc::clone(&self.0)))).at_logout(logout))
    }
}

impl Desk for Place {
    fn list(&self) -> Work<'_, Vec<String>> {
        Box::pin(async { Ok(vec!["one".into(), "two".into()]) })
    }

    fn read(&self, name: String) -> Work<'_, String> {
        Box::pin(async move {
            match &*name {
                "panic" => panic!("in the avatar"),
                "slow" => {
                    self.0.waits.notify_one();
                    self.0.go.notified().await;
                }
                "nothing" => return Err(Trouble::NoNote),
                _ => {}
            }
            Ok(format!("the text of {name}"))
        })
    }

    fn put(&self, _: String, _: String) -> Work<'_> {
        Box::pin(async { Ok(()) })
    }

    fn take(&self, _: String) -> Work<'_, String> {
        Box::pin(async { Err(Trouble::NoNote) })
    }

    fn leave(&self, _: String, _: String, _: String) -> Work<'_> {
        Box::pin(async { Err(Trouble::Nobody) })
    }
}

/// A server, and what it is told.
pub(crate) struct Stage<R = Counting> {
    pub(crate) log: Arc<Log>,
    pub(crate) server: Arc<Server<R>>,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) world: Arc<StillWorld>,
}

/// The limits of tests: those of the program.
pub(crate) const LIMITS: Limits = Limits::USUAL;

impl Stage {
    /// Plays a test, on a thread as connections have it.
    pub(crate) async fn play(test: impl AsyncFnOnce(Self)) {
        LocalSet::new().run_until(test(Self::with(LIMITS, |portal| portal))).await;
    }

    pub(crate) fn with(
        limits: Limits,
        more: impl FnOnce(Portal<Counting>) -> Portal<Counting>,
    ) -> Self {
        let log = Arc::new(Log::default());
        let portal = Portal::new(Counting(Arc::clone(&log)));
        let portal = portal.checked_by(Password::new("known", Known(Arc::clone(&log))));
        let stage = Stage::over(more(portal), limits);
        Stage { log, ..stage }
    }

    /// As many logouts as logins, none finished by somebody else.
    pub(crate) fn ended(&self) -> (usize, usize) {
        assert!(!self.log.handed_on.load(Ordering::SeqCst), "a logout was not waited for");
        let count = |of: &AtomicUsize| of.load(Ordering::SeqCst);
        (count(&self.log.logins), count(&self.log.logouts))
    }
}

impl<R: Realm<Objects> + 'static> Stage<R> {
    pub(crate) fn over(portal: Portal<R>, limits: Limits) -> Self {
        let (stop, stopped) = watch::channel(false);
        let world = Arc::new(StillWorld::default());
        let server = Server { portal, world: world.clone(), tls: None, limits, stop: stopped };
        Stage { log: Arc::default(), server: Arc::new(server), stop, world }
    }

    /// A client on this machine.
    pub(crate) fn client(&self) -> Client {
        self.client_by(Transport::Local)
    }

    pub(crate) fn client_by(&self, transport: Transport) -> Client {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let mut peer = Peer::new("objects", KindSet::all());
        peer.transport = transport;
        let served = spawn_local(serve(Arc::clone(&self.server), ours, peer));
        Client::of(theirs, served)
    }
}

/// A client, and its connection.
pub(crate) struct Client {
    pub(crate) login: login::Client,
    pub(crate) heard: Rc<Heard>,
    /// Ends when the server has ended the connection.
    pub(crate) served: JoinHandle<()>,
    plug: Plug<DuplexStream>,
}

/// The client's object, and what it has heard.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) all: RefCell<Vec<String>>,
    pub(crate) more: Notify,
}

struct Ears(Rc<Heard>);

/// What a step came to.
pub(crate) enum Got {
    /// The number of the round and the names in it.
    Asked(u16, Vec<String>, conversation::Client),
    In(session::Client, Vec<u8>),
    Refused(Refusal),
}

impl Client {
    fn of(stream: DuplexStream, served: JoinHandle<()>) -> Self {
        let plug = Plug::of(stream);
        let network = VatNetwork::new(plug.twin(), plug.twin(), Side::Client, Default::default());
        let mut system = RpcSystem::new(Box::new(network), None);
        let login = system.bootstrap(Side::Server);
        spawn_local(system);
        Self { login, heard: Rc::default(), served, plug }
    }

    pub(crate) fn ears(&self) -> mind::Client {
        new_client(Ears(Rc::clone(&self.heard)))
    }

    pub(crate) async fn begin(&self, mechanism: &str) -> Result<Got, capnp::Error> {
        let mut call = self.login.begin_request();
        call.get().set_mechanism(mechanism);
        call.get().set_mind(self.ears());
        got(call.send().promise.await?.get()?.get_step()?)
    }

    pub(crate) async fn password(&self, name: &str, password: &str) -> Result<Got, capnp::Error> {
        let Got::Asked(number, names, conversation) = self.begin("password").await? else {
            panic!("nothing was asked")
        };
        assert_eq!(names, ["username", "password"]);
        let answers = [("username", name), ("password", password)];
        give(&conversation, number, &answers).await
    }

    /// Logs in, as somebody whom nothing keeps out.
    pub(crate) async fn enter(&self, name: &str) -> session::Client {
        match self.password(name, "countess").await {
            Ok(Got::In(session, _)) => session,
            Ok(Got::Refused(why)) => panic!("refused: {why:?}"),
            Ok(Got::Asked(_, names, _)) => panic!("asked: {names:?}"),
            Err(error) => panic!("{error}"),
        }
    }

    /// Leaves without a word, and waits until the server has noticed.
    pub(crate) async fn vanish(self) {
        // Whatever of the library still holds the connection.
        drop(self.plug.0.take());
        self.served.await.unwrap();
    }

    /// Waits until the client's object has heard something that begins so.
    pub(crate) async fn hears(&self, begin: &str) -> String {
        loop {
            let more = self.heard.more.notified();
            let found =
                self.heard.all.borrow().iter().find(|said| said.starts_with(begin)).cloned();
            match found {
                Some(found) => return found,
                None => more.await,
            }
        }
    }
}

/// Answers a round with values.
pub(crate) async fn give(
    conversation: &conversation::Client,
    number: u16,
    values: &[(&str, &str)],
) -> Result<Got, capnp::Error> {
    let mut call = conversation.answer_request();
    call.get().set_round(number);
    let mut answers = call.get().init_answers(values.len() as u32);
    for (at, (name, value)) in (0..).zip(values) {
        let mut answer: answer::Builder<'_> = answers.reborrow().get(at);
        answer.set_question(*name);
        match *value {
            "<yes>" => answer.set_confirmed(true),
            "<second>" => answer.set_choice(1),
            "<declined>" => answer.set_declined(()),
            value => answer.set_value(value.as_bytes()),
        }
    }
    got(call.send().promise.await?.get()?.get_step()?)
}

fn got(step: step::Reader<'_>) -> Result<Got, capnp::Error> {
    Ok(match step.which()? {
        step::Ask(ask) => {
            let round = ask.get_round()?;
            let questions = round.get_questions()?;
            let names = questions.iter().map(|q| q.get_name()?.to_string().map_err(Into::into));
            let names = names.collect::<Result<_, capnp::Error>>()?;
            Got::Asked(round.get_number(), names, ask.get_conversation()?)
        }
        step::Granted(granted) => Got::In(granted.get_session()?, granted.get_told()?.to_vec()),
        step::Refused(why) => Got::Refused(why?),
    })
}

/// What a desk's `list` says, or why not.
pub(crate) async fn list(session: &session::Client) -> Result<Vec<String>, String> {
    let say = |error: capnp::Error| error.extra;
    // The desk is asked before it is known: calls on what a call will give go out at once.
    let desk = session.desk_request().send().pipeline.get_desk();
    let reply = desk.list_request().send().promise.await.map_err(say)?;
    let names = reply.get().and_then(|reply| reply.get_names()).map_err(say)?;
    Ok(names.iter().map(|name| name.unwrap().to_string().unwrap()).collect())
}

impl mind::Server for Ears {
    async fn about(
        self: Rc<Self>,
        _: mind::AboutParams,
        mut results: mind::AboutResults,
    ) -> Result<(), capnp::Error> {
        results.get().set_client("a test");
        results.get().set_language("de");
        Ok(())
    }

    async fn notice(
        self: Rc<Self>,
        params: mind::NoticeParams,
        _: mind::NoticeResults,
    ) -> Result<(), capnp::Error> {
        self.0.hear(format!("notice: {}", params.get()?.get_text()?.to_str()?));
        Ok(())
    }

    async fn expiring(
        self: Rc<Self>,
        params: mind::ExpiringParams,
        _: mind::ExpiringResults,
    ) -> Result<(), capnp::Error> {
        self.0.hear(format!("expiring: {}", params.get()?.get_seconds()));
        Ok(())
    }

    async fn revoked(
        self: Rc<Self>,
        params: mind::RevokedParams,
        _: mind::RevokedResults,
    ) -> Result<(), capnp::Error> {
        self.0.hear(format!("revoked: {}", params.get()?.get_reason()?.to_str()?));
        Ok(())
    }
}

impl Heard {
    fn hear(&self, what: String) {
        self.all.borrow_mut().push(what);
        self.more.notify_waiters();
    }
}
