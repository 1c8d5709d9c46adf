//! A web application with a portal before it; whoever starts it says who checks logins.
#![forbid(unsafe_code)]

mod pages;
mod realm;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::request::Parts as RequestParts;
use axum::routing::{any, get};
use clap::Parser;
use countersign::{Mechanism, Portal};
use countersign_checkers::kinds::{AuthArgs, Kinds, Parts, Takes};
use countersign_example_serving::{self as serving, bind, told_to_end};
use countersign_http::{Authenticated, Connection, Cookie};
use countersign_sasl::digest::{Digest, Variant};

use realm::{Notebooks, Pages};

/// How long requests under way may take after the program was asked to end.
const LEAVING: Duration = Duration::from_secs(3);

/// Serve notebooks over HTTP; --auth says who checks logins
#[derive(Parser)]
#[command(name = "countersign-example-web", version)]
struct Args {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// The algorithms of Digest, the most wanted first: many clients take the first, and some know only MD5
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_values = ["SHA-256", "MD5"], value_parser = variant)]
    digest: Vec<Variant>,
    /// A proxy on this machine ends TLS: it is believed in X-Forwarded-Proto
    #[arg(long)]
    behind_proxy: bool,
    #[command(flatten)]
    auth: AuthArgs,
}

fn variant(name: &str) -> Result<Variant, String> {
    Variant::from_name(name).ok_or_else(|| format!("no algorithm of Digest is called `{name}`"))
}

fn main() -> ExitCode {
    serving::run(run(Args::parse()))
}

async fn run(args: Args) -> Result<(), String> {
    let parts = Parts::standalone().map_err(|fault| fault.to_string())?;
    let takes = Takes::only([Mechanism::PASSWORD, Mechanism::BEARER, "DIGEST"]);
    let checkers = args.auth.portal_checkers(&Kinds::built_in(), &takes, &parts).await;
    let checkers = checkers.unwrap_or_else(|exit| exit.now());
    let portal = Portal::new(Notebooks::default());
    let portal = checkers.into_iter().fold(portal, Portal::checked_by_shared);

    // One line each.
    let door = Authenticated::<Pages>::new(portal, Arc::clone(&parts.world)).service("web");
    let door = if args.behind_proxy { door.connection(behind_proxy) } else { door };
    let digest = Digest::new("notebooks", &*parts.world).offering(args.digest);
    let by_basic = door.clone().basic("notebooks");
    let by_digest = door.clone().digest_by(digest);
    let by_bearer = door.clone().bearer("notebooks");
    let by_cookie = door.cookie(Cookie::named("notebooks"));

    let for_programs = || get(pages::text).post(pages::write);
    let people = Router::new()
        .route("/me", get(pages::me).post(pages::write_and_show))
        .route("/login", any(pages::nothing))
        .route("/logout", any(pages::nothing))
        .layer(by_cookie.clone());
    let application = Router::new()
        .route("/", get(pages::home))
        .route("/basic", for_programs().layer(by_basic))
        .route("/digest", for_programs().layer(by_digest))
        .route("/bearer", for_programs().layer(by_bearer))
        .merge(people);

    let (socket, local) = bind(args.listen).await?;
    println!("web on {local}");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let application = application.into_make_service_with_connect_info::<SocketAddr>();
    let serve = axum::serve(socket, application).with_graceful_shutdown(async {
        let _ = stopped.await;
    });
    let mut serve = tokio::spawn(serve.into_future());
    tokio::select! {
        ended = &mut serve => return Err(format!("the listener ended: {ended:?}")),
        told = told_to_end() => told?,
    }
    let _ = stop.send(());
    if tokio::time::timeout(LEAVING, &mut serve).await.is_err() {
        serve.abort();
    }
    // Whoever is logged in with a cookie is logged out, and that is waited for.
    by_cookie.end_sessions().await;
    Ok(())
}

/// The client before a proxy of this machine. What others say of themselves is not believed.
fn behind_proxy(parts: &RequestParts) -> Connection {
    let Some(ConnectInfo(address)) = parts.extensions.get::<ConnectInfo<SocketAddr>>() else {
        return Connection::default();
    };
    let connection = Connection::from_address(*address);
    match parts.headers.get("x-forwarded-proto").map(|proto| proto.as_bytes()) {
        Some(b"https") if address.ip().to_canonical().is_loopback() => connection.within_tls(),
        // Without TLS to the client, whatever is between the proxy and us.
        _ => Connection::default(),
    }
}
