//! One realm behind two protocols whose clients lend minds of different types: the POP3 server of the mail example, and
//! this one. The realm has a mind of its own, and an adapter makes it of each.

mod plug;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::twoparty::VatNetwork;
use capnp_rpc::{RpcSystem, new_client_from_rc};
use countersign::testing::StillWorld;
use countersign::{
    Adapted, CredentialKind, Denial, Fault, Identity, Interface, KindSet, Loan, Minds, Password,
    PasswordStore, Peer, Portal, Realm, Secret, Session, Told, Transport, Verdict, Verified,
};
use countersign_example_mail::notice::{Notice, Teller};
use countersign_example_mail::pop3::{self, Letter, Maildrop};
use countersign_example_mail::{server as mail, wire::Wire};
use countersign_example_objects::objects_capnp::{login, mind, session, step};
use countersign_example_objects::{Desk, Limits, Mind, Server, Trouble, listen};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::{LocalSet, spawn_local};

use plug::Plug;

/// The realm's own mind. Neither protocol knows it.
trait Companion: Send + Sync {
    fn tell(&self, text: &str) -> Told;

    /// Which program it is that somebody uses.
    fn program(&self) -> Pin<Box<dyn Future<Output = String> + Send + '_>>;
}

/// Any of them.
struct AnyCompanion(Box<dyn Companion>);

/// POP3 has nothing by which a client would say what it is.
impl Companion for Teller {
    fn tell(&self, text: &str) -> Told {
        Teller::tell(self, &Notice::Say(text.into()))
    }

    fn program(&self) -> Pin<Box<dyn Future<Output = String> + Send + '_>> {
        Box::pin(async { "some mail program".into() })
    }
}

impl Companion for Mind {
    fn tell(&self, text: &str) -> Told {
        Mind::tell(self, text)
    }

    fn program(&self) -> Pin<Box<dyn Future<Output = String> + Send + '_>> {
        Box::pin(async { self.about().await.unwrap_or_default().client })
    }
}

/// What the realm has: the avatars of the protocols, and its own mind.
struct HouseMail;

impl Interface for HouseMail {
    const NAME: &'static str = "house-mail";
    type Avatar = dyn Maildrop;
    type Mind = AnyCompanion;
}

struct HouseDesk;

impl Interface for HouseDesk {
    const NAME: &'static str = "house-desk";
    type Avatar = dyn Desk;
    type Mind = AnyCompanion;
}

#[derive(Default)]
struct House {
    minds: Arc<Minds<AnyCompanion>>,
    visits: Mutex<Vec<String>>,
}

impl House {
    async fn receive(&self, who: &Identity, mind: AnyCompanion) -> Loan<AnyCompanion> {
        let program = mind.0.program().await;
        self.visits.lock().unwrap().push(format!("{} with {program}", who.subject));
        self.minds.lend(&who.subject.to_string(), mind).unwrap()
    }

    fn say(&self, name: &str, text: &str) -> usize {
        self.minds.tell(Some(name), |mind| mind.0.tell(text))
    }
}

impl Realm<HouseMail> for House {
    async fn admit(
        &self,
        who: &Verified<Identity>,
        mind: AnyCompanion,
    ) -> Result<Session<HouseMail>, Denial> {
        Ok(Session::<HouseMail>::new(Box::new(Empty(self.receive(who, mind).await))))
    }
}

impl Realm<HouseDesk> for House {
    async fn admit(
        &self,
        who: &Verified<Identity>,
        mind: AnyCompanion,
    ) -> Result<Session<HouseDesk>, Denial> {
        Ok(Session::<HouseDesk>::new(Box::new(Empty(self.receive(who, mind).await))))
    }
}

/// An avatar of both kinds that has nothing but its loan.
struct Empty(#[expect(dead_code, reason = "given back when the avatar goes")] Loan<AnyCompanion>);

impl Maildrop for Empty {
    fn take(&mut self) -> pop3::Work<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn list(&mut self) -> pop3::Work<'_, Vec<Letter>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn read(&self, _: usize) -> pop3::Work<'_, Vec<u8>> {
        Box::pin(async { Err(std::io::ErrorKind::NotFound.into()) })
    }

    fn remove(&mut self, _: Vec<usize>) -> pop3::Work<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

type Work<'a, T = ()> = countersign_example_objects::Work<'a, T>;

impl Desk for Empty {
    fn list(&self) -> Work<'_, Vec<String>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn read(&self, _: String) -> Work<'_, String> {
        Box::pin(async { Err(Trouble::NoNote) })
    }

    fn put(&self, _: String, _: String) -> Work<'_> {
        Box::pin(async { Err(Trouble::Full) })
    }

    fn take(&self, _: String) -> Work<'_, String> {
        Box::pin(async { Err(Trouble::NoNote) })
    }

    fn leave(&self, _: String, _: String, _: String) -> Work<'_> {
        Box::pin(async { Err(Trouble::Nobody) })
    }
}

struct Known;

impl PasswordStore for Known {
    async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
        Ok(match *password == Secret::from("countess") {
            true => Verdict::Is(Verified::vouch(Identity::named(login))),
            false => Verdict::WRONG,
        })
    }
}

/// The client's object over there, and what it hears.
#[derive(Default)]
struct Ears(RefCell<Vec<String>>, Notify);

impl mind::Server for Ears {
    async fn about(
        self: Rc<Self>,
        _: mind::AboutParams,
        mut results: mind::AboutResults,
    ) -> Result<(), capnp::Error> {
        results.get().set_client("a test");
        Ok(())
    }

    async fn notice(
        self: Rc<Self>,
        params: mind::NoticeParams,
        _: mind::NoticeResults,
    ) -> Result<(), capnp::Error> {
        self.0.borrow_mut().push(params.get()?.get_text()?.to_string()?);
        self.1.notify_one();
        Ok(())
    }
}

async fn at_home() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[tokio::test]
async fn one_realm_tells_clients_of_two_protocols_through_two_minds_and_reads_from_both() {
    let house = Arc::new(House::default());
    let portal = Portal::new(()).checked_by(Password::new("known", Known));
    let (stop, stopped) = watch::channel(false);
    let world = Arc::new(StillWorld::default());

    let adapted = Adapted::<_, HouseMail, _>::new(Arc::clone(&house), |mind: Teller| {
        AnyCompanion(Box::new(mind))
    });
    let pop3_server = Arc::new(mail::Server {
        portal: portal.before(adapted),
        world: world.clone(),
        tls: None,
        host: "house.test".into(),
        limits: mail::Limits::POP3,
        stop: stopped.clone(),
    });
    let (socket, pop3_at) = at_home().await;
    let pop3_served = tokio::spawn(mail::listen(
        socket,
        pop3_server,
        pop3::FULL,
        |server, stream, remote| async move {
            let mut peer = Peer::new("pop3", KindSet::none().with(CredentialKind::Token));
            (peer.remote, peer.transport) = (Some(remote.ip()), Transport::Local);
            pop3::serve(&server, Wire::new(stream), peer).await;
        },
    ));

    let adapted = Adapted::<_, HouseDesk, _>::new(Arc::clone(&house), |mind: Mind| {
        AnyCompanion(Box::new(mind))
    });
    let objects_server = Server {
        portal: portal.before(adapted),
        world,
        tls: None,
        limits: Limits::USUAL,
        stop: stopped,
    };
    let (socket, objects_at) = at_home().await;
    let objects_served = tokio::spawn(listen(socket, Arc::new(objects_server), 1));

    let (mut lines, mut pop3_says) = pop3_login(pop3_at).await;
    LocalSet::new()
        .run_until(async {
            let ears = Rc::new(Ears::default());
            let session = objects_login(objects_at, Rc::clone(&ears)).await;
            assert_eq!(
                *house.visits.lock().unwrap(),
                ["ada with some mail program", "ada with a test"]
            );
            assert_eq!(house.say("ada", "dinner is ready"), 2);
            ears.1.notified().await;
            assert_eq!(*ears.0.borrow(), ["dinner is ready"]);
            pop3_says.write_all(b"NOOP\r\n").await.unwrap();
            assert_eq!(lines.next_line().await.unwrap().unwrap(), "+OK dinner is ready");

            session.logout_request().send().promise.await.unwrap();
            assert_eq!(house.say("ada", "it gets cold"), 1, "who has left is told no more");
        })
        .await;
    pop3_says.write_all(b"QUIT\r\n").await.unwrap();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "+OK it gets cold");
    let mut rest = String::new();
    lines.into_inner().read_to_string(&mut rest).await.unwrap();
    assert!(house.minds.is_empty());
    stop.send_replace(true);
    pop3_served.await.unwrap().unwrap();
    objects_served.await.unwrap().unwrap();
}

type Lines = tokio::io::Lines<BufReader<tokio::net::tcp::OwnedReadHalf>>;

async fn pop3_login(at: SocketAddr) -> (Lines, tokio::net::tcp::OwnedWriteHalf) {
    let (from, mut to) = TcpStream::connect(at).await.unwrap().into_split();
    let mut lines = BufReader::new(from).lines();
    to.write_all(b"USER ada\r\nPASS countess\r\n").await.unwrap();
    for _ in ["greeting", "USER", "PASS"] {
        let line = lines.next_line().await.unwrap().unwrap();
        assert!(line.starts_with("+OK"), "{line}");
    }
    (lines, to)
}

async fn objects_login(at: SocketAddr, ears: Rc<Ears>) -> session::Client {
    let plug = Plug::of(TcpStream::connect(at).await.unwrap());
    let network = VatNetwork::new(plug.twin(), plug, Side::Client, Default::default());
    let mut system = RpcSystem::new(Box::new(network), None);
    let login: login::Client = system.bootstrap(Side::Server);
    spawn_local(system);
    let mut begin = login.begin_request();
    begin.get().set_mechanism("password");
    begin.get().set_mind(new_client_from_rc(ears));
    let reply = begin.send().promise.await.unwrap();
    let Ok(step::Ask(ask)) = reply.get().unwrap().get_step().unwrap().which() else {
        panic!("nothing was asked")
    };
    let mut answer = ask.get_conversation().unwrap().answer_request();
    answer.get().set_round(ask.get_round().unwrap().get_number());
    let mut answers = answer.get().init_answers(2);
    for (at, (name, value)) in (0..).zip([("username", "ada"), ("password", "countess")]) {
        let mut answer = answers.reborrow().get(at);
        answer.set_question(name);
        answer.set_value(value.as_bytes());
    }
    let reply = answer.send().promise.await.unwrap();
    match reply.get().unwrap().get_step().unwrap().which() {
        Ok(step::Granted(granted)) => granted.get_session().unwrap(),
        _ => panic!("not in"),
    }
}
