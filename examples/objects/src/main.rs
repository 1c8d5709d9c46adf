//! A server of remote objects, with whoever checks logins named on its command line.

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use countersign::{Policy, Portal, Terms};
use countersign_checkers::kinds::{AuthArgs, Kinds, Parts, Takes};
use countersign_example_objects::{Desks, Limits, Server, listen};
use countersign_example_serving::{self as serving, Where, bind, told_to_end};
use countersign_tls::{Pair, TlsFiles};
use tokio::sync::watch;

/// Serve desks with notes over Cap'n Proto RPC; --auth says who checks logins
#[derive(Parser)]
#[command(name = "countersign-example-objects", version)]
struct Args {
    /// Serve here
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// A certificate chain (PEM); connections then begin with TLS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Where passwords may cross the network readable
    #[arg(long, value_name = "WHERE", default_value = "secured")]
    plaintext: Where,
    /// How long a session lasts
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::USUAL.session.as_secs())]
    session: u64,
    /// Threads that connections are served on
    #[arg(long, value_name = "NUMBER", default_value = "2")]
    threads: NonZero<usize>,
    #[command(flatten)]
    auth: AuthArgs,
}

fn main() -> ExitCode {
    serving::run(run(Args::parse()))
}

async fn run(args: Args) -> Result<(), String> {
    let parts = Parts::standalone().map_err(|fault| fault.to_string())?;
    // Any: a round can ask whatever a checker wants to know.
    let takes = Takes::everything();
    let checkers = args.auth.portal_checkers(&Kinds::built_in(), &takes, &parts).await;
    let checkers = checkers.unwrap_or_else(|exit| exit.now());
    let terms = Terms { plaintext: Some(args.plaintext.into()), ..Terms::default() };
    let portal = checkers.into_iter().fold(Portal::new(Desks::new()), Portal::checked_by_shared);
    let tls = match args.tls_cert.zip(args.tls_key) {
        Some((certificate, key)) => {
            let pair = Pair::read(&TlsFiles { certificate, key }, &[]);
            Some(pair.map_err(|error| error.to_string())?)
        }
        None => None,
    };
    let (stop, stopped) = watch::channel(false);
    let server = Server {
        portal: portal.under(Policy::of(terms)),
        world: Arc::clone(&parts.world),
        tls,
        limits: Limits { session: Duration::from_secs(args.session), ..Limits::USUAL },
        stop: stopped,
    };
    let (socket, local) = bind(args.listen).await?;
    println!("objects on {local}");
    let served = listen(socket, Arc::new(server), args.threads.get());
    let told = async {
        told_to_end().await?;
        stop.send_replace(true);
        // Until everybody is logged out.
        std::future::pending().await
    };
    tokio::select! {
        served = served => served.map_err(|error| format!("threads: {error}")),
        failed = told => failed,
    }
}
