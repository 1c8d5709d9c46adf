//! A POP3 and IMAP server on Maildirs, with whoever checks logins named on its command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use countersign::{Mechanism, Policy, Portal, Realm, Terms};
use countersign_checkers::kinds::{AuthArgs, Kinds, Parts, Takes};
use countersign_example_mail::imap::{self, ImapMailbox};
use countersign_example_mail::place::{self, Pattern, Places};
use countersign_example_mail::pop3::{self, Pop3Mailbox};
use countersign_example_mail::realm::Maildirs;
use countersign_example_mail::server::{Limits, Server, listen};
use countersign_example_mail::wire::Wire;
use countersign_example_serving::{self as serving, Where, bind, told_to_end};
use countersign_sasl::{Login, OAuthBearer, Plain, XOAuth2};
use countersign_tls::{Pair, TlsFiles};
use tokio::sync::watch;

/// Serve Maildirs over POP3 and IMAP; --auth says who checks logins
#[derive(Parser)]
#[command(name = "countersign-example-mail", version)]
struct Args {
    /// Serve POP3 here (with --listen: POP3 on the first address, IMAP on the second)
    #[arg(long, value_name = "ADDRESS")]
    pop3: Vec<SocketAddr>,
    /// Serve IMAP here
    #[arg(long, value_name = "ADDRESS")]
    imap: Vec<SocketAddr>,
    /// Serve POP3 in TLS from the beginning here
    #[arg(long, value_name = "ADDRESS", requires = "tls_cert")]
    pop3s: Vec<SocketAddr>,
    /// Serve IMAP in TLS from the beginning here
    #[arg(long, value_name = "ADDRESS", requires = "tls_cert")]
    imaps: Vec<SocketAddr>,
    /// Serve POP3 at this address and IMAP at the next port
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<SocketAddr>,
    /// Where Maildirs are: a folder, or a path with {user} and {ATTRIBUTE}, such as {home}/Maildir
    #[arg(long, value_name = "PATH", default_value = "mail")]
    mail: String,
    /// A table that says where each Maildir is; --mail is then the folder for relative paths
    #[arg(long, value_name = "sqlite:PATH")]
    mailboxes: Option<String>,
    /// The query of that table: the name is its one parameter
    #[arg(long, value_name = "SQL", default_value = place::QUERY, requires = "mailboxes")]
    mailboxes_query: String,
    /// A certificate chain (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Certificates (PEM) that vouch for those of clients: whoever shows one may log in by EXTERNAL, as its common name
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    client_ca: Option<PathBuf>,
    /// The Maildir that visitors without a name may read (--auth anonymous)
    #[arg(long, value_name = "PATH")]
    visitors: Option<PathBuf>,
    /// Where passwords may cross the network readable
    #[arg(long, value_name = "WHERE", default_value = "secured")]
    plaintext: Where,
    /// The name of this host in greetings
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    host: String,
    #[command(flatten)]
    auth: AuthArgs,
}

fn main() -> ExitCode {
    serving::run(run(Args::parse()))
}

async fn run(args: Args) -> Result<(), String> {
    let parts = Parts::standalone().map_err(|fault| fault.to_string())?;
    let checkers = args.auth.portal_checkers(&Kinds::built_in(), &takes(), &parts).await;
    let checkers = checkers.unwrap_or_else(|exit| exit.now());
    let folder = std::path::absolute(&args.mail).map_err(|e| format!("--mail: {e}"))?;
    let places = match &args.mailboxes {
        Some(url) => Places::table(url, &args.mailboxes_query, &folder)
            .map_err(|error| format!("--mailboxes: {error}"))?,
        None if args.mail.starts_with('{') => Places::Pattern(Pattern::parse(&args.mail)?),
        None => Places::Pattern(Pattern::parse(&folder.to_string_lossy())?),
    };
    let mail = Maildirs::new(places);
    let mail = Arc::new(match &args.visitors {
        Some(place) => {
            mail.visited(std::path::absolute(place).map_err(|e| format!("--visitors: {e}"))?)
        }
        None => mail,
    });
    let terms = Terms { plaintext: Some(args.plaintext.into()), ..Terms::default() };
    // One portal for each protocol before the same realm: the same checkers, the same policy.
    let portal = Portal::new(Arc::clone(&mail))
        .carried_by(Plain)
        .carried_by(Login)
        .carried_by(OAuthBearer::new())
        .carried_by(XOAuth2::new());
    let portal = checkers.into_iter().fold(portal, Portal::checked_by_shared);
    let portal = portal.under(Policy::of(terms));
    match (portal.offers("ANONYMOUS"), &args.visitors) {
        (true, None) => {
            return Err(
                "--auth anonymous: say with --visitors PATH what those without a name may read"
                    .into(),
            );
        }
        (false, Some(_)) => {
            return Err("--visitors: nobody comes in without a name; add --auth anonymous".into());
        }
        _ => {}
    }
    let tls = match args.tls_cert.zip(args.tls_key) {
        Some((certificate, key)) => {
            let files = TlsFiles { certificate, key };
            let pair = match &args.client_ca {
                Some(authorities) => Pair::read_for_clients(&files, &[], authorities),
                None => Pair::read(&files, &[]),
            };
            Some(Arc::new(pair.map_err(|error| error.to_string())?))
        }
        None => None,
    };
    let (stop, stopped) = watch::channel(false);
    let server = |limits: Limits| {
        Arc::new(Server {
            portal: portal.before(Arc::clone(&mail)),
            world: Arc::clone(&parts.world),
            tls: tls.clone(),
            host: args.host.clone(),
            limits,
            stop: stopped.clone(),
        })
    };
    let (pop3, imap) = (server(Limits::POP3), server(Limits::IMAP));
    let next = |address: &SocketAddr| {
        let port = if address.port() == 0 { 0 } else { address.port().wrapping_add(1) };
        SocketAddr::new(address.ip(), port)
    };
    let wanted = [
        (Protocol::Pop3, false, [args.pop3, args.listen.clone()].concat()),
        (Protocol::Imap, false, [args.imap, args.listen.iter().map(next).collect()].concat()),
        (Protocol::Pop3, true, args.pop3s),
        (Protocol::Imap, true, args.imaps),
    ];
    let mut tasks = tokio::task::JoinSet::new();
    for (protocol, secure, addresses) in wanted {
        for address in addresses {
            let (socket, local) = bind(address).await?;
            println!("{}{} on {local}", protocol.name(), if secure { "s" } else { "" });
            match protocol {
                Protocol::Pop3 => tasks.spawn(listen(
                    socket,
                    Arc::clone(&pop3),
                    pop3::FULL,
                    move |server, stream, remote| async move {
                        let Some((wire, peer)) =
                            welcome(&server, "pop3", stream, remote, secure).await
                        else {
                            return;
                        };
                        pop3::serve::<_>(&server, wire, peer).await;
                    },
                )),
                Protocol::Imap => tasks.spawn(listen(
                    socket,
                    Arc::clone(&imap),
                    imap::FULL,
                    move |server, stream, remote| async move {
                        let Some((wire, peer)) =
                            welcome(&server, "imap", stream, remote, secure).await
                        else {
                            return;
                        };
                        imap::serve::<_>(&server, wire, peer).await;
                    },
                )),
            };
        }
    }
    if tasks.is_empty() {
        return Err("nothing to serve: say where with --listen, --pop3 or --imap".into());
    }
    let watching = {
        let (mail, stopped) = (Arc::clone(&mail), stopped.clone());
        tokio::spawn(async move { mail.watch(stopped).await })
    };
    let why = tokio::select! {
        told = told_to_end() => told,
        Some(ended) = tasks.join_next() => match ended {
            Ok(ended) => ended.map_err(|error| format!("a listener: {error}")),
            Err(error) => Err(format!("a listener: {error}")),
        },
    };
    mail.say(None, "This server ends now");
    stop.send_replace(true);
    while tasks.join_next().await.is_some() {}
    let _ = watching.await;
    why
}

/// What POP3 and IMAP can carry: a name and a password, and SASL's messages. For whoever starts the program with
/// something else; the protocols themselves ask the portal.
fn takes() -> Takes {
    Takes::only([
        Mechanism::PASSWORD,
        "bearer",
        "APOP",
        "CRAM-MD5",
        "SCRAM-SHA-1",
        "SCRAM-SHA-256",
        "SCRAM-SHA-512",
        "ANONYMOUS",
        "EXTERNAL",
    ])
}

#[derive(Clone, Copy)]
enum Protocol {
    Pop3,
    Imap,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Pop3 => "pop3",
            Self::Imap => "imap",
        }
    }
}

/// The facts about a connection, in TLS if that is how this port begins.
async fn welcome<R: Realm<Pop3Mailbox> + Realm<ImapMailbox>>(
    server: &Server<R>,
    service: &'static str,
    stream: tokio::net::TcpStream,
    remote: SocketAddr,
    secure: bool,
) -> Option<(Wire, countersign::Peer)> {
    let canonical = |address: SocketAddr| -> IpAddr { address.ip().to_canonical() };
    let local = stream.local_addr().ok().map(canonical);
    let mut peer = Server::<R>::peer(service, Some(canonical(remote)), local);
    let wire = Wire::new(stream);
    if !secure {
        return Some((wire, peer));
    }
    // In a box: most connections have no use for the room that a handshake takes.
    match Box::pin(wire.secure(server.tls.as_deref()?)).await {
        Ok((wire, channel)) => {
            channel.tell(&mut peer);
            Some((wire, peer))
        }
        Err(error) => {
            tracing::info!(service, %remote, "no TLS: {error}");
            None
        }
    }
}
