//! An SSH server, with whoever checks logins named on its command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use countersign::{Factor, Mechanism, Policy, Portal, Terms};
use countersign_checkers::kinds::{AuthArgs, Kinds, Parts, Takes};
use countersign_example_serving::{self as serving, bind, told_to_end};
use countersign_example_ssh_shell::connection;
use countersign_example_ssh_shell::host_key;
use countersign_example_ssh_shell::program::Program;
use countersign_example_ssh_shell::realm::Shells;
use countersign_example_ssh_shell::server::{Limits, Server, listen};
use russh::keys::HashAlg;
use tokio::sync::watch;

/// Serve shells over SSH; --auth says who checks logins
#[derive(Parser)]
#[command(name = "countersign-example-ssh-shell", version)]
struct Args {
    /// Serve here
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:2222")]
    listen: SocketAddr,
    /// The server's private key; made, for its owner only, where there is none
    #[arg(long, value_name = "FILE", default_value = "ssh-shell/host-key")]
    host_key: PathBuf,
    /// What everybody must prove, one after the other, such as publickey,password or password,otp|publickey
    #[arg(long, value_name = "FACTOR,…", value_delimiter = ',')]
    require: Vec<Factor>,
    /// Which keys are asked to sign: all, or those that are listed, which no certificate is
    #[arg(long, value_name = "WHICH", default_value = "all")]
    offers: Offers,
    /// Run this program for everybody, as the server's own user: alone for a shell, with -c COMMAND for a command
    #[arg(long, value_name = "PROGRAM")]
    command: Option<PathBuf>,
    #[command(flatten)]
    auth: AuthArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Offers {
    /// Every key
    All,
    /// Keys that would do; certificates never
    Listed,
}

fn main() -> ExitCode {
    serving::run(run(Args::parse()))
}

async fn run(args: Args) -> Result<(), String> {
    let parts = Parts::standalone().map_err(|fault| fault.to_string())?;
    let checkers = args.auth.portal_checkers(&Kinds::built_in(), &takes(), &parts).await;
    let checkers = checkers.unwrap_or_else(|exit| exit.now());
    let program = args.command.as_deref().map(Program::new).transpose();
    let shells = Arc::new(Shells::new(program.map_err(|why| format!("--command: {why}"))?));
    let plain = checkers.into_iter().fold(Portal::new(()), Portal::checked_by_shared);
    for name in args.require.iter().flat_map(|factor| &factor.any_of) {
        if !plain.mechanism_names().iter().any(|known| known.eq_ignore_ascii_case(name)) {
            let known = plain.mechanism_names().join(", ");
            return Err(format!(
                "--require: no --auth proves anybody by {name}; there is: {known}"
            ));
        }
    }
    let require = (!args.require.is_empty()).then_some(args.require);
    let policy = Policy::of(Terms { require, ..Terms::default() });
    let host_key = host_key::provide(&args.host_key, &*parts.world)?;
    let fingerprint = host_key.fingerprint(HashAlg::Sha256);
    let (stop, stopped) = watch::channel(false);
    let server = Arc::new(Server {
        portal: plain.before(Arc::clone(&shells)).under(policy),
        offers: (args.offers == Offers::Listed).then(|| plain.before(())),
        world: Arc::clone(&parts.world),
        limits: Limits::USUAL,
        stop: stopped,
    });
    let config = Arc::new(connection::config(host_key, &server.limits));
    let (socket, local) = bind(args.listen).await?;
    println!("host key {fingerprint}");
    println!("ssh on {local}");
    let listening = listen(socket, server, move |server, stream, remote| {
        connection::serve(server, Arc::clone(&config), stream, remote)
    });
    let told = async {
        told_to_end().await?;
        shells.say(None, "This server ends now");
        stop.send_replace(true);
        // Until everybody is logged out.
        std::future::pending().await
    };
    tokio::select! {
        ended = listening => ended.map_err(|error| format!("{local}: {error}")),
        failed = told => failed,
    }
}

/// What SSH's methods can ask for: a key, and what can be typed. For whoever starts the program with something
/// else; the protocol itself asks the portal.
fn takes() -> Takes {
    Takes::only([Mechanism::PUBLIC_KEY, Mechanism::PASSWORD, Mechanism::OTP, "ANONYMOUS"])
}
