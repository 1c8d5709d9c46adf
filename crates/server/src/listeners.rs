//! Every socket of a server: bound before anything is served, kept over a reload that does not change it.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign::Fault;
use tokio::net::{TcpListener, TcpSocket};

use crate::admin::Admin;
use crate::config::{Config, DovecotMasterSection, DovecotSection, HttpSection, SaslauthdSection};
use crate::engine::Engine;
use crate::front::dovecot::handover::Handovers;
use crate::front::dovecot::master::{self, MasterOptions};
use crate::front::dovecot::{self, DovecotOptions};
use crate::front::http::{self, HttpOptions};
use crate::front::saslauthd::{self, SaslauthdOptions};
use crate::front::socket::{BACKLOG, Socket, SocketOptions, user_id};
use crate::front::tls::{self, Tls};
use crate::front::{Gauge, Stop, Stopper};
use crate::run::{StartError, system};
use crate::status::ListenerStatus;
use crate::systemd::Passed;
use crate::world::SystemWorld;

/// A listener that is bound, and what it is to serve.
#[derive(Debug)]
pub(crate) struct Listener {
    /// As `http.main`.
    name: String,
    /// All that its configuration says: two that say the same are the same.
    wanted: String,
    bound: Bound,
    open: Gauge,
    limit: usize,
    /// Asks it, and it alone, to stop.
    stopper: Stopper,
}

#[derive(Debug)]
enum Bound {
    Http(TcpListener, Box<HttpOptions>),
    Dovecot(Socket, DovecotOptions),
    DovecotMaster(Socket, Arc<MasterOptions>),
    Saslauthd(Socket, SaslauthdOptions),
}

/// Binds what the configuration names and is not there yet. `held`: what is bound already; of these, the ones
/// that go on as they are come back as their positions.
pub(crate) enum Next {
    /// This one goes on as it is.
    Kept(usize),
    /// This one begins.
    Begins(Listener),
}

/// Prepares every listener of a configuration. Nothing is served, and nothing stops, when one cannot be had.
pub(crate) fn prepare(
    config: &Config,
    admin: &Admin,
    handovers: &Handovers,
    held: &[Listener],
    passed: &mut Passed,
) -> Result<Vec<Next>, StartError> {
    let mut next = Vec::new();
    // Nobody would ask for them.
    let asked = (!config.dovecot_master.is_empty()).then(|| handovers.clone());
    for (name, section) in &config.http {
        next.push(http(config, admin, (name, section), held, passed)?);
    }
    for (name, section) in &config.dovecot {
        next.push(dovecot(config, &asked, (name, section), held, passed)?);
    }
    for (name, section) in &config.dovecot_master {
        next.push(dovecot_master(config, handovers, (name, section), held, passed)?);
    }
    for (name, section) in &config.saslauthd {
        next.push(saslauthd(config, (name, section), held, passed)?);
    }
    if let Some(name) = passed.left_over() {
        let what = format!("systemd passes a socket `{name}`");
        let why =
            "no listener has this name: `FileDescriptorName=http-main` is `[listen.http.main]`";
        return Err(system(&what)(std::io::Error::other(why)));
    }
    Ok(next)
}

fn http(
    config: &Config,
    admin: &Admin,
    (name, section): (&String, &HttpSection),
    held: &[Listener],
    passed: &mut Passed,
) -> Result<Next, StartError> {
    let open = Gauge::default();
    let options = HttpOptions {
        listener: Some(lasting(&format!("http.{name}"))),
        connections: section.connections.max(1),
        admin: Some(admin.clone()),
        issuer: config.accounts.issuer.clone(),
        #[cfg(feature = "passkeys")]
        passkeys: config.site_passkeys()?,
        return_to: section.return_to.clone(),
        cookie_domain: section.cookie_domain.clone(),
        mail: config.mail(name, section)?,
        theme: config.theme(name, section)?,
        tls: config.tls(name, section)?.map(Arc::new),
        trusted_proxies: section.trusted_proxies.clone(),
        parts: section.parts(),
        basic: section.basic,
        digest: section.digest.0.clone(),
        bearer: *section.bearer,
        login_page: section.login_page.clone(),
        open: open.clone(),
        ..HttpOptions::default()
    };
    // What is in files beside the configuration counts as what is in it.
    let key = options.mail.as_ref().map(|mail| mail.mark());
    let shared = (&options.theme, key, &config.accounts, &config.passkeys);
    let wanted = format!("{section:?} {shared:?}");
    let name = format!("http.{name}");
    if let Some(kept) = unchanged(&name, &wanted, held) {
        // Its certificate may be another all the same.
        if let Some(tls) = held[kept].tls() {
            tls.reload().map_err(|error| {
                system(&format!("[listen.{name}]"))(std::io::Error::other(error))
            })?;
        }
        return Ok(Next::Kept(kept));
    }
    let cannot = |error| {
        system(&format!(
            "[listen.{name}] cannot listen on {} (another program may: give another address, or \
             `--http 127.0.0.1:0`)",
            section.address
        ))(error)
    };
    let same = held.iter().find_map(|listener| match &listener.bound {
        Bound::Http(bound, _) if bound.local_addr().is_ok_and(|at| at == section.address) => {
            Some(bound)
        }
        _ => None,
    });
    let listener = match (same, passed.tcp(&name.replace('.', "-")).map_err(cannot)?) {
        (Some(bound), _) => again(bound).map_err(cannot)?,
        (None, Some(passed)) => TcpListener::from_std(passed).map_err(cannot)?,
        (None, None) => listen(section.address).map_err(cannot)?,
    };
    let limit = options.connections;
    Ok(Next::Begins(Listener {
        name,
        wanted,
        bound: Bound::Http(listener, Box::new(options)),
        open,
        limit,
        stopper: Stopper::new().0,
    }))
}

fn dovecot(
    config: &Config,
    handovers: &Option<Handovers>,
    (name, section): (&String, &DovecotSection),
    held: &[Listener],
    passed: &mut Passed,
) -> Result<Next, StartError> {
    let name = format!("dovecot.{name}");
    let wanted = format!("{section:?} {}", handovers.is_some());
    if let Some(kept) = unchanged(&name, &wanted, held) {
        return Ok(Next::Kept(kept));
    }
    let open = Gauge::default();
    let options = DovecotOptions {
        listener: Some(lasting(&name)),
        on_fault: section.on_fault,
        trust_client_certificates: section.trust_client_certificates,
        mechanisms: section.announced(),
        connections: section.connections.max(1),
        pending: section.pending.max(1),
        handovers: handovers.clone(),
        open: open.clone(),
        ..DovecotOptions::default()
    };
    let DovecotSection { path, mode, owner, group, .. } = section;
    let place = SocketOptions {
        path: config.data.join(path),
        mode: mode.0,
        owner: owner.clone(),
        group: group.clone(),
    };
    let socket = socket(&name, &place, held, passed)?;
    let limit = options.connections;
    let bound = Bound::Dovecot(socket, options);
    Ok(Next::Begins(Listener { name, wanted, bound, open, limit, stopper: Stopper::new().0 }))
}

fn dovecot_master(
    config: &Config,
    handovers: &Handovers,
    (name, section): (&String, &DovecotMasterSection),
    held: &[Listener],
    passed: &mut Passed,
) -> Result<Next, StartError> {
    let (name, wanted) = (format!("dovecot-master.{name}"), format!("{section:?}"));
    if let Some(kept) = unchanged(&name, &wanted, held) {
        return Ok(Next::Kept(kept));
    }
    let owners = section.owners.iter().map(|owner| user_id(owner));
    let owners = owners
        .collect::<Result<_, _>>()
        .map_err(|why| Fault::unavailable(format!("[listen.{name}] owners: {why}")))?;
    let open = Gauge::default();
    let options = MasterOptions {
        userdb: section.fields.clone(),
        owners,
        handovers: handovers.clone(),
        connections: section.connections.max(1),
        patience: Duration::from_secs(60),
        open: open.clone(),
    };
    let DovecotMasterSection { path, mode, owner, group, .. } = section;
    let place = SocketOptions {
        path: config.data.join(path),
        mode: mode.0,
        owner: owner.clone(),
        group: group.clone(),
    };
    let socket = socket(&name, &place, held, passed)?;
    let limit = options.connections;
    let bound = Bound::DovecotMaster(socket, Arc::new(options));
    Ok(Next::Begins(Listener { name, wanted, bound, open, limit, stopper: Stopper::new().0 }))
}

fn saslauthd(
    config: &Config,
    (name, section): (&String, &SaslauthdSection),
    held: &[Listener],
    passed: &mut Passed,
) -> Result<Next, StartError> {
    let (name, wanted) = (format!("saslauthd.{name}"), format!("{section:?}"));
    if let Some(kept) = unchanged(&name, &wanted, held) {
        return Ok(Next::Kept(kept));
    }
    let open = Gauge::default();
    let options = SaslauthdOptions {
        listener: Some(lasting(&name)),
        connections: section.connections.max(1),
        open: open.clone(),
        ..SaslauthdOptions::default()
    };
    let SaslauthdSection { path, mode, owner, group, .. } = section;
    let place = SocketOptions {
        path: config.data.join(path),
        mode: mode.0,
        owner: owner.clone(),
        group: group.clone(),
    };
    let socket = socket(&name, &place, held, passed)?;
    let limit = options.connections;
    let bound = Bound::Saslauthd(socket, options);
    Ok(Next::Begins(Listener { name, wanted, bound, open, limit, stopper: Stopper::new().0 }))
}

/// A listener's name for as long as the process lives: every login carries it. Each is kept once, however
/// often the configuration is read.
fn lasting(name: &str) -> &'static String {
    static NAMES: Mutex<Vec<&'static String>> = Mutex::new(Vec::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    names.iter().copied().find(|known| *known == name).unwrap_or_else(|| {
        let name: &'static String = Box::leak(Box::new(name.to_owned()));
        names.push(name);
        name
    })
}

fn unchanged(name: &str, wanted: &str, held: &[Listener]) -> Option<usize> {
    held.iter().position(|listener| listener.name == name && listener.wanted == wanted)
}

/// The socket at a place: the one that is there, the one that systemd passes, or a new one.
fn socket(
    name: &str,
    place: &SocketOptions,
    held: &[Listener],
    passed: &mut Passed,
) -> Result<Socket, StartError> {
    let cannot = |error| system(&format!("[listen.{name}]"))(error);
    let same = held.iter().find_map(|listener| match &listener.bound {
        Bound::Http(..) => None,
        Bound::Dovecot(socket, _)
        | Bound::DovecotMaster(socket, _)
        | Bound::Saslauthd(socket, _) => (socket.path() == place.path).then_some(socket),
    });
    if let Some(socket) = same {
        return Ok(socket.again(place)?);
    }
    match passed.unix(&name.replace('.', "-")).map_err(cannot)? {
        Some(listener) => Socket::passed(listener).map_err(cannot),
        None => Ok(Socket::bind(place)?),
    }
}

/// Listens, with room for as many as may come at one moment: a connection that finds the queue full tries
/// again after a second.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A server that starts again does not wait for connections that have ended.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The same listener, for who serves it differently.
fn again(bound: &TcpListener) -> std::io::Result<TcpListener> {
    TcpListener::from_std(bound.as_fd().try_clone_to_owned()?.into())
}

impl Listener {
    /// Begins to serve.
    pub(crate) fn serve(&mut self, engine: &Arc<Engine>) -> std::io::Result<()> {
        let (stopper, stop) = Stopper::new();
        let engine = Arc::clone(engine);
        match &self.bound {
            Bound::Http(listener, options) => {
                self.address().into_iter().for_each(|address| said(address, options, engine.world));
                if let Some(tls) = &options.tls {
                    tokio::spawn(tls::watch(vec![Arc::clone(tls)], engine.world, stop.clone()));
                }
                tokio::spawn(http::serve(again(listener)?, engine, (**options).clone(), stop));
            }
            Bound::Dovecot(socket, options) => {
                tracing::info!(path = %socket.path().display(), "dovecot");
                tokio::spawn(dovecot::serve(socket.share()?, engine, options.clone(), stop));
            }
            Bound::DovecotMaster(socket, options) => {
                tracing::info!(path = %socket.path().display(), "dovecot-master");
                tokio::spawn(master::serve(socket.share()?, engine, Arc::clone(options), stop));
            }
            Bound::Saslauthd(socket, options) => {
                tracing::info!(path = %socket.path().display(), "saslauthd");
                let (socket, options) = (socket.share()?, options.clone());
                tokio::spawn(serve_saslauthd(socket, engine, options, stop));
            }
        }
        self.stopper = stopper;
        Ok(())
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Asks it to stop; [`Listener::stopped`] waits for that.
    pub(crate) fn stop(&self) {
        self.stopper.stop();
    }

    /// Waits until what was under way is done, for as long as the caller likes.
    pub(crate) async fn stopped(self) {
        let Self { stopper, bound, .. } = self;
        // Nobody connects to what nobody serves.
        drop(bound);
        stopper.stopped().await;
    }

    /// Where it listens, if that is an address.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match &self.bound {
            Bound::Http(listener, _) => listener.local_addr().ok(),
            _ => None,
        }
    }

    pub(crate) fn tls(&self) -> Option<&Arc<Tls>> {
        match &self.bound {
            Bound::Http(_, options) => options.tls.as_ref(),
            _ => None,
        }
    }

    pub(crate) fn status(&self) -> ListenerStatus {
        let path = |path: &Path| path.display().to_string();
        let address = match &self.bound {
            Bound::Http(..) => {
                self.address().map(|address| address.to_string()).unwrap_or_default()
            }
            Bound::Dovecot(socket, _)
            | Bound::DovecotMaster(socket, _)
            | Bound::Saslauthd(socket, _) => path(socket.path()),
        };
        ListenerStatus {
            name: self.name.clone(),
            address,
            connections: self.open.count(),
            limit: self.limit,
            certificate: None,
        }
    }
}

async fn serve_saslauthd(
    socket: Socket,
    engine: Arc<Engine>,
    options: SaslauthdOptions,
    stop: Stop,
) {
    if let Err(error) = saslauthd::serve(socket, engine, options, stop).await {
        tracing::error!(%error, "a saslauthd socket is not served any more");
    }
}

/// What the operator should know of an HTTP listener.
fn said(address: SocketAddr, options: &HttpOptions, world: SystemWorld) {
    use countersign::World;
    let scheme = if options.tls.is_some() { "https" } else { "http" };
    tracing::info!("{scheme}://{address}");
    match options.tls.as_ref().map(|tls| tls.validity(world.now().unix)) {
        Some(Ok(said)) => tracing::info!("{said}"),
        Some(Err(said)) => tracing::warn!("{said}"),
        None => {}
    }
    if options.tls.is_none() && !address.ip().to_canonical().is_loopback() {
        tracing::warn!(
            "http://{address} has no TLS: passwords that come from other machines cross the network in \
             clear text; give it `tls = {{ certificate, key }}`, or listen on loopback, behind a proxy with \
             TLS"
        );
    }
}
