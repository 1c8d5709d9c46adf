//! One connection: the SSH library's calls, turned into turns of a login and into channels.

use std::collections::HashMap;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use countersign::{OfferedKey, ProvenKey, Realm, Secret, Session};
use russh::keys::{Algorithm, Certificate, EcdsaCurve, HashAlg, PrivateKey};
use russh::server::{
    Auth, ChannelOpenHandle, Config, Handler, Msg, PublicKeyOffer, Response, Session as Transport,
    VerifiedPublicKey, run_stream,
};
use russh::{
    Channel, ChannelId, ChannelOpenFailure, Disconnect, MethodKind, MethodSet, Preferred, Pty,
    SshId,
};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use crate::channel;
use crate::login::{Login, Method, Outcome};
use crate::server::{Limits, Server};
use crate::shell::{SshShell, Teller};

/// From the word that a connection is over to the end of its socket.
const LEAVING: Duration = Duration::from_secs(2);

/// What the SSH library is to do: as much as it can that is not weak.
pub fn config(host_key: PrivateKey, limits: &Limits) -> Config {
    let nist = [EcdsaCurve::NistP256, EcdsaCurve::NistP384, EcdsaCurve::NistP521];
    let ecdsa = nist.map(|curve| Algorithm::Ecdsa { curve });
    let rsa = [HashAlg::Sha512, HashAlg::Sha256].map(|hash| Algorithm::Rsa { hash: Some(hash) });
    let fido = [Algorithm::SkEd25519, Algorithm::SkEcdsaSha2NistP256];
    let all = [Algorithm::Ed25519].into_iter().chain(ecdsa).chain(fido).chain(rsa);
    Config {
        server_id: SshId::Standard("SSH-2.0-Countersign".into()),
        methods: MethodSet::empty(),
        auth_rejection_time: limits.pause,
        // Which methods there are is no guess.
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![host_key],
        preferred: Preferred { key: all.collect::<Vec<_>>().into(), ..Preferred::DEFAULT },
        max_auth_attempts: limits.refusals,
        inactivity_timeout: Some(limits.idle),
        keepalive_interval: Some(Duration::from_secs(60)),
        nodelay: true,
        ..Config::default()
    }
}

/// Serves a connection to its end. Its session ends with it, whoever ends it.
pub async fn serve<R: Realm<SshShell> + 'static>(
    server: Arc<Server<R>>,
    config: Arc<Config>,
    stream: TcpStream,
    remote: SocketAddr,
) {
    let local = stream.local_addr().ok().map(|address| address.ip().to_canonical());
    let peer = Server::<R>::peer(Some(remote.ip().to_canonical()), local);
    // The library runs a connection in a task of its own, which ends when its socket does: so there is a second
    // hand on that.
    let Some((stream, socket)) = two_hands(stream) else { return };
    let deadline = server.login_by();
    let (tell_in, mut is_in) = watch::channel(false);
    let teller = Teller::new();
    let places = Arc::new(Semaphore::new(server.limits.channels));
    let connection = Connection {
        login: Login::new(Arc::clone(&server), peer, teller.clone(), deadline),
        server: Arc::clone(&server),
        teller,
        tell_in,
        places: Arc::clone(&places),
        channels: HashMap::new(),
        tasks: JoinSet::new(),
        session: None,
    };
    let began = tokio::select! {
        biased;
        began = run_stream(config, stream, connection) => began,
        () = sleep_until(deadline) => return,
        () = server.stopping() => return,
    };
    let mut running = match began {
        Ok(running) => running,
        Err(error) => {
            tracing::debug!(%remote, "no SSH: {error}");
            return;
        }
    };
    let handle = running.handle();
    let logged_in = async { is_in.wait_for(|is_in| *is_in).await.is_ok() };
    let late = async {
        tokio::select! {
            biased;
            true = logged_in => std::future::pending().await,
            () = sleep_until(deadline) => {}
        }
    };
    let why = tokio::select! {
        biased;
        ended = &mut running => {
            if let Err(error) = ended {
                tracing::debug!(%remote, "the connection ended: {error}");
            }
            return;
        }
        () = late => "nobody has logged in in time",
        () = server.stopping() => "the server ends",
    };
    let ending = async {
        // What runs in channels hears of the end as well, and is to say so first.
        let all = u32::try_from(server.limits.channels).unwrap_or(u32::MAX);
        let _ = places.acquire_many(all).await;
        let _ = handle.disconnect(Disconnect::ByApplication, why.to_owned(), String::new()).await;
        let _ = (&mut running).await;
    };
    if timeout(LEAVING, ending).await.is_err() {
        let _ = socket.shutdown(Shutdown::Both);
        let _ = timeout(LEAVING, running).await;
    }
}

fn two_hands(stream: TcpStream) -> Option<(TcpStream, std::net::TcpStream)> {
    let first = stream.into_std().ok()?;
    let second = first.try_clone().ok()?;
    Some((TcpStream::from_std(first).ok()?, second))
}

/// What the SSH library calls. Fields are dropped in order: what runs in channels ends before the session does.
struct Connection<R> {
    login: Login<R>,
    server: Arc<Server<R>>,
    teller: Teller,
    tell_in: watch::Sender<bool>,
    /// As many as there may be channels. Each has one until nothing runs in it any more.
    places: Arc<Semaphore>,
    channels: HashMap<ChannelId, Asking>,
    tasks: JoinSet<()>,
    session: Option<Session<SshShell>>,
}

/// What a channel may still be asked for. Answers must go out in the order of requests, so that they are given
/// here and not by what runs in the channel.
struct Asking {
    terminal: bool,
    program: bool,
}

impl<R: Realm<SshShell>> Connection<R> {
    /// The library's word for what a request comes to.
    fn told(&mut self, outcome: Outcome) -> Auth {
        match outcome {
            Outcome::In(session) => {
                self.session = Some(session);
                self.tell_in.send_replace(true);
                Auth::Accept
            }
            Outcome::GoOn { methods, partial } => {
                let kinds: Vec<_> = methods.into_iter().map(kind).collect();
                let methods = MethodSet::from(kinds.as_slice());
                Auth::Reject { proceed_with_methods: Some(methods), partial_success: partial }
            }
            Outcome::Ask(prompts) => Auth::Partial {
                name: prompts.name.into(),
                instructions: prompts.instruction.into(),
                prompts: prompts
                    .prompts
                    .into_iter()
                    .map(|(prompt, echo)| (prompt.into(), echo))
                    .collect::<Vec<_>>()
                    .into(),
            },
        }
    }

    /// Whether a program begins in a channel: one does.
    fn begins(&mut self, channel: ChannelId) -> bool {
        let asking = self.channels.get_mut(&channel);
        asking.is_some_and(|asking| std::mem::replace(&mut asking.program, false))
    }

    /// A key or a certificate that has signed this request.
    async fn signed(&mut self, user: &str, blob: Result<Vec<u8>, impl std::fmt::Display>) -> Auth {
        let outcome = match blob {
            Ok(blob) => {
                // The library has verified the signature over this connection's id, this user name and this key
                // (RFC 4252 §7), by the algorithm that the request names; `auth_publickey_offered` has refused SHA-1.
                // It does not hand on what the signature of a FIDO key says of its user: so nothing is said of that.
                let key = ProvenKey::vouch(OfferedKey::new(blob), user);
                self.login.proven(user, key).await
            }
            Err(error) => {
                tracing::info!(user, "a key that cannot be written: {error}");
                self.login.none(user).await
            }
        };
        self.told(outcome)
    }
}

/// Answers a request in a channel, if the client wants to know.
fn answer(transport: &mut Transport, channel: ChannelId, yes: bool) -> Result<(), russh::Error> {
    match yes {
        true => transport.channel_success(channel),
        false => transport.channel_failure(channel),
    }
}

fn kind(method: Method) -> MethodKind {
    match method {
        Method::PublicKey => MethodKind::PublicKey,
        Method::Password => MethodKind::Password,
        Method::KeyboardInteractive => MethodKind::KeyboardInteractive,
    }
}

impl<R: Realm<SshShell> + 'static> Handler for Connection<R> {
    type Error = russh::Error;

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Self::Error> {
        let outcome = self.login.none(user).await;
        Ok(self.told(outcome))
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        let outcome = self.login.password(user, Secret::from(password)).await;
        Ok(self.told(outcome))
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        // `ssh-rsa` as a signature is SHA-1.
        let weak = *offer.algorithm == Algorithm::Rsa { hash: None };
        let blob = offer.public_key.to_bytes().ok().filter(|_| !weak);
        if let Some(blob) = blob
            && self.login.offered(user, OfferedKey::new(blob)).await
        {
            return Ok(Auth::Accept);
        }
        let outcome = self.login.go_on(false);
        Ok(self.told(outcome))
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(self.signed(user, key.public_key.to_bytes()).await)
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, Self::Error> {
        Ok(self.signed(user, certificate.to_bytes()).await)
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        let outcome = match response {
            None => self.login.interactive(user).await,
            Some(typed) => {
                let typed = typed.map(|bytes| Secret::from(&*bytes)).collect();
                self.login.typed(user, typed).await
            }
        };
        Ok(self.told(outcome))
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Transport,
    ) -> Result<(), Self::Error> {
        while self.tasks.try_join_next().is_some() {}
        let Some(session) = &mut self.session else {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        };
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        let seat = session.avatar_mut().open();
        let asking = Asking { terminal: seat.permits_terminal(), program: true };
        self.channels.insert(channel.id(), asking);
        reply.accept().await;
        let served = channel::serve(channel, seat, self.teller.clone(), Arc::clone(&self.server));
        self.tasks.spawn(async move {
            let _place = place;
            served.await;
        });
        Ok(())
    }

    async fn channel_close(
        &mut self,
        channel: ChannelId,
        _: &mut Transport,
    ) -> Result<(), Self::Error> {
        self.channels.remove(&channel);
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        transport: &mut Transport,
    ) -> Result<(), Self::Error> {
        let asking = self.channels.get(&channel);
        let may = asking.is_some_and(|asking| asking.terminal && asking.program);
        answer(transport, channel, may)
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        transport: &mut Transport,
    ) -> Result<(), Self::Error> {
        let may = self.begins(channel);
        answer(transport, channel, may)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        transport: &mut Transport,
    ) -> Result<(), Self::Error> {
        let may = std::str::from_utf8(command).is_ok() && self.begins(channel);
        answer(transport, channel, may)
    }

    // A client's variables are not taken, and there are no subsystems and no windows.

    async fn env_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        _: &str,
        transport: &mut Transport,
    ) -> Result<(), Self::Error> {
        answer(transport, channel, false)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        transport: &mut Transport,
    ) -> Result<(), Self::Error> {
        answer(transport, channel, false)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        transport: &mut Transport,
    ) -> Result<(), Self::Error> {
        answer(transport, channel, false)
    }
}
