//! The server with the SSH library's own client: what reaches a client, and when a session ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use countersign::{Fault, Identity, Password, PasswordStore, Portal, Secret, Verdict, Verified};
use countersign_checkers::world::SystemWorld;
use countersign_example_ssh_shell::realm::Shells;
use countersign_example_ssh_shell::server::{Limits, Server, listen};
use countersign_example_ssh_shell::{connection, host_key};
use russh::client::{self, AuthResult, Handle, Handler, KeyboardInteractiveAuthResponse};
use russh::keys::{PrivateKey, PublicKeyOrCertificate};
use russh::{ChannelMsg, MethodKind};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

/// Everything here is over long before.
const LIMIT: Duration = Duration::from_secs(60);

/// The password is the name.
struct Own;

impl PasswordStore for Own {
    async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
        Ok(match *password == Secret::from(login) {
            true => Verdict::Is(Verified::vouch(Identity::named(login))),
            false => Verdict::WRONG,
        })
    }
}

/// Knows the server by its key.
struct Client(PrivateKey);

impl Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        key: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        Ok(key.public_key().key_data() == self.0.public_key().key_data())
    }
}

struct Stage {
    address: SocketAddr,
    shells: Arc<Shells>,
    host_key: PrivateKey,
    stop: watch::Sender<bool>,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
    _folder: tempfile::TempDir,
}

impl Stage {
    async fn new(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let world = Arc::new(SystemWorld::new());
        let host_key = host_key::provide(&folder.path().join("key"), &*world).unwrap();
        let shells = Arc::new(Shells::new(None));
        let (stop, stopped) = watch::channel(false);
        let portal = Portal::new(Arc::clone(&shells)).checked_by(Password::new("own", Own));
        let server = Arc::new(Server {
            portal,
            offers: None,
            world,
            limits: Limits { pause: Duration::ZERO, ..limits },
            stop: stopped,
        });
        let config = Arc::new(connection::config(host_key.clone(), &server.limits));
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let served = tokio::spawn(listen(socket, server, move |server, stream, remote| {
            connection::serve(server, Arc::clone(&config), stream, remote)
        }));
        Self { address, shells, host_key, stop, served, _folder: folder }
    }

    async fn client(&self) -> Handle<Client> {
        let client = Client(self.host_key.clone());
        let connected = client::connect(Arc::default(), self.address, client);
        timeout(LIMIT, connected).await.unwrap().unwrap()
    }

    /// Waits until so many are logged in.
    async fn has(&self, sessions: usize) {
        let reached = async {
            while self.shells.sessions() != sessions {
                tokio::task::yield_now().await;
            }
        };
        timeout(LIMIT, reached).await.expect("as many sessions as there should be");
    }
}

async fn run(client: &Handle<Client>, command: &str) -> (String, Option<u32>) {
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, command).await.unwrap();
    let (mut said, mut status) = (Vec::new(), None);
    let all = async {
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Data { data } => said.extend_from_slice(&data),
                ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
                _ => {}
            }
        }
    };
    timeout(LIMIT, all).await.unwrap();
    (String::from_utf8(said).unwrap(), status)
}

#[tokio::test]
async fn a_session_lasts_as_long_as_its_connection() {
    let stage = Stage::new(Limits::USUAL).await;
    let mut client = stage.client().await;
    let refused = client.authenticate_password("ada", "wrong").await.unwrap();
    assert!(matches!(refused, AuthResult::Failure { partial_success: false, .. }), "{refused:?}");
    stage.has(0).await;
    assert!(client.authenticate_password("ada", "ada").await.unwrap().success());
    stage.has(1).await;
    assert_eq!(run(&client, "whoami").await, ("ada\n".to_owned(), Some(0)));
    assert_eq!(run(&client, "exit 9").await, (String::new(), Some(9)));
    // One that is left open, and one that leaves without a word.
    let _open = client.channel_open_session().await.unwrap();
    let mut other = stage.client().await;
    assert!(other.authenticate_password("bob", "bob").await.unwrap().success());
    stage.has(2).await;
    drop(other);
    stage.has(1).await;
    // The server ends, and everybody is out when it has.
    stage.stop.send_replace(true);
    timeout(LIMIT, stage.served).await.unwrap().unwrap().unwrap();
    assert_eq!(stage.shells.sessions(), 0);
}

#[tokio::test]
async fn a_client_is_told_what_goes_on() {
    let stage = Stage::new(Limits::USUAL).await;
    let mut client = stage.client().await;
    let methods = match client.authenticate_none("ada").await.unwrap() {
        AuthResult::Failure { remaining_methods, partial_success: false } => remaining_methods,
        other => panic!("{other:?}"),
    };
    assert_eq!(*methods, [MethodKind::KeyboardInteractive, MethodKind::Password]);
    let asked = client.authenticate_keyboard_interactive_start("ada", None).await.unwrap();
    let KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } = asked else {
        panic!("{asked:?}");
    };
    assert_eq!((prompts.len(), &*prompts[0].prompt, prompts[0].echo), (1, "Password: ", false));
    let answer = vec!["ada".to_owned()];
    let end = client.authenticate_keyboard_interactive_respond(answer).await.unwrap();
    assert!(matches!(end, KeyboardInteractiveAuthResponse::Success), "{end:?}");
    stage.has(1).await;
}

#[tokio::test]
async fn guesses_channels_and_time_have_an_end() {
    let limits = Limits { refusals: 3, channels: 1, ..Limits::USUAL };
    let stage = Stage::new(limits).await;
    let mut client = stage.client().await;
    for _ in 0..limits.refusals {
        assert!(!client.authenticate_password("ada", "wrong").await.unwrap().success());
    }
    let right = timeout(LIMIT, client.authenticate_password("ada", "ada")).await.unwrap();
    assert!(!right.is_ok_and(|end| end.success()), "one guess too many");
    stage.has(0).await;
    let mut client = stage.client().await;
    assert!(client.authenticate_password("ada", "ada").await.unwrap().success());
    let _one = client.channel_open_session().await.unwrap();
    assert!(client.channel_open_session().await.is_err(), "a second channel");
    // Who does not log in is sent away, and takes nobody's place.
    let limits = Limits { login: Duration::from_millis(50), from_one: 1, ..Limits::USUAL };
    let stage = Stage::new(limits).await;
    let silent = stage.client().await;
    let gone = async {
        while !silent.is_closed() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, gone).await.expect("it is sent away");
}
